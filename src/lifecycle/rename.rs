//! Changes the slug or the display name of a tenant, or both.

use crate::{
    access::isolation,
    binding,
    catalogue::names,
    db::{
        Operator,
        message_head::{Hold, MessageHead},
    },
    error::{Error, MigrationError, MissingPart, Result, TenantError, while_doing},
    ident::{RoleName, SchemaName},
    lock,
    migrate::execute::schema_lock,
    registry::{self, SHORT_LOCK_WAIT, TenantFacts},
    slug::TenantSlug,
    tenant::{Tenant, TenantStatus},
};
use std::time::{Duration, Instant};
use tokio_postgres::error::SqlState;

/// The pause between two attempts to take locks that another session holds.
const PAUSE: Duration = Duration::from_millis(100);

/// Options for a rename.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct RenameOptions {
    /// The new slug. It also changes the names of schema and role. Default: no change.
    pub slug: Option<TenantSlug>,
    /// The new display name. Default: no change.
    pub name: Option<String>,
    /// How long services still find the tenant by its old slug. No other tenant can get it until then. Without a new slug
    /// it has no effect. Default: not at all.
    pub keep_alias: Option<Duration>,
    /// How long to wait for transactions in the tenant and for its migrations. Default: the operator's
    /// `session.migration_wait`.
    pub wait: Option<Duration>,
}

impl RenameOptions {
    /// Sets the new slug.
    pub fn slug(mut self, slug: TenantSlug) -> Self {
        self.slug = Some(slug);
        self
    }

    /// Sets the new display name.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Sets how long services still find the tenant by its old slug.
    pub fn keep_alias(mut self, time: Duration) -> Self {
        self.keep_alias = Some(time);
        self
    }

    /// Sets how long to wait for other sessions.
    pub fn wait(mut self, wait: Duration) -> Self {
        self.wait = Some(wait);
        self
    }
}

/// The result of a rename.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Renamed {
    /// The tenant before the rename.
    pub before: Tenant,
    /// The tenant after the rename.
    pub tenant: Tenant,
}

