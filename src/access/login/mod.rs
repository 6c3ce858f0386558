//! The login of a service: may act as each tenant, reads of the registry what entering takes, and has no other rights.
//!
//! Which logins a database has admitted is written in one place that only the registry's owner can write: a policy of
//! `public.organizations` for that login alone. With it `tenant::create` finds them, whoever runs it, and it shows the login
//! the registry's rows once row level security is on.

mod look;
mod name;
mod tables;

pub use name::{InvalidLogin, LoginName, Password};

use super::isolation;
use crate::{
    config::Isolation,
    db::{Operator, ServerFacts, message, milliseconds},
    error::{Error, Result, while_doing},
    ident::{Ident, RoleName, SchemaName, literal, quoted},
    lock, registry,
    slug::TenantSlug,
};
use look::{Found, TenantRights};
use std::{collections::BTreeSet, fmt::Write as _};
use tokio_postgres::error::SqlState;

pub(crate) use look::{Admitted, admitted};

/// How often admission starts over because somebody else was at the same login.
const TRIES_MAX: u32 = 4;
/// How many tenants' roles one message grants: newer servers lock each to the end of it.
const ROLES_PER_MESSAGE_MAX: usize = 200;
/// How many tenants' schemas one message grants or revokes, so that what fails takes little with it.
const SCHEMAS_PER_MESSAGE_MAX: usize = 20;

/// What is wanted of a login.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct LoginOptions {
    /// What of the shared tables it may use; `None` leaves it as it is, and a new login gets [`SharedTables::Registry`].
    pub shared_tables: Option<SharedTables>,
    /// Whether a login that is there already gets another password.
    pub password: PasswordWish,
    /// What becomes of rights on tenants' schemas that the login has itself, from path mode, when tenants have roles.
    pub direct_rights: DirectRights,
}

/// What of the shared tables a login may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SharedTables {
    /// Identity, slug and status of every organization: what entering a tenant takes.
    Registry,
    /// Reading and writing all of them, for [`Db::platform`](crate::Db::platform).
    All,
}

/// Whether a login that is there already gets another password.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PasswordWish {
    /// It keeps the one it has.
    #[default]
    Keep,
    /// It gets a new one; the old one is refused from then on.
    New,
}

/// What becomes of rights on tenants' schemas that a login has itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DirectRights {
    /// They stay: a service that still runs in path mode needs them.
    #[default]
    Keep,
    /// They are taken away, where the isolation is by role, on every tenant whose role it may act as.
    Revoke,
}

/// What became of an admission.
#[derive(Debug)]
#[non_exhaustive]
pub struct Admission {
    /// The login.
    pub name: LoginName,
    /// Whether this run made it.
    pub created: bool,
    /// The password, if this run set one. It is kept nowhere else.
    pub password: Option<Password>,
    /// What of the shared tables it may use.
    pub shared_tables: SharedTables,
    /// How many tenants it may enter.
    pub tenants: usize,
    /// Tenants that it may not enter: they have no role or schema yet, or letting it in failed.
    pub left_out: Vec<TenantSlug>,
    /// Why letting it into tenants stopped. What was done before stays, the password above all.
    pub failure: Option<Error>,
    /// How many tenants' schemas it may use past the tenant's role: rights left over from path mode.
    pub direct: usize,
}

