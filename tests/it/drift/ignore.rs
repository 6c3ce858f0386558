//! Differences that are known: ignored with a reason, counted, and shown; a rule that is about nothing is named.

use crate::{
    access::service_login::app_name,
    sandbox::{Files, Raw, tenants},
    support::cgk::Shell,
};
use cgk::{
    Operator,
    config::IgnoreRule,
    drift,
    login::{self, LoginOptions},
    migrate::{Migrations, Scope},
    testing::TestServer,
};

#[tokio::test]
async fn known_differences_are_ignored_with_a_reason() {
    let database = TestServer::shared().set_up_database().await.unwrap();
    tenants(&database, &Migrations::bundled(), &["acme", "globex"]).await;
    let raw = Raw::on(&database).await;
    raw.run(
        "create table tenant_acme.report_2026 (); create table tenant_globex.report_2026 (); create table public.marks ();
         create schema tenant_ghost",
    )
    .await;
    let shell = Shell::on(&database);
    let drift = |code: i32| {
        let answer = shell.run(&["drift", "--json"]);
        assert_eq!(answer.code, code, "{}{}", answer.stdout, answer.stderr);
        let last = answer.stdout.lines().last().unwrap();
        (serde_json::from_str::<serde_json::Value>(last).unwrap(), answer)
    };
    // The control: without rules all four are drift.
    let (summary, _) = drift(7);
    assert_eq!((summary["drifted"].as_u64(), summary["ignored"].as_u64()), (Some(3), Some(0)));
    let rules = |rules: &str| shell.write("cgk.toml", &format!("[drift]\nignore = [{rules}]\n"));
    let report = "{ object = \"report_*\", kind = \"table\", schema = \"tenant_*\", reason = \"made by the reports\" }";
    let ghost = "{ object = \"tenant_ghost\", reason = \"kept for the auditors\" }";
    rules(&format!("{report}, {ghost}"));
    let (summary, answer) = drift(7);
    assert_eq!((summary["drifted"].as_u64(), summary["ignored"].as_u64()), (Some(1), Some(3)));
    assert_eq!(answer.stdout.matches("\"reason\":\"made by the reports\"").count(), 2, "{}", answer.stdout);
    rules(&format!("{report}, {ghost}, {{ object = \"marks\", schema = \"public\", reason = \"old\" }}"));
    let (summary, _) = drift(0);
    assert_eq!((summary["ignored"].as_u64(), summary["unused_rules"].to_string()), (Some(4), "[]".to_owned()));
    let shown = shell.run(&["drift"]).stdout;
    assert!(
        shown.contains("\nignored: schema tenant_ghost: of no tenant in the registry (kept for the auditors)"),
        "{shown}"
    );
    // Another schema, another kind and part of a name are not the rule's.
    raw.run("create table public.report_2027 (); create view tenant_acme.report_v as select 1 as one").await;
    let (summary, _) = drift(7);
    assert_eq!(summary["drifted"].as_u64(), Some(2));
    raw.run("drop table public.report_2027; drop view tenant_acme.report_v; drop table public.marks").await;
    // A rule that is about nothing is named.
    let (summary, answer) = drift(0);
    assert_eq!(summary["unused_rules"].to_string(), "[\"marks\"]");
    assert!(
        answer.stderr.contains("no difference matches object = \"marks\", schema = \"public\""),
        "{}",
        answer.stderr
    );
    // A rule needs a reason.
    for wrong in [
        "{ object = \"x\" }",
        "{ object = \"x\", reason = \" \" }",
        "{ reason = \"x\" }",
        "{ object = \"x\", reason = \"y\", more = 1 }",
    ] {
        rules(wrong);
        assert_eq!(shell.run(&["drift"]).code, 2, "{wrong}");
    }
}

/// What is done, the rule with a wildcard, the same rule by name, and the line that only the second one accepts, if there is one.
struct Exposure {
    sql: &'static str,
    undo: &'static str,
    wildcard: &'static str,
    name: &'static str,
    line: Option<&'static str>,
}

const fn exposed(
    sql: &'static str,
    undo: &'static str,
    wildcard: &'static str,
    name: &'static str,
    line: &'static str,
) -> Exposure {
    Exposure { sql, undo, wildcard, name, line: Some(line) }
}

const fn closed(sql: &'static str, undo: &'static str, wildcard: &'static str) -> Exposure {
    Exposure { sql, undo, wildcard, name: "", line: None }
}

