//! Fault 12 of those found in other runners: on a standby, status and plan fail because they want to write something.

use crate::{
    sandbox::{Files, Raw, migrate_all},
    support::{cgk::Shell, patience::must_end},
};
use cgk::{
    Config, Operator,
    auth::{Auth, AuthSettings},
    lifecycle::{self, CreateOptions},
    migrate::{self, Migrations, SchemaState, Scope, Silent, Step, Target},
    resolver::{NoticeState, Resolver, ResolverSettings},
    setup,
};
use server::Server;
use std::{fs, path::Path};

#[expect(dead_code, reason = "the fault runs use more of it")]
#[path = "../../faults/server.rs"]
mod server;

/// A streaming standby, made from a copy of the running server as `pg_basebackup` makes it, which not every installation
/// has.
async fn standby_of(primary: &Server) -> Server {
    let mut standby = Server::start();
    standby.stop_at_once();
    let source = Raw::connect(&primary.url("postgres")).await;
    let is_14: bool = source.one("select current_setting('server_version_num')::int < 150000").await;
    let (start, stop) = match is_14 {
        true => ("pg_start_backup('standby', true, false)", "pg_stop_backup(false, false)"),
        false => ("pg_backup_start('standby', true)", "pg_backup_stop(false)"),
    };
    source.one::<bool>(&format!("select {start} is not null")).await;
    let data = standby.data();
    for entry in fs::read_dir(&data).unwrap() {
        let path = entry.unwrap().path();
        // What the server is started with.
        if path.file_name().unwrap() != "postmaster.opts" {
            if path.is_dir() { fs::remove_dir_all(&path).unwrap() } else { fs::remove_file(&path).unwrap() }
        }
    }
    copy(&primary.data(), &data, &standby);
    let label: String = source.one(&format!("select labelfile from {stop}")).await;
    let folder = primary.data().parent().unwrap().display().to_string();
    for (name, text) in [
        ("backup_label", label),
        ("standby.signal", String::new()),
        ("postgresql.auto.conf", format!("primary_conninfo = 'host={folder} user=postgres'\n")),
    ] {
        fs::write(data.join(name), text).unwrap();
        standby.give(&data.join(name));
    }
    standby.start_again();
    standby
}

/// What is removed while it is copied, the log's replay makes anew or does not want.
fn copy(from: &Path, to: &Path, owner: &Server) {
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name();
        if ["postmaster.pid", "postmaster.opts"].iter().any(|left| name == *left) {
            continue;
        }
        let target = to.join(&name);
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            fs::create_dir(&target).unwrap();
            fs::set_permissions(&target, fs::metadata(to).unwrap().permissions()).unwrap();
            owner.give(&target);
            copy(&entry.path(), &target, owner);
        } else if fs::copy(entry.path(), &target).is_ok() {
            owner.give(&target);
        }
    }
}

/// Waits until the standby has what is done on the primary just now; a session on the standby.
async fn until_streamed(raw: &Raw, standby: &Server) -> Raw {
    raw.run("create table streamed ()").await;
    let watch = Raw::connect(&standby.url("fleet")).await;
    watch.wait_until("select pg_is_in_recovery() and to_regclass('public.streamed') is not null").await;
    watch
}

/// A server of its own with a database `fleet` that is set up, and a set of one file.
async fn fleet() -> (Server, Raw, Files, Operator, cgk::Db) {
    let primary = Server::start();
    let raw = Raw::connect(&primary.url("postgres")).await;
    raw.run("create database fleet").await;
    let raw = Raw::connect(&primary.url("fleet")).await;
    let files = Files::of_tenants(&[("001_first.sql", "create table m1 (id int)")]);
    let config = Config::from_url(&primary.url("fleet")).unwrap();
    let (operator, db) = (Operator::connect(&config).await.unwrap(), cgk::Db::connect(&config).await.unwrap());
    setup::setup(&operator, &files.load(), &mut Silent).await.unwrap();
    (primary, raw, files, operator, db)
}

