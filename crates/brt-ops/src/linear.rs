//! Dense layer without bias.

use tch::Tensor;

use crate::{dims, init::Init, params::Scope};

/// Dense layer `y = x · weightᵀ`, without bias, as every dense layer of the paper's code outside its gates.
#[derive(Debug)]
pub struct Linear {
    weight: Tensor, // [out, in]
}

impl Linear {
    /// Returns a layer from `in_dim` to `out_dim` features, drawn with variance `1 / in_dim`.
    pub fn new(p: &Scope, in_dim: i64, out_dim: i64) -> Self {
        let init = Init::VarianceScaling { scale: 1., fan_in: in_dim };
        Self { weight: p.param("weight", &[out_dim, in_dim], init) }
    }

    /// Returns `x · weightᵀ`.
    ///
    /// # Shapes
    /// `x`: `[.., in]`; result: `[.., out]`.
    pub fn forward(&self, x: &Tensor) -> Tensor {
        x.linear::<Tensor>(&self.weight, None)
    }

    /// Returns `[self · x, others · x]` of several layers with the same input, as one matrix product.
    ///
    /// # Shapes
    /// `x`: `[.., in]`; results: `[.., out]` each.
    pub fn forward_fused<const L: usize>(layers: [&Self; L], x: &Tensor) -> [Tensor; L] {
        let weight = Tensor::cat(&layers.map(|layer| &layer.weight), 0); // [sum of out, in]
        let widths = layers.map(|layer| dims::<2>("weight", &layer.weight)[0]);
        let parts = x.linear::<Tensor>(&weight, None).split_with_sizes(widths, -1);
        parts.try_into().expect("one part for each layer")
    }
}
