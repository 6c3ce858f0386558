//! `cgk tenant:shell`

use anyhow::Result;
use cgk::{
    Operator, TenantSlug,
    config::{RootCerts, TlsMode},
    lifecycle::{self, ShellAccess, ShellOptions},
};
use clap::Args;
use std::{ffi::OsString, io, os::unix::process::CommandExt as _, path::Path, process::Command};

use crate::cli::{
    exit::Exit,
    session::{self, Session},
    ui::{
        report::Refusal,
        style::{WARNING, paint, sanitize},
    },
};

pub(crate) const EXAMPLES: &str = "\
Examples:
  cgk tenant:shell acme
  cgk tenant:shell acme --write
  cgk tenant:shell acme -- -c '\\dt' -x

psql starts as the tenant's role, with its search path; without --write its transactions are read-only. This protects \
             from mistakes only: SET ROLE NONE makes the session the operator's again. Arguments after -- are those \
             of psql, and so is the exit code.";

const PSQL: &str = "psql";
/// The first version of psql that finds the system's certificate authorities itself.
const FINDS_SYSTEM_ROOTS: u32 = 16;
/// The files in which systems store them.
const SYSTEM_ROOTS: [&str; 5] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
    "/opt/homebrew/etc/ca-certificates/cert.pem",
];

#[derive(Args, Debug)]
pub(crate) struct Arguments {
    /// Slug of the tenant
    #[arg(value_name = "TENANT")]
    slug: String,
    /// Let transactions change rows; without it they are read-only
    #[arg(long)]
    write: bool,
    /// Arguments of psql, after --
    #[arg(last = true, value_name = "ARG")]
    psql: Vec<OsString>,
}

pub(crate) async fn run(session: &Session<'_>, arguments: &Arguments) -> Result<Exit> {
    let slug: TenantSlug = arguments.slug.parse()?;
    let version = psql_version()?;
    let config = session.config()?;
    let operator = Operator::connect(&config).await?;
    session.warn_of_service_login(&operator);
    let access = if arguments.write { ShellAccess::Write } else { ShellAccess::ReadOnly };
    let mut options = ShellOptions::default().access(access);
    if let (TlsMode::Verify { roots: RootCerts::System, .. }, ..FINDS_SYSTEM_ROOTS) = (operator.config().tls(), version)
    {
        options = options.system_roots(system_roots(version)?);
    }
    let shell = lifecycle::shell(&operator, &slug, &options).await?;
    let who = match shell.role() {
        Some(role) => format!("as role {role}; SET ROLE NONE makes you the operator again"),
        None => "as the operator: isolation by path, so a schema that you name is not refused".to_owned(),
    };
    let writes = if arguments.write { "transactions write" } else { "transactions are read-only" };
    session.printer.info(format!(
        "tenant {slug} of {}, {}, {writes}",
        session::place(&operator),
        paint(WARNING, sanitize(&who))
    ));
    drop(operator);
    // psql replaces this process: its exit code is the command's, and it handles Ctrl-C itself.
    Err(unusable(&shell.command(PSQL, arguments.psql.iter().cloned()).exec()).into())
}

/// Returns the major version of psql, such as 16.
fn psql_version() -> Result<u32, Refusal> {
    let output = Command::new(PSQL).arg("--version").output().map_err(|error| unusable(&error))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let version = text.split_whitespace().find(|word| word.starts_with(|c: char| c.is_ascii_digit()));
    let major = version.and_then(|version| version.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok());
    major.ok_or_else(|| unusable(&io::Error::other("`psql --version` names no version")))
}

fn system_roots(version: u32) -> Result<&'static Path, Refusal> {
    SYSTEM_ROOTS.map(Path::new).into_iter().find(|path| path.is_file()).ok_or_else(|| Refusal {
        message: format!("psql {version} does not find the system's certificate authorities"),
        hint: "Add sslrootcert=FILE to the connection URL, or install psql 16 or newer.".into(),
        exit: Exit::Failed,
    })
}

fn unusable(error: &io::Error) -> Refusal {
    let hint = "Install PostgreSQL's client programs and put psql on the PATH: `apt install postgresql-client`, \
                `dnf install postgresql`, `brew install libpq`.";
    Refusal { message: format!("could not start psql: {error}"), hint: hint.into(), exit: Exit::Failed }
}
