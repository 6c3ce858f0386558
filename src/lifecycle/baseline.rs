//! Adopts a schema that another tool or a person created: compares it and writes its ledger. No migration runs.

mod foreign;
mod report;

pub use report::{BaselineOptions, Baselined, Baselining};

use crate::{
    access::isolation,
    access::login::{self, Admitted},
    binding::{self, Binding},
    db::{
        Operator,
        message_head::{Hold, MessageHead},
    },
    drift::{self, SchemaComparison},
    error::{Error, LedgerProblem, MigrationError, Result, SetupError, while_doing},
    ident::{Ident, RoleName, SchemaName, literal, quoted},
    identity,
    migrate::{
        Applied, MigrationFile, MigrationId, Migrations, Set, Target, Version,
        execute::schema_lock,
        fileset::record::FileRecord,
        ledger::{self, LEDGER_TABLE, LedgerTable},
        plan::{self},
    },
    registry::{self, RoleState, TenantFacts, role_of},
    row_check,
    slug::TenantSlug,
    tenant::{OrganizationId, TenantStatus},
};
use std::time::Duration;
use tokio_postgres::error::SqlState;
use uuid::Uuid;

/// How often the adoption starts again because another session changed the same schema.
const TRIES_MAX: u32 = 4;

/// Adopts an existing schema as a tenant: creates its registry row, its role, its rights, and a ledger that lists the
/// migrations that the schema already contains.
///
/// Before anything is written, the schema is compared with the result of those migrations. No migration runs.
///
/// A schema that was restored from the dump of another database also has the grants to the tenant roles of that
/// database. These grants are revoked.
///
/// # Locks
///
/// The schema's migration lock, until the transaction ends.
///
/// # Committed when
///
/// Everything in one transaction. If the call is interrupted before the commit, nothing is changed. If it is
/// interrupted after the commit, the next call finds that cgk already manages the schema.
///
/// # Errors
///
/// - Kind `Drift` ([`MigrationError::BaselineDiffers`]): the schema differs from the result of the migrations. The
///   error lists each difference.
/// - Kind `Conflict` ([`MigrationError::LedgerRefused`]): there is no such schema, its `schema_migrations` belongs to
///   another tool or contains another version, or `from_table` does not match the files.
/// - Kind `Denied`: the operator may not act as the schema's owner, or may not create roles.
///
/// # Cancel safety
///
/// If the future is dropped, the server may still finish and commit. Call it again to find out.
pub async fn baseline(
    operator: &Operator,
    migrations: &Migrations,
    slug: &TenantSlug,
    options: &BaselineOptions,
) -> Result<Baselined> {
    registry::require(operator).await?;
    adopt(operator, migrations, Some(slug), options).await
}

/// Adopts the shared schema, as [`baseline`] does with a tenant's schema. The shared schema has no role and no registry
/// row.
///
/// # Errors
///
/// Those of [`baseline`].
///
/// # Cancel safety
///
/// That of [`baseline`].
pub async fn baseline_public(
    operator: &Operator,
    migrations: &Migrations,
    options: &BaselineOptions,
) -> Result<Baselined> {
    adopt(operator, migrations, None, options).await
}

async fn adopt(
    operator: &Operator,
    migrations: &Migrations,
    slug: Option<&TenantSlug>,
    options: &BaselineOptions,
) -> Result<Baselined> {
    let schema = slug.map_or_else(SchemaName::public, SchemaName::of_tenant);
    for _ in 0..TRIES_MAX {
        let facts = match slug {
            Some(slug) => Some(registry::facts_of(operator, slug).await?),
            None => None,
        };
        if let Some(facts) = &facts {
            refuse_known_organization(operator, &schema, facts).await?;
        }
        if let Some(done) = Adoption::begin(operator, migrations, slug, &schema, facts)?.try_once(options).await? {
            return Ok(done);
        }
    }
    Err(Error::Migration(MigrationError::Contended { schema, tries: TRIES_MAX }))
}

