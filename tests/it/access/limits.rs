//! What is not prevented, and what the refusals say: the lines of `docs/security.md` that no other test shows.

use crate::stage::{Stage, report, run, slug};
use cgk::{
    Db, Error, ErrorKind, Operator, SetupError, TenantTx, TransactionError,
    config::Isolation,
    drift, lock,
    login::SharedTables,
    migrate::{Migrations, Scope},
};

async fn in_acme(db: &Db, sql: &str) -> Result<(), Error> {
    db.with_tenant(&slug("acme"), async |tx| tx.execute_typed(sql, &[]).await.map(drop)).await
}

#[tokio::test]
async fn refused_forms_say_what_to_do_instead() {
    let stage = Stage::set().await;
    let (acme, globex) = (stage.role("acme"), stage.role("globex"));
    let role = format!("set local role \"{globex}\"");
    let back = format!("set local role \"{acme}\"");
    for (sql, instead) in [
        (role.as_str(), "platform()"),
        (&back, "platform()"),
        ("RESET role", "platform()"),
        ("set session authorization default", "platform()"),
        ("set local search_path = tenant_acme", "`search_path`"),
        ("set app.current_organization_id = ''", "call of its own"),
        ("reset all", "by name"),
        ("discard temp", "by name"),
        ("drop owned by current_user", "one by one"),
        ("alter default privileges grant all on tables to public", "single objects"),
        ("commit", "savepoint"),
    ] {
        let tenant = in_acme(&stage.db, sql).await.unwrap_err();
        let platform =
            stage.db.platform().transaction(async |tx| tx.execute_typed(sql, &[]).await.map(drop)).await.unwrap_err();
        let single = stage.db.tenant(&slug("acme")).execute_typed(sql, &[]).await.unwrap_err();
        for error in [tenant, platform, single] {
            assert!(matches!(error, Error::Transaction(TransactionError::StatementRefused { .. })), "{sql}: {error:?}");
            assert_eq!((error.kind(), error.code()), (ErrorKind::Refused, "CGK0510"));
            assert!(error.to_string().contains(instead), "{sql}: {error}");
        }
        // Ignored, it commits nothing of what was done before.
        let ignored = stage
            .db
            .platform()
            .transaction(async |tx| {
                tx.execute_typed("insert into public.marks values ('refused', 1)", &[]).await?;
                let _ = tx.execute_typed(sql, &[]).await;
                Ok(())
            })
            .await;
        assert!(
            matches!(ignored, Err(Error::Transaction(TransactionError::PlatformRefused { .. }))),
            "{sql}: {ignored:?}"
        );
        assert_eq!(stage.marks("acme", "refused").await, (0, 0), "{sql}");
    }
    stage.next_user(&stage.db, "acme").await;
}

#[tokio::test]
async fn there_and_back_in_a_block_commits_on_a_stock_server() {
    let stage = Stage::set().await;
    let (acme, globex) = (stage.role("acme"), stage.role("globex"));
    let db = stage.app(Isolation::Role, SharedTables::Registry).await;
    let block = format!(
        "do $$ begin set local role \"{globex}\"; insert into tenant_globex.marks (tag, n) values ('back', 1);
         set local role \"{acme}\"; end $$"
    );
    stage.sql(&format!("grant all on tenant_globex.marks to \"{globex}\"")).await;
    in_acme(&db, &block).await.unwrap();
    assert_eq!(stage.marks("globex", "back").await, (1, 0));
    // In path mode it takes no more than the name.
    let db = stage.app(Isolation::Path, SharedTables::Registry).await;
    stage.sql(&format!("grant all on tenant_globex.marks to {}", stage.app_name().as_str())).await;
    in_acme(&db, "insert into tenant_globex.marks (tag, n) values ('path', 1)").await.unwrap();
    assert_eq!(stage.marks("globex", "path").await, (1, 0));
}

#[tokio::test]
async fn setval_is_not_undone() {
    let stage = Stage::set().await;
    let globex = stage.role("globex");
    stage
        .sql(&format!(
            "create sequence tenant_globex.numbers; grant all on sequence tenant_globex.numbers to \"{globex}\""
        ))
        .await;
    let db = stage.app(Isolation::Role, SharedTables::Registry).await;
    let setval = "select setval('tenant_globex.numbers', 4711)";
    // The role alone keeps it out, until the role is changed; the refused transaction is rolled back, and the value stays.
    assert_eq!(in_acme(&db, setval).await.unwrap_err().sqlstate().unwrap().code(), "42501");
    let block =
        format!("do $$ begin set local role \"{globex}\"; perform setval('tenant_globex.numbers', 4711); end $$");
    let error = in_acme(&db, &block).await.unwrap_err();
    assert!(matches!(error, Error::Transaction(TransactionError::Tampered { .. })), "{error:?}");
    assert_eq!(stage.number("select last_value from tenant_globex.numbers").await, 4711);
}

