//! `cgk migrate:lint`

use anyhow::{Result, bail};
use cgk::{
    config::MigrationsFrom,
    migrate::{self, Finding, MigrationFile, Migrations, Set, Severity, TableLock},
};
use clap::Args;
use serde::Serialize;
use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use crate::cli::{
    exit::Exit,
    session::Session,
    ui::{
        printer::{Annotation, Printer},
        report::{Refusal, display_path, without_here},
        style::{BAD, FAINT, GOOD, WARNING, count, paint, sanitize},
    },
};

pub(crate) const EXAMPLES: &str = "\
Examples:
  cgk migrate:lint                                   both sets
  cgk migrate:lint migrations/tenant/008_vip.sql     this file, among the others of its folder
  cgk migrate:lint --deny-warnings                   exit code 1 for warnings as well
  cgk migrate:lint --format github                   as annotations of a workflow run

To accept a warning, put this comment above the statement: -- cgk:accept index-not-concurrent the \
             table is small";

#[derive(Args, Debug)]
pub(crate) struct Arguments {
    /// Only these files; each in the folder public or tenant of its set
    files: Vec<PathBuf>,
    /// Exit with 1 also for warnings
    #[arg(long)]
    deny_warnings: bool,
}

#[derive(Serialize)]
struct Answer<'a> {
    v: u32,
    findings: Vec<FindingView<'a>>,
    locks: Vec<LockView>,
    /// Files that contain more than the statements that run.
    tools: &'a [ToolView],
    errors: usize,
    warnings: usize,
    exit: Exit,
}

/// The findings in some files.
#[derive(Default)]
struct LintResult {
    findings: Vec<Finding>,
    locks: Vec<LockView>,
    tools: Vec<ToolView>,
}

#[derive(Serialize)]
struct ToolView {
    file: String,
    tool: &'static str,
    #[serde(skip)]
    has_down: bool,
}

#[derive(Serialize)]
struct FindingView<'a> {
    file: String,
    line: Option<usize>,
    severity: &'static str,
    lint: &'static str,
    reason: &'a str,
    fix: &'static str,
}

#[derive(Serialize)]
struct LockView {
    file: String,
    line: usize,
    relation: String,
    mode: &'static str,
    blocks: &'static str,
    by: String,
}

pub(crate) fn run(session: &Session<'_>, arguments: &Arguments) -> Result<Exit> {
    let printer = session.printer;
    let LintResult { findings, locks, tools } = if arguments.files.is_empty() {
        match MigrationsFrom::load_with(session.globals.overrides()?)? {
            MigrationsFrom::Bundled => {
                let bundled = Migrations::bundled();
                LintResult { findings: bundled.warnings(), locks: locks_of(&bundled, |_| true), tools: Vec::new() }
            }
            MigrationsFrom::Directory(directory) => lint_directory(&directory, |_| true)?,
        }
    } else {
        lint_files(&arguments.files)?
    };
    let number = |severity| findings.iter().filter(|finding| finding.severity() == severity).count();
    let (errors, warnings) = (number(Severity::Error), number(Severity::Warning));
    let fails = errors > 0 || (arguments.deny_warnings && warnings > 0);
    let exit = if fails { Exit::Failed } else { Exit::Done };
    printer.record(&Answer {
        v: crate::cli::JSON_VERSION,
        findings: findings.iter().map(FindingView::of).collect(),
        locks,
        tools: &tools,
        errors,
        warnings,
        exit,
    });
    for finding in &findings {
        annotate(printer, finding);
        printer.sentence(line(finding));
    }
    if printer.is_verbose() {
        for ToolView { file, tool, has_down } in &tools {
            let down = if *has_down { "; its down section is ignored" } else { "" };
            printer.sentence(format!("{}: written for {tool}{down}", sanitize(file)));
        }
    }
    if printer.is_json() {
        return Ok(exit);
    }
    let next = if errors > 0 {
        "Migrations with errors are not run."
    } else if warnings > 0 {
        "Warnings do not stop a run; to accept one, write `-- cgk:accept <warning> <reason>` above the statement."
    } else {
        ""
    };
    let sum = [(errors, "error"), (warnings, "warning")].map(|(n, what)| count(n, what)).join(", ");
    if findings.is_empty() {
        printer.info(format!("{}: {sum}", paint(GOOD, "clean")));
    } else {
        printer.info(format!("\n{sum}. {next}"));
    }
    Ok(exit)
}

