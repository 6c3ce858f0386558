//! What runs inside COMMIT, behind the check: deferred triggers and cursors WITH HOLD. It commits nothing that has left the tenant,
//! and what it does to the session reaches nobody.

use crate::{
    stage::{Stage, connect, run, slug},
    support::score,
};
use cgk::{Db, Error, TransactionError};

/// What each attack does when it runs: replaces every prepared statement of the session, as `at_commit.sql` does.
const REPLACE: &str = "for s in select * from pg_prepared_statements where not from_sql loop
        execute format('deallocate %I', s.name);
        execute format('prepare %I %s as select ''planted by acme''::text', s.name,
            coalesce('(' || nullif(array_to_string(s.parameter_types, ','), '') || ')', ''));
    end loop;
    execute 'prepare planted as select ''planted by acme''::text';";

/// A way of running code inside COMMIT; `{work}` is what runs.
struct Road {
    name: &'static str,
    statements: &'static [&'static str],
}

const ROADS: &[Road] = &[
    Road {
        name: "cursor WITH HOLD",
        statements: &[
            "create function pg_temp.g() returns int language plpgsql as $f$ declare s record; begin {work} return 1; end $f$",
            "declare h cursor with hold for select pg_temp.g()",
        ],
    },
    Road {
        name: "deferred trigger of a temporary table, in one block",
        statements: &["do $d$ begin
            create temp table bait (n int);
            create function pg_temp.t() returns trigger language plpgsql as
                $f$ declare s record; begin {work} return null; end $f$;
            create constraint trigger t after insert on bait deferrable initially deferred
                for each row execute function pg_temp.t();
            insert into bait values (1); end $d$"],
    },
    Road {
        name: "deferred trigger that defers itself again",
        statements: &["do $d$ begin
            create temp table bait (n int);
            create function pg_temp.t() returns trigger language plpgsql as
                $f$ declare s record; begin
                    if new.n < 3 then
                        set constraints all deferred;
                        insert into pg_temp.bait values (new.n + 1);
                    else {work} end if;
                    return null; end $f$;
            create constraint trigger t after insert on bait deferrable initially deferred
                for each row execute function pg_temp.t();
            insert into bait values (1); end $d$"],
    },
    Road {
        name: "cursor WITH HOLD that a deferred trigger opens",
        statements: &["do $d$ begin
            create temp table bait (n int);
            create function pg_temp.g() returns int language plpgsql as $f$ declare s record; begin {work} return 1; end $f$;
            create function pg_temp.t() returns trigger language plpgsql as
                $f$ begin execute 'declare h cursor with hold for select pg_temp.g()'; return null; end $f$;
            create constraint trigger t after insert on bait deferrable initially deferred
                for each row execute function pg_temp.t();
            insert into bait values (1); end $d$"],
    },
];

async fn pid(db: &Db, tenant: &str) -> i32 {
    db.tenant(&slug(tenant)).query_one("select pg_backend_pid()", &[]).await.unwrap().get(0)
}

/// Runs a road to its COMMIT by `with_tenant`.
async fn attack(db: &Db, road: &Road, work: &str) -> Result<(), Error> {
    db.with_tenant(&slug("acme"), async |tx| {
        tx.execute("insert into marks (tag, n) values ('attack', 1)", &[]).await?;
        for statement in road.statements {
            tx.execute_typed(&statement.replace("{work}", work), &[]).await?;
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn what_replaces_prepared_statements_at_commit_reaches_nobody() {
    let stage = Stage::set().await;
    for (mode, db) in stage.handles().await {
        for road in ROADS {
            let what = format!("{mode}: {}", road.name);
            let before = pid(&db, "globex").await;
            let outcome = attack(&db, road, REPLACE).await;
            // What defers itself again is refused before it does its work, and a cursor is closed and never worked out. The
            // trigger has run, and cost the connection.
            if road.name.contains("again") {
                assert!(
                    matches!(outcome, Err(Error::Transaction(TransactionError::Tampered { .. }))),
                    "{what}: {outcome:?}"
                );
            } else {
                outcome.unwrap_or_else(|error| panic!("{what}: {error:?}"));
            }
            let ran = road.name.contains("in one block");
            assert_eq!(pid(&db, "globex").await != before, ran, "{what}: whether the connection is used again");
            for _ in 0..2 {
                let (tag, planted): (String, i64) = db
                    .with_tenant(&slug("globex"), async |tx| {
                        let row = tx.query_one("select tag from marks where n = 0", &[]).await?;
                        let planted = "select count(*) from pg_prepared_statements where from_sql";
                        Ok((row.get(0), tx.query_one(planted, &[]).await?.get(0)))
                    })
                    .await
                    .unwrap_or_else(|error| panic!("{what}: the next user: {error:?}"));
                assert_eq!((tag.as_str(), planted), ("globex", 0), "{what}");
            }
            stage.sql("delete from tenant_acme.marks where tag = 'attack'").await;
        }
    }
    let tried = ROADS.len() * 3;
    score::note(
        2,
        "code that runs inside COMMIT, next user's statements replaced",
        tried,
        0,
        "owner and service, both modes",
    );
}

/// Code that goes into another tenant behind the check: the check stands behind it.
#[tokio::test]
async fn what_leaves_the_tenant_at_commit_commits_nothing() {
    let stage = Stage::set().await;
    let globex = stage.role("globex");
    let leave = format!(
        "perform set_config('role', '{globex}', true);
         insert into tenant_globex.marks (tag, n) values ('attack', 2);"
    );
    let path = "perform set_config('search_path', 'tenant_globex, public', true);
                insert into marks (tag, n) values ('attack', 2);";
    for (mode, db) in stage.handles().await {
        let work = if mode.starts_with("role") { leave.as_str() } else { path };
        for road in ROADS {
            let outcome = attack(&db, road, work).await;
            let what = format!("{mode}: {}", road.name);
            // A cursor is closed and never worked out.
            if road.name.contains("WITH HOLD") {
                outcome.unwrap_or_else(|error| panic!("{what}: {error:?}"));
                assert_eq!(stage.marks("acme", "attack").await, (1, 0), "{what}");
                stage.sql("delete from tenant_acme.marks where tag = 'attack'").await;
            } else {
                assert!(
                    matches!(outcome, Err(Error::Transaction(TransactionError::Tampered { .. }))),
                    "{what}: {outcome:?}"
                );
                assert_eq!(stage.marks("acme", "attack").await, (0, 0), "{what}");
            }
            pid(&db, "globex").await;
        }
    }
    let tried = ROADS.len() * 3;
    score::note(
        2,
        "code that runs inside COMMIT, left its tenant and committed",
        tried,
        0,
        "owner and service, both modes",
    );
}

/// The control: check and COMMIT alone, as one message, let each road through: the code runs behind the check.
#[tokio::test]
async fn control_without_settling_each_road_leads_behind_the_check() {
    let stage = Stage::set().await;
    let globex = stage.role("globex");
    let leave = format!(
        "perform set_config('role', '{globex}', true);
         insert into tenant_globex.marks (tag, n) values ('attack', 2);"
    );
    for road in ROADS {
        let client = connect(stage.database.name()).await;
        let role = stage.role("acme");
        run(&client, &format!("begin; set local search_path = tenant_acme, public; set local role \"{role}\""))
            .await
            .unwrap();
        for statement in road.statements {
            client.query_typed(&statement.replace("{work}", &leave), &[]).await.unwrap();
        }
        let check = format!("select 1 / (case when current_user = '{role}' then 1 else 0 end); commit");
        run(&client, &check).await.unwrap_or_else(|error| panic!("{}: {error:?}", road.name));
        assert_eq!(stage.marks("globex", "attack").await, (1, 0), "{}: it proves nothing", road.name);
        stage.sql("delete from tenant_globex.marks where tag = 'attack'").await;
    }
    score::control(2, "check and COMMIT without what is run before", ROADS.len(), ROADS.len(), "another tenant's row");
}

/// A domain of this name in the session made the check compare four characters; an operator or function in the tenant's schema, in
/// front of the path, could do the same. Every name in the check is qualified.
#[tokio::test]
async fn names_in_the_session_do_not_change_the_check() {
    let stage = Stage::set().await;
    let globex = stage.role("globex");
    let leave = format!("do $$ begin perform set_config('role', '{globex}', true); end $$");
    let attacks = [
        "create domain pg_temp.text as char(4)",
        "create domain pg_temp.name as varchar(4)",
        "do $$ begin create domain pg_temp.text as char(4); perform set_config('search_path', 'pg_temp, tenant_acme, public', true); end $$",
    ];
    for (mode, db) in stage.handles().await {
        for attack in attacks {
            let outcome = db
                .with_tenant(&slug("acme"), async |tx| {
                    tx.execute("insert into marks (tag, n) values ('attack', 1)", &[]).await?;
                    tx.execute_typed(attack, &[]).await?;
                    tx.execute_typed(&leave, &[]).await.map(drop)
                })
                .await;
            let outcome = match mode.starts_with("path") {
                // There is no role to leave; the path is what is checked.
                true if !attack.contains("search_path") => continue,
                _ => outcome,
            };
            assert!(
                matches!(outcome, Err(Error::Transaction(TransactionError::Tampered { .. }))),
                "{mode}: {attack}: {outcome:?}"
            );
            assert_eq!(stage.marks("acme", "attack").await, (0, 0));
        }
    }
    // An equality of the tenant's own, which finds everything equal, in front of the server's: the owner alone can make one.
    let hijack = [
        "create function tenant_acme.equal(text, text) returns boolean language sql as 'select true'",
        "create operator tenant_acme.= (leftarg = text, rightarg = text, function = tenant_acme.equal)",
        "create function tenant_acme.equal(name, text) returns boolean language sql as 'select true'",
        "create operator tenant_acme.= (leftarg = name, rightarg = text, function = tenant_acme.equal)",
    ];
    for statement in hijack {
        stage.sql(statement).await;
    }
    let path = "do $$ begin perform set_config('search_path', 'tenant_acme, pg_catalog, tenant_globex', true); end $$";
    let hijacked: bool = {
        let client = connect(stage.database.name()).await;
        run(&client, "set search_path = tenant_acme, pg_catalog").await.unwrap();
        client.query_one("select 'a'::text = 'b'::text", &[]).await.unwrap().get(0)
    };
    assert!(hijacked, "the operator is not found: this test proves nothing");
    for (mode, db) in stage.handles().await {
        let outcome = db.with_tenant(&slug("acme"), async |tx| tx.execute_typed(path, &[]).await.map(drop)).await;
        assert!(matches!(outcome, Err(Error::Transaction(TransactionError::Tampered { .. }))), "{mode}: {outcome:?}");
    }
    score::note(2, "names in session or schema that change the check, committed", 10, 0, "types, functions, operators");
}

/// The numbers of `random()` do not follow from what the last tenant seeded.
#[tokio::test]
async fn a_seed_does_not_reach_the_next_tenant() {
    let stage = Stage::set().await;
    let mut drawn = Vec::new();
    for _ in 0..3 {
        let (_, before) = stage.next_user(&stage.db, "acme").await;
        stage.db.tenant(&slug("acme")).query("select setseed(0.5)", &[]).await.unwrap();
        let row = stage.db.tenant(&slug("globex")).query_one("select random(), pg_backend_pid()", &[]).await.unwrap();
        assert_eq!(row.get::<_, i32>(1), before, "another backend proves nothing");
        drawn.push(row.get::<_, f64>(0));
    }
    assert!(drawn[0] != drawn[1] && drawn[1] != drawn[2], "{drawn:?}");
    // The control: without a new seed it is the same number each time.
    let mut foretold = Vec::new();
    for _ in 0..2 {
        stage.watch.query_one("select setseed(0.5)", &[]).await.unwrap();
        foretold.push(stage.watch.query_one("select random()", &[]).await.unwrap().get::<_, f64>(0));
    }
    assert!(foretold[0].to_bits() == foretold[1].to_bits(), "{foretold:?}");
}
