//! Reading and writing texts token by token, at a cost for each token that does not depend on how much came before.
//!
//! Equals [`LanguageModel::forward`] to rounding at every position, whatever the pieces that a text comes in.

mod file;
mod read;
mod step;
mod text_state;

use brt_ops::RingTables;
use tch::{Kind, Tensor};

use self::text_state::LayerText;
use crate::{LanguageModel, Layer, ModelState};

pub use self::{
    file::{StateFileError, StateFileInfo},
    text_state::TextState,
};

/// Reads texts with a model and says what comes next. All that it remembers of a text is in its [`TextState`]; one decoder
/// serves any number of texts.
///
/// ```
/// use brt_lm::{Decoder, LanguageModel, ModelConfig};
/// # let config = ModelConfig { vocab_size: 9, model_dim: 8, num_layers: 1, num_heads: 1, head_dim: 8, ffn_dim: 8, window_len: 4,
/// #     ..ModelConfig::paper() };
/// let model = LanguageModel::new(config, 1, tch::Device::Cpu).expect("a model");
/// let decoder = Decoder::new(&model);
/// let mut text = decoder.start();
/// let logits = decoder.feed(&mut text, &[1, 2, 3]);
/// let next = logits.argmax(-1, false).int64_value(&[]);
/// let logits = decoder.step(&mut [&mut text], &[next]);
/// assert_eq!((logits.size(), text.num_tokens()), (vec![1, 9], 4));
/// ```
#[derive(Debug)]
pub struct Decoder<'a> {
    model: &'a LanguageModel,
    tables: Vec<RingTables>, // of each layer
    recurrence: Recurrence,
}

/// What becomes of recurrent states between blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Recurrence {
    /// As the model says.
    Carried,
    /// They start anew in every block.
    Reset,
}

impl<'a> Decoder<'a> {
    /// Returns a decoder of a model.
    pub fn new(model: &'a LanguageModel) -> Self {
        let config = model.config();
        let tables = config.token_tables(config.window_len, model.params().device());
        let of_layer = |layer: &Layer| layer.tokens().ring_tables(&tables);
        let tables = tch::no_grad(|| model.layers().iter().map(of_layer).collect());
        Self { model, tables, recurrence: Recurrence::Carried }
    }

    /// Returns a decoder whose recurrent states start anew in every block: the ablation in which nothing but attention crosses
    /// a block.
    pub fn with_reset_states(model: &'a LanguageModel) -> Self {
        Self { recurrence: Recurrence::Reset, ..Self::new(model) }
    }

    /// Returns the state before the first token of a text.
    pub fn start(&self) -> TextState {
        self.resume(&self.model.initial_state(1), 0)
    }

    /// Returns the state of a text of which training or evaluation has read `num_tokens`, a whole number of blocks, and of
    /// segments where the model depends on them. `state`: of one row. The tokens before, and the logits of the next one, are not
    /// known.
    ///
    /// # Panics
    /// Where the state is not of one row, or does not stand there.
    pub fn resume(&self, state: &ModelState, num_tokens: u64) -> TextState {
        let config = self.model.config();
        let unit = config.segment_len.unwrap_or(config.window_len) as u64;
        assert!(
            num_tokens.is_multiple_of(unit),
            "num_tokens: expected a multiple of {unit}, got {num_tokens}"
        );
        let mut text = TextState { layers: vec![], num_tokens, recent: [].into(), next_logits: None };
        tch::no_grad(|| self.model.in_own_kind(|| self.start_blocks(&mut text, state)));
        text
    }

    /// Sets what layers remember to a state between blocks.
    fn start_blocks(&self, text: &mut TextState, state: &ModelState) {
        let state = match self.recurrence {
            Recurrence::Carried => self.model.clear_state(state),
            Recurrence::Reset => self.model.reset_recurrent_states(state),
        };
        text.layers = LayerText::all(self.model, &state);
    }

    /// Lets the recurrent states of a text start anew, in the middle of a block, too.
    pub fn reset_states(&self, text: &mut TextState) {
        let initial = tch::no_grad(|| LayerText::all(self.model, &self.model.initial_state(1)));
        for (own, initial) in text.layers.iter_mut().zip(initial) {
            own.replace_states(initial);
        }
    }

    /// Reads on in a text and returns the logits of the token after the last one. Whole blocks go through the model at once,
    /// so a long text costs what training costs forward.
    ///
    /// # Shapes
    /// Result: `[V]`.
    ///
    /// # Panics
    /// Where `tokens` is empty.
    pub fn feed(&self, text: &mut TextState, tokens: &[i64]) -> Tensor {
        let mut last = None;
        self.read(text, tokens, |xs| last = xs.size().first().map(|len| xs.narrow(0, len - 1, 1)));
        let logits = tch::no_grad(|| self.unembed(&last.expect("tokens: at least one")).squeeze_dim(0));
        text.next_logits = Some(logits.copy());
        logits
    }

    /// Reads on in a text and returns the logits after each token.
    ///
    /// # Shapes
    /// Result: `[len, V]`.
    ///
    /// # Panics
    /// Where `tokens` is empty.
    pub fn feed_all(&self, text: &mut TextState, tokens: &[i64]) -> Tensor {
        let mut logits = vec![];
        self.read(text, tokens, |xs| logits.push(tch::no_grad(|| self.unembed(xs))));
        let logits = Tensor::cat(&logits, 0);
        text.next_logits = Some(logits.get(-1).copy());
        logits
    }

    /// Reads on in a text and returns the nats of each token, given all before it; nothing for the first token of a text,
    /// which nothing predicts, and the first after [`Self::resume`].
    ///
    /// # Panics
    /// Where a token is not in the vocabulary.
    pub fn score(&self, text: &mut TextState, tokens: &[i64]) -> Vec<Option<f64>> {
        let mut nats = vec![];
        if let (Some(first), Some(logits)) = (tokens.first(), &text.next_logits) {
            nats.push(Some(-logits.log_softmax(-1, Kind::Double).double_value(&[*first])));
        } else if !tokens.is_empty() {
            nats.push(None);
        }
        // What predicts a token stands before it: in the row above, or at the end of the piece before.
        let (mut last, mut rest) = (None, tokens);
        self.read(text, tokens, |xs| {
            let len = xs.size()[0];
            let before = last.take().into_iter().chain([xs.narrow(0, 0, len - 1)]);
            let before = Tensor::cat(&before.collect::<Vec<_>>(), 0);
            let (piece, later) = rest.split_at(len as usize);
            let scored = &piece[piece.len() - before.size()[0] as usize..];
            nats.extend(self.model.nats(&before, scored).into_iter().map(Some));
            (last, rest) = (Some(xs.narrow(0, len - 1, 1)), later);
        });
        if let Some(last) = last {
            text.next_logits = Some(tch::no_grad(|| self.unembed(&last).squeeze_dim(0)));
        }
        nats
    }

    /// Returns logits in float32: `[len, E]` → `[len, V]`.
    fn unembed(&self, xs: &Tensor) -> Tensor {
        let unembed = || self.model.in_own_kind(|| self.model.unembed(xs));
        brt_native::prefer_few_rows(unembed).to_kind(Kind::Float)
    }
}