#[tokio::test]
async fn any_tenant_can_hold_up_the_entry_of_another() {
    let stage = Stage::set().await;
    let session = cgk::config::SessionSettings {
        lock_timeout: std::time::Duration::from_millis(100),
        ..stage.config().session().clone()
    };
    let db = Db::connect(&stage.config().with_session(session).with_pool_size_max(2)).await.unwrap();
    let hold = format!("select pg_advisory_xact_lock({})", lock::tenant_key(&slug("globex")));
    let entered = db
        .with_tenant(&slug("acme"), async |tx: &mut TenantTx<'_>| {
            tx.execute_typed(&hold, &[]).await?;
            Ok::<_, Error>(db.with_tenant(&slug("globex"), async |_| Ok(())).await)
        })
        .await
        .unwrap();
    assert_eq!(entered.unwrap_err().kind(), ErrorKind::Locked);
    stage.next_user(&db, "globex").await;
}

/// A view reads with the rights of its owner, for which the policies are not meant; a function that is SECURITY DEFINER too. The
/// control: the table itself shows a tenant its own rows.
#[tokio::test]
async fn a_view_shows_what_its_owner_may_read() {
    let stage = Stage::set().await;
    stage
        .sql(
            "insert into users (organization_id, email) select id, slug || '@example.org' from organizations;
             create view public.staff as select email from users; grant select on public.staff to public;
             create materialized view public.kept as select email from users; grant select on public.kept to public;
             create function public.emails() returns setof text language sql security definer
                 set search_path = pg_catalog, pg_temp as 'select email from public.users'",
        )
        .await;
    let db = stage.app(Isolation::Role, SharedTables::Registry).await;
    for (from, rows) in [("users", 1), ("staff", 2), ("kept", 2), ("emails()", 2)] {
        let count =
            format!("select count(*) from (select {} from {from}) x", if from.contains('(') { "*" } else { "email" });
        let row = db.tenant(&slug("acme")).query_one(&count, &[]).await.unwrap();
        assert_eq!(row.get::<_, i64>(0), rows, "{from}");
    }
}

/// A foreign key is checked as the owner of the table that it names, past its policies: it says which ids there are.
#[tokio::test]
async fn a_foreign_key_says_which_rows_of_other_organizations_there_are() {
    let stage = Stage::set().await;
    stage
        .sql(
            "insert into users (organization_id, email) select id, slug || '@example.org' from organizations;
             create table tenant_acme.notes (author uuid references public.users);
             grant select, insert on tenant_acme.notes to public",
        )
        .await;
    let sql = "select id::text from users where email = 'globex@example.org'";
    let there: String = stage.watch.query_one(sql, &[]).await.unwrap().get(0);
    let absent = "00000000-0000-4000-8000-000000000000";
    let db = stage.app(Isolation::Role, SharedTables::Registry).await;
    let acme = slug("acme");
    let seen = db.tenant(&acme).query(&format!("select from users where id = '{there}'"), &[]).await.unwrap();
    assert!(seen.is_empty(), "the policies hide the row");
    for (id, is_there) in [(there.as_str(), true), (absent, false)] {
        let sql = format!("insert into notes values ('{id}')");
        assert_eq!(db.tenant(&acme).execute(&sql, &[]).await.is_ok(), is_there, "{id}");
    }
}

/// The server counts what is read and written, and shows it to everyone. Counters that it has not collected yet are the session's.
#[tokio::test]
async fn the_counters_of_a_table_are_visible_to_every_tenant() {
    let stage = Stage::set().await;
    for isolation in [Isolation::Role, Isolation::Path] {
        let db = stage.app(isolation, SharedTables::Registry).await;
        let write = "insert into marks (tag, n) select 'counted', g from generate_series(1, 321) g";
        db.tenant(&slug("acme")).execute(write, &[]).await.unwrap();
        // Both views together: at some time the server collects the counters of the session.
        let count = "select (select n_tup_ins from pg_stat_all_tables where schemaname = 'tenant_acme' and relname = 'marks')
                          + (select n_tup_ins from pg_stat_xact_all_tables where schemaname = 'tenant_acme' and relname = 'marks')";
        let seen = db.tenant(&slug("globex")).query_one(count, &[]).await.unwrap();
        assert!(seen.get::<_, i64>(0) >= 321, "{isolation:?}");
        // The control: a number that it cannot have from the rows.
        let rows = db.tenant(&slug("globex")).query_one("select count(*) from marks", &[]).await.unwrap();
        assert_eq!(rows.get::<_, i64>(0), 1);
    }
}

