//! The command line: one file per command. The library makes the decisions.

pub(crate) mod audit;
pub(crate) mod auth;
mod command;
mod completions;
pub(crate) mod config;
#[cfg(feature = "demo")]
mod demo;
mod doctor;
pub(crate) mod domain;
mod drift;
pub(crate) mod events;
mod exit;
mod global;
mod help;
mod init;
pub(crate) mod invite;
pub(crate) mod member;
pub(crate) mod migrate;
mod number;
pub(crate) mod org;
pub(crate) mod plan;
mod platform_command;
pub(crate) mod provision;
pub(crate) mod quota;
#[cfg(feature = "demo")]
mod reaper;
mod report;
pub(crate) mod secret;
mod session;
pub(crate) mod setup;
mod signal;
pub(crate) mod subscription;
mod suggest;
pub(crate) mod tenant;
pub(crate) mod ui;

use anyhow::Result;
use cgk::config::MigrationsFrom;
use clap::{FromArgMatches, Parser};
use std::{ffi::OsString, process::ExitCode};
use tracing_subscriber::EnvFilter;

use command::Command;
use exit::Exit;
use global::{ColorArg, Globals};
use session::Session;
use signal::ShutdownSignal;
use ui::printer::{Format, Printer, Volume};
use ui::report::Report;

/// The version of the JSON output. Within a version, keys are added, and never renamed or removed.
pub(crate) const JSON_VERSION: u32 = 1;

/// One PostgreSQL schema per tenant: setup, tenants, migrations
#[derive(Debug, Parser)]
#[command(name = "cgk", version, styles = ui::style::HELP, max_term_width = help::WIDTH_MAX, arg_required_else_help = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    globals: Globals,
    #[command(subcommand)]
    command: Command,
}

pub(crate) fn main() -> ExitCode {
    run(std::env::args_os().collect()).into()
}

fn run(arguments: Vec<OsString>) -> Exit {
    let parsed = help::command()
        .try_get_matches_from(&arguments)
        .and_then(|mut matches| Cli::from_arg_matches_mut(&mut matches));
    let cli = match parsed {
        Ok(cli) => cli,
        Err(error) => return misused(error, &arguments),
    };
    anstream::ColorChoice::from(cli.globals.color).write_global();
    listen_to_the_library(&cli.globals);
    ui::server_detail::show(!cli.globals.no_detail);
    let printer = Printer::new(cli.globals.format(), cli.globals.volume());
    let outcome = execute(&cli, &printer);
    let exit = match outcome {
        Ok(exit) => exit,
        Err(error) => {
            let report = Report::of(&error);
            let bundled = || matches!(Session::migrations_from(&cli.globals), Ok(MigrationsFrom::Bundled));
            tell(&printer, &if report.is_of_wrong_files() && bundled() { report.with_bundled_set() } else { report })
        }
    };
    match printer.finish() {
        Ok(()) => exit,
        Err(error) => {
            printer.error(format!("error: could not write to standard output: {error}"));
            if exit == Exit::Done { Exit::Failed } else { exit }
        }
    }
}

/// The result of a command.
enum Ended {
    ByItself(Result<Exit>),
    BySignal(Exit),
}

fn execute(cli: &Cli, printer: &Printer) -> Result<Exit> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let ended = runtime.block_on(async {
        #[cfg(feature = "demo")]
        if matches!(cli.command, Command::Reaper) {
            return Ok(Ended::ByItself(reaper::run().await));
        }
        until_signalled(cli, printer).await
    });
    // Does not wait for a server that is being downloaded or started.
    runtime.shutdown_background();
    match ended {
        Ok(Ended::ByItself(result)) => result,
        Ok(Ended::BySignal(signal)) => Ok(cli.command.exit_at_signal(signal).unwrap_or_else(|| {
            let message = format!("interrupted: {}", cli.command.after_interruption());
            tell(printer, &Report::interrupted(&message, signal))
        })),
        Err(error) => Err(error),
    }
}

/// Runs the command. For a run over many schemas, the first signal requests a stop and the second one cancels it. Any
/// other command ends with the first signal.
async fn until_signalled(cli: &Cli, printer: &Printer) -> Result<Ended> {
    let shutdown = ShutdownSignal::default();
    let mut signals = signal::Signals::listen()?;
    let mut work = std::pin::pin!(cli.command.run(Session { globals: &cli.globals, printer, shutdown: &shutdown }));
    for number in 1.. {
        // If a signal ends the command, its future is dropped at the end of this function, and its guards clean up
        // then.
        let exit = tokio::select! {
            result = &mut work => return Ok(Ended::ByItself(result)),
            exit = signals.next() => exit,
        };
        shutdown.note(exit);
        match number {
            1 if shutdown.interrupt.is_heard() => {
                shutdown.interrupt.stop();
                printer.at_signal(cli.command.at_signals()[0]);
            }
            2 if shutdown.interrupt.is_heard() => {
                shutdown.interrupt.cancel();
                printer.at_signal(cli.command.at_signals()[1]);
            }
            _ => return Ok(Ended::BySignal(exit)),
        }
    }
    unreachable!("the loop is endless")
}

/// Reports an error: as text on standard error, as JSON on standard output.
fn tell(printer: &Printer, report: &Report) -> Exit {
    report.annotate(printer, &[]);
    printer.error(report.render(&[]));
    printer.record(&report.record());
    report.exit()
}

/// Prints the parser's message, with one suggestion instead of five. Help and version are not errors.
fn misused(error: clap::Error, arguments: &[OsString]) -> Exit {
    let error = suggest::improve(error, arguments, &help::names());
    let says = |flag: &str| arguments.iter().any(|argument| argument == flag);
    if says("--color=never") {
        anstream::ColorChoice::from(ColorArg::Never).write_global();
    }
    let text = error.render().ansi().to_string();
    let json = says("--json") && error.use_stderr();
    let printer = Printer::new(if json { Format::Json } else { Format::Human }, Volume::Normal);
    if !error.use_stderr() {
        printer.raw(text);
        return if printer.finish().is_ok() { Exit::Done } else { Exit::Failed };
    }
    printer.error(text.trim_end());
    if json {
        let plain = error.render().to_string();
        let first = plain.lines().next().unwrap_or_default();
        printer.record(&Report::usage(first.strip_prefix("error: ").unwrap_or(first)).record());
    }
    Exit::Usage
}

fn listen_to_the_library(globals: &Globals) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(globals.log_level()));
    let stderr = std::io::stderr();
    let colours = anstream::AutoStream::choice(&stderr) != anstream::ColorChoice::Never;
    // A failure to log must not panic, because standard error may be a closed pipe.
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(|| ui::bar_line::LogWriter)
        .with_ansi(colours)
        .with_target(false)
        .without_time()
        .log_internal_errors(false)
        .finish();
    let _ = tracing::subscriber::set_global_default(subscriber);
}
