//! The shared schema first, then every tenant: planned as a value, carried out tenant by tenant, reported one by one.

use super::{
    apply::{self, Landing, LedgerPresence, Unit},
    ledger::{self, Applied},
    observe::Observer,
    plan::{Plan, Target, plan},
    source::Migrations,
    state::{self, SchemaState, TenantState, Whom, role_of},
};
use crate::{
    db::Operator,
    error::{Error, Result},
    ident::{Ident, RoleName, SchemaName},
    migration::{MigrationId, Set},
    slug::TenantSlug,
    tenant::TenantStatus,
};
use std::time::{Duration, Instant};

/// How often a schema that another run keeps changing is planned anew.
const REPLANS_MAX: u32 = 4;

/// Which schemas a run is about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Scope {
    /// The shared schema, then every tenant. The default.
    #[default]
    Everything,
    /// The shared schema alone.
    Public,
    /// Every tenant; the shared schema must be at head already.
    Tenants,
    /// These tenants; the shared schema must be at head already. Their ledgers are read row by row, so this also finds one
    /// whose rows somebody changed by hand, which its digest does not tell.
    Only(Vec<TenantSlug>),
}

/// What a run is to do: made by looking, changed by nothing, and either printed or carried out.
#[derive(Debug)]
#[non_exhaustive]
pub struct FleetPlan<'a> {
    /// What is to be done to the shared schema; `None` where it is at head or not part of the run.
    pub public: Option<Plan<'a>>,
    /// What is to be done to tenants, by slug. Those at head are not listed.
    pub tenants: Vec<PlannedTenant<'a>>,
    /// How many tenants are at head and will not be visited.
    pub at_head: usize,
    public_ledger: LedgerPresence,
}

/// What is to be done to one tenant.
#[derive(Debug)]
#[non_exhaustive]
pub struct PlannedTenant<'a> {
    /// The tenant.
    pub slug: TenantSlug,
    /// What is to be done.
    pub step: Step<'a>,
    owner: Option<Ident>,
}

/// What is to be done to one tenant.
#[derive(Debug)]
pub enum Step<'a> {
    /// Apply these migrations.
    Apply(Plan<'a>),
    /// Leave it alone, for a reason that is no fault: it is still being set up.
    Skip {
        /// The reason.
        reason: String,
    },
    /// It cannot be migrated until somebody mends it.
    Refuse(Error),
}

impl FleetPlan<'_> {
    /// Whether there is nothing to apply. What was skipped or refused does not count.
    pub fn is_empty(&self) -> bool {
        self.public.is_none() && !self.tenants.iter().any(|tenant| matches!(tenant.step, Step::Apply(_)))
    }
}

/// What a run knows when it begins.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RunStart {
    /// Migrations that the shared schema will get.
    pub public_pending: usize,
    /// Tenants that will be visited.
    pub tenants_to_visit: usize,
    /// Tenants that are at head and will not be visited.
    pub tenants_at_head: usize,
}

/// How one schema fared.
#[derive(Debug)]
#[non_exhaustive]
pub struct SchemaOutcome {
    /// The schema.
    pub schema: SchemaName,
    /// The tenant; `None` for the shared schema.
    pub slug: Option<TenantSlug>,
    /// What became of it.
    pub result: Outcome,
    /// How long it took.
    pub elapsed: Duration,
}

/// What became of one schema.
#[derive(Debug)]
pub enum Outcome {
    /// These migrations were applied; none where another run had done it meanwhile.
    Migrated {
        /// In this order.
        applied: Vec<MigrationId>,
    },
    /// It was left alone.
    Skipped {
        /// Why.
        reason: String,
    },
    /// It could not be migrated and is as it was.
    Failed {
        /// Why.
        error: Error,
    },
}

/// How a run fared.
#[derive(Debug)]
#[non_exhaustive]
pub struct RunReport {
    /// The shared schema; `None` where it had nothing to do.
    pub public: Option<SchemaOutcome>,
    /// The tenants that were visited, in that order.
    pub tenants: Vec<SchemaOutcome>,
    /// How many tenants were at head and not visited.
    pub at_head: usize,
}

impl RunReport {
    /// How many tenants failed.
    pub fn failed(&self) -> usize {
        self.tenants.iter().filter(|tenant| matches!(tenant.result, Outcome::Failed { .. })).count()
    }

