//! Products of matrices in float32, where libtorch's own are slow.
//!
//! The library that libtorch multiplies with (MKL) takes its AVX-512 kernels on processors of its own maker only. On the others
//! that have AVX-512, the crate `gemm` is faster; everywhere else, libtorch.

use std::sync::LazyLock;

use gemm_common::{Parallelism, cache::CACHE_INFO, gemm::get_threading_threshold};
use tch::{Device, Kind, Tensor};

use crate::{
    attach,
    function::needs_gradient,
    memory::{Slots, slice},
    product_kind, threads,
};

/// Who computes products in float32 on the CPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProductLibrary {
    /// The crate `gemm`.
    Gemm,
    /// libtorch, which computes all other products, too.
    Libtorch,
}

impl ProductLibrary {
    /// Returns the faster one on this processor, or the one that the variable `BRT_PRODUCTS` names, `gemm` or `libtorch`: to
    /// compare them.
    ///
    /// # Errors
    /// Where the variable names another one, or `gemm` on a processor on which it cannot multiply.
    pub fn choose() -> Result<Self, String> {
        match std::env::var_os("BRT_PRODUCTS").map(|name| name.to_string_lossy().into_owned()).as_deref() {
            Some("gemm") if can_block() => Ok(Self::Gemm),
            Some("gemm") => {
                Err("BRT_PRODUCTS: gemm needs a second cache of 256 KiB for each processor".into())
            }
            Some("libtorch") => Ok(Self::Libtorch),
            Some(other) => Err(format!("BRT_PRODUCTS: expected gemm or libtorch, got {other}")),
            None if is_avx512_not_intel() && can_block() => Ok(Self::Gemm),
            None => Ok(Self::Libtorch),
        }
    }

    /// Returns what [`Self::choose`] has returned first.
    ///
    /// # Panics
    /// Where that is an error.
    pub fn chosen() -> Self {
        static CHOSEN: LazyLock<ProductLibrary> =
            LazyLock::new(|| ProductLibrary::choose().unwrap_or_else(|message| panic!("{message}")));
        *CHOSEN
    }
}

/// Whether `gemm` can divide matrices into blocks that fit into the second cache. It takes what the system reports, divided among
/// the processors that share it; with less than 128 KiB for each it loops for ever or panics.
fn can_block() -> bool {
    CACHE_INFO[1].cache_bytes >= 256 << 10
}

#[cfg(target_arch = "x86_64")]
fn is_avx512_not_intel() -> bool {
    let maker = std::arch::x86_64::__cpuid(0);
    is_x86_feature_detected!("avx512f")
        && [maker.ebx, maker.edx, maker.ecx].map(u32::to_le_bytes).as_flattened() != b"GenuineIntel"
}

#[cfg(not(target_arch = "x86_64"))]
fn is_avx512_not_intel() -> bool {
    false
}