/// Makes a login for services, or checks and completes one that is there.
///
/// In role mode it may act as every tenant's role there is and inherits nothing of them; in path mode it may read and write
/// in every tenant's schema. [`lifecycle::create`](crate::lifecycle::create) does the same for tenants that are made later.
/// Outside of a tenant its search path in this database is empty. A new login gets a random password, of which the server is
/// sent the SCRAM verifier only.
///
/// # Locks
///
/// An advisory lock against others who admit. Where a policy is made or changed, its table, against everybody, briefly.
///
/// # Committed when
///
/// The login and its rights on shared tables together; then the tenants, some at a time. Run again, it goes on.
///
/// # Errors
///
/// Kind `Denied`: the operator may not create roles, does not own the registry, or may not hand a tenant's role on. `Conflict`:
/// a role of that name is there and has rights that the login of a service must not have. `NotReady`: there is no registry.
///
/// # Cancel safety
///
/// Dropped, the server may still finish what it was sent. The password of a login that was just made is then known to
/// nobody; [`PasswordWish::New`] sets another.
pub async fn admit(operator: &Operator, name: &LoginName, options: &LoginOptions) -> Result<Admission> {
    registry::require(operator).await?;
    for _ in 0..TRIES_MAX {
        let found = Found::look(operator, name).await?;
        found.refuse_unfit(name)?;
        check_privileges(operator, &found)?;
        if found.exists && options.direct_rights == DirectRights::Revoke {
            // First what replaces them, or the tenants made since would be closed to it.
            admit_to_tenants(operator, name).await?;
            revoke_direct(operator, name).await?;
        }
        let shared_tables = options.shared_tables.unwrap_or(found.shared_tables);
        let password = (!found.exists || options.password == PasswordWish::New).then(Password::random);
        let sql = base_sql(operator, name, &found, shared_tables, password.as_ref()).await?;
        let doing = || while_doing(format!("admit login {:?}", name.as_str()));
        match message::run(operator.client(), &sql).await.map_err(doing())?.complete() {
            Ok(_) => {}
            // Somebody else made it first; the lock made us wait until they had.
            Err(error) if error.code() == Some(&SqlState::DUPLICATE_OBJECT) => continue,
            Err(error) => return Err(doing()(error)),
        }
        let failure = admit_to_tenants(operator, name).await.err();
        let tenants = match look::tenants(operator, name).await {
            Ok(tenants) => tenants,
            // A password that was set is not lost for a question that was not answered.
            Err(_) if failure.is_some() => Vec::new(),
            Err(error) => return Err(error),
        };
        let (may, may_not): (Vec<_>, Vec<_>) = tenants.into_iter().partition(|tenant| tenant.may_enter);
        let direct = match operator.config().isolation() {
            Isolation::Role => may.iter().chain(&may_not).filter(|tenant| tenant.direct).count(),
            Isolation::Path => 0,
        };
        return Ok(Admission {
            name: name.clone(),
            created: !found.exists,
            password,
            shared_tables,
            tenants: may.len(),
            left_out: may_not.into_iter().map(|tenant| tenant.slug).collect(),
            failure,
            direct,
        });
    }
    Err(Error::Unexpected {
        doing: format!("admit login {:?}", name.as_str()),
        found: "another run kept changing it".into(),
    })
}

fn check_privileges(operator: &Operator, found: &Found) -> Result<()> {
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

/// The login itself and its rights on what is shared, in one message and so in one transaction.
async fn base_sql(
    operator: &Operator,
    name: &LoginName,
    found: &Found,
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
        // On a hardened database PUBLIC may not, and entering a tenant takes it.
        let _ = writeln!(sql, "grant execute on function pg_catalog.set_config(text, text, boolean) to {login};");
    }
    if !found.has_empty_path {
        let _ = writeln!(sql, "alter role {login} in database {database} set search_path = '';");
    }
    let form = match operator.config().isolation() {
        // With rights of its own on tenants' schemas the login can serve path mode, and is told from a tenant by a setting.
        Isolation::Role if !found.exists || look::direct_rights(operator, name).await? == 0 => tables::Form::Everything,
        _ => tables::Form::Setting,
    };
    sql.push_str(&tables::rights_sql(operator, name, found, shared, form).await?);
    Ok(sql)
}