    /// How many tenants were migrated.
    pub fn migrated(&self) -> usize {
        self.tenants.iter().filter(|tenant| matches!(tenant.result, Outcome::Migrated { .. })).count()
    }

    /// How many tenants were left alone.
    pub fn skipped(&self) -> usize {
        self.tenants.iter().filter(|tenant| matches!(tenant.result, Outcome::Skipped { .. })).count()
    }
}

/// Plans a run. Reads only: it works for a role without any right to write and on a standby.
///
/// # Errors
///
/// Kind `Drift`: ledger and files of the shared schema do not agree (a tenant's disagreement is a
/// [`Step::Refuse`]). Kind `NotFound`: a tenant of [`Scope::Only`] is not in the registry. Kind `NotReady`: tenants are asked
/// for while the shared schema is not at head, or there is no registry.
pub async fn plan_fleet<'a>(
    operator: &Operator,
    migrations: &'a Migrations,
    scope: &Scope,
    target: Target,
) -> Result<FleetPlan<'a>> {
    let source = migrations.set(Set::Public);
    let schema = SchemaName::public();
    let read = ledger::read(operator, &schema).await?;
    let public_ledger = presence(read.ledger_exists);
    let public = plan(source, &schema, read.rows, Target::Head).map_err(Error::Diverged)?;
    let pending = !public.pending.is_empty() || public_ledger == LedgerPresence::Absent;
    let database = || operator.facts().database.clone();
    match scope {
        Scope::Tenants | Scope::Only(_) if pending => {
            let missing =
                format!("{} pending in the shared schema", crate::migration::count(public.pending.len(), "migration"));
            return Err(Error::NotSetUp { database: database(), missing });
        }
        _ => {}
    }
    let mut planned = FleetPlan { public: pending.then_some(public), tenants: vec![], at_head: 0, public_ledger };
    // Before the first migration of the shared schema there is no registry, and so no tenant.
    if *scope == Scope::Public || (pending && !registry_exists(operator).await?) {
        if matches!(scope, Scope::Tenants | Scope::Only(_)) {
            planned.public = None;
        }
        return Ok(planned);
    }
    if matches!(scope, Scope::Tenants | Scope::Only(_)) {
        planned.public = None;
    }
    let whom = match scope {
        Scope::Only(slugs) => Whom::These(slugs),
        _ => Whom::All,
    };
    for tenant in state::look_at_tenants(operator, migrations, whom).await? {
        match plan_tenant(operator, migrations, &tenant, target) {
            Some(step) => {
                planned.tenants.push(PlannedTenant {
                    slug: tenant.tenant.slug,
                    step,
                    owner: foreign(operator, tenant.facts.owner),
                });
            }
            None => planned.at_head += 1,
        }
    }
    Ok(planned)
}

/// Carries a plan out: the shared schema first, then one tenant after another. A tenant that fails is a line of the report
/// and does not stop the others; each schema is committed on its own, so a run that is interrupted is continued by the next.
///
/// # Locks
///
/// Per schema, to the end of its message: its migration lock, and what its migrations lock.
///
/// # Errors
///
/// Whatever stops the shared schema; then no tenant was touched. Kind `Unavailable`: the connection is lost.
///
/// # Cancel safety
///
/// Dropped, the schema under way may still be committed by the server; the others are untouched. Running again goes on.
pub async fn run(
    operator: &Operator,
    migrations: &Migrations,
    planned: FleetPlan<'_>,
    observer: &mut dyn Observer,
) -> Result<RunReport> {
    observer.started(&RunStart {
        public_pending: planned.public.as_ref().map_or(0, |public| public.pending.len()),
        tenants_to_visit: planned.tenants.len(),
        tenants_at_head: planned.at_head,
    });
    let mut report =
        RunReport { public: None, tenants: Vec::with_capacity(planned.tenants.len()), at_head: planned.at_head };
    if let Some(public) = planned.public {
        let started = Instant::now();
        let applied = settle(operator, migrations, Set::Public, public, planned.public_ledger, None, None).await?;
        let outcome = SchemaOutcome {
            schema: SchemaName::public(),
            slug: None,
            result: Outcome::Migrated { applied },
            elapsed: started.elapsed(),
        };
        observer.schema(&outcome);
        report.public = Some(outcome);
    }
    for tenant in planned.tenants {
        let started = Instant::now();
        let schema = SchemaName::of_tenant(&tenant.slug);
        let result = match tenant.step {
            Step::Skip { reason } => Outcome::Skipped { reason },
            Step::Refuse(error) => Outcome::Failed { error },
            Step::Apply(plan) => {
                let role = role_of(operator, &tenant.slug);
                let settled = settle(
                    operator,
                    migrations,
                    Set::Tenant,
                    plan,
                    LedgerPresence::Present,
                    role.as_ref(),
                    tenant.owner,
                )
                .await;
                match settled {
                    Ok(applied) => Outcome::Migrated { applied },
                    Err(error @ Error::ConnectionLost { .. }) => return Err(error),
                    Err(error) => Outcome::Failed { error },
                }
            }
        };
        let outcome = SchemaOutcome { schema, slug: Some(tenant.slug), result, elapsed: started.elapsed() };
        observer.schema(&outcome);
        report.tenants.push(outcome);
    }
    Ok(report)
}

