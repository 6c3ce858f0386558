//! What a transaction may leave changed when it commits: not the organization, and otherwise what is its own matter.

use crate::{
    stage::{Stage, connect, run, slug},
    support::score,
};
use cgk::{Db, Error, TenantTx, TransactionError};

const INSERT: &str = "insert into marks (tag, n) values ('settings', 1)";

/// Writes a row, does something by SQL that cannot be seen before it is sent, and returns Ok.
async fn attempt(db: &Db, sql: &str) -> Result<(), Error> {
    let body = async |tx: &mut TenantTx<'_>| {
        tx.execute(INSERT, &[]).await?;
        tx.query_typed(sql, &[]).await.map(drop)
    };
    db.with_tenant(&slug("acme"), body).await
}

#[tokio::test]
async fn an_organization_that_is_left_changed_commits_nothing() {
    let stage = Stage::set().await;
    let other = "(select gen_random_uuid()::text)";
    let set = |value: &str, local: bool| format!("set_config('app.current_organization_id', {value}, {local})");
    let block = |sql: String| format!("do $$ begin {sql}; end $$");
    let mark = |seed: &str| format!("set_config('cgk.tx', hashtextextended('x', {seed})::text, true)");
    let own = "current_setting('app.current_organization_id')";
    let cases = [
        (format!("select {}", set(other, true)), false),
        (format!("select {}", set(other, false)), false),
        (format!("select {}", set("''", true)), false),
        (block(format!("perform {}", set(other, true))), false),
        (block("set local app.current_organization_id = 'x'".into()), false),
        (block("reset app.current_organization_id".into()), false),
        // With a mark to match, for whoever knows how it is made but not the number.
        (block(format!("perform {}, {}", set("'x'", true), mark("0"))), false),
        (block(format!("perform {}, set_config('cgk.tx', 'x', true)", set("'x'", true))), false),
        (format!("select set_config('cgk.tx', hashtextextended({own}, 0)::text, true)"), false),
        // On both sides of one statement: nothing is left to be seen (docs/security.md).
        (
            block(format!(
                "declare own text := {own}; begin perform {}; perform {}; end",
                set("'x'", true),
                set("own", true)
            )),
            true,
        ),
        (format!("select {}, {}", set("'x'", true), set(&format!("'{}'", organization(&stage).await), true)), true),
    ];
    for (login, db) in stage.handles().await {
        for (sql, commits) in &cases {
            let outcome = attempt(&db, sql).await;
            match commits {
                true => assert!(outcome.is_ok(), "{login}: {sql}: {outcome:?}"),
                false => {
                    assert!(
                        matches!(outcome, Err(Error::Transaction(TransactionError::Tampered { .. }))),
                        "{login}: {sql}: {outcome:?}"
                    );
                }
            }
            assert_eq!(stage.marks("acme", "settings").await, (i64::from(*commits), 0), "{login}: {sql}");
            stage.sql("delete from tenant_acme.marks where tag = 'settings'").await;
        }
        // The single statement, whose commit is on its way before the answer to its entry.
        let single = db.tenant(&slug("acme")).execute_typed(&cases[3].0, &[]).await;
        assert!(matches!(single, Err(Error::Transaction(TransactionError::Tampered { .. }))), "{login}: {single:?}");
    }
}

async fn organization(stage: &Stage) -> String {
    let sql = "select id::text from public.organizations where slug = 'acme'";
    stage.watch.query_one(sql, &[]).await.unwrap().get(0)
}

