//! `cgk user:merge`

use anyhow::Result;
use cgk::{
    UserId,
    platform::{DuplicateUsers, PlatformError},
};
use clap::Args;
use serde::Serialize;

use crate::cli::{
    exit::Exit,
    number,
    session::Session,
    ui::{
        report::{Missing, Refusal},
        style::{GOOD, paint},
    },
};

pub(crate) const EXAMPLES: &str = "\
Examples:
  cgk user:list --duplicates
  cgk user:merge $SECOND $FIRST    two ids of that list

Makes two users of one address one person: the second one gets the memberships of the first, which is deleted. Its \
             sessions end and its password is gone.";

#[derive(Args, Debug)]
pub(crate) struct Arguments {
    /// Id of the user that is deleted
    #[arg(value_parser = number::id::<UserId>)]
    user: UserId,
    /// Id of the user that stays
    #[arg(value_parser = number::id::<UserId>)]
    into: UserId,
}

#[derive(Serialize)]
struct Answer {
    v: u32,
    merged: String,
    into: String,
    exit: Exit,
}

pub(crate) async fn run(session: &Session<'_>, arguments: &Arguments) -> Result<Exit> {
    let db = session.connect().await?;
    let users = DuplicateUsers::new(&db).acting_as(session.actor(&db));
    users.merge(arguments.user, arguments.into).await.map_err(|error| match error {
        PlatformError::NotFound { .. } => {
            let message = format!("there is no user {} or no user {}", arguments.user, arguments.into);
            let hint = "`cgk user:list --duplicates` lists what can be merged.".into();
            Missing { message, hint }.into()
        }
        PlatformError::Invalid { .. } => {
            let message = format!("user {} cannot be merged into user {}: {error}", arguments.user, arguments.into);
            let hint = "`cgk user:list --duplicates` lists what can be merged.".into();
            Refusal { message, hint, exit: Exit::Usage }.into()
        }
        PlatformError::Referenced { .. } => {
            let hint =
                "Move or delete those rows first. They point at the user through a foreign key of several columns, at \
                        its membership, or in a way that this login does not see."
                    .into();
            Refusal { message: error.to_string(), hint, exit: Exit::Failed }.into()
        }
        other => anyhow::Error::from(other),
    })?;
    let (merged, into) = (arguments.user.to_string(), arguments.into.to_string());
    session.printer.sentence(format!("{} user {merged} into {into}", paint(GOOD, "merged")));
    session.printer.record(&Answer { v: crate::cli::JSON_VERSION, merged, into, exit: Exit::Done });
    Ok(Exit::Done)
}
