//! Creates a tenant: registry row, schema, role, all migrations and the ledger, in one transaction.

mod former_role;
mod many;
mod provision;
mod replay;
mod warm;
mod within;

pub(super) use within::{NewTenantParts, needs_steps, record_reference};

pub use warm::{WarmCount, Warmed, warm};

pub use many::{CreateManyOptions, CreateManyReport, CreateObserver, CreateOutcome, NewTenant, create_many};

use crate::{
    access::isolation,
    access::login::{self, Admitted},
    config::Isolation,
    db::{Operator, message, run_files::Commits},
    error::{Error, MigrationError, Result, TenantError, while_doing},
    ident::{RoleName, SchemaName},
    identity,
    migrate::{
        MigrationId, Migrations, SchemaPlan, Set, Target, encodable,
        execute::{
            apply,
            grouping::Grouping,
            unit::{ApplyOutcome, Purpose, SchemaAccess, Unit},
        },
        fileset::census::count_schemas,
        ledger,
        plan::{self, fleet::require_shared_schema},
    },
    registry::{self, TenantFacts, role_of},
    slug::TenantSlug,
    tenancy::Db,
    tenant::{OrganizationId, Tenant, TenantStatus},
};
use provision::Provision;
use replay::Replay;

/// How often the creation starts again because another session changed the same tenant.
const TRIES_MAX: u32 = 4;
/// In how many of these attempts a warm schema may be used. This schema can be the cause of a failed attempt.
const WARM_TRIES_MAX: u32 = 2;

/// Options for the creation of a tenant.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct CreateOptions {
    /// The display name. Default: the slug.
    pub name: Option<String>,
    /// What is done if a tenant is in use and its schema does not exist.
    pub lost_schema: LostSchema,
    /// Whether a service has written the registry row. Then the tenant is new although it is registered, and must not
    /// get objects that exist already under its name.
    pub(crate) new_organization: bool,
    /// The organization of a new tenant. Default: a new one.
    pub(crate) organization: Option<OrganizationId>,
    /// Whether a new tenant stays `onboarding`, and its schema gets the mark of a started drop until its rows are
    /// loaded.
    pub(crate) is_marked: bool,
}

/// What is done if a tenant is active or suspended in the registry and its schema does not exist.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LostSchema {
    /// Refuse with [`TenantError::SchemaGone`], because the rows existed, and a dump may contain them.
    #[default]
    Refuse,
    /// Create a new, empty schema. The previous data of the tenant stays lost.
    StartEmpty,
}

impl CreateOptions {
    /// Sets the display name.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Sets what is done if a tenant is in use and its schema does not exist.
    pub fn lost_schema(mut self, lost: LostSchema) -> Self {
        self.lost_schema = lost;
        self
    }
}

/// The result of a creation.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Created {
    /// The tenant.
    pub tenant: Tenant,
    /// The schema.
    pub schema: SchemaName,
    /// What the call created.
    pub creation: Creation,
    /// The migrations that were applied, in this order.
    pub applied: Vec<MigrationId>,
}

/// What a creation did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Creation {
    /// The tenant was created.
    New,
    /// The tenant was registered or incomplete, and is complete now.
    Finished,
    /// The tenant was already complete. Nothing was changed.
    Existed,
}

