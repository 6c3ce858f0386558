//! `platform::RedisStream` against a real Redis: what is in the stream, and what happens while Redis is gone.

use crate::{Stage, server::ends};
use cgk::{
    OrganizationId,
    platform::{Event, EventType, RedisStream, Relay, RelayOptions},
};
use std::time::Duration;

const SHIPPED: EventType = EventType::from_static("order.shipped");

async fn emit(stage: &Stage, number: u32) -> uuid::Uuid {
    let event = Event::new(SHIPPED).organization(organization(stage)).data(serde_json::json!({ "number": number }));
    stage.db.platform().transaction(async |tx| tx.emit(&event).await).await.unwrap();
    event.id().uuid()
}

fn organization(stage: &Stage) -> OrganizationId {
    stage.tenants[0].id
}

/// Of each entry its id, type and number.
async fn entries(stage: &Stage) -> Vec<(String, String, u64)> {
    let mut connection = stage.server.connect().await;
    let found: Vec<(String, Vec<(String, String)>)> =
        redis::cmd("XRANGE").arg("events").arg("-").arg("+").query_async(&mut connection).await.unwrap();
    let field = |fields: &[(String, String)], name: &str| {
        fields.iter().find(|(field, _)| field == name).map(|(_, value)| value.clone()).unwrap()
    };
    let read = |(_, fields): &(String, Vec<(String, String)>)| {
        let event: serde_json::Value = serde_json::from_str(&field(fields, "event")).unwrap();
        assert_eq!((&event["specversion"], &event["id"]), (&"1.0".into(), &field(fields, "id").into()));
        (field(fields, "id"), field(fields, "type"), event["data"]["number"].as_u64().unwrap())
    };
    found.iter().map(read).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn events_are_appended_in_order_also_after_redis_was_gone() {
    let mut stage = Stage::set(&["acme"]).await;
    let sink = RedisStream::new(&stage.server.url(), "events").unwrap();
    let mut options = RelayOptions::default();
    options.pause_first = Duration::from_millis(1);
    options.pause_max = Duration::from_millis(5);
    let relay = Relay::new(&stage.db, sink, options);
    let mut ids = vec![emit(&stage, 1).await, emit(&stage, 2).await];
    assert_eq!(ends(relay.deliver_due()).await.unwrap().delivered, 2);
    let expected = |ids: &[uuid::Uuid], from: usize| -> Vec<(String, String, u64)> {
        let entry = |(index, id): (usize, &uuid::Uuid)| (id.to_string(), SHIPPED.to_string(), index as u64 + 1);
        ids.iter().enumerate().skip(from).map(entry).collect()
    };
    assert_eq!(entries(&stage).await, expected(&ids, 0));

    // Redis is gone: nothing counts as delivered. It comes back empty, and gets what is left, in order.
    stage.server.kill();
    ids.extend([emit(&stage, 3).await, emit(&stage, 4).await]);
    let report = ends(relay.deliver_due()).await.unwrap();
    assert!(report.delivered == 2 && report.failed >= 1, "{report:?}");
    stage.server.listen().await;
    ends(async {
        while relay.deliver_due().await.unwrap().delivered < 4 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(entries(&stage).await, expected(&ids, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_with_a_length_forgets_the_oldest_and_a_wrong_url_is_refused() {
    let stage = Stage::set(&["acme"]).await;
    let sink = RedisStream::new(&stage.server.url(), "events").unwrap().length_max(10);
    assert!(!format!("{sink:?}").contains("redis.sock"));
    for number in 0..400 {
        emit(&stage, number).await;
    }
    assert_eq!(ends(Relay::new(&stage.db, sink, RelayOptions::default()).deliver_due()).await.unwrap().delivered, 400);
    let kept = entries(&stage).await;
    // Redis drops whole nodes of about a hundred entries.
    assert!(kept.len() < 400 && kept.last().unwrap().2 == 399, "{}", kept.len());
    for bad in ["", "http://localhost", "secret@host"] {
        let refused = RedisStream::new(bad, "events").unwrap_err().to_string();
        assert!(bad.is_empty() || !refused.contains(bad), "{refused}");
    }
}
