//! The one way out: the answer goes to standard output, the conversation to standard error.
//!
//! A pipe that the reader has closed is no fault of the command: what it was doing goes on, and nobody is told. Any other
//! failure to write, a full disk for instance, is remembered and makes the command fail at its end.

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
};

pub(crate) struct Printer {
    format: Format,
    volume: Volume,
    output: Mutex<Output>,
}

/// Whether the answer is for people or for programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    Human,
    Json,
    /// For people, and in between what GitHub Actions shows beside the files.
    Github,
}

/// How much of the conversation is wanted.
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
    /// File, line and column.
    pub(crate) place: Option<(&'a str, usize, usize)>,
    pub(crate) message: &'a str,
}

impl Display for Annotation<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // What would end the value it stands in, in GitHub's own way of writing it.
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

    /// A line of the answer; programs get records instead.
    pub(crate) fn output(&self, text: impl Display) {
        if self.format != Format::Json {
            self.write_out(&format!("{text}\n"));
        }
    }

    /// A record of the answer, on a line of its own; people get lines instead.
    pub(crate) fn record(&self, record: &impl Serialize) {
        if self.format == Format::Json {
            let text = serde_json::to_string(record).expect("a record has text keys and no failing parts");
            self.write_out(&format!("{text}\n"));
        }
    }

    /// A line of the answer whatever the format: a script, a help text.
    pub(crate) fn raw(&self, text: impl Display) {
        self.write_out(&text.to_string());
    }

    /// Rows of the answer, byte for byte where standard output is no terminal and is not read by GitHub Actions: they are no text of ours, and escape sequences
    /// in them are data.
    pub(crate) fn data(&self, text: &str) {
        if io::stdout().is_terminal() {
            self.write_out(text);
        } else if matches!(*self.state(), Output::Open) {
            self.note(above_bar(|| io::stdout().lock().write_all(harmless(text).as_bytes())));
        }
    }

    /// Something that is wrong, as an annotation for GitHub Actions; nothing elsewhere.
    pub(crate) fn annotate(&self, annotation: &Annotation<'_>) {
        if self.format == Format::Github {
            self.write_as_it_is(&format!("{annotation}\n"));
        }
    }

    /// Something that is good to know.
    pub(crate) fn info(&self, text: impl Display) {
        if self.volume >= Volume::Normal {
            self.error(text);
        }
    }

    /// Something that is not as it should be, and stops nothing.
    pub(crate) fn warn(&self, text: impl Display) {
        self.annotate(&Annotation { level: "warning", title: "cgk", place: None, message: &text.to_string() });
        self.error(format!("{} {text}", paint(WARNING, "warning:")));
    }

    /// Something that must be said.
    pub(crate) fn error(&self, text: impl Display) {
        // Where standard error cannot be written there is nobody left to tell.
        let _ = above_bar(|| writeln!(anstream::stderr(), "{}", harmless(&text.to_string())));
    }

    /// A question on standard error; what is typed follows on the same line.
    pub(crate) fn prompt(&self, text: &str) {
        let _ =
            above_bar(|| write!(anstream::stderr(), "{}", harmless(text)).and_then(|()| anstream::stderr().flush()));
    }

    /// Starts a new screen on a terminal that has one. These codes are no colours: `NO_COLOR` leaves them.
    pub(crate) fn clear_screen(&self) {
        let redraws = std::env::var_os("TERM").is_none_or(|term| term != "dumb");
        if self.format == Format::Human && io::stdout().is_terminal() && redraws {
            // The third one also clears what was scrolled out of the screen.
            self.note(io::stdout().lock().write_all(b"\x1b[H\x1b[2J\x1b[3J"));
        }
    }

    /// What went wrong with standard output, if anything but its reader's leaving.
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
