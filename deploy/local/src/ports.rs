//! Loopback ports: which are taken, and which are free. Everything is checked before anything is started.

use std::collections::HashSet;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::{LazyLock, Mutex, PoisonError};

use rand::Rng as _;

use crate::error::{Error, Result, TakenPort};

/// Below the ports that the kernel hands out to outgoing connections, which may come and go at any time.
const FREE_RANGE: std::ops::Range<u16> = 20_000..32_000;

/// Fails with all ports of the list that something listens on.
pub(crate) fn check(wanted: impl IntoIterator<Item = TakenPort>) -> Result<()> {
    let taken: Vec<_> = wanted.into_iter().filter(|wanted| !is_free(wanted.port)).collect();
    if taken.is_empty() { Ok(()) } else { Err(Error::PortsTaken(taken)) }
}

/// The port itself, or a free one where it is 0.
pub(crate) fn or_free(port: u16) -> u16 {
    if port != 0 {
        return port;
    }
    static GIVEN: LazyLock<Mutex<HashSet<u16>>> = LazyLock::new(Mutex::default);
    let mut given = GIVEN.lock().unwrap_or_else(PoisonError::into_inner);
    let mut random = rand::rng();
    loop {
        let port = random.random_range(FREE_RANGE);
        if is_free(port) && given.insert(port) {
            return port;
        }
    }
}

fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}
