//! What enters, guards and leaves a tenant: the SQL text, and the decisions made on its answers. No driver in sight, so
//! that other drivers can speak it too.
//!
//! Two exchanges frame a tenant's transaction. The first opens it, sets everything that is local to it, takes the tenant's
//! shared lock and raises an error unless the session has really arrived in the tenant; whatever rides behind it on the wire
//! then fails with 25P02 instead of running elsewhere. The last one raises an error unless the session is still there,
//! commits, and scrubs whatever the transaction may have left in the session. On a connection of one's own the checks are
//! prepared statements; through a transaction pooler each exchange is one simple-query message of the same text.

use super::options::TxOptions;
use crate::{
    binding,
    config::{Isolation, Pooling, SessionSettings},
    db::milliseconds,
    ident::{RoleName, SchemaName, literal},
    lock,
    slug::TenantSlug,
};
use std::fmt;
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

impl fmt::Display for Nonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// Ends whatever transaction is open and leaves nothing of it in the session. RESET ALL keeps the role, so RESET ROLE stands
/// beside it; DISCARD ALL would also drop the driver's prepared statements, and cannot run in this message.
macro_rules! scrub {
    ($end:literal, $check:expr) => {
        concat!(
            $end,
            "; close all; reset session authorization; reset all; reset role; unlisten *; \
             select pg_catalog.pg_advisory_unlock_all()",
            $check,
            "; discard temp; discard sequences"
        )
    };
}

/// Raises an error when SQL has made a prepared statement, as a block or a function can do unseen. It may stand under a name
/// of the driver's, in place of the check of the way out, or where the next tenant would run it; so it is looked for in a text
/// of our own, which nobody can replace, and before the COMMIT. Costs some 15 microseconds, and 0.3 more for each statement
/// that the connection has prepared.
macro_rules! ours {
    () => {
        "1 / (case when exists (select from pg_catalog.pg_prepared_statement() s where s.from_sql) then 0 else 1 end)"
    };
}

/// Whether the session's prepared statements are looked at before the COMMIT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Look {
    /// They are ours, and who has replaced one must not commit.
    Taken,
    /// They are a pooler's, or the connection is thrown away and the check of the way out is text too.
    Spared,
}

impl Look {
    /// How many statements guard the COMMIT: the check of the way out, and the look.
    pub(crate) fn guards(self) -> usize {
        match self {
            Self::Taken => 2,
            Self::Spared => 1,
        }
    }
}

/// Commits and scrubs.
pub(crate) fn commit(look: Look) -> &'static str {
    match look {
        Look::Taken => concat!("select ", ours!(), "; ", scrub!("commit", "")),
        Look::Spared => scrub!("commit", ""),
    }
}

/// Rolls back and scrubs: the end of every transaction that does not commit.
pub(crate) fn roll_back(pooling: Pooling) -> &'static str {
    match pooling {
        Pooling::Direct => scrub!("rollback", concat!(", ", ours!())),
        Pooling::Transaction => scrub!("rollback", ""),
    }
}

impl Gate {
    /// Everything that enters the tenant, in one simple-query message: for connections on which nothing can be prepared.
    pub(crate) fn enter(&self, nonce: Nonce, options: &TxOptions, settings: &SessionSettings) -> String {
        let values = self.values(nonce, settings);
        let mut sql = enter_sql(self.mode());
        // From the last to the first, so that $1 is not found inside $10.
        for (index, value) in values.iter().enumerate().rev() {
            sql = sql.replace(&format!("${}", index + 1), &literal(value));
        }
        format!("{}; {sql}", begin(options))
    }

    /// Everything that leaves the tenant with a commit, in one simple-query message.
    pub(crate) fn leave(&self, nonce: Nonce, look: Look) -> String {
        let mut sql = leave_sql(self.mode());
        for (index, value) in self.marks(nonce).iter().enumerate().rev() {
            sql = sql.replace(&format!("${}", index + 1), &literal(value));
        }
        format!("{sql}; {}", commit(look))
    }

    pub(crate) fn mode(&self) -> Isolation {
        if self.role.is_some() { Isolation::Role } else { Isolation::Path }
    }

