//! Tensors as slices of their memory, for kernels.

use std::marker::PhantomData;

use tch::{Kind, Tensor};

use crate::simd::Element;

/// Memory of a contiguous tensor that is only read.
///
/// # Panics
/// Where the tensor is not contiguous, not on the CPU, or of another kind than `E`.
pub(crate) fn slice<E: Element>(tensor: &Tensor) -> &[E] {
    let first = checked::<E>(tensor);
    if tensor.numel() == 0 {
        return &[]; // Of nothing there is no pointer.
    }
    // SAFETY: the memory has this length and lives as long as the tensor; nobody writes to it meanwhile.
    unsafe { std::slice::from_raw_parts(first, tensor.numel()) }
}

fn checked<E: Element>(tensor: &Tensor) -> *mut E {
    assert!(
        tensor.is_contiguous() && tensor.device() == tch::Device::Cpu && tensor.kind() == E::KIND,
        "a kernel: expected contiguous {:?} on the CPU, got {tensor:?}",
        E::KIND
    );
    tensor.data_ptr().cast()
}

/// Memory of a contiguous tensor, cut into slots of one length (the last one perhaps shorter) that tasks write to, each to
/// its own.
pub(crate) struct Slots<'a, E> {
    start: *mut E,
    total: usize,
    len: usize,
    tensor: PhantomData<&'a Tensor>,
}

// SAFETY: `of` demands that each slot is one task's.
unsafe impl<E> Sync for Slots<'_, E> {}

impl<'a, E: Element> Slots<'a, E> {
    pub(crate) fn new(tensor: &'a Tensor, len: usize) -> Self {
        Self { start: checked(tensor), total: tensor.numel(), len, tensor: PhantomData }
    }

    /// # Safety
    /// Nobody else has this slot.
    #[expect(clippy::mut_from_ref, reason = "each slot is given out once, which the caller promises")]
    pub(crate) unsafe fn of(&self, idx: usize) -> &mut [E] {
        let start = idx * self.len;
        assert!(start <= self.total, "slot {idx} of {} values", self.total);
        if self.total == 0 {
            return &mut [];
        }
        // SAFETY: inside the tensor, and the caller's alone.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(start), self.len.min(self.total - start)) }
    }
}

/// Calls a kernel that is generic over the kinds of tensors with those that they have: float32, or bfloat16.
macro_rules! with_kinds {
    ([] $call:expr) => { $call };
    ([$name:ident = $kind:expr $(, $rest:ident = $other:expr)*] $call:expr) => {
        match $kind {
            tch::Kind::Float => { type $name = f32; $crate::memory::with_kinds!([$($rest = $other),*] $call) }
            tch::Kind::BFloat16 => { type $name = u16; $crate::memory::with_kinds!([$($rest = $other),*] $call) }
            kind => panic!("a kernel: expected float32 or bfloat16, got {kind:?}"),
        }
    };
}
pub(crate) use with_kinds;

/// Returns whether kernels can compute with a tensor.
pub(crate) fn has_kernels(tensor: &Tensor) -> bool {
    tensor.device() == tch::Device::Cpu && matches!(tensor.kind(), Kind::Float | Kind::BFloat16)
}
