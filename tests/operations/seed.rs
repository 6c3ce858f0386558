//! `tenant:seed`: each file once per tenant, with its record.

use crate::{
    fixture::{dropped, until},
    stage::{Stage, must_end, patient, slug},
    support::cgk::Shell,
};
use cgk::{
    ErrorKind, Operator,
    lifecycle::{self, RenameOptions, SeedOptions, SeedReport, SeedSet, SuspendOptions},
    migrate::{Canary, Interrupt, Scope, Selection, Silent, StopReason},
};
use std::num::NonZeroUsize;

const ONE: NonZeroUsize = NonZeroUsize::MIN;
const DEMO: &str = "insert into customers (email) values ('a@x'), ('b@x')";
const CUSTOMERS: &str =
    "select (select count(*) from tenant_acme.customers) * 10 + (select count(*) from tenant_globex.customers)";
const RECORDS: &str = "select count(*) from public.cgk_seeds";

fn demo() -> SeedSet {
    SeedSet::default().with_file("demo", DEMO).unwrap()
}

async fn seed_in(operator: &Operator, seeds: &SeedSet, slugs: &[&str], options: &SeedOptions) -> SeedReport {
    let scope = Scope::Only(slugs.iter().map(|text| slug(text)).collect());
    must_end(lifecycle::seed(operator, seeds, &scope.into(), options, &mut Silent)).await.unwrap()
}

async fn seed(operator: &Operator, seeds: &SeedSet) -> SeedReport {
    seed_in(operator, seeds, &["acme", "globex"], &SeedOptions::default()).await
}

/// What ran in the tenants, and what was changed, in the order of the slugs.
fn ran(report: &SeedReport) -> Vec<(Vec<String>, Vec<String>)> {
    let mut tenants: Vec<_> = report.tenants.iter().collect();
    tenants.sort_by_key(|tenant| &tenant.slug);
    tenants
        .iter()
        .map(|tenant| tenant.result.as_ref().unwrap())
        .map(|done| (done.ran.clone(), done.changed.clone()))
        .collect()
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(ToString::to_string).collect()
}

