//! Shape checks at the door of each operation.

use tch::Tensor;

/// Returns the `R` dimensions of `x`.
///
/// # Panics
/// Where `x` has another number of dimensions, with `name`, both numbers and the caller's line.
///
/// ```
/// let x = tch::Tensor::zeros([2, 3], (tch::Kind::Float, tch::Device::Cpu));
/// let [rows, columns] = brt_ops::dims("x", &x);
/// assert_eq!((rows, columns), (2, 3));
/// ```
#[track_caller]
pub fn dims<const R: usize>(name: &str, x: &Tensor) -> [i64; R] {
    let size = x.size();
    let Ok(dims) = size.as_slice().try_into() else {
        panic!("{name}: expected {R} dimensions, got {size:?}");
    };
    dims
}

/// Checks the shape of `x`.
///
/// # Panics
/// Where it is not `expected`, with `name`, both shapes and the caller's line.
#[track_caller]
pub fn expect_shape(name: &str, x: &Tensor, expected: &[i64]) {
    let size = x.size();
    assert!(size == expected, "{name}: expected shape {expected:?}, got {size:?}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Device, Kind};

    #[test]
    #[should_panic(expected = "keys: expected 3 dimensions, got [2, 3]")]
    fn dims_names_the_tensor() {
        let _: [i64; 3] = dims("keys", &Tensor::zeros([2, 3], (Kind::Float, Device::Cpu)));
    }

    #[test]
    #[should_panic(expected = "update: expected shape [2, 4], got [2, 3]")]
    fn expect_shape_names_both_shapes() {
        expect_shape("update", &Tensor::zeros([2, 3], (Kind::Float, Device::Cpu)), &[2, 4]);
    }
}
