//! The tenant that receives the data: its migrations, and the transaction that creates it with its rows.

use super::{
    contents::{Contents, Partition, Table},
    load::partitions_sql,
};
use crate::{
    binding,
    db::{Operator, message},
    error::{Error, MigrationError, Result, TenantError, TransferError, while_doing},
    ident::SchemaName,
    lifecycle::{
        DropOptions,
        create::{self, CreateOptions, NewTenantParts},
        drop_tenant,
    },
    lock,
    migrate::{
        Applied, Migrations, SchemaPlan, Set, Silent,
        execute::{apply, grouping::is_of_one_transaction, guard, unit::ApplyOutcome},
        plan::{self},
    },
    registry,
    slug::TenantSlug,
    tenant::{OrganizationId, Tenant},
};

/// The migrations of a new tenant. Those of its source are applied in one transaction with the rows. Newer ones are
/// applied after it.
pub(super) struct TargetFiles<'a> {
    same: SchemaPlan<'a>,
    newer: SchemaPlan<'a>,
    migrations: &'a Migrations,
}

impl<'a> TargetFiles<'a> {
    /// Returns the migrations for a ledger. Refuses a ledger that does not match the set.
    pub(super) fn of(migrations: &'a Migrations, schema: &SchemaName, ledger: &[Applied]) -> Result<Self> {
        let set = migrations.set(Set::Tenant);
        let newer = plan::plan(set, schema, ledger.to_vec(), plan::Target::Head).map_err(MigrationError::Diverged)?;
        let same = match ledger.last() {
            Some(last) => {
                let target = plan::Target::Version(last.id.version);
                plan::plan(set, schema, Vec::new(), target).map_err(MigrationError::Diverged)?
            }
            None => SchemaPlan { schema: schema.clone(), applied: Vec::new().into(), pending: Vec::new().into() },
        };
        Ok(Self { same, newer, migrations })
    }

    fn has_newer(&self) -> bool {
        !self.newer.pending.is_empty()
    }

    /// Returns which transactions are necessary. Refuses migrations that cannot run in one transaction if the set has
    /// newer ones than the source.
    async fn steps(&self, operator: &Operator, slug: &TenantSlug) -> Result<TransferSteps> {
        let is_in_steps = apply::is_born_in_steps(&self.same) || create::needs_steps(operator, self.migrations).await?;
        if !is_in_steps {
            return Ok(TransferSteps::Together);
        }
        if !self.has_newer() {
            return Ok(TransferSteps::RowsAfterSteps);
        }
        let pending = &self.same.pending;
        let file = pending.iter().find(|file| !file.is_transactional()).or_else(|| pending.first());
        let file = file.map(|file| file.id().to_string()).unwrap_or_default();
        Err(TransferError::NotInOneTransaction { tenant: slug.clone(), file }.into())
    }

    /// Applies the newer migrations to the tenant, and activates it. Returns the tenant, and how many migrations were
    /// applied. An error states that the tenant exists.
    async fn finish(&self, operator: &Operator, slug: &TenantSlug, making: &CreateOptions) -> Result<(Tenant, usize)> {
        let finished = async {
            // The server may have terminated a session that was idle during the load.
            let operator = operator.sibling().await?;
            self.finish_with(&operator, slug, making).await
        };
        let unfinished = |source: Error| TransferError::Unfinished { tenant: slug.clone(), source: source.into() };
        finished.await.map_err(|source| unfinished(source).into())
    }

    async fn finish_with(
        &self,
        operator: &Operator,
        slug: &TenantSlug,
        making: &CreateOptions,
    ) -> Result<(Tenant, usize)> {
        create::record_reference(operator, self.migrations).await;
        let mut migrated = 0;
        if self.has_newer() {
            migrated = create::create_unentered(operator, self.migrations, slug, making).await?.applied.len();
        }
        let tenant = registry::facts_of(operator, slug).await?.tenant;
        let tenant = tenant.ok_or_else(|| Error::Tenant(TenantError::NotFound { tenant: slug.clone() }))?;
        Ok((tenant, migrated))
    }
}

/// Which transactions create a tenant with its rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TransferSteps {
    /// One.
    Together,
    /// One for the tenant and its tables, and one for the rows: the server allows the use of a value that a migration
    /// adds to an enum only after the commit. Between the two, the schema has the mark of a started drop. So the tenant
    /// cannot be entered or activated, and after an interruption `cgk tenant:drop` removes it.
    RowsLater,
    /// The same, and the first transaction is several: the migrations cannot run in one.
    RowsAfterSteps,
}

/// Writes the rows of a new tenant. A trait, because the future of an asynchronous closure is not provably `Send` here.
pub(super) trait FillTenant {
    type Filled;

