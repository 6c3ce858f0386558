//! The program over a whole fleet: many tenants at once, the flags of a run, two stages of Ctrl-C, the history.

use crate::support::cgk::{Answer, Shell, sql};
use cgk::testing::{TestDatabase, TestServer};
use insta::assert_snapshot;
use std::{
    io::{BufRead as _, BufReader, Read as _},
    process::{Child, Command},
};

async fn fleet(slugs: &[&str]) -> (TestDatabase, Shell) {
    let database = TestServer::shared().set_up_database().await.unwrap();
    let shell = Shell::on(&database);
    // The bundled files, for tests to add to.
    assert_eq!(shell.run(&["migrate:new", "next"]).code, 0);
    std::fs::remove_file(shell.folder().join("migrations/tenant/008_next.sql")).unwrap();
    let made = shell.run(&[&["tenant:create", "-q"], slugs].concat());
    assert_eq!(made.code, 0, "{}{}", made.stdout, made.stderr);
    (database, shell)
}

#[tokio::test]
async fn many_tenants_are_made_and_the_rest_is_made_later() {
    let database = TestServer::shared().set_up_database().await.unwrap();
    let shell = Shell::on(&database);
    shell.write("fleet.txt", "# the first wave\nacme\tAcme Inc.\nglobex\n\ninitech, Initech\n");
    shell.write("bad.txt", "acme\nAcme Inc.\n");
    assert_snapshot!(shell.transcript(&[
        "tenant:create --from fleet.txt hooli --jobs 1",
        "tenant:create --from fleet.txt umbrella --jobs 1",
        "tenant:create --from bad.txt",
        "tenant:create --from none.txt",
        "tenant:create a b --name C",
        "tenant:list",
    ]));
    // One whose schema is somebody's fails alone.
    sql(&database, "create schema tenant_taken; create table tenant_taken.theirs (id int)").await;
    let answer = shell.run(&["tenant:create", "one", "taken", "two", "--jobs", "1", "--json"]);
    assert_eq!(answer.code, 4, "{}", answer.stdout);
    let result = |slug: &str| {
        let line = answer.stdout.lines().find(|line| line.contains(&format!("\"tenant\":\"{slug}\""))).unwrap();
        serde_json::from_str::<serde_json::Value>(line).unwrap()["result"].as_str().unwrap().to_owned()
    };
    assert_eq!((result("one"), result("taken"), result("two")), ("created".into(), "failed".into(), "created".into()));
}

#[tokio::test]
async fn the_flags_of_a_run_choose_whom_and_how() {
    let (database, shell) = fleet(&["a", "b", "c", "d"]).await;
    sql(&database, "insert into tenant_c.customers (first_name, email) values ('x', 'x@example.com')").await;
    shell.write(
        "migrations/tenant/008_strict.sql",
        "alter table customers add column vat text not null; -- fails where there are rows\n",
    );
    shell.write("wave.txt", "c\nd\n");
    assert_snapshot!(shell.transcript(&[
        "migrate --plan --exclude b --tenants",
        "migrate --canary c -j 1",
        "migrate --tenants-file wave.txt --fail-fast -j 1 --format github",
        "migrate --all-or-nothing",
        "migrate --exclude c -j 1",
    ]));
    sql(&database, "delete from tenant_c.customers").await;
    let retried = shell.run(&["migrate", "--retry-failed"]);
    // The last run left c out: what failed before is retried all the same.
    assert!(retried.stdout.contains("tenant_c"), "{}{}", retried.stdout, retried.stderr);
    let again = shell.run(&["migrate", "--retry-failed"]);
    assert!(again.stdout.starts_with("Nothing to do"), "{}{}", again.stdout, again.stderr);
    assert_eq!(shell.run(&["migrate", "--part", "1/1"]).code, 0);
    assert_eq!(shell.run(&["migrate:status", "--check", "--watch"]).code, 0);
    for misuse in [&["migrate", "--part", "3/2"][..], &["migrate", "--canary", "0x"], &["migrate", "--jobs", "0"]] {
        assert_eq!(shell.run(misuse).code, 2, "{misuse:?}");
    }
    let runs: Vec<serde_json::Value> = shell
        .run(&["migrate:history", "--json"])
        .stdout
        .lines()
        .flat_map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["runs"].as_array().unwrap().clone())
        .collect();
    let results: Vec<_> = runs.iter().map(|run| (run["migrated"].as_u64().unwrap(), run["stopped"].as_str())).collect();
    assert_eq!(results, [(1, None), (3, None), (0, Some("rolled_back")), (0, Some("failures")), (0, Some("canary"))]);
    let first = runs.last().unwrap()["run"].as_str().unwrap();
    let detail = shell.run(&["migrate:history", &first[..13]]);
    assert!(detail.stdout.contains("tenant_c") && detail.stdout.contains("23502"), "{}", detail.stdout);
}

