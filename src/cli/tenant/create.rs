//! `cgk tenant:create`

use anyhow::Result;
use cgk::{
    Db, TenantSlug, TenantStatus,
    lifecycle::{self, CreateOptions, Created, Creation, LostSchema, NewTenant},
};
use clap::Args;
use serde::Serialize;
use std::{num::NonZeroUsize, path::PathBuf, time::Instant};

use super::{create_many, seed, slugs};
use crate::cli::{
    exit::Exit,
    number,
    session::Session,
    setup::database::span,
    ui::{
        report::Refusal,
        style::{COMMAND, GOOD, count, paint, sanitize},
        time,
    },
};

pub(crate) const EXAMPLES: &str = "\
Examples:
  cgk tenant:create acme
  cgk tenant:create acme --name \"Acme Inc.\"
  cgk tenant:create acme globex initech
  cgk tenant:create --from tenants.txt --jobs 8    each line: slug,name
  cgk tenant:create acme --json

A slug has 1 to 48 characters, only a-z, 0-9 and _, and starts with a letter. Existing tenants are \
             not changed; incomplete ones are completed. Each tenant is one transaction. If the command stops, \
             run it again: it continues.";

#[derive(Args, Debug)]
pub(crate) struct Arguments {
    /// Slugs of the tenants; a schema is named tenant_<SLUG>
    #[arg(value_name = "SLUG", required_unless_present = "from")]
    slugs: Vec<String>,
    /// Display name of the tenant [default: the slug]
    #[arg(long, value_parser = number::name)]
    name: Option<String>,
    /// Create an empty schema for a tenant whose schema was lost, with its data
    #[arg(long)]
    recreate_empty: bool,
    /// Run the seeds of the project in the new tenants (see tenant:seed)
    #[arg(long)]
    seed: bool,
    /// File with one tenant per line: slug,name; - reads standard input
    #[arg(long, value_name = "FILE")]
    from: Option<PathBuf>,
    /// Number of tenants at the same time, one connection each [default: up to 4]
    #[arg(short, long, value_name = "N", value_parser = number::at_least_one)]
    jobs: Option<NonZeroUsize>,
    /// Stop starting tenants after N have failed
    #[arg(long, value_name = "N", value_parser = number::at_least_one)]
    max_failures: Option<NonZeroUsize>,
}

#[derive(Serialize)]
struct Summary<'a> {
    event: &'static str,
    tenant: &'a str,
    id: String,
    name: &'a str,
    status: &'a str,
    schema: &'a str,
    creation: &'static str,
    applied: Vec<String>,
    ms: u64,
    exit: Exit,
}

pub(crate) async fn run(session: &Session<'_>, arguments: &Arguments) -> Result<Exit> {
    match (arguments.slugs.as_slice(), &arguments.from) {
        ([slug], None) => one(session, &slug.parse()?, arguments).await,
        _ => {
            let (jobs, failures_max) = (arguments.jobs, arguments.max_failures);
            let how = create_many::How { jobs, failures_max, seed: arguments.seed };
            create_many::run(session, &tenants(arguments)?, how).await
        }
    }
}

/// Returns the tenants of the command line and of the file.
fn tenants(arguments: &Arguments) -> Result<Vec<NewTenant>> {
    if arguments.name.is_some() {
        let message = "--name works for one tenant only".into();
        let hint = "Write the names into a file for --from, one line per tenant: slug,name.".into();
        return Err(Refusal { message, hint, exit: Exit::Usage }.into());
    }
    if arguments.recreate_empty {
        let message = "--recreate-empty works for one tenant only".into();
        let hint = "Run the command once per tenant.".into();
        return Err(Refusal { message, hint, exit: Exit::Usage }.into());
    }
    let mut tenants: Vec<NewTenant> = slugs::parsed(&arguments.slugs)?.into_iter().map(NewTenant::from).collect();
    if let Some(file) = &arguments.from {
        let entries = slugs::of_file(file)?;
        tenants.extend(entries.into_iter().map(|slugs::Entry { slug, name }| NewTenant { slug, name }));
    }
    Ok(tenants)
}

async fn one(session: &Session<'_>, slug: &TenantSlug, arguments: &Arguments) -> Result<Exit> {
    let printer = session.printer;
    let (config, migrations, operator) = session.open().await?;
    let seeds = arguments.seed.then(|| seed::of_project(&config)).transpose()?;
    session.introduce("tenant:create", &operator, &migrations);
    let db = Db::connect(&config).await?;
    let mut options = CreateOptions::default();
    if let Some(name) = &arguments.name {
        options = options.name(name.as_str());
    }
    if arguments.recreate_empty {
        options = options.lost_schema(LostSchema::StartEmpty);
    }
    let began = Instant::now();
    let created = lifecycle::create(&operator, &db, &migrations, slug, &options).await?;
    let ms = time::milliseconds(began.elapsed());
    printer.sentence(sentence(&created, began));
    let exit = match &seeds {
        Some(seeds) => seed::of_new(session, &operator, seeds, vec![slug.clone()]).await?,
        None => Exit::Done,
    };
    printer.record(&Summary {
        event: "summary",
        tenant: slug.as_str(),
        id: created.tenant.id.to_string(),
        name: &created.tenant.name,
        status: created.tenant.status.as_str(),
        schema: created.schema.as_str(),
        creation: match created.creation {
            Creation::New => "created",
            Creation::Finished => "finished",
            Creation::Existed => "existed",
        },
        applied: created.applied.iter().map(ToString::to_string).collect(),
        ms,
        exit,
    });
    if let Some(name) = &arguments.name
        && *name != created.tenant.name
    {
        printer.warn(format!("the tenant already has the name {:?}; --name did not change it", created.tenant.name));
    }
    if created.creation != Creation::Existed {
        let call = format!("db.with_tenant(&\"{slug}\".parse()?, async |tx| …)");
        printer.info(format!(
            "Next: {} in your service, or {}",
            paint(COMMAND, call),
            paint(COMMAND, "cgk tenant:list")
        ));
    }
    Ok(exit)
}

fn sentence(created: &Created, began: Instant) -> String {
    let (tenant, schema) = (&created.tenant, created.schema.as_str());
    let slug = &tenant.slug;
    let applied = match created.applied.as_slice() {
        [] => "no migration was missing".to_owned(),
        applied => format!("{} applied ({})", count(applied.len(), "migration"), span(applied)),
    };
    let elapsed = time::elapsed(began.elapsed());
    match created.creation {
        Creation::New => {
            let name =
                if tenant.name == slug.as_str() { String::new() } else { format!(" ({})", sanitize(&tenant.name)) };
            format!("{} tenant {slug}{name}: schema {schema}, {applied} in {elapsed}", paint(GOOD, "created"))
        }
        Creation::Finished => {
            format!("{} tenant {slug}: schema {schema}, {applied} in {elapsed}", paint(GOOD, "finished"))
        }
        Creation::Existed => {
            let status = match &tenant.status {
                TenantStatus::Active => String::new(),
                other => format!(", and is {other}"),
            };
            format!("tenant {slug} exists: schema {schema}{status}")
        }
    }
}
