//! Operations of all processes together.

use std::{
    ffi::{c_int, c_void},
    time::Duration,
};

use tch::{Kind, Tensor};

use super::{
    GroupError, Rendezvous,
    card::Address,
    nccl,
    network::host_name,
    reason,
    store::{Store, done, millis, text},
};
use crate::{ffi, raw};

/// Processes that work together: c10d, with Gloo for tensors on the CPU, and NCCL for those on GPUs ([`Self::add_gpus`]).
///
/// A process has one group at a time, on one thread: c10d writes down what a process does without a lock. Every process of the
/// group calls the same operations in the same order. Where one of them has ended, or the network does
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
    timeout_ms: i64,
    _store: Store, // Rank 0 serves it as long as it has the group.
}

impl ProcessGroup {
    pub(super) fn new(
        store: Store,
        prefix: &str,
        rendezvous: &Rendezvous,
        address: &Address,
        timeout: Duration,
    ) -> Result<Self, String> {
        let &Rendezvous { rank, world_size, .. } = rendezvous;
        let (address, is_interface) = match address {
            Address::Ip(address) => (address, 0),
            Address::Interface(name) => (name, 1),
        };
        let (address, prefix, mut raw) = (text(address), text(prefix), std::ptr::null_mut());
        // SAFETY: the store lives as long as the group; `raw` receives a group that we own.
        done(unsafe {
            ffi::brt_group_new(
                store.0,
                prefix.as_ptr(),
                rank as c_int,
                world_size as c_int,
                millis(timeout),
                address.as_ptr(),
                is_interface,
                &mut raw,
            )
        })?;
        Ok(Self { raw, rank, world_size, host: host_name(), timeout_ms: millis(timeout), _store: store })
    }

    /// Lets the group work on tensors on GPUs, too, through NCCL. Each process has set its own GPU, and all call this.
    ///
    /// # Errors
    /// [`GroupError::Nccl`] where this program was built without it, or there is no GPU.
    pub fn add_gpus(&self) -> Result<(), GroupError> {
        // SAFETY: the group lives.
        let processes = unsafe { ffi::brt_group_processes(self.raw) };
        let host = self.host.clone();
        nccl::add(processes, self.timeout_ms).map_err(|e| GroupError::Nccl {
            rank: self.rank,
            host,
            reason: reason(&e),
        })
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

    /// Returns the sums of a few numbers over all n processes, the same to the last bit on each: 2 ⌈log₂ n⌉ messages one after the
    /// other, where [`Self::all_reduce`] on the CPU takes 2 (n − 1) and sends fewer bytes.
    ///
    /// # Errors
    /// [`GroupError::Operation`].
    pub fn sum<const N: usize>(&self, numbers: [f64; N]) -> Result<[f64; N], GroupError> {
        let sums = Tensor::from_slice(&numbers);
        // SAFETY: group and tensor live.
        self.done("sum of numbers", unsafe { ffi::brt_sum_few(self.raw, raw(&sums)) })?;
        Ok(std::array::from_fn(|i| sums.double_value(&[i as i64])))
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
