//! Counts how many schemas have which files, from their ledgers: one query for the fleet, and the rows of one ledger
//! for each distinct state.

use crate::{
    db::{Operator, own_objects::OwnObject},
    error::{Error, MigrationError, Result, while_doing},
    ident::SchemaName,
    migrate::{
        files::name::as_read_now,
        ledger::{self, Applied, LEDGER_TABLE},
        migrations::Migrations,
    },
    migration::Set,
    registry::{self, sql::IS_TENANT_SCHEMA},
    slug::TenantSlug,
    version::Version,
};
use futures_util::{StreamExt, TryStreamExt, stream};
use std::collections::BTreeMap;
use tokio_postgres::{error::SqlState, types::Type};

/// The maximum number of distinct states; a fleet usually has a few.
const STATES_MAX: i64 = 200;
/// The maximum number of ledgers that are read concurrently on the one connection.
const IN_FLIGHT_MAX: usize = 32;

/// The counted content of a fleet's ledgers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Census {
    states: Vec<CensusState>,
}

#[derive(Clone, Debug)]
struct CensusState {
    set: Set,
    /// The rows, with the ids of this version.
    rows: Vec<Applied>,
    schemas: usize,
}

impl Census {
    /// Counts the ledgers of the shared schema and of every tenant in the registry. Writes nothing. A ledger of another
    /// tool, or one that the role may not read, is left out.
    pub(crate) async fn take(operator: &Operator) -> Result<Self> {
        // Without a registry there is no fleet.
        if !operator.has(OwnObject::Registry).await? {
            return Ok(Self::default());
        }
        let doing = || while_doing("count which migrations the schemas have");
        // A ledger without a comment counts as a separate state.
        let sql = format!(
            "select pg_catalog.min(n.nspname::pg_catalog.text), pg_catalog.count(*)
             from pg_catalog.pg_class c
             join pg_catalog.pg_namespace n on n.oid = c.relnamespace
             where c.relname = '{LEDGER_TABLE}' and c.relkind in ('r', 'p')
               and (n.nspname = 'public'
                    or {IS_TENANT_SCHEMA})
             group by n.nspname = 'public', coalesce(pg_catalog.obj_description(c.oid, 'pg_class'), n.nspname::pg_catalog.text)
             order by 2 desc limit $1"
        );
        let rows = match operator.client().query_typed(&sql, &[(&STATES_MAX, Type::INT8)]).await {
            // It was dropped meanwhile.
            Err(error) if error.code() == Some(&SqlState::UNDEFINED_TABLE) => return Ok(Self::default()),
            // Another program's table has the registry's name: the error names the table and the missing columns.
            Err(error) if error.code() == Some(&SqlState::UNDEFINED_COLUMN) => {
                registry::require(operator).await?;
                return Err(doing()(error));
            }
            rows => rows.map_err(doing())?,
        };
        let mut found = Vec::with_capacity(rows.len());
        for row in rows {
            let (schema, count): (String, i64) = (row.try_get(0).map_err(doing())?, row.try_get(1).map_err(doing())?);
            let (set, schema) = match schema.strip_prefix("tenant_") {
                Some(slug) => (Set::Tenant, SchemaName::of_tenant(&slug.parse::<TenantSlug>()?)),
                None => (Set::Public, SchemaName::public()),
            };
            found.push((set, schema, usize::try_from(count).unwrap_or_default()));
        }
        let read = found.into_iter().map(|(set, schema, schemas)| async move {
            match ledger::read(operator, &schema).await {
                Ok(read) => Ok(Some(CensusState { set, rows: read.rows.iter().map(now).collect(), schemas })),
                Err(error) if is_not_ours(&error) => Ok(None),
                Err(error) => Err(error),
            }
        });
        let states: Vec<Option<CensusState>> = stream::iter(read).buffered(IN_FLIGHT_MAX).try_collect().await?;
        Ok(Self { states: states.into_iter().flatten().collect() })
    }

    /// Returns how many schemas of a set have exactly this row.
    pub(crate) fn with(&self, set: Set, row: &Applied) -> usize {
        let row = now(row);
        self.count(set, |rows| rows.contains(&row))
    }

    /// Returns how many schemas of a set have the version, with any file.
    pub(crate) fn with_version(&self, set: Set, version: Version) -> usize {
        self.count(set, |rows| rows.iter().any(|row| row.id.version == version))
    }

    /// Returns how many schemas of a set do not have the version but have a later one.
    pub(crate) fn past(&self, set: Set, version: Version) -> usize {
        self.count(set, |rows| {
            rows.iter().any(|row| row.id.version > version) && rows.iter().all(|row| row.id.version != version)
        })
    }

