//! What the tests of the program run it with.
#![expect(dead_code, reason = "other tests use the rest")]

#[path = "../it/support/cgk.rs"]
pub(crate) mod cgk;
#[path = "../it/support/json_schema.rs"]
pub(crate) mod json_schema;
