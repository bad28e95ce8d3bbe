//! Feed-forward layer.

use tch::Tensor;

use crate::{linear::Linear, params::Scope};

/// Feed-forward layer of two matrices with ReLU between them, without biases.
#[derive(Debug)]
pub struct Mlp {
    hidden: Linear, // [M, in]
    out: Linear,    // [E, M]
}

impl Mlp {
    /// Returns a layer from `in_dim` over `ffn_dim` to `out_dim` features.
    pub fn new(p: &Scope, in_dim: i64, ffn_dim: i64, out_dim: i64) -> Self {
        Self {
            hidden: Linear::new(&(p / "hidden"), in_dim, ffn_dim),
            out: Linear::new(&(p / "out"), ffn_dim, out_dim),
        }
    }

    /// Returns the hidden activation, which gates read, and the output.
    ///
    /// # Shapes
    /// `x`: `[.., in]`; results: `[.., M]` and `[.., out]`.
    pub fn forward(&self, x: &Tensor) -> (Tensor, Tensor) {
        let hidden = self.hidden.forward(x).relu_(); // [.., M]; in place: nothing else needs what was before
        let out = self.out.forward(&hidden); // [.., out]
        (hidden, out)
    }
}
