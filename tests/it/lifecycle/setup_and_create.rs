//! A database made ready, and tenants made in it: whole, again, at once, interrupted.

use crate::{
    sandbox::{DECOYS, Files, Raw, decoys, exists, picture, rounds, say, seeded, url, versions},
    support::score,
};
use cgk::{
    Db, Error, ErrorKind, MigrationError, Operator, TenantSlug, TenantStatus,
    ident::{RoleName, SchemaName},
    lifecycle::{self, CreateOptions, Created, Creation},
    migrate::{self, Migrations, SchemaState, Silent},
    setup::{self, Hardening, SetupReport},
    testing::{TestDatabase, TestServer},
};
use rand::RngExt as _;
use std::{sync::Arc, time::Duration};

pub(super) async fn set_up(operator: &Operator) -> cgk::Result<SetupReport> {
    setup::setup(operator, &Migrations::bundled(), &mut Silent).await
}

pub(super) fn slug(text: &str) -> TenantSlug {
    text.parse().unwrap()
}

/// A set-up database, an operator and a service on it, and a raw session.
struct Shop {
    database: TestDatabase,
    operator: Operator,
    db: Db,
    raw: Raw,
}

impl Shop {
    async fn open() -> Self {
        let database = TestServer::shared().set_up_database().await.unwrap();
        let (operator, db) = (database.operator().await.unwrap(), database.db().await.unwrap());
        let raw = Raw::on(&database).await;
        Self { database, operator, db, raw }
    }

    async fn create(&self, text: &str) -> cgk::Result<Created> {
        create(&self.operator, &self.db, text).await
    }

    fn role(&self, text: &str) -> RoleName {
        RoleName::of_tenant(&slug(text), &self.operator.facts().database_tag())
    }

    /// Whether nothing at all of a tenant is there.
    async fn nothing_of(&self, text: &str) -> bool {
        self.raw
            .one(&format!(
                "select not exists (select from organizations where slug = '{text}')
                    and not exists (select from pg_namespace where nspname = 'tenant_{text}')
                    and not exists (select from pg_roles where rolname = '{}')",
                self.role(text).as_str()
            ))
            .await
    }

    /// Whether a tenant is whole: its ledger at head and a query through the front door.
    async fn is_whole(&self, text: &str) -> bool {
        let state = migrate::read_state(&self.operator, &Migrations::bundled()).await.unwrap();
        let at_head = state.tenants.iter().any(|tenant| {
            tenant.tenant.slug.as_str() == text
                && tenant.tenant.status == TenantStatus::Active
                && tenant.state.is_at_head()
        });
        at_head
            && self.db.with_tenant(&slug(text), async |tx| tx.query("select * from orders", &[]).await).await.is_ok()
    }
}

pub(super) async fn create(operator: &Operator, db: &Db, text: &str) -> cgk::Result<Created> {
    lifecycle::create(operator, db, &Migrations::bundled(), &slug(text), &CreateOptions::default()).await
}

/// The files of `migrations/public` without their ending, in their order.
pub(super) fn bundled_files() -> Vec<String> {
    let folder = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/migrations/public")).unwrap();
    let mut files: Vec<_> = folder.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    files.sort();
    files.iter().map(|name| name.strip_suffix(".sql").unwrap().to_owned()).collect()
}

#[tokio::test]
async fn setup_makes_the_registry_and_may_be_run_again() {
    let database = TestServer::shared().database().await.unwrap();
    let (operator, raw) = (database.operator().await.unwrap(), Raw::on(&database).await);
    decoys(&raw).await;
    let error = migrate::read_state(&operator, &Migrations::bundled()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotReady);
    let report = set_up(&operator).await.unwrap();
    let files = bundled_files();
    let applied: Vec<_> = report.applied.iter().map(ToString::to_string).collect();
    assert_eq!((applied.last(), report.head.map(|head| head.to_string())), (files.last(), files.last().cloned()));
    assert_eq!(applied, files);
    assert!(report.tables.contains(&"organizations".to_owned()));
    let before = picture(&raw, "public").await;
    assert!(set_up(&operator).await.unwrap().applied.is_empty());
    assert_eq!(picture(&raw, "public").await, before);
    assert!(!exists(&raw, &format!("{}.organizations", DECOYS[0])).await);
}

