//! What a training step keeps for its backward pass, counted from the shapes.

use crate::ModelConfig;

impl ModelConfig {
    /// Returns about how many values the forward pass of one training token keeps for the backward pass: what libtorch's
    /// operations save, as this crate calls them. Temporary values come on top.
    pub fn activations_per_token(&self) -> u64 {
        let ordinary = self.num_layers * self.layer_activations() + self.end_activations();
        let recurrent: i64 = self.recurrence.iter().map(|r| self.recurrent_activations(r.num_states)).sum();
        let memory =
            self.memory.map_or(0, |memory| 3 * memory.num_neighbours * self.num_heads * self.head_dim);
        (ordinary + recurrent + memory) as u64
    }

    /// Returns the same where layers are computed again: their inputs, the inside of one layer, and the end.
    pub fn recomputed_activations_per_token(&self) -> u64 {
        let num_states: i64 = self.recurrence.iter().map(|r| r.num_states).sum();
        let num_recurrent = (self.recurrent_layers().len() as i64).max(1);
        let inside = self.layer_activations() + self.recurrent_activations(num_states) / num_recurrent;
        let memory =
            self.memory.map_or(0, |memory| 3 * memory.num_neighbours * self.num_heads * self.head_dim);
        (self.num_layers * self.model_dim + inside + self.end_activations() + memory) as u64
    }

    fn layer_activations(&self) -> i64 {
        let (e, hd, m) = (self.model_dim, self.num_heads * self.head_dim, self.ffn_dim);
        let masked = if self.dropout > 0. { 2 * e } else { 0 };
        // Residuals and norms; keys, values, queries and what they read; feed-forward layer. Attention keeps no weights (on
        // the CPU; composed attention keeps 4 · W · H values more).
        4 * e + 4 * hd + self.num_heads + m + masked
    }

    /// Values per token that the recurrent layers keep beside those of ordinary layers.
    fn recurrent_activations(&self, num_states: i64) -> i64 {
        let (e, hd, h, w) = (self.model_dim, self.num_heads * self.head_dim, self.num_heads, self.window_len);
        let reading = 4 * hd + h;
        let per_state = 6 * e + 8 * hd + 2 * h;
        let num_recurrent = self.recurrent_layers().len() as i64;
        num_recurrent * (reading + num_states * per_state / w)
    }

    /// Embeddings, the last norm, and the gradient of its output: logits are made and used some rows at a time.
    fn end_activations(&self) -> i64 {
        4 * self.model_dim
    }
}
