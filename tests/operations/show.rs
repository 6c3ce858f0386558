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

/// Dates that RFC 3339 cannot hold end no command, in text or JSON.
#[tokio::test(flavor = "multi_thread")]
async fn a_date_beyond_every_calendar_is_shown_as_the_server_writes_it() {
    let stage = Stage::set().await;
    let shell = Shell::on(&stage.database);
    stage.run("update tenant_acme.schema_migrations set applied_at = 'infinity'").await;
    for (date, shown, day) in [
        ("10000-01-01 00:00:00+00", "10000-01-01T00:00:00Z", "10000-01-01"),
        ("294276-12-31 23:59:59+00", "294276-12-31T23:59:59Z", "294276-12-31"),
        ("1900-05-06 07:08:09+00", "1900-05-06T07:08:09Z", "1900-05-06"),
        ("0044-03-15 00:00:00+00 BC", "0044-03-15T00:00:00Z BC", "0044-03-15 BC"),
        ("infinity", "infinity", "infinity"),
        ("-infinity", "-infinity", "-infinity"),
    ] {
        stage.run(&format!("update organizations set created_at = '{date}' where slug = 'acme'")).await;
        let text = |arguments: &[&str]| {
            let answer = shell.run(arguments);
            assert_eq!(answer.code, 0, "{date} {arguments:?}: {}{}", answer.stdout, answer.stderr);
            answer.stdout
        };
        let list = text(&["tenant:list"]);
        assert!(list.lines().any(|line| line.starts_with("acme ") && line.ends_with(day)), "{date}: {list}");
        let show = text(&["tenant:show", "acme"]);
        assert!(show.contains(shown) && show.contains(" infinity"), "{date}: {show}");
        let json: Value = serde_json::from_str(&text(&["tenant:show", "acme", "--json"])).unwrap();
        assert_eq!((&json["created_at"], &json["last_migration"]["applied_at"]), (&shown.into(), &"infinity".into()));
        let json: Value = serde_json::from_str(&text(&["tenant:list", "--json"])).unwrap();
        assert_eq!(json["tenants"][0]["created_at"], shown);
        for others in [&["migrate:status"][..], &["migrate:status", "--json"], &["report", "--json"], &["report"]] {
            text(others);
        }
    }
    // The plan of a drop, in the comment on the schema.
    for (seconds, shown) in [("253402300800", "10000-01-01"), ("9223372036854775807", "infinity")] {
        stage
            .run(&format!(
                "do $$ begin execute format('comment on schema tenant_acme is %L', regexp_replace(
                     obj_description('tenant_acme'::regnamespace, 'pg_namespace'), '^(cgk organization [0-9a-f-]{{36}}).*$',
                     E'\\\\1\\ncgk: this tenant is dropped after {seconds} seconds since 1970; it was active')); end $$;
                 update organizations set status = 'suspended' where slug = 'acme'"
            ))
            .await;
        for arguments in [&["tenant:list"][..], &["tenant:show", "acme"], &["tenant:drop", "--due", "--plan"]] {
            let answer = shell.run(arguments);
            assert!(
                answer.code == 0 && answer.stdout.contains(shown),
                "{arguments:?}: {}{}",
                answer.stdout,
                answer.stderr
            );
        }
        for arguments in [&["tenant:list", "--json"][..], &["migrate:status", "--json"], &["report", "--json"]] {
            assert_eq!(shell.run(arguments).code, 0, "{arguments:?}");
        }
    }
}

/// Text of the server is never a command to GitHub Actions.
#[tokio::test(flavor = "multi_thread")]
async fn a_name_or_an_error_is_no_command_of_a_workflow() {
    let stage = Stage::set().await;
    let shell = Shell::on(&stage.database);
    stage.run(r"update organizations set name = E'Acme\n::warning::name' where slug = 'acme'").await;
    let raises =
        r"do $$ begin raise exception E'x\n::warning::message' using detail = E'y\n  ::stop-commands::z'; end $$";
    let rows = r"select E'::error::row\n ::error::row' as v";
    for arguments in [
        &["tenant:list"][..],
        &["tenant:show", "acme"],
        &["tenant:exec", "--sql", raises, "--tenant", "acme"],
        &["tenant:exec", "--sql", rows, "--tenant", "acme"],
    ] {
        for (format, is_checked) in [("text", false), ("github", true)] {
            let answer = shell.run(&[arguments, &["--format", format]].concat());
            let said = answer.stdout + &answer.stderr;
            assert!(said.contains(if is_checked { "%3A:" } else { "::" }), "{arguments:?}: {said}");
            // cgk's own annotations are whole: what they hold is escaped.
            let raw = said.lines().filter(|line| line.trim_start().starts_with("::") && !line.contains(" title=cgk"));
            assert_eq!(raw.count() == 0, is_checked, "{arguments:?} {format}: {said}");
        }
    }
}
