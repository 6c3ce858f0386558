//! What every changing operation of the platform writes: its line in the audit log and the domain event that says so.

use super::{Actor, Result};
use crate::{context::TenantContext, tenancy::PlatformTx, tenant::OrganizationId};
use serde_json::{Map, Value};
use tokio_postgres::types::Type;
use uuid::Uuid;

/// A change, and who made it.
pub(crate) struct Change<'a> {
    pub(crate) actor: &'a Actor,
    pub(crate) organization: Option<OrganizationId>,
    /// Both the audit log's action and the event's type, such as `cgk.membership.removed`, in the past tense.
    pub(crate) name: &'static str,
    /// Of which kind the resource is, and which one it is: `("membership", id)`.
    pub(crate) resource: (&'static str, String),
    /// What it was; no secrets, no hashes of tokens.
    pub(crate) before: Option<Value>,
    /// What it became; no secrets, no hashes of tokens.
    pub(crate) after: Option<Value>,
}

const RECORD: &str = "
    with event as (
        insert into public.domain_events (id, organization_id, type, subject, data, actor_kind, actor_id, request_id)
        values ($1, $3, $6, pg_catalog.left(pg_catalog.concat($7, '/', $8), 500), $12, $4, $5, $11))
    insert into public.audit_events
        (id, organization_id, actor_kind, actor_id, action, resource_kind, resource_id, before, after, request_id)
    values ($2, $3, $4, $5, $6, $7, $8, $9, $10, $11)";

impl Change<'_> {
    /// Writes both rows, in one statement. The request's id is that of the [`TenantContext`] that the caller is in.
    pub(crate) async fn record(&self, tx: &PlatformTx<'_>) -> Result<()> {
        let (kind, id) = (self.resource.0, self.resource.1.as_str());
        let context = TenantContext::if_current();
        let request_id = context.as_ref().map(|context| context.request_id.as_str());
        let sent = [
            (&Uuid::now_v7() as &(dyn tokio_postgres::types::ToSql + Sync), Type::UUID),
            (&Uuid::now_v7(), Type::UUID),
            (&self.organization.map(OrganizationId::uuid), Type::UUID),
            (&self.actor.kind(), Type::TEXT),
            (&self.actor.id(), Type::TEXT),
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

    /// The event's data: the resource, and what it was and became.
    fn data(&self) -> Value {
        let mut data = Map::new();
        data.insert("resource".into(), serde_json::json!({ "kind": self.resource.0, "id": self.resource.1 }));
        let parts = [("before", &self.before), ("after", &self.after)];
        data.extend(parts.into_iter().filter_map(|(name, part)| Some((name.to_owned(), part.clone()?))));
        Value::Object(data)
    }
}
