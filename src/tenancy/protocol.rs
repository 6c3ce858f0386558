//! The SQL text that enters, guards and leaves a tenant, and the decisions on its responses. It uses no driver, so that
//! other drivers can use it too.
//!
//! A tenant's transaction starts with one message and ends with another. The first message opens the transaction, sets
//! everything that is local to it, takes the tenant's shared lock, and raises an error unless the session has really
//! entered the tenant. Everything sent after it then fails with 25P02 instead of running elsewhere. The last message
//! ([`exit`](super::exit)) raises an error unless the session is still in the tenant. Then it commits, and removes
//! everything that the transaction may have left in the session.

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
    lock, registry,
    search_path::SearchPath,
    slug::TenantSlug,
};
use std::fmt;

/// The names that are needed to enter one tenant.
#[derive(Clone, Debug)]
pub(crate) struct TenantTarget {
    pub(crate) slug: TenantSlug,
    pub(crate) schema: SchemaName,
    /// The search path, which starts with that schema.
    pub(crate) path: String,
    /// The schemas of extensions in the search path.
    pub(crate) further: SearchPath,
    /// The tenant's role; `None` in path mode.
    pub(crate) role: Option<RoleName>,
}

/// A number that only the client knows. The setting `cgk.tx`, set local, is a hash of this number and the
/// organization's id. If something inside the transaction ends the transaction, the setting is lost. It cannot be
/// computed for another organization.
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
    /// Returns [`enter_sql`] with its parameters as literals, for connections on which statements cannot be prepared.
    pub(crate) fn enter_text(&self, nonce: Nonce, check: IsolationCheck) -> String {
        let mut sql = enter_sql(self.mode(), check, &self.further);
        // The parameters are replaced from the last to the first, so that $1 is not replaced inside $10.
        for (index, value) in self.values(nonce).iter().enumerate().rev() {
            sql = sql.replace(&format!("${}", index + 1), &literal(value));
        }
        sql
    }

    /// Returns SQL that raises an error unless the session is still in the tenant, is still in the transaction that
    /// entered it, and has its organization. The SQL is sent as text in one message with the COMMIT, so that nothing in
    /// the session can replace it.
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

    /// Returns the parameters of [`enter_sql`].
    pub(crate) fn values(&self, nonce: Nonce) -> Vec<String> {
        let mut values =
            vec![self.path.clone(), nonce.to_string(), self.slug.as_str().to_owned(), self.schema.as_str().to_owned()];
        values.extend(self.role.as_ref().map(|role| role.as_str().to_owned()));
        values
    }
}

/// The current mark of the transaction. It is null if it was never set.
pub(crate) const TX: &str = "pg_catalog.current_setting('cgk.tx', true)";
/// The current search path.
pub(crate) const PATH: &str = "pg_catalog.current_setting('search_path')";

/// Returns a statement that raises `division_by_zero` unless each found value is the expected one.
///
/// All values are compared as one text, joined with an unpredictable separator. The reason is speed: this statement is
/// parsed at every commit. Every name in a statement costs the server one catalogue lookup, and every qualified name
/// costs two. Every function is qualified, and no operator or type is used, so that no search path can replace one.
pub(crate) fn demand_same(found: &[&str], expected: &[String]) -> String {
    let separator = literal(&format!("{:x}", rand::random::<u64>()));
    format!(
        "select pg_catalog.int4div(1, pg_catalog.int4(pg_catalog.texteq(pg_catalog.concat_ws({separator}, {}), \
         pg_catalog.concat_ws({separator}, {}))))",
        found.join(", "),
        expected.join(", "),
    )
}

/// Returns SQL that opens a transaction. The following statements then run in a transaction or not at all.
///
/// The setting [`EXIT_ON_ERROR`](crate::db::pool::EXIT_ON_ERROR) must be on until there is a transaction. It must not
/// be turned on again when a failed statement aborts that transaction, because the session would then end at the next
/// error. Therefore a first transaction turns it off. COMMIT AND CHAIN commits that and opens the actual transaction.
/// Between the two, nothing can fail or be cancelled. The scrub turns the setting on again.
///
/// Behind a pooler, cgk must not end the session. There it waits for the response to BEGIN before it sends anything
/// else.
fn open(modes: &str, pooling: Pooling) -> String {
    // A standby refuses SERIALIZABLE and READ WRITE. They are set inside the transaction, where a refusal aborts it.
    let refusable = ["serializable", "read write"].iter().any(|mode| modes.contains(mode));
    let (begin, set) = if refusable { ("", format!("; set transaction{modes}")) } else { (modes, String::new()) };
    match pooling {
        Pooling::Direct => format!("begin{begin}; {STAY_ON_ERROR}; commit and chain{set}"),
        Pooling::Transaction => format!("begin{begin}{set}"),
    }
}

