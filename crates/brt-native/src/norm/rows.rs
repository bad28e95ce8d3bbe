//! The rows of a norm.

use crate::simd::{Element, Simd, dot, kernel};

/// What a norm is made with.
#[derive(Clone, Copy)]
pub(super) struct Gain<'a> {
    pub(super) weight: &'a [f32],
    pub(super) eps: f32,
}

kernel! {
    /// Rows of one task. `sums` is written where there are updates.
    pub(super) unsafe fn forward_rows<U: Element, Y: Element>(
        x: &[f32],
        updates: Option<&[U]>,
        sums: Option<&mut [f32]>,
        y: &mut [Y],
        scales: &mut [f32],
        gain: Gain,
    ) = forward_rows_by
}

#[inline(always)]
unsafe fn forward_rows_by<S: Simd, U: Element, Y: Element>(
    x: &[f32],
    updates: Option<&[U]>,
    mut sums: Option<&mut [f32]>,
    y: &mut [Y],
    scales: &mut [f32],
    Gain { weight, eps }: Gain,
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
            let mean = dot::<S, f32, f32>(row, row) / width as f32;
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

kernel! {
    /// Rows of one task; writes the gradients of the rows and adds that of the weight.
    pub(super) unsafe fn backward_rows<Y: Element>(
        x: &[f32],
        dy: &[Y],
        onward: Option<&[f32]>,
        scales: &[f32],
        weight: &[f32],
        to: [&mut [f32]; 2],
    ) = backward_rows_by
}

#[inline(always)]
unsafe fn backward_rows_by<S: Simd, Y: Element>(
    x: &[f32],
    dy: &[Y],
    onward: Option<&[f32]>,
    scales: &[f32],
    weight: &[f32],
    [dx, dweight]: [&mut [f32]; 2],
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
            let mut sum = sums.sum();
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
