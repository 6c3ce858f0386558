//! The monthly partitions of a tenant's usage and evaluations. They are created in advance and dropped when they are
//! old.

use super::error::{FlagsError, Result};
use crate::{
    db::{Operator, message, message_head::MessageHead},
    error::{Error, while_doing},
    ident::SchemaName,
    lock,
    slug::TenantSlug,
};
use tokio_postgres::error::SqlState;

/// How long usage and evaluations are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Retention {
    /// The number of months whose partitions are created in advance. Default: 2. Maximum: 24.
    pub months_ahead: u32,
    /// The number of months for which usage events are stored, in addition to the current month. Default: 25. The
    /// totals are never deleted.
    pub usage_months: u32,
    /// The number of months for which evaluations are stored, in addition to the current month. Default: 3.
    pub evaluation_months: u32,
}

impl Default for Retention {
    fn default() -> Self {
        Self { months_ahead: 2, usage_months: 25, evaluation_months: 3 }
    }
}

/// The result of maintaining a tenant's partitions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Maintained {
    /// The number of created partitions.
    pub added: u32,
    /// The number of dropped partitions.
    pub dropped: u32,
}

/// Maintains the partitions of a tenant's usage and evaluations. It creates the partitions of the coming months. It
/// moves rows from the default partitions to the partitions of their months, except rows of later months. It drops
/// partitions that are older than the retention. Running it again is safe. If it does not run, nothing is lost, but the
/// default partitions grow.
///
/// If an event is sent again after its month was dropped, it is counted again. So store usage for longer than senders
/// retry.
///
/// # Locks
///
/// Until the end of its single transaction: the tenant's lock, shared ([`lock::tenant_key`]); the lock of its
/// migrations ([`lock::migration_key`]); if partitions are created or dropped, an exclusive lock on the table of that
/// kind.
///
/// # Errors
///
/// `Invalid`: more than 24 months in advance. `TablesMissing`: the tenant does not have the template's tables.
/// `Database`: kind `Locked` if a lock was not granted within `session.lock_timeout`; kind `Denied` if the login does
/// not own the schema.
///
/// # Cancel safety
///
/// If the future is dropped, the server either completes the transaction or rolls it back.
pub async fn maintain(operator: &Operator, slug: &TenantSlug, retention: &Retention) -> Result<Maintained> {
    let Retention { months_ahead, usage_months, evaluation_months } = retention;
    if *months_ahead > 24 || *usage_months > 1200 || *evaluation_months > 1200 {
        let why = "at most 24 months ahead, and 1,200 kept".into();
        return Err(FlagsError::Invalid { what: "a retention", why });
    }
    let schema = SchemaName::of_tenant(slug);
    let function = schema.qualified("flags_maintain");
    let head = MessageHead::of(operator)
        .lock_timeout(operator.session().lock_timeout)
        .search_path(&operator.search_path().of(&schema))
        .lock_shared(lock::tenant_key(slug))
        .lock(lock::migration_key(&schema))
        .sql();
    let sql = format!(
        "{head}select m.added, m.dropped from {function}({months_ahead}, pg_catalog.make_interval(months => {usage_months}),
                                          pg_catalog.make_interval(months => {evaluation_months})) as m"
    );
    let doing = || while_doing(format!("maintain the months of {schema:?}", schema = schema.as_str()));
    let _alone = operator.undivided().await;
    let answer = message::run(operator.client(), &sql).await.map_err(doing())?.complete();
    let answer = answer.map_err(|error| {
        let no_schema = error.code() == Some(&SqlState::INVALID_SCHEMA_NAME);
        let source = doing()(error);
        if no_schema { FlagsError::TablesMissing { source } } else { source.into() }
    })?;
    let number = |index: usize| answer.rows.last().and_then(|(_, row)| row.get(index)?.parse().ok());
    match (number(0), number(1)) {
        (Some(added), Some(dropped)) => Ok(Maintained { added, dropped }),
        _ => {
            let doing = "maintain the months of a tenant".into();
            Err(Error::Unexpected { doing, found: "the function returned no numbers".into() }.into())
        }
    }
}
