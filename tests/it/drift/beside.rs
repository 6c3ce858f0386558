//! What stands in a schema beside the migrations: which of it is drift, which is not, and what a rule accepts. A row for each of the
//! table in `docs/fleet.md`.

use super::schemas::lines;
use crate::{
    sandbox::{Files, Raw, tenants},
    support::cgk::Shell,
};
use cgk::{
    Config, Operator,
    config::IgnoreRule,
    drift::{self, SchemaDrift},
    migrate::{Migrations, Scope},
    testing::{TestDatabase, TestServer},
};

const PAGE: &str = include_str!("../../../docs/fleet.md");

const SET: &str = "
create table events (id bigint not null, tenant text, at date not null, primary key (id, at)) partition by range (at);
create table events_2026 partition of events for values from ('2026-01-01') to ('2027-01-01');
create index events_tenant on events (tenant);
create function touch() returns trigger language plpgsql as $$ begin return new; end $$;
create trigger events_touch before update on events for each row execute function touch();
alter table events enable row level security;
create policy own on events using (tenant is not null);
create table kinds (id int, kind int, up int, primary key (id, kind), foreign key (up, kind) references kinds) partition by list (kind);
create table kinds_1 partition of kinds for values in (1);
create table uses (id int primary key, kind_id int, kind int, foreign key (kind_id, kind) references kinds);
create table plain (id int);
create view plain_view as select id from plain;
";

/// What is drift and stays it, how each of its lines begins.
enum Verdict {
    Clean,
    /// Counted and shown, and no drift, by a rule of cgk's own.
    Known(&'static str),
    Drift(&'static [&'static str]),
}
use Verdict::{Clean, Drift, Known};

struct Case {
    /// The first cell of the row in the documentation.
    row: &'static str,
    sql: &'static str,
    verdict: Verdict,
    /// The rule that accepts it: object and kind.
    rule: Option<(&'static str, Option<&'static str>)>,
}

const fn case(row: &'static str, sql: &'static str, verdict: Verdict) -> Case {
    Case { row, sql, verdict, rule: None }
}

const fn accepted(
    row: &'static str,
    sql: &'static str,
    lines: &'static [&'static str],
    object: &'static str,
    kind: Option<&'static str>,
) -> Case {
    Case { row, sql, verdict: Drift(lines), rule: Some((object, kind)) }
}

const NEW_PARTITION: &str = "a new partition of a table that the migrations partition";
const OPEN_PARTITION: &str =
    "such a partition with more rights than its table, another owner, no row security, or its own triggers";
const GONE_PARTITION: &str = "a partition of the migrations that was dropped or detached";
const DEFAULTS: &str = "default privileges of the schema";
const OWNER: &str = "a view, table or function that another role owns";
const LEDGER: &str = "the ledger of another tool";
const LEFTOVER: &str = "other tables, sequences or functions of another tool";

