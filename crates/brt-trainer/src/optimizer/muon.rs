//! Muon: matrices move by their momentum made orthogonal, everything else by AdamW.

use brt_native::product;
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use super::{AdamW, AdamWConfig, Decay, ParameterGroup, gradient};

/// Coefficients of the polynomial whose repetition drives all singular values towards 1.
const COEFFICIENTS: [f64; 3] = [3.4445, -4.7750, 2.0315];
/// Number of its repetitions.
const NUM_ITERATIONS: usize = 5;
/// Root mean square of an update of AdamW, which that of a matrix's update is scaled to: one learning rate serves both.
const ADAMW_RMS: f64 = 0.2;

/// Options of [`Muon`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MuonConfig {
    /// Decay of the momentum of matrices.
    pub momentum: f64,
    /// Decay of AdamW's first moment, for everything else.
    pub beta1: f64,
    /// Decay of AdamW's second moment.
    pub beta2: f64,
    /// Added to the root of AdamW's second moment.
    pub epsilon: f64,
    /// Part of the parameter that every step takes off it, times the learning rate.
    pub weight_decay: f64,
    /// What it is taken off.
    #[serde(default, skip_serializing_if = "Decay::is_default")]
    pub decay: Decay,
}

/// Muon over named parameters.
///
/// # Source
/// Jordan et al. 2024, with Nesterov's momentum, and the scale of updates of Liu et al., *Muon is Scalable for LLM
/// Training*, arXiv 2502.16982, equation 4. Embeddings and other tables, gains, biases and temperatures are AdamW's.
///
/// **Differs:** the iteration runs in float32, not bfloat16, to round less.
#[derive(Debug)]
pub struct Muon {
    config: MuonConfig,
    matrices: Vec<(String, Tensor)>,
    momenta: Vec<Tensor>,
    rest: AdamW,
}

impl Muon {
    /// Returns an optimiser of `parameters`, which share storage with the model, with all moments zero.
    pub fn new(config: MuonConfig, parameters: Vec<(String, Tensor)>) -> Self {
        let MuonConfig { beta1, beta2, epsilon, weight_decay, decay, .. } = config;
        let (matrices, rest): (Vec<_>, Vec<_>) =
            parameters.into_iter().partition(|(name, p)| Self::moves(name, p));
        let momenta =
            matrices.iter().map(|(_, p)| Tensor::zeros(p.size(), (Kind::Float, p.device()))).collect();
        let adamw = AdamWConfig { beta1, beta2, epsilon, weight_decay, decay };
        Self { config, matrices, momenta, rest: AdamW::new(adamw, rest) }
    }

    /// Returns whether a parameter is moved by its orthogonal momentum, and not by AdamW.
    pub(super) fn moves(name: &str, parameter: &Tensor) -> bool {
        parameter.dim() == 2 && ParameterGroup::of(name, parameter) == ParameterGroup::Matrix
    }

    /// Updates every parameter from its gradient. A parameter without gradient is taken as having gradient zero.
    pub fn step(&mut self, learning_rate: f64) {
        let MuonConfig { momentum, weight_decay, .. } = self.config;
        tch::no_grad(|| {
            for ((_, parameter), m) in self.matrices.iter().zip(&mut self.momenta) {
                let g = gradient(parameter);
                let _ = m.lerp_(&g, 1. - momentum); // m ← µ m + (1 − µ) g
                let update = orthogonalised(&g.lerp(m, momentum)); // Nesterov: of µ m + (1 − µ) g
                let mut p = parameter.shallow_clone();
                let _ = p.g_mul_scalar_(1. - learning_rate * weight_decay);
                let _ = p.subtract_(&(update * (learning_rate * scale(parameter))));
            }
        });
        self.rest.step(learning_rate);
    }

    /// Returns the moments with names, for a checkpoint.
    pub fn named(&self) -> Vec<(String, Tensor)> {
        let momenta = self.matrices.iter().zip(&self.momenta);
        let momenta = momenta.map(|((name, _), m)| (format!("{name}.momentum"), m.shallow_clone()));
        let mut named: Vec<_> = momenta.chain(self.rest.named()).collect();
        named.sort_by(|(a, _), (b, _)| a.cmp(b));
        named
    }

    /// Returns the number of updates so far.
    pub fn num_steps(&self) -> u64 {
        self.rest.num_steps()
    }

    /// Sets the number of updates so far, on resuming.
    pub fn set_num_steps(&mut self, num_steps: u64) {
        self.rest.set_num_steps(num_steps);
    }
}

/// Returns the factor that gives an orthogonal matrix of this shape the root mean square of AdamW's updates.
fn scale(matrix: &Tensor) -> f64 {
    let longest = matrix.size().into_iter().max().unwrap_or(1);
    ADAMW_RMS * (longest as f64).sqrt()
}

