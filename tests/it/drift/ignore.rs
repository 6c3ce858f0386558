//! Differences that are known: ignored with a reason, counted, and shown; a rule that is about nothing is named.

use crate::{
    sandbox::{Raw, tenants},
    support::cgk::Shell,
};
use cgk::{migrate::Migrations, testing::TestServer};

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
    assert!(answer.stderr.contains("no difference matches \"marks\""), "{}", answer.stderr);
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