    /// The parameters of [`enter_sql`].
    pub(crate) fn values(&self, nonce: Nonce, settings: &SessionSettings) -> Vec<String> {
        let mut values = vec![
            // pg_temp stands last and written out: left out, it would be searched first, and a temporary table would hide
            // the tenant's.
            format!("{}, public, pg_temp", self.schema.as_str()),
            nonce.to_string(),
            milliseconds(settings.statement_timeout),
            milliseconds(settings.lock_timeout),
            milliseconds(settings.idle_in_transaction_timeout),
            lock::tenant_key(&self.slug).to_string(),
            self.slug.as_str().to_owned(),
            self.schema.as_str().to_owned(),
        ];
        values.extend(self.role.as_ref().map(|role| role.as_str().to_owned()));
        values
    }

    /// The parameters of [`leave_sql`].
    pub(crate) fn marks(&self, nonce: Nonce) -> Vec<String> {
        let mut marks = vec![nonce.to_string(), self.schema.as_str().to_owned()];
        marks.extend(self.role.as_ref().map(|role| role.as_str().to_owned()));
        marks
    }
}

/// Opens the transaction.
pub(crate) fn begin(options: &TxOptions) -> String {
    format!("begin{}", options.modes())
}

/// Enters a tenant, or raises an error. One statement, so that it costs the server one plan, and prepared not even that; its
/// columns are worked out from left to right. Parameters, all text: search path, nonce, three timeouts, lock key, slug,
/// schema, and in role mode the role.
///
/// The lock is shared, against a drop or rename of the tenant while the transaction is open. The registry is read as the
/// login, before the role changes: the tenant's role has no business there. A schema that belongs to another organization
/// than the row is not entered. Should any of it happen in another order, the
/// last column raises the error, so the order is a matter of availability and not of safety.
pub(crate) fn enter_sql(mode: Isolation) -> String {
    let role = match mode {
        Isolation::Role => "pg_catalog.set_config('role', $9::text, true), ",
        Isolation::Path => "",
    };
    format!(
        "select pg_catalog.set_config('search_path', $1::text, true), pg_catalog.set_config('cgk.tx', $2::text, true), \
         pg_catalog.set_config('statement_timeout', $3::text, true), pg_catalog.set_config('lock_timeout', $4::text, true), \
         pg_catalog.set_config('idle_in_transaction_session_timeout', $5::text, true), \
         pg_catalog.pg_advisory_xact_lock_shared($6::text::bigint), \
         pg_catalog.set_config('app.current_organization_id', coalesce((select o.id::text from public.organizations o \
         where o.slug = $7::text and o.status = 'active' and {belongs}), ''), true), {role}\
         1 / (case when {} and pg_catalog.current_setting('app.current_organization_id') <> ''::text then 1 else 0 end)",
        arrived(mode, 8),
        belongs = binding::belongs_sql("$8::text", "o.id::text"),
    )
}

/// Raises an error unless the session is still in the tenant and in the transaction that entered it. Parameters, all text:
/// nonce, schema, and in role mode the role.
pub(crate) fn leave_sql(mode: Isolation) -> String {
    format!(
        "select 1 / (case when pg_catalog.current_setting('cgk.tx', true) = $1::text and {} then 1 else 0 end)",
        arrived(mode, 2)
    )
}

