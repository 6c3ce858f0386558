//! The only output: results are written to standard output, messages to standard error.
//!
//! If the reader has closed a pipe, this is not an error: the command continues without a message. Any other write
//! failure, for example a full disk, is stored and makes the command fail at its end.

use serde::Serialize;
use std::{
    fmt::{self, Display},
    io::{self, IsTerminal, Write},
    sync::Mutex,
};

use super::{
    bar_line::above_bar,
    style::{WARNING, paint},
    workflow::{self, harmless},
    wrap,
};

pub(crate) struct Printer {
    format: Format,
    volume: Volume,
    output: Mutex<Output>,
}

/// The format of results.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    Human,
    Json,
    /// Text, with annotations that GitHub Actions shows beside the files.
    Github,
}

/// The amount of messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Volume {
    Quiet,
    Normal,
    Verbose,
}

/// A workflow command of GitHub Actions.
pub(crate) struct Annotation<'a> {
    /// `error`, `warning` or `notice`.
    pub(crate) level: &'static str,
    pub(crate) title: &'a str,
    /// The file, line and column.
    pub(crate) place: Option<(&'a str, usize, usize)>,
    pub(crate) message: &'a str,
}

impl Display for Annotation<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // These characters would end the value. This is the escape syntax of GitHub.
        let message = |text: &str| text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A");
        let property = |text: &str| message(text).replace(':', "%3A").replace(',', "%2C");
        write!(f, "::{} title={}", self.level, property(self.title))?;
        if let Some((file, line, column)) = self.place {
            write!(f, ",file={},line={line},col={column}", property(file))?;
        }
        write!(f, "::{}", message(self.message))
    }
}

#[derive(Default)]
enum Output {
    #[default]
    Open,
    Closed,
    Failed(io::Error),
}

impl Printer {
    pub(crate) fn new(format: Format, volume: Volume) -> Self {
        if format == Format::Github {
            workflow::reads();
        }
        Self { format, volume, output: Mutex::default() }
    }

    pub(crate) fn is_json(&self) -> bool {
        self.format == Format::Json
    }

    pub(crate) fn is_verbose(&self) -> bool {
        self.volume == Volume::Verbose
    }

    /// Whether standard error is a terminal on which a line can be redrawn.
    pub(crate) fn animates(&self) -> bool {
        self.format == Format::Human
            && self.volume == Volume::Normal
            && io::stderr().is_terminal()
            && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
    }

    /// Whether standard error shows colours.
    pub(crate) fn colours(&self) -> bool {
        anstream::AutoStream::choice(&io::stderr()) != anstream::ColorChoice::Never
    }

    /// Writes a line of the result. In the JSON format, nothing is written.
    pub(crate) fn output(&self, text: impl Display) {
        if self.format != Format::Json {
            self.write_out(&format!("{text}\n"));
        }
    }

    /// Writes a sentence of the result. A terminal gets lines of its width. GitHub Actions gets complete lines.
    pub(crate) fn sentence(&self, text: impl Display) {
        let width = wrap::width().filter(|_| self.format == Format::Human);
        self.output(wrap::message(&text.to_string(), width));
    }

    /// Writes a record of the result, on one line. In the text format, nothing is written.
    pub(crate) fn record(&self, record: &impl Serialize) {
        if self.format == Format::Json {
            let text = serde_json::to_string(record).expect("a record has text keys and no failing parts");
            self.write_out(&format!("{text}\n"));
        }
    }

    /// Writes a line of the result in every format: a script, a help text.
    pub(crate) fn raw(&self, text: impl Display) {
        self.write_out(&text.to_string());
    }

    /// Writes rows of the result. If standard output is not a terminal and GitHub Actions does not read it, the bytes
    /// are unchanged: the rows are data, and so are escape sequences in them.
    pub(crate) fn data(&self, text: &str) {
        if io::stdout().is_terminal() {
            self.write_out(text);
        } else if matches!(*self.state(), Output::Open) {
            self.note(above_bar(|| io::stdout().lock().write_all(harmless(text).as_bytes())));
        }
    }

    /// Writes a problem as an annotation for GitHub Actions. Other formats write nothing.
    pub(crate) fn annotate(&self, annotation: &Annotation<'_>) {
        if self.format == Format::Github {
            self.write_as_it_is(&format!("{annotation}\n"));
        }
    }

    /// Writes an informational message.
    pub(crate) fn info(&self, text: impl Display) {
        if self.volume >= Volume::Normal {
            self.error(text);
        }
    }

    /// Writes a warning: a problem that does not stop the command.
    pub(crate) fn warn(&self, text: impl Display) {
        self.annotate(&Annotation { level: "warning", title: "cgk", place: None, message: &text.to_string() });
        self.error(format!("{} {text}", paint(WARNING, "warning:")));
    }

    /// Writes an error message, also with `--quiet`. A terminal gets lines of its width.
    pub(crate) fn error(&self, text: impl Display) {
        let text = wrap::message(&text.to_string(), wrap::error_width());
        // If standard error cannot be written, the message cannot be shown at all.
        let _ = above_bar(|| writeln!(anstream::stderr(), "{}", harmless(&text)));
    }

    /// Writes a question to standard error. The user's input is on the same line.
    pub(crate) fn prompt(&self, text: &str) {
        let _ =
            above_bar(|| write!(anstream::stderr(), "{}", harmless(text)).and_then(|()| anstream::stderr().flush()));
    }

    /// Writes what a command does after a signal. On a terminal, it starts at the first column, over the `^C` with which
    /// the terminal shows that the key was pressed.
    pub(crate) fn at_signal(&self, text: &str) {
        let start = if io::stderr().is_terminal() { "\r" } else { "" };
        self.error(format!("{start}{text}"));
    }

    /// Clears the screen if the output is a terminal that supports it. These codes are not colours, so `NO_COLOR` does
    /// not affect them.
    pub(crate) fn clear_screen(&self) {
        let redraws = std::env::var_os("TERM").is_none_or(|term| term != "dumb");
        if self.format == Format::Human && io::stdout().is_terminal() && redraws {
            // The third code also clears the scrollback.
            self.note(io::stdout().lock().write_all(b"\x1b[H\x1b[2J\x1b[3J"));
        }
    }

    /// Returns the error of standard output, except for a pipe that its reader has closed.
    pub(crate) fn finish(&self) -> io::Result<()> {
        self.note(anstream::stdout().flush());
        match std::mem::take(&mut *self.state()) {
            Output::Failed(error) => Err(error),
            Output::Open | Output::Closed => Ok(()),
        }
    }

    fn write_out(&self, text: &str) {
        self.write_as_it_is(&harmless(text));
    }

    fn write_as_it_is(&self, text: &str) {
        if matches!(*self.state(), Output::Open) {
            self.note(above_bar(|| anstream::stdout().lock().write_all(text.as_bytes())));
        }
    }

    fn note(&self, written: io::Result<()>) {
        if let Err(error) = written {
            *self.state() = match error.kind() {
                io::ErrorKind::BrokenPipe => Output::Closed,
                _ => Output::Failed(error),
            };
        }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, Output> {
        self.output.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}
