//! Loads the features of a tenant and their rules in one environment, with one statement.

use super::{
    environment::Environment,
    error::{FlagsError, Result},
    evaluate::{Feature, Kind, Rule},
    snapshot::Snapshot,
};
use crate::{error::Error, tenancy::Statements, tenant::OrganizationId};
use serde::de::DeserializeOwned;
use tokio_postgres::Row;

/// Runs inside the tenant, with the names of the project and the environment.
pub(super) const LOAD: &str = include_str!("load.sql");

/// Loads the features and rules of an environment in a transaction of a tenant. The result includes the transaction's
/// own changes. Outside of a transaction, use [`Flags::snapshot`](super::Flags::snapshot), which caches them.
///
/// ```no_run
/// # async fn example(db: cgk::Db<cgk::flags::FlagsError>, acme: cgk::TenantSlug) -> cgk::flags::Result<()> {
/// use cgk::flags::{self, Environment, Stage, Subject};
/// db.with_tenant(&acme, async |tx| {
///     tx.execute("update features set enabled = true where key = 'beta'", &[]).await?;
///     let snapshot = flags::load(tx, &Environment::of(Stage::Dev)).await?;
///     assert!(snapshot.is_on("beta", &Subject::anonymous()));
///     Ok(())
/// })
/// .await
/// # }
/// ```
///
/// # Locks
///
/// None.
///
/// # Errors
///
/// `NoSuchEnvironment`; `TablesMissing`; `Database`.
///
/// # Cancel safety
///
/// If the future is dropped, nothing changes: the function only reads.
pub async fn load(tx: &impl Statements, environment: &Environment) -> Result<Snapshot> {
    let (project, stage) = (environment.project_name(), environment.stage().name());
    let rows = tx.query(LOAD, &[&project, &stage]).await?;
    read(&rows, environment)
}

/// Reads the rows of [`LOAD`].
pub(super) fn read(rows: &[Row], environment: &Environment) -> Result<Snapshot> {
    let Some(first) = rows.first() else {
        return Err(FlagsError::NoSuchEnvironment { environment: environment.clone() });
    };
    let organization: OrganizationId = column::<String>(first, 8)?.parse().map_err(unexpected)?;
    let is_notified = column(first, 9)?;
    let mut features = Vec::with_capacity(rows.len());
    for row in rows {
        // If there is no key, the environment exists and has no features.
        if let Some(key) = column::<Option<String>>(row, 0)? {
            features.push(feature(row, key)?);
        }
    }
    Ok(Snapshot::new(environment.clone(), organization, is_notified, features))
}

fn feature(row: &Row, key: String) -> Result<Feature> {
    let kind = match column::<&str>(row, 1)? {
        "boolean" => Kind::Boolean,
        "percentage" => Kind::Percentage(buckets(column(row, 3)?)?),
        "plan" => Kind::Plan(column(row, 6)?),
        other => return Err(unexpected(format!("the feature {key:?} is of the kind {other:?}"))),
    };
    Ok(Feature {
        kind,
        enabled: column(row, 2)?,
        on_value: json(&key, column(row, 4)?)?,
        off_value: json(&key, column(row, 5)?)?,
        rules: match column::<Option<&str>>(row, 7)? {
            Some(rules) => json::<Vec<Rule>>(&key, rules)?,
            None => Vec::new(),
        },
        key,
    })
}

fn buckets(of: i32) -> Result<u32> {
    u32::try_from(of).map_err(unexpected)
}

fn column<'a, T: tokio_postgres::types::FromSql<'a>>(row: &'a Row, index: usize) -> Result<T> {
    row.try_get(index).map_err(unexpected)
}

fn json<T: DeserializeOwned>(key: &str, text: &str) -> Result<T> {
    serde_json::from_str(text).map_err(|error| unexpected(format!("of the feature {key:?}: {error}")))
}

/// Returns the error for a value that the constraints of the tables do not allow.
fn unexpected(found: impl ToString) -> FlagsError {
    FlagsError::Database(Error::Unexpected { doing: "read the features of a tenant".into(), found: found.to_string() })
}