#[tokio::test]
async fn eight_setups_at_once_also_take_the_right_of_everyone_away() {
    let database = Arc::new(TestServer::shared().database().await.unwrap());
    let raw = Raw::on(&database).await;
    raw.run("grant create on schema public to public").await;
    let mut operators = Vec::new();
    for _ in 0..8 {
        operators.push(crate::support::patience::patient_operator(&database).await);
    }
    let tasks: Vec<_> =
        operators.into_iter().map(|operator| tokio::spawn(async move { set_up(&operator).await })).collect();
    let mut applied = 0;
    for task in tasks {
        let report = task.await.unwrap().unwrap();
        assert_eq!(report.hardened, Hardening::Revoked);
        applied += report.applied.len();
    }
    let numbers: Vec<i64> = bundled_files().iter().map(|name| name[..3].parse().unwrap()).collect();
    assert_eq!(applied, numbers.len());
    assert_eq!(versions(&raw, "public").await, numbers);
    assert!(!raw.one::<bool>(EVERYONE_CREATES).await);
}

pub(super) const EVERYONE_CREATES: &str = "select exists (select from pg_namespace n, aclexplode(n.nspacl) a
    where n.nspname = 'public' and a.grantee = 0 and a.privilege_type = 'CREATE')";

#[tokio::test]
async fn a_tenant_is_made_once_and_found_again() {
    let shop = Shop::open().await;
    let options = CreateOptions::default().name("It's \\ Acme; drop table x --");
    let made =
        lifecycle::create(&shop.operator, &shop.db, &Migrations::bundled(), &slug("acme"), &options).await.unwrap();
    assert_eq!((made.creation, made.applied.len(), made.schema.as_str()), (Creation::New, 7, "tenant_acme"));
    assert_eq!(
        (made.tenant.status.clone(), made.tenant.name.as_str()),
        (TenantStatus::Active, "It's \\ Acme; drop table x --")
    );
    assert!(shop.is_whole("acme").await);
    let before = picture(&shop.raw, "tenant_acme").await;
    let again = shop.create("acme").await.unwrap();
    assert_eq!((again.creation, again.applied.len(), again.tenant), (Creation::Existed, 0, made.tenant));
    assert_eq!(picture(&shop.raw, "tenant_acme").await, before);
    let role: String = shop
        .raw
        .one(&format!(
            "select concat(rolcanlogin, rolsuper, rolbypassrls, rolinherit, rolcreaterole, rolcreatedb) from pg_roles where rolname = '{}'",
            shop.role("acme").as_str()
        ))
        .await;
    assert_eq!(role, "ffffff");
}

#[tokio::test]
async fn eight_at_once_make_one_tenant() {
    let shop = Shop::open().await;
    for registered in [false, true] {
        let name = if registered { "onboarded" } else { "fresh" };
        if registered {
            shop.raw.run("insert into organizations (slug, name) values ('onboarded', 'O')").await;
        }
        let mut operators = Vec::new();
        for _ in 0..8 {
            operators.push(crate::support::patience::patient_operator(&shop.database).await);
        }
        let tasks: Vec<_> = operators
            .into_iter()
            .map(|operator| {
                let db = shop.db.clone();
                tokio::spawn(async move { create(&operator, &db, name).await })
            })
            .collect();
        let mut creations = Vec::new();
        for task in tasks {
            creations.push(task.await.unwrap().unwrap().creation);
        }
        let made = if registered { Creation::Finished } else { Creation::New };
        assert_eq!(creations.iter().filter(|creation| **creation == made).count(), 1, "{creations:?}");
        assert_eq!(creations.iter().filter(|creation| **creation == Creation::Existed).count(), 7, "{creations:?}");
        assert!(shop.is_whole(name).await);
    }
}

