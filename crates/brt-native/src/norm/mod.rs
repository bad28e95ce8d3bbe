//! RMS norm of the residual stream, alone or with the addition before it, each as one pass over memory.

mod rows;
#[cfg(test)]
mod tests;

use tch::{Device, Kind, Tensor};

use self::rows::{Gain, backward_rows, forward_rows};

use crate::{
    attach, ffi,
    memory::{Slots, has_kernels, slice, with_kinds},
    raw,
    threads::{self, TASK_VALUES},
};

/// Returns the kind in which products of matrices are computed on the device of `like`: bfloat16 inside of
/// [`crate::in_bfloat16`].
pub fn product_kind(like: &Tensor) -> Kind {
    // SAFETY: the tensor lives.
    let in_bfloat16 = unsafe { ffi::brt_is_autocast(raw(like)) } != 0;
    if in_bfloat16 && like.kind() == Kind::Float { Kind::BFloat16 } else { like.kind() }
}

/// Returns `x / sqrt(mean(x²) + eps) * weight`, the mean taken over the last axis, in the kind in which products are
/// computed ([`product_kind`]): what it is made for.
///
/// On the CPU this is one autograd node; elsewhere it is composed of tensor operations. Statistics are float32.
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
    check(x, weight);
    if !is_fused(x, weight) {
        return composed(x, weight, eps);
    }
    let [_, y] = fused(x, None, weight, eps);
    y
}

/// Returns `x + update` and its norm, as [`rms_norm`].
///
/// # Shapes
/// `x`, `update` and the results: `[.., E]`; `weight`: `[E]`.
///
/// # Panics
/// Where the shapes disagree.
#[track_caller]
pub fn add_rms_norm(x: &Tensor, update: &Tensor, weight: &Tensor, eps: f64) -> [Tensor; 2] {
    check(x, weight);
    assert_eq!(update.size(), x.size(), "add_rms_norm: expected an update of the shape of x");
    if !is_fused(x, weight) || !has_kernels(update) {
        let sum = x + update;
        let y = composed(&sum, weight, eps);
        return [sum, y];
    }
    fused(x, Some(update), weight, eps)
}

#[track_caller]
fn check(x: &Tensor, weight: &Tensor) {
    let width = x.size().last().copied();
    assert_eq!(width.as_slice(), weight.size(), "rms_norm: widths of x and weight");
}

fn is_fused(x: &Tensor, weight: &Tensor) -> bool {
    has_kernels(x) && x.kind() == Kind::Float && weight.kind() == Kind::Float && x.numel() > 0
}

fn composed(x: &Tensor, weight: &Tensor, eps: f64) -> Tensor {
    let wide = if x.kind() == Kind::Double { x.shallow_clone() } else { x.to_kind(Kind::Float) };
    let scale = (wide.square().mean_dim(-1, true, wide.kind()) + eps).rsqrt();
    (wide * scale * weight).to_kind(product_kind(x))
}

/// Returns the sum (`x` itself without an update) and its norm.
fn fused(x: &Tensor, update: Option<&Tensor>, weight: &Tensor, eps: f64) -> [Tensor; 2] {
    let kind = product_kind(x);
    let (sum, y, scales) = tch::no_grad(|| forward(x, update, weight, eps, kind));
    let saved = [&sum.shallow_clone(), weight, &scales];
    match update {
        None => {
            let outputs = attach(&[x, weight], vec![y], &saved, |gradients, saved| {
                tch::no_grad(|| backward([None, gradients[0].as_ref()], saved)).into()
            });
            let [y] = outputs.try_into().expect("one output");
            [sum, y]
        }
        Some(update) => {
            let kind = update.kind();
            let outputs = attach(&[x, update, weight], vec![sum, y], &saved, move |gradients, saved| {
                tch::no_grad(|| {
                    let [dx, dweight] = backward([gradients[0].as_ref(), gradients[1].as_ref()], saved);
                    let dupdate = dx.as_ref().map(|dx| dx.to_kind(kind));
                    vec![dx, dupdate, dweight]
                })
            });
            outputs.try_into().expect("two outputs")
        }
    }
}

