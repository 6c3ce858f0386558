//! What `cgk migrate --plan` and `--check` say of a file without a transaction that stopped in the middle.

use crate::support::cgk::{Answer, Shell, sql};
use cgk::testing::{TestDatabase, TestServer};
use serde_json::{Value, json};

/// The third statement fails where two rows have the same text.
const REF: &str = "-- cgk:no-transaction
insert into items values (1);
create index orders_text on orders (ref);

-- each order has its own
create unique index concurrently orders_ref on orders (ref);
insert into items values (2);
";

/// Tenants whose orders have a column `ref`, with two rows that have the same one in `acme` and in `umbrella`.
async fn fleet() -> (TestDatabase, Shell) {
    let database = TestServer::shared().database().await.unwrap();
    let shell = Shell::on(&database);
    shell.write_migrations();
    shell.write("migrations/tenant/003_ref.sql", "alter table orders add column ref text;\n");
    for command in ["setup:database", "tenant:create acme", "tenant:create globex", "tenant:create umbrella"] {
        done(&shell.run(&command.split(' ').collect::<Vec<_>>()), 0);
    }
    for tenant in ["acme", "umbrella"] {
        sql(&database, &format!("insert into tenant_{tenant}.orders values (1, 'a'), (2, 'a')")).await;
    }
    shell.write("migrations/tenant/004_index.sql", REF);
    (database, shell)
}

#[track_caller]
fn done(answer: &Answer, code: i32) -> &str {
    assert_eq!(answer.code, code, "{}{}", answer.stdout, answer.stderr);
    &answer.stdout
}

#[track_caller]
fn plan(shell: &Shell, arguments: &[&str]) -> Value {
    let answer = shell.run(&[&["migrate", "--check", "--json"], arguments].concat());
    serde_json::from_str(done(&answer, 3)).unwrap()
}

/// The lines of the plan's locks.
fn lock_lines(plan: &Value, index: usize) -> Vec<i64> {
    plan["migrations"][index]["locks"].as_array().unwrap().iter().map(|lock| lock["line"].as_i64().unwrap()).collect()
}

#[tokio::test]
async fn a_plan_names_the_statements_that_are_done_and_where_a_run_continues() {
    let (database, shell) = fleet().await;
    // The control: a file that no schema has started is listed as a whole, and nothing says that it stopped.
    for arguments in [&["migrate", "--plan", "-v"][..], &["migrate", "--check", "-v"]] {
        let answer = shell.run(arguments);
        let text = &answer.stdout;
        assert!(!text.contains("started") && text.contains("insert into items values (1)"), "{text}");
        assert!(text.contains("004_index:3") && text.contains("warning migrations/tenant/004_index.sql:3"), "{text}");
    }
    let fresh = plan(&shell, &[]);
    assert_eq!(lock_lines(&fresh, 0), [2, 3, 6, 7], "{fresh}");
    assert!(fresh["migrations"][0].get("statements_done").is_none() && fresh["tenants"][0].get("started").is_none());

    done(&shell.run(&["migrate", "--no-rehearsal", "--tenant", "acme", "umbrella"]), 4);
    let text = "acme, umbrella: tenant/004_index stopped after statement 2 of 4; statements 1 to 2 are done; a run \
                continues with statement 3 (migrations/tenant/004_index.sql:6)";
    // In the schemas that have started it, only the rest is listed.
    for arguments in [&["migrate", "--plan", "-v"][..], &["migrate", "--check", "-v"]] {
        let answer = shell.run(&[arguments, &["--tenant", "acme", "umbrella"]].concat());
        let shown = &answer.stdout;
        assert!(shown.contains(&format!("started {text}")), "{shown}");
        assert!(shown.contains("-- each order has its own\ncreate unique index"), "{shown}");
        assert!(shown.contains("004_index:6") && shown.contains("(after statement 2)"), "{shown}");
        for done in ["insert into items values (1)", "orders_text", "004_index:2", "004_index:3", "index.sql:3"] {
            assert!(!shown.contains(done), "{done}: {shown}");
        }
    }
    let started = plan(&shell, &["--tenant", "acme", "umbrella"]);
    let next = json!({"statement": 3, "line": 6, "unclear": false});
    let expected = json!({"migration": "004_index", "statements_done": 2, "statements": 4, "next": next});
    assert!(started["tenants"][0]["started"] == expected && started["tenants"][1]["started"] == expected, "{started}");
    assert_eq!((lock_lines(&started, 0), &started["migrations"][0]["statements_done"]), (vec![6, 7], &json!(2)));
    assert_eq!(started["migrations"][0]["warnings"], json!([]), "{started}");
    let answer = shell.run(&["migrate", "--plan", "--format", "github", "--tenant", "acme", "umbrella"]);
    let annotation =
        "::warning title=partially applied,file=migrations/tenant/004_index.sql,line=6,col=1::acme, umbrella";
    assert!(done(&answer, 0).contains(annotation), "{}", answer.stdout);

    // One more schema needs the whole file.
    let answer = shell.run(&["migrate", "--plan", "-v"]);
    let shown = done(&answer, 0);
    assert!(shown.contains(&format!("started {text}")) && shown.contains("004_index:3"), "{shown}");
    assert!(shown.contains("3 tenants") && shown.contains("insert into items values (1)"), "{shown}");
    let all = plan(&shell, &[]);
    assert!(lock_lines(&all, 0) == [2, 3, 6, 7] && all["migrations"][0].get("statements_done").is_none(), "{all}");
    assert!(all["tenants"][0]["started"] == expected && all["tenants"][1].get("started").is_none(), "{all}");

    // One that is further than another.
    sql(&database, "delete from tenant_umbrella.orders where id = 2").await;
    reached(&database, "tenant_umbrella", 2, true).await;
    let answer = shell.run(&["migrate", "--plan", "--tenant", "acme", "umbrella"]);
    let shown = done(&answer, 0);
    let unclear = "umbrella: tenant/004_index stopped after statement 2 of 4; statements 1 to 2 are done; a run checks \
                   whether statement 3 (migrations/tenant/004_index.sql:6) is done, and continues there";
    assert!(shown.contains("started acme: ") && shown.contains(&format!("started {unclear}")), "{shown}");
    reached(&database, "tenant_umbrella", 4, false).await;
    let umbrella = plan(&shell, &["--tenant", "umbrella"]);
    assert_eq!(umbrella["tenants"][0]["started"]["next"], Value::Null, "{umbrella}");
    assert_eq!((lock_lines(&umbrella, 0), &umbrella["migrations"][0]["statements_done"]), (vec![], &json!(4)));
    let answer = shell.run(&["migrate", "--plan", "-v"]);
    let recorded =
        "umbrella: tenant/004_index stopped after statement 4 of 4; statements 1 to 4 are done; a run only records it";
    assert!(done(&answer, 0).contains(recorded), "{}", answer.stdout);
}

