//! The paper's conclusions as a checklist: a quantity with its interval, and the region that it must lie in.

use serde::{Deserialize, Serialize};

use super::{
    experiments::{Claim, Measure},
    records::Records,
    words::Share,
};
use crate::{
    report::{Scores, SeedSpread, difference, seed_spread, signed},
    runs::SMOKE_STEPS,
};

/// What became of a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Verdict {
    /// The interval, and every seed, lies inside the region.
    Holds,
    /// The interval, and every seed, lies outside of it.
    DoesNotHold,
    /// Neither.
    Undecided,
    /// Something that it needs is missing, or was trained too short to say anything.
    Open,
}

/// A quantity as it was measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Measured {
    pub(super) value: f64,
    /// 95 % interval; absent for too few documents or rounds.
    pub(super) interval: Option<[f64; 2]>,
    /// The value of each seed, where there are several.
    pub(super) by_seed: Vec<f64>,
}

/// A claim with its verdict.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Checked {
    #[serde(flatten)]
    pub(super) claim: Claim,
    pub(super) verdict: Verdict,
    /// What was measured: one value, or one for each pair.
    pub(super) measured: Vec<Measured>,
}

impl Verdict {
    /// Returns the word for it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Holds => "holds",
            Self::DoesNotHold => "does not hold",
            Self::Undecided => "undecided",
            Self::Open => "open",
        }
    }
}

/// Returns what became of every claim.
pub(super) fn check(records: &Records) -> Vec<Checked> {
    records.file.claims.iter().map(|claim| checked(records, claim)).collect()
}

fn checked(records: &Records, claim: &Claim) -> Checked {
    let measured = measure(records, claim).unwrap_or_default();
    let words = records.file.words.iter().flat_map(|words| [&words.model, &words.against]);
    let rows: Vec<&String> = match claim.measure {
        Measure::StepTime => vec![], // A step is a step.
        Measure::Names | Measure::OutsideWindow => words.collect(),
        Measure::Loss | Measure::Reset => claim.of.iter().chain(&claim.against).collect(),
    };
    let is_short = |row: &&String| records.of(row).any(|(_, result)| result.training.num_steps < SMOKE_STEPS);
    let is_open = measured.is_empty() || rows.iter().any(is_short);
    let verdict = if is_open { Verdict::Open } else { combined(claim, &measured) };
    Checked { claim: claim.clone(), verdict, measured }
}

/// Measures what a claim is about; nothing where something is missing.
fn measure(records: &Records, claim: &Claim) -> Option<Vec<Measured>> {
    let pairs = || claim.of.iter().zip(&claim.against);
    match claim.measure {
        Measure::Loss => {
            let scores = |(of, against): (&String, &String)| {
                (records.scores(of, false), records.scores(against, false))
            };
            let scores: Vec<_> = pairs().map(scores).collect();
            let spread = records.seed_spread();
            let parts = if claim.each { scores.chunks(1) } else { scores.chunks(scores.len()) };
            parts.map(|part| Some(loss(part)?.widened(spread, part.len()))).collect()
        }
        Measure::Reset => {
            let scores = claim.of.iter().map(|row| (records.reset_scores(row), records.scores(row, false)));
            Some(vec![loss(&scores.collect::<Vec<_>>())?])
        }
        Measure::StepTime => {
            let ratio = |(of, against): (&String, &String)| records.timings.ratio(of, against);
            let measured = |pair| {
                let ratio = ratio(pair)?;
                Some(Measured { value: ratio.value, interval: ratio.interval, by_seed: vec![] })
            };
            pairs().map(measured).collect()
        }
        Measure::Names => Some(vec![share(records.words.as_ref()?.names()?)]),
        Measure::OutsideWindow => Some(vec![share(records.words.as_ref()?.outside_window()?)]),
    }
}

fn loss(pairs: &[(Scores<'_>, Scores<'_>)]) -> Option<Measured> {
    let found = difference(pairs)?;
    let by_seed = found.by_seed.into_values().collect();
    Some(Measured { value: found.mean, interval: found.interval, by_seed })
}

