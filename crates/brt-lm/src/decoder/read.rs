//! Reading a text in pieces, many tokens at once.

use brt_ops::{Mode, WindowShape, WindowTables, Windows};
use tch::Tensor;

use super::{Decoder, Recurrence, TextState};
use crate::layer::attend_to_states;

/// Most tokens of a text that go through the model at once.
const MAX_PIECE_LEN: i64 = 4096;

impl Decoder<'_> {
    /// Reads on in a text; `visit` gets the last norm's outputs of each piece, `[len, E]`.
    pub(super) fn read(&self, text: &mut TextState, tokens: &[i64], mut visit: impl FnMut(&Tensor)) {
        let mut rest = tokens;
        while !rest.is_empty() {
            let (len, is_whole) = self.piece_len(text, rest.len());
            let (piece, later) = rest.split_at(len);
            let xs = tch::no_grad(|| {
                self.model.in_own_kind(|| match is_whole {
                    true => self.read_blocks(text, piece),
                    false => self.read_part(text, piece),
                })
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
        let to_end_of_block = (num_left.min(window_len - text.block_len(self.model) as usize), false);
        if self.recurrence == Recurrence::Reset {
            return to_end_of_block;
        }
        let (unit, most) = match config.segment_len {
            Some(segment_len) => (segment_len as usize, segment_len as usize),
            None => (window_len, window_len.max(MAX_PIECE_LEN as usize / window_len * window_len)),
        };
        if text.num_tokens.is_multiple_of(unit as u64) && num_left >= unit {
            return (most.min(num_left / unit * unit), true);
        }
        to_end_of_block
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
}
