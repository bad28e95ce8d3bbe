//! Looks into a forward pass: what gates, states and attentions do, as numbers by name.
//!
//! Layers report what may be looked at with [`record`]; nothing is computed unless somebody [`observe`]s on this thread.

use std::{cell::RefCell, collections::BTreeMap};

use tch::{Kind, Tensor};

/// What an observed pass has reported, and the names of the places that it is in.
#[derive(Debug, Default)]
struct Probe {
    scopes: Vec<String>,
    seen: BTreeMap<String, Vec<f64>>,
}

thread_local! {
    static PROBE: RefCell<Option<Probe>> = const { RefCell::new(None) };
}

/// Runs `pass` and returns with its result what it reported: the mean of each number over all reports of its name.
pub fn observe<T>(pass: impl FnOnce() -> T) -> (T, BTreeMap<String, f64>) {
    /// Sets the probe that was there before, also when `pass` panics.
    struct Restore(Option<Probe>);
    impl Drop for Restore {
        fn drop(&mut self) {
            PROBE.with(|probe| *probe.borrow_mut() = self.0.take());
        }
    }
    let restore = Restore(PROBE.with(|probe| probe.borrow_mut().replace(Probe::default())));
    let result = pass();
    let seen = PROBE.with(|probe| probe.borrow_mut().take()).unwrap_or_default().seen;
    drop(restore);
    let mean = |values: Vec<f64>| values.iter().sum::<f64>() / values.len() as f64;
    (result, seen.into_iter().map(|(name, values)| (name, mean(values))).collect())
}

/// Runs `part` at a named place; names of what it reports begin with those of all places around it.
pub fn scope<T>(name: impl FnOnce() -> String, part: impl FnOnce() -> T) -> T {
    if !is_observed() {
        return part();
    }
    change(|probe| probe.scopes.push(name()));
    let result = part();
    change(|probe| drop(probe.scopes.pop()));
    result
}

/// Reports numbers, if anybody observes.
pub fn record(numbers: impl FnOnce() -> Vec<(&'static str, f64)>) {
    if !is_observed() {
        return;
    }
    let numbers = tch::no_grad(numbers);
    change(|probe| {
        for (name, number) in numbers {
            let mut place = probe.scopes.clone();
            place.push(name.to_owned());
            probe.seen.entry(place.join(".")).or_default().push(number);
        }
    });
}

/// Returns mean and quantiles of the values of a tensor, for [`record`].
pub fn distribution(values: &Tensor) -> Vec<(&'static str, f64)> {
    let values = values.detach().to_kind(Kind::Float).flatten(0, -1);
    // The quantile operation takes at most 16 million values; every n-th tells as much.
    let stride = (values.size()[0] / (1 << 20)).max(1);
    let sorted = values.slice(0, 0, None, stride).sort(0, false).0;
    let last = (sorted.size()[0] - 1) as f64;
    let quantile = |part: f64| sorted.double_value(&[(last * part).round() as i64]);
    vec![
        ("mean", values.mean(Kind::Float).double_value(&[])),
        ("q05", quantile(0.05)),
        ("q50", quantile(0.5)),
        ("q95", quantile(0.95)),
    ]
}

fn change(by: impl FnOnce(&mut Probe)) {
    PROBE.with(|probe| {
        if let Some(probe) = probe.borrow_mut().as_mut() {
            by(probe);
        }
    });
}

/// Returns whether somebody observes this thread.
pub fn is_observed() -> bool {
    PROBE.with(|probe| probe.borrow().is_some())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Device;

    #[test]
    fn numbers_are_named_by_their_places_and_averaged() {
        let part = || {
            for number in [1., 3.] {
                scope(|| "layer".into(), || record(|| vec![("gate", number)]));
            }
            record(|| vec![("loss", 5.)]);
            7
        };
        assert_eq!(part(), 7); // Nobody observes.
        let (result, seen) = observe(part);
        assert_eq!(result, 7);
        assert_eq!(seen.into_iter().collect::<Vec<_>>(), [("layer.gate".into(), 2.), ("loss".into(), 5.)]);
        record(|| panic!("nobody observes"));
    }

    #[test]
    fn quantiles_are_values() {
        let values = Tensor::arange(101, (Kind::Float, Device::Cpu)).view([1, 101]);
        assert_eq!(distribution(&values), [("mean", 50.), ("q05", 5.), ("q50", 50.), ("q95", 95.)]);
    }
}
