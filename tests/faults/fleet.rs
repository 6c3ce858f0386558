//! A fleet of tenants in a database of its own, and what migrates it: the program, or the library in this process.

use crate::{
    checker::{self, Demand},
    files::{Birth, Files},
    server::Server,
};
use cgk::{
    Config, Operator, TenantSlug,
    config::SessionSettings,
    lifecycle::{self, CreateManyOptions},
    migrate::{self, Outcome, RunOptions, Scope, Silent, Target},
    setup,
};
use std::{
    io::Read as _,
    num::NonZeroUsize,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};
use tokio::task::JoinHandle;
use tokio_postgres::Client;

/// Sessions of the program and of the library in this database.
const SESSIONS: &str = "from pg_stat_activity where datname = current_database() and application_name = 'cgk'";

/// Far beyond what anything here takes that ends at all.
const PATIENCE: Duration = Duration::from_secs(120);

pub(crate) struct Fleet {
    url: String,
    pub(crate) files: Files,
    pub(crate) tenants: usize,
}

impl Fleet {
    /// So many tenants at the first version.
    pub(crate) async fn begin(server: &Server, tenants: usize, tablespace: Option<&str>, birth: Birth) -> Self {
        let name = format!("fleet_{:016x}", rand::random::<u64>());
        let tablespace = tablespace.map_or_else(String::new, |name| format!(" tablespace {name}"));
        run(&checker::connect(&server.url("postgres")).await, &format!("create database {name}{tablespace}"))
            .await
            .unwrap();
        let mut fleet = Self { url: server.url(&name), files: Files::new(birth), tenants: 0 };
        let (operator, migrations) = (fleet.operator().await.unwrap(), fleet.files.load());
        setup::setup(&operator, &migrations, &mut Silent).await.unwrap();
        let db = cgk::Db::connect(&fleet.config()).await.unwrap();
        let slugs = fleet.new_slugs(tenants);
        let new: Vec<_> = slugs.iter().map(|slug| slug.parse::<TenantSlug>().unwrap().into()).collect();
        let options = CreateManyOptions::default();
        let report = lifecycle::create_many(&operator, &db, &migrations, &new, &options, &mut Silent).await.unwrap();
        assert_eq!(report.failed(), 0, "{report:?}");
        fleet
    }

    /// Drops the database.
    pub(crate) async fn end(self, server: &Server) {
        let name = self.url.split('/').nth(3).unwrap().split('?').next().unwrap().to_owned();
        let client = checker::connect(&server.url("postgres")).await;
        run(&client, &format!("drop database {name} with (force)")).await.unwrap();
    }