/// Changes the slug or the display name of a tenant, or both. With the slug, schema and role get new names. Rows,
/// rights, ledger and the organization's id do not change. The same logins can enter the tenant, with the new slug.
///
/// Transactions that are in the tenant finish first. After the commit, the old slug is unknown, and another tenant can
/// use it, unless [`RenameOptions::keep_alias`] is set: then services find the tenant by both slugs for that time.
/// `Db::tenant`, `Db::with_tenant`, `Platform::find_tenant` and the resolver look for the old slug only if no tenant has it.
/// In a handle that was connected before the rename, the first [`Db::with_tenant`](crate::Db::with_tenant) with the old slug
/// fails with [`TenantError::Renamed`], because its body has already started, unless
/// [`TxOptions::wait_for_entry`](crate::TxOptions::wait_for_entry) is set; the next ones enter the tenant. Operators use the new slug, and so do the functions `cgk_enter` and `cgk_check` of the database.
///
/// # Locks
///
/// For a new slug, the schema's migration lock, the locks of both slugs ([`lock::tenant_key`](crate::lock::tenant_key))
/// and the tenant's row, until one short transaction ends. They are requested repeatedly, each time for at most 200 ms.
/// A session that enters meanwhile waits at most this long.
///
/// # Committed when
///
/// Registry, schema, role and alias in one transaction. For the first alias of a database, the table `public.cgk_aliases`
/// and a trigger of the registry before it.
///
/// # Errors
///
/// - Kind `NotFound`: there is no such tenant. After an interruption, it may already have the new slug.
/// - Kind `Conflict` ([`TenantError::RenameBlocked`]): the new slug, its schema or its role exists, or an object
///   contains the name of the old schema as text. Such an object can be a function or a default value of its arguments,
///   a default value of a column or domain, a constraint, a view, a rule, an index, a policy, the arguments or the
///   condition of a trigger, or a setting of a role or of the database.
/// - Kind `Conflict` ([`TenantError::FormerSlug`]): another tenant keeps the new slug as its former one.
/// - Kind `Conflict`: the schema belongs to another organization, or the tenant is being dropped.
/// - Kind `NotReady`: the tenant is still being created, or its schema does not exist.
/// - Kind `Locked`: transactions are in the tenant ([`TenantError::InUse`]), or a migration of it takes longer than the
///   wait. Nothing is changed.
/// - Kind `Denied`: the operator may not rename the role.
/// - Kind `Unavailable` ([`TenantError::Changed`]): another session changed the tenant meanwhile.
///
/// # Cancel safety
///
/// If the future is dropped, the server may still commit.
pub async fn rename(operator: &Operator, slug: &TenantSlug, options: &RenameOptions) -> Result<Renamed> {
    operator.facts().require_writable()?;
    let facts = registry::facts_of(operator, slug).await?;
    let Some(before) = facts.tenant.clone() else {
        registry::require(operator).await?;
        return Err(registry::not_found(operator, slug).await);
    };
    facts.refuse_other_organization()?;
    facts.refuse_being_dropped()?;
    let to = options.slug.as_ref().filter(|to| *to != slug);
    let name = options.name.as_deref().filter(|name| *name != before.name);
    operator.reset_session().await.map_err(while_doing(format!("rename tenant {slug}")))?;
    let wait = options.wait.unwrap_or(operator.session().migration_wait);
    let mut run = Rename { operator, facts: &facts, before: &before, name, wait, keep_alias: None, has_aliases: false };
    if to.is_some() {
        if options.keep_alias.is_some() {
            registry::create_aliases(operator).await?;
        }
        run.keep_alias = options.keep_alias;
        run.has_aliases = registry::aliases_exist(operator).await?;
    }
    match to {
        Some(to) => {
            run.check(to).await?;
            match run.send(&run.slug_sql(to)).await {
                // Another session may have used the name meanwhile.
                Err(Error::Tenant(TenantError::Changed { tenant })) => {
                    run.check(to).await?;
                    return Err(Error::Tenant(TenantError::Changed { tenant }));
                }
                sent => sent?,
            }
        }
        None if name.is_some() => run.send(&(run.head().sql() + &run.row_sql(slug))).await?,
        None => {}
    }
    let now = registry::facts_of(operator, to.unwrap_or(slug)).await?;
    match now.tenant {
        Some(tenant) if tenant.id == before.id => Ok(Renamed { before, tenant }),
        _ => Err(Error::Tenant(TenantError::Changed { tenant: slug.clone() })),
    }
}

struct Rename<'o> {
    operator: &'o Operator,
    facts: &'o TenantFacts,
    before: &'o Tenant,
    name: Option<&'o str>,
    wait: Duration,
    keep_alias: Option<Duration>,
    /// Whether the table of the aliases exists.
    has_aliases: bool,
}

