//! `cgk user:create`

use anyhow::Result;
use cgk::auth::{AuthError, NewUser};
use clap::Args;

use super::{RoleArg, record};
use crate::cli::{
    auth::{Target, password},
    exit::Exit,
    session::Session,
    ui::{
        report::Refusal,
        style::{COMMAND, GOOD, paint, sanitize},
    },
};

pub(crate) const EXAMPLES: &str = "\
Examples:
  cgk user:create acme ada@example.com --role owner
  cgk user:create acme ada@example.com --password-stdin    asks for it
  pass show ada | cgk user:create acme ada@example.com --password-stdin
  cgk user:create acme ben@example.com --invited

Without a password the user signs in by magic link or a provider. An e-mail address exists once per \
             tenant, whatever its letter case.";

#[derive(Args, Debug)]
pub(crate) struct Arguments {
    /// Slug of the tenant
    #[arg(value_name = "TENANT")]
    slug: String,
    /// E-mail address of the user
    email: String,
    /// Role in the tenant
    #[arg(long, value_enum, default_value = "member")]
    role: RoleArg,
    /// Create the user as invited: it cannot sign in until it is active
    #[arg(long)]
    invited: bool,
    /// Read the password from standard input; a terminal asks for it
    #[arg(long)]
    password_stdin: bool,
}

pub(crate) async fn run(session: &Session<'_>, arguments: &Arguments) -> Result<Exit> {
    let printer = session.printer;
    let target = Target::open(session, &arguments.slug).await?;
    let slug = &target.tenant.slug;
    let mut new =
        if arguments.invited { NewUser::invited(&arguments.email) } else { NewUser::active(&arguments.email) };
    new = new.role(arguments.role.into());
    if arguments.password_stdin {
        new = new.password(&password::read(printer).await?);
    }
    let user = target.auth.users().create(target.tenant.id, &new).await.map_err(|error| match error {
        AuthError::EmailTaken => {
            let message = format!("tenant {slug} already has a user {}", sanitize(&arguments.email));
            let hint = format!("`cgk user:list {slug}` lists its users. Nothing was changed.");
            Refusal { message, hint, exit: Exit::Failed }.into()
        }
        other => anyhow::Error::from(other),
    })?;
    target.warn_if_inactive(printer);
    record(session, &target, &user);
    printer.sentence(format!(
        "{} user {} of tenant {slug}: {}, {}",
        paint(GOOD, "created"),
        sanitize(&user.email),
        user.role,
        user.status
    ));
    printer.info(format!("Next: {}", paint(COMMAND, format!("cgk user:list {slug}"))));
    Ok(Exit::Done)
}
