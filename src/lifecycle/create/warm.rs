//! Schemas that are ready for new tenants: they have their role and all tables, and belong to no tenant.
//!
//! The name of such a schema is `cgk_warm_…`, which no tenant's schema can have. It has a row in `public.cgk_warm`. For
//! a new tenant, the schema and its role are renamed in the transaction that writes the registry row.

use super::{Replay, check_rights, provision::ProvisionedSchema, require_ready};
use crate::{
    access::isolation,
    access::login::{self, Admitted},
    catalogue::names,
    config::Isolation,
    db::{Operator, run_files::Commits},
    error::{Error, ErrorKind, MigrationError, Result, TenantError},
    ident::SchemaName,
    identity,
    migrate::{
        Migrations, SchemaPlan, Set, Target, encodable,
        execute::{
            apply,
            grouping::Grouping,
            unit::{ApplyOutcome, Purpose, SchemaAccess, Unit},
        },
        plan::{
            self,
            warm::{WarmState, warm_schemas},
        },
    },
    registry::{self, WarmSchema},
};
use tokio_postgres::error::SqlState;

/// The most schemas that one call keeps ready. A migration replaces all of them, one after another.
pub(crate) const WARM_MAX: usize = 1_000;

/// How often the table is read again because other sessions used or dropped schemas meanwhile.
const ROUNDS_MAX: usize = 8;

/// The number of schemas to keep ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WarmCount {
    /// This many, at most 1,000.
    Exactly(usize),
    /// The current number, ready or not. Schemas that are older than the files are replaced.
    Unchanged,
}

/// The result of [`warm`](warm()).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Warmed {
    /// The number of schemas that are ready now.
    pub ready: usize,
    /// The number of schemas that this call made ready.
    pub created: usize,
    /// The number of dropped schemas. They were too many, or a new tenant would get a different schema.
    pub dropped: usize,
}

/// Keeps schemas ready for new tenants. Drops those that are too many or that no new tenant would get, and creates the
/// missing ones, one after another. Schemas of another operator that this one may not drop stay as they are, and do not
/// count. [`create`](super::create()) and the provisioning server use one for each new
/// tenant. [`create_many`](super::create_many()) does not.
///
/// Values that a migration computes when it runs, such as `now()`, are from the time of this call.
///
/// # Locks
///
/// The migration lock of each schema that is created or dropped, until its transaction ends. Two calls at the same time
/// together create no more than the larger number.
///
/// # Committed when
///
/// Each schema with its role, and then that it is ready. After an interruption, the next call completes or drops the
/// remaining parts.
///
/// # Errors
///
/// - Kind `NotReady`: the database is not set up.
/// - Kind `Invalid` ([`TenantError::TooManyWarm`]): more than 1,000 schemas. Each has all tables of a tenant, and every
///   migration replaces all of them.
/// - Kind `Denied`: the role may not create schemas or roles, or may not use `public.cgk_warm`.
/// - Kind `Drift`: the files differ from those of the fleet. Nothing is dropped.
/// - Kind `Refused` ([`TenantError::NotWarm`]): the migrations cannot run in one transaction, change something outside
///   of their schema, grant rights on it to other roles, read its name, or write it into the schema. Schemas that are
///   not ready are dropped.
/// - Kind `Failed`: a migration was refused.
///
/// # Cancel safety
///
/// If the future is dropped, the server may still create or drop one schema. The next call continues.
pub async fn warm(operator: &Operator, migrations: &Migrations, count: WarmCount) -> Result<Warmed> {
    operator.facts().require_writable()?;
    if let WarmCount::Exactly(wanted) = count
        && wanted > WARM_MAX
    {
        return Err(Error::Tenant(TenantError::TooManyWarm { wanted, max: WARM_MAX }));
    }
    let mut warmed = Warmed::default();
    if !registry::has_warm(operator).await? {
        if matches!(count, WarmCount::Exactly(0) | WarmCount::Unchanged) {
            return Ok(warmed);
        }
        registry::require(operator).await?;
        registry::create_warm(operator).await?;
    }
    let logins = login::admitted_to(operator, "").await?;
    let wanted = match count {
        WarmCount::Exactly(wanted) => wanted,
        WarmCount::Unchanged => {
            let found = warm_schemas(operator, migrations, &logins, None).await?;
            found.iter().filter(|(_, state)| *state != WarmState::Foreign).count()
        }
    };
    let mut maker = None;
    for _ in 0..ROUNDS_MAX {
        let mut found = warm_schemas(operator, migrations, &logins, None).await?;
        let all = found.len();
        found.retain(|(_, state)| *state != WarmState::Foreign);
        let foreign = all - found.len();
        let (kept, dropped): (Vec<_>, Vec<_>) = found
            .into_iter()
            .enumerate()
            .partition(|(number, (_, state))| *number < wanted && *state != WarmState::Stale);
        let unfinished: Vec<_> = kept
            .iter()
            .filter(|(_, (_, state))| *state == WarmState::Unfinished)
            .map(|(_, (schema, _))| schema)
            .collect();
        warmed.ready = kept.len() - unfinished.len();
        let mut refused = None;
        if warmed.ready < wanted && maker.is_none() {
            match Maker::of(operator, migrations, &logins).await {
                Ok(made) => maker = Some(made),
                // No schema can be kept ready with these files. Any other refusal drops nothing.
                Err(error @ Error::Tenant(TenantError::NotWarm { .. })) => refused = Some(error),
                Err(error) => return Err(error),
            }
        }
        for (_, (schema, _)) in &dropped {
            warmed.dropped += usize::from(drop_warm(operator, schema).await?);
        }
        if let Some(error) = refused {
            return Err(error);
        }
        let Some(maker) = maker.as_mut().filter(|_| warmed.ready < wanted) else { break };
        for schema in unfinished {
            warmed.created += usize::from(maker.finish(schema).await?);
        }
        if kept.len() < wanted {
            registry::claim_warm(operator, wanted + foreign).await?;
        }
    }
    if let Some(maker) = &maker {
        maker.replay.record(operator, migrations).await;
    }
    Ok(warmed)
}