impl Rename<'_> {
    fn doing(&self) -> impl FnOnce(tokio_postgres::Error) -> Error + use<> {
        while_doing(format!("rename tenant {}", self.before.slug))
    }

    /// Refuses, before anything is changed, a tenant that cannot be renamed.
    async fn check(&self, to: &TenantSlug) -> Result<()> {
        let slug = &self.before.slug;
        let schema = SchemaName::of_tenant(slug);
        let (tenant, status) = (slug.clone(), self.before.status.clone());
        if status == TenantStatus::Onboarding {
            let missing = MissingPart::Creation;
            return Err(Error::Tenant(TenantError::NotReady { tenant, status, missing }));
        }
        if self.facts.owner.is_none() {
            return Err(Error::Tenant(TenantError::SchemaGone { tenant, status, schema }));
        }
        let own = self.operator.facts();
        if self.facts.has_role && !own.superuser && !self.facts.role_grantable {
            return Err(isolation::lacks_admin(own, &RoleName::of_tenant(slug, &own.database_tag())));
        }
        registry::refuse_alias(self.operator, to, Some(self.before.id)).await?;
        let mut by = Vec::new();
        let there = registry::facts_of(self.operator, to).await?;
        if let Some(other) = &there.tenant {
            by.push(format!("{to} is the slug of organization {}", other.id));
        }
        if there.owner.is_some() {
            by.push(format!("schema {} exists", SchemaName::of_tenant(to).as_str()));
        }
        if there.has_role {
            by.push(format!("role {} exists", RoleName::of_tenant(to, &own.database_tag()).as_str()));
        }
        by.extend(names::of_schema(self.operator, &schema).await?);
        if by.is_empty() { Ok(()) } else { Err(Error::Tenant(TenantError::RenameBlocked { tenant, by })) }
    }

    fn head(&self) -> MessageHead {
        MessageHead::of(self.operator)
            .lock_timeout(SHORT_LOCK_WAIT)
            .statement_timeout(Duration::ZERO)
            .search_path("")
            .lock_schema(&SchemaName::of_tenant(&self.before.slug), Hold::Exclusive)
    }

    /// Returns the statements that change the registry row.
    fn row_sql(&self, to: &TenantSlug) -> String {
        let Tenant { id, slug, .. } = self.before;
        let name = self.name.unwrap_or(&self.before.name);
        registry::demand_sql(*id, slug) + &registry::rename_sql(*id, to, name)
    }

    /// Returns the statements that take the locks, and change the schema, the role and the row.
    fn slug_sql(&self, to: &TenantSlug) -> String {
        let (own, slug) = (self.operator.facts(), &self.before.slug);
        let (schema, new_schema) = (SchemaName::of_tenant(slug), SchemaName::of_tenant(to));
        let mut keys = [lock::tenant_key(slug), lock::tenant_key(to)];
        keys.sort_unstable();
        let head = self.head().lock(lock::migration_key(&new_schema));
        let mut sql = keys.into_iter().fold(head, MessageHead::lock).sql();
        let owner = self.facts.owner.as_ref().filter(|owner| !own.superuser && owner.as_str() != own.role);
        if let Some(owner) = owner {
            sql.push_str(&format!("set local role {};\n", owner.quoted()));
        }
        sql.push_str(&format!("alter schema {} rename to {};\n", schema.quoted(), new_schema.quoted()));
        if self.facts.is_unbound() {
            sql.push_str(&binding::comment_sql(&new_schema, self.before.id, self.facts.schema_comment.as_deref()));
        }
        sql.push_str("reset role;\n");
        if self.facts.has_role {
            let tag = own.database_tag();
            let (from, to) = (RoleName::of_tenant(slug, &tag), RoleName::of_tenant(to, &tag));
            sql.push_str(&format!("alter role {} rename to {};\n", from.quoted(), to.quoted()));
        }
        sql.push_str(&self.row_sql(to));
        if self.has_aliases {
            sql.push_str(&registry::forget_aliases_sql(self.before.id, to));
        }
        if let Some(time) = self.keep_alias {
            sql.push_str(&registry::keep_alias_sql(self.before.id, slug, time));
        }
        sql
    }

    /// Sends the statements again until they get their locks, or the wait ends.
    async fn send(&self, sql: &str) -> Result<()> {
        let slug = &self.before.slug;
        let schema = SchemaName::of_tenant(slug);
        let what = || format!("rename tenant {slug}");
        let changed = || Error::Tenant(TenantError::Changed { tenant: slug.clone() });
        let began = Instant::now();
        loop {
            let refused = match schema_lock::run(self.operator, &schema, sql, SHORT_LOCK_WAIT, what).await {
                Ok(answer) => match answer.error {
                    None => return Ok(()),
                    Some(error) if error.code() == Some(&SqlState::LOCK_NOT_AVAILABLE) => None,
                    Some(error) => Some(error),
                },
                Err(Error::Migration(MigrationError::Locked { .. })) => None,
                Err(error) => return Err(error),
            };
            match refused {
                None if began.elapsed() < self.wait => tokio::time::sleep(PAUSE).await,
                None => {
                    let inside = registry::in_use(self.operator, slug, self.wait).await?;
                    let locked = Error::Migration(MigrationError::Locked { schema, waited: self.wait });
                    return Err(inside.unwrap_or(locked));
                }
                Some(error) => {
                    return Err(match error.code() {
                        // Another session has used one of the names, or has changed the tenant.
                        Some(
                            &(SqlState::DIVISION_BY_ZERO
                            | SqlState::DUPLICATE_SCHEMA
                            | SqlState::DUPLICATE_OBJECT
                            | SqlState::UNIQUE_VIOLATION
                            | SqlState::INVALID_SCHEMA_NAME
                            | SqlState::UNDEFINED_OBJECT),
                        ) => changed(),
                        _ => self.doing()(error),
                    });
                }
            }
        }
    }
}
