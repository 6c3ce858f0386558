//! A fleet that is driven by the program.

use super::cgk::{Answer, Shell};
use crate::sandbox::Raw;
use cgk::testing::{TestDatabase, TestServer};

/// A fleet with the smallest set there is: its database, a folder with the files, and a session beside.
pub(crate) struct Fleet {
    pub(crate) database: TestDatabase,
    pub(crate) shell: Shell,
    pub(crate) raw: Raw,
}

impl Fleet {
    pub(crate) async fn of(slugs: &[&str]) -> Self {
        let database = TestServer::shared().database().await.unwrap();
        let (shell, raw) = (Shell::on(&database), Raw::on(&database).await);
        shell.write_migrations();
        let fleet = Self { database, shell, raw };
        fleet.ok(&["setup:database", "-q"]);
        fleet.ok(&[&["tenant:create", "-q"], slugs].concat());
        fleet
    }

    /// With a third file that has been applied.
    pub(crate) async fn with(slugs: &[&str], sql: &str) -> Self {
        let fleet = Self::of(slugs).await;
        fleet.migrate(sql);
        fleet
    }

    /// Applies a third file.
    pub(crate) fn migrate(&self, sql: &str) {
        self.file("003_next.sql", sql);
        self.ok(&["migrate", "-q", "--jobs", "1"]);
    }

    pub(crate) fn file(&self, name: &str, sql: &str) {
        self.shell.write(&format!("migrations/tenant/{name}"), sql);
    }

    pub(crate) fn ok(&self, arguments: &[&str]) -> String {
        let answer = self.shell.run(arguments);
        assert_eq!(answer.code, 0, "{arguments:?}: {}", said(&answer));
        answer.stdout
    }

    pub(crate) fn drift(&self) -> Answer {
        self.shell.run(&["drift"])
    }

    /// The tables and indexes of all tenants.
    pub(crate) async fn relations(&self) -> String {
        let all = "select coalesce(string_agg(n.nspname || '.' || c.relname, ' ' order by n.nspname, c.relname), '') from pg_class c \
                   join pg_namespace n on n.oid = c.relnamespace where n.nspname like 'tenant\\_%' and c.relkind in ('r', 'i')";
        self.raw.one(all).await
    }
}

pub(crate) fn said(answer: &Answer) -> String {
    format!("{}{}exit {}", answer.stdout, answer.stderr, answer.code)
}
