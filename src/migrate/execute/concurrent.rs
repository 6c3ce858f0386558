//! Detects and removes what an interrupted CONCURRENTLY statement leaves behind.
//!
//! A `CREATE INDEX CONCURRENTLY` that fails or is killed leaves an INVALID index: no query uses it, every write updates
//! it, and `IF NOT EXISTS` treats it as the intended index. `REINDEX CONCURRENTLY` leaves a copy.
//! `DROP INDEX CONCURRENTLY` leaves an index that is no longer updated. `DETACH PARTITION CONCURRENTLY` leaves a
//! partition that is not completely detached. If the client was killed, the server may also have completed the
//! statement. The catalogue shows which of these happened.

use crate::{
    db::{Operator, message},
    error::{Error, Result, while_doing},
    ident::{IDENT_BYTES_MAX, SchemaName, literal},
    sql::{
        Statement,
        shape::{self, Name, Shape},
    },
};
use tokio_postgres::{
    error::SqlState,
    types::{ToSql, Type},
};

/// A CONCURRENTLY statement, with the names that are needed to find its remains.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::migrate) enum Concurrent {
    CreateIndex {
        index: String,
        table: String,
    },
    DropIndex {
        index: String,
    },
    /// REINDEX of one index, or of all indexes of a table.
    Reindex {
        index: Option<String>,
        table: Option<String>,
    },
    Detach {
        parent: String,
        child: String,
    },
}

/// What to do, depending on the existing objects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::migrate) enum ConcurrentStep {
    /// A server that had lost its client has completed the statement.
    Done,
    Run,
    RunInstead(String),
    /// It would change this relation, which is not in the tenant's schema.
    Refused {
        shared: String,
    },
}

/// An index found by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum IndexState {
    Nothing,
    Valid,
    Invalid,
    /// A relation of another kind.
    Other,
}

impl Concurrent {
    pub(in crate::migrate) fn of(statement: &Statement) -> Option<Self> {
        match shape::of(statement) {
            Shape::CreateIndex { name: Some(name), table, concurrently: true, .. } => {
                Some(Self::CreateIndex { index: clipped(&name), table: clipped(&table) })
            }
            // Here the server accepts only one name.
            Shape::DropIndex { names, concurrently: true } => {
                names.first().map(|name| Self::DropIndex { index: clipped(name) })
            }
            Shape::Reindex { kind, name: Some(name), concurrently: true } => match kind.as_str() {
                "index" => Some(Self::Reindex { index: Some(clipped(&name)), table: None }),
                "table" => Some(Self::Reindex { index: None, table: Some(clipped(&name)) }),
                _ => None,
            },
            Shape::AlterTable { table, actions, .. } => {
                let action = actions.first().filter(|action| action.has(&["concurrently"]))?;
                let child = action.name_after(&["detach", "partition"])?;
                Some(Self::Detach { parent: clipped(&table), child: clipped(&child) })
            }
            _ => None,
        }
    }

    /// Whether it blocks no reads and writes while it waits. Then it may wait longer than others.
    pub(in crate::migrate) fn waits_quietly(&self) -> bool {
        !matches!(self, Self::Detach { .. })
    }

    /// Checks the existing objects before the statement runs, and removes the remains of an earlier attempt.
    pub(in crate::migrate) async fn prepare(
        &self,
        operator: &Operator,
        schema: &SchemaName,
        statement: &Statement,
        begun: bool,
    ) -> Result<ConcurrentStep> {
        if let Some(name) = existing(statement).filter(|_| !begun)
            && is_shared(operator, schema, &name).await?
        {
            return Ok(ConcurrentStep::Refused { shared: name.shown() });
        }
        match self {
            Self::CreateIndex { index, .. } => match find(operator, schema, index).await? {
                IndexState::Valid if begun => return Ok(ConcurrentStep::Done),
                IndexState::Invalid => drop_index(operator, schema, index).await?,
                _ => {}
            },
            Self::DropIndex { index } if begun && find(operator, schema, index).await? == IndexState::Nothing => {
                return Ok(ConcurrentStep::Done);
            }
            Self::Reindex { .. } if begun => self.clean_up(operator, schema).await?,
            Self::Detach { parent, child } if begun => match pending(operator, schema, parent, child).await? {
                None => return Ok(ConcurrentStep::Done),
                Some(true) => {
                    let (parent, child) = (schema.qualified(parent), schema.qualified(child));
                    let text = format!("alter table {parent} detach partition {child} finalize");
                    return Ok(ConcurrentStep::RunInstead(text));
                }
                Some(false) => {}
            },
            _ => {}
        }
        Ok(ConcurrentStep::Run)
    }

