//! The login of a service: it may act as each tenant, can read the columns of the registry that are needed to enter
//! one, and has no other rights.
//!
//! The admitted logins of a database are recorded in one place that only the registry's owner can write: a policy of
//! `public.organizations` for that login alone. `tenant::create` finds the logins through it, whichever role runs it,
//! and it shows the login the registry's rows when row level security is on.

mod direct;
mod facts;
mod name;
mod tables;

pub use name::{InvalidLogin, LoginName, Password};

use super::isolation;
use crate::{
    config::Isolation,
    db::{Operator, ServerFacts, message, message_head::MessageHead},
    error::{Error, Result, while_doing},
    ident::{Ident, RoleName, SchemaName, literal, quoted},
    lock, registry,
    slug::TenantSlug,
};
use facts::{LoginFacts, TenantRights};
use std::{collections::BTreeSet, fmt::Write as _};
use tokio_postgres::{error::SqlState, types::Type};

#[cfg(feature = "migrate")]
pub(crate) use facts::admitted_to;
pub(crate) use facts::{Admitted, admitted};

/// How often an admission is repeated because another session changed the same login.
const TRIES_MAX: u32 = 4;
/// How many tenants' roles one message grants: newer servers lock each of them until the end of the message.
const ROLES_PER_MESSAGE_MAX: usize = 200;
/// How many tenants' schemas one message grants or revokes, so that a failure affects few of them.
const SCHEMAS_PER_MESSAGE_MAX: usize = 20;

/// Options of a service login.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct LoginOptions {
    /// Its rights on the shared tables; `None` does not change them, and a new login gets [`SharedTables::Registry`].
    pub shared_tables: Option<SharedTables>,
    /// Whether an existing login gets another password.
    pub password: PasswordChange,
    /// What happens to the login's own rights on tenants' schemas, from path mode, when tenants have roles.
    pub direct_rights: DirectRights,
}

/// The rights of a login on the shared tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SharedTables {
    /// Id, slug and status of every organization: required to enter a tenant.
    Registry,
    /// Read and write access to all of them, for [`Db::platform`](crate::Db::platform).
    All,
}

/// Whether an existing login gets another password.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PasswordChange {
    /// It keeps its password.
    #[default]
    Keep,
    /// It gets a new one; the old one is refused from then on.
    New,
}

/// What happens to a login's own rights on tenants' schemas.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DirectRights {
    /// They stay: a service that still runs in path mode needs them.
    #[default]
    Keep,
    /// With role isolation, they are revoked on the schema of every tenant whose role it may act as, and on the schemas that
    /// are ready for new tenants: on the schema, on what is in it, and by default on what is created there later.
    Revoke,
}

/// The result of an admission.
#[derive(Debug)]
#[non_exhaustive]
pub struct Admission {
    /// The login.
    pub name: LoginName,
    /// Whether this run created it.
    pub created: bool,
    /// The password, if this run set one. It is not stored anywhere else.
    pub password: Option<Password>,
    /// Its rights on the shared tables.
    pub shared_tables: SharedTables,
    /// How many tenants it may enter.
    pub tenants: usize,
    /// Tenants that it may not enter: they have no role or schema yet, or granting access failed.
    pub left_out: Vec<TenantSlug>,
    /// Why granting access to tenants stopped. Earlier steps stay, above all the password.
    pub failure: Option<Error>,
    /// On how many schemas of tenants, and schemas that are ready for new ones, the login itself has rights: those left over
    /// from path mode, also on a single table, or by default on later tables. 0 in path mode, which needs them.
    pub direct: usize,
    /// The schemas on which it has such rights, with the name of a tenant's and of no tenant. No command changes them.
    pub direct_on_strays: Vec<String>,
    /// The tenants' schemas on which PUBLIC has rights, and so this login too. Empty in path mode.
    pub open_to_everyone: Vec<String>,
}