/// Returns the organization that a schema is adopted for. It is the one in the registry. If the registry does not
/// contain the tenant, as after the restore of a dump, it is the one in the comment on the schema.
fn organization(facts: &TenantFacts) -> OrganizationId {
    let dumped = match Binding::of(facts.schema_comment.as_deref()) {
        Binding::To(id) => id.parse().ok(),
        Binding::None => None,
    };
    facts.tenant.as_ref().map_or_else(|| OrganizationId(dumped.unwrap_or_else(Uuid::new_v4)), |tenant| tenant.id)
}

/// Refuses a schema whose name is not in the registry, but whose organization is registered under another name. This
/// happens if the dump of one tenant is restored as a second tenant.
async fn refuse_known_organization(operator: &Operator, schema: &SchemaName, facts: &TenantFacts) -> Result<()> {
    let (None, Binding::To(id)) = (&facts.tenant, Binding::of(facts.schema_comment.as_deref())) else { return Ok(()) };
    let refuse =
        |why: LedgerProblem| Err(Error::Migration(MigrationError::LedgerRefused { schema: schema.clone(), why }));
    let Ok(uuid) = id.parse::<Uuid>() else {
        return refuse(LedgerProblem::InvalidOrganization { id });
    };
    match registry::slug_of(operator, uuid).await? {
        Some(slug) => refuse(LedgerProblem::OfAnotherTenant { id: OrganizationId(uuid), slug }),
        None => Ok(()),
    }
}

/// One attempt.
struct Adoption<'a> {
    operator: &'a Operator,
    migrations: &'a Migrations,
    set: Set,
    schema: &'a SchemaName,
    slug: Option<&'a TenantSlug>,
    role: Option<RoleName>,
    facts: Option<TenantFacts>,
}

impl<'a> Adoption<'a> {
    fn begin(
        operator: &'a Operator,
        migrations: &'a Migrations,
        slug: Option<&'a TenantSlug>,
        schema: &'a SchemaName,
        facts: Option<TenantFacts>,
    ) -> Result<Self> {
        let role = slug.and_then(|slug| role_of(operator, slug));
        let set = slug.map_or(Set::Public, |_| Set::Tenant);
        let adoption = Self { operator, migrations, set, schema, slug, role, facts };
        if adoption.facts.as_ref().is_some_and(|facts| facts.owner.is_none()) {
            return Err(adoption.refuse(LedgerProblem::NoSchema));
        }
        if let Some(facts) = &adoption.facts {
            facts.refuse_other_organization()?;
        }
        if adoption.needs_role() && !operator.facts().creates_roles {
            let own = operator.facts();
            let grant = format!("alter role {} createrole", quoted(&own.role));
            return Err(own.lacks("create roles, which isolation = \"role\" needs", grant));
        }
        Ok(adoption)
    }

    fn refuse(&self, why: LedgerProblem) -> Error {
        Error::Migration(MigrationError::LedgerRefused { schema: self.schema.clone(), why })
    }

    fn needs_role(&self) -> bool {
        self.role.is_some() && self.facts.as_ref().is_some_and(|facts| !facts.has_role)
    }

    /// Whether the registry row and the role of the tenant exist already.
    fn is_whole(&self) -> bool {
        let Some(facts) = &self.facts else { return true };
        let active = facts.tenant.as_ref().is_some_and(|tenant| tenant.status != TenantStatus::Onboarding);
        active && !facts.is_unbound() && (self.role.is_none() || (facts.has_role && facts.role_admitted))
    }

