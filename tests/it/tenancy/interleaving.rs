//! Two sessions, every interleaving of their steps: a tenant's transaction beside somebody who changes or suspends the tenant
//! under its lock (threat T3). Who waits for whom is asserted, not timed.
//!
//! As in PostgreSQL's own isolation tests, a step that waits is left waiting, and the other session goes on.

use crate::{
    sandbox::Files,
    stage::{connect, report, run, slug},
    support::{
        patience::{HANG, patient},
        score,
    },
};
use cgk::{
    Db, Error, TenantError, TenantSlug, TxOptions,
    lifecycle::{self, CreateManyOptions, NewTenant},
    lock,
    migrate::Silent,
    testing::{TestDatabase, TestServer},
};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio_postgres::Client;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    Drop,
    Rename,
    /// Renames the schema and puts another of the same name into its place.
    Replace,
    Suspend,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Commit,
    RollBack,
}

/// The steps of the two sessions, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Begin,
    Read,
    Write,
    End,
    Lock,
    Change,
    Commit,
}
use Step::{Begin, Commit, Lock, Read, Write};

const TENANT: [Step; 4] = [Begin, Read, Write, Step::End];
const ADMIN: [Step; 3] = [Lock, Step::Change, Commit];

/// All orders that keep the order of each session.
fn interleavings(tenant: &[Step], admin: &[Step]) -> Vec<Vec<Step>> {
    if tenant.is_empty() || admin.is_empty() {
        return vec![[tenant, admin].concat()];
    }
    let first = |step: Step, rest: Vec<Vec<Step>>| rest.into_iter().map(move |rest| [vec![step], rest].concat());
    first(tenant[0], interleavings(&tenant[1..], admin))
        .chain(first(admin[0], interleavings(tenant, &admin[1..])))
        .collect()
}

impl Change {
    fn sql(self, tenant: &TenantSlug) -> String {
        let gone = format!("alter schema tenant_{tenant} rename to gone_{tenant}");
        match self {
            Self::Drop => format!("drop schema tenant_{tenant} cascade"),
            Self::Rename => gone,
            Self::Replace => format!(
                "{gone}; create schema tenant_{tenant}; create table tenant_{tenant}.marks (tag text, n int);
                 insert into tenant_{tenant}.marks values ('impostor', 0);
                 grant usage on schema tenant_{tenant} to public; grant all on tenant_{tenant}.marks to public"
            ),
            Self::Suspend => format!("update organizations set status = 'suspended' where slug = '{tenant}'"),
        }
    }
}

struct Stage {
    database: TestDatabase,
    db: Db,
    watch: Client,
    admin_pid: i32,
}

impl Stage {
    async fn set(tenants: &[TenantSlug]) -> Self {
        let database = TestServer::shared().set_up_database().await.unwrap();
        let (operator, db) = (database.operator().await.unwrap(), database.db().await.unwrap());
        let files = Files::of_tenants(&[("001_marks.sql", "create table marks (tag text, n int)")]);
        let wanted: Vec<NewTenant> = tenants.iter().cloned().map(NewTenant::from).collect();
        let options = CreateManyOptions::default();
        let made = lifecycle::create_many(&operator, &db, &files.load(), &wanted, &options, &mut Silent).await.unwrap();
        assert_eq!(made.failed(), 0, "{made:?}");
        let watch = connect(database.name()).await;
        let decoy = "create table public.marks (tag text, n int); insert into public.marks values ('decoy', 0);
                     grant all on public.marks to public;";
        let rows: String =
            tenants.iter().map(|tenant| format!("insert into tenant_{tenant}.marks values ('own', 0);")).collect();
        run(&watch, &format!("{decoy}{rows}")).await.unwrap();
        let db = Db::connect(&patient(database.config()).with_pool_size_max(1)).await.unwrap();
        drop(operator);
        Self { database, db, watch, admin_pid: 0 }
    }

    async fn truth(&self, sql: &str) -> bool {
        self.watch.query_one(sql, &[]).await.unwrap().get(0)
    }

    /// Whether the other session waits for this one.
    async fn waits(&self, admin: bool) -> bool {
        let pid = self.admin_pid;
        self.truth(&if admin {
            format!(
                "select exists (select from pg_stat_activity a where datname = current_database() and application_name = 'cgk'
                                and a.pid = any (pg_blocking_pids({pid})))"
            )
        } else {
            format!(
                "select exists (select from pg_stat_activity a where datname = current_database() and pid <> {pid}
                                and {pid} = any (pg_blocking_pids(a.pid)))"
            )
        })
        .await
    }
}

/// A session that is told its steps and says when each is done.
struct Side {
    steps: mpsc::UnboundedSender<Step>,
    done: mpsc::UnboundedReceiver<Step>,
    told: usize,
    finished: usize,
    waited: bool,
}

