//! Domain events that are not delivered: sinks that fail or panic, events that cannot be read, relays that are killed.

use crate::{
    events::{Inbox, emit, options},
    stage::{Stage, must_end, slug},
};
use cgk::platform::{
    Actor, CloudEvent, EventFilter, EventSink, EventStatus, Outbox, PlatformError, Relay, SinkError, callback,
};
use std::{
    pin::pin,
    sync::{Arc, Mutex},
    time::Duration,
};

/// An event that cannot be delivered holds up its organization alone, until it is given up; then it waits for somebody to ask.
#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_delivered_is_given_up_and_delivered_when_asked_for() {
    let stage = Stage::set().await;
    for subject in ["bad", "after"] {
        emit(&stage.db, stage.acme, subject).await;
    }
    emit(&stage.db, stage.globex, "other").await;
    let inbox = Inbox::new();
    let broken = Arc::new(Mutex::new(true));
    let sink = {
        let (inbox, broken) = (inbox.clone(), Arc::clone(&broken));
        callback(move |event: CloudEvent| {
            let fails = *broken.lock().unwrap() && event.subject.as_deref() == Some("bad");
            if !fails {
                inbox.take(event);
            }
            std::future::ready(if fails { Err(SinkError::new("out of\0 order")) } else { Ok(()) })
        })
    };
    let mut options = options();
    options.attempts_max = 3;
    options.poll_interval = Duration::from_millis(5);
    let relay = Relay::new(&stage.db, sink, options.clone());
    let report = must_end(relay.run_until(inbox.reaches(2))).await.unwrap();
    assert_eq!((report.delivered, report.failed, report.dead), (2, 2, 1));
    assert_eq!(inbox.subjects().iter().filter(|subject| *subject != "other").collect::<Vec<_>>(), ["after"]);

    let outbox = Outbox::new(&stage.db).acting_as(Actor::Operator("ann".into()));
    let dead = EventFilter { status: Some(EventStatus::Dead), ..EventFilter::default() };
    let found = outbox.list(&dead).await.unwrap();
    assert_eq!((found.len(), found[0].attempts, found[0].error.as_deref()), (1, 3, Some("out of order")));
    assert_eq!((found[0].organization_id, found[0].sequence), (Some(stage.acme), Some(1)));
    *broken.lock().unwrap() = false;
    outbox.retry(found[0].id).await.unwrap();
    let again = outbox.retry(found[0].id).await.unwrap_err();
    assert!(matches!(again, PlatformError::NotFound { .. }), "{again:?}");
    relay.deliver_due().await.unwrap();
    assert!(inbox.subjects().contains(&"bad".to_owned()));
    assert_eq!(outbox.list(&dead).await.unwrap().len(), 0);
    // Who asked for it is in the log, and told as an event.
    let audit = "select actor_kind, actor_id, action, resource_id, organization_id from public.audit_events";
    let row = &stage.rows(audit, &[]).await[0];
    let text = |index| row.get::<_, String>(index);
    assert_eq!([text(0), text(1), text(2)], ["operator", "ann", "cgk.event.retried"]);
    assert_eq!((text(3), row.get(4)), (found[0].id.to_string(), stage.acme));
    assert!(inbox.events.lock().unwrap().iter().any(|event| event.r#type == "cgk.event.retried"));
}

/// Delivers until an event is given up.
async fn until_given_up<S: EventSink>(stage: &Stage, relay: &Relay<S>) {
    must_end(async {
        while stage.count("select count(*) from domain_events where status = 'dead'").await == 0 {
            relay.deliver_due().await.unwrap();
        }
    })
    .await;
}

/// A sink that panics has failed for this event, and for no other organization.
#[tokio::test(flavor = "multi_thread")]
async fn a_sink_that_panics_is_counted_and_the_others_are_delivered() {
    let stage = Stage::set().await;
    emit(&stage.db, stage.acme, "bad").await;
    for subject in ["one", "two"] {
        emit(&stage.db, stage.globex, subject).await;
    }
    let inbox = Inbox::new();
    let sink = {
        let inbox = inbox.clone();
        callback(move |event: CloudEvent| {
            // At the call, before there is a future, and in it.
            assert_ne!((event.subject.as_deref(), rand::random::<bool>()), (Some("bad"), true), "the sink has a fault");
            let inbox = inbox.clone();
            async move {
                assert_ne!(event.subject.as_deref(), Some("bad"), "the sink has a fault");
                inbox.take(event);
                Ok(())
            }
        })
    };
    let mut options = options();
    options.attempts_max = 3;
    options.poll_interval = Duration::from_millis(5);
    let relay = Relay::new(&stage.db, sink, options);
    until_given_up(&stage, &relay).await;
    assert_eq!(inbox.subjects(), ["one", "two"]);
    let dead = EventFilter { status: Some(EventStatus::Dead), ..EventFilter::default() };
    let found = Outbox::new(&stage.db).list(&dead).await.unwrap();
    assert_eq!((found.len(), found[0].attempts, found[0].error.as_deref()), (1, 3, Some("the sink panicked")));
}

/// Panics when it is dropped.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            panic!("the destructor has a fault");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sink_that_panics_when_it_is_dropped_does_not_end_the_relay() {
    for with_payload in [false, true] {
        let stage = Stage::set().await;
        emit(&stage.db, stage.acme, "bad").await;
        emit(&stage.db, stage.globex, "one").await;
        let inbox = Inbox::new();
        let sink = {
            let inbox = inbox.clone();
            callback(move |event: CloudEvent| {
                let inbox = inbox.clone();
                async move {
                    if event.subject.as_deref() == Some("bad") {
                        if with_payload {
                            std::panic::panic_any(Bomb);
                        }
                        // Dropped when the time for its answer is over.
                        let _bomb = Bomb;
                        std::future::pending::<()>().await;
                    }
                    inbox.take(event);
                    Ok(())
                }
            })
        };
        let mut options = options();
        options.attempts_max = 2;
        options.delivery_time_max = Duration::from_millis(20);
        options.poll_interval = Duration::from_millis(5);
        let relay = Relay::new(&stage.db, sink, options);
        until_given_up(&stage, &relay).await;
        assert_eq!(inbox.subjects(), ["one"], "{with_payload}");
    }
}

