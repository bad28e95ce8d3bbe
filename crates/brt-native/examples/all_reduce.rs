//! Times sums over all processes, of tensors of several sizes and of a few numbers; a line of JSON for each.
//!
//! `torchrun --standalone --nproc-per-node 2 --no-python target/release/examples/all_reduce`
#![expect(clippy::print_stdout, reason = "a program for the command line")]

use std::{
    error::Error,
    time::{Duration, Instant},
};

use brt_native::{GroupError, Rendezvous};
use tch::{Device, Kind, Tensor};

const NUM_ROUNDS: usize = 7;
/// Sums in a round, one after the other: what the last process waits for counts.
const NUM_SUMS: u32 = 3;

fn main() -> Result<(), Box<dyn Error>> {
    tch::set_num_threads(1);
    let rendezvous = Rendezvous::from_env(|name| std::env::var(name).ok())?;
    let rendezvous =
        rendezvous.ok_or("expected RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT; start it with torchrun")?;
    let group = rendezvous.join(Duration::from_secs(60))?;
    let report = |what: &str, size: usize, sum: &dyn Fn() -> Result<(), GroupError>| {
        let mut secs = vec![];
        for _ in 0..NUM_ROUNDS {
            group.barrier()?;
            let start = Instant::now();
            for _ in 0..NUM_SUMS {
                sum()?;
            }
            secs.push(start.elapsed().as_secs_f64() / f64::from(NUM_SUMS));
        }
        secs.sort_by(f64::total_cmp);
        if group.rank() == 0 {
            println!("{{\"{what}\": {size}, \"median_secs\": {:.6}}}", secs[NUM_ROUNDS / 2]);
        }
        Ok::<(), GroupError>(())
    };
    for exponent in [0, 4, 10, 14, 16, 18, 20] {
        let x = Tensor::ones([1 << exponent], (Kind::Float, Device::Cpu));
        report("bytes", 4 << exponent, &|| group.all_reduce(&x))?;
    }
    report("numbers", 4, &|| group.sum([1.; 4]).map(drop))?;
    group.barrier()?;
    Ok(())
}
