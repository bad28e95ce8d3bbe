//! What tch lacks of libtorch, as a small safe API.
//!
//! The only crate of the workspace with C++, and but for the options of the allocator in `brt` and the memory maps of
//! `brt-data` the only one with `unsafe`. It holds what the other crates use today and grows with them:
//!
//! * [`attention`]: windowed and unmasked attention that stores no logits, in Rust,
//! * [`attach`]: a node of the autograd graph whose backward pass is Rust,
//! * [`rms_norm`], [`add_rms_norm`]: one pass over memory instead of a chain of tensor operations,
//! * [`cross_entropy`]: of rows of logits, its gradient written over them,
//! * [`split_heads`]: keys, values and queries of heads from one product,
//! * [`linear`], [`product`]: products in float32, by the faster of two libraries,
//! * [`few_rows_product`], [`row_attention`]: what single tokens need, in float32 also of weights in bfloat16,
//! * [`adamw`]: one operation over all parameters; [`mean_squares`], [`matrix_rms`], [`update_matrix`]: those of Adafactor,
//! * [`in_bfloat16`]: matrix products in bfloat16,
//! * [`segments`]: keeps the inputs of a segment, and computes it again in the backward pass,
//! * [`drop_gradients`]: forgets gradients without writing zeros,
//! * [`Rendezvous`], [`ProcessGroup`], [`GradientReducer`]: processes that train together, by libtorch's c10d,
//! * [`load_cuda`], [`loaded_library`]: one binary for CPU and CUDA,
//! * [`build_info`], [`torch_version`], [`cpu_capability`]: what `brt doctor` prints.
#![deny(missing_docs)]

mod adafactor;
mod attention;
mod cross_entropy;
mod cuda;
mod distributed;
mod few;
mod ffi;
mod function;
mod heads;
mod info;
mod memory;
mod norm;
mod product;
mod simd;
mod threads;
mod training;

use std::ffi::CStr;

use tch::Tensor;
use torch_sys::C_tensor;

pub use adafactor::{MatrixStep, is_matrix, matrix_rms, mean_squares, update_matrix};
pub use attention::{Attention, Window, attention, has_attention};
pub use cross_entropy::cross_entropy;
pub use cuda::{load_cuda, loaded_library};
pub use distributed::{GradientReducer, GroupError, ProcessGroup, Rendezvous};
pub use few::{
    MAX_FEW_ROWS, RowKeys, few_rows_product, is_product_of_few_rows, prefer_few_rows, row_attention,
};
pub use function::{attach, backward};
pub use heads::{HeadNorm, split_heads};
pub use info::{
    available_bytes, build_info, cpu_capability, cpu_secs, num_physical_cores, peak_device_bytes,
    peak_resident_bytes, resident_bytes, torch_version,
};
pub use norm::{add_rms_norm, product_kind, rms_norm};
pub use product::{ProductLibrary, linear, product};
pub use training::{
    AdamWStep, Pass, Segments, adamw, generator_state, in_bfloat16, segments, set_generator_state,
};

/// Drops the gradients of all `parameters`; the next backward pass then writes new ones instead of adding.
pub fn drop_gradients<'a>(parameters: impl IntoIterator<Item = &'a Tensor>) {
    let mut pointers: Vec<_> = parameters.into_iter().map(raw).collect();
    // SAFETY: the pointers are live tensors for the whole call.
    unsafe { check(ffi::brt_drop_gradients(pointers.as_mut_ptr(), pointers.len())) }
}

fn raw(tensor: &Tensor) -> *mut C_tensor {
    tensor.as_ptr().cast_mut().cast()
}

/// Returns libtorch's message of this thread's last failing call.
fn last_error() -> String {
    // SAFETY: the message lives until this thread's next failing call.
    unsafe { CStr::from_ptr(ffi::brt_last_error()) }.to_string_lossy().into_owned()
}

