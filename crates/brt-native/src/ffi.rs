//! The C functions of `cpp/`.

use std::ffi::{c_char, c_int};

use torch_sys::C_tensor;

unsafe extern "C" {
    pub(crate) fn brt_last_error() -> *const c_char;
    pub(crate) fn brt_rms_norm(
        x: *mut C_tensor,
        weight: *mut C_tensor,
        eps: f64,
        out: *mut *mut C_tensor,
    ) -> c_int;
    pub(crate) fn brt_drop_gradients(parameters: *mut *mut C_tensor, n: usize) -> c_int;
    pub(crate) fn brt_torch_version() -> *const c_char;
    pub(crate) fn brt_cpu_capability() -> *const c_char;
    pub(crate) fn brt_show_config() -> *const c_char;
}
