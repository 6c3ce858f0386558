//! What enters, guards and leaves a tenant: the SQL text, and the decisions made on its answers. No driver in sight, so
//! that other drivers can speak it too.
//!
//! Two exchanges frame a tenant's transaction. The first opens it, sets everything that is local to it, takes the tenant's
//! shared lock and raises an error unless the session has really arrived in the tenant; whatever rides behind it on the wire
//! then fails with 25P02 instead of running elsewhere. The last one ([`exit`](super::exit)) raises an error unless the
//! session is still there, commits, and scrubs whatever the transaction may have left in the session.

use super::{
    create_rights::{login_creates_sql, login_or_everybody_creates_sql, role_creates_sql},
    options::TxOptions,
};
use crate::{
    binding,
    config::{Isolation, Pooling, SessionSettings},
    db::{
        identity::accepts_sql,
        milliseconds,
        pool::{IsolationCheck, STAY_ON_ERROR},
    },
    ident::{RoleName, SchemaName, literal},
    lock,
    search_path::SearchPath,
    slug::TenantSlug,
};
use std::fmt;

/// The way into one tenant.
#[derive(Clone, Debug)]
pub(crate) struct TenantTarget {
    pub(crate) slug: TenantSlug,
    pub(crate) schema: SchemaName,
    /// The search path, which starts with that schema.
    pub(crate) path: String,
    /// The schemas of extensions in it.
    pub(crate) further: SearchPath,
    /// The tenant's role; `None` in path mode.
    pub(crate) role: Option<RoleName>,
}

/// A number that only the client knows. The setting `cgk.tx`, set local, is the organization's id hashed with it: gone when
/// something inside ended the transaction, and not to be made for another organization.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Nonce(i64);

impl Nonce {
    pub(crate) fn random() -> Self {
        Self(rand::random())
    }
}

impl fmt::Display for Nonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl TenantTarget {
    /// [`enter_sql`] with its parameters written out, for connections on which nothing can be prepared.
    pub(crate) fn enter_text(&self, nonce: Nonce, check: IsolationCheck) -> String {
        let mut sql = enter_sql(self.mode(), check, &self.further);
        // From the last to the first, so that $1 is not found inside $10.
        for (index, value) in self.values(nonce).iter().enumerate().rev() {
            sql = sql.replace(&format!("${}", index + 1), &literal(value));
        }
        sql
    }

    /// Raises an error unless the session is still in the tenant and in the transaction that entered it, and has its
    /// organization. Sent as text with the COMMIT behind it, so that nothing in the session can stand in its place.
    pub(crate) fn guard(&self, nonce: Nonce) -> String {
        let organization = "pg_catalog.current_setting('app.current_organization_id', true)";
        let mut found = vec![TX, PATH, "current_schema"];
        let mut expected = vec![
            format!("pg_catalog.hashtextextended({organization}, {nonce})"),
            literal(&self.path),
            literal(self.schema.as_str()),
        ];
        if let Some(role) = &self.role {
            found.push("current_user");
            expected.push(literal(role.as_str()));
        }
        demand_same(&found, &expected)
    }

    pub(crate) fn mode(&self) -> Isolation {
        if self.role.is_some() { Isolation::Role } else { Isolation::Path }
    }

    /// The parameters of [`enter_sql`].
    pub(crate) fn values(&self, nonce: Nonce) -> Vec<String> {
        let mut values =
            vec![self.path.clone(), nonce.to_string(), self.slug.as_str().to_owned(), self.schema.as_str().to_owned()];
        values.extend(self.role.as_ref().map(|role| role.as_str().to_owned()));
        values
    }
}

/// What the transaction's mark is now; null when it was never set.
pub(crate) const TX: &str = "pg_catalog.current_setting('cgk.tx', true)";
/// What the search path is now.
pub(crate) const PATH: &str = "pg_catalog.current_setting('search_path')";

/// A statement that raises `division_by_zero` unless each of the found values is the expected one.
///
/// All are compared as one text, put together with a separator that nobody could know before: every name in a statement costs
/// the server a look into its catalogue, a qualified one two, and this is parsed at every commit. Every function is
/// qualified and no operator or type is used, so that no search path leads to another.
pub(crate) fn demand_same(found: &[&str], expected: &[String]) -> String {
    let separator = literal(&format!("{:x}", rand::random::<u64>()));
    format!(
        "select pg_catalog.int4div(1, pg_catalog.int4(pg_catalog.texteq(pg_catalog.concat_ws({separator}, {}), \
         pg_catalog.concat_ws({separator}, {}))))",
        found.join(", "),
        expected.join(", "),
    )
}

