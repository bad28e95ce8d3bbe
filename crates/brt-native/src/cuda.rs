//! One binary for CPU and CUDA.

use std::{
    ffi::{CStr, CString},
    fs,
    path::PathBuf,
};

const LIBRARY: &str = "libtorch_cuda.so";

/// Loads `libtorch_cuda.so` where the libtorch in use has one, so that a binary linked to the CPU library alone can
/// use the GPU. Must run before the first tensor operation: libtorch decides once whether it has CUDA.
///
/// # Errors
/// The loader's message where there is no such library: the process then runs on the CPU.
pub fn load_cuda() -> Result<(), String> {
    // Beside the CPU library, wherever links led to it; else wherever the loader looks.
    let beside = loaded_library("libtorch_cpu.so").map(|path| path.with_file_name(LIBRARY));
    let path = beside.filter(|path| path.exists()).unwrap_or_else(|| LIBRARY.into());
    let path = CString::new(path.as_os_str().as_encoded_bytes()).map_err(|error| error.to_string())?;
    // SAFETY: loading runs libtorch's own initialisers, which expect exactly this call.
    unsafe {
        if libc::dlopen(path.as_ptr(), libc::RTLD_NOW | libc::RTLD_GLOBAL).is_null() {
            return Err(CStr::from_ptr(libc::dlerror()).to_string_lossy().into_owned());
        }
    }
    Ok(())
}

/// Returns the file of a library that this process has loaded, links resolved.
pub fn loaded_library(name: &str) -> Option<PathBuf> {
    let maps = fs::read_to_string("/proc/self/maps").ok()?;
    let line = maps.lines().find(|line| line.ends_with(&format!("/{name}")))?;
    line.find('/').map(|start| line[start..].into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cpu_library_is_found_where_it_is() {
        // Any call links the library in.
        assert!(!crate::torch_version().is_empty());
        let path = loaded_library("libtorch_cpu.so").unwrap();
        assert!(path.is_absolute() && path.exists(), "{}", path.display());
        assert_eq!(loaded_library("libnone.so"), None);
    }
}
