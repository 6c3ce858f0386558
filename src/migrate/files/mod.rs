//! How migration files are laid out by the tools that people come from: names, folders, directives in comments, encodings.
//!
//! What is not understood is refused with the tool that it looks like; nothing is guessed.

pub(in crate::migrate) mod bundled;
pub(in crate::migrate) mod directory;
pub(super) mod encoding;
pub(in crate::migrate) mod file;
pub(super) mod format;
pub(super) mod name;
pub(in crate::migrate) mod source;
