//! Reading and writing texts token by token, at a cost for each token that does not depend on how much came before.
//!
//! Equals [`LanguageModel::forward`] to rounding at every position, whatever the pieces that a text comes in.

mod file;
mod text_state;

use brt_ops::{Mode, RingTables, RowKeys, WindowShape, WindowTables, Windows, row_attention};
use tch::{Kind, Tensor};

use self::text_state::{BlockStart, LayerText};
use crate::{LanguageModel, Layer, ModelState, layer::attend_to_states};

pub use self::{
    file::{StateFileError, StateFileInfo},
    text_state::TextState,
};

/// Most tokens of a text that go through the model at once.
const MAX_PIECE_LEN: i64 = 4096;

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
}

impl<'a> Decoder<'a> {
    /// Returns a decoder of a model.
    pub fn new(model: &'a LanguageModel) -> Self {
        let config = model.config();
        let tables = config.token_tables(config.window_len, model.params().device());
        let of_layer = |layer: &Layer| layer.tokens().ring_tables(&tables);
        Self { model, tables: tch::no_grad(|| model.layers().iter().map(of_layer).collect()) }
    }

    /// Returns the state before the first token of a text.
    pub fn start(&self) -> TextState {
        self.resume(&self.model.initial_state(1), 0)
    }

    /// Returns the state of a text of which training or evaluation has read `num_tokens`, a whole number of blocks, and of
    /// segments where the model depends on them. `state`: of one row.
    ///
    /// # Panics
    /// Where the state is not of one row, or does not stand there.
    pub fn resume(&self, state: &ModelState, num_tokens: u64) -> TextState {
        let config = self.model.config();
        let unit = config.segment_len.unwrap_or(config.window_len) as u64;
        assert!(num_tokens % unit == 0, "num_tokens: expected a multiple of {unit}, got {num_tokens}");
        let mut text = TextState { layers: vec![], num_tokens, recent: [].into(), next_logits: None };
        tch::no_grad(|| self.start_blocks(&mut text, state));
        text
    }

    /// Sets what layers remember to a state between blocks.
    fn start_blocks(&self, text: &mut TextState, state: &ModelState) {
        let config = self.model.config();
        let state = self.model.clear_state(state);
        let layers = self.model.layers().iter().zip(&state.layers);
        let layer = |(layer, state)| LayerText::new(layer, state, config.window_len, config.carry);
        text.layers = layers.map(layer).collect();
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
        let logits = tch::no_grad(|| self.model.unembed(&last.expect("tokens: at least one")).squeeze_dim(0));
        text.next_logits = Some(logits.shallow_clone());
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
        self.read(text, tokens, |xs| logits.push(tch::no_grad(|| self.model.unembed(xs))));
        let logits = Tensor::cat(&logits, 0);
        text.next_logits = Some(logits.get(-1).copy());
        logits
    }

    /// Reads on in a text and returns the nats of each token, given all before it; nothing for the first token of a text,
    /// which nothing predicts.
    pub fn score(&self, text: &mut TextState, tokens: &[i64]) -> Vec<Option<f64>> {
        let mut nats: Vec<Option<f64>> = vec![];
        let mut before = text.next_logits.as_ref().map(|logits| logits.unsqueeze(0));
        let mut rest = tokens;
        self.read(text, tokens, |xs| {
            let logits = tch::no_grad(|| self.model.unembed(xs)); // [len, V]
            let len = xs.size()[0];
            let (piece, later) = rest.split_at(len as usize);
            rest = later;
            // What predicts the tokens of a piece stands before it and in all but its last row.
            let parts: Vec<Tensor> =
                before.take().into_iter().chain([logits.narrow(0, 0, len - 1)]).collect();
            let predicting = Tensor::cat(&parts, 0);
            let targets = &piece[piece.len() - predicting.size()[0] as usize..];
            nats.extend(std::iter::repeat_n(None, piece.len() - targets.len()));
            nats.extend(cross_entropies(&predicting, targets).into_iter().map(Some));
            before = Some(logits.narrow(0, len - 1, 1));
        });
        text.next_logits = before.map(|logits| logits.squeeze_dim(0).copy());
        nats
    }

    /// Reads on in a text; `visit` gets the last norm's outputs of each piece, `[len, E]`.
    fn read(&self, text: &mut TextState, tokens: &[i64], mut visit: impl FnMut(&Tensor)) {
        let mut rest = tokens;
        while !rest.is_empty() {
            let (len, is_whole) = self.piece_len(text, rest.len());
            let (piece, later) = rest.split_at(len);
            let xs = tch::no_grad(|| match is_whole {
                true => self.read_blocks(text, piece),
                false => self.read_part(text, piece),
            });
            visit(&xs);
            rest = later;
        }
    }

