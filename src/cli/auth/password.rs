//! Reads a password from standard input. On a terminal, it asks twice and does not show the input.

use anyhow::{Context as _, Result};
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use std::io::{self, IsTerminal as _, Read as _};

use crate::cli::{
    exit::Exit,
    ui::{printer::Printer, report::Refusal},
};

/// Reads a new password.
pub(super) async fn read(printer: &Printer) -> Result<String> {
    if !io::stdin().is_terminal() {
        let mut text = String::new();
        io::stdin().read_to_string(&mut text).context("could not read the password from standard input")?;
        return of_text(&text);
    }
    let first = ask(printer, "Password: ").await?;
    let second = ask(printer, "Repeat it: ").await?;
    match first == second {
        true => Ok(first),
        false => Err(refused("the two passwords differ", "Run the command again.")),
    }
}

/// Returns the only line of a text.
fn of_text(text: &str) -> Result<String> {
    let line = text.strip_suffix('\n').unwrap_or(text);
    let line = line.strip_suffix('\r').unwrap_or(line);
    match line {
        "" => Err(refused("standard input has no password", "Write the password as its only line.")),
        _ if line.contains('\n') => {
            Err(refused("standard input has more than one line", "Write the password as its only line."))
        }
        _ => Ok(line.to_owned()),
    }
}

fn refused(message: &str, hint: &str) -> anyhow::Error {
    Refusal { message: message.into(), hint: hint.into(), exit: Exit::Usage }.into()
}

/// Asks on the terminal. A signal does not stop the thread that reads. The guard, which is dropped when this call ends,
/// restores the terminal's echo.
async fn ask(printer: &Printer, prompt: &str) -> Result<String> {
    let doing = "could not read the password from the terminal";
    printer.prompt(prompt);
    let echo = EchoOff::set(printer).context(doing)?;
    let read = tokio::task::spawn_blocking(|| {
        let mut line = String::new();
        io::stdin().read_line(&mut line).map(|_| line)
    });
    let line = read.await.context(doing)?.context(doing)?;
    drop(echo);
    of_text(&line)
}

/// While this value exists, the terminal does not show the input.
struct EchoOff<'a> {
    printer: &'a Printer,
    before: Termios,
}

impl<'a> EchoOff<'a> {
    fn set(printer: &'a Printer) -> io::Result<Self> {
        let before = tcgetattr(io::stdin())?;
        let mut without = before.clone();
        without.local_modes.remove(LocalModes::ECHO);
        tcsetattr(io::stdin(), OptionalActions::Flush, &without)?;
        Ok(Self { printer, before })
    }
}

impl Drop for EchoOff<'_> {
    fn drop(&mut self) {
        // If the terminal no longer exists, nothing must be restored.
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.before);
        // The line end of the input was not shown either.
        self.printer.prompt("\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_one_line() {
        for text in ["hunter42", "hunter42\n", "hunter42\r\n"] {
            assert_eq!(of_text(text).unwrap(), "hunter42");
        }
        assert_eq!(of_text(" with blanks \n").unwrap(), " with blanks ");
        for text in ["", "\n", "\r\n", "a\nb\n", "a\n\n"] {
            assert!(of_text(text).is_err(), "{text:?}");
        }
    }
}
