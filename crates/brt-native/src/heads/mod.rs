//! From one product with several matrices to keys, values and queries of heads, as one pass over memory.

mod rows;
#[cfg(test)]
mod tests;

use tch::{Device, Kind, Tensor};

use self::rows::{Part, Sizes, backward_rows, forward_rows};

use crate::{
    attach,
    memory::{Slots, has_kernels, slice, with_kinds},
    threads,
};

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
                    let heads = slots[part].of(idx);
                    forward_rows(x, heads, scales, Part { idx: part, norm: *norm }, eps as f32, sizes);
                }
            }
        });
    });
    Outputs { heads, scales }
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
                unsafe { backward_rows(heads, gradients, scales, dx, Part { idx: part, norm: *norm }, sizes) };
            }
        });
    });
    Some(dx)
}
