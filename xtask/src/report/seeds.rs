//! How far differences of models vary with the seed.

use std::collections::BTreeSet;

use super::{Scores, mean, mean_bits};

/// The spread over seeds of the difference of two models.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct SeedSpread {
    /// Standard deviation of the difference with one seed, in bits per byte.
    pub(crate) deviation: f64,
    /// Degrees of freedom of its estimate.
    pub(crate) degrees: usize,
}

impl SeedSpread {
    /// Returns half the length of the 95 % interval of a difference with one seed.
    pub(crate) fn half_interval(self) -> f64 {
        student_quantile(self.degrees) * self.deviation
    }
}

/// Returns the spread over the seeds that all of some models have: the mean loss of each run, less what its model and
/// its seed have in common with the others, is noise; a difference has that of two runs. Nothing for fewer than two
/// models or seeds.
pub(crate) fn seed_spread(models: &[Scores<'_>]) -> Option<SeedSpread> {
    let seeds = models.iter().map(|scores| scores.keys().copied().collect::<BTreeSet<u64>>());
    let seeds = seeds.reduce(|one, other| &one & &other)?;
    let degrees = (models.len() - 1) * seeds.len().saturating_sub(1);
    if degrees == 0 {
        return None;
    }
    let losses: Vec<Vec<f64>> =
        models.iter().map(|scores| seeds.iter().map(|seed| mean_bits(scores[seed])).collect()).collect();
    let of_model: Vec<f64> = losses.iter().map(|losses| mean(losses.iter().copied())).collect();
    let of_seed: Vec<f64> =
        (0..seeds.len()).map(|seed| mean(losses.iter().map(|losses| losses[seed]))).collect();
    let of_all = mean(of_model.iter().copied());
    let noise = |model: usize, seed: usize| losses[model][seed] - of_model[model] - of_seed[seed] + of_all;
    let runs = (0..models.len()).flat_map(|model| (0..seeds.len()).map(move |seed| (model, seed)));
    let squares: f64 = runs.map(|(model, seed)| noise(model, seed).powi(2)).sum();
    Some(SeedSpread { deviation: (2. * squares / degrees as f64).sqrt(), degrees })
}

/// Returns the 97.5 % quantile of Student's distribution.
fn student_quantile(degrees: usize) -> f64 {
    const SMALL: [f64; 4] = [12.706, 4.303, 3.182, 2.776];
    let n = degrees as f64;
    match SMALL.get(degrees.saturating_sub(1)) {
        Some(quantile) => *quantile,
        // Abramowitz & Stegun 26.7.5 for z = 1.96.
        None => 1.96 + 2.372 / n + 2.822 / (n * n) + 2.556 / (n * n * n),
    }
}

#[cfg(test)]
mod tests {
    use brt_report::Evaluation;

    use super::{super::paired::tests::evaluation, *};

    #[test]
    fn what_models_and_seeds_have_in_common_is_no_noise() {
        let rows = |losses: &[[f64; 3]]| {
            losses.iter().map(|row| row.map(|bits| evaluation(&[bits]))).collect::<Vec<_>>()
        };
        let spread = |rows: &[[Evaluation; 3]]| {
            let scores = rows.iter().map(|row| row.iter().enumerate().map(|(i, e)| (i as u64, e)).collect());
            seed_spread(&scores.collect::<Vec<Scores<'_>>>())
        };
        // Seeds shift both models alike.
        let alike = rows(&[[1., 1.5, 1.2], [2., 2.5, 2.2]]);
        assert!(spread(&alike).is_some_and(|spread| spread.deviation < 1e-12 && spread.degrees == 2));
        // Differences of 1, 3 and 2 have a standard deviation of 1.
        let noisy = rows(&[[1., 1., 1.], [2., 4., 3.]]);
        assert!((spread(&noisy).unwrap().deviation - 1.).abs() < 1e-12);
        assert!((spread(&noisy).unwrap().half_interval() - 4.303).abs() < 1e-9);
        assert_eq!(spread(&alike[..1]), None);
        let one = evaluation(&[1.]);
        let one_seed = Scores::from([(1, &one)]);
        assert_eq!(seed_spread(&[one_seed.clone(), one_seed]), None);
        assert_eq!(seed_spread(&[]), None);
    }

    #[test]
    fn quantiles_of_student() {
        for (degrees, expected) in [(1, 12.706), (4, 2.776), (5, 2.571), (10, 2.228), (30, 2.042)] {
            assert!((student_quantile(degrees) - expected).abs() < 4e-3, "{degrees}");
        }
    }
}