/// Creates a tenant, or completes an incomplete one. Then it enters the tenant as a service does, to check that it can
/// be queried.
///
/// If a schema is ready for a new tenant ([`warm`](warm())) and is what this call would create, it gets the tenant's
/// name instead.
///
/// # Locks
///
/// The schema's migration lock, and that of a ready schema, until the transaction ends. The public tables get one row,
/// and no lock that blocks other sessions.
///
/// # Committed when
///
/// Everything in one transaction, from the registry row to the last ledger row. If the call is interrupted before the
/// commit, nothing is changed. If several calls use the same slug at once, one creates the tenant and the others find
/// it.
///
/// Files without a transaction are part of that transaction: no other session uses a new schema, so CONCURRENTLY and
/// VACUUM are omitted. If such a file contains statements that no transaction allows (a procedure that commits), the
/// tenant is created in steps, like the file. It is `onboarding` and cannot be entered until the last step is complete.
/// A second call continues from there.
///
/// # Errors
///
/// - Kind `NotReady`: the database is not set up, or the tenant is in use and its schema does not exist
///   ([`LostSchema`]).
/// - Kind `Conflict`: a schema of that name exists and does not belong to cgk, or belongs to another organization than
///   in the registry. Or the role of a new organization exists and owns or may access objects
///   ([`TenantError::RoleInUse`]). Or PUBLIC or a tenant's role may create objects in `public`.
/// - Kind `Denied`: the role may not create schemas or, with role isolation, roles.
/// - Kind `Drift`: the ledger and the files do not match, or the files differ from those of the fleet
///   ([`MigrationError::WrongFiles`]).
/// - Kind `Failed`: a migration was refused. Nothing is changed.
/// - An error of [`Db::with_tenant`]: the tenant is created, but `db`'s login cannot enter it.
///
/// # Cancel safety
///
/// If the future is dropped, the server may still finish and commit. Call it again to find out.
pub async fn create(
    operator: &Operator,
    db: &Db,
    migrations: &Migrations,
    slug: &TenantSlug,
    options: &CreateOptions,
) -> Result<Created> {
    let created = create_unentered(operator, migrations, slug, options).await?;
    if created.tenant.status == TenantStatus::Active {
        enter(db, slug).await?;
    }
    Ok(created)
}

/// Does the same without entering the tenant.
pub(super) async fn create_unentered(
    operator: &Operator,
    migrations: &Migrations,
    slug: &TenantSlug,
    options: &CreateOptions,
) -> Result<Created> {
    // The queries are sent without a wait between them. If several fail, the first error is returned.
    let (ready, encodable, facts) = tokio::join!(
        require_ready(operator, migrations),
        encodable::check_all(operator, migrations),
        registry::facts_of(operator, slug)
    );
    ready.and(encodable)?;
    let mut first = Some(facts?);
    let replay = Replay::of(operator, migrations).await?;
    for number in 0..TRIES_MAX {
        let mut facts = match first.take() {
            Some(facts) => facts,
            None => {
                identity::isolation::refuse_changed(operator).await?;
                registry::facts_of(operator, slug).await?
            }
        };
        facts.has_warm &= number < WARM_TRIES_MAX;
        let tried = try_once(operator, migrations, slug, options, &facts, None, &replay).await;
        let tried = match tried {
            Err(error) if replay.helps(operator, migrations, &error).await => continue,
            tried => tried?,
        };
        if let Some(made) = tried {
            replay.record(operator, migrations).await;
            return finished(operator, slug, made).await;
        }
    }
    Err(Error::Migration(MigrationError::Contended { schema: SchemaName::of_tenant(slug), tries: TRIES_MAX }))
}

/// Refuses if the registry or a migration of the shared schema is missing, because a new tenant needs them.
async fn require_ready(operator: &Operator, migrations: &Migrations) -> Result<()> {
    let (registry, path, shared_schema) = tokio::join!(
        registry::require(operator),
        operator.refuse_writable_path(),
        require_shared_schema(operator, migrations)
    );
    registry.and(path).and(shared_schema)
}

struct Made {
    creation: Creation,
    applied: Vec<MigrationId>,
}

/// The facts that are the same for every tenant without any objects. They are read once if many tenants are created.
struct Fresh<'a> {
    plan: SchemaPlan<'a>,
    logins: Vec<Admitted>,
}

