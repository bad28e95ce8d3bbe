//! Drawing the next token.

use tch::{Kind, Tensor};

/// How the next token is drawn.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SampleConfig {
    /// Divides the logits; 0 takes the likeliest token.
    pub temperature: f64,
    /// Only this many likeliest tokens are drawn; `None` for all.
    pub top_k: Option<i64>,
}

/// Draws one token with libtorch's generator (`tch::manual_seed`).
///
/// # Shapes
/// `logits`: `[V]`.
pub fn sample(logits: &Tensor, config: &SampleConfig) -> i64 {
    let vocab_size = logits.size()[0];
    if config.temperature == 0. {
        return logits.argmax(-1, false).int64_value(&[]);
    }
    let (top, tokens) = logits.topk(config.top_k.unwrap_or(vocab_size).clamp(1, vocab_size), -1, true, true);
    let drawn = (top / config.temperature).softmax(-1, Kind::Float).multinomial(1, false);
    tokens.gather(0, &drawn, false).int64_value(&[0])
}
