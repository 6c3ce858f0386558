//! What a closure leaves in its session when it commits: nothing that the next tenant on that connection could see
//! (threats T4, T16, T17, T18, T22).

use crate::{
    stage::{Stage, connect, run, slug},
    support::score,
};
use cgk::{Error, TenantError, TransactionError};
use tokio_postgres::Client;

/// A kind of state that belongs to the session and not to the transaction.
struct Kind {
    name: &'static str,
    /// What the tenant `acme` does. `{role}` is its role.
    make: &'static [&'static str],
    /// Whether the next tenant on the connection sees it.
    seen: &'static str,
}

const KINDS: &[Kind] = &[
    Kind {
        name: "cursor WITH HOLD",
        make: &["declare held cursor with hold for select tag from marks"],
        seen: "select exists (select from pg_cursors where name = 'held')",
    },
    Kind {
        name: "SQL PREPARE",
        make: &["prepare stolen as select tag from marks"],
        seen: "select exists (select from pg_prepared_statements where name = 'stolen')",
    },
    Kind {
        name: "advisory lock of the session",
        make: &["select pg_advisory_lock(4711)"],
        seen: "select exists (select from pg_locks where pid = pg_backend_pid() and locktype = 'advisory' and objid = 4711)",
    },
    Kind { name: "LISTEN", make: &["listen gossip"], seen: "select exists (select from pg_listening_channels())" },
    Kind {
        name: "set_config of the session",
        make: &["select set_config('work_mem', '65kB', false)"],
        seen: "select current_setting('work_mem') = '65kB'",
    },
    Kind {
        name: "a setting of the application's",
        make: &["select set_config('app.secret', 'acme', false)"],
        seen: "select coalesce(current_setting('app.secret', true), '') = 'acme'",
    },
    Kind {
        name: "time zone",
        make: &["set time zone 'Pacific/Kiritimati'"],
        seen: "select current_setting('TimeZone') = 'Pacific/Kiritimati'",
    },
    Kind {
        name: "row_security",
        make: &["set row_security = off"],
        seen: "select current_setting('row_security') = 'off'",
    },
    Kind {
        name: "read-only transactions",
        make: &["set session characteristics as transaction read only"],
        seen: "select current_setting('transaction_read_only') = 'on'",
    },
    Kind {
        name: "isolation level",
        make: &["set default_transaction_isolation = 'serializable'"],
        seen: "select current_setting('transaction_isolation') = 'serializable'",
    },
    Kind {
        name: "session authorization",
        make: &["do $$ begin set session authorization \"{role}\"; end $$"],
        seen: "select session_user <> (select usename from pg_stat_activity where pid = pg_backend_pid())
                      or current_user::text = '{role}'",
    },
    Kind {
        name: "temporary table, shadowing the tenant's",
        make: &[
            "create temp table marks (tag text, n int)",
            "insert into pg_temp.marks values ('shadow', 0)",
            "grant all on pg_temp.marks to public",
        ],
        seen: "select exists (select from pg_class where relnamespace = pg_my_temp_schema())
                      or exists (select from marks where tag = 'shadow')",
    },
    Kind {
        name: "temporary function",
        make: &["create function pg_temp.spy() returns text language sql as 'select tag from marks'"],
        seen: "select exists (select from pg_proc where pronamespace = pg_my_temp_schema())",
    },
    Kind {
        name: "temporary view",
        make: &["create temp view spy as select tag from marks"],
        seen: "select exists (select from pg_class where relnamespace = pg_my_temp_schema())",
    },
    Kind {
        name: "sequence values",
        make: &["select nextval('numbers')"],
        // Fails with 55000 where there is none, which the check takes for unseen.
        seen: "select lastval() is not null",
    },
];

/// State that `with_tenant` covers with a value of its own: seen only behind it, so the naive session is asked outside.
const COVERED: &[Kind] = &[
    Kind {
        name: "role, set for the session",
        make: &["do $$ begin set role \"{role}\"; end $$"],
        seen: "select current_user::text = '{role}'",
    },
    Kind {
        name: "statement_timeout",
        make: &["set statement_timeout = '77s'"],
        seen: "select current_setting('statement_timeout') = '77s'",
    },
];

async fn set() -> Stage {
    let stage = Stage::set().await;
    stage.sql("create sequence tenant_acme.numbers").await;
    stage
}

fn fill(text: &str, role: &str) -> String {
    text.replace("{role}", role)
}

