//! Reads which data a tenant's schema has: tables with the columns that can be copied, sequences, foreign keys,
//! triggers and materialized views.
//!
//! Every operation that copies a tenant uses this module, whether through a file or on the server:
//!
//! 1. Read the contents of the source ([`Contents::read`]) in the transaction that reads the rows, and refuse what
//!    cannot be copied ([`Contents::refuse_uncopyable`]).
//! 2. Create the target's schema with its migrations, and read its contents too.
//! 3. Run [`load::before_sql`](super::load::before_sql) with the contents of the target, in the transaction that loads.
//! 4. Load the rows of each table in any order: [`Table::copy_out_sql`] into [`Table::copy_in_sql`], with the same
//!    columns. On one server `insert into … select` works as well ([`Table::insert_sql`]). Values of the schema's own
//!    types are then converted to text ([`ColumnForm`]), because the two schemas have different types.
//! 5. Run [`load::after_sql`](super::load::after_sql), which also sets the sequences to the values of the source.
//! 6. Commit. If anything fails before, roll back: nothing is changed.
//!
//! # Rules
//!
//! - Partitioned tables are copied through their root, because the target can have other partitions than the source.
//!   Partitions that no migration created can be created before
//!   ([`load::partitions_sql`](super::load::partitions_sql)). A table that others inherit from is copied without the
//!   rows of its children, which are separate tables.
//! - Generated columns are not copied. Identity columns are: COPY writes the given values.
//! - Foreign keys inside the schema are dropped before the load and added after it, with the same definition. So
//!   cycles, self references and the order of tables do not matter, and each key is checked once, for all rows. The
//!   same applies to checks that are not validated, and to checks that call functions, which can read tables that are
//!   loaded later.
//! - Indexes, primary keys and unique constraints of large tables are dropped before the load and created after it, with
//!   the same definition ([`Contents::read_indexes`]). To build an index takes less time than to insert into it.
//! - Foreign keys to other schemas are not dropped, and are checked for each row. Dropping one would lock the shared
//!   table against readers until the commit.
//! - Triggers of users do not fire: they are disabled by name, and get their previous state after the load.
//!   `DISABLE TRIGGER` needs the table's owner; `session_replication_role` would need a superuser.
//! - If row security is forced on the owner, it is not forced during the load. In the source it is refused, unless the
//!   role bypasses it, because rows would be missing.
//! - Unlogged tables are copied like others. Foreign tables are not copied, because their rows are elsewhere.
//!   Materialized views are refreshed. The ledger is not data, and neither are tables of extensions.
//! - A column of large objects is refused: it contains only their numbers, and the objects do not belong to the schema.

mod sql;

use super::fields::FieldReader;
use crate::{
    db::Operator,
    error::{Result, TransferError},
    ident::{SchemaName, quoted},
};
use std::collections::BTreeSet;
use tokio_postgres::Row;

/// From this size on, the indexes of a table are built after its rows are loaded.
const LARGE_BYTES: u64 = 1 << 20;

/// The data of a schema.
#[derive(Clone, Debug, Default)]
pub(crate) struct Contents {
    /// The tables, the largest first.
    pub(crate) tables: Vec<Table>,
    pub(crate) sequences: Vec<Sequence>,
    pub(crate) foreign_keys: Vec<ForeignKey>,
    /// The checks that can fail while rows are loaded. Those of children are before those of their parents.
    pub(crate) checks: Vec<CheckConstraint>,
    /// The indexes that are built after the load.
    pub(crate) indexes: Vec<Index>,
    /// The triggers of users. Those of partitioned tables are before those of their partitions.
    pub(crate) triggers: Vec<Trigger>,
    /// The materialized views, in an order in which they can be refreshed.
    pub(crate) materialized_views: Vec<MaterializedView>,
    /// The foreign tables, whose rows are not in the schema.
    pub(crate) foreign_tables: Vec<String>,
    /// The partitions. Those of a root are before their own partitions.
    pub(crate) partitions: Vec<Partition>,
    /// Descriptions of the objects that cannot be copied.
    pub(crate) uncopyable: Vec<String>,
}

