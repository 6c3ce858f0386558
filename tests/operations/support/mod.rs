//! What the integration tests have already: the program in a shell of its own, and the schema of its JSON.

#[path = "../../it/support/cgk.rs"]
pub(crate) mod cgk;
#[path = "../../it/support/json_schema.rs"]
pub(crate) mod json_schema;