/// A misspelt tenant, version or number is never taken for none at all.
#[tokio::test]
async fn flags_refuse_what_does_not_exist() {
    let (database, shell) = fleet(&["a", "b", "c"]).await;
    shell.write("migrations/tenant/008_gift_cards.sql", "create table gift_cards (code text primary key);\n");
    shell.write("ghost.txt", "a\nghost\n");
    for (flags, code, said) in [
        (&["--exclude", "ghost"][..], 1, "ghost"),
        (&["--exclude", "a,ghost"], 1, "ghost"),
        (&["--tenant", "ghost"], 1, "ghost"),
        (&["--tenants-file", "ghost.txt"], 1, "ghost"),
        (&["--tenants-file", "none.txt"], 2, "none.txt"),
        (&["--tenants", "--canary", "ghost"], 1, "ghost"),
        (&["--canary", "a,ghost"], 1, "ghost"),
        (&["--canary", "b", "--exclude", "b"], 2, "canary b is not one"),
        (&["--canary", "b", "--tenant", "a"], 2, "canary b is not one"),
        (&["--target", "99"], 2, "99"),
        (&["--target", "7", "--tenant", "ghost"], 1, "ghost"),
        (&["--exclude", "No Slug"], 2, "No Slug"),
        (&["--canary", "0"], 2, "from 1 on"),
        (&["--canary", "00"], 2, "leave --canary out"),
        (&["--canary", "99999999999999999999999"], 2, "more than any fleet"),
        (&["--tenant", "a", "--exclude", "a"], 2, "leaves out every tenant"),
        (&["--tenant", "a,b", "--exclude", "b,a"], 2, "leaves out every tenant"),
        (&["--target", "x"], 2, "x"),
        (&["--target", "0"], 2, "0"),
        (&["--jobs", "0"], 2, "0"),
        (&["--jobs", "many"], 2, "many"),
        (&["--jobs", "-1"], 2, "-1"),
        (&["--part", "0/2"], 2, "0/2"),
        (&["--max-failures", "0"], 2, "0"),
        (&["--public", "--exclude", "a"], 2, "--exclude"),
        (&["--public", "--target", "7"], 2, "--target"),
        (&["--public", "--canary", "a"], 2, "--canary"),
        (&["--public", "--jobs", "2"], 2, "--jobs"),
        (&["--public", "--part", "1/2"], 2, "--part"),
    ] {
        let answer = shell.run(&[&["migrate"], flags].concat());
        assert_eq!(answer.code, code, "{flags:?}: {}{}", answer.stdout, answer.stderr);
        assert!(answer.stderr.contains(said), "{flags:?}: {}", answer.stderr);
    }
    let raw = crate::sandbox::Raw::on(&database).await;
    assert_eq!(raw.one::<i64>("select count(*) from pg_class where relname = 'gift_cards'").await, 0);
    // The control: the same flags, of what there is.
    let flags = ["migrate", "--exclude", "c", "--canary", "a", "--jobs", "2", "--target", "8", "--part", "1/1"];
    let answer = shell.run(&flags);
    assert_eq!(answer.code, 0, "{}{}", answer.stdout, answer.stderr);
    assert_eq!(raw.one::<i64>("select count(*) from pg_class where relname = 'gift_cards'").await, 2);
}

#[tokio::test]
async fn a_plan_tells_whom_it_keeps_waiting_and_what_is_dangerous() {
    let (_database, shell) = fleet(&["a", "b"]).await;
    shell.write(
        "migrations/tenant/008_strict.sql",
        "create table gift_cards (code text primary key);\nalter table orders add constraint positive check (total_minor >= 0);\n\
         create index on customers (created_at);\n",
    );
    shell.write(
        "migrations/tenant/009_index.sql",
        "-- cgk:no-transaction\ncreate index concurrently orders_created_at_idx on orders (created_at);\n",
    );
    assert_snapshot!(shell.transcript(&[
        "migrate --plan",
        "migrate --plan --format github -q",
        "migrate --plan --json"
    ]));
}

