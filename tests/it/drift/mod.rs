//! Drift and verification.

pub(crate) mod beside;
pub(crate) mod earlier_records;
pub(crate) mod everyone;
pub(crate) mod false_alarms;
pub(crate) mod fingerprints;
pub(crate) mod ignore;
pub(crate) mod logins;
pub(crate) mod not_null;
pub(crate) mod properties;
pub(crate) mod record_lock;
pub(crate) mod roles;
pub(crate) mod schemas;
pub(crate) mod sql;
pub(crate) mod sql_order;
pub(crate) mod stamps;
pub(crate) mod step_forms;
pub(crate) mod trigger_texts;
pub(crate) mod volatile;
