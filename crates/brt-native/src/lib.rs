//! What tch lacks of libtorch, as a small safe API.
//!
//! The only crate of the workspace with C++, and but for two options of the allocator in `brt` the only one with `unsafe`. It holds what the other crates use today and grows
//! with them:
//!
//! * [`rms_norm`]: one autograd node instead of a chain of tensor operations,
//! * [`drop_gradients`]: forgets gradients without writing zeros,
//! * [`load_cuda`], [`loaded_library`]: one binary for CPU and CUDA,
//! * [`build_info`], [`torch_version`], [`cpu_capability`]: what `brt doctor` prints.
#![deny(missing_docs)]

mod cuda;
mod ffi;
mod info;

use std::ffi::CStr;

use tch::Tensor;
use torch_sys::C_tensor;

pub use cuda::{load_cuda, loaded_library};
pub use info::{build_info, cpu_capability, cpu_secs, peak_resident_bytes, torch_version};

/// Returns `x / sqrt(mean(x²) + eps) * weight`, the mean taken over the last axis.
///
/// On the CPU in float32 this is one autograd node; elsewhere it is composed of tensor operations, with statistics
/// in float32.
///
/// # Shapes
/// `x` and the result: `[.., E]`; `weight`: `[E]`.
///
/// # Panics
/// Where the shapes disagree.
///
/// ```
/// let x = tch::Tensor::from_slice(&[3f32, 4.]);
/// let y = brt_native::rms_norm(&x, &tch::Tensor::ones([2], (tch::Kind::Float, tch::Device::Cpu)), 0.);
/// // mean(x²) = 12.5
/// assert!((y.double_value(&[0]) - 3. / 12.5f64.sqrt()).abs() < 1e-6);
/// ```
#[track_caller]
pub fn rms_norm(x: &Tensor, weight: &Tensor, eps: f64) -> Tensor {
    assert_eq!(x.size().last().copied(), weight.size().first().copied(), "rms_norm: widths of x and weight");
    let mut out = std::ptr::null_mut();
    // SAFETY: both pointers are live tensors for the whole call; `out` receives a new one that we own.
    unsafe {
        check(ffi::brt_rms_norm(raw(x), raw(weight), eps, &mut out));
        Tensor::from_ptr(out)
    }
}

/// Drops the gradients of all `parameters`; the next backward pass then writes new ones instead of adding.
pub fn drop_gradients<'a>(parameters: impl IntoIterator<Item = &'a Tensor>) {
    let mut pointers: Vec<_> = parameters.into_iter().map(raw).collect();
    // SAFETY: the pointers are live tensors for the whole call.
    unsafe { check(ffi::brt_drop_gradients(pointers.as_mut_ptr(), pointers.len())) }
}

fn raw(tensor: &Tensor) -> *mut C_tensor {
    tensor.as_ptr().cast_mut().cast()
}

/// Panics with libtorch's message where a call failed: a broken contract, since input is checked before.
#[track_caller]
fn check(status: std::ffi::c_int) {
    if status != 0 {
        // SAFETY: the message lives until this thread's next failing call.
        let message = unsafe { CStr::from_ptr(ffi::brt_last_error()) };
        panic!("{}", message.to_string_lossy());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Device, Kind};

    fn composed(x: &Tensor, weight: &Tensor, eps: f64) -> Tensor {
        x * (x.square().mean_dim(-1, true, Kind::Double) + eps).rsqrt() * weight
    }

    /// The fused node equals tensor operations in float64, value and gradients, at odd shapes.
    #[test]
    fn rms_norm_equals_its_formula() {
        for shape in [vec![1, 1], vec![3, 7], vec![2, 5, 63], vec![700, 129]] {
            tch::manual_seed(1);
            let options = (Kind::Float, Device::Cpu);
            let x = Tensor::randn(&shape, options).set_requires_grad(true);
            let weight = Tensor::randn([shape[shape.len() - 1]], options).set_requires_grad(true);
            let dy = Tensor::randn(&shape, options);
            let y = rms_norm(&x, &weight, 1e-6);
            let got = Tensor::run_backward(&[(&y * &dy).sum(Kind::Float)], &[&x, &weight], false, false);

            let (x64, weight64) = (x.detach().to_kind(Kind::Double), weight.detach().to_kind(Kind::Double));
            let (x64, weight64) = (x64.set_requires_grad(true), weight64.set_requires_grad(true));
            let y64 = composed(&x64, &weight64, 1e-6);
            let want =
                Tensor::run_backward(&[(&y64 * &dy).sum(Kind::Double)], &[&x64, &weight64], false, false);
            for (got, want) in [(&y, &y64), (&got[0], &want[0]), (&got[1], &want[1])] {
                let error = (got - want).abs().max().double_value(&[]);
                let size = want.abs().max().double_value(&[]);
                assert!(error <= 2e-6 * size.max(1.), "{shape:?}: error {error} of {size}");
            }
        }
    }

    #[test]
    fn dropped_gradients_are_gone() {
        let x = Tensor::ones([2], (Kind::Float, Device::Cpu)).set_requires_grad(true);
        x.sum(Kind::Float).backward();
        assert!(x.grad().defined());
        drop_gradients([&x]);
        assert!(!x.grad().defined());
    }
}