/// Opens a transaction, so that what is sent behind it runs in a transaction or not at all.
///
/// The setting [`EXIT_ON_ERROR`](crate::db::pool::EXIT_ON_ERROR) must last until there is a transaction, and must not come back when that is aborted by a
/// failed statement: the session would end with the next. So it is taken back in a transaction before, which COMMIT AND
/// CHAIN commits and follows with the one that stays; between the two nothing can fail or be cancelled. The scrub sets it
/// again.
///
/// Behind a pooler the session is not ours to end: there the answer to BEGIN is awaited before anything else is sent.
fn open(modes: &str, pooling: Pooling) -> String {
    // A standby refuses SERIALIZABLE and READ WRITE, so these are set in the transaction, where a refusal aborts it.
    let refusable = ["serializable", "read write"].iter().any(|mode| modes.contains(mode));
    let (begin, set) = if refusable { ("", format!("; set transaction{modes}")) } else { (modes, String::new()) };
    match pooling {
        Pooling::Direct => format!("begin{begin}; {STAY_ON_ERROR}; commit and chain{set}"),
        Pooling::Transaction => format!("begin{begin}{set}"),
    }
}

/// Opens the transaction with its timeouts. `default_isolation` is the server's, for options that name none.
pub(crate) fn begin(
    options: &TxOptions,
    default_isolation: &str,
    settings: &SessionSettings,
    pooling: Pooling,
) -> String {
    format!("{}; {}", open(&options.modes(default_isolation), pooling), timeouts(settings))
}

/// Sets the timeouts for the transaction. Statements of their own: the server has no expression to parse in them.
fn timeouts(settings: &SessionSettings) -> String {
    [
        ("statement_timeout", settings.statement_timeout),
        ("lock_timeout", settings.lock_timeout),
        ("idle_in_transaction_session_timeout", settings.idle_in_transaction_timeout),
    ]
    .map(|(name, time)| format!("set local {name} = {}", milliseconds(time)))
    .join("; ")
}

/// Opens the transaction and takes the tenant's shared lock, against a drop, rename or suspension meanwhile.
///
/// The lock is taken before the statement that looks: what is looked at is as it was left by whoever held the lock. In a
/// transaction whose statements all have the snapshot of the first one, the lock must be held before that; so it is taken for
/// the session in a transaction before, and given up once the transaction holds it too. All of it is one message.
pub(crate) fn begin_locked(
    slug: &TenantSlug,
    options: &TxOptions,
    default_isolation: &str,
    settings: &SessionSettings,
    pooling: Pooling,
) -> String {
    let key = lock::tenant_key(slug);
    let begin = begin(options, default_isolation, settings, pooling);
    // The wait for the lock is bounded by lock_timeout, or else by statement_timeout, which counts for statements that begin
    // after it was set.
    if options.sees_each_commit(default_isolation) {
        return format!("{begin}; select pg_catalog.pg_advisory_xact_lock_shared({key})");
    }
    format!(
        "{begin}; select pg_catalog.pg_advisory_lock_shared({key}); commit and chain; {}; \
         select pg_catalog.pg_advisory_xact_lock_shared({key}); select pg_catalog.pg_advisory_unlock_shared({key})",
        timeouts(settings),
    )
}

/// What the statement that enters a tenant begins with: by this a session's prepared statements are told apart.
pub(crate) const ENTER_MARK: &str = "/* cgk: enter */";

/// Enters a tenant whose lock is held, or raises an error. One statement, so that it costs the server one plan, and prepared
/// not even that; its columns are worked out from left to right. Parameters, all text: search path, nonce, slug, schema, and
/// in role mode the role.
///
/// The registry is read as the login, before the role changes: the tenant's role has no business there. A schema that
/// belongs to another organization than the row is not entered. Should any of it happen in another order, the last column
/// raises the error, so the order is a matter of availability and not of safety.
///
/// A tenant whose role may create in `public` or in a schema of extensions is not entered, nor any where everybody or the service's
/// login may: the others would find what it makes there. The login is looked at before the role changes, the tenant's role after.
///
/// Whether the database accepts the isolation costs nothing: the server works it out when it plans.
pub(crate) fn enter_sql(mode: Isolation, check: IsolationCheck, path: &SearchPath) -> String {
    let accepted = match check {
        IsolationCheck::Checked => format!("{} and ", accepts_sql(mode)),
        IsolationCheck::Unchecked => String::new(),
    };
    let (set_role, role_is, login_creates) = match mode {
        Isolation::Role => (
            "pg_catalog.set_config('role', $5::pg_catalog.text, true), ",
            format!(
                " and current_user::pg_catalog.text operator(pg_catalog.=) $5::pg_catalog.text and not {}",
                role_creates_sql(path)
            ),
            login_creates_sql(path),
        ),
        Isolation::Path => ("", String::new(), login_or_everybody_creates_sql(path)),
    };
    format!(
        "{ENTER_MARK} select pg_catalog.set_config('search_path', $1::pg_catalog.text, true), \
         pg_catalog.set_config('app.current_organization_id', coalesce((select o.id::pg_catalog.text \
         from public.organizations o where o.slug operator(pg_catalog.=) $3::pg_catalog.text \
         and o.status operator(pg_catalog.=) 'active' and {belongs} and not ({login_creates})), ''), true), \
         pg_catalog.set_config('cgk.tx', pg_catalog.hashtextextended(\
         pg_catalog.current_setting('app.current_organization_id'), $2::pg_catalog.text::pg_catalog.int8)::pg_catalog.text, \
         true), {set_role}\
         1 operator(pg_catalog./) (case when {accepted}\
         pg_catalog.current_schema()::pg_catalog.text operator(pg_catalog.=) $4::pg_catalog.text{role_is} \
         and pg_catalog.current_setting('app.current_organization_id') operator(pg_catalog.<>) ''::pg_catalog.text \
         then 1 else 0 end)",
        belongs = binding::belongs_sql("$4::pg_catalog.text", "o.id::pg_catalog.text"),
    )
}

