//! The log lines of the library, as a service writes them.

use std::{
    io,
    sync::{Arc, LazyLock, Mutex},
};
use tracing::{Dispatch, subscriber::DefaultGuard};
use tracing_subscriber::fmt::format::FmtSpan;

/// While a process has had one subscriber only, a span that another thread reaches first, without a subscriber, is disabled for
/// all threads. With a second one that stays, each span is decided by the subscriber of its own thread.
static SECOND: LazyLock<Dispatch> = LazyLock::new(|| Dispatch::new(tracing_subscriber::registry()));

/// A text that several writers share.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    /// Writes the lines of this thread here, until the guard is dropped; a span is a line when it ends.
    pub(crate) fn listen(&self, filter: &str) -> DefaultGuard {
        LazyLock::force(&SECOND);
        let writer = self.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_span_events(FmtSpan::CLOSE)
            .with_ansi(false)
            .with_writer(move || writer.clone())
            .finish();
        tracing::subscriber::set_default(subscriber)
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
