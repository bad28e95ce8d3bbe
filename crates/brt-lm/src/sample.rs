//! Drawing the next token.

use std::borrow::Cow;

use rand::{RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::ConfigError;

/// Below this temperature the likeliest token is taken.
const MIN_TEMPERATURE: f64 = 1e-4;

/// How the next token is drawn. What is asked for acts in the order of the fields.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SampleConfig {
    /// Divides positive logits of recent tokens, and multiplies negative ones; 1 for none.
    pub repetition_penalty: f64,
    /// Divides the logits; 0 takes the likeliest token.
    pub temperature: f64,
    /// Only this many likeliest tokens are drawn; `None` for all.
    pub top_k: Option<i64>,
    /// Only the likeliest tokens are drawn that have this probability together; `None` for all.
    pub top_p: Option<f64>,
    /// Only tokens are drawn with at least this part of the probability of the likeliest one; `None` for all.
    pub min_p: Option<f64>,
}

impl Default for SampleConfig {
    fn default() -> Self {
        Self { repetition_penalty: 1., temperature: 1., top_k: None, top_p: None, min_p: None }
    }
}

impl SampleConfig {
    /// Checks that the numbers describe a distribution.
    ///
    /// # Errors
    /// The key, what it may be and what it is.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let check = |key, expected, got: f64, fits| ConfigError::check("sample", key, expected, got, fits);
        let is_number = |x: f64, fits: bool| x.is_finite() && fits;
        let Self { repetition_penalty: penalty, temperature, .. } = *self;
        check("repetition_penalty", "a number above 0", penalty, is_number(penalty, penalty > 0.))?;
        check(
            "temperature",
            "a number of at least 0",
            temperature,
            is_number(temperature, temperature >= 0.),
        )?;
        let (top_p, min_p) = (self.top_p.unwrap_or(1.), self.min_p.unwrap_or(0.));
        check("top_p", "a number above 0 and up to 1", top_p, top_p > 0. && top_p <= 1.)?;
        check("min_p", "a number from 0 to 1", min_p, (0. ..=1.).contains(&min_p))?;
        let top_k = self.top_k.unwrap_or(1);
        ConfigError::check("sample", "top_k", "at least 1", top_k, top_k >= 1)
    }
}

/// Draws tokens of one text, from random numbers of its own.
///
/// ```
/// use brt_lm::{SampleConfig, Sampler};
/// let greedy = SampleConfig { temperature: 0., ..SampleConfig::default() };
/// assert_eq!(Sampler::new(greedy, 1).draw(&[0., 3., 2.], &[]), 1);
/// ```
#[derive(Debug, Clone)]
pub struct Sampler {
    config: SampleConfig,
    random: ChaCha8Rng,
}

/// A token that may be drawn.
#[derive(Debug, Clone, Copy)]
struct Candidate {
    token: usize,
    /// Its probability times a factor that all share.
    weight: f64,
}

impl Sampler {
    /// Returns a sampler; equal seeds draw equal tokens from equal logits. The configuration is one that
    /// [`SampleConfig::validate`] accepts.
    pub fn new(config: SampleConfig, seed: u64) -> Self {
        Self { config, random: ChaCha8Rng::seed_from_u64(seed) }
    }

    /// Draws a token. `logits`: one for each token; `recent`: the tokens that a repetition is one of.
    pub fn draw(&mut self, logits: &[f32], recent: &[i64]) -> i64 {
        let logits = &*self.penalised(logits, recent);
        let (likeliest, largest) = argmax(logits);
        if self.config.temperature < MIN_TEMPERATURE {
            return likeliest as i64;
        }
        let weight = |logit: f32| (f64::from(logit - largest) / self.config.temperature).exp();
        let candidates = logits.iter().map(|&logit| weight(logit)).enumerate();
        let mut candidates: Vec<Candidate> = candidates
            .filter(|(_, weight)| *weight > 0.) // Also what is no number is left out.
            .map(|(token, weight)| Candidate { token, weight })
            .collect();
        self.keep_likely(&mut candidates);
        let total: f64 = candidates.iter().map(|c| c.weight).sum();
        let mut rest = self.uniform() * total;
        let drawn = candidates.iter().find(|candidate| {
            rest -= candidate.weight;
            rest < 0.
        });
        drawn.or(candidates.last()).map_or(likeliest, |candidate| candidate.token) as i64
    }

