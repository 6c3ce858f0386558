//! `cgk drift`, and its parts that `cgk tenant:verify` uses.

use anyhow::Result;
use cgk::{
    config::IgnoreRule,
    drift::{self, Change, Difference, DriftReport, IgnoredDifference, NotCompared, SchemaDrift},
    migrate::Scope,
};
use clap::Args;
use serde::Serialize;
use std::time::Instant;

use super::{
    exit::Exit,
    session::Session,
    tenant::view::{StartedView, StrangeView, warn_of_strange},
    ui::{
        style::{BAD, COMMAND, FAINT, GOOD, WARNING, count, paint, sanitize},
        table, time,
    },
};

pub(crate) const EXAMPLES: &str = "\
Examples:
  cgk drift            exit code 7 if anything differs
  cgk drift -v         list every schema
  cgk drift --sql      print the statements that would fix them
  cgk drift --json

Every schema is compared with the recorded result of its migrations. Nothing is changed; a standby \
             or a read-only login is enough.";

/// The maximum number of tenants that are all shown, as in a table of tenants. In a larger fleet, only schemas with a problem
/// are shown.
const LINES_MAX: usize = table::ROWS_MAX;

#[derive(Serialize)]
struct SchemaRecord<'a> {
    event: &'static str,
    schema: &'a str,
    tenant: Option<&'a str>,
    head: Option<String>,
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    started: Option<StartedView>,
    differences: Vec<DifferenceView<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    ignored: Vec<IgnoredView<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

/// One difference. Keys that do not apply are left out.
#[derive(Serialize)]
pub(crate) struct DifferenceView<'a> {
    kind: &'a str,
    object: &'a str,
    change: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    aspect: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    found: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    given: Option<&'a str>,
    text: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    fix: Vec<FixView<'a>>,
}

/// A difference that matches a rule of `[drift] ignore`.
#[derive(Serialize)]
struct IgnoredView<'a> {
    reason: &'a str,
    #[serde(flatten)]
    difference: DifferenceView<'a>,
}

/// A statement that would remove a difference.
#[derive(Serialize)]
struct FixView<'a> {
    sql: &'a str,
    loses_data: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<&'a str>,
}

#[derive(Serialize)]
struct Summary<'a> {
    event: &'static str,
    clean: usize,
    drifted: usize,
    not_compared: usize,
    /// Wrong rights of logins and of PUBLIC.
    rights: Vec<DifferenceView<'a>>,
    strays: Vec<DifferenceView<'a>>,
    /// Rows of the registry that are not valid tenants.
    strange: Vec<StrangeView<'a>>,
    /// The number of ignored differences, including those of the schemas.
    ignored: usize,
    /// The objects of rules of `[drift] ignore` without a match.
    unused_rules: Vec<&'a str>,
    ms: u64,
    exit: Exit,
}

#[derive(Args, Debug)]
pub(crate) struct Arguments {
    /// Print a script that would fix the differences, for review; nothing is run
    #[arg(long)]
    sql: bool,
}

/// What is printed for differences.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shown {
    Lines,
    /// The script that removes them.
    Script,
}

pub(crate) async fn run(session: &Session<'_>, arguments: &Arguments) -> Result<Exit> {
    let shown = if arguments.sql { Shown::Script } else { Shown::Lines };
    compare(session, "drift", &Scope::Everything, shown).await
}

/// Compares, and prints the result.
pub(crate) async fn compare(session: &Session<'_>, command: &str, scope: &Scope, shown: Shown) -> Result<Exit> {
    let printer = session.printer;
    let (_, migrations, operator) = session.open().await?;
    session.introduce(command, &operator, &migrations);
    let began = Instant::now();
    let report = drift::verify(&operator, &migrations, scope).await?;
    let exit = exit(&report);
    let everything = printer.is_verbose() || report.tenants.len() <= LINES_MAX;
    for schema in report.schemas() {
        printer.record(&record(schema));
        if shown == Shown::Lines && (everything || !schema.is_clean() || !schema.ignored.is_empty()) {
            printer.sentence(lines(schema));
        }
    }
    for found in report.rights.iter().chain(&report.strays).filter(|_| shown == Shown::Lines) {
        printer.sentence(paint(WARNING, sanitize(&found.to_string())));
        // It is copied, so it stays one line.
        for fix in fix_lines("  ", found) {
            printer.output(fix);
        }
    }
    for known in report.ignored.iter().filter(|_| shown == Shown::Lines) {
        printer.sentence(ignored_line(known));
    }
    let (clean, drifted, not_compared) = counts(&report);
    printer.record(&Summary {
        event: "summary",
        clean,
        drifted,
        not_compared,
        rights: report.rights.iter().map(DifferenceView::of).collect(),
        strays: report.strays.iter().map(DifferenceView::of).collect(),
        strange: StrangeView::all(&report.strange),
        ignored: ignored_number(&report),
        unused_rules: report.unused_rules.iter().map(|rule| rule.object.as_str()).collect(),
        ms: time::milliseconds(began.elapsed()),
        exit,
    });
    warn_of_strange(printer, &report.strange);
    for rule in &report.unused_rules {
        let text = format!("[drift] ignore: no difference matches {}: correct the rule, or remove it", rule_text(rule));
        printer.warn(sanitize(&text));
    }
    match shown {
        Shown::Lines => printer.sentence(totals(&report, began)),
        Shown::Script => {
            let script = report.fix_script();
            if !script.is_empty() {
                printer.output(script.trim_end());
            }
            printer.info(totals(&report, began));
        }
    }
    for line in next(&report, command, shown) {
        printer.info(line);
    }
    if report.lacks_reference() {
        let shared = report.public.iter().any(|public| public.not_compared == Some(NotCompared::NoReference));
        let command = if shared { "cgk setup:database" } else { "cgk migrate" };
        let first = match report.schemas().any(differs_from_the_files) {
            true => "Next: when the ledgers and the files agree, run",
            false => "Next: run",
        };
        // A set that cannot be rehearsed is never recorded.
        let unless = if shared {
            ""
        } else {
            " If it warns that they were not rehearsed, they cannot be recorded: see the warning."
        };
        printer.info(format!("{first} {} to record what the migrations create.{unless}", paint(COMMAND, command)));
    }
    Ok(exit)
}

