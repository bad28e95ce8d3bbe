//! From one product with several matrices to keys, values and queries of heads, as one pass over memory.

use tch::{Device, Kind, Tensor};

use crate::{
    attach,
    memory::{Slots, has_kernels, slice, with_kinds},
    simd::{Element, Simd, kernel, sum_lanes},
    threads,
};

/// Values that one task computes.
const TASK_VALUES: usize = 1 << 16;

/// What becomes of the heads of one part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeadNorm {
    /// They are left as they are: values.
    None,
    /// They become `x / sqrt(sum(x²) + eps)`: queries and keys.
    Unit,
}

/// Splits the last axis into `parts`, each into heads, and makes unit vectors of the heads of some parts.
///
/// On the CPU this is one autograd node that keeps nothing but its outputs; elsewhere it is composed of tensor operations.
///
/// # Shapes
/// `x`: `[.., len, parts · H · D]`; results: `[.., H, len, D]` each, laid out as `[.., len, H, D]`.
///
/// # Panics
/// Where the width of `x` is not that of the parts.
///
/// ```
/// use brt_native::{HeadNorm, split_heads};
/// // Two parts with one head of width 2.
/// let x = tch::Tensor::from_slice(&[3f32, 4., 5., 6.]).view([1, 4]);
/// let [keys, values] = split_heads(&x, [HeadNorm::Unit, HeadNorm::None], [1, 2], 0.).try_into().unwrap();
/// assert!((keys.double_value(&[0, 0, 1]) - 0.8).abs() < 1e-6);
/// assert_eq!(values.double_value(&[0, 0, 1]), 6.);
/// ```
#[track_caller]
pub fn split_heads<const P: usize>(
    x: &Tensor,
    parts: [HeadNorm; P],
    [num_heads, head_dim]: [i64; 2],
    eps: f64,
) -> Vec<Tensor> {
    let width = x.size().last().copied().unwrap_or_default();
    assert_eq!(width, P as i64 * num_heads * head_dim, "split_heads: width of x");
    if !has_kernels(x) || x.numel() == 0 {
        return composed(x, &parts, [num_heads, head_dim], eps);
    }
    let shape = [num_heads, head_dim];
    let outputs = tch::no_grad(|| forward(x, &parts, shape, eps));
    let Outputs { heads, scales } = outputs;
    let copies: Vec<Tensor> = heads.iter().map(Tensor::shallow_clone).collect();
    let saved: Vec<&Tensor> = copies.iter().chain([&scales]).collect();
    let connected = attach(&[x], heads, &saved, move |gradients, saved| {
        vec![tch::no_grad(|| backward(gradients, saved, &parts, shape))]
    });
    connected.into_iter().map(|heads| heads.transpose(-3, -2)).collect()
}

fn composed(x: &Tensor, parts: &[HeadNorm], shape: [i64; 2], eps: f64) -> Vec<Tensor> {
    let heads = |(part, norm): (Tensor, &HeadNorm)| {
        let heads = part.unflatten(-1, shape).transpose(-3, -2); // [.., H, len, D]
        if *norm == HeadNorm::None {
            return heads;
        }
        let wide = if x.kind() == Kind::Double { heads } else { heads.to_kind(Kind::Float) };
        let scale = (wide.square().sum_dim_intlist(-1, true, wide.kind()) + eps).rsqrt();
        (wide * scale).to_kind(x.kind())
    };
    x.chunk(parts.len() as i64, -1).into_iter().zip(parts).map(heads).collect()
}

/// `[.., len, H, D]` for each part, and the factors of all normalised heads, `[rows, parts, H]`.
struct Outputs {
    heads: Vec<Tensor>,
    scales: Tensor,
}

/// Sizes that both passes need.
#[derive(Clone, Copy)]
struct Sizes {
    num_parts: usize,
    num_heads: usize,
    head_dim: usize,
    num_rows: usize,
    /// Rows of one task.
    task: usize,
}

impl Sizes {
    fn new(num_values: usize, num_parts: usize, [num_heads, head_dim]: [i64; 2]) -> Self {
        let (num_heads, head_dim) = (num_heads as usize, head_dim as usize);
        let row = num_parts * num_heads * head_dim;
        let num_rows = num_values / row;
        Self { num_parts, num_heads, head_dim, num_rows, task: (TASK_VALUES / row).max(1) }
    }

    fn part(&self) -> usize {
        self.num_heads * self.head_dim
    }

    fn row(&self) -> usize {
        self.num_parts * self.part()
    }

    fn num_tasks(&self) -> usize {
        self.num_rows.div_ceil(self.task)
    }

    fn rows(&self, idx: usize) -> std::ops::Range<usize> {
        idx * self.task..self.num_rows.min((idx + 1) * self.task)
    }
}

