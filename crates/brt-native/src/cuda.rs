//! One binary for CPU and CUDA.

use std::ffi::CStr;

/// Loads `libtorch_cuda.so` where the libtorch in use has one, so that a binary linked to the CPU library alone can
/// use the GPU. Must run before the first tensor operation: libtorch decides once whether it has CUDA.
///
/// # Errors
/// The loader's message where there is no such library: the process then runs on the CPU.
pub fn load_cuda() -> Result<(), String> {
    // SAFETY: loading runs libtorch's own initialisers, which expect exactly this call.
    unsafe {
        let flags = libc::RTLD_NOW | libc::RTLD_GLOBAL;
        if libc::dlopen(c"libtorch_cuda.so".as_ptr(), flags).is_null() {
            return Err(CStr::from_ptr(libc::dlerror()).to_string_lossy().into_owned());
        }
    }
    Ok(())
}