/// Applies a plan, and plans anew when another run was quicker.
async fn settle(
    operator: &Operator,
    migrations: &Migrations,
    set: Set,
    mut planned: Plan<'_>,
    mut ledger: LedgerPresence,
    role: Option<&RoleName>,
    owner: Option<Ident>,
) -> Result<Vec<MigrationId>> {
    let schema = planned.schema.clone();
    let upto = planned.pending.last().map(|file| file.id().version);
    for _ in 0..REPLANS_MAX {
        let unit = Unit { plan: &planned, role, provision: String::new(), ledger, owner: owner.clone() };
        if apply::apply(operator, &unit).await? == Landing::Done {
            return Ok(planned.pending.iter().map(|file| file.id().clone()).collect());
        }
        let read = ledger::read(operator, &schema).await?;
        ledger = presence(read.ledger_exists);
        let whole = read.ledger_exists && read.comment_agrees();
        let target = upto.map_or(Target::Head, Target::Version);
        planned = plan(migrations.set(set), &schema, read.rows, target).map_err(Error::Diverged)?;
        // A comment that led here although the rows say otherwise is written anew, or every run would come here again.
        if planned.pending.is_empty() && whole {
            return Ok(Vec::new());
        }
    }
    Err(Error::Unsettled { schema, tries: REPLANS_MAX })
}

fn plan_tenant<'a>(
    operator: &Operator,
    migrations: &'a Migrations,
    tenant: &TenantState,
    target: Target,
) -> Option<Step<'a>> {
    let slug = &tenant.tenant.slug;
    let schema = SchemaName::of_tenant(slug);
    let source = migrations.set(Set::Tenant);
    let not_ready = |missing: String| {
        if tenant.tenant.status == TenantStatus::Onboarding {
            Step::Skip { reason: format!("onboarding: {missing}") }
        } else {
            Step::Refuse(Error::TenantNotReady { tenant: slug.clone(), status: tenant.tenant.status, missing })
        }
    };
    match &tenant.state {
        SchemaState::AtHead => None,
        SchemaState::Behind { pending } => {
            let applied: Vec<Applied> =
                source.files()[..source.files().len() - pending].iter().map(Applied::of).collect();
            let planned = plan(source, &schema, applied, target).expect("a beginning of the set agrees with the set");
            // Nothing up to the target: at head as far as this run goes.
            (!planned.pending.is_empty()).then_some(Step::Apply(planned))
        }
        SchemaState::Diverged(divergence) => Some(Step::Refuse(Error::Diverged(divergence.clone()))),
        SchemaState::Missing => Some(not_ready(format!("there is no schema {}", schema.as_str()))),
        SchemaState::HalfProvisioned { missing } => {
            let role = role_of(operator, slug).map(|role| format!(" {}", role.as_str())).unwrap_or_default();
            let missing =
                if missing == "its role" { format!("there is no role{role}") } else { format!("{missing} is missing") };
            Some(not_ready(missing))
        }
    }
}

/// The owner to act as, where it is not the operator.
fn foreign(operator: &Operator, owner: Option<Ident>) -> Option<Ident> {
    owner.filter(|owner| owner.as_str() != operator.facts().role)
}

fn presence(exists: bool) -> LedgerPresence {
    if exists { LedgerPresence::Present } else { LedgerPresence::Absent }
}

async fn registry_exists(operator: &Operator) -> Result<bool> {
    match state::require_registry(operator).await {
        Ok(()) => Ok(true),
        Err(Error::NotSetUp { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}
