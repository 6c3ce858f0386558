//! Plans a run: the work for the shared schema and each tenant, as a value.

use super::{
    SchemaPlan, Target, plan,
    started::StartedMigration,
    state::{self, SchemaState, TenantFilter, TenantState},
};
use crate::{
    db::Operator,
    error::{Error, MigrationError, MissingPart, Result, SetupError},
    fleet::selection::{Scope, Selection},
    ident::{Ident, SchemaName},
    migrate::{
        encodable,
        execute::{bind::Unbound, unit::LedgerPresence},
        fileset::FleetFiles,
        ledger::{self, Applied},
        migrations::Migrations,
    },
    migration::Set,
    registry,
    slug::TenantSlug,
    tenant::{StrangeRow, TenantStatus},
};
use std::collections::HashMap;

/// The plan of a run. It is computed from the current state and never changed. It is either printed or executed.
#[derive(Debug)]
#[non_exhaustive]
pub struct FleetPlan<'a> {
    /// The work for the shared schema; `None` if it is at head or not part of the run.
    pub public: Option<SchemaPlan<'a>>,
    /// The migration of the shared schema that is partially applied. It is the first one of its work.
    pub public_started: Option<StartedMigration>,
    /// The work for the tenants, sorted by slug. Tenants at head are not listed.
    pub tenants: Vec<PlannedTenant<'a>>,
    /// The number of tenants that are at head and will not be visited.
    pub at_head: usize,
    /// The version that the tenants are migrated to.
    pub target: Target,
    /// Which schemas the plan covers.
    pub selection: Selection,
    /// The rows of the registry that are not tenants.
    pub strange: Vec<StrangeRow>,
    pub(crate) public_ledger: LedgerPresence,
    /// Schemas of an earlier version that a run binds to their organizations.
    pub(crate) unbound: Vec<Unbound>,
    pub(crate) files: FleetFiles,
}

/// The work for one tenant.
#[derive(Debug)]
#[non_exhaustive]
pub struct PlannedTenant<'a> {
    /// The tenant.
    pub slug: TenantSlug,
    /// The work.
    pub step: Step<'a>,
    /// The migration that is partially applied. It is the first one of its work.
    pub started: Option<StartedMigration>,
    pub(crate) owner: Option<Ident>,
    /// Whether its creation was interrupted. It cannot be entered before `tenant:create` completes it.
    pub(crate) is_onboarding: bool,
}

/// The work for one tenant.
#[derive(Debug)]
pub enum Step<'a> {
    /// Apply these migrations.
    Apply(SchemaPlan<'a>),
    /// Skip it, for a reason that is not an error. It is still being set up, or it is incomplete and has a status that
    /// this version does not know.
    Skip {
        /// The reason.
        reason: String,
    },
    /// It cannot be migrated until the cause is fixed.
    Refuse(Error),
}

impl FleetPlan<'_> {
    /// Returns whether there is nothing to apply. Skipped and refused tenants do not count.
    pub fn is_empty(&self) -> bool {
        self.public.is_none() && !self.tenants.iter().any(|tenant| matches!(tenant.step, Step::Apply(_)))
    }
}

/// Plans a run. Only reads: it works for a role without write privileges and on a standby.
///
/// The state of the fleet is one query. The client's memory use depends on the number of tenants with pending work, not
/// on the size of the fleet.
///
/// # Errors
///
/// - Kind `Drift`: ledger and files of the shared schema differ, or the files differ from the fleet's
///   ([`MigrationError::WrongFiles`]) or from what a schema has started ([`MigrationError::PartiallyApplied`]). If only
///   a single tenant differs, it is a [`Step::Refuse`].
/// - Kind `NotFound`: a tenant of [`Scope::Only`] or an excluded tenant is not in the registry.
/// - Kind `Invalid`: the target version has no file, or a file contains a character that the database's encoding lacks.
/// - Kind `NotReady`: tenants are selected while the shared schema is not at head, or there is no registry.
///
/// # Cancel safety
///
/// Writes nothing.
pub async fn plan_fleet<'a>(
    operator: &Operator,
    migrations: &'a Migrations,
    selection: impl Into<Selection>,
    target: Target,
) -> Result<FleetPlan<'a>> {
    let selection = selection.into();
    encodable::check_all(operator, migrations).await?;
    if let Target::Version(version) = target
        && !migrations.set(Set::Tenant).files().iter().any(|file| file.id().version == version)
    {
        return Err(Error::Migration(MigrationError::NoSuchVersion { set: Set::Tenant, version }));
    }
    let source = migrations.set(Set::Public);
    let schema = SchemaName::public();
    let (read, files) = tokio::join!(ledger::read(operator, &schema), FleetFiles::load(operator));
    let (read, files) = (read?, files?);
    let public_ledger = presence(read.ledger_exists);
    let public_started = match read.has_steps {
        true => StartedMigration::read(operator, source, &schema).await?,
        false => None,
    };
    let public = plan(source, &schema, read.rows, Target::Head).map_err(MigrationError::Diverged)?;
    // The tenants' files are checked even if only the shared schema is selected: a folder is one release.
    files.check_all(operator, migrations).await?;
    let pending = !public.pending.is_empty() || public_ledger == LedgerPresence::Absent;
    let tenants_alone = matches!(selection.scope, Scope::Tenants | Scope::Only(_));
    if tenants_alone && pending {
        return Err(shared_schema_is_behind(operator, public.pending.len()));
    }
    let public_only = selection.scope == Scope::Public;
    let mut planned = FleetPlan {
        public: pending.then_some(public),
        public_started,
        tenants: vec![],
        at_head: 0,
        target,
        selection,
        strange: vec![],
        public_ledger,
        unbound: vec![],
        files,
    };
    // Before the first migration of the shared schema, there is no registry and so no tenant.
    if !public_only && (!pending || registry_exists(operator).await?) {
        plan_tenants(operator, migrations, &mut planned).await?;
    }
    Ok(planned)
}

