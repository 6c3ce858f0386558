//! `cgk demo`: shows the features of cgk on a real server, in a temporary database.
//!
//! The SQL in this file is the demonstrated application's, not cgk's.

use anyhow::{Context as _, Result, bail};
use cgk::{
    Config, ConnectionError, Db, Error, Operator, TenantError, TenantSlug,
    config::Isolation,
    ident::Ident,
    lifecycle::{self, CreateOptions},
    migrate::{self, Migrations, Scope, Set, Silent, Target},
    setup,
    testing::{self, LocalServer},
};
use serde::Serialize;
use std::time::Instant;

use super::{
    exit::Exit,
    reaper::Reaper,
    session::{self, Session},
    setup::database::span,
    ui::{
        printer::Printer,
        style::{COMMAND, FAINT, GOOD, HEADING, count, paint, sanitize},
        table::{CellStyle, Grid},
        time,
    },
};

pub(crate) const EXAMPLES: &str = "\
Examples:
  cgk demo                               on a private server that is removed afterwards
  DATABASE_URL=postgresql://… cgk demo   there, in a database that is dropped afterwards

It uses an installed PostgreSQL, or downloads one into your cache. The demo removes everything it \
             creates.";

/// The tenants of the demo: a slug, a name, and the prices of their orders.
const TENANTS: [(&str, &str, &[i64]); 3] =
    [("acme", "Acme Inc.", &[1200, 3400]), ("globex", "Globex GmbH", &[99_00]), ("initech", "Initech", &[5, 10, 15])];

const NEW_MIGRATION: &str = "008_gift_cards.sql";
const NEW_SQL: &str = "create table gift_cards (\n    code        text   primary key,\n    value_minor bigint not null check (value_minor > 0)\n);\n";

/// A database that is dropped with this value, and so with the process.
struct Stage {
    config: Config,
    end: End,
}

enum End {
    Server(Box<LocalServer>),
    Database(Reaper),
}

/// One step, as JSON.
#[derive(Serialize)]
struct StepRecord<'a> {
    event: &'static str,
    step: usize,
    title: &'a str,
    command: &'a str,
    result: Vec<String>,
}

#[derive(Serialize)]
struct Start<'a> {
    event: &'static str,
    v: u32,
    command: &'a str,
    target: session::TargetView,
    private_server: bool,
}

#[derive(Serialize)]
struct Summary {
    event: &'static str,
    ms: u64,
    exit: Exit,
}

pub(crate) async fn run(session: &Session<'_>) -> Result<Exit> {
    let printer = session.printer;
    let began = Instant::now();
    let stage = Stage::set(session).await?;
    DemoScript { printer, config: &stage.config, step: 0 }.tell(matches!(stage.end, End::Server(_))).await?;
    let left = stage.strike()?;
    printer.output(format!("\n{left} The demo took {}.", time::elapsed(began.elapsed())));
    printer.record(&Summary { event: "summary", ms: time::milliseconds(began.elapsed()), exit: Exit::Done });
    printer.info(format!(
        "Your turn: set DATABASE_URL, then {} and {}",
        paint(COMMAND, "cgk setup:database"),
        paint(COMMAND, "cgk tenant:create <slug>"),
    ));
    Ok(Exit::Done)
}

impl Stage {
    async fn set(session: &Session<'_>) -> Result<Self> {
        match Config::load_with(session.globals.overrides()?) {
            Ok(config) => Self::on_given_server(session, config).await,
            Err(error) if error.is_missing_url() => Self::on_private_server(session).await,
            Err(error) => Err(error.into()),
        }
    }

    async fn on_given_server(session: &Session<'_>, config: Config) -> Result<Self> {
        for notice in config.notices() {
            session.printer.warn(notice);
        }
        let name = Ident::new(format!("cgk_demo_{:08x}", rand::random::<u32>()))?;
        // Connects first, so that a wrong address is reported before a process is started.
        let operator = Operator::connect(&config).await?;
        session.printer.info(format!("{} {}", paint(FAINT, "server  "), session::target(&operator)));
        drop(operator);
        session.printer.info(format!("{} {}, dropped afterwards", paint(FAINT, "database"), name.as_str()));
        let mut reaper = Reaper::spawn(session.globals, &name)?;
        let made = testing::create_database(&config, &name, None).await;
        if !matches!(made, Err(Error::Connection(ConnectionError::Lost { .. }))) {
            reaper.made();
        }
        made?;
        Ok(Self { config: config.with_database(name.as_str()), end: End::Database(reaper) })
    }

