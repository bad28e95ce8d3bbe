//! Gradients summed over processes while the backward pass goes on.

use std::{ffi::c_void, rc::Rc};

use tch::Tensor;

use super::{GroupError, ProcessGroup};
use crate::{ffi, raw};

/// Bytes of a bucket of gradients: few enough that the network starts soon, enough that it is busy. PyTorch's default.
const BUCKET_BYTES: i64 = 25 << 20;

/// Sums the gradients of parameters over all processes, in buckets.
///
/// The sum of a bucket starts when its last gradient is there, while the backward pass goes on with others; from the second
/// step on, for in the first it learns how often each parameter gets a gradient. Every process must compute gradients of the
/// same parameters, as often in each step; where one does not, the sum is an error. A parameter without a gradient in the first
/// step must have none later, which is an error, too.
#[derive(Debug)]
pub struct GradientReducer {
    raw: *mut c_void,
    group: Rc<ProcessGroup>,
}

impl GradientReducer {
    /// Returns the reducer of these parameters, in the same order on all processes.
    ///
    /// # Errors
    /// [`GroupError::Operation`], also where the parameters have other shapes on another process.
    pub fn new(group: Rc<ProcessGroup>, parameters: &[Tensor]) -> Result<Self, GroupError> {
        Self::with_buckets_of(BUCKET_BYTES, group, parameters)
    }

    /// As [`Self::new`], with buckets of about so many bytes.
    pub(super) fn with_buckets_of(
        bucket_bytes: i64,
        group: Rc<ProcessGroup>,
        parameters: &[Tensor],
    ) -> Result<Self, GroupError> {
        let mut pointers: Vec<_> = parameters.iter().map(raw).collect();
        let (first, n, mut reducer) = (pointers.as_mut_ptr(), pointers.len(), std::ptr::null_mut());
        // SAFETY: group and parameters live; `reducer` receives one that we own, which keeps what it needs of both.
        let status = unsafe { ffi::brt_reducer_new(group.raw(), first, n, bucket_bytes, &mut reducer) };
        group.done("comparison of parameters", status)?;
        Ok(Self { raw: reducer, group })
    }

    /// Makes all gradients zero: the beginning of a step. They stay in one place for the whole training, that of their sums, where
    /// backward passes add to them; gradients elsewhere are an error of [`Self::wait`].
    pub fn clear(&mut self) {
        // SAFETY: the reducer lives.
        crate::check(unsafe { ffi::brt_reducer_clear(self.raw) });
    }

    /// Says that the backward pass that comes has the last gradients of the step. Those of earlier ones, since
    /// [`Self::clear`], are summed with them.
    pub fn begin(&mut self) {
        // SAFETY: the reducer lives.
        crate::check(unsafe { ffi::brt_reducer_begin(self.raw) });
    }

    /// Waits until the gradients are the sums over all processes, and returns the number of their bytes.
    ///
    /// # Errors
    /// [`GroupError::Operation`].
    pub fn wait(&mut self) -> Result<u64, GroupError> {
        let mut num_bytes = 0;
        // SAFETY: the reducer lives.
        self.group.done("sum of gradients", unsafe { ffi::brt_reducer_wait(self.raw, &mut num_bytes) })?;
        Ok(num_bytes as u64)
    }
}

impl Drop for GradientReducer {
    fn drop(&mut self) {
        // SAFETY: ours, given back once.
        unsafe { ffi::brt_reducer_free(self.raw) }
    }
}