/// Makes the state in tenant `acme` and returns the backend.
async fn make(stage: &Stage, kind: &Kind) -> i32 {
    let role = stage.role("acme");
    stage
        .db
        .with_tenant(&slug("acme"), async |tx| {
            for statement in kind.make {
                tx.execute_typed(&fill(statement, &role), &[]).await?;
            }
            Ok(tx.query_typed("select pg_backend_pid()", &[]).await?[0].get(0))
        })
        .await
        .unwrap_or_else(|error| panic!("{}: the closure must commit: {error:?}", kind.name))
}

#[tokio::test]
async fn nothing_of_a_committed_closure_is_seen_by_the_next_tenant() {
    let stage = set().await;
    let role = stage.role("acme");
    for kind in KINDS.iter().chain(COVERED) {
        let made_by = make(&stage, kind).await;
        let (seen, backend) = stage
            .db
            .with_tenant(&slug("globex"), async |tx| {
                let backend: i32 = tx.query_typed("select pg_backend_pid()", &[]).await?[0].get(0);
                let part = tx.savepoint().await?;
                let seen = match part.query_typed(&fill(kind.seen, &role), &[]).await {
                    Ok(rows) => rows[0].get(0),
                    Err(error) if error.sqlstate().is_some_and(|state| state.code() == "55000") => false,
                    Err(error) => return Err(error),
                };
                Ok::<(bool, i32), Error>((seen, backend))
            })
            .await
            .unwrap_or_else(|error| panic!("{}: {error:?}", kind.name));
        assert!(!seen, "{} is seen by the next tenant", kind.name);
        // Prepared statements cannot be scrubbed without the driver's own, so that connection is not used again.
        assert_eq!(backend == made_by, kind.name != "SQL PREPARE", "{}: another backend proves nothing", kind.name);
        stage.next_user(&stage.db, "globex").await;
    }
    let summary = "on the same backend, but for SQL PREPARE, whose connection is not used again";
    score::note(8, "kinds of session state left by a committed closure, seen", KINDS.len() + COVERED.len(), 0, summary);
}

/// The same left by a closure that is refused, because it also did what it must not.
#[tokio::test]
async fn nothing_of_a_refused_closure_is_seen_either() {
    let stage = set().await;
    let role = stage.role("acme");
    for kind in KINDS {
        let outcome = stage
            .db
            .with_tenant(&slug("acme"), async |tx| {
                for statement in kind.make {
                    tx.execute_typed(&fill(statement, &role), &[]).await?;
                }
                let _ = tx.execute_typed("commit", &[]).await;
                Ok(())
            })
            .await;
        assert!(
            matches!(outcome, Err(Error::Transaction(TransactionError::Tampered { .. }))),
            "{}: {outcome:?}",
            kind.name
        );
        let seen = stage
            .db
            .with_tenant(&slug("globex"), async |tx| tx.query_typed(&fill(kind.seen, &role), &[]).await)
            .await
            .is_ok_and(|rows| rows[0].get(0));
        assert!(!seen, "{} is seen by the next tenant", kind.name);
        stage.next_user(&stage.db, "globex").await;
    }
    score::note(8, "the same left by a refused closure, seen", KINDS.len(), 0, "");
}

/// A pool without a scrub, as it is often written: SET LOCAL in a transaction, and the connection handed on. All kinds leak.
#[tokio::test]
async fn control_without_a_scrub_each_kind_leaks() {
    let stage = set().await;
    let (role, other) = (stage.role("acme"), stage.role("globex"));
    for (kind, covered) in KINDS.iter().map(|kind| (kind, false)).chain(COVERED.iter().map(|kind| (kind, true))) {
        let client = connect(stage.database.name()).await;
        enter(&client, "acme", &role).await;
        for statement in kind.make {
            client.query_typed(&fill(statement, &role), &[]).await.unwrap();
        }
        run(&client, "commit").await.unwrap();
        if !covered {
            // Without a role: who may not see it by its grants sees it by other means.
            run(&client, "begin; set local search_path = tenant_globex, public").await.unwrap();
        }
        let rows = client.query_typed(&fill(kind.seen, &role), &[]).await;
        let seen: bool = rows.unwrap_or_else(|error| panic!("{}: {error:?}", kind.name))[0].get(0);
        assert!(seen, "{} does not leak: the tests above prove nothing for it", kind.name);
    }
    // A role of its own does not help against a temporary table in front.
    let client = connect(stage.database.name()).await;
    enter(&client, "acme", &role).await;
    for statement in KINDS.iter().find(|kind| kind.name.contains("shadowing")).unwrap().make {
        client.query_typed(statement, &[]).await.unwrap();
    }
    run(&client, "commit").await.unwrap();
    enter(&client, "globex", &other).await;
    let tag: String = client.query_one("select tag from marks", &[]).await.unwrap().get(0);
    assert_eq!(tag, "shadow");
    let kinds = KINDS.len() + COVERED.len() + 1;
    score::control(8, "SET LOCAL in a transaction and no scrub", kinds, kinds, "every kind is seen");
}