/// A large object belongs to a role and to no schema: with path isolation to the login of all tenants.
#[tokio::test]
async fn a_large_object_is_every_tenants_in_path_mode() {
    let stage = Stage::set().await;
    for (isolation, is_shared) in [(Isolation::Role, false), (Isolation::Path, true)] {
        let db = stage.app(isolation, SharedTables::Registry).await;
        let made = db.tenant(&slug("acme")).query_one("select lo_from_bytea(0, 'secret')", &[]).await.unwrap();
        let (oid, globex) = (made.get::<_, u32>(0), slug("globex"));
        let read = db.tenant(&globex).query_one(&format!("select lo_get({oid})"), &[]).await;
        let gone = db.tenant(&globex).query_one(&format!("select lo_unlink({oid})"), &[]).await;
        assert_eq!((read.is_ok(), gone.is_ok()), (is_shared, is_shared), "{isolation:?}: {read:?}");
    }
}

#[tokio::test]
async fn statements_of_the_same_login_are_visible_in_path_mode() {
    let stage = Stage::set().await;
    for (isolation, visible) in [(Isolation::Role, 0), (Isolation::Path, 1)] {
        let one = stage.app(isolation, SharedTables::Registry).await;
        let other = Db::connect(one.config()).await.unwrap();
        let seen = one
            .with_tenant(&slug("globex"), async |tx: &mut TenantTx<'_>| {
                tx.query_typed("select 'a secret of globex'", &[]).await?;
                let look = "select count(*) from pg_stat_activity where query like '%a secret of globex%' and datname = current_database() and pid <> pg_backend_pid()";
                let rows = other.tenant(&slug("acme")).query_typed(look, &[]).await?;
                Ok::<i64, Error>(rows[0].get(0))
            })
            .await
            .unwrap();
        assert_eq!(seen, visible, "{isolation:?}");
        stage.sql("select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and usename like 'app_%'").await;
    }
}

/// The comment on a schema names its organization for everybody, and so does the registry with path isolation. With the role it
/// is of no use; the setting decides with path isolation.
#[tokio::test]
async fn the_catalogue_says_the_organizations_id() {
    let stage = Stage::set().await;
    stage.sql("insert into users (organization_id, email) select id, slug || '@x' from organizations").await;
    for (isolation, users, organizations) in [(Isolation::Role, "acme@x", 1), (Isolation::Path, "globex@x", 2)] {
        let db = stage.app(isolation, SharedTables::All).await;
        let outcome = db
            .with_tenant(&slug("acme"), async |tx| {
                let said = "select split_part(obj_description('tenant_globex'::regnamespace), ' ', 3)";
                let id: String = tx.query_typed(said, &[]).await?[0].get(0);
                let set = format!("select set_config('app.current_organization_id', '{id}', true)");
                tx.query_typed(&set, &[]).await?;
                let rows = tx.query_typed("select email::text from users", &[]).await?;
                let emails: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
                assert_eq!(emails, [users], "{isolation:?}");
                tx.query_typed("select set_config('app.current_organization_id', '', true)", &[]).await?;
                let rows = tx.query_typed("select id from organizations", &[]).await?;
                assert_eq!(rows.len(), organizations, "{isolation:?}");
                Ok(id)
            })
            .await;
        assert!(matches!(outcome, Err(Error::Transaction(TransactionError::Tampered { .. }))), "{outcome:?}");
    }
}

#[tokio::test]
async fn truncate_of_a_shared_table_is_a_right_of_its_owner_only() {
    let stage = Stage::set().await;
    stage.sql("insert into users (organization_id, email) select id, slug || '@x' from organizations").await;
    let truncate = "truncate users cascade";
    for isolation in [Isolation::Role, Isolation::Path] {
        let db = stage.app(isolation, SharedTables::All).await;
        let error = in_acme(&db, truncate).await.unwrap_err();
        assert_eq!(error.sqlstate().unwrap().code(), "42501", "{isolation:?}");
        let error = db.platform().execute_typed(truncate, &[]).await.unwrap_err();
        assert_eq!(error.sqlstate().unwrap().code(), "42501", "{isolation:?}");
    }
    assert_eq!(stage.number("select count(*) from users").await, 2);
    // The control: whoever owns it empties it for all organizations, with row level security on.
    let owner = Db::connect(&stage.config().with_isolation(Isolation::Path)).await.unwrap();
    in_acme(&owner, truncate).await.unwrap();
    assert_eq!(stage.number("select count(*) from users").await, 0);
}

