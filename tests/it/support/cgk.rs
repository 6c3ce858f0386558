//! Runs the program as a shell would: its own folder, no environment but what is given, one answer of three parts.

use cgk::{
    config::TargetHost,
    ident::DatabaseTag,
    testing::{TEST_DATABASE_URL, TestDatabase, TestServer},
};
use regex::Regex;
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
};

/// A shell in an empty folder.
pub(crate) struct Shell {
    folder: PathBuf,
    variables: Vec<(String, String)>,
    /// What is different in every run, and what it is shown as.
    names: Vec<(String, String)>,
}

impl Shell {
    pub(crate) fn new() -> Self {
        let name = format!("cgk-it-{:016x}", rand::random::<u64>());
        let folder = std::env::temp_dir().canonicalize().unwrap().join(name);
        fs::create_dir(&folder).unwrap();
        let names = vec![(folder.display().to_string(), "<folder>".to_owned())];
        Self { folder, variables: Vec::new(), names }
    }

    /// With `DATABASE_URL` for a database.
    pub(crate) fn on(database: &TestDatabase) -> Self {
        Self::as_role(database, None)
    }

    /// The same as another role, which the server must let in without a password.
    pub(crate) fn as_role(database: &TestDatabase, role: Option<&str>) -> Self {
        let mut shell = Self::new().set("DATABASE_URL", &url(database, role));
        // Whatever server the tests run on, the snapshots show the same.
        let target = database.config().target();
        let (address, user) = (target.to_string(), target.user().unwrap_or_default());
        let host = match &target.hosts()[0] {
            TargetHost::Socket { directory, .. } => format!("socket {directory}"),
            TargetHost::Network { name, port } => format!("{name}:{port}"),
            other => unreachable!("{other:?}"),
        };
        let rest = address.split_once("://").unwrap().1;
        let rest = rest.split_once('@').map_or(rest, |(_, rest)| rest);
        let tag = DatabaseTag::of(database.name());
        let names = [
            (":***@", "@"),
            (rest, "<address>"),
            (host.as_str(), "<host>"),
            (host.trim_start_matches("socket "), "<host>"),
            (database.name(), "<database>"),
            (tag.as_str(), "<tag>"),
            (&format!("//{user}@"), "//postgres@"),
            (&format!(" as {user}"), " as postgres"),
            (&format!("role {user} "), "role postgres "),
            (&format!("\"user\":\"{user}\""), "\"user\":\"postgres\""),
            ("encryption: none, it is a Unix socket", "encryption: none"),
        ];
        shell.names.extend(names.map(|(text, name)| (text.to_owned(), name.to_owned())));
        shell
    }

    pub(crate) fn set(mut self, name: &str, value: &str) -> Self {
        self.variables.push((name.into(), value.into()));
        self
    }

    /// Shows a text that differs from run to run under another name.
    pub(crate) fn call(mut self, text: &str, name: &str) -> Self {
        self.names.push((text.into(), name.into()));
        self
    }

