//! Reads the audit log and maintains its monthly partitions.

use super::{
    Actor, Permission, PlatformError, Result,
    page::{Cursor, Page, PageRequest},
    permissions::{demand_of, demand_service},
    values::{check_instant, check_no_nul, nearest_instant},
};
use crate::{
    db::Operator,
    error::{Error, while_doing},
    row_id::row_id,
    tenancy::Db,
    tenant::OrganizationId,
};
use serde_json::Value;
use std::time::SystemTime;
use tokio_postgres::{
    Row,
    types::{ToSql, Type},
};
use uuid::Uuid;

row_id!(
    /// The id of a line of the audit log, a row of `public.audit_events`.
    AuditId
);

/// A line of the audit log.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct AuditEvent {
    /// The id of the line.
    pub id: AuditId,
    /// The organization. `None`: the line is about no organization.
    pub organization_id: Option<OrganizationId>,
    /// When it happened.
    pub occurred_at: SystemTime,
    /// The kind of the actor: `user`, `api_key`, `system` or `operator`.
    pub actor_kind: String,
    /// The id of the actor within its kind.
    pub actor_id: Option<String>,
    /// What was done, such as `cgk.membership.removed`.
    pub action: String,
    /// The kind of the resource.
    pub resource_kind: String,
    /// The id of the resource within its kind.
    pub resource_id: String,
    /// The state before the change.
    pub before: Option<Value>,
    /// The state after the change.
    pub after: Option<Value>,
    /// The id of the request.
    pub request_id: Option<String>,
}

/// Which lines are listed. Default: all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct AuditFilter {
    /// Lines of this organization.
    pub organization: Option<OrganizationId>,
    /// Lines of this actor.
    pub actor: Option<Actor>,
    /// Lines of this action.
    pub action: Option<String>,
    /// Lines about this kind of resource, such as `membership`.
    pub resource_kind: Option<String>,
    /// Lines about this resource.
    pub resource_id: Option<String>,
    /// Lines from this time on.
    pub from: Option<SystemTime>,
    /// Lines before this time.
    pub until: Option<SystemTime>,
}

/// Returns the query for the lines of all organizations, or of one organization by its index.
fn list_sql(of_one: bool) -> String {
    let organization = match of_one {
        true => "a.organization_id = $4",
        false => "$4::pg_catalog.uuid is null",
    };
    format!(
        "select a.id, a.organization_id, a.occurred_at, a.actor_kind, a.actor_id, a.action, a.resource_kind, a.resource_id,
                a.before, a.after, a.request_id
           from public.audit_events a
          where (a.occurred_at, a.id) < ($1, $2) and a.occurred_at >= $3 and {organization}
            and ($5::pg_catalog.text is null or a.actor_kind = $5) and ($6::pg_catalog.text is null or a.actor_id = $6)
            and ($7::pg_catalog.text is null or a.action = $7) and ($8::pg_catalog.text is null or a.resource_kind = $8)
            and ($9::pg_catalog.text is null or a.resource_id = $9)
          order by a.occurred_at desc, a.id desc limit $10"
    )
}

const HAS_KEEP: &str = "select pg_catalog.to_regprocedure('public.cgk_keep_audit_months()') is not null";
const KEEP: &str = "select public.cgk_keep_audit_months()";
const MAKE: &str = "select public.cgk_make_audit_partitions($1)";
const DROP: &str = "select public.cgk_drop_audit_partitions($1)";

