//! What depends on lengths alone, built once and shared by all layers: who sees whom, and features of distances.

use tch::{Device, Kind, Tensor};

use super::{Buckets, PositionBias, PositionConfig, position_encoding, rotary::Rotary};
use crate::attention::{MASKED, causal_mask};

/// How many queries meet how many keys, and where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WindowShape {
    /// Number of queries.
    pub num_queries: i64,
    /// Number of keys.
    pub num_keys: i64,
    /// Distance from the first query back to the first key: key j lies `i + offset − j` tokens behind query i.
    pub offset: i64,
    /// How many tokens back a query sees, W.
    pub window_len: i64,
}

impl WindowShape {
    /// A block of W queries with its own keys and those of the block before it.
    pub fn block(window_len: i64) -> Self {
        Self { num_queries: window_len, num_keys: 2 * window_len, offset: window_len, window_len }
    }

    /// A block of W queries that sees nothing before the block.
    pub fn alone(window_len: i64) -> Self {
        Self { num_queries: window_len, num_keys: window_len, offset: 0, window_len }
    }

    /// One query and the `num_keys` keys right before it.
    pub fn token(window_len: i64, num_keys: i64) -> Self {
        Self { num_queries: 1, num_keys, offset: num_keys, window_len }
    }

    /// Returns all distances that occur, the largest first.
    fn distances(self) -> Vec<i64> {
        let largest = self.num_queries - 1 + self.offset;
        (0..self.num_queries + self.num_keys - 1).map(|r| largest - r).collect()
    }

    /// Returns where the distance of each query and key stands among [`Self::distances`], row by row.
    fn distance_index(self, device: Device) -> Tensor {
        let options = (Kind::Int64, device);
        let query = Tensor::arange(self.num_queries, options).unsqueeze(1);
        let key = Tensor::arange(self.num_keys, options).unsqueeze(0);
        (key - query + (self.num_queries - 1)).view(-1)
    }
}

/// Tables of one [`WindowShape`].
#[derive(Debug)]
pub struct WindowTables {
    shape: WindowShape,
    mask: Tensor,             // [queries, keys], bool
    sees_any: Option<Tensor>, // [queries, 1], 0 or 1; present where a query sees no key
    distances: Option<Distances>,
    rotary: Option<Rotary>,
}

/// What a bias needs: each distance once, and where it stands.
#[derive(Debug)]
struct Distances {
    features: Tensor, // [R, ..] of the R distances, by kind of bias
    index: Tensor,    // [queries * keys], int64, into the distances
}

impl WindowTables {
    /// Returns the tables of a shape for heads of width `head_dim`.
    pub fn new(shape: WindowShape, position: &PositionConfig, head_dim: i64, device: Device) -> Self {
        let WindowShape { num_queries, num_keys, offset, window_len } = shape;
        let mask = causal_mask([num_queries, num_keys, offset], window_len, device);
        let sees_any = mask.any_dim(1, true);
        let all_see = sees_any.all().int64_value(&[]) != 0;
        let rotary = match *position {
            PositionConfig::Rotary { max_half_wavelength } => {
                Some(Rotary::new([num_queries, num_keys, offset], head_dim, max_half_wavelength, device))
            }
            _ => None,
        };
        Self {
            shape,
            mask,
            sees_any: (!all_see).then(|| sees_any.to_kind(Kind::Float)),
            distances: features(position, &shape.distances(), window_len)
                .map(|f| Distances { features: f.to_device(device), index: shape.distance_index(device) }),
            rotary,
        }
    }

    /// Returns the numbers of queries and keys.
    pub fn shape(&self) -> [i64; 2] {
        [self.shape.num_queries, self.shape.num_keys]
    }

    /// Returns who sees whom (bool), `[queries, keys]`.
    pub fn mask(&self) -> &Tensor {
        &self.mask
    }

    /// Returns a bias for every distance that occurs, the largest first.
    ///
    /// # Shapes
    /// Result: `[H, R]` with `R = queries + keys − 1`.
    pub fn bias_by_distance(&self, bias: &PositionBias) -> Tensor {
        let Distances { features, .. } = self.distances.as_ref().expect("tables of the kind of the bias");
        bias.at(features)
    }

    /// Returns a bias for every query and key.
    ///
    /// # Shapes
    /// Result: `[H, queries, keys]`.
    pub fn bias(&self, bias: &PositionBias) -> Tensor {
        self.spread(&self.bias_by_distance(bias))
    }

    /// Spreads a bias by distance over queries and keys: `[H, R]` → `[H, queries, keys]`.
    pub(crate) fn spread(&self, by_distance: &Tensor) -> Tensor {
        let Distances { index, .. } = self.distances.as_ref().expect("tables of the kind of the bias");
        by_distance.index_select(1, index).unflatten(1, self.shape())
    }

