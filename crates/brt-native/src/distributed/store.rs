//! Values by name that all processes see: c10d's store on TCP.

use std::{
    ffi::{CString, c_int, c_void},
    time::Duration,
};

use tch::Tensor;

use crate::{ffi, last_error};

/// A connection to the store. One process serves it.
#[derive(Debug)]
pub(super) struct Store(pub(super) *mut c_void);

impl Store {
    /// Serves the store at this port.
    pub(super) fn serve(at: (&str, u16), timeout: Duration) -> Result<Self, String> {
        Self::open(at, 1, timeout)
    }

    /// Connects to the store that another process serves.
    pub(super) fn connect(to: (&str, u16), timeout: Duration) -> Result<Self, String> {
        Self::open(to, 0, timeout)
    }

    fn open((host, port): (&str, u16), serves: c_int, timeout: Duration) -> Result<Self, String> {
        let (host, prefix, mut store) = (text(host), text("brt"), std::ptr::null_mut());
        let prefix = prefix.as_ptr();
        // SAFETY: the texts live for the call, `store` receives a store that we own.
        done(unsafe {
            ffi::brt_store_open(host.as_ptr(), port.into(), serves, millis(timeout), prefix, &mut store)
        })?;
        Ok(Self(store))
    }

    pub(super) fn set(&self, key: &str, value: &str) -> Result<(), String> {
        let (key, value) = (text(key), value.as_bytes());
        // SAFETY: the store lives, the bytes are `value`.
        done(unsafe { ffi::brt_store_set(self.0, key.as_ptr(), value.as_ptr(), value.len()) })
    }

    /// Returns a value, `None` where nobody has set it yet.
    pub(super) fn get(&self, key: &str) -> Result<Option<String>, String> {
        let (key, mut is_there, mut out) = (text(key), 0, std::ptr::null_mut());
        // SAFETY: the store lives; `out` receives a new tensor that we own.
        let bytes = unsafe {
            done(ffi::brt_store_has(self.0, key.as_ptr(), &mut is_there))?;
            if is_there == 0 {
                return Ok(None);
            }
            done(ffi::brt_store_get(self.0, key.as_ptr(), &mut out))?;
            Tensor::from_ptr(out)
        };
        let bytes: Vec<u8> = bytes.try_into().expect("a vector of bytes");
        Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
    }

    /// Adds 1 to a number and returns it.
    pub(super) fn count(&self, key: &str) -> Result<i64, String> {
        let (key, mut sum) = (text(key), 0);
        // SAFETY: the store lives.
        done(unsafe { ffi::brt_store_add(self.0, key.as_ptr(), 1, &mut sum) })?;
        Ok(sum)
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        // SAFETY: ours, given back once.
        unsafe { ffi::brt_store_free(self.0) }
    }
}

/// Returns a text for C; nothing that we send has zeros inside.
pub(super) fn text(text: &str) -> CString {
    CString::new(text.replace('\0', " ")).expect("no zeros")
}

/// Returns libtorch's message where a call failed.
pub(super) fn done(status: c_int) -> Result<(), String> {
    if status == 0 { Ok(()) } else { Err(last_error()) }
}

/// Returns a time as C++ takes it.
pub(super) fn millis(time: Duration) -> i64 {
    time.as_millis().try_into().unwrap_or(i64::MAX)
}
