//! The tenant that receives the data: its migrations, and the transaction that creates it with its rows.

use super::{
    contents::{Contents, Partition, Table},
    load::partitions_sql,
};
use crate::{
    db::{Operator, message},
    error::{Error, MigrationError, Result, TenantError, TransferError, while_doing},
    ident::SchemaName,
    lifecycle::create::{self, CreateOptions, NewTenantParts},
    migrate::{
        Applied, Migrations, SchemaPlan, Set,
        execute::{apply, guard, unit::ApplyOutcome},
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
        Ok(Self { same, newer })
    }

    fn has_newer(&self) -> bool {
        !self.newer.pending.is_empty()
    }

    /// Refuses migrations that cannot run in one transaction.
    pub(super) async fn refuse_steps(
        &self,
        operator: &Operator,
        migrations: &Migrations,
        slug: &TenantSlug,
    ) -> Result<()> {
        let is_in_steps = apply::is_born_in_steps(&self.same) || create::needs_steps(operator, migrations).await?;
        if !is_in_steps {
            return Ok(());
        }
        let pending = &self.same.pending;
        let file = pending.iter().find(|file| !file.is_transactional()).or_else(|| pending.first());
        let file = file.map(|file| file.id().to_string()).unwrap_or_default();
        Err(TransferError::NotInOneTransaction { tenant: slug.clone(), file }.into())
    }

    /// Applies the newer migrations to the tenant, and activates it. Returns the tenant, and how many migrations were
    /// applied. An error states that the tenant exists.
    pub(super) async fn finish(
        &self,
        operator: &Operator,
        migrations: &Migrations,
        slug: &TenantSlug,
        making: &CreateOptions,
    ) -> Result<(Tenant, usize)> {
        let finished = async {
            // The server may have terminated a session that was idle during the load.
            let operator = operator.sibling().await?;
            self.finish_with(&operator, migrations, slug, making).await
        };
        let unfinished = |source: Error| TransferError::Unfinished { tenant: slug.clone(), source: source.into() };
        finished.await.map_err(|source| unfinished(source).into())
    }

    async fn finish_with(
        &self,
        operator: &Operator,
        migrations: &Migrations,
        slug: &TenantSlug,
        making: &CreateOptions,
    ) -> Result<(Tenant, usize)> {
        create::record_reference(operator, migrations).await;
        let mut migrated = 0;
        if self.has_newer() {
            migrated = create::create_unentered(operator, migrations, slug, making).await?.applied.len();
        }
        let tenant = registry::facts_of(operator, slug).await?.tenant;
        let tenant = tenant.ok_or_else(|| Error::Tenant(TenantError::NotFound { tenant: slug.clone() }))?;
        Ok((tenant, migrated))
    }
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
}

impl TargetTenant<'_> {
    /// Runs the body in a transaction, and commits. After an error, the connection must be closed.
    pub(super) async fn in_transaction<T>(&self, isolation: &str, body: impl Future<Output = Result<T>>) -> Result<T> {
        let doing = || while_doing(format!("create tenant {}", self.slug));
        if guard::is_needed(self.operator, &self.files.same) {
            self.send(guard::READ_ONLY_BUT_OURS).await?;
        }
        self.send(&format!("begin isolation level {isolation}, read write")).await?;
        let done = body.await?;
        message::run(self.operator.client(), "commit").await.map_err(doing())?.complete().map_err(doing())?;
        Ok(done)
    }

    /// Creates the tenant with the migrations of its source.
    pub(super) async fn create(&self) -> Result<()> {
        match self.parts.create(&self.files.same, self.files.has_newer()).await? {
            ApplyOutcome::Applied => Ok(()),
            ApplyOutcome::Stale => Err(Error::Tenant(TenantError::Changed { tenant: self.slug.clone() })),
            ApplyOutcome::Locked => {
                let (schema, waited) = (self.schema.clone(), self.operator.session().migration_wait);
                Err(Error::Migration(MigrationError::Locked { schema, waited }))
            }
        }
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
