//! Among which objects a name is looked up.

/// The kinds of relations, as in DROP.
pub(super) const RELATIONS: &[&str] = &["table", "view", "materialized view", "sequence", "foreign table"];

/// What a name is looked up among.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Namespace {
    Relations,
    Types,
    Routines,
    Schemas,
    /// Operators, collations and others, whose names are not collected.
    Others,
}

impl Namespace {
    /// Returns the namespace of a kind as written after CREATE, ALTER, DROP and COMMENT ON.
    pub(super) fn of_kind(kind: &str) -> Self {
        match kind {
            "index" | "column" => Self::Relations,
            "type" | "domain" => Self::Types,
            "function" | "procedure" | "routine" | "aggregate" => Self::Routines,
            "schema" => Self::Schemas,
            _ if RELATIONS.contains(&kind) => Self::Relations,
            _ => Self::Others,
        }
    }
}