/// Other settings are the transaction's own: it commits with them, and the next user of the connection has not got them.
#[tokio::test]
async fn other_settings_commit_and_end_with_the_transaction() {
    let stage = Stage::set().await;
    let settings = [
        ("timezone", "Asia/Tokyo"),
        ("datestyle", "German, DMY"),
        ("statement_timeout", "7s"),
        ("lock_timeout", "7s"),
        ("idle_in_transaction_session_timeout", "7s"),
        ("exit_on_error", "on"),
        ("work_mem", "7MB"),
        ("row_security", "off"),
    ];
    for (name, value) in settings {
        let show = format!("select current_setting('{name}')");
        for local in [true, false] {
            let before: String = stage.db.tenant(&slug("globex")).query_one(&show, &[]).await.unwrap().get(0);
            assert_ne!(before, value, "{name}");
            attempt(&stage.db, &format!("select set_config('{name}', '{value}', {local})")).await.unwrap();
            let after: String = stage.db.tenant(&slug("globex")).query_one(&show, &[]).await.unwrap().get(0);
            assert_eq!(before, after, "{name}, local: {local}");
        }
    }
    assert_eq!(stage.marks("acme", "settings").await, (2 * settings.len() as i64, 0));
    let tried = 2 * settings.len();
    score::note(
        16,
        "settings changed by a transaction that commits, met by the next",
        tried,
        0,
        "local and of the session",
    );
    // Between transactions too the session is as cgk wants it: a failed BEGIN would still end it.
    let (_, pid) = stage.next_user(&stage.db, "acme").await;
    stage.until(&format!("select state = 'idle' from pg_stat_activity where pid = {pid}")).await;
}

/// A literal is read under the settings that hold where the statement runs, and not under those of an earlier transaction in which
/// the same text ran.
#[tokio::test]
async fn a_text_with_a_literal_is_read_under_the_settings_of_its_own_transaction() {
    let stage = Stage::set().await;
    let acme = slug("acme");
    let texts = [
        ("timezone", "Asia/Tokyo", "select ('2024-01-02 03:04'::timestamptz at time zone 'UTC')::text"),
        ("datestyle", "German, DMY", "select extract(month from '01.02.2024'::date)::text"),
        ("standard_conforming_strings", "off", r"select length('a\\b')::text"),
    ];
    for (name, value, text) in texts {
        let alone = async || -> String { stage.db.tenant(&acme).query_one(text, &[]).await.unwrap().get(0) };
        let within = async |change: bool| -> String {
            let body = async |tx: &mut TenantTx<'_>| {
                if change {
                    tx.query_typed(&format!("select set_config('{name}', '{value}', true)"), &[]).await?;
                }
                Ok::<_, Error>(tx.query_one(text, &[]).await?.get(0))
            };
            stage.db.with_tenant(&acme, body).await.unwrap()
        };
        let right = alone().await;
        // The control: under the other setting the text says something else, and here it is described.
        assert_ne!(within(true).await, right, "{name}");
        assert_eq!((alone().await, within(false).await), (right.clone(), right), "{name}");
    }
    let told = "one statement and with_tenant";
    score::note(16, "texts with a literal, read under an earlier transaction's settings", 2 * texts.len(), 0, told);
    score::control(16, "the same in the transaction that changed the setting", texts.len(), texts.len(), "");
}

/// A setting of one's own making keeps its name in the session, and no value: empty where it was null.
#[tokio::test]
async fn a_setting_of_ones_own_leaves_its_name_and_no_value() {
    let stage = Stage::set().await;
    let show = "select current_setting('shop.flag', true)";
    let look =
        async || stage.db.tenant(&slug("globex")).query_one(show, &[]).await.unwrap().get::<_, Option<String>>(0);
    assert_eq!(look().await, None);
    for local in [true, false] {
        attempt(&stage.db, &format!("select set_config('shop.flag', 'secret of acme', {local})")).await.unwrap();
        assert_eq!(look().await.as_deref(), Some(""), "local: {local}");
    }
    // PostgreSQL keeps the name whatever is reset.
    let client = connect(stage.database.name()).await;
    run(&client, "set shop.flag = 'x'; reset all").await.unwrap();
    run(&client, "discard all").await.unwrap();
    assert_eq!(client.query_one(show, &[]).await.unwrap().get::<_, Option<String>>(0).as_deref(), Some(""));
}

