//! How processes find each other: the environment that torchrun sets.

use std::{
    fs,
    net::{TcpListener, TcpStream, ToSocketAddrs, UdpSocket},
    process, thread,
    time::{Duration, Instant},
};

use super::{GroupError, ProcessGroup, reason, store::Store};

/// Time between two looks at the store or the master.
const PAUSE: Duration = Duration::from_millis(20);

/// Which process of how many this is, and where they meet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rendezvous {
    /// Number of this process, from 0.
    pub rank: usize,
    /// Number of processes.
    pub world_size: usize,
    /// Number of this process among those of its host: that of its GPU.
    pub local_rank: usize,
    /// Number of processes of its host.
    pub local_world_size: usize,
    /// Name or address of the master, rank 0.
    pub host: String,
    /// Port of the master.
    pub port: u16,
    /// Whether rank 0 serves the store; with torchrun its agent does.
    pub is_served_by_rank_0: bool,
    /// What tells this attempt from those before, after a restart.
    pub attempt: String,
}

impl Rendezvous {
    /// Returns what the environment says (`RANK`, `WORLD_SIZE`, `LOCAL_RANK`, `LOCAL_WORLD_SIZE`, `MASTER_ADDR`,
    /// `MASTER_PORT`); `None` where neither `RANK` nor `WORLD_SIZE` is set.
    ///
    /// # Errors
    /// [`GroupError::Environment`] where a variable is missing or is not what it may be.
    pub fn from_env(variable: impl Fn(&str) -> Option<String>) -> Result<Option<Self>, GroupError> {
        if variable("RANK").is_none() && variable("WORLD_SIZE").is_none() {
            return Ok(None);
        }
        let wrong = |name, expected: String, got: Option<String>| GroupError::Environment {
            name,
            expected,
            got: got.map_or("nothing".into(), |got| format!("`{got}`")),
        };
        let number = |name: &'static str, range: std::ops::Range<usize>, default: Option<usize>| {
            let (text, expected) =
                (variable(name), format!("a number from {} to {}", range.start, range.end - 1));
            match (&text, default) {
                (None, Some(default)) => Ok(default),
                _ => {
                    let number = text.as_ref().and_then(|text| text.trim().parse().ok());
                    number.filter(|number| range.contains(number)).ok_or_else(|| wrong(name, expected, text))
                }
            }
        };
        let world_size = number("WORLD_SIZE", 1..1 << 20, None)?;
        let rank = number("RANK", 0..world_size, None)?;
        let local_rank = number("LOCAL_RANK", 0..world_size, Some(0))?;
        let host = variable("MASTER_ADDR").filter(|host| !host.trim().is_empty());
        let host = host.ok_or_else(|| wrong("MASTER_ADDR", "the host of rank 0".into(), None))?;
        let agent_serves = variable("TORCHELASTIC_USE_AGENT_STORE").is_some_and(|text| text == "True");
        let name = |name| variable(name).unwrap_or_default();
        Ok(Some(Self {
            rank,
            world_size,
            local_rank,
            local_world_size: number("LOCAL_WORLD_SIZE", 1..world_size + 1, Some(1))?,
            host,
            port: number("MASTER_PORT", 1..1 << 16, None)? as u16,
            is_served_by_rank_0: !agent_serves,
            attempt: format!("{}/{}", name("TORCHELASTIC_RUN_ID"), name("TORCHELASTIC_RESTART_COUNT")),
        }))
    }

    /// Waits for all processes and connects them. No operation between them takes longer than `timeout`.
    ///
    /// # Errors
    /// Every way in which processes miss each other: see [`GroupError`].
    pub fn join(&self, timeout: Duration) -> Result<ProcessGroup, GroupError> {
        let place = format!("{} (process {})", host_name(), process::id());
        let store = self.open_store(timeout)?;
        let failed = |error: String| self.failed("joining", &error);
        let joined = self.meet(&store, &place, timeout);
        if let Err(error) = &joined {
            // Who waits need not wait for the end of the time.
            let text =
                if let GroupError::Stopped { text } = error { text.clone() } else { error.to_string() };
            let _ = store.set("stopped", &text);
            if self.serves() {
                thread::sleep(PAUSE * 50); // The store ends with this process: the others must read it before.
            }
        }
        joined?;
        let interface = std::env::var("GLOO_SOCKET_IFNAME").ok().filter(|name| !name.is_empty());
        let is_interface = interface.is_some();
        let address = match interface {
            Some(name) => name,
            None => local_address((&self.host, self.port)).map_err(|error| failed(error.to_string()))?,
        };
        ProcessGroup::new(store, self, (&address, is_interface), timeout).map_err(failed)
    }

    fn serves(&self) -> bool {
        self.is_served_by_rank_0 && self.rank == 0
    }

    /// Serves the store or connects to it.
    fn open_store(&self, timeout: Duration) -> Result<Store, GroupError> {
        let Self { rank, host, port, .. } = self;
        let prefix = format!("brt/{}", self.attempt);
        if self.serves() {
            // Tried here first: c10d would print a page.
            let free = TcpListener::bind(("0.0.0.0", *port)).map(drop);
            let serve = |reason| GroupError::Serve { port: *port, reason };
            free.map_err(|error| serve(error.to_string()))?;
            return Store::open((host, *port), true, millis(timeout), &prefix).map_err(|e| serve(reason(&e)));
        }
        let (rank, port) = (*rank, *port);
        let secs = timeout.as_secs();
        let master = |reason| GroupError::Master { rank, host: host.clone(), port, secs, reason };
        await_master((host, port), timeout).map_err(master)?;
        Store::open((host, port), false, millis(timeout), &prefix).map_err(|error| master(reason(&error)))
    }

    /// Returns when all processes have said who they are.
    fn meet(&self, store: &Store, place: &str, timeout: Duration) -> Result<(), GroupError> {
        let &Self { rank, world_size, .. } = self;
        let failed = |error: String| self.failed("joining", &error);
        let key = |rank| format!("process/{rank}");
        if store.count(&format!("count/{rank}")).map_err(failed)? > 1 {
            let first =
                await_value(timeout.min(Duration::from_secs(5)), || store.get(&key(rank)).map_err(failed))?;
            let first = first.and_then(|card| card.split_once(' ').map(|(_, place)| place.to_owned()));
            let first = first.unwrap_or_else(|| "an unknown one".into());
            return Err(GroupError::SameRank { rank, first, second: place.into() });
        }
        store.set(&key(rank), &format!("{world_size} {place}")).map_err(failed)?;
        let start = Instant::now();
        for other in 0..world_size {
            let card = await_value(timeout.saturating_sub(start.elapsed()), || {
                if let Some(text) = store.get("stopped").map_err(failed)? {
                    return Err(GroupError::Stopped { text });
                }
                store.get(&key(other)).map_err(failed)
            })?;
            let Some(card) = card else {
                let has_come = |other: &usize| matches!(store.get(&key(*other)), Ok(Some(_)));
                let missing = (0..world_size).filter(|other| !has_come(other));
                let missing = missing.map(|rank| rank.to_string()).collect::<Vec<_>>().join(", ");
                return Err(GroupError::Missing { rank, world_size, secs: timeout.as_secs(), missing });
            };
            let got = card.split(' ').next().and_then(|size| size.parse().ok()).unwrap_or(0);
            if got != world_size {
                return Err(GroupError::OtherSize { rank, expected: world_size, other, got });
            }
        }
        Ok(())
    }

    fn failed(&self, operation: &'static str, error: &str) -> GroupError {
        let &Self { rank, world_size, .. } = self;
        GroupError::Operation { rank, world_size, host: host_name(), operation, reason: reason(error) }
    }
}

