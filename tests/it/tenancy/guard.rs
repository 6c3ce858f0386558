//! A closure that ends its transaction, leaves its tenant or hides an error: nothing of it is committed, the outcome says
//! what happened, and the next user of the connection finds nothing (threats T15, T16, T19, T25, T26).

use crate::{
    stage::{Stage, connect, run, slug},
    support::{patience::must_end, score},
};
use cgk::{Error, ErrorKind, TenantTx, TransactionError};

const INSERT: &str = "insert into marks (tag, n) values ('guard', 1)";

/// What a closure that tries something forbidden must come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// Everything is committed: what was tried has no effect.
    Committed,
    Tampered,
    Aborted,
}

/// Writes a row, tries something without looking at the answer, writes another row, and returns Ok.
async fn attempt(stage: &Stage, statements: &[&str]) -> Result<(), Error> {
    stage
        .db
        .with_tenant(&slug("acme"), async |tx: &mut TenantTx<'_>| {
            tx.execute(INSERT, &[]).await?;
            for statement in statements {
                let _ = tx.execute_typed(statement, &[]).await;
            }
            let _ = tx.execute_typed(INSERT, &[]).await;
            Ok(())
        })
        .await
}

fn judge(outcome: &Result<(), Error>) -> Outcome {
    match outcome {
        Ok(()) => Outcome::Committed,
        Err(error @ Error::Transaction(TransactionError::Tampered { .. })) => {
            assert_eq!(error.kind(), ErrorKind::Refused);
            Outcome::Tampered
        }
        Err(error @ Error::Transaction(TransactionError::Aborted { .. })) => {
            assert_eq!(error.kind(), ErrorKind::Refused);
            Outcome::Aborted
        }
        Err(other) => panic!("not a typed refusal: {other:?}"),
    }
}

#[tokio::test]
async fn leaving_the_transaction_or_the_tenant_commits_nothing() {
    use Outcome::*;
    let stage = Stage::set().await;
    let (acme, globex) = (stage.role("acme"), stage.role("globex"));
    let set_globex = format!("set local role \"{globex}\"");
    let set_globex_session = format!("set role \"{globex}\"");
    let authorize = format!("set session authorization \"{globex}\"");
    let by_function = format!("do $$ begin perform set_config('role', '{globex}', true); end $$");
    let block = |sql: &str| format!("do $do$ begin {sql}; end $do$");
    let there_and_back = format!("set local role \"{acme}\"");
    let cases: &[(&[&str], Outcome)] = &[
        // Ends of the transaction.
        (&["commit"], Tampered),
        (&["COMMIT"], Tampered),
        (&["  /* a /* b */ */ -- c\n ;;\tcOmMiT work"], Tampered),
        (&["end"], Tampered),
        (&["rollback"], Tampered),
        (&["abort"], Tampered),
        (&["commit and chain"], Tampered),
        (&["rollback and chain"], Tampered),
        (&["commit", "begin"], Tampered),
        (&["rollback", "begin"], Tampered),
        (&["prepare transaction 'guard'"], Tampered),
        (&["commit prepared 'guard'"], Tampered),
        // A BEGIN inside a transaction is a warning.
        (&["begin"], Committed),
        // Other roles.
        (&["set role none"], Tampered),
        (&["reset role"], Tampered),
        (&["set local role none"], Tampered),
        (&[&set_globex], Tampered),
        (&[&set_globex_session], Tampered),
        (&[&authorize], Tampered),
        (&[&by_function], Tampered),
        (&["reset role", &set_globex], Tampered),
        // There and back: the forms are refused, and their positions count for nothing.
        (&[&set_globex, &there_and_back], Tampered),
        (&["set local search_path = tenant_globex", "set local search_path = tenant_acme, public, pg_temp"], Tampered),
        (&["set app.current_organization_id = 'x'"], Tampered),
        (&["discard all"], Tampered),
        // The same where nobody can look before it is sent: found by the check before the COMMIT.
        (&[&block("set local role none")], Tampered),
        (&[&block(&set_globex)], Tampered),
        (&[&block(&set_globex_session)], Tampered),
        (&[&block("reset role")], Tampered),
        (&[&block("set local search_path = tenant_globex, public")], Tampered),
        (&[&block("reset search_path")], Tampered),
        (&[&block("reset all")], Tampered),
        // Not found where it does not last until then (docs/security.md).
        (&[&block(&format!("{set_globex}; {there_and_back}"))], Committed),
        // Other paths.
        (&["set local search_path = tenant_globex, public"], Tampered),
        (&["set search_path = tenant_globex, public"], Tampered),
        (&["select set_config('search_path', 'public', true)"], Tampered),
        // (The row after it has nowhere to go.)
        (&["select set_config('search_path', '', false)"], Aborted),
        (&["create temp table marks (tag text, n int)", "set local search_path = pg_temp, tenant_acme"], Tampered),
        (&["reset all"], Tampered),
        // The number that guards the transaction.
        (&["select set_config('cgk.tx', 'x', true)"], Tampered),
        // Ends from within: the server itself refuses them.
        (&["do $$ begin commit; end $$"], Aborted),
        (&["do $$ begin rollback; end $$"], Aborted),
        // Errors that are hidden.
        (&["select 1 / 0"], Aborted),
        (&["nonsense"], Aborted),
        (&["select 1; commit"], Aborted),
        (&["do $$ begin discard all; end $$"], Aborted),
        (&["vacuum"], Aborted),
    ];
    for (statements, expected) in cases {
        let outcome = attempt(&stage, statements).await;
        assert_eq!(judge(&outcome), *expected, "{statements:?}: {outcome:?}");
        let (own, elsewhere) = stage.marks("acme", "guard").await;
        let kept = if *expected == Committed { 2 } else { 0 };
        assert_eq!((own, elsewhere), (kept, 0), "{statements:?}");
        stage.next_user(&stage.db, "globex").await;
        stage.sql("delete from tenant_acme.marks where tag = 'guard'").await;
    }
    assert_eq!(stage.number("select count(*) from pg_prepared_xacts").await, 0);
    let refused = cases.iter().filter(|(_, expected)| *expected != Committed).count();
    let told = format!("{refused} refused with nothing committed, {} without effect", cases.len() - refused);
    score::note(2, "ways out of transaction or tenant inside a closure, let through", cases.len(), 0, &told);
}

