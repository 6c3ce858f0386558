//! `cgk domain:add`

use anyhow::Result;

use super::{Arguments, Target, name};
use crate::cli::{
    exit::Exit,
    session::Session,
    ui::style::{COMMAND, GOOD, paint},
};

pub(crate) const EXAMPLES: &str = "\
Examples:
  cgk domain:add acme shop.example.com

Claims the domain and prints the token by which its owner proves that the tenant may have it. The domain counts \
             after `cgk domain:verify`.";

pub(crate) async fn run(session: &Session<'_>, arguments: &Arguments) -> Result<Exit> {
    let printer = session.printer;
    let name = name(&arguments.domain)?;
    let target = Target::open(session, &arguments.slug).await?;
    let domain = target.domains.add(target.tenant.id, &name).await?;
    target.record(session, &domain);
    let slug = &target.tenant.slug;
    let state = if domain.verified_at.is_some() { ", which is verified" } else { "" };
    printer.output(format!("{} domain {name} of tenant {slug}{state}", paint(GOOD, "added")));
    if domain.verified_at.is_none() {
        printer.output(format!("Token for the TXT record of _cgk.{name}: {}", domain.verification_token));
        let next = paint(COMMAND, format!("cgk domain:verify {slug} {name}"));
        printer.info(format!("Next: when the record is there, {next}"));
    }
    Ok(Exit::Done)
}
