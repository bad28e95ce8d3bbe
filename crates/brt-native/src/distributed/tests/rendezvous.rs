//! How processes find each other, and what they are told where they do not.

use std::{
    net::TcpListener,
    thread,
    time::{Duration, Instant},
};

use super::{
    super::{GroupError, Rendezvous},
    free_port,
};

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
