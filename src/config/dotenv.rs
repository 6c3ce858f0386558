//! The `.env` file in the working directory.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::error::{ConfigError, ValueProblem};
use super::origin::Origin;

/// The variables of a `.env` file. They are looked up here and never added to the process's environment. This is not
/// `Debug`, because the values may be secrets.
#[derive(Default)]
pub(super) struct DotEnv {
    path: PathBuf,
    variables: BTreeMap<String, String>,
    /// Notices for the user about ignored lines.
    pub(super) notices: Vec<String>,
}

impl DotEnv {
    /// Reads `.env` in `directory`. The file is optional. As in other tools, `$NAME` outside of single quotes is
    /// replaced.
    pub(super) fn read(directory: &Path) -> Result<DotEnv, ConfigError> {
        let path = directory.join(".env");
        let at = |line| Some(Origin::Line { path: path.clone(), line });
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(DotEnv::default()),
            Err(error) => {
                let what = format!("could not read {}", path.display());
                let problem = ValueProblem::unreadable(what, "Make the file readable, or remove it.");
                return Err(problem.because(error).of(".env", None));
            }
        };
        let text = String::from_utf8(bytes).map_err(|error| {
            let line = line_of(error.as_bytes(), error.utf8_error().valid_up_to());
            ValueProblem::invalid("is not UTF-8", "Save the file as UTF-8.").of(".env", at(line))
        })?;
        let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
        let mut variables = BTreeMap::new();
        let mut notices = Vec::new();
        let text = without_open_quotes(text, &path, &mut notices);
        for variable in dotenvy::from_read_iter(text.as_bytes()) {
            match variable {
                Ok((name, value)) => {
                    variables.insert(name, value);
                }
                // The error contains the line itself, which may be a secret, so it is neither shown nor kept. An open
                // quote joins all following lines.
                Err(dotenvy::Error::LineParse(broken, _)) => {
                    let first = broken.lines().next().unwrap_or_default();
                    let line = line_of(text.as_bytes(), text.find(first).unwrap_or(0));
                    if broken.lines().any(may_be_ours) {
                        return Err(ValueProblem::invalid(
                            "is not NAME=value",
                            "Write NAME=value, with single quotes around a value that has blanks, quotes, `$` or `\\` \
                             in it.",
                        )
                        .of(".env", at(line)));
                    }
                    notices.push(format!("line {line} of {} is not NAME=value and is ignored", path.display()));
                }
                Err(_) => {
                    return Err(ValueProblem::unreadable("could not be read", "Make the file readable, or remove it.")
                        .of(".env", at(1)));
                }
            }
        }
        Ok(DotEnv { path, variables, notices })
    }

    /// Looks up a variable. An empty one counts as unset.
    pub(super) fn variable(&self, variable: &'static str) -> Option<(&str, Origin)> {
        let value = self.variables.get(variable).filter(|value| !value.is_empty())?;
        Some((value, Origin::DotEnv { path: self.path.clone(), variable }))
    }
}

/// Replaces a line of another program that opens a quote and does not close it by an empty line. Such a line would hide
/// all following lines, including those of cgk. The number of lines does not change.
fn without_open_quotes(text: &str, path: &Path, notices: &mut Vec<String>) -> String {
    let mut text = text.to_owned();
    let lines_max = text.lines().count();
    for _ in 0..lines_max {
        let broken = dotenvy::from_read_iter(text.as_bytes()).find_map(|variable| match variable {
            Err(dotenvy::Error::LineParse(broken, _)) if broken.lines().count() > 1 => Some(broken),
            _ => None,
        });
        let Some(broken) = broken else { break };
        let first = broken.lines().next().unwrap_or_default();
        let Some(at) = text.find(&broken) else { break };
        if first.is_empty() || may_be_ours(first) {
            break;
        }
        let line = line_of(text.as_bytes(), at);
        notices.push(format!("line {line} of {} opens a quote and does not close it; it is ignored", path.display()));
        text.replace_range(at..at + first.len(), "");
    }
    text
}

/// Whether an unreadable line may belong to cgk. Other programs use the same file, and cgk ignores their lines.
fn may_be_ours(line: &str) -> bool {
    let line = line.trim_start();
    let line = line.strip_prefix("export ").unwrap_or(line).trim_start();
    line.starts_with("DATABASE_URL") || line.starts_with("CGK_")
}

/// Returns the number of the line that contains a byte, counted from 1.
pub(super) fn line_of(text: &[u8], offset: usize) -> usize {
    1 + text.iter().take(offset).filter(|byte| **byte == b'\n').count()
}
