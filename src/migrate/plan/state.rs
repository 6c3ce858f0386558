//! Reads the state of every schema. The number of round trips does not depend on the number of tenants. Writes nothing.

use super::{Target, plan, started::StartedMigration};
use crate::{
    db::Operator,
    error::{Error, LedgerProblem, MigrationError, MissingPart, Result},
    ident::SchemaName,
    migrate::{
        execute::step_log::FileProgress,
        files::source::Source,
        ledger::{self, Applied, LedgerDigest, Prefixes},
        migrations::Migrations,
    },
    migration::{Divergence, MigrationId, Set},
    registry::{self, RegistryRow, Slugs, TenantFacts, role_of},
    slug::TenantSlug,
    tenant::{StrangeRow, Tenant},
};
use futures_util::{StreamExt, TryStreamExt, stream};
use std::{pin::pin, time::SystemTime};

/// How many ledgers are requested concurrently on the one connection, if a comment was not enough.
const LEDGERS_IN_FLIGHT_MAX: usize = 64;

/// The state of one schema.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum SchemaState {
    /// All migrations are applied.
    AtHead,
    /// This many migrations are pending.
    Behind {
        /// Their number.
        pending: usize,
    },
    /// Ledger and files differ. If only [`Divergence::ahead`] is set, newer files were applied here.
    Diverged(Box<Divergence>),
    /// The schema does not exist.
    Missing,
    /// The schema exists, but another required part is missing.
    HalfProvisioned {
        /// The missing part.
        missing: MissingPart,
    },
    /// The schema belongs to a different organization than the slug in the registry.
    OtherOrganization {
        /// The organization in the comment on the schema.
        found: String,
    },
    /// The tenant is being dropped. A part of it may be missing.
    BeingDropped,
}

impl SchemaState {
    /// Returns whether nothing is pending.
    pub fn is_at_head(&self) -> bool {
        matches!(self, Self::AtHead)
    }

    /// Returns the state's name, which is the same in all versions: `at_head`, `half_provisioned`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::AtHead => "at_head",
            Self::Behind { .. } => "behind",
            Self::Diverged(_) => "diverged",
            Self::Missing => "missing",
            Self::HalfProvisioned { .. } => "half_provisioned",
            Self::OtherOrganization { .. } => "other_organization",
            Self::BeingDropped => "being_dropped",
        }
    }
}

/// The state of the shared schema and of all tenants.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct FleetState {
    /// The state of the shared schema.
    pub public: SchemaState,
    /// The newest migration applied to the shared schema.
    pub public_head: Option<MigrationId>,
    /// The migration of the shared schema that is partially applied.
    pub public_started: Option<StartedMigration>,
    /// The tenants of the registry, sorted by slug.
    pub tenants: Vec<TenantState>,
    /// The rows of the registry that are not valid tenants.
    pub strange: Vec<StrangeRow>,
}

/// The state of one tenant.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TenantState {
    /// The tenant's row in the registry.
    pub tenant: Tenant,
    /// The state of its schema.
    pub state: SchemaState,
    /// The newest migration applied to it.
    pub head: Option<MigrationId>,
    pub(crate) facts: TenantFacts,
    /// The rows of its ledger, if they differ from those of the set's files because of earlier ids.
    pub(crate) rows: Option<Vec<Applied>>,
    /// The migration that is partially applied.
    pub(crate) started: Option<StartedMigration>,
}

impl TenantState {
    /// Returns the time from which the tenant may be dropped, if [`schedule_drop`](crate::lifecycle::schedule_drop) has
    /// planned that.
    pub fn drop_after(&self) -> Option<SystemTime> {
        self.facts.drop_after()
    }

    /// Returns the migration without a transaction that is partially applied. Those after it are pending as well.
    pub fn started(&self) -> Option<&StartedMigration> {
        self.started.as_ref()
    }
}

/// Reads the state of the shared schema and of every tenant in the registry.
///
/// # Errors
///
/// - Kind `NotReady`: the database has no registry.
/// - Kinds `Unavailable` and `Failed`: an error of the server.
///
/// # Cancel safety
///
/// Writes nothing.
pub async fn read_state(operator: &Operator, migrations: &Migrations) -> Result<FleetState> {
    let (public, public_head, public_started) = read_shared_state(operator, migrations).await?;
    registry::require(operator).await?;
    let (mut tenants, mut strange) = (Vec::new(), Vec::new());
    each_tenant(operator, migrations, TenantFilter::All, &mut strange, |tenant| tenants.push(tenant)).await?;
    tenants.sort_by(|one, other| one.tenant.slug.cmp(&other.tenant.slug));
    Ok(FleetState { public, public_head, public_started, tenants, strange })
}