/// Panics with libtorch's message where a call failed: a broken contract, since input is checked before.
#[track_caller]
fn check(status: std::ffi::c_int) {
    if status != 0 {
        panic!("{}", last_error());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Device, Kind};

    /// Tests that draw random numbers take turns: libtorch has one generator.
    pub(crate) fn take_turn() -> std::sync::MutexGuard<'static, ()> {
        static DRAWING: std::sync::Mutex<()> = std::sync::Mutex::new(());
        DRAWING.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Does something with a number of threads, and sets the number of before again, also when it panics.
    pub(crate) fn with_threads<T>(num_threads: i32, work: impl FnOnce() -> T) -> T {
        struct Before(i32);
        impl Drop for Before {
            fn drop(&mut self) {
                tch::set_num_threads(self.0);
            }
        }
        let _before = Before(tch::get_num_threads());
        tch::set_num_threads(num_threads);
        work()
    }

    /// A segment that is computed again has the same outputs and gradients, those of parameters that it reads too; what is
    /// inside it is computed once in each pass.
    #[test]
    fn a_segment_computed_again_has_the_same_gradients() {
        let _turn = take_turn();
        let options = (Kind::Float, Device::Cpu);
        let draw = |seed, shape: &[i64]| {
            tch::manual_seed(seed);
            Tensor::randn(shape, options).set_requires_grad(true)
        };
        let (x, y, w) = (draw(1, &[3, 5]), draw(2, &[3, 5]), draw(3, &[5, 5]));
        let loss = |outputs: &[Tensor]| (&outputs[0] * 2. + outputs[1].square()).sum(Kind::Float);
        let segment = |inputs: &[Tensor], w: &Tensor| {
            let a = inputs[0].matmul(w).tanh();
            vec![&a * &inputs[1], a.relu()]
        };
        let gradients = || [&x, &y, &w].map(|t| t.grad().copy());
        let direct = segment(&[x.shallow_clone(), y.shallow_clone()], &w);
        loss(&direct).backward();
        let expected = gradients();
        drop_gradients([&x, &y, &w]);

        let passes = std::cell::RefCell::new(vec![]);
        let left_over = segments(|segments| {
            let again = segments.recompute(&[&x, &y], 2, |inputs, pass| {
                passes.borrow_mut().push(pass);
                segment(inputs, &w)
            });
            assert_eq!(again, direct);
            // Nobody else may walk it: the segment could be computed on two threads at once.
            assert!(loss(&again).f_backward().is_err());
            drop_gradients([&x, &y, &w]);
            passes.borrow_mut().clear();
            let again = segments.recompute(&[&x, &y], 2, |inputs, pass| {
                passes.borrow_mut().push(pass);
                segment(inputs, &w)
            });
            segments.backward(&loss(&again));
            assert_eq!(gradients(), expected);
            assert_eq!(*passes.borrow(), [Pass::First, Pass::Again]);
            segments.recompute(&[&x, &y], 2, |inputs, _| segment(inputs, &w))
        });
        // What is left of a graph when its scope has ended is an error, not a use of what is gone.
        let error = loss(&left_over).f_backward().unwrap_err().to_string();
        assert!(error.contains("is computed again"), "{error}");
    }

    #[test]
    #[should_panic(expected = "a segment that is computed again: expected its outputs, got a panic")]
    fn a_panic_in_a_segment_is_one_in_the_caller() {
        let x = Tensor::ones([2], (Kind::Float, Device::Cpu)).set_requires_grad(true);
        segments(|segments| segments.recompute(&[&x], 1, |_, _| panic!("inside")));
    }

    #[test]
    fn random_numbers_go_on_from_a_saved_state() {
        let _turn = take_turn();
        let x = Tensor::zeros([1], (Kind::Float, Device::Cpu));
        let state = generator_state(&x);
        let first = Tensor::rand([4], (Kind::Float, Device::Cpu));
        set_generator_state(&x, &state);
        assert_eq!(Tensor::rand([4], (Kind::Float, Device::Cpu)), first);
    }

    /// Matrix products are bfloat16 inside, their gradients reach float32 weights, and it ends with a panic, too.
    #[test]
    fn matrix_products_are_bfloat16_inside() {
        let w = Tensor::ones([2, 2], (Kind::Float, Device::Cpu)).set_requires_grad(true);
        let y = in_bfloat16(&w, || w.matmul(&w) + &w);
        assert_eq!(y.kind(), Kind::Float); // bfloat16 and float32 join as float32.
        y.sum(Kind::Float).backward();
        assert_eq!(w.grad().kind(), Kind::Float);
        let panicked =
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| in_bfloat16(&w, || panic!("inside"))));
        assert!(panicked.is_err());
        assert_eq!(w.matmul(&w).kind(), Kind::Float);
    }

    /// A weight that a segment has used has its gradient from uses outside, too, in mixed precision.
    #[test]
    fn weights_inside_and_outside_of_a_segment_have_both_gradients() {
        let options = (Kind::Float, Device::Cpu);
        let w = Tensor::ones([2, 2], options).set_requires_grad(true);
        let x = Tensor::ones([2, 2], options).set_requires_grad(true);
        let gradient = |recomputed: bool| {
            drop_gradients([&w, &x]);
            segments(|segments| {
                let y = in_bfloat16(&w, || {
                    let inner = match recomputed {
                        true => {
                            segments.recompute(&[&x], 1, |inputs, _| vec![inputs[0].matmul(&w)]).remove(0)
                        }
                        false => x.matmul(&w),
                    };
                    inner.matmul(&w)
                });
                segments.backward(&y.sum(Kind::Float));
            });
            w.grad().copy()
        };
        assert_eq!(gradient(true), gradient(false));
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
