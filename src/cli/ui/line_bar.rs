//! Shows one line about long work: on a terminal it is replaced in place, otherwise it is printed every ten seconds.

use indicatif::{ProgressBar as Bar, ProgressDrawTarget, ProgressStyle};
use std::{
    sync::PoisonError,
    time::{Duration, Instant},
};

use super::{bar_line::DRAWN, printer::Printer};

/// Shorter work shows nothing.
const DRAW_AFTER: Duration = Duration::from_millis(250);
/// The interval of the lines in a log.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// Removes the line from the terminal when dropped.
pub(crate) struct LineBar<'a> {
    printer: &'a Printer,
    started: Instant,
    last_line: Instant,
    bar: Option<Bar>,
}

impl<'a> LineBar<'a> {
    pub(crate) fn new(printer: &'a Printer) -> Self {
        let now = Instant::now();
        Self { printer, started: now, last_line: now, bar: None }
    }

    /// Shows the line for the time that the work has taken, if it is to be shown now.
    pub(crate) fn show(&mut self, line: impl FnOnce(Duration) -> String) {
        let elapsed = self.started.elapsed();
        if self.printer.is_json() || elapsed < DRAW_AFTER {
            return;
        }
        if self.printer.animates() {
            self.draw().set_message(line(elapsed));
        } else if self.last_line.elapsed() >= LINE_EVERY {
            self.last_line = Instant::now();
            self.printer.info(line(elapsed));
        }
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

impl Drop for LineBar<'_> {
    fn drop(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
            *DRAWN.lock().unwrap_or_else(PoisonError::into_inner) = None;
        }
    }
}