/// A table that has rows of its own: a plain one, or the root of a partitioned one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Table {
    pub(crate) name: String,
    pub(crate) kind: TableKind,
    /// The columns that can be copied, in the order of the table.
    pub(crate) columns: Vec<TableColumn>,
    /// Whether row security applies to the owner too.
    pub(crate) forces_row_security: bool,
    /// Its size on disk with TOAST, without indexes. For a partitioned table, the size of its partitions.
    pub(crate) bytes: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TableKind {
    Plain,
    Partitioned,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TableColumn {
    pub(crate) name: String,
    /// Whether its default value is the transaction's organization, the setting `app.current_organization_id`.
    pub(crate) is_organization: bool,
    /// How its values are copied to a column of the same name in another schema.
    pub(crate) form: ColumnForm,
    /// Its type as SQL, under the search path of the transaction.
    pub(crate) type_name: String,
}

/// How values are copied from one schema to another, on one server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ColumnForm {
    /// Unchanged.
    Value,
    /// As text: the type is one of the schema, or contains one.
    Text,
    /// As text that was written under the search path of the source. The type contains the identity of an object, as
    /// `regclass` does, and the object can be in the schema.
    NameText,
}

/// A materialized view.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MaterializedView {
    pub(crate) name: String,
    pub(crate) is_populated: bool,
}

/// A sequence: a separate one, or that of a serial or identity column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sequence {
    pub(crate) name: String,
    pub(crate) last_value: i64,
    pub(crate) is_called: bool,
}

/// A foreign key of a table. Foreign keys that a partition inherits from its root are not included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ForeignKey {
    pub(crate) table: String,
    pub(crate) name: String,
    /// Its definition as SQL, with qualified names.
    pub(crate) definition: String,
    pub(crate) comment: Option<String>,
    pub(crate) columns: Vec<String>,
    /// The referenced table; `None` if it is in another schema.
    pub(crate) referenced: Option<String>,
    pub(crate) referenced_columns: Vec<String>,
}

/// A check of a table that is not validated, or that calls functions, which can read other tables. Inherited checks are
/// not included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CheckConstraint {
    pub(crate) table: String,
    pub(crate) name: String,
    /// Its definition as SQL, under the search path of the transaction.
    pub(crate) definition: String,
    pub(crate) comment: Option<String>,
}

/// An index of a table, which can be that of a primary key or unique constraint of the same name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Index {
    pub(crate) table: String,
    pub(crate) name: String,
    /// The statement that creates it, with qualified names.
    pub(crate) definition: String,
    pub(crate) comment: Option<String>,
    /// The definition of its constraint.
    pub(crate) constraint: Option<String>,
    pub(crate) constraint_comment: Option<String>,
}

/// A partition of a table in the same schema.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Partition {
    pub(crate) name: String,
    pub(crate) parent: String,
    /// The values of its rows, as SQL: `FOR VALUES …` or `DEFAULT`.
    pub(crate) bound: String,
    /// Whether it contains rows itself, instead of partitions.
    pub(crate) is_leaf: bool,
}

/// A trigger of a user, on a table or on a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Trigger {
    pub(crate) table: String,
    pub(crate) name: String,
    pub(crate) state: TriggerState,
}

/// When a trigger fires, according to `session_replication_role`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TriggerState {
    Origin,
    Replica,
    Always,
    Disabled,
}

impl Contents {
    /// Returns the materialized views that have contents.
    pub(super) fn populated_views(&self) -> Vec<String> {
        self.materialized_views.iter().filter(|view| view.is_populated).map(|view| view.name.clone()).collect()
    }

