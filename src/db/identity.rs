//! Which database this is: what it says of itself through `public.cgk_database_tag()`.

use super::message;
use crate::ident::DatabaseTag;
use tokio_postgres::{Client, Error, error::SqlState};

/// What a database says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Identity {
    /// Nothing: it is not set up, or an earlier version set it up. Its name then decides.
    Unrecorded,
    /// The tag in the names of its roles.
    Recorded(DatabaseTag),
    /// It is a copy of another database, or was moved to another server: its OID is not the one that was recorded.
    Copied,
}

/// The name of the database and what it says of itself, in one round trip.
pub(crate) async fn read(client: &Client) -> Result<(String, Identity), Error> {
    let sql = "select pg_catalog.current_database(); select public.cgk_database_tag()";
    let answer = message::run(client, sql).await?;
    let text = |index: usize| answer.rows.get(index).map(|(_, row)| row.get(0).map(ToOwned::to_owned));
    let name = text(0).flatten().unwrap_or_default();
    let identity = match (&answer.error, text(1)) {
        (None, Some(Some(tag))) => DatabaseTag::recorded(&tag).map_or(Identity::Copied, Identity::Recorded),
        (None, _) => Identity::Copied,
        // No such function; or this login may not even look into `public`, and finds out more when it enters a tenant.
        (Some(error), _) if is_unrecorded(error) => Identity::Unrecorded,
        (Some(_), _) => return Err(answer.error.expect("it was there above")),
    };
    Ok((name, identity))
}

fn is_unrecorded(error: &Error) -> bool {
    let states = [SqlState::UNDEFINED_FUNCTION, SqlState::INSUFFICIENT_PRIVILEGE, SqlState::INVALID_SCHEMA_NAME];
    error.code().is_some_and(|state| states.contains(state))
}
