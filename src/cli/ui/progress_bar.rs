//! Shows the progress of work over many tenants: a bar on a terminal, otherwise a line every ten seconds.

use cgk::{Error, TenantSlug};
use indicatif::{ProgressBar as Bar, ProgressDrawTarget, ProgressStyle};
use std::{
    collections::BTreeMap,
    io,
    sync::PoisonError,
    time::{Duration, Instant},
};

use super::{
    bar_line::DRAWN,
    printer::Printer,
    report::{Report, listed},
    style::{BAD, count, paint, sanitize},
    time,
};

/// Shorter runs draw no bar.
const DRAW_AFTER: Duration = Duration::from_millis(250);
/// The interval of the lines in a log.
const LINE_EVERY: Duration = Duration::from_secs(10);
/// On a narrower terminal, only the numbers are shown, because the text after a bar would be cut.
const BAR_COLUMNS_MIN: u16 = 80;

/// Shows the progress of one operation. Removes the bar when dropped.
pub(crate) struct ProgressBar<'a> {
    printer: &'a Printer,
    verb: &'static str,
    started: Instant,
    last_line: Instant,
    total: usize,
    done: usize,
    failed: usize,
    /// The tenants in progress, and whether each waits for a lock of another session.
    under_way: BTreeMap<TenantSlug, bool>,
    bar: Option<Bar>,
}

impl<'a> ProgressBar<'a> {
    pub(crate) fn new(printer: &'a Printer, verb: &'static str, total: usize) -> Self {
        let now = Instant::now();
        Self {
            printer,
            verb,
            started: now,
            last_line: now,
            total,
            done: 0,
            failed: 0,
            under_way: BTreeMap::new(),
            bar: None,
        }
    }

    /// Restarts the measured time.
    pub(crate) fn restart(&mut self) {
        self.remove();
        self.started = Instant::now();
        self.last_line = self.started;
    }

    /// Shows what runs before the first tenant, until [`restart`](Self::restart).
    pub(crate) fn say(&mut self, what: &'static str) {
        if self.printer.animates() {
            let bar = Bar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(10));
            bar.set_style(ProgressStyle::with_template("{msg}").expect("the template is valid"));
            bar.set_message(what);
            self.draw(bar);
        }
    }

    /// Records that a tenant has started.
    pub(crate) fn begun(&mut self, slug: &TenantSlug) {
        self.under_way.insert(slug.clone(), false);
        self.show();
    }

    /// Records that a tenant waits for a lock.
    pub(crate) fn waiting(&mut self, slug: &TenantSlug) {
        self.under_way.insert(slug.clone(), true);
        self.show();
    }

    /// Counts a tenant. In a long run, reports its failure immediately.
    pub(crate) fn done(&mut self, slug: &TenantSlug, error: Option<&Error>) {
        self.done += 1;
        self.under_way.remove(slug);
        if let Some(error) = error {
            self.failed += 1;
            // A short run reports all failures at its end.
            if !self.printer.is_json() && self.total > 1 && self.started.elapsed() >= DRAW_AFTER {
                let message = sanitize(&Report::of_library(error).short());
                self.printer.error(format!("{} {slug}: {message}", paint(BAD, "failed")));
            }
        }
        self.show();
    }

    /// Shows the progress again although nothing has changed. A log gets a line if one is due.
    pub(crate) fn tick(&mut self) {
        self.show();
    }

    fn show(&mut self) {
        let waits = self.under_way.values().any(|waits| *waits);
        if self.done >= self.total || (self.total < 2 && !waits) {
            return;
        }
        if self.printer.animates() {
            if self.bar.is_none() {
                let bar = bar(self.verb, self.total, self.printer.colours());
                self.draw_after(bar, DRAW_AFTER.saturating_sub(self.started.elapsed()));
            }
            if let Some(bar) = &self.bar {
                bar.set_message(self.rest());
                bar.set_position(self.done as u64);
            }
        } else if !self.printer.is_json() && self.last_line.elapsed() >= LINE_EVERY {
            let line = format!("{}  {} of {}  {}", self.verb, self.done, count(self.total, "tenant"), self.rest());
            self.printer.info(line);
            self.last_line = Instant::now();
        }
    }

    /// Draws a hidden bar after a pause, unless it is removed before. So it also appears if nothing happens after the pause.
    fn draw_after(&mut self, bar: Bar, pause: Duration) {
        self.draw(bar.clone());
        std::thread::spawn(move || {
            std::thread::sleep(pause);
            let _drawn = DRAWN.lock().unwrap_or_else(PoisonError::into_inner);
            if !bar.is_finished() {
                bar.set_draw_target(ProgressDrawTarget::stderr_with_hz(10));
                bar.tick();
            }
        });
    }

    fn draw(&mut self, bar: Bar) {
        self.remove();
        *DRAWN.lock().unwrap_or_else(PoisonError::into_inner) = Some(bar.clone());
        self.bar = Some(bar);
    }

    fn remove(&mut self) {
        if let Some(bar) = self.bar.take() {
            let mut drawn = DRAWN.lock().unwrap_or_else(PoisonError::into_inner);
            bar.finish_and_clear();
            *drawn = None;
        }
    }

    /// Returns the failures, then either the tenants that wait for a lock, the last tenants, or the rate and the
    /// remaining time.
    fn rest(&self) -> String {
        let rate = self.done as f64 / self.started.elapsed().as_secs_f64().max(0.001);
        let left = Duration::from_secs_f64(self.total.saturating_sub(self.done) as f64 / rate.max(0.001));
        let failed = if self.failed > 0 { format!("{} failed, ", self.failed) } else { String::new() };
        let names = |waiting: bool| -> Vec<&str> {
            let all = self.under_way.iter().filter(|(_, waits)| **waits || !waiting);
            all.map(|(slug, _)| slug.as_str()).collect()
        };
        let waiting = names(true);
        if !waiting.is_empty() {
            return format!("{failed}waiting for a lock in {}", listed(&waiting));
        }
        // There is no rate yet, or it does not apply to the last ones.
        if !self.under_way.is_empty() && (self.done == 0 || self.done + self.under_way.len() >= self.total) {
            return format!("{failed}in progress: {}", listed(&names(false)));
        }
        format!("{failed}{rate:.0} a second, {} left", time::elapsed(left))
    }
}

impl Drop for ProgressBar<'_> {
    fn drop(&mut self) {
        self.remove();
    }
}

fn bar(verb: &'static str, total: usize, colours: bool) -> Bar {
    let wide = terminal_columns() >= BAR_COLUMNS_MIN;
    let template = match (wide, colours) {
        (true, true) => "{prefix}  {bar:20.green/black.bright}  {pos} of {len} tenants  {wide_msg:.dim}",
        (true, false) => "{prefix}  {bar:20}  {pos} of {len} tenants  {wide_msg}",
        // Only the numbers. Text that does not fit is cut.
        (false, _) => "{prefix}  {pos} of {len}  {wide_msg}",
    };
    let style = ProgressStyle::with_template(template).expect("the template is valid").progress_chars("━━─");
    // Its prefix and its text are set before it is drawn.
    let bar = Bar::with_draw_target(Some(total as u64), ProgressDrawTarget::hidden());
    bar.set_style(style);
    bar.set_prefix(verb);
    bar
}

fn terminal_columns() -> u16 {
    terminal_size::terminal_size_of(io::stderr()).map_or(80, |(width, _)| width.0)
}