/// Whether a migration that was applied to the schema differs from its file. Then `cgk migrate` is refused.
fn differs_from_the_files(schema: &SchemaDrift) -> bool {
    schema.differences.iter().any(|difference| difference.kind == "migration")
}

/// Part of the text about an applied migration without a file.
const LACKS_FILE: &str = "its file is missing";

/// Returns the next steps, depending on the result.
fn next(report: &DriftReport, command: &str, shown: Shown) -> Vec<String> {
    let mut lines = Vec::new();
    let lacks_file =
        |difference: &&Difference| difference.kind == "migration" && difference.to_string().contains(LACKS_FILE);
    let (of_other_files, others): (Vec<_>, Vec<_>) =
        report.schemas().flat_map(|schema| &schema.differences).partition(lacks_file);
    if !of_other_files.is_empty() {
        lines.push(format!(
            "Next: use the newest version of this database's migration folder (--migrations): these files are another set, or \
             an older one. Only if a file was removed for good: {}.",
            paint(COMMAND, "cgk migrate:repair --forget VERSION")
        ));
    }
    if !others.is_empty() {
        let script = match (shown, command) {
            (Shown::Lines, "drift") => {
                format!("{} prints statements that undo manual changes. P", paint(COMMAND, "cgk drift --sql"))
            }
            (Shown::Lines, _) => format!(
                "the same command with {} prints statements that undo manual changes. P",
                paint(COMMAND, "--sql")
            ),
            (Shown::Script, _) => "p".to_owned(),
        };
        lines.push(format!(
            "Next: {script}ut missing objects into a migration ({}). To repair a ledger: {}.",
            paint(COMMAND, "cgk migrate:new <name>"),
            paint(COMMAND, "cgk migrate:repair")
        ));
    }
    let (with_fix, without): (Vec<_>, Vec<_>) =
        report.rights.iter().chain(&report.strays).partition(|found| !found.fix.is_empty());
    if !with_fix.is_empty() && shown == Shown::Lines {
        lines.push("Next: review the statements after `fix:` and run them as the operator.".to_owned());
    }
    if without.iter().any(|found| found.to_string().contains("cgk setup:database")) {
        lines.push(format!("Next: {} makes the triggers of the registry.", paint(COMMAND, "cgk setup:database")));
    }
    lines
}

fn exit(report: &DriftReport) -> Exit {
    if report.has_drift() {
        Exit::Drift
    } else if report.lacks_reference() {
        Exit::NoReference
    } else if report.has_busy() {
        Exit::Locked
    } else {
        Exit::Done
    }
}

fn counts(report: &DriftReport) -> (usize, usize, usize) {
    let clean = report.schemas().filter(|schema| schema.is_clean()).count();
    let drifted = report.schemas().filter(|schema| !schema.differences.is_empty()).count();
    (clean, drifted, report.schemas().count() - clean - drifted)
}