    async fn on_private_server(session: &Session<'_>) -> Result<Self> {
        // Runs in another thread, so that Ctrl-C works meanwhile. Messages about a download come through a channel.
        let (lines, mut heard) = tokio::sync::mpsc::unbounded_channel::<String>();
        let starting = tokio::task::spawn_blocking(move || {
            LocalServer::start_default(&|line| {
                let _ = lines.send(line.to_owned());
            })
        });
        while let Some(line) = heard.recv().await {
            session.printer.info(paint(FAINT, line));
        }
        let server = starting.await.context("could not start a server")??;
        let installation = server.installation();
        session.printer.info(format!(
            "{} private and temporary, from {}",
            paint(FAINT, "server  "),
            sanitize(&installation.bin_dir.display().to_string())
        ));
        let postgres = Config::from_url(&server.url("postgres"))?;
        let name = Ident::new("cgk_demo")?;
        testing::create_database(&postgres, &name, None).await?;
        let mut config = postgres.with_database(name.as_str());
        if let Some(isolation) = session.globals.overrides()?.isolation {
            config = config.with_isolation(isolation);
        }
        Ok(Self { config, end: End::Server(Box::new(server)) })
    }

    /// Removes everything, and returns a description of it.
    fn strike(self) -> Result<String> {
        match self.end {
            End::Server(server) => {
                drop(server);
                Ok("The server is stopped and removed.".into())
            }
            End::Database(reaper) => {
                reaper.reap()?;
                Ok(format!("Database {} is dropped.", self.config.target().database()))
            }
        }
    }
}

struct DemoScript<'a> {
    printer: &'a Printer,
    config: &'a Config,
    step: usize,
}

