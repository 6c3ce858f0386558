//! Reads which database this is and how it separates tenants, from `public.cgk_database_tag()` and
//! `public.cgk_isolation_modes()`.

use super::message;
use crate::{
    config::{Config, Isolation, IsolationModes},
    error::{Error, Result, SetupError},
    ident::DatabaseTag,
};
use tokio_postgres::{Client, Error as PgError, error::SqlState};

/// The recorded identity of a database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum DatabaseIdentity {
    /// The database has no recorded identity: it is not set up, or an earlier version set it up. Its name is used
    /// instead.
    Unrecorded,
    /// The tag in the names of its roles.
    Recorded(DatabaseTag),
    /// The database is a copy of another one, or was moved to another server: its OID differs from the recorded one.
    Copied,
}

/// Returns the name of the database and its recorded identity, in one round trip.
pub(crate) async fn read(client: &Client) -> Result<(String, DatabaseIdentity), PgError> {
    let sql = "select pg_catalog.current_database(); select public.cgk_database_tag()";
    let answer = message::run(client, sql).await?;
    let text = |index: usize| answer.rows.get(index).map(|(_, row)| row.get(0).map(ToOwned::to_owned));
    let name = text(0).flatten().unwrap_or_default();
    let identity = match (&answer.error, text(1)) {
        (None, Some(Some(tag))) => {
            DatabaseTag::recorded(&tag).map_or(DatabaseIdentity::Copied, DatabaseIdentity::Recorded)
        }
        (None, _) => DatabaseIdentity::Copied,
        // The function does not exist, or this login may not use `public`. In the second case, the entry into a tenant
        // reports the reason.
        (Some(error), _) if is_unrecorded(error) => DatabaseIdentity::Unrecorded,
        (Some(_), _) => return Err(answer.error.expect("it was there above")),
    };
    Ok((name, identity))
}

fn is_unrecorded(error: &PgError) -> bool {
    let states = [SqlState::UNDEFINED_FUNCTION, SqlState::INSUFFICIENT_PRIVILEGE, SqlState::INVALID_SCHEMA_NAME];
    error.code().is_some_and(|state| states.contains(state))
}

/// Returns how the database separates tenants, or `None` if no setup has recorded it.
pub(crate) async fn isolation_modes(client: &Client) -> Result<Option<IsolationModes>, PgError> {
    let answer = message::run(client, "select public.cgk_isolation_modes()").await?;
    match answer.error {
        None => Ok(answer.rows.first().and_then(|(_, row)| IsolationModes::parse(row.get(0)?))),
        Some(error) if is_unrecorded(&error) => Ok(None),
        Some(error) => Err(error),
    }
}

/// Refuses a configuration with an isolation that the database does not accept.
pub(crate) fn refuse_isolation(database: &str, modes: Option<IsolationModes>, config: &Config) -> Result<()> {
    let configured = config.isolation();
    match modes {
        Some(modes) if !modes.accepts(configured) => Err(Error::Setup(SetupError::IsolationMismatch {
            database: database.to_owned(),
            stored: modes.mode,
            configured,
        })),
        _ => Ok(()),
    }
}

/// Returns a condition: the database accepts this isolation. The server evaluates it during planning, and plans again
/// when the function is replaced.
pub(crate) fn accepts_sql(isolation: Isolation) -> String {
    format!(
        "pg_catalog.strpos(public.cgk_isolation_modes(), '{}'::pg_catalog.text) operator(pg_catalog.>) 0",
        isolation.as_str()
    )
}
