//! Public functions that no other test calls directly.

use crate::{
    sandbox::{Files, Raw, migrate_all, plan_all, tenants},
    stage::{Stage, slug},
};
use cgk::{
    Error, ErrorKind, Instead, TransactionError, TxOptions,
    config::{IgnoreRule, Overrides},
    drift,
    ident::{Ident, SchemaName},
    migrate::{self, Migrations, RunOptions, Scope, Set, Silent, Target},
    testing::{TestServer, create_database, drop_database, find, find_all},
};
use std::time::Duration;

/// What each option of a transaction comes to on the server, in a tenant and on the platform, whatever the database's default.
#[tokio::test]
async fn the_options_of_a_transaction_are_in_force() {
    let stage = Stage::set().await;
    let (acme, name) = (slug("acme"), stage.database.name().to_owned());
    stage.sql(&format!("alter database {name} set default_transaction_read_only = on")).await;
    stage.sql(&format!("alter database {name} set default_transaction_isolation = 'repeatable read'")).await;
    let db = cgk::Db::connect(&stage.config()).await.unwrap();
    let read = "select current_setting('transaction_isolation'), current_setting('transaction_read_only')";
    let options = TxOptions::default;
    for (options, isolation, read_only) in [
        (options(), "repeatable read", "on"),
        (options().read_committed(), "read committed", "on"),
        (options().serializable(), "serializable", "on"),
        (options().repeatable_read().read_write(), "repeatable read", "off"),
        (options().read_committed().read_write(), "read committed", "off"),
        (options().read_write().read_only().serializable(), "serializable", "on"),
    ] {
        let row = db.with_tenant_in(&acme, &options, async |tx| tx.query_one(read, &[]).await).await.unwrap();
        assert_eq!((row.get::<_, &str>(0), row.get::<_, &str>(1)), (isolation, read_only), "{options:?}");
        let row = db.platform().transaction_in(&options, async |tx| tx.query_one(read, &[]).await).await.unwrap();
        assert_eq!((row.get::<_, &str>(0), row.get::<_, &str>(1)), (isolation, read_only), "{options:?}");
        let insert = "insert into marks (tag, n) values ('option', 1)";
        let written = db.with_tenant_in(&acme, &options, async |tx| tx.execute(insert, &[]).await).await;
        match read_only {
            "on" => assert_eq!(written.unwrap_err().sqlstate().unwrap().code(), "25006", "{options:?}"),
            _ => assert_eq!(written.unwrap(), 1, "{options:?}"),
        }
    }
    assert_eq!(stage.marks("acme", "option").await, (2, 0));
}

/// A snapshot of the whole transaction at REPEATABLE READ, one of each statement at READ COMMITTED.
#[tokio::test]
async fn the_isolation_level_decides_what_is_seen_of_others() {
    let stage = Stage::set().await;
    for (options, seen) in [(TxOptions::default().read_committed(), 1), (TxOptions::default().repeatable_read(), 0)] {
        let count = "select count(*) from marks where tag = 'other'";
        let seen_later: i64 = stage
            .db
            .with_tenant_in(&slug("acme"), &options, async |tx| {
                assert_eq!(tx.query_one(count, &[]).await?.get::<_, i64>(0), 0);
                stage.sql("insert into tenant_acme.marks (tag) values ('other')").await;
                Ok(tx.query_one(count, &[]).await?.get(0))
            })
            .await
            .unwrap();
        assert_eq!(seen_later, seen, "{options:?}");
        stage.sql("delete from tenant_acme.marks where tag = 'other'").await;
    }
}

#[test]
fn new_files_are_numbered_and_named() {
    for (name, usable) in
        [("gift_cards", true), ("A1", true), ("", false), ("a-b", false), ("a b", false), ("ä", false)]
    {
        assert_eq!(migrate::is_name(name), usable, "{name}");
    }
    let files = Files::of_tenants(&[("001_docs.sql", "create table docs (n int)")]);
    let path = migrate::new_file(files.path(), Set::Tenant, "more").unwrap();
    assert!(path.ends_with("tenant/002_more.sql"), "{}", path.display());
    assert!(std::fs::read_to_string(&path).unwrap().lines().all(|line| line.starts_with("--")));
    let error = migrate::new_file(files.path(), Set::Tenant, "no-name").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    let bundled = Migrations::bundled();
    let orders = &bundled.set(Set::Tenant).files()[0];
    let copy = || migrate::new_file_from_bundled(files.path(), Set::Tenant, "copied", &orders.id().name);
    let path = copy().unwrap();
    assert!(path.ends_with("tenant/003_copied.sql"), "{}", path.display());
    assert_eq!(std::fs::read_to_string(&path).unwrap(), orders.sql());
    assert_eq!(copy().unwrap_err().kind(), ErrorKind::Invalid);
}

