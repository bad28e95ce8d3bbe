//! Processes of this test program, over the loopback. Threads would not do: c10d records what a process does in one place,
//! without a lock.

use std::{
    net::TcpListener,
    process::{Child, Command, Stdio},
    rc::Rc,
    sync::atomic::{AtomicU16, Ordering},
    thread,
    time::{Duration, Instant},
};

use tch::{Device, Kind, Tensor};

use super::{GradientReducer, GroupError, ProcessGroup, Rendezvous};

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

fn rendezvous(rank: usize, world_size: usize, port: u16) -> Rendezvous {
    Rendezvous {
        rank,
        world_size,
        local_rank: rank,
        local_world_size: world_size,
        host: "127.0.0.1".into(),
        port,
        is_served_by_rank_0: true,
    }
}

/// Runs `work` on as many processes of this test, given its name, and returns whether each ended well and what it said.
/// In those processes it runs `work` and ends.
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
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
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

/// Values between -1 and 1.
fn values(seed: f64, shape: &[i64]) -> Tensor {
    let n: i64 = shape.iter().product();
    ((Tensor::arange(n, (Kind::Float, Device::Cpu)) + seed) * 1.3).sin().view(shape)
}

/// Two weights of every part, one of first parts alone, and one of none.
fn weights() -> Vec<Tensor> {
    let shapes: [&[i64]; 4] = [&[5, 7], &[7, 3], &[5], &[2]];
    let weight = |(idx, shape): (usize, &&[i64])| values(1. + idx as f64, shape).set_requires_grad(true);
    shapes.iter().enumerate().map(weight).collect()
}

fn loss(w: &[Tensor], x: &Tensor) -> Tensor {
    x.matmul(&w[0]).tanh().matmul(&w[1]).square().sum(Kind::Float)
}

fn loss_of_first_part(w: &[Tensor], x: &Tensor) -> Tensor {
    x.matmul(&w[2]).sin().sum(Kind::Float)
}

/// The gradients of parts of a batch on several processes, added up before they are summed, are those of the batch: also
/// where parameters get theirs in several backward passes within the one of the step.
#[test]
fn gradients_are_those_of_the_whole_batch() {
    for world_size in [2, 3] {
        well_on_each("gradients_are_those_of_the_whole_batch", world_size, |group| {
            for (num_parts, is_recomputed) in [(1, false), (2, false), (2, true)] {
                check_gradients(&group, num_parts, is_recomputed);
            }
        });
    }
}

/// Buckets are so small that each parameter has its own.
fn check_gradients(group: &Rc<ProcessGroup>, num_parts: usize, is_recomputed: bool) {
    let (w, whole) = (weights(), weights());
    let mut reducer = GradientReducer::with_buckets_of(64, Rc::clone(group), &w).unwrap();
    let mut places = vec![];
    for step in 0..4 {
        reducer.clear();
        crate::drop_gradients(&whole);
        let batch = values(f64::from(step), &[12, 5]);
        let rows = 12 / (group.world_size() * num_parts) as i64;
        let rows_of =
            |rank: usize, part: usize| batch.narrow(0, (rank * num_parts + part) as i64 * rows, rows);
        for part in 0..num_parts {
            if part + 1 == num_parts {
                reducer.begin();
            }
            let x = rows_of(group.rank(), part);
            crate::segments(|segments| {
                let first = if part == 0 { loss_of_first_part(&w, &x) } else { Tensor::from(0f32) };
                if !is_recomputed {
                    return segments.backward(&(loss(&w, &x) + first));
                }
                let halves = x.set_requires_grad(true).chunk(2, 0);
                let half = |half: &Tensor| {
                    let w: Vec<Tensor> = w.iter().map(Tensor::shallow_clone).collect();
                    segments.recompute(&[half], 1, move |x, _| vec![loss(&w, &x[0])]).remove(0)
                };
                segments.backward(&(half(&halves[0]) + half(&halves[1]) + first));
            });
        }
        assert_eq!(reducer.wait().unwrap(), 4 * (5 * 7 + 7 * 3 + 5 + 2));
        let first_parts = (0..group.world_size()).map(|rank| loss_of_first_part(&whole, &rows_of(rank, 0)));
        first_parts.fold(loss(&whole, &batch), |sum, nats| sum + nats).backward();
        assert!(!w[3].grad().defined());
        for (w, whole) in w.iter().zip(&whole).take(3) {
            let difference = (w.grad() - whole.grad()).abs().max().double_value(&[]);
            assert!(
                difference < 1e-5,
                "step {step}, {num_parts} parts, recomputed: {is_recomputed}: {difference}"
            );
            let all = group.all_gather(&w.grad()).unwrap();
            assert!(all.iter().all(|gradient| *gradient == all[0]), "not the same bits on all processes");
            places.push(w.grad().data_ptr());
        }
    }
    assert!(places.chunks(3).all(|step| step == &places[..3]), "gradients have moved");
}