/// Creates the missing parts. Returns `None` if another session changed the tenant meanwhile.
async fn try_once(
    operator: &Operator,
    migrations: &Migrations,
    slug: &TenantSlug,
    options: &CreateOptions,
    facts: &TenantFacts,
    fresh: Option<&Fresh<'_>>,
    replay: &Replay,
) -> Result<Option<Made>> {
    let schema = SchemaName::of_tenant(slug);
    let role = role_of(operator, slug);
    let whole = is_whole(facts, role.as_ref());
    let existed = || Ok(Some(Made { creation: Creation::Existed, applied: Vec::new() }));
    // If many tenants are created, complete ones are not visited.
    let is_visited = !whole || fresh.is_none();
    let known = fresh.filter(|_| facts.owner.is_none() && !facts.has_role).map(|fresh| &fresh.logins);
    let admitted = async {
        match known {
            None if is_visited => login::admitted(operator, slug).await,
            _ => Ok(Vec::new()),
        }
    };
    let (suitable, admitted) = tokio::join!(refuse_unsuitable(operator, slug, role.as_ref(), facts, options), admitted);
    suitable?;
    if !is_visited {
        return existed();
    }
    let admitted = admitted?;
    let logins = known.unwrap_or(&admitted);
    let needs_logins = logins.iter().any(|login| !login.may_enter);
    let planned = plan_of(operator, migrations, &schema, facts, fresh).await?;
    if whole && !needs_logins {
        return existed();
    }
    check_privileges(operator, facts, role.is_some() && !facts.has_role)?;
    // The query over many tenants does not read what the operator may do with each role.
    let looked = match &role {
        Some(_) if facts.has_role && fresh.is_some() => Some(registry::facts_of(operator, slug).await?),
        _ => None,
    };
    let facts = looked.as_ref().unwrap_or(facts);
    if let Some(role) = &role {
        check_role(operator, facts, role, needs_logins)?;
    }
    let role = role.as_ref();
    MissingParts { slug, schema: &schema, role, facts, logins, planned: &planned }
        .create(operator, migrations, options, replay)
        .await
}

/// What a tenant has before its missing parts are created.
struct MissingParts<'a> {
    slug: &'a TenantSlug,
    schema: &'a SchemaName,
    role: Option<&'a RoleName>,
    facts: &'a TenantFacts,
    /// The logins that may enter the tenant afterwards.
    logins: &'a [Admitted],
    planned: &'a SchemaPlan<'a>,
}

impl MissingParts<'_> {
    /// Creates the missing parts in one message, or in steps. Returns `None` if another session changed the tenant
    /// meanwhile.
    async fn create(
        self,
        operator: &Operator,
        migrations: &Migrations,
        options: &CreateOptions,
        replay: &Replay,
    ) -> Result<Option<Made>> {
        let Self { slug, schema, role, facts, logins, planned } = self;
        let (is_new, onboarding) = (facts.owner.is_none(), is_onboarding(facts));
        let (grouping, in_steps) = grouping_of(planned, is_new, onboarding, replay);
        let in_steps = in_steps || options.is_marked;
        let warm = match facts.has_warm && is_new && !facts.has_role && !in_steps {
            true => warm::ready(operator, migrations, logins).await?,
            false => None,
        };
        let warm = warm.as_ref();
        let (provision, ledger) =
            Provision { operator, slug, schema, options, facts, role, logins, warm, in_steps }.sql();
        let left = if warm.is_some() { planned.executed() } else { planned.clone() };
        let unit = Unit {
            plan: &left,
            role,
            provision,
            ledger,
            owner: provision::other_owner(operator, facts).cloned(),
            commits: Commits::WithMessage,
            grouping,
            sessions: if is_new || onboarding { SchemaAccess::None } else { SchemaAccess::Any },
            purpose: Purpose::Use,
            files: Some((&replay.files, Set::Tenant)),
        };
        let activates = in_steps && !options.is_marked;
        Ok(match apply_and_activate(operator, migrations, slug, &unit, activates).await? {
            ApplyOutcome::Stale | ApplyOutcome::Locked => None,
            ApplyOutcome::Applied => Some(Made {
                creation: if facts.tenant.is_none() && is_new { Creation::New } else { Creation::Finished },
                applied: planned.pending.iter().map(|file| file.id().clone()).collect(),
            }),
        })
    }
}

