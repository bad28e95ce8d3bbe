//! What single tokens need, where a product of matrices reads each weight for a few rows only: memory decides, not
//! arithmetic. Without gradients.

mod attention;
mod product;
#[cfg(test)]
mod tests;

use std::cell::Cell;

use tch::{Device, Kind, Tensor};

pub use self::attention::{RowKeys, row_attention};
use self::product::columns;
use crate::{
    function::needs_gradient,
    memory::{Slots, slice, with_kinds},
    threads::{self, TASK_VALUES},
};

/// Most rows that are multiplied at once.
pub const MAX_FEW_ROWS: usize = 16;

thread_local! {
    static PREFERS_FEW_ROWS: Cell<bool> = const { Cell::new(false) };
}

/// Runs `work` with products of few rows computed by [`few_rows_product`] on this thread. Elsewhere they are not: they are rounded
/// otherwise, and training must compute the same with and without a graph.
pub fn prefer_few_rows<T>(work: impl FnOnce() -> T) -> T {
    /// Sets what was there before, also when `work` panics.
    struct Restore(bool);
    impl Drop for Restore {
        fn drop(&mut self) {
            PREFERS_FEW_ROWS.set(self.0);
        }
    }
    let _restore = Restore(PREFERS_FEW_ROWS.replace(true));
    work()
}

/// Returns whether a product is to be computed by [`few_rows_product`], which can and pays: inside of [`prefer_few_rows`], of few
/// rows in float32 on the CPU, without gradient.
pub fn is_product_of_few_rows(x: &Tensor, weight: &Tensor) -> bool {
    PREFERS_FEW_ROWS.get() && can_compute(x, weight)
}

fn can_compute(x: &Tensor, weight: &Tensor) -> bool {
    let width = x.size().last().copied().unwrap_or_default().max(1) as usize;
    x.numel() > 0
        && x.numel() / width <= MAX_FEW_ROWS
        && x.device() == Device::Cpu
        && weight.device() == Device::Cpu
        && x.kind() == Kind::Float
        && matches!(weight.kind(), Kind::Float | Kind::BFloat16)
        && weight.is_contiguous()
        && !needs_gradient(&[x, weight])
}

/// Returns `x · weightᵀ` in float32, also of weights in bfloat16.
///
/// # Shapes
/// `x` (float32): `[.., in]`; `weight` (float32 or bfloat16): `[out, in]`; result: `[.., out]`.
///
/// # Panics
/// Where there are more than [`MAX_FEW_ROWS`] rows, other kinds, another device or gradients; where widths differ.
///
/// ```
/// use tch::Tensor;
/// let x = Tensor::from_slice(&[1f32, 2.]);
/// let weight = Tensor::from_slice(&[3f32, 4., 5., 6., 7., 8.]).view([3, 2]);
/// assert_eq!(brt_native::few_rows_product(&x, &weight), Tensor::from_slice(&[11f32, 17., 23.]));
/// ```
#[track_caller]
pub fn few_rows_product(x: &Tensor, weight: &Tensor) -> Tensor {
    assert!(can_compute(x, weight), "few_rows_product: expected few rows, got {x:?} and {weight:?}");
    let mut size = x.size();
    let width = size.pop().unwrap_or_default();
    let [num_outputs, inputs] = weight.size().try_into().expect("few_rows_product: a matrix");
    assert_eq!(width, inputs, "few_rows_product: widths of x and weight");
    let x = x.contiguous();
    let num_rows = x.numel() / width as usize;
    let by_output = Tensor::empty([num_outputs, num_rows as i64], (Kind::Float, Device::Cpu));
    let (xs, width) = (slice::<f32>(&x), width as usize);
    let per_task = (TASK_VALUES / width).max(1);
    let slots = Slots::<f32>::new(&by_output, per_task * num_rows);
    with_kinds!([E = weight.kind()] {
        let weights = slice::<E>(weight);
        threads::each((num_outputs as usize).div_ceil(per_task), |task| {
            let end = ((task + 1) * per_task * width).min(weights.len());
            // SAFETY: each slot is one task's.
            unsafe { columns(xs, &weights[task * per_task * width..end], slots.of(task), width) };
        });
    });
    size.push(num_outputs);
    by_output.transpose(0, 1).reshape(&size)
}
