//! Ctrl-C and SIGTERM.

use std::{future::Future, io};
use tokio::signal::unix::{SignalKind, signal};

use super::exit::Exit;

/// Ends with the first signal that asks the program to stop. From this call on the signals do nothing else, so that what is
/// cleaned up after the first one is not cut off by the second.
pub(crate) fn first() -> io::Result<impl Future<Output = Exit>> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => Exit::Interrupted,
            _ = terminate.recv() => Exit::Terminated,
        }
    })
}