/// Returns SQL that opens the transaction with its timeouts. `default_isolation` is the server's isolation level, for
/// options that set none.
pub(crate) fn begin(
    options: &TxOptions,
    default_isolation: &str,
    settings: &SessionSettings,
    pooling: Pooling,
) -> String {
    format!("{}; {}", open(&options.modes(default_isolation), pooling), timeouts(settings))
}

/// Makes the server check every second, while a statement of the transaction runs, whether the client is still there.
/// Without this, a statement whose cancel request was lost would run to its end or to its timeout. It follows the SQL
/// that opens the transaction. Behind a pooler it has no effect, because the server's client is the pooler.
pub(super) const NOTICE_LOST_CLIENT: &str = "; set local client_connection_check_interval = 1000";

/// Returns SQL that sets the timeouts for the transaction. The statements are separate, because the server then has no
/// expression to parse.
fn timeouts(settings: &SessionSettings) -> String {
    [
        ("statement_timeout", settings.statement_timeout),
        ("lock_timeout", settings.lock_timeout),
        ("idle_in_transaction_session_timeout", settings.idle_in_transaction_timeout),
    ]
    .map(|(name, time)| format!("set local {name} = {}", milliseconds(time)))
    .join("; ")
}

/// Returns SQL that opens the transaction and takes the tenant's shared lock, which blocks a drop, rename or
/// suspension.
///
/// The lock is taken before the statement that reads the registry, so that this statement sees the changes of the
/// previous lock holder.
///
/// If all statements of the transaction use the snapshot of the first one, the lock must be held before that statement.
/// Therefore a preceding transaction takes the lock for the session. The session's lock is released when this
/// transaction also holds the lock. All of this is one message.
pub(crate) fn begin_locked(
    slug: &TenantSlug,
    options: &TxOptions,
    default_isolation: &str,
    settings: &SessionSettings,
    pooling: Pooling,
) -> String {
    let key = lock::tenant_key(slug);
    let begin = begin(options, default_isolation, settings, pooling);
    // The wait for the lock is limited by lock_timeout, or else by statement_timeout. A statement_timeout applies to
    // statements that start after it was set.
    if options.sees_each_commit(default_isolation) {
        return format!("{begin}; select pg_catalog.pg_advisory_xact_lock_shared({key})");
    }
    format!(
        "{begin}; select pg_catalog.pg_advisory_lock_shared({key}); commit and chain; {}; \
         select pg_catalog.pg_advisory_xact_lock_shared({key}); select pg_catalog.pg_advisory_unlock_shared({key})",
        timeouts(settings),
    )
}

/// The start of the entering statement. It identifies the statement among a session's prepared statements.
pub(crate) const ENTER_MARK: &str = "/* cgk: enter */";

/// Returns the statement that enters a tenant whose lock is held, or raises an error.
///
/// It is one statement, so that the server plans only once, and not at all if the statement is prepared. Its columns
/// are evaluated from left to right. Its parameters are all text: search path, nonce, slug, schema, and in role mode
/// the role.
///
/// The login reads the registry before the role changes, because the tenant's role may not read it. If the schema
/// belongs to another organization than the row, the tenant is not entered. The evaluation order affects only
/// availability and not safety: with another order, the last column would raise the error.
///
/// A tenant is not entered if its role, PUBLIC or the service's login may create in `public` or in a schema of
/// extensions. Other tenants would use the objects created there. The login is checked before the role changes, and the
/// tenant's role after that.
///
/// The check whether the database accepts the isolation costs nothing, because the server evaluates it during planning.
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
    let belongs = binding::belongs_sql("$4::pg_catalog.text", "o.id::pg_catalog.text");
    format!(
        "{ENTER_MARK} select pg_catalog.set_config('search_path', $1::pg_catalog.text, true), \
         pg_catalog.set_config('app.current_organization_id', coalesce({id}, ''), true), \
         pg_catalog.set_config('cgk.tx', pg_catalog.hashtextextended(\
         pg_catalog.current_setting('app.current_organization_id'), $2::pg_catalog.text::pg_catalog.int8)::pg_catalog.text, \
         true), {set_role}\
         1 operator(pg_catalog./) (case when {accepted}\
         pg_catalog.current_schema()::pg_catalog.text operator(pg_catalog.=) $4::pg_catalog.text{role_is} \
         and pg_catalog.current_setting('app.current_organization_id') operator(pg_catalog.<>) ''::pg_catalog.text \
         then 1 else 0 end)",
        id = registry::sql::active_id_sql("$3::pg_catalog.text", &format!("{belongs} and not ({login_creates})")),
    )
}

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
