//! Paths in error messages.

use super::super::style::sanitize;
use std::path::Path;

/// Returns the shortest form of a path, relative to the working directory.
pub(crate) fn display_path(path: &Path) -> String {
    let here = std::env::current_dir().ok();
    let short =
        here.as_deref().and_then(|here| path.strip_prefix(here).ok()).filter(|rest| !rest.as_os_str().is_empty());
    // A file name can contain line ends.
    sanitize(&short.unwrap_or(path).display().to_string()).replace('\n', "\\n").replace('\t', "\\t")
}

/// Returns a text with its paths relative to the working directory.
pub(crate) fn without_here(text: &str) -> String {
    match std::env::current_dir() {
        Ok(here) => text.replace(&format!("{}/", here.display()), ""),
        Err(_) => text.to_owned(),
    }
}
