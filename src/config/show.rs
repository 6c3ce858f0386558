//! The settings as a list for display.

use super::settings::{Isolation, MigrationsFrom, Pooling, RemotePlaintext};
use super::{Config, Origin, SettingOrigin, value};
use crate::ident::Ident;

/// Returns a time limit as text. Zero means no limit.
fn limit(time: std::time::Duration) -> String {
    if time.is_zero() { "none".to_owned() } else { value::show(time) }
}

fn quoted_list(names: &[Ident]) -> String {
    names.iter().map(Ident::quoted).collect::<Vec<_>>().join(", ")
}

pub(super) const SESSION: [&str; 6] = [
    "session.application_name",
    "session.lock_timeout",
    "session.statement_timeout",
    "session.migration_statement_timeout",
    "session.migration_wait",
    "session.idle_in_transaction_timeout",
];

pub(super) const POOL: [&str; 6] = [
    "pool.size_max",
    "pool.tenant_connections_max",
    "pool.wait",
    "pool.connection_age_max",
    "pool.tenants_per_connection_max",
    "pool.descriptions_max",
];

impl Config {
    /// Returns every setting with its value and the source of the value. Passwords are shown as `***`.
    pub fn settings(&self) -> Vec<SettingOrigin> {
        let isolation = match self.isolation {
            Isolation::Role => "role",
            Isolation::Path => "path",
        };
        let migrations = match &self.migrations {
            MigrationsFrom::Bundled => "bundled".to_owned(),
            MigrationsFrom::Directory(path) => path.display().to_string(),
        };
        let plaintext = match self.plaintext {
            RemotePlaintext::Refuse => "false",
            RemotePlaintext::Allow => "true",
        };
        let (session, pool) = (&self.session, &self.pool);
        let [application_name, lock_timeout, statement_timeout, migration_timeout, migration_wait, idle_timeout] =
            SESSION;
        let [size_max, tenant_max, wait, age_max, tenants_max, descriptions_max] = POOL;
        let values = [
            ("database_url", Some(self.address.masked())),
            ("direct_url", self.direct.as_ref().map(|direct| direct.masked())),
            ("insecure_plaintext", Some(plaintext.to_owned())),
            ("isolation", Some(isolation.to_owned())),
            ("search_path", self.search_path.as_ref().map(|names| quoted_list(names))),
            ("pooled", Some((self.pooling == Pooling::Transaction).to_string())),
            ("migrations", Some(migrations)),
            (application_name, Some(session.application_name.clone())),
            (lock_timeout, Some(limit(session.lock_timeout))),
            (statement_timeout, Some(limit(session.statement_timeout))),
            (migration_timeout, Some(limit(session.migration_statement_timeout))),
            (migration_wait, Some(value::show(session.migration_wait))),
            (idle_timeout, Some(limit(session.idle_in_transaction_timeout))),
            (size_max, Some(pool.size_max.to_string())),
            (tenant_max, pool.tenant_connections_max.map(|number| number.to_string())),
            (wait, Some(value::show(pool.wait))),
            (age_max, Some(value::show(pool.connection_age_max))),
            (tenants_max, Some(pool.tenants_per_connection_max.to_string())),
            (descriptions_max, Some(pool.descriptions_max.to_string())),
            ("secret_keys", self.secret_keys.as_ref().map(|_| "***".to_owned())),
        ];
        let mut settings: Vec<_> = values
            .into_iter()
            .map(|(name, value)| SettingOrigin { name, value, origin: self.origins.get(name) })
            .collect();
        // The encryption of the connection depends on the complete URL: on its host, if it contains no TLS options.
        let (value, origin) = (Some(self.address.tls.to_string()), Origin::FollowsFrom("database_url"));
        settings.insert(1, SettingOrigin { name: "tls", value, origin });
        let rules = self.drift_ignore.len();
        let in_file = |key| self.config_file.clone().filter(|_| rules > 0).map(|path| Origin::File { path, key });
        let origin = in_file("drift.ignore").unwrap_or(Origin::Default);
        let value = (rules > 0).then(|| crate::migration::count(rules, "rule"));
        settings.push(SettingOrigin { name: "drift.ignore", value, origin });
        let value = self.config_file.as_ref().map(|path| path.display().to_string());
        settings.push(SettingOrigin { name: "config", value, origin: self.origins.get("config") });
        settings
    }
}
