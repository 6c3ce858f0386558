//! The outbox: writes, lists, retries and prunes events.

use super::{Event, EventId};
use crate::{
    context::TenantContext,
    error::Error,
    platform::{
        Actor, Permission, PlatformError, RecordedChange, Result,
        permissions::{demand_of, demand_service},
        values::{age_seconds, check_no_nul},
    },
    tenancy::{Db, PlatformTx, Statements, TenantTx},
    tenant::OrganizationId,
};
use serde_json::json;
use std::{
    fmt,
    time::{Duration, SystemTime},
};
use tokio_postgres::{Row, types::Type};

/// The notification channel of migration 015.
pub(super) const CHANNEL: &str = "cgk_events";
/// How many rows one statement deletes.
const PRUNED_AT_ONCE: i64 = 1000;
/// The maximum length of a page.
const PAGE_MAX: u32 = 1000;

/// The organization is that of the tenant that the transaction has entered.
const EMIT: &str = "
    insert into public.domain_events (id, organization_id, type, subject, data, actor_kind, actor_id, request_id)
    values ($1, coalesce($2, nullif(pg_catalog.current_setting('app.current_organization_id', true), '')::pg_catalog.uuid),
            $3, $4, $5, $6, $7, $8)";

async fn emit(tx: &impl Statements, event: &Event) -> Result<EventId, Error> {
    let actor = Actor::current();
    let context = TenantContext::if_current();
    let request_id = context.as_ref().map(|context| context.request_id.as_str());
    let sent = [
        (&event.id as &(dyn tokio_postgres::types::ToSql + Sync), Type::UUID),
        (&event.organization.map(OrganizationId::uuid), Type::UUID),
        (&event.event_type.as_str(), Type::TEXT),
        (&event.subject, Type::TEXT),
        (&event.data, Type::JSONB),
        (&actor.kind(), Type::TEXT),
        (&actor.id(), Type::TEXT),
        (&request_id, Type::TEXT),
    ];
    tx.execute_typed(EMIT, &sent).await?;
    Ok(event.id)
}

impl TenantTx<'_> {
    /// Writes a domain event of this tenant's organization, with one statement. The event is delivered only if the
    /// transaction commits. The user and the request id come from the caller's [`TenantContext`].
    ///
    /// ```no_run
    /// # async fn example(db: cgk::Db, acme: cgk::TenantSlug) -> cgk::Result<()> {
    /// use cgk::platform::{Event, EventType};
    /// const SHIPPED: EventType = EventType::from_static("order.shipped");
    /// db.with_tenant(&acme, async |tx| {
    ///     tx.execute("update orders set shipped_at = now() where id = $1", &[&17i64]).await?;
    ///     tx.emit(&Event::new(SHIPPED).subject("order/17")).await
    /// })
    /// .await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// The error of the statement. The database refuses an event of another organization, and a type that starts with
    /// `cgk.`. The bundled shared tables must be applied up to `015_domain_events`.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the event may or may not be written: end the transaction.
    pub async fn emit(&self, event: &Event) -> Result<EventId, Error> {
        emit(self, event).await
    }
}

impl PlatformTx<'_> {
    /// Writes a domain event of the organization that it names, or of none, with one statement. The event is delivered
    /// only if the transaction commits. [`Outbox::emit`] does the same.
    ///
    /// # Errors
    ///
    /// The error of the statement.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the event may or may not be written: end the transaction.
    pub async fn emit(&self, event: &Event) -> Result<EventId, Error> {
        emit(self, event).await
    }
}

/// The status of an event.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum EventStatus {
    /// It is waiting for delivery.
    Pending,
    /// It was delivered.
    Delivered,
    /// Its delivery has failed for good. It is not tried again until [`Outbox::retry`] is called.
    Dead,
    /// A status that this version does not know.
    Other(String),
}

impl EventStatus {
    /// Returns the value in the database.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Pending => "pending",
            Self::Delivered => "delivered",
            Self::Dead => "dead",
            Self::Other(text) => text,
        }
    }
}

impl From<&str> for EventStatus {
    fn from(text: &str) -> Self {
        match text {
            "pending" => Self::Pending,
            "delivered" => Self::Delivered,
            "dead" => Self::Dead,
            other => Self::Other(other.to_owned()),
        }
    }
}

impl fmt::Display for EventStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.as_str().escape_debug())
    }
}

