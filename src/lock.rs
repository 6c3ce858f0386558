//! The keys of the advisory locks: who waits for whom. Advisory locks are per database, so a key need not name it.
//!
//! Only transaction locks are ever taken: a session lock outlives its client behind a transaction pooler, and two clients
//! on one server connection would both be told they hold it.

use crate::{ident::SchemaName, slug::TenantSlug};
use sha2::{Digest, Sha256};

/// The lock on a tenant's existence: shared by each of its transactions, exclusive for whoever drops or renames it.
///
/// The derivation is fixed: the first eight bytes of `sha256("cgk:tenant:<slug>")`, big-endian. Two versions of cgk that
/// disagreed would not see each other.
///
/// ```
/// assert_eq!(cgk::lock::tenant_key(&"acme".parse()?), 4_467_969_851_850_788_077);
/// # Ok::<(), cgk::InvalidSlug>(())
/// ```
pub fn tenant_key(slug: &TenantSlug) -> i64 {
    key(&format!("cgk:tenant:{slug}"))
}

/// The lock on a schema's migrations, held by whoever migrates it, to the end of that transaction.
///
/// ```
/// assert_eq!(cgk::lock::migration_key(&cgk::ident::SchemaName::public()), -3_377_626_744_001_218_688);
/// ```
pub fn migration_key(schema: &SchemaName) -> i64 {
    key(&format!("cgk:migrate:{}", schema.as_str()))
}

/// The lock on making the tables of the history of runs.
pub(crate) fn history_key() -> i64 {
    key("cgk:history")
}

/// The lock on the logins of services, held by whoever admits one, to the end of that transaction.
///
/// ```
/// assert_eq!(cgk::lock::logins_key(), -9_045_224_786_119_896_258);
/// ```
pub fn logins_key() -> i64 {
    key("cgk:logins")
}

fn key(name: &str) -> i64 {
    let digest = Sha256::digest(name.as_bytes());
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&digest[..8]);
    i64::from_be_bytes(bytes)
}
