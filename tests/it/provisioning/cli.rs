//! `cgk provision`, run as a process.

use super::*;
use crate::support::{
    cgk::{Answer, Shell},
    patience::must_end,
};
use cgk::testing::TestServer;
use insta::assert_snapshot;
use regex::Regex;
use std::{collections::BTreeMap, path::Path, process::Command};

fn signal(child: &std::process::Child, name: &str) {
    let sent = Command::new("kill").args([&format!("-{name}"), &child.id().to_string()]).status().unwrap();
    assert!(sent.success());
}

async fn ended(child: std::process::Child) -> Answer {
    let waiting = tokio::task::spawn_blocking(move || Answer::of(child.wait_with_output().unwrap()));
    must_end("the process", waiting).await.unwrap()
}

#[tokio::test]
async fn what_people_and_programs_see() {
    let site = Site::set().await;
    let shell = Shell::on(&site.platform.stage.database);
    let tame = |text: &str| {
        let pauses =
            Regex::new(r"next attempt in [^)]*").unwrap().replace_all(text, "next attempt in <time>").into_owned();
        let pauses = Regex::new("\"pause_ms\":[0-9]+").unwrap().replace_all(&pauses, "\"pause_ms\":0").into_owned();
        let instants = Regex::new(r"\d{4}-\d\d-\d\dT[0-9:]+Z").unwrap();
        instants.replace_all(&pauses, "<instant>").into_owned()
    };
    let empty = shell.transcript(&["provision", "provision:list", "provision:retry --failed", "provision:retry acme"]);
    for name in ["foreign", "initech"] {
        site.request(name).await;
    }
    site.platform.stage.sql("create schema tenant_foreign").await;
    let text = shell.transcript(&[
        "provision",
        "provision:list",
        "provision:list --json",
        "provision:retry --failed",
        "provision --json",
        "provision:retry foreign --json",
        "provision:list --all",
        "provision:retry initech",
        "provision --poll 3",
    ]);
    assert_snapshot!(tame(&format!("{empty}{text}")));
}

/// 50 requests, two servers: each is created once.
#[tokio::test]
async fn two_servers_share_the_queue() {
    let site = Site::set().await;
    let shell = Shell::on(&site.platform.stage.database);
    let servers: Vec<_> = (0..2).map(|_| shell.start(&["provision", "--watch", "--json", "-q"])).collect();
    for number in 0..50 {
        site.request(&format!("t{number}")).await;
    }
    site.platform.stage.until("select count(*) = 50 from provisioning_requests where status = 'done'").await;
    let mut attempts: BTreeMap<String, usize> = BTreeMap::new();
    for server in servers {
        signal(&server, "TERM");
        let answer = ended(server).await;
        assert_eq!(answer.code, 0, "{}", answer.stderr);
        for line in answer.stdout.lines() {
            let record: serde_json::Value = serde_json::from_str(line).unwrap();
            if record["event"] == "attempt" {
                assert_eq!(record["result"], "created", "{record}");
                *attempts.entry(record["tenant"].as_str().unwrap().to_owned()).or_default() += 1;
            }
        }
    }
    assert!(attempts.len() == 50 && attempts.values().all(|times| *times == 1), "{attempts:?}");
    assert_eq!(site.platform.stage.number("select sum(attempts) from provisioning_requests").await, 50);
    let active = "select count(*) from organizations where slug like 't%' and status = 'active'";
    assert_eq!(site.platform.stage.number(active).await, 50);
}

/// The bundled set and a file that waits for whoever holds the gate.
fn write_gated(shell: &Shell) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations");
    for set in ["public", "tenant"] {
        for file in std::fs::read_dir(root.join(set)).unwrap() {
            let path = file.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            shell.write(&format!("migrations/{set}/{name}"), &std::fs::read_to_string(&path).unwrap());
        }
    }
    shell.write(
        "migrations/tenant/008_gate.sql",
        "create table gate as select pg_advisory_xact_lock(4711) is null as open;\n",
    );
    shell.write("cgk.toml", "migrations = \"migrations\"\n");
}

/// A server is killed while it creates a tenant; the next one creates it.
#[tokio::test]
async fn a_server_that_is_killed_in_the_middle_is_followed_by_the_next() {
    let database = TestServer::shared().set_up_database().await.unwrap();
    let shell = Shell::on(&database);
    write_gated(&shell);
    let watch = crate::stage::connect(database.name()).await;
    let gate = crate::stage::connect(database.name()).await;
    crate::stage::run(&gate, "select pg_advisory_lock(4711)").await.unwrap();
    let db: Db<ProvisioningError> = database.db().await.unwrap().errors();
    let provisioning = Provisioning::new(&db);
    let new = NewOrganization::new(slug("initech"));
    let requested = db.platform().transaction(async |tx| provisioning::request(tx, &new).await).await.unwrap();

    let first = shell.start(&["provision"]);
    let until = async |sql: &str| {
        while !watch.query_one(sql, &[]).await.unwrap().get::<_, bool>(0) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let waits = "from pg_locks where locktype = 'advisory' and not granted and objid = 4711
                 and database = (select oid from pg_database where datname = current_database())";
    must_end("the first server", until(&format!("select count(*) = 1 {waits}"))).await;
    // In the middle: it has made the schema, and nobody sees it.
    let seen: i64 = watch
        .query_one("select count(*) from pg_namespace where nspname = 'tenant_initech'", &[])
        .await
        .unwrap()
        .get(0);
    assert_eq!(seen, 0);
    // Another server finds the request taken.
    let beside = ended(shell.start(&["provision", "--json"])).await;
    assert!(beside.code == 0 && beside.stdout.contains("\"done\":0,\"postponed\":0,\"failed\":0"), "{}", beside.stdout);
    signal(&first, "KILL");
    assert_eq!(ended(first).await.code, 137);
    let request = provisioning.find(requested.id).await.unwrap();
    assert_eq!((request.status.as_str(), request.attempts), ("pending", 1));

    let second = shell.start(&["provision", "--watch", "--json"]);
    crate::stage::run(&gate, "select pg_advisory_unlock(4711)").await.unwrap();
    let request = must_end("the tenant", provisioning.wait(requested.id, NEVER)).await.unwrap();
    assert_eq!((request.status.as_str(), request.attempts, request.failure), ("done", 2, None));
    signal(&second, "INT");
    assert_eq!(ended(second).await.code, 0);
    let count: i64 = db
        .errors::<cgk::Error>()
        .tenant(&slug("initech"))
        .query_one("select count(*) from gate", &[])
        .await
        .unwrap()
        .get(0);
    assert_eq!(count, 1);
}