    /// Checks that the statement had its effect.
    pub(in crate::migrate) async fn verify(&self, operator: &Operator, schema: &SchemaName) -> Result<()> {
        let Self::CreateIndex { index, .. } = self else { return Ok(()) };
        let found = match find(operator, schema, index).await? {
            IndexState::Valid => return Ok(()),
            IndexState::Nothing => "the index does not exist in the schema",
            IndexState::Invalid => "the index is not valid",
            IndexState::Other => "a relation with this name exists and is not an index",
        };
        Err(unexpected(schema, index, found.into()))
    }

    /// Whether the statement was refused because its object does not exist. Then it has left nothing.
    pub(in crate::migrate) fn found_nothing(&self, error: &Error) -> bool {
        let refusals = [SqlState::UNDEFINED_OBJECT, SqlState::UNDEFINED_TABLE, SqlState::WRONG_OBJECT_TYPE];
        matches!(self, Self::DropIndex { .. } | Self::Detach { .. })
            && error.sqlstate().is_some_and(|state| refusals.contains(state))
    }

    /// Removes the remains of a failed attempt. Fails if something cannot be removed now.
    pub(in crate::migrate) async fn clean_up(&self, operator: &Operator, schema: &SchemaName) -> Result<()> {
        match self {
            Self::CreateIndex { index, .. } => {
                if find(operator, schema, index).await? == IndexState::Invalid {
                    drop_index(operator, schema, index).await?;
                }
                Ok(())
            }
            Self::Reindex { index, table } => {
                for copy in copies(operator, schema, index.as_deref(), table.as_deref()).await? {
                    drop_index(operator, schema, &copy).await?;
                }
                Ok(())
            }
            Self::DropIndex { index } => match find(operator, schema, index).await? {
                IndexState::Valid => Ok(()),
                _ => Err(half_way(schema, "drop an index")),
            },
            Self::Detach { parent, child } => match pending(operator, schema, parent, child).await? {
                Some(false) => Ok(()),
                _ => Err(half_way(schema, "detach a partition")),
            },
        }
    }
}

fn unexpected(schema: &SchemaName, index: &str, found: String) -> Error {
    Error::Unexpected { doing: format!("create index {index:?} in schema {:?}", schema.as_str()), found }
}

/// Returns the existing relation that a statement names.
fn existing(statement: &Statement) -> Option<Name> {
    match shape::of(statement) {
        Shape::CreateIndex { table, .. } | Shape::AlterTable { table, .. } => Some(table),
        Shape::DropIndex { names, .. } => names.into_iter().next(),
        Shape::Reindex { name, .. } => name,
        _ => None,
    }
}

/// Whether a tenant's statement that names a relation would change one that is not in the tenant's schema, once per
/// tenant.
async fn is_shared(operator: &Operator, schema: &SchemaName, relation: &Name) -> Result<bool> {
    let public = SchemaName::public();
    if *schema == public {
        return Ok(false);
    }
    let further = operator.search_path().further().iter().map(|further| further.as_str());
    let places: Vec<&str> = match &relation.schema {
        Some(named) => vec![named],
        None => [schema.as_str(), public.as_str()].into_iter().chain(further).collect(),
    };
    let listed: Vec<String> = places.iter().map(|place| literal(place)).collect();
    let sql = format!(
        "select n.nspname::pg_catalog.text
         from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
         where c.relname = $1 and n.nspname in ({})",
        listed.join(", ")
    );
    let rows = query(operator, &sql, &[&clipped(relation)]).await?;
    let found: Vec<String> =
        rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>().map_err(while_doing("look at an index"))?;
    Ok(!found.is_empty() && !found.iter().any(|found| found == schema.as_str()))
}

fn half_way(schema: &SchemaName, doing: &str) -> Error {
    let doing = format!("{doing} of schema {:?}", schema.as_str());
    Error::Unexpected { doing, found: "it is incomplete; the next attempt completes it".into() }
}

