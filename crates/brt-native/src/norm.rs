//! RMS norm of the residual stream, alone or with the addition before it, each as one pass over memory.

use tch::{Device, Kind, Tensor};

use crate::{
    attach, ffi,
    memory::{Slots, has_kernels, slice, with_kinds},
    raw,
    simd::{Element, Simd, kernel, sum_lanes},
    threads,
};

/// Values that one task computes; fixed, so that sums do not depend on the number of threads.
const TASK_VALUES: usize = 1 << 16;

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
    assert_eq!(x.size().last().copied(), weight.size().first().copied(), "rms_norm: widths of x and weight");
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
                forward_rows(&xs[at], pair, sums, ys.of(idx), scales.of(idx), weight, eps as f32);
            }
        });
    });
    (sum, y, scales)
}

kernel! {
    /// Rows of one task. `sums` is written where there are updates.
    unsafe fn forward_rows<U: Element, Y: Element>(
        x: &[f32],
        updates: Option<&[U]>,
        sums: Option<&mut [f32]>,
        y: &mut [Y],
        scales: &mut [f32],
        weight: &[f32],
        eps: f32,
    ) = forward_rows_by
}

#[inline(always)]
unsafe fn forward_rows_by<S: Simd, U: Element, Y: Element>(
    x: &[f32],
    updates: Option<&[U]>,
    mut sums: Option<&mut [f32]>,
    y: &mut [Y],
    scales: &mut [f32],
    weight: &[f32],
    eps: f32,
) {
    let width = weight.len();
    for (i, scale) in scales.iter_mut().enumerate() {
        let at = i * width;
        let mut row = &x[at..at + width];
        if let (Some(updates), Some(sums)) = (updates, sums.as_deref_mut()) {
            let sums = &mut sums[at..at + width];
            // SAFETY: the caller's.
            unsafe { add_rows::<S, U>(row, &updates[at..at + width], sums) };
            row = sums;
        }
        // SAFETY: the caller's.
        unsafe {
            let mean = dot::<S>(row, row) / width as f32;
            *scale = 1. / (mean + eps).sqrt();
            scale_row::<S, Y>(row, weight, *scale, &mut y[at..at + width]);
        }
    }
}

/// `to = a + b`.
#[inline(always)]
unsafe fn add_rows<S: Simd, U: Element>(a: &[f32], b: &[U], to: &mut [f32]) {
    let whole = a.len() - a.len() % S::LANES;
    assert!(b.len() == a.len() && to.len() == a.len(), "rows of one length");
    // SAFETY: the caller's; lengths were checked.
    unsafe {
        for j in (0..whole).step_by(S::LANES) {
            let sum = S::load(a.as_ptr().add(j)).add(U::load::<S>(b.as_ptr().add(j)));
            sum.store(to.as_mut_ptr().add(j));
        }
    }
    for j in whole..a.len() {
        to[j] = a[j] + b[j].value();
    }
}

/// Returns `Σ a b`.
#[inline(always)]
pub(crate) unsafe fn dot<S: Simd>(a: &[f32], b: &[f32]) -> f32 {
    let whole = a.len() - a.len() % S::LANES;
    assert!(b.len() == a.len(), "rows of one length");
    // SAFETY: the caller's; lengths were checked.
    let mut sum = unsafe {
        let mut sums = S::splat(0.);
        for j in (0..whole).step_by(S::LANES) {
            sums = S::load(a.as_ptr().add(j)).mul_add(S::load(b.as_ptr().add(j)), sums);
        }
        sum_lanes(sums)
    };
    for j in whole..a.len() {
        sum += a[j] * b[j];
    }
    sum
}

