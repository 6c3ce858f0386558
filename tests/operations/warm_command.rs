//! `cgk tenant:warm`, and what other commands say about ready schemas.

use crate::{
    fixture::plain_operator,
    stage::{Stage, connect},
    support::cgk::Shell,
    warm::{SCHEMAS, create, warm},
};
use cgk::{
    Db, Operator,
    config::Isolation,
    drift,
    lifecycle::WarmCount,
    migrate::{Migrations, Scope, Silent},
    setup,
};

#[tokio::test(flavor = "multi_thread")]
async fn the_command_keeps_schemas_ready_and_no_command_takes_them_for_tenants() {
    let stage = Stage::set().await;
    let shell = Shell::on(&stage.database);
    let answer = shell.run(&["tenant:warm", "2"]);
    assert!(answer.code == 0 && answer.stdout.starts_with("ready 2 schemas: 2 created, 0 dropped in "), "{answer:?}");
    let answer = shell.run(&["tenant:warm", "--status"]);
    assert_eq!((answer.code, answer.stdout.trim()), (0, "2 schemas ready, 0 unfinished, 0 stale"), "{answer:?}");
    for command in [
        &["drift"][..],
        &["tenant:list", "--json"],
        &["tenant:verify", "--all"],
        &["migrate:status", "--all"],
        &["migrate", "--check"],
        &["tenant:exec", "--all", "--sql", "select 1"],
        &["org:list"],
    ] {
        let answer = shell.run(command);
        assert!(answer.code == 0 && !answer.stdout.contains("cgk_warm"), "{command:?}: {answer:?}");
    }
    let answer = shell.run(&["doctor", "--json"]);
    assert!(answer.stdout.contains("2 schemas are ready for new tenants"), "{answer:?}");
    let answer = shell.run(&["tenant:create", "new", "--json"]);
    assert!(answer.code == 0 && answer.stdout.contains(r#""creation":"created""#), "{answer:?}");
    assert_eq!(stage.count(SCHEMAS).await, 1);
    // Several at once are created without ready schemas.
    assert_eq!(shell.run(&["tenant:create", "one", "two"]).code, 0);
    assert_eq!(stage.count(SCHEMAS).await, 1);
    let answer = shell.run(&["tenant:warm", "0", "--json"]);
    assert!(answer.code == 0 && answer.stdout.contains(r#""ready":0,"created":0,"dropped":1"#), "{answer:?}");
    let answer = shell.run(&["tenant:warm", "--status", "--json"]);
    assert!(answer.stdout.contains(r#""ready":0,"unfinished":0,"stale":0"#), "{answer:?}");
    assert_eq!((stage.count(SCHEMAS).await, shell.run(&["tenant:warm"]).code), (0, 2));
    let answer = shell.run(&["tenant:warm", "1001"]);
    let limit = "only 1000: each has all tables of a tenant";
    assert!(answer.code == 2 && answer.stderr.contains("CGK0971") && answer.stderr.contains(limit), "{answer:?}");
    assert_eq!(stage.count("select count(*) from cgk_warm").await, 0);
}

/// A superuser is the first: the operator that set up the database uses the table too, and does not touch the schemas that it
/// may not drop.
#[tokio::test(flavor = "multi_thread")]
async fn a_superuser_does_not_shut_the_operator_out() {
    let migrations = Migrations::bundled();
    let (database, config) = plain_operator().await;
    let operator = Operator::connect(&config).await.unwrap();
    setup::setup(&operator, &migrations, &mut Silent).await.unwrap();
    let superuser = Operator::connect(database.config()).await.unwrap();
    assert_eq!(warm(&superuser, &migrations, 2).await, (2, 2, 0));
    assert_eq!(warm(&operator, &migrations, 1).await, (1, 1, 0));
    let status = async |operator: &Operator| {
        let status = cgk::lifecycle::warm_status(operator, &migrations).await.unwrap();
        (status.ready, status.unfinished, status.stale, status.foreign)
    };
    assert_eq!(status(&operator).await, (1, 0, 0, 2));
    let db = Db::connect(&config).await.unwrap();
    create(&operator, &db, &migrations, "acme").await;
    create(&operator, &db, &migrations, "globex").await;
    assert_eq!(status(&operator).await, (0, 0, 0, 2), "one was taken, and none of the superuser's");
    let renewed = cgk::lifecycle::warm(&operator, &migrations, WarmCount::Unchanged).await.unwrap();
    assert_eq!((renewed.ready, renewed.created, renewed.dropped), (0, 0, 0));
    assert_eq!(warm(&operator, &migrations, 1).await, (1, 1, 0));
    assert_eq!(warm(&operator, &migrations, 0).await, (0, 0, 1));
    let shell = Shell::on(&database);
    let answer = shell.run(&["tenant:warm", "--status"]);
    assert_eq!(answer.stdout.trim(), "2 schemas ready, 0 unfinished, 0 stale", "{answer:?}");
    assert_eq!(warm(&superuser, &migrations, 0).await, (0, 0, 2));
    let watch = connect(&database).await;
    let owners = "select count(distinct c.relowner) from pg_class c
                  where c.oid in ('public.cgk_warm'::regclass, 'public.schema_migrations'::regclass)";
    assert_eq!(watch.query_one(owners, &[]).await.unwrap().get::<_, i64>(0), 1);
}

/// What belongs to the role of a ready schema outside of it, or was granted to it there, goes with the role.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_role_of_a_ready_schema_has_elsewhere_goes_with_it() {
    let migrations = Migrations::bundled();
    let stage = Stage::set().await;
    let operator = stage.operator().await;
    stage.run("create table public.log (n int)").await;
    let held = "select count(*) from pg_shdepend where refobjid = 'ROLE'::regrole
                and dbid = (select oid from pg_database where datname = current_database()) and classid = 'CLASS'::regclass";
    for (planted, class) in [
        ("grant select on public.log to ROLE", "pg_class"),
        ("alter default privileges for role ROLE grant select on tables to pg_monitor", "pg_default_acl"),
        ("do $$ begin execute format('alter large object %s owner to ROLE', lo_create(0)); end $$", "pg_largeobject"),
    ] {
        assert_eq!(warm(&operator, &migrations, 1).await.0, 1, "{planted}");
        let role = "select rolname::text from pg_roles where starts_with(rolname, 'cgk__warm_') and rolname like '%' || cgk_database_tag()";
        let role: String = stage.rows(role, &[]).await[0].get(0);
        let held = held.replace("ROLE", &role).replace("CLASS", class);
        let before = stage.count(&held).await;
        stage.run(&planted.replace("ROLE", &role)).await;
        assert_eq!(stage.count(&held).await, before + 1, "the role is held: {planted}");
        assert_eq!(warm(&operator, &migrations, 0).await, (0, 0, 1), "{planted}");
        let left = format!("select count(*) from pg_roles where rolname = '{role}'");
        assert_eq!((stage.count(&left).await, stage.count(SCHEMAS).await), (0, 0), "{planted}");
    }
    assert_eq!(stage.count("select count(*) from pg_largeobject_metadata").await, 0);
}

/// `migrate` replaces the schemas that it makes stale; where that fails, it says so, and the run succeeds.
#[tokio::test(flavor = "multi_thread")]
async fn migrate_replaces_stale_schemas_and_does_not_fail_because_of_them() {
    let database = cgk::testing::TestServer::shared().database().await.unwrap();
    let shell = Shell::on(&database);
    shell.write_migrations();
    for arguments in [&["setup:database"][..], &["tenant:create", "acme"], &["tenant:warm", "2"]] {
        let answer = shell.run(arguments);
        assert_eq!(answer.code, 0, "{answer:?}");
    }
    let status = |wanted: &str| {
        let answer = shell.run(&["tenant:warm", "--status"]);
        assert_eq!(answer.stdout.trim(), wanted, "{answer:?}");
    };
    shell.write("migrations/tenant/003_more.sql", "create table more (id bigint);\n");
    status("0 schemas ready, 0 unfinished, 2 stale");
    let answer = shell.run(&["doctor"]);
    assert!(
        answer.stdout.contains("2 that no tenant takes") && answer.stdout.contains("cgk tenant:warm 2"),
        "{answer:?}"
    );
    // What only looks replaces nothing.
    assert_eq!(shell.run(&["migrate", "--check"]).code, 3);
    status("0 schemas ready, 0 unfinished, 2 stale");
    let answer = shell.run(&["migrate"]);
    assert!(answer.code == 0 && answer.stderr.contains("Replaced 2 schemas"), "{answer:?}");
    status("2 schemas ready, 0 unfinished, 0 stale");
    assert_eq!(shell.run(&["tenant:create", "globex"]).code, 0);
    status("1 schema ready, 0 unfinished, 0 stale");

    shell.write(
        "migrations/tenant/004_name.sql",
        "create table own (name text);\ninsert into own select current_schema();\n",
    );
    let answer = shell.run(&["migrate"]);
    assert!(
        answer.code == 0 && answer.stderr.contains("were not replaced") && answer.stderr.contains("current_schema"),
        "{answer:?}"
    );
    status("0 schemas ready, 0 unfinished, 0 stale");
    let answer = shell.run(&["tenant:warm", "1"]);
    assert!(answer.code == 1 && answer.stderr.contains("CGK0970"), "{answer:?}");
    assert_eq!(shell.run(&["tenant:create", "initech"]).code, 0);
    let name: String =
        connect(&database).await.query_one("select name from tenant_initech.own", &[]).await.unwrap().get(0);
    assert_eq!(name, "tenant_initech");
}

/// An operator that is no superuser, with a right that it needs, and another one that may not read the table.
#[tokio::test(flavor = "multi_thread")]
async fn an_operator_that_is_no_superuser_keeps_schemas_ready() {
    let migrations = Migrations::bundled();
    for isolation in [Isolation::Role, Isolation::Path] {
        let (database, config) = plain_operator().await;
        let config = config.with_isolation(isolation);
        let operator = Operator::connect(&config).await.unwrap();
        setup::setup(&operator, &migrations, &mut Silent).await.unwrap();
        let db = Db::connect(&config).await.unwrap();
        create(&operator, &db, &migrations, "acme").await;
        assert_eq!(warm(&operator, &migrations, 3).await, (3, 3, 0));
        create(&operator, &db, &migrations, "taken").await;
        assert_eq!(warm(&operator, &migrations, 1).await, (1, 0, 1));
        let report = drift::verify(&operator, &migrations, &Scope::Everything).await.unwrap();
        assert!(!report.has_drift() && report.strays.is_empty(), "{report:#?}");

        // The schemas of another role are not its own, and it takes none.
        let superuser = database.config().clone().with_isolation(isolation);
        let other = Operator::connect(&superuser).await.unwrap();
        create(&other, &Db::connect(&superuser).await.unwrap(), &migrations, "other").await;
        let watch = connect(&database).await;
        let rows: i64 = watch.query_one("select count(*) from cgk_warm", &[]).await.unwrap().get(0);
        assert_eq!(rows, 1);
        crate::stage::run(&watch, "alter table cgk_warm owner to current_user").await;
        create(&operator, &db, &migrations, "denied").await;
        assert_eq!(warm(&other, &migrations, 0).await, (0, 0, 1));
    }
}
