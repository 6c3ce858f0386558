//! Creates a tenant as a copy of another one, on the same server.

use super::{
    contents::{ColumnForm, Contents, RowSecurity, Table, TableColumn},
    export::TransferObserver,
    load::{after_sql, before_sql, settings_sql},
    mask::Mask,
    source::SourceTenant,
    target::{FillTenant, TargetFiles, TargetTenant, create_filled, tables_of},
};
use crate::{
    db::{Operator, message, message_head::lost_client_check},
    error::{Error, Result, TransferError, while_doing},
    ident::{SchemaName, literal, quoted},
    lifecycle::create::CreateOptions,
    migrate::{Migrations, ledger},
    registry,
    slug::TenantSlug,
    sqlstate,
    tenant::{OrganizationId, Tenant},
};
use std::collections::BTreeSet;
use uuid::Uuid;

/// A function that exists in the new schema while rows are copied. It returns the text of a value under the source's
/// search path.
const NAME_TEXT: &str = "cgk_text_of_source";

/// Options for a clone.
#[derive(Clone, Debug, Default)]
pub struct CloneOptions {
    name: Option<String>,
    rows: CloneRows,
}

/// Which rows a clone gets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum CloneRows {
    /// All rows of the source. The default.
    #[default]
    All,
    /// All rows of the source, with other values in some columns.
    Masked(Mask),
    /// No rows of the source: only those that its migrations insert.
    SchemaOnly,
}

impl CloneRows {
    fn mask(&self) -> Option<&Mask> {
        match self {
            Self::Masked(mask) => Some(mask),
            Self::All | Self::SchemaOnly => None,
        }
    }
}

impl CloneOptions {
    /// Sets the display name. Default: the slug.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Sets which rows are copied. Default: all.
    pub fn rows(mut self, rows: CloneRows) -> Self {
        self.rows = rows;
        self
    }
}

/// The result of a clone.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Cloned {
    /// The new tenant.
    pub tenant: Tenant,
    /// The source.
    pub source: Tenant,
    /// The number of copied tables.
    pub tables: usize,
    /// The number of copied rows.
    pub rows: u64,
    /// The number of columns that got values from the mask.
    pub masked_columns: usize,
    /// The number of columns in which the source's organization was replaced by the new one.
    pub mapped_columns: usize,
    /// The number of migrations that were applied after the copy, because the source is older than the set.
    pub migrated: usize,
    /// Foreign tables, whose rows were not copied.
    pub left_out: Vec<String>,
}

/// Creates a tenant as a copy of another one, with a new organization. First it applies the migrations up to those of
/// the source. Then the server copies the rows and the values of sequences from schema to schema, as of one snapshot.
/// Then it applies the migrations that are newer than the source. Before the commit, the rows of every table are
/// counted in both schemas. Generated columns are computed again, triggers do not fire, and foreign keys are checked at
/// the end.
///
/// The copy has the same recorded seeds as the source ([`seed`](crate::lifecycle::seed())), unless its rows are left
/// out.
///
/// As in [`import`](super::import()), the new organization's id replaces that of the source in columns that are filled
/// with the transaction's organization. A suspended tenant can be cloned. The copy is active.
///
/// # Locks
///
/// - On the source, until the commit, those of [`export`](super::export()). Reads and writes continue. Migrations, a
///   rename, a drop, and a TRUNCATE of its tables wait. In the whole database, VACUUM cannot remove rows that are newer
///   than the snapshot.
/// - For the new tenant, those of [`create`](crate::lifecycle::create()). If a migration adds a foreign key to a shared
///   table, that table is locked against writes until the commit.
///
/// # Committed when
///
/// Everything up to the migrations of the source in one transaction. If the set has newer migrations, the tenant is
/// `onboarding` until they are applied, and cannot be entered. If one of them fails, `cgk tenant:create` continues.
///
/// If a row has a value that a migration adds to an enum, there are two transactions, because the server allows its use
/// only after a commit. The first creates the tenant without rows, with the mark of a started drop. Migrations that
/// cannot run in one transaction are applied before the rows in the same way.
///
/// # Errors
///
/// - Kind `NotFound`: there is no such source.
/// - Kind `NotReady`: the source is still being created, or its schema does not exist.
/// - Kind `Conflict`: the new tenant exists ([`TransferError::Exists`]), or the migrations do not create what the
///   source contains ([`TransferError::NotInSet`]).
/// - Kind `Drift`: the source's ledger does not match the set.
/// - Kind `Invalid`: the mask names a table or column that the source does not have ([`TransferError::MaskUnknown`]).
/// - Kind `Refused`: the source contains objects that cannot be copied ([`TransferError::NotCopyable`]), its migrations
///   cannot run in one transaction and the set has newer ones, an expression of the mask fails or its values violate a
///   constraint ([`TransferError::MaskRefused`]), or the numbers of rows differ ([`TransferError::NotEqual`]).
/// - Kind `Locked`: a migration of the source takes longer than `session.migration_wait`.
/// - Those of [`create`](crate::lifecycle::create()).
///
/// # Cancel safety
///
/// If the future is dropped before the commit, nothing is changed. Between two commits, the tenant without rows
/// remains: [`drop_tenant`](crate::lifecycle::drop_tenant()) removes it.
pub async fn clone_tenant(
    operator: &Operator,
    migrations: &Migrations,
    from: &TenantSlug,
    to: &TenantSlug,
    options: &CloneOptions,
    observer: &mut dyn TransferObserver,
) -> Result<Cloned> {
    let source = SourceTenant::lock(operator, from, "tenant:clone").await?;
    // The transaction's snapshot is taken before its own locks.
    source.keep_isolation().await?;
    let mut making = CreateOptions::default().name(options.name.as_deref().unwrap_or(to.as_str()));
    let id = OrganizationId(Uuid::new_v4());
    making.organization = Some(id);
    let schema = SchemaName::of_tenant(to);
    let files = TargetFiles::of(migrations, &schema, &ledger::read(operator, &source.schema).await?.rows)?;
    let fill = FillFromTenant { source: &source, rows: &options.rows, observer };
    let (copied, tenant, migrated) =
        create_filled(operator, &files, to, &making, (id, "repeatable read"), fill).await?;
    let masked_columns = options.rows.mask().map_or(0, Mask::columns);
    let Copied { tables, rows, mapped_columns, left_out } = copied;
    Ok(Cloned { tenant, source: source.tenant, tables, rows, masked_columns, mapped_columns, migrated, left_out })
}