/// Returns how the files are grouped, and whether statements that no transaction allows run after the transaction that
/// creates the tenant. Until they have run, the tenant must not be entered.
fn grouping_of(planned: &SchemaPlan<'_>, is_new: bool, onboarding: bool, replay: &Replay) -> (Grouping, bool) {
    let in_one = if is_new { !apply::is_born_in_steps(planned) } else { !onboarding };
    let grouping = if in_one { replay.grouping() } else { Grouping::FileByFile };
    let in_steps = if is_new { grouping == Grouping::FileByFile } else { onboarding || planned.needs_quiet() };
    (grouping, in_steps)
}

/// Whether the tenant is registered and still being created.
fn is_onboarding(facts: &TenantFacts) -> bool {
    facts.tenant.as_ref().is_some_and(|tenant| tenant.status == TenantStatus::Onboarding)
}

/// Whether the tenant is complete, except for migrations and the rights of logins. `migrate` applies the pending
/// migrations of such a tenant.
fn is_whole(facts: &TenantFacts, role: Option<&RoleName>) -> bool {
    let needs_role = role.is_some() && !(facts.has_role && facts.role_admitted);
    facts.tenant.is_some() && !is_onboarding(facts) && facts.has_ledger && !needs_role && !facts.is_unbound()
}

/// Refuses a schema, a role or a registry row that the tenant must not get.
async fn refuse_unsuitable(
    operator: &Operator,
    slug: &TenantSlug,
    role: Option<&RoleName>,
    facts: &TenantFacts,
    options: &CreateOptions,
) -> Result<()> {
    let schema = SchemaName::of_tenant(slug);
    if facts.owner.is_some() && !facts.has_ledger {
        // Another object may have the ledger's name.
        ledger::refuse_unfit(operator, &schema).await?;
    }
    refuse_foreign_schema(&schema, facts)?;
    facts.refuse_other_organization()?;
    facts.refuse_being_dropped()?;
    if facts.tenant.is_none() {
        registry::refuse_alias(operator, slug, None).await?;
    }
    let onboarding = is_onboarding(facts);
    refuse_to_replace(&schema, facts, options)?;
    if options.new_organization && onboarding && facts.is_unbound() {
        let why = "it belongs to no organization, and the tenant is new".into();
        return Err(Error::Tenant(TenantError::SchemaNotOurs { schema, why }));
    }
    // Schema and role are committed together, so a role without the schema belongs to an earlier tenant.
    let role_is_older = facts.has_role && (facts.tenant.is_none() || (onboarding && facts.owner.is_none()));
    match role.filter(|_| role_is_older) {
        Some(role) => former_role::refuse_role_in_use(operator, slug, role).await,
        None => Ok(()),
    }
}

/// Returns the files that the tenant lacks.
async fn plan_of<'a>(
    operator: &Operator,
    migrations: &'a Migrations,
    schema: &SchemaName,
    facts: &TenantFacts,
    fresh: Option<&Fresh<'a>>,
) -> Result<SchemaPlan<'a>> {
    if let Some(fresh) = fresh.filter(|_| !facts.has_ledger) {
        return Ok(fresh.plan.for_schema(schema.clone()));
    }
    let rows = if facts.has_ledger { ledger::read(operator, schema).await?.rows } else { Vec::new() };
    let planned = plan::plan(migrations.set(Set::Tenant), schema, rows, Target::Head);
    Ok(planned.map_err(MigrationError::Diverged)?)
}

