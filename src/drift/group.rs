//! Groups of tenants with the same result of the quick check.

use super::inspect::{Inspection, Ledger};
use crate::{catalogue::Fingerprint, migrate::ledger::LedgerDigest, slug::TenantSlug};

/// The result of the quick check for a tenant. Tenants with the same result are equal in everything that is compared.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct DriftGroupKey {
    pub(super) fingerprint: Option<Fingerprint>,
    pub(super) comment: Option<String>,
    /// The digest of the ledger's rows.
    pub(super) ledger: Option<String>,
    pub(super) role: RoleLook,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum RoleLook {
    There,
    Missing,
}

/// Groups of equal tenants, each with its key if it is known.
pub(super) type Groups = Vec<(Option<DriftGroupKey>, Vec<TenantSlug>)>;

impl DriftGroupKey {
    /// Whether the state at the inspection is still that of the quick check.
    pub(super) fn still_holds(&self, found: &Inspection) -> bool {
        let Ledger::Rows(rows) = &found.ledger else { return false };
        self.fingerprint.is_some()
            && self.fingerprint == found.fingerprint
            && self.comment == found.comment
            && self.ledger.as_deref() == Some(LedgerDigest::of(rows).as_str())
    }
}
