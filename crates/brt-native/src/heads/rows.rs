//! The rows of heads.

use super::HeadNorm;
use crate::{
    simd::{Element, Simd, dot, kernel},
    threads::TASK_VALUES,
};

/// Which part, and what becomes of its heads.
#[derive(Clone, Copy)]
pub(super) struct Part {
    pub(super) idx: usize,
    pub(super) norm: HeadNorm,
}

/// Sizes that both passes need.
#[derive(Clone, Copy)]
pub(super) struct Sizes {
    pub(super) num_parts: usize,
    pub(super) num_heads: usize,
    pub(super) head_dim: usize,
    pub(super) num_rows: usize,
    /// Rows of one task.
    pub(super) task: usize,
}

impl Sizes {
    pub(super) fn new(num_values: usize, num_parts: usize, [num_heads, head_dim]: [i64; 2]) -> Self {
        let (num_heads, head_dim) = (num_heads as usize, head_dim as usize);
        let row = num_parts * num_heads * head_dim;
        let num_rows = num_values / row;
        Self { num_parts, num_heads, head_dim, num_rows, task: (TASK_VALUES / row).max(1) }
    }

    pub(super) fn part(&self) -> usize {
        self.num_heads * self.head_dim
    }

    pub(super) fn row(&self) -> usize {
        self.num_parts * self.part()
    }

    pub(super) fn num_tasks(&self) -> usize {
        self.num_rows.div_ceil(self.task)
    }

    pub(super) fn rows(&self, idx: usize) -> std::ops::Range<usize> {
        idx * self.task..self.num_rows.min((idx + 1) * self.task)
    }
}

kernel! {
    /// One part of the rows of one task.
    pub(super) unsafe fn forward_rows<E: Element>(
        x: &[E],
        heads: &mut [E],
        scales: &mut [f32],
        part: Part,
        eps: f32,
        sizes: Sizes,
    ) = forward_rows_by
}

#[inline(always)]
unsafe fn forward_rows_by<S: Simd, E: Element>(
    x: &[E],
    heads: &mut [E],
    scales: &mut [f32],
    part: Part,
    eps: f32,
    sizes: Sizes,
) {
    let rows = x.chunks_exact(sizes.row()).zip(heads.chunks_exact_mut(sizes.part()));
    let rows = rows.zip(scales.chunks_exact_mut(sizes.num_parts * sizes.num_heads));
    for ((x, heads), scales) in rows {
        let (x, scales) =
            (&x[part.idx * sizes.part()..][..sizes.part()], &mut scales[part.idx * sizes.num_heads..]);
        if part.norm == HeadNorm::None {
            heads.copy_from_slice(x);
            continue;
        }
        for (head, scale) in scales.iter_mut().enumerate().take(sizes.num_heads) {
            let at = head * sizes.head_dim..(head + 1) * sizes.head_dim;
            // SAFETY: the caller's.
            unsafe {
                let x = &x[at.clone()];
                *scale = 1. / (dot::<S, E, E>(x, x) + eps).sqrt();
                combine::<S, E>(x, *scale, x, 0., &mut heads[at]);
            }
        }
    }
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

kernel! {
    /// One part of the rows of one task.
    pub(super) unsafe fn backward_rows<E: Element>(
        heads: &[E],
        gradients: Option<&[E]>,
        scales: &[f32],
        dx: &mut [E],
        part: Part,
        sizes: Sizes,
    ) = backward_rows_by
}

#[inline(always)]
unsafe fn backward_rows_by<S: Simd, E: Element>(
    heads: &[E],
    gradients: Option<&[E]>,
    scales: &[f32],
    dx: &mut [E],
    part: Part,
    sizes: Sizes,
) {
    for (i, dx) in dx.chunks_exact_mut(sizes.row()).enumerate() {
        let dx = &mut dx[part.idx * sizes.part()..][..sizes.part()];
        let Some(gradients) = gradients.map(|g| &g[i * sizes.part()..][..sizes.part()]) else {
            dx.fill(E::of(0.));
            continue;
        };
        if part.norm == HeadNorm::None {
            dx.copy_from_slice(gradients);
            continue;
        }
        let heads = &heads[i * sizes.part()..][..sizes.part()];
        let scales = &scales[(i * sizes.num_parts + part.idx) * sizes.num_heads..];
        for (head, scale) in scales.iter().enumerate().take(sizes.num_heads) {
            let at = head * sizes.head_dim..(head + 1) * sizes.head_dim;
            let (y, dy) = (&heads[at.clone()], &gradients[at.clone()]);
            // y = s x with s = 1 / sqrt(Σ x² + ε): dx = s (dy − y Σ y dy).
            // SAFETY: the caller's.
            unsafe { combine::<S, E>(dy, *scale, y, -dot::<S, E, E>(y, dy), &mut dx[at]) };
        }
    }
}