fn share(share: Share) -> Measured {
    Measured { value: share.of_best - share.of_worst, interval: share.interval, by_seed: vec![] }
}

impl Records {
    /// Returns how far differences of two rows vary with the seed, as seen in the rows of the headline; nothing where they
    /// have one seed.
    pub(super) fn seed_spread(&self) -> Option<SeedSpread> {
        let rows: Vec<_> = self.file.headline.iter().map(|row| self.scores(row, false)).collect();
        seed_spread(&rows)
    }
}

impl Measured {
    /// Adds the spread over seeds to the interval over documents: as squares, less by the number of seeds and pairs.
    fn widened(self, spread: Option<SeedSpread>, num_pairs: usize) -> Self {
        let Some(spread) = spread else { return self };
        let num = (self.by_seed.len() * num_pairs).max(1) as f64;
        let (value, seeds) = (self.value, spread.half_interval() / num.sqrt());
        let wider =
            |[low, high]: [f64; 2]| [value - seeds.hypot(value - low), value + seeds.hypot(high - value)];
        Self { interval: self.interval.map(wider), ..self }
    }
}

/// Returns the verdict on one value, or on all of them.
fn combined(claim: &Claim, measured: &[Measured]) -> Verdict {
    let verdicts: Vec<_> = measured.iter().map(|one| verdict(claim, one)).collect();
    if verdicts.contains(&Verdict::DoesNotHold) {
        return Verdict::DoesNotHold;
    }
    if verdicts.iter().all(|verdict| *verdict == Verdict::Holds) {
        Verdict::Holds
    } else {
        Verdict::Undecided
    }
}

fn verdict(claim: &Claim, measured: &Measured) -> Verdict {
    let Some([low, high]) = measured.interval else { return Verdict::Undecided };
    let (above, below) = (claim.above.unwrap_or(f64::NEG_INFINITY), claim.below.unwrap_or(f64::INFINITY));
    let inside = |low: f64, high: f64| low > above && high < below;
    let outside = |low: f64, high: f64| high <= above || low >= below;
    let all =
        |is: &dyn Fn(f64, f64) -> bool| is(low, high) && measured.by_seed.iter().all(|seed| is(*seed, *seed));
    match (all(&inside), all(&outside)) {
        (true, _) => Verdict::Holds,
        (_, true) => Verdict::DoesNotHold,
        _ => Verdict::Undecided,
    }
}

impl Checked {
    /// Returns what was measured as text: each value with the rows that it is of, linked to their runs; several below each
    /// other.
    pub(super) fn numbers(&self, records: &Records) -> String {
        let link = |row: &String| match records.folder(row) {
            Some(folder) => format!("[{}]({folder})", records.label(row)),
            None => records.label(row).to_owned(),
        };
        let Claim { of, against, measure, .. } = &self.claim;
        let is_mean = self.measured.len() < of.len();
        let one = |(i, measured): (usize, &Measured)| {
            let rows = match (of.get(i).filter(|_| !is_mean), against.get(i)) {
                (Some(of), Some(against)) if *measure == Measure::StepTime => {
                    format!("{} / {}: ", link(of), link(against))
                }
                (Some(of), Some(against)) => format!("{} − {}: ", link(of), link(against)),
                (Some(of), None) => format!("{}: ", link(of)),
                (None, _) if is_mean => "mean: ".into(),
                (None, _) => String::new(),
            };
            format!("{rows}{}", measured.text(*measure))
        };
        let values: Vec<String> = self.measured.iter().enumerate().map(one).collect();
        match values.len() {
            1 => values.concat(),
            n => format!("{n} pairs\n{}", values.join("\n")),
        }
    }

    /// Returns the region that the claim's quantity must lie in, with its unit.
    pub(super) fn region(&self) -> String {
        let Claim { above, below, measure, .. } = &self.claim;
        let write = |value: f64| format!("{value}").replace('-', "−");
        let ends = match (above.map(write), below.map(write)) {
            (Some(above), Some(below)) => format!("from {above} to {below}"),
            (Some(above), None) => format!("above {above}"),
            (None, Some(below)) => format!("below {below}"),
            (None, None) => String::new(),
        };
        let unit = match measure {
            Measure::Loss | Measure::Reset => "bits/byte",
            Measure::StepTime => "times",
            Measure::Names | Measure::OutsideWindow => "(difference of shares)",
        };
        format!("{ends} {unit}")
    }
}