/// `to = row · scale · weight`.
#[inline(always)]
unsafe fn scale_row<S: Simd, Y: Element>(row: &[f32], weight: &[f32], scale: f32, to: &mut [Y]) {
    let whole = row.len() - row.len() % S::LANES;
    assert!(weight.len() == row.len() && to.len() == row.len(), "rows of one length");
    // SAFETY: the caller's; lengths were checked.
    unsafe {
        let scales = S::splat(scale);
        for j in (0..whole).step_by(S::LANES) {
            let scaled = S::load(row.as_ptr().add(j)).mul(scales).mul(S::load(weight.as_ptr().add(j)));
            Y::store(scaled, to.as_mut_ptr().add(j));
        }
    }
    for j in whole..row.len() {
        to[j] = Y::of(row[j] * scale * weight[j]);
    }
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
                let (dx, dweight) = (dxs.of(idx), dweights.of(idx));
                backward_rows(&sums[at.clone()], &dys[at], onward, &scales[rows], weight, dx, dweight);
            }
        });
    });
    [Some(dx), Some(dweights.sum_dim_intlist(0, false, Kind::Float))]
}

kernel! {
    /// Rows of one task.
    unsafe fn backward_rows<Y: Element>(
        x: &[f32],
        dy: &[Y],
        onward: Option<&[f32]>,
        scales: &[f32],
        weight: &[f32],
        dx: &mut [f32],
        dweight: &mut [f32],
    ) = backward_rows_by
}

#[inline(always)]
unsafe fn backward_rows_by<S: Simd, Y: Element>(
    x: &[f32],
    dy: &[Y],
    onward: Option<&[f32]>,
    scales: &[f32],
    weight: &[f32],
    dx: &mut [f32],
    dweight: &mut [f32],
) {
    let width = weight.len();
    let whole = width - width % S::LANES;
    assert!(
        x.len() == scales.len() * width && dy.len() == x.len() && dx.len() == x.len(),
        "rows of one width"
    );
    assert!(
        dweight.len() == width && onward.is_none_or(|onward| onward.len() == x.len()),
        "rows of one width"
    );
    for (i, &scale) in scales.iter().enumerate() {
        let at = i * width;
        // SAFETY: the caller's; lengths were checked.
        unsafe {
            let (x, dy, dx) = (x.as_ptr().add(at), dy.as_ptr().add(at), dx.as_mut_ptr().add(at));
            let (scales, mut sums) = (S::splat(scale), S::splat(0.));
            for j in (0..whole).step_by(S::LANES) {
                let (x, dy) = (S::load(x.add(j)), Y::load::<S>(dy.add(j)));
                let product = dy.mul(x);
                sums = product.mul_add(S::load(weight.as_ptr().add(j)), sums);
                let to = dweight.as_mut_ptr().add(j);
                product.mul_add(scales, S::load(to)).store(to);
            }
            let mut sum = sum_lanes(sums);
            for j in whole..width {
                let product = (*dy.add(j)).value() * *x.add(j);
                sum += product * weight[j];
                dweight[j] += product * scale;
            }
            let back = -sum * scale * scale * scale / width as f32;
            let backs = S::splat(back);
            for j in (0..whole).step_by(S::LANES) {
                let gradient = Y::load::<S>(dy.add(j)).mul(S::load(weight.as_ptr().add(j))).mul(scales);
                let mut gradient = S::load(x.add(j)).mul_add(backs, gradient);
                if let Some(onward) = onward {
                    gradient = gradient.add(S::load(onward.as_ptr().add(at + j)));
                }
                gradient.store(dx.add(j));
            }
            for j in whole..width {
                let gradient = (*dy.add(j)).value() * weight[j] * scale + *x.add(j) * back;
                *dx.add(j) = gradient + onward.map_or(0., |onward| onward[at + j]);
            }
        }
    }
}