    /// Returns how many of so many tokens are read at once, and whether that is a number of whole blocks, or the whole
    /// segment of a model that depends on segments.
    fn piece_len(&self, text: &TextState, num_left: usize) -> (usize, bool) {
        let config = self.model.config();
        let window_len = config.window_len as usize;
        let (unit, most) = match config.segment_len {
            Some(segment_len) => (segment_len as usize, segment_len as usize),
            None => (window_len, window_len.max(MAX_PIECE_LEN as usize / window_len * window_len)),
        };
        if text.num_tokens % unit as u64 == 0 && num_left >= unit {
            return (most.min(num_left / unit * unit), true);
        }
        (num_left.min(window_len - text.block_len(self.model) as usize), false)
    }

    /// Reads whole blocks from the start of a block on, as training does: `[len, E]`.
    fn read_blocks(&self, text: &mut TextState, tokens: &[i64]) -> Tensor {
        let row = Tensor::from_slice(tokens).unsqueeze(0).to_device(self.model.params().device());
        let (xs, next) = self.model.outputs(&row, &text.between_blocks());
        self.start_blocks(text, &next);
        text.count(tokens, self.model.config().window_len);
        xs.squeeze_dim(0)
    }

    /// Reads tokens of one block, from any place in it on: `[len, E]`.
    fn read_part(&self, text: &mut TextState, tokens: &[i64]) -> Tensor {
        let (model, slot) = (self.model, text.block_len(self.model));
        let row = Tensor::from_slice(tokens).unsqueeze(0).to_device(model.params().device());
        let mut x = model.embed(&row); // [1, len, E]
        if let Some(encoding) = model.absolute_encoding(text.segment_position(model), tokens.len() as i64) {
            x = x + encoding;
        }
        let (config, seen) = (model.config(), text.layers[0].ring.seen(slot).num_seen);
        let shape = WindowShape {
            num_queries: tokens.len() as i64,
            num_keys: seen + tokens.len() as i64,
            offset: seen,
            window_len: config.window_len,
        };
        let tables = WindowTables::new(shape, &config.position, config.head_dim, model.params().device());
        for idx in 0..model.layers().len() {
            x = self.read_layer(idx, &x, text, (slot, &tables));
        }
        text.count(tokens, config.window_len);
        self.complete_block(text);
        model.finish(&x).squeeze_dim(0)
    }

    /// Runs tokens of one block through one layer: `[1, len, E]` in and out.
    fn read_layer(
        &self,
        idx: usize,
        x: &Tensor,
        text: &mut TextState,
        (slot, tables): (i64, &WindowTables),
    ) -> Tensor {
        let layer = &self.model.layers()[idx];
        let tokens = layer.tokens();
        let projected = tokens.project(x, Mode::Eval); // [1, H, len, D]
        let own = &text.layers[idx];
        let [keys, values] = own.ring.in_order(slot);
        let join = |before: Tensor, new: &Tensor| Tensor::cat(&[&before, new], 2);
        let window = Windows::alone(join(keys, &projected.keys), join(values, &projected.values));
        let mut attended = vec![tokens.self_attention(&projected, &window, tables, Mode::Eval)];
        if let (Some(memory), Some(store)) = (layer.memory(), &own.memory) {
            let neighbours = memory.retrieve(&projected.queries.ordering(), store);
            let mixed = memory.mix(&projected.queries.scaled(), &attended[0], &[neighbours]);
            attended = vec![mixed.squeeze_dim(0)];
        }
        if let Some(states) = self.states_of(idx).and_then(|owner| text.layers[owner].states.as_ref()) {
            attended.push(attend_to_states(&projected, &states.windows()));
        }
        text.layers[idx].ring.write(slot, &projected.keys, &projected.values);
        tokens.finish(x, &attended, Mode::Eval)
    }

    /// Reads one token of each of several texts, wherever they are, and returns the logits of the tokens after those. Rows
    /// are independent of each other.
    ///
    /// # Shapes
    /// `texts`, `tokens`: B; result: `[B, V]`.
    ///
    /// # Panics
    /// Where the numbers of texts and tokens differ.
    pub fn step(&self, texts: &mut [&mut TextState], tokens: &[i64]) -> Tensor {
        assert_eq!(texts.len(), tokens.len(), "tokens: expected one for each text");
        tch::no_grad(|| {
            let mut x = self.embed_each(texts, tokens); // [B, 1, E]
            for idx in 0..self.model.layers().len() {
                x = self.step_layer(idx, &x, texts);
            }
            let logits = self.model.unembed(&self.model.finish(&x)).squeeze_dim(1);
            for (row, (text, token)) in texts.iter_mut().zip(tokens).enumerate() {
                text.count(&[*token], self.model.config().window_len);
                text.next_logits = Some(logits.get(row as i64));
                self.complete_block(text);
            }
            logits
        })
    }

