//! The audit log: append-only by the database, a partition a month, read by tenants as their own.

use crate::stage::{Stage, slug};
use cgk::{
    drift,
    migrate::{Migrations, Scope},
    platform::{Actor, AuditFilter, AuditLog, PageRequest},
};
use tokio_postgres::error::SqlState;

const ROW: &str =
    "insert into public.audit_events (organization_id, actor_kind, action, resource_kind, resource_id, after)
    select id, 'system', 'cgk.thing.made', 'thing', slug, '{\"private\": 1}' from public.organizations";

const CHANGES: [&str; 9] = [
    "update public.audit_events set action = 'x'",
    "update public.audit_events set action = 'x' where false",
    "delete from public.audit_events",
    "truncate public.audit_events",
    "truncate public.audit_events, public.domain_events",
    "update public.audit_events_default set action = 'x'",
    "delete from public.audit_events_default",
    "truncate public.audit_events_default",
    "insert into public.audit_events select * from public.audit_events on conflict (occurred_at, id) do update set action = 'x'",
];

async fn count(stage: &Stage) -> i64 {
    stage.count("select count(*) from public.audit_events where action = 'cgk.thing.made'").await
}

/// The observer is a superuser, who passes row level security and every right.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_written_is_changed_by_nobody() {
    let stage = Stage::set().await;
    stage.run(ROW).await;
    let months = "select cgk_make_audit_partitions(1)::int8";
    assert_eq!(stage.count(months).await, 2);
    stage.run(ROW).await;
    let month: String =
        stage.rows("select 'audit_events_' || to_char(now() at time zone 'UTC', 'YYYY_MM')", &[]).await[0].get(0);
    let of_month = [
        format!("update public.{month} set action = 'x'"),
        format!("delete from public.{month}"),
        format!("truncate public.{month}"),
    ];
    let all: Vec<&str> = CHANGES.into_iter().chain(of_month.iter().map(String::as_str)).collect();
    for role in ["origin", "replica"] {
        stage.run(&format!("set session_replication_role = {role}")).await;
        for sql in &all {
            let refused = stage.watch.execute(*sql, &[]).await.expect_err(sql);
            assert_eq!(refused.code(), Some(&SqlState::INSUFFICIENT_PRIVILEGE), "{sql}: {refused:?}");
        }
    }
    stage.run("set session_replication_role = origin").await;
    // The service's login, which default privileges give every right on tables.
    for sql in &all {
        let refused = stage.db.platform().execute(sql, &[]).await.expect_err(sql);
        assert_eq!(refused.sqlstate(), Some(&SqlState::INSUFFICIENT_PRIVILEGE), "{sql}: {refused:?}");
    }
    assert_eq!(count(&stage).await, 4);

    // The control: without the triggers each of them goes through.
    let without = "do $$ declare part regclass; begin
        for part in select relid from pg_partition_tree('public.audit_events') loop
            execute format('alter table %s disable trigger all', part);
        end loop; end $$";
    stage.run(without).await;
    stage.run("update public.audit_events set action = 'x'").await;
    assert_eq!(count(&stage).await, 0);
    stage.run("truncate public.audit_events").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_reads_its_own_lines_without_what_the_resource_was() {
    let stage = Stage::set().await;
    stage.run(ROW).await;
    for name in ["acme", "globex"] {
        let rows = stage.db.tenant(&slug(name)).query("select resource_id from public.audit_events", &[]).await;
        assert_eq!(rows.unwrap().iter().map(|row| row.get(0)).collect::<Vec<String>>(), [name]);
    }
    let acme = slug("acme");
    for sql in [
        "select after from public.audit_events",
        "select id from public.audit_events_default",
        "insert into public.audit_events (actor_kind, action, resource_kind, resource_id) values ('system', 'a', 'b', 'c')",
        "select public.cgk_make_audit_partitions(1)",
        "select public.cgk_drop_audit_partitions(now())",
        "select public.cgk_protect_audit_partition('public.audit_events_default')",
        "delete from public.audit_events",
    ] {
        let refused = stage.db.with_tenant(&acme, async |tx| tx.execute(sql, &[]).await).await.expect_err(sql);
        assert_eq!(refused.sqlstate(), Some(&SqlState::INSUFFICIENT_PRIVILEGE), "{sql}: {refused:?}");
    }
    // The login may neither make nor drop partitions, nor read one past the log.
    for sql in [
        "select public.cgk_make_audit_partitions(1)",
        "select public.cgk_drop_audit_partitions(now())",
        "select id from public.audit_events_default",
    ] {
        let refused = stage.db.platform().execute(sql, &[]).await.expect_err(sql);
        assert_eq!(refused.sqlstate(), Some(&SqlState::INSUFFICIENT_PRIVILEGE), "{sql}: {refused:?}");
    }
    assert_eq!(stage.db.platform().query("select id from public.audit_events", &[]).await.unwrap().len(), 2);
    // The control: a right alone would show all.
    stage.run("grant select (id) on public.audit_events_default to public").await;
    assert_eq!(stage.db.tenant(&acme).query("select id from public.audit_events_default", &[]).await.unwrap().len(), 0);
    stage.run("alter table public.audit_events_default disable row level security").await;
    assert_eq!(stage.db.tenant(&acme).query("select id from public.audit_events_default", &[]).await.unwrap().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_of_path_mode_reads_inside_a_tenant_that_tenants_lines() {
    let stage = Stage::set_path_mode().await;
    stage.run(ROW).await;
    let rows = stage.db.tenant(&slug("acme")).query("select resource_id from public.audit_events", &[]).await.unwrap();
    assert_eq!(rows.iter().map(|row| row.get(0)).collect::<Vec<String>>(), ["acme"]);
    assert_eq!(stage.db.platform().query("select id from public.audit_events", &[]).await.unwrap().len(), 2);

    // It writes no line there that looks like one of the platform or of an operator; the control is one that does not.
    let line =
        "insert into public.audit_events (organization_id, actor_kind, actor_id, action, resource_kind, resource_id)
                values ($1, $2, 'eve', $3, 'thing', '1')";
    for (kind, action, allowed) in [
        ("operator", "forged", false),
        ("OPERATOR", "forged", false),
        ("user", "CGK.forged", false),
        ("user", "own", true),
    ] {
        let written = stage.db.tenant(&slug("acme")).execute(line, &[&stage.acme, &kind, &action]).await;
        let refused = written.err().and_then(|error| error.sqlstate().cloned());
        assert_eq!(refused, (!allowed).then_some(SqlState::INSUFFICIENT_PRIVILEGE), "{kind} {action}");
        let outside = stage.db.platform().execute(line, &[&stage.acme, &kind, &action]).await;
        assert_eq!(outside.unwrap(), 1, "{kind} {action}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_the_log_follows_the_one_before_the_newest_first() {
    let stage = Stage::set().await;
    for number in 0..5 {
        stage.run(&format!("insert into public.audit_events (organization_id, actor_kind, actor_id, action, resource_kind, resource_id)
            values ('{}', 'operator', 'ann', 'cgk.thing.made', 'thing', '{number}')", stage.acme)).await;
    }
    stage.run(ROW).await;
    let log = AuditLog::new(&stage.db);
    let mut filter = AuditFilter::default();
    filter.organization = Some(stage.acme);
    filter.actor = Some(Actor::Operator("ann".into()));
    let (mut seen, mut request) = (Vec::new(), PageRequest::default().limit(2));
    loop {
        let page = log.list(&filter, &request).await.unwrap();
        seen.extend(page.items.iter().map(|event| event.resource_id.clone()));
        let Some(next) = page.next else { break };
        request = request.after(next);
    }
    assert_eq!(seen, ["4", "3", "2", "1", "0"]);
    // The control: the others are there.
    assert_eq!(log.list(&AuditFilter::default(), &PageRequest::default()).await.unwrap().items.len(), 7);
    let mut one = AuditFilter::default();
    (one.resource_kind, one.resource_id) = (Some("thing".into()), Some("3".into()));
    assert_eq!(log.list(&one, &PageRequest::default()).await.unwrap().items.len(), 1);
    one.until = Some(std::time::SystemTime::UNIX_EPOCH);
    assert_eq!(log.list(&one, &PageRequest::default()).await.unwrap().items.len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn months_are_made_ahead_and_go_as_a_whole() {
    let stage = Stage::set().await;
    let line = |age: &str| {
        format!(
            "insert into public.audit_events (actor_kind, action, resource_kind, resource_id, occurred_at)
        values ('system', 'cgk.thing.made', 'thing', '{age}', now() - interval '{age}')"
        )
    };
    for age in ["0 days", "100 days", "400 days", "40 years"] {
        stage.run(&line(age)).await;
    }
    let operator = stage.operator().await;
    // This month and the next two, and the two that there are lines of.
    assert_eq!(AuditLog::make_months(&operator, 2).await.unwrap(), 5);
    assert_eq!(AuditLog::make_months(&operator, 2).await.unwrap(), 0);
    let in_default =
        "select count(*) from public.audit_events where tableoid = 'public.audit_events_default'::regclass";
    assert_eq!(stage.count(in_default).await, 1);
    assert_eq!(count(&stage).await, 4);
    let ago = |days: u64| std::time::SystemTime::now() - std::time::Duration::from_secs(days * 24 * 3600);
    assert_eq!(AuditLog::drop_months(&operator, ago(200)).await.unwrap(), 1);
    assert_eq!(count(&stage).await, 3);
    // The removal is in the log, once: which months, until when, and who.
    assert_eq!(AuditLog::drop_months(&operator, ago(200)).await.unwrap(), 0);
    let removed = "select concat_ws(' ', a.actor_kind, a.actor_id = session_user, a.after -> 'months' = jsonb_build_array(
                to_char((now() - interval '400 days') at time zone 'UTC', 'YYYY-MM')), a.after ->> 'ended_by' is not null,
                e.type = a.action, e.data -> 'after' = a.after)
           from audit_events a, domain_events e where a.action = 'cgk.audit.months_removed'";
    let removed: Vec<String> = stage.rows(removed, &[]).await.iter().map(|row| row.get(0)).collect();
    assert_eq!(removed, ["operator t t t t t"]);
    let to_come = AuditLog::drop_months(&operator, ago(0) + std::time::Duration::from_secs(3600)).await.unwrap_err();
    assert_eq!(to_come.sqlstate(), Some(&SqlState::INVALID_PARAMETER_VALUE));
    assert_eq!(count(&stage).await, 3);
    // A month that an insert cannot find is no reason for it to fail.
    stage.run(&line("200 days")).await;
    assert_eq!(stage.count(in_default).await, 2);
}

/// Partitions are made and removed by a clock; none of that is drift.
#[tokio::test(flavor = "multi_thread")]
async fn months_are_no_drift() {
    let stage = Stage::set().await;
    let operator = stage.operator().await;
    let migrations = Migrations::bundled();
    let drift = async || {
        let report = drift::verify(&operator, &migrations, &Scope::Public).await.unwrap();
        report.schemas().flat_map(|schema| schema.differences.iter().map(ToString::to_string)).collect::<Vec<_>>()
    };
    assert_eq!(drift().await, [""; 0]);
    stage.run(ROW).await;
    AuditLog::make_months(&operator, 1).await.unwrap();
    assert_eq!(drift().await, [""; 0]);
    // The control: a partition that anybody may read is.
    let month: String =
        stage.rows("select 'audit_events_' || to_char(now() at time zone 'UTC', 'YYYY_MM')", &[]).await[0].get(0);
    stage.run(&format!("grant delete on public.{month} to public")).await;
    let found = drift().await;
    assert!(found.iter().any(|difference| difference.contains(&month)), "{found:?}");
}

async fn months(stage: &Stage) -> Vec<String> {
    let sql = "select c.relname::text from pg_inherits i join pg_class c on c.oid = i.inhrelid
                where i.inhparent = 'public.audit_events'::regclass and c.relname <> 'audit_events_default' order by 1";
    stage.rows(sql, &[]).await.iter().map(|row| row.get(0)).collect()
}

/// By the clock of the call: the last moment of January makes February, and its first line is in it.
#[tokio::test(flavor = "multi_thread")]
async fn the_first_of_a_month_finds_its_partition() {
    let stage = Stage::set().await;
    let line = |at: &str| {
        format!(
            "insert into public.audit_events (actor_kind, action, resource_kind, resource_id, occurred_at)
             values ('system', 'cgk.thing.made', 'thing', 'x', '{at}') returning tableoid::regclass::text"
        )
    };
    let place = async |at: &str| stage.rows(&line(at), &[]).await[0].get::<_, String>(0);
    // The control: without its month a line is in the default partition, and not refused.
    assert_eq!(place("2030-12-31 23:59:59.999999+00").await, "audit_events_default");
    let add = |moment: &str| format!("select public.cgk_add_audit_months(1, '{moment}')::int8");
    assert_eq!(stage.count(&add("2031-01-31 23:59:59.999999+00")).await, 2);
    for (at, month) in [("2031-01-31 23:59:59.999999+00", "01"), ("2031-02-01 00:00:00+00", "02")] {
        assert_eq!(place(at).await, format!("audit_events_2031_{month}"), "{at}");
    }
    assert_eq!(stage.count(&add("2031-02-01 00:00:00+00")).await, 1);
    assert_eq!(stage.count(&add("2031-02-01 00:00:00+00")).await, 0);
    assert_eq!(months(&stage).await, ["audit_events_2031_01", "audit_events_2031_02", "audit_events_2031_03"]);
    // A month that has lines in the default partition is left to `audit:retain`; the next one is made.
    assert_eq!(place("2031-05-01 00:00:00+00").await, "audit_events_default");
    assert_eq!(stage.count(&add("2031-05-15 00:00:00+00")).await, 1);
    assert_eq!(months(&stage).await.last().unwrap(), "audit_events_2031_06");
    // As unchangeable as the others.
    let changed = stage.watch.execute("delete from public.audit_events_2031_06", &[]).await.unwrap_err();
    assert_eq!(changed.code(), Some(&SqlState::INSUFFICIENT_PRIVILEGE));
}

/// An INSERT chooses its partition before it waits for the partition's lock.
#[tokio::test(flavor = "multi_thread")]
async fn a_line_that_is_written_while_its_month_is_made_is_in_that_month() {
    let insert = async |make: &str| {
        let stage = Stage::set().await;
        let maker = stage.holder(make).await;
        let line = tokio::spawn({
            let writer = crate::stage::connect(&stage.database).await;
            async move {
                let sql = "insert into public.audit_events (actor_kind, action, resource_kind, resource_id)
                    values ('system', 'a', 'b', 'c') returning tableoid::regclass::text";
                writer.query_one(sql, &[]).await.map(|row| row.get::<_, String>(0))
            }
        });
        stage.until_waiting(1).await;
        crate::stage::run(&maker, "commit").await;
        let written = line.await.unwrap();
        let month = stage.rows("select to_char(now() at time zone 'UTC', '\"audit_events_\"YYYY_MM')", &[]).await;
        (written, month[0].get::<_, String>(0))
    };
    for make in ["select cgk_add_audit_months(1, now())", "select cgk_make_audit_partitions(1)"] {
        let (written, month) = insert(make).await;
        assert_eq!(written.expect(make), month, "{make}");
    }
    // The control: without a lock on the log itself.
    let (refused, _) = insert("select cgk_move_audit_lines(1)").await;
    assert_eq!(refused.unwrap_err().code(), Some(&SqlState::CHECK_VIOLATION));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_and_migrate_make_the_months_ahead_and_a_tenant_none() {
    let stage = Stage::set().await;
    let keep = "select public.cgk_keep_audit_months()";
    let acme = slug("acme");
    let by_tenant = stage.db.tenant(&acme).query_one(keep, &[]).await.unwrap();
    assert_eq!((by_tenant.get::<_, i32>(0), months(&stage).await.len()), (0, 0));
    // While somebody holds the default partition, none is made and nothing fails.
    let holder = stage.holder("lock table audit_events_default in share mode").await;
    let log = AuditLog::new(&stage.db);
    assert_eq!(log.keep_months().await.unwrap(), 0);
    crate::stage::run(&holder, "rollback").await;
    assert_eq!(log.keep_months().await.unwrap(), 4);
    assert_eq!(log.keep_months().await.unwrap(), 0);

    let stage = Stage::set().await;
    let answer = crate::support::cgk::Shell::on(&stage.database).run(&["migrate"]);
    assert_eq!((answer.code, months(&stage).await.len()), (0, 4), "{}", answer.stderr);
    // And so does setup:database, so that `cgk doctor` finds them in a new database.
    stage.run("do $$ begin execute (select string_agg(format('drop table %s', inhrelid::regclass), ';') from pg_inherits where inhparent = 'public.audit_events'::regclass and inhrelid <> 'public.audit_events_default'::regclass); end $$").await;
    assert_eq!(months(&stage).await.len(), 0);
    let answer = crate::support::cgk::Shell::on(&stage.database).run(&["setup:database"]);
    assert_eq!((answer.code, months(&stage).await.len()), (0, 4), "{}", answer.stderr);
    let operator = stage.operator().await;
    assert_eq!(AuditLog::keep_months_of(&operator).await.unwrap(), 0);
    stage.run("drop function cgk_keep_audit_months()").await;
    assert_eq!(AuditLog::keep_months_of(&operator).await.unwrap(), 0);
    let stage = Stage::set_path_mode().await;
    assert_eq!(stage.db.tenant(&acme).query_one(keep, &[]).await.unwrap().get::<_, i32>(0), 0);
    assert_eq!(AuditLog::new(&stage.db).keep_months().await.unwrap(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_makes_the_months_ahead() {
    use cgk::platform::{CloudEvent, Relay, RelayOptions, callback};
    let stage = Stage::set().await;
    let sink = callback(|_: CloudEvent| async { Ok(()) });
    let relay = Relay::new(&stage.db, sink, RelayOptions::default());
    let made = crate::stage::must_end(relay.run_until(async {
        while months(&stage).await.len() < 4 {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    }));
    made.await.unwrap();
}