/// Returns `x · weightᵀ + bias`: in float32 on the CPU by [`ProductLibrary::chosen`], otherwise by libtorch, as inside of
/// [`crate::in_bfloat16`]. There is no second derivative where `gemm` multiplies.
///
/// # Shapes
/// `x`: `[.., in]`; `weight`: `[out, in]`; `bias`: `[out]`; result: `[.., out]`.
///
/// # Panics
/// Where the shapes disagree.
///
/// ```
/// use tch::Tensor;
/// let x = Tensor::from_slice(&[1f32, 2., 3., 4.]).view([2, 2]);
/// let weight = Tensor::from_slice(&[1f32, 10.]).view([1, 2]);
/// assert_eq!(brt_native::linear(&x, &weight, None), Tensor::from_slice(&[21f32, 43.]).view([2, 1]));
/// ```
#[track_caller]
pub fn linear(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Tensor {
    let [num_outputs, width] = matrix("weight", weight);
    let size = x.size();
    assert!(size.last() == Some(&width), "x: expected rows of {width} values, got {size:?}");
    if let Some(size) = bias.map(Tensor::size) {
        assert!(size == [num_outputs], "bias: expected [{num_outputs}], got {size:?}");
    }
    linear_by(ProductLibrary::chosen(), x, weight, bias)
}

fn linear_by(library: ProductLibrary, x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Tensor {
    if library == ProductLibrary::Libtorch || !can_multiply(x, weight) {
        return x.linear(weight, bias);
    }
    let mut y = linear_by_gemm(x, weight);
    match bias {
        Some(bias) => y.g_add_(bias),
        None => y,
    }
}

/// Returns the product of two matrices without gradients: in float32 on the CPU by [`ProductLibrary::chosen`], otherwise by
/// libtorch.
///
/// # Shapes
/// `a`: `[m, k]`; `b`: `[k, n]`; result: `[m, n]`.
///
/// # Panics
/// Where the shapes disagree, or a gradient is wanted.
#[track_caller]
pub fn product(a: &Tensor, b: &Tensor) -> Tensor {
    let ([_, k], [inner, _]) = (matrix("a", a), matrix("b", b));
    assert!(k == inner, "b: expected {k} rows, as a has columns, got {inner}");
    assert!(!needs_gradient(&[a, b]), "product: expected matrices without gradients");
    match ProductLibrary::chosen() {
        ProductLibrary::Gemm if can_multiply(a, b) => product_by_gemm(a, b),
        _ => a.matmul(b),
    }
}

/// Whether there is a choice, and something to multiply.
fn can_multiply(a: &Tensor, b: &Tensor) -> bool {
    let is_float32 = |x: &Tensor| x.kind() == Kind::Float && x.device() == Device::Cpu && x.numel() > 0;
    is_float32(a) && is_float32(b) && product_kind(a) == Kind::Float
}

fn linear_by_gemm(x: &Tensor, weight: &Tensor) -> Tensor {
    let [num_outputs, width] = matrix("weight", weight);
    let mut size = x.size();
    size.pop();
    size.push(num_outputs);
    // Not a view of a matrix: a view that a node has returned cannot be written over.
    let y = Tensor::empty(&size, (Kind::Float, Device::Cpu));
    tch::no_grad(|| write_product(&x.reshape([-1, width]), &weight.tr(), &y));
    let needs = [x, weight].map(Tensor::requires_grad);
    attach(&[x, weight], vec![y], &[x, weight], move |gradients, saved| {
        let Some(dy) = &gradients[0] else { return vec![None, None] };
        tch::no_grad(|| linear_backward(dy, &saved[0], &saved[1], needs)).into()
    })
    .remove(0)
}

/// Returns the gradients that are needed, of the input and of the weight.
fn linear_backward(
    dy: &Tensor,
    x: &Tensor,
    weight: &Tensor,
    [needs_dx, needs_dweight]: [bool; 2],
) -> [Option<Tensor>; 2] {
    let [num_outputs, width] = matrix("weight", weight);
    let dy = dy.contiguous().view([-1, num_outputs]); // Once, not for each product.
    let dx = || product_by_gemm(&dy, weight).view_as(x);
    let dweight = || product_by_gemm(&dy.tr(), &x.reshape([-1, width]));
    [needs_dx.then(dx), needs_dweight.then(dweight)]
}

#[track_caller]
fn matrix(name: &str, x: &Tensor) -> [i64; 2] {
    <[i64; 2]>::try_from(x.size()).unwrap_or_else(|size| panic!("{name}: expected a matrix, got {size:?}"))
}

/// Returns a matrix in memory without gaps, by rows or by columns, and how far one row and one column are from the next, in values.
fn in_memory(x: &Tensor) -> (Tensor, [isize; 2]) {
    let [rows, columns] = matrix("a product", x);
    let by_columns = x.tr();
    if by_columns.is_contiguous() && !x.is_contiguous() {
        return (by_columns, [1, rows as isize]);
    }
    (x.contiguous(), [columns as isize, 1])
}

fn product_by_gemm(a: &Tensor, b: &Tensor) -> Tensor {
    let out = Tensor::empty([matrix("a", a)[0], matrix("b", b)[1]], (Kind::Float, Device::Cpu));
    write_product(a, b, &out);
    out
}

/// Writes the product of two matrices over a contiguous tensor of as many values.
fn write_product(a: &Tensor, b: &Tensor, out: &Tensor) {
    let ([m, k], [inner, n]) = (matrix("a", a), matrix("b", b));
    assert!(
        k == inner && out.numel() as i64 == m * n,
        "[{m}, {k}] · [{inner}, {n}] into {} values",
        out.numel()
    );
    assert!(can_block(), "gemm: expected a second cache of 256 KiB for each processor");
    let ((a, a_strides), (b, b_strides)) = (in_memory(a), in_memory(b));
    let (a, b, to) = (slice::<f32>(&a), slice::<f32>(&b), Slots::<f32>::new(out, out.numel()));
    let [m, k, n] = [m, k, n].map(|size| size as usize);
    let write = |parallelism| {
        let multiply = gemm_f32::gemm::f32::get_gemm_fn();
        // It is fastest where it writes columns: outᵀ = bᵀ · aᵀ, of n by m values. What was in `out` is not read.
        // SAFETY: the matrices have these sizes and strides; `out` is written by this call alone.
        unsafe {
            #[rustfmt::skip]
            multiply(
                n, m, k,
                to.of(0).as_mut_ptr(), n as isize, 1, false,
                b.as_ptr(), b_strides[0], b_strides[1],
                a.as_ptr(), a_strides[0], a_strides[1],
                0., 1., false, false, false, parallelism,
            );
        }
    };
    if m * k * n < get_threading_threshold() {
        write(Parallelism::None);
    } else {
        threads::in_pool(|num_threads| write(Parallelism::Rayon(num_threads)));
    }
}

#[cfg(test)]
mod tests;
