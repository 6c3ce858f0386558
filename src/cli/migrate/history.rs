//! `cgk migrate:history`

use anyhow::Result;
use cgk::{
    Operator,
    migrate::{self, RunDetail, RunRecord, RunState, SchemaRecord, StopReason},
};
use clap::Args;
use serde::Serialize;

use crate::cli::{
    exit::Exit,
    session::{Session, TargetView},
    ui::{
        report::{Refusal, without_here},
        style::{COMMAND, FAINT, count, paint, sanitize},
        table::{self, CellStyle, Grid},
        time,
    },
};

pub(crate) const EXAMPLES: &str = "\
Examples:
  cgk migrate:history               the latest runs, newest first
  cgk migrate:history --limit 100
  cgk migrate:history 3f2a          the schemas of the run whose id starts with 3f2a";

/// The number of characters of a run's id in a table.
const ID_SHOWN: usize = 8;
/// The maximum number of successful schemas of a run that are shown. The others are only counted.
const GOOD_ROWS_MAX: usize = 20;

#[derive(Args, Debug)]
pub(crate) struct Arguments {
    /// Id of a run, or its first characters
    #[arg(value_name = "RUN")]
    run: Option<String>,
    /// How many runs to show
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1000))]
    limit: u32,
}

#[derive(Serialize)]
struct Answer<'a> {
    v: u32,
    target: TargetView,
    runs: Vec<RunView<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    schemas: Option<Vec<SchemaView<'a>>>,
    exit: Exit,
}

#[derive(Serialize)]
struct RunView<'a> {
    run: String,
    state: &'static str,
    started_at: String,
    finished_at: Option<String>,
    started_by: &'a str,
    client: Option<&'a str>,
    cgk_version: &'a str,
    selection: &'a str,
    target: &'a str,
    planned: u64,
    at_head: u64,
    migrated: u64,
    by_another_run: u64,
    failed: u64,
    skipped: u64,
    left: u64,
    stopped: Option<&'static str>,
    error: Option<&'a str>,
}

#[derive(Serialize)]
struct SchemaView<'a> {
    schema: &'a str,
    tenant: Option<&'a str>,
    result: &'a str,
    from: Option<i64>,
    to: Option<i64>,
    attempts: u64,
    sqlstate: Option<&'a str>,
    message: Option<&'a str>,
    ms: u64,
    done_at: String,
}

pub(crate) async fn run(session: &Session<'_>, arguments: &Arguments) -> Result<Exit> {
    let config = session.config()?;
    let operator = Operator::connect(&config).await?;
    operator.read_only().await?;
    match &arguments.run {
        Some(id) => {
            let Some(detail) = migrate::run_detail(&operator, id).await? else {
                return Err(Refusal {
                    message: format!("no single run matches {id:?}"),
                    hint: "`cgk migrate:history` lists the runs.".into(),
                    exit: Exit::Failed,
                }
                .into());
            };
            show_detail(session, &operator, &detail);
        }
        None => show_list(session, &operator, &migrate::history(&operator, arguments.limit).await?),
    }
    Ok(Exit::Done)
}

fn show_list(session: &Session<'_>, operator: &Operator, runs: &[RunRecord]) {
    let printer = session.printer;
    printer.record(&Answer {
        v: crate::cli::JSON_VERSION,
        target: TargetView::of(operator),
        runs: runs.iter().map(RunView::of).collect(),
        schemas: None,
        exit: Exit::Done,
    });
    if runs.is_empty() {
        printer.sentence("No run of cgk migrate is recorded yet.");
        return;
    }
    let mut grid = Grid::new(&["RUN", "STARTED", "ROLE", "SELECTION", "RESULT", "TIME"]);
    for run in runs {
        let (result, style) = result(run);
        let id = run.id.to_string();
        grid.row([
            (&id[..ID_SHOWN], CellStyle::Plain),
            (time::rfc3339(run.started_at).as_str(), CellStyle::Faint),
            (run.started_by.as_str(), CellStyle::Plain),
            (of(run).as_str(), CellStyle::Plain),
            (result.as_str(), style),
            (took(run).as_str(), CellStyle::Faint),
        ]);
    }
    printer.output(grid);
    printer.info(format!("Next: {} shows the schemas of a run.", paint(COMMAND, "cgk migrate:history <RUN>")));
}

