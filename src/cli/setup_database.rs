//! `cgk setup:database`

use anyhow::Result;
use cgk::{
    Operator,
    config::Isolation,
    migrate::{MigrationId, Migrations},
    setup::{self, Hardening},
};
use serde::Serialize;
use std::time::Instant;

use super::{
    exit::Exit,
    progress::Progress,
    session::{self, Session},
    style::{COMMAND, FAINT, GOOD, HEADING, WARNING, count, harmless, paint},
    table, time,
};

pub(crate) const EXAMPLES: &str = "\
Examples:
  DATABASE_URL=postgresql://cgk:PASSWORD@localhost:5432/app cgk setup:database
  cgk setup:database --migrations migrations    with your own migrations
  cgk setup:database --json                     for scripts

It may be run again at any time: what is there is left alone. No tenant is touched.";

#[derive(Serialize)]
struct Summary {
    event: &'static str,
    applied: Vec<String>,
    head: Option<String>,
    tables: Vec<String>,
    public_hardening: &'static str,
    settings: Vec<SettingView>,
    ms: u64,
    exit: Exit,
}

#[derive(Serialize)]
struct SettingView {
    name: &'static str,
    value: Option<String>,
    origin: String,
}

pub(crate) async fn run(session: &Session<'_>) -> Result<Exit> {
    let printer = session.printer;
    let config = session.config()?;
    printer.answer(paint(HEADING, "Configuration"));
    let settings: Vec<SettingView> = config
        .settings()
        .into_iter()
        .map(|setting| SettingView { name: setting.name, value: setting.value, origin: setting.origin.to_string() })
        .collect();
    printer.answer(configuration(&settings, printer.is_verbose()));
    let migrations = session.migrations(&config)?;

    let operator = Operator::connect(&config).await?;
    session.introduce("setup:database", &operator, &migrations);
    printer.answer(format!("\n{}", paint(HEADING, "Connection")));
    for line in connection(&operator) {
        printer.answer(line);
    }

    printer.answer(format!("\n{}", paint(HEADING, "Shared schema")));
    let began = Instant::now();
    let report = setup::setup(&operator, &migrations, &mut Progress::new(printer)).await?;
    for line in shared_schema(&report, &migrations, began) {
        printer.answer(line);
    }
    printer.record(&Summary {
        event: "summary",
        applied: report.applied.iter().map(ToString::to_string).collect(),
        head: report.head.as_ref().map(ToString::to_string),
        tables: report.tables,
        public_hardening: match report.hardened {
            Hardening::NotNeeded => "not_needed",
            Hardening::Revoked => "revoked",
            Hardening::NotAllowed => "not_allowed",
        },
        settings,
        ms: time::milliseconds(began.elapsed()),
        exit: Exit::Done,
    });
    printer.say(format!("\nThe database is ready. Next: {}", paint(COMMAND, "cgk tenant:create <slug>")));
    Ok(Exit::Done)
}

/// What is not at its default, and what always matters.
fn configuration(settings: &[SettingView], everything: bool) -> String {
    const ALWAYS: [&str; 3] = ["database_url", "isolation", "migrations"];
    let rows: Vec<(String, String)> = settings
        .iter()
        .filter(|setting| everything || ALWAYS.contains(&setting.name) || setting.origin != "default")
        .filter_map(|setting| {
            Some((setting.name.to_owned(), format!("{}  ({})", setting.value.as_ref()?, setting.origin)))
        })
        .collect();
    table::facts(FAINT, &rows)
}

fn connection(operator: &Operator) -> Vec<String> {
    let facts = operator.facts();
    let rights = [
        (facts.creates_schemas, "schemas"),
        (facts.creates_in_public == Some(true), "tables in public"),
        (facts.creates_roles, "roles"),
    ];
    let wanted = |what: &str| what != "roles" || operator.config().isolation() == Isolation::Role;
    let may: Vec<_> = rights.iter().filter(|(may, _)| *may).map(|(_, what)| *what).collect();
    let may_not: Vec<_> = rights.iter().filter(|(may, what)| !*may && wanted(what)).map(|(_, what)| *what).collect();
    let mut lines = vec![
        ok(format!("connected to {} as {}", session::place(operator), harmless(&facts.role))),
        ok(format!("PostgreSQL {}; 14 or newer is needed", session::short_version(&facts.version))),
        ok(format!("encryption: {}", session::encryption(operator))),
    ];
    if !may.is_empty() {
        lines.push(ok(format!("role {} may create {}", harmless(&facts.role), may.join(", "))));
    }
    if !may_not.is_empty() {
        lines.push(warning(format!("role {} may not create {}", harmless(&facts.role), may_not.join(", "))));
    }
    lines
}

fn shared_schema(report: &setup::SetupReport, migrations: &Migrations, began: Instant) -> Vec<String> {
    let mut lines = Vec::new();
    lines.push(match report.applied.as_slice() {
        [] => ok("nothing to apply".into()),
        applied => ok(format!(
            "{} applied in {}: {}",
            count(applied.len(), "migration"),
            time::elapsed(began.elapsed()),
            span(applied)
        )),
    });
    match &report.head {
        Some(head) => lines.push(ok(format!("at {head}, the newest of {migrations}"))),
        None => lines.push(ok(format!("no migrations in {migrations}"))),
    }
    lines.push(ok(format!("tables: {}", report.tables.join(", "))));
    match report.hardened {
        Hardening::NotNeeded => {}
        Hardening::Revoked => lines.push(ok("took from everyone the right to create tables in public".into())),
        Hardening::NotAllowed => lines.push(warning(
            "every role may create tables in public; let its owner run: revoke create on schema public from public;"
                .into(),
        )),
    }
    lines
}

/// `001_organizations … 006_magic_links`
pub(crate) fn span(ids: &[MigrationId]) -> String {
    match ids {
        [] => String::new(),
        [only] => only.to_string(),
        [first, second] => format!("{first}, {second}"),
        [first, .., last] => format!("{first} … {last}"),
    }
}

fn ok(text: String) -> String {
    format!("  {}  {text}", paint(GOOD, "ok"))
}

fn warning(text: String) -> String {
    format!("  {}  {text}", paint(WARNING, "!!"))
}
