//! The rules of migration 029: old events that break the limits, and what a tenant says in the name of the platform.

use crate::{
    events::{Inbox, code, emit, options},
    stage::{Stage, must_end, slug},
};
use cgk::platform::{EventFilter, EventStatus, Outbox, Relay, RelayOptions};

/// Rows from before the limits: each is given up by name, and everything else is delivered, also of its own organization.
#[tokio::test(flavor = "multi_thread")]
async fn an_old_event_with_too_much_data_is_given_up_and_the_others_are_delivered() {
    let stage = Stage::set().await;
    without_limits(&stage).await;
    for (subject, data) in BAD_ROWS {
        emit(&stage.db, stage.acme, "before").await;
        stage.run(&bad_row(&stage, subject, data)).await;
    }
    // As they were before 027: the constraints hold again, and the old rows break them.
    with_limits(&stage, LIMITS).await;
    emit(&stage.db, stage.acme, "after").await;
    emit(&stage.db, stage.globex, "other").await;
    let inbox = Inbox::new();
    let report = must_end(Relay::new(&stage.db, inbox.sink(), options()).deliver_due()).await.unwrap();
    assert_eq!((report.delivered, report.failed, report.dead), (4, 0, 2), "{:?}", inbox.subjects());
    let dead = EventFilter { status: Some(EventStatus::Dead), ..EventFilter::default() };
    let outbox = Outbox::new(&stage.db);
    let mut found: Vec<(String, String)> = outbox
        .list(&dead)
        .await
        .unwrap()
        .into_iter()
        .map(|event| (event.subject.unwrap(), event.error.unwrap()))
        .collect();
    found.sort();
    assert_eq!(found[0].1, "the database cannot read or change the event: SQLSTATE 54000");
    assert_eq!(found[1].1, "its data has more than 1 MiB of text");
    assert_eq!((found[0].0.as_str(), found[1].0.as_str()), ("endless", "long"));
    // What is asked for again is given up again, and does not stop the relay.
    outbox.retry_all(None).await.unwrap();
    let report = must_end(Relay::new(&stage.db, inbox.sink(), options()).deliver_due()).await.unwrap();
    assert_eq!((report.delivered, report.dead), (1, 2));
}

/// With the constraints of 027 alone such a row can be neither numbered nor given up: its organization waits, the others do not.
#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_cannot_be_given_up_holds_up_its_organization_alone() {
    let stage = Stage::set().await;
    without_limits(&stage).await;
    for (subject, data) in BAD_ROWS {
        stage.run(&bad_row(&stage, subject, data)).await;
    }
    with_limits(&stage, "octet_length(data::text) <= 1048576").await;
    emit(&stage.db, stage.globex, "other").await;
    let inbox = Inbox::new();
    let relay = Relay::new(&stage.db, inbox.sink(), RelayOptions::default());
    let report = must_end(relay.deliver_due()).await.unwrap();
    assert_eq!((report.delivered, report.failed, report.dead), (1, 1, 0));
    let waits = "select count(*) from public.domain_event_queues where attempt_at > now() + interval '5 minutes'";
    assert_eq!(stage.count(waits).await, 1);
    // The control: with the rules of 029 they are given up.
    without_limits(&stage).await;
    with_limits(&stage, LIMITS).await;
    stage.run("update public.domain_event_queues set attempt_at = '-infinity'").await;
    assert_eq!(must_end(relay.deliver_due()).await.unwrap().dead, 2);
}

const BAD_ROWS: [(&str, &str); 2] = [
    ("long", "(select jsonb_agg(1e1000) from generate_series(1, 2000))"),
    // Text that the server cannot write: 54000.
    ("endless", "(select jsonb_agg(1e131071) from generate_series(1, 9000))"),
];

/// The text of migration 029.
const LIMITS: &str = "case when sequence is null then octet_length(data::text) <= 1048576 else true end";

async fn without_limits(stage: &Stage) {
    stage.run("alter table public.domain_events drop constraint domain_events_data_text_check").await;
}

async fn with_limits(stage: &Stage, check: &str) {
    let add = format!(
        "alter table public.domain_events add constraint domain_events_data_text_check check ({check}) not valid"
    );
    stage.run(&add).await;
}

fn bad_row(stage: &Stage, subject: &str, data: &str) -> String {
    let organization = stage.acme;
    format!(
        "insert into public.domain_events (organization_id, type, subject, data) values ('{organization}', 'a', '{subject}', {data})"
    )
}

/// In whatever case: types that begin with `cgk.`, and the kind of actor that stands for the command line.
#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_says_nothing_in_the_name_of_the_platform() {
    for stage in [Stage::set().await, Stage::set_path_mode().await] {
        let own = stage.acme;
        let insert = |event_type: &str, kind: &str| {
            format!(
                "insert into public.domain_events (organization_id, type, actor_kind) values ('{own}', '{event_type}', '{kind}')"
            )
        };
        let as_tenant =
            async |sql: &str| stage.db.with_tenant(&slug("acme"), async |tx| tx.execute(sql, &[]).await).await;
        for (event_type, kind) in
            [("cgk.x", "user"), ("CGK.x", "user"), ("cGk.x", "user"), ("a", "operator"), ("a", "OPERATOR")]
        {
            let refused = as_tenant(&insert(event_type, kind)).await.unwrap_err();
            assert_eq!(code(&refused), "42501", "{event_type} {kind}");
        }
        // The controls: other types and actors; and outside of a tenant the platform says what it likes.
        for (event_type, kind) in [("cgkx.a", "user"), ("a.cgk.b", "system"), ("CGK", "api_key")] {
            as_tenant(&insert(event_type, kind)).await.unwrap();
        }
        stage.db.platform().execute(&insert("cgk.x", "operator"), &[]).await.unwrap();
    }
}
