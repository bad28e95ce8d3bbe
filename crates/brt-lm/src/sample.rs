//! Drawing the next token.

use tch::{Kind, Tensor};

use crate::ConfigError;

/// Below this temperature the likeliest token is taken.
const MIN_TEMPERATURE: f64 = 1e-4;

/// How the next token is drawn.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SampleConfig {
    /// Divides the logits; 0 takes the likeliest token.
    pub temperature: f64,
    /// Only this many likeliest tokens are drawn; `None` for all.
    pub top_k: Option<i64>,
}

impl SampleConfig {
    /// Checks that the numbers describe a distribution.
    ///
    /// # Errors
    /// The key, what it may be and what it is.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let fits = self.temperature.is_finite() && self.temperature >= 0.;
        ConfigError::check("sample", "temperature", "a number of at least 0", self.temperature, fits)?;
        let top_k = self.top_k.unwrap_or(1);
        ConfigError::check("sample", "top_k", "at least 1", top_k, top_k >= 1)
    }
}

/// Draws one token with libtorch's generator (`tch::manual_seed`).
///
/// # Shapes
/// `logits`: `[V]`.
pub fn sample(logits: &Tensor, config: &SampleConfig) -> i64 {
    let vocab_size = logits.size()[0];
    if config.temperature < MIN_TEMPERATURE {
        return logits.argmax(-1, false).int64_value(&[]);
    }
    let (top, tokens) = logits.topk(config.top_k.unwrap_or(vocab_size).min(vocab_size), -1, true, true);
    let drawn = (top / config.temperature).softmax(-1, Kind::Float).multinomial(1, false);
    tokens.gather(0, &drawn, false).int64_value(&[0])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_follow_temperature_and_top_k() {
        tch::manual_seed(1);
        let logits = Tensor::from_slice(&[0f32, 3., 2.9, -1.]);
        let draws = |temperature, top_k| {
            let config = SampleConfig { temperature, top_k };
            config.validate().unwrap();
            let mut drawn: Vec<i64> = (0..200).map(|_| sample(&logits, &config)).collect();
            drawn.sort_unstable();
            drawn.dedup();
            drawn
        };
        assert_eq!(draws(0., None), [1]);
        assert_eq!(draws(1e-300, None), [1]);
        assert_eq!(draws(1., Some(2)), [1, 2]);
        assert_eq!(draws(1., Some(99)), [0, 1, 2, 3]);
    }

    #[test]
    fn numbers_that_are_no_distribution() {
        let error =
            |temperature, top_k| SampleConfig { temperature, top_k }.validate().unwrap_err().to_string();
        assert_eq!(error(f64::NAN, None), "sample.temperature: expected a number of at least 0, got NaN");
        assert_eq!(error(1., Some(0)), "sample.top_k: expected at least 1, got 0");
    }
}
