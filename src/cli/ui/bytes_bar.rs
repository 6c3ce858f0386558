//! Shows the progress in one tenant's rows: on a terminal a bar with bytes and remaining time, otherwise a line every
//! ten seconds.

use cgk::{TenantSlug, lifecycle::TransferObserver};
use indicatif::{ProgressBar as Bar, ProgressDrawTarget, ProgressStyle};
use std::{
    sync::PoisonError,
    time::{Duration, Instant},
};

use super::{bar_line::DRAWN, printer::Printer, size, time};

/// Shorter work draws no bar.
const DRAW_AFTER: Duration = Duration::from_millis(250);
/// The interval of the lines in a log.
const LINE_EVERY: Duration = Duration::from_secs(10);

pub(crate) struct BytesBar<'a> {
    printer: &'a Printer,
    verb: &'static str,
    started: Instant,
    last_line: Instant,
    bar: Option<Bar>,
}

impl<'a> BytesBar<'a> {
    pub(crate) fn new(printer: &'a Printer, verb: &'static str) -> Self {
        let now = Instant::now();
        Self { printer, verb, started: now, last_line: now, bar: None }
    }

    fn draw(&mut self) -> &Bar {
        self.bar.get_or_insert_with(|| {
            let bar = Bar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(10));
            bar.set_style(ProgressStyle::with_template("{wide_msg}").expect("the template is valid"));
            *DRAWN.lock().unwrap_or_else(PoisonError::into_inner) = Some(bar.clone());
            bar
        })
    }
}

impl TransferObserver for BytesBar<'_> {
    fn moved(&mut self, tenant: &TenantSlug, bytes: u64, of: u64) {
        let elapsed = self.started.elapsed();
        if self.printer.is_json() || elapsed < DRAW_AFTER {
            return;
        }
        let rate = bytes as f64 / elapsed.as_secs_f64().max(0.001);
        let left = Duration::from_secs_f64(of.saturating_sub(bytes) as f64 / rate.max(1.0));
        let line = format!(
            "{} {tenant}  {} of {}  {} a second, {} left",
            self.verb,
            size::of(bytes),
            size::of(of),
            size::of(rate as u64),
            time::elapsed(left)
        );
        if self.printer.animates() {
            self.draw().set_message(line);
        } else if self.last_line.elapsed() >= LINE_EVERY {
            self.last_line = Instant::now();
            self.printer.info(line);
        }
    }
}

impl Drop for BytesBar<'_> {
    fn drop(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
            *DRAWN.lock().unwrap_or_else(PoisonError::into_inner) = None;
        }
    }
}