    async fn try_once(&self, options: &BaselineOptions) -> Result<Option<Baselined>> {
        let table = ledger::table(self.operator, self.schema).await?;
        if table.is_none() {
            ledger::refuse_unfit(self.operator, self.schema).await?;
        }
        if let Some(foreign) = table.as_ref().filter(|table| !table.is_ours()) {
            return Err(self.refuse(foreign.refused()));
        }
        if table.is_some() && options.from_table.as_deref() == Some(LEDGER_TABLE) {
            return Err(self.refuse(LedgerProblem::OfCgk));
        }
        let rows = match &table {
            Some(_) => ledger::read(self.operator, self.schema).await?.rows,
            None => Vec::new(),
        };
        if !rows.is_empty() {
            return self.finish(options, table, rows).await;
        }
        let record = FileRecord::of_fleet(self.operator, self.migrations).await?;
        let upto = self.upto(options).await?;
        let compared = drift::compare_up_to(
            self.operator,
            self.migrations,
            self.set,
            self.schema,
            self.role.as_ref(),
            upto,
            options.from_table.as_deref(),
        )
        .await?;
        let is_refused = |difference: &&drift::Difference| !self.is_accepted(options, difference);
        let refused: Vec<_> = compared.differences.iter().filter(is_refused).collect();
        if !refused.is_empty() {
            return Err(Error::Migration(MigrationError::BaselineDiffers {
                schema: self.schema.clone(),
                upto: upto.map_or_else(|| "none".into(), |upto| upto.to_string()),
                differences: refused.into_iter().map(|difference| self.line(difference)).collect(),
            }));
        }
        let files: Vec<&MigrationFile> =
            self.migrations.set(self.set).files().iter().filter(|file| Some(file.id().version) <= upto).collect();
        let written = self.ledger_sql(options, &compared, table.is_some(), &files);
        if !self.write(options, &compared.guard, &written, &record.sql(self.set, &files)).await? {
            return Ok(None);
        }
        let head = files.last().map(|file| file.id().clone());
        Ok(Some(self.done(head, Baselining::Adopted, compared.differences)))
    }

    /// Returns the text of a difference for messages.
    fn line(&self, difference: &drift::Difference) -> String {
        match self.set == Set::Tenant && difference.grants_to_others() {
            true => format!("{difference}: a hole in isolation"),
            false => difference.to_string(),
        }
    }

    fn is_accepted(&self, options: &BaselineOptions, difference: &drift::Difference) -> bool {
        let object = format!("{} {}", difference.kind, difference.object);
        let is_hole = self.set == Set::Tenant && difference.grants_to_others();
        let is_it = |accepted: &String| *accepted == self.line(difference) || (!is_hole && *accepted == object);
        options.accept_differences.is_some() && options.accept.iter().any(is_it)
    }

    /// Creates the missing parts of the tenant, if the schema already has a ledger of cgk with the requested version.
    async fn finish(
        &self,
        options: &BaselineOptions,
        table: Option<LedgerTable>,
        rows: Vec<Applied>,
    ) -> Result<Option<Baselined>> {
        let head = rows.last().map(|row| row.id.clone());
        plan::plan(self.migrations.set(self.set), self.schema, rows.clone(), Target::Head)
            .map_err(MigrationError::Diverged)?;
        let version = head.as_ref().map(|head| head.version);
        if let Some(wanted) = options.version.filter(|wanted| Some(*wanted) != version) {
            let recorded = head.map(|head| head.to_string()).unwrap_or_default();
            return Err(self.refuse(LedgerProblem::OtherVersion { recorded, wanted }));
        }
        if self.is_whole() {
            return Ok(Some(self.done(head, Baselining::Existed, Vec::new())));
        }
        let mut sql = String::new();
        if let (Some(role), Some(_)) = (&self.role, table) {
            sql.push_str(&isolation::protect_ledger_sql(self.schema, role.ident()));
        }
        let expected = literal(ledger::LedgerDigest::of(&rows).as_str());
        let guard =
            format!("select 1 / (case when {} = {expected} then 1 else 0 end);\n", ledger::digest_sql(self.schema));
        let done = self.write(options, &guard, &sql, "").await?;
        Ok(done.then(|| self.done(head, Baselining::Finished, Vec::new())))
    }