/// The same, seen by an implementation that has no guard: the test can tell.
#[tokio::test]
async fn control_without_a_guard_a_commit_inside_leaks_into_public() {
    let stage = Stage::set().await;
    let client = connect(stage.database.name()).await;
    run(&client, "begin; set local search_path = tenant_acme, public").await.unwrap();
    run(&client, INSERT).await.unwrap();
    run(&client, "commit").await.unwrap();
    run(&client, INSERT).await.unwrap();
    run(&client, "commit").await.unwrap();
    assert_eq!(stage.marks("acme", "guard").await, (1, 1));
    // And a hidden error: COMMIT of an aborted transaction is no error, and the row is gone.
    run(&client, "begin; set local search_path = tenant_globex, public").await.unwrap();
    run(&client, INSERT).await.unwrap();
    run(&client, "select 1 / 0").await.unwrap_err();
    run(&client, "commit").await.unwrap();
    assert_eq!(stage.marks("globex", "guard").await.0, 0);
    score::control(2, "COMMIT inside, and a hidden error, without a guard", 2, 2, "a row in public; Ok and no row");
}

#[tokio::test]
async fn a_hidden_error_names_what_failed() {
    let stage = Stage::set().await;
    let error = attempt(&stage, &["select * from nowhere"]).await.unwrap_err();
    assert!(matches!(error, Error::Transaction(TransactionError::Aborted { .. })), "{error:?}");
    assert_eq!(error.sqlstate().unwrap().code(), "42P01");
}

/// A procedure that commits cannot do so inside a transaction, even one that switches settings off when it is called.
#[tokio::test]
async fn a_procedure_that_commits_is_refused() {
    let stage = Stage::set().await;
    stage
        .sql(
            "create procedure tenant_acme.settle() language plpgsql as $$
             begin insert into marks (tag, n) values ('guard', 2); commit; end $$;
             create procedure tenant_acme.book() language plpgsql as $$
             begin insert into marks (tag, n) values ('guard', 3); end $$",
        )
        .await;
    let outcome = attempt(&stage, &["call settle()"]).await;
    assert_eq!(judge(&outcome), Outcome::Aborted);
    assert_eq!(outcome.unwrap_err().sqlstate().unwrap().code(), "2D000");
    assert_eq!(stage.marks("acme", "guard").await, (0, 0));
    // One that does not is as good as any statement.
    attempt(&stage, &["call book()"]).await.unwrap();
    assert_eq!(stage.marks("acme", "guard").await, (3, 0));
}

