//! Floating-point operations, counted from the shapes.

use brt_cell::CellLayout;
use brt_ops::Carry;

use crate::{Gate, ModelConfig, RecurrenceConfig};

impl ModelConfig {
    /// Returns the multiplications and additions per token of one training step: those of the forward pass, the
    /// backward pass counted as twice as many. The search in a memory has no backward pass.
    pub fn training_flops_per_token(&self) -> u64 {
        (6 * self.products() + 2 * self.search_products()) as u64
    }

    /// Returns the multiplications and additions per token of the forward pass: matrix products alone, attention over
    /// exactly the keys that a token sees.
    pub fn forward_flops_per_token(&self) -> u64 {
        (2 * (self.products() + self.search_products())) as u64
    }

    /// Multiplications per token that have a backward pass.
    fn products(&self) -> i64 {
        let (e, hd, m) = (self.model_dim, self.num_heads * self.head_dim, self.ffn_dim);
        // Queries · keys and weights · values: two products with each key.
        let attention = match self.carry {
            Carry::Differentiable | Carry::Detached => 2 * self.window_len * hd,
            Carry::None => (self.window_len - 1) * hd, // token i of a window sees i keys: (W − 1) / 2 on average
        };
        let ordinary = 4 * e * hd + 2 * e * m + attention;
        let recurrence: i64 = self.recurrence.iter().map(|r| self.recurrent_products(r)).sum();
        let neighbours = self.memory.map_or(0, |memory| 2 * memory.num_neighbours * hd);
        self.num_layers * ordinary + recurrence + neighbours + self.vocab_size * e
    }

    /// Multiplications per token of the search in a memory: one product with each of its keys.
    fn search_products(&self) -> i64 {
        self.memory.map_or(0, |memory| memory.capacity * self.num_heads * self.head_dim)
    }

    /// Multiplications per token that recurrence adds to the ordinary layers.
    fn recurrent_products(&self, recurrence: &RecurrenceConfig) -> i64 {
        let (e, hd, m, w) = (self.model_dim, self.num_heads * self.head_dim, self.ffn_dim, self.window_len);
        let s = recurrence.num_states;
        let num_recurrent = self.recurrent_layers().len() as i64;
        let num_reading = if recurrence.feedback { self.num_layers } else { num_recurrent };
        let reading = 2 * e * hd + 2 * s * hd; // second queries and their half of the output; attention to states
        let num_keys = if self.carry == Carry::None { w } else { 2 * w };
        let gate = |in_dim: i64| match recurrence.gate {
            Gate::Fixed => 0,
            Gate::Full => in_dim * e,
            Gate::Lstm => 2 * in_dim * e,
        };
        let update = match recurrence.layout {
            CellLayout::Skip => 2 * hd * e + gate(2 * hd),
            CellLayout::Single => 2 * hd * m + m * e + gate(m),
            CellLayout::Dual => 2 * hd * e + gate(2 * hd) + 2 * e * m + gate(m),
        };
        let per_state = 4 * e * hd + 2 * s * hd + 2 * num_keys * hd + update;
        // Feedback projects the topmost states once more.
        let feedback = if recurrence.feedback { 4 * e * hd * s / w } else { 0 };
        num_reading * reading + num_recurrent * (s * per_state / w) + feedback
    }
}