/// Creates a login for services, or checks and completes an existing one.
///
/// In role mode it may act as every existing tenant's role and inherits no rights from them; in path mode it may read
/// and write in every tenant's schema. [`lifecycle::create`](crate::lifecycle::create) does the same for later tenants.
/// Outside of a tenant its search path in this database is empty. A new login gets a random password; only its SCRAM
/// verifier is sent to the server.
///
/// # Locks
///
/// An advisory lock against concurrent admissions. If a policy is created or changed, its table, exclusively and for a
/// short time.
///
/// # Committed when
///
/// The login and its rights on shared tables together; then the tenants, several at a time. Another run continues the
/// work.
///
/// # Errors
///
/// Kind `Denied`: the operator may not create roles, does not own the registry, or may not grant a tenant's role to
/// others. `Conflict`: a role of that name exists and has rights that the login of a service must not have. `NotReady`:
/// the database has no registry.
///
/// # Cancel safety
///
/// If the future is dropped, the server may still execute the statements that were sent. The password of a newly
/// created login is then lost; [`PasswordChange::New`] sets another.
pub async fn admit(operator: &Operator, name: &LoginName, options: &LoginOptions) -> Result<Admission> {
    registry::require(operator).await?;
    for _ in 0..TRIES_MAX {
        let found = LoginFacts::read(operator, name).await?;
        found.refuse_unfit(name)?;
        check_privileges(operator, &found)?;
        if found.exists && options.direct_rights == DirectRights::Revoke {
            // The replacements first; otherwise tenants created since could not be entered with it.
            admit_to_tenants(operator, name).await?;
            if operator.config().isolation() == Isolation::Role {
                direct::revoke(operator, name).await?;
            }
        }
        let shared_tables = options.shared_tables.unwrap_or(found.shared_tables);
        let password = (!found.exists || options.password == PasswordChange::New).then(Password::random);
        let sql = base_sql(operator, name, &found, shared_tables, password.as_ref()).await?;
        let doing = || while_doing(format!("admit login {:?}", name.as_str()));
        match message::run(operator.client(), &sql).await.map_err(doing())?.complete() {
            Ok(_) => {}
            // Another session created it first, and the lock made this one wait.
            Err(error) if error.code() == Some(&SqlState::DUPLICATE_OBJECT) => continue,
            Err(error) => {
                if found.exists && error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE) {
                    check_admin_option(operator, name).await?;
                }
                return Err(doing()(error));
            }
        }
        let failure = admit_to_tenants(operator, name).await.err();
        let tenants = match facts::tenants(operator, name).await {
            Ok(tenants) => tenants,
            // A password that was set must not be lost because of an unanswered query.
            Err(_) if failure.is_some() => Vec::new(),
            Err(error) => return Err(error),
        };
        let (may, may_not): (Vec<_>, Vec<_>) = tenants.into_iter().partition(|tenant| tenant.may_enter);
        let (own, open_to_everyone) = match operator.config().isolation() {
            // As above, the password is not lost.
            Isolation::Role if failure.is_some() => (
                direct::OwnRights::read(operator, name).await.unwrap_or_default(),
                direct::open_to_everyone(operator).await.unwrap_or_default(),
            ),
            Isolation::Role => {
                (direct::OwnRights::read(operator, name).await?, direct::open_to_everyone(operator).await?)
            }
            Isolation::Path => Default::default(),
        };
        return Ok(Admission {
            name: name.clone(),
            created: !found.exists,
            password,
            shared_tables,
            tenants: may.len(),
            left_out: may_not.into_iter().map(|tenant| tenant.slug).collect(),
            failure,
            direct: own.schemas,
            direct_on_strays: own.strays,
            open_to_everyone,
        });
    }
    Err(Error::Unexpected {
        doing: format!("admit login {:?}", name.as_str()),
        found: "another run kept changing it".into(),
    })
}

fn check_privileges(operator: &Operator, found: &LoginFacts) -> Result<()> {
    let own = operator.facts();
    if let Some(owner) = &found.registry_owner {
        let grant = format!("grant {} to {}", owner.quoted(), quoted(&own.role));
        return Err(own.lacks("make policies on public.organizations, which another role owns", grant));
    }
    if !found.exists && !own.creates_roles {
        let grant = format!("alter role {} createrole", quoted(&own.role));
        return Err(own.lacks("create the login", grant));
    }
    Ok(())
}

/// Fails if the operator may not change an existing login. From PostgreSQL 16 on, CREATEROLE alone is not sufficient.
async fn check_admin_option(operator: &Operator, name: &LoginName) -> Result<()> {
    let own = operator.facts();
    let doing = || while_doing(format!("look who may change login {:?}", name.as_str()));
    let sql = "select pg_catalog.pg_has_role(r.oid, 'USAGE WITH ADMIN OPTION') from pg_catalog.pg_roles r
                where r.rolname::pg_catalog.text = $1";
    let rows = operator.client().query_typed(sql, &[(&name.as_str(), Type::TEXT)]).await.map_err(doing())?;
    let admin: Option<bool> = rows.first().map(|row| row.try_get(0)).transpose().map_err(doing())?;
    if own.major() < 16 || admin != Some(false) {
        return Ok(());
    }
    let grant = format!("grant {} to {} with admin option", name.ident().quoted(), quoted(&own.role));
    Err(own.lacks(format!("change login {}, which another role made", name.as_str()), grant))
}

