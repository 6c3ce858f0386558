//! The parts of a tenant that can be missing.

use super::{Error, LedgerProblem, MigrationError, TenantError};
use crate::{
    ident::{RoleName, SchemaName},
    migration::count,
    slug::TenantSlug,
    tenant::TenantStatus,
};
use std::fmt;

/// A part that a registered tenant needs, and that is missing or not usable.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MissingPart {
    /// Its row in the registry.
    RegistryRow,
    /// The end of its creation: its status is still `onboarding`.
    Creation,
    /// Its schema.
    Schema {
        /// The name of the schema.
        schema: SchemaName,
    },
    /// Its role.
    Role {
        /// The name of the role.
        role: RoleName,
    },
    /// The right of its role to use its schema.
    SchemaUsage {
        /// The name of the role.
        role: RoleName,
        /// The name of the schema.
        schema: SchemaName,
    },
    /// Its ledger.
    Ledger {
        /// The name of the schema.
        schema: SchemaName,
        /// [`LedgerProblem::NoLedger`], or why the object with the ledger's name cannot be used.
        why: Box<LedgerProblem>,
    },
    /// Migrations.
    Migrations {
        /// Their number.
        pending: usize,
    },
}

impl MissingPart {
    /// Returns the error of a tenant without this part.
    pub(crate) fn error(self, tenant: TenantSlug, status: TenantStatus) -> Error {
        match self {
            Self::Ledger { schema, why } if *why != LedgerProblem::NoLedger => {
                Error::Migration(MigrationError::LedgerRefused { schema, why: *why })
            }
            missing => Error::Tenant(TenantError::NotReady { tenant, status, missing }),
        }
    }
}

/// Writes a sentence without a full stop, such as `there is no schema tenant_acme`.
impl fmt::Display for MissingPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RegistryRow => f.write_str("its row in the registry is missing"),
            Self::Creation => f.write_str("it is still being created"),
            Self::Schema { schema } => write!(f, "there is no schema {}", schema.as_str()),
            Self::Role { role } => write!(f, "there is no role {}", role.as_str()),
            Self::SchemaUsage { role, schema } => {
                write!(f, "role {} may not use schema {}", role.as_str(), schema.as_str())
            }
            Self::Ledger { schema, why } if **why == LedgerProblem::NoLedger => {
                write!(f, "there is no ledger {}.schema_migrations", schema.as_str())
            }
            Self::Ledger { why, .. } => write!(f, "{why}"),
            Self::Migrations { pending } => write!(f, "{} pending", count(*pending, "migration")),
        }
    }
}
