//! What an export locks, and what becomes of it when its locks are refused or taken away.

use crate::{
    fixture::left_of,
    stage::{Stage, must_end, patient, run, slug},
    support::cgk::Shell,
    transfer_fixture::{Folder, bare, create, export, set},
};
use cgk::{
    Error, ErrorKind, Operator, TenantSlug, TransferError,
    config::SessionSettings,
    lifecycle::{self, Archive, CloneOptions, ExistingFile, ExportOptions, ImportOptions, TransferObserver},
    migrate::{Migrations, Silent},
};
use std::{
    fs,
    num::NonZeroUsize,
    process::{Command, Stdio},
    time::Duration,
};

/// Runs something once, at the first piece.
struct Once<F: FnMut() + Send>(Option<F>);

impl<F: FnMut() + Send> TransferObserver for Once<F> {
    fn moved(&mut self, _: &TenantSlug, _: u64, _: u64) {
        if let Some(mut act) = self.0.take() {
            act();
        }
    }
}

fn wait_for<T>(work: impl Future<Output = T>) -> T {
    tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(work))
}

async fn two_tables() -> (Stage, Migrations) {
    let migrations = set(&[("900_two.sql", "create table big (id int, v text); create table small (id int)")]);
    let stage = bare(&migrations).await;
    create(&stage, &migrations, "acme").await;
    stage
        .run(
            "insert into tenant_acme.big select n, repeat('x', 900) from generate_series(1, 3000) n;
             insert into tenant_acme.small select generate_series(1, 10)",
        )
        .await;
    (stage, migrations)
}

/// TRUNCATE and a rewrite that commit while the lock is waited for: the snapshot is taken after them, and has the new rows. An
/// older snapshot would see an empty table.
#[tokio::test(flavor = "multi_thread")]
async fn what_commits_while_the_lock_is_waited_for_is_in_the_snapshot() {
    let (stage, migrations) = two_tables().await;
    let folder = Folder::new();
    let acme = slug("acme");
    for (number, jobs) in [1, 3].into_iter().enumerate() {
        let operator = Operator::connect(&patient(stage.database.config())).await.unwrap();
        let holder = stage
            .holder("truncate tenant_acme.small; insert into tenant_acme.small select generate_series(1, 4); alter table tenant_acme.big alter id type bigint using id")
            .await;
        let (file, options) =
            (folder.path(&number.to_string()), ExportOptions::default().jobs(NonZeroUsize::new(jobs).unwrap()));
        let mut silent = Silent;
        let export = lifecycle::export_to_file(&operator, &acme, &file, &options, &mut silent);
        let commit = async {
            stage.until_waiting(1).await;
            run(&holder, "commit; begin; alter table tenant_acme.big alter id type int; commit").await;
        };
        let (exported, ()) = must_end(async { tokio::join!(export, commit) }).await;
        assert_eq!(exported.unwrap().rows, 3004);
    }
    let operator = Operator::connect(&patient(stage.database.config())).await.unwrap();
    let holder = stage.holder("truncate tenant_acme.small; insert into tenant_acme.small values (1)").await;
    let (copy, options, mut silent) = (slug("copy"), CloneOptions::default(), Silent);
    let clone = lifecycle::clone_tenant(&operator, &migrations, &acme, &copy, &options, &mut silent);
    let commit = async {
        stage.until_waiting(1).await;
        run(&holder, "commit").await;
    };
    let (cloned, ()) = must_end(async { tokio::join!(clone, commit) }).await;
    assert_eq!(cloned.unwrap().rows, 3001);
}