/// Returns the statements for the login itself and its rights on shared objects: one message, and so one transaction.
async fn base_sql(
    operator: &Operator,
    name: &LoginName,
    found: &LoginFacts,
    shared: SharedTables,
    password: Option<&Password>,
) -> Result<String> {
    let (login, database) = (name.ident().quoted(), quoted(&operator.facts().database));
    let mut sql = turn_sql(operator);
    let verifier = password.map(|password| format!(" password {}", literal(&password.verifier())));
    match (found.exists, &verifier) {
        (false, verifier) => {
            let password = verifier.as_deref().unwrap_or_default();
            let _ = writeln!(
                sql,
                "create role {login} login noinherit nosuperuser nobypassrls nocreatedb nocreaterole noreplication{password};"
            );
        }
        (true, Some(password)) => {
            let _ = writeln!(sql, "alter role {login}{password};");
        }
        (true, None) => {}
    }
    if !found.may_connect {
        let _ = writeln!(sql, "grant connect on database {database} to {login};");
    }
    if !found.sees_public {
        let _ = writeln!(sql, "grant usage on schema public to {login};");
    }
    if !found.calls_set_config {
        // On a hardened database PUBLIC may not call it, and entering a tenant needs it.
        let _ = writeln!(sql, "grant execute on function pg_catalog.set_config(text, text, boolean) to {login};");
    }
    if !found.has_empty_path {
        let _ = writeln!(sql, "alter role {login} in database {database} set search_path = '';");
    }
    let form = match operator.config().isolation() {
        // With its own rights on tenants' schemas the login may also work in path mode, where a setting identifies the
        // tenant.
        Isolation::Role if !found.exists || facts::direct_rights(operator, name).await? == 0 => {
            tables::Form::Everything
        }
        _ => tables::Form::Setting,
    };
    sql.push_str(&tables::rights_sql(operator, name, found, shared, form).await?);
    if shared == SharedTables::All && facts::has_readers(operator).await? {
        // The role of Db::as_user. Where the operator may not create or grant it, that function says which right is
        // missing.
        let _ = writeln!(sql, "select public.cgk_admit_reader({});", literal(name.as_str()));
    }
    Ok(sql)
}

/// Grants the login access to every tenant that it cannot enter and that is ready for it.
async fn admit_to_tenants(operator: &Operator, name: &LoginName) -> Result<()> {
    let tenants = facts::tenants(operator, name).await?;
    let missing: Vec<&TenantRights> = tenants.iter().filter(|tenant| !tenant.may_enter && tenant.is_ready).collect();
    match operator.config().isolation() {
        Isolation::Role => {
            let tag = operator.facts().database_tag();
            let roles: Vec<_> = missing.iter().map(|tenant| RoleName::of_tenant(&tenant.slug, &tag)).collect();
            for roles in roles.chunks(ROLES_PER_MESSAGE_MAX) {
                grant_roles(operator, name, roles).await?;
            }
        }
        Isolation::Path => {
            for tenants in missing.chunks(SCHEMAS_PER_MESSAGE_MAX) {
                on_schemas(operator, tenants, |schema| enter_by_path_sql(schema, name.ident())).await?;
            }
        }
    }
    Ok(())
}

/// Returns the admitted logins that have rights of their own, of path isolation, on the schemas of tenants whose role they
/// may act as, or on schemas that are ready for new tenants. These are the rights that [`DirectRights::Revoke`] revokes: on
/// the schema, on what is in it, and by default on what is created there later. Rights of PUBLIC and of other roles are not
/// a login's own.
///
/// # Errors
///
/// Kind `NotReady`: the database has no registry. Kinds `Unavailable` and `Failed`, from the server.
///
/// # Cancel safety
///
/// Nothing is changed.
pub async fn with_direct_rights(operator: &Operator) -> Result<Vec<LoginName>> {
    registry::require(operator).await?;
    let mut direct = Vec::new();
    for login in facts::admitted_names(operator, facts::LoginSelection::AnyIsolation).await? {
        // No version of cgk has admitted a name that `admit` refuses.
        let Ok(name) = login.as_str().parse::<LoginName>() else { continue };
        if direct::OwnRights::read(operator, &name).await?.is_revocable {
            direct.push(name);
        }
    }
    Ok(direct)
}