/// The audit log. Cheap to clone.
///
/// Reading the lines of one organization needs `audit:read` in it ([`Permission`]). Reading those of all organizations
/// is for the service itself and its operators.
///
/// Every change that the operations of [`platform`](crate::platform) make is recorded here, in the same transaction.
/// The database does not allow any role to change or delete a line. Old months are removed as a whole with
/// [`drop_months`](Self::drop_months). The owner of the tables can still drop the tables or their triggers.
///
/// ```no_run
/// use cgk::platform::{AuditFilter, AuditLog, PageRequest, PlatformError};
///
/// async fn newest(db: &cgk::Db, acme: cgk::OrganizationId) -> Result<(), PlatformError> {
///     let mut filter = AuditFilter::default();
///     filter.organization = Some(acme);
///     let page = AuditLog::new(db).list(&filter, &PageRequest::default()).await?;
///     for event in page.items {
///         println!("{} {} {}", event.action, event.resource_kind, event.resource_id);
///     }
///     Ok(())
/// }
/// ```
#[derive(Clone, Debug)]
pub struct AuditLog {
    db: Db<PlatformError>,
    actor: Option<Actor>,
}

impl AuditLog {
    /// Creates the handle for the audit log of this database.
    pub fn new<E>(db: &Db<E>) -> Self {
        Self { db: db.errors(), actor: None }
    }

    /// Sets the actor. Default: [`Actor::current`].
    pub fn acting_as(mut self, actor: Actor) -> Self {
        self.actor = Some(actor);
        self
    }

    /// Returns lines of the audit log, newest first.
    ///
    /// # Errors
    ///
    /// `NotFound`: the actor is not a member of the filter's organization. `Forbidden`: its role does not have
    /// `audit:read`, or the filter names no organization and the actor is not the service or an operator. `TablesMissing`;
    /// `Database`.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, nothing changes: the function only reads.
    pub async fn list(&self, filter: &AuditFilter, page: &PageRequest) -> Result<Page<AuditEvent>> {
        let (mut before, mut id) = page.start_of_newest();
        if let Some(until) = filter.until.filter(|until| *until < before) {
            (before, id) = (until, Uuid::nil());
        }
        let from = filter.from.unwrap_or(SystemTime::UNIX_EPOCH);
        check_instant("the start", from)?;
        filter.until.map_or(Ok(()), |until| check_instant("the end", until))?;
        for text in [&filter.action, &filter.resource_kind, &filter.resource_id].into_iter().flatten() {
            check_no_nul("the filter", text)?;
        }
        if let Some(Actor::Operator(login)) = &filter.actor {
            check_no_nul("the filter", login)?;
        }
        let organization = filter.organization.map(OrganizationId::uuid);
        let actor_kind = filter.actor.as_ref().map(Actor::kind);
        let actor_id = filter.actor.as_ref().and_then(Actor::id);
        let rows = page.rows();
        let params: [&(dyn ToSql + Sync); 10] = [
            &before,
            &id,
            &from,
            &organization,
            &actor_kind,
            &actor_id,
            &filter.action,
            &filter.resource_kind,
            &filter.resource_id,
            &rows,
        ];
        let (platform, actor) = (self.db.platform(), self.actor());
        let found = platform.transaction(async |tx| {
            demand_of(tx, &actor, filter.organization, Permission::AuditRead).await?;
            Ok(tx.query(&list_sql(organization.is_some()), &params).await?)
        });
        let events = found.await?.iter().map(read).collect();
        Ok(page.page(events, |event: &AuditEvent| Cursor::at(event.occurred_at, event.id)))
    }

    /// Creates the missing partitions of this month and the next three, without moving a line. Returns how many it
    /// created. If the default partition already has lines of a month, that month is skipped: use
    /// [`make_months`](Self::make_months) for it. Every [`Relay`](super::Relay) and `cgk migrate` call this function,
    /// so call it yourself only where neither runs. The login needs the right to write to the log.
    ///
    /// # Locks
    ///
    /// If a month is missing: a lock on the log against other changes of its partitions (an exclusive one if it is this
    /// month), and an exclusive lock on the default partition. The function waits a tenth of a second for each. If it
    /// does not get them, it creates no partition.
    ///
    /// # Errors
    ///
    /// `Forbidden`: the actor is not the service or an operator. `TablesMissing`; `Database`.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, either all partitions are created or none: it is one transaction.
    pub async fn keep_months(&self) -> Result<u32> {
        demand_service(&self.actor(), "audit:keep")?;
        let platform = self.db.platform();
        let rows = platform.query_typed(KEEP, &[]).await?;
        Ok(rows.first().map_or(0, |row| u32::try_from(row.get::<_, i32>(0)).unwrap_or_default()))
    }