/// A function in `public` whose variable has the type of a tenant's column, a domain or an enum keeps the type of the tenant that
/// called it first in the session: values are rounded and refused by it. What stands in the function's statements does not.
#[tokio::test]
async fn a_tenants_type_in_a_shared_function_stays_the_first_tenants() {
    let stage = Stage::set().await;
    let (_, pid) = stage.next_user(&stage.db, "globex").await;
    stage
        .sql(
            "set check_function_bodies = off;
             create domain tenant_acme.price as numeric(10, 2); create domain tenant_globex.price as numeric(12, 4);
             create type tenant_acme.mood as enum ('fine'); create type tenant_globex.mood as enum ('fine', 'bad');
             alter table tenant_acme.marks add amount numeric(10, 2); alter table tenant_globex.marks add amount numeric(12, 4);
             create function public.column_type() returns text language plpgsql as
                 $$ declare a marks.amount%type := 1.2345; begin return a; end $$;
             create function public.domain_type() returns text language plpgsql as
                 $$ declare a price := 1.2345; begin return a; end $$;
             create function public.enum_type() returns text language plpgsql as
                 $$ declare m mood := 'bad'; begin return m; end $$;
             create function public.in_statements() returns text language plpgsql as
                 $$ begin return 1.2345::price::text; end $$",
        )
        .await;
    let call = async |tenant: &str, function: &str| {
        let sql = format!("select public.{function}(), pg_backend_pid()");
        let row = stage.db.tenant(&slug(tenant)).query_one(&sql, &[]).await.ok()?;
        assert_eq!(row.get::<_, i32>(1), pid, "another connection proves nothing");
        Some(row.get::<_, String>(0))
    };
    for (function, of_acme, of_globex) in [
        ("column_type", Some("1.23"), Some("1.23")),
        ("domain_type", Some("1.23"), Some("1.23")),
        ("enum_type", None, None),
        ("in_statements", Some("1.23"), Some("1.2345")),
    ] {
        assert_eq!(call("acme", function).await.as_deref(), of_acme, "{function}");
        assert_eq!(call("globex", function).await.as_deref(), of_globex, "{function}");
    }
    // The control: in a session that globex is the first in, the types are its own.
    let client = connect(stage.database.name()).await;
    run(&client, "set search_path = tenant_globex, public").await.unwrap();
    let row = client.query_one("select column_type(), domain_type(), enum_type()", &[]).await.unwrap();
    let own: [&str; 3] = [row.get(0), row.get(1), row.get(2)];
    assert_eq!(own, ["1.2345", "1.2345", "bad"]);
}

/// A function in `public` whose variable has the row type of a tenant's table keeps the layout of the tenant that called it
/// first in the session. One with a variable of type `record` does not.
#[tokio::test]
async fn a_row_type_in_a_shared_function_keeps_the_layout_of_the_first_tenant() {
    let stage = Stage::set().await;
    // The column order of the two tenants' tables differs.
    stage
        .sql(
            "create function public.by_row_type() returns text language plpgsql as
                $$ declare m marks%rowtype; begin select * into m from marks; return m.tag; end $$;
             create function public.by_record() returns text language plpgsql as
                $$ declare m record; begin select * into m from marks; return m.tag; end $$",
        )
        .await;
    let tag = async |tenant: &str, function: &str| {
        let sql = format!("select public.{function}()");
        stage.db.tenant(&slug(tenant)).query_one(&sql, &[]).await.map(|row| row.get::<_, String>(0))
    };
    assert_eq!(tag("acme", "by_row_type").await.unwrap(), "acme");
    assert!(tag("globex", "by_row_type").await.is_err(), "the layout of acme is gone, and so is this line of the page");
    assert_eq!(tag("acme", "by_record").await.unwrap(), "acme");
    assert_eq!(tag("globex", "by_record").await.unwrap(), "globex");
    // No reset of PostgreSQL's takes it away; a new session has it not.
    let client = connect(stage.database.name()).await;
    let call = async |client: &tokio_postgres::Client, tenant: &str| {
        run(client, &format!("set search_path = tenant_{tenant}, public")).await.unwrap();
        client.query_one("select public.by_row_type()", &[]).await.map(|row| row.get::<_, String>(0))
    };
    assert_eq!(call(&client, "acme").await.unwrap(), "acme");
    run(&client, "discard all").await.unwrap();
    assert!(call(&client, "globex").await.is_err());
    assert_eq!(call(&connect(stage.database.name()).await, "globex").await.unwrap(), "globex");
}
