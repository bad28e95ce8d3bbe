//! One token of each of several texts at a time.

use brt_native::MAX_FEW_ROWS;
use brt_ops::{Mode, RowKeys, row_attention};
use tch::{Device, Kind, Tensor};

use super::{Decoder, Recurrence, TextState, text_state::BlockStart};

impl Decoder<'_> {
    /// Reads one token of each of several texts, wherever they are, and returns the logits of the tokens after those. On the
    /// CPU a text's logits do not depend on the other texts, to the last bit.
    ///
    /// # Shapes
    /// `texts`, `tokens`: B; result: `[B, V]`.
    ///
    /// # Panics
    /// Where the numbers of texts and tokens differ, or are 0.
    pub fn step(&self, texts: &mut [&mut TextState], tokens: &[i64]) -> Tensor {
        assert_eq!(texts.len(), tokens.len(), "tokens: expected one for each text");
        // More rows would be multiplied in another way, whose sums are rounded otherwise.
        let at_once = if self.model.params().device() == Device::Cpu { MAX_FEW_ROWS } else { usize::MAX };
        let groups = texts.chunks_mut(at_once).zip(tokens.chunks(at_once));
        let mut logits: Vec<Tensor> = groups.map(|(texts, tokens)| self.step_group(texts, tokens)).collect();
        if logits.len() == 1 { logits.remove(0) } else { Tensor::cat(&logits, 0) }
    }

    fn step_group(&self, texts: &mut [&mut TextState], tokens: &[i64]) -> Tensor {
        tch::no_grad(|| {
            let logits = match self.model.params().device() {
                Device::Cpu => brt_native::prefer_few_rows(|| self.step_layers(texts, tokens)),
                _ => self.model.in_own_kind(|| self.step_layers(texts, tokens)).to_kind(Kind::Float),
            };
            for (row, (text, token)) in texts.iter_mut().zip(tokens).enumerate() {
                text.count(&[*token], self.model.config().window_len);
                text.next_logits = Some(logits.get(row as i64).copy());
                self.complete_block(text);
            }
            logits
        })
    }

    /// Returns the logits after one token of each text, `[B, V]`; only rings are written.
    fn step_layers(&self, texts: &mut [&mut TextState], tokens: &[i64]) -> Tensor {
        let mut x = self.embed_each(texts, tokens); // [B, 1, E]
        for idx in 0..self.model.layers().len() {
            x = self.step_layer(idx, &x, texts);
        }
        self.model.unembed(&self.model.finish(&x)).squeeze_dim(1)
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
    pub(super) fn states_of(&self, idx: usize) -> Option<usize> {
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
    pub(super) fn complete_block(&self, text: &mut TextState) {
        if text.block_len(self.model) != 0 {
            return;
        }
        let clears = self.model.config().recurrence.as_ref().is_some_and(|r| r.clear_state);
        let is_cleared = clears && text.segment_position(self.model) == 0;
        let start = match is_cleared || self.recurrence == Recurrence::Reset {
            true => BlockStart::Cleared,
            false => BlockStart::Carried,
        };
        for (layer, own) in self.model.layers().iter().zip(&mut text.layers) {
            self.model.in_own_kind(|| own.complete_block(layer, start));
        }
    }
}
