//! Exports and imports that do not go as planned: damaged files, killed sessions, dropped calls.

use crate::{
    fixture::{left_of, plain_acme},
    stage::{Stage, app_login, connect, must_end, run, slug},
    transfer_fixture::{Folder, bare, contents, create, export, import, rich, set},
};
use cgk::{
    Db, Error, ErrorKind, Operator, TenantSlug, TransferError,
    config::Isolation,
    lifecycle::{self, Archive, ExportOptions, ImportOptions, TransferObserver},
    migrate::Silent,
    setup,
    testing::TestServer,
};
use std::{fs, path::Path};
use tokio_postgres::Client;

fn code(bytes: &[u8], path: &Path) -> &'static str {
    fs::write(path, bytes).unwrap();
    Archive::open(path).expect_err("the file is damaged").code()
}

/// Wherever a bit differs and wherever the file ends, it is refused before anything is created.
#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_file_is_refused() {
    let (source, _) = rich("acme").await;
    let folder = Folder::new();
    let (file, bad) = (folder.path("acme.cgk"), folder.path("bad"));
    export(&source, "acme", &file, &ExportOptions::default()).await;
    let whole = fs::read(&file).unwrap();
    Archive::open(&file).unwrap();
    assert!(whole.len() > 4000);

    let mut damaged = whole.clone();
    for at in (0..64).chain((64..whole.len()).step_by(23)).chain(whole.len() - 40..whole.len()) {
        damaged[at] ^= 1 << (at % 8);
        let found = code(&damaged, &bad);
        let wanted: &[&str] = match at {
            0..12 => &["CGK0882"],
            12..16 => &["CGK0883", "CGK0884"],
            _ => &["CGK0884"],
        };
        assert!(wanted.contains(&found), "byte {at}: {found}");
        damaged[at] = whole[at];
    }
    for end in (0..64).chain((64..whole.len()).step_by(97)).chain(whole.len() - 40..whole.len()) {
        let wanted = if end < 12 { "CGK0882" } else { "CGK0884" };
        assert_eq!(code(&whole[..end], &bad), wanted, "cut at {end}");
    }
    assert_eq!(code(&[&whole[..], b"x"].concat(), &bad), "CGK0884");
    assert_eq!(code(b"-- PostgreSQL database dump\n", &bad), "CGK0882");
    assert_eq!(code(&[&whole[..12], &2_u32.to_le_bytes(), &whole[16..]].concat(), &bad), "CGK0883");
    // The control: the same file through a pipe.
    let spooled = Archive::spool(&whole[..], &std::env::temp_dir()).unwrap();
    assert_eq!((spooled.slug(), spooled.rows() > 250, spooled.tables()), (&slug("acme"), true, 29));
    assert_eq!(Archive::spool(&whole[..900], &std::env::temp_dir()).unwrap_err().code(), "CGK0884");
    let missing = Archive::open(&folder.path("none")).unwrap_err();
    assert_eq!((missing.code(), missing.kind()), ("CGK0881", ErrorKind::Refused));
}

/// Ends every other session of the database when so many pieces have been moved.
struct Kills<'a>(&'a Client, usize);

impl TransferObserver for Kills<'_> {
    fn moved(&mut self, _: &TenantSlug, _: u64, _: u64) {
        self.1 = self.1.wrapping_sub(1);
        if self.1 == 0 {
            let sql = "select pg_terminate_backend(pid) from pg_stat_activity
                       where datname = current_database() and pid <> pg_backend_pid()";
            tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(run(self.0, sql)));
        }
    }
}

/// Never returns from the nth piece; the test drops the call.
struct Stops(std::sync::Arc<tokio::sync::Notify>, usize);

impl TransferObserver for Stops {
    fn moved(&mut self, _: &TenantSlug, _: u64, _: u64) {
        self.1 = self.1.wrapping_sub(1);
        if self.1 == 0 {
            self.0.notify_one();
        }
    }
}