    /// Reads the contents of a schema, with the values of its sequences. It reads the catalogue in the connection's
    /// transaction. The values of sequences are always the current ones.
    pub(crate) async fn read(operator: &Operator, schema: &SchemaName) -> Result<Self> {
        let what = format!("read the tables of schema {:?}", schema.as_str());
        let fields = FieldReader { operator, what };
        let mut contents = Self::default();
        for row in fields.rows(&sql::tables_sql(schema)).await? {
            contents.add_table(&fields, &row)?;
        }
        for row in fields.rows(&sql::foreign_keys_sql(schema)).await? {
            contents.foreign_keys.push(foreign_key(&fields, &row)?);
        }
        for row in fields.rows(&sql::checks_sql(schema)).await? {
            let (table, name) = (fields.of(&row, 0)?, fields.of(&row, 1)?);
            let (definition, comment) = (fields.of(&row, 2)?, fields.of(&row, 3)?);
            contents.checks.push(CheckConstraint { table, name, definition, comment });
        }
        for row in fields.rows(&sql::triggers_sql(schema)).await? {
            let state: String = fields.of(&row, 2)?;
            let state = match state.as_str() {
                "R" => TriggerState::Replica,
                "A" => TriggerState::Always,
                "D" => TriggerState::Disabled,
                _ => TriggerState::Origin,
            };
            contents.triggers.push(Trigger { table: fields.of(&row, 0)?, name: fields.of(&row, 1)?, state });
        }
        for row in fields.rows(&sql::partitions_sql(schema)).await? {
            let (name, parent) = (fields.of(&row, 0)?, fields.of(&row, 1)?);
            let (bound, is_leaf) = (fields.of(&row, 2)?, fields.of(&row, 3)?);
            contents.partitions.push(Partition { name, parent, bound, is_leaf });
        }
        for row in fields.rows(&sql::others_sql(schema)).await? {
            let (kind, name): (String, String) = (fields.of(&row, 0)?, fields.of(&row, 1)?);
            match kind.as_str() {
                "m" => {
                    let is_populated = fields.of(&row, 2)?;
                    contents.materialized_views.push(MaterializedView { name, is_populated });
                }
                "f" => contents.foreign_tables.push(name),
                "p" => contents.uncopyable.push(format!("partition {name} is a foreign table")),
                _ => contents.sequences.push(Sequence { name, last_value: 0, is_called: false }),
            }
        }
        contents.read_sequences(&fields, schema).await?;
        Ok(contents)
    }

    /// Reads which indexes are built after the load: those of the large ones of some tables, which are given
    /// with their sizes. For small tables, they are kept: the difference is small, and each new index takes a lock more.
    pub(super) async fn read_indexes(
        &mut self,
        operator: &Operator,
        schema: &SchemaName,
        tables: impl Iterator<Item = (&str, u64)>,
    ) -> Result<()> {
        let large: Vec<&str> = tables.filter(|(_, bytes)| *bytes >= LARGE_BYTES).map(|(table, _)| table).collect();
        if large.is_empty() {
            return Ok(());
        }
        let fields = FieldReader { operator, what: format!("read the indexes of schema {:?}", schema.as_str()) };
        for row in fields.rows(&sql::indexes_sql(schema, &large)).await? {
            self.indexes.push(Index {
                table: fields.of(&row, 0)?,
                name: fields.of(&row, 1)?,
                definition: fields.of(&row, 2)?,
                comment: fields.of(&row, 3)?,
                constraint: fields.of(&row, 4)?,
                constraint_comment: fields.of(&row, 5)?,
            });
        }
        Ok(())
    }

