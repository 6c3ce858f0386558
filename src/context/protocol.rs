//! What enters, guards and leaves a tenant: the SQL text, and the decisions made on its answers. No driver in sight, so
//! that other drivers can speak it too.
//!
//! Three messages frame a tenant's transaction. The first opens it, sets everything that is local to it, takes the tenant's
//! shared lock and raises an error unless the session has really arrived in the tenant; whatever rides behind it on the wire
//! then fails with 25P02 instead of running elsewhere. The last one raises an error unless the session is still there,
//! commits, and scrubs whatever the transaction may have left in the session.

use super::options::TxOptions;
use crate::{
    config::SessionSettings,
    db::milliseconds,
    ident::{RoleName, SchemaName, literal},
    lock,
    slug::TenantSlug,
};
use std::fmt::Write as _;
use tokio_postgres::error::SqlState;

/// The way into one tenant.
#[derive(Clone, Debug)]
pub(crate) struct Gate {
    pub(crate) slug: TenantSlug,
    pub(crate) schema: SchemaName,
    /// The tenant's role; `None` in path mode.
    pub(crate) role: Option<RoleName>,
}

/// A number that only this transaction knows, set local: gone when something inside ended the transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Nonce(u64);

impl Nonce {
    pub(crate) fn random() -> Self {
        Self(rand::random())
    }
}

/// Ends whatever transaction is open and leaves nothing of it in the session. RESET ALL keeps the role, so RESET ROLE stands
/// beside it; DISCARD ALL would also drop the driver's prepared statements, and cannot run in this message.
macro_rules! scrub {
    () => {
        "close all; reset session authorization; reset all; reset role; unlisten *; \
         select pg_catalog.pg_advisory_unlock_all(); discard temp; discard sequences"
    };
}

/// Rolls back and scrubs: the end of every transaction that does not commit.
pub(crate) const ROLL_BACK: &str = concat!("rollback; ", scrub!());

const SCRUB: &str = scrub!();

impl Gate {
    /// The first message.
    pub(crate) fn enter(&self, nonce: Nonce, options: &TxOptions, settings: &SessionSettings) -> String {
        let mut sql = String::with_capacity(1200);
        let local = |sql: &mut String, name: &str, value: &str| {
            let separator = if sql.ends_with("select ") { "" } else { ", " };
            let _ = write!(sql, "{separator}pg_catalog.set_config('{name}', {}, true)", literal(value));
        };
        let _ = write!(sql, "begin{}; select ", options.modes());
        // pg_temp stands last and written out: left out, it would be searched first, and a temporary table would hide the
        // tenant's.
        local(&mut sql, "search_path", &format!("{}, public, pg_temp", self.schema.as_str()));
        local(&mut sql, "cgk.tx", &format!("{:016x}", nonce.0));
        local(&mut sql, "statement_timeout", &milliseconds(settings.statement_timeout));
        local(&mut sql, "lock_timeout", &milliseconds(settings.lock_timeout));
        local(&mut sql, "idle_in_transaction_session_timeout", &milliseconds(settings.idle_in_transaction_timeout));
        // Shared, against a drop or rename of the tenant while the transaction is open.
        let _ = write!(sql, "; select pg_catalog.pg_advisory_xact_lock_shared({})", lock::tenant_key(&self.slug));
        // Read before the role changes: the tenant's role has no business in the registry. A set_config and a table in one
        // statement are safe here because the table's name is qualified.
        let _ = write!(
            sql,
            "; select pg_catalog.set_config('app.current_organization_id', coalesce((select o.id::text from \
             public.organizations o where o.slug = {} and o.status = 'active'), ''), true)",
            literal(self.slug.as_str())
        );
        if let Some(role) = &self.role {
            let _ = write!(sql, "; set local role {}", role.quoted());
        }
        let _ = write!(
            sql,
            "; select 1 / (case when {} and pg_catalog.current_setting('app.current_organization_id') <> ''::text \
             then 1 else 0 end)",
            self.arrived()
        );
        sql
    }

    /// The last message of a transaction that is to commit.
    pub(crate) fn leave(&self, nonce: Nonce) -> String {
        format!(
            "select 1 / (case when pg_catalog.current_setting('cgk.tx', true) = '{:016x}'::text and {} then 1 else 0 end); \
             commit; {SCRUB}",
            nonce.0,
            self.arrived()
        )
    }

    /// A condition: the session works in the tenant's schema under the tenant's role.
    fn arrived(&self) -> String {
        let mut condition = format!("pg_catalog.current_schema()::text = {}::text", literal(self.schema.as_str()));
        if let Some(role) = &self.role {
            let _ = write!(condition, " and current_user::text = {}::text", literal(role.as_str()));
        }
        condition
    }
}

