//! The months of the partitioned tables.

use crate::{
    platform::{must_end, patient, slug},
    stage::Stage,
};
use cgk::{
    Operator,
    config::SessionSettings,
    flags::{self, FlagsError, Maintained, Retention},
};
use std::time::Duration;

const EVENTS: &str = "
    insert into usage_metrics (idempotency_key, metric, quantity, occurred_at)
    select 'k' || n, 'seats', n, now() - make_interval(months => n) from generate_series(0, 30) n;
    insert into usage_keys select idempotency_key, occurred_at from usage_metrics;
    insert into evaluation_logs (feature_key, environment, is_on, reason, evaluated_at)
    select 'beta', 'dev', true, 'rule', now() - make_interval(months => n) from generate_series(0, 30) n";

async fn maintain(stage: &Stage) -> (i32, i32) {
    let row = stage.watch.query_one("select added, dropped from flags_maintain()", &[]).await.unwrap();
    (row.get(0), row.get(1))
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_move_into_their_months_and_old_months_are_dropped() {
    let stage = Stage::set().await;
    stage.run(EVENTS).await;
    assert_eq!(stage.count("select count(*) from usage_metrics_default").await, 31);
    // Months of both tables: 31 that have rows, this one and two to come.
    let all = "select added, dropped from flags_maintain(2, interval '31 months', interval '31 months')";
    let row = stage.watch.query_one(all, &[]).await.unwrap();
    assert_eq!((row.get::<_, i32>(0), row.get::<_, i32>(1)), (2 * (31 + 2), 0));
    // This month and 25, and this month and 3, are kept.
    assert_eq!(maintain(&stage).await, (0, (31 - 26) + (31 - 4)));
    for (table, kept) in [("usage_metrics", 26), ("evaluation_logs", 4), ("usage_keys", 26)] {
        assert_eq!(stage.count(&format!("select count(*) from {table}")).await, kept, "{table}");
    }
    for table in ["usage_metrics", "evaluation_logs"] {
        assert_eq!(stage.count(&format!("select count(*) from {table}_default")).await, 0, "{table}");
    }
    assert_eq!(maintain(&stage).await, (0, 0));

    // What comes later has a month already, and what is of no month is kept.
    stage.run("insert into usage_metrics (idempotency_key, metric, quantity, occurred_at)
               values ('next', 'seats', 1, now() + interval '1 month'), ('far', 'seats', 1, now() + interval '40 months')").await;
    assert_eq!(stage.count("select count(*) from usage_metrics_default").await, 1);
    assert_eq!(maintain(&stage).await, (0, 0));
    assert_eq!(stage.count("select count(*) from usage_metrics where idempotency_key = 'far'").await, 1);
}

/// Events of a thousand years, from a client whose clock is wrong or who means ill, make no partitions: those of months that are
/// kept move there, older ones go, and later ones wait in the default partition.
#[tokio::test(flavor = "multi_thread")]
async fn events_of_any_time_make_no_more_months_than_are_kept() {
    let stage = Stage::set().await;
    let spread =
        "select record_usage(jsonb_agg(jsonb_build_object('key', 'k' || n, 'metric', 'api_calls', 'quantity', 1,
                      'occurred_at', '2000-01-15 00:00+00'::timestamptz + make_interval(months => n))))
                    from generate_series(0, 11000) n";
    stage.db.tenant(&slug("acme")).query(spread, &[]).await.unwrap();
    let partitions = "select count(*) from pg_inherits where inhparent = 'usage_metrics'::regclass";
    // Of the usage this month, 25 before and two to come; of the evaluations this month and two.
    assert_eq!(maintain(&stage).await, (25 + 3 + 3, 0));
    assert_eq!(stage.count(partitions).await, 25 + 3 + 1);
    let later = stage.count("select count(*) from usage_metrics_default").await;
    assert!(later > 10_000, "{later}");
    assert_eq!(stage.count("select count(*) from usage_metrics").await, 25 + 3 + later);
    let further = "select count(*) from usage_metrics
                    where occurred_at >= (date_trunc('month', now() at time zone 'UTC') + interval '3 months') at time zone 'UTC'";
    assert_eq!(stage.count(further).await, later);
    assert_eq!(maintain(&stage).await, (0, 0));
    // A month that comes nearer gets its rows.
    let nearer = stage.watch.query_one("select added, dropped from flags_maintain(4)", &[]).await.unwrap();
    assert_eq!((nearer.get::<_, i32>(0), nearer.get::<_, i32>(1)), (2 * 2, 0));
    assert_eq!(stage.count("select count(*) from usage_metrics_default").await, later - 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_month_is_as_protected_as_the_table() {
    let stage = Stage::set().await;
    stage.run(EVENTS).await;
    maintain(&stage).await;
    let months = "select string_agg(inhrelid::regclass::text, ' ') from pg_inherits where inhparent = 'evaluation_logs'::regclass";
    let months = stage.text(months).await;
    // Those that are kept, the two to come and the default.
    assert_eq!(months.split(' ').count(), 7, "{months}");
    // Also where other triggers do not fire.
    for role in ["origin", "replica"] {
        stage.run(&format!("set session_replication_role = {role}")).await;
        for month in months.split(' ') {
            stage.run(&format!("insert into {month} select * from {month} where false")).await;
            assert_eq!(stage.refused(&format!("truncate {month}")).await.code().code(), "42501", "{month}");
        }
        for sql in ["delete from evaluation_logs", "update evaluation_logs set is_on = false"] {
            assert_eq!(stage.refused(sql).await.code().code(), "42501", "{sql}");
        }
    }
    stage.run("reset session_replication_role").await;
    // A tenant's role writes into them, through the table.
    let add =
        "insert into evaluation_logs (feature_key, environment, is_on, reason) values ('beta', 'dev', true, 'rule')";
    assert_eq!(stage.db.tenant(&slug("acme")).execute(add, &[]).await.unwrap(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_owner_makes_and_drops_months() {
    let stage = Stage::set().await;
    let refused = stage.db.tenant(&slug("acme")).query("select flags_maintain()", &[]).await.unwrap_err();
    assert_eq!(refused.sqlstate().map(|state| state.code()), Some("42501"));
    for (months, keep) in [(-1, "1 month"), (25, "1 month"), (2, "-2 months")] {
        let sql = format!("select flags_maintain({months}, interval '{keep}')");
        assert_eq!(stage.refused(&sql).await.code().code(), "22023", "{sql}");
    }
    // Null is no time: nothing would be kept.
    stage.run(EVENTS).await;
    for null in ["months_ahead", "keep_usage", "keep_evaluations"] {
        let sql = format!("select flags_maintain({null} => null)");
        assert_eq!(stage.refused(&sql).await.code().code(), "22023", "{sql}");
    }
    assert_eq!(stage.count("select count(*) from usage_metrics").await, 31);
}

/// The first row of a month is committed while the months are being made: it moves there as others do.
#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_is_committed_meanwhile_moves_into_its_month() {
    let stage = Stage::set().await;
    let first = r#"select record_usage('[{"key": "a", "metric": "api_calls", "quantity": 1}]')"#;
    stage.run(&format!("begin; {first}")).await;
    let operator = Operator::connect(&patient(stage.database.config())).await.unwrap();
    let maintained =
        tokio::spawn(async move { flags::maintain(&operator, &slug("acme"), &Retention::default()).await });
    stage.until_one_waits().await;
    stage.run("commit").await;
    assert_eq!(must_end(maintained).await.unwrap().unwrap().added, 6);
    assert_eq!(stage.count("select count(*) from usage_metrics").await, 1);
    assert_eq!(stage.count("select count(*) from usage_metrics_default").await, 0);
}

/// The name of a month must not depend on the session's time zone.
#[tokio::test(flavor = "multi_thread")]
async fn months_are_those_of_utc() {
    let stage = Stage::set().await;
    for zone in ["Pacific/Kiritimati", "Pacific/Pago_Pago"] {
        stage.run(&format!("set timezone = '{zone}'")).await;
        stage.run(&format!("insert into usage_metrics (idempotency_key, metric, quantity, occurred_at)
                            values ('first {zone}', 'seats', 1, date_trunc('month', now() at time zone 'UTC') at time zone 'UTC'),
                                   ('last {zone}', 'seats', 1, (date_trunc('month', now() at time zone 'UTC') + interval '1 month'
                                                                - interval '1 microsecond') at time zone 'UTC')")).await;
        maintain(&stage).await;
        let months = "select count(distinct tableoid) from usage_metrics";
        assert_eq!(stage.count(months).await, 1, "{zone}");
    }
    let name = "select distinct right(tableoid::regclass::text, 7) = to_char(now() at time zone 'UTC', 'YYYY_MM') from usage_metrics";
    assert!(stage.watch.query_one(name, &[]).await.unwrap().get::<_, bool>(0));
}

/// Times are written and read again as text. In these styles the zone is an abbreviation, and IST is read as another zone.
#[tokio::test(flavor = "multi_thread")]
async fn months_are_those_of_utc_in_every_style_of_dates() {
    // PostgreSQL 18 reads an abbreviation of the session's own zone as that zone.
    let ist = "select current_setting('server_version_num')::int >= 180000
                   or '2026-11-01 00:00 IST'::timestamptz <> '2026-11-01 00:00 Asia/Kolkata'::timestamptz";
    for style in ["SQL, DMY", "German", "Postgres, MDY"] {
        let stage = Stage::set().await;
        stage.run(&format!("set timezone = 'Asia/Kolkata'; set datestyle = '{style}'")).await;
        assert!(stage.watch.query_one(ist, &[]).await.unwrap().get::<_, bool>(0));
        // The first and the last moment of this month and of the one before.
        stage.run("insert into usage_metrics (idempotency_key, metric, quantity, occurred_at)
                   select concat(m, ' ', s), 'seats', 1, (date_trunc('month', now() at time zone 'UTC') + make_interval(months => m)
                                                          + s * interval '1 microsecond') at time zone 'UTC'
                     from generate_series(-1, 1) m, generate_series(-1, 0) s").await;
        maintain(&stage).await;
        assert_eq!(stage.count("select count(*) from usage_metrics").await, 6, "{style}");
        let names = "select count(*) from usage_metrics
                      where right(tableoid::regclass::text, 7) = to_char(occurred_at at time zone 'UTC', 'YYYY_MM')";
        assert_eq!(stage.count(names).await, 6, "{style}");
    }
}

/// By the library, with the operator's login.
#[tokio::test(flavor = "multi_thread")]
async fn an_operator_maintains_the_months_of_a_tenant() {
    let stage = Stage::set().await;
    stage.run(EVENTS).await;
    let operator = stage.database.operator().await.unwrap();
    let mut retention = Retention::default();
    retention.usage_months = 0;
    retention.evaluation_months = 1200;
    let done = flags::maintain(&operator, &slug("acme"), &retention).await.unwrap();
    assert_eq!((done.added, done.dropped), (1 + 2 + 31 + 2, 0));
    assert_eq!(stage.count("select count(*) from usage_metrics").await, 1);
    assert_eq!(stage.count("select count(*) from evaluation_logs").await, 31);
    assert_eq!(flags::maintain(&operator, &slug("acme"), &retention).await.unwrap(), Maintained::default());
    // Of another tenant nothing was touched.
    let of_globex = "select count(*) from pg_inherits where inhparent = 'tenant_globex.usage_metrics'::regclass";
    assert_eq!(stage.count(of_globex).await, 1);

    for (ahead, usage, evaluation) in [(25, 0, 0), (0, 1201, 0), (0, 0, 1201)] {
        (retention.months_ahead, retention.usage_months, retention.evaluation_months) = (ahead, usage, evaluation);
        let refused = flags::maintain(&operator, &slug("acme"), &retention).await.unwrap_err();
        assert!(matches!(refused, FlagsError::Invalid { .. }), "{retention:?}: {refused:?}");
    }
    // The control: the most that is kept. Of both tables, 22 more months ahead.
    (retention.months_ahead, retention.usage_months, retention.evaluation_months) = (24, 1200, 1200);
    assert_eq!(flags::maintain(&operator, &slug("acme"), &retention).await.unwrap().added, 2 * 22);
    let missing = flags::maintain(&operator, &slug("nobody"), &Retention::default()).await.unwrap_err();
    assert!(matches!(missing, FlagsError::TablesMissing { .. }), "{missing:?}");
}

/// Whoever compares or migrates the schema is waited for.
#[tokio::test(flavor = "multi_thread")]
async fn maintenance_waits_for_a_migration() {
    let stage = Stage::set().await;
    let key = cgk::lock::migration_key(&cgk::ident::SchemaName::of_tenant(&slug("acme")));
    stage.run(&format!("begin; select pg_advisory_xact_lock_shared({key})")).await;
    let config = patient(stage.database.config());
    let maintained = tokio::spawn(async move {
        let operator = Operator::connect(&config).await.unwrap();
        flags::maintain(&operator, &slug("acme"), &Retention::default()).await.unwrap()
    });
    stage.until_one_waits().await;
    // Who does not wait that long gets the server's error, which says nothing about the tables.
    let session = SessionSettings { lock_timeout: Duration::from_millis(1), ..Default::default() };
    let hasty = Operator::connect(&stage.database.config().clone().with_session(session)).await.unwrap();
    let error = flags::maintain(&hasty, &slug("acme"), &Retention::default()).await.unwrap_err();
    assert!(
        matches!(&error, FlagsError::Database(error) if error.sqlstate().is_some_and(|state| state.code() == "55P03")),
        "{error:?}"
    );
    stage.run("commit").await;
    assert_eq!(must_end(maintained).await.unwrap().added, 6);
}