#[tokio::test]
async fn a_tenant_interrupted_at_any_moment_is_not_there_or_finished_by_the_next_call() {
    let mut random = seeded("interrupted");
    let shop = Shop::open().await;
    let config = shop.database.config().clone().with_application_name("victim");
    let (mut cut, mut nothing, mut tried) = (0, 0, 0);
    let mut span = Duration::from_millis(60);
    // Which moments are hit depends on the machine: it goes on until enough were cut short.
    while tried < rounds(24) || (nothing < rounds(24) / 6 && tried < rounds(24) * 20) {
        tried += 1;
        let round = tried;
        let name = format!("t{round}");
        let victim = Operator::connect(&config).await.unwrap();
        let moment = span.mul_f64(random.random_range(0.0..1.0));
        let started = std::time::Instant::now();
        let outcome = if round % 2 == 0 {
            // The server ends the session.
            let kill = async {
                tokio::time::sleep(moment).await;
                shop.raw.all::<bool>(&format!("select pg_terminate_backend(pid) from {VICTIMS}")).await;
            };
            tokio::join!(create(&victim, &shop.db, &name), kill).0.ok()
        } else {
            // The caller loses interest, and the session goes with it.
            tokio::time::timeout(moment, create(&victim, &shop.db, &name)).await.ok().map(Result::unwrap)
        };
        drop(victim);
        shop.raw.wait_until(&format!("select not exists (select from {VICTIMS})")).await;
        match outcome {
            Some(_) => span = (span + started.elapsed()) / 2,
            None => cut += 1,
        }
        let left = !shop.nothing_of(&name).await;
        nothing += usize::from(!left);
        let expected = if left { Creation::Existed } else { Creation::New };
        assert_eq!(shop.create(&name).await.unwrap().creation, expected, "round {round}");
        assert!(shop.is_whole(&name).await, "round {round}");
    }
    let told = format!("{cut} of {tried} were cut short, {nothing} of them left nothing");
    say(&told);
    assert!(nothing >= rounds(24) / 6, "only {nothing} were cut short: this test proved nothing");
    score::note(4, "creation of a tenant terminated or dropped, half made", tried, 0, &told);
}

const VICTIMS: &str = "pg_stat_activity where datname = current_database() and application_name = 'victim'";

#[tokio::test]
async fn half_made_tenants_are_finished() {
    let shop = Shop::open().await;
    // A registry row alone, as a sign-up form writes it.
    shop.raw.run("insert into organizations (slug, name) values ('signup', 'Sign Up')").await;
    let made = shop.create("signup").await.unwrap();
    assert_eq!(
        (made.creation, made.tenant.status, made.tenant.name.as_str()),
        (Creation::Finished, TenantStatus::Active, "Sign Up")
    );
    assert!(shop.is_whole("signup").await);

    // The role's right to use the schema.
    let role = shop.role("signup").quoted();
    shop.raw.run(&format!("revoke all on schema tenant_signup from {role}")).await;
    assert!(!shop.is_whole("signup").await);
    assert_eq!(shop.create("signup").await.unwrap().creation, Creation::Finished);
    assert!(shop.is_whole("signup").await);

    // The role itself, as after a restore on another server. The ledger stays out of the new one's reach.
    shop.raw.run(&format!("drop owned by {role}; drop role {role}")).await;
    assert!(!shop.is_whole("signup").await);
    assert_eq!(shop.create("signup").await.unwrap().creation, Creation::Finished);
    assert!(shop.is_whole("signup").await);
    let error = shop
        .db
        .with_tenant(&slug("signup"), async |tx| tx.query("table schema_migrations", &[]).await)
        .await
        .unwrap_err();
    assert_eq!(error.sqlstate().unwrap().code(), "42501");

    // A suspended one is finished and stays suspended.
    shop.raw
        .run(&format!("update organizations set status = 'suspended'; revoke all on schema tenant_signup from {role}"))
        .await;
    let made = shop.create("signup").await.unwrap();
    assert_eq!((made.creation, made.tenant.status), (Creation::Finished, TenantStatus::Suspended));
}

#[tokio::test]
async fn schemas_that_are_somebody_elses_are_left_alone() {
    let shop = Shop::open().await;
    decoys(&shop.raw).await;
    shop.raw
        .run(
            "create schema tenant_empty; create schema tenant_tables; create table tenant_tables.orders (id int);
             create schema tenant_ledger; create table tenant_ledger.schema_migrations (like public.schema_migrations);
             create schema tenant_known; insert into organizations (slug, name) values ('known', 'Known')",
        )
        .await;
    for name in ["empty", "tables", "ledger", "known", "ghost"] {
        let schema = SchemaName::of_tenant(&slug(name));
        let before = picture(&shop.raw, schema.as_str()).await;
        let error = shop.create(name).await.unwrap_err();
        assert_eq!((error.kind(), error.code()), (ErrorKind::Conflict, "CGK0404"), "{name}: {error:?}");
        assert_eq!(picture(&shop.raw, schema.as_str()).await, before);
        let role: bool = shop.raw.one(&format!("select to_regrole('{}') is not null", shop.role(name).as_str())).await;
        assert!(!role, "{name}");
    }
}