fn forward(x: &Tensor, parts: &[HeadNorm], shape: [i64; 2], eps: f64) -> Outputs {
    let x = x.contiguous();
    let sizes = Sizes::new(x.numel(), parts.len(), shape);
    let mut size = x.size();
    size.pop();
    size.extend(shape);
    let heads: Vec<Tensor> = parts.iter().map(|_| Tensor::empty(&size, (x.kind(), Device::Cpu))).collect();
    let num_scales = [sizes.num_rows, parts.len(), sizes.num_heads].map(|n| n as i64);
    let scales = Tensor::zeros(num_scales, (Kind::Float, Device::Cpu));
    with_kinds!([E = x.kind()] {
        let xs = slice::<E>(&x);
        let slots: Vec<_> =
            heads.iter().map(|heads| Slots::<E>::new(heads, sizes.task * sizes.part())).collect();
        let scales = Slots::<f32>::new(&scales, sizes.task * sizes.num_parts * sizes.num_heads);
        threads::each(sizes.num_tasks(), |idx| {
            let rows = sizes.rows(idx);
            let x = &xs[rows.start * sizes.row()..rows.end * sizes.row()];
            // SAFETY: each slot is one task's.
            unsafe {
                let scales = scales.of(idx);
                for (part, norm) in parts.iter().enumerate() {
                    forward_rows(x, slots[part].of(idx), scales, part, *norm, eps as f32, sizes);
                }
            }
        });
    });
    Outputs { heads, scales }
}

kernel! {
    /// One part of the rows of one task.
    unsafe fn forward_rows<E: Element>(
        x: &[E],
        heads: &mut [E],
        scales: &mut [f32],
        part: usize,
        norm: HeadNorm,
        eps: f32,
        sizes: Sizes,
    ) = forward_rows_by
}

#[inline(always)]
unsafe fn forward_rows_by<S: Simd, E: Element>(
    x: &[E],
    heads: &mut [E],
    scales: &mut [f32],
    part: usize,
    norm: HeadNorm,
    eps: f32,
    sizes: Sizes,
) {
    let rows = x.chunks_exact(sizes.row()).zip(heads.chunks_exact_mut(sizes.part()));
    let rows = rows.zip(scales.chunks_exact_mut(sizes.num_parts * sizes.num_heads));
    for ((x, heads), scales) in rows {
        let (x, scales) = (&x[part * sizes.part()..][..sizes.part()], &mut scales[part * sizes.num_heads..]);
        if norm == HeadNorm::None {
            heads.copy_from_slice(x);
            continue;
        }
        for head in 0..sizes.num_heads {
            let at = head * sizes.head_dim..(head + 1) * sizes.head_dim;
            // SAFETY: the caller's.
            unsafe {
                let x = &x[at.clone()];
                let scale = 1. / (dot::<S, E>(x, x) + eps).sqrt();
                combine::<S, E>(x, scale, x, 0., &mut heads[at]);
                scales[head] = scale;
            }
        }
    }
}

/// Returns `Σ a b`.
#[inline(always)]
unsafe fn dot<S: Simd, E: Element>(a: &[E], b: &[E]) -> f32 {
    let whole = a.len() - a.len() % S::LANES;
    assert!(b.len() == a.len(), "heads of one width");
    // SAFETY: the caller's; lengths were checked.
    let mut sum = unsafe {
        let mut sums = S::splat(0.);
        for j in (0..whole).step_by(S::LANES) {
            sums = E::load::<S>(a.as_ptr().add(j)).mul_add(E::load::<S>(b.as_ptr().add(j)), sums);
        }
        sum_lanes(sums)
    };
    for j in whole..a.len() {
        sum += a[j].value() * b[j].value();
    }
    sum
}

/// `to = (a + b · b_factor) · a_factor`.
#[inline(always)]
unsafe fn combine<S: Simd, E: Element>(a: &[E], a_factor: f32, b: &[E], b_factor: f32, to: &mut [E]) {
    let whole = a.len() - a.len() % S::LANES;
    assert!(b.len() == a.len() && to.len() == a.len(), "heads of one width");
    // SAFETY: the caller's; lengths were checked.
    unsafe {
        let (a_factors, b_factors) = (S::splat(a_factor), S::splat(b_factor));
        for j in (0..whole).step_by(S::LANES) {
            let sum = E::load::<S>(b.as_ptr().add(j)).mul_add(b_factors, E::load::<S>(a.as_ptr().add(j)));
            E::store(sum.mul(a_factors), to.as_mut_ptr().add(j));
        }
    }
    for j in whole..a.len() {
        to[j] = E::of((a[j].value() + b[j].value() * b_factor) * a_factor);
    }
}

