//! What libtorch and the operating system say about themselves and this process.

use std::{
    ffi::{CStr, CString, c_char},
    os::unix::ffi::OsStrExt,
    path::Path,
};

use tch::Device;

use crate::ffi;

/// Returns the version of libtorch that this program was built against, for example `2.11.0`.
pub fn torch_version() -> String {
    // SAFETY: the function takes nothing and returns static text.
    text(unsafe { ffi::brt_torch_version() })
}

/// Returns the instruction set that libtorch's own kernels use, for example `AVX512`.
pub fn cpu_capability() -> String {
    // SAFETY: the function takes nothing and returns static text.
    text(unsafe { ffi::brt_cpu_capability() })
}

/// Returns libtorch's description of its build: compilers, BLAS, OpenMP, flags.
pub fn build_info() -> String {
    // SAFETY: the function takes nothing and returns static text.
    text(unsafe { ffi::brt_show_config() })
}

/// Returns the processor time that this process has used so far, user and system, in seconds.
pub fn cpu_secs() -> f64 {
    let usage = usage();
    let secs = |t: libc::timeval| t.tv_sec as f64 + t.tv_usec as f64 * 1e-6;
    secs(usage.ru_utime) + secs(usage.ru_stime)
}

/// Returns the number of cores that this process may use, two threads of one core counted once; at least 1.
pub fn num_physical_cores() -> usize {
    let allowed = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let siblings = allowed_cpus().into_iter().map(|cpu| {
        let path = format!("/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list");
        // A system that does not say has cores of one thread.
        std::fs::read_to_string(path).unwrap_or_else(|_| cpu.to_string())
    });
    let cores: std::collections::BTreeSet<String> = siblings.collect();
    // A system that does not say which processors they are has at least told how many.
    if cores.is_empty() { allowed } else { cores.len().min(allowed) }
}

/// Returns the numbers of the processors that this process may run on.
fn allowed_cpus() -> Vec<usize> {
    // SAFETY: the set is plain bits, which the call fills.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        if libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &mut set) != 0 {
            return vec![];
        }
        (0..libc::CPU_SETSIZE as usize).filter(|&cpu| libc::CPU_ISSET(cpu, &set)).collect()
    }
}

/// Returns the resident memory of this process in bytes; 0 where the system does not tell.
pub fn resident_bytes() -> u64 {
    /// Pages are that large on every system that has `/proc/self/statm` and libtorch.
    const PAGE_BYTES: u64 = 4096;
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    text.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or(0) * PAGE_BYTES
}

/// Returns the largest resident memory of this process so far, in bytes.
pub fn peak_resident_bytes() -> u64 {
    usage().ru_maxrss.unsigned_abs() * 1024
}

/// Returns the most bytes that tensors took on a CUDA device so far; `None` on the CPU, and before there are any.
pub fn peak_device_bytes(device: Device) -> Option<u64> {
    let Device::Cuda(idx) = device else { return None };
    let mut bytes = 0;
    // SAFETY: `bytes` receives a number.
    let status = unsafe { ffi::brt_peak_device_bytes(idx as i32, &mut bytes) };
    (status == 0).then(|| bytes.unsigned_abs())
}

/// Returns the number of bytes that this process may still write to the file system of a folder; `None` where the system
/// does not say, or has no disk there.
pub fn available_bytes(folder: &Path) -> Option<u64> {
    let path = CString::new(folder.as_os_str().as_bytes()).ok()?;
    // SAFETY: the path is zero-terminated; statvfs fills the whole struct where it returns 0.
    unsafe {
        let mut info: libc::statvfs = std::mem::zeroed();
        (libc::statvfs(path.as_ptr(), &mut info) == 0 && info.f_blocks > 0)
            .then(|| info.f_bavail * info.f_frsize)
    }
}

fn usage() -> libc::rusage {
    // SAFETY: getrusage fills the whole struct; it cannot fail for RUSAGE_SELF.
    unsafe {
        let mut usage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_SELF, &mut usage);
        usage
    }
}

fn text(pointer: *const c_char) -> String {
    // SAFETY: the functions of `ffi` return static, zero-terminated text.
    unsafe { CStr::from_ptr(pointer) }.to_string_lossy().into_owned()
}
