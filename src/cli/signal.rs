//! Ctrl-C, SIGTERM and SIGHUP.

use cgk::migrate::Interrupt;
use std::{io, sync::OnceLock};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::exit::Exit;

/// The signals that request the program to stop. While this value exists, they do not end the process, so the second
/// signal does not interrupt the cleanup after the first one.
pub(crate) struct Signals {
    interrupt: Signal,
    terminate: Signal,
    /// The terminal is closed. `None` if that must be ignored, as under `nohup`.
    hangup: Option<Signal>,
}

impl Signals {
    pub(crate) fn listen() -> io::Result<Self> {
        let hangup = (!ignores_hangup()).then(|| signal(SignalKind::hangup())).transpose()?;
        let (interrupt, terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        Ok(Self { interrupt, terminate, hangup })
    }

    /// Waits for the next signal. If the future is dropped, nothing is lost.
    pub(crate) async fn next(&mut self) -> Exit {
        tokio::select! {
            _ = self.interrupt.recv() => Exit::Interrupted,
            _ = self.terminate.recv() => Exit::Terminated,
            Some(_) = async { self.hangup.as_mut()?.recv().await } => Exit::Terminated,
        }
    }
}

/// Whether the process was started with SIGHUP ignored. Returns true if that is not known.
fn ignores_hangup() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_none_or(|mask| mask & 1 == 1)
}

/// What the signals have requested so far. Work over many schemas checks it.
#[derive(Default)]
pub(crate) struct ShutdownSignal {
    pub(crate) interrupt: Interrupt,
    first: OnceLock<Exit>,
}

impl ShutdownSignal {
    pub(crate) fn note(&self, exit: Exit) {
        let _ = self.first.set(exit);
    }

    /// Returns the exit code of an interrupted command.
    pub(crate) fn exit(&self) -> Exit {
        self.first.get().copied().unwrap_or(Exit::Interrupted)
    }
}