    fn add_table(&mut self, fields: &FieldReader<'_>, row: &Row) -> Result<()> {
        let (name, kind): (String, String) = (fields.of(row, 0)?, fields.of(row, 1)?);
        let (bytes, columns): (i64, Vec<String>) = (fields.of(row, 3)?, fields.of(row, 4)?);
        let (organization, large): (Vec<bool>, Vec<bool>) = (fields.of(row, 5)?, fields.of(row, 6)?);
        let (forms, types): (Vec<String>, Vec<String>) = (fields.of(row, 7)?, fields.of(row, 8)?);
        let lost = columns.iter().zip(large).filter(|(_, large)| *large);
        self.uncopyable.extend(lost.map(|(column, _)| format!("column {name}.{column} has the type of large objects")));
        let forms = forms.iter().map(|form| match form.as_str() {
            "name" => ColumnForm::NameText,
            "text" => ColumnForm::Text,
            _ => ColumnForm::Value,
        });
        let column =
            |(((name, is_organization), form), type_name)| TableColumn { name, is_organization, form, type_name };
        self.tables.push(Table {
            kind: if kind == "p" { TableKind::Partitioned } else { TableKind::Plain },
            columns: columns.into_iter().zip(organization).zip(forms).zip(types).map(column).collect(),
            forces_row_security: fields.of(row, 2)?,
            bytes: bytes.unsigned_abs(),
            name,
        });
        Ok(())
    }

    async fn read_sequences(&mut self, fields: &FieldReader<'_>, schema: &SchemaName) -> Result<()> {
        if self.sequences.is_empty() {
            return Ok(());
        }
        let each = self.sequences.iter().enumerate().map(|(number, sequence)| {
            format!("select {number}, s.last_value, s.is_called from {} s", of(schema, &sequence.name))
        });
        let sql = each.collect::<Vec<_>>().join("\nunion all ");
        for row in fields.rows(&sql).await? {
            let number: i32 = fields.of(&row, 0)?;
            let sequence = usize::try_from(number).ok().and_then(|number| self.sequences.get_mut(number));
            if let Some(sequence) = sequence {
                (sequence.last_value, sequence.is_called) = (fields.of(&row, 1)?, fields.of(&row, 2)?);
            }
        }
        Ok(())
    }

    /// Returns the names of all tables that contain rows themselves, including the ledger.
    pub(super) async fn table_names(operator: &Operator, schema: &SchemaName) -> Result<Vec<String>> {
        let fields = FieldReader { operator, what: format!("list the tables of schema {:?}", schema.as_str()) };
        let tables = sql::relations(schema, "", "c.relkind in ('r', 'p') and not c.relispartition");
        let rows = fields.rows(&format!("select c.relname::pg_catalog.text from {tables} order by 1")).await?;
        rows.iter().map(|row| fields.of(row, 0)).collect()
    }

    /// Refuses contents that cannot be copied, and names them. `bypasses` is whether the role reads rows that row
    /// security hides.
    pub(crate) fn refuse_uncopyable(&self, schema: &SchemaName, bypasses: RowSecurity) -> Result<()> {
        let mut objects = self.uncopyable.clone();
        if bypasses == RowSecurity::Applies {
            let forced = self.tables.iter().filter(|table| table.forces_row_security);
            objects.extend(forced.map(|table| format!("table {} forces row-level security on its owner", table.name)));
        }
        if objects.is_empty() {
            return Ok(());
        }
        Err(TransferError::NotCopyable { schema: schema.clone(), objects }.into())
    }

    /// The foreign keys between tables of the schema.
    pub(super) fn inner_foreign_keys(&self) -> impl Iterator<Item = &ForeignKey> {
        self.foreign_keys.iter().filter(|key| key.referenced.is_some())
    }

    pub(crate) fn table(&self, name: &str) -> Option<&Table> {
        self.tables.iter().find(|table| table.name == name)
    }

    /// Returns the columns, as table and column, that contain the tenant's organization: those whose default value is
    /// the transaction's organization, and those that reference such a column with a foreign key.
    ///
    /// When a tenant is copied for another organization, the source's id is replaced in these columns. Other values are
    /// not changed.
    pub(crate) fn organization_columns(&self) -> BTreeSet<(String, String)> {
        let of_table = |table: &Table| {
            let own = table.columns.iter().filter(|column| column.is_organization);
            own.map(|column| (table.name.clone(), column.name.clone())).collect::<Vec<_>>()
        };
        let mut found: BTreeSet<(String, String)> = self.tables.iter().flat_map(of_table).collect();
        loop {
            let before = found.len();
            for key in &self.foreign_keys {
                let Some(referenced) = &key.referenced else { continue };
                for (column, target) in key.columns.iter().zip(&key.referenced_columns) {
                    if found.contains(&(referenced.clone(), target.clone())) {
                        found.insert((key.table.clone(), column.clone()));
                    }
                }
            }
            if found.len() == before {
                return found;
            }
        }
    }
}