/// Reads the state of the shared schema, its newest migration, and the one that is partially applied.
async fn read_shared_state(
    operator: &Operator,
    migrations: &Migrations,
) -> Result<(SchemaState, Option<MigrationId>, Option<StartedMigration>)> {
    let schema = SchemaName::public();
    let source = migrations.set(Set::Public);
    let read = ledger::read(operator, &schema).await?;
    let head = read.rows.last().map(|row| row.id.clone());
    let state = match (read.schema_exists, read.ledger_exists) {
        (false, _) => SchemaState::Missing,
        (true, false) => SchemaState::Behind { pending: source.files().len() },
        (true, true) => by_rows(source, &schema, read.rows),
    };
    let (state, started) = with_started(operator, source, &schema, state, read.has_steps).await?;
    Ok((state, head, started))
}

/// Returns the file that is partially applied in a schema, and the state of the schema. If the file was removed or its
/// executed statements were edited, ledger and files differ.
async fn with_started(
    operator: &Operator,
    source: &Source,
    schema: &SchemaName,
    state: SchemaState,
    has_steps: bool,
) -> Result<(SchemaState, Option<StartedMigration>)> {
    if !has_steps {
        return Ok((state, None));
    }
    let Some((started, file)) = FileProgress::of_set(operator, schema, source).await? else { return Ok((state, None)) };
    let found = StartedMigration::of(&started, file);
    let next = match &state {
        SchemaState::Behind { pending } => source.files().iter().nth_back(pending - 1),
        SchemaState::Diverged(_) => return Ok((state, Some(found))),
        _ => None,
    };
    let mut divergence = Divergence::none(schema.clone());
    if let Some(earlier) = started.overtaken_by(next) {
        divergence.out_of_order = vec![earlier.id().clone()];
    } else if file.is_none() {
        divergence.missing = vec![started.id];
    } else if started.problem(file).is_some() || state.is_at_head() {
        divergence.edited = vec![started.id];
    } else {
        return Ok((state, Some(found)));
    }
    Ok((SchemaState::Diverged(Box::new(divergence)), Some(found)))
}