/// Asks for a value until it is there or the time is over.
fn await_value<T>(
    timeout: Duration,
    mut get: impl FnMut() -> Result<Option<T>, GroupError>,
) -> Result<Option<T>, GroupError> {
    let start = Instant::now();
    loop {
        match get()? {
            None if start.elapsed() < timeout => thread::sleep(PAUSE),
            value => return Ok(value),
        }
    }
}

/// Waits until somebody listens at the master's address.
fn await_master(master: (&str, u16), timeout: Duration) -> Result<(), String> {
    let start = Instant::now();
    loop {
        let left = timeout.saturating_sub(start.elapsed()).max(PAUSE);
        let connected = master.to_socket_addrs().and_then(|addresses| {
            let mut last = std::io::Error::other("no address");
            for address in addresses {
                match TcpStream::connect_timeout(&address, left) {
                    Ok(_) => return Ok(()),
                    Err(error) => last = error,
                }
            }
            Err(last)
        });
        match connected {
            Ok(()) => return Ok(()),
            Err(error) if start.elapsed() >= timeout => return Err(error.to_string()),
            Err(_) => thread::sleep(PAUSE * 5),
        }
    }
}

/// Returns the address of this host on the way to the master: there the others can reach it.
fn local_address(master: (&str, u16)) -> std::io::Result<String> {
    let Some(address) = master.to_socket_addrs()?.next() else {
        return Err(std::io::Error::other(format!("no address of {}", master.0)));
    };
    let any = if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = UdpSocket::bind(any)?;
    socket.connect(address)?; // Sends nothing.
    Ok(socket.local_addr()?.ip().to_string())
}

/// Returns the name of this host.
pub(super) fn host_name() -> String {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    if name.trim().is_empty() { "an unknown host".into() } else { name.trim().into() }
}

pub(super) fn millis(time: Duration) -> i64 {
    time.as_millis().try_into().unwrap_or(i64::MAX)
}
