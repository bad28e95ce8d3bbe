//! Processes of this test program, over the loopback. Threads would not do: c10d records what a process does in one place,
//! without a lock.

mod reducer;
mod rendezvous;

use std::{
    net::TcpListener,
    process::{Child, Command, Stdio},
    rc::Rc,
    sync::atomic::{AtomicU16, Ordering},
    thread,
    time::{Duration, Instant},
};

use tch::Tensor;

use super::{ProcessGroup, Rendezvous};

/// Returns a port that nothing uses, below those that the system gives to outgoing connections.
fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = 20_000 + (std::process::id() % 8000) as u16;
    loop {
        let port = first + NEXT.fetch_add(1, Ordering::Relaxed) % 4000;
        if TcpListener::bind(("0.0.0.0", port)).is_ok() {
            return port;
        }
    }
}

/// What a process says that has begun its work.
const BEGUN: &str = "this process has begun its work";

/// Runs `work` on as many processes of this test, given its name from here, and returns whether each ended well and what it
/// said. In those processes it runs `work` and ends.
fn on_each(
    test: &str,
    world_size: usize,
    limit: Duration,
    work: impl Fn(Rc<ProcessGroup>),
) -> Vec<(bool, String)> {
    if let Some(rendezvous) = Rendezvous::from_env(|name| std::env::var(name).ok()).unwrap() {
        if rendezvous.world_size != world_size {
            return vec![]; // Another call of this test is meant.
        }
        let group = Rc::new(rendezvous.join(limit).unwrap());
        eprintln!("{BEGUN}");
        work(Rc::clone(&group));
        std::process::exit(0);
    }
    let port = free_port().to_string();
    let start = |rank: usize| {
        let environment = [
            ("RANK", rank.to_string()),
            ("WORLD_SIZE", world_size.to_string()),
            ("MASTER_ADDR", "127.0.0.1".into()),
            ("MASTER_PORT", port.clone()),
            ("RUST_BACKTRACE", "0".into()),
        ];
        let mut process = Command::new(std::env::current_exe().unwrap());
        process.args([&format!("distributed::tests::{test}"), "--exact", "--nocapture"]).envs(environment);
        process.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let processes: Vec<_> = (0..world_size).map(start).collect();
    let end = |process: Child| {
        let output = process.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        // A name of no test would end well, too.
        assert!(!output.status.success() || said.contains(BEGUN), "{test} is not the name of a test");
        (output.status.success(), said)
    };
    processes.into_iter().map(end).collect()
}

/// As [`on_each`], and all must end well.
fn well_on_each(test: &str, world_size: usize, work: impl Fn(Rc<ProcessGroup>)) {
    for (rank, (is_well, said)) in on_each(test, world_size, LIMIT, work).into_iter().enumerate() {
        assert!(is_well, "rank {rank} of {world_size}: {said}");
    }
}

const LIMIT: Duration = Duration::from_secs(60);

#[test]
fn operations_reach_all_processes() {
    for world_size in [1, 3, 4] {
        well_on_each("operations_reach_all_processes", world_size, |group| {
            let (rank, n) = (group.rank() as f64, world_size as f64);
            let x = Tensor::from_slice(&[1., rank]);
            group.all_reduce(&x).unwrap();
            assert_eq!(x, Tensor::from_slice(&[n, n * (n - 1.) / 2.]));
            // Sums of numbers are the same to the last bit, whatever the order of their terms.
            let third = 1. / (3. + rank);
            let [ranks, nan, thirds] =
                group.sum([rank, if rank == 0. { f64::NAN } else { 0. }, third]).unwrap();
            assert!(ranks == n * (n - 1.) / 2. && nan.is_nan());
            let all = group.all_gather(&Tensor::from_slice(&[thirds])).unwrap();
            assert!(all.iter().all(|other| other.double_value(&[0]).to_bits() == thirds.to_bits()));
            let expected: f64 = (0..world_size).map(|rank| 1. / (3. + rank as f64)).sum();
            assert!((thirds - expected).abs() < 1e-15);
            let last = world_size - 1;
            let tensors = [Tensor::from_slice(&[rank, 7.]), Tensor::from_slice(&[rank])];
            group.broadcast(&tensors, last).unwrap();
            assert_eq!(tensors[0], Tensor::from_slice(&[last as f64, 7.]));
            assert_eq!(tensors[1], Tensor::from_slice(&[last as f64]));
            let gathered = group.all_gather(&Tensor::from_slice(&[rank])).unwrap();
            assert_eq!(gathered.len(), world_size);
            assert!((0..world_size).all(|i| gathered[i].double_value(&[0]) == i as f64));
            let own = vec![b'x'; group.rank() * 3];
            let bytes = group.all_gather_bytes(&own).unwrap();
            let lens: Vec<usize> = bytes.iter().map(Vec::len).collect();
            assert_eq!(lens, (0..world_size).map(|i| i * 3).collect::<Vec<_>>());
            group.barrier().unwrap();
            // On this machine is no GPU, and perhaps no NCCL in this program.
            if !tch::Cuda::is_available() {
                let error = group.add_gpus().unwrap_err().to_string();
                assert!(error.contains("expected NCCL for several processes on GPUs, got none: "), "{error}");
                eprintln!("{error}");
            }
        });
    }
}

/// A process that ends without a word is missed by the others.
#[test]
fn who_ends_is_missed() {
    let said = on_each("who_ends_is_missed", 2, LIMIT, |group| {
        if group.rank() == 0 {
            let error = group.all_reduce(&Tensor::from_slice(&[1.])).unwrap_err();
            eprintln!("{error}");
        }
    });
    assert!(said[0].1.contains("rank 0 of 2 on "), "{}", said[0].1);
    assert!(said[0].1.contains("sum over all processes failed: another process"), "{}", said[0].1);
}

/// A process that does not answer is missed by the others when the time is over.
#[test]
fn who_waits_is_missed() {
    let limit = Duration::from_secs(2);
    let said = on_each("who_waits_is_missed", 2, limit, |group| {
        let start = Instant::now();
        if group.rank() == 0 {
            let error = group.all_reduce(&Tensor::from_slice(&[1.])).unwrap_err();
            assert!(start.elapsed() < limit * 3);
            eprintln!("{error}");
        } else {
            thread::sleep(limit * 2);
        }
    });
    assert!(said[0].1.contains("the time limit is over"), "{}", said[0].1);
}