/// Returns one of the ready schemas. It is not always the same one, so that two sessions rarely choose the same.
pub(super) async fn ready(
    operator: &Operator,
    migrations: &Migrations,
    logins: &[Admitted],
) -> Result<Option<WarmSchema>> {
    let mut found = warm_schemas(operator, migrations, logins, None).await?;
    found.retain(|(_, state)| *state == WarmState::Ready);
    let chosen = rand::random_range(0..found.len().max(1));
    Ok((chosen < found.len()).then(|| found.swap_remove(chosen).0))
}

async fn drop_warm(operator: &Operator, warm: &WarmSchema) -> Result<bool> {
    warm.drop(operator, &isolation::drop_role_sql(operator.facts(), &warm.role)).await
}

/// Creates schemas from one set of files.
struct Maker<'a> {
    operator: &'a Operator,
    migrations: &'a Migrations,
    logins: &'a [Admitted],
    plan: SchemaPlan<'a>,
    replay: Replay,
}

impl<'a> Maker<'a> {
    /// Refuses the same as [`create`](super::create()), and a set that cannot run in one transaction.
    async fn of(operator: &'a Operator, migrations: &'a Migrations, logins: &'a [Admitted]) -> Result<Self> {
        require_ready(operator, migrations).await?;
        check_rights(operator).await?;
        encodable::check_all(operator, migrations).await?;
        let replay = Replay::of(operator, migrations).await?;
        let plan = plan::plan(migrations.set(Set::Tenant), &SchemaName::public(), Vec::new(), Target::Head);
        let plan = plan.map_err(MigrationError::Diverged)?;
        if apply::is_born_in_steps(&plan) || replay.grouping() == Grouping::FileByFile {
            return Err(not_warm("the migrations of tenants cannot run in one transaction"));
        }
        for file in &*plan.pending {
            if let Some(reads) = reads_its_name(file.sql()) {
                let name = file.id();
                return Err(not_warm(format!(
                    "{name} contains {reads:?}, and so can depend on the name of its schema"
                )));
            }
        }
        Ok(Self { operator, migrations, logins, plan, replay })
    }

