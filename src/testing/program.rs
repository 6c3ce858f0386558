//! Runs programs until they end.

use std::{
    io,
    process::{Command, Stdio},
};

/// Runs a program until it ends; its output is used only in the error.
pub(super) fn run(command: &mut Command) -> Result<(), String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.stdin(Stdio::null()).output().map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => format!("{program}: not installed"),
        _ => format!("{program}: {error}"),
    })?;
    if output.status.success() {
        return Ok(());
    }
    let said = [output.stderr, output.stdout].concat();
    let said = String::from_utf8_lossy(&said);
    let telling = |line: &&str| line.to_lowercase().contains("error");
    let line = said.lines().find(telling).or_else(|| said.lines().last()).unwrap_or_default().trim();
    Err(match line {
        "" => format!("{program}: {}", output.status),
        line if line.starts_with(&program) => line.to_owned(),
        line => format!("{program}: {line}"),
    })
}