/// Killed or dropped at any piece, an import leaves nothing, and the same import succeeds afterwards.
#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_import_leaves_nothing() {
    let migrations = set(&[("900_a.sql", "create table a (id int, v text); create table b (id int, v text)")]);
    let stage = bare(&migrations).await;
    create(&stage, &migrations, "acme").await;
    for table in ["a", "b"] {
        let fill = "select n, repeat(md5(n::text), 30) from generate_series(1, 3000) n";
        stage.run(&format!("insert into tenant_acme.{table} {fill}")).await;
    }
    let folder = Folder::new();
    let file = folder.path("x");
    export(&stage, "acme", &file, &ExportOptions::default()).await;
    let copy = ImportOptions::default().slug(slug("copy"));
    for piece in 1..=6 {
        let operator = stage.operator().await;
        let archive = Archive::open(&file).unwrap();
        let mut kills = Kills(&stage.watch, piece);
        let killed = must_end(lifecycle::import(&operator, &migrations, archive, &copy, &mut kills)).await.unwrap_err();
        assert!(kills.1 > usize::MAX / 2 || kills.1 == 0, "piece {piece} was moved");
        assert!(killed.is_retryable() || killed.kind() == ErrorKind::Unavailable, "{killed:?}");
        assert_eq!(left_of(&stage, "copy").await, [false; 3], "killed at piece {piece}");

        let operator = stage.operator().await;
        let archive = Archive::open(&file).unwrap();
        let reached = std::sync::Arc::new(tokio::sync::Notify::new());
        let mut stops = Stops(reached.clone(), piece);
        {
            let work = std::pin::pin!(lifecycle::import(&operator, &migrations, archive, &copy, &mut stops));
            tokio::select! {
                biased;
                () = reached.notified() => {}
                done = work => panic!("it ended: {done:?}"),
            }
        }
        gone(&stage).await;
        assert_eq!(left_of(&stage, "copy").await, [false; 3], "dropped at piece {piece}");
    }
    import(&stage, &migrations, &file, &copy).await.unwrap();
    assert_eq!(contents(&stage, "copy").await, contents(&stage, "acme").await);
}

/// Waits until no transaction is open in the database but the observer's own.
async fn gone(stage: &Stage) {
    let open = "select not exists (select from pg_stat_activity where datname = current_database()
                and pid <> pg_backend_pid() and xact_start is not null and backend_type = 'client backend')";
    crate::fixture::until(stage, "the transaction is rolled back", open).await;
}

/// Killed or dropped, an export leaves no file under its name, and no partial one.
#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_export_leaves_no_file() {
    let migrations = set(&[("900_a.sql", "create table a (id int, v text)")]);
    let stage = bare(&migrations).await;
    create(&stage, &migrations, "acme").await;
    stage.run("insert into tenant_acme.a select n, repeat(md5(n::text), 30) from generate_series(1, 5000) n").await;
    let folder = Folder::new();
    let (file, acme, options) = (folder.path("x"), slug("acme"), ExportOptions::default());
    let operator = stage.operator().await;
    let killed = lifecycle::export_to_file(&operator, &acme, &file, &options, &mut Kills(&stage.watch, 2)).await;
    assert_eq!((killed.unwrap_err().kind(), folder.files()), (ErrorKind::Unavailable, 0));
    let operator = stage.operator().await;
    let reached = std::sync::Arc::new(tokio::sync::Notify::new());
    let mut stops = Stops(reached.clone(), 2);
    {
        let work = std::pin::pin!(lifecycle::export_to_file(&operator, &acme, &file, &options, &mut stops));
        tokio::select! {
            biased;
            () = reached.notified() => {}
            done = work => panic!("it ended: {done:?}"),
        }
    }
    assert_eq!(folder.files(), 0);
    // A disk that is full says so, and is no file of the tenant.
    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    let refused = lifecycle::export(&operator, &acme, full, &options, &mut Silent).await.unwrap_err();
    assert!(matches!(refused, Error::Transfer(TransferError::File { .. })), "{refused:?}");
    export(&stage, "acme", &file, &options).await;
    assert_eq!(folder.files(), 1);
}

/// The operator of path isolation, and one that is no superuser and owns what it created.
#[tokio::test(flavor = "multi_thread")]
async fn a_plain_operator_exports_and_imports_in_both_modes() {
    let migrations = set(&[(
        "900_a.sql",
        "create table a (id int primary key, up int references a, v text, person uuid references public.users);
         create function stop() returns trigger language plpgsql as $$ begin raise 'a trigger has fired'; end $$;
         create trigger stop before insert on a for each row execute function stop();",
    )]);
    for isolation in [Isolation::Role, Isolation::Path] {
        let (_database, operator, db, watch) = plain_acme(&migrations, isolation).await;
        let rows = "alter table tenant_acme.a disable trigger user;
                    insert into users (organization_id, email) select id, 'ada@example.com' from organizations;
                    insert into tenant_acme.a select n, nullif(n - 1, 0), 'x', (select id from users) from generate_series(1, 100) n;
                    alter table tenant_acme.a enable trigger user";
        run(&watch, rows).await;
        let folder = Folder::new();
        let file = folder.path("x");
        let options = ExportOptions::default();
        lifecycle::export_to_file(&operator, &slug("acme"), &file, &options, &mut Silent).await.unwrap();
        let copy = ImportOptions::default().slug(slug("copy"));
        let archive = Archive::open(&file).unwrap();
        lifecycle::import(&operator, &migrations, archive, &copy, &mut Silent).await.unwrap();
        let count = db.tenant(&slug("copy")).query("select count(*) from a", &[]).await.unwrap();
        assert_eq!(count[0].get::<_, i64>(0), 100);
        let fires = db.tenant(&slug("copy")).execute("insert into a values (101)", &[]).await.unwrap_err();
        assert!(fires.report().contains("a trigger has fired"), "{fires:?}");

        // Rows that row-level security hides from the owner are not left out silently.
        run(&watch, "alter table tenant_acme.a enable row level security, force row level security").await;
        let hidden = folder.path("hidden");
        let refused = lifecycle::export_to_file(&operator, &slug("acme"), &hidden, &options, &mut Silent).await;
        assert_eq!((refused.unwrap_err().code(), folder.files()), ("CGK0880", 1));
    }
}