/// Returns one line for the schema, and one for each difference.
fn lines(schema: &SchemaDrift) -> String {
    let name = schema.slug.as_ref().map_or("public", |slug| slug.as_str());
    let head = schema.head.as_ref().map(|head| format!(" at {head}")).unwrap_or_default();
    let mut lines = vec![match (schema.differences.len(), &schema.not_compared) {
        (0, None) => format!("{name}: {}{head}", paint(GOOD, "no differences")),
        (0, Some(why)) => format!("{name}: {}", paint(WARNING, format!("not compared: {why}"))),
        (number, _) => format!("{name}: {}{head}", paint(BAD, count(number, "difference"))),
    }];
    if let Some(started) = &schema.started {
        let text = format!("{started}: what these statements did is a difference until it is finished");
        lines.push(format!("  {}", paint(WARNING, text)));
    }
    for difference in &schema.differences {
        lines.push(format!("  {}", sanitize(&difference.to_string())));
        lines.extend(fix_lines("    ", difference));
    }
    lines.extend(schema.ignored.iter().map(|one| format!("  {}", ignored_line(one))));
    if let (Some(why), false) = (&schema.not_compared, schema.differences.is_empty()) {
        lines.push(format!("  {}", paint(FAINT, format!("objects not compared: {why}"))));
    }
    lines.join("\n")
}

/// Returns what a rule matches, as it is written in `cgk.toml`.
fn rule_text(rule: &IgnoreRule) -> String {
    let parts = [("object", Some(&rule.object)), ("kind", rule.kind.as_ref()), ("schema", rule.schema.as_ref())];
    let parts: Vec<_> =
        parts.iter().filter_map(|(name, text)| Some(format!("{name} = {:?}", text.as_ref()?))).collect();
    parts.join(", ")
}

fn ignored_line(one: &IgnoredDifference) -> String {
    paint(FAINT, sanitize(&format!("ignored: {} ({})", one.difference, one.reason)))
}

fn ignored(all: &[IgnoredDifference]) -> Vec<IgnoredView<'_>> {
    all.iter().map(|one| IgnoredView { reason: &one.reason, difference: DifferenceView::of(&one.difference) }).collect()
}

fn ignored_number(report: &DriftReport) -> usize {
    report.ignored.len() + report.schemas().map(|schema| schema.ignored.len()).sum::<usize>()
}

/// Returns the statements that remove a wrong right, for the lines below it. Statements about objects can be long, so
/// they are printed only on request.
fn fix_lines<'a>(indent: &'a str, difference: &'a Difference) -> impl Iterator<Item = String> + 'a {
    let is_right = matches!(difference.change, Change::Wrong { .. });
    // It is copied, so the warning is a comment of SQL.
    let warning = |loses_data| if loses_data { " -- loses data" } else { "" };
    difference.fix.iter().filter(move |_| is_right).map(move |fix| {
        format!("{indent}{}", paint(FAINT, sanitize(&format!("fix: {};{}", fix.sql, warning(fix.loses_data)))))
    })
}

fn totals(report: &DriftReport, began: Instant) -> String {
    let (clean, drifted, not_compared) = counts(report);
    let parts = [(drifted, "with differences"), (not_compared, "not compared"), (clean, "without differences")];
    let parts: Vec<_> = parts.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{n} {what}")).collect();
    let mut strays = String::new();
    for (number, what) in [
        (ignored_number(report), "ignored"),
        (report.rights.len(), "wrong rights"),
        (report.strays.len(), "of no tenant"),
    ] {
        if number > 0 {
            strays.push_str(&format!("; {number} {what}"));
        }
    }
    // Without schemas there is nothing to report about them.
    let split = if parts.is_empty() { String::new() } else { format!(": {}", parts.join(", ")) };
    let number = count(report.schemas().count(), "schema");
    format!("{number}{split}{strays}, in {}.", time::elapsed(began.elapsed()))
}

fn record(schema: &SchemaDrift) -> impl Serialize + '_ {
    SchemaRecord {
        event: "schema",
        schema: schema.schema.as_str(),
        tenant: schema.slug.as_ref().map(|slug| slug.as_str()),
        head: schema.head.as_ref().map(ToString::to_string),
        state: match (schema.differences.is_empty(), &schema.not_compared) {
            (true, None) => "clean",
            (true, Some(_)) => "not_compared",
            (false, _) => "drifted",
        },
        started: schema.started.as_ref().map(StartedView::of),
        differences: schema.differences.iter().map(DifferenceView::of).collect(),
        ignored: ignored(&schema.ignored),
        reason: schema.not_compared.map(|why| why.to_string()),
    }
}

impl<'a> DifferenceView<'a> {
    pub(crate) fn of(difference: &'a Difference) -> Self {
        let (change, aspect, found, given) = match &difference.change {
            Change::Missing => ("missing", None, None, None),
            Change::Unexpected => ("unexpected", None, None, None),
            Change::Differs { aspect, found, given } => {
                ("differs", Some(aspect.as_str()), found.as_deref(), given.as_deref())
            }
            _ => ("wrong", None, None, None),
        };
        let text = difference.to_string();
        let fix = difference
            .fix
            .iter()
            .map(|fix| FixView { sql: &fix.sql, loses_data: fix.loses_data, note: fix.note.as_deref() })
            .collect();
        Self { kind: &difference.kind, object: &difference.object, change, aspect, found, given, text, fix }
    }
}