impl DemoScript<'_> {
    async fn tell(mut self, private_server: bool) -> Result<()> {
        let operator = Operator::connect(self.config).await?;
        self.printer.record(&Start {
            event: "start",
            v: super::JSON_VERSION,
            command: "demo",
            target: session::TargetView::of(&operator),
            private_server,
        });
        let version = session::short_version(&operator.facts().version).to_owned();
        let banner = format!("cgk demo: one database, one schema per tenant, on PostgreSQL {version}");
        self.printer.output(paint(HEADING, banner));
        let migrations = Migrations::bundled();
        self.set_up(&operator, &migrations).await?;
        let db = Db::connect(self.config).await?;
        self.create_tenants(&operator, &db, &migrations).await?;
        self.use_tenants(&db).await?;
        self.keep_out(&db).await?;
        let migrations = self.add_migration(&operator, migrations).await?;
        self.migrate(&operator, &db, &migrations).await
    }

    async fn set_up(&mut self, operator: &Operator, migrations: &Migrations) -> Result<()> {
        let began = Instant::now();
        let report = setup::setup(operator, migrations, &mut Silent).await?;
        let applied = format!(
            "{} applied to schema public in {}",
            count(report.applied.len(), "migration"),
            time::elapsed(began.elapsed())
        );
        self.show(
            "Set up the database",
            "cgk setup:database",
            &[applied, format!("tables: {}", report.tables.join(", "))],
        );
        Ok(())
    }

    async fn create_tenants(&mut self, operator: &Operator, db: &Db, migrations: &Migrations) -> Result<()> {
        let mut lines = Vec::new();
        for (slug, name, _) in TENANTS {
            let began = Instant::now();
            let options = CreateOptions::default().name(name);
            let made = lifecycle::create(operator, db, migrations, &slug.parse()?, &options).await?;
            let applied = count(made.applied.len(), "migration");
            lines.push(format!(
                "{slug}: schema {}, {applied}, {}",
                made.schema.as_str(),
                time::elapsed(began.elapsed())
            ));
        }
        self.show("Create three tenants", "cgk tenant:create acme --name \"Acme Inc.\"", &lines);
        Ok(())
    }

    async fn use_tenants(&mut self, db: &Db) -> Result<()> {
        for (slug, _, amounts) in TENANTS {
            let slug: TenantSlug = slug.parse()?;
            db.with_tenant(&slug, async |tx| {
                for (number, amount) in (1_i32..).zip(amounts) {
                    let order_number = format!("#{number}");
                    tx.execute(
                        "insert into orders (order_number, currency, total_minor) values ($1, 'EUR', $2)",
                        &[&order_number, amount],
                    )
                    .await?;
                }
                Ok(())
            })
            .await?;
        }
        let mut lines = Vec::new();
        for (slug, ..) in TENANTS {
            let (orders, total) = totals(db, &slug.parse()?).await?;
            lines.push(format!("{slug}: {}, {}.{:02} EUR", count(orders, "order"), total / 100, total % 100));
        }
        let call = "db.with_tenant(&acme, async |tx| tx.query(\"select … from orders\", &[]).await)";
        self.show("Write and read orders, the same SQL for every tenant", call, &lines);
        Ok(())
    }

    async fn keep_out(&mut self, db: &Db) -> Result<()> {
        let globex: TenantSlug = "globex".parse()?;
        let (seen, _) = totals(db, &globex).await?;
        let attempt = db
            .with_tenant(&globex, async |tx| {
                let row = tx.query_one("select count(*) from tenant_acme.orders", &[]).await?;
                Ok(row.get::<_, i64>(0))
            })
            .await;
        let mut lines = vec![format!("as globex, from orders: {}, its own", count(seen, "row"))];
        let reach = "as globex, from tenant_acme.orders";
        match (attempt, self.config.isolation()) {
            (Err(error), Isolation::Role) if error.sqlstate().is_some_and(|state| state.code() == "42501") => {
                lines.push(format!("{reach}: {}", server_words(&error)));
            }
            (Ok(seen), Isolation::Path) => {
                lines.push(format!(
                    "{reach}: {seen} rows; isolation = \"path\" does not refuse qualified names, \"role\" does"
                ));
            }
            (Ok(_), Isolation::Role) => {
                bail!("a tenant read another tenant's table: this server does not isolate tenants")
            }
            (Err(error), _) => return Err(error.into()),
        }
        let nobody: TenantSlug = "umbrella".parse()?;
        match db.with_tenant(&nobody, async |tx| tx.query("select 1", &[]).await).await {
            Err(error @ Error::Tenant(TenantError::NotFound { .. })) => {
                lines.push(format!("as umbrella: {error}, and no statement was run"));
            }
            Err(error) => return Err(error.into()),
            Ok(_) => bail!("a tenant that does not exist was entered"),
        }
        let call = "db.with_tenant(&globex, async |tx| tx.query(\"select … from tenant_acme.orders\", &[]).await)";
        self.show("Try to see another tenant's rows", call, &lines);
        Ok(())
    }

    async fn add_migration(&mut self, operator: &Operator, migrations: Migrations) -> Result<Migrations> {
        let migrations = migrations.with_file(Set::Tenant, NEW_MIGRATION, NEW_SQL)?;
        let mut lines = vec![format!("migrations/tenant/{NEW_MIGRATION}")];
        lines.extend(NEW_SQL.lines().map(|line| paint(FAINT, format!("  {line}"))));
        self.show("Add a migration", "cgk migrate:new gift_cards --tenant", &lines);

        let plan = migrate::plan_fleet(operator, &migrations, &Scope::Everything, Target::Head).await?;
        let waiting = count(plan.tenants.len(), "tenant");
        let line =
            format!("tenant/{} is pending in {waiting}; nothing was changed", NEW_MIGRATION.trim_end_matches(".sql"));
        self.show("Show what would be done", "cgk migrate --plan", &[line]);
        Ok(migrations)
    }

    async fn migrate(&mut self, operator: &Operator, db: &Db, migrations: &Migrations) -> Result<()> {
        let began = Instant::now();
        let plan = migrate::plan_fleet(operator, migrations, &Scope::Everything, Target::Head).await?;
        let report = migrate::run(operator, migrations, plan, &mut Silent).await?;
        if report.failed() > 0 {
            bail!("{} could not be migrated", count(report.failed(), "tenant"));
        }
        let mut lines = vec![format!(
            "{} migrated in {}, each in one transaction",
            count(report.migrated(), "tenant"),
            time::elapsed(began.elapsed())
        )];
        let acme: TenantSlug = "acme".parse()?;
        let value: i64 = db
            .with_tenant(&acme, async |tx| {
                tx.execute("insert into gift_cards values ('WELCOME', 2500)", &[]).await?;
                Ok(tx.query_one("select value_minor from gift_cards where code = 'WELCOME'", &[]).await?.get(0))
            })
            .await?;
        lines.push(format!("acme: gift card WELCOME over {}.{:02} EUR", value / 100, value % 100));
        let plan = migrate::plan_fleet(operator, migrations, &Scope::Everything, Target::Head).await?;
        if !plan.is_empty() {
            bail!("something is pending right after a migration");
        }
        lines.push(format!("again: nothing to do, {} at head", count(plan.at_head, "tenant")));
        self.show("Migrate the fleet", "cgk migrate", &lines);

        let fleet = migrate::read_state(operator, migrations).await?;
        self.begin("Show the state of every schema", "cgk migrate:status");
        let mut grid = Grid::new(&["SCHEMA", "AT", "ORDERS"]);
        let mut result = Vec::new();
        for tenant in &fleet.tenants {
            let (orders, _) = totals(db, &tenant.tenant.slug).await?;
            let schema = super::tenant::view::schema(&tenant.tenant);
            let head = tenant.head.iter().cloned().collect::<Vec<_>>();
            grid.row([
                (schema.as_str(), CellStyle::Plain),
                (span(&head).as_str(), CellStyle::Good),
                (orders.to_string().as_str(), CellStyle::Plain),
            ]);
            result.push(format!("{schema} {}", span(&head)));
        }
        for line in grid.to_string().lines() {
            self.printer.output(format!("   {line}"));
        }
        self.record("Show the state of every schema", "cgk migrate:status", result);
        Ok(())
    }

    fn show(&mut self, title: &str, command: &str, lines: &[String]) {
        self.begin(title, command);
        for line in lines {
            self.printer.output(format!("   {line}"));
        }
        let plain = lines.iter().map(|line| anstream::adapter::strip_str(line).to_string()).collect();
        self.record(title, command, plain);
    }

    fn begin(&mut self, title: &str, command: &str) {
        self.step += 1;
        // The results are those of the library, in a shorter form than the command prints.
        let by = if command.starts_with("cgk ") { "as with: " } else { "" };
        self.printer.output(format!(
            "\n{} {}\n   {by}{}",
            paint(GOOD, format!("{}.", self.step)),
            paint(HEADING, title),
            paint(COMMAND, command)
        ));
    }

    fn record(&self, title: &str, command: &str, result: Vec<String>) {
        self.printer.record(&StepRecord { event: "step", step: self.step, title, command, result });
    }
}

/// Returns the number of a tenant's orders, and their total.
async fn totals(db: &Db, slug: &TenantSlug) -> Result<(usize, i64)> {
    let (orders, total): (i64, i64) = db
        .with_tenant(slug, async |tx| {
            let row = tx.query_one("select count(*), coalesce(sum(total_minor), 0)::bigint from orders", &[]).await?;
            Ok((row.get(0), row.get(1)))
        })
        .await?;
    Ok((usize::try_from(orders).unwrap_or_default(), total))
}

/// Returns the server's message, without the operation of the library.
fn server_words(error: &Error) -> String {
    match error.db() {
        Some(answer) => sanitize(&format!("{}: {} ({})", answer.severity(), answer.message(), answer.code().code())),
        None => sanitize(&error.report()),
    }
}
