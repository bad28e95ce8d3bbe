//! The fused RMS norm against the same composed of tensor operations: prints the times of both, forward and backward.
#![expect(clippy::print_stdout, reason = "an example speaks to its reader")]

use std::time::Instant;

use tch::{Device, Kind, Tensor};

fn main() {
    println!("libtorch {}, {}", brt_native::torch_version(), brt_native::cpu_capability());
    tch::set_num_threads(1);
    let options = (Kind::Float, Device::Cpu);
    let x = Tensor::randn([4096, 512], options).set_requires_grad(true);
    let weight = Tensor::ones([512], options).set_requires_grad(true);
    let time = |name: &str, f: &dyn Fn() -> Tensor| {
        f().sum(Kind::Float).backward();
        let start = Instant::now();
        for _ in 0..10 {
            f().sum(Kind::Float).backward();
        }
        println!("{name}: {:.2} ms", start.elapsed().as_secs_f64() * 100.);
    };
    time("fused", &|| brt_native::rms_norm(&x, &weight, 1e-6));
    time("composed", &|| (x.square().mean_dim(-1, true, Kind::Float) + 1e-6).rsqrt() * &x * &weight);
}