/// Returns a name as the server stores it.
fn clipped(name: &Name) -> String {
    let mut end = name.name.len().min(IDENT_BYTES_MAX);
    while !name.name.is_char_boundary(end) {
        end -= 1;
    }
    name.name[..end].to_owned()
}

/// Compares a name as a name and not as text. A cast would prevent the use of an index, and the catalogue of a large
/// fleet is large.
async fn query(operator: &Operator, sql: &str, params: &[&str]) -> Result<Vec<tokio_postgres::Row>> {
    let params: Vec<(&(dyn ToSql + Sync), Type)> =
        params.iter().map(|text| (text as &(dyn ToSql + Sync), Type::TEXT)).collect();
    operator.client().query_typed(sql, &params).await.map_err(while_doing("look at an index"))
}

async fn find(operator: &Operator, schema: &SchemaName, index: &str) -> Result<IndexState> {
    let sql = "select c.relkind in ('i', 'I'), coalesce(i.indisvalid and i.indisready and i.indislive, false)
               from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
               left join pg_catalog.pg_index i on i.indexrelid = c.oid
               where n.nspname = $1 and c.relname = $2";
    let rows = query(operator, sql, &[schema.as_str(), index]).await?;
    let Some(row) = rows.first() else { return Ok(IndexState::Nothing) };
    let is_index: bool = row.try_get(0).map_err(while_doing("look at an index"))?;
    let is_valid: bool = row.try_get(1).map_err(while_doing("look at an index"))?;
    Ok(match (is_index, is_valid) {
        (false, _) => IndexState::Other,
        (true, true) => IndexState::Valid,
        (true, false) => IndexState::Invalid,
    })
}

/// Returns the INVALID copies that REINDEX CONCURRENTLY creates beside the indexes that it replaces.
async fn copies(
    operator: &Operator,
    schema: &SchemaName,
    index: Option<&str>,
    table: Option<&str>,
) -> Result<Vec<String>> {
    let sql = "select c.relname::pg_catalog.text
               from pg_catalog.pg_index i join pg_catalog.pg_class c on c.oid = i.indexrelid
               where not i.indisvalid and c.relname ~ '_cc(new|old)[0-9]*$' and i.indrelid in (
                   select t.oid from pg_catalog.pg_class t join pg_catalog.pg_namespace n on n.oid = t.relnamespace
                   where n.nspname = $1 and t.relname = $2
                   union all
                   select o.indrelid from pg_catalog.pg_index o join pg_catalog.pg_class oc on oc.oid = o.indexrelid
                   join pg_catalog.pg_namespace n on n.oid = oc.relnamespace
                   where n.nspname = $1 and oc.relname = $3)";
    let rows = query(operator, sql, &[schema.as_str(), table.unwrap_or(""), index.unwrap_or("")]).await?;
    rows.iter().map(|row| row.try_get(0).map_err(while_doing("look at an index"))).collect()
}

/// Whether a partition is being detached; `None` if it is not a partition of that table.
async fn pending(operator: &Operator, schema: &SchemaName, parent: &str, child: &str) -> Result<Option<bool>> {
    let sql = "select h.inhdetachpending from pg_catalog.pg_inherits h
               join pg_catalog.pg_class p on p.oid = h.inhparent join pg_catalog.pg_class c on c.oid = h.inhrelid
               join pg_catalog.pg_namespace n on n.oid = p.relnamespace and n.oid = c.relnamespace
               where n.nspname = $1 and p.relname = $2 and c.relname = $3";
    let rows = query(operator, sql, &[schema.as_str(), parent, child]).await?;
    rows.first().map(|row| row.try_get(0).map_err(while_doing("look at a partition"))).transpose()
}

/// Removes an unusable index, with the session's settings for the statement that it blocks.
async fn drop_index(operator: &Operator, schema: &SchemaName, index: &str) -> Result<()> {
    let doing = format!("drop the invalid index {index:?} of schema {:?}", schema.as_str());
    tracing::info!(schema = schema.as_str(), index, "dropping an index that is not valid");
    let sql = format!("drop index concurrently {};", schema.qualified(index));
    let answer = message::run(operator.client(), &sql).await.and_then(message::Answer::complete);
    answer.map(drop).map_err(while_doing(doing))
}