const EXPOSURES: &[Exposure] = &[
    // The controls: without rights of others, a wildcard accepts each of them.
    closed("create table tenant_acme.report_1 (a int)", "drop table tenant_acme.report_1", "report_*"),
    closed(
        "create function tenant_acme.report_f() returns int language sql as 'select 1'",
        "drop function tenant_acme.report_f()",
        "report_?()",
    ),
    closed("create type tenant_acme.report_t as (a int)", "drop type tenant_acme.report_t", "report_*"),
    closed(
        "drop index tenant_acme.orders_placed_at_idx",
        "create index orders_placed_at_idx on tenant_acme.orders (placed_at)",
        "orders_placed_*",
    ),
    exposed(
        "create table tenant_acme.report_1 (a int); grant select on tenant_acme.report_1 to public",
        "drop table tenant_acme.report_1",
        "report_*",
        "report_1",
        "table report_1: not from any migration (others have rights on it: everyone: select)",
    ),
    exposed(
        "create table tenant_acme.report_1 (a int); grant select (a) on tenant_acme.report_1 to pg_monitor",
        "drop table tenant_acme.report_1",
        "report_?",
        "report_1",
        "table report_1: not from any migration (others have rights on it: pg_monitor: select)",
    ),
    exposed(
        "create function tenant_acme.report_f() returns int language sql as 'select 1';
         grant execute on function tenant_acme.report_f() to pg_monitor",
        "drop function tenant_acme.report_f()",
        "report_*",
        "report_f()",
        "others have rights on it: pg_monitor: execute",
    ),
    exposed(
        "create sequence tenant_acme.report_s; grant usage on sequence tenant_acme.report_s to public",
        "drop sequence tenant_acme.report_s",
        "*",
        "report_s",
        "others have rights on it: everyone: usage",
    ),
    exposed(
        "create table tenant_acme.goose_db_version (id int, version_id bigint, is_applied bool);
         grant select on tenant_acme.goose_db_version to public",
        "drop table tenant_acme.goose_db_version",
        "goose_*",
        "goose_db_version",
        "the ledger of goose, and others have rights on it",
    ),
    exposed(
        "grant select on tenant_acme.orders to public",
        "revoke select on tenant_acme.orders from public",
        "ord*",
        "orders",
        "table orders: grants are everyone: select",
    ),
    exposed(
        "grant usage on schema tenant_acme to pg_monitor",
        "revoke usage on schema tenant_acme from pg_monitor",
        "*",
        "",
        "schema: grants are pg_monitor: usage",
    ),
    exposed(
        "alter view tenant_acme.plain owner to pg_monitor",
        "alter view tenant_acme.plain owner to current_user",
        "plai?",
        "plain",
        "view plain: owner is pg_monitor",
    ),
    exposed(
        "alter default privileges in schema tenant_acme grant select on tables to pg_monitor",
        "alter default privileges in schema tenant_acme revoke select on tables from pg_monitor",
        "tab*",
        "tables",
        "default rights tables: grants are pg_monitor: select",
    ),
    exposed(
        "grant create on schema public to {app}",
        "revoke create on schema public from {app}",
        "*",
        "{app}",
        "may create objects in schema public",
    ),
    exposed(
        "create foreign data wrapper far; grant usage on foreign data wrapper far to public",
        "drop foreign data wrapper far",
        "public (*",
        "public (everyone)",
        "role public (everyone): has rights on foreign-data wrapper far",
    ),
];

/// A rule with a wildcard accepts what its author has not seen, but no rights of others. A rule that names the object does.
#[tokio::test]
async fn a_rule_with_a_wildcard_accepts_no_rights_of_others() {
    let database = TestServer::shared().set_up_database().await.unwrap();
    let files = Files::of_tenants(&[(
        "001_set.sql",
        "create table orders (placed_at date); create index orders_placed_at_idx on orders (placed_at);
         create view plain as select 1 as one",
    )]);
    let migrations = files.load();
    tenants(&database, &migrations, &["acme"]).await;
    let raw = Raw::on(&database).await;
    let (app, operator) = (app_name(&database), Operator::connect(database.config()).await.unwrap());
    login::admit(&operator, &app, &LoginOptions::default()).await.unwrap();
    let filled = |text: &str| text.replace("{app}", app.as_str());
    let compare = async |objects: &[&str]| -> (Vec<String>, usize) {
        let rules = objects.iter().map(|object| IgnoreRule::new(filled(object), "meant")).collect();
        let operator = Operator::connect(&database.config().clone().with_drift_ignore(rules)).await.unwrap();
        let report = drift::verify(&operator, &migrations, &Scope::Everything).await.unwrap();
        let ignored = report.ignored.len() + report.schemas().map(|schema| schema.ignored.len()).sum::<usize>();
        let kept = report.schemas().flat_map(|schema| &schema.differences).chain(&report.rights);
        (kept.map(ToString::to_string).collect(), ignored)
    };
    assert_eq!(compare(&[]).await, (vec![], 0), "the precondition");
    for case in EXPOSURES {
        raw.run(&filled(case.sql)).await;
        let (found, _) = compare(&[]).await;
        assert_eq!(found.len(), 1, "{}: {found:?}", case.sql);
        let (kept, ignored) = compare(&[case.wildcard]).await;
        match case.line {
            None => assert_eq!((kept, ignored), (vec![], 1), "{}", case.sql),
            Some(line) => {
                assert_eq!((kept.len(), ignored), (1, 0), "{}: {kept:?}", case.sql);
                assert!(kept[0].contains(line), "{}: {kept:?}", case.sql);
                assert_eq!(compare(&[case.wildcard, case.name]).await, (vec![], 1), "{}", case.sql);
            }
        }
        raw.run(&filled(case.undo)).await;
        assert_eq!(compare(&[]).await, (vec![], 0), "{} is undone", case.sql);
    }
}
