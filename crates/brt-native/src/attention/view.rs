//! Tensors as memory with strides, read as operands and written from float32 scratch. Inlined into kernels, whose instruction set
//! it then has.

use tch::{Kind, Tensor};

use crate::simd::{Element, Operand, Simd, prefetch};

/// Rows that are asked for before they are read: those of one head lie far apart.
const ROWS_AHEAD: usize = 12;
/// Bytes of a line of the cache.
const LINE: usize = 64;

/// Rows of one head of one tensor `[n, B, H, len, D]`: which block, row of the batch and head.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    pub(super) block: usize,
    pub(super) row: usize,
    pub(super) head: usize,
}

/// Memory of a tensor `[n, B, H, len, D]` in float32 or bfloat16 whose last axis is contiguous. It keeps the tensor alive.
#[derive(Debug)]
pub(super) struct View {
    tensor: Tensor,
    start: *mut u8,
    is_bfloat16: bool,
    /// Of n, B, H and len, in values.
    strides: [usize; 4],
    /// Rows and width of one head.
    len: usize,
    width: usize,
}

// SAFETY: the memory is read by several threads at once, or written by several that each have heads of their own; the
// tensor itself is used by the thread that has made the view.
unsafe impl Sync for View {}

impl View {
    /// Returns a view of a tensor to read from it; copies one whose last axis is not contiguous. Axes before the last four
    /// are one.
    pub(super) fn new(tensor: &Tensor) -> Self {
        let size = tensor.size();
        assert!(size.len() == 5, "attention: expected [n, B, H, len, D], got {size:?}");
        let is_bfloat16 = match tensor.kind() {
            Kind::Float => false,
            Kind::BFloat16 => true,
            kind => panic!("attention: expected float32 or bfloat16, got {kind:?}"),
        };
        let is_contiguous = tensor.stride()[4] == 1 || size[4] == 1;
        let tensor = if is_contiguous { tensor.shallow_clone() } else { tensor.contiguous() };
        let stride = tensor.stride();
        Self {
            start: tensor.data_ptr().cast(),
            is_bfloat16,
            strides: std::array::from_fn(|axis| stride[axis] as usize),
            len: size[3] as usize,
            width: size[4] as usize,
            tensor,
        }
    }

    /// Returns a view of a new tensor of this size and kind, with the axes of heads and rows next to each other in
    /// memory as a layer makes them: `[n, B, len, H, D]`.
    pub(super) fn empty([n, batch, heads, len, width]: [i64; 5], like: &Tensor) -> Self {
        let memory = Tensor::empty([n, batch, len, heads, width], (like.kind(), like.device()));
        Self::new(&memory.transpose(2, 3))
    }

    pub(super) fn into_tensor(self) -> Tensor {
        self.tensor
    }

    pub(super) fn is_bfloat16(&self) -> bool {
        self.is_bfloat16
    }

    /// Returns the number of rows of one head, and their width.
    pub(super) fn size(&self) -> [usize; 2] {
        [self.len, self.width]
    }

    #[inline(always)]
    fn offset(&self, place: Place, i: usize) -> usize {
        let [n, b, h, len] = self.strides;
        place.block * n + place.row * b + place.head * h + i * len
    }

    /// Makes operands of the rows of a head, `row_len` of them apart; what is behind the width is left as it is.
    ///
    /// # Safety
    /// The processor has the instruction set of `S`.
    #[inline(always)]
    pub(super) unsafe fn read<S: Simd, T: Operand<S>>(&self, place: Place, rows: &mut [T], row_len: usize) {
        for (i, row) in rows.chunks_mut(row_len).take(self.len).enumerate() {
            let offset = self.offset(place, i);
            // SAFETY: the row is inside the tensor's memory, which nobody writes while it is read.
            unsafe {
                if self.is_bfloat16 {
                    T::of_row::<u16>(self.row(offset), row);
                } else {
                    T::of_row::<f32>(self.row(offset), row);
                }
            }
        }
    }

    /// Returns a row, and asks for one that is read soon.
    ///
    /// # Safety
    /// The tensor's values are `E`, and a row begins at `offset` that nobody writes meanwhile.
    #[inline(always)]
    unsafe fn row<E: Element>(&self, offset: usize) -> &[E] {
        let start = self.start.cast::<E>();
        let ahead = start.wrapping_add(offset + ROWS_AHEAD * self.strides[3]);
        for j in (0..self.width).step_by(LINE / size_of::<E>()) {
            prefetch(ahead.wrapping_add(j).cast());
        }
        // SAFETY: the caller's.
        unsafe { std::slice::from_raw_parts(start.add(offset), self.width) }
    }

    /// Writes row `i` of a head, times `factor`, of a tensor that [`Self::empty`] has made.
    ///
    /// # Safety
    /// The processor has the instruction set of `S`, and no other thread uses this head.
    #[inline(always)]
    pub(super) unsafe fn write<S: Simd>(&self, place: Place, i: usize, row: &[f32], factor: f32) {
        let offset = self.offset(place, i);
        assert!(i < self.len, "attention: row {i} of {}", self.len);
        let row = &row[..self.width];
        // SAFETY: the row is inside the tensor's memory, and this thread's alone.
        unsafe {
            if self.is_bfloat16 {
                write_scaled::<S, u16>(row, factor, self.start.cast::<u16>().add(offset));
            } else {
                write_scaled::<S, f32>(row, factor, self.start.cast::<f32>().add(offset));
            }
        }
    }
}

/// Writes a row, times `factor`.
///
/// # Safety
/// The processor has the instruction set of `S`, and so many values can be written at `to`.
#[inline(always)]
unsafe fn write_scaled<S: Simd, E: Element>(row: &[f32], factor: f32, to: *mut E) {
    let whole = row.len() - row.len() % S::LANES;
    // SAFETY: the caller's; nothing behind the length is read or written.
    unsafe {
        for j in (0..whole).step_by(S::LANES) {
            E::store::<S>(S::load(row.as_ptr().add(j)).mul(S::splat(factor)), to.add(j));
        }
        for (j, value) in row.iter().enumerate().skip(whole) {
            *to.add(j) = E::of(value * factor);
        }
    }
}

/// A tensor's values in float32, in order. It keeps the tensor alive.
#[derive(Debug)]
pub(super) struct Floats {
    first: *const f32,
    len: usize,
    _tensor: Tensor,
}

// SAFETY: the memory is read only, and the tensor itself is not touched.
unsafe impl Sync for Floats {}

impl Floats {
    pub(super) fn new(tensor: &Tensor) -> Self {
        assert!(tensor.device() == tch::Device::Cpu, "attention: expected numbers on the CPU");
        let tensor = tensor.to_kind(Kind::Float).contiguous();
        Self { first: tensor.data_ptr().cast(), len: tensor.numel(), _tensor: tensor }
    }

    pub(super) fn values(&self) -> &[f32] {
        if self.len == 0 {
            return &[]; // Of nothing there is no pointer.
        }
        // SAFETY: the tensor is contiguous, in float32, and nobody writes to it.
        unsafe { std::slice::from_raw_parts(self.first, self.len) }
    }
}