/// An event in the outbox, without its data.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct EventRecord {
    /// The id of the event.
    pub id: EventId,
    /// The organization. `None`: the event belongs to no organization.
    pub organization_id: Option<OrganizationId>,
    /// Its position in the order in which all events were written. Pass it to [`EventFilter::before`].
    pub position: i64,
    /// Its position among its organization's events. `None`: no relay has numbered it yet.
    pub sequence: Option<i64>,
    /// Its type.
    pub event_type: String,
    /// The subject.
    pub subject: Option<String>,
    /// The status.
    pub status: EventStatus,
    /// The number of delivery attempts.
    pub attempts: i32,
    /// The error of the last attempt.
    pub error: Option<String>,
    /// When it was written.
    pub occurred_at: SystemTime,
    /// When it was delivered or marked as dead.
    pub finished_at: Option<SystemTime>,
}

/// Which events are listed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventFilter {
    /// Events of this organization.
    pub organization: Option<OrganizationId>,
    /// Events with this status.
    pub status: Option<EventStatus>,
    /// Events of this type.
    pub event_type: Option<String>,
    /// Events before this position: the position of the last event of the previous page.
    pub before: Option<i64>,
    /// The maximum number of events. Default: 100. Maximum: 1,000.
    pub limit: Option<u32>,
}

const LIST: &str = "
    select e.id, e.organization_id, e.position, e.sequence, e.type, e.subject, e.status::pg_catalog.text, e.attempts, e.error,
           e.occurred_at, e.finished_at
      from public.domain_events e
     where ($1::pg_catalog.uuid is null or e.organization_id = $1) and ($2::pg_catalog.text is null or e.status::pg_catalog.text = $2)
       and ($3::pg_catalog.text is null or e.type = $3) and ($4::pg_catalog.int8 is null or e.position < $4)
     order by e.position desc limit $5";

const RETRY: &str = "
    update public.domain_events set status = 'pending', attempts = 0, error = null, finished_at = null
     where id = $1 and status = 'dead' returning organization_id, type";

const RETRY_ALL: &str = "
    update public.domain_events set status = 'pending', attempts = 0, error = null, finished_at = null
     where status = 'dead' and ($1::pg_catalog.uuid is null or organization_id = $1)";

const PRUNE: &str = "
    delete from public.domain_events d using (
        select e.id from public.domain_events e
         where e.status = 'delivered' and e.finished_at < pg_catalog.now() - pg_catalog.make_interval(secs => $1)
         order by e.finished_at limit $2 for update skip locked) old
     where d.id = old.id";

/// The outbox, for an application and its operators. Cheap to clone.
///
/// Listing and retrying the events of one organization needs `events:manage` in it ([`Permission`]). What concerns all
/// organizations, or an event of none, is for the service itself and its operators.
///
/// ```no_run
/// use cgk::platform::{Event, EventType, Outbox, PlatformError};
/// const INVITED: EventType = EventType::from_static("project.invited");
///
/// async fn invite(db: &cgk::Db, acme: cgk::OrganizationId) -> Result<(), PlatformError> {
///     let db: cgk::Db<PlatformError> = db.errors();
///     db.platform()
///         .transaction(async |tx| {
///             // …
///             Outbox::emit(tx, &Event::new(INVITED).organization(acme)).await
///         })
///         .await?;
///     Ok(())
/// }
/// ```
#[derive(Clone, Debug)]
pub struct Outbox {
    db: Db<PlatformError>,
    actor: Option<Actor>,
}

impl Outbox {
    /// Creates the handle for the outbox of this database.
    pub fn new<E>(db: &Db<E>) -> Self {
        Self { db: db.errors(), actor: None }
    }

    /// Sets the actor. Default: [`Actor::current`].
    pub fn acting_as(mut self, actor: Actor) -> Self {
        self.actor = Some(actor);
        self
    }

    /// Writes a domain event in the transaction. In a tenant's transaction, [`TenantTx::emit`] does the same.
    ///
    /// # Errors
    ///
    /// `TablesMissing`; `Database`. After an error the transaction cannot commit.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the event may or may not be written: end the transaction.
    pub async fn emit(tx: &impl Statements, event: &Event) -> Result<EventId> {
        Ok(emit(tx, event).await?)
    }

