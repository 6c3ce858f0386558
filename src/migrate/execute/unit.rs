//! What is to be done to one schema, and how a try of it ends.

use super::grouping::Grouping;
use crate::{
    db::run_files::Commits,
    error::Error,
    ident::{Ident, RoleName, SchemaName, literal},
    migrate::{files::file::MigrationFile, fileset::record::FileRecord, plan::Plan},
    migration::Set,
};

/// What is to be done to one schema, beyond its plan.
pub(crate) struct Unit<'a> {
    pub(crate) plan: &'a Plan<'a>,
    /// The tenant's role, which must not get at the ledger.
    pub(crate) role: Option<&'a RoleName>,
    /// Statements that make the schema usable: registry row, schema, role, grants.
    pub(crate) provision: String,
    pub(crate) ledger: LedgerPresence,
    /// The schema's owner, where it is somebody else: objects are created in its name.
    pub(crate) owner: Option<Ident>,
    pub(crate) commits: Commits,
    pub(crate) grouping: Grouping,
    pub(crate) sessions: Sessions,
    pub(crate) purpose: Purpose<'a>,
    /// Where it is recorded which files the fleet has; not for a schema that is only tried.
    pub(crate) files: Option<(&'a FileRecord, Set)>,
}

/// What a schema is made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose<'a> {
    Use,
    /// To be rolled back. These statements are run after the first n files, for each n where `wanted` says so.
    RollBack {
        observe: &'a str,
        wanted: &'a [bool],
    },
    /// To be dropped: what a file does outside the schema would stay, and is refused.
    Drop,
}

/// Which sessions may use the schema while it is migrated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sessions {
    /// Any: CONCURRENTLY is carried out as it is written.
    Any,
    /// None: the schema is new, or its tenant cannot be entered yet. CONCURRENTLY is left out.
    None,
}

/// Whether a schema has its ledger yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LedgerPresence {
    Present,
    Absent,
}

/// How a try ended that did not fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ApplyOutcome {
    /// Committed.
    Applied,
    /// The schema was not as the plan took it to be; what was committed before that stays. Look again and plan anew.
    Stale,
    /// Another run is at the schema; nothing was done.
    Locked,
}

/// What to do while another run is at the schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LockWait {
    /// Wait, as long as the configuration says.
    Block,
    /// Come back later.
    NoWait,
}

impl Unit<'_> {
    /// Whether the schema is made in the same message.
    pub(in crate::migrate) fn is_birth(&self) -> bool {
        self.ledger == LedgerPresence::Absent && !self.provision.is_empty()
    }

    /// What is to be run after this many files to observe the schema.
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

/// A condition: what has no schema's name is in this schema.
pub(in crate::migrate) fn in_schema(schema: &SchemaName) -> String {
    format!("pg_catalog.current_schema()::pg_catalog.text = {}::pg_catalog.text", literal(schema.as_str()))
}