impl Side {
    /// Says a step; waits until it is done, or until it is seen to wait for the other session.
    async fn go(&mut self, stage: &Stage, step: Step, admin: bool) {
        // A session that is over, because it was refused, takes no more steps.
        if self.steps.send(step).is_err() {
            return;
        }
        self.told += 1;
        let began = Instant::now();
        while self.finished < self.told {
            match tokio::time::timeout(Duration::from_millis(1), self.done.recv()).await {
                Ok(Some(_)) => self.finished += 1,
                Ok(None) => return,
                Err(_) if stage.waits(admin).await => {
                    self.waited = true;
                    return;
                }
                Err(_) => assert!(began.elapsed() < HANG, "{step:?} neither ends nor waits"),
            }
        }
    }
}

#[derive(Debug, Default)]
struct Seen {
    tag: Option<String>,
}

/// The tenant's transaction, step by step.
async fn tenant_side(
    db: Db,
    tenant: TenantSlug,
    end: End,
    options: TxOptions,
    mut steps: mpsc::UnboundedReceiver<Step>,
    done: mpsc::UnboundedSender<Step>,
) -> (Result<(), Error>, Seen) {
    let mut seen = Seen::default();
    // The transaction begins when it is told to, and no sooner.
    if steps.recv().await != Some(Begin) {
        return (Ok(()), seen);
    }
    let ended = done.clone();
    let outcome = db
        .with_tenant_in(&tenant, &options, async |tx| {
            tx.query_typed("select 1", &[]).await?;
            let _ = done.send(Begin);
            while let Some(step) = steps.recv().await {
                match step {
                    Read => seen.tag = Some(tx.query_one("select tag from marks where n = 0", &[]).await?.get(0)),
                    Write => drop(tx.execute("insert into marks (tag, n) values ('late', 1)", &[]).await?),
                    Step::End => break,
                    _ => unreachable!("a step of the other session"),
                }
                let _ = done.send(step);
            }
            match end {
                End::Commit => Ok(()),
                End::RollBack => Err(Error::Tenant(TenantError::NotFound { tenant: slug("rolled_back") })),
            }
        })
        .await;
    let _ = ended.send(Step::End);
    (outcome, seen)
}

