//! `tenant:exec`: SQL in many tenants, each in its own transaction.

use crate::{
    fixture::dropped,
    stage::{Stage, must_end, patient, slug},
};
use cgk::{
    ErrorKind, Operator, TenantSlug,
    lifecycle::{
        self, ExecAccess, ExecColumn, ExecObserver, ExecOptions, ExecReport, ExecRow, ExecScript, SuspendOptions,
    },
    migrate::{Canary, Interrupt, Scope, Selection, Silent, StopReason},
};
use std::num::NonZeroUsize;

const ONE: NonZeroUsize = NonZeroUsize::MIN;
const INSERT: &str = "insert into customers (email) values ('new@x')";
const NEW: &str = "select (select count(*) from tenant_acme.customers where email = 'new@x')
    + (select count(*) from tenant_globex.customers where email = 'new@x')";

/// What arrives: tenant, statement and values.
#[derive(Default)]
struct Collected(Vec<(String, usize, Vec<Option<String>>)>);

impl ExecObserver for Collected {
    fn row(&mut self, tenant: &TenantSlug, statement: usize, row: &ExecRow<'_>) {
        let values = row.values().map(|value| value.map(str::to_owned)).collect();
        self.0.push((tenant.to_string(), statement, values));
    }
}

/// Refuses every result.
struct Refuses;

impl ExecObserver for Refuses {
    fn columns(&mut self, _: &TenantSlug, _: usize, columns: &[ExecColumn]) -> Result<(), String> {
        Err(format!("{} is not wanted", columns[0].name))
    }
}

fn script(text: &str) -> ExecScript {
    ExecScript::parse(text).unwrap()
}

fn write() -> ExecOptions {
    ExecOptions::default().access(ExecAccess::Write)
}

async fn exec(operator: &Operator, text: &str, options: &ExecOptions) -> (ExecReport, Collected) {
    let mut collected = Collected::default();
    let all = Selection::from(Scope::Tenants);
    let script = script(text);
    let work = lifecycle::exec(operator, &script, &all, options, &mut collected);
    let report = must_end(work).await.unwrap();
    (report, collected)
}

async fn in_acme(operator: &Operator, text: &str, options: &ExecOptions) -> ExecReport {
    let acme = Selection::from(Scope::Only(vec![slug("acme")]));
    must_end(lifecycle::exec(operator, &script(text), &acme, options, &mut Silent)).await.unwrap()
}

/// The codes of the tenants that failed, by slug.
fn codes(report: &ExecReport) -> Vec<(String, &'static str)> {
    let mut codes: Vec<_> = report.failures().map(|(slug, error)| (slug.to_string(), error.code())).collect();
    codes.sort();
    codes
}