#[tokio::test]
async fn drop_owned_in_a_block_takes_default_privileges_and_drift_says_so() {
    let stage = Stage::set().await;
    stage.sql("drop table tenant_acme.marks, tenant_globex.marks, public.marks; drop schema tenantsx cascade").await;
    let operator = Operator::connect(&stage.config()).await.unwrap();
    let bundled = Migrations::bundled();
    let drifted = drift::verify(&operator, &bundled, &Scope::Everything).await.unwrap();
    assert!(!drifted.has_drift(), "{drifted:?}");
    let db = stage.app(Isolation::Role, SharedTables::Registry).await;
    let own = format!("drop owned by \"{}\"", stage.role("acme"));
    // Whatever the transaction itself comes to, what it has taken is what drift reports.
    let before = stage.number("select count(*) from pg_default_acl").await;
    let outcome = in_acme(&db, &format!("do $$ begin {own}; end $$")).await;
    let after = stage.number("select count(*) from pg_default_acl").await;
    assert!(after < before, "{outcome:?}: nothing was taken, so the form need not be refused");
    let drifted = drift::verify(&operator, &bundled, &Scope::Everything).await.unwrap();
    assert!(drifted.has_drift(), "{drifted:?}");
}

/// A database or login with `row_security = off` cannot read the registry; the error says what puts that right.
#[tokio::test]
async fn row_security_that_is_off_is_named() {
    let stage = Stage::set().await;
    let db = stage.app(Isolation::Role, SharedTables::Registry).await;
    let (login, database) = (stage.app_name(), stage.database.name().to_owned());
    for set in [
        format!("alter role {} set row_security = off", login.as_str()),
        format!("alter role {} in database {database} set row_security = off", login.as_str()),
        format!("alter database {database} set row_security = off"),
    ] {
        stage.sql(&set).await;
        let db = Db::connect(db.config()).await.unwrap();
        let error = db.with_tenant(&slug("acme"), async |_| Ok(())).await.unwrap_err();
        let Error::Setup(SetupError::Privilege { needed, grant, .. }) = &error else { panic!("{set}: {error:?}") };
        assert!(needed.contains("row_security is off"), "{needed}");
        // What is suggested is enough.
        run(&stage.watch, grant).await.unwrap();
        let db = Db::connect(db.config()).await.unwrap();
        db.with_tenant(&slug("acme"), async |_| Ok(()))
            .await
            .unwrap_or_else(|error| panic!("{set}, {grant}: {error:?}"));
    }
}

/// A deferred trigger of a permanent table that defers itself again runs inside COMMIT, behind the check. Only a migration can
/// make one. The next user of the connection finds nothing of it.
#[tokio::test]
async fn a_trigger_that_defers_itself_again_runs_behind_the_check() {
    for (again, commits) in [(false, false), (true, true)] {
        let stage = Stage::set().await;
        let defer = if again { "set constraints all deferred;" } else { "" };
        stage
            .sql(&format!(
                "create table tenant_acme.bait (n int); grant insert on tenant_acme.bait to public;
                 create function tenant_acme.t() returns trigger language plpgsql as $$ begin
                     if new.n < 2 then
                         {defer}
                         insert into tenant_acme.bait values (new.n + 1);
                     else
                         insert into tenant_acme.marks values ('behind', 1);
                         set role \"{}\";
                     end if;
                     return null; end $$;
                 create constraint trigger t after insert on tenant_acme.bait deferrable initially deferred
                     for each row execute function tenant_acme.t();",
                stage.role("globex")
            ))
            .await;
        let outcome = in_acme(&stage.db, "insert into bait values (1)").await;
        // Without the deferral the check sees where it has led.
        match commits {
            true => assert!(outcome.is_ok(), "{outcome:?}"),
            false => {
                assert!(matches!(outcome, Err(Error::Transaction(TransactionError::Tampered { .. }))), "{outcome:?}");
            }
        }
        assert_eq!(stage.marks("acme", "behind").await, (i64::from(commits), 0));
        stage.next_user(&stage.db, "globex").await;
    }
}

/// A connection that the extension dblink opened stays in the session: the next tenant can use it.
#[tokio::test]
async fn a_connection_that_dblink_opened_is_left_to_the_next_tenant() {
    let stage = Stage::set().await;
    if stage.number("select count(*) from pg_available_extensions where name = 'dblink'").await == 0 {
        report("this server has no dblink");
        return;
    }
    stage.sql("create extension dblink").await;
    let address = crate::stage::address(stage.database.name());
    let tokio_postgres::config::Host::Unix(host) = &address.get_hosts()[0] else {
        report("dblink wants a password over the network");
        return;
    };
    let port = address.get_ports().first().copied().unwrap_or(5432);
    let open = format!(
        "create function public.open_link() returns text language sql security definer as
            $$ select public.dblink_connect_u('left', 'host={} port={port} dbname={} user={}') $$",
        host.display(),
        stage.database.name(),
        address.get_user().unwrap(),
    );
    stage.sql(&open).await;
    in_acme(&stage.db, "select public.open_link()").await.unwrap();
    let names = "select coalesce(array_to_string(public.dblink_get_connections(), ','), '')";
    let left: String = stage.db.tenant(&slug("globex")).query_one(names, &[]).await.unwrap().get(0);
    assert_eq!(left, "left");
}