    /// Names of tenants that are to be made; they count as made from now on.
    pub(crate) fn new_slugs(&mut self, number: usize) -> Vec<String> {
        let slugs = (self.tenants..self.tenants + number).map(|number| format!("t{number:03}")).collect();
        self.tenants += number;
        slugs
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    fn config(&self) -> Config {
        let config = Config::from_url(&self.url).unwrap();
        let session = SessionSettings { lock_timeout: Duration::from_secs(10), ..config.session().clone() };
        config.with_session(session)
    }

    pub(crate) async fn operator(&self) -> cgk::Result<Operator> {
        Operator::connect(&self.config()).await
    }

    /// The program, about to be started.
    pub(crate) fn program(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cgk"));
        command.args(arguments).current_dir(self.files.path()).env_clear();
        command.env("DATABASE_URL", &self.url).env("CGK_MIGRATIONS", self.files.path());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Starts a run with so many workers.
    pub(crate) fn start_program(&self, jobs: usize) -> Runner {
        Runner::program(self.program(&["migrate", "--json", "-j", &jobs.to_string()]))
    }

    /// The same in this process.
    pub(crate) fn start_library(&self, jobs: usize) -> Runner {
        let (config, migrations) = (self.config(), self.files.load());
        let options = RunOptions::default().jobs(NonZeroUsize::new(jobs).unwrap());
        Runner::Library(tokio::spawn(async move {
            let operator = Operator::connect(&config).await?;
            let planned = migrate::plan_fleet(&operator, &migrations, &Scope::Everything, Target::Head).await?;
            let report = migrate::run_with(&operator, &migrations, planned, &options, &mut Silent).await?;
            let mut ended = Ended { good: report.failed() == 0 && report.stopped.is_none(), ..Ended::default() };
            ended.said = format!("{report:?}");
            for tenant in &report.tenants {
                if let Outcome::Migrated { applied } = &tenant.result {
                    let versions = applied.iter().map(|id| id.version.get()).collect();
                    ended.claims.push((tenant.schema.as_str().to_owned(), versions));
                }
            }
            Ok(ended)
        }))
    }

    /// Runs the program to its end.
    pub(crate) async fn run_program(&self, arguments: &[&str]) -> Ended {
        Runner::program(self.program(arguments)).end().await
    }

    /// Terminates sessions of runners: one of them, or all; says how many.
    pub(crate) async fn terminate(&self, all: bool) -> usize {
        let limit = if all { "" } else { "order by random() limit 1" };
        let client = checker::connect(&self.url).await;
        let sql = format!("select pg_terminate_backend(pid) from (select pid {SESSIONS} {limit}) victims");
        client.query(&sql, &[]).await.unwrap().len()
    }

    /// Waits until a runner has a session; no, when it ended before.
    pub(crate) async fn until_begun(&self, runner: &mut Runner) -> bool {
        let client = checker::connect(&self.url).await;
        let began = Instant::now();
        loop {
            let sessions: i64 = client.query_one(&format!("select count(*) {SESSIONS}"), &[]).await.unwrap().get(0);
            if sessions > 0 {
                return true;
            }
            if runner.has_ended() {
                return false;
            }
            assert!(began.elapsed() < PATIENCE, "the runner does not connect");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// Waits until a runner rehearses file by file; no, when it ended before.
    pub(crate) async fn until_rehearsing(&self, runner: &mut Runner) -> bool {
        self.until(runner, "select to_regnamespace('cgk_rehearsal') is not null").await
    }

    /// Waits until a tenant has left the version that all were at, or is one more than there were; no, when the runner ended
    /// before.
    pub(crate) async fn until_midway(&self, runner: &mut Runner, version: i64, tenants: usize) -> bool {
        let condition = format!(
            "select exists (select from pg_class c join pg_namespace n on n.oid = c.relnamespace
             where n.nspname like 'tenant\\_%' and c.relname = 'schema_migrations'
                   and (n.nspname >= 'tenant_t{tenants:03}'
                        or obj_description(c.oid, 'pg_class') not like 'cgk:1 head={version} %'))"
        );
        self.until(runner, &condition).await
    }

    async fn until(&self, runner: &mut Runner, condition: &str) -> bool {
        let client = checker::connect(&self.url).await;
        let began = Instant::now();
        while !client.query_one(condition, &[]).await.unwrap().get::<_, bool>(0) {
            if runner.has_ended() {
                return false;
            }
            assert!(began.elapsed() < PATIENCE, "never became true: {condition}");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        true
    }

    /// Waits until the server has noticed that the runners are gone. That is what others wait for, so it is bounded:
    /// nothing in a fleet's migration runs for long.
    pub(crate) async fn until_quiet(&self) -> Duration {
        let client = checker::connect(&self.url).await;
        let began = Instant::now();
        while client.query_one(&format!("select exists (select {SESSIONS})"), &[]).await.unwrap().get(0) {
            assert!(began.elapsed() < PATIENCE, "sessions of a killed runner stay");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        began.elapsed()
    }

    /// What is wrong with the fleet; nothing, if all is well.
    pub(crate) async fn faults(&self, demand: Demand, tenants: Option<usize>) -> Vec<String> {
        checker::faults(&self.url, &self.files, demand, tenants).await
    }

    /// What a runner said to have done and is not there.
    pub(crate) async fn broken_promises(&self, ended: &Ended) -> Vec<String> {
        let mut broken = Vec::new();
        for (schema, versions) in &ended.claims {
            let ledger = checker::ledger(&self.url, schema).await;
            let lost: Vec<_> = versions.iter().filter(|version| !ledger.contains(version)).collect();
            if !lost.is_empty() {
                broken.push(format!("{schema}: said to be migrated to {versions:?}, {lost:?} are not in the ledger"));
            }
        }
        broken
    }

    /// Runs the program once more; says what is wrong if that does not bring everything to head, clean.
    pub(crate) async fn recover(&self, jobs: usize) -> Vec<String> {
        let ended = self.run_program(&["migrate", "--json", "-j", &jobs.to_string()]).await;
        if !ended.good {
            return vec![format!("the next run failed: {}", ended.said)];
        }
        let mut faults = self.faults(Demand::AtHead, Some(self.tenants)).await;
        for arguments in [["drift", "--json"].as_slice(), &["tenant:verify", "--all", "--json"]] {
            let ended = self.run_program(arguments).await;
            if !ended.good {
                faults.push(format!("{arguments:?}: {}", ended.said));
            }
        }
        faults
    }
}

/// A run under way.
pub(crate) enum Runner {
    Program { child: Child, output: JoinHandle<(String, String)> },
    Library(JoinHandle<cgk::Result<Ended>>),
}

/// How a run ended.
#[derive(Debug, Default)]
pub(crate) struct Ended {
    /// It did all that it was asked for.
    pub(crate) good: bool,
    /// Schemas, and versions that they were said to have been given.
    pub(crate) claims: Vec<(String, Vec<i64>)>,
    pub(crate) said: String,
}

impl Runner {
    pub(crate) fn program(mut command: Command) -> Self {
        let mut child = command.spawn().unwrap();
        let (mut out, mut err) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        // A pipe that nobody empties would stop the program.
        let output = tokio::task::spawn_blocking(move || {
            let errors = std::thread::spawn(move || {
                let mut text = String::new();
                err.read_to_string(&mut text).unwrap();
                text
            });
            let mut text = String::new();
            out.read_to_string(&mut text).unwrap();
            (text, errors.join().unwrap())
        });
        Self::Program { child, output }
    }

    pub(crate) fn has_ended(&mut self) -> bool {
        match self {
            Self::Program { child, .. } => child.try_wait().unwrap().is_some(),
            Self::Library(task) => task.is_finished(),
        }
    }

    /// SIGKILL, or the future dropped.
    pub(crate) fn kill(&mut self) {
        match self {
            Self::Program { child, .. } => _ = child.kill(),
            Self::Library(task) => task.abort(),
        }
    }

    /// Waits for its end.
    pub(crate) async fn end(self) -> Ended {
        match self {
            Self::Program { mut child, output } => {
                let output = tokio::time::timeout(PATIENCE, output).await;
                let (out, err) = output.unwrap_or_else(|_| panic!("the program does not end")).unwrap();
                let good = child.wait().unwrap().success();
                Ended { good, claims: out.lines().filter_map(claim).collect(), said: format!("{out}{err}") }
            }
            Self::Library(task) => {
                match tokio::time::timeout(PATIENCE, task).await.expect("the library does not end") {
                    Ok(Ok(ended)) => ended,
                    Ok(Err(error)) => Ended { said: format!("{error:?}"), ..Ended::default() },
                    Err(aborted) if aborted.is_cancelled() => Ended { said: "dropped".into(), ..Ended::default() },
                    Err(panic) => std::panic::resume_unwind(panic.into_panic()),
                }
            }
        }
    }
}

/// What a line of `migrate --json` says of a tenant.
fn claim(line: &str) -> Option<(String, Vec<i64>)> {
    let record: serde_json::Value = serde_json::from_str(line).ok()?;
    if record["event"] != "schema" || record["result"] != "migrated" {
        return None;
    }
    let version = |id: &serde_json::Value| id.as_str()?.split('_').next()?.parse().ok();
    let versions = record["applied"].as_array()?.iter().filter_map(version).collect();
    Some((record["schema"].as_str()?.to_owned(), versions))
}

/// Runs statements outside of the library.
#[expect(clippy::disallowed_methods, reason = "the tests speak to the server as psql does")]
pub(crate) async fn run(client: &Client, sql: &str) -> Result<(), tokio_postgres::Error> {
    client.batch_execute(sql).await
}