/// A migration and a drop wait for an export; services do not.
#[tokio::test(flavor = "multi_thread")]
async fn an_export_holds_the_tenants_locks_shared() {
    struct Looks<'a>(&'a Client, Option<[i64; 2]>);
    impl TransferObserver for Looks<'_> {
        fn moved(&mut self, _: &TenantSlug, _: u64, _: u64) {
            if self.1.is_none() {
                let sql = "select count(*) filter (where mode = 'ShareLock'), count(*) from pg_locks
                           where locktype = 'advisory' and database = (select oid from pg_database where datname = current_database())";
                let look = async { self.0.query_one(sql, &[]).await.unwrap() };
                let row = tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(look));
                self.1 = Some([row.get(0), row.get(1)]);
            }
        }
    }
    let stage = bare(&set(&[])).await;
    create(&stage, &set(&[]), "acme").await;
    stage.run("insert into tenant_acme.customers (email) values ('a@x')").await;
    let operator = stage.operator().await;
    let mut looks = Looks(&stage.watch, None);
    let sink = std::io::sink();
    lifecycle::export(&operator, &slug("acme"), sink, &ExportOptions::default(), &mut looks).await.unwrap();
    assert_eq!(looks.1, Some([3, 3]), "the tenant's, the migrations' and the steps'");
    gone(&stage).await;
    assert_eq!(stage.count("select count(*) from pg_locks where locktype = 'advisory' and database = (select oid from pg_database where datname = current_database())").await, 0);
}

/// Files that run without a transaction are part of an import, and service logins get their access to the new tenant.
#[tokio::test(flavor = "multi_thread")]
async fn files_without_a_transaction_are_part_of_an_import() {
    let migrations = set(&[
        ("900_a.sql", "create table a (id int primary key, v text)"),
        ("901_index.sql", "-- cgk:no-transaction\ncreate index concurrently a_v on a (v);\n"),
        ("902_more.sql", "alter table a add column more int default 7"),
    ]);
    for isolation in [Isolation::Role, Isolation::Path] {
        let database = TestServer::shared().database().await.unwrap();
        let config = database.config().clone().with_isolation(isolation);
        let operator = Operator::connect(&config).await.unwrap();
        setup::setup(&operator, &migrations, &mut Silent).await.unwrap();
        let db = Db::connect(&app_login(&database, isolation).await.with_isolation(isolation)).await.unwrap();
        lifecycle::create(&operator, &db, &migrations, &slug("acme"), &Default::default()).await.unwrap();
        db.tenant(&slug("acme")).execute("insert into a values (1, 'x')", &[]).await.unwrap();
        let folder = Folder::new();
        let file = folder.path("x");
        lifecycle::export_to_file(&operator, &slug("acme"), &file, &ExportOptions::default(), &mut Silent)
            .await
            .unwrap();
        let copy = ImportOptions::default().slug(slug("copy"));
        let archive = Archive::open(&file).unwrap();
        lifecycle::import(&operator, &migrations, archive, &copy, &mut Silent).await.unwrap();
        let rows = db.tenant(&slug("copy")).query("select v, more from a", &[]).await.unwrap();
        assert_eq!((rows[0].get::<_, &str>(0), rows[0].get::<_, i32>(1)), ("x", 7), "{isolation:?}");
        let watch = connect(&database).await;
        let valid = "select count(*) from pg_index where indrelid = 'tenant_copy.a'::regclass and indisvalid";
        assert_eq!(watch.query_one(valid, &[]).await.unwrap().get::<_, i64>(0), 2, "{isolation:?}");
    }
}