/// Returns a matrix with the singular vectors of `m` and singular values near 1 (0.7 to 1.2).
fn orthogonalised(m: &Tensor) -> Tensor {
    let is_tall = m.size()[0] > m.size()[1];
    let wide = if is_tall { m.tr() } else { m.shallow_clone() };
    let [a, b, c] = COEFFICIENTS;
    let norm = wide.square().sum(Kind::Float).sqrt().clamp_min(1e-7);
    let mut x = wide / norm;
    for _ in 0..NUM_ITERATIONS {
        let gram = product(&x, &x.tr());
        let polynomial = &gram * b + product(&gram, &gram) * c;
        x = &x * a + product(&polynomial, &x);
    }
    if is_tall { x.tr() } else { x }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Device;

    const CONFIG: MuonConfig = MuonConfig {
        momentum: 0.95,
        beta1: 0.9,
        beta2: 0.95,
        epsilon: 1e-8,
        weight_decay: 0.1,
        decay: Decay::Matrices,
    };

    /// All singular values come near 1, whatever the shape and the scale, and the singular vectors stay.
    #[test]
    fn updates_are_nearly_orthogonal() {
        let shapes = [(1, 1), (5, 3), (3, 5), (63, 64), (128, 32)];
        for ((rows, columns), kind) in
            shapes.into_iter().flat_map(|shape| [(shape, Kind::Double), (shape, Kind::Float)])
        {
            tch::manual_seed(rows * 1000 + columns);
            let m = Tensor::randn([rows, columns], (Kind::Double, Device::Cpu)) * 1e-3;
            let x = orthogonalised(&m.to_kind(kind)).to_kind(Kind::Double);
            let (u, s, v) = m.svd(true, true);
            let rotated = u.tr().matmul(&x).matmul(&v); // Diagonal with the singular values.
            let values = rotated.diagonal(0, 0, 1);
            let off = (&rotated - values.diag_embed(0, 0, 1)).abs().max().double_value(&[]);
            assert!(off < 1e-4, "{rows}x{columns}: {off}");
            let smallest = s.min().double_value(&[]);
            let norm = m.square().sum(Kind::Double).sqrt().double_value(&[]);
            // Five iterations lift what is above a two-hundredth of the norm.
            if smallest / norm > 5e-3 {
                assert!(values.min().double_value(&[]) > 0.6, "{rows}x{columns}: {values}");
            }
            assert!(values.max().double_value(&[]) < 1.3, "{rows}x{columns}: {values}");
        }
    }

    /// Matrices are moved by their orthogonal momentum and decay; vectors and tables are AdamW's and do not.
    #[test]
    fn each_parameter_is_moved_by_its_rule() {
        let parameter =
            |shape: &[i64]| Tensor::ones(shape, (Kind::Float, Device::Cpu)).set_requires_grad(true);
        let [matrix, vector, table] = [parameter(&[2, 2]), parameter(&[3]), parameter(&[4, 2])];
        let named = [("a.weight", &matrix), ("norm.weight", &vector), ("embedding.weight", &table)];
        let mut muon =
            Muon::new(CONFIG, named.iter().map(|(n, p)| (n.to_string(), p.shallow_clone())).collect());
        let names: Vec<_> = muon.named().into_iter().map(|(name, _)| name).collect();
        assert_eq!(
            names,
            [
                "a.weight.momentum",
                "embedding.weight.first_moment",
                "embedding.weight.second_moment",
                "norm.weight.first_moment",
                "norm.weight.second_moment"
            ]
        );
        let direction = Tensor::from_slice(&[0f32, 3., 3., 0.]).view([2, 2]); // 3 times an orthogonal matrix
        ((&matrix * &direction).sum(Kind::Float) + vector.sum(Kind::Float)).backward();
        muon.step(0.5);
        let moved = |p: &Tensor| Vec::<f32>::try_from(p.detach().view(-1)).unwrap();
        let got = moved(&matrix);
        // 1 − 0.5 · 0.1 off the diagonal's decay; the rest by a singular value near 1 times 0.2 √2 · 0.5.
        assert!((got[0] - 0.95).abs() < 1e-6 && (got[3] - 0.95).abs() < 1e-6, "{got:?}");
        let by = f64::from(0.95 - got[1]) / (0.2 * 2f64.sqrt() * 0.5);
        assert!((0.6..1.3).contains(&by), "{by}");
        assert!(moved(&vector).iter().all(|x| (x - 0.5).abs() < 1e-6), "{vector}"); // The first step of Adam.
        assert_eq!(moved(&table), [1.; 8]);
        assert_eq!(muon.num_steps(), 1);
    }
}
