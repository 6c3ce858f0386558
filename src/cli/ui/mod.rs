//! Output for users and programs: text, tables, progress, errors.

pub(in crate::cli) mod bar_line;
pub(in crate::cli) mod bytes_bar;
pub(in crate::cli) mod csv;
pub(in crate::cli) mod hint;
pub(in crate::cli) mod line_bar;
pub(in crate::cli) mod printer;
pub(in crate::cli) mod progress;
pub(in crate::cli) mod progress_bar;
pub(in crate::cli) mod report;
pub(in crate::cli) mod server_detail;
pub(in crate::cli) mod size;
pub(in crate::cli) mod style;
pub(in crate::cli) mod table;
pub(in crate::cli) mod time;
mod workflow;
pub(in crate::cli) mod wrap;