/// Checks the named files, each together with the other files of its directory, because a later file can need an
/// earlier one.
fn lint_files(files: &[PathBuf]) -> Result<LintResult> {
    let mut wanted: BTreeSet<PathBuf> = BTreeSet::new();
    let mut directories: BTreeSet<PathBuf> = BTreeSet::new();
    for file in files {
        let unusable = |message: String| {
            let hint = "A migration is in the folder public or tenant: migrations/tenant/008_vip.sql".to_owned();
            Refusal { message, hint, exit: Exit::Usage }
        };
        let path = file.canonicalize().map_err(|error| Refusal::file("read", file, &error))?;
        let is_set = |folder: &Path| {
            [Set::Public, Set::Tenant].iter().any(|set| folder.file_name().is_some_and(|name| name == set.folder()))
        };
        // The path is the file itself, or a folder that is one migration, as in diesel and Prisma.
        let folder = path.ancestors().skip(1).take(2).find(|folder| is_set(folder));
        let Some(directory) = folder.and_then(Path::parent) else {
            bail!(unusable(format!("{} is not in a folder named public or tenant", file.display())));
        };
        directories.insert(directory.to_owned());
        wanted.insert(path);
    }
    let mut all = LintResult::default();
    for directory in &directories {
        let LintResult { findings, locks, tools } = lint_directory(directory, |path| wanted.contains(path))?;
        all.findings.extend(findings);
        all.locks.extend(locks);
        all.tools.extend(tools);
    }
    Ok(all)
}

fn lint_directory(directory: &Path, wanted: impl Fn(&Path) -> bool) -> Result<LintResult> {
    let mut findings = migrate::lint_directory(directory)?;
    let usable = findings.iter().all(|finding| finding.severity() != Severity::Error);
    let (mut locks, mut tools) = (Vec::new(), Vec::new());
    if usable {
        let migrations = Migrations::from_directory(directory)?;
        locks = locks_of(&migrations, &wanted);
        tools = tools_of(&migrations, &wanted);
    }
    findings.retain(|finding| wanted(&finding.file));
    Ok(LintResult { findings, locks, tools })
}

/// Returns the files with directives of another tool, each with the tool.
fn tools_of(migrations: &Migrations, wanted: impl Fn(&Path) -> bool) -> Vec<ToolView> {
    let files = [Set::Public, Set::Tenant].into_iter().flat_map(|set| migrations.set(set).files());
    let tool = |file: &MigrationFile| {
        Some(ToolView { file: display_path(file.path()), tool: file.tool()?, has_down: file.has_down_section() })
    };
    files.filter(|file| wanted(file.path())).filter_map(tool).collect()
}

fn locks_of(migrations: &Migrations, wanted: impl Fn(&Path) -> bool) -> Vec<LockView> {
    let sets = [Set::Public, Set::Tenant].into_iter().flat_map(|set| migrations.set(set).files());
    let files = sets.filter(|file| wanted(file.path()));
    files
        .flat_map(|file| {
            let view = |TableLock { relation, mode, line, reason, .. }: TableLock| LockView {
                file: display_path(file.path()),
                line,
                relation,
                mode: mode.name(),
                blocks: match mode.blocks() {
                    migrate::Blocks::Writes => "writes",
                    migrate::Blocks::ReadsAndWrites => "reads_and_writes",
                    _ => "nothing",
                },
                by: reason,
            };
            file.locks().into_iter().map(view).collect::<Vec<_>>()
        })
        .collect()
}

impl<'a> FindingView<'a> {
    fn of(finding: &'a Finding) -> Self {
        Self {
            file: display_path(&finding.file),
            line: finding.line,
            severity: severity(finding),
            lint: finding.lint.name(),
            reason: &finding.reason,
            fix: finding.advice().unwrap_or_else(|| finding.lint.advice()),
        }
    }
}

fn severity(finding: &Finding) -> &'static str {
    match finding.severity() {
        Severity::Error => "error",
        Severity::Warning => "warning",
    }
}

/// Returns a text such as `migrations/tenant/008_vip.sql:3: warning index-not-concurrent: …`.
fn line(finding: &Finding) -> String {
    let place = place(finding);
    let style = if finding.severity() == Severity::Error { BAD } else { WARNING };
    let what = paint(style, format!("{} {}", severity(finding), finding.lint));
    let reason = sanitize(&without_here(&finding.reason));
    let help = finding.advice().map(|fix| format!("\n  {} {fix}", paint(FAINT, "help:"))).unwrap_or_default();
    format!("{}: {what}: {reason}{help}", sanitize(&place))
}

fn place(finding: &Finding) -> String {
    let line = finding.line.map(|line| format!(":{line}")).unwrap_or_default();
    format!("{}{line}", display_path(&finding.file))
}

/// Adds an annotation to the line of the file, if the output is for GitHub Actions.
fn annotate(printer: &Printer, finding: &Finding) {
    let message = [finding.reason.as_str()].into_iter().chain(finding.advice()).collect::<Vec<_>>().join("\n");
    let file = display_path(&finding.file);
    printer.annotate(&Annotation {
        level: severity(finding),
        title: finding.lint.name(),
        place: Some((&file, finding.line.unwrap_or(1), 1)),
        message: &message,
    });
}