/// Returns the admitted logins that have rights of their own on schemas with the name of a tenant's and of no tenant, and
/// these schemas. No command changes them.
///
/// # Errors, Cancel safety
///
/// Those of [`with_direct_rights`].
pub async fn with_rights_on_strays(operator: &Operator) -> Result<Vec<(LoginName, Vec<String>)>> {
    registry::require(operator).await?;
    let mut found = Vec::new();
    for login in facts::admitted_names(operator, facts::LoginSelection::AnyIsolation).await? {
        let Ok(name) = login.as_str().parse::<LoginName>() else { continue };
        let strays = direct::OwnRights::read(operator, &name).await?.strays;
        if !strays.is_empty() {
            found.push((name, strays));
        }
    }
    Ok(found)
}

/// Returns the admitted logins that cannot enter any tenant under the configured isolation until they are admitted again.
/// With role isolation, every admitted login gets the roles, so there are none.
pub(crate) async fn of_other_isolation(operator: &Operator) -> Result<Vec<Ident>> {
    let all = facts::admitted_names(operator, facts::LoginSelection::AnyIsolation).await?;
    let these = facts::admitted_names(operator, facts::LoginSelection::ThisIsolation).await?;
    let mut others = Vec::new();
    for login in all {
        if !these.contains(&login) || lost_every_schema(operator, &login).await? {
            others.push(login);
        }
    }
    Ok(others)
}

/// Whether a login of path isolation may use no schema of a tenant, although there are some. [`complete`] grants it
/// nothing then.
async fn lost_every_schema(operator: &Operator, login: &Ident) -> Result<bool> {
    let Ok(name) = login.as_str().parse::<LoginName>() else { return Ok(false) };
    let tenants = facts::tenants(operator, &name).await?;
    let is_path = operator.config().isolation() == Isolation::Path;
    Ok(is_path && tenants.iter().any(|tenant| tenant.is_ready) && !tenants.iter().any(|tenant| tenant.direct))
}

/// Returns the logins that the database has admitted, for any isolation.
pub(crate) async fn admitted_names(operator: &Operator) -> Result<Vec<Ident>> {
    facts::admitted_names(operator, facts::LoginSelection::AnyIsolation).await
}

/// Returns the admitted logins that enter tenants under the configured isolation. With path isolation these are the
/// logins that already have rights on some tenant's schema: the others were created for roles, and [`admit`] changes
/// that.
async fn serving(operator: &Operator) -> Result<Vec<LoginName>> {
    let mut serving = Vec::new();
    for login in facts::admitted_names(operator, facts::LoginSelection::ThisIsolation).await? {
        // No version of cgk has admitted a name that `admit` refuses.
        let Ok(name) = login.as_str().parse::<LoginName>() else { continue };
        if operator.config().isolation() == Isolation::Role || facts::direct_rights(operator, &name).await? > 0 {
            serving.push(name);
        }
    }
    Ok(serving)
}

/// Grants every admitted login access to the tenants that it cannot enter yet under the configured isolation, for
/// instance tenants created under the other one while both are accepted. A tenant without a role is skipped
/// ([`lifecycle::isolate`](crate::lifecycle::isolate)).
///
/// # Locks
///
/// An advisory lock against concurrent admissions.
///
/// # Committed when
///
/// Several tenants at a time. Another run continues the work.
///
/// # Errors
///
/// Kind `Denied`: the operator may not grant a tenant's role to others, or act as the owner of a tenant's schema. Kind
/// `NotReady`: the database has no registry.
///
/// # Cancel safety
///
/// If the future is dropped, the server may still execute the statements that were sent.
pub async fn complete(operator: &Operator) -> Result<()> {
    registry::require(operator).await?;
    for name in serving(operator).await? {
        admit_to_tenants(operator, &name).await?;
    }
    Ok(())
}

/// Returns the tenants with a schema and a ledger that an admitted login cannot enter under the configured isolation.
/// It includes those that no login can enter because the role is missing.
pub(crate) async fn locked_out(operator: &Operator) -> Result<Vec<TenantSlug>> {
    let fleet = registry::facts_of_fleet(operator).await?;
    let by_role = operator.config().isolation() == Isolation::Role;
    let whole = |facts: &registry::TenantFacts| facts.owner.is_some() && facts.has_ledger;
    let mut locked_out: BTreeSet<TenantSlug> = fleet
        .tenants
        .iter()
        .filter(|(_, facts)| by_role && whole(facts) && !(facts.has_role && facts.role_admitted))
        .map(|(slug, _)| slug.clone())
        .collect();
    for name in serving(operator).await? {
        let tenants = facts::tenants(operator, &name).await?.into_iter();
        let lacking = tenants.filter(|tenant| !tenant.may_enter && fleet.tenants.get(&tenant.slug).is_some_and(whole));
        locked_out.extend(lacking.map(|tenant| tenant.slug));
    }
    Ok(locked_out.into_iter().collect())
}