/// Returns the sum, its norm, and for each row the factor that its values were multiplied by.
fn forward(
    x: &Tensor,
    update: Option<&Tensor>,
    weight: &Tensor,
    eps: f64,
    kind: Kind,
) -> (Tensor, Tensor, Tensor) {
    let (x, weight) = (x.contiguous(), weight.contiguous());
    let update = update.map(Tensor::contiguous);
    let width = weight.numel();
    let (num_rows, task) = (x.numel() / width, rows_per_task(width));
    let sum = if update.is_some() { x.empty_like() } else { x.shallow_clone() };
    let y = Tensor::empty(x.size(), (kind, Device::Cpu));
    let scales = Tensor::empty([num_rows as i64], (Kind::Float, Device::Cpu));
    let update_kind = update.as_ref().map_or(Kind::Float, Tensor::kind);
    with_kinds!([U = update_kind, Y = kind] {
        let (xs, weight) = (slice::<f32>(&x), slice::<f32>(&weight));
        let updates = update.as_ref().map(slice::<U>);
        let sums = updates.map(|_| Slots::<f32>::new(&sum, task * width));
        let (ys, scales) = (Slots::<Y>::new(&y, task * width), Slots::<f32>::new(&scales, task));
        threads::each(num_rows.div_ceil(task), |idx| {
            let at = idx * task * width..num_rows.min((idx + 1) * task) * width;
            let pair = updates.map(|updates| &updates[at.clone()]);
            // SAFETY: each slot is one task's.
            unsafe {
                let sums = sums.as_ref().map(|sums| sums.of(idx));
                forward_rows(&xs[at], pair, sums, ys.of(idx), scales.of(idx), Gain { weight, eps: eps as f32 });
            }
        });
    });
    (sum, y, scales)
}

/// Returns the gradients of the sum and of the weight, from those of the sum and of its norm.
fn backward([onward, dy]: [Option<&Tensor>; 2], saved: &[Tensor]) -> [Option<Tensor>; 2] {
    let [sum, weight, scales] = saved else { panic!("add_rms_norm: expected its saved tensors") };
    let onward = onward.map(|g| g.to_kind(Kind::Float).contiguous());
    let Some(dy) = dy.map(Tensor::contiguous) else { return [onward, None] };
    let (sum, weight) = (sum.contiguous(), weight.contiguous());
    let width = weight.numel();
    let (num_rows, task) = (sum.numel() / width, rows_per_task(width));
    let num_tasks = num_rows.div_ceil(task);
    let options = (Kind::Float, Device::Cpu);
    let (dx, dweights) = (sum.empty_like(), Tensor::zeros([num_tasks as i64, width as i64], options));
    with_kinds!([Y = dy.kind()] {
        let (sums, weight, scales, dys) =
            (slice::<f32>(&sum), slice::<f32>(&weight), slice::<f32>(scales), slice::<Y>(&dy));
        let onward = onward.as_ref().map(slice::<f32>);
        let (dxs, dweights) = (Slots::<f32>::new(&dx, task * width), Slots::<f32>::new(&dweights, width));
        threads::each(num_tasks, |idx| {
            let rows = idx * task..num_rows.min((idx + 1) * task);
            let at = rows.start * width..rows.end * width;
            let onward = onward.map(|onward| &onward[at.clone()]);
            // SAFETY: each slot is one task's.
            unsafe {
                let to = [dxs.of(idx), dweights.of(idx)];
                backward_rows(&sums[at.clone()], &dys[at], onward, &scales[rows], weight, to);
            }
        });
    });
    [Some(dx), Some(dweights.sum_dim_intlist(0, false, Kind::Float))]
}

fn rows_per_task(width: usize) -> usize {
    (TASK_VALUES / width).max(1)
}