#[tokio::test]
async fn who_only_looks_is_served_by_a_read_only_role_on_a_standby() {
    let (primary, raw, files, operator, db) = fleet().await;
    for slug in ["acme", "globex"] {
        let (slug, options) = (slug.parse().unwrap(), CreateOptions::default());
        lifecycle::create(&operator, &db, &files.load(), &slug, &options).await.unwrap();
    }
    files.tenant("002_second.sql", "create table m2 ()");
    assert_eq!(migrate_all(&operator, &files.load()).await.unwrap().migrated(), 2);
    raw.run(
        "create role looker login; grant select on organizations, schema_migrations, cgk_runs, cgk_run_schemas to looker;
         create policy lookers on organizations to looker using (true)",
    )
    .await;
    let standby = standby_of(&primary).await;
    let url = standby.url("fleet").replace("//postgres@", "//looker@");
    until_streamed(&raw, &standby).await;

    let reader = Operator::connect(&Config::from_url(&url).unwrap()).await.unwrap();
    assert!(reader.facts().read_only && !reader.facts().superuser);
    files.tenant("003_third.sql", "create table m3 ()");
    let migrations: Migrations = files.load();
    let planned = migrate::plan_fleet(&reader, &migrations, &Scope::Everything, Target::Head).await.unwrap();
    assert_eq!(planned.tenants.len(), 2);
    assert!(planned.tenants.iter().all(|tenant| matches!(&tenant.step, Step::Apply(plan) if plan.pending.len() == 1)));
    let state = migrate::read_state(&reader, &migrations).await.unwrap();
    assert!(state.public.is_at_head() && matches!(state.tenants[0].state, SchemaState::Behind { pending: 1 }));

    let shell = Shell::new().set("DATABASE_URL", &url).set("CGK_MIGRATIONS", &files.path().display().to_string());
    for (arguments, code) in [
        (["migrate:status", "--json"].as_slice(), 0),
        (&["migrate:status", "--check"], 3),
        (&["migrate", "--plan"], 0),
        (&["migrate", "--check"], 3),
        (&["migrate:history"], 0),
        (&["tenant:list"], 0),
        (&["doctor"], 0),
        (&["report"], 0),
    ] {
        let answer = shell.run(arguments);
        assert_eq!(answer.code, code, "{arguments:?}: {}{}", answer.stdout, answer.stderr);
    }
    // The control: a standby takes nothing that writes, and says so.
    let answer = shell.run(&["migrate"]);
    assert!(answer.code != 0 && answer.stderr.contains("read-only"), "{}: {}", answer.code, answer.stderr);
    assert_eq!(raw.one::<i64>("select count(*) from pg_class where relname = 'm3'").await, 0);
}

/// A standby refuses BEGIN itself for a writable or serializable transaction: what rides behind it must not run on its own, as the
/// login and outside of the tenant.
#[tokio::test]
async fn a_statement_behind_a_begin_that_a_standby_refuses_does_not_run() {
    let (primary, raw, files, operator, db) = fleet().await;
    let acme: cgk::TenantSlug = "acme".parse().unwrap();
    lifecycle::create(&operator, &db, &files.load(), &acme, &CreateOptions::default()).await.unwrap();
    let standby = standby_of(&primary).await;
    let watch = until_streamed(&raw, &standby).await;
    let reader_config = Config::from_url(&standby.url("fleet")).unwrap().with_pool_size_max(1);
    let default = cgk::TxOptions::default;
    let mut ran = Vec::new();
    for options in [default().read_only(), default().read_write(), default().serializable()] {
        let refused = options != default().read_only();
        // It ends whoever waits: the one thing that can be seen of it from outside.
        let bait = Raw::connect(&standby.url("fleet")).await;
        let pid: i32 = bait.one("select pg_backend_pid()").await;
        let end = format!("select pg_terminate_backend({pid})::text");
        let reader = cgk::Db::connect(&reader_config).await.unwrap();
        let outcome =
            reader.with_tenant_in(&acme, &options, async |tx| tx.query_typed(&end, &[]).await.map(drop)).await;
        assert!(
            outcome.is_err(),
            "{options:?}: a tenant's role may not end a session, and a standby takes no writer: {outcome:?}"
        );
        // Whatever was sent has been read once the reader's session is gone, and a signal that was sent is there before the
        // next statement.
        drop(reader);
        watch.wait_until("select not exists (select from pg_stat_activity where datname = current_database() and application_name = 'cgk')").await;
        let alive = bait.try_run("select 1").await.is_ok();
        if !alive {
            ran.push(format!("{options:?}: the statement ran as the login, and the call says {outcome:?}"));
        }
        assert!(refused || alive, "the control: inside the tenant it is denied");
    }
    assert!(ran.is_empty(), "{ran:#?}");
}

/// A standby has no LISTEN. It answers who a slug is, and what has changed is seen after the time for that.
#[tokio::test]
async fn a_resolver_of_a_standby_says_that_it_is_not_notified() {
    let (primary, raw, files, operator, db) = fleet().await;
    let acme: cgk::TenantSlug = "acme".parse().unwrap();
    lifecycle::create(&operator, &db, &files.load(), &acme, &CreateOptions::default()).await.unwrap();
    let standby = standby_of(&primary).await;
    let watch = until_streamed(&raw, &standby).await;
    let reader: cgk::Db = cgk::Db::connect(&Config::from_url(&standby.url("fleet")).unwrap()).await.unwrap();
    let mut settings = ResolverSettings::default();
    settings.time_max_unnotified = std::time::Duration::ZERO;
    let resolver = Resolver::new(&Auth::new(&reader, AuthSettings::default()), settings);
    // The control: of the primary, it is notified.
    let notified = Resolver::new(&Auth::new(&db, AuthSettings::default()), ResolverSettings::default());
    must_end("the primary's", notified.until_notified()).await;
    must_end("the standby's", async {
        // Not the state that it begins with.
        while !matches!(resolver.state(), NoticeState::NotReceived { why } if why.contains("recovery")) {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    })
    .await;
    assert_eq!(resolver.tenant(&acme).await.unwrap().slug, acme);
    raw.run("update organizations set status = 'suspended' where slug = 'acme'").await;
    watch.wait_until("select status::text = 'suspended' from organizations where slug = 'acme'").await;
    assert_eq!(resolver.tenant(&acme).await.unwrap_err().kind(), cgk::ErrorKind::Suspended);
}