/// Returns the gradient of the input; missing gradients count as zero.
fn backward(
    gradients: &[Option<Tensor>],
    saved: &[Tensor],
    parts: &[HeadNorm],
    shape: [i64; 2],
) -> Option<Tensor> {
    let (scales, heads) = saved.split_last().expect("the factors are saved");
    let kind = heads[0].kind();
    let gradients: Vec<Option<Tensor>> =
        gradients.iter().map(|g| g.as_ref().map(|g| g.to_kind(kind).contiguous())).collect();
    if gradients.iter().all(Option::is_none) {
        return None;
    }
    let sizes = Sizes::new(heads[0].numel() * parts.len(), parts.len(), shape);
    let mut size = heads[0].size();
    size.truncate(size.len() - 2);
    size.push(sizes.row() as i64);
    let dx = Tensor::empty(&size, (kind, Device::Cpu));
    with_kinds!([E = kind] {
        let heads: Vec<&[E]> = heads.iter().map(slice::<E>).collect();
        let gradients: Vec<Option<&[E]>> = gradients.iter().map(|g| g.as_ref().map(slice::<E>)).collect();
        let scales = slice::<f32>(scales);
        let slots = Slots::<E>::new(&dx, sizes.task * sizes.row());
        threads::each(sizes.num_tasks(), |idx| {
            let rows = sizes.rows(idx);
            let of_rows = |width: usize| rows.start * width..rows.end * width;
            // SAFETY: each slot is one task's.
            let dx = unsafe { slots.of(idx) };
            let scales = &scales[of_rows(sizes.num_parts * sizes.num_heads)];
            for (part, norm) in parts.iter().enumerate() {
                let gradients = gradients[part].map(|g| &g[of_rows(sizes.part())]);
                let heads = &heads[part][of_rows(sizes.part())];
                // SAFETY: nothing is asked for but what slices say.
                unsafe { backward_rows(heads, gradients, scales, dx, part, *norm, sizes) };
            }
        });
    });
    Some(dx)
}

kernel! {
    /// One part of the rows of one task.
    unsafe fn backward_rows<E: Element>(
        heads: &[E],
        gradients: Option<&[E]>,
        scales: &[f32],
        dx: &mut [E],
        part: usize,
        norm: HeadNorm,
        sizes: Sizes,
    ) = backward_rows_by
}

#[inline(always)]
unsafe fn backward_rows_by<S: Simd, E: Element>(
    heads: &[E],
    gradients: Option<&[E]>,
    scales: &[f32],
    dx: &mut [E],
    part: usize,
    norm: HeadNorm,
    sizes: Sizes,
) {
    for (i, dx) in dx.chunks_exact_mut(sizes.row()).enumerate() {
        let dx = &mut dx[part * sizes.part()..][..sizes.part()];
        let Some(gradients) = gradients.map(|g| &g[i * sizes.part()..][..sizes.part()]) else {
            dx.fill(E::of(0.));
            continue;
        };
        if norm == HeadNorm::None {
            dx.copy_from_slice(gradients);
            continue;
        }
        let heads = &heads[i * sizes.part()..][..sizes.part()];
        let scales = &scales[(i * sizes.num_parts + part) * sizes.num_heads..];
        for head in 0..sizes.num_heads {
            let at = head * sizes.head_dim..(head + 1) * sizes.head_dim;
            let (y, dy) = (&heads[at.clone()], &gradients[at.clone()]);
            // y = s x with s = 1 / sqrt(Σ x² + ε): dx = s (dy − y Σ y dy).
            // SAFETY: the caller's.
            unsafe { combine::<S, E>(dy, scales[head], y, -dot::<S, E>(y, dy), &mut dx[at]) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::Level;

    /// Float32 rounding of sums over a head.
    const ROUNDING: f64 = 1e-6;
    /// Two roundings to bfloat16: of the heads, and of the gradient that is computed from them.
    const BFLOAT16_ROUNDING: f64 = 2e-2;

    fn check(size: &[i64], shape: [i64; 2], kind: Kind) {
        tch::manual_seed(1);
        let parts = [HeadNorm::Unit, HeadNorm::None, HeadNorm::Unit];
        let options = (Kind::Float, Device::Cpu);
        let mut full = size.to_vec();
        full.push(3 * shape[0] * shape[1]);
        let x = Tensor::randn(&full, options).to_kind(kind).set_requires_grad(true);
        let exact = x.detach().to_kind(Kind::Double).set_requires_grad(true);
        let (got, wanted) = (split_heads(&x, parts, shape, 1e-2), composed(&exact, &parts, shape, 1e-2));
        let gradients: Vec<_> = got.iter().map(|y| Tensor::randn(y.size(), options).to_kind(kind)).collect();
        // The last output gets no gradient.
        let total = |outputs: &[Tensor]| {
            let parts = outputs.iter().zip(&gradients).take(2).map(|(y, g)| (y * g).sum(Kind::Double));
            parts.reduce(|a, b| a + b).expect("an output")
        };
        total(&got).backward();
        total(&wanted).backward();
        let rounding = if kind == Kind::Float { ROUNDING } else { BFLOAT16_ROUNDING };
        let pairs = got.into_iter().zip(wanted).chain([(x.grad(), exact.grad())]);
        for (idx, (got, wanted)) in pairs.enumerate() {
            assert_eq!(got.kind(), kind);
            let error = (&got - &wanted).abs().max().double_value(&[]);
            let size = wanted.abs().max().double_value(&[]);
            assert!(error <= rounding * size.max(1.), "{full:?} {shape:?} {idx}: error {error} of {size}");
        }
    }

    #[test]
    fn heads_equal_their_formula() {
        Level::each(|_| {
            for (size, shape) in [(vec![1], [1, 1]), (vec![3, 5], [2, 7]), (vec![2, 1, 40], [3, 33])] {
                check(&size, shape, Kind::Float);
                check(&size, shape, Kind::BFloat16);
            }
        });
    }
}