/// Refuses if the shared schema lacks migrations, because a new tenant needs them. If a ledger differs from the files,
/// the check of the files reports it.
pub(crate) async fn require_shared_schema(operator: &Operator, migrations: &Migrations) -> Result<()> {
    let schema = SchemaName::public();
    let rows = ledger::read(operator, &schema).await?.rows;
    match plan(migrations.set(Set::Public), &schema, rows, Target::Head) {
        Ok(public) if !public.pending.is_empty() => Err(shared_schema_is_behind(operator, public.pending.len())),
        _ => Ok(()),
    }
}

fn shared_schema_is_behind(operator: &Operator, pending: usize) -> Error {
    let missing = format!("{} pending in the shared schema", crate::migration::count(pending, "migration"));
    Error::Setup(SetupError::NotSetUp { database: operator.facts().database.clone(), missing })
}

async fn plan_tenants<'a>(operator: &Operator, migrations: &'a Migrations, planned: &mut FleetPlan<'a>) -> Result<()> {
    let selection = planned.selection.clone();
    let whom = match &selection.scope {
        Scope::Only(slugs) => TenantFilter::These(slugs),
        _ => TenantFilter::All,
    };
    let mut planner = TenantPlanner { migrations, target: planned.target, by_applied: HashMap::new() };
    let own_role = operator.facts().role.as_str();
    let mut strange = Vec::new();
    let mut unseen = selection.exclude.clone();
    state::each_tenant(operator, migrations, whom, &mut strange, |tenant| {
        unseen.remove(&tenant.tenant.slug);
        if !selection.takes(&tenant.tenant.slug) {
            return;
        }
        planned.unbound.extend(Unbound::of(&tenant.facts, own_role));
        match planner.step(&tenant) {
            Some(step) => {
                let owner = tenant.facts.owner.filter(|owner| owner.as_str() != own_role);
                let is_onboarding = tenant.tenant.status == TenantStatus::Onboarding;
                planned.tenants.push(PlannedTenant {
                    slug: tenant.tenant.slug,
                    step,
                    started: tenant.started,
                    owner,
                    is_onboarding,
                });
            }
            None => planned.at_head += 1,
        }
    })
    .await?;
    planned.strange = strange;
    for slug in unseen {
        if registry::facts_of(operator, &slug).await?.tenant.is_none() {
            return Err(registry::not_found(operator, &slug).await);
        }
    }
    planned.tenants.sort_by(|one, other| one.slug.cmp(&other.slug));
    Ok(())
}

/// Plans tenants. Tenants with the same state share one plan.
struct TenantPlanner<'a> {
    migrations: &'a Migrations,
    target: Target,
    /// By the number of applied migrations.
    by_applied: HashMap<usize, SchemaPlan<'a>>,
}

impl<'a> TenantPlanner<'a> {
    /// Returns the work for a tenant; `None` if there is none.
    fn step(&mut self, tenant: &TenantState) -> Option<Step<'a>> {
        let slug = &tenant.tenant.slug;
        let schema = SchemaName::of_tenant(slug);
        let status = &tenant.tenant.status;
        let not_ready = |missing: MissingPart| {
            if status.needs_schema() {
                Step::Refuse(missing.error(slug.clone(), status.clone()))
            } else {
                Step::Skip { reason: format!("{status}: {missing}") }
            }
        };
        match &tenant.state {
            SchemaState::AtHead => None,
            SchemaState::Behind { pending } => {
                let planned = match &tenant.rows {
                    Some(rows) => {
                        let source = self.migrations.set(Set::Tenant);
                        plan(source, &schema, rows.clone(), self.target).expect("the rows agreed with the set before")
                    }
                    None => self.behind(*pending, schema),
                };
                // Nothing is pending up to the target, so for this run the tenant is at head.
                (!planned.pending.is_empty()).then_some(Step::Apply(planned))
            }
            SchemaState::Diverged(divergence) => {
                Some(Step::Refuse(Error::Migration(MigrationError::Diverged(divergence.clone()))))
            }
            SchemaState::OtherOrganization { .. } => tenant.facts.refuse_other_organization().err().map(Step::Refuse),
            SchemaState::BeingDropped => Some(Step::Skip { reason: "it is being dropped".into() }),
            SchemaState::Missing => Some(not_ready(MissingPart::Schema { schema })),
            SchemaState::HalfProvisioned { missing } => Some(not_ready(missing.clone())),
        }
    }

    fn behind(&mut self, pending: usize, schema: SchemaName) -> SchemaPlan<'a> {
        let source = self.migrations.set(Set::Tenant);
        let applied = source.files().len() - pending;
        let planned = self.by_applied.entry(applied).or_insert_with(|| {
            let rows: Vec<Applied> = source.files()[..applied].iter().map(Applied::of).collect();
            plan(source, &schema, rows, self.target).expect("a beginning of the set agrees with the set")
        });
        planned.for_schema(schema)
    }
}

pub(crate) fn presence(exists: bool) -> LedgerPresence {
    if exists { LedgerPresence::Present } else { LedgerPresence::Absent }
}

async fn registry_exists(operator: &Operator) -> Result<bool> {
    match registry::require(operator).await {
        Ok(()) => Ok(true),
        Err(Error::Setup(SetupError::NotSetUp { .. })) => Ok(false),
        Err(error) => Err(error),
    }
}
