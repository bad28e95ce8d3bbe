//! What the machine can do: matrix products and copies.

use brt_report::BenchGroup;
use tch::{Device, Kind, Tensor};

use crate::item::Item;

/// Sizes of the products `[m, k] · [k, n]`: a cube, and those of a layer.
const PRODUCTS: [[i64; 3]; 3] = [[1024, 1024, 1024], [4096, 512, 2048], [4096, 1024, 4096]];
/// The same on a GPU.
const LARGE_PRODUCTS: [[i64; 3]; 3] = [[8192, 8192, 8192], [8192, 1024, 4096], [32_768, 1024, 4096]];
/// Values of a copy: far more than any cache holds.
const COPY_VALUES: i64 = 1 << 26;

pub(crate) fn items(kinds: &[Kind], device: Device) -> Vec<Item> {
    let products = if device.is_cuda() { LARGE_PRODUCTS } else { PRODUCTS };
    let products = kinds.iter().flat_map(|&kind| products.map(|size| product(size, kind, device)));
    products.chain([copy(device)]).collect()
}

fn product([m, k, n]: [i64; 3], kind: Kind, device: Device) -> Item {
    let draw = |size: [i64; 2]| Tensor::randn(size, (Kind::Float, device)).to_kind(kind);
    let (a, b) = (draw([m, k]), draw([k, n]));
    Item {
        group: BenchGroup::Ceiling,
        name: format!("product [{m}, {k}] · [{k}, {n}]"),
        kind,
        flops: 2. * (m * k * n) as f64,
        bytes: 0.,
        work: Box::new(move || {
            let _ = brt_native::product(&a, &b);
            Ok(())
        }),
    }
}

fn copy(device: Device) -> Item {
    let from = Tensor::ones([COPY_VALUES], (Kind::Float, device));
    let mut to = from.zeros_like();
    Item {
        group: BenchGroup::Ceiling,
        name: "copy of 256 MiB".into(),
        kind: Kind::Float,
        flops: 0.,
        bytes: 8. * COPY_VALUES as f64,
        work: Box::new(move || {
            to.copy_(&from);
            Ok(())
        }),
    }
}
