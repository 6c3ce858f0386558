//! The months of a tenant's usage and evaluations: made ahead of time, and dropped when they are old.

use super::error::{FlagsError, Result};
use crate::{
    db::{Operator, message},
    error::{Error, while_doing},
    ident::{SchemaName, literal},
    lock,
    slug::TenantSlug,
};
use tokio_postgres::error::SqlState;

/// For how long usage and evaluations are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Retention {
    /// How many months are made ahead. Two unless set; 24 at most.
    pub months_ahead: u32,
    /// How many months of usage events are kept beside this one. 25 unless set. The totals are kept for ever.
    pub usage_months: u32,
    /// How many months of evaluations are kept beside this one. Three unless set.
    pub evaluation_months: u32,
}

impl Default for Retention {
    fn default() -> Self {
        Self { months_ahead: 2, usage_months: 25, evaluation_months: 3 }
    }
}

/// What was done to the months of a tenant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Maintained {
    /// How many partitions were made.
    pub added: u32,
    /// How many partitions were dropped.
    pub dropped: u32,
}

/// Makes the months to come of a tenant's usage and evaluations, moves what has no month yet into one, unless that is later
/// than those, and drops what is older
/// than it is to be kept. Safe to run again; nothing is lost where it is not run, but the default partitions grow.
///
/// An event whose month was dropped would be counted again if it was sent again: keep usage longer than senders try.
///
/// # Locks
///
/// To the end of its one transaction: the tenant's lock, shared ([`lock::tenant_key`]); its migrations' lock
/// ([`lock::migration_key`]); where partitions are made or dropped, the table of that kind, against everybody.
///
/// # Errors
///
/// `Invalid`: more than 24 months ahead. `TablesMissing`: the tenant does not have the template's tables. `Database`: kind
/// `Locked` where a lock was not to be had in `session.lock_timeout`, `Denied` for a login that does not own the schema.
///
/// # Cancel safety
///
/// If the future is dropped, the server finishes or rolls back; either is whole.
pub async fn maintain(operator: &Operator, slug: &TenantSlug, retention: &Retention) -> Result<Maintained> {
    let Retention { months_ahead, usage_months, evaluation_months } = retention;
    if *months_ahead > 24 || *usage_months > 1200 || *evaluation_months > 1200 {
        let why = "at most 24 months ahead, and 1,200 kept".into();
        return Err(FlagsError::Invalid { what: "a retention", why });
    }
    let schema = SchemaName::of_tenant(slug);
    let path = literal(&operator.search_path().of(&schema));
    let timeout = operator.session().lock_timeout.as_millis();
    let (tenant, migrations) = (lock::tenant_key(slug), lock::migration_key(&schema));
    let function = schema.qualified("flags_maintain");
    // Without BEGIN, one message is one transaction.
    let sql = format!(
        "select pg_catalog.set_config('lock_timeout', '{timeout}', true), pg_catalog.set_config('search_path', {path}, true);
select pg_catalog.pg_advisory_xact_lock_shared({tenant});
select pg_catalog.pg_advisory_xact_lock({migrations});
select m.added, m.dropped from {function}({months_ahead}, pg_catalog.make_interval(months => {usage_months}),
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
