//! Learned biases of attention logits, as functions of the distance between query and key.

use tch::{Device, Kind, Tensor};

use super::{AlibiBound, PositionConfig};
use crate::{init::Init, params::Scope};

/// Largest size of an output weight of [`PositionBias::Neural`].
const MAX_OUT_WEIGHT: f64 = 3.;
/// Spread of the hidden units of [`PositionBias::Neural`] over the distances, in tokens.
const HIDDEN_BIAS_STD: f64 = 10.;

/// Parameters of a bias; each layer has its own. What depends on distances alone is in [`super::WindowTables`].
#[derive(Debug)]
pub enum PositionBias {
    /// `weight[h, bucket(distance)]`.
    T5 {
        /// `[H, buckets]`.
        weight: Tensor,
    },
    /// `Σ_m a[h, m] cos θ_m + b[h, m] sin θ_m`, the angles those of the distance.
    Fourier {
        /// `[H, vector_len]`: a, then b.
        weight: Tensor,
    },
    /// `max(−|scale| · 2^(−8 h / H) · |distance|, −|bound|)`, heads counted from 1.
    Alibi {
        /// `[1]`.
        scale: Tensor,
        /// `[1]` or `[H]`.
        bound: Tensor,
        /// `2^(−8 h / H)`, `[H, 1]`; not trained.
        slopes: Tensor,
    },
    /// `Σ_i 3 sin(out[h, i] / 3) · asinh(hidden[i] · (−distance) + bias[i])`.
    Neural {
        /// `[hidden]`.
        hidden_weight: Tensor,
        /// `[hidden]`.
        hidden_bias: Tensor,
        /// `[H, hidden]`.
        out_weight: Tensor,
    },
    /// `Σ_i weight[i, h] · basis_i(|distance|)`.
    Orthogonal {
        /// `[functions, H]`.
        weight: Tensor,
    },
}

impl PositionBias {
    /// Returns the bias of a kind, with drawn weights; `None` where the kind has none.
    pub fn new(p: &Scope, config: &PositionConfig, num_heads: i64) -> Option<Self> {
        let weight = |shape: &[i64], init| p.param("weight", shape, init);
        match *config {
            PositionConfig::None {} | PositionConfig::Rotary { .. } | PositionConfig::Absolute { .. } => None,
            PositionConfig::T5 { num_buckets, .. } => {
                let init = Init::Normal { std: (1. / num_buckets as f64).sqrt() };
                Some(Self::T5 { weight: weight(&[num_heads, num_buckets], init) })
            }
            PositionConfig::Fourier { vector_len } => {
                // The mean of the cosines.
                let init = Init::FirstHalf { value: 2. / vector_len as f64 };
                Some(Self::Fourier { weight: weight(&[num_heads, vector_len], init) })
            }
            PositionConfig::Alibi { bound } => Some(Self::alibi(p, bound, num_heads)),
            PositionConfig::Neural { num_hidden } => Some(Self::Neural {
                hidden_weight: p.param("hidden_weight", &[num_hidden], Init::Ones),
                hidden_bias: p.param("hidden_bias", &[num_hidden], Init::Normal { std: HIDDEN_BIAS_STD }),
                out_weight: p.param(
                    "out_weight",
                    &[num_heads, num_hidden],
                    Init::VarianceScaling { scale: 1., fan_in: num_heads },
                ),
            }),
            PositionConfig::Orthogonal { num_functions, .. } => {
                Some(Self::Orthogonal { weight: weight(&[num_functions, num_heads], Init::Zeros) })
            }
        }
    }

    fn alibi(p: &Scope, bound: AlibiBound, num_heads: i64) -> Self {
        let options = (Kind::Float, Device::Cpu);
        let scale = p.param("scale", &[1], Init::Ones);
        let bound = match bound {
            AlibiBound::Shared => p.param("bound", &[1], Init::Ones),
            AlibiBound::PerHead => p.param("bound", &[num_heads], Init::Ones),
            AlibiBound::Fixed(value) => Tensor::full([1], value, options).to_device(scale.device()),
        };
        let heads = Tensor::arange_start(1, num_heads + 1, options);
        let slopes = (heads * (-8. / num_heads as f64)).exp2().unsqueeze(1);
        Self::Alibi { slopes: slopes.to_device(scale.device()), scale, bound }
    }

    /// Returns the bias of every head at every distance.
    ///
    /// # Shapes
    /// `features`: what the kind computes from each of R distances ([`super::WindowTables`]); result: `[H, R]`.
    pub(super) fn at(&self, features: &Tensor) -> Tensor {
        match self {
            Self::T5 { weight } => weight.index_select(1, features),
            Self::Fourier { weight } => weight.matmul(&features.transpose(0, 1)),
            Self::Alibi { scale, bound, slopes } => {
                let penalty = slopes * features * scale.abs(); // [H, R]
                -penalty.minimum(&bound.abs().unsqueeze(1))
            }
            Self::Neural { hidden_weight, hidden_bias, out_weight } => {
                let hidden = (features.unsqueeze(1) * hidden_weight + hidden_bias).asinh(); // [R, hidden]
                let out = (out_weight / MAX_OUT_WEIGHT).sin() * MAX_OUT_WEIGHT; // [H, hidden]
                out.matmul(&hidden.transpose(0, 1))
            }
            Self::Orthogonal { weight } => features.matmul(weight).transpose(0, 1),
        }
    }
}
