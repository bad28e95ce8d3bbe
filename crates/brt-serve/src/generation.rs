//! One continuation: draws tokens, turns them into text, ends at stop strings and limits.

use brt_data::{TextDecoder, Tokenizer};
use brt_lm::{SampleConfig, Sampler};
use serde::{Deserialize, Serialize};

/// What a caller asks of one continuation.
#[derive(Debug, Clone, PartialEq)]
pub struct GenerationConfig {
    /// How tokens are drawn.
    pub sample: SampleConfig,
    /// Most tokens that are drawn.
    pub max_tokens: usize,
    /// The text ends before the first of these.
    pub stop: Vec<String>,
    /// Seed of the draws.
    pub seed: u64,
}

/// Why a continuation has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FinishReason {
    /// A stop string came.
    Stop,
    /// All tokens that were asked for are drawn.
    Length,
}

/// A token that was drawn.
#[derive(Debug, Clone, PartialEq)]
pub struct Drawn {
    /// The token.
    pub token: i64,
    /// The text that is certain now: whole characters that cannot belong to a stop string.
    pub text: String,
}

/// One continuation in progress.
///
/// ```
/// use brt_data::Tokenizer;
/// use brt_lm::SampleConfig;
/// use brt_serve::{FinishReason, Generation, GenerationConfig};
/// let sample = SampleConfig { temperature: 0., ..SampleConfig::default() };
/// let config = GenerationConfig { sample, max_tokens: 2, stop: vec![], seed: 1 };
/// let mut generation = Generation::new(&Tokenizer::bytes(), &[], config);
/// let mut logits = [0.; 256];
/// logits[usize::from(b'a')] = 3.;
/// assert_eq!(generation.draw(&logits, &[]).text, "a");
/// assert_eq!(generation.finish_reason(), None);
/// assert_eq!(generation.draw(&logits, &[]).token, i64::from(b'a'));
/// assert_eq!(generation.finish_reason(), Some(FinishReason::Length));
/// assert_eq!(generation.finish(), "");
/// ```
#[derive(Debug)]
pub struct Generation {
    sampler: Sampler,
    text: Option<TextDecoder>,
    max_tokens: usize,
    num_drawn: usize,
    finish_reason: Option<FinishReason>,
}

impl Generation {
    /// Returns the continuation of a text whose last tokens these are: at least 8, or all there are.
    pub fn new(tokenizer: &Tokenizer, before: &[u32], config: GenerationConfig) -> Self {
        Self {
            sampler: Sampler::new(config.sample, config.seed),
            text: Some(TextDecoder::new(tokenizer, before, config.stop)),
            max_tokens: config.max_tokens,
            num_drawn: 0,
            finish_reason: (config.max_tokens == 0).then_some(FinishReason::Length),
        }
    }

    /// Draws a token. `logits`: of all tokens; `recent`: the tokens that a repetition is one of.
    ///
    /// # Panics
    /// Where the continuation has ended.
    pub fn draw(&mut self, logits: &[f32], recent: &[i64]) -> Drawn {
        assert!(
            self.finish_reason.is_none(),
            "draw: expected a continuation that goes on, got one that has ended"
        );
        let token = self.sampler.draw(logits, recent);
        self.num_drawn += 1;
        let mut text = String::new();
        if let Some(decoder) = &mut self.text {
            text = u32::try_from(token).map_or_else(|_| String::new(), |token| decoder.push(token));
            if decoder.is_stopped() {
                self.finish_reason = Some(FinishReason::Stop);
            } else if self.num_drawn == self.max_tokens {
                self.finish_reason = Some(FinishReason::Length);
            }
        }
        Drawn { token, text }
    }

    /// Returns how many tokens have been drawn.
    pub fn num_drawn(&self) -> usize {
        self.num_drawn
    }

    /// Returns why the continuation has ended; `None` while it goes on.
    pub fn finish_reason(&self) -> Option<FinishReason> {
        self.finish_reason
    }

    /// Ends the continuation and returns the text that was held back.
    pub fn finish(&mut self) -> String {
        self.finish_reason.get_or_insert(FinishReason::Length);
        self.text.take().map(TextDecoder::finish).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Draws what `text` says, byte by byte, and returns the pieces, the rest and the reason of the end.
    fn draw(text: &str, stop: &[&str], max_tokens: usize) -> (Vec<String>, String, Option<FinishReason>) {
        let sample = SampleConfig { temperature: 0., ..SampleConfig::default() };
        let stop = stop.iter().map(|&s| s.to_owned()).collect();
        let config = GenerationConfig { sample, max_tokens, stop, seed: 1 };
        let mut generation = Generation::new(&Tokenizer::bytes(), &[], config);
        let mut pieces = vec![];
        for byte in text.bytes() {
            if generation.finish_reason().is_some() {
                break;
            }
            let mut logits = vec![0f32; 256];
            logits[usize::from(byte)] = 20.;
            let drawn = generation.draw(&logits, &[]);
            assert_eq!(drawn.token, i64::from(byte));
            pieces.push(drawn.text);
        }
        let reason = generation.finish_reason();
        (pieces, generation.finish(), reason)
    }

    #[test]
    fn it_ends_at_stop_strings_and_limits_with_whole_characters() {
        let pieces = |texts: &[&str]| texts.iter().map(|&t| t.to_owned()).collect::<Vec<_>>();
        assert_eq!(draw("é!", &[], 3), (pieces(&["", "é", "!"]), String::new(), Some(FinishReason::Length)));
        assert_eq!(draw("é", &[], 1), (pieces(&[""]), "\u{FFFD}".into(), Some(FinishReason::Length)));
        let stopped = (pieces(&["a", "", ""]), String::new(), Some(FinishReason::Stop));
        assert_eq!(draw("abcd", &["bc"], 9), stopped);
        assert_eq!(draw("ab", &["bc"], 2), (pieces(&["a", ""]), "b".into(), Some(FinishReason::Length)));
        assert_eq!(draw("ab", &["bc"], 9), (pieces(&["a", ""]), "b".into(), None));
        assert_eq!(draw("", &[], 0).2, Some(FinishReason::Length));
    }
}