    fn done(&self, head: Option<MigrationId>, baselining: Baselining, accepted: Vec<drift::Difference>) -> Baselined {
        Baselined { schema: self.schema.clone(), slug: self.slug.cloned(), head, baselining, accepted }
    }

    /// Returns the newest migration that the schema is assumed to contain.
    async fn upto(&self, options: &BaselineOptions) -> Result<Option<Version>> {
        let source = self.migrations.set(self.set);
        let recorded = match &options.from_table {
            Some(table) => Some(foreign::newest(self.operator, self.schema, table, source).await?),
            None => None,
        };
        match (options.version, recorded) {
            (Some(version), Some(recorded)) if recorded != Some(version) => {
                let table = options.from_table.clone().unwrap_or_default();
                Err(self.refuse(LedgerProblem::OtherVersionInTable { table, recorded, wanted: version }))
            }
            (Some(version), _) if !source.files().iter().any(|file| file.id().version == version) => {
                Err(Error::Migration(MigrationError::NoSuchVersion { set: self.set, version }))
            }
            (Some(version), _) => Ok(Some(version)),
            (None, Some(recorded)) => Ok(recorded),
            (None, None) => Ok(source.head().map(|head| head.version)),
        }
    }

    fn ledger_sql(
        &self,
        options: &BaselineOptions,
        compared: &SchemaComparison,
        has_ledger: bool,
        files: &[&MigrationFile],
    ) -> String {
        let mut sql = match (has_ledger, &self.role) {
            (false, role) => ledger::create_sql(self.schema, role.as_ref()),
            (true, Some(role)) => isolation::protect_ledger_sql(self.schema, role.ident()),
            (true, None) => String::new(),
        };
        sql.push_str(&ledger::adopt_sql(self.schema, files));
        let rows: Vec<Applied> = files.iter().map(|file| Applied::of(file)).collect();
        sql.push_str(&ledger::demand_sql(self.schema, &rows));
        sql.push_str(&ledger::comment_sql(self.schema, &rows));
        if let Some(newest) = files.last().filter(|_| !has_ledger) {
            let reason = options.accept_differences.as_deref().filter(|_| !compared.differences.is_empty());
            let detail: Vec<String> = compared.differences.iter().map(|difference| self.line(difference)).collect();
            let reason = reason.unwrap_or("the schema matches the migrations");
            sql.push_str(&ledger::note_sql(self.schema, newest.id().version, "baseline", reason, &detail.join("\n")));
        }
        sql
    }

    /// Writes the registry row, the role and the grants, and the given statements in the schema. Returns `false` if the
    /// schema has changed meanwhile.
    async fn write(&self, options: &BaselineOptions, guard: &str, within: &str, recorded: &str) -> Result<bool> {
        let logins = match self.slug {
            Some(slug) => login::admitted(self.operator, slug).await?,
            None => Vec::new(),
        };
        // A schema that was restored from the dump of another database has that database's grants.
        let foreign = isolation::roles_of_other_databases(self.operator, self.schema).await?;
        let mut sql = self.opening(guard);
        // Computed once: an organization that is not in the registry gets a new id on each call.
        let id = self.facts.as_ref().map(organization);
        self.register(options, id, &logins, &mut sql);
        self.own(id, &foreign, &logins, within, &mut sql);
        // The operator writes the record of the fleet's files, no matter who owns the schema.
        sql.push_str("reset role;\n");
        sql.push_str(recorded);
        let what = || format!("adopt schema {:?}", self.schema.as_str());
        let doing = || while_doing(what());
        self.operator.reset_session().await.map_err(doing())?;
        let wait = self.operator.session().migration_wait;
        let answer = schema_lock::run(self.operator, self.schema, &sql, wait, what).await?;
        let Some(source) = answer.error else { return Ok(true) };
        let somebody_was_quicker = [
            SqlState::DIVISION_BY_ZERO,
            SqlState::UNIQUE_VIOLATION,
            SqlState::DUPLICATE_OBJECT,
            SqlState::DUPLICATE_TABLE,
        ];
        match source.code() {
            Some(state) if somebody_was_quicker.contains(state) => {
                identity::isolation::refuse_changed(self.operator).await?;
                Ok(false)
            }
            Some(&SqlState::INSUFFICIENT_PRIVILEGE) => Err(self.denied(source)),
            _ if row_check::is_constraint_of(&source, LEDGER_TABLE) => {
                let table = self.schema.qualified(LEDGER_TABLE);
                Err(Error::Migration(MigrationError::RowNotWritten { table, source: Some(source.into()) }))
            }
            _ => Err(doing()(source)),
        }
    }