async fn enter(client: &Client, tenant: &str, role: &str) {
    run(client, &format!("begin; set local search_path = tenant_{tenant}, public; set local role \"{role}\""))
        .await
        .unwrap();
}

/// A temporary table never stands in front of the tenant's own, not even inside the closure that made it.
#[tokio::test]
async fn a_temporary_table_does_not_hide_the_tenants() {
    let stage = Stage::set().await;
    let tag: String = stage
        .db
        .with_tenant(&slug("acme"), async |tx| {
            tx.execute_typed("create temp table marks (tag text, n int)", &[]).await?;
            tx.execute_typed("insert into pg_temp.marks values ('shadow', 0)", &[]).await?;
            Ok(tx.query_one("select tag from marks", &[]).await?.get(0))
        })
        .await
        .unwrap();
    assert_eq!(tag, "acme");
}

/// A block hides DEALLOCATE and PREPARE: every statement that the driver knows by name is now another one. The next user
/// would run those, the check of the way in among them.
#[tokio::test]
async fn statements_replaced_behind_the_driver_reach_nobody() {
    let stage = Stage::set().await;
    let globex = slug("globex");
    let read = async || -> String {
        let read = async |tx: &mut cgk::TenantTx<'_>| Ok(tx.query_one("select tag from marks", &[]).await?.get(0));
        stage.db.with_tenant(&globex, read).await.unwrap()
    };
    assert_eq!(read().await, "globex");
    let replace = "do $$ declare s record; begin
        for s in select * from pg_prepared_statements where not from_sql loop
            execute format('deallocate %I', s.name);
            execute format('prepare %I %s as select ''evil''::text', s.name,
                coalesce('(' || nullif(array_to_string(s.parameter_types, ','), '') || ')', ''));
        end loop; end $$";
    for say_ok in [true, false] {
        let (_, pid) = stage.next_user(&stage.db, "globex").await;
        let replaced = stage
            .db
            .with_tenant(&slug("acme"), async |tx| {
                tx.execute_typed(replace, &[]).await?;
                let sql = "select count(*), pg_backend_pid() from pg_prepared_statements where from_sql";
                let row = &tx.query_typed(sql, &[]).await?[0];
                assert!(row.get::<_, i64>(0) > 0 && row.get::<_, i32>(1) == pid, "this test proves nothing");
                if say_ok { Ok(()) } else { Err(Error::Tenant(TenantError::NotFound { tenant: slug("nobody") })) }
            })
            .await;
        assert_eq!(replaced.is_ok(), say_ok, "{replaced:?}");
        let (_, next) = stage.next_user(&stage.db, "globex").await;
        assert_ne!(next, pid, "the connection is used again");
        assert_eq!(read().await, "globex");
    }
    score::note(16, "prepared statements replaced by SQL, run by the next user", 2, 0, "committed and refused");
}

/// The check of the way out is text: with every prepared statement replaced by one that finds everything in order, a transaction
/// that has left its tenant does not commit.
#[tokio::test]
async fn a_replaced_check_commits_nothing() {
    let stage = Stage::set().await;
    let replace = "do $$ declare s record; begin
        for s in select * from pg_prepared_statements where not from_sql loop
            execute format('deallocate %I', s.name);
            execute format('prepare %I %s as select 1', s.name,
                coalesce('(' || nullif(array_to_string(s.parameter_types, ','), '') || ')', ''));
        end loop; end $$";
    let leave =
        "do $$ begin execute 'reset role'; insert into tenant_globex.marks (tag, n) values ('stolen', 1); end $$";
    for replaces in [true, false] {
        // What is prepared on the connection is there to be replaced.
        stage.next_user(&stage.db, "acme").await;
        let outcome = stage
            .db
            .with_tenant(&slug("acme"), async |tx| {
                if replaces {
                    tx.execute_typed(replace, &[]).await?;
                    let sql =
                        "select count(*) from pg_prepared_statements where from_sql and statement like '%select 1'";
                    let fake: i64 = tx.query_typed(sql, &[]).await?[0].get(0);
                    assert!(fake > 0, "this test proves nothing");
                }
                tx.execute_typed(leave, &[]).await.map(drop)
            })
            .await;
        assert!(
            matches!(outcome, Err(Error::Transaction(TransactionError::Tampered { .. }))),
            "{replaces}: {outcome:?}"
        );
        assert_eq!(stage.number("select count(*) from tenant_globex.marks where tag = 'stolen'").await, 0);
    }
    score::note(2, "a transaction that left its tenant and replaced what is prepared, committed", 2, 0, "");
}
