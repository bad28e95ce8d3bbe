//! Something to measure.

use brt_report::BenchGroup;
use brt_trainer::TrainError;
use tch::{Device, Kind};

/// Something to measure.
pub(crate) struct Item {
    pub(crate) group: BenchGroup,
    pub(crate) name: String,
    pub(crate) kind: Kind,
    /// Multiplications and additions of matrix products.
    pub(crate) flops: f64,
    /// Bytes read and written, where memory may be what limits.
    pub(crate) bytes: f64,
    /// Does it once, to its end.
    pub(crate) work: Box<dyn FnMut() -> Result<(), TrainError>>,
}

/// Waits until the device has done all that it was given.
pub(crate) fn synchronise(device: Device) {
    if let Device::Cuda(idx) = device {
        tch::Cuda::synchronize(idx as i64);
    }
}
