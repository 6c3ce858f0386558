//! Recognizes a transaction pooler by its address, and derives the address of the server.

use std::fmt;

use super::address::Address;
use super::error::{ConfigErrorKind, ValueProblem};
use super::parts::DEFAULT_PORT;
use super::target::{ConnectionTarget, TargetHost};

/// PgBouncer's default port.
const PGBOUNCER_PORT: u16 = 6432;
/// Supavisor's port in transaction mode.
const SUPAVISOR_PORT: u16 = 6543;
/// The domain of Supabase's shared poolers.
const SUPABASE_POOLERS: &str = ".pooler.supabase.com";

/// An address that looks like a transaction pooler.
#[derive(Debug)]
pub(super) struct Pooler {
    pub(super) sign: Sign,
    /// The host of the server behind the pooler, and any other differences.
    pub(super) direct: String,
}

/// Why an address counts as a transaction pooler.
#[derive(Debug)]
pub(super) enum Sign {
    Host(String),
    Port(u16),
    Pgbouncer,
    Pooled,
}

impl fmt::Display for Sign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Sign::Host(host) => write!(f, "host {host}"),
            Sign::Port(port) => write!(f, "port {port}"),
            Sign::Pgbouncer => f.write_str("pgbouncer=true"),
            Sign::Pooled => f.write_str("pooled = true"),
        }
    }
}

/// Checks whether an address looks like a transaction pooler.
pub(super) fn detect(address: &Address) -> Option<Pooler> {
    let target = &address.target;
    let by_host = target.hosts().iter().find_map(|host| {
        let port = host.port();
        match host {
            TargetHost::Network { name, .. } if is_neon_pooler(name) || is_supavisor(name, port) => {
                Some(Pooler { sign: Sign::Host(name.clone()), direct: behind(name, port, target) })
            }
            TargetHost::Network { name, .. } if is_pooler_port(port) => {
                Some(Pooler { sign: Sign::Port(port), direct: behind(name, port, target) })
            }
            TargetHost::Socket { directory, .. } if is_pooler_port(port) => {
                Some(Pooler { sign: Sign::Port(port), direct: format!("{directory} and the server's own port") })
            }
            _ => None,
        }
    });
    by_host.or_else(|| address.pgbouncer.filter(|pgbouncer| *pgbouncer).map(|_| declared(Sign::Pgbouncer)))
}

/// Returns a transaction pooler that only the configuration declares.
pub(super) fn declared(sign: Sign) -> Pooler {
    Pooler { sign, direct: "and port of the server itself".into() }
}

fn is_neon_pooler(name: &str) -> bool {
    name.split('.').any(|label| label.ends_with("-pooler"))
}

fn is_supavisor(name: &str, port: u16) -> bool {
    name.ends_with(SUPABASE_POOLERS) && port == SUPAVISOR_PORT
}

fn is_pooler_port(port: u16) -> bool {
    port == PGBOUNCER_PORT || port == SUPAVISOR_PORT
}

/// Returns the address of the server behind a pooler.
fn behind(name: &str, port: u16, target: &ConnectionTarget) -> String {
    if is_neon_pooler(name) {
        let labels: Vec<_> = name.split('.').map(|label| label.strip_suffix("-pooler").unwrap_or(label)).collect();
        return format!("{}:{}", labels.join("."), if is_pooler_port(port) { DEFAULT_PORT } else { port });
    }
    if is_supavisor(name, port) {
        return match target.user().and_then(|user| user.split_once('.')) {
            Some((user, project)) => format!(
                "db.{project}.supabase.co:{DEFAULT_PORT} and the user {user} (or, without IPv6, {name}:{DEFAULT_PORT} \
                 and the user as it is)"
            ),
            None => format!("{name}:{DEFAULT_PORT}"),
        };
    }
    format!("{name}:{DEFAULT_PORT} (or wherever the server itself listens)")
}

impl Pooler {
    /// Returns the error for DDL over a transaction pooler.
    pub(super) fn problem(&self) -> ValueProblem {
        ValueProblem::new(
            ConfigErrorKind::Pooler,
            format!("leads to a transaction pooler ({}), over which schemas cannot be changed safely", self.sign),
            format!(
                "Set CGK_DIRECT_URL to the same URL with the host {} instead of the pooler's. If there is no transaction pooler, set CGK_POOLED=0.",
                self.direct
            ),
        )
    }

    /// Returns the notice for an address without the setting `pooled`.
    pub(super) fn notice(&self) -> String {
        format!(
            "the address looks like a transaction pooler ({}); set `pooled = true` in cgk.toml or CGK_POOLED=1",
            self.sign
        )
    }
}
