//! Initial values of parameters, drawn from the run's seed and the parameter's name.
//!
//! A parameter's values depend on its name and shape, not on the order in which a model is built: two models that
//! share a layer start it from the same numbers.

use std::sync::{Mutex, PoisonError};

use sha2::{Digest, Sha256};
use tch::{Device, Kind, Tensor};

/// Standard deviation of a unit normal truncated to [-2, 2].
const TRUNCATED_STD: f64 = 0.879_625_661_034_239_8;

/// How a parameter starts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Init {
    /// All ones: norm gains and temperatures.
    Ones,
    /// All zeros.
    Zeros,
    /// This value in the first half of the last axis, zero in the second.
    FirstHalf {
        /// The value.
        value: f64,
    },
    /// Normal with mean 0 and this standard deviation.
    Normal {
        /// Standard deviation.
        std: f64,
    },
    /// Normal truncated at two standard deviations, with variance `scale / fan_in`: every dense layer.
    VarianceScaling {
        /// Variance times fan-in; 1 for dense layers, 0.1 for gates.
        scale: f64,
        /// Number of input features.
        fan_in: i64,
    },
}

impl Init {
    /// Returns a float32 tensor of `shape` on `device`, drawn for the parameter `name` of a run with `seed`.
    pub(crate) fn draw(self, seed: u64, name: &str, shape: &[i64], device: Device) -> Tensor {
        // Drawn on the CPU, so that every device starts from the same numbers.
        let options = (Kind::Float, Device::Cpu);
        let values = seeded(seed, name, || match self {
            Self::Ones => Tensor::ones(shape, options),
            Self::Zeros => Tensor::zeros(shape, options),
            Self::FirstHalf { value } => {
                let values = Tensor::zeros(shape, options);
                let _ = values.chunk(2, -1)[0].fill_(value);
                values
            }
            Self::Normal { std } => Tensor::randn(shape, options) * std,
            Self::VarianceScaling { scale, fan_in } => {
                truncated_normal(shape) * ((scale / fan_in as f64).sqrt() / TRUNCATED_STD)
            }
        });
        values.to_device(device)
    }
}

/// Returns unit normal values, those beyond ±2 never drawn: by inverting the distribution function.
fn truncated_normal(shape: &[i64]) -> Tensor {
    // P(x < -2) of the unit normal.
    let tail = 0.022_750_131_948_179_21;
    let uniform = Tensor::rand(shape, (Kind::Double, Device::Cpu)) * (1. - 2. * tail) + tail;
    let normal = (uniform * 2. - 1.).erfinv() * std::f64::consts::SQRT_2;
    normal.clamp(-2., 2.).to_kind(Kind::Float)
}

/// Held by the thread that draws.
static GENERATOR: Mutex<()> = Mutex::new(());

/// Runs `draw` with libtorch's generator at the start of one named stream of a run's random numbers.
///
/// libtorch has one generator for the whole process: threads that draw by this function take turns, so what they get
/// depends on seed and name alone.
pub fn seeded<T>(seed: u64, name: &str, draw: impl FnOnce() -> T) -> T {
    let _turn = GENERATOR.lock().unwrap_or_else(PoisonError::into_inner);
    tch::manual_seed(name_seed(seed, name));
    draw()
}

/// Runs `draw` again with the random numbers that it drew before from `state`
/// ([`brt_native::generator_state`]), in turn with other threads.
pub fn replayed<T>(like: &Tensor, state: &Tensor, draw: impl FnOnce() -> T) -> T {
    let _turn = GENERATOR.lock().unwrap_or_else(PoisonError::into_inner);
    brt_native::set_generator_state(like, state);
    draw()
}

/// Returns the seed of one named stream of random numbers within a run.
fn name_seed(seed: u64, name: &str) -> i64 {
    let digest = Sha256::new().chain_update(seed.to_le_bytes()).chain_update(name).finalize();
    i64::from_le_bytes(digest[..8].try_into().expect("a digest has 32 bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draw(init: Init, name: &str) -> Tensor {
        init.draw(1, name, &[400, 300], Device::Cpu)
    }

    #[test]
    fn variance_scaling_has_its_variance_and_its_bound() {
        let x = draw(Init::VarianceScaling { scale: 0.1, fan_in: 400 }, "a");
        let std = (0.1f64 / 400.).sqrt();
        assert!((x.std(true).double_value(&[]) / std - 1.).abs() < 0.01);
        assert!(x.abs().max().double_value(&[]) <= 2. * std / TRUNCATED_STD + 1e-7);
    }

    #[test]
    fn values_depend_on_seed_and_name_alone() {
        let normal = Init::Normal { std: 0.1 };
        let first = draw(normal, "layers.0.gate_bias");
        let _ = seeded(99, "another stream", || Tensor::rand([7], (Kind::Float, Device::Cpu)));
        assert_eq!(first, draw(normal, "layers.0.gate_bias"));
        assert_ne!(first, draw(normal, "layers.1.gate_bias"));
        assert_ne!(first, normal.draw(2, "layers.0.gate_bias", &[400, 300], Device::Cpu));
        assert!((first.std(true).double_value(&[]) - 0.1).abs() < 1e-3);
    }

    #[test]
    fn threads_do_not_disturb_each_other() {
        let normal = Init::Normal { std: 0.1 };
        let alone = draw(normal, "thread 0");
        let threads: Vec<_> =
            (0..8).map(|i| std::thread::spawn(move || (i, draw(normal, &format!("thread {i}"))))).collect();
        for thread in threads {
            let (i, values) = thread.join().unwrap();
            assert_eq!(i == 0, values == alone, "thread {i}");
        }
    }
}
