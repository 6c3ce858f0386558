//! The bar's line on the terminal. All other output to standard error is written above it.

use super::workflow::harmless;
use indicatif::ProgressBar as Bar;
use std::{
    io,
    sync::{Mutex, PoisonError},
};

/// The bar on standard error. A process draws at most one, and all other output must be written above it.
pub(super) static DRAWN: Mutex<Option<Bar>> = Mutex::new(None);

/// Writes to standard error while the bar is hidden.
pub(crate) fn above_bar<T>(write: impl FnOnce() -> T) -> T {
    let drawn = DRAWN.lock().unwrap_or_else(PoisonError::into_inner).clone();
    match drawn {
        Some(bar) => bar.suspend(write),
        None => write(),
    }
}

/// Standard error for the log. Each line is written above the bar.
pub(crate) struct LogWriter;

impl io::Write for LogWriter {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        // Each line of the log is one call.
        let text = String::from_utf8_lossy(buffer);
        above_bar(|| io::stderr().write_all(harmless(&text).as_bytes()))?;
        Ok(buffer.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}