/// Lets the login into every tenant that it cannot enter and that is ready for it.
async fn admit_to_tenants(operator: &Operator, name: &LoginName) -> Result<()> {
    let tenants = look::tenants(operator, name).await?;
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

/// The admitted logins that may use schemas of tenants by rights of their own, as path isolation needs it.
///
/// # Errors
///
/// Kind `NotReady`: there is no registry. Kinds `Unavailable` and `Failed`: the server.
///
/// # Cancel safety
///
/// Writes nothing.
pub async fn with_direct_rights(operator: &Operator) -> Result<Vec<LoginName>> {
    registry::require(operator).await?;
    let mut direct = Vec::new();
    for login in look::admitted_names(operator, look::Of::AnyIsolation).await? {
        // A name that `admit` refuses was admitted by no version of cgk.
        let Ok(name) = login.as_str().parse::<LoginName>() else { continue };
        if look::direct_rights(operator, &name).await? > 0 {
            direct.push(name);
        }
    }
    Ok(direct)
}

/// The logins that the database has admitted, for any isolation.
pub(crate) async fn admitted_names(operator: &Operator) -> Result<Vec<Ident>> {
    look::admitted_names(operator, look::Of::AnyIsolation).await
}

/// The admitted logins that enter tenants under the configured isolation. With path isolation these are the ones that have rights on
/// some tenant's schema already: the others were made for roles, and [`admit`] is what changes that.
async fn serving(operator: &Operator) -> Result<Vec<LoginName>> {
    let mut serving = Vec::new();
    for login in look::admitted_names(operator, look::Of::ThisIsolation).await? {
        // A name that `admit` refuses was admitted by no version of cgk.
        let Ok(name) = login.as_str().parse::<LoginName>() else { continue };
        if operator.config().isolation() == Isolation::Role || look::direct_rights(operator, &name).await? > 0 {
            serving.push(name);
        }
    }
    Ok(serving)
}

/// Lets every admitted login into the tenants that it cannot enter yet under the configured isolation, as into those that were made
/// under the other one while both are accepted. A tenant without a role is passed over
/// ([`lifecycle::isolate`](crate::lifecycle::isolate)).
///
/// # Locks
///
/// An advisory lock against others who admit.
///
/// # Committed when
///
/// Some tenants at a time. Run again, it goes on.
///
/// # Errors
///
/// Kind `Denied`: the operator may not hand a tenant's role on, or act as the owner of a tenant's schema. Kind `NotReady`: there is
/// no registry.
///
/// # Cancel safety
///
/// Dropped, the server may still finish what it was sent.
pub async fn complete(operator: &Operator) -> Result<()> {
    registry::require(operator).await?;
    for name in serving(operator).await? {
        admit_to_tenants(operator, &name).await?;
    }
    Ok(())
}

/// The tenants with a schema and a ledger that cannot be entered under the configured isolation, by one of the admitted logins or, without
/// a role, at all.
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
        let tenants = look::tenants(operator, &name).await?.into_iter();
        let lacking = tenants.filter(|tenant| !tenant.may_enter && fleet.tenants.get(&tenant.slug).is_some_and(whole));
        locked_out.extend(lacking.map(|tenant| tenant.slug));
    }
    Ok(locked_out.into_iter().collect())
}

/// Takes from logins everything that [`admit`] gave them on what is shared: policies, rights, and with the registry's policy
/// the mark that they are admitted. The logins themselves stay; other databases may know them.
pub(crate) async fn dismiss(operator: &Operator, logins: &[Ident]) -> Result<()> {
    if logins.is_empty() {
        return Ok(());
    }
    let mut sql = turn_sql(operator);
    for login in logins {
        sql.push_str(&tables::dismiss_sql(operator, login).await?);
    }
    let doing = || while_doing("take the rights of another database's logins");
    message::run(operator.client(), &sql).await.map_err(doing())?.complete().map(drop).map_err(doing())
}

/// Begins a message: its timeouts, and the turn among those who change logins.
fn turn_sql(operator: &Operator) -> String {
    let session = operator.session();
    format!(
        "select pg_catalog.set_config('lock_timeout', {}, true), pg_catalog.set_config('statement_timeout', {}, true);
select pg_catalog.pg_advisory_xact_lock({});\n",
        literal(&milliseconds(session.lock_timeout)),
        literal(&milliseconds(session.migration_statement_timeout)),
        lock::logins_key(),
    )
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

/// Takes away what a login may do in tenants' schemas by itself, where it may act as the tenant's role instead.
async fn revoke_direct(operator: &Operator, name: &LoginName) -> Result<()> {
    if operator.config().isolation() != Isolation::Role {
        return Ok(());
    }
    let tenants = look::tenants(operator, name).await?;
    let direct: Vec<&TenantRights> = tenants.iter().filter(|tenant| tenant.direct && tenant.may_enter).collect();
    for tenants in direct.chunks(SCHEMAS_PER_MESSAGE_MAX) {
        on_schemas(operator, tenants, |schema| isolation::revoke_sql(schema, name.ident())).await?;
    }
    Ok(())
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

/// Lets a login read and write in a tenant's schema, which the current role owns; the ledger stays closed.
pub(crate) fn enter_by_path_sql(schema: &SchemaName, login: &Ident) -> String {
    isolation::grants_sql(schema, login) + &isolation::protect_ledger_sql(schema, login)
}
