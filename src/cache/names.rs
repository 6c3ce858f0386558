//! The names of a tenant's keys in Redis.
//!
//! `<namespace>:<database>:{<organization>}:` is the same for all keys of a tenant and differs between tenants. The
//! namespace has no colon, the database is its tag of ten digits, and the organization always has 32 digits. The text
//! after this prefix cannot change it. The braces, the first in the name, make a cluster put all keys of a tenant into
//! one slot.

use super::{CacheError, Result};
use crate::{ident::DatabaseTag, tenant::OrganizationId};

/// The maximum length of a user's key, in bytes.
const KEY_BYTES_MAX: usize = 512;

/// The names for one key of a tenant.
#[derive(Clone, Debug)]
pub(super) struct Names {
    pub(super) epoch: String,
    pub(super) value: String,
    pub(super) lease: String,
}

impl Names {
    pub(super) fn of(namespace: &str, database: &DatabaseTag, organization: OrganizationId, key: &str) -> Result<Self> {
        if key.is_empty() || key.len() > KEY_BYTES_MAX {
            return Err(CacheError::Invalid { what: "the key of a cached value", why: "it must have 1 to 512 bytes" });
        }
        let prefix = prefix(namespace, database, organization);
        Ok(Self {
            epoch: epoch(namespace, database, organization),
            value: format!("{prefix}v:{key}"),
            lease: format!("{prefix}l:{key}"),
        })
    }
}

/// Returns the name of a tenant's epoch.
pub(super) fn epoch(namespace: &str, database: &DatabaseTag, organization: OrganizationId) -> String {
    format!("{}e", prefix(namespace, database, organization))
}

fn prefix(namespace: &str, database: &DatabaseTag, organization: OrganizationId) -> String {
    format!("{namespace}:{}:{{{}}}:", database.as_str(), organization.uuid().simple())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use uuid::Uuid;

    /// Texts that try to change the name.
    fn key() -> impl Strategy<Value = String> {
        let part = prop_oneof![
            Just(":".to_owned()),
            Just("{".to_owned()),
            Just("}".to_owned()),
            Just("cgk:8d9001d32c:{00000000000000000000000000000001}:v:".to_owned()),
            Just("}:e".to_owned()),
            Just("\0".to_owned()),
            Just("\r\nDEL x\r\n".to_owned()),
            Just("*?[a-z]".to_owned()),
            Just("acme".to_owned()),
            "\\PC{1,8}",
        ];
        prop::collection::vec(part, 1..6)
            .prop_map(|parts| parts.concat())
            .prop_filter("1 to 512 bytes", |text| (1..=KEY_BYTES_MAX).contains(&text.len()))
    }

    proptest! {
        #[test]
        fn two_names_are_equal_only_if_everything_is(
            one in (0_u128..3, key()), other in (0_u128..3, key()), places in ((0..2_usize, 0..2_usize), (0..2_usize, 0..2_usize)),
        ) {
            let names = |place: (usize, usize), (id, key): &(u128, String)| {
                let database = DatabaseTag::of(["shop", "copy"][place.1]);
                let namespace = ["cgk", "cgk-2"][place.0];
                let names = Names::of(namespace, &database, OrganizationId(Uuid::from_u128(*id)), key).unwrap();
                [names.epoch, names.value, names.lease]
            };
            let (a, b) = (names(places.0, &one), names(places.1, &other));
            let same_tenant = places.0 == places.1 && one.0 == other.0;
            for (i, left) in a.iter().enumerate() {
                for (j, right) in b.iter().enumerate() {
                    let same = i == j && same_tenant && (i == 0 || one.1 == other.1);
                    prop_assert_eq!(left == right, same, "{:?} {:?}", left, right);
                }
            }
            // A cluster hashes only the organization, whatever the key is.
            let slot = a[1].split_once('{').unwrap().1.split_once('}').unwrap().0.to_owned();
            prop_assert_eq!(slot, Uuid::from_u128(one.0).simple().to_string());
        }
    }

    #[test]
    fn a_key_is_a_text_of_512_bytes_at_most() {
        let of = |key: &str| Names::of("cgk", &DatabaseTag::of("shop"), OrganizationId(Uuid::nil()), key);
        assert!(of("").is_err() && of(&"é".repeat(257)).is_err() && of(&"é".repeat(256)).is_ok());
        assert_eq!(of("a").unwrap().value, "cgk:8d9001d32c:{00000000000000000000000000000000}:v:a");
    }
}