const CASES: &[Case] = &[
    case(NEW_PARTITION, "create table events_2027 partition of events for values from ('2027-01-01') to ('2028-01-01'); alter table events_2027 enable row level security", Clean),
    case(NEW_PARTITION, "create table events_rest partition of events default; alter table events_rest enable row level security", Clean),
    // As pg_partman does: a table like the parent, with its privileges, attached later.
    case(
        NEW_PARTITION,
        "create table events_p2027 (like events including all); alter table events_p2027 enable row level security;
         alter table events attach partition events_p2027 for values from ('2027-01-01') to ('2028-01-01')",
        Clean,
    ),
    case(
        NEW_PARTITION,
        "create table events_2028 partition of events for values from ('2028-01-01') to ('2029-01-01') partition by range (at);
         create table events_2028_01 partition of events_2028 for values from ('2028-01-01') to ('2028-02-01');
         alter table events_2028 enable row level security; alter table events_2028_01 enable row level security",
        Clean,
    ),
    case(
        NEW_PARTITION,
        "create table events_2027 partition of events for values from ('2027-01-01') to ('2028-01-01');
         alter table events_2027 enable row level security; revoke all on events_2027 from {role};
         create policy own on events_2027 using (tenant is not null);
         create index events_2027_more on events_2027 (tenant, at)",
        Clean,
    ),
    // A foreign key to a partitioned table, also of itself, is one more constraint of the server's for each partition.
    case(
        NEW_PARTITION,
        "create table kinds_2 partition of kinds for values in (2);
         create table kinds_3 partition of kinds for values in (3) partition by hash (id);
         create table kinds_3_0 partition of kinds_3 for values with (modulus 1, remainder 0);
         create table kinds_4 (like kinds including all); alter table kinds attach partition kinds_4 for values in (4)",
        Clean,
    ),
    case(
        OPEN_PARTITION,
        "create table events_2027 partition of events for values from ('2027-01-01') to ('2028-01-01')",
        Drift(&["table events_2027: row security is off, migrations give on"]),
    ),
    case(
        OPEN_PARTITION,
        "create table events_2027 partition of events for values from ('2027-01-01') to ('2028-01-01');
         alter table events_2027 enable row level security; grant select on events_2027 to public",
        Drift(&["table events_2027: grants are everyone: select"]),
    ),
    case(
        OPEN_PARTITION,
        "create table events_2027 partition of events for values from ('2027-01-01') to ('2028-01-01');
         alter table events_2027 enable row level security; alter table events_2027 owner to pg_monitor",
        Drift(&["table events_2027: owner is pg_monitor, migrations give the schema's"]),
    ),
    case(
        OPEN_PARTITION,
        "create table events_2027 partition of events for values from ('2027-01-01') to ('2028-01-01');
         alter table events_2027 enable row level security;
         create trigger more before insert on events_2027 for each row execute function touch();
         create rule quiet as on delete to events_2027 do instead nothing;
         create policy all_of_it on events_2027 using (true)",
        Drift(&[
            "policy events_2027.all_of_it: not from any migration",
            "rule events_2027.quiet: not from any migration",
            "trigger events_2027.more: not from any migration",
        ]),
    ),
    case(
        OPEN_PARTITION,
        "create table events_2027 partition of events for values from ('2027-01-01') to ('2028-01-01');
         alter table events_2027 enable row level security; create policy own on events_2027 using (true)",
        Drift(&["policy events_2027.own: using is true, migrations give (tenant IS NOT NULL)"]),
    ),
    case(
        OPEN_PARTITION,
        "create table events_2027 partition of events for values from ('2027-01-01') to ('2028-01-01');
         alter table events_2027 enable row level security; grant select (tenant) on events_2027 to pg_monitor",
        Drift(&["column events_2027.tenant: grants are pg_monitor: select"]),
    ),
    // What is done to such a constraint on a partition is told with the foreign key.
    case("", "alter table kinds_1 disable trigger all",
        Drift(&[
            "constraint kinds.kinds_up_kind_fkey: enforcing triggers are disabled",
            "constraint kinds_1.kinds_up_kind_fkey: enforcing triggers are disabled",
            "constraint uses.uses_kind_id_kind_fkey: enforcing triggers are disabled",
        ]),
    ),
    case(
        "",
        "create table kinds_3 partition of kinds for values in (3) partition by hash (id);
         create table kinds_3_0 partition of kinds_3 for values with (modulus 1, remainder 0); alter table kinds_3_0 disable trigger all",
        Drift(&[
            "constraint kinds.kinds_up_kind_fkey: enforcing triggers are disabled",
            "constraint uses.uses_kind_id_kind_fkey: enforcing triggers are disabled",
        ]),
    ),
    case("", "alter table uses disable trigger all", Drift(&["constraint uses.uses_kind_id_kind_fkey: enforcing triggers are disabled"])),
    case("", "alter table uses drop constraint uses_kind_id_kind_fkey", Drift(&["constraint uses.uses_kind_id_kind_fkey: missing"])),
    case("", "alter table kinds detach partition kinds_1", Drift(&["table kinds_1: no inherits", "table kinds_1: no partition"])),
    case(
        "",
        "alter table uses drop constraint uses_kind_id_kind_fkey; alter table uses add constraint uses_kind_id_kind_fkey foreign key (kind_id, kind) references kinds_1",
        Drift(&["constraint uses.uses_kind_id_kind_fkey: definition is FOREIGN KEY (kind_id, kind) REFERENCES kinds_1(id, kind)"]),
    ),
    // A file without a transaction that was applied in part. The table of another owner is none of cgk's.
    case("", "create table schema_migration_steps (version bigint primary key, name text not null)", Clean),
    case("", "create table schema_migration_steps (); alter table schema_migration_steps owner to pg_monitor", Drift(&["table schema_migration_steps: not from any migration"])),
    case("", "grant select on schema_migrations to pg_monitor", Clean),
    case("", "grant select on schema_migrations to public", Drift(&["table schema_migrations: grants are everyone: select"])),
    // A child of a table that is no partitioned one is none.
    case("", "create table heirs () inherits (plain)", Drift(&["table heirs: not from any migration"])),
    accepted(GONE_PARTITION, "drop table events_2026", &["table events_2026: missing"], "events_2*", Some("table")),
    accepted(
        GONE_PARTITION,
        "alter table events detach partition events_2026",
        &["table events_2026: no inherits", "table events_2026: no partition"],
        "events_2*",
        None,
    ),
    accepted(
        DEFAULTS,
        "alter default privileges in schema {schema} grant select on tables to pg_monitor",
        &["default rights tables: grants are pg_monitor: select; the tenant's role"],
        "tables",
        Some("default rights"),
    ),
    accepted(
        DEFAULTS,
        "alter default privileges for role pg_monitor in schema {schema} grant select on tables to pg_read_all_stats",
        &["default rights tables of pg_monitor: not from any migration"],
        "tables of pg_monitor",
        Some("default rights"),
    ),
    accepted(OWNER, "alter view plain_view owner to pg_monitor", &["view plain_view: owner is pg_monitor"], "plain_view", Some("view")),
    accepted(OWNER, "alter function touch() owner to pg_monitor", &["function touch(): owner is pg_monitor"], "touch()", Some("function")),
    accepted(OWNER, "alter table plain owner to pg_monitor", &["table plain: owner is pg_monitor"], "plain", Some("table")),
    case(LEDGER, "create table _prisma_migrations (id varchar(36) primary key, checksum varchar(64) not null, migration_name varchar(255) not null, started_at timestamptz)", Known("_prisma_migrations")),
    case(LEDGER, "create table __diesel_schema_migrations (version varchar(50) primary key, run_on timestamp not null default now())", Known("__diesel_schema_migrations")),
    case(LEDGER, "create table flyway_schema_history (installed_rank int primary key, version varchar(50), script varchar(1000), success bool); create index flyway_schema_history_s_idx on flyway_schema_history (success)", Known("flyway_schema_history")),
    case(LEDGER, "create table goose_db_version (id serial primary key, version_id bigint not null, is_applied bool not null)", Known("goose_db_version")),
    case(LEDGER, "create table _sqlx_migrations (version bigint primary key, description text not null, success bool, checksum bytea)", Known("_sqlx_migrations")),
    case(LEDGER, "create table __drizzle_migrations (id serial primary key, hash text not null, created_at bigint)", Known("__drizzle_migrations")),
    case(LEDGER, "create table ar_internal_metadata (key varchar primary key, value varchar)", Known("ar_internal_metadata")),
    case(LEDGER, "create table django_migrations (id bigint generated by default as identity primary key, app varchar(255), name varchar(255), applied timestamptz)", Known("django_migrations")),
    case(LEDGER, "create table pgmigrations (id serial primary key, name varchar(255) not null, run_on timestamp not null)", Known("pgmigrations")),
    case(LEDGER, "create table \"SequelizeMeta\" (name varchar(255) primary key)", Known("SequelizeMeta")),
    // With only the name, or open to others, it is none that can be left alone.
    case("", "create table pgmigrations (id serial primary key, card_number text)", Drift(&["table pgmigrations: not from any migration; named as the ledger of node-pg-migrate, without its columns name, run_on"])),
    case("", "create table alembic_version (version_num varchar(32)); grant select on alembic_version to public", Drift(&["table alembic_version: not from any migration; the ledger of Alembic, and others have rights on it: everyone: select"])),
    // Only a table; and what is not exactly the name is not it.
    case("", "create view pgmigrations as select 1 as id", Drift(&["view pgmigrations: not from any migration"])),
    case("", "create table pgmigrations_old ()", Drift(&["table pgmigrations_old: not from any migration"])),
    accepted(LEFTOVER, "create table old_report ()", &["table old_report: not from any migration"], "old_*", Some("table")),
    accepted(
        LEFTOVER,
        "create function diesel_set_updated_at() returns trigger language plpgsql as $$ begin return new; end $$",
        &["function diesel_set_updated_at(): not from any migration"],
        "diesel_*",
        Some("function"),
    ),
    accepted(LEFTOVER, "create sequence hibernate_sequence", &["sequence hibernate_sequence: not from any migration"], "hibernate_sequence", None),
];

