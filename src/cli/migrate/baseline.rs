//! `cgk migrate:baseline`

use anyhow::Result;
use cgk::{
    ConnectionError, Error, TenantSlug,
    lifecycle::{self, BaselineOptions, Baselined, Baselining},
    migrate::Version,
};
use clap::{ArgGroup, Args};
use serde::Serialize;

use crate::cli::{
    drift::DifferenceView,
    exit::Exit,
    session::Session,
    ui::{
        report::Report,
        style::{COMMAND, FAINT, count, paint, sanitize},
    },
};

pub(crate) const EXAMPLES: &str = "\
Examples:
  cgk migrate:baseline acme                   tenant_acme has all files
  cgk migrate:baseline acme --version 5       tenant_acme has the files up to 005
  cgk migrate:baseline acme --from-table _sqlx_migrations
  cgk migrate:baseline --public

The schema must have the tenant's name: alter schema acme rename to tenant_acme. It is compared with \
             the files, and refused if it differs. No migration is run.";

#[derive(Args, Debug)]
#[command(group = ArgGroup::new("scope").required(true))]
pub(crate) struct Arguments {
    /// Tenants whose schemas are adopted
    #[arg(group = "scope")]
    slug: Vec<String>,
    /// The shared schema
    #[arg(long, group = "scope")]
    public: bool,
    /// The newest migration that the schema has [default: the newest file]
    #[arg(long, value_name = "VERSION")]
    version: Option<Version>,
    /// History table of refinery, Flyway, sqlx, Diesel, goose, golang-migrate or Rails
    #[arg(long, value_name = "TABLE")]
    from_table: Option<String>,
    /// Adopt the schema with the differences in --accept; the reason is stored in the ledger
    #[arg(long, value_name = "REASON", requires = "accept")]
    accept_differences: Option<String>,
    /// An accepted difference: `index orders_at` or the whole line; repeatable
    #[arg(long, value_name = "DIFFERENCE", requires = "accept_differences")]
    accept: Vec<String>,
    /// Display name of a tenant that is not in the registry [default: the slug]
    #[arg(long, conflicts_with = "public")]
    name: Option<String>,
}

#[derive(Serialize)]
struct SchemaRecord<'a> {
    event: &'static str,
    schema: &'a str,
    tenant: Option<&'a str>,
    result: &'static str,
    head: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    accepted: Vec<DifferenceView<'a>>,
}

#[derive(Serialize)]
struct FailedRecord<'a> {
    event: &'static str,
    schema: String,
    tenant: Option<&'a str>,
    result: &'static str,
    error: &'a Report,
}

#[derive(Serialize)]
struct Summary {
    event: &'static str,
    adopted: usize,
    failed: usize,
    exit: Exit,
}

pub(crate) async fn run(session: &Session<'_>, arguments: &Arguments) -> Result<Exit> {
    let printer = session.printer;
    let slugs = arguments.slug.iter().map(|slug| slug.parse()).collect::<Result<Vec<TenantSlug>, _>>()?;
    let mut options = BaselineOptions::default();
    options.version = arguments.version;
    options.from_table.clone_from(&arguments.from_table);
    options.accept_differences.clone_from(&arguments.accept_differences);
    options.accept.clone_from(&arguments.accept);
    options.name.clone_from(&arguments.name);
    let (_, migrations, operator) = session.open().await?;
    session.introduce("migrate:baseline", &operator, &migrations);
    let targets: Vec<Option<&TenantSlug>> =
        if arguments.public { vec![None] } else { slugs.iter().map(Some).collect() };
    let (mut adopted, mut failures) = (0, Vec::new());
    for slug in &targets {
        let done = match slug {
            Some(slug) => lifecycle::baseline(&operator, &migrations, slug, &options).await,
            None => lifecycle::baseline_public(&operator, &migrations, &options).await,
        };
        match done {
            Ok(done) => {
                adopted += 1;
                printer.record(&record(&done));
                printer.sentence(lines(&done));
            }
            Err(error) if targets.len() == 1 => return Err(error.into()),
            Err(error @ Error::Connection(ConnectionError::Lost { .. })) => return Err(error.into()),
            Err(error) => {
                let report = Report::of_library(&error);
                let schema = slug.map_or_else(|| "public".into(), |slug| format!("tenant_{slug}"));
                let tenant = slug.map(TenantSlug::as_str);
                printer.record(&FailedRecord { event: "schema", schema, tenant, result: "failed", error: &report });
                printer.error(report.render(&[]));
                failures.push(report.exit());
            }
        }
    }
    let exit = match failures.first() {
        None => Exit::Done,
        Some(first) if adopted == 0 => *first,
        Some(_) => Exit::Partial,
    };
    printer.record(&Summary { event: "summary", adopted, failed: failures.len(), exit });
    if exit == Exit::Done {
        printer.info(format!("Next: {} applies what is newer.", paint(COMMAND, "cgk migrate")));
        if let Some(table) = &arguments.from_table {
            printer.info(format!("Table {} still exists: drop it when nothing needs it.", sanitize(table)));
        }
    }
    Ok(exit)
}

fn lines(done: &Baselined) -> String {
    let name = done.slug.as_ref().map_or("public", |slug| slug.as_str());
    let schema = done.schema.as_str();
    let head = done.head.as_ref().map_or_else(|| "no migration".into(), ToString::to_string);
    let mut lines = vec![match done.baselining {
        Baselining::Adopted => format!("{name}: schema {schema} adopted at {head}; no migration was run"),
        Baselining::Finished => {
            format!("{name}: schema {schema} already has a ledger at {head}; registry row and role created")
        }
        Baselining::Existed => format!("{name}: schema {schema} is already adopted, at {head}"),
    }];
    if !done.accepted.is_empty() {
        lines.push(format!("  {} accepted:", count(done.accepted.len(), "difference")));
        lines.extend(done.accepted.iter().map(|one| paint(FAINT, format!("  {}", sanitize(&one.to_string())))));
    }
    lines.join("\n")
}

fn record(done: &Baselined) -> impl Serialize + '_ {
    SchemaRecord {
        event: "schema",
        schema: done.schema.as_str(),
        tenant: done.slug.as_ref().map(|slug| slug.as_str()),
        result: match done.baselining {
            Baselining::Adopted => "adopted",
            Baselining::Finished => "finished",
            Baselining::Existed => "existed",
        },
        head: done.head.as_ref().map(ToString::to_string),
        accepted: done.accepted.iter().map(DifferenceView::of).collect(),
    }
}
