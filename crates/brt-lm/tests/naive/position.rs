//! Position information after its formulas, from the two positions and not from their distance.

use std::f64::consts::PI;

use brt_lm::PositionConfig;
use brt_ops::position::AlibiBound;

use super::{NaiveModel, Vector, dot};

/// Distances at which T5's buckets 17 to 31 begin.
const BUCKET_STARTS: [f64; 15] = [19., 21., 24., 27., 31., 35., 40., 46., 52., 59., 67., 77., 87., 99., 113.];

fn angle(position: f64, pair: usize, num_pairs: usize, max_half_wavelength: f64) -> f64 {
    PI * position / max_half_wavelength.powf(pair as f64 / num_pairs as f64)
}

pub(super) fn encoding(position: f64, dim: usize, max_half_wavelength: f64) -> Vector {
    let angle = |pair| angle(position, pair, dim / 2, max_half_wavelength);
    let cos = (0..dim / 2).map(|pair| angle(pair).cos());
    cos.chain((0..dim / 2).map(|pair| angle(pair).sin())).collect()
}

pub(super) fn rotate(x: &[f64], position: f64, max_half_wavelength: f64) -> Vector {
    let half = x.len() / 2;
    let (mut first, mut second) = (vec![], vec![]);
    for pair in 0..half {
        let (sin, cos) = angle(position, pair, half, max_half_wavelength).sin_cos();
        first.push(x[pair] * cos - x[half + pair] * sin);
        second.push(x[pair] * sin + x[half + pair] * cos);
    }
    first.extend(second);
    first
}

impl NaiveModel {
    /// The bias of a head for a query and a key at two positions, the key before the query.
    pub(super) fn position_bias(&self, idx: usize, head: usize, query: f64, key: f64) -> f64 {
        let parameter = |name: &str| self.get(&format!("layers.{idx}.position_bias.{name}"));
        let distance = query - key;
        match self.config.position {
            PositionConfig::None {} | PositionConfig::Rotary { .. } | PositionConfig::Absolute { .. } => 0.,
            PositionConfig::T5 { .. } => parameter("weight")[head][bucket(distance)],
            PositionConfig::Fourier { vector_len } => {
                let (num_pairs, wavelength) = (vector_len as usize / 2, 2. * self.config.window_len as f64);
                let weight = &parameter("weight")[head];
                let term = |pair: usize| {
                    let (a, b) = (weight[pair], weight[num_pairs + pair]);
                    let (sq, cq) = angle(query, pair, num_pairs, wavelength).sin_cos();
                    let (sk, ck) = angle(key, pair, num_pairs, wavelength).sin_cos();
                    (a * cq - b * sq) * ck + (b * cq + a * sq) * sk
                };
                (0..num_pairs).map(term).sum()
            }
            PositionConfig::Alibi { bound } => {
                let slope = 2f64.powf(-8. * (head + 1) as f64 / self.config.num_heads as f64);
                let bound = match bound {
                    AlibiBound::Fixed(bound) => bound,
                    AlibiBound::Shared => parameter("bound")[0][0].abs(),
                    AlibiBound::PerHead => parameter("bound")[0][head].abs(),
                };
                (-parameter("scale")[0][0].abs() * slope * distance).max(-bound)
            }
            PositionConfig::Neural { .. } => {
                let (weight, bias) = (&parameter("hidden_weight")[0], &parameter("hidden_bias")[0]);
                let hidden = weight.iter().zip(bias).map(|(w, b)| (w * -distance + b).asinh());
                let out = parameter("out_weight")[head].iter().map(|v| 3. * (v / 3.).sin());
                hidden.zip(out).map(|(h, o)| h * o).sum()
            }
            PositionConfig::Orthogonal { .. } => {
                let basis = &self.basis[distance as usize];
                basis.iter().enumerate().map(|(i, value)| value * parameter("weight")[i][head]).sum()
            }
        }
    }
}

fn bucket(distance: f64) -> usize {
    if distance < 16. {
        return distance as usize;
    }
    16 + BUCKET_STARTS.iter().filter(|start| distance >= **start).count()
}

/// Shifted inverse hyperbolic sines at a distance, each less its part along those before it on the grid 0, 1/4 .. 1024.
pub(super) fn gram_schmidt(num_functions: usize, last_shift: f64, distance: f64) -> Vector {
    let base = (last_shift + 1.).powf(1. / (num_functions as f64 - 1.));
    let function = |i: usize, d: f64| (d - (base.powi(i as i32) - 1.)).asinh();
    let mut grid: Vec<Vector> = vec![];
    let mut values = vec![];
    for i in 0..num_functions {
        let on_grid: Vector = (0..4096).map(|point| function(i, point as f64 / 4.)).collect();
        let (mut rest, mut value) = (on_grid.clone(), function(i, distance));
        for (before, at) in grid.iter().zip(&values) {
            let part = dot(&on_grid, before) / dot(before, before);
            rest.iter_mut().zip(before).for_each(|(r, b)| *r -= part * b);
            value -= part * at;
        }
        grid.push(rest);
        values.push(value);
    }
    values
}