impl Measured {
    fn text(&self, measure: Measure) -> String {
        let write = |value: f64| match measure {
            Measure::Loss | Measure::Reset => signed(value),
            Measure::StepTime => format!("{value:.2}"),
            Measure::Names | Measure::OutsideWindow => format!("{value:+.2}").replace('-', "−"),
        };
        let ends = self.interval.map(|ends| ends.map(write));
        let interval = ends.map_or(String::new(), |[low, high]| format!(" [{low}, {high}]"));
        let seeds = match self.by_seed.len() {
            0 => String::new(),
            1 => ", 1 seed".into(),
            n => format!(", {n} seeds"),
        };
        format!("{}{interval}{seeds}", write(self.value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(above: Option<f64>, below: Option<f64>) -> Claim {
        Claim {
            text: String::new(),
            measure: Measure::Loss,
            of: vec![],
            against: vec![],
            each: false,
            above,
            below,
            paper: None,
        }
    }

    fn measured(low: f64, high: f64, by_seed: &[f64]) -> Measured {
        Measured { value: (low + high) / 2., interval: Some([low, high]), by_seed: by_seed.into() }
    }

    #[test]
    fn intervals_and_seeds_decide() {
        let better = claim(None, Some(0.));
        for (low, high, by_seed, expected) in [
            (-0.3, -0.1, &[-0.2][..], Verdict::Holds),
            (-0.3, -0.1, &[-0.4, -0.2, 0.01], Verdict::Undecided),
            (-0.3, 0.1, &[-0.1], Verdict::Undecided),
            (0.1, 0.3, &[0.2, 0.1], Verdict::DoesNotHold),
            (0.1, 0.3, &[0.5, -0.1], Verdict::Undecided),
        ] {
            assert_eq!(verdict(&better, &measured(low, high, by_seed)), expected);
        }
        let same = claim(Some(0.95), Some(1.05));
        assert_eq!(verdict(&same, &measured(0.97, 1.02, &[])), Verdict::Holds);
        assert_eq!(verdict(&same, &measured(1.06, 1.1, &[])), Verdict::DoesNotHold);
        assert_eq!(verdict(&same, &measured(0.9, 1.1, &[])), Verdict::Undecided);
        assert_eq!(verdict(&same, &Measured { interval: None, ..measured(1., 1., &[]) }), Verdict::Undecided);
    }

    #[test]
    fn the_spread_over_seeds_makes_intervals_wider() {
        let one = Measured { value: -0.03, interval: Some([-0.06, -0.01]), by_seed: vec![-0.03] };
        assert_eq!(one.clone().widened(None, 1), one);
        // Four degrees of freedom: 2.776 standard deviations. 0.03 and 0.04 make 0.05, 0.02 and 0.04 make 0.0447.
        let spread = |half: f64| Some(SeedSpread { deviation: half / 2.776, degrees: 4 });
        let [low, high] = one.clone().widened(spread(0.04), 1).interval.unwrap();
        assert!((low + 0.08).abs() < 1e-9 && (high - 0.01472).abs() < 1e-5, "[{low}, {high}]");
        // Four runs of each kind halve it.
        let four = Measured { by_seed: vec![-0.03; 2], ..one };
        let [low, _] = four.widened(spread(0.08), 2).interval.unwrap();
        assert!((low + 0.08).abs() < 1e-9, "{low}");
    }

    #[test]
    fn each_of_several_must_hold() {
        let better = claim(None, Some(0.));
        let [good, unclear, bad] = [measured(-2., -1., &[]), measured(-1., 1., &[]), measured(1., 2., &[])];
        assert_eq!(combined(&better, &[good.clone(), good.clone()]), Verdict::Holds);
        assert_eq!(combined(&better, &[good.clone(), unclear.clone()]), Verdict::Undecided);
        assert_eq!(combined(&better, &[unclear, bad, good]), Verdict::DoesNotHold);
    }
}
