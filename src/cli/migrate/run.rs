//! `cgk migrate`

use anyhow::Result;
use cgk::{
    TenantSlug,
    migrate::{self, Canary, RunOptions, SavedPlan, Scope, Selection, Shard, Target, Version},
};
use clap::Args;
use std::{
    num::NonZeroUsize,
    path::{Path, PathBuf},
    time::Instant,
};

use super::{
    plan::{self, Next, checked},
    report,
};
use crate::cli::{
    audit,
    exit::Exit,
    number,
    session::{Session, TargetView},
    tenant::{slugs, warm},
    ui::{
        progress::Progress,
        report::{Refusal, display_path},
        style::{COMMAND, paint},
    },
};

pub(crate) const EXAMPLES: &str = "\
Examples:
  cgk migrate                            the shared schema first, then every tenant
  cgk migrate --plan                     show what would be done; changes nothing
  cgk migrate --plan -v                  with the SQL
  cgk migrate --check                    changes nothing; exit code 3 if something is pending
  cgk migrate --public                   only the shared schema
  cgk migrate --tenant acme globex       only these tenants
  cgk migrate --canary 5 --jobs 8        five tenants first, then the rest, eight at a time
  cgk migrate --max-failures 10          stop after ten tenants have failed
  cgk migrate --retry-failed             the tenants whose last migration failed
  cgk migrate --plan-out plan.json       save the plan for a review
  cgk migrate --apply plan.json          run exactly the saved plan, or nothing

Each schema is one transaction: all of its pending migrations or none. If a tenant fails, the others \
             continue; the next run continues where this one stopped. Ctrl-C lets tenants in progress finish and \
             starts no other; a second Ctrl-C cancels them.";

#[derive(Args, Debug)]
pub(crate) struct Arguments {
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    how: How,
    /// Show what would be done and change nothing; -v shows the SQL
    #[arg(long)]
    plan: bool,
    /// Change nothing; exit with 3 if something is pending, 7 if files and database differ
    #[arg(long)]
    check: bool,
    /// Write the plan to a file for --apply and change nothing; - is standard output
    #[arg(long, value_name = "FILE", conflicts_with = "apply")]
    plan_out: Option<PathBuf>,
    /// Run a plan written by --plan-out; fails if anything changed since; - is standard input
    #[arg(long, value_name = "FILE", conflicts_with_all = ["scope", "exclude", "part", "target"])]
    apply: Option<PathBuf>,
}

/// Which schemas.
#[derive(Args, Debug)]
struct Which {
    /// Only the shared schema
    #[arg(long, group = "scope")]
    public: bool,
    /// Only the tenants, not the shared schema
    #[arg(long, group = "scope")]
    tenants: bool,
    /// Only these tenants
    #[arg(long, group = "scope", value_name = "SLUG", num_args = 1.., value_delimiter = ',', allow_hyphen_values = false)]
    tenant: Vec<String>,
    /// File with one tenant per line: slug,name; - reads standard input
    #[arg(long, group = "scope", value_name = "FILE")]
    tenants_file: Option<PathBuf>,
    /// Only the tenants whose last migration failed
    #[arg(long, group = "scope")]
    retry_failed: bool,
    /// All tenants except these
    #[arg(long, value_name = "SLUG", num_args = 1.., value_delimiter = ',', allow_hyphen_values = false, conflicts_with = "public")]
    exclude: Vec<String>,
    /// One part of the tenants, for example 1/3, if several machines share the work
    #[arg(long, value_name = "I/N", conflicts_with = "public")]
    part: Option<Shard>,
    /// Migrate tenants up to this version
    #[arg(long, value_name = "VERSION", conflicts_with = "public")]
    target: Option<Version>,
}

/// In which manner.
#[derive(Args, Debug)]
struct How {
    /// Number of tenants at the same time, one connection each [default: up to 4]
    #[arg(short, long, value_name = "N", value_parser = number::at_least_one, conflicts_with = "public")]
    jobs: Option<NonZeroUsize>,
    /// Migrate N tenants (or the listed ones) first; stop if any of them fails
    #[arg(long, value_name = "N|SLUG,…", conflicts_with = "public")]
    canary: Option<String>,
    /// Stop starting tenants after N have failed
    #[arg(long, value_name = "N", value_parser = number::at_least_one)]
    max_failures: Option<NonZeroUsize>,
    /// Stop starting tenants after the first failure
    #[arg(long, conflicts_with = "max_failures")]
    fail_fast: bool,
    /// All schemas in one transaction; for small fleets
    #[arg(long, conflicts_with_all = ["jobs", "canary", "max_failures", "fail_fast"])]
    all_or_nothing: bool,
    /// Skip the check that a new tenant can be created from these files
    #[arg(long)]
    no_rehearsal: bool,
}

