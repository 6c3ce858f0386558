//! The bar's place on the terminal, which everything else that writes there leaves free.

use super::workflow::harmless;
use indicatif::ProgressBar as Bar;
use std::{
    io,
    sync::{Mutex, PoisonError},
};

/// The bar on standard error. A process draws one at most, and whatever else writes there has to go above it.
pub(super) static DRAWN: Mutex<Option<Bar>> = Mutex::new(None);

/// Writes to standard error with the bar out of the way.
pub(crate) fn above_bar<T>(write: impl FnOnce() -> T) -> T {
    let drawn = DRAWN.lock().unwrap_or_else(PoisonError::into_inner).clone();
    match drawn {
        Some(bar) => bar.suspend(write),
        None => write(),
    }
}

/// Standard error for the log: each line is written above the bar.
pub(crate) struct LogWriter;

impl io::Write for LogWriter {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        // A line of the log is one call.
        let text = String::from_utf8_lossy(buffer);
        above_bar(|| io::stderr().write_all(harmless(&text).as_bytes()))?;
        Ok(buffer.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}