struct Fleet {
    database: TestDatabase,
    files: Files,
    migrations: Migrations,
    slugs: Vec<String>,
}

impl Fleet {
    /// A tenant for each case.
    async fn made() -> Self {
        let database = TestServer::shared().set_up_database().await.unwrap();
        let files = Files::of_tenants(&[("001_set.sql", SET)]);
        let migrations = files.load();
        let slugs: Vec<String> = (0..CASES.len()).map(|number| format!("c{number}")).collect();
        let names: Vec<&str> = slugs.iter().map(String::as_str).collect();
        tenants(&database, &migrations, &names).await;
        Self { database, files, migrations, slugs }
    }

    async fn compare(&self, rules: Vec<IgnoreRule>) -> Vec<SchemaDrift> {
        let config: Config = self.database.config().clone().with_drift_ignore(rules);
        let operator = Operator::connect(&config).await.unwrap();
        let report = drift::verify(&operator, &self.migrations, &Scope::Tenants).await.unwrap();
        let place = |slug: &String| report.tenants.iter().find(|tenant| tenant.slug.as_ref().unwrap().as_str() == slug);
        self.slugs.iter().map(|slug| place(slug).unwrap().clone()).collect()
    }
}

#[tokio::test]
async fn what_is_beside_the_migrations_is_judged_as_the_table_says() {
    let fleet = Fleet::made().await;
    for schema in fleet.compare(Vec::new()).await {
        assert!(schema.is_clean(), "the control: {:?}", lines(&schema));
    }
    let raw = Raw::on(&fleet.database).await;
    for (slug, case) in fleet.slugs.iter().zip(CASES) {
        let role = super::schemas::role(&fleet.database, slug);
        let sql = case.sql.replace("{schema}", &format!("tenant_{slug}")).replace("{role}", &role);
        raw.run(&format!("set search_path = tenant_{slug}, public; {sql}")).await;
    }
    // Twice: what is noted of a clean schema must not hide what is found of it.
    for _ in 0..2 {
        for (case, schema) in CASES.iter().zip(fleet.compare(Vec::new()).await) {
            let mut found = lines(&schema);
            // Up to PostgreSQL 14 the server's own trigger on a partition is none of those that are compared, and a detached
            // partition loses its foreign key to the table itself.
            found.retain(|line| {
                line != "trigger events_2026.events_touch: missing"
                    && line != "constraint kinds_1.kinds_up_kind_fkey: missing"
            });
            let is_right = match &case.verdict {
                Clean => found.is_empty() && schema.ignored.is_empty(),
                Known(name) => {
                    found.is_empty()
                        && schema.ignored.len() == 1
                        && schema.ignored[0].reason.starts_with(&format!("{name} is the ledger of"))
                }
                Drift(expected) => {
                    found.len() == expected.len()
                        && found.iter().zip(*expected).all(|(line, start)| line.starts_with(start))
                }
            };
            assert!(is_right, "{}\n{found:#?}\n{:?}", case.sql, schema.ignored);
        }
    }
    // Of many tenants those without differences have no line, except for what is ignored.
    let shell = Shell::on(&fleet.database).set("CGK_MIGRATIONS", fleet.files.path().to_str().unwrap());
    let answer = shell.run(&["drift"]);
    for (slug, case) in fleet.slugs.iter().zip(CASES) {
        let shown = |text: &str| answer.stdout.contains(&format!("{slug}: no differences at 001_set{text}"));
        match &case.verdict {
            Clean => assert!(!shown(""), "{}", answer.stdout),
            Known(name) => assert!(shown(&format!("\n  ignored: table {name}: ")), "{}", answer.stdout),
            Drift(_) => {}
        }
    }
    // What a rule accepts is shown with its reason, and nothing else is.
    let rule = |(object, kind): (&str, Option<&str>)| {
        let mut rule = IgnoreRule::new(object, "meant");
        rule.kind = kind.map(ToOwned::to_owned);
        rule
    };
    let rules = CASES.iter().filter_map(|case| case.rule).map(rule).collect();
    for (case, schema) in CASES.iter().zip(fleet.compare(rules).await) {
        if case.rule.is_some() {
            let left = lines(&schema);
            let of_trigger = left.iter().all(|line| line.starts_with("trigger events_2026"));
            assert!(left.is_empty() || of_trigger, "{}: {left:?}", case.sql);
            assert!(schema.ignored.iter().all(|ignored| ignored.reason == "meant") && !schema.ignored.is_empty());
        }
    }
}

/// The documentation has a row for each of the cases, and no other.
#[test]
fn the_table_has_a_row_for_each_case() {
    let told: Vec<&str> = PAGE
        .lines()
        .skip_while(|line| !line.starts_with("| beside the migrations |"))
        .skip(2)
        .take_while(|line| line.starts_with('|'))
        .map(|line| line.trim_matches('|').split(" | ").next().unwrap().trim())
        .collect();
    let mut rows: Vec<&str> = CASES.iter().map(|case| case.row).filter(|row| !row.is_empty()).collect();
    rows.dedup();
    assert_eq!(told, rows);
}