#[tokio::test]
async fn a_deferred_constraint_fails_at_commit() {
    let stage = Stage::set().await;
    stage
        .sql(
            "create table tenant_acme.parents (id int primary key);
             create table tenant_acme.children (parent int references tenant_acme.parents deferrable initially deferred)",
        )
        .await;
    let error = stage
        .db
        .with_tenant(&slug("acme"), async |tx| {
            tx.execute(INSERT, &[]).await?;
            tx.execute("insert into children values (1)", &[]).await
        })
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Transaction(TransactionError::Statement { .. })), "{error:?}");
    assert_eq!(error.sqlstate().unwrap().code(), "23503");
    assert_eq!(stage.marks("acme", "guard").await, (0, 0));
    assert_eq!(stage.number("select count(*) from tenant_acme.children").await, 0);
    stage.next_user(&stage.db, "globex").await;
}

#[tokio::test]
async fn savepoints_undo_their_part_and_nothing_else() {
    let stage = Stage::set().await;
    let mark = async |tx: &TenantTx<'_>, n: i32| {
        tx.execute("insert into marks (tag, n) values ('part', $1)", &[&n]).await.map(drop)
    };
    stage
        .db
        .with_tenant(&slug("acme"), async |tx| {
            mark(tx, 1).await?;
            {
                let mut outer = tx.savepoint().await?;
                mark(&outer, 2).await?;
                {
                    let inner = outer.savepoint().await?;
                    mark(&inner, 4).await?;
                    // Dropped: undone.
                }
                {
                    let mut inner = outer.savepoint().await?;
                    mark(&inner, 8).await?;
                    {
                        let innermost = inner.savepoint().await?;
                        mark(&innermost, 16).await?;
                        innermost.query("select 1 / 0", &[]).await.unwrap_err();
                        // Cannot be kept: it is undone, and its neighbours live on.
                        innermost.release().await.unwrap_err();
                    }
                    mark(&inner, 32).await?;
                    inner.release().await?;
                }
                outer.release().await?;
            }
            {
                let dropped = tx.savepoint().await?;
                mark(&dropped, 64).await?;
                dropped.query("select * from nowhere", &[]).await.unwrap_err();
            }
            mark(tx, 128).await
        })
        .await
        .unwrap();
    let sum = stage.number("select sum(n) from tenant_acme.marks where tag = 'part'").await;
    assert_eq!(sum, 1 + 2 + 8 + 32 + 128);
    stage.next_user(&stage.db, "globex").await;
}

/// A savepoint that was refused, because an error came before it, takes no other savepoint with it.
#[tokio::test]
async fn a_refused_savepoint_leaves_the_one_around_it() {
    let stage = Stage::set().await;
    stage
        .db
        .with_tenant(&slug("acme"), async |tx| {
            {
                let mut outer = tx.savepoint().await?;
                outer.execute("insert into marks (tag, n) values ('part', 1)", &[]).await?;
                outer.query("select 1 / 0", &[]).await.unwrap_err();
                assert!(outer.savepoint().await.is_err());
                // Still inside the failed part, so nothing works there …
                let error = outer.execute("insert into marks (tag, n) values ('part', 2)", &[]).await.unwrap_err();
                assert_eq!(error.sqlstate().unwrap().code(), "25P02");
            }
            // … and everything works outside.
            tx.execute("insert into marks (tag, n) values ('part', 4)", &[]).await
        })
        .await
        .unwrap();
    assert_eq!(stage.number("select sum(n) from tenant_acme.marks where tag = 'part'").await, 4);
}