    /// Returns, for every version, the file that most schemas have.
    pub(crate) fn files(&self, set: Set) -> Vec<Applied> {
        let mut counts: BTreeMap<Version, Vec<(&Applied, usize)>> = BTreeMap::new();
        for state in self.states.iter().filter(|state| state.set == set) {
            for row in &state.rows {
                let rows = counts.entry(row.id.version).or_default();
                match rows.iter_mut().find(|(other, _)| *other == row) {
                    Some((_, count)) => *count += state.schemas,
                    None => rows.push((row, state.schemas)),
                }
            }
        }
        let most = |rows: Vec<(&Applied, usize)>| {
            let mut rows = rows.into_iter();
            let first = rows.next()?;
            Some(rows.fold(first, |best, row| if row.1 > best.1 { row } else { best }).0.clone())
        };
        counts.into_values().filter_map(most).collect()
    }

    fn count(&self, set: Set, holds: impl Fn(&[Applied]) -> bool) -> usize {
        let states = self.states.iter().filter(|state| state.set == set && holds(&state.rows));
        states.map(|state| state.schemas).sum()
    }
}

/// Returns a row as this version writes it.
fn now(row: &Applied) -> Applied {
    Applied { id: as_read_now(&row.id), checksum: row.checksum.clone() }
}

/// Adds to the error of a migration how many schemas already have its file. If that cannot be counted, it is left out.
pub(crate) async fn count_schemas(operator: &Operator, migrations: &Migrations, set: Set, error: &mut Error) {
    let Error::Migration(MigrationError::Failed(failure)) = error else { return };
    let Some(file) = migrations.set(set).files().iter().find(|file| file.path() == failure.file) else { return };
    match Census::take(operator).await {
        Ok(census) => failure.schemas_with_file = Some(census.with(set, &Applied::of(file))),
        Err(error) => tracing::debug!(%error, "could not count the schemas that have the file"),
    }
}

fn is_not_ours(error: &Error) -> bool {
    let states = [SqlState::UNDEFINED_COLUMN, SqlState::INSUFFICIENT_PRIVILEGE, SqlState::UNDEFINED_TABLE];
    error.sqlstate().is_some_and(|state| states.contains(state))
        || matches!(error, Error::Unexpected { .. } | Error::Migration(MigrationError::LedgerRefused { .. }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{migration::MigrationId, version::Checksum};

    fn row(version: i64, text: &str) -> Applied {
        let id = MigrationId { version: Version::new(version).unwrap(), name: "x".into() };
        Applied { id, checksum: Checksum::of(text) }
    }

    fn census(states: &[(Set, &[Applied], usize)]) -> Census {
        let state = |(set, rows, schemas): &(Set, &[Applied], usize)| CensusState {
            set: *set,
            rows: rows.to_vec(),
            schemas: *schemas,
        };
        Census { states: states.iter().map(state).collect() }
    }

    #[test]
    fn schemas_are_counted_by_what_their_ledgers_hold() {
        let [one, two, other, three] = [row(1, "a"), row(2, "b"), row(2, "B"), row(3, "c")];
        let census = census(&[
            (Set::Tenant, &[one.clone(), two.clone()], 5),
            (Set::Tenant, &[one.clone(), other.clone()], 2),
            (Set::Tenant, &[one.clone(), three.clone()], 1),
            (Set::Public, std::slice::from_ref(&two), 1),
        ]);
        let version = |number| Version::new(number).unwrap();
        assert_eq!((census.with(Set::Tenant, &two), census.with(Set::Tenant, &other)), (5, 2));
        assert_eq!((census.with(Set::Public, &two), census.with(Set::Public, &one)), (1, 0));
        assert_eq!(
            (census.with_version(Set::Tenant, version(2)), census.with_version(Set::Tenant, version(4))),
            (7, 0)
        );
        assert_eq!((census.past(Set::Tenant, version(2)), census.past(Set::Tenant, version(3))), (1, 0));
        assert_eq!(census.files(Set::Tenant), [one, two.clone(), three]);
        assert_eq!(census.files(Set::Public), [two]);
    }

    #[test]
    fn the_file_of_most_schemas_is_counted_over_all_ledgers() {
        let [two, other, three] = [row(2, "b"), row(2, "B"), row(3, "c")];
        let census = census(&[
            (Set::Tenant, std::slice::from_ref(&other), 5),
            (Set::Tenant, std::slice::from_ref(&two), 1),
            (Set::Tenant, &[two.clone(), three.clone()], 5),
        ]);
        assert_eq!(census.files(Set::Tenant), [two, three]);
        // Who has the version and a later one does not lack it.
        assert_eq!(census.past(Set::Tenant, Version::new(2).unwrap()), 0);
        assert_eq!(census.past(Set::Tenant, Version::new(1).unwrap()), 11);
    }
}
