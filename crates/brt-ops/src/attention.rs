//! Attention over windows of keys: every token sees exactly the W tokens before it, itself not among them.

mod reference;

use std::sync::LazyLock;

use tch::{Device, Kind, Tensor};

pub use self::reference::{LogitTerms, reference_attention, safe_softmax};
use crate::{Queries, WindowTables, Windows, probe};

/// Logit of a masked key.
pub(crate) const MASKED: f64 = -1e6;

/// Which keys of a window a query sees.
#[derive(Debug, Clone, Copy)]
pub enum Sight<'a> {
    /// All of them.
    All,
    /// Those that the tables say.
    Band {
        /// Who sees whom.
        tables: &'a WindowTables,
        /// Added to the logits by distance, `[H, R]` ([`WindowTables::bias_by_distance`]).
        bias: Option<&'a Tensor>,
    },
}

/// How attention is computed. All ways give the same numbers, to rounding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// In one piece, on the CPU: [`brt_native::attention`].
    Fused,
    /// By libtorch's fused attention, on CUDA.
    ScaledDotProduct,
    /// By one tensor operation after another: [`composed_attention`].
    Composed,
}

/// Fewest queries for which packing keys for the fused way pays.
const MIN_FUSED_QUERIES: i64 = 8;

impl Way {
    /// Returns the fastest way that there is for these queries, or the one that the environment asks for.
    fn of(queries: &Queries, multiplier: Option<&Tensor>) -> Self {
        let queries = &queries.heads;
        let num_queries = queries.size().iter().rev().nth(1).copied().unwrap_or_default();
        let can_fuse = brt_native::has_attention(queries);
        match Self::asked_for() {
            // Who looks inside wants to see the weights.
            _ if probe::is_observed() => Self::Composed,
            Some(Self::Composed) => Self::Composed,
            Some(Self::Fused) if can_fuse => Self::Fused,
            _ if can_fuse && num_queries >= MIN_FUSED_QUERIES => Self::Fused,
            _ if queries.device().is_cuda() && multiplier.is_none() => Self::ScaledDotProduct,
            _ => Self::Composed,
        }
    }

    /// Returns what the variable `BRT_ATTENTION` says, `fused` or `composed`: to compare them.
    fn asked_for() -> Option<Self> {
        static ASKED_FOR: LazyLock<Option<Way>> =
            LazyLock::new(|| match std::env::var("BRT_ATTENTION").as_deref() {
                Ok("fused") => Some(Way::Fused),
                Ok("composed") => Some(Way::Composed),
                Ok(other) => panic!("BRT_ATTENTION: expected fused or composed, got {other}"),
                Err(_) => None,
            });
        *ASKED_FOR
    }
}

/// Returns `softmax(temperature · queries · keysᵀ + bias) ⊙ multiplier · values`, zeros for a query that sees no key.
///
/// The hot path: the temperature is already in the bias ([`crate::Projection::scale_bias`]). Equals
/// [`reference_attention`] wherever every query sees a key with a logit above −900.
///
/// # Shapes
/// `queries` and the result: `[n, B, H, q, D]`, or `[B, H, q, D]` for one block; `windows` likewise, or of one block that
/// all see, `[1, B, H, len, D]`; `multiplier`: `[H, q, keys]`.
pub fn attention(queries: &Queries, windows: &Windows, sight: Sight, multiplier: Option<&Tensor>) -> Tensor {
    match Way::of(queries, multiplier) {
        Way::Fused => fused_attention(queries, windows, sight, multiplier),
        Way::ScaledDotProduct => scaled_dot_product_attention(queries, windows, sight),
        Way::Composed => {
            let (queries, windows) = (queries.scaled(), windows.joined());
            let (bias, finish) = sight.mask_bias();
            finish(composed_attention(&queries, &windows.keys, &windows.values, bias.as_ref(), multiplier))
        }
    }
}

impl<'a> Sight<'a> {
    /// Returns the bias with a very low logit where a query must not look, and what clears what blind queries read.
    fn mask_bias(self) -> (Option<Tensor>, impl Fn(Tensor) -> Tensor + 'a) {
        let tables = match self {
            Self::All => None,
            Self::Band { tables, .. } => Some(tables),
        };
        let bias = match self {
            Self::All => None,
            Self::Band { tables, bias } => Some(tables.mask_bias(bias.map(|b| tables.spread(b)).as_ref())),
        };
        (bias, move |read| tables.map_or_else(|| read.shallow_clone(), |tables| tables.clear_blind(&read)))
    }
}

fn fused_attention(
    queries: &Queries,
    windows: &Windows,
    sight: Sight,
    multiplier: Option<&Tensor>,
) -> Tensor {
    let one_block = queries.heads.dim() == 4;
    let blocks = |x: &Tensor| if x.dim() == 4 { x.unsqueeze(0) } else { x.shallow_clone() };
    let (heads, keys, values) = (blocks(&queries.heads), blocks(&windows.keys), blocks(&windows.values));
    let bias = match sight {
        Sight::All => None,
        Sight::Band { tables, bias } => bias.map(|bias| tables.seen_distances(bias)),
    };
    let window = match sight {
        Sight::All => None,
        Sight::Band { tables, .. } => {
            let (len, offset) = tables.seen();
            Some(brt_native::Window { len, offset, bias: bias.as_ref() })
        }
    };
    let read = brt_native::attention(&brt_native::Attention {
        queries: &heads,
        temperature: queries.temperature.as_ref(),
        keys: &keys,
        values: &values,
        before: windows.before.as_ref().map(|before| [&before.keys, &before.values]),
        is_before_detached: windows.before.as_ref().is_some_and(|before| before.is_detached),
        window,
        multiplier,
    });
    if one_block { read.squeeze_dim(0) } else { read }
}

