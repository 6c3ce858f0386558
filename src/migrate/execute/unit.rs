//! The work for one schema, and the possible results of an attempt.

use super::grouping::Grouping;
use crate::{
    db::run_files::Commits,
    error::Error,
    ident::{Ident, RoleName, SchemaName, literal},
    migrate::{files::file::MigrationFile, fileset::record::FileRecord, plan::SchemaPlan},
    migration::Set,
};

/// The work for one schema, in addition to its plan.
pub(crate) struct Unit<'a> {
    pub(crate) plan: &'a SchemaPlan<'a>,
    /// The tenant's role, which must not access the ledger.
    pub(crate) role: Option<&'a RoleName>,
    /// Statements that create the tenant: registry row, schema, role, grants.
    pub(crate) provision: String,
    pub(crate) ledger: LedgerPresence,
    /// The schema's owner, if it is not the operator: objects are created in its name.
    pub(crate) owner: Option<Ident>,
    pub(crate) commits: Commits,
    pub(crate) grouping: Grouping,
    pub(crate) sessions: SchemaAccess,
    pub(crate) purpose: Purpose<'a>,
    /// The record of the fleet's files; `None` for a trial schema.
    pub(crate) files: Option<(&'a FileRecord, Set)>,
}

/// The purpose of a new schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose<'a> {
    Use,
    /// It will be rolled back. These statements run after the first n files, for each n selected in `wanted`.
    RollBack {
        observe: &'a str,
        wanted: &'a [bool],
    },
    /// It will be dropped. Effects of a file outside of the schema would remain, so they are refused.
    Drop,
}

/// Which sessions may use the schema during the migration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SchemaAccess {
    /// Any session. CONCURRENTLY is executed as written.
    Any,
    /// No session: the schema is new, or its tenant cannot be entered yet. CONCURRENTLY is omitted.
    None,
}

/// Whether a schema already has its ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LedgerPresence {
    Present,
    Absent,
}

/// The result of a successful attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ApplyOutcome {
    /// Committed.
    Applied,
    /// The schema no longer matches the plan. Pieces that are already committed are kept. Read its state and plan
    /// again.
    Stale,
    /// Another run is working on the schema. Nothing was changed.
    Locked,
}

/// What to do while another run is working on the schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LockWait {
    /// Wait, for the configured time.
    Block,
    /// Try again later.
    NoWait,
}

impl Unit<'_> {
    /// Whether the schema is created in the same message.
    pub(in crate::migrate) fn is_birth(&self) -> bool {
        self.ledger == LedgerPresence::Absent && !self.provision.is_empty()
    }

    /// Returns the statements that observe the schema after this many files.
    pub(in crate::migrate) fn observed_after(&self, files: usize) -> Option<&str> {
        match self.purpose {
            Purpose::RollBack { observe, wanted } if wanted.get(files) == Some(&true) => Some(observe),
            _ => None,
        }
    }
}

pub(in crate::migrate) fn left_the_schema(doing: String, file: &MigrationFile) -> Error {
    let found = format!("{} left the session in another schema or role", crate::migration::printable(file.path()));
    Error::Unexpected { doing, found }
}

/// Returns a condition: unqualified names refer to this schema.
pub(in crate::migrate) fn in_schema(schema: &SchemaName) -> String {
    format!("pg_catalog.current_schema()::pg_catalog.text = {}::pg_catalog.text", literal(schema.as_str()))
}