/// Records how far a schema got, as a run that is killed leaves it.
async fn reached(database: &TestDatabase, schema: &str, statements: usize, is_announced: bool) {
    let texts: Vec<&str> = [
        "insert into items values (1)",
        "create index orders_text on orders (ref)",
        "create unique index concurrently orders_ref on orders (ref)",
        "insert into items values (2)",
    ][..statements + usize::from(is_announced)]
        .into();
    let text = texts.join(";\n");
    sql(
        database,
        &format!(
            "update {schema}.schema_migration_steps set done = {statements}, begun = {is_announced},
                    checksum = 'sha256:' || encode(sha256(convert_to('{text}', 'UTF8')), 'hex')"
        ),
    )
    .await;
}

#[tokio::test]
async fn a_file_of_the_shared_schema_that_stopped_is_named_too() {
    let database = TestServer::shared().database().await.unwrap();
    let shell = Shell::on(&database);
    shell.write_migrations();
    done(&shell.run(&["setup:database"]), 0);
    let text = "-- cgk:no-transaction\ncreate table plans (id int);\nselect 1 / count(*) from organizations;\n";
    shell.write("migrations/public/002_plans.sql", text);
    let fresh = plan(&shell, &["--public"]);
    assert!(fresh.get("public_started").is_none() && lock_lines(&fresh, 0) == [3], "{fresh}");
    done(&shell.run(&["migrate"]), 1);
    let answer = shell.run(&["migrate", "--check", "-v"]);
    let shown = done(&answer, 3);
    let started = "started the shared schema: public/002_plans stopped after statement 1 of 2, which is done; a run \
                   continues with statement 2 (migrations/public/002_plans.sql:3)";
    assert!(shown.contains(started) && !shown.contains("create table plans"), "{shown}");
    let stopped = plan(&shell, &[]);
    let next = json!({"statement": 2, "line": 3, "unclear": false});
    let expected = json!({"migration": "002_plans", "statements_done": 1, "statements": 2, "next": next});
    assert_eq!(stopped["public_started"], expected, "{stopped}");
    assert_eq!(stopped["migrations"][0]["statements_done"], json!(1), "{stopped}");
}