    /// The `DATABASE_URL` that commands get.
    pub(crate) fn database_url(&self) -> String {
        let found = self.variables.iter().find(|(name, _)| name == "DATABASE_URL");
        found.map(|(_, url)| url.clone()).expect("the shell has a database")
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(crate) fn write(&self, path: &str, text: &str) {
        let path = self.folder.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// A set of migrations of two files each, enough for a registry and a tenant.
    pub(crate) fn write_migrations(&self) {
        let registry = "create table organizations (id uuid primary key, slug text unique not null, name text not null, \
                        status text not null, created_at timestamptz not null default now());\n";
        self.write("migrations/public/001_organizations.sql", registry);
        self.write("migrations/tenant/001_orders.sql", "create table orders (id bigint primary key);\n");
        self.write("migrations/tenant/002_items.sql", "create table items (id bigint primary key);\n");
        self.write("cgk.toml", "migrations = \"migrations\"\n");
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cgk"));
        command.args(arguments).current_dir(&self.folder).env_clear();
        // What a private server needs to be found.
        for name in ["PATH", "HOME", "CGK_PG_BIN", "CGK_PG_TMP", "CGK_CACHE_DIR", "CGK_NO_DOWNLOAD"] {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    pub(crate) fn start(&self, arguments: &[&str]) -> Child {
        self.command(arguments).spawn().unwrap()
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Answer {
        Answer::of(self.command(arguments).output().unwrap())
    }

    /// Runs commands one after another, each written as in a shell without quotes, and shows them as a transcript.
    pub(crate) fn transcript(&self, lines: &[&str]) -> String {
        let run = |line: &&str| {
            let words: Vec<&str> = line.split(' ').collect();
            self.shown(&words, &self.run(&words))
        };
        lines.iter().map(run).collect::<Vec<_>>().join("\n")
    }

    /// A command and its answer, without what differs from run to run.
    pub(crate) fn shown(&self, arguments: &[&str], answer: &Answer) -> String {
        let mut text = format!("$ cgk {}\n", arguments.join(" "));
        for (name, part) in [("stdout", &answer.stdout), ("stderr", &answer.stderr)] {
            if !part.is_empty() {
                text.push_str(&format!("--- {name}\n{}", self.tame(part)));
            }
        }
        format!("{text}--- exit {}\n", answer.code)
    }

    pub(crate) fn tame(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for (found, name) in &self.names {
            text = text.replace(found, name);
        }
        for (found, name) in [
            (r#""server_version":"[^"]*""#, r#""server_version":"<version>""#),
            (r"PostgreSQL \d+(\.\d+|\w+)", "PostgreSQL <version>"),
            (r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", "<uuid>"),
            (r#""ms":\d+"#, r#""ms":0"#),
            // The settings there are have tests of their own.
            (r#""settings":\[\{"name":"database_url".*?\]"#, r#""settings":["<settings>"]"#),
            (r"\b\d+(\.\d)? m?s\b", "<time>"),
            (r"\d+ a second", "<rate> a second"),
            (r"cgk_demo_[0-9a-f]{8}", "cgk_demo_<random>"),
            (r"\d{4}-\d\d-\d\dT[0-9:]+Z", "<instant>"),
            (r"\d{4}-\d\d-\d\d", "<date>"),
            // How a run gets on, which is told only of one that takes a while.
            (r"(?m)^failed [a-z][a-z0-9_]*: .*\n", ""),
            (r"(?m)^migrating  \d+ of .*\n", ""),
            // Only databases born before PostgreSQL 15 have anything to take away.
            (r"(?m)^  ok  revoked the right of every role .*\n", ""),
            (r#""public_hardening":"revoked""#, r#""public_hardening":"not_needed""#),
        ] {
            text = Regex::new(found).unwrap().replace_all(&text, name).into_owned();
        }
        text
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// What a command said and ended with.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    /// 128 and the number of the signal where it was killed, as a shell says it.
    pub(crate) code: i32,
}

impl Answer {
    pub(crate) fn of(output: Output) -> Self {
        use std::os::unix::process::ExitStatusExt as _;
        let code = output.status.code().or_else(|| output.status.signal().map(|signal| 128 + signal)).unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        let stdout = text(output.stdout);
        super::json_schema::check(&stdout);
        Self { stdout, stderr: text(output.stderr), code }
    }
}

/// The URL of a database, with the password of the server's own URL.
pub(crate) fn url(database: &TestDatabase, role: Option<&str>) -> String {
    let url = database.config().target().to_string();
    let (_, rest) = url.split_once("://").unwrap();
    let rest = rest.split_once('@').map_or(rest, |(_, rest)| rest);
    let given = std::env::var(TEST_DATABASE_URL).unwrap_or_default();
    let login =
        given.split_once("://").and_then(|(_, rest)| rest.split_once('@')).map_or("postgres", |(login, _)| login);
    format!("postgresql://{}@{rest}", role.unwrap_or(login))
}

/// Whether the server is the private one, where any role may come in without a password.
pub(crate) fn is_private() -> bool {
    TestServer::shared().local().is_some()
}

/// Runs statements in a database as the administrator.
pub(crate) async fn sql(database: &TestDatabase, text: &str) {
    let (client, connection) = tokio_postgres::connect(&url(database, None), tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    #[expect(clippy::disallowed_methods, reason = "a test prepares what the program then meets")]
    client.batch_execute(text).await.unwrap();
}