async fn admin_side(
    admin: Client,
    tenant: TenantSlug,
    change: Change,
    mut steps: mpsc::UnboundedReceiver<Step>,
    done: mpsc::UnboundedSender<Step>,
) -> Client {
    while let Some(step) = steps.recv().await {
        let sql = match step {
            Lock => format!("begin; select pg_advisory_xact_lock({})", lock::tenant_key(&tenant)),
            Step::Change => change.sql(&tenant),
            Commit => "commit".into(),
            _ => unreachable!("a step of the other session"),
        };
        run(&admin, &sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
        let _ = done.send(step);
        if step == Commit {
            break;
        }
    }
    admin
}

/// Plays one order; returns whether a session waited.
async fn play(
    stage: &mut Stage,
    tenant: &TenantSlug,
    order: &[Step],
    change: Change,
    end: End,
    options: &TxOptions,
) -> bool {
    let what = format!("{change:?}, {end:?}, {options:?}, {order:?}");
    let admin = connect(stage.database.name()).await;
    stage.admin_pid = admin.query_one("select pg_backend_pid()", &[]).await.unwrap().get(0);
    let side = |steps, done| Side { steps, done, told: 0, finished: 0, waited: false };
    let ((tell, told), (say, said)) = (mpsc::unbounded_channel(), mpsc::unbounded_channel());
    let (mut ours, ours_task) = (
        side(tell, said),
        tokio::spawn(tenant_side(stage.db.clone(), tenant.clone(), end, options.clone(), told, say)),
    );
    let ((tell, told), (say, said)) = (mpsc::unbounded_channel(), mpsc::unbounded_channel());
    let (mut theirs, theirs_task) =
        (side(tell, said), tokio::spawn(admin_side(admin, tenant.clone(), change, told, say)));
    for step in order {
        if ADMIN.contains(step) {
            theirs.go(stage, *step, true).await;
        } else {
            ours.go(stage, *step, false).await;
        }
    }
    let (outcome, seen) = ours_task.await.unwrap();
    drop(theirs_task.await.unwrap());

    let at = |step: Step| order.iter().position(|found| *found == step).unwrap();
    let (begin, finish, lock, commit) = (at(Begin), at(Step::End), at(Lock), at(Commit));
    assert_eq!(theirs.waited, begin < lock && lock < finish, "{what}: whether the change waited");
    assert_eq!(ours.waited, lock < begin && begin < commit, "{what}: whether the tenant waited");
    let own_schema = match change {
        Change::Drop => None,
        Change::Suspend => Some(format!("tenant_{tenant}")),
        Change::Rename | Change::Replace => Some(format!("gone_{tenant}")),
    };
    let committed = if begin < lock {
        // Whatever came later, it was in its own schema to the end.
        assert_eq!(seen.tag.as_deref(), Some("own"), "{what}");
        end == End::Commit
    } else if change == Change::Replace {
        // Another schema of the same name, which everybody may use: nothing tells them apart.
        assert_eq!(seen.tag.as_deref(), Some("impostor"), "{what}");
        false
    } else {
        let refused = matches!(
            (&outcome, change),
            (Err(Error::Tenant(TenantError::Suspended { .. })), Change::Suspend)
                | (Err(Error::Tenant(TenantError::NotReady { .. })), Change::Drop | Change::Rename)
        );
        assert!(refused && seen.tag.is_none(), "{what}: {outcome:?}");
        false
    };
    if seen.tag.as_deref() == Some("own") {
        assert_eq!(outcome.is_ok(), committed, "{what}: {outcome:?}");
    }
    if let Some(schema) = own_schema {
        let rows =
            format!("select (select count(*) from {schema}.marks where tag = 'late') = {}", i64::from(committed));
        assert!(stage.truth(&rows).await, "{what}: its row");
    }
    assert!(stage.truth("select count(*) = 1 from public.marks").await, "{what}: the decoy");
    ours.waited || theirs.waited
}

#[tokio::test]
async fn every_interleaving_ends_in_one_tenant() {
    let orders = interleavings(&TENANT, &ADMIN);
    assert_eq!(orders.len(), 35);
    let mut plays = Vec::new();
    for change in [Change::Drop, Change::Rename, Change::Replace, Change::Suspend] {
        for end in [End::Commit, End::RollBack] {
            plays.extend(orders.iter().map(|order| (change, end, TxOptions::default(), order)));
        }
    }
    // One snapshot for all statements: the lock has to be there before it.
    for options in [TxOptions::default().repeatable_read(), TxOptions::default().serializable()] {
        for change in [Change::Rename, Change::Suspend] {
            plays.extend(orders.iter().map(|order| (change, End::Commit, options.clone(), order)));
        }
    }
    let tenants: Vec<TenantSlug> = (0..plays.len()).map(|n| slug(&format!("t{n:03}"))).collect();
    let mut stage = Stage::set(&tenants).await;
    let mut waited = 0;
    for (tenant, (change, end, options, order)) in tenants.iter().zip(&plays) {
        waited += usize::from(play(&mut stage, tenant, order, *change, *end, options).await);
    }
    assert!(waited > plays.len() / 3, "{waited} of {}: this test proves nothing", plays.len());
    let summary = format!(
        "all {} orders x 4 changes x commit and roll back at READ COMMITTED, x 2 changes at REPEATABLE READ and \
         SERIALIZABLE; one session waited in {waited}",
        orders.len()
    );
    report(&summary);
    score::note(11, "two sessions, every interleaving, unexpected", plays.len(), 0, &summary);
}

/// The control: who waits for the lock and looks in one statement, or with a snapshot from before the wait, finds the tenant as it
/// was before it was suspended.
#[tokio::test]
async fn control_a_look_from_before_the_wait_lets_a_suspended_tenant_in() {
    let key = lock::tenant_key(&slug("acme"));
    let in_one = format!(
        "select pg_advisory_xact_lock_shared({key}), (select status::text from organizations where slug = 'acme') as status"
    );
    let (wait, look) = (
        format!("select pg_advisory_xact_lock_shared({key})"),
        "select status::text as status from organizations where slug = 'acme'",
    );
    let cases: [(&str, &str, &str); 3] = [
        ("begin", "", &in_one),
        ("begin isolation level repeatable read", &wait, look),
        // And what the library does: right.
        ("begin", &wait, look),
    ];
    let mut found = Vec::new();
    for (begin, wait, look) in cases {
        let mut stage = Stage::set(&[slug("acme")]).await;
        let (admin, entry) = (connect(stage.database.name()).await, connect(stage.database.name()).await);
        stage.admin_pid = admin.query_one("select pg_backend_pid()", &[]).await.unwrap().get(0);
        run(&admin, &format!("begin; select pg_advisory_xact_lock({key})")).await.unwrap();
        run(&entry, begin).await.unwrap();
        let enter = async {
            if !wait.is_empty() {
                run(&entry, wait).await.unwrap();
            }
            let status: String = entry.query_one(look, &[]).await.unwrap().get("status");
            status
        };
        let suspend = async {
            while !stage.waits(false).await {
                tokio::task::yield_now().await;
            }
            run(&admin, &format!("{}; commit", Change::Suspend.sql(&slug("acme")))).await.unwrap();
        };
        found.push(tokio::join!(enter, suspend).0);
    }
    assert_eq!(found, ["active", "active", "suspended"]);
    score::control(11, "lock and look in one statement, or in one snapshot", 2, 2, "a suspended tenant is let in");
}