    /// Returns events, the last written first.
    ///
    /// # Errors
    ///
    /// `NotFound`: the actor is not a member of the filter's organization. `Forbidden`: its role does not have
    /// `events:manage`, or the filter names no organization and the actor is not the service or an operator. `TablesMissing`;
    /// `Database`.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, nothing changes: the function only reads.
    pub async fn list(&self, filter: &EventFilter) -> Result<Vec<EventRecord>> {
        let status = filter.status.as_ref().map(EventStatus::as_str);
        filter.event_type.as_deref().map_or(Ok(()), |text| check_no_nul("the type", text))?;
        status.map_or(Ok(()), |text| check_no_nul("the status", text))?;
        let organization = filter.organization.map(OrganizationId::uuid);
        let limit = i64::from(filter.limit.unwrap_or(100).min(PAGE_MAX));
        let (platform, actor) = (self.db.platform(), self.actor());
        let rows = platform.transaction(async |tx| {
            demand_of(tx, &actor, filter.organization, Permission::EventsManage).await?;
            Ok(tx.query(LIST, &[&organization, &status, &filter.event_type, &filter.before, &limit]).await?)
        });
        Ok(rows.await?.iter().map(read).collect())
    }

    /// Schedules a dead event for delivery again. It keeps its position, so it is delivered before the later events
    /// that are still pending.
    ///
    /// # Locks
    ///
    /// The row of the event, until the end of one transaction.
    ///
    /// # Errors
    ///
    /// `NotFound`: no dead event has this id, or the actor is not a member of its organization. `Forbidden`: its role
    /// does not have `events:manage`, or the event belongs to no organization and the actor is not the service or an operator.
    /// `TablesMissing`; `Database`.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the change may or may not be committed.
    pub async fn retry(&self, id: EventId) -> Result<()> {
        let actor = self.actor();
        self.db
            .platform()
            .transaction(async |tx| {
                let row = tx.query_opt(RETRY, &[&id]).await?;
                let row = row.ok_or(PlatformError::NotFound { what: "event that was given up" })?;
                demand_of(tx, &actor, row.get(0), Permission::EventsManage).await?;
                let event_type: String = row.get(1);
                let change = RecordedChange {
                    actor: &actor,
                    organization: row.get(0),
                    name: "cgk.event.retried",
                    resource: ("event", id.to_string()),
                    before: None,
                    after: Some(json!({ "type": event_type })),
                };
                // The event of this change wakes the relays.
                Ok(change.record(tx).await?)
            })
            .await
    }

    /// Schedules all dead events, or those of one organization, for delivery again. Returns how many.
    ///
    /// # Locks
    ///
    /// The rows of the events, until the end of one transaction.
    ///
    /// # Errors
    ///
    /// `NotFound`: the actor is not a member of the organization. `Forbidden`: its role does not have `events:manage`,
    /// or no organization is named and the actor is not the service or an operator. `TablesMissing`; `Database`.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, either everything is committed or nothing.
    pub async fn retry_all(&self, organization: Option<OrganizationId>) -> Result<u64> {
        let actor = self.actor();
        self.db
            .platform()
            .transaction(async |tx| {
                demand_of(tx, &actor, organization, Permission::EventsManage).await?;
                let retried = tx.execute(RETRY_ALL, &[&organization.map(OrganizationId::uuid)]).await?;
                if retried > 0 {
                    let change = RecordedChange {
                        actor: &actor,
                        organization,
                        name: "cgk.event.retried",
                        resource: ("event", "all".into()),
                        before: None,
                        after: Some(json!({ "events": retried })),
                    };
                    change.record(tx).await?;
                }
                Ok(retried)
            })
            .await
    }

    /// Deletes the events that were delivered longer ago than `age`. Returns how many. A relay does this automatically.
    ///
    /// # Locks
    ///
    /// The rows that it deletes, a thousand at a time. Rows that another transaction has locked are skipped.
    ///
    /// # Errors
    ///
    /// `Forbidden`: the actor is not the service or an operator. `TablesMissing`; `Database`.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, some of the events are deleted.
    pub async fn prune(&self, age: Duration) -> Result<u64> {
        demand_service(&self.actor(), "events:prune")?;
        let mut removed = 0;
        loop {
            let now = self.db.platform().execute(PRUNE, &[&age_seconds(age), &PRUNED_AT_ONCE]).await?;
            removed += now;
            if now < PRUNED_AT_ONCE.unsigned_abs() {
                return Ok(removed);
            }
        }
    }

    fn actor(&self) -> Actor {
        self.actor.clone().unwrap_or_else(Actor::current)
    }
}

fn read(row: &Row) -> EventRecord {
    EventRecord {
        id: row.get(0),
        organization_id: row.get(1),
        position: row.get(2),
        sequence: row.get(3),
        event_type: row.get(4),
        subject: row.get(5),
        status: EventStatus::from(row.get::<_, &str>(6)),
        attempts: row.get(7),
        error: row.get(8),
        occurred_at: row.get(9),
        finished_at: row.get(10),
    }
}