#[tokio::test]
async fn a_schema_made_after_the_look_is_noticed() {
    let shop = Shop::open().await;
    let holder = Raw::on(&shop.database).await;
    let key = cgk::lock::migration_key(&SchemaName::of_tenant(&slug("late")));
    holder.run(&format!("begin; select pg_advisory_xact_lock({key}); create schema tenant_late")).await;
    let (config, db) = (shop.database.config().clone(), shop.db.clone());
    let making = tokio::spawn(async move {
        let operator = Operator::connect(&config).await.unwrap();
        create(&operator, &db, "late").await
    });
    shop.raw
        .wait_until_blocked(
            "select pid from pg_stat_activity where datname = current_database() and application_name = 'cgk'",
        )
        .await;
    holder.run("commit").await;
    assert_eq!(making.await.unwrap().unwrap_err().kind(), ErrorKind::Conflict);
    assert!(!shop.raw.one::<bool>("select exists (select from organizations)").await);
}

#[tokio::test]
async fn a_migration_that_fails_leaves_no_tenant() {
    let shop = Shop::open().await;
    let files = Files::of_tenants(&[("001_a.sql", "create table a ()"), ("002_b.sql", "select 1;\nselect 1/0;")]);
    let error = lifecycle::create(&shop.operator, &shop.db, &files.load(), &slug("acme"), &CreateOptions::default())
        .await
        .unwrap_err();
    assert!(
        matches!(&error, Error::Migration(MigrationError::Failed(failure)) if failure.place.as_ref().unwrap().line == 2),
        "{error:?}"
    );
    assert!(shop.nothing_of("acme").await);
}

#[tokio::test]
async fn an_unprepared_database_is_said() {
    let database = TestServer::shared().database().await.unwrap();
    let (operator, db) = (database.operator().await.unwrap(), database.db().await.unwrap());
    assert_eq!(create(&operator, &db, "acme").await.unwrap_err().kind(), ErrorKind::NotReady);
}

#[tokio::test]
async fn the_longest_slug_fits() {
    let shop = Shop::open().await;
    let name = "z".repeat(48);
    assert_eq!(shop.create(&name).await.unwrap().creation, Creation::New);
    assert_eq!(shop.role(&name).as_str().len(), 63);
    assert!(shop.is_whole(&name).await);
    assert_eq!(shop.create(&name).await.unwrap().creation, Creation::Existed);
    // Their beginnings are other tenants.
    assert_eq!(shop.create(&"z".repeat(47)).await.unwrap().creation, Creation::New);
}

#[tokio::test]
async fn two_hundred_tenants() {
    let shop = Shop::open().await;
    let files = Files::of_tenants(&[("001_a.sql", "create table a (id int primary key)")]);
    let migrations = files.load();
    for number in 0..200 {
        let (slug, options) = (slug(&format!("t{number}")), CreateOptions::default());
        let made = lifecycle::create(&shop.operator, &shop.db, &migrations, &slug, &options).await.unwrap();
        assert_eq!(made.creation, Creation::New);
    }
    let state = migrate::read_state(&shop.operator, &migrations).await.unwrap();
    assert_eq!(state.tenants.iter().filter(|tenant| matches!(tenant.state, SchemaState::AtHead)).count(), 200);
}

/// Where the same registry lives in two databases of a server, neither's roles open the other's tenants.
#[tokio::test]
async fn databases_of_one_server_share_no_role() {
    let (one, two) = (Shop::open().await, Shop::open().await);
    one.create("acme").await.unwrap();
    two.create("acme").await.unwrap();
    assert_ne!(one.role("acme"), two.role("acme"));
    let inside = Raw::connect(&url(&one.database, None)).await;
    inside.run(&format!("set role {}", two.role("acme").quoted())).await;
    assert_eq!(inside.try_run("select from tenant_acme.orders").await.unwrap_err().code().unwrap().code(), "42501");
}
