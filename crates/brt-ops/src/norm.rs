//! RMS norm of the residual stream, and unit norm of queries and keys.

use tch::{Kind, Tensor};

use crate::{init::Init, params::Scope};

/// Added to the mean square, or to the sum of squares, under the root.
pub(crate) const EPSILON: f64 = 1e-6;

/// RMS norm with a learned gain: the paper code's "LayerNorm", which subtracts no mean and adds no bias.
#[derive(Debug)]
pub struct RmsNorm {
    weight: Tensor, // [E]
}

impl RmsNorm {
    /// Returns a norm over `dim` features with all gains one.
    pub fn new(p: &Scope, dim: i64) -> Self {
        Self { weight: p.param("weight", &[dim], Init::Ones) }
    }

    /// Returns `x / sqrt(mean(x²) + 1e-6) * weight`, the mean taken over the last axis.
    ///
    /// # Shapes
    /// `x` and the result: `[.., E]`; in mixed precision the result is bfloat16, as the products that it is for.
    pub fn forward(&self, x: &Tensor) -> Tensor {
        brt_native::rms_norm(x, &self.weight, EPSILON)
    }

    /// Returns `x + update`, and the norm of it.
    ///
    /// # Shapes
    /// `x`, `update` and the results: `[.., E]`.
    pub fn add_forward(&self, x: &Tensor, update: &Tensor) -> (Tensor, Tensor) {
        let [sum, y] = brt_native::add_rms_norm(x, update, &self.weight, EPSILON);
        (sum, y)
    }
}

/// Norm that subtracts the mean and adds a bias: the other form of the official class, which no model of the paper has.
#[derive(Debug)]
pub struct LayerNorm {
    weight: Tensor, // [E]
    bias: Tensor,   // [E]
}

impl LayerNorm {
    /// Returns a norm over `dim` features with all gains one and all biases zero.
    pub fn new(p: &Scope, dim: i64) -> Self {
        Self { weight: p.param("weight", &[dim], Init::Ones), bias: p.param("bias", &[dim], Init::Zeros) }
    }

    /// Returns `(x − mean(x)) / sqrt(variance(x) + 1e-6) * weight + bias` over the last axis.
    ///
    /// # Shapes
    /// `x` and the result: `[.., E]`.
    pub fn forward(&self, x: &Tensor) -> Tensor {
        x.layer_norm(self.weight.size(), Some(&self.weight), Some(&self.bias), EPSILON, false)
    }
}

/// Returns `x / sqrt(sum(x²) + 1e-6)`, the sum taken over the last axis: queries and keys, head by head.
///
/// # Shapes
/// `x` and the result: `[.., D]`.
///
/// ```
/// let x = tch::Tensor::from_slice(&[3f32, 4.]);
/// let u = brt_ops::unit_norm(&x);
/// assert!((u.double_value(&[0]) - 0.6).abs() < 1e-6);
/// ```
pub fn unit_norm(x: &Tensor) -> Tensor {
    x * (x.square().sum_dim_intlist(-1, true, Kind::Float) + EPSILON).rsqrt()
}
