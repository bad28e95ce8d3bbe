//! What a process says of itself to the others.

use std::{
    fmt, process,
    time::{SystemTime, UNIX_EPOCH},
};

use super::network::host_name;

/// Where other processes reach this one.
#[derive(Debug, Clone)]
pub(super) enum Address {
    /// An address of this host.
    Ip(String),
    /// Whatever address this network interface has.
    Interface(String),
}

/// What a process says of itself.
#[derive(Debug, Clone)]
pub(super) struct Card {
    pub(super) world_size: usize,
    pub(super) address: String,
    /// No two processes have the same.
    pub(super) token: String,
    /// Host and number of the process.
    pub(super) place: String,
}

impl Card {
    pub(super) fn new(world_size: usize, address: &Address) -> Self {
        let nanos = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_nanos());
        let (Address::Ip(address) | Address::Interface(address)) = address.clone();
        let place = format!("{} (process {})", host_name(), process::id());
        Self { world_size, address, token: format!("{nanos:x}-{:x}", process::id()), place }
    }

    pub(super) fn parse(text: &str) -> Self {
        let mut words = text.splitn(4, ' ').map(str::to_owned);
        let mut next = || words.next().unwrap_or_default();
        Self { world_size: next().parse().unwrap_or(0), address: next(), token: next(), place: next() }
    }

    /// Returns the name of the process's host.
    pub(super) fn host(&self) -> &str {
        self.place.split(' ').next().unwrap_or_default()
    }

    /// Returns whether the process is at an address that other hosts cannot reach.
    pub(super) fn is_loopback(&self) -> bool {
        self.address.starts_with("127.") || self.address == "::1"
    }
}

impl fmt::Display for Card {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { world_size, address, token, place } = self;
        write!(f, "{world_size} {address} {token} {place}")
    }
}