    /// Returns the start of the transaction: its timeouts, the schema's lock, and the check that the schema has not
    /// changed.
    fn opening(&self, guard: &str) -> String {
        let session = self.operator.session();
        let head = MessageHead::of(self.operator)
            .lock_timeout(session.migration_wait)
            .statement_timeout(Duration::ZERO)
            .lock_schema(self.schema, Hold::Exclusive)
            .lock_timeout(session.lock_timeout)
            .statement_timeout(session.migration_statement_timeout);
        head.sql() + guard
    }

    /// Adds the registry row and the tenant's role.
    fn register(&self, options: &BaselineOptions, id: Option<OrganizationId>, logins: &[Admitted], sql: &mut String) {
        if self.slug.is_some() {
            sql.push_str(&identity::isolation::demand_sql(self.operator));
        }
        if let (Some(slug), Some(facts), Some(id)) = (self.slug, &self.facts, id) {
            sql.push_str(&match &facts.tenant {
                None => {
                    let name = options.name.as_deref().unwrap_or(slug.as_str());
                    registry::insert_sql(id, slug, name, &TenantStatus::Active)
                }
                Some(_) => registry::demand_sql(id, slug) + &registry::activate_sql(slug),
            });
            if let Some(role) = &self.role {
                let presence = if facts.has_role { RoleState::Present } else { RoleState::Absent };
                sql.push_str(&isolation::role_sql(self.operator.facts(), role, presence));
                sql.push_str(&login::enter_by_role_sql(self.operator.facts(), role, logins));
            }
        }
    }

    fn owner(&self) -> Option<&Ident> {
        self.facts.as_ref().and_then(|facts| facts.owner.as_ref())
    }

    /// Adds what the schema's owner runs: rights, the binding to the organization, and the statements in the schema.
    fn own(&self, id: Option<OrganizationId>, foreign: &[Ident], logins: &[Admitted], within: &str, sql: &mut String) {
        if let Some(owner) = self.owner().filter(|owner| owner.as_str() != self.operator.facts().role) {
            sql.push_str(&format!("set local role {};\n", owner.quoted()));
        }
        for role in foreign {
            sql.push_str(&isolation::revoke_sql(self.schema, role));
        }
        if let Some(role) = &self.role {
            sql.push_str(&isolation::grants_sql(self.schema, role.ident()));
        }
        if let (Some(facts), Some(id)) = (&self.facts, id) {
            sql.push_str(&binding::comment_sql(self.schema, id, facts.schema_comment.as_deref()));
        }
        sql.push_str(within);
        if self.role.is_none() {
            for login in logins {
                sql.push_str(&login::enter_by_path_sql(self.schema, &login.name));
            }
        }
    }

    fn denied(&self, source: tokio_postgres::Error) -> Error {
        let role = &self.operator.facts().role;
        let owner = self.owner().map_or_else(|| "the owner of everything in it".into(), Ident::quoted);
        Error::Setup(SetupError::Privilege {
            role: role.clone(),
            needed: format!("act as {owner}, the owner of schema {:?} and of what is in it", self.schema.as_str()),
            grant: format!("grant {owner} to {}", quoted(role)),
            source: Some(source.into()),
        })
    }
}