/// Whether row security hides rows from the role.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RowSecurity {
    Applies,
    Bypassed,
}

impl RowSecurity {
    /// Whether a table that forces row security hides rows from the operator.
    pub(crate) async fn of(operator: &Operator) -> Result<Self> {
        let fields = FieldReader { operator, what: "look whether the role bypasses row-level security".into() };
        let sql = "select r.rolsuper or r.rolbypassrls from pg_catalog.pg_roles r where r.rolname = current_user";
        let rows = fields.rows(sql).await?;
        let bypasses = rows.first().map(|row| fields.of(row, 0)).transpose()?.unwrap_or(false);
        Ok(if bypasses { Self::Bypassed } else { Self::Applies })
    }
}

impl Table {
    /// Returns the statement that writes the table's rows, as text.
    pub(crate) fn copy_out_sql(&self, schema: &SchemaName) -> String {
        let table = of(schema, &self.name);
        match self.kind {
            TableKind::Plain => format!("copy {table}{} to stdout", self.column_list()),
            TableKind::Partitioned => format!("copy (select {} from {table}) to stdout", self.column_names()),
        }
    }

    /// Returns the statement that loads rows with this table's columns, in the transaction that created the table. The
    /// rows of a plain table are frozen, so that no VACUUM writes them again.
    pub(crate) fn copy_in_sql(&self, schema: &SchemaName) -> String {
        let frozen = if self.kind == TableKind::Plain { " with (freeze)" } else { "" };
        format!("copy {}{} from stdin{frozen}", of(schema, &self.name), self.column_list())
    }

    /// Returns the `from …` clause for the table's rows.
    pub(crate) fn rows_sql(&self, schema: &SchemaName) -> String {
        // The rows of children belong to other tables. The rows of partitions belong to the root.
        let only = if self.kind == TableKind::Plain { "only " } else { "" };
        format!("from {only}{}", of(schema, &self.name))
    }

    /// Returns the statement that copies rows from a table of the same name in another schema. `values` are the
    /// expressions for this table's columns.
    pub(crate) fn insert_sql(&self, from: &SchemaName, to: &SchemaName, values: &[String]) -> String {
        format!(
            "insert into {}{} overriding system value\nselect {}\n{}",
            of(to, &self.name),
            self.column_list(),
            values.join(",\n       "),
            self.rows_sql(from)
        )
    }

    /// Returns the columns as a list for SQL, without parentheses.
    pub(crate) fn column_names(&self) -> String {
        self.columns.iter().map(|column| quoted(&column.name)).collect::<Vec<_>>().join(", ")
    }

    fn column_list(&self) -> String {
        // SQL does not allow an empty list. Without a list, the columns are those that are not generated.
        if self.columns.is_empty() { String::new() } else { format!(" ({})", self.column_names()) }
    }
}

/// Returns the qualified name of an object of the schema, for SQL text.
pub(super) fn of(schema: &SchemaName, name: &str) -> String {
    format!("{}.{}", schema.quoted(), quoted(name))
}

fn foreign_key(fields: &FieldReader<'_>, row: &Row) -> Result<ForeignKey> {
    Ok(ForeignKey {
        table: fields.of(row, 0)?,
        name: fields.of(row, 1)?,
        definition: fields.of(row, 2)?,
        comment: fields.of(row, 3)?,
        columns: fields.of(row, 4)?,
        referenced: fields.of(row, 5)?,
        referenced_columns: fields.of(row, 6)?,
    })
}