/// A release of which nobody awaits the answer has happened all the same: the savepoint around it is not undone for it.
#[tokio::test]
async fn an_abandoned_release_does_not_undo_the_savepoint_around_it() {
    let stage = Stage::set().await;
    stage
        .db
        .with_tenant(&slug("acme"), async |tx| {
            let mut outer = tx.savepoint().await?;
            outer.execute("insert into marks (tag, n) values ('part', 1)", &[]).await?;
            let inner = outer.savepoint().await?;
            inner.execute("insert into marks (tag, n) values ('part', 2)", &[]).await?;
            let abandoned = futures_util::FutureExt::now_or_never(inner.release());
            assert!(abandoned.is_none(), "the answer cannot be there yet");
            outer.execute("insert into marks (tag, n) values ('part', 4)", &[]).await?;
            outer.release().await
        })
        .await
        .unwrap();
    assert_eq!(stage.number("select sum(n) from tenant_acme.marks where tag = 'part'").await, 7);
}

/// An error that a savepoint has undone is not the one that made a later commit fail.
#[tokio::test]
async fn an_error_that_was_undone_is_not_blamed() {
    let stage = Stage::set().await;
    let error = stage
        .db
        .with_tenant(&slug("acme"), async |tx| {
            {
                let part = tx.savepoint().await?;
                part.query("select 1 / 0", &[]).await.unwrap_err();
            }
            let _ = tx.query("select * from nowhere", &[]).await;
            Ok(())
        })
        .await
        .unwrap_err();
    assert_eq!(error.sqlstate().unwrap().code(), "42P01", "{error:?}");
}

/// The driver answers "unexpected message" to a COPY that was not begun as one, and the server waits for data.
#[tokio::test]
async fn a_copy_that_was_sent_as_a_query_is_refused_and_hangs_nobody() {
    let stage = Stage::set().await;
    for swallow in [true, false] {
        let outcome = must_end(
            "the closure",
            stage.db.with_tenant(&slug("acme"), async |tx| {
                tx.execute(INSERT, &[]).await?;
                let copied = tx.query("copy marks from stdin", &[]).await;
                assert!(copied.is_err());
                if swallow { Ok(()) } else { copied.map(drop) }
            }),
        )
        .await;
        // Nothing was committed, and that is known.
        let kind = outcome.unwrap_err().kind();
        assert_eq!(kind, if swallow { ErrorKind::Refused } else { ErrorKind::Failed });
        stage.next_user(&stage.db, "globex").await;
        assert_eq!(stage.marks("acme", "guard").await, (0, 0));
    }
}

/// The same of a single statement, whose commit is on its way behind it.
#[tokio::test]
async fn hostile_single_statements_commit_nothing_and_hang_nobody() {
    let stage = Stage::set().await;
    let (acme, globex) = (slug("acme"), stage.role("globex"));
    let other = format!("select set_config('role', '{globex}', false)");
    let session = format!("set session authorization \"{globex}\"");
    let refused = [
        "commit",
        "rollback and chain",
        "prepare transaction 'x'",
        "reset role",
        &other,
        &session,
        "set search_path = tenant_globex",
        "do $$ begin insert into marks (tag, n) values ('guard', 1); perform set_config('cgk.tx', '', true); end $$",
        "do $$ begin insert into marks (tag, n) values ('guard', 1); commit; end $$",
        "select 1 / 0",
        "select 1; select 2",
        "copy marks from stdin",
        "discard all",
    ];
    for statement in refused {
        for typed in [true, false] {
            let tenant = stage.db.tenant(&acme);
            let what = format!("{statement}, typed: {typed}");
            let outcome = must_end(&what, async {
                if typed { tenant.execute_typed(statement, &[]).await } else { tenant.execute(statement, &[]).await }
            })
            .await;
            assert!(outcome.is_err(), "{statement}: {outcome:?}");
            stage.next_user(&stage.db, "globex").await;
            assert_eq!(stage.marks("acme", "guard").await, (0, 0), "{statement}");
        }
    }
    score::note(2, "hostile single statements, committed", refused.len() * 2, 0, "each cached and typed");
    // What a statement may leave in the session is gone with it.
    for left in
        ["select pg_advisory_lock(4711)", "create temp table marks ()", "listen gossip", "prepare x as select 1"]
    {
        stage.db.tenant(&acme).execute(left, &[]).await.unwrap();
        stage.next_user(&stage.db, "globex").await;
    }
}