    /// Runs in a transaction. Calls [`TargetTenant::create`] first.
    fn fill(&mut self, target: &TargetTenant<'_>) -> impl Future<Output = Result<Self::Filled>> + Send;
}

/// Creates a tenant with the rows that `fill` writes: the tenant of `making`, which names its organization. Then
/// applies the newer migrations. Returns what `fill` returned, the tenant, and how many newer migrations were applied.
///
/// The transaction has this isolation. If the migrations or the rows need other transactions than one, all of it is
/// tried again in those.
pub(super) async fn create_filled<F: FillTenant>(
    operator: &Operator,
    files: &TargetFiles<'_>,
    slug: &TenantSlug,
    making: &CreateOptions,
    (id, isolation): (OrganizationId, &str),
    mut fill: F,
) -> Result<(F::Filled, Tenant, usize)> {
    let mut steps = files.steps(operator, slug).await?;
    let filled = loop {
        // If the future is dropped, this connection is closed, and the server rolls back.
        let connection = operator.sibling().await?;
        let parts = NewTenantParts::check(&connection, files.migrations, slug, making).await?;
        let by = parts.existing();
        if !by.is_empty() {
            return Err(TransferError::Exists { tenant: slug.clone(), by }.into());
        }
        let schema = &files.same.schema;
        let mut target =
            TargetTenant { operator: &connection, slug, schema, id, files, parts: &parts, steps, is_marked: false };
        match target.fill(isolation, &mut fill).await {
            Ok(filled) => break filled,
            Err(error) => match target.retry(&error) {
                Some(other) => steps = other,
                None => {
                    target.remove(operator).await;
                    return Err(error);
                }
            },
        }
    };
    let (tenant, migrated) = files.finish(operator, slug, making).await?;
    Ok((filled, tenant, migrated))
}

/// The new tenant, and the connection that creates it.
pub(super) struct TargetTenant<'a> {
    /// A separate connection. If the future is dropped, it is closed, and the server rolls back.
    pub(super) operator: &'a Operator,
    pub(super) slug: &'a TenantSlug,
    pub(super) schema: &'a SchemaName,
    pub(super) id: OrganizationId,
    pub(super) files: &'a TargetFiles<'a>,
    pub(super) parts: &'a NewTenantParts<'a>,
    steps: TransferSteps,
    /// Whether the tenant without rows is committed.
    is_marked: bool,
}

