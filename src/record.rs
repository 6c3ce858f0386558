//! Writes the line in the audit log and the domain event of every change that `auth`, `platform` and `secret` make.

use crate::{actor::Actor, context::TenantContext, error::Result, tenancy::PlatformTx, tenant::OrganizationId};
use serde_json::{Map, Value};
use tokio_postgres::types::Type;
use uuid::Uuid;

/// A change, and its actor.
pub(crate) struct RecordedChange<'a> {
    pub(crate) actor: &'a Actor,
    pub(crate) organization: Option<OrganizationId>,
    /// The audit log's action and the event's type, in the past tense, such as `cgk.membership.removed`.
    pub(crate) name: &'static str,
    /// The kind and the id of the resource: `("membership", id)`.
    pub(crate) resource: (&'static str, String),
    /// The state before the change. It must not contain secrets or hashes of tokens.
    pub(crate) before: Option<Value>,
    /// The state after the change. It must not contain secrets or hashes of tokens.
    pub(crate) after: Option<Value>,
}

const RECORD: &str = "
    with event as (
        insert into public.domain_events (id, organization_id, type, subject, data, actor_kind, actor_id, request_id)
        values ($1, $3, $6, pg_catalog.left(pg_catalog.concat($7, '/', $8), 500), $12, $4, pg_catalog.left($5, 500), $11))
    insert into public.audit_events
        (id, organization_id, actor_kind, actor_id, action, resource_kind, resource_id, before, after, request_id)
    values ($2, $3, $4, $5, $6, $7, $8, $9, $10, $11)";

/// Whether the database has the tables of the audit log and of the events. A migration set of one's own can have users
/// and API keys without them.
const IS_KEPT: &str = "select pg_catalog.to_regclass('public.audit_events') is not null
    and pg_catalog.to_regclass('public.domain_events') is not null";

impl RecordedChange<'_> {
    /// Writes both rows if the database has their tables.
    pub(crate) async fn record_if_kept(&self, tx: &PlatformTx<'_>) -> Result<()> {
        let is_kept: bool = tx.query_one(IS_KEPT, &[]).await?.get(0);
        if is_kept { self.record(tx).await } else { Ok(()) }
    }

    /// Writes both rows, in one statement. The id of the request comes from the caller's [`TenantContext`].
    pub(crate) async fn record(&self, tx: &PlatformTx<'_>) -> Result<()> {
        let (kind, id) = (self.resource.0, self.resource.1.as_str());
        let context = TenantContext::if_current();
        // An operator's name may come from anywhere. A text in PostgreSQL has no zero byte.
        let actor_id = self.actor.id().map(|id| id.replace('\0', "\u{fffd}"));
        let request_id = context.as_ref().map(|context| context.request_id.as_str());
        let sent = [
            (&Uuid::now_v7() as &(dyn tokio_postgres::types::ToSql + Sync), Type::UUID),
            (&Uuid::now_v7(), Type::UUID),
            (&self.organization.map(OrganizationId::uuid), Type::UUID),
            (&self.actor.kind(), Type::TEXT),
            (&actor_id, Type::TEXT),
            (&self.name, Type::TEXT),
            (&kind, Type::TEXT),
            (&id, Type::TEXT),
            (&self.before, Type::JSONB),
            (&self.after, Type::JSONB),
            (&request_id, Type::TEXT),
            (&self.data(), Type::JSONB),
        ];
        tx.execute_typed(RECORD, &sent).await?;
        Ok(())
    }

    /// Returns the event's data: the resource, and its state before and after the change.
    fn data(&self) -> Value {
        let mut data = Map::new();
        data.insert("resource".into(), serde_json::json!({ "kind": self.resource.0, "id": self.resource.1 }));
        let parts = [("before", &self.before), ("after", &self.after)];
        data.extend(parts.into_iter().filter_map(|(name, part)| Some((name.to_owned(), part.clone()?))));
        Value::Object(data)
    }
}
