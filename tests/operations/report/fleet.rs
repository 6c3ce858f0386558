//! A fleet with a tenant in every state, and names that would be HTML.

use crate::stage::{connect, run, slug};
use cgk::{
    Operator,
    lifecycle::{self, SuspendOptions},
    migrate::{self, Migrations, RunOptions, Scope, Selection, Set, Silent, Target},
    testing::{TestDatabase, TestServer},
};
use tokio_postgres::Client;

pub(super) const NAME: &str = "<script>alert(1)</script> & \"Sons\"";

/// The tenants, and the state that a report gives each.
pub(super) const TENANTS: [(&str, &str); 12] = [
    ("ahead", "ahead"),
    ("diverged", "diverged"),
    ("dropping", "being_dropped"),
    ("failing", "behind"),
    ("foreign_one", "other_organization"),
    ("good", "at_head"),
    ("half", "half_provisioned"),
    ("large", "at_head"),
    ("late", "behind"),
    ("missing", "missing"),
    ("new_one", "missing"),
    ("suspended_one", "at_head"),
];

pub(super) struct Fleet {
    pub(super) database: TestDatabase,
    pub(super) migrations: Migrations,
    pub(super) watch: Client,
}

impl Fleet {
    pub(super) async fn operator(&self) -> Operator {
        self.database.operator().await.unwrap()
    }

    pub(super) async fn number(&self, sql: &str) -> i64 {
        self.watch.query_one(sql, &[]).await.unwrap().get(0)
    }

    /// A fleet of tenants that are all alike.
    pub(super) async fn of(slugs: &[&str]) -> Self {
        let database = TestServer::shared().set_up_database().await.unwrap();
        if !slugs.is_empty() {
            database.with_tenants(slugs).await.unwrap();
        }
        let watch = connect(&database).await;
        Self { database, migrations: Migrations::bundled(), watch }
    }

    pub(super) async fn with_every_state() -> Self {
        let created: Vec<&str> = TENANTS.iter().map(|(slug, _)| *slug).filter(|slug| *slug != "new_one").collect();
        let mut fleet = Self::of(&created).await;
        let later = "create table later (id int primary key)";
        fleet.migrations = fleet.migrations.with_file(Set::Tenant, "900_later.sql", later).unwrap();
        run(&fleet.watch, "create table tenant_failing.later (id int)").await;
        fleet.migrate_all_but("late").await;
        for sql in SPOILING {
            run(&fleet.watch, sql).await;
        }
        let operator = fleet.operator().await;
        lifecycle::suspend(&operator, &slug("suspended_one"), &SuspendOptions::default()).await.unwrap();
        fleet
    }

    async fn migrate_all_but(&self, late: &str) {
        let operator = self.operator().await;
        let selection = Selection::from(Scope::Everything).excluding([slug(late)]);
        let plan = migrate::plan_fleet(&operator, &self.migrations, selection, Target::Head).await.unwrap();
        let report = migrate::run_with(&operator, &self.migrations, plan, &RunOptions::default(), &mut Silent).await;
        assert_eq!(report.unwrap().failed(), 1);
    }
}

/// What brings each tenant into its state, after the migration.
const SPOILING: [&str; 9] = [
    "insert into tenant_ahead.schema_migrations select (jsonb_populate_record(m, '{\"version\": 999, \"name\": \"future\"}')).*
       from tenant_ahead.schema_migrations m order by version desc limit 1;
     comment on table tenant_ahead.schema_migrations is null",
    "update tenant_diverged.schema_migrations set name = 'edited' where version = 1;
     comment on table tenant_diverged.schema_migrations is null",
    "do $$ begin execute format('comment on schema tenant_dropping is %L',
       obj_description('tenant_dropping'::regnamespace, 'pg_namespace') || E'\\ncgk: this tenant is being dropped'); end $$",
    "comment on schema tenant_foreign_one is 'cgk organization 00000000-0000-4000-8000-000000000000'",
    "drop table tenant_half.schema_migrations",
    "alter schema tenant_missing rename to elsewhere",
    "insert into public.organizations (slug, name, status) values ('new_one', 'New', 'onboarding')",
    "update public.organizations set name = '<script>alert(1)</script> & \"Sons\"' where slug = 'missing'",
    "create table tenant_good.\"<img src=x onerror=alert(2)>\" (id int);
     create table tenant_large.filled as select repeat('x', 500) as t from generate_series(1, 20000)",
];
