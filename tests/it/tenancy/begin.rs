//! What is sent behind a BEGIN runs in its transaction or not at all, wherever in the message that opens it a cancel request
//! arrives.

use crate::{
    sandbox::Proxy,
    stage::{Stage, report, slug},
};
use cgk::{
    Config, Db, Error, ErrorKind, TenantTx, TxOptions,
    config::{Isolation, PoolSettings, Pooling},
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

/// A lock that a session of the test holds, so that whoever asks for it can be cancelled there.
const GATE: i64 = 7_140_221;

/// Writes where everybody may, and says where it ran: inside a tenant's transaction the tenant's schema comes first.
const WRITE: &str = "insert into public.marks values (pg_catalog.current_schema()::text, 1)";

/// How a transaction is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Call {
    OneStatement,
    OneTypedStatement,
    WithTenant,
    WithTenantTyped,
    WithTenantSeveral,
}

/// Each of them.
const CALLS: [Call; 5] =
    [Call::OneStatement, Call::OneTypedStatement, Call::WithTenant, Call::WithTenantTyped, Call::WithTenantSeveral];

/// Whether a session in the pool ends at an error outside of a transaction, as cgk asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sessions {
    AsTheyAre,
    /// The proxy takes the setting away.
    Unprotected,
}

impl Sessions {
    fn pass(self, text: &str) -> Option<String> {
        (self == Self::Unprotected).then(|| text.replace("set exit_on_error = on", "set exit_on_error = off"))
    }
}

/// A server behind a proxy that holds up a message which opens a transaction.
struct Held {
    stage: Stage,
    proxy: Proxy,
    db: Db,
    sessions: Sessions,
}

impl Held {
    async fn set(adjust: impl FnOnce(Config) -> Config, sessions: Sessions) -> Self {
        let stage = Stage::set().await;
        stage.sql(&format!("select pg_advisory_lock({GATE})")).await;
        let proxy = Proxy::to(&stage.database).await;
        proxy.rewrite(move |text| sessions.pass(text));
        let db = Db::connect(&adjust(proxy.config().clone().with_pool_size_max(1))).await.unwrap();
        Self { stage, proxy, db, sessions }
    }

    /// Cancels the next message that opens a transaction where this statement of it would begin; `None` where it has fewer.
    async fn cancel_at(&self, place: usize, call: Call, options: &TxOptions) -> Option<Result<(), Error>> {
        let (mut armed, held) = (true, Arc::new(AtomicBool::new(false)));
        let (is_held, sessions) = (Arc::clone(&held), self.sessions);
        self.proxy.rewrite(move |text| {
            // Behind a pooler a reset comes first.
            let opens = text.starts_with("begin") || text.starts_with("set statement_timeout = '1min'; close all");
            if !opens || !std::mem::take(&mut armed) {
                return sessions.pass(text);
            }
            let mut statements: Vec<&str> = text.split("; ").collect();
            if place == statements.len() {
                return None;
            }
            is_held.store(true, Ordering::SeqCst);
            let gate = format!("select pg_catalog.pg_advisory_lock({GATE})");
            statements.insert(place, &gate);
            Some(statements.join("; "))
        });
        let acme = slug("acme");
        let calling = async {
            match call {
                Call::OneStatement => self.db.tenant(&acme).execute(WRITE, &[]).await.map(drop),
                Call::OneTypedStatement => self.db.tenant(&acme).execute_typed(WRITE, &[]).await.map(drop),
                Call::WithTenant | Call::WithTenantTyped | Call::WithTenantSeveral => {
                    let body = async |tx: &mut TenantTx<'_>| match call {
                        Call::WithTenantTyped => tx.execute_typed(WRITE, &[]).await.map(drop),
                        Call::WithTenantSeveral => tx.execute_all(&[WRITE]).await,
                        _ => tx.execute(WRITE, &[]).await.map(drop),
                    };
                    self.db.with_tenant_in(&acme, options, body).await
                }
            }
        };
        let cancelling = async {
            let waits = format!(
                "from pg_locks where locktype = 'advisory' and not granted and objid = {GATE}
                 and database = (select oid from pg_database where datname = current_database())"
            );
            self.stage.until(&format!("select exists (select {waits})")).await;
            self.stage.sql(&format!("select pg_cancel_backend(pid) {waits}")).await;
        };
        tokio::pin!(calling);
        let outcome = tokio::select! {
            outcome = &mut calling => outcome,
            () = cancelling => calling.await,
        };
        held.load(Ordering::SeqCst).then_some(outcome)
    }

    /// How many rows were written outside of a tenant.
    async fn strays(&self) -> i64 {
        self.stage.number("select count(*) from public.marks where tag not in ('decoy', 'tenant_acme')").await
    }

    async fn written(&self) -> i64 {
        self.stage.number("select count(*) from public.marks where tag = 'tenant_acme'").await
    }
}

