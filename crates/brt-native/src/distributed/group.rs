//! Operations of all processes together.

use std::{
    ffi::{c_int, c_void},
    time::Duration,
};

use tch::{Kind, Tensor};

use super::{
    GroupError, Rendezvous, reason,
    rendezvous::{host_name, millis},
    store::{Store, done, text},
};
use crate::{ffi, raw};

/// Processes that work together: c10d, with Gloo for tensors on the CPU.
///
/// Every process of the group calls the same operations in the same order. Where one of them has ended, or the network does
/// not answer within the time limit, the operation is an error on all others.
///
/// ```no_run
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::time::Duration;
/// use brt_native::Rendezvous;
/// use tch::Tensor;
///
/// // torchrun or `brt launch` have set the environment of each process.
/// let Some(rendezvous) = Rendezvous::from_env(|name| std::env::var(name).ok())? else { return Ok(()) };
/// let group = rendezvous.join(Duration::from_secs(60))?;
/// let x = Tensor::from_slice(&[1.0f32]);
/// group.all_reduce(&x)?;
/// assert_eq!(x.double_value(&[0]), group.world_size() as f64);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct ProcessGroup {
    raw: *mut c_void,
    rank: usize,
    world_size: usize,
    host: String,
    _store: Store, // What Gloo has met at.
}

// SAFETY: c10d's process groups may be used from any thread; operations take `&self` and are called by one thread at a time
// in the same order on all processes, which is the contract of every operation.
unsafe impl Send for ProcessGroup {}
// SAFETY: as above.
unsafe impl Sync for ProcessGroup {}

impl ProcessGroup {
    pub(super) fn new(
        store: Store,
        rendezvous: &Rendezvous,
        (address, is_interface): (&str, bool),
        timeout: Duration,
    ) -> Result<Self, String> {
        let &Rendezvous { rank, world_size, .. } = rendezvous;
        let (address, mut raw) = (text(address), std::ptr::null_mut());
        // SAFETY: the store lives as long as the group; `raw` receives a group that we own.
        done(unsafe {
            ffi::brt_group_new(
                store.0,
                rank as c_int,
                world_size as c_int,
                millis(timeout),
                address.as_ptr(),
                c_int::from(is_interface),
                &mut raw,
            )
        })?;
        Ok(Self { raw, rank, world_size, host: host_name(), _store: store })
    }

    /// Returns the number of this process, from 0.
    pub fn rank(&self) -> usize {
        self.rank
    }

    /// Returns the number of processes.
    pub fn world_size(&self) -> usize {
        self.world_size
    }

    /// Returns the name of this process's host.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Replaces a tensor by its sum over all processes, the same to the last bit on each.
    ///
    /// # Errors
    /// [`GroupError::Operation`].
    pub fn all_reduce(&self, x: &Tensor) -> Result<(), GroupError> {
        // SAFETY: group and tensor live.
        self.done("sum over all processes", unsafe { ffi::brt_all_reduce(self.raw, raw(x)) })
    }

    /// Replaces tensors by those of one process.
    ///
    /// # Errors
    /// [`GroupError::Operation`].
    pub fn broadcast(&self, tensors: &[Tensor], from_rank: usize) -> Result<(), GroupError> {
        let mut pointers: Vec<_> = tensors.iter().map(raw).collect();
        let (first, n) = (pointers.as_mut_ptr(), pointers.len());
        // SAFETY: group and tensors live.
        let status = unsafe { ffi::brt_broadcast(self.raw, first, n, from_rank as c_int) };
        self.done("broadcast", status)
    }

    /// Returns the tensors of all processes, by rank; they have one shape and kind.
    ///
    /// # Errors
    /// [`GroupError::Operation`].
    pub fn all_gather(&self, x: &Tensor) -> Result<Vec<Tensor>, GroupError> {
        let x = x.contiguous();
        let out: Vec<Tensor> = (0..self.world_size).map(|_| x.empty_like()).collect();
        let mut pointers: Vec<_> = out.iter().map(raw).collect();
        let (first, n) = (pointers.as_mut_ptr(), pointers.len());
        // SAFETY: group and tensors live.
        self.done("gather", unsafe { ffi::brt_all_gather(self.raw, raw(&x), first, n) })?;
        Ok(out)
    }

    /// Returns the bytes of all processes, by rank; they may have any lengths.
    ///
    /// # Errors
    /// [`GroupError::Operation`].
    pub fn all_gather_bytes(&self, bytes: &[u8]) -> Result<Vec<Vec<u8>>, GroupError> {
        let lens = self.all_gather(&Tensor::from_slice(&[bytes.len() as i64]))?;
        let lens: Vec<usize> = lens.iter().map(|len| len.int64_value(&[0]) as usize).collect();
        let longest = lens.iter().copied().max().unwrap_or(0).max(1);
        let mut padded = bytes.to_vec();
        padded.resize(longest, 0);
        let all = self.all_gather(&Tensor::from_slice(&padded))?;
        let cut = |(x, len): (Tensor, usize)| {
            let mut bytes: Vec<u8> = x.to_kind(Kind::Uint8).try_into().expect("a vector of bytes");
            bytes.truncate(len);
            bytes
        };
        Ok(all.into_iter().zip(lens).map(cut).collect())
    }

    /// Returns when all processes have called it.
    ///
    /// # Errors
    /// [`GroupError::Operation`].
    pub fn barrier(&self) -> Result<(), GroupError> {
        // SAFETY: the group lives.
        self.done("barrier", unsafe { ffi::brt_barrier(self.raw) })
    }

    pub(super) fn raw(&self) -> *mut c_void {
        self.raw
    }

    pub(super) fn done(&self, operation: &'static str, status: c_int) -> Result<(), GroupError> {
        let &Self { rank, world_size, .. } = self;
        done(status).map_err(|error| GroupError::Operation {
            rank,
            world_size,
            host: self.host.clone(),
            operation,
            reason: reason(&error),
        })
    }
}

impl Drop for ProcessGroup {
    fn drop(&mut self) {
        // SAFETY: ours, given back once.
        unsafe { ffi::brt_group_free(self.raw) }
    }
}