/// Which tenants to read, and in which depth.
#[derive(Clone, Copy, Debug)]
pub(crate) enum TenantFilter<'a> {
    /// All tenants. The digests in the ledgers' comments are trusted.
    All,
    /// These tenants, which must be in the registry. The rows of every ledger are read.
    These(&'a [TenantSlug]),
    /// These tenants, whose ledgers were just written. The digests are trusted. Tenants that are not in the registry
    /// are skipped.
    Made(&'a [TenantSlug]),
}

/// Reads the fleet in one query, and the rows of ledgers whose comment is missing or unknown. Tenants are passed on as
/// the server returns them, so that discarded ones use no memory. Those whose rows must be read are last.
pub(crate) async fn each_tenant(
    operator: &Operator,
    migrations: &Migrations,
    whom: TenantFilter<'_>,
    strange: &mut Vec<StrangeRow>,
    mut visit: impl FnMut(TenantState) + Send,
) -> Result<()> {
    let source = migrations.set(Set::Tenant);
    let prefixes = Prefixes::of(source);
    let (mut unread, mut in_steps, mut unknown, mut any) = (Vec::new(), Vec::new(), None, false);
    {
        // No other query is sent until the last row is read: the driver stops reading while a response is not consumed.
        let slugs = match whom {
            TenantFilter::All => Slugs::fleet(),
            TenantFilter::These(slugs) | TenantFilter::Made(slugs) => Slugs::named(slugs),
        };
        let mut rows = pin!(registry::facts_rows(operator, slugs).await?);
        while let Some(found) = rows.try_next().await? {
            any = true;
            let (slug, facts) = match found {
                RegistryRow::Tenant(slug, facts) => (slug, *facts),
                RegistryRow::Strange(row) => {
                    strange.push(row);
                    continue;
                }
            };
            let Some(tenant) = facts.tenant.clone() else {
                if matches!(whom, TenantFilter::These(_)) {
                    unknown.get_or_insert(slug);
                }
                continue;
            };
            let is_being_dropped = facts.refuse_being_dropped().is_err();
            if facts.owner.is_some() && !facts.has_ledger && facts.other_organization().is_none() && !is_being_dropped {
                // Another object may have the ledger's name.
                unread.push((tenant, facts));
                continue;
            }
            if let Some(state) = by_facts(operator, &tenant.slug, &facts) {
                visit(TenantState { tenant, state, head: None, facts, rows: None, started: None });
                continue;
            }
            let comment = facts.comment.as_deref().filter(|_| !matches!(whom, TenantFilter::These(_)));
            match LedgerDigest::in_comment(comment).and_then(|digest| prefixes.length_of(&digest)) {
                Some(applied) => {
                    let head = applied.checked_sub(1).map(|last| source.files()[last].id().clone());
                    let state = by_length(applied, source.files().len());
                    if facts.has_steps {
                        in_steps.push((tenant, facts, state, head));
                        continue;
                    }
                    visit(TenantState { tenant, state, head, facts, rows: None, started: None });
                }
                None => unread.push((tenant, facts)),
            }
        }
    }
    // If row level security hides the registry's rows, the registry looks empty. So this is checked first.
    if !any || unknown.is_some() {
        registry::require_sight(operator).await?;
    }
    if let Some(tenant) = unknown {
        return Err(registry::not_found(operator, &tenant).await);
    }
    for (tenant, facts, state, head) in in_steps {
        let schema = SchemaName::of_tenant(&tenant.slug);
        let (state, started) = with_started(operator, source, &schema, state, true).await?;
        visit(TenantState { tenant, state, head, facts, rows: None, started });
    }
    let read = unread.into_iter().map(|(tenant, facts)| of_ledger(operator, source, tenant, facts));
    let mut read = pin!(stream::iter(read).buffered(LEDGERS_IN_FLIGHT_MAX));
    while let Some(tenant) = read.next().await {
        visit(tenant?);
    }
    Ok(())
}

/// Reads the rows of a tenant's ledger.
async fn of_ledger(operator: &Operator, source: &Source, tenant: Tenant, facts: TenantFacts) -> Result<TenantState> {
    let schema = SchemaName::of_tenant(&tenant.slug);
    let read = match ledger::read(operator, &schema).await {
        // The error concerns only one tenant, so the others are still read.
        Err(Error::Migration(MigrationError::LedgerRefused { why, .. })) => {
            let missing = MissingPart::Ledger { schema, why: Box::new(why) };
            let state = SchemaState::HalfProvisioned { missing };
            return Ok(TenantState { tenant, state, head: None, facts, rows: None, started: None });
        }
        read => read?,
    };
    if !read.ledger_exists {
        let missing = MissingPart::Ledger { schema, why: Box::new(LedgerProblem::NoLedger) };
        let state = SchemaState::HalfProvisioned { missing };
        return Ok(TenantState { tenant, state, head: None, facts, rows: None, started: None });
    }
    let head = read.rows.last().map(|row| row.id.clone());
    let is_beginning = read.rows.iter().zip(source.files()).all(|(row, file)| row.id == *file.id());
    let rows = (!is_beginning).then(|| read.rows.clone());
    let state = by_rows(source, &schema, read.rows);
    let (state, started) = with_started(operator, source, &schema, state, read.has_steps).await?;
    Ok(TenantState { tenant, state, head, facts, rows, started })
}

/// Returns a problem of a tenant that is known before its ledger is read.
fn by_facts(operator: &Operator, slug: &TenantSlug, facts: &TenantFacts) -> Option<SchemaState> {
    let half = |missing| Some(SchemaState::HalfProvisioned { missing });
    if facts.owner.is_none() {
        Some(SchemaState::Missing)
    } else if let Some(found) = facts.other_organization() {
        Some(SchemaState::OtherOrganization { found })
    } else if facts.refuse_being_dropped().is_err() {
        Some(SchemaState::BeingDropped)
    } else {
        match role_of(operator, slug) {
            Some(role) if !facts.has_role => half(MissingPart::Role { role }),
            Some(role) if !facts.role_admitted => {
                half(MissingPart::SchemaUsage { role, schema: SchemaName::of_tenant(slug) })
            }
            _ => None,
        }
    }
}

fn by_length(applied: usize, files: usize) -> SchemaState {
    if applied == files { SchemaState::AtHead } else { SchemaState::Behind { pending: files - applied } }
}

fn by_rows(source: &Source, schema: &SchemaName, rows: Vec<Applied>) -> SchemaState {
    let applied = rows.len();
    match plan(source, schema, rows, Target::Head) {
        Ok(_) => by_length(applied, source.files().len()),
        Err(divergence) => SchemaState::Diverged(divergence),
    }
}