struct FillFromTenant<'a> {
    source: &'a SourceTenant,
    rows: &'a CloneRows,
    observer: &'a mut dyn TransferObserver,
}

impl FillTenant for FillFromTenant<'_> {
    type Filled = Copied;

    async fn fill(&mut self, target: &TargetTenant<'_>) -> Result<Copied> {
        CloneRun { target, source: self.source, rows: self.rows }.inside(self.observer).await
    }
}

/// One clone.
struct CloneRun<'a> {
    target: &'a TargetTenant<'a>,
    source: &'a SourceTenant,
    rows: &'a CloneRows,
}

#[derive(Default)]
struct Copied {
    tables: usize,
    rows: u64,
    mapped_columns: usize,
    left_out: Vec<String>,
}

impl CloneRun<'_> {
    fn mask(&self) -> Option<&Mask> {
        self.rows.mask()
    }

    /// Runs the statements of the transaction.
    async fn inside(&self, observer: &mut dyn TransferObserver) -> Result<Copied> {
        let (target, source) = (self.target, &self.source.schema);
        let operator = target.operator;
        let search_path = operator.search_path();
        let locked = self.source.table_names().await?;
        self.source.lock_tables(operator, &locked, operator.session().lock_timeout).await?;
        target.send(&settings_sql(&search_path.of(source))).await?;
        let of_source = self.source.contents(operator, &locked).await?;
        if *self.rows != CloneRows::SchemaOnly {
            of_source.refuse_uncopyable(source, RowSecurity::of(operator).await?)?;
        }
        if let Some(mask) = self.mask() {
            mask.check(&of_source)?;
        }
        // From here on, row security of the registry applies again.
        target.send("reset all").await?;
        target.create().await?;
        target.send(&settings_sql(&search_path.of(target.schema))).await?;
        if let Some(check) = lost_client_check(operator) {
            target.send(&format!("select {check}")).await?;
        }
        let mut contents = target.contents(&of_source.partitions).await?;
        let sequences = of_source.sequences.iter().map(|sequence| sequence.name.as_str());
        let tables = tables_of(&contents, of_source.tables.iter().map(names_of), sequences)?;
        if *self.rows == CloneRows::SchemaOnly {
            return Ok(Copied::default());
        }
        let sizes = of_source.tables.iter().map(|table| (table.name.as_str(), table.bytes));
        contents.read_indexes(operator, target.schema, sizes).await?;
        target.send(&before_sql(target.schema, &contents)).await?;
        let mapped = contents.organization_columns();
        let copied = self.copy(&tables, &mapped, &of_source, observer).await?;
        self.compare(&tables).await?;
        let after = after_sql(target.schema, &contents, &of_source.sequences, &of_source.populated_views());
        let done = message::run(operator.client(), &after).await.and_then(message::Answer::complete);
        done.map_err(|error| self.refused(None, error))?;
        if registry::seeds_exist(operator).await? {
            target.send(&registry::copy_seeds_sql(self.source.tenant.id, target.id)).await?;
        }
        self.source.refuse_unlocked().await?;
        Ok(copied)
    }

    /// Copies the tables one after another.
    async fn copy(
        &self,
        tables: &[Table],
        mapped: &BTreeSet<(String, String)>,
        of_source: &Contents,
        observer: &mut dyn TransferObserver,
    ) -> Result<Copied> {
        let target = self.target;
        let is_name = |column: &TableColumn| column.form == ColumnForm::NameText;
        let needs_names = tables.iter().any(|table| table.columns.iter().any(is_name));
        let name_text = format!("{}.{NAME_TEXT}", target.schema.quoted());
        if needs_names {
            let path = target.operator.search_path().of(&self.source.schema);
            target
                .send(&format!(
                    "create function {name_text}(value anyelement) returns pg_catalog.text language sql stable
                     set search_path = {path} as 'select $1::pg_catalog.text'"
                ))
                .await?;
        }
        let total = of_source.tables.iter().map(|table| table.bytes).sum();
        let mut copied = Copied { left_out: of_source.foreign_tables.clone(), ..Copied::default() };
        let mut bytes = 0;
        for table in tables {
            let masks = self.mask().and_then(|mask| mask.of_table(&table.name));
            let value = |column: &TableColumn| {
                let is_mapped = mapped.contains(&(table.name.clone(), column.name.clone()));
                match masks.and_then(|masks| masks.get(&column.name)) {
                    // The expression can end with a comment.
                    Some(expression) => format!("({expression}\n)"),
                    None if is_mapped => self.mapped(column, &name_text),
                    None => copied_value(column, &name_text),
                }
            };
            let values: Vec<String> = table.columns.iter().map(value).collect();
            let sql = table.insert_sql(&self.source.schema, target.schema, &values);
            // `execute_typed` sends one statement only, whatever text a mask contains.
            let inserted = target.operator.client().execute_typed(&sql, &[]).await;
            copied.rows += inserted.map_err(|error| self.refused(masks.map(|_| table), error))?;
            copied.tables += 1;
            copied.mapped_columns +=
                table.columns.iter().filter(|own| mapped.contains(&(table.name.clone(), own.name.clone()))).count();
            bytes += of_source.table(&table.name).map_or(0, |table| table.bytes);
            observer.moved(target.slug, bytes, total);
        }
        if needs_names {
            target.send(&format!("drop function {name_text}(anyelement)")).await?;
        }
        Ok(copied)
    }

    /// Returns the value for a column that contains the organization.
    fn mapped(&self, column: &TableColumn, name_text: &str) -> String {
        let (from, to) = (literal(&self.source.tenant.id.to_string()), literal(&self.target.id.to_string()));
        format!(
            "case when {}::pg_catalog.text = {from} then {to}::{} else {} end",
            quoted(&column.name),
            column.type_name,
            copied_value(column, name_text)
        )
    }

    /// Compares the numbers of rows of all tables in both schemas, in the transaction's snapshot. They can differ
    /// because a rule can change what an INSERT does, and a mask can return several rows.
    async fn compare(&self, tables: &[Table]) -> Result<()> {
        let doing = || while_doing(format!("compare tenants {} and {}", self.source.tenant.slug, self.target.slug));
        let count = |table: &Table, schema| format!("(select pg_catalog.count(*) {})", table.rows_sql(schema));
        for table in tables {
            let counts = [count(table, &self.source.schema), count(table, self.target.schema)];
            let sql = format!("select {}", counts.join(", "));
            let rows = self.target.operator.client().query_typed(&sql, &[]).await.map_err(doing())?;
            let Some(row) = rows.first() else { continue };
            let (wanted, found): (i64, i64) = (row.try_get(0).map_err(doing())?, row.try_get(1).map_err(doing())?);
            if wanted != found {
                let problem = format!("it has {found} rows, and the source has {wanted}");
                return Err(TransferError::NotEqual { table: table.name.clone(), problem }.into());
            }
        }
        Ok(())
    }

    /// Returns the error for a failed copy of rows. It is an error of the mask if the mask has an expression for the
    /// table, or, if no table is given, for any table.
    fn refused(&self, table: Option<&Table>, source: tokio_postgres::Error) -> Error {
        let (from, to) = (&self.source.tenant.slug, self.target.slug);
        let is_of_rows = source.code().is_some_and(|state| {
            !sqlstate::is_lost(&source) && !sqlstate::is_passing(state) && !sqlstate::is_the_servers(state)
        });
        let of_server = source.as_db_error().and_then(|answer| answer.table()).map(ToOwned::to_owned);
        let table = table.map(|table| table.name.clone()).or(of_server.filter(|_| self.mask().is_some()));
        match table {
            Some(table) if is_of_rows => TransferError::MaskRefused { table, source: source.into() }.into(),
            _ => while_doing(format!("copy the rows of tenant {from} to tenant {to}"))(source),
        }
    }
}

/// Returns a table and the columns that are copied.
fn names_of(table: &Table) -> (&str, Vec<&str>) {
    (&table.name, table.columns.iter().map(|column| column.name.as_str()).collect())
}

/// Returns the value of a column of the source for the same column of the target.
fn copied_value(column: &TableColumn, name_text: &str) -> String {
    let (name, type_name) = (quoted(&column.name), &column.type_name);
    match column.form {
        ColumnForm::Value => name,
        ColumnForm::Text => format!("{name}::pg_catalog.text::{type_name}"),
        ColumnForm::NameText => format!("{name_text}({name})::{type_name}"),
    }
}
