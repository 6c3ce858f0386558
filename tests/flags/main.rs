//! The template `flags`, and `cgk::flags` on its tables, on a real database.

#[allow(dead_code, reason = "other tests need the rest of it")]
#[path = "../platform/stage.rs"]
mod platform;

mod append_only;
mod constraints;
mod explained;
mod isolation;
mod limits;
mod loaded;
mod logged;
mod months;
#[cfg(feature = "open-feature")]
mod open_feature;
mod page;
mod plans;
mod recorded;
mod remembered;
mod stage;
mod usage_sql;
