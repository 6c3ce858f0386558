//! What these tests share with those of the program.

#[allow(dead_code, reason = "the program's own tests use all of it")]
#[path = "../../it/support/cgk.rs"]
pub(crate) mod cgk;
#[path = "../../it/support/json_schema.rs"]
pub(crate) mod json_schema;
