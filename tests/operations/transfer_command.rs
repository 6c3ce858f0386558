//! `tenant:export` and `tenant:import` as people and programs see them.

use crate::{
    fixture::left_of,
    stage::{Stage, slug},
    support::cgk::Shell,
    transfer_fixture::Folder,
};
use cgk::lifecycle::{self, ExportManyOptions, ExportResult};
use cgk::migrate::{Interrupt, Scope, Selection, Silent};
use serde_json::Value;
use std::{fs, num::NonZeroUsize, process::Stdio};

const ROWS: &str = "insert into tenant_acme.customers (email) values ('a@x'), ('b@x')";
const COUNT: &str = "select count(*) from tenant_copy.customers";

fn json(stdout: &str) -> Vec<Value> {
    stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_goes_out_and_comes_in() {
    let stage = Stage::set().await;
    stage.run(ROWS).await;
    let shell = Shell::on(&stage.database);
    let answer = shell.run(&["tenant:export", "acme", "--to", "acme.cgk"]);
    assert_eq!(answer.code, 0, "{}", answer.stderr);
    assert!(
        answer.stdout.starts_with("exported tenant acme: ") && answer.stdout.contains("2 rows"),
        "{}",
        answer.stdout
    );
    let answer = shell.run(&["tenant:export", "acme", "--to", "acme.cgk"]);
    assert!(
        answer.code == 1 && answer.stderr.contains("CGK0889") && answer.stderr.contains("--force"),
        "{}",
        answer.stderr
    );
    let answer = shell.run(&["tenant:export", "acme", "--to", "acme.cgk", "--force", "--jobs", "3", "--json"]);
    let record = &json(&answer.stdout)[0];
    assert_eq!((answer.code, &record["rows"], &record["path"]), (0, &2.into(), &"acme.cgk".into()));

    let answer = shell.run(&["tenant:import", "acme.cgk"]);
    assert!(
        answer.code == 1 && answer.stderr.contains("CGK0886") && answer.stderr.contains("--as"),
        "{}",
        answer.stderr
    );
    let answer = shell.run(&["tenant:import", "acme.cgk", "--as", "copy", "--json"]);
    let record = &json(&answer.stdout)[0];
    assert_eq!(
        (answer.code, &record["rows"], &record["from_tenant"]),
        (0, &2.into(), &"acme".into()),
        "{}",
        answer.stderr
    );
    assert_eq!((&record["name"], &record["status"], stage.count(COUNT).await), (&"copy".into(), &"active".into(), 2));
    stage.db.tenant(&slug("copy")).query("select 1 from customers", &[]).await.unwrap();
    let answer = shell.run(&["tenant:import", "acme.cgk", "--as", "third", "--name", "The Third"]);
    assert!(answer.code == 0 && answer.stdout.starts_with("imported tenant third (The Third): "), "{}", answer.stderr);

    let mut bytes = fs::read(shell.folder().join("acme.cgk")).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(shell.folder().join("bad.cgk"), bytes).unwrap();
    for (arguments, exit, says) in [
        (&["tenant:import", "bad.cgk", "--as", "fourth"][..], 2, "CGK0884"),
        (&["tenant:import", "none.cgk"], 1, "CGK0881"),
        (&["tenant:import", "acme.cgk", "--as", "Fourth"], 2, "CGK0101"),
        (&["tenant:export", "akme", "--to", "x"], 1, "CGK0401"),
        (&["tenant:export", "--to", "x"], 2, "TENANT"),
        (&["tenant:export", "acme", "--to", "none/x"], 1, "CGK0881"),
        (&["tenant:export", "acme", "--to", "-", "--json"], 2, "standard output"),
    ] {
        let answer = shell.run(arguments);
        let text = answer.stdout + &answer.stderr;
        assert!(answer.code == exit && text.contains(says), "{arguments:?}: {}\n{text}", answer.code);
    }
    assert_eq!(left_of(&stage, "fourth").await, [false; 3]);
}

#[tokio::test(flavor = "multi_thread")]
async fn it_goes_through_pipes() {
    let stage = Stage::set().await;
    stage.run(ROWS).await;
    let shell = Shell::on(&stage.database);
    let mut export = shell.command(&["tenant:export", "acme", "--to", "-"]).spawn().unwrap();
    let mut import = shell.command(&["tenant:import", "-", "--as", "copy"]);
    let imported = import.stdin(Stdio::from(export.stdout.take().unwrap())).output().unwrap();
    assert!(imported.status.success(), "{}", String::from_utf8_lossy(&imported.stderr));
    assert!(export.wait().unwrap().success());
    assert_eq!(stage.count(COUNT).await, 2);
    assert_eq!(fs::read_dir(shell.folder()).unwrap().count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn all_tenants_go_into_a_folder_and_a_second_run_continues() {
    let stage = Stage::set().await;
    stage.run(ROWS).await;
    let shell = Shell::on(&stage.database);
    let run = |extra: &[&str]| {
        let answer = shell.run(&[&["tenant:export", "--all", "--to", "out", "--json"], extra].concat());
        let records = json(&answer.stdout);
        let results: std::collections::BTreeMap<String, String> = records
            .iter()
            .filter(|record| record["event"] == "tenant")
            .map(|record| {
                (record["tenant"].as_str().unwrap().to_owned(), record["result"].as_str().unwrap().to_owned())
            })
            .collect();
        (answer.code, results.into_values().collect::<Vec<_>>(), records.last().unwrap().clone())
    };
    let (exit, results, last) = run(&["--jobs", "2"]);
    assert_eq!((exit, results), (0, vec!["exported".to_owned(); 2]), "{last}");
    assert_eq!((&last["exported"], &last["skipped"], &last["left"]), (&2.into(), &0.into(), &0.into()));

    // One file is whole, one is damaged and made again.
    let globex = shell.folder().join("out/globex.cgk");
    let whole = fs::read(&globex).unwrap();
    fs::write(&globex, &whole[..whole.len() / 2]).unwrap();
    assert_eq!(run(&[]).1, ["skipped", "exported"]);
    assert_eq!(run(&["--force"]).1, ["exported", "exported"]);
    // A file that is no export is somebody's.
    fs::write(&globex, "mine").unwrap();
    let (exit, results, last) = run(&[]);
    assert_eq!((exit, results, &last["failed"]), (4, vec!["skipped".to_owned(), "failed".to_owned()], &1.into()));
    assert_eq!(fs::read(&globex).unwrap(), b"mine");
    assert_eq!(fs::read_dir(shell.folder().join("out")).unwrap().count(), 2);

    let answer = shell.run(&["tenant:export", "--all", "--to", "people"]);
    assert!(answer.stdout.contains("exported acme: ") && answer.stderr.contains("2 tenants exported"), "{answer:?}");
}

/// The library's own, which the command shows.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_is_stopped_between_tenants() {
    let stage = Stage::set().await;
    let folder = Folder::new();
    let operator = stage.operator().await;
    let interrupt = Interrupt::new();
    interrupt.stop();
    let all = Selection::from(Scope::Tenants);
    let options = ExportManyOptions::default().jobs(NonZeroUsize::MIN).interrupt(&interrupt);
    let report = lifecycle::export_many(&operator, &all, &folder.path(""), &options, &mut Silent).await.unwrap();
    assert_eq!((report.tenants.len(), report.stopped.unwrap().left, folder.files()), (0, 2, 0));
    let only = Selection::from(Scope::Only(vec![slug("acme")]));
    let options = ExportManyOptions::default();
    let report = lifecycle::export_many(&operator, &only, &folder.path(""), &options, &mut Silent).await.unwrap();
    assert_eq!((report.failures().count(), report.tenants[0].path.clone()), (0, folder.path("acme.cgk")));
    assert!(matches!(report.tenants[0].result, Ok(ExportResult::Exported(_))));
    // Suspended tenants have data too, and one that is not there is named.
    lifecycle::suspend(&operator, &slug("globex"), &Default::default()).await.unwrap();
    let report = lifecycle::export_many(&operator, &all, &folder.path(""), &options, &mut Silent).await.unwrap();
    assert_eq!((report.failures().count(), folder.files()), (0, 2));
    let missing = Selection::from(Scope::Only(vec![slug("akme")]));
    assert!(lifecycle::export_many(&operator, &missing, &folder.path(""), &options, &mut Silent).await.is_err());
}

/// Ctrl-C while a table is locked: no file, and the exit code of an interruption.
#[tokio::test(flavor = "multi_thread")]
async fn ctrl_c_leaves_no_half_file() {
    let stage = Stage::set().await;
    let shell = Shell::on(&stage.database).set("CGK_LOCK_TIMEOUT", "10min");
    let _holder = stage.holder("lock table tenant_acme.customers in access exclusive mode").await;
    let child = shell.start(&["tenant:export", "acme", "--to", "acme.cgk"]);
    stage.until_waiting(1).await;
    assert_eq!(fs::read_dir(shell.folder()).unwrap().count(), 1, "a partial file is there");
    let killed = std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(killed.success());
    let answer = child.wait_with_output().unwrap();
    assert_eq!(answer.status.code(), Some(130), "{}", String::from_utf8_lossy(&answer.stderr));
    assert_eq!(fs::read_dir(shell.folder()).unwrap().count(), 0);
}

/// The file is written before anything is removed, and brings the tenant back.
#[tokio::test(flavor = "multi_thread")]
async fn a_drop_exports_first() {
    let stage = Stage::set().await;
    stage.run(ROWS).await;
    let shell = Shell::on(&stage.database);
    let drop = |file: &str| shell.run(&["tenant:drop", "acme", "--confirm", "acme", "--json", "--export", file]);
    shell.write("mine", "mine");
    let status = "select count(*) from organizations where slug = 'acme' and status = 'active'";
    let answer = drop("mine");
    assert!(answer.code == 1 && answer.stdout.contains("CGK0889"), "{answer:?}");
    assert_eq!(stage.count(status).await, 1);
    // An export that fails removes nothing, and says what is left to do.
    let answer = drop("none/acme.cgk");
    assert!(answer.code == 1 && answer.stdout.contains("CGK0881"), "{answer:?}");
    assert!(answer.stderr.contains("cgk tenant:activate acme"), "{answer:?}");
    assert_eq!((stage.count(status).await, stage.count("select count(*) from tenant_acme.customers").await), (0, 2));

    let answer = drop("acme.cgk");
    assert_eq!((answer.code, &json(&answer.stdout)[0]["export"]), (0, &"acme.cgk".into()), "{answer:?}");
    assert_eq!(left_of(&stage, "acme").await, [false; 3]);
    assert_eq!(shell.run(&["tenant:import", "acme.cgk"]).code, 0);
    assert_eq!(stage.count("select count(*) from tenant_acme.customers").await, 2);
    assert_eq!(stage.count(status).await, 1);
}
