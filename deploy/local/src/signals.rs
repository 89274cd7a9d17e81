//! Ctrl-C and SIGTERM.

use nix::sys::signal::Signal;
use tokio::signal::unix::{self, SignalKind, signal};

use crate::error::{Error, Result};

/// A person's or a supervisor's wish that we end.
#[derive(Debug)]
pub(crate) struct Stop {
    interrupt: unix::Signal,
    terminate: unix::Signal,
}

impl Stop {
    pub(crate) fn listen() -> Result<Self> {
        let listen = |kind| signal(kind).map_err(Error::io("listen for signals"));
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
        })
    }

    /// Waits for the next Ctrl-C or SIGTERM.
    pub(crate) async fn asked(&mut self) -> Signal {
        tokio::select! {
            _ = self.interrupt.recv() => Signal::SIGINT,
            _ = self.terminate.recv() => Signal::SIGTERM,
        }
    }
}
