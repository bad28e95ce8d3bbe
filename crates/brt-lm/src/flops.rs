//! Floating-point operations of a training step, counted from the shapes.

use brt_cell::CellLayout;

use crate::{Gate, ModelConfig, RecurrenceConfig};

impl ModelConfig {
    /// Returns the multiplications and additions per token of one training step: matrix products alone, the backward
    /// pass counted as twice the forward pass, attention over exactly the W keys that a token sees.
    pub fn training_flops_per_token(&self) -> u64 {
        let (e, hd, m) = (self.model_dim, self.num_heads * self.head_dim, self.ffn_dim);
        let attention = |num_keys: i64| 2 * num_keys * hd; // queries · keys, weights · values
        let ordinary = 4 * e * hd + 2 * e * m + attention(self.window_len);
        let recurrence: i64 = self.recurrence.iter().map(|r| self.recurrent_products(r)).sum();
        let products = self.num_layers * ordinary
            + self.recurrent_layers().len() as i64 * recurrence
            + self.vocab_size * e;
        (6 * products) as u64
    }

    /// Multiplications per token that a recurrent layer adds to an ordinary one.
    fn recurrent_products(&self, recurrence: &RecurrenceConfig) -> i64 {
        let (e, hd, m, w) = (self.model_dim, self.num_heads * self.head_dim, self.ffn_dim, self.window_len);
        let s = recurrence.num_states;
        let tokens = 2 * e * hd + 2 * s * hd; // second queries and their half of the output; attention to states
        let gate = |in_dim: i64| if recurrence.gate == Gate::Lstm { 2 * in_dim * e } else { 0 };
        let update = match recurrence.layout {
            CellLayout::Skip => 2 * hd * e + gate(2 * hd),
            CellLayout::Single => 2 * hd * m + m * e + gate(m),
            CellLayout::Dual => 2 * hd * e + gate(2 * hd) + 2 * e * m + gate(m),
        };
        let per_state = 4 * e * hd + 2 * s * hd + 2 * (2 * w) * hd + update;
        tokens + s * per_state / w
    }
}
