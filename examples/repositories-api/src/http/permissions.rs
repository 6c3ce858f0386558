//! What a caller must be for each kind of handler.

use cgk::{axum::Requirement, request::Identity};

/// Every user, and a program whose key has the scope `read`.
pub enum Reader {}

/// Every user, and a program whose key has the scope `write`.
pub enum Writer {}

/// A user, and no program.
pub enum AnyUser {}

impl Requirement for Reader {
    fn is_met_by(caller: &Identity) -> bool {
        has_scope(caller, "read")
    }
}

impl Requirement for Writer {
    fn is_met_by(caller: &Identity) -> bool {
        has_scope(caller, "write")
    }
}

impl Requirement for AnyUser {
    fn is_met_by(caller: &Identity) -> bool {
        matches!(caller, Identity::Session(_))
    }
}

fn has_scope(caller: &Identity, scope: &str) -> bool {
    match caller {
        Identity::Session(_) => true,
        Identity::ApiKey(key) => key.has_scope(scope),
        _ => false,
    }
}
