//! Paths as an error shows them.

use super::super::style::sanitize;
use std::path::Path;

/// A path as short as it can be told from here.
pub(crate) fn display_path(path: &Path) -> String {
    let here = std::env::current_dir().ok();
    let short =
        here.as_deref().and_then(|here| path.strip_prefix(here).ok()).filter(|rest| !rest.as_os_str().is_empty());
    // A name may hold what ends a line.
    sanitize(&short.unwrap_or(path).display().to_string()).replace('\n', "\\n").replace('\t', "\\t")
}

/// A text with the paths in it as short as they can be told from here.
pub(super) fn without_here(text: &str) -> String {
    match std::env::current_dir() {
        Ok(here) => text.replace(&format!("{}/", here.display()), ""),
        Err(_) => text.to_owned(),
    }
}