/// Gradients that are not those of the first step, or of other processes, or elsewhere, are errors instead of wrong sums.
#[test]
fn gradients_that_do_not_fit_are_told() {
    well_on_each("gradients_that_do_not_fit_are_told", 2, |group| {
        let x = values(1., &[4, 5]);
        let error_of = |work: &dyn Fn(&[Tensor], &mut GradientReducer)| {
            let w = weights();
            let mut reducer = GradientReducer::new(Rc::clone(&group), &w).unwrap();
            work(&w, &mut reducer);
            reducer.wait().unwrap_err().to_string()
        };
        let error = error_of(&|w, reducer| {
            reducer.begin();
            loss(w, &x).backward();
        });
        assert!(error.contains("expected gradients to be cleared before a step"), "{error}");
        let error = error_of(&|w, reducer| {
            reducer.clear();
            reducer.begin();
            if group.rank() == 0 { loss(w, &x) } else { loss_of_first_part(w, &x) }.backward();
        });
        assert!(error.contains("expected gradients of the same parameters on all processes"), "{error}");
        let error = error_of(&|w, reducer| {
            for step in 0..2 {
                reducer.clear();
                reducer.begin();
                if step == 0 {
                    loss(w, &x).backward();
                    reducer.wait().unwrap();
                } else {
                    (loss(w, &x) + loss_of_first_part(w, &x)).backward();
                }
            }
        });
        assert!(error.contains("expected gradients of the same parameters as in the first step"), "{error}");
    });
}

#[test]
fn who_does_not_fit_is_told() {
    let secs = Duration::from_secs(20);
    // Two processes of one rank: both, and who waits for others, are told.
    let port = free_port();
    let join = move |rank, size| thread::spawn(move || rendezvous(rank, size, port).join(secs).map(|_| ()));
    let processes = [join(0, 3), join(1, 3), join(1, 3)];
    let start = Instant::now();
    for process in processes {
        let error = process.join().unwrap().unwrap_err().to_string();
        assert!(error.contains("expected one process of rank 1, got two: "), "{error}");
    }
    assert!(start.elapsed() < secs / 2);
    // Another number of processes.
    let port = free_port();
    let join = move |rank, size| thread::spawn(move || rendezvous(rank, size, port).join(secs).map(|_| ()));
    for process in [join(0, 2), join(1, 3)] {
        let error = process.join().unwrap().unwrap_err().to_string();
        assert!(error.contains("WORLD_SIZE: expected 2 as rank 0 has, got 3 of rank 1"), "{error}");
    }
    // Nobody else comes, there is no master, the port is taken.
    let short = Duration::from_secs(1);
    let error = rendezvous(0, 3, free_port()).join(short).unwrap_err().to_string();
    let expected = "rank 0: expected all 3 processes within 1 s, got none of rank 1, 2; see what ended them";
    assert_eq!(error, expected);
    let port = free_port();
    let error = rendezvous(1, 2, port).join(short).unwrap_err().to_string();
    assert!(
        error.starts_with(&format!("rank 1: expected the master, rank 0, at 127.0.0.1:{port} within 1 s")),
        "{error}"
    );
    let nameless = Rendezvous { host: "no-such-host.invalid".into(), ..rendezvous(1, 2, port) };
    let error = nameless.join(short).unwrap_err().to_string();
    let expected =
        format!("rank 1: expected the master, rank 0, at no-such-host.invalid:{port} within 1 s, got ");
    assert!(error.starts_with(&expected), "{error}");
    let taken = TcpListener::bind("0.0.0.0:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let error = rendezvous(0, 2, port).join(short).unwrap_err().to_string();
    assert!(error.starts_with(&format!("rank 0: expected to serve at port {port}, got ")), "{error}");
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

#[test]
fn the_environment_of_torchrun_is_read() {
    let env = |pairs: &[(&str, &str)]| {
        let pairs: Vec<(String, String)> = pairs.iter().map(|(a, b)| ((*a).into(), (*b).into())).collect();
        Rendezvous::from_env(move |name| {
            pairs.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone())
        })
    };
    assert!(env(&[("LOCAL_RANK", "0")]).unwrap().is_none());
    let whole = [
        ("RANK", "3"),
        ("WORLD_SIZE", "4"),
        ("LOCAL_RANK", "1"),
        ("LOCAL_WORLD_SIZE", "2"),
        ("MASTER_ADDR", "h"),
        ("MASTER_PORT", "29500"),
    ];
    let read = env(&whole).unwrap().unwrap();
    assert_eq!((read.rank, read.world_size, read.local_rank, read.local_world_size), (3, 4, 1, 2));
    assert_eq!((read.host.as_str(), read.port, read.is_served_by_rank_0), ("h", 29500, true));
    let agent = [&whole[..], &[("TORCHELASTIC_USE_AGENT_STORE", "True")]].concat();
    let read = env(&agent).unwrap().unwrap();
    assert!(!read.is_served_by_rank_0);
    let with = |name, value| {
        let changed: Vec<_> =
            whole.iter().map(|&(key, old)| (key, if key == name { value } else { old })).collect();
        let error: GroupError = env(&changed).unwrap_err();
        error.to_string()
    };
    let text =
        |what: &str| format!("environment: expected {what}; start the processes with torchrun or brt launch");
    assert_eq!(with("RANK", "4"), text("RANK to be a number from 0 to 3, got `4`"));
    assert_eq!(with("WORLD_SIZE", "none"), text("WORLD_SIZE to be a number from 1 to 1048575, got `none`"));
    assert_eq!(with("MASTER_PORT", "70000"), text("MASTER_PORT to be a number from 1 to 65535, got `70000`"));
    assert_eq!(with("MASTER_ADDR", ""), text("MASTER_ADDR to be the host of rank 0, got nothing"));
    let error = env(&[("RANK", "0")]).unwrap_err().to_string();
    assert_eq!(error, text("WORLD_SIZE to be a number from 1 to 1048575, got nothing"));
}
