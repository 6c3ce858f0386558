//! The template `flags`, and `cgk::flags` on its tables, on a real database.

#[allow(dead_code, reason = "other tests need the rest of it")]
#[path = "../platform/stage.rs"]
mod platform;

mod append_only;
mod constraints;
mod isolation;
mod months;
mod recorded;
mod stage;
mod usage_sql;