/// By libtorch's fused attention, whose bias must be of the queries' kind.
fn scaled_dot_product_attention(queries: &Queries, windows: &Windows, sight: Sight) -> Tensor {
    let (queries, windows) = (queries.scaled(), windows.joined());
    let (bias, finish) = sight.mask_bias();
    let bias = bias.map(|bias| bias.to_kind(queries.kind()));
    // Four axes: blocks and rows are one.
    let size = queries.size();
    let leading = &size[..size.len() - 3];
    let flat = |x: &Tensor| {
        let mut size: Vec<i64> = leading.to_vec();
        size.extend(&x.size()[x.dim() - 3..]);
        x.to_kind(queries.kind()).expand(&size, false).flatten(0, leading.len() as i64 - 1)
    };
    let (q, k, v) = (flat(&queries), flat(&windows.keys), flat(&windows.values));
    let read = Tensor::scaled_dot_product_attention(&q, &k, &v, bias, 0., false, 1., false);
    finish(read.view(size.as_slice()))
}

/// Returns `softmax(queries · keysᵀ + bias) ⊙ multiplier · values` by one tensor operation after another.
///
/// The mask is already in the bias ([`crate::WindowTables::mask_bias`]).
///
/// # Shapes
/// `queries` and the result: `[.., H, q, D]`; `keys`, `values`: `[.., H, k, D]`; `bias`, `multiplier`: `[H, q, k]` or
/// `[q, k]`.
pub fn composed_attention(
    queries: &Tensor,
    keys: &Tensor,
    values: &Tensor,
    bias: Option<&Tensor>,
    multiplier: Option<&Tensor>,
) -> Tensor {
    let logits = queries.matmul(&keys.transpose(-2, -1)); // [.., H, q, k]
    let logits = match bias {
        Some(bias) => logits + bias,
        None => logits,
    };
    // In mixed precision the products are bfloat16, the softmax is not.
    let kind = if logits.kind() == Kind::BFloat16 { Kind::Float } else { logits.kind() };
    let mut weights = logits.softmax(-1, kind);
    probe::record(|| vec![("entropy", entropy(&weights))]);
    if let Some(multiplier) = multiplier {
        weights = weights * multiplier;
    }
    weights.matmul(values)
}

/// Returns the mean entropy of rows of weights, in nats.
fn entropy(weights: &Tensor) -> f64 {
    let terms = weights * weights.clamp_min(1e-30).log();
    -terms.sum_dim_intlist(-1, false, Kind::Float).mean(Kind::Float).double_value(&[])
}

/// Returns true where a query may attend: to exactly the `window_len` keys before it, never to itself. Key j lies
/// `i + offset − j` tokens behind query i.
///
/// # Shapes
/// Result (bool): `[queries, keys]`.
///
/// ```
/// // Two queries after two more keys.
/// let mask = brt_ops::causal_mask([2, 4, 2], 2, tch::Device::Cpu);
/// let rows: Vec<Vec<bool>> = mask.try_into().expect("two rows");
/// assert_eq!(rows, [[true, true, false, false], [false, true, true, false]]);
/// ```
pub fn causal_mask([num_queries, num_keys, offset]: [i64; 3], window_len: i64, device: Device) -> Tensor {
    let options = (Kind::Int64, device);
    let query = Tensor::arange(num_queries, options).unsqueeze(1) + offset;
    let distance = query - Tensor::arange(num_keys, options).unsqueeze(0); // [q, k], positive in the past
    distance.greater(0).logical_and(&distance.less_equal(window_len))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Carry, PositionConfig, WindowShape};

    /// All ways give the same, with and without a band, of one block and several, of shared keys.
    #[test]
    fn all_ways_give_the_same() {
        tch::manual_seed(1);
        let draw = |size: &[i64]| Tensor::randn(size, (Kind::Float, Device::Cpu));
        let tables = WindowTables::new(WindowShape::block(9), &PositionConfig::PAPER, 8, Device::Cpu);
        let bias = draw(&[3, 26]); // 9 + 18 − 1 distances
        let band = Sight::Band { tables: &tables, bias: Some(&bias) };
        let heads = |n: i64, len: i64| draw(&[n, 2, 3, len, 8]);
        let cache = draw(&[2, 3, 9, 8]);
        let windows = Windows::new([&heads(4, 9), &heads(4, 9)], [&cache, &cache], Carry::Differentiable);
        let one_block = windows.blocks().remove(2);
        for (queries, windows, sight) in [
            (heads(4, 9), &windows, band),
            (heads(1, 9).squeeze_dim(0), &one_block, band),
            (heads(4, 5), &Windows::alone(heads(1, 7), heads(1, 7)), Sight::All),
        ] {
            let queries = Queries { heads: queries / 3., temperature: Some(draw(&[3])) };
            let joined = windows.joined();
            let (bias, finish) = sight.mask_bias();
            let composed =
                composed_attention(&queries.scaled(), &joined.keys, &joined.values, bias.as_ref(), None);
            let composed = finish(composed);
            let fused = fused_attention(&queries, windows, sight, None);
            let scaled = scaled_dot_product_attention(&queries, windows, sight);
            for read in [fused, scaled] {
                assert!((read - &composed).abs().max().double_value(&[]) < 1e-5);
            }
        }
    }
}