    /// Returns the logits, those of recent tokens lowered where a repetition costs anything.
    fn penalised<'a>(&self, logits: &'a [f32], recent: &[i64]) -> Cow<'a, [f32]> {
        let penalty = self.config.repetition_penalty as f32;
        if penalty == 1. {
            return Cow::Borrowed(logits);
        }
        let mut logits = logits.to_vec();
        let mut tokens: Vec<usize> = recent.iter().filter_map(|&token| usize::try_from(token).ok()).collect();
        tokens.sort_unstable();
        tokens.dedup();
        for token in tokens {
            if let Some(logit) = logits.get_mut(token) {
                *logit = if *logit > 0. { *logit / penalty } else { *logit * penalty };
            }
        }
        Cow::Owned(logits)
    }

    /// Leaves the candidates that `top_k`, `top_p` and `min_p` allow.
    fn keep_likely(&self, candidates: &mut Vec<Candidate>) {
        let likelier =
            |a: &Candidate, b: &Candidate| b.weight.total_cmp(&a.weight).then(a.token.cmp(&b.token));
        if let Some(top_k) = self.config.top_k.map(|k| k as usize).filter(|&k| k < candidates.len()) {
            candidates.select_nth_unstable_by(top_k, likelier);
            candidates.truncate(top_k);
        }
        if let Some(top_p) = self.config.top_p.filter(|&p| p < 1.) {
            let total: f64 = candidates.iter().map(|c| c.weight).sum();
            // All that are below this together have less than what `top_p` leaves out: they need no sorting.
            let least = (1. - top_p) * total / candidates.len() as f64;
            candidates.retain(|candidate| candidate.weight >= least);
            candidates.sort_unstable_by(likelier);
            let mut before = 0.;
            candidates.retain(|candidate| {
                let is_kept = before < top_p * total;
                before += candidate.weight;
                is_kept
            });
        }
        let largest = candidates.iter().map(|c| c.weight).fold(0., f64::max);
        if let Some(min_p) = self.config.min_p {
            candidates.retain(|candidate| candidate.weight >= min_p * largest);
        }
        candidates.sort_unstable_by_key(|candidate| candidate.token); // The same draw, whatever has sorted them.
    }

    /// Returns a number in `0.0 .. 1.0`.
    fn uniform(&mut self) -> f64 {
        (self.random.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// Returns the first token with the largest logit, and that.
fn argmax(logits: &[f32]) -> (usize, f32) {
    let larger = |best: (usize, f32), (token, &logit): (usize, &f32)| {
        if logit > best.1 { (token, logit) } else { best }
    };
    logits.iter().enumerate().fold((0, f32::NEG_INFINITY), larger)
}

/// Returns the log-probability of every token, in nats, by the model alone: before temperature and all that follows it.
pub fn log_probabilities(logits: &[f32]) -> Vec<f32> {
    let log_sum = log_sum(logits);
    logits.iter().map(|&logit| (f64::from(logit) - log_sum) as f32).collect()
}

/// Returns that of one token, as [`log_probabilities`] has it.
///
/// # Panics
/// Where the vocabulary has no such token.
pub fn log_probability(logits: &[f32], token: i64) -> f32 {
    (f64::from(logits[token as usize]) - log_sum(logits)) as f32
}

/// Returns the logarithm of the sum of all `e^logit`.
fn log_sum(logits: &[f32]) -> f64 {
    let (_, largest) = argmax(logits);
    let sum: f64 = logits.iter().map(|&logit| f64::from(logit - largest).exp()).sum();
    f64::from(largest) + sum.ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOGITS: [f32; 5] = [0., 3., 2.9, -1., 1.];

    fn drawn(change: impl Fn(&mut SampleConfig)) -> Vec<i64> {
        let mut config = SampleConfig::default();
        change(&mut config);
        config.validate().unwrap();
        let mut sampler = Sampler::new(config, 1);
        let mut drawn: Vec<i64> = (0..2000).map(|_| sampler.draw(&LOGITS, &[1, 1, 3, 99])).collect();
        drawn.sort_unstable();
        drawn.dedup();
        drawn
    }

    #[test]
    fn each_option_leaves_what_it_says() {
        // Probabilities: 0.024, 0.475, 0.430, 0.009, 0.064.
        assert_eq!(drawn(|_| ()), [0, 1, 2, 3, 4]);
        assert_eq!(drawn(|c| c.temperature = 0.), [1]);
        assert_eq!(drawn(|c| c.temperature = 1e-300), [1]);
        assert_eq!(drawn(|c| c.top_k = Some(2)), [1, 2]);
        assert_eq!(drawn(|c| c.top_k = Some(99)), [0, 1, 2, 3, 4]);
        assert_eq!(drawn(|c| c.top_p = Some(0.4)), [1]);
        assert_eq!(drawn(|c| c.top_p = Some(0.6)), [1, 2]);
        assert_eq!(drawn(|c| c.top_p = Some(0.95)), [1, 2, 4]);
        assert_eq!(drawn(|c| c.min_p = Some(0.1)), [1, 2, 4]);
        assert_eq!(drawn(|c| c.min_p = Some(1.)), [1]);
        // 3 / 1.5 is less than 2.9: a token that was there is no longer the likeliest.
        let penalised = |c: &mut SampleConfig| (c.repetition_penalty, c.temperature) = (1.5, 0.);
        assert_eq!(drawn(penalised), [2]);
    }

    /// Frequencies are those of the softmax at the temperature, within five standard deviations.
    #[test]
    fn frequencies_are_probabilities() {
        const DRAWS: usize = 20_000;
        for temperature in [0.5, 1., 2.] {
            let mut sampler = Sampler::new(SampleConfig { temperature, ..SampleConfig::default() }, 7);
            let mut counts = [0; 5];
            for _ in 0..DRAWS {
                counts[sampler.draw(&LOGITS, &[]) as usize] += 1;
            }
            let scaled = LOGITS.map(|logit| logit / temperature as f32);
            for (count, log) in counts.iter().zip(log_probabilities(&scaled)) {
                let (p, n) = (f64::from(log).exp(), DRAWS as f64);
                let deviation = (f64::from(*count) - p * n).abs() / (p * (1. - p) * n).sqrt();
                assert!(deviation < 5., "temperature {temperature}: {counts:?}");
            }
        }
    }

    #[test]
    fn one_log_probability_is_that_of_the_list() {
        let all = log_probabilities(&LOGITS);
        for (token, expected) in all.iter().enumerate() {
            assert_eq!(log_probability(&LOGITS, token as i64), *expected);
        }
        let sum: f64 = all.iter().map(|log| f64::from(*log).exp()).sum();
        assert!((sum - 1.).abs() < 1e-6, "{sum}");
    }

    #[test]
    fn a_seed_repeats_and_another_differs() {
        let draws = |seed| {
            let mut sampler = Sampler::new(SampleConfig::default(), seed);
            (0..50).map(|_| sampler.draw(&LOGITS, &[])).collect::<Vec<_>>()
        };
        assert_eq!(draws(3), draws(3));
        assert_ne!(draws(3), draws(4));
    }

    #[test]
    fn numbers_that_are_no_distribution() {
        let error = |change: &dyn Fn(&mut SampleConfig)| {
            let mut config = SampleConfig::default();
            change(&mut config);
            config.validate().unwrap_err().to_string()
        };
        let temperature = error(&|c| c.temperature = f64::NAN);
        assert_eq!(temperature, "sample.temperature: expected a number of at least 0, got NaN");
        assert_eq!(error(&|c| c.top_k = Some(0)), "sample.top_k: expected at least 1, got 0");
        let top_p = error(&|c| c.top_p = Some(0.));
        assert_eq!(top_p, "sample.top_p: expected a number above 0 and up to 1, got 0");
        assert_eq!(error(&|c| c.min_p = Some(1.5)), "sample.min_p: expected a number from 0 to 1, got 1.5");
        let penalty = error(&|c| c.repetition_penalty = 0.);
        assert_eq!(penalty, "sample.repetition_penalty: expected a number above 0, got 0");
    }
}
