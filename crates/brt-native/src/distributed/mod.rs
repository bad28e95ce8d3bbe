//! Processes that train together, through c10d, libtorch's own distributed engine.

mod card;
mod group;
mod nccl;
mod network;
mod reducer;
mod rendezvous;
mod store;
#[cfg(test)]
mod tests;

pub use self::{group::ProcessGroup, reducer::GradientReducer, rendezvous::Rendezvous};

/// What can go wrong between processes.
#[derive(Debug, thiserror::Error)]
pub enum GroupError {
    /// The environment does not say which process this is.
    #[error(
        "environment: expected {name} to be {expected}, got {got}; start the processes with torchrun or brt launch"
    )]
    Environment {
        /// Name of the variable.
        name: &'static str,
        /// What it may be.
        expected: String,
        /// What it is.
        got: String,
    },
    /// Rank 0 cannot be the master.
    #[error("rank 0: expected to serve at port {port}, got {reason}; choose another MASTER_PORT")]
    Serve {
        /// The port.
        port: u16,
        /// The system's reason.
        reason: String,
    },
    /// The master cannot be reached.
    #[error(
        "rank {rank}: expected the master, rank 0, at {host}:{port} within {secs} s, got {reason}; check MASTER_ADDR, MASTER_PORT \
         and that rank 0 runs"
    )]
    Master {
        /// This process.
        rank: usize,
        /// Address of the master.
        host: String,
        /// Port of the master.
        port: u16,
        /// Time limit.
        secs: u64,
        /// What happened instead.
        reason: String,
    },
    /// Two processes have one rank.
    #[error(
        "expected one process of rank {rank}, got two: {first} and {second}; give each process its own RANK"
    )]
    SameRank {
        /// The rank.
        rank: usize,
        /// Host and number of the process that came first.
        first: String,
        /// Host and number of the other.
        second: String,
    },
    /// A process has another number of processes.
    #[error("WORLD_SIZE: expected {expected} as rank 0 has, got {got} of rank {other}")]
    OtherSize {
        /// Number of processes of rank 0.
        expected: usize,
        /// The other process.
        other: usize,
        /// Its number of processes.
        got: usize,
    },
    /// Some processes did not come.
    #[error(
        "rank 0: expected all {world_size} processes within {secs} s, got none of rank {missing}; see what ended them"
    )]
    Missing {
        /// Number of processes.
        world_size: usize,
        /// Time limit.
        secs: u64,
        /// The ranks that did not come.
        missing: String,
    },
    /// Rank 0 did not begin.
    #[error(
        "rank {rank}: expected rank 0 to begin with it within {secs} s, got nothing; see what ended rank 0, and whether WORLD_SIZE is the same on all"
    )]
    NotBegun {
        /// This process.
        rank: usize,
        /// Time limit.
        secs: u64,
    },
    /// A process that other hosts cannot reach.
    #[error(
        "rank {rank} on {host}: expected an address that other hosts reach, got {address}; set GLOO_SOCKET_IFNAME to its network interface, or MASTER_ADDR to an address of the network"
    )]
    Loopback {
        /// The process.
        rank: usize,
        /// Its host.
        host: String,
        /// Its address.
        address: String,
    },
    /// An operation between processes failed.
    #[error("rank {rank} of {world_size} on {host}: {operation} failed: {reason}")]
    Operation {
        /// This process.
        rank: usize,
        /// Number of processes.
        world_size: usize,
        /// Its host.
        host: String,
        /// What was done.
        operation: &'static str,
        /// What happened.
        reason: String,
    },
    /// No sums of tensors on GPUs.
    #[error(
        "rank {rank} on {host}: expected NCCL for several processes on GPUs, got none: {reason}; or use --device cpu"
    )]
    Nccl {
        /// This process.
        rank: usize,
        /// Its host.
        host: String,
        /// What is missing.
        reason: String,
    },
    /// Rank 0 has stopped before all began.
    #[error("rank 0 has stopped: {text}")]
    Stopped {
        /// Its error.
        text: String,
    },
}

/// Returns what a person needs of an error of c10d: its first line, without the place in the sources of libtorch, and in
/// words what Gloo tells by peers.
fn reason(error: &str) -> String {
    let first = error.lines().next().unwrap_or_default().trim();
    // [/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:534] Connection closed by peer [127.0.0.1]:40123
    let text = match first.strip_prefix('[').and_then(|rest| rest.split_once("] ")) {
        Some((place, text)) if place.contains(".cc:") || place.contains(".cpp:") => text,
        _ => first,
    };
    let is_gone = ["Connection closed by peer", "Connection reset by peer", "Broken pipe"];
    let peer = text.rsplit_once("peer ").map(|(_, peer)| format!(" at {}", peer.trim_matches('.')));
    if is_gone.iter().any(|words| text.contains(words)) {
        return format!("another process{} has ended", peer.unwrap_or_default());
    }
    if text.contains("Timed out") || text.contains("timed out") || text.contains("imeout") {
        return format!("the time limit is over, another process or the network does not answer ({text})");
    }
    text.to_owned()
}

#[cfg(test)]
mod reason_tests {
    use super::reason;

    #[test]
    fn reasons_are_for_people() {
        let gone = "[/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:534] Connection closed by peer [127.0.0.1]:40123";
        assert_eq!(reason(gone), "another process at [127.0.0.1]:40123 has ended");
        assert_eq!(reason("[Errno 3] something\nat frame 1"), "[Errno 3] something");
        assert!(
            reason("Timed out waiting 1000ms for recv operation to complete")
                .starts_with("the time limit is over")
        );
    }
}