pub(crate) async fn run(session: &Session<'_>, arguments: &Arguments) -> Result<Exit> {
    let printer = session.printer;
    let saved = arguments.apply.as_ref().map(read_plan).transpose()?;
    let mut options = options(&arguments.how)?.interrupt(&session.shutdown.interrupt);
    let mut selection = match &saved {
        Some(saved) => saved.selection(),
        None => selection(&arguments.which)?,
    };
    let target = match &saved {
        Some(saved) => saved.target(),
        None => arguments.which.target.map_or(Target::Head, Target::Version),
    };
    let (_, migrations, operator) = session.open().await?;
    let looking = arguments.plan || arguments.check || arguments.plan_out.is_some();
    if looking {
        operator.read_only().await?;
        session.say_database(&operator);
    } else {
        session.introduce("migrate", &operator, &migrations);
    }
    let mut none_failed = false;
    if arguments.which.retry_failed {
        let failed = migrate::failed_last(&operator).await?;
        none_failed = failed.is_empty();
        selection = narrowed(selection, failed);
    }
    let plan = migrate::plan_fleet(&operator, &migrations, selection, target).await?;
    if none_failed {
        printer.info("No tenant's last migration failed.");
    }
    if looking {
        let exit = if arguments.check { checked(&plan) } else { Exit::Done };
        if let Some(file) = &arguments.plan_out {
            let text = plan_text(&SavedPlan::of(&operator, &plan));
            if is_stream(file) {
                printer.raw(text);
                return Ok(exit);
            }
            std::fs::write(file, text).map_err(|error| Refusal::file("write the plan to", file, &error))?;
        }
        let next = if arguments.plan_out.is_some() { Next::Unsaid } else { Next::Migrate };
        plan::show(printer, &migrations, &plan, TargetView::of(&operator), exit, next);
        if let Some(file) = &arguments.plan_out {
            let apply = format!("cgk migrate --apply {}", display_path(file));
            printer.info(format!("The plan is in {}. Next: {}", display_path(file), paint(COMMAND, apply)));
        }
        return Ok(exit);
    }
    if let Some(saved) = &saved {
        refuse_stale(saved.differences(&operator, &plan))?;
        options = options.exactly_as_planned();
    }
    let began = Instant::now();
    let mut progress = Progress::new(printer);
    let strange = plan.strange.clone();
    let report = migrate::run_with(&operator, &migrations, plan, &options, &mut progress).await?;
    drop(progress);
    if !arguments.which.tenants {
        audit::keep_months(&operator).await;
    }
    if report.stopped.is_none() {
        warm::renew(session, &operator, &migrations).await;
    }
    let asked = report::Asked { target, saved_plan: saved.is_some() };
    Ok(report::show(session, &report, asked, &strange, began))
}

fn selection(which: &Which) -> Result<Selection> {
    let scope = match (which.public, which.tenants, which.tenant.as_slice(), &which.tenants_file) {
        (true, ..) => Scope::Public,
        (_, true, ..) => Scope::Tenants,
        (.., Some(file)) => Scope::Only(slugs::of_file(file)?.into_iter().map(|entry| entry.slug).collect()),
        (_, _, [], None) => Scope::Everything,
        (_, _, named, None) => Scope::Only(slugs::parsed(named)?),
    };
    let exclude = slugs::parsed(&which.exclude)?;
    if let Scope::Only(named) = &scope
        && !exclude.is_empty()
        && named.iter().all(|slug| exclude.contains(slug))
    {
        return Err(Refusal {
            message: "--exclude leaves out every tenant that is named".into(),
            hint: "Name a tenant that is not excluded, or take --exclude out.".into(),
            exit: Exit::Usage,
        }
        .into());
    }
    let selection = Selection::from(scope).excluding(exclude);
    Ok(match which.part {
        Some(part) => selection.shard(part),
        None => selection,
    })
}

/// Returns the same exclusions for other tenants.
fn narrowed(selection: Selection, slugs: Vec<TenantSlug>) -> Selection {
    selection.of(Scope::Only(slugs))
}

fn options(how: &How) -> Result<RunOptions> {
    let mut options = RunOptions::default();
    if let Some(jobs) = how.jobs {
        options = options.jobs(jobs);
    }
    if let Some(text) = &how.canary {
        options = options.canary(canary(text)?);
    }
    if let Some(failures) = how.max_failures.or(how.fail_fast.then_some(NonZeroUsize::MIN)) {
        options = options.failures_max(failures);
    }
    if how.all_or_nothing {
        options = options.all_or_nothing();
    }
    if how.no_rehearsal {
        options = options.unrehearsed();
    }
    Ok(options)
}

pub(in crate::cli) fn canary(text: &str) -> Result<Canary> {
    if let Ok(number) = text.parse::<NonZeroUsize>() {
        return Ok(Canary::First(number.get()));
    }
    if text.bytes().all(|b| b.is_ascii_digit()) {
        let message = match text.trim_start_matches('0') {
            "" => format!("--canary {text} names no tenant"),
            _ => format!("--canary {text} is more than any fleet has"),
        };
        let hint = "Give a number of tenants from 1 on or their slugs, or leave --canary out.".into();
        return Err(Refusal { message, hint, exit: Exit::Usage }.into());
    }
    Ok(Canary::These(slugs::parsed(text.split(','))?))
}

fn read_plan(file: &PathBuf) -> Result<SavedPlan> {
    let text = match is_stream(file) {
        true => std::io::read_to_string(std::io::stdin()),
        false => std::fs::read_to_string(file),
    };
    let text = text.map_err(|error| Refusal::file("read the plan", file, &error))?;
    serde_json::from_str(&text).map_err(|error| {
        Refusal {
            message: format!("{} is not a plan of this version of cgk: {error}", display_path(file)),
            hint: "Write one with `cgk migrate --plan-out FILE`.".into(),
            exit: Exit::Usage,
        }
        .into()
    })
}

fn plan_text(plan: &SavedPlan) -> String {
    serde_json::to_string_pretty(plan).expect("a plan has text keys and no failing parts") + "\n"
}

/// Whether a file is standard input or output.
fn is_stream(file: &Path) -> bool {
    file == Path::new("-")
}

fn refuse_stale(differences: Vec<String>) -> Result<()> {
    const SHOWN_MAX: usize = 10;
    if differences.is_empty() {
        return Ok(());
    }
    let more = differences.len().saturating_sub(SHOWN_MAX);
    let mut message = format!("the plan is out of date: {}", differences[..differences.len() - more].join("; "));
    if more > 0 {
        message.push_str(&format!("; and {more} more"));
    }
    let hint = "Nothing was changed. Make a new plan with --plan-out and review it.".into();
    Err(Refusal { message, hint, exit: Exit::Failed }.into())
}
