//! The master's address, and this host's.

use std::{
    fs, io,
    net::{SocketAddr, TcpStream, ToSocketAddrs, UdpSocket},
    thread,
    time::{Duration, Instant},
};

/// Time between two tries to reach the master.
const PAUSE: Duration = Duration::from_millis(100);
/// Time in which the master must get a name: Kubernetes gives it one when it runs.
pub(super) const NAMING: Duration = Duration::from_secs(60);

/// Waits until somebody listens at the master's address.
pub(super) fn await_master(master: (&str, u16), timeout: Duration) -> Result<(), String> {
    let start = Instant::now();
    loop {
        let left = timeout.saturating_sub(start.elapsed()).max(PAUSE);
        let connected = master.to_socket_addrs().and_then(|addresses| {
            let mut last = io::Error::other("no address");
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
            Err(_) => thread::sleep(PAUSE),
        }
    }
}

/// Returns the address of this host on the way to the master: there the others can reach it.
pub(super) fn local_address(master: (&str, u16), timeout: Duration) -> io::Result<String> {
    let address = look_up(master, timeout)?;
    let any = if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = UdpSocket::bind(any)?;
    socket.connect(address)?; // Sends nothing.
    Ok(socket.local_addr()?.ip().to_string())
}

/// Returns an address of a name, when there is one.
fn look_up(name: (&str, u16), timeout: Duration) -> io::Result<SocketAddr> {
    let start = Instant::now();
    loop {
        let found = name.to_socket_addrs().map(|mut addresses| addresses.next());
        match found.and_then(|address| address.ok_or_else(|| io::Error::other("no address"))) {
            Err(_) if start.elapsed() < timeout => thread::sleep(PAUSE),
            found => return found,
        }
    }
}

/// Returns the name of this host.
pub(super) fn host_name() -> String {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    if name.trim().is_empty() { "an unknown host".into() } else { name.trim().into() }
}