/// A condition: the session works in the tenant's schema, the parameter of that number, under the tenant's role, the next.
fn arrived(mode: Isolation, schema: usize) -> String {
    let path = format!("pg_catalog.current_schema()::text = ${schema}::text");
    match mode {
        Isolation::Role => format!("{path} and current_user::text = ${}::text", schema + 1),
        Isolation::Path => path,
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

/// Judges the answer to [`Gate::leave`] by the number of statements that were completed and what stopped the rest; `guards`
/// of them stand before the COMMIT.
pub(crate) fn departure(guards: usize, completed: usize, error: Option<(Option<&SqlState>, Connection)>) -> Departure {
    let guarding = completed < guards;
    match error {
        None => Departure::Clean,
        // Once COMMIT was answered the data is committed, whatever the scrub says afterwards.
        Some(_) if completed > guards => Departure::Soiled,
        // Also after an orderly shutdown message: a server may be told to stop between the commit and its answer.
        Some((_, Connection::Lost)) => Departure::Unknown,
        Some((Some(state), _)) if guarding && *state == SqlState::DIVISION_BY_ZERO => Departure::Tampered,
        Some((Some(state), _)) if guarding && *state == SqlState::IN_FAILED_SQL_TRANSACTION => Departure::Aborted,
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
/// From PostgreSQL 16 on a member of a role may still not act as it; older servers do not know the word for that.
pub(crate) const DIAGNOSE: &str = "
select (select o.status::text from public.organizations o where o.slug = $1),
       exists (select from pg_catalog.pg_namespace n where n.nspname::text = $2),
       exists (select from pg_catalog.pg_roles r where r.rolname::text = $3),
       coalesce((select pg_catalog.pg_has_role(current_user, r.oid,
                   case when pg_catalog.current_setting('server_version_num')::int >= 160000 then 'set' else 'member' end)
                 from pg_catalog.pg_roles r where r.rolname::text = $3), false),
       coalesce((select pg_catalog.has_schema_privilege(r.oid, n.oid, 'usage') from pg_catalog.pg_roles r,
                 pg_catalog.pg_namespace n where r.rolname::text = $3 and n.nspname::text = $2), false),
       current_user::text,
       coalesce((select pg_catalog.has_schema_privilege(n.oid, 'usage') from pg_catalog.pg_namespace n
                 where n.nspname::text = $2), false),
       pg_catalog.current_setting('server_version_num')::int >= 160000,
       (select o.id from public.organizations o where o.slug = $1),
       (select d.description from pg_catalog.pg_description d join pg_catalog.pg_namespace n on n.oid = d.objoid
         where d.classoid = 'pg_catalog.pg_namespace'::pg_catalog.regclass and d.objsubid = 0 and n.nspname::text = $2)";

/// A condition: row level security lets the current role see no row of the registry. Of the policies for everybody, the one
/// of the bundled migrations is known to be for tenants' roles only; any other may be for this role.
pub(crate) const REGISTRY_IS_HIDDEN: &str = "(pg_catalog.row_security_active('public.organizations'::regclass)
    and not exists (select from pg_catalog.pg_policy p, pg_catalog.unnest(p.polroles) m (role)
                    where p.polrelid = 'public.organizations'::regclass and p.polpermissive
                    and p.polname <> 'organizations_tenant'
                    and (m.role = 0 or pg_catalog.pg_has_role(m.role, 'usage'))))";

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
            "begin; select",
            "'search_path', 'tenant_acme, public, pg_temp'::text, true",
            "'cgk.tx', '0000000000000007'::text",
            "pg_advisory_xact_lock_shared",
            "public.organizations",
            "'role', 'cgk_acme_8d9001d32c'::text",
            "1 / (case",
        ];
        let places: Vec<_> =
            order.iter().map(|part| sql.find(part).unwrap_or_else(|| panic!("{part} in {sql}"))).collect();
        assert!(places.is_sorted(), "{sql}");
        assert!(!sql.contains('$'), "{sql}");
        assert!(!gate().leave(Nonce(7), Look::Taken).contains('$'));
    }

    #[test]
    fn departures_are_told_apart() {
        use Connection::*;
        for guards in [1, 2] {
            let refused = |code: &SqlState, completed| departure(guards, completed, Some((Some(code), Alive)));
            assert_eq!(departure(guards, 10, None), Departure::Clean);
            for guard in 0..guards {
                assert_eq!(refused(&SqlState::DIVISION_BY_ZERO, guard), Departure::Tampered);
                assert_eq!(refused(&SqlState::IN_FAILED_SQL_TRANSACTION, guard), Departure::Aborted);
            }
            assert_eq!(refused(&SqlState::FOREIGN_KEY_VIOLATION, guards), Departure::Refused);
            assert_eq!(refused(&SqlState::DIVISION_BY_ZERO, guards + 1), Departure::Soiled);
            assert_eq!(departure(guards, guards, Some((None, Lost))), Departure::Unknown);
            assert_eq!(departure(guards, 0, Some((Some(&SqlState::ADMIN_SHUTDOWN), Lost))), Departure::Unknown);
            assert_eq!(departure(guards, guards + 1, Some((None, Lost))), Departure::Soiled);
        }
    }
}