/// Revokes from logins everything that [`admit`] granted them on shared objects: policies, rights, and with the
/// registry's policy the mark that they are admitted. The logins themselves stay; other databases may use them.
pub(crate) async fn dismiss(operator: &Operator, logins: &[Ident]) -> Result<()> {
    if logins.is_empty() {
        return Ok(());
    }
    let mut sql = turn_sql(operator);
    for login in logins {
        sql.push_str(&tables::dismiss_sql(operator, login).await?);
    }
    sql.push_str(&tables::dismiss_readers_sql(operator).await?);
    let doing = || while_doing("take the rights of another database's logins");
    message::run(operator.client(), &sql).await.map_err(doing())?.complete().map(drop).map_err(doing())
}

/// Returns the start of a message: its timeouts, and the lock against concurrent changes of logins.
fn turn_sql(operator: &Operator) -> String {
    let session = operator.session();
    MessageHead::of(operator)
        .lock_timeout(session.lock_timeout)
        .statement_timeout(session.migration_statement_timeout)
        .lock(lock::logins_key())
        .sql()
}

async fn grant_roles(operator: &Operator, name: &LoginName, roles: &[RoleName]) -> Result<()> {
    let facts = operator.facts();
    let names: Vec<String> = roles.iter().map(RoleName::quoted).collect();
    let options = isolation::membership_options(facts);
    let sql = format!("{}grant {} to {}{options}", turn_sql(operator), names.join(", "), name.ident().quoted());
    let doing = || while_doing(format!("let login {:?} act as tenants' roles", name.as_str()));
    match message::run(operator.client(), &sql).await.map_err(doing())?.complete() {
        Ok(_) => Ok(()),
        Err(error) if error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE) => {
            // The server names the role, in a message or its detail.
            let said = error.as_db_error().map(|error| format!("{} {}", error.message(), error.detail().unwrap_or("")));
            let said = said.unwrap_or_default();
            let named = roles.iter().find(|role| said.contains(&role.quoted())).or(roles.first());
            Err(named.map_or_else(|| doing()(error), |role| isolation::lacks_admin(facts, role)))
        }
        Err(error) => Err(doing()(error)),
    }
}

/// Runs statements on several tenants' schemas, each as its owner, in one transaction.
async fn on_schemas(
    operator: &Operator,
    tenants: &[&TenantRights],
    statements: impl Fn(&SchemaName) -> String,
) -> Result<()> {
    let own = &operator.facts().role;
    let mut sql = turn_sql(operator);
    for tenant in tenants {
        let owner = tenant.owner.as_ref().filter(|owner| owner.as_str() != own);
        if let Some(owner) = owner {
            let _ = writeln!(sql, "set local role {};", owner.quoted());
        }
        sql.push_str(&statements(&SchemaName::of_tenant(&tenant.slug)));
        if owner.is_some() {
            sql.push_str("reset role;\n");
        }
    }
    let doing = || while_doing("change a login's rights on tenants' schemas");
    match message::run(operator.client(), &sql).await.map_err(doing())?.complete() {
        Ok(_) => Ok(()),
        Err(error) if error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE) => {
            let owner = tenants.iter().find_map(|tenant| tenant.owner.as_ref().filter(|owner| owner.as_str() != own));
            match owner {
                Some(owner) => {
                    let options = if operator.facts().major() >= 16 { " with set true" } else { "" };
                    let grant = format!("grant {} to {}{options}", owner.quoted(), quoted(own));
                    Err(operator
                        .facts()
                        .lacks(format!("act as {}, which owns tenants' schemas", owner.as_str()), grant))
                }
                None => Err(doing()(error)),
            }
        }
        Err(error) => Err(doing()(error)),
    }
}

/// Lets logins act as a tenant's role.
pub(crate) fn enter_by_role_sql(facts: &ServerFacts, role: &RoleName, logins: &[Admitted]) -> String {
    if logins.is_empty() {
        return String::new();
    }
    let names: Vec<String> = logins.iter().map(|login| login.name.quoted()).collect();
    isolation::membership_sql(facts, role, &names.join(", "))
}

/// Lets a login read and write in a tenant's schema, which the current role owns, except the ledger.
pub(crate) fn enter_by_path_sql(schema: &SchemaName, login: &Ident) -> String {
    isolation::grants_sql(schema, login) + &isolation::protect_ledger_sql(schema, login)
}
