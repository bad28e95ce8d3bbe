//! How processes find each other: the environment that torchrun sets.

use std::{
    net::TcpListener,
    thread,
    time::{Duration, Instant},
};

use super::{
    GroupError, ProcessGroup,
    card::{Address, Card},
    network::{NAMING, await_master, host_name, local_address},
    reason,
    store::Store,
};

/// Time between two looks at the store.
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
        Ok(Some(Self {
            rank,
            world_size,
            local_rank,
            local_world_size: number("LOCAL_WORLD_SIZE", 1..world_size + 1, Some(1))?,
            host,
            port: number("MASTER_PORT", 1..1 << 16, None)? as u16,
            is_served_by_rank_0: !agent_serves,
        }))
    }

    /// Waits for all processes and connects them. No operation between them takes longer than `timeout`.
    ///
    /// # Errors
    /// Every way in which processes miss each other: see [`GroupError`].
    pub fn join(&self, timeout: Duration) -> Result<ProcessGroup, GroupError> {
        let failed = |error: String| self.failed("joining", &error);
        let interface = std::env::var("GLOO_SOCKET_IFNAME").ok().filter(|name| !name.is_empty());
        let address = match interface {
            Some(name) => Address::Interface(name),
            None => {
                let limit = timeout.min(NAMING);
                let own = local_address((&self.host, self.port), limit);
                Address::Ip(own.map_err(|error| self.unreached(error.to_string(), limit))?)
            }
        };
        let store = self.open_store(timeout)?;
        let own = Card::new(self.world_size, &address);
        let session = match self.rank {
            0 => self.gather(&store, &own, timeout)?,
            _ => self.attend(&store, &own, timeout)?,
        };
        ProcessGroup::new(store, &format!("group/{session}"), self, &address, timeout).map_err(failed)
    }

    fn serves(&self) -> bool {
        self.is_served_by_rank_0 && self.rank == 0
    }

    /// Serves the store or connects to it.
    fn open_store(&self, timeout: Duration) -> Result<Store, GroupError> {
        let Self { host, port, .. } = self;
        if self.serves() {
            // Tried here first: c10d would print a page.
            let free = TcpListener::bind(("0.0.0.0", *port)).map(drop);
            let serve = |reason| GroupError::Serve { port: *port, reason };
            free.map_err(|error| serve(error.to_string()))?;
            return Store::serve((host, *port), timeout).map_err(|e| serve(reason(&e)));
        }
        await_master((host, *port), timeout).map_err(|reason| self.unreached(reason, timeout))?;
        Store::connect((host, *port), timeout).map_err(|error| self.unreached(reason(&error), timeout))
    }

    fn unreached(&self, reason: String, timeout: Duration) -> GroupError {
        let (host, secs) = (self.host.clone(), timeout.as_secs());
        GroupError::Master { rank: self.rank, host, port: self.port, secs, reason }
    }

    /// Opens a session, waits until all others are in it, and lets them begin. Returns its name.
    ///
    /// A launcher may start processes anew at a store that has seen them before, some of them later than others: who comes
    /// looks for the session of the rank 0 that lives now.
    fn gather(&self, store: &Store, own: &Card, timeout: Duration) -> Result<String, GroupError> {
        let session = &own.token;
        let gathered = self.await_all(store, session, own, timeout);
        let failed = |error: String| self.failed("joining", &error);
        match gathered {
            Ok(tokens) => store.set(&format!("begin/{session}"), &tokens.join(" ")).map_err(failed)?,
            Err(error) => {
                // Who waits need not wait for the end of the time.
                let _ = store.set(&format!("stopped/{session}"), &error.to_string());
                if self.serves() {
                    thread::sleep(PAUSE * 50); // The store ends with this process: the others must read it before.
                }
                return Err(error);
            }
        }
        Ok(session.clone())
    }

    /// Returns the tokens of all processes when they are there and fit each other.
    fn await_all(
        &self,
        store: &Store,
        session: &str,
        own: &Card,
        timeout: Duration,
    ) -> Result<Vec<String>, GroupError> {
        let &Self { rank, world_size, .. } = self;
        let failed = |error: String| self.failed("joining", &error);
        store.set("session", session).map_err(failed)?;
        let card = |rank: usize, n: u32| store.get(&format!("process/{session}/{rank}/{n}")).map_err(failed);
        let (start, mut cards) = (Instant::now(), vec![own.clone()]);
        for other in 1..world_size {
            let text = await_value(timeout.saturating_sub(start.elapsed()), || {
                if let Some(text) = store.get(&format!("twice/{session}")).map_err(failed)? {
                    let rank = text.parse().unwrap_or(0);
                    let place = |n| Ok(card(rank, n)?.map_or(String::new(), |text| Card::parse(&text).place));
                    return Err(GroupError::SameRank { rank, first: place(1)?, second: place(2)? });
                }
                card(other, 1)
            })?;
            let Some(text) = text else {
                let mut missing = vec![];
                for rank in 1..world_size {
                    if card(rank, 1)?.is_none() {
                        missing.push(rank.to_string());
                    }
                }
                let missing = missing.join(", ");
                return Err(GroupError::Missing { world_size, secs: timeout.as_secs(), missing });
            };
            let other_card = Card::parse(&text);
            if other_card.world_size != world_size {
                let got = other_card.world_size;
                return Err(GroupError::OtherSize { expected: world_size, other, got });
            }
            cards.push(other_card);
        }
        // Another rank 0 at the same store has put its session there.
        if store.get("session").map_err(failed)?.as_deref() != Some(session) {
            return Err(GroupError::SameRank {
                rank,
                first: own.place.clone(),
                second: "one that came later".into(),
            });
        }
        let has_several_hosts = cards.iter().any(|card| card.host() != own.host());
        if let Some(rank) = cards.iter().position(Card::is_loopback).filter(|_| has_several_hosts) {
            let (host, address) = (cards[rank].host().to_owned(), cards[rank].address.clone());
            return Err(GroupError::Loopback { rank, host, address });
        }
        Ok(cards.into_iter().map(|card| card.token).collect())
    }

    /// Goes into the session of rank 0, and waits until it begins. Returns its name.
    fn attend(&self, store: &Store, own: &Card, timeout: Duration) -> Result<String, GroupError> {
        let rank = self.rank;
        let failed = |error: String| self.failed("joining", &error);
        let mut joined: Option<String> = None;
        // Rank 0 knows more than this process when the time is over.
        let begun = await_value(timeout + PAUSE * 100, || {
            let Some(session) = store.get("session").map_err(failed)? else { return Ok(None) };
            if joined.as_ref() != Some(&session) {
                let n = store.count(&format!("count/{session}/{rank}")).map_err(failed)?;
                store.set(&format!("process/{session}/{rank}/{n}"), &own.to_string()).map_err(failed)?;
                if n == 2 {
                    store.set(&format!("twice/{session}"), &rank.to_string()).map_err(failed)?;
                }
                joined = Some(session.clone());
            }
            if let Some(text) = store.get(&format!("stopped/{session}")).map_err(failed)? {
                return Err(GroupError::Stopped { text });
            }
            // A session that began without this process is one that was here before; the next one comes.
            let tokens = store.get(&format!("begin/{session}")).map_err(failed)?.unwrap_or_default();
            Ok(tokens.split(' ').any(|token| token == own.token).then_some(session))
        })?;
        begun.ok_or(GroupError::NotBegun { rank, secs: timeout.as_secs() })
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