    fn actor(&self) -> Actor {
        self.actor.clone().unwrap_or_else(Actor::current)
    }

    /// Does the same as [`keep_months`](Self::keep_months) on an operator's connection. Does nothing in a database
    /// without the audit log.
    ///
    /// # Errors
    ///
    /// The errors of the server.
    ///
    /// # Cancel safety
    ///
    /// Same as [`keep_months`](Self::keep_months).
    pub async fn keep_months_of(operator: &Operator) -> Result<u32, Error> {
        let doing = || while_doing("make the months of the audit log");
        let row = operator.client().query_typed_one(HAS_KEEP, &[]).await.map_err(doing())?;
        match row.try_get(0).map_err(doing())? {
            true => {
                let rows = operator.client().query_typed(KEEP, &[]).await.map_err(doing())?;
                Ok(rows.first().map_or(0, |row| u32::try_from(row.get::<_, i32>(0)).unwrap_or_default()))
            }
            false => Ok(0),
        }
    }

    /// Creates the partitions of this month and of the next `months_ahead` months. Moves the lines that are in the
    /// default partition into the partitions of their months. Returns how many partitions it created. Run it at least
    /// once a month. Until then new lines go to the default partition, and none is lost. `operator` needs the rights of
    /// the log's owner.
    ///
    /// # Locks
    ///
    /// A lock on the log against other changes of its partitions. If the partition of this month is missing or rows are
    /// moved: an exclusive lock on the log until the end of the transaction.
    ///
    /// # Errors
    ///
    /// Kind `Locked`: the log was in use for longer than `session.lock_timeout`, and nothing is changed. Kind `Denied`:
    /// the role is not the owner of the log.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, either everything is done or nothing: it is one transaction.
    pub async fn make_months(operator: &Operator, months_ahead: u32) -> Result<u32, Error> {
        let months = i32::try_from(months_ahead).unwrap_or(i32::MAX);
        count(operator, MAKE, (&months, Type::INT4), "make the partitions of the audit log").await
    }

    /// Removes the partitions of the months that ended before this time. Returns how many it removed. If it removes
    /// any, the log gets the line `cgk.audit.months_removed` in the same transaction: which months, and the time that
    /// was given. `operator` needs the rights of the log's owner.
    ///
    /// # Locks
    ///
    /// An exclusive lock on the log while the partitions are dropped.
    ///
    /// # Errors
    ///
    /// Same as [`make_months`](Self::make_months). In addition, the database refuses a time in the future.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, either all partitions are removed or none: it is one transaction.
    pub async fn drop_months(operator: &Operator, ended_by: SystemTime) -> Result<u32, Error> {
        // No month of the log is older than 1970, and the driver cannot send every time.
        let ended_by = nearest_instant(ended_by);
        count(operator, DROP, (&ended_by, Type::TIMESTAMPTZ), "remove months of the audit log").await
    }
}

async fn count(
    operator: &Operator,
    sql: &str,
    parameter: (&(dyn ToSql + Sync), Type),
    doing: &str,
) -> Result<u32, Error> {
    let rows = operator.client().query_typed(sql, &[parameter]).await.map_err(while_doing(doing))?;
    Ok(rows.first().map_or(0, |row| u32::try_from(row.get::<_, i32>(0)).unwrap_or_default()))
}

fn read(row: &Row) -> AuditEvent {
    AuditEvent {
        id: row.get(0),
        organization_id: row.get(1),
        occurred_at: row.get(2),
        actor_kind: row.get(3),
        actor_id: row.get(4),
        action: row.get(5),
        resource_kind: row.get(6),
        resource_id: row.get(7),
        before: row.get(8),
        after: row.get(9),
        request_id: row.get(10),
    }
}
