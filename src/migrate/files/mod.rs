//! Reads migration files in the layouts of other tools: names, folders, directives in comments, encodings.
//!
//! A file that cgk does not understand is refused, and the error names the tool that it seems to belong to. cgk does
//! not guess.

pub(crate) mod bundled;
pub(in crate::migrate) mod directory;
pub(super) mod encoding;
pub(in crate::migrate) mod file;
pub(super) mod format;
pub(super) mod name;
pub(in crate::migrate) mod source;