async fn no_statement_runs_outside(adjust: fn(Config) -> Config) {
    let held = Held::set(adjust, Sessions::AsTheyAre).await;
    let options = TxOptions::default;
    let levels = [options(), options().repeatable_read(), options().serializable(), options().read_write()];
    let with_tenant = levels[1..].iter().map(|options| (Call::WithTenant, options));
    for (call, options) in CALLS.map(|call| (call, &levels[0])).into_iter().chain(with_tenant) {
        for place in 0.. {
            let before = held.written().await;
            let Some(outcome) = held.cancel_at(place, call, options).await else {
                assert!(place > 1, "{call:?}, {options:?}: the message has {place} statements");
                break;
            };
            let summary = format!("{call:?}, {options:?}, cancelled at statement {place}: {outcome:?}");
            assert_eq!(held.strays().await, 0, "{summary}");
            // What is told is what was done; the entry of a single statement may have been tried again.
            assert_eq!(held.written().await - before, i64::from(outcome.is_ok()), "{summary}");
            if let Err(error) = outcome {
                assert!(matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::NotReady), "{summary}");
            }
            held.db.with_tenant(&slug("globex"), async |tx| tx.query("select", &[]).await).await.expect(&summary);
        }
    }
    report(&format!("no stray row, {} written", held.written().await));
}

#[tokio::test]
async fn a_cancel_request_in_the_first_message_lets_nothing_run_outside_of_the_transaction() {
    no_statement_runs_outside(|config| config).await;
}

#[tokio::test]
async fn nor_with_path_isolation() {
    no_statement_runs_outside(|config| config.with_isolation(Isolation::Path)).await;
}

/// Behind a pooler the session cannot be made to end, so the answer to the first message is awaited.
#[tokio::test]
async fn nor_behind_a_pooler() {
    no_statement_runs_outside(|config| config.with_pooling(Pooling::Transaction)).await;
}

/// Every transaction is the first one of its connection.
#[tokio::test]
async fn nor_on_a_connection_that_was_just_made() {
    let young = |config: Config| {
        let pool = PoolSettings { size_max: 1, connection_age_max: Duration::ZERO, ..config.pool().clone() };
        config.with_pool(pool)
    };
    no_statement_runs_outside(young).await;
}

/// Without the setting the statement behind a BEGIN that was cancelled runs by itself, as the login.
#[tokio::test]
async fn control_a_session_that_goes_on_runs_what_was_sent_behind_a_failed_begin() {
    for call in CALLS {
        let held = Held::set(|config| config, Sessions::Unprotected).await;
        assert!(held.cancel_at(0, call, &TxOptions::default()).await.is_some(), "there is a first statement");
        assert_eq!(held.strays().await, 1, "{call:?}");
    }
}

/// The session ends at a failed BEGIN and at nothing else: not at a statement that fails, nor at a tenant that cannot be
/// entered, nor at a COMMIT that is refused.
#[tokio::test]
async fn other_failures_leave_the_connection_in_use() {
    let stage = Stage::set().await;
    stage
        .sql(
            "alter table tenant_acme.marks add constraint late unique (n) deferrable initially deferred;
             insert into public.organizations (slug, name, status) values ('idle', 'Idle', 'suspended')",
        )
        .await;
    let (_, before) = stage.next_user(&stage.db, "acme").await;
    let (acme, double) = (slug("acme"), "insert into marks values ('double', 0)");
    let mut failures = Vec::new();
    failures.extend(stage.db.tenant(&acme).query("select 1 / 0", &[]).await.err());
    failures.extend(stage.db.tenant(&acme).query("select nothing", &[]).await.err());
    failures.extend(stage.db.tenant(&acme).execute(double, &[]).await.err());
    failures.extend(stage.db.with_tenant(&acme, async |tx| tx.execute(double, &[]).await).await.err());
    failures.extend(stage.db.with_tenant(&acme, async |tx| tx.query("select 1 / 0", &[]).await).await.err());
    failures.extend(stage.db.with_tenant(&slug("idle"), async |_| Ok(())).await.err());
    failures.extend(stage.db.with_tenant(&slug("nowhere"), async |_| Ok(())).await.err());
    failures.extend(stage.db.platform().query("select 1 / 0", &[]).await.err());
    assert_eq!(failures.len(), 8, "{failures:?}");
    assert!(failures.iter().all(|error| error.kind() != ErrorKind::Unavailable), "{failures:?}");
    let (_, after) = stage.next_user(&stage.db, "acme").await;
    assert_eq!(before, after, "{failures:?}");
}