fn rows_per_task(width: usize) -> usize {
    (TASK_VALUES / width).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{in_bfloat16, simd::Level};

    /// Float32 rounding of sums over a row, of the largest value.
    const ROUNDING: f64 = 2e-6;
    /// A rounding to bfloat16, or two.
    const BFLOAT16_ROUNDING: f64 = 8e-3;

    /// Values and gradients against the formula in float64.
    fn check(shape: &[i64], update_kind: Option<Kind>, is_bfloat16: bool) {
        tch::manual_seed(1);
        let options = (Kind::Float, Device::Cpu);
        let draw = |kind| Tensor::randn(shape, options).to_kind(kind).set_requires_grad(true);
        let mut inputs = vec![draw(Kind::Float)];
        inputs.extend(update_kind.map(draw));
        inputs.push(Tensor::randn([shape[shape.len() - 1]], options).set_requires_grad(true));
        let exact: Vec<_> =
            inputs.iter().map(|x| x.detach().to_kind(Kind::Double).set_requires_grad(true)).collect();
        let eps = 1e-2;
        let fused = || match update_kind {
            None => vec![rms_norm(&inputs[0], &inputs[1], eps)],
            Some(_) => add_rms_norm(&inputs[0], &inputs[1], &inputs[2], eps).into(),
        };
        let got = if is_bfloat16 { in_bfloat16(&inputs[0], fused) } else { fused() };
        let sum = if update_kind.is_some() { &exact[0] + &exact[1] } else { exact[0].shallow_clone() };
        let y = composed(&sum, exact.last().expect("a weight"), eps);
        let wanted = if update_kind.is_some() { vec![sum, y] } else { vec![y] };
        let gradients: Vec<_> = got.iter().map(|x| Tensor::randn(shape, options).to_kind(x.kind())).collect();
        let total = |outputs: &[Tensor], kind: Kind| {
            let parts = outputs.iter().zip(&gradients).map(|(y, g)| (y * g.to_kind(kind)).sum(kind));
            parts.reduce(|a, b| a + b).expect("an output")
        };
        total(&got, Kind::Float).backward();
        total(&wanted, Kind::Double).backward();
        let rounding =
            if is_bfloat16 || update_kind == Some(Kind::BFloat16) { BFLOAT16_ROUNDING } else { ROUNDING };
        let pairs = got.iter().map(Tensor::shallow_clone).zip(wanted);
        let pairs = pairs.chain(inputs.iter().map(Tensor::grad).zip(exact.iter().map(Tensor::grad)));
        for (idx, (got, wanted)) in pairs.enumerate() {
            let error = (&got - &wanted).abs().max().double_value(&[]);
            let size = wanted.abs().max().double_value(&[]);
            assert!(
                error <= rounding * size.max(1.),
                "{shape:?} {update_kind:?} {idx}: error {error} of {size}"
            );
        }
    }

    #[test]
    fn norms_equal_their_formula() {
        Level::each(|_| {
            for shape in [vec![1, 1], vec![3, 7], vec![2, 5, 63], vec![700, 129]] {
                for update_kind in [None, Some(Kind::Float), Some(Kind::BFloat16)] {
                    check(&shape, update_kind, false);
                    check(&shape, update_kind, true);
                }
            }
        });
    }

    /// The sum alone may be used, or the norm alone.
    #[test]
    fn outputs_without_gradient() {
        let x = Tensor::ones([2, 4], (Kind::Float, Device::Cpu)).set_requires_grad(true);
        let weight = Tensor::ones([4], (Kind::Float, Device::Cpu)).set_requires_grad(true);
        let [sum, _] = add_rms_norm(&x, &x.detach(), &weight, 0.);
        (sum * 3.).sum(Kind::Float).backward();
        assert_eq!(x.grad(), x.full_like(3.));
        assert!(!weight.grad().defined());
        let [_, y] = add_rms_norm(&x, &x.detach(), &weight, 0.);
        y.sum(Kind::Float).backward();
        assert_eq!(weight.grad(), weight.full_like(2.));
    }

    /// Other kinds than the kernels' are composed, and equal them.
    #[test]
    fn float64_is_composed() {
        let x = Tensor::from_slice(&[3f64, 4.]);
        let y = rms_norm(&x, &Tensor::from_slice(&[1f64, 2.]), 0.);
        assert!((y.double_value(&[1]) - 8. / 12.5f64.sqrt()).abs() < 1e-12);
    }
}