fn show_detail(session: &Session<'_>, operator: &Operator, detail: &RunDetail) {
    let (printer, run) = (session.printer, &detail.run);
    printer.record(&Answer {
        v: crate::cli::JSON_VERSION,
        target: TargetView::of(operator),
        runs: vec![RunView::of(run)],
        schemas: Some(detail.schemas.iter().map(SchemaView::of).collect()),
        exit: Exit::Done,
    });
    let client = run.client.as_deref().map(|client| format!(" from {client}")).unwrap_or_default();
    let mut rows = vec![
        ("run".to_owned(), run.id.to_string()),
        ("started".to_owned(), time::rfc3339(run.started_at)),
        ("took".to_owned(), took(run)),
        ("role".to_owned(), sanitize(&format!("{}{client}, cgk {}", run.started_by, run.cgk_version))),
        ("selection".to_owned(), of(run)),
        ("result".to_owned(), result(run).0),
    ];
    if let Some(error) = &run.error {
        rows.push(("error".to_owned(), sanitize(&without_here(error))));
    }
    printer.output(table::facts(FAINT, &rows));
    if detail.schemas.is_empty() {
        return;
    }
    let good = |schema: &&SchemaRecord| style(schema) == CellStyle::Good;
    let all = printer.is_verbose() || detail.schemas.iter().filter(good).count() <= GOOD_ROWS_MAX;
    let mut grid = Grid::new(&["SCHEMA", "RESULT", "FROM", "TO", "TRIES", "TIME", ""]);
    for schema in detail.schemas.iter().filter(|schema| all || !good(schema)) {
        let version = |version: Option<i64>| version.map(|version| format!("{version:03}")).unwrap_or_default();
        let state = schema.sqlstate.as_ref().map(|state| format!(" ({state})")).unwrap_or_default();
        let result = schema.result.replace('_', " ");
        let message =
            schema.message.as_ref().map(|message| format!("{}{state}", without_here(message))).unwrap_or_default();
        grid.row([
            (schema.schema.as_str(), CellStyle::Plain),
            (result.as_str(), style(schema)),
            (version(schema.from_version).as_str(), CellStyle::Plain),
            (version(schema.to_version).as_str(), CellStyle::Plain),
            (schema.attempts.to_string().as_str(), CellStyle::Faint),
            (time::elapsed(schema.duration).as_str(), CellStyle::Faint),
            (message.as_str(), CellStyle::Plain),
        ]);
    }
    printer.output(format!("\n{grid}"));
    if !all {
        let folded = detail.schemas.iter().filter(good).count();
        printer.sentence(paint(FAINT, format!("{} succeeded; -v lists them", count(folded, "schema"))));
    }
}

fn style(schema: &SchemaRecord) -> CellStyle {
    match schema.result.as_str() {
        "migrated" | "by_another_run" => CellStyle::Good,
        "skipped" => CellStyle::Warning,
        _ => CellStyle::Bad,
    }
}

/// Returns a text such as `everything`, or `tenants except 2, to 003`.
fn of(run: &RunRecord) -> String {
    if run.target == "head" { run.selection.clone() } else { format!("{}, to {}", run.selection, run.target) }
}

fn took(run: &RunRecord) -> String {
    let end = run.finished_at.and_then(|end| end.duration_since(run.started_at).ok());
    end.map(time::elapsed).unwrap_or_default()
}

fn result(run: &RunRecord) -> (String, CellStyle) {
    let stopped = run.stopped.map(|reason| match reason {
        StopReason::Canary => "a canary failed",
        StopReason::Failures => "too many failures",
        StopReason::Interrupted => "interrupted",
        StopReason::Unavailable => "server unavailable",
        StopReason::RolledBack => "rolled back",
    });
    let counts = [
        (run.migrated, "migrated"),
        (run.by_another_run, "by another run"),
        (run.failed, "failed"),
        (run.skipped, "skipped"),
        (run.left, "left"),
    ];
    let mut parts: Vec<String> =
        counts.iter().filter(|(number, _)| *number > 0).map(|(number, what)| format!("{number} {what}")).collect();
    let style = match (run.state, stopped) {
        (RunState::Running, _) => {
            parts.insert(0, format!("running, {} to do", run.planned));
            CellStyle::Warning
        }
        (RunState::Died, _) => {
            parts.insert(0, "killed".into());
            CellStyle::Bad
        }
        (_, Some(why)) => {
            parts.insert(0, why.into());
            CellStyle::Bad
        }
        _ if run.error.is_some() => {
            parts.insert(0, "failed".into());
            CellStyle::Bad
        }
        _ if run.failed > 0 => CellStyle::Bad,
        _ => CellStyle::Good,
    };
    if parts.is_empty() {
        parts.push("only the shared schema".into());
    }
    (parts.join(", "), style)
}

impl<'a> RunView<'a> {
    fn of(run: &'a RunRecord) -> Self {
        Self {
            run: run.id.to_string(),
            state: match run.state {
                RunState::Finished => "finished",
                RunState::Running => "running",
                RunState::Died => "died",
            },
            started_at: time::rfc3339(run.started_at),
            finished_at: run.finished_at.map(time::rfc3339),
            started_by: &run.started_by,
            client: run.client.as_deref(),
            cgk_version: &run.cgk_version,
            selection: &run.selection,
            target: &run.target,
            planned: run.planned,
            at_head: run.at_head,
            migrated: run.migrated,
            by_another_run: run.by_another_run,
            failed: run.failed,
            skipped: run.skipped,
            left: run.left,
            stopped: run.stopped.map(StopReason::as_str),
            error: run.error.as_deref(),
        }
    }
}

impl<'a> SchemaView<'a> {
    fn of(schema: &'a SchemaRecord) -> Self {
        Self {
            schema: &schema.schema,
            tenant: schema.tenant.as_deref(),
            result: &schema.result,
            from: schema.from_version,
            to: schema.to_version,
            attempts: schema.attempts,
            sqlstate: schema.sqlstate.as_deref(),
            message: schema.message.as_deref(),
            ms: time::milliseconds(schema.duration),
            done_at: time::rfc3339(schema.done_at),
        }
    }
}
