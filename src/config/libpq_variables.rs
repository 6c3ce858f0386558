//! Writes an address as libpq's environment, for a program such as `psql` that is started with it. Other users of the
//! machine can read a password on a command line, but not in the environment.

use std::ffi::OsString;
use std::path::Path;

use tokio_postgres::config::{ChannelBinding, TargetSessionAttrs};

use super::address::Address;
use super::target::TargetHost;
use super::tls::{RootCerts, TlsMode};

/// A variable with its value, or without one if it must be removed.
pub(crate) type Variable = (&'static str, Option<OsString>);

impl Address {
    /// Returns the variables. `system_roots` is the value with which libpq reads the system's certificate authorities:
    /// a file, or the word `system`, which libpq supports since version 16.
    pub(super) fn libpq_variables(&self, system_roots: &Path) -> Vec<Variable> {
        let host = |host: &TargetHost| match host {
            TargetHost::Network { name, .. } => name.clone(),
            TargetHost::Socket { directory, .. } => directory.clone(),
        };
        let list = |texts: Vec<String>| (!texts.is_empty()).then(|| OsString::from(texts.join(",")));
        let hosts = &self.target.hosts;
        let addresses = self.pg.get_hostaddrs().iter().map(ToString::to_string).collect();
        let timeout = self.pg.get_connect_timeout().map(|time| time.as_secs().max(2).to_string().into());
        let binding = (self.pg.get_channel_binding() == ChannelBinding::Require).then(|| "require".into());
        let writes = self.pg.get_target_session_attrs() == TargetSessionAttrs::ReadWrite;
        let mut variables = vec![
            // A service file could name another server.
            ("PGSERVICE", None),
            ("PGHOST", list(hosts.iter().map(host).collect())),
            ("PGHOSTADDR", list(addresses)),
            ("PGPORT", list(hosts.iter().map(|host| host.port().to_string()).collect())),
            ("PGDATABASE", Some(self.target.database.clone().into())),
            ("PGUSER", self.target.user.clone().map(Into::into)),
            ("PGPASSWORD", self.pg.get_password().map(|password| os_string(password.to_vec()))),
            ("PGCONNECT_TIMEOUT", timeout),
            ("PGCHANNELBINDING", binding),
            ("PGTARGETSESSIONATTRS", writes.then(|| "read-write".into())),
        ];
        variables.extend(self.tls_variables(system_roots));
        variables
    }

    fn tls_variables(&self, system_roots: &Path) -> [Variable; 4] {
        let (mode, roots, client) = match &self.tls {
            TlsMode::Disable => ("disable", None, None),
            TlsMode::Verify { roots: RootCerts::System, client } => {
                ("verify-full", Some(system_roots), client.as_ref())
            }
            TlsMode::Verify { roots: RootCerts::File(file), client } => ("verify-full", Some(&**file), client.as_ref()),
        };
        [
            ("PGSSLMODE", Some(mode.into())),
            ("PGSSLROOTCERT", roots.map(Into::into)),
            ("PGSSLCERT", client.map(|client| client.certificate.clone().into())),
            ("PGSSLKEY", client.map(|client| client.key.clone().into())),
        ]
    }
}

#[cfg(unix)]
fn os_string(bytes: Vec<u8>) -> OsString {
    std::os::unix::ffi::OsStringExt::from_vec(bytes)
}

#[cfg(not(unix))]
fn os_string(bytes: Vec<u8>) -> OsString {
    String::from_utf8_lossy(&bytes).into_owned().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn variables(url: &str) -> Vec<(&'static str, Option<String>)> {
        let config = Config::from_url(url).unwrap();
        let all = config.libpq_variables(Path::new("/etc/roots.pem"));
        all.into_iter().map(|(name, value)| (name, value.map(|value| value.into_string().unwrap()))).collect()
    }

    fn of(url: &str, name: &str) -> Option<String> {
        variables(url).into_iter().find(|(found, _)| *found == name).unwrap_or_else(|| panic!("no {name}")).1
    }

    #[test]
    fn an_address_becomes_variables() {
        let url = "postgresql://op:p%40ss%20word@a.example:6000,b.example:6001/shop?target_session_attrs=read-write&connect_timeout=7";
        for (name, value) in [
            ("PGHOST", Some("a.example,b.example")),
            ("PGPORT", Some("6000,6001")),
            ("PGUSER", Some("op")),
            ("PGPASSWORD", Some("p@ss word")),
            ("PGDATABASE", Some("shop")),
            ("PGCONNECT_TIMEOUT", Some("7")),
            ("PGTARGETSESSIONATTRS", Some("read-write")),
            ("PGSERVICE", None),
            ("PGHOSTADDR", None),
        ] {
            assert_eq!(of(url, name).as_deref(), value, "{name}");
        }
        assert_eq!(of("postgresql://op@/shop?host=/run/pg", "PGHOST").as_deref(), Some("/run/pg"));
    }

    #[test]
    fn another_machine_is_verified_and_this_one_is_not_encrypted() {
        let mode = |url: &str| (of(url, "PGSSLMODE").unwrap(), of(url, "PGSSLROOTCERT"));
        for url in ["postgresql://op@db.example/shop", "postgresql://op@db.example/shop?sslmode=require"] {
            assert_eq!(mode(url), ("verify-full".into(), Some("/etc/roots.pem".into())), "{url}");
        }
        assert_eq!(mode("postgresql://op@localhost/shop"), ("disable".into(), None));
        let file = std::env::temp_dir().join(format!("cgk-roots-{:x}.pem", rand::random::<u64>()));
        std::fs::write(&file, "").unwrap();
        let url = format!("postgresql://op@db.example/shop?channel_binding=require&sslrootcert={}", file.display());
        assert_eq!(mode(&url), ("verify-full".into(), Some(file.display().to_string())));
        assert_eq!(of(&url, "PGCHANNELBINDING").as_deref(), Some("require"));
        std::fs::remove_file(file).unwrap();
    }
}