/// What the registry and the catalogue say of a tenant that could not be entered. Parameters, all text: slug, schema, role.
/// From PostgreSQL 16 on a member of a role may still not act as it; older servers do not know the word for that.
pub(crate) const DIAGNOSE: &str = "
select (select coalesce(o.status::pg_catalog.text, 'null') from public.organizations o where o.slug = $1),
       exists (select from pg_catalog.pg_namespace n where n.nspname::pg_catalog.text = $2),
       exists (select from pg_catalog.pg_roles r where r.rolname::pg_catalog.text = $3),
       coalesce((select pg_catalog.pg_has_role(current_user, r.oid,
                   case when pg_catalog.current_setting('server_version_num')::pg_catalog.int4 >= 160000 then 'set' else 'member' end)
                 from pg_catalog.pg_roles r where r.rolname::pg_catalog.text = $3), false),
       coalesce((select pg_catalog.has_schema_privilege(r.oid, n.oid, 'usage') from pg_catalog.pg_roles r,
                 pg_catalog.pg_namespace n where r.rolname::pg_catalog.text = $3 and n.nspname::pg_catalog.text = $2), false),
       current_user::pg_catalog.text,
       coalesce((select pg_catalog.has_schema_privilege(n.oid, 'usage') from pg_catalog.pg_namespace n
                 where n.nspname::pg_catalog.text = $2), false),
       pg_catalog.current_setting('server_version_num')::pg_catalog.int4 >= 160000,
       (select o.id from public.organizations o where o.slug = $1),
       (select d.description from pg_catalog.pg_description d join pg_catalog.pg_namespace n on n.oid = d.objoid
         where d.classoid = 'pg_catalog.pg_namespace'::pg_catalog.regclass and d.objsubid = 0 and n.nspname::pg_catalog.text = $2)";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ident::DatabaseTag;

    fn gate() -> TenantTarget {
        let slug: TenantSlug = "acme".parse().unwrap();
        let role = RoleName::of_tenant(&slug, &DatabaseTag::of("shop"));
        let schema = SchemaName::of_tenant(&slug);
        let further = SearchPath::default();
        TenantTarget { path: further.of(&schema), further, schema, role: Some(role), slug }
    }

    #[test]
    fn the_role_is_set_after_everything_that_needs_the_login() {
        let settings = SessionSettings::default();
        let begin = begin_locked(&gate().slug, &TxOptions::default(), "read committed", &settings, Pooling::Direct);
        let sql = format!("{begin}; {}", gate().enter_text(Nonce(7), IsolationCheck::Checked));
        let order = [
            "begin isolation level read committed; set exit_on_error = off; commit and chain; set local statement_timeout",
            "set local lock_timeout",
            "; select pg_catalog.pg_advisory_xact_lock_shared(4467969851850788077); /* cgk: enter */ select",
            "'search_path', 'tenant_acme, public, pg_temp'::pg_catalog.text, true",
            "public.organizations",
            "'cgk.tx', pg_catalog.hashtextextended(",
            "'7'::pg_catalog.text::pg_catalog.int8",
            "'role', 'cgk_acme_8d9001d32c'::pg_catalog.text",
            "1 operator(pg_catalog./) (case",
        ];
        let places: Vec<_> =
            order.iter().map(|part| sql.find(part).unwrap_or_else(|| panic!("{part} in {sql}"))).collect();
        assert!(places.is_sorted(), "{sql}");
        assert!(!sql.contains('$'), "{sql}");
    }

    #[test]
    fn the_lock_is_held_before_the_only_snapshot() {
        let settings = SessionSettings::default();
        let slug = gate().slug;
        let begin = |options: &TxOptions, default| begin_locked(&slug, options, default, &settings, Pooling::Direct);
        let default = TxOptions::default();
        assert!(!begin(&default, "read committed").contains("pg_advisory_lock_shared"));
        assert!(!begin(&default.clone().read_committed(), "serializable").contains("pg_advisory_lock_shared"));
        for sql in [
            begin(&default, "repeatable read"),
            begin(&default, "serializable"),
            begin(&default.clone().repeatable_read(), "read committed"),
            begin(&default.serializable(), "read committed"),
        ] {
            let order = [
                "begin",
                "isolation level",
                "pg_advisory_lock_shared",
                "); commit and chain",
                "pg_advisory_xact_lock_shared",
            ];
            let places: Vec<_> = order.iter().map(|part| sql.find(part)).collect();
            assert!(places.is_sorted() && places[0].is_some(), "{sql}");
            assert!(sql.ends_with("select pg_catalog.pg_advisory_unlock_shared(4467969851850788077)"), "{sql}");
        }
    }
}
