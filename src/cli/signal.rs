//! Ctrl-C and SIGTERM.

use cgk::migrate::Interrupt;
use std::{io, sync::OnceLock};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::exit::Exit;

/// The signals that ask the program to stop. While this exists they do nothing by themselves, so that what is cleaned up
/// after the first one is not cut off by the second.
pub(crate) struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    pub(crate) fn listen() -> io::Result<Self> {
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    /// Waits for the next one; cancel safe.
    pub(crate) async fn next(&mut self) -> Exit {
        tokio::select! {
            _ = self.interrupt.recv() => Exit::Interrupted,
            _ = self.terminate.recv() => Exit::Terminated,
        }
    }
}

/// What signals have asked for so far; who works through many schemas listens to it.
#[derive(Default)]
pub(crate) struct ShutdownSignal {
    pub(crate) interrupt: Interrupt,
    first: OnceLock<Exit>,
}

impl ShutdownSignal {
    pub(crate) fn note(&self, exit: Exit) {
        let _ = self.first.set(exit);
    }

    /// What a command ends with that was cut short.
    pub(crate) fn exit(&self) -> Exit {
        self.first.get().copied().unwrap_or(Exit::Interrupted)
    }
}