/// How the last message ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Departure {
    /// Committed, and the session is as good as new.
    Clean,
    /// Committed, but the scrub did not finish: the connection must go.
    Soiled,
    /// Not committed: the session had left the tenant or its transaction.
    Tampered,
    /// Not committed: a statement had failed.
    Aborted,
    /// Not committed: the server refused the COMMIT itself, as a deferred constraint does.
    Refused,
    /// The connection broke off: committed or not.
    Unknown,
}

/// Judges the answer to [`Gate::leave`] by the number of statements that were completed and what stopped the rest.
pub(crate) fn departure(completed: usize, error: Option<(Option<&SqlState>, Connection)>) -> Departure {
    // The guard is the first statement and COMMIT the second: once it was answered the data is committed, whatever the scrub
    // says afterwards.
    const COMMITTED: usize = 2;
    match error {
        None => Departure::Clean,
        Some(_) if completed >= COMMITTED => Departure::Soiled,
        // Also after an orderly shutdown message: a server may be told to stop between the commit and its answer.
        Some((_, Connection::Lost)) => Departure::Unknown,
        Some((Some(state), _)) if completed == 0 && *state == SqlState::DIVISION_BY_ZERO => Departure::Tampered,
        Some((Some(state), _)) if completed == 0 && *state == SqlState::IN_FAILED_SQL_TRANSACTION => Departure::Aborted,
        Some((Some(_), _)) => Departure::Refused,
        Some((None, _)) => Departure::Unknown,
    }
}

/// Whether a connection outlived an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Connection {
    Alive,
    Lost,
}

/// What the registry and the catalogue say of a tenant that could not be entered. Parameters, all text: slug, schema, role.
pub(crate) const DIAGNOSE: &str = "
select (select o.status::text from public.organizations o where o.slug = $1),
       exists (select from pg_catalog.pg_namespace n where n.nspname::text = $2),
       exists (select from pg_catalog.pg_roles r where r.rolname::text = $3),
       coalesce((select pg_catalog.pg_has_role(current_user, r.oid, 'member') from pg_catalog.pg_roles r
                 where r.rolname::text = $3), false),
       coalesce((select pg_catalog.has_schema_privilege(r.oid, n.oid, 'usage') from pg_catalog.pg_roles r,
                 pg_catalog.pg_namespace n where r.rolname::text = $3 and n.nspname::text = $2), false),
       current_user::text";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ident::DatabaseTag;

    fn gate() -> Gate {
        let slug: TenantSlug = "acme".parse().unwrap();
        let role = RoleName::of_tenant(&slug, &DatabaseTag::of("shop"));
        Gate { schema: SchemaName::of_tenant(&slug), role: Some(role), slug }
    }

    #[test]
    fn the_role_is_set_after_everything_that_needs_the_login() {
        let sql = gate().enter(Nonce(7), &TxOptions::default(), &SessionSettings::default());
        let order = [
            "begin;",
            "'search_path', 'tenant_acme, public, pg_temp', true",
            "'cgk.tx', '0000000000000007'",
            "pg_advisory_xact_lock_shared",
            "public.organizations",
            "set local role \"cgk_acme_",
            "1 / (case",
        ];
        let places: Vec<_> =
            order.iter().map(|part| sql.find(part).unwrap_or_else(|| panic!("{part} in {sql}"))).collect();
        assert!(places.is_sorted(), "{sql}");
    }

    #[test]
    fn departures_are_told_apart() {
        use Connection::*;
        let refused = |code: &SqlState, completed| departure(completed, Some((Some(code), Alive)));
        assert_eq!(departure(10, None), Departure::Clean);
        assert_eq!(refused(&SqlState::DIVISION_BY_ZERO, 0), Departure::Tampered);
        assert_eq!(refused(&SqlState::IN_FAILED_SQL_TRANSACTION, 0), Departure::Aborted);
        assert_eq!(refused(&SqlState::FOREIGN_KEY_VIOLATION, 1), Departure::Refused);
        assert_eq!(refused(&SqlState::DIVISION_BY_ZERO, 2), Departure::Soiled);
        assert_eq!(departure(1, Some((None, Lost))), Departure::Unknown);
        assert_eq!(departure(0, Some((Some(&SqlState::ADMIN_SHUTDOWN), Lost))), Departure::Unknown);
        assert_eq!(departure(2, Some((None, Lost))), Departure::Soiled);
    }
}