    /// Returns how far back a query sees, as far as there are keys at all, and the distance from the first query back to
    /// the first key.
    pub(crate) fn seen(&self) -> (i64, i64) {
        let WindowShape { num_queries, offset, window_len, .. } = self.shape;
        (window_len.min(num_queries - 1 + offset), offset)
    }

    /// Returns of a bias by distance what queries see: `[H, R]` → `[H, W]`.
    pub(crate) fn seen_distances(&self, by_distance: &Tensor) -> Tensor {
        let (len, offset) = self.seen();
        by_distance.narrow(1, self.shape.num_queries - 1 + offset - len, len)
    }

    /// Returns `bias` with a very low logit where a query must not look; zeros elsewhere where there is no bias.
    ///
    /// # Shapes
    /// `bias`: `[H, queries, keys]`; result: the same, or `[queries, keys]` without a bias.
    pub fn mask_bias(&self, bias: Option<&Tensor>) -> Tensor {
        match bias {
            Some(bias) => bias.where_scalarother(&self.mask, MASKED),
            None => self.mask.logical_not().to_kind(Kind::Float) * MASKED,
        }
    }

    /// Returns what queries read, zeros for those that see no key.
    ///
    /// # Shapes
    /// `attended` and the result: `[.., queries, D]`.
    pub fn clear_blind(&self, attended: &Tensor) -> Tensor {
        match &self.sees_any {
            Some(sees_any) => attended * sees_any,
            None => attended.shallow_clone(),
        }
    }

    /// Returns the cosines and sines by which keys are rotated, `[keys, D / 2]`; `None` where positions are of another kind.
    pub fn key_rotation(&self) -> Option<&[Tensor; 2]> {
        self.rotary.as_ref().map(Rotary::of_keys)
    }

    /// Returns queries and keys rotated by their positions.
    ///
    /// # Shapes
    /// `queries`: `[.., queries, D]`; `keys`: `[.., keys, D]`.
    pub fn rotate(&self, queries: &Tensor, keys: &Tensor) -> (Tensor, Tensor) {
        let rotary = self.rotary.as_ref().expect("tables of rotary positions");
        (rotary.queries(queries), rotary.keys(keys))
    }
}

/// Returns what a kind of bias needs to know of each distance; `None` for kinds without bias.
fn features(position: &PositionConfig, distances: &[i64], window_len: i64) -> Option<Tensor> {
    let relative = || Tensor::from_slice(distances).to_kind(Kind::Float) * -1.; // keys behind are negative
    match *position {
        PositionConfig::None {} | PositionConfig::Rotary { .. } | PositionConfig::Absolute { .. } => None,
        PositionConfig::T5 { num_buckets, max_distance } => {
            let buckets = Buckets { num_buckets, max_distance };
            let of_distances: Vec<i64> = distances.iter().map(|&d| buckets.causal(d)).collect();
            Some(Tensor::from_slice(&of_distances))
        }
        PositionConfig::Fourier { vector_len } => {
            Some(position_encoding(&relative(), vector_len, 2. * window_len as f64))
        }
        PositionConfig::Alibi { .. } => Some(relative().abs()),
        PositionConfig::Neural { .. } => Some(relative()),
        PositionConfig::Orthogonal { num_functions, last_shift } => {
            Some(orthogonal_basis(distances, num_functions, last_shift))
        }
    }
}

/// Returns functions `asinh(|d| − shift)` with shifts from 0 to `last_shift` that grow like powers, made orthogonal on
/// the distances from 0 to 1024: `[distances, functions]`.
fn orthogonal_basis(distances: &[i64], num_functions: i64, last_shift: f64) -> Tensor {
    let options = (Kind::Double, Device::Cpu);
    let base = (last_shift + 1.).powf(1. / (num_functions - 1) as f64);
    let exponents = Tensor::arange(num_functions, options);
    let shifts = Tensor::from(base).pow(&exponents) - 1.; // [functions]
    let functions = |d: &Tensor| (d.unsqueeze(1) - &shifts).asinh();
    let grid = Tensor::arange(4096, options) / 4.;
    let (_, r) = Tensor::linalg_qr(&functions(&grid), "r");
    let r = &r / r.diagonal(0, 0, 1).unsqueeze(1); // Ones on the diagonal, so that its inverse is mild.
    let distances = Tensor::from_slice(distances).abs().to_kind(Kind::Double);
    functions(&distances).matmul(&r.inverse()).to_kind(Kind::Float)
}