    /// Returns the embeddings of one token of each text, `[B, 1, E]`.
    fn embed_each(&self, texts: &[&mut TextState], tokens: &[i64]) -> Tensor {
        let model = self.model;
        let x = model.embed(&Tensor::from_slice(tokens).unsqueeze(1).to_device(model.params().device()));
        let encoding = |text: &&mut TextState| model.absolute_encoding(text.segment_position(model), 1);
        match texts.iter().map(encoding).collect::<Option<Vec<_>>>() {
            Some(encodings) if !encodings.is_empty() => x + Tensor::stack(&encodings, 0),
            _ => x,
        }
    }

    /// Runs one token of each text through one layer: `[B, 1, E]` in and out.
    fn step_layer(&self, idx: usize, x: &Tensor, texts: &mut [&mut TextState]) -> Tensor {
        let layer = &self.model.layers()[idx];
        let tokens = layer.tokens();
        let projected = tokens.project(x, Mode::Eval); // [B, H, 1, D]
        let slots: Vec<i64> = texts.iter().map(|text| text.block_len(self.model)).collect();
        let rings = texts.iter().zip(&slots).map(|(text, slot)| text.layers[idx].ring.seen(*slot));
        let rings: Vec<RowKeys> = rings.collect();
        let mut attended = vec![row_attention(&projected.queries, &rings, Some(&self.tables[idx]))];
        if let Some(memory) = layer.memory() {
            let row = |(i, text): (usize, &&mut TextState)| {
                let row = |x: &Tensor| x.narrow(0, i as i64, 1);
                let store = text.layers[idx].memory.as_ref().expect("a layer with a memory has a store");
                let neighbours = memory.retrieve(&row(&projected.queries.ordering()), store);
                memory
                    .mix(&row(&projected.queries.scaled()), &row(&attended[0]), &[neighbours])
                    .squeeze_dim(0)
            };
            attended = vec![Tensor::cat(&texts.iter().enumerate().map(row).collect::<Vec<_>>(), 0)];
        }
        if let (Some(owner), Some(queries)) = (self.states_of(idx), &projected.cross_queries) {
            let states = texts.iter().filter_map(|text| text.layers[owner].states.as_ref());
            let states: Vec<RowKeys> = states.map(|states| states.seen()).collect();
            attended.push(row_attention(queries, &states, None));
        }
        for (row, (text, slot)) in texts.iter_mut().zip(slots).enumerate() {
            let row = |x: &Tensor| x.narrow(0, row as i64, 1);
            text.layers[idx].ring.write(slot, &row(&projected.keys), &row(&projected.values));
        }
        tokens.finish(x, &attended, Mode::Eval)
    }

    /// Returns the layer whose states the tokens of a layer attend to.
    fn states_of(&self, idx: usize) -> Option<usize> {
        let layers = self.model.layers();
        match layers[idx].cell() {
            Some(_) => Some(idx),
            None if self.model.config().has_feedback() => {
                layers.iter().rposition(|layer| layer.cell().is_some())
            }
            None => None,
        }
    }

    /// Moves memories and recurrent states on where a block has just become complete.
    fn complete_block(&self, text: &mut TextState) {
        if text.block_len(self.model) != 0 {
            return;
        }
        let clears = self.model.config().recurrence.as_ref().is_some_and(|r| r.clear_state);
        let start = match clears && text.segment_position(self.model) == 0 {
            true => BlockStart::Cleared,
            false => BlockStart::Carried,
        };
        for (layer, own) in self.model.layers().iter().zip(&mut text.layers) {
            own.complete_block(layer, start);
        }
    }
}

/// Returns the nats of each target. `logits`: `[len, V]`.
fn cross_entropies(logits: &Tensor, targets: &[i64]) -> Vec<f64> {
    if targets.is_empty() {
        return vec![];
    }
    let targets = Tensor::from_slice(targets).to_device(logits.device()).unsqueeze(1);
    let chosen = logits.log_softmax(-1, Kind::Float).gather(1, &targets, false);
    Vec::try_from(-chosen.squeeze_dim(1).to_kind(Kind::Double)).expect("a vector")
}
