//! Axes: which values they show, where, and with which labels.

/// The values that an axis shows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Range {
    /// The smallest.
    pub min: f64,
    /// The largest.
    pub max: f64,
}

impl Range {
    /// No value at all.
    pub const EMPTY: Self = Self { min: f64::INFINITY, max: f64::NEG_INFINITY };

    /// Extends the range to a value; ignores what is not a number.
    pub fn include(&mut self, value: f64) {
        if value.is_finite() {
            self.min = self.min.min(value);
            self.max = self.max.max(value);
        }
    }

    /// Leaves some room at both ends.
    pub fn widen(&mut self) {
        let room = (0.06 * (self.max - self.min)).max(1e-6);
        self.min -= room;
        self.max += room;
    }

    /// Returns where a value lies: 0 at the minimum, 1 at the maximum.
    pub fn share(&self, value: f64) -> f64 {
        let width = self.max - self.min;
        if width > 0. && width.is_finite() { (value - self.min) / width } else { 0.5 }
    }

    fn step(&self, count: usize) -> f64 {
        let raw = (self.max - self.min) / count as f64;
        let power = 10f64.powf(raw.log10().floor());
        [1., 2., 5., 10.].into_iter().map(|m| m * power).find(|step| *step >= raw * 0.999).unwrap_or(raw)
    }

    /// Returns about `count` round values inside the range.
    pub fn ticks(&self, count: usize) -> Vec<f64> {
        let step = self.step(count);
        if !(step.is_finite() && step > 0.) {
            return vec![];
        }
        let (first, last) = ((self.min / step).ceil() as i64, (self.max / step).floor() as i64);
        (first..=last).take(20).map(|i| i as f64 * step).collect()
    }

    /// Returns a tick's label with as many decimals as the distance of the ticks needs.
    pub fn label(&self, tick: f64) -> String {
        let decimals = (-self.step(5).log10().floor()).clamp(0., 6.) as usize;
        format!("{tick:.decimals$}").replace('-', "−")
    }
}

/// Returns a count for an axis: `512`, `2k`, `1.5M`. Powers of two are counted in 1024 as is usual.
pub(super) fn short(value: f64) -> String {
    let unit = if value >= 1024. && value.log2().fract() == 0. { 1024. } else { 1000. };
    match value {
        v if v >= unit * unit => format!("{}M", (v / (unit * unit) * 100.).round() / 100.),
        v if v >= unit => format!("{}k", (v / unit * 100.).round() / 100.),
        v => format!("{v}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round() {
        let range = Range { min: 0.93, max: 2.07 };
        let labels: Vec<_> = range.ticks(5).into_iter().map(|tick| range.label(tick)).collect();
        assert_eq!(labels, ["1.0", "1.5", "2.0"]);
        assert_eq!(Range { min: 1., max: 1. }.ticks(5), Vec::<f64>::new());
        assert_eq!(Range::EMPTY.ticks(5), Vec::<f64>::new());
        assert_eq!([512., 2048., 1_500_000.].map(short), ["512", "2k", "1.5M"]);
    }
}