/// Applies the missing migrations. With `activates`, a tenant that is created in steps is activated after the last one.
async fn apply_and_activate(
    operator: &Operator,
    migrations: &Migrations,
    slug: &TenantSlug,
    unit: &Unit<'_>,
    activates: bool,
) -> Result<ApplyOutcome> {
    let outcome = match apply::apply(operator, unit).await {
        Ok(outcome) => outcome,
        Err(mut error) => {
            count_schemas(operator, migrations, Set::Tenant, &mut error).await;
            return Err(error);
        }
    };
    if activates && outcome == ApplyOutcome::Applied {
        let activated = message::run(operator.client(), &registry::activate_sql(slug)).await;
        activated.and_then(message::Answer::complete).map_err(while_doing(format!("activate tenant {slug}")))?;
    }
    Ok(outcome)
}

/// Refuses an existing schema, unless it has a registry row and a ledger of cgk.
fn refuse_foreign_schema(schema: &SchemaName, facts: &TenantFacts) -> Result<()> {
    if facts.owner.is_none() {
        return Ok(());
    }
    let why = match (facts.tenant.is_some(), facts.has_ledger) {
        (true, true) => return Ok(()),
        (false, true) => "it has a ledger, and the registry does not know the tenant",
        (_, false) => "it has no ledger",
    };
    Err(Error::Tenant(TenantError::SchemaNotOurs { schema: schema.clone(), why: why.into() }))
}

/// Refuses a tenant in use whose schema does not exist. An empty schema would hide the loss.
fn refuse_to_replace(schema: &SchemaName, facts: &TenantFacts, options: &CreateOptions) -> Result<()> {
    match &facts.tenant {
        Some(tenant)
            if facts.owner.is_none()
                && tenant.status != TenantStatus::Onboarding
                && options.lost_schema == LostSchema::Refuse =>
        {
            let (tenant, status) = (tenant.slug.clone(), tenant.status.clone());
            Err(Error::Tenant(TenantError::SchemaGone { tenant, status, schema: schema.clone() }))
        }
        _ => Ok(()),
    }
}

/// Checks that tenants can be created: the operator's role has the rights, as they were read when it connected, and
/// neither PUBLIC nor a tenant's role may create objects in `public`. Only reads.
///
/// # Errors
///
/// - Kind `Denied`: the role may not create schemas in the database or, with role isolation, roles.
/// - Kind `Conflict`: PUBLIC or a tenant's role may create objects in `public`.
pub async fn check_rights(operator: &Operator) -> Result<()> {
    operator.facts().require_schema_creation()?;
    require_role_creation(operator, operator.config().isolation() == Isolation::Role)?;
    operator.refuse_writable_path().await
}

fn check_privileges(operator: &Operator, facts: &TenantFacts, makes_role: bool) -> Result<()> {
    if facts.owner.is_none() {
        operator.facts().require_schema_creation()?;
    }
    require_role_creation(operator, makes_role)
}

fn require_role_creation(operator: &Operator, makes_role: bool) -> Result<()> {
    if makes_role { operator.facts().require_role_creation() } else { Ok(()) }
}

/// Refuses an existing role that must be granted to the operator itself or to a login, if the operator may not grant
/// it.
fn check_role(operator: &Operator, facts: &TenantFacts, role: &RoleName, needs_logins: bool) -> Result<()> {
    if facts.has_role && !facts.role_grantable && (!facts.role_usable || needs_logins) {
        return Err(isolation::lacks_admin(operator.facts(), role));
    }
    Ok(())
}

async fn finished(operator: &Operator, slug: &TenantSlug, made: Made) -> Result<Created> {
    let facts = registry::facts_of(operator, slug).await?;
    let tenant = facts.tenant.ok_or_else(|| Error::Tenant(TenantError::NotFound { tenant: slug.clone() }))?;
    Ok(Created { tenant, schema: SchemaName::of_tenant(slug), creation: made.creation, applied: made.applied })
}

/// Enters the tenant as a service does. `with_tenant` itself checks schema and role. The query only tests that
/// statements run.
async fn enter(db: &Db, slug: &TenantSlug) -> Result<()> {
    db.with_tenant(slug, async |tx| tx.query_typed("select 1", &[]).await.map(drop)).await
}
