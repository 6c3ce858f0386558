//! Binds the schemas of a fleet that an earlier version created to their organizations ([`binding`]).

use crate::{
    binding,
    db::{Operator, message, message_head::MessageHead},
    error::{ConnectionError, Error, MigrationError, Result, while_doing},
    ident::{Ident, SchemaName, literal, quoted},
    registry::{self, TenantFacts},
    slug::TenantSlug,
    tenant::OrganizationId,
};
use std::fmt::Write as _;
use tokio_postgres::error::SqlState;

/// How many schemas are bound in one message.
const SCHEMAS_PER_MESSAGE_MAX: usize = 50;

/// A schema that has a registry row and a ledger, and is not bound to an organization yet.
#[derive(Clone, Debug)]
pub(crate) struct Unbound {
    pub(crate) slug: TenantSlug,
    pub(crate) id: OrganizationId,
    /// The schema's owner, if it is not the operator: only the owner may comment on the schema.
    pub(crate) owner: Option<Ident>,
    /// The current comment on the schema. The new comment contains it after the id.
    comment: Option<String>,
}

impl Unbound {
    /// Returns the tenant if its schema is not bound yet.
    pub(crate) fn of(facts: &TenantFacts, own_role: &str) -> Option<Self> {
        let tenant = facts.tenant.as_ref().filter(|_| facts.is_unbound() && facts.has_ledger)?;
        Some(Self {
            slug: tenant.slug.clone(),
            id: tenant.id,
            owner: facts.owner.clone().filter(|owner| owner.as_str() != own_role),
            comment: facts.schema_comment.clone(),
        })
    }

    /// Writes the comment, unless the registry or the comment has changed since it was read.
    fn sql(&self) -> String {
        let schema = SchemaName::of_tenant(&self.slug);
        let name = literal(schema.as_str());
        let comment = self.comment.as_deref().map_or_else(|| "null".into(), literal);
        let mut sql = format!(
            "select 1 / (case when {is_there}
                              and {found} is not distinct from {comment}::pg_catalog.text then 1 else 0 end);\n",
            is_there = registry::is_there_sql(self.id, &self.slug),
            found = binding::comment_of_sql(&format!("pg_catalog.to_regnamespace({name})::pg_catalog.oid")),
        );
        if let Some(owner) = &self.owner {
            let _ = writeln!(sql, "set local role {};", owner.quoted());
        }
        sql.push_str(&binding::comment_sql(&schema, self.id, self.comment.as_deref()));
        if self.owner.is_some() {
            sql.push_str("reset role;\n");
        }
        sql
    }
}

/// The result of binding schemas to their organizations.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct BindReport {
    /// The tenants that are bound now.
    pub bound: Vec<TenantSlug>,
    /// The tenants that could not be bound, with their errors. This includes tenants whose schema belongs to a
    /// different organization than in the registry.
    pub failed: Vec<(TenantSlug, Error)>,
    /// The number of checked tenants: all tenants of the registry.
    pub tenants: usize,
}

/// Checks every tenant of the registry and binds the schemas that are not bound to an organization yet.
///
/// # Locks
///
/// Each schema against concurrent comments, until the end of a message with about 50 of them.
///
/// # Committed when
///
/// 50 schemas at a time; each schema is either bound or unchanged.
///
/// # Errors
///
/// Kinds `Unavailable` and `Failed`: an error of the server. Errors of a single tenant are in the report.
///
/// # Cancel safety
///
/// If the future is dropped, the server may still execute the running message. The next run continues.
pub(crate) async fn bind_fleet(operator: &Operator) -> Result<BindReport> {
    let mut unbound = Vec::new();
    let mut refused = Vec::new();
    let fleet = registry::facts_of_fleet(operator).await?.tenants;
    let tenants = fleet.len();
    for (slug, facts) in fleet {
        refused.extend(facts.refuse_other_organization().err().map(|error| (slug, error)));
        unbound.extend(Unbound::of(&facts, &operator.facts().role));
    }
    let mut report = bind(operator, &unbound).await?;
    report.failed.extend(refused);
    report.tenants = tenants;
    Ok(report)
}

/// Binds these schemas. If a message fails, each of its schemas is tried separately.
pub(crate) async fn bind(operator: &Operator, unbound: &[Unbound]) -> Result<BindReport> {
    let mut report = BindReport::default();
    for some in unbound.chunks(SCHEMAS_PER_MESSAGE_MAX) {
        match send(operator, some).await {
            Ok(()) => report.bound.extend(some.iter().map(|schema| schema.slug.clone())),
            Err(error @ Error::Connection(ConnectionError::Lost { .. })) => return Err(error),
            Err(_) => {
                for schema in some {
                    match send(operator, std::slice::from_ref(schema)).await {
                        Ok(()) => report.bound.push(schema.slug.clone()),
                        Err(error @ Error::Connection(ConnectionError::Lost { .. })) => return Err(error),
                        Err(error) => report.failed.extend(refusal(operator, schema, error).await?),
                    }
                }
            }
        }
    }
    Ok(report)
}

async fn send(operator: &Operator, schemas: &[Unbound]) -> Result<()> {
    let mut sql = MessageHead::of(operator).lock_timeout(operator.session().lock_timeout).sql();
    schemas.iter().for_each(|schema| sql.push_str(&schema.sql()));
    let doing = || while_doing("bind schemas to their organizations");
    message::run(operator.client(), &sql).await.map_err(doing())?.complete().map(drop).map_err(doing())
}

/// Returns why a schema could not be bound; `None` if another run has bound it.
async fn refusal(operator: &Operator, schema: &Unbound, error: Error) -> Result<Option<(TenantSlug, Error)>> {
    let own = operator.facts();
    let refused = match error.sqlstate() {
        Some(&SqlState::DIVISION_BY_ZERO) => {
            let facts = registry::facts_of(operator, &schema.slug).await?;
            match facts.refuse_other_organization() {
                Err(error) => error,
                Ok(()) if !facts.is_unbound() || facts.tenant.is_none() => return Ok(None),
                Ok(()) => Error::Migration(MigrationError::Contended {
                    schema: SchemaName::of_tenant(&schema.slug),
                    tries: 1,
                }),
            }
        }
        Some(&SqlState::INSUFFICIENT_PRIVILEGE) => {
            let owner = schema.owner.as_ref().map_or_else(|| quoted(&own.role), Ident::quoted);
            let name = SchemaName::of_tenant(&schema.slug);
            own.lacks(
                format!("act as {owner}, the owner of schema {:?}", name.as_str()),
                format!("grant {owner} to {}", quoted(&own.role)),
            )
        }
        _ => error,
    };
    Ok(Some((schema.slug.clone(), refused)))
}
