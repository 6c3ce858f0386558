//! The keys of the advisory locks. Advisory locks are per database, so a key need not contain the database.
//!
//! Almost all are transaction locks. Behind a transaction pooler, a session lock would outlive its client, and two
//! clients on one server connection could both conclude that they hold it. There are three exceptions:
//!
//! - An entry at REPEATABLE READ holds the tenant's lock for the session during one message.
//! - A migration that runs without a transaction can use no other lock. The operator's direct connection takes it, and
//!   every statement checks that the connection is the same.
//! - A rehearsal of several transactions holds a session lock, and so does a migration of the shared schema.

use crate::{ident::SchemaName, slug::TenantSlug};
use sha2::{Digest, Sha256};

/// The key of the lock on a tenant's existence. Each of its transactions takes it shared. An operation that must wait
/// for them, such as dropping or renaming the tenant, takes it exclusively. A change of the status alone does not wait.
///
/// An entry takes it before the statement that reads the registry, so after a wait it sees the changes of the previous
/// holder. To change a tenant's status, either change it under this lock, or commit the change first and then take the
/// lock to wait for the transactions that are still in the tenant.
///
/// The derivation is fixed: the first eight bytes of `sha256("cgk:tenant:<slug>")`, big-endian. Versions of cgk with
/// different derivations would not see each other's locks.
///
/// ```
/// assert_eq!(cgk::lock::tenant_key(&"acme".parse()?), 4_467_969_851_850_788_077);
/// # Ok::<(), cgk::InvalidSlug>(())
/// ```
pub fn tenant_key(slug: &TenantSlug) -> i64 {
    key(&format!("cgk:tenant:{slug}"))
}

/// The key of the lock on a schema's migrations. The migrating session holds it until the end of the transaction.
///
/// ```
/// assert_eq!(cgk::lock::migration_key(&cgk::ident::SchemaName::public()), -3_377_626_744_001_218_688);
/// ```
pub fn migration_key(schema: &SchemaName) -> i64 {
    key(&format!("cgk:migrate:{}", schema.as_str()))
}

/// The key of the lock of a schema's migration that runs without a transaction. It is a session lock. The session that
/// executes the statements holds it until the end of the file. The server releases it when that session ends, and a
/// session ends with its statement if its client no longer exists.
///
/// No session may wait for it in the server, or wait there for [`migration_key`] because of it. A waiting statement has
/// a snapshot, and `create index concurrently` waits for snapshots, so the two would wait for each other. It is tried
/// repeatedly instead. To change a schema, take [`migration_key`], and then try this one, shared, in the same
/// transaction.
///
/// ```
/// assert_eq!(cgk::lock::steps_key(&cgk::ident::SchemaName::public()), 3_113_037_079_245_678_026);
/// ```
pub fn steps_key(schema: &SchemaName) -> i64 {
    key(&format!("cgk:steps:{}", schema.as_str()))
}

/// The key of the lock on creating the tables of the history of runs.
pub(crate) fn history_key() -> i64 {
    key("cgk:history")
}

/// The key of the lock on the recorded identity of the database.
pub(crate) fn database_key() -> i64 {
    key("cgk:database")
}

/// The key of the lock on creating the table of the fleet's migration files.
pub(crate) fn files_key() -> i64 {
    key("cgk:files")
}

/// The key of the session lock of a rehearsal. The operator whose connection waits for the rehearsal holds it. It is
/// requested repeatedly.
pub(crate) fn rehearsal_key() -> i64 {
    key("cgk:rehearsal")
}

/// The key of the session lock on the record of the objects of the shared schema's migrations. It is held from before
/// they are applied until the record is written. It is requested repeatedly.
pub(crate) fn shared_record_key() -> i64 {
    key("cgk:shared-record")
}

/// The key of the lock on creating the tables of the rehearsal.
pub(crate) fn references_key() -> i64 {
    key("cgk:references")
}

/// The key of the lock on storing the stamps of a comparison. No session waits for it.
pub(crate) fn stamps_key() -> i64 {
    key("cgk:stamps")
}

/// The key of the lock on creating the table of the seeds.
pub(crate) fn seeds_key() -> i64 {
    key("cgk:seeds")
}

/// The key of the lock on creating the table of the former slugs.
pub(crate) fn aliases_key() -> i64 {
    key("cgk:aliases")
}

/// The lock on the number of schemas that are ready for new tenants, and on creating their table.
pub(crate) fn warm_key() -> i64 {
    key("cgk:warm")
}

/// The key of the lock on service logins. An admission holds it until the end of its transaction.
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