    /// Creates the missing parts of a schema and checks that it can be renamed. If it cannot, drops it. Returns false
    /// if another session has finished or dropped it.
    async fn finish(&self, warm: &WarmSchema) -> Result<bool> {
        if !warm.has_schema && !self.create(warm).await? {
            return Ok(false);
        }
        let problem = match self.problem(&warm.schema).await {
            // Another session drops this schema, or another one that is read too. The next round looks again.
            Err(error) if is_of_concurrent_drop(&error) => {
                tracing::debug!(schema = warm.schema.as_str(), %error, "an object was dropped while it was read");
                return Ok(false);
            }
            problem => problem?,
        };
        let Some(problem) = problem else { return warm.checked(self.operator).await };
        drop_warm(self.operator, warm).await?;
        Err(not_warm(problem.replace(warm.schema.as_str(), "the schema's name")))
    }

    /// Creates role, schema and objects, in one transaction.
    async fn create(&self, warm: &WarmSchema) -> Result<bool> {
        let (operator, schema) = (self.operator, &warm.schema);
        let role = (operator.config().isolation() == Isolation::Role).then_some(&warm.role);
        // Logins become members of the role only with the tenant: before, they could leave rows for it.
        let logins = if role.is_some() { &[] } else { self.logins };
        let place = ProvisionedSchema { operator, schema, role, logins };
        let mut provision = identity::isolation::demand_sql(operator) + &warm.demand_sql();
        place.create(&mut provision, warm.role_state(), true);
        let ledger = place.grant(&mut provision, false, false);
        let unit = Unit {
            plan: &self.plan.for_schema(schema.clone()),
            role,
            provision,
            ledger,
            owner: None,
            commits: Commits::WithMessage,
            grouping: Grouping::Batch,
            sessions: SchemaAccess::None,
            // The effects of a file outside of the schema would exist before there is a tenant.
            purpose: Purpose::Drop,
            files: Some((&self.replay.files, Set::Tenant)),
        };
        if !warm.record_shared(operator).await? {
            return Ok(false);
        }
        match apply::apply(operator, &unit).await {
            Ok(outcome) => Ok(outcome == ApplyOutcome::Applied),
            // The next call continues.
            Err(error) if error.kind() == ErrorKind::Unavailable => Err(error),
            Err(error) => {
                drop_warm(operator, warm).await?;
                Err(match error {
                    Error::Migration(MigrationError::NotRehearsable { file }) => {
                        not_warm(format!("{} changes something outside of the tenant's schema", file.display()))
                    }
                    error => error,
                })
            }
        }
    }

    /// Describes an object that contains the schema's name as text.
    async fn problem(&self, schema: &SchemaName) -> Result<Option<String>> {
        let state = warm_schemas(self.operator, self.migrations, self.logins, Some(schema)).await?;
        if state.iter().any(|(_, state)| matches!(state, WarmState::Stale | WarmState::Foreign)) {
            return Ok(Some("a migration changes the rights on the schema, or its owner".into()));
        }
        let mut found = names::of_schema(self.operator, schema).await?;
        if found.is_empty() {
            found = names::in_contents(self.operator, schema).await?;
        }
        Ok(found.into_iter().next())
    }
}

/// Whether a query of the catalogue met an object that another session was dropping. The server's functions that write
/// definitions as text then report an internal error.
fn is_of_concurrent_drop(error: &Error) -> bool {
    let gone = [
        SqlState::UNDEFINED_TABLE,
        SqlState::UNDEFINED_OBJECT,
        SqlState::UNDEFINED_FUNCTION,
        SqlState::UNDEFINED_COLUMN,
        SqlState::INVALID_SCHEMA_NAME,
        SqlState::INTERNAL_ERROR,
    ];
    error.sqlstate().is_some_and(|state| gone.contains(state))
}

/// What a file contains that tells a migration the name of its schema, or its tenant.
fn reads_its_name(sql: &str) -> Option<&'static str> {
    const NAMES: [&str; 6] =
        ["current_schema", "'search_path'", "show search_path", "pg_namespace", "regnamespace", "aclexplode"];
    let sql = sql.to_lowercase();
    let words: Vec<&str> = sql.split_whitespace().collect();
    let is_registry = |pair: &[&str]| {
        let table = pair[1].trim_end_matches([';', ',', ')']).trim_start_matches("public.").trim_matches('"');
        matches!(pair[0], "from" | "join") && table == "organizations"
    };
    if words.windows(2).any(is_registry) {
        return Some("organizations");
    }
    let text = words.join(" ");
    NAMES.into_iter().find(|name| text.contains(name))
}

fn not_warm(why: impl AsRef<str>) -> Error {
    Error::Tenant(TenantError::NotWarm { why: why.as_ref().to_owned() })
}
