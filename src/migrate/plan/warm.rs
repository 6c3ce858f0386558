//! Which schemas are ready for new tenants, according to the files.

use crate::{
    access::login::{self, Admitted},
    config::Isolation,
    db::Operator,
    error::Result,
    ident::{Ident, SchemaName},
    migrate::{
        ledger::{Applied, LedgerDigest},
        migrations::Migrations,
    },
    migration::Set,
    registry::{self, WarmSchema},
};

/// Whether a schema is ready for a new tenant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum WarmState {
    /// It is what a new tenant gets.
    Ready,
    /// It does not exist yet, or it was not found yet that it can be renamed.
    Unfinished,
    /// It has other files, or other roles have rights on it.
    Stale,
    /// It belongs to another operator, and this one may not drop it.
    Foreign,
}

/// How many schemas of a database are kept ready for new tenants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct WarmStatus {
    /// How many a new tenant can take.
    pub ready: usize,
    /// How many are not complete yet; [`warm`](crate::lifecycle::warm()) completes them.
    pub unfinished: usize,
    /// How many have other files than the set, or other rights than a new tenant gets;
    /// [`warm`](crate::lifecycle::warm()) replaces them.
    pub stale: usize,
    /// How many belong to another operator. This one does not take, count or replace them.
    pub foreign: usize,
}

/// Counts the schemas that are kept ready for new tenants. Reads only.
///
/// # Errors
///
/// Kind `Unavailable`; `Failed` from the server, also if the role may not read `public.cgk_warm`.
///
/// # Cancel safety
///
/// Writes nothing.
pub async fn warm_status(operator: &Operator, migrations: &Migrations) -> Result<WarmStatus> {
    let mut status = WarmStatus::default();
    if !registry::has_warm(operator).await? {
        return Ok(status);
    }
    let logins = login::admitted_to(operator, "").await?;
    for (_, state) in warm_schemas(operator, migrations, &logins, None).await? {
        match state {
            WarmState::Ready => status.ready += 1,
            WarmState::Unfinished => status.unfinished += 1,
            WarmState::Stale => status.stale += 1,
            WarmState::Foreign => status.foreign += 1,
        }
    }
    Ok(status)
}

/// The schemas that are or were ready for new tenants, those that are first, or `only` this one; `logins` enter new
/// tenants. The table exists.
pub(crate) async fn warm_schemas(
    operator: &Operator,
    migrations: &Migrations,
    logins: &[Admitted],
    only: Option<&SchemaName>,
) -> Result<Vec<(WarmSchema, WarmState)>> {
    let applied: Vec<Applied> = migrations.set(Set::Tenant).files().iter().map(Applied::of).collect();
    let head = LedgerDigest::of(&applied);
    let logins: Vec<&Ident> = logins.iter().map(|login| &login.name).collect();
    let state = |warm: &WarmSchema| {
        let role = (operator.config().isolation() == Isolation::Role).then_some(&warm.role);
        let has_head = LedgerDigest::in_comment(warm.ledger_comment.as_deref()).as_ref() == Some(&head);
        match (warm.has_schema, warm.is_checked) {
            (false, _) => WarmState::Unfinished,
            (true, _) if !warm.may_drop => WarmState::Foreign,
            (true, _) if !warm.is_own || !has_head || !warm.is_of_shared => WarmState::Stale,
            (true, _) if !warm.has_rights_of(role, &logins, &operator.facts().role) => WarmState::Stale,
            (true, false) => WarmState::Unfinished,
            (true, true) => WarmState::Ready,
        }
    };
    let found = registry::warm_schemas(operator, only).await?;
    let mut found: Vec<_> =
        found.into_iter().map(|warm| (state(&warm), warm)).map(|(state, warm)| (warm, state)).collect();
    found.sort_by_key(|(_, state)| *state);
    Ok(found)
}