#[tokio::test]
async fn a_saved_plan_is_refused_once_something_has_moved() {
    let (_database, shell) = fleet(&["a", "b"]).await;
    shell.write("migrations/tenant/008_gift_cards.sql", "create table gift_cards (code text primary key);\n");
    assert_eq!(shell.run(&["migrate", "--plan-out", "plan.json"]).code, 0);
    assert_eq!(shell.run(&["migrate", "--tenant", "a"]).code, 0);
    assert_snapshot!(shell.transcript(&[
        "migrate --apply plan.json",
        "migrate --plan-out plan.json -q",
        "migrate --apply plan.json",
        "migrate --apply plan.json",
        "migrate --apply fleet.txt",
        "migrate --apply plan.json --tenant a",
    ]));
    // A plan whose part cannot be read is no plan of the whole fleet.
    let answer = shell.run(&["migrate", "--plan-out", "-", "--part", "1/2"]);
    let plan = answer.stdout;
    assert!(plan.contains("\"1/2\""), "{plan}");
    for broken in [plan.replace("\"1/2\"", "\"1 of 2\""), "{}".into()] {
        shell.write("plan.json", &broken);
        let answer = shell.run(&["migrate", "--apply", "plan.json"]);
        assert_eq!(answer.code, 2, "{}", answer.stderr);
        assert!(answer.stderr.contains("plan.json is not a plan"), "{}", answer.stderr);
    }
}

fn signal(child: &Child, name: &str) {
    let sent = Command::new("kill").args([&format!("-{name}"), &child.id().to_string()]).status().unwrap();
    assert!(sent.success());
}

/// Reads standard error up to a line that says this.
fn heard(errors: &mut BufReader<impl std::io::Read>, what: &str) -> String {
    let mut said = String::new();
    while !said.contains(what) {
        assert!(errors.read_line(&mut said).unwrap() > 0, "{what:?} was never said: {said}");
    }
    said
}

#[tokio::test]
async fn the_first_signal_stops_and_the_second_cancels() {
    for (name, code) in [("INT", 130), ("TERM", 143)] {
        let (database, shell) = fleet(&["a", "b", "c"]).await;
        let raw = crate::sandbox::Raw::on(&database).await;
        let sleeping = "select exists (select from pg_stat_activity where datname = current_database() and wait_event = 'PgSleep')";
        raw.run("create table public.gate (); insert into public.gate default values").await;
        let gate = "do $$ begin while exists (select from gate) loop perform pg_sleep(0.005); end loop; end $$;";
        shell.write("migrations/tenant/008_slow.sql", &format!("create table slow (); {gate}\n"));
        let mut child = shell.start(&["migrate", "-j", "1", "--no-rehearsal"]);
        raw.wait_until(sleeping).await;
        signal(&child, name);
        // The first tenant goes on once the signal is heard.
        let mut errors = BufReader::new(child.stderr.take().unwrap());
        heard(&mut errors, "stopping: ");
        raw.run("delete from public.gate").await;
        let answer = Answer::of(child.wait_with_output().unwrap());
        assert_eq!(answer.code, code, "{}{}", answer.stdout, answer.stderr);
        assert!(answer.stdout.contains("1 tenant migrated, 2 tenants not migrated"), "{}", answer.stdout);

        shell.write("migrations/tenant/009_slower.sql", "create table slower (); select pg_sleep(3600);\n");
        let mut child = shell.start(&["migrate", "-j", "2", "--no-rehearsal"]);
        raw.wait_until(sleeping).await;
        signal(&child, name);
        let mut errors = BufReader::new(child.stderr.take().unwrap());
        heard(&mut errors, "stopping: ");
        signal(&child, name);
        heard(&mut errors, "cancelling");
        let (mut said, mut out) = (String::new(), String::new());
        errors.read_to_string(&mut said).unwrap();
        child.stdout.take().unwrap().read_to_string(&mut out).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(code), "{out}{said}");
        assert!(out.contains("3 tenants not migrated"), "{out}{said}");
        let slower: i64 = raw.one("select count(*) from pg_class where relname = 'slower'").await;
        assert_eq!(slower, 0);
        raw.wait_until(&sleeping.replace("select exists", "select not exists")).await;
    }
}

