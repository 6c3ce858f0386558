//! Recognising a transaction pooler by its address, and spelling out the address behind it.

use super::error::{ConfigErrorKind, Problem};
use super::parts::DEFAULT_PORT;
use super::target::{Target, TargetHost};

/// PgBouncer's own port.
const PGBOUNCER_PORT: u16 = 6432;
/// Supavisor's port in transaction mode.
const SUPAVISOR_PORT: u16 = 6543;

/// Why a target looks like a transaction pooler, and where the server itself is.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Pooler {
    pub(super) sign: String,
    pub(super) direct: String,
}

/// Looks for the address of a transaction pooler among a target's hosts.
pub(super) fn detect(target: &Target) -> Option<Pooler> {
    target.hosts().iter().find_map(|host| {
        let TargetHost::Network { name, port } = host else {
            return (host.port() == PGBOUNCER_PORT || host.port() == SUPAVISOR_PORT)
                .then(|| Pooler { sign: format!("port {}", host.port()), direct: "the server's own socket".into() });
        };
        let sign = if name.split('.').any(|label| label.ends_with("-pooler")) {
            format!("host {name}")
        } else if [PGBOUNCER_PORT, SUPAVISOR_PORT].contains(port) {
            format!("port {port}")
        } else {
            return None;
        };
        Some(Pooler { sign, direct: behind(name, *port, target) })
    })
}

/// Names the server behind a pooler.
fn behind(name: &str, port: u16, target: &Target) -> String {
    if name.split('.').any(|label| label.ends_with("-pooler")) {
        let labels: Vec<_> = name.split('.').map(|label| label.strip_suffix("-pooler").unwrap_or(label)).collect();
        let port = if [PGBOUNCER_PORT, SUPAVISOR_PORT].contains(&port) { DEFAULT_PORT } else { port };
        return format!("{}:{port}", labels.join("."));
    }
    if name.ends_with(".pooler.supabase.com") {
        return match target.user().and_then(|user| user.split_once('.')) {
            Some((user, project)) => format!(
                "db.{project}.supabase.co:{DEFAULT_PORT} and the user {user} (or, without IPv6, {name}:{DEFAULT_PORT} \
                 and the user as it is)"
            ),
            None => format!("{name}:{DEFAULT_PORT}"),
        };
    }
    format!("{name}:{DEFAULT_PORT}, or wherever the server itself listens,")
}

/// The problem of DDL over a transaction pooler.
pub(super) fn problem(pooler: &Pooler) -> Problem {
    Problem::new(
        ConfigErrorKind::Pooler,
        format!("leads to a transaction pooler ({}), over which schemas cannot be changed safely", pooler.sign),
        format!("Set CGK_DIRECT_URL to the same URL with the host {} in place of the pooler's.", pooler.direct),
    )
}

/// The notice for a target that looks like a transaction pooler and is not declared as one.
pub(super) fn notice(pooler: &Pooler) -> String {
    format!(
        "the address looks like a transaction pooler ({}); set `pooled = true` in cgk.toml or CGK_POOLED=1, unless the \
         pooler keeps track of prepared statements (PgBouncer 1.21 or newer with max_prepared_statements)",
        pooler.sign
    )
}