#[test]
fn a_plan_says_what_the_ledger_will_hold_and_a_divergence_what_differs() {
    let files = Files::of_tenants(&[
        ("001_docs.sql", "create table docs (n int)"),
        ("002_index.sql", "-- cgk:no-transaction\ncreate index concurrently docs_n on docs (n)"),
    ]);
    let before = files.load();
    let source = before.set(Set::Tenant);
    assert_eq!(source.files().iter().map(|file| file.is_transactional()).collect::<Vec<_>>(), [true, false]);
    let schema = SchemaName::of_tenant(&slug("acme"));
    let plan = migrate::plan(source, &schema, Vec::new(), Target::Head).unwrap();
    let applied = plan.applied_after();
    assert_eq!(applied.iter().map(|row| row.id.to_string()).collect::<Vec<_>>(), ["001_docs", "002_index"]);
    assert!(migrate::plan(source, &schema, applied.clone(), Target::Head).unwrap().applied_after() == applied);
    files.tenant("001_docs.sql", "create table docs (n bigint)").without("002_index.sql");
    let after = files.load();
    let divergence = migrate::plan(after.set(Set::Tenant), &schema, applied, Target::Head).unwrap_err();
    assert_eq!(divergence.summary(), "1 migration edited, 1 migration newer than these files");
}

#[tokio::test]
async fn an_unrecorded_run_is_not_in_the_history() {
    let database = TestServer::shared().set_up_database().await.unwrap();
    let files = Files::of_tenants(&[("001_docs.sql", "create table docs (n int)")]);
    let operator = tenants(&database, &files.load(), &["acme"]).await;
    files.tenant("002_more.sql", "create table more (n int)");
    migrate_all(&operator, &files.load()).await.unwrap();
    let recorded = migrate::history(&operator, 10).await.unwrap().len();
    assert!(recorded > 0, "no run is recorded: this proves nothing");
    files.tenant("003_last.sql", "create table last (n int)");
    let migrations = files.load();
    let planned = plan_all(&operator, &migrations).await.unwrap();
    let options = RunOptions::default().unrecorded();
    migrate::run_with(&operator, &migrations, planned, &options, &mut Silent).await.unwrap();
    assert!(crate::sandbox::exists(&Raw::on(&database).await, "tenant_acme.last").await);
    assert_eq!(migrate::history(&operator, 10).await.unwrap().len(), recorded);
}

/// A rule of the program's own does what one of `cgk.toml` does.
#[tokio::test]
async fn a_difference_that_a_rule_names_is_ignored() {
    let database = TestServer::shared().set_up_database().await.unwrap();
    database.with_tenants(&["acme"]).await.unwrap();
    Raw::on(&database).await.run("create table tenant_acme.planted (n int)").await;
    let verify = async |config: &cgk::Config| {
        let operator = cgk::Operator::connect(config).await.unwrap();
        drift::verify(&operator, &Migrations::bundled(), &Scope::Everything).await.unwrap()
    };
    let report = verify(database.config()).await;
    assert!(report.has_drift(), "{report:?}");
    let rules = ["planted", "planted.*"].map(|object| IgnoreRule::new(object, "a test")).to_vec();
    let config = database.config().clone().with_drift_ignore(rules);
    assert_eq!(config.drift_ignore().len(), 2);
    let report = verify(&config).await;
    assert!(!report.has_drift(), "{report:?}");
}

#[test]
fn a_lock_timeout_of_the_command_line_is_read() {
    let read = |text: &str| Overrides::default().with_lock_timeout(text).map(|overrides| overrides.lock_timeout);
    assert_eq!(read("500ms").unwrap(), Some(Duration::from_millis(500)));
    for wrong in ["5", "-1s", "soon"] {
        assert!(read(wrong).unwrap_err().to_string().contains("lock_timeout"), "{wrong}");
    }
}

#[tokio::test]
async fn databases_are_created_from_a_template_and_dropped_with_their_roles() {
    let server = TestServer::shared();
    let template = server.database().await.unwrap();
    Raw::on(&template).await.run("create table marker (n int)").await;
    let name = Ident::new(format!("cgk_test_{:016x}", rand::random::<u64>())).unwrap();
    create_database(server.config(), &name, Some(template.name())).await.unwrap();
    let error = create_database(server.config(), &name, None).await.unwrap_err();
    assert_eq!(error.sqlstate().unwrap().code(), "42P04");
    let raw = Raw::on(&template).await;
    let role = format!("app_{}", cgk::ident::DatabaseTag::of(name.as_str()).as_str());
    raw.run(&format!("create role {role}")).await;
    for _ in 0..2 {
        drop_database(server.config(), &name).await.unwrap();
        let left = format!(
            "select (select count(*) from pg_database where datname = '{}') + (select count(*) from pg_roles where rolname = '{role}')",
            name.as_str()
        );
        assert_eq!(raw.one::<i64>(&left).await, 0);
    }
}

#[test]
fn the_installation_that_is_used_is_among_all() {
    let all = find_all().unwrap();
    let first = find().unwrap();
    assert_eq!(first.map(|one| one.bin_dir), all.first().map(|one| one.bin_dir.clone()));
    for (index, one) in all.iter().enumerate() {
        assert!(all[..index].iter().all(|other| other.bin_dir != one.bin_dir), "{all:?}");
    }
}

#[test]
fn an_error_of_the_entry_keeps_its_kind() {
    let refused =
        Error::Transaction(TransactionError::StatementRefused { form: "commit", instead: Instead::ReturnFromClosure });
    assert_eq!((refused.kind(), refused.is_retryable()), (ErrorKind::Refused, false));
    let text = refused.to_string();
    assert!(text.starts_with("`commit` is refused inside a transaction of cgk: return Ok from the closure"), "{text}");
}
