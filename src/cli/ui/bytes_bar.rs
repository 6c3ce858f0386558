//! Shows the progress in one tenant's rows: bytes and remaining time.

use cgk::{TenantSlug, lifecycle::TransferObserver};
use std::time::Duration;

use super::{line_bar::LineBar, printer::Printer, size, time};

pub(crate) struct BytesBar<'a> {
    verb: &'static str,
    line: LineBar<'a>,
}

impl<'a> BytesBar<'a> {
    pub(crate) fn new(printer: &'a Printer, verb: &'static str) -> Self {
        Self { verb, line: LineBar::new(printer) }
    }
}

impl TransferObserver for BytesBar<'_> {
    fn moved(&mut self, tenant: &TenantSlug, bytes: u64, of: u64) {
        let verb = self.verb;
        self.line.show(|elapsed| {
            let rate = bytes as f64 / elapsed.as_secs_f64().max(0.001);
            let left = Duration::from_secs_f64(of.saturating_sub(bytes) as f64 / rate.max(1.0));
            format!(
                "{verb} {tenant}  {} of {}  {} a second, {} left",
                size::of(bytes),
                size::of(of),
                size::of(rate as u64),
                time::elapsed(left)
            )
        });
    }
}