/// The session that holds the tenant's locks names the command. Without it there is no file, and no table was changed: the
/// session that reads has its own locks.
#[tokio::test(flavor = "multi_thread")]
async fn an_export_whose_locks_are_lost_fails_and_its_tables_stay_locked() {
    let (stage, migrations) = two_tables().await;
    let (acme, folder) = (slug("acme"), Folder::new());
    let second = stage.operator().await;
    let mut ended = 0;
    let mut act = Once(Some(|| {
        wait_for(async {
            let details = lifecycle::show(&second, &migrations, &slug("acme")).await.unwrap();
            let names: Vec<&str> = details.sessions.iter().map(|session| session.application.as_str()).collect();
            assert!(names.len() == 1 && names[0].ends_with(" tenant:export"), "{names:?}");
            let end = "select count(pg_terminate_backend(pid)) from pg_stat_activity
                       where datname = current_database() and application_name like '% tenant:export'";
            ended = stage.count(end).await;
            run(&stage.watch, "set lock_timeout = '100ms'").await;
            for change in [
                "truncate tenant_acme.small",
                "alter table tenant_acme.small alter id type bigint",
                "drop table tenant_acme.small",
            ] {
                let refused = stage.watch.execute(change, &[]).await.expect_err("the export reads the table");
                assert_eq!(refused.code().unwrap().code(), "55P03", "{change}: {refused:?}");
            }
            run(&stage.watch, "reset lock_timeout").await;
        });
    }));
    let operator = stage.operator().await;
    let options = ExportOptions::default();
    let file = folder.path("x");
    let failed = must_end(lifecycle::export_to_file(&operator, &acme, &file, &options, &mut act)).await.unwrap_err();
    assert_eq!((ended, failed.kind(), failed.code()), (1, ErrorKind::Unavailable, "CGK0206"), "{failed:?}");
    assert!(failed.to_string().contains("keep tenant acme locked"), "{failed}");
    assert_eq!(folder.files(), 0);
    // What goes into a pipe is not whole.
    let mut act = Once(Some(|| {
        wait_for(stage.run(
            "select pg_terminate_backend(pid) from pg_stat_activity
            where datname = current_database() and application_name like '% tenant:export'",
        ));
    }));
    let pipe = fs::File::create(folder.path("pipe")).unwrap();
    let operator = stage.operator().await;
    must_end(lifecycle::export(&operator, &acme, pipe, &options, &mut act)).await.unwrap_err();
    assert_eq!(Archive::open(&folder.path("pipe")).unwrap_err().code(), "CGK0884");
    let exported = export(&stage, "acme", &file, &options).await;
    assert_eq!(exported.rows, 3010);
}

/// A table that somebody locks against readers is waited for as long as the setting says, and then named.
#[tokio::test(flavor = "multi_thread")]
async fn a_locked_table_is_named_after_the_lock_timeout() {
    let (stage, _) = two_tables().await;
    let _holder = stage.holder("lock table tenant_acme.small in access exclusive mode").await;
    let config = stage.database.config().clone();
    let session = SessionSettings { lock_timeout: Duration::from_millis(50), ..config.session().clone() };
    let operator = Operator::connect(&config.with_session(session)).await.unwrap();
    let folder = Folder::new();
    let (acme, file, options) = (slug("acme"), folder.path("x"), ExportOptions::default());
    let refused =
        must_end(lifecycle::export_to_file(&operator, &acme, &file, &options, &mut Silent)).await.unwrap_err();
    assert_eq!((refused.kind(), refused.code(), folder.files()), (ErrorKind::Locked, "CGK0890", 0), "{refused:?}");
    assert!(refused.to_string().contains("small (process "), "{refused}");
}