impl TargetTenant<'_> {
    /// Runs `fill` in a transaction, and commits. After an error, the connection must be closed, and [`Self::remove`]
    /// must be called.
    async fn fill<F: FillTenant>(&mut self, isolation: &str, fill: &mut F) -> Result<F::Filled> {
        if guard::is_needed(self.operator, &self.files.same) {
            self.send(guard::READ_ONLY_BUT_OURS).await?;
        }
        match self.steps {
            TransferSteps::Together => {}
            TransferSteps::RowsLater => {
                self.send("begin isolation level read committed, read write").await?;
                self.create_with_migrations(true).await?;
                self.send(&binding::mark_dropped_sql(self.schema, self.id, None)).await?;
                self.commit().await?;
                self.is_marked = true;
            }
            TransferSteps::RowsAfterSteps => self.create_in_steps().await?,
        }
        self.send(&format!("begin isolation level {isolation}, read write")).await?;
        let filled = fill.fill(self).await?;
        if self.steps != TransferSteps::Together {
            self.send(&self.unmark_sql()).await?;
        }
        self.commit().await?;
        Ok(filled)
    }

    async fn commit(&self) -> Result<()> {
        let doing = || while_doing(format!("create tenant {}", self.slug));
        message::run(self.operator.client(), "commit").await.map_err(doing())?.complete().map(drop).map_err(doing())
    }

    /// Creates the tenant with the migrations of its source, or locks the one that is already committed.
    pub(super) async fn create(&self) -> Result<()> {
        match self.steps {
            TransferSteps::Together => self.create_with_migrations(self.files.has_newer()).await,
            TransferSteps::RowsLater | TransferSteps::RowsAfterSteps => self.send(&self.lock_sql()).await,
        }
    }

    /// Creates the tenant without rows as a creation does, and with the mark.
    async fn create_in_steps(&mut self) -> Result<()> {
        let operator = self.operator.sibling().await?;
        let making = CreateOptions { is_marked: true, ..self.parts.options().clone() };
        let created = create::create_unentered(&operator, self.files.migrations, self.slug, &making).await;
        // Only a run that has created the tenant gets to a migration that fails after it.
        self.is_marked = matches!(created, Ok(_) | Err(Error::Migration(MigrationError::Failed(_))));
        created.map(drop)
    }

    /// Returns how to try again after an error, if this can help.
    fn retry(&self, error: &Error) -> Option<TransferSteps> {
        let state = error.sqlstate().filter(|_| self.steps == TransferSteps::Together)?;
        match error {
            Error::Migration(_) if self.files.has_newer() => None,
            Error::Migration(_) => is_of_one_transaction(state).then_some(TransferSteps::RowsAfterSteps),
            _ => (state.code() == "55P04").then_some(TransferSteps::RowsLater),
        }
    }

    async fn create_with_migrations(&self, stays_onboarding: bool) -> Result<()> {
        match self.parts.create(&self.files.same, stays_onboarding).await? {
            ApplyOutcome::Applied => Ok(()),
            ApplyOutcome::Stale => Err(Error::Tenant(TenantError::Changed { tenant: self.slug.clone() })),
            ApplyOutcome::Locked => {
                let (schema, waited) = (self.schema.clone(), self.operator.session().migration_wait);
                Err(Error::Migration(MigrationError::Locked { schema, waited }))
            }
        }
    }

    /// Returns SQL that locks the tenant, and fails with a division by zero unless it still has the mark.
    fn lock_sql(&self) -> String {
        let marked = binding::marked_dropped_sql(self.schema.as_str(), self.id);
        format!(
            "select pg_catalog.pg_advisory_xact_lock({});\n{}{}select 1 / (case when {marked} then 1 else 0 end);\n",
            lock::migration_key(self.schema),
            registry::sql::lock_row_sql(self.id),
            registry::demand_sql(self.id, self.slug),
        )
    }

    /// Returns SQL that removes the mark, and activates the tenant if it has all migrations.
    fn unmark_sql(&self) -> String {
        let mut sql = "reset all;\n".to_owned() + &binding::comment_sql(self.schema, self.id, None);
        if !self.files.has_newer() {
            sql.push_str(&registry::activate_sql(self.slug));
        }
        sql
    }

    /// Removes the tenant without rows after an error, if it is committed and its rows are not.
    async fn remove(&self, operator: &Operator) {
        if !self.is_marked {
            return;
        }
        if let Err(error) = self.remove_marked(operator).await {
            tracing::warn!(tenant = %self.slug, %error, "the tenant without rows remains; cgk tenant:drop removes it");
        }
    }

    async fn remove_marked(&self, operator: &Operator) -> Result<()> {
        let operator = operator.sibling().await?;
        let facts = registry::facts_of(&operator, self.slug).await?;
        let is_ours = facts.tenant.as_ref().is_some_and(|tenant| tenant.id == self.id);
        if is_ours && binding::is_being_dropped(facts.schema_comment.as_deref()) {
            drop_tenant(&operator, self.slug, &DropOptions::default().pause_factor(0), &mut Silent).await?;
        }
        Ok(())
    }

    /// Returns the contents of the new schema. First creates the partitions of the source that no migration creates.
    pub(super) async fn contents(&self, of_source: &[Partition]) -> Result<Contents> {
        let contents = Contents::read(self.operator, self.schema).await?;
        let sql = partitions_sql(self.schema, of_source, &contents);
        let sql = sql.map_err(|objects| TransferError::NotInSet { objects })?;
        if sql.is_empty() {
            return Ok(contents);
        }
        self.send(&sql).await?;
        Contents::read(self.operator, self.schema).await
    }

    pub(super) async fn send(&self, sql: &str) -> Result<()> {
        let doing = || while_doing(format!("create tenant {}", self.slug));
        message::run(self.operator.client(), sql).await.map_err(doing())?.complete().map(drop).map_err(doing())
    }
}

/// Pairs the tables and columns of a source with those of the target. Refuses tables, columns and sequences that the
/// target's migrations have not created.
pub(super) fn tables_of<'s>(
    target: &Contents,
    tables: impl Iterator<Item = (&'s str, Vec<&'s str>)>,
    sequences: impl Iterator<Item = &'s str>,
) -> Result<Vec<Table>> {
    let (mut found, mut missing) = (Vec::new(), Vec::new());
    for (name, column_names) in tables {
        let Some(table) = target.table(name) else {
            missing.push(format!("table {name}"));
            continue;
        };
        let mut columns = Vec::with_capacity(column_names.len());
        for column in column_names {
            match table.columns.iter().find(|own| own.name == column) {
                Some(own) => columns.push(own.clone()),
                None => missing.push(format!("column {name}.{column}")),
            }
        }
        found.push(Table { columns, ..table.clone() });
    }
    let is_there = |name: &&str| target.sequences.iter().any(|own| own.name == **name);
    missing.extend(sequences.filter(|name| !is_there(name)).map(|name| format!("sequence {name}")));
    if missing.is_empty() { Ok(found) } else { Err(TransferError::NotInSet { objects: missing }.into()) }
}
