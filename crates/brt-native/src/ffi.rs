//! The C functions of `cpp/`.

use std::ffi::{c_char, c_int, c_void};

use torch_sys::C_tensor;

/// Calls a closure with inputs, into outputs; the last number but two says whether it is the backward pass.
pub(crate) type SegmentCall =
    extern "C" fn(*mut c_void, *mut *mut C_tensor, usize, c_int, *mut *mut C_tensor, usize) -> c_int;

/// Calls a closure with the gradients of outputs (or null) and saved tensors; it fills in those of inputs (or null).
pub(crate) type BackwardCall = extern "C" fn(
    *mut c_void,
    *mut *mut C_tensor,
    usize,
    *mut *mut C_tensor,
    usize,
    *mut *mut C_tensor,
    usize,
) -> c_int;

unsafe extern "C" {
    pub(crate) fn brt_last_error() -> *const c_char;
    pub(crate) fn brt_drop_gradients(parameters: *mut *mut C_tensor, n: usize) -> c_int;
    pub(crate) fn brt_torch_version() -> *const c_char;
    pub(crate) fn brt_cpu_capability() -> *const c_char;
    pub(crate) fn brt_show_config() -> *const c_char;
    pub(crate) fn brt_adamw(
        parameters: *mut *mut C_tensor,
        gradients: *mut *mut C_tensor,
        first: *mut *mut C_tensor,
        second: *mut *mut C_tensor,
        n: usize,
        step_idx: i64,
        learning_rate: f64,
        beta1: f64,
        beta2: f64,
        epsilon: f64,
        weight_decay: f64,
    ) -> c_int;
    pub(crate) fn brt_recompute(
        call: SegmentCall,
        drop: extern "C" fn(*mut c_void),
        closure: *mut c_void,
        inputs: *mut *mut C_tensor,
        num_inputs: usize,
        outputs: *mut *mut C_tensor,
        num_outputs: usize,
    ) -> c_int;
    pub(crate) fn brt_is_autocast(like: *mut C_tensor) -> c_int;
    pub(crate) fn brt_backward(outputs: *mut *mut C_tensor, gradients: *mut *mut C_tensor, n: usize)
    -> c_int;
    pub(crate) fn brt_peak_device_bytes(device_idx: c_int, out: *mut i64) -> c_int;
    pub(crate) fn brt_grad_is_enabled() -> c_int;
    pub(crate) fn brt_attach(
        call: BackwardCall,
        drop: extern "C" fn(*mut c_void),
        closure: *mut c_void,
        inputs: *mut *mut C_tensor,
        num_inputs: usize,
        saved: *mut *mut C_tensor,
        num_saved: usize,
        outputs: *mut *mut C_tensor,
        num_outputs: usize,
    ) -> c_int;
    pub(crate) fn brt_set_autocast(like: *mut C_tensor, on: c_int, before: *mut c_int) -> c_int;
    pub(crate) fn brt_generator_state(like: *mut C_tensor, out: *mut *mut C_tensor) -> c_int;
    pub(crate) fn brt_set_generator_state(like: *mut C_tensor, state: *mut C_tensor) -> c_int;
    pub(crate) fn brt_store_open(
        host: *const c_char,
        port: c_int,
        serve: c_int,
        timeout_ms: i64,
        prefix: *const c_char,
        out: *mut *mut c_void,
    ) -> c_int;
    pub(crate) fn brt_store_set(store: *mut c_void, key: *const c_char, bytes: *const u8, n: usize) -> c_int;
    pub(crate) fn brt_store_get(store: *mut c_void, key: *const c_char, out: *mut *mut C_tensor) -> c_int;
    pub(crate) fn brt_store_has(store: *mut c_void, key: *const c_char, out: *mut c_int) -> c_int;
    pub(crate) fn brt_store_add(store: *mut c_void, key: *const c_char, value: i64, out: *mut i64) -> c_int;
    pub(crate) fn brt_store_free(store: *mut c_void);
    pub(crate) fn brt_group_new(
        store: *mut c_void,
        prefix: *const c_char,
        rank: c_int,
        size: c_int,
        timeout_ms: i64,
        address: *const c_char,
        is_interface: c_int,
        out: *mut *mut c_void,
    ) -> c_int;
    pub(crate) fn brt_group_free(group: *mut c_void);
    pub(crate) fn brt_group_processes(group: *mut c_void) -> *mut c_void;
    pub(crate) fn brt_all_reduce(group: *mut c_void, x: *mut C_tensor) -> c_int;
    pub(crate) fn brt_sum_few(group: *mut c_void, x: *mut C_tensor) -> c_int;
    pub(crate) fn brt_broadcast(
        group: *mut c_void,
        tensors: *mut *mut C_tensor,
        n: usize,
        root: c_int,
    ) -> c_int;
    pub(crate) fn brt_all_gather(
        group: *mut c_void,
        x: *mut C_tensor,
        out: *mut *mut C_tensor,
        n: usize,
    ) -> c_int;
    pub(crate) fn brt_barrier(group: *mut c_void) -> c_int;
    pub(crate) fn brt_reducer_new(
        group: *mut c_void,
        parameters: *mut *mut C_tensor,
        n: usize,
        bucket_bytes: i64,
        out: *mut *mut c_void,
    ) -> c_int;
    pub(crate) fn brt_reducer_clear(reducer: *mut c_void) -> c_int;
    pub(crate) fn brt_reducer_begin(reducer: *mut c_void) -> c_int;
    pub(crate) fn brt_reducer_wait(reducer: *mut c_void, num_bytes: *mut i64) -> c_int;
    pub(crate) fn brt_reducer_free(reducer: *mut c_void);
}
