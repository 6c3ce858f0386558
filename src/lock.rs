//! The keys of the advisory locks: who waits for whom. Advisory locks are per database, so a key need not name it.
//!
//! Transaction locks, with three exceptions: behind a transaction pooler a session lock outlives its client, and two clients on
//! one server connection would both be told they hold it. An entry at REPEATABLE READ holds the tenant's for the length of one
//! message. A migration that runs without a transaction can have no other
//! lock; it is taken on the operator's direct connection, which is checked to be the same with every statement.
//! A rehearsal of several transactions holds one as well, and so does a migration of the shared schema.

use crate::{ident::SchemaName, slug::TenantSlug};
use sha2::{Digest, Sha256};

/// The lock on a tenant's existence: shared by each of its transactions, exclusive for whoever waits for them, as to drop or
/// rename the tenant. A changed status alone waits for nobody.
///
/// An entry takes it before the statement that reads the registry, so one that had to wait for it sees what whoever held it has
/// left. Whoever changes a tenant's status may do it under this lock, or commit it first and then take the lock to wait for
/// those who are still inside.
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

/// The lock of a schema's migration that runs without a transaction: a session lock, held by whoever carries out its
/// statements, to the end of the file. The server gives it up when that session ends, and a session ends with its statement
/// when its client is gone.
///
/// Nobody may wait for it in the server, and nobody may wait there for [`migration_key`] on its account: a waiting statement
/// has a snapshot, and `create index concurrently` waits for those, so the two would wait for each other. It is tried again
/// and again. Whoever changes a schema takes [`migration_key`], and then tries this one, shared, in the same transaction.
///
/// ```
/// assert_eq!(cgk::lock::steps_key(&cgk::ident::SchemaName::public()), 3_113_037_079_245_678_026);
/// ```
pub fn steps_key(schema: &SchemaName) -> i64 {
    key(&format!("cgk:steps:{}", schema.as_str()))
}

/// The lock on making the tables of the history of runs.
pub(crate) fn history_key() -> i64 {
    key("cgk:history")
}

/// The lock on what says which database this is.
pub(crate) fn database_key() -> i64 {
    key("cgk:database")
}

/// The lock on making the table of the fleet's migration files.
pub(crate) fn files_key() -> i64 {
    key("cgk:files")
}

/// The session lock of a rehearsal, held by the operator whose connection waits for it. Asked for again and again.
pub(crate) fn rehearsal_key() -> i64 {
    key("cgk:rehearsal")
}

/// The session lock on the record of what the shared schema's migrations make, held from before they are applied until it is
/// written. Asked for again and again.
pub(crate) fn shared_record_key() -> i64 {
    key("cgk:shared-record")
}

/// The lock on creating the tables of the rehearsal.
pub(crate) fn references_key() -> i64 {
    key("cgk:references")
}

/// The lock on keeping the stamps of a comparison. Nobody waits for it.
pub(crate) fn stamps_key() -> i64 {
    key("cgk:stamps")
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