/// Links, pipes, devices and folders stay what they are.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_a_file_is_not_replaced() {
    let (stage, _) = two_tables().await;
    let (operator, folder) = (stage.operator().await, Folder::new());
    fs::write(folder.path("target"), "mine").unwrap();
    std::os::unix::fs::symlink(folder.path("target"), folder.path("link")).unwrap();
    std::os::unix::fs::symlink(folder.path("nothing"), folder.path("dangling")).unwrap();
    fs::create_dir(folder.path("folder")).unwrap();
    assert!(Command::new("mkfifo").arg(folder.path("fifo")).status().unwrap().success());
    let acme = slug("acme");
    for name in ["link", "dangling", "folder", "fifo"] {
        let path = folder.path(name);
        let kind = path.symlink_metadata().unwrap().file_type();
        for (existing, code) in [(ExistingFile::Refuse, "CGK0889"), (ExistingFile::Replace, "CGK0891")] {
            let options = ExportOptions::default().existing(existing);
            let refused = lifecycle::export_to_file(&operator, &acme, &path, &options, &mut Silent).await.unwrap_err();
            assert_eq!(refused.code(), code, "{name}: {refused:?}");
        }
        assert_eq!(path.symlink_metadata().unwrap().file_type(), kind, "{name}");
    }
    assert_eq!(fs::read(folder.path("target")).unwrap(), b"mine");
    // An import reads a pipe as `-`, and looks at its first bytes before it stores them.
    let refused = Archive::open(&folder.path("fifo")).unwrap_err();
    assert!(matches!(refused, Error::Transfer(TransferError::NotAFile { .. })), "{refused:?}");
    let foreign = Archive::spool(std::io::repeat(b'x'), &folder.path("nowhere")).unwrap_err();
    assert_eq!(foreign.code(), "CGK0882", "{foreign:?}");
}

/// Sessions that are idle while the rows are loaded are not needed after it.
#[tokio::test(flavor = "multi_thread")]
async fn an_import_does_not_need_sessions_that_were_idle() {
    let (stage, migrations) = two_tables().await;
    let folder = Folder::new();
    export(&stage, "acme", &folder.path("x"), &ExportOptions::default()).await;
    let copy = ImportOptions::default().slug(slug("copy"));
    let operator = stage.operator().await;
    let mut ended = 0;
    let mut act = Once(Some(|| {
        let end = "select count(pg_terminate_backend(pid)) from pg_stat_activity
                   where datname = current_database() and state = 'idle' and pid <> pg_backend_pid()";
        ended = wait_for(stage.count(end));
    }));
    let archive = Archive::open(&folder.path("x")).unwrap();
    let imported = must_end(lifecycle::import(&operator, &migrations, archive, &copy, &mut act)).await.unwrap();
    assert_eq!((imported.rows, left_of(&stage, "copy").await), (3010, [true; 3]));
    assert!(ended >= 1);
}

/// Ctrl-C, SIGTERM and a closed terminal end an export into a pipe that nobody reads.
#[tokio::test(flavor = "multi_thread")]
async fn an_export_into_a_stalled_pipe_ends_with_the_signal() {
    let stage = Stage::set().await;
    stage
        .run("insert into tenant_acme.customers (email) select md5(n::text) || '@x' from generate_series(1, 20000) n")
        .await;
    let shell = Shell::on(&stage.database);
    let waits = "select exists (select from pg_stat_activity where datname = current_database()
                 and application_name like '% tenant:export' and query = 'select')";
    let none = "select not exists (select from pg_stat_activity where datname = current_database()
                and application_name like '% tenant:export')";
    for (signal, code) in [("-INT", 130), ("-TERM", 143), ("-HUP", 143)] {
        let command = shell.command(&["tenant:export", "acme", "--to", "-"]);
        // Whoever runs the tests can ignore SIGHUP.
        let mut child = Command::new("env")
            .arg("--default-signal=HUP")
            .arg(command.get_program())
            .args(command.get_args())
            .current_dir(shell.folder())
            .envs([("DATABASE_URL", shell.database_url())])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        crate::fixture::until(&stage, "all rows are read", waits).await;
        assert!(Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap().success());
        let ended = must_end(tokio::task::spawn_blocking(move || {
            let unread = child.stdout.take();
            let status = child.wait().unwrap();
            (status, unread.is_some())
        }));
        let (status, was_unread) = ended.await.unwrap();
        assert_eq!((status.code(), was_unread), (Some(code), true), "{signal}");
        crate::fixture::until(&stage, "the export is gone", none).await;
    }
}
