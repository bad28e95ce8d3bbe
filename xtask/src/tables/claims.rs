//! The paper's conclusions as a checklist: a quantity with its interval, and the region that it must lie in.

use serde::{Deserialize, Serialize};

use super::{
    experiments::{Claim, Measure},
    plan::SMOKE_STEPS,
    records::Records,
    words::share_interval,
};
use crate::report::{Scores, difference, signed};

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
    pub(super) text: String,
    pub(super) paper: String,
    pub(super) verdict: Verdict,
    /// What was measured: one value, or one for each pair.
    pub(super) measured: Vec<Measured>,
    pub(super) measure: Measure,
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
    let too_short = |row: &String| records.of(row).any(|(_, result)| result.training.num_steps < SMOKE_STEPS);
    let is_open = measured.is_empty()
        || (claim.measure != Measure::StepTime && claim.of.iter().chain(&claim.against).any(too_short));
    let verdict = if is_open { Verdict::Open } else { combined(claim, &measured) };
    let (text, paper) = (claim.text.clone(), claim.paper.clone());
    Checked { text, paper, verdict, measure: claim.measure, measured }
}

/// Measures what a claim is about; nothing where something is missing.
fn measure(records: &Records, claim: &Claim) -> Option<Vec<Measured>> {
    let pairs = || claim.of.iter().zip(&claim.against);
    let of_loss = |pairs: &[(Scores<'_>, Scores<'_>)]| {
        let found = difference(pairs)?;
        let by_seed = found.by_seed.into_values().collect();
        Some(Measured { value: found.mean, interval: found.interval, by_seed })
    };
    let share = |count: usize, of: usize| {
        let interval = Some(share_interval(count, of));
        vec![Measured { value: count as f64 / of as f64, interval, by_seed: vec![] }]
    };
    match claim.measure {
        Measure::Loss => {
            let scores =
                pairs().map(|(of, against)| (records.scores(of, false), records.scores(against, false)));
            let scores: Vec<_> = scores.collect();
            if claim.each {
                return scores.chunks(1).map(of_loss).collect();
            }
            Some(vec![of_loss(&scores)?])
        }
        Measure::Reset => {
            let scores = claim.of.iter().map(|row| (records.reset_scores(row), records.scores(row, false)));
            Some(vec![of_loss(&scores.collect::<Vec<_>>())?])
        }
        Measure::StepTime => pairs()
            .map(|(of, against)| {
                let ratio = records.timings.ratio(of, against)?;
                Some(Measured { value: ratio.value, interval: ratio.interval, by_seed: vec![] })
            })
            .collect(),
        Measure::Names => records.words.as_ref().map(|words| share(words.num_names(), words.best.len())),
        Measure::OutsideWindow => {
            records.words.as_ref().map(|words| share(words.num_outside_window(), words.best.len()))
        }
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
    /// Returns what was measured as text, with its unit.
    pub(super) fn numbers(&self) -> String {
        let unit = match self.measure {
            Measure::Loss | Measure::Reset => "bits/byte",
            Measure::StepTime => "times",
            Measure::Names | Measure::OutsideWindow => "of the words",
        };
        let one = |measured: &Measured| {
            let write = |value: f64| match self.measure {
                Measure::Loss | Measure::Reset => signed(value),
                _ => format!("{value:.2}"),
            };
            let interval = measured
                .interval
                .map_or(String::new(), |[low, high]| format!(" [{}, {}]", write(low), write(high)));
            let seeds = match measured.by_seed.len() {
                0 | 1 => String::new(),
                n => format!(" ({n} seeds)"),
            };
            format!("{}{interval}{seeds}", write(measured.value))
        };
        format!("{} {unit}", self.measured.iter().map(one).collect::<Vec<_>>().join("; "))
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
            paper: String::new(),
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
    fn each_of_several_must_hold() {
        let better = claim(None, Some(0.));
        let [good, unclear, bad] = [measured(-2., -1., &[]), measured(-1., 1., &[]), measured(1., 2., &[])];
        assert_eq!(combined(&better, &[good.clone(), good.clone()]), Verdict::Holds);
        assert_eq!(combined(&better, &[good.clone(), unclear.clone()]), Verdict::Undecided);
        assert_eq!(combined(&better, &[unclear, bad, good]), Verdict::DoesNotHold);
    }
}
