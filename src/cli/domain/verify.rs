//! `cgk domain:verify`

use anyhow::Result;
use cgk::domains::DomainError;

use super::{Arguments, Target, name};
use crate::cli::{
    exit::Exit,
    session::Session,
    ui::{
        report::Refusal,
        style::{GOOD, paint},
    },
};

pub(crate) const EXAMPLES: &str = "\
Examples:
  cgk domain:verify acme shop.example.com

Lets the domain count. cgk does not ask a name server: look first whether the token of `cgk domain:list` is published.";

pub(crate) async fn run(session: &Session<'_>, arguments: &Arguments) -> Result<Exit> {
    let name = name(&arguments.domain)?;
    let target = Target::open(session, &arguments.slug).await?;
    let slug = &target.tenant.slug;
    let domain = match target.domains.verify(target.tenant.id, &name).await {
        Ok(domain) => domain,
        Err(error @ DomainError::Taken { .. }) => {
            let hint = format!("Its tenant must give it up first: `cgk domain:remove <tenant> {name}`.");
            return Err(Refusal { message: error.to_string(), hint, exit: Exit::Failed }.into());
        }
        Err(error) => return Err(target.missing(error, &name)),
    };
    target.record(session, &domain);
    session.printer.output(format!("{} domain {name} of tenant {slug}", paint(GOOD, "verified")));
    Ok(Exit::Done)
}
