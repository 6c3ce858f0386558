//! The sample of evaluations that is written down.

use crate::{
    platform::{must_end, slug},
    stage::Stage,
};
use cgk::flags::{self, Environment, EvaluationLog, Flags, FlagsSettings, LogSettings, Snapshot, Subject};
use std::{num::NonZeroU32, sync::Arc, time::Duration};

fn settings(one_in: u32) -> LogSettings {
    let mut settings = LogSettings::default();
    settings.one_in = NonZeroU32::new(one_in).unwrap();
    // Nothing is written but what a test asks for.
    settings.interval = Duration::from_secs(100_000);
    settings
}

async fn prod_of_acme(stage: &Stage) -> (Environment, Arc<Snapshot>) {
    let prod = Environment::of(flags::Stage::Prod);
    let snapshot = Flags::new(&stage.db, FlagsSettings::default()).snapshot(&slug("acme"), &prod).await.unwrap();
    (prod, snapshot)
}

async fn record(stage: &Stage, log: &EvaluationLog, times: usize) {
    stage.run("insert into features (key, name, enabled) values ('beta', 'Beta', true) on conflict do nothing").await;
    let (prod, snapshot) = prod_of_acme(stage).await;
    for n in 0..times {
        let subject = match n % 3 {
            0 => Subject::anonymous(),
            1 => Subject::new(format!("user-{n}")),
            _ => Subject::new(format!("{}\0", "x".repeat(300))),
        };
        let evaluation = snapshot.evaluate("beta", &subject).unwrap();
        log.record(&slug("acme"), &prod, "beta", &subject, &evaluation);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flush_writes_what_was_recorded_before() {
    let stage = Stage::set().await;
    let log = EvaluationLog::new(&stage.db, settings(1));
    record(&stage, &log, 1203).await;
    must_end(log.flush()).await;
    let status = log.status();
    assert_eq!((status.written, status.left_out), (1203, 0));
    let rows =
        "select count(*) from evaluation_logs where feature_key = 'beta' and environment = 'default/prod' and is_on
                 and reason = 'default' and weight = 1 and coalesce(char_length(targeting_key), 255) between 1 and 255";
    assert_eq!(stage.count(rows).await, 1203);
    assert_eq!(stage.count("select count(*) from evaluation_logs where targeting_key is null").await, 401);
    assert_eq!(stage.count("select count(*) from tenant_globex.evaluation_logs").await, 0);
}

/// Of 20,000 evaluations about one in ten, each with the weight of ten: within six standard deviations.
#[tokio::test(flavor = "multi_thread")]
async fn a_sample_stands_for_the_whole() {
    let stage = Stage::set().await;
    let log = EvaluationLog::new(&stage.db, settings(10));
    record(&stage, &log, 20_000).await;
    must_end(log.flush()).await;
    let written = stage.count("select count(*) from evaluation_logs").await;
    let deviation = (20_000.0f64 * 0.1 * 0.9).sqrt();
    assert!((written as f64 - 2000.0).abs() < 6.0 * deviation, "{written}");
    assert_eq!(stage.count("select sum(weight) from evaluation_logs").await, written * 10);
}

/// While the writer waits for a lock, five wait for the writer, and the others are left out.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_much_is_left_out_and_counted() {
    let stage = Stage::set().await;
    let mut small = settings(1);
    small.waiting_max = 5;
    let log = EvaluationLog::new(&stage.db, small);
    record(&stage, &log, 1).await;
    stage.run("begin; lock table evaluation_logs").await;
    let flushed = tokio::spawn({
        let log = log.clone();
        async move { log.flush().await }
    });
    stage.until_one_waits().await;
    let (prod, snapshot) = prod_of_acme(&stage).await;
    let nobody = Subject::anonymous();
    let evaluation = snapshot.evaluate("beta", &nobody).unwrap();
    for _ in 0..8 {
        log.record(&slug("acme"), &prod, "beta", &nobody, &evaluation);
    }
    assert_eq!(log.status().left_out, 3);
    stage.run("commit").await;
    must_end(flushed).await.unwrap();
    must_end(log.flush()).await;
    assert_eq!((log.status().written, log.status().left_out), (6, 3));
}

/// A tenant that cannot be entered takes nothing, and holds no other up.
#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_written_is_left_out_and_counted() {
    let stage = Stage::set().await;
    let log = EvaluationLog::new(&stage.db, settings(1));
    record(&stage, &log, 3).await;
    let (prod, snapshot) = prod_of_acme(&stage).await;
    let nobody = Subject::anonymous();
    let evaluation = snapshot.evaluate("beta", &nobody).unwrap();
    stage.run("update public.organizations set status = 'suspended' where slug = 'globex'").await;
    log.record(&slug("globex"), &prod, "beta", &nobody, &evaluation);
    must_end(log.flush()).await;
    assert_eq!((log.status().written, log.status().left_out), (3, 1));
}

/// The last handle gone, what was recorded is still written.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_recorded_is_written_after_the_last_handle_is_gone() {
    let stage = Stage::set().await;
    let log = EvaluationLog::new(&stage.db, settings(1));
    record(&stage, &log, 20).await;
    drop(log);
    let written = async { while stage.count("select count(*) from evaluation_logs").await < 20 {} };
    must_end(written).await;
}

/// A name that the table refuses is left out alone: the evaluations that wait with it are written.
#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_the_table_refuses_takes_no_other_with_it() {
    let stage = Stage::set().await;
    let log = EvaluationLog::new(&stage.db, settings(1));
    record(&stage, &log, 3).await;
    let (prod, snapshot) = prod_of_acme(&stage).await;
    let anybody = Subject::anonymous();
    let evaluation = snapshot.evaluate("beta", &anybody).unwrap();
    let (longest, longer) = ("ä".repeat(100), "ä".repeat(101));
    for key in [longest.as_str(), &longer, "", "be\0ta"] {
        log.record(&slug("acme"), &prod, key, &anybody, &evaluation);
    }
    log.record(&slug("acme"), &prod.clone().project(longer), "beta", &anybody, &evaluation);
    must_end(log.flush()).await;
    assert_eq!((log.status().written, log.status().left_out), (4, 4));
    // The table refuses them, and the longest is not among them.
    for key in [longest, "ä".repeat(101), String::new()] {
        let sql = "insert into tenant_acme.evaluation_logs (feature_key, environment, is_on, reason)
                   values ($1, 'default/prod', true, 'default')";
        let written = stage.watch.execute(sql, &[&key]).await;
        assert_eq!(written.is_ok(), key.chars().count() == 100, "{written:?}");
    }
}
