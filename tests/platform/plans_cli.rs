//! `cgk plan:list`, `subscription:…` and `quota:…`, run as processes.

use crate::{stage::Stage, support::cgk::Shell};
use insta::assert_snapshot;
use regex::Regex;

#[tokio::test(flavor = "multi_thread")]
async fn what_people_and_programs_see() {
    let stage = Stage::set().await;
    let shell = Shell::on(&stage.database);
    let text = shell.transcript(&[
        "plan:list",
        "plan:list --json",
        "subscription:show acme",
        "quota:show acme",
        "subscription:change acme platinum",
        "subscription:change acme Team!",
        "subscription:change acme hobby --trial 14days",
        "subscription:change acme team --trial 3days",
        "subscription:change acme team --months 12",
        "subscription:change acme team",
        "subscription:show acme --json",
        "quota:show acme",
        "quota:grant acme credits 500",
        "quota:grant acme runs 1000 --promocode --reference SPRING --expires-in 30days",
        "quota:grant acme runs 1000 --promocode --reference SPRING --expires-in 30days",
        "quota:grant acme runs 7 --promocode --reference SPRING",
        "quota:grant acme seats unlimited --json",
        "quota:grant acme credits 0",
        "quota:grant acme exports 1",
        "quota:grant acme runs many",
        "quota:show acme --grants",
        "quota:show acme --json",
        "quota:prune",
        "quota:prune --older-than 1h",
        "subscription:renew acme",
        "subscription:renew --due",
        "subscription:cancel acme",
        "subscription:cancel acme --undo",
        "subscription:cancel acme --now",
        "subscription:cancel acme --now",
        "subscription:show acme --history",
        "subscription:show nosuch",
    ]);
    let instants = Regex::new(r"\d{4}-\d\d-\d\dT[0-9:]+Z").unwrap().replace_all(&text, "<instant>").into_owned();
    let days = Regex::new(r"\d{4}-\d\d-\d\d").unwrap().replace_all(&instants, "<date>    ").into_owned();
    assert_snapshot!(days);
    assert_eq!(stage.count("select count(*) from grants where source <> 'subscription'").await, 3);
    let by_operator = "select count(*) from audit_events where actor_kind = 'operator' and action like 'cgk.%'";
    assert_eq!(stage.count(by_operator).await, 8);

    stage.run("update subscriptions set status = 'active', canceled_at = null, period_start = now() - interval '40 days', period_end = now() - interval '10 days', period_anchor = now() - interval '40 days'").await;
    let due = shell.run(&["subscription:renew", "--due", "--json"]);
    assert_eq!(
        (due.code, due.stdout.contains("\"renewed\":1,\"ended\":0,\"past_due\":0")),
        (0, true),
        "{}",
        due.stdout
    );
    // Balances stay, and so does what is not old.
    let consumptions = "insert into quota_consumptions (organization_id, kind, idempotency_key, amount, created_at)
        select id, 'runs', k, 1, now() - a from organizations, (values ('old', interval '91 days'), ('new', '1 day')) v (k, a)
        where slug = 'acme'";
    stage.run(consumptions).await;
    let pruned = shell.run(&["quota:prune", "--json"]);
    assert_eq!((pruned.code, pruned.stdout.contains("\"removed\":1")), (0, true), "{}", pruned.stdout);
    assert_eq!(stage.count("select count(*) from quota_consumptions").await, 1);

    stage.run("drop table grants, quota_consumptions cascade").await;
    let answer = shell.run(&["quota:show", "acme"]);
    assert!(answer.code == 1 && answer.stderr.contains("cgk migrate"), "{}", answer.stderr);
}
