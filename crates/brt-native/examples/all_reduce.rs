//! Times the sum of tensors of several sizes over all processes; a line of JSON for each size.
//!
//! `torchrun --standalone --nproc-per-node 2 --no-python target/release/examples/all_reduce`
#![expect(clippy::print_stdout, reason = "a program for the command line")]

use std::{
    error::Error,
    time::{Duration, Instant},
};

use brt_native::Rendezvous;
use tch::{Device, Kind, Tensor};

const NUM_ROUNDS: usize = 7;

fn main() -> Result<(), Box<dyn Error>> {
    tch::set_num_threads(1);
    let rendezvous = Rendezvous::from_env(|name| std::env::var(name).ok())?;
    let rendezvous =
        rendezvous.ok_or("expected RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT; start it with torchrun")?;
    let group = rendezvous.join(Duration::from_secs(60))?;
    for exponent in [0, 10, 14, 16, 18, 20] {
        let x = Tensor::ones([1 << exponent], (Kind::Float, Device::Cpu));
        let mut secs = vec![];
        for _ in 0..NUM_ROUNDS {
            group.barrier()?;
            let start = Instant::now();
            group.all_reduce(&x)?;
            secs.push(start.elapsed().as_secs_f64());
        }
        secs.sort_by(f64::total_cmp);
        if group.rank() == 0 {
            println!("{{\"bytes\": {}, \"median_secs\": {:.6}}}", 4 << exponent, secs[NUM_ROUNDS / 2]);
        }
    }
    group.barrier()?;
    Ok(())
}
