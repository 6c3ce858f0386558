//! `tenant:show` and `tenant:list`: what they say is what SQL says.

use crate::{
    stage::{Stage, connect, slug},
    support::cgk::Shell,
};
use cgk::{
    ErrorKind, Operator,
    config::SessionSettings,
    lifecycle::{
        self, LastComparison, ListContents, ListDirection, ListOptions, ListSort, SizeSource, StateFilter,
        SuspendOptions,
    },
    migrate::{Migrations, SchemaState},
};
use serde_json::Value;
use std::time::Duration;

const ROWS: &str =
    "create table tenant_acme.numbers as select generate_series(1, 5000) as n; analyze tenant_acme.numbers";

#[tokio::test(flavor = "multi_thread")]
async fn everything_about_a_tenant_is_what_sql_says() {
    let stage = Stage::set().await;
    let operator = stage.operator().await;
    stage.run(ROWS).await;
    let service = connect(&stage.database).await;
    service.execute("begin", &[]).await.unwrap();
    service.query_one("select cgk_enter('acme')", &[]).await.unwrap();
    let migrations = Migrations::bundled();
    let found = lifecycle::show(&operator, &migrations, &slug("acme")).await.unwrap();
    assert_eq!((found.tenant.id, found.schema.as_str()), (stage.acme, "tenant_acme"));
    assert!(matches!(found.state, SchemaState::AtHead), "{:?}", found.state);
    let contents = found.contents.unwrap();
    let sql = |column: &str| {
        format!(
            "select {column}::int8 from pg_class where relnamespace = 'tenant_acme'::regnamespace and relkind in ('r', 'p')"
        )
    };
    assert_eq!(i64::try_from(contents.tables).unwrap(), stage.count(&sql("count(*)")).await);
    assert_eq!(i64::try_from(contents.bytes).unwrap(), stage.count(&sql("sum(pg_total_relation_size(oid))")).await);
    assert_eq!(i64::try_from(contents.rows_estimated).unwrap(), stage.count(&sql("sum(greatest(reltuples, 0))")).await);
    assert!(contents.rows_estimated >= 5000);
    let head =
        "select version || '_' || name, applied_by from tenant_acme.schema_migrations order by version desc limit 1";
    let row = &stage.rows(head, &[]).await[0];
    let last = found.last_migration.unwrap();
    assert_eq!(last.id.version.get(), row.get::<_, String>(0).split('_').next().unwrap().parse::<i64>().unwrap());
    assert_eq!(last.applied_by, row.get::<_, String>(1));
    assert!(found.role.unwrap().as_str().starts_with("cgk_acme_"));
    let [inside] = found.sessions.as_slice() else { panic!("{:?}", found.sessions) };
    assert_eq!((inside.application.as_str(), inside.state.as_str()), ("observer", "idle in transaction"));
    let error = lifecycle::show(&operator, &migrations, &slug("unknown")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
}

/// The stamp of the last comparison counts until the schema changes.
#[tokio::test(flavor = "multi_thread")]
async fn a_comparison_counts_until_the_schema_changes() {
    let stage = Stage::set().await;
    let operator = stage.operator().await;
    let shell = Shell::on(&stage.database);
    let compared = async || lifecycle::show(&operator, &Migrations::bundled(), &slug("acme")).await.unwrap().comparison;
    // A comparison of up to 20 tenants reads each of them as a whole, and keeps nothing.
    let more: Vec<String> = (1..=20).map(|number| format!("more_{number}")).collect();
    let create: Vec<&str> = ["tenant:create", "-q"].into_iter().chain(more.iter().map(String::as_str)).collect();
    for arguments in [&create[..], &["drift", "-q"], &["drift", "-q"]] {
        let answer = shell.run(arguments);
        assert_eq!(answer.code, 0, "{arguments:?}: {}{}", answer.stdout, answer.stderr);
    }
    assert_eq!(compared().await, LastComparison::Clean);
    stage.run("alter table tenant_acme.customers add column added int").await;
    assert_eq!(compared().await, LastComparison::Outdated);
}

/// A table that a migration alters, say: nothing waits for its end.
#[tokio::test(flavor = "multi_thread")]
async fn a_locked_table_is_not_waited_for() {
    let stage = Stage::set().await;
    stage.run(ROWS).await;
    stage.run("vacuum (analyze) tenant_acme.numbers").await;
    let config = stage.database.config();
    let session = SessionSettings { lock_timeout: Duration::from_millis(1), ..config.session().clone() };
    let operator = Operator::connect(&config.clone().with_session(session)).await.unwrap();
    let migrations = Migrations::bundled();
    let shown = async || lifecycle::show(&operator, &migrations, &slug("acme")).await.unwrap().contents.unwrap();
    let measured = shown().await;
    assert_eq!(measured.size_source, SizeSource::Measured);

    let holder = connect(&stage.database).await;
    crate::stage::run(&holder, "begin; lock table tenant_acme.orders in access exclusive mode").await;
    let estimated = shown().await;
    assert_eq!(estimated.size_source, SizeSource::Estimated);
    assert_eq!((estimated.tables, estimated.rows_estimated), (measured.tables, measured.rows_estimated));
    let table = stage.count("select pg_relation_size('tenant_acme.numbers')").await.unsigned_abs();
    assert!(estimated.bytes >= table, "{} of {table}", estimated.bytes);
    let mut list = ListOptions::default();
    list.contents = ListContents::Included;
    let listed = lifecycle::list(&operator, &migrations, &list).await.unwrap();
    assert_eq!(listed.tenants[0].contents.unwrap().size_source, SizeSource::Estimated);
    let shell = Shell::on(&stage.database);
    for (arguments, said) in [
        (&["tenant:show", "acme"][..], "(estimate: a table is locked"),
        (&["tenant:list", "--wide"], "Sizes are estimates"),
    ] {
        let answer = shell.run(&[arguments, &["--lock-timeout", "1ms"]].concat());
        assert!(
            answer.code == 0 && (answer.stdout.clone() + &answer.stderr).contains(said),
            "{}{}",
            answer.stdout,
            answer.stderr
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_list_is_filtered_and_sorted() {
    let stage = Stage::set().await;
    let operator = stage.operator().await;
    stage.run(ROWS).await;
    stage.run("update organizations set name = 'Zebra' where slug = 'acme'").await;
    let listed = async |options: ListOptions| -> Vec<String> {
        let list = lifecycle::list(&operator, &Migrations::bundled(), &options).await.unwrap();
        assert_eq!(list.registered, 2);
        list.tenants.iter().map(|tenant| tenant.state.tenant.slug.to_string()).collect()
    };
    let with = |change: &dyn Fn(&mut ListOptions)| {
        let mut options = ListOptions::default();
        change(&mut options);
        options
    };
    assert_eq!(listed(ListOptions::default()).await, ["acme", "globex"]);
    assert_eq!(listed(with(&|o| o.direction = ListDirection::Backward)).await, ["globex", "acme"]);
    assert_eq!(listed(with(&|o| o.sort = ListSort::Name)).await, ["globex", "acme"], "Zebra comes behind globex");
    assert_eq!(listed(with(&|o| o.sort = ListSort::Size)).await, ["acme", "globex"]);
    assert_eq!(listed(with(&|o| o.statuses = vec!["suspended".into()])).await, [""; 0]);
    lifecycle::suspend(&operator, &slug("globex"), &SuspendOptions::default()).await.unwrap();
    assert_eq!(listed(with(&|o| o.statuses = vec!["suspended".into()])).await, ["globex"]);
    stage.run("drop schema tenant_globex cascade").await;
    assert_eq!(listed(with(&|o| o.states = vec![StateFilter::Broken])).await, ["globex"]);
    assert_eq!(listed(with(&|o| o.states = vec![StateFilter::AtHead, StateFilter::Behind])).await, ["acme"]);
    let wide = with(&|o| o.contents = ListContents::Included);
    let list = lifecycle::list(&operator, &Migrations::bundled(), &wide).await.unwrap();
    assert!(list.tenants[0].contents.unwrap().bytes > 0 && list.tenants[1].contents.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_commands_show_the_same() {
    let stage = Stage::set().await;
    let shell = Shell::on(&stage.database);
    let answer = shell.run(&["tenant:show", "acme", "--json"]);
    let shown: Value = serde_json::from_str(&answer.stdout).unwrap();
    assert_eq!((shown["tenant"].as_str(), shown["state"].as_str()), (Some("acme"), Some("at_head")), "{shown}");
    let answer = shell.run(&["tenant:show", "acme"]);
    assert!(
        answer.code == 0 && answer.stdout.contains("tenant_acme") && answer.stdout.contains("at head"),
        "{}",
        answer.stdout
    );
    assert_eq!(shell.run(&["tenant:show", "unknown"]).code, 1);
    let answer = shell.run(&["tenant:list", "--wide", "--sort", "size", "--json"]);
    let listed: Value = serde_json::from_str(&answer.stdout).unwrap();
    assert!(listed["tenants"][0]["bytes"].as_u64().unwrap() > 0, "{listed}");
    let answer = shell.run(&["tenant:list", "--wide"]);
    assert!(answer.stdout.contains("ROWS (ESTIMATE)"), "{}", answer.stdout);
    let answer = shell.run(&["tenant:list", "--status", "suspended"]);
    assert!(answer.code == 0 && answer.stderr.contains("No tenant matches."), "{}", answer.stderr);
    assert_eq!(shell.run(&["tenant:list", "--state", "gone"]).code, 2);
}
