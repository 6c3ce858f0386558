//! Domain events: what gets into the outbox, who may write and read there, and what a relay delivers in which order.

use crate::stage::{Stage, connect, must_end, slug};
use cgk::{
    Db, OrganizationId, TenantContext, UserId,
    platform::{CloudEvent, Event, EventFilter, EventSink, EventType, Outbox, Relay, RelayOptions, callback},
};
use serde_json::json;
use std::{
    future::Future,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::sync::watch;

pub(crate) const SHIPPED: EventType = EventType::from_static("order.shipped");

/// What came, in order; and a way to wait for it.
#[derive(Clone)]
pub(crate) struct Inbox {
    pub(crate) events: Arc<Mutex<Vec<CloudEvent>>>,
    count: watch::Sender<usize>,
}

impl Inbox {
    pub(crate) fn new() -> Self {
        Self { events: Arc::default(), count: watch::Sender::new(0) }
    }

    pub(crate) fn take(&self, event: CloudEvent) {
        let mut events = self.events.lock().unwrap();
        events.push(event);
        self.count.send_replace(events.len());
    }

    pub(crate) fn sink(&self) -> impl EventSink + use<> {
        let inbox = self.clone();
        callback(move |event| {
            inbox.take(event);
            std::future::ready(Ok(()))
        })
    }

    /// Until so many have come.
    pub(crate) fn reaches(&self, count: usize) -> impl Future<Output = ()> + use<> {
        let mut counts = self.count.subscribe();
        async move { drop(counts.wait_for(|there| *there >= count).await.unwrap()) }
    }

    pub(crate) fn subjects(&self) -> Vec<String> {
        self.events.lock().unwrap().iter().map(|event| event.subject.clone().unwrap_or_default()).collect()
    }
}

fn shipped(subject: &str) -> Event {
    Event::new(SHIPPED).subject(subject)
}

/// Tries again at once, and looks at the outbox only when it is told to.
pub(crate) fn options() -> RelayOptions {
    let mut options = RelayOptions::default();
    options.pause_first = Duration::from_millis(1);
    options.pause_max = Duration::from_millis(5);
    options
}

pub(crate) async fn emit(db: &Db, organization: OrganizationId, subject: &str) {
    let event = shipped(subject).organization(organization);
    db.platform().transaction(async |tx| tx.emit(&event).await).await.unwrap();
}

pub(crate) fn code(error: &cgk::Error) -> String {
    error.sqlstate().unwrap_or_else(|| panic!("{error:?}")).code().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_is_committed_with_its_transaction_or_not_at_all() {
    let stage = Stage::set().await;
    let event = shipped("order/1").data(json!({ "parcels": 2 }));
    let user = UserId(uuid::Uuid::now_v7());
    let context = TenantContext::new(stage.acme, slug("acme")).user(user, "ann@example.com").request_id("r-1");
    let acme = slug("acme");
    let work = stage.db.with_tenant(&acme, async |tx| tx.emit(&event).await);
    assert_eq!(context.scope(work).await.unwrap(), event.id());
    let left = stage.db.with_tenant(&acme, async |tx| {
        tx.emit(&shipped("order/2")).await?;
        tx.execute("select 1/0", &[]).await
    });
    assert_eq!(code(&left.await.unwrap_err()), "22012");

    let inbox = Inbox::new();
    let report = Relay::new(&stage.db, inbox.sink(), options()).deliver_due().await.unwrap();
    assert_eq!((report.delivered, report.failed, report.dead), (1, 0, 0));
    let came = inbox.events.lock().unwrap()[0].clone();
    let mut written = serde_json::to_value(&came).unwrap();
    let time = written.as_object_mut().unwrap().remove("time").unwrap();
    assert!(time.as_str().unwrap().ends_with('Z'), "{time}");
    let expected = json!({
        "specversion": "1.0", "id": event.id(), "source": "cgk", "type": "order.shipped", "subject": "order/1",
        "datacontenttype": "application/json", "organizationid": stage.acme, "sequence": "00000000000000000001",
        "actorkind": "user", "actorid": user, "requestid": "r-1", "data": { "parcels": 2 },
    });
    assert_eq!(written, expected);
    // Nothing is delivered again.
    assert_eq!(Relay::new(&stage.db, inbox.sink(), options()).deliver_due().await.unwrap().delivered, 0);
}

/// What a tenant's role may do with the two tables, statement by statement.
#[tokio::test(flavor = "multi_thread")]
async fn a_tenants_role_writes_events_of_its_own_organization_and_reads_none() {
    let stage = Stage::set().await;
    emit(&stage.db, stage.globex, "order/9").await;
    let acme = slug("acme");
    let own = stage.db.with_tenant(&acme, async |tx| tx.emit(&shipped("order/1")).await);
    own.await.unwrap(); // the control: its own is taken
    let (globex, own) = (stage.globex, stage.acme);
    let attempts: [(&str, String); 16] = [
        ("another's", format!("insert into public.domain_events (organization_id, type) values ('{globex}', 'a')")),
        ("nobody's", "insert into public.domain_events (organization_id, type) values (null, 'a')".into()),
        ("cgk's type", format!("insert into public.domain_events (organization_id, type) values ('{own}', 'cgk.a')")),
        (
            "sequence",
            format!("insert into public.domain_events (organization_id, type, sequence) values ('{own}', 'a', 1)"),
        ),
        (
            "status",
            format!("insert into public.domain_events (organization_id, type, status) values ('{own}', 'a', 'dead')"),
        ),
        (
            "queue",
            format!(
                "insert into public.domain_events (organization_id, type, queue_id) values ('{own}', 'a', default)"
            ),
        ),
        (
            "setting",
            format!(
                "with s as (select set_config('app.current_organization_id', '{globex}', true)) insert into public.domain_events (organization_id, type) select '{globex}', 'a' from s"
            ),
        ),
        (
            "returning",
            format!("insert into public.domain_events (organization_id, type) values ('{own}', 'a') returning id"),
        ),
        (
            "conflict",
            format!(
                "insert into public.domain_events (organization_id, type) values ('{own}', 'a') on conflict (id) do update set type = 'b'"
            ),
        ),
        ("read", "select id from public.domain_events".into()),
        ("count", "select count(*) from public.domain_events".into()),
        ("change", "update public.domain_events set type = 'b'".into()),
        ("remove", "delete from public.domain_events".into()),
        ("lock", "lock table public.domain_events in exclusive mode".into()),
        ("queues", "select * from public.domain_event_queues".into()),
        ("put off", "update public.domain_event_queues set attempt_at = 'infinity'".into()),
    ];
    for (what, sql) in &attempts {
        let refused = stage.db.with_tenant(&acme, async |tx| tx.execute(sql, &[]).await).await;
        let refused = refused.expect_err(what);
        // A generated column takes no value from anybody.
        assert!(["42501", "428C9"].contains(&code(&refused).as_str()), "{what}: {refused:?}");
    }
    // The control: without the policies a right would be enough.
    stage.run("grant select on public.domain_events to public; alter table public.domain_events disable row level security").await;
    let read = stage.db.tenant(&acme).query("select id from public.domain_events", &[]).await.unwrap();
    assert_eq!(read.len(), 2);
    stage.run("alter table public.domain_events enable row level security").await;
    let read = stage.db.tenant(&acme).query("select id from public.domain_events", &[]).await.unwrap();
    assert_eq!(read.len(), 0);
}

/// Where the search path keeps tenants apart, the login inside a tenant reads that tenant's events too, and no other's.
#[tokio::test(flavor = "multi_thread")]
async fn a_login_of_path_mode_writes_inside_a_tenant_only_that_tenants_events() {
    let stage = Stage::set_path_mode().await;
    emit(&stage.db, stage.globex, "order/9").await;
    let acme = slug("acme");
    stage.db.with_tenant(&acme, async |tx| tx.emit(&shipped("order/1")).await).await.unwrap();
    let foreign = shipped("order/2").organization(stage.globex);
    let refused = stage.db.with_tenant(&acme, async |tx| tx.emit(&foreign).await).await.unwrap_err();
    assert_eq!(code(&refused), "42501");
    let read = stage.db.tenant(&acme).query("select subject from public.domain_events", &[]).await.unwrap();
    assert_eq!(read.iter().map(|row| row.get(0)).collect::<Vec<String>>(), ["order/1"]);
    let changed = stage.db.tenant(&acme).execute("update public.domain_event_queues set last_sequence = 7", &[]).await;
    assert_eq!(changed.unwrap(), 0);
    // No event changes into one of the platform's, ends or is deleted; outside of a tenant all of it is allowed.
    for sql in [
        "update public.domain_events set type = 'cgk.organization.deleted', actor_kind = 'operator'",
        "update public.domain_events set status = 'delivered', finished_at = now()",
        "delete from public.domain_events",
    ] {
        assert_eq!(stage.db.tenant(&acme).execute(sql, &[]).await.unwrap(), 0, "{sql}");
    }
    let allowed = stage.db.platform().execute("update public.domain_events set subject = subject", &[]).await;
    assert_eq!(allowed.unwrap(), 2);
    let inbox = Inbox::new();
    assert_eq!(Relay::new(&stage.db, inbox.sink(), options()).deliver_due().await.unwrap().delivered, 2);
}

/// The trap of outboxes that remember the last position: what is written first may be committed last.
#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_is_committed_late_is_delivered_late_and_not_lost() {
    let stage = Stage::set().await;
    let mut early = connect(&stage.database).await;
    let open = early.transaction().await.unwrap();
    let sql = "insert into public.domain_events (organization_id, type, subject) values ($1, 'a', 'early')";
    open.execute(sql, &[&stage.acme]).await.unwrap();
    emit(&stage.db, stage.acme, "late").await;

    let inbox = Inbox::new();
    let relay = Relay::new(&stage.db, inbox.sink(), options());
    // The open transaction holds nothing up.
    assert_eq!(must_end(relay.deliver_due()).await.unwrap().delivered, 1);
    let last = stage.count("select max(position) from public.domain_events where status = 'delivered'").await;
    open.commit().await.unwrap();
    // The control: by position there is nothing new.
    let newer = stage.rows("select from public.domain_events where position > $1", &[&last]).await;
    assert_eq!(newer.len(), 0);
    assert_eq!(must_end(relay.deliver_due()).await.unwrap().delivered, 2);
    assert_eq!(inbox.subjects(), ["late", "early"]);
    let sequences: Vec<u64> = inbox.events.lock().unwrap().iter().map(|event| event.sequence).collect();
    assert_eq!(sequences, [1, 2]);
}

/// The transaction that has the lower number changes the row second: what it says of the row comes second.
#[tokio::test(flavor = "multi_thread")]
async fn events_about_one_row_come_in_the_order_of_its_changes() {
    let stage = Stage::set().await;
    stage
        .run("create table public.notes (id int primary key, text text); insert into public.notes values (1, '')")
        .await;
    let mut older = connect(&stage.database).await;
    let emit = "insert into public.domain_events (organization_id, type, subject) values ($1, 'a', $2)";
    let older = older.transaction().await.unwrap();
    let older_number: String = older.query_one("select pg_current_xact_id()::text", &[]).await.unwrap().get(0);
    let mut newer = connect(&stage.database).await;
    let newer = newer.transaction().await.unwrap();
    newer.execute("update public.notes set text = 'first'", &[]).await.unwrap();
    newer.execute(emit, &[&stage.acme, &"first"]).await.unwrap();
    let newer_number: String = newer.query_one("select pg_current_xact_id()::text", &[]).await.unwrap().get(0);
    // The control: by the numbers of the transactions it would be the other way round.
    assert!(older_number.parse::<u64>().unwrap() < newer_number.parse::<u64>().unwrap());
    newer.commit().await.unwrap();
    older.execute("update public.notes set text = 'second'", &[]).await.unwrap();
    older.execute(emit, &[&stage.acme, &"second"]).await.unwrap();
    older.commit().await.unwrap();
    let inbox = Inbox::new();
    Relay::new(&stage.db, inbox.sink(), options()).deliver_due().await.unwrap();
    assert_eq!(inbox.subjects(), ["first", "second"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_sleeps_is_woken_by_a_notice() {
    let stage = Stage::set().await;
    let inbox = Inbox::new();
    let mut options = options();
    options.poll_interval = Duration::from_secs(3600);
    let relay = Relay::new(&stage.db, inbox.sink(), options);
    let running = tokio::spawn({
        let all = inbox.reaches(2);
        async move { relay.run_until(all).await }
    });
    emit(&stage.db, stage.acme, "1").await;
    must_end(inbox.reaches(1)).await;
    let listening =
        "select count(*) from pg_stat_activity where datname = current_database() and query like 'listen %'";
    must_end(async { while stage.count(listening).await == 0 {} }).await;
    // From a tenant's role, too.
    stage.db.with_tenant(&slug("globex"), async |tx| tx.emit(&shipped("2")).await).await.unwrap();
    assert_eq!(must_end(running).await.unwrap().unwrap().delivered, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_event_holds_is_limited_by_its_text() {
    let stage = Stage::set().await;
    let own = stage.acme;
    let insert = async |columns: &str, values: &str| {
        let sql = format!(
            "insert into public.domain_events (organization_id, type, {columns}) values ('{own}', 'a', {values})"
        );
        stage.db.with_tenant(&slug("acme"), async |tx| tx.execute(&sql, &[]).await).await
    };
    // Little space, much text: 60 bytes are left for the braces.
    for (columns, within, beyond) in [
        ("data", "jsonb_build_object('a', repeat('x', 1048516))", "jsonb_build_object('a', repeat('x', 1048577))"),
        (
            "data",
            "(select jsonb_agg(1e1000) from generate_series(1, 900))",
            "(select jsonb_agg(1e1000) from generate_series(1, 1100))",
        ),
        ("request_id", "repeat('x', 500)", "repeat('x', 501)"),
        ("actor_kind, actor_id", "repeat('x', 100), repeat('x', 500)", "'user', repeat('x', 501)"),
        ("actor_kind, actor_id", "'user', '1'", "repeat('x', 101), '1'"),
    ] {
        insert(columns, within).await.unwrap_or_else(|error| panic!("{columns}: {within}: {}", error.report()));
        let refused = insert(columns, beyond).await.unwrap_err();
        assert_eq!(refused.sqlstate().map(|state| state.code()), Some("23514"), "{columns}: {beyond}");
    }
    // Text that the server cannot even write.
    let endless = "(select jsonb_agg(1e131071) from generate_series(1, 9000))";
    assert!(insert("data", endless).await.is_err());
    let inbox = Inbox::new();
    let report = Relay::new(&stage.db, inbox.sink(), options()).deliver_due().await.unwrap();
    assert_eq!(report.delivered + report.dead, 5, "{report:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_events_follows_the_one_before() {
    let stage = Stage::set().await;
    for number in 0..5 {
        emit(&stage.db, stage.acme, &number.to_string()).await;
    }
    emit(&stage.db, stage.globex, "other").await;
    let outbox = Outbox::new(&stage.db);
    let (mut seen, mut before) = (Vec::new(), None);
    loop {
        let filter = EventFilter { organization: Some(stage.acme), before, limit: Some(2), ..EventFilter::default() };
        let page = outbox.list(&filter).await.unwrap();
        assert!(page.len() <= 2);
        let Some(last) = page.last() else { break };
        before = Some(last.position);
        seen.extend(page.iter().map(|event| event.subject.clone().unwrap()));
    }
    assert_eq!(seen, ["4", "3", "2", "1", "0"]);
    let none = EventFilter { event_type: Some("order.lost".into()), ..EventFilter::default() };
    assert_eq!(outbox.list(&none).await.unwrap(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_delivered_long_ago_is_removed_and_nothing_else() {
    let stage = Stage::set().await;
    for subject in ["old", "new", "dead", "pending"] {
        emit(&stage.db, stage.acme, subject).await;
    }
    stage
        .run(
            "update public.domain_events set status = 'delivered', finished_at = now() - interval '2 days' where subject = 'old';
             update public.domain_events set status = 'delivered', finished_at = now() where subject = 'new';
             update public.domain_events set status = 'dead', finished_at = now() - interval '2 days' where subject = 'dead'",
        )
        .await;
    let outbox = Outbox::new(&stage.db);
    assert_eq!(outbox.prune(Duration::from_secs(24 * 3600)).await.unwrap(), 1);
    let kept = stage.rows("select subject from public.domain_events order by position", &[]).await;
    assert_eq!(kept.iter().map(|row| row.get(0)).collect::<Vec<String>>(), ["new", "dead", "pending"]);
}

/// Sixteen relays at once on one organization: one of them delivers.
#[tokio::test(flavor = "multi_thread")]
async fn relays_on_one_organization_do_no_work_twice() {
    let stage = Stage::set_with_pool(16).await;
    for number in 0..40 {
        emit(&stage.db, stage.acme, &number.to_string()).await;
    }
    let inbox = Inbox::new();
    let relays = (0..16).map(|_| {
        let mut options = options();
        options.batch_max = 3;
        options.poll_interval = Duration::from_millis(5);
        let (relay, all) = (Relay::new(&stage.db, inbox.sink(), options), inbox.reaches(40));
        async move { relay.run_until(all).await.unwrap().delivered }
    });
    let delivered: u64 = must_end(futures_util::future::join_all(relays)).await.iter().sum();
    assert_eq!(delivered, 40);
    assert_eq!(inbox.subjects(), (0..40).map(|number| number.to_string()).collect::<Vec<_>>());
}
