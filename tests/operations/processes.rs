//! `tenant:suspend` and `tenant:rename` while four other processes write without a pause: when the call has returned, no row comes
//! by the way that it closed.

use crate::{
    fixture::{enters, until},
    stage::{Stage, must_end, patient, slug},
};
use cgk::{
    Config, Db, Error, Operator,
    config::Isolation,
    ident::DatabaseTag,
    lifecycle::{self, RenameOptions, SuspendOptions},
    login::{self, LoginOptions, PasswordChange},
    testing::TestDatabase,
};
use std::{
    io::{BufRead, BufReader, Write},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

const PROCESSES: i32 = 4;
/// In each process: one that uses `with_tenant`, and one that uses `Db::tenant`.
const WRITERS: i64 = 2 * PROCESSES as i64;
const MARKS: &str = "(id bigserial primary key, process int not null, name text not null)";
const INSERT: &str = "insert into marks (process, name) values ($1, $2)";

const URL: &str = "CGK_TEST_WRITER_URL";
const NAMES: &str = "CGK_TEST_WRITER_NAMES";
const NUMBER: &str = "CGK_TEST_WRITER_NUMBER";
const MODE: &str = "CGK_TEST_WRITER_ISOLATION";

/// Not a test: what the tests below run in other processes. It writes to the tenant under whichever of its names is known, until
/// the tenant is suspended or its standard input ends, and says how many rows it committed.
#[tokio::test(flavor = "multi_thread")]
async fn a_writing_process() {
    let Ok(url) = std::env::var(URL) else { return };
    let text = |name: &str| std::env::var(name).unwrap();
    let isolation = if text(MODE) == "path" { Isolation::Path } else { Isolation::Role };
    let config = patient(&Config::from_url(&url).unwrap()).with_isolation(isolation).with_pool_size_max(2);
    let db = Db::connect(&config).await.unwrap();
    let (names, number) = (text(NAMES), text(NUMBER).parse().unwrap());
    let stop = Arc::new(AtomicBool::new(false));
    let told = stop.clone();
    std::thread::spawn(move || {
        std::io::stdin().read_line(&mut String::new()).unwrap();
        told.store(true, Ordering::SeqCst);
    });
    let one = write_on(&db, &names, number, false, &stop);
    let other = write_on(&db, &names, number, true, &stop);
    let ((some, end), (others, other_end)) = tokio::join!(one, other);
    assert_eq!(end, other_end);
    writeln!(std::io::stdout(), "written={} end={end}", some + others).unwrap();
}

/// Writes row after row; the answer is how many, and why it ended.
async fn write_on(db: &Db, names: &str, number: i32, in_one: bool, stop: &AtomicBool) -> (i64, &'static str) {
    let (mut written, mut names) = (0, names.split(',').cycle());
    let mut name = names.next().unwrap();
    while !stop.load(Ordering::SeqCst) {
        match write(db, name, number, in_one).await {
            Ok(()) => written += 1,
            Err(error) => match error.code() {
                "CGK0402" => return (written, "suspended"),
                // Renamed, or just being renamed.
                "CGK0401" | "CGK0403" | "CGK0408" => name = names.next().unwrap(),
                _ => panic!("{name}: {error:?}"),
            },
        }
    }
    (written, "stopped")
}

async fn write(db: &Db, name: &str, number: i32, in_one: bool) -> Result<(), Error> {
    let tenant = slug(name);
    if in_one {
        return db.tenant(&tenant).execute(INSERT, &[&number, &name]).await.map(drop);
    }
    db.with_tenant(&tenant, async |tx| tx.execute(INSERT, &[&number, &name]).await.map(drop)).await
}

/// Four processes that write. They end with this one: their standard input does.
struct Writers(Vec<Child>);

impl Writers {
    /// Starts them, with these numbers and the next three.
    fn start(url: &str, isolation: Isolation, names: &str, first: i32) -> Self {
        let start = |number: i32| {
            let mut command = Command::new(std::env::current_exe().unwrap());
            command.args(["processes::a_writing_process", "--exact", "--nocapture"]);
            command.env(URL, url).env(NAMES, names).env(NUMBER, number.to_string());
            command.env(MODE, if isolation == Isolation::Path { "path" } else { "role" });
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap()
        };
        Self((first..first + PROCESSES).map(start).collect())
    }

    /// Ends their standard input.
    fn stop(&mut self) {
        for child in &mut self.0 {
            drop(child.stdin.take());
        }
    }

    /// Waits until all have ended, in this way; how many rows they say they wrote.
    async fn ended(self, end: &str) -> i64 {
        let mut written = 0;
        for mut child in self.0 {
            let stdin = child.stdin.take();
            let said = tokio::task::spawn_blocking(move || {
                let lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
                let said = lines.filter(|line| line.contains("written=")).collect::<String>();
                // The pipe stays open until the process has ended by itself.
                let status = child.wait().unwrap();
                drop(stdin);
                (said, status)
            });
            let (said, status) = must_end(said).await.unwrap();
            assert!(status.success(), "a writer failed");
            let (rows, how) = said.split_once("written=").unwrap().1.split_once(" end=").unwrap();
            assert_eq!(how, end);
            written += rows.parse::<i64>().unwrap();
        }
        written
    }
}

/// The URL of a service's login of its own.
async fn writers_url(database: &TestDatabase, isolation: Isolation) -> String {
    let operator = Operator::connect(&patient(database.config()).with_isolation(isolation)).await.unwrap();
    let name = format!("app_writers_{}", DatabaseTag::of(database.name()).as_str()).parse().unwrap();
    let mut options = LoginOptions::default();
    options.password = PasswordChange::New;
    let admission = login::admit(&operator, &name, &options).await.unwrap();
    let password = admission.password.as_ref().unwrap().reveal();
    database.config().url_of(admission.name.as_str(), Some(password))
}

/// Each of these four processes has written three rows.
async fn until_all_write(stage: &Stage, first: i32) {
    let all = format!(
        "select count(*) = {PROCESSES} from (select from tenant_acme.marks where process >= {first} group by process having count(*) >= 3) p"
    );
    until(stage, "each process writes", &all).await;
}

const ROWS: &str = "select count(*) from tenant_acme.marks";
const HOLD: &str = "lock table tenant_acme.marks in share row exclusive mode";

async fn no_process_writes_after_a_suspension(stage: &Stage, isolation: Isolation) {
    stage.run(&format!("create table tenant_acme.marks {MARKS}")).await;
    let url = writers_url(&stage.database, isolation).await;
    let operator = stage.operator().await;

    // The control: a status that is changed by hand waits for nobody, and every writer that is inside writes a row after it.
    let writers = Writers::start(&url, isolation, "acme", 0);
    until_all_write(stage, 0).await;
    let holder = stage.holder(HOLD).await;
    stage.until_waiting(WRITERS).await;
    stage.run("update organizations set status = 'suspended' where slug = 'acme'").await;
    let rows = stage.count(ROWS).await;
    drop(holder);
    let written = writers.ended("suspended").await;
    let all = stage.count(ROWS).await;
    assert_eq!((all - rows, all), (WRITERS, written), "rows after the change by hand, and all");

    let mut written = all;
    for (first, is_held) in [(10, false), (20, true)] {
        lifecycle::activate(&operator, &slug("acme")).await.unwrap();
        let writers = Writers::start(&url, isolation, "acme", first);
        until_all_write(stage, first).await;
        if is_held {
            let holder = stage.holder(HOLD).await;
            stage.until_waiting(WRITERS).await;
            let operator = stage.operator().await;
            let suspending =
                tokio::spawn(
                    async move { lifecycle::suspend(&operator, &slug("acme"), &SuspendOptions::default()).await },
                );
            let suspended = "select status = 'suspended' from organizations where slug = 'acme'";
            until(stage, "the status is committed", suspended).await;
            assert!(!suspending.is_finished(), "transactions of other processes are inside");
            drop(holder);
            must_end(suspending).await.unwrap().unwrap();
        } else {
            must_end(lifecycle::suspend(&operator, &slug("acme"), &SuspendOptions::default())).await.unwrap();
        }
        let rows = stage.count(ROWS).await;
        written += writers.ended("suspended").await;
        let all = stage.count(ROWS).await;
        assert_eq!((all - rows, all), (0, written), "rows after it returned, and all; held: {is_held}");
    }
    enters(&stage.db, "globex").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn by_role_no_process_writes_after_a_suspension() {
    no_process_writes_after_a_suspension(&Stage::set().await, Isolation::Role).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn by_path_no_process_writes_after_a_suspension() {
    no_process_writes_after_a_suspension(&Stage::set_path_mode().await, Isolation::Path).await;
}

async fn no_process_writes_under_the_old_name(stage: &Stage, isolation: Isolation) {
    stage.run(&format!("create table tenant_acme.marks {MARKS}; create table tenant_globex.marks {MARKS}")).await;
    let url = writers_url(&stage.database, isolation).await;
    let mut writers = Writers::start(&url, isolation, "acme,apex", 0);
    until_all_write(stage, 0).await;
    let operator = stage.operator().await;
    for (from, new) in [("acme", "apex"), ("apex", "acme")].repeat(3) {
        let rows = format!("select count(*) from tenant_{new}.marks where name = '{from}'");
        must_end(lifecycle::rename(&operator, &slug(from), &RenameOptions::default().slug(slug(new)))).await.unwrap();
        let (before, newest) = (stage.count(&rows).await, format!("select max(id) from tenant_{new}.marks"));
        let newest = stage.count(&newest).await;
        // Each process goes on under the new name.
        let all = format!(
            "select count(distinct process) = {PROCESSES} from tenant_{new}.marks where name = '{new}' and id > {newest}"
        );
        until(stage, "each process writes under the new name", &all).await;
        assert!(before > 0, "the control: rows were written as {from}");
        assert_eq!(stage.count(&rows).await - before, 0, "rows as {from} after the rename to {new} returned");
    }
    writers.stop();
    let written = writers.ended("stopped").await;
    assert_eq!(stage.count(ROWS).await, written, "no row is lost, and none is there twice");
    assert_eq!(stage.count("select count(*) from tenant_globex.marks").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn by_role_no_process_writes_under_the_old_name_after_a_rename() {
    no_process_writes_under_the_old_name(&Stage::set().await, Isolation::Role).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn by_path_no_process_writes_under_the_old_name_after_a_rename() {
    no_process_writes_under_the_old_name(&Stage::set_path_mode().await, Isolation::Path).await;
}