/// A part of the fleet that goes well, on another machine, does not hide what failed in another part.
#[tokio::test]
async fn what_failed_in_one_part_is_retried_after_another_part_went_well() {
    let (database, shell) = fleet(&["a", "b", "c", "d"]).await;
    sql(&database, "insert into tenant_c.customers (first_name, email) values ('x', 'x@example.com')").await;
    shell.write("migrations/tenant/008_strict.sql", "alter table customers add column vat text not null;\n");
    let parts: Vec<i32> = (1..=4).map(|part| shell.run(&["migrate", "--part", &format!("{part}/4")]).code).collect();
    assert_eq!(parts.iter().filter(|code| **code == 4).count(), 1, "{parts:?}");
    assert_eq!(shell.run(&["migrate", "--tenant", "a,b,d"]).code, 0);
    assert_eq!(shell.run(&["migrate", "--retry-failed"]).code, 4);
    sql(&database, "delete from tenant_c.customers").await;
    assert_eq!(shell.run(&["migrate", "--retry-failed"]).code, 0);
    assert_eq!(shell.run(&["migrate:status", "--check"]).code, 0);
    assert!(shell.run(&["migrate", "--retry-failed"]).stdout.starts_with("Nothing to do"));
}

#[tokio::test]
async fn a_plan_goes_to_standard_output() {
    let (_database, shell) = fleet(&["a"]).await;
    shell.write("migrations/tenant/008_gift_cards.sql", "create table gift_cards (code text primary key);\n");
    let written = shell.run(&["migrate", "--plan-out", "-"]);
    serde_json::from_str::<serde_json::Value>(&written.stdout).unwrap();
    let kept = shell.run(&["migrate", "--plan-out", "plan.json"]);
    assert_eq!(kept.stderr.matches("Next:").count(), 1, "{}", kept.stderr);
    assert!(kept.stderr.contains("migrate --apply plan.json"), "{}", kept.stderr);
    assert_eq!(std::fs::read_to_string(shell.folder().join("plan.json")).unwrap(), written.stdout);
    assert!(!shell.folder().join("-").exists());
    assert_eq!(shell.run(&["migrate", "--apply", "/dev/null"]).code, 2);
    assert_eq!(shell.run(&["migrate", "--apply", "plan.json"]).code, 0);
}

#[tokio::test]
async fn a_long_list_is_bounded_and_csv_is_complete() {
    let (database, shell) = fleet(&["a"]).await;
    let short = shell.run(&["tenant:list"]);
    assert!(!short.stderr.contains("--all"), "the control: {}", short.stderr);
    let rows = "insert into organizations (id, slug, name, status) \
                select gen_random_uuid(), 't' || n, 'Number \"' || n || '\", Ltd.', 'active' from generate_series(1, 20) n";
    sql(&database, rows).await;
    let list = shell.run(&["tenant:list"]);
    assert!(list.stderr.contains("The first 20 of 21 tenants. --all lists every tenant."), "{}", list.stderr);
    assert_eq!(list.stdout.lines().count(), 21, "{}", list.stdout);
    let all = shell.run(&["tenant:list", "--all"]);
    assert_eq!(all.stdout.lines().count(), 22, "{}", all.stdout);
    let csv = shell.run(&["tenant:list", "--csv", "--wide", "--status", "active"]).stdout;
    let lines: Vec<&str> = csv.lines().collect();
    assert_eq!(
        lines[0],
        "tenant,id,name,status,schema,state,pending,head,created_at,drop_after,tables,rows_estimated,bytes"
    );
    assert_eq!(lines.len(), 22, "{csv}");
    let first = lines.iter().find(|line| line.starts_with("t1,")).unwrap();
    assert!(first.contains(r#","Number ""1"", Ltd.",active,tenant_t1,missing,,,"#), "{first}");
    // JSON is complete, as before.
    let json: serde_json::Value = serde_json::from_str(&shell.run(&["tenant:list", "--json"]).stdout).unwrap();
    assert_eq!(json["tenants"].as_array().unwrap().len(), 21);
    assert_eq!(shell.run(&["tenant:list", "--csv", "--json"]).code, 2);
}
