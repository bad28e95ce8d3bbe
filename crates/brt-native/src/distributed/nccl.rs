//! NCCL, which sums tensors on GPUs: a library that is embedded in this program where the headers were there to build it.

use std::{
    ffi::{CStr, CString, c_char, c_int, c_void},
    fs::File,
    io::Write,
    os::fd::{AsRawFd, FromRawFd},
};

/// The library of `cpp/nccl.cpp`; `None` where the program was built without the headers of CUDA and NCCL.
#[cfg(brt_nccl)]
const LIBRARY: Option<&[u8]> = Some(include_bytes!(concat!(env!("OUT_DIR"), "/libbrt_nccl.so")));
#[cfg(not(brt_nccl))]
const LIBRARY: Option<&[u8]> = None;

type Add = unsafe extern "C" fn(*mut c_void, i64, *mut c_char, usize) -> c_int;

/// Lets a group sum tensors on GPUs. `libtorch_cuda` must have been loaded.
pub(super) fn add(processes: *mut c_void, timeout_ms: i64) -> Result<(), String> {
    let library =
        LIBRARY.ok_or("this brt was built without it (cargo xtask setup --nccl, then build again)")?;
    let add = load(library)?;
    let mut message = [0 as c_char; 1000];
    // SAFETY: `processes` is the group's of `brt_group_processes`; the message ends with a zero within its length.
    unsafe {
        match add(processes, timeout_ms, message.as_mut_ptr(), message.len()) {
            0 => Ok(()),
            _ => Err(CStr::from_ptr(message.as_ptr()).to_string_lossy().into_owned()),
        }
    }
}

/// Loads a library from memory, for the rest of the process.
fn load(library: &[u8]) -> Result<Add, String> {
    // SAFETY: a new file in memory, whose number nobody else has; the library's initialisers are libstdc++'s alone, and the
    // function has this type.
    unsafe {
        let number = libc::memfd_create(c"brt_nccl".as_ptr(), libc::MFD_CLOEXEC);
        if number < 0 {
            return Err(std::io::Error::last_os_error().to_string());
        }
        let mut file = File::from_raw_fd(number);
        file.write_all(library).map_err(|error| error.to_string())?;
        let path = CString::new(format!("/proc/self/fd/{}", file.as_raw_fd())).expect("no zeros");
        let handle = libc::dlopen(path.as_ptr(), libc::RTLD_NOW);
        let function = if handle.is_null() { handle } else { libc::dlsym(handle, c"brt_nccl_add".as_ptr()) };
        if function.is_null() {
            return Err(CStr::from_ptr(libc::dlerror()).to_string_lossy().into_owned());
        }
        Ok(std::mem::transmute::<*mut c_void, Add>(function))
    }
}
