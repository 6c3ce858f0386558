//! Converts a connection string to the driver's settings.

use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use tokio_postgres::config::SslMode;

use super::error::ValueProblem;
use super::options::Options;
use super::parts::{DEFAULT_PORT, Parts};
use super::settings::RemotePlaintext;
use super::target::{ConnectionTarget, Distance, TargetHost, distance};
use super::tls::{self, TlsMode};

/// How long one address may take to respond. The URL can set another time.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// When an idle connection is probed. A dead server, or a firewall that dropped the connection, is then noticed within
/// one or two minutes.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(60);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_RETRIES: u32 = 3;

/// A parsed connection string. `Debug` is safe, because the driver masks the password.
#[derive(Clone, Debug)]
pub(super) struct Address {
    pub(super) pg: tokio_postgres::Config,
    pub(super) target: ConnectionTarget,
    pub(super) tls: TlsMode,
    pub(super) pgbouncer: Option<bool>,
    pub(super) application_name: Option<String>,
    pub(super) notices: Vec<String>,
}

impl Address {
    /// Parses a connection string. Relative paths in it are relative to `base`.
    pub(super) fn parse(text: &str, plaintext: RemotePlaintext, base: &Path) -> Result<Address, ValueProblem> {
        Address::of(Parts::parse(text)?, plaintext, base)
    }

    /// Interprets the parts of a connection string. Relative paths in it are relative to `base`.
    pub(super) fn of(parts: Parts, plaintext: RemotePlaintext, base: &Path) -> Result<Address, ValueProblem> {
        let mut options = Options::read(&parts)?;
        let mut pg = driver_options(&options)?;

        let Some(database) = parts.database else {
            return Err(ValueProblem::invalid(
                "names no database",
                "Write the database's name at the end of the host part: postgresql://user@host:5432/database.",
            ));
        };
        let hosts = hosts(&parts.hosts, &parts.ports, pg.get_hostaddrs())?;
        if parts.hosts.is_empty() {
            // The driver needs a host name for TLS; libpq uses the address instead.
            for address in pg.get_hostaddrs().to_vec() {
                pg.host(address.to_string());
            }
        }
        let tls = tls::decide(&mut options, distances(&hosts, pg.get_hostaddrs()), plaintext, base)?;

        for host in &hosts {
            pg.port(host.port());
        }
        for host in &parts.hosts {
            pg.host(host);
        }
        pg.dbname(&database);
        if let Some(user) = &parts.user {
            pg.user(user);
        }
        if let Some(password) = &parts.password {
            pg.password(password);
        }
        pg.ssl_mode(match tls {
            TlsMode::Disable => SslMode::Disable,
            TlsMode::Verify { .. } => SslMode::Require,
        });
        let target = ConnectionTarget { hosts, database, user: parts.user };
        let Options { pgbouncer, application_name, notices, .. } = options;
        Ok(Address { pg, target, tls, pgbouncer, application_name, notices })
    }

    /// Returns the same server with another database.
    pub(super) fn with_database(&self, name: &str) -> Address {
        let mut address = self.clone();
        address.pg.dbname(name);
        address.target.database = name.to_owned();
        address
    }

    /// Returns the target as a URL, with `***` if there is a password.
    pub(super) fn masked(&self) -> String {
        self.target.masked(self.pg.get_password().is_some())
    }
}

/// Passes the options to the driver one by one, so that the error can name the wrong one.
fn driver_options(options: &Options) -> Result<tokio_postgres::Config, ValueProblem> {
    let mut all = String::new();
    for (key, value) in &options.driver {
        let pair = format!("{key}='{}' ", value.replace('\\', r"\\").replace('\'', r"\'"));
        if pair.parse::<tokio_postgres::Config>().is_err() {
            return Err(ValueProblem::invalid(
                format!("has an option {key} with a value that it cannot have"),
                format!("Correct {key}, or remove it."),
            ));
        }
        all.push_str(&pair);
    }
    let mut pg: tokio_postgres::Config = all.parse().expect("each option was understood on its own");
    if pg.get_connect_timeout().is_none() {
        pg.connect_timeout(CONNECT_TIMEOUT);
    }
    let given = |key: &str| options.driver.iter().any(|(given, _)| *given == key);
    if !given("keepalives_idle") {
        pg.keepalives_idle(KEEPALIVE_IDLE);
    }
    if !given("keepalives_interval") {
        pg.keepalives_interval(KEEPALIVE_INTERVAL);
    }
    if !given("keepalives_retries") {
        pg.keepalives_retries(KEEPALIVE_RETRIES);
    }
    Ok(pg)
}

/// Pairs the hosts with their ports.
fn hosts(names: &[String], ports: &[u16], addresses: &[IpAddr]) -> Result<Vec<TargetHost>, ValueProblem> {
    let names = if names.is_empty() { addresses.iter().map(IpAddr::to_string).collect() } else { names.to_vec() };
    if names.is_empty() || names.iter().any(String::is_empty) {
        return Err(ValueProblem::invalid(
            "names no host",
            "Write the host, such as localhost, or the directory of the server's socket: \
             postgresql:///database?host=/var/run/postgresql.",
        ));
    }
    if (!addresses.is_empty() && addresses.len() != names.len()) || (ports.len() > 1 && ports.len() != names.len()) {
        return Err(ValueProblem::invalid(
            "has lists of hosts, addresses and ports of different lengths",
            "Give one port for all hosts, or one address and one port for each.",
        ));
    }
    let port = |index| ports.get(index).or(ports.first()).copied().unwrap_or(DEFAULT_PORT);
    names
        .into_iter()
        .enumerate()
        .map(|(index, name)| match distance(&name) {
            Distance::Socket => Ok(TargetHost::Socket { directory: name, port: port(index) }),
            _ if name.chars().all(|c| c.is_ascii_alphanumeric() || "-._:%".contains(c)) => {
                Ok(TargetHost::Network { name, port: port(index) })
            }
            _ => Err(ValueProblem::invalid(
                "has a character in the host that no host name has",
                "Check the part between `@` and `/`; special characters in the password must be percent-encoded.",
            )),
        })
        .collect()
}

/// Returns how far away the nearest and the farthest host are. If an address is given, it is used, because the data is
/// sent there.
fn distances(hosts: &[TargetHost], addresses: &[IpAddr]) -> (Distance, Distance) {
    let of = |(index, host): (usize, &TargetHost)| match (addresses.get(index), host) {
        (Some(address), _) => distance(&address.to_string()),
        (None, TargetHost::Network { name, .. }) => distance(name),
        (None, TargetHost::Socket { .. }) => Distance::Socket,
    };
    let all = || hosts.iter().enumerate().map(of);
    (all().min().unwrap_or(Distance::Remote), all().max().unwrap_or(Distance::Remote))
}
