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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        drift::objects::Catalogue,
        migrate::{Applied, Checksum, MigrationId, Version},
    };

    fn rows(text: &str) -> Vec<Applied> {
        let id = MigrationId { version: Version::new(1).unwrap(), name: "x".into() };
        vec![Applied { id, checksum: Checksum::of(text) }]
    }

    fn found(fingerprint: Option<&str>, comment: &str, ledger: Ledger) -> Inspection {
        Inspection {
            fingerprint: fingerprint.map(|text| Fingerprint(text.into())),
            catalogue: Catalogue::default(),
            ledger,
            comment: Some(comment.into()),
            has_role: true,
            owner: None,
        }
    }

    #[test]
    fn a_group_has_the_result_of_its_example_only_while_nothing_has_changed() {
        let key = |fingerprint: Option<&str>| DriftGroupKey {
            fingerprint: fingerprint.map(|text| Fingerprint(text.into())),
            comment: Some("c".into()),
            ledger: Some(LedgerDigest::of(&rows("a")).as_str().to_owned()),
            role: RoleLook::There,
        };
        let same = |text| Ledger::Rows(rows(text));
        assert!(key(Some("f")).still_holds(&found(Some("f"), "c", same("a"))));
        for (fingerprint, comment, ledger) in [
            (Some("g"), "c", same("a")),
            (None, "c", same("a")),
            (Some("f"), "d", same("a")),
            (Some("f"), "c", same("b")),
            (Some("f"), "c", Ledger::Absent),
        ] {
            let now = found(fingerprint, comment, ledger);
            assert!(!key(Some("f")).still_holds(&now), "{now:?}");
        }
        // The quick check did not see the schema at rest.
        assert!(!key(None).still_holds(&found(None, "c", same("a"))));
    }
}
