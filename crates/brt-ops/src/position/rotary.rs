//! Rotations of queries and keys, and encodings of positions by cosines and sines.

use std::f64::consts::PI;

use tch::{Device, Kind, Tensor};

/// Returns the angles `π · position / max_half_wavelength^(m / num_pairs)`.
///
/// Float32 throughout and in the official code's order, so that long positions get the same rounding.
///
/// # Shapes
/// `positions` (float): `[len]`; result: `[len, num_pairs]`.
fn angles(positions: &Tensor, num_pairs: i64, max_half_wavelength: f64) -> Tensor {
    let exponents = Tensor::arange(num_pairs, (Kind::Float, positions.device())) / num_pairs as f64;
    let wavelengths = Tensor::from(max_half_wavelength as f32).to_device(positions.device()).pow(&exponents);
    (positions * PI).unsqueeze(1) / wavelengths
}

/// Returns `[cos ; sin]` of the positions' angles.
///
/// # Shapes
/// `positions` (float): `[len]`; result: `[len, dim]`.
pub fn position_encoding(positions: &Tensor, dim: i64, max_half_wavelength: f64) -> Tensor {
    let angles = angles(positions, dim / 2, max_half_wavelength);
    Tensor::cat(&[angles.cos(), angles.sin()], 1)
}

/// Returns the encodings of `len` positions from `start` on, which absolute positions add to the embeddings.
///
/// # Shapes
/// Result: `[len, dim]`.
pub fn absolute_encoding(start: i64, len: i64, dim: i64, max_half_wavelength: f64, device: Device) -> Tensor {
    let positions = Tensor::arange_start(start, start + len, (Kind::Float, device));
    position_encoding(&positions, dim, max_half_wavelength)
}

/// Rotations of the queries and keys of a window.
#[derive(Debug)]
pub(super) struct Rotary {
    queries: [Tensor; 2], // cosines and sines, [queries, D / 2]
    keys: [Tensor; 2],    // [keys, D / 2]
}

impl Rotary {
    /// Returns the rotations of queries from position 0 on, and of keys that start `offset` positions earlier.
    pub(super) fn new(
        [num_queries, num_keys, offset]: [i64; 3],
        head_dim: i64,
        max_half_wavelength: f64,
        device: Device,
    ) -> Self {
        let table = |start: i64, len: i64| {
            let positions = Tensor::arange_start(start, start + len, (Kind::Float, device));
            let angles = angles(&positions, head_dim / 2, max_half_wavelength);
            [angles.cos(), angles.sin()]
        };
        Self { queries: table(0, num_queries), keys: table(-offset, num_keys) }
    }

    pub(super) fn queries(&self, queries: &Tensor) -> Tensor {
        rotate(queries, &self.queries)
    }

    pub(super) fn keys(&self, keys: &Tensor) -> Tensor {
        rotate(keys, &self.keys)
    }

    pub(super) fn of_keys(&self) -> &[Tensor; 2] {
        &self.keys
    }
}

/// Rotates pairs of components: those of the first half with those of the second.
///
/// # Shapes
/// `x` and the result: `[.., len, D]`.
pub(crate) fn rotate(x: &Tensor, [cos, sin]: &[Tensor; 2]) -> Tensor {
    let halves = x.chunk(2, -1);
    let [a, b] = [&halves[0], &halves[1]];
    Tensor::cat(&[a * cos - b * sin, a * sin + b * cos], -1)
}