async fn each_tenant_is_its_own(stage: &Stage, operator: &Operator, users: [&str; 2]) {
    stage.run("insert into tenant_acme.customers (email) values ('a@x'), ('b@x')").await;
    let text =
        "select current_user::text as who, count(*), null, current_schema() from customers; show transaction_read_only";
    let (report, mut rows) = exec(operator, text, &ExecOptions::default()).await;
    assert_eq!((report.succeeded(), report.failed(), report.stopped), (2, 0, None), "{:?}", report.tenants);
    rows.0.sort();
    let text = |text: &str| Some(text.to_owned());
    let wanted = [("acme", "2", users[0]), ("globex", "0", users[1])].map(|(slug, count, user)| {
        let values = vec![text(user), text(count), None, text(&format!("tenant_{slug}"))];
        [(slug.to_owned(), 1, values), (slug.to_owned(), 2, vec![text("on")])]
    });
    assert_eq!(rows.0, wanted.concat());

    let (report, _) = exec(operator, INSERT, &ExecOptions::default()).await;
    let refused = ["acme", "globex"].map(|slug| (slug.to_owned(), "CGK0869"));
    assert_eq!((codes(&report), stage.count(NEW).await, report.stopped), (refused.to_vec(), 0, None));
    let (report, _) = exec(operator, INSERT, &write()).await;
    assert_eq!((report.succeeded(), stage.count(NEW).await), (2, 2));
    assert!(report.tenants.iter().all(|tenant| tenant.result.as_ref().unwrap().affected == 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn each_tenant_is_its_own_transaction_as_its_role() {
    let stage = Stage::set().await;
    let operator = stage.operator().await;
    let tag: String = stage.rows("select cgk_database_tag()", &[]).await[0].get(0);
    let [acme, globex] = ["acme", "globex"].map(|slug| format!("cgk_{slug}_{tag}"));
    each_tenant_is_its_own(&stage, &operator, [&acme, &globex]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn under_path_isolation_it_is_the_operator() {
    let stage = Stage::set_path_mode().await;
    let operator = stage.operator().await;
    let user = operator.facts().role.clone();
    each_tenant_is_its_own(&stage, &operator, [&user, &user]).await;
}

/// Nothing that leaves the transaction or the tenant is committed, and neither is what ran before it.
#[tokio::test(flavor = "multi_thread")]
async fn hostile_sql_commits_nothing() {
    let stage = Stage::set().await;
    let operator = stage.operator().await;
    for hostile in [
        "commit",
        "/* x */ COMMIT and chain",
        "rollback",
        "prepare transaction 'x'",
        "do $$ begin commit; end $$",
        "set role postgres",
        "reset role",
        "set search_path to public",
        "select set_config('role', 'none', true)",
        "select set_config('search_path', 'public', true)",
        "discard all",
        "insert into tenant_globex.customers (email) values ('stolen@x')",
        "select * from tenant_globex.customers",
        "select $1::int",
        "syntax error",
    ] {
        let report = in_acme(&operator, &format!("{INSERT}; {hostile}; select 1"), &write()).await;
        assert_eq!((report.failed(), stage.count(NEW).await), (1, 0), "{hostile}: {:?}", report.tenants);
    }
    // What is read-only cannot be made anything else.
    for change in ["set transaction read write", "set local transaction_read_only = off"] {
        let report = in_acme(&operator, &format!("{change}; {INSERT}"), &ExecOptions::default()).await;
        assert_eq!((report.failed(), stage.count(NEW).await), (1, 0), "{change}");
    }
    // Before PostgreSQL 16 a read-only transaction can write large objects. None is committed.
    for write in ["select 1; select lo_create(0)", "do $$ begin perform lo_from_bytea(0, 'x'); end $$"] {
        let report = in_acme(&operator, write, &ExecOptions::default()).await;
        assert_eq!(codes(&report), [("acme".to_owned(), "CGK0869")], "{write}");
    }
    assert_eq!(stage.count("select count(*) from pg_largeobject_metadata").await, 0);
    let report = in_acme(&operator, "select 1; select pg_current_xact_id_if_assigned()", &ExecOptions::default()).await;
    assert_eq!(codes(&report), []);
    // The control: harmless SQL in the same place commits.
    let report = in_acme(&operator, &format!("{INSERT}; select 1; do $$ begin null; end $$"), &write()).await;
    assert_eq!((report.succeeded(), stage.count(NEW).await), (1, 1), "{:?}", report.tenants);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_that_fails_does_not_stop_the_others() {
    let stage = Stage::set().await;
    let operator = stage.operator().await;
    stage.run("insert into tenant_acme.customers (email) values ('new@x')").await;
    let text = format!("select 1; {INSERT}");
    let (report, rows) = exec(&operator, &text, &write().jobs(ONE)).await;
    assert_eq!((report.succeeded(), report.failed(), rows.0.len()), (1, 1, 2));
    let failed = report.tenants.iter().find(|tenant| tenant.result.is_err()).unwrap();
    assert_eq!((failed.slug.as_str(), failed.failed_statement, failed.rows_passed), ("acme", Some(2), 1));
    assert!(failed.result.as_ref().unwrap_err().constraint().is_some());

    stage.run("delete from tenant_globex.customers").await;
    for (options, reason) in [
        (write().jobs(ONE).failures_max(ONE), StopReason::Failures),
        (write().canary(Canary::First(1)), StopReason::Canary),
        (write().canary(Canary::These(vec![slug("acme")])), StopReason::Canary),
    ] {
        let (report, _) = exec(&operator, &text, &options).await;
        let stop = report.stopped.unwrap();
        assert_eq!((stop.reason, stop.left, report.tenants.len()), (reason, 1, 1));
    }
    // The canary that succeeds is the control.
    let (report, _) = exec(&operator, &text, &write().canary(Canary::These(vec![slug("globex")]))).await;
    assert_eq!((report.stopped, report.tenants.len()), (None, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn names_that_are_wrong_are_refused_before_anything_runs() {
    let stage = Stage::set().await;
    let operator = stage.operator().await;
    let all = || Selection::from(Scope::Tenants);
    let canary = |name: &str| write().canary(Canary::These(vec![slug(name)]));
    for (selection, options, kind) in [
        (Selection::from(Scope::Only(vec![slug("acme"), slug("akme")])), write(), ErrorKind::NotFound),
        (all().excluding([slug("akme")]), write(), ErrorKind::NotFound),
        (all(), canary("akme"), ErrorKind::NotFound),
        (all().excluding([slug("acme")]), canary("acme"), ErrorKind::Invalid),
    ] {
        let refused = lifecycle::exec(&operator, &script(INSERT), &selection, &options, &mut Silent).await;
        assert_eq!((refused.unwrap_err().kind(), stage.count(NEW).await), (kind, 0));
    }
    let globex = all().excluding([slug("acme")]);
    let report = lifecycle::exec(&operator, &script(INSERT), &globex, &write(), &mut Silent).await.unwrap();
    assert_eq!((report.tenants[0].slug.as_str(), report.tenants.len()), ("globex", 1));
    // A database that is read-only by default is read, and not written.
    let database = cgk::ident::Ident::new(stage.database.name()).unwrap();
    stage.run(&format!("alter database {} set default_transaction_read_only = on", database.quoted())).await;
    let operator = stage.operator().await;
    let refused = lifecycle::exec(&operator, &script(INSERT), &globex, &write(), &mut Silent).await;
    assert_eq!(refused.unwrap_err().code(), "CGK0307");
    let read = lifecycle::exec(&operator, &script("select 1"), &globex, &ExecOptions::default(), &mut Silent).await;
    assert_eq!(read.unwrap().succeeded(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suspended_tenant_is_refused_and_counts() {
    let stage = Stage::set().await;
    let operator = stage.operator().await;
    lifecycle::suspend(&operator, &slug("acme"), &SuspendOptions::default()).await.unwrap();
    let (report, _) = exec(&operator, INSERT, &write()).await;
    assert_eq!(codes(&report), [("acme".to_owned(), "CGK0402")]);
    assert_eq!((report.succeeded(), stage.count(NEW).await), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn columns_that_are_refused_roll_the_tenant_back() {
    let stage = Stage::set().await;
    let operator = stage.operator().await;
    let acme = Selection::from(Scope::Only(vec![slug("acme")]));
    let script = script(&format!("{INSERT}; select 1 as one"));
    let report = lifecycle::exec(&operator, &script, &acme, &write(), &mut Refuses).await.unwrap();
    assert_eq!((codes(&report), stage.count(NEW).await), (vec![("acme".to_owned(), "CGK0868")], 0));
}

/// A conflict is tried again, but not after rows were passed on: they would come twice.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_tried_again_after_its_first_row() {
    let stage = Stage::set().await;
    let operator = stage.operator().await;
    // A sequence keeps its value when the transaction rolls back.
    stage
        .run(
            "create sequence public.tries; grant usage on sequence public.tries to public;
             create function tenant_acme.conflicts_once(n int, at int) returns int language plpgsql as $$ begin
               if n = at and nextval('public.tries') = 1 then raise exception 'again' using errcode = '40001'; end if;
               return n; end $$;
             grant execute on function tenant_acme.conflicts_once to public",
        )
        .await;
    let tries = "select last_value from public.tries";
    let text = |at: u32| format!("select conflicts_once(n, {at}) from generate_series(1, 3) n");
    let report = in_acme(&operator, &text(3), &write()).await;
    let failed = &report.tenants[0];
    assert_eq!((report.failed(), failed.rows_passed, stage.count(tries).await), (1, 2, 1), "{failed:?}");
    stage.run("alter sequence public.tries restart").await;
    let report = in_acme(&operator, &text(1), &write()).await;
    assert_eq!((report.succeeded(), stage.count(tries).await), (1, 2), "{:?}", report.tenants);
    assert_eq!(report.tenants[0].rows_passed, 3);
}

/// The drop waits for the transaction that is inside; a run that comes later does not find the tenant.
#[tokio::test(flavor = "multi_thread")]
async fn a_drop_waits_for_it() {
    let stage = Stage::set().await;
    let operator = Operator::connect(&patient(stage.database.config())).await.unwrap();
    let holder = stage.holder("lock table tenant_acme.customers in exclusive mode").await;
    let options = write();
    let running = in_acme(&operator, INSERT, &options);
    let rest = async {
        stage.until_waiting(1).await;
        let drop = dropped(&stage, "acme");
        let release = async {
            crate::fixture::until(
                &stage,
                "the drop has begun",
                "select status = 'suspended' from organizations where slug = 'acme'",
            )
            .await;
            crate::stage::run(&holder, "rollback").await;
        };
        tokio::join!(drop, release).0
    };
    let (report, _) = tokio::join!(running, rest);
    assert_eq!(report.succeeded(), 1, "{:?}", report.tenants);
    let acme = Selection::from(Scope::Only(vec![slug("acme")]));
    let later = lifecycle::exec(&operator, &script(INSERT), &acme, &write(), &mut Silent).await;
    assert_eq!(later.unwrap_err().kind(), ErrorKind::NotFound);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupt_cancels_and_commits_nothing() {
    let stage = Stage::set().await;
    let operator = Operator::connect(&patient(stage.database.config())).await.unwrap();
    let holder = stage.holder("lock table tenant_acme.customers in exclusive mode").await;
    let interrupt = Interrupt::new();
    let options = write().jobs(ONE).interrupt(&interrupt);
    let interrupted = async {
        stage.until_waiting(1).await;
        interrupt.cancel();
    };
    let ((report, _), ()) = tokio::join!(exec(&operator, INSERT, &options), interrupted);
    let stop = report.stopped.unwrap();
    assert_eq!((stop.reason, stop.left, report.tenants.len()), (StopReason::Interrupted, 2, 0));
    stage.until_waiting(0).await;
    crate::stage::run(&holder, "rollback").await;
    assert_eq!(stage.count(NEW).await, 0);
}