/// jsonb holds what JSON in Rust does not. A tenant can write it; neither the relay nor another organization may suffer from it.
#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_cannot_be_read_is_given_up_and_the_others_are_delivered() {
    let stage = Stage::set().await;
    let own = stage.acme;
    for (subject, data) in [
        ("deep", "(repeat('[', 200) || repeat(']', 200))::jsonb"),
        ("number", "'{\"n\": 1e400}'::jsonb"),
        ("control", "(repeat('[', 100) || repeat(']', 100))::jsonb"),
    ] {
        let sql = format!(
            "insert into public.domain_events (organization_id, type, subject, data) values ('{own}', 'a', '{subject}', {data})"
        );
        stage.db.with_tenant(&slug("acme"), async |tx| tx.execute(&sql, &[]).await).await.unwrap();
    }
    emit(&stage.db, stage.globex, "other").await;
    let inbox = Inbox::new();
    let report = Relay::new(&stage.db, inbox.sink(), options()).deliver_due().await.unwrap();
    assert_eq!((report.delivered, report.failed, report.dead), (2, 0, 2));
    let mut subjects = inbox.subjects();
    subjects.sort();
    assert_eq!(subjects, ["control", "other"]);
    let dead = EventFilter { status: Some(EventStatus::Dead), ..EventFilter::default() };
    let mut errors: Vec<String> =
        Outbox::new(&stage.db).list(&dead).await.unwrap().into_iter().filter_map(|event| event.error).collect();
    errors.sort();
    assert!(errors[0].contains("number out of range") && errors[1].contains("recursion limit"), "{errors:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn all_that_was_given_up_is_asked_for_at_once_by_organization() {
    let stage = Stage::set().await;
    for organization in [stage.acme, stage.acme, stage.globex] {
        emit(&stage.db, organization, "x").await;
    }
    let sink = callback(async |_| Err(SinkError::new("no").final_one()));
    let report = Relay::new(&stage.db, sink, options()).deliver_due().await.unwrap();
    assert_eq!((report.failed, report.dead), (0, 3));
    let outbox = Outbox::new(&stage.db);
    assert_eq!(outbox.retry_all(Some(stage.acme)).await.unwrap(), 2);
    assert_eq!(outbox.retry_all(Some(stage.acme)).await.unwrap(), 0);
    assert_eq!(outbox.retry_all(None).await.unwrap(), 1);
    let inbox = Inbox::new();
    Relay::new(&stage.db, inbox.sink(), options()).deliver_due().await.unwrap();
    // And the two that say that somebody has asked.
    assert_eq!(inbox.subjects().len(), 5);
}

/// A relay that is dropped while the sink has an event delivers the batch again; the control: what was committed before is not.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_relay_had_not_committed_comes_again() {
    let stage = Stage::set().await;
    for number in 0..4 {
        emit(&stage.db, stage.acme, &number.to_string()).await;
    }
    let inbox = Inbox::new();
    let stuck = {
        let inbox = inbox.clone();
        callback(move |event: CloudEvent| {
            let inbox = inbox.clone();
            async move {
                let sticks = event.sequence == 4;
                inbox.take(event);
                if sticks {
                    std::future::pending::<()>().await;
                }
                Ok(())
            }
        })
    };
    let mut options = options();
    options.batch_max = 2;
    options.delivery_time_max = Duration::from_secs(3600);
    let relay = Relay::new(&stage.db, stuck, options.clone());
    {
        let mut running = pin!(relay.run_until(std::future::pending()));
        let mut came = pin!(inbox.reaches(4));
        must_end(async {
            tokio::select! {
                ended = &mut running => panic!("{ended:?}"),
                () = &mut came => {}
            }
        })
        .await;
    }
    let again = Relay::new(&stage.db, inbox.sink(), options);
    must_end(async {
        while inbox.subjects().len() < 6 {
            again.deliver_due().await.unwrap();
        }
    })
    .await;
    assert_eq!(inbox.subjects(), ["0", "1", "2", "3", "2", "3"]);
    let events = inbox.events.lock().unwrap();
    assert_eq!((events[2].id, events[2].sequence), (events[4].id, events[4].sequence));
}