async fn once_then_again_then_changed(stage: &Stage, operator: &Operator, user: Option<&str>) {
    let first = seed(operator, &demo()).await;
    assert_eq!((ran(&first), stage.count(CUSTOMERS).await), (vec![(names(&["demo"]), vec![]); 2], 22), "{first:?}");
    assert_eq!(first.tenants[0].result.as_ref().unwrap().affected, 2);
    assert_eq!(ran(&seed(operator, &demo()).await), [(vec![], vec![]), (vec![], vec![])]);
    // A file beside it runs alone, after nothing and as the tenant's role.
    let more = "insert into customers (email, first_name) values ('c@x', current_user); select 1; update customers set phone = null where email = 'c@x'";
    let two = demo().with_file("also", more).unwrap();
    let report = seed_in(operator, &two, &["acme"], &SeedOptions::default()).await;
    assert_eq!(
        (ran(&report), report.tenants[0].result.as_ref().unwrap().affected),
        (vec![(names(&["also"]), vec![])], 2)
    );
    let who: String =
        stage.rows("select first_name from tenant_acme.customers where email = 'c@x'", &[]).await[0].get(0);
    assert_eq!(who, user.unwrap_or(&operator.facts().role));
    assert_eq!(stage.count(CUSTOMERS).await, 32);

    let edited = SeedSet::default().with_file("demo", "insert into customers (email) values ('d@x')").unwrap();
    let report = seed(operator, &edited).await;
    assert_eq!((ran(&report), stage.count(CUSTOMERS).await), (vec![(vec![], names(&["demo"])); 2], 32));
    let again = SeedOptions::default().again("demo");
    let report = seed_in(operator, &edited, &["acme"], &again).await;
    assert_eq!((ran(&report), stage.count(CUSTOMERS).await), (vec![(names(&["demo"]), vec![])], 42));
    // Its record is the new one there, and the old one elsewhere.
    assert_eq!(ran(&seed(operator, &edited).await), [(vec![], vec![]), (vec![], names(&["demo"]))]);
    assert_eq!(stage.count(RECORDS).await, 3);
    let unknown = SeedOptions::default().again("dmeo");
    let all = Selection::from(Scope::Tenants);
    let refused = lifecycle::seed(operator, &edited, &all, &unknown, &mut Silent).await.unwrap_err();
    assert_eq!((refused.code(), refused.kind()), ("CGK0956", ErrorKind::Invalid));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_seed_runs_once_as_the_tenants_role() {
    let stage = Stage::set().await;
    let tag: String = stage.rows("select cgk_database_tag()", &[]).await[0].get(0);
    once_then_again_then_changed(&stage, &stage.operator().await, Some(&format!("cgk_acme_{tag}"))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_seed_runs_once_under_path_isolation() {
    let stage = Stage::set_path_mode().await;
    once_then_again_then_changed(&stage, &stage.operator().await, None).await;
}

/// Nothing of a tenant that fails is committed, neither rows nor records, and the others go on.
#[tokio::test(flavor = "multi_thread")]
async fn a_failing_file_leaves_nothing_of_its_tenant() {
    let stage = Stage::set().await;
    let operator = stage.operator().await;
    stage.run("insert into tenant_acme.customers (email) values ('b@x')").await;
    let seeds = SeedSet::default().with_file("a", "insert into customers (email) values ('z@x')").unwrap();
    let seeds = seeds.with_file("b", &format!("select 1;\n-- x\n{DEMO}")).unwrap();
    assert_eq!([0, 1, 2, 3].map(|statement| seeds.files()[1].line(statement)), [None, Some(1), Some(3), None]);
    let report = seed(&operator, &seeds).await;
    assert_eq!(stage.count(CUSTOMERS).await, 13);
    let failed = report.tenants.iter().find(|tenant| tenant.result.is_err()).unwrap();
    assert_eq!((failed.slug.as_str(), &failed.failed_at), ("acme", &Some(("b".to_owned(), 2))));
    assert_eq!(report.failures().next().unwrap().1.sqlstate().unwrap().code(), "23505");
    assert_eq!(stage.count(RECORDS).await, 2);
    // What leaves the tenant is refused.
    for hostile in [
        "commit",
        "reset role",
        "set search_path to public",
        "select * from tenant_globex.customers",
        "select $1::int",
        "select * from public.cgk_seeds",
        "delete from public.cgk_seeds",
    ] {
        let text = format!("insert into customers (email) values ('y@x'); {hostile}; select 1");
        let seeds = SeedSet::default().with_file("hostile", &text).unwrap();
        let report = seed_in(&operator, &seeds, &["acme"], &SeedOptions::default()).await;
        assert_eq!((report.failures().count(), stage.count(CUSTOMERS).await), (1, 13), "{hostile}");
    }
    assert_eq!(stage.count(RECORDS).await, 2);
    // The cause is gone: both files run.
    stage.run("delete from tenant_acme.customers").await;
    let report = seed(&operator, &seeds).await;
    assert_eq!(
        (ran(&report), stage.count(CUSTOMERS).await),
        (vec![(names(&["a", "b"]), vec![]), (vec![], vec![])], 33)
    );
}

/// The options of a run are those of `tenant:exec`.
#[tokio::test(flavor = "multi_thread")]
async fn canaries_budget_and_interrupt_stop_a_run() {
    let stage = Stage::set().await;
    let operator = stage.operator().await;
    lifecycle::suspend(&operator, &slug("acme"), &SuspendOptions::default()).await.unwrap();
    let canary = SeedOptions::default().canary(Canary::These(vec![slug("acme")])).jobs(ONE);
    let stopped = seed_in(&operator, &demo(), &["acme", "globex"], &canary).await.stopped.unwrap();
    assert_eq!((stopped.reason, stopped.left), (StopReason::Canary, 1));
    let budget = SeedOptions::default().failures_max(ONE).jobs(ONE);
    let report = seed_in(&operator, &demo(), &["acme", "globex"], &budget).await;
    assert_eq!(report.stopped.map(|stop| (stop.reason, stop.left)), Some((StopReason::Failures, 1)));
    let interrupt = Interrupt::new();
    interrupt.stop();
    let report = seed_in(&operator, &demo(), &["globex"], &SeedOptions::default().interrupt(&interrupt)).await;
    assert_eq!(report.stopped.map(|stop| (stop.reason, stop.left)), Some((StopReason::Interrupted, 1)));
    assert_eq!((stage.count(CUSTOMERS).await, stage.count(RECORDS).await), (0, 0));
    // A suspended tenant is refused, and one that is not there is an error of the whole.
    let report = seed(&operator, &demo()).await;
    assert_eq!(
        report.failures().map(|(slug, error)| (slug.to_string(), error.code())).collect::<Vec<_>>(),
        [("acme".to_owned(), "CGK0402")]
    );
    let missing = Selection::from(Scope::Only(vec![slug("akme")]));
    let refused =
        lifecycle::seed(&operator, &demo(), &missing, &SeedOptions::default(), &mut Silent).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::NotFound);
}

/// Two sessions at once run a file once in each tenant; a third that is cancelled leaves neither rows nor records.
#[tokio::test(flavor = "multi_thread")]
async fn two_at_once_seed_once() {
    let stage = Stage::set().await;
    let config = patient(stage.database.config());
    let run = |interrupt: Interrupt| {
        let config = config.clone();
        tokio::spawn(async move {
            let operator = Operator::connect(&config).await.unwrap();
            seed_in(&operator, &demo(), &["acme", "globex"], &SeedOptions::default().interrupt(&interrupt)).await
        })
    };
    seed_in(&stage.operator().await, &demo(), &[], &SeedOptions::default()).await;
    let holder =
        stage.holder("lock table tenant_acme.customers, tenant_globex.customers in access exclusive mode").await;
    let interrupt = Interrupt::new();
    let cancelled = run(interrupt.clone());
    stage.until_waiting(1).await;
    interrupt.cancel();
    let report = must_end(cancelled).await.unwrap();
    assert_eq!(report.stopped.unwrap().reason, StopReason::Interrupted);
    until(&stage, "it is rolled back", "select not exists (select from pg_locks l where not granted)").await;
    assert_eq!(stage.count(RECORDS).await, 0);

    // Both wait: one for the table, the other for the first one's record.
    let both = [run(Interrupt::new()), run(Interrupt::new())];
    stage.until_waiting(2).await;
    drop(holder);
    let mut times = 0;
    for run in both {
        let report = must_end(run).await.unwrap();
        assert_eq!(report.failures().count(), 0, "{report:?}");
        times += ran(&report).iter().filter(|(ran, _)| !ran.is_empty()).count();
    }
    assert_eq!((times, stage.count(CUSTOMERS).await, stage.count(RECORDS).await), (2, 22, 2));
}

/// A killed session leaves neither rows nor records, and the next run continues.
#[tokio::test(flavor = "multi_thread")]
async fn a_killed_run_is_continued() {
    let stage = Stage::set().await;
    let holder = stage.holder("lock table tenant_globex.customers in access exclusive mode").await;
    let config = patient(stage.database.config());
    let run = tokio::spawn(async move {
        let operator = Operator::connect(&config).await.unwrap();
        seed_in(&operator, &demo(), &["acme", "globex"], &SeedOptions::default().jobs(ONE)).await
    });
    stage.until_waiting(1).await;
    stage.kill_waiting().await;
    let report = must_end(run).await.unwrap();
    assert_eq!(report.failures().count(), 1, "{report:?}");
    drop(holder);
    assert_eq!((stage.count(CUSTOMERS).await, stage.count(RECORDS).await), (20, 1));
    let report = seed(&stage.operator().await, &demo()).await;
    assert_eq!(ran(&report), [(vec![], vec![]), (names(&["demo"]), vec![])]);
    assert_eq!(stage.count(CUSTOMERS).await, 22);
}

/// The records go where their tenant goes: they stay with a new slug, are copied by a clone, and are gone with a drop.
#[tokio::test(flavor = "multi_thread")]
async fn records_belong_to_the_organization() {
    let stage = Stage::set().await;
    let operator = stage.operator().await;
    seed(&operator, &demo()).await;
    let options = RenameOptions::default().slug(slug("acme2"));
    lifecycle::rename(&operator, &slug("acme"), &options).await.unwrap();
    let report = seed_in(&operator, &demo(), &["acme2"], &SeedOptions::default()).await;
    assert_eq!(ran(&report), [(vec![], vec![])]);
    let migrations = cgk::migrate::Migrations::bundled();
    let options = Default::default();
    lifecycle::clone_tenant(&operator, &migrations, &slug("acme2"), &slug("copy"), &options, &mut Silent)
        .await
        .unwrap();
    let report = seed_in(&operator, &demo(), &["copy"], &SeedOptions::default()).await;
    assert_eq!((ran(&report), stage.count(RECORDS).await), (vec![(vec![], vec![])], 3));
    dropped(&stage, "acme2").await;
    assert_eq!(stage.count(RECORDS).await, 2);
    // The table does not count as a difference, and a service cannot read it.
    let drift = cgk::drift::verify(&operator, &migrations, &Scope::Everything).await.unwrap();
    assert!(!drift.has_drift(), "{drift:#?}");
    let service: cgk::Db = stage.db.clone();
    let read = service.tenant(&slug("globex")).query("select 1 from public.cgk_seeds", &[]).await.unwrap_err();
    assert_eq!(read.sqlstate().unwrap().code(), "42501");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_seeds() {
    let stage = Stage::set().await;
    let shell = Shell::on(&stage.database);
    for (arguments, exit, says) in [
        (&["acme"][..], 2, "CGK0954"),
        (&["acme", "--dir", "."], 2, "CGK0954"),
        (&[], 2, "SLUG"),
        (&["acme", "--all"], 2, "--all"),
    ] {
        let answer = shell.run(&[&["tenant:seed"], arguments].concat());
        let text = answer.stdout + &answer.stderr;
        assert!(answer.code == exit && text.contains(says), "{arguments:?}: {}\n{text}", answer.code);
    }
    std::fs::create_dir_all(shell.folder().join("seeds/tenant/folder.sql")).unwrap();
    shell.write("seeds/tenant/demo.sql", DEMO);
    shell.write("seeds/tenant/notes.md", "no seed");
    let answer = shell.run(&["tenant:seed", "acme"]);
    assert!(answer.code == 0 && answer.stdout.starts_with("seeded tenant acme: demo (2 rows)"), "{answer:?}");
    let answer = shell.run(&["tenant:seed", "--all", "--json"]);
    let records: Vec<serde_json::Value> =
        answer.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let last = records.last().unwrap();
    assert_eq!(
        (answer.code, &last["seeded"], &last["unchanged"], &last["failed"]),
        (0, &1.into(), &1.into(), &0.into())
    );
    assert_eq!((&records[0]["event"], &records[0]["seeds"][0]), (&"start".into(), &"demo".into()));
    assert_eq!(stage.count(CUSTOMERS).await, 22);

    shell.write("seeds/tenant/demo.sql", "insert into customers (email) values ('c@x')");
    let answer = shell.run(&["tenant:seed", "acme"]);
    assert!(answer.code == 0 && answer.stderr.contains("--again demo"), "{answer:?}");
    let answer = shell.run(&["tenant:seed", "acme", "--again", "demo.sql"]);
    assert_eq!((answer.code, stage.count(CUSTOMERS).await), (0, 32), "{answer:?}");
    let answer = shell.run(&["tenant:seed", "acme", "--again", "other"]);
    assert!(answer.code == 2 && answer.stderr.contains("CGK0956"), "{answer:?}");
    // In globex it fails: its address exists.
    stage.run("insert into tenant_globex.customers (email) values ('c@x')").await;
    let answer = shell.run(&["tenant:seed", "--all", "--again", "demo", "--exclude", "acme", "--json"]);
    assert!(
        answer.code == 4 && answer.stdout.contains(r#""failed_seed":"demo","failed_statement":1,"failed_line":"#),
        "{answer:?}"
    );
    shell.write("seeds/tenant/copy.sql", "copy customers to stdout");
    let answer = shell.run(&["tenant:seed", "acme"]);
    assert!(answer.code == 2 && answer.stderr.contains("CGK0955") && answer.stderr.contains("copy"), "{answer:?}");
    // A file that would be left out silently.
    shell.write("seeds/tenant/copy.sql", "select 1");
    shell.write("seeds/tenant/UP.SQL", "select 1");
    let answer = shell.run(&["tenant:seed", "acme"]);
    assert!(
        answer.code == 2 && answer.stderr.contains("CGK0955") && answer.stderr.contains("lower case"),
        "{answer:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn new_tenants_are_seeded() {
    let stage = Stage::set().await;
    let shell = Shell::on(&stage.database);
    let answer = shell.run(&["tenant:create", "first", "--seed"]);
    assert!(answer.code == 2 && answer.stderr.contains("CGK0954"), "{answer:?}");
    assert_eq!(stage.count("select count(*) from organizations where slug = 'first'").await, 0);
    shell.write("seeds/tenant/demo.sql", DEMO);
    let answer = shell.run(&["tenant:create", "first", "--seed"]);
    assert!(answer.code == 0 && answer.stdout.contains("seeded tenant first: demo"), "{answer:?}");
    let answer = shell.run(&["tenant:create", "second", "third", "--seed", "--json"]);
    assert!(answer.code == 0 && answer.stdout.matches(r#""event":"seed""#).count() == 2, "{answer:?}");
    let rows = "select (select count(*) from tenant_first.customers) + (select count(*) from tenant_second.customers) + (select count(*) from tenant_third.customers)";
    assert_eq!(stage.count(rows).await, 6);
    // The tenant is there, and the seed is not.
    shell.write("seeds/tenant/demo.sql", "select 1 / 0");
    let answer = shell.run(&["tenant:create", "fourth", "--seed"]);
    assert_eq!((answer.code, stage.count("select count(*) from tenant_fourth.customers").await), (4, 0), "{answer:?}");
}
