//! Returns the statements that create a tenant's row, role and schema, before its migrations run in the same message.

use super::CreateOptions;
use crate::{
    access::isolation,
    access::login::{self, Admitted},
    binding,
    db::Operator,
    ident::{Ident, RoleName, SchemaName},
    identity,
    migrate::{execute::unit::LedgerPresence, ledger},
    registry::{self, TenantFacts},
    slug::TenantSlug,
    tenant::{OrganizationId, TenantStatus},
};
use uuid::Uuid;

/// The parts of a tenant to create.
pub(super) struct Provision<'a> {
    pub(super) operator: &'a Operator,
    pub(super) slug: &'a TenantSlug,
    pub(super) schema: &'a SchemaName,
    pub(super) options: &'a CreateOptions,
    pub(super) facts: &'a TenantFacts,
    pub(super) role: Option<&'a RoleName>,
    /// The logins that must be able to enter it.
    pub(super) logins: &'a [Admitted],
    /// Whether it is activated only after its migrations, in a message of its own.
    pub(super) in_steps: bool,
}

impl Provision<'_> {
    /// The statements, and whether the ledger exists after them.
    pub(super) fn sql(&self) -> (String, LedgerPresence) {
        let (operator, facts) = (self.operator, self.facts);
        let mut sql = identity::isolation::demand_sql(operator);
        let id = self.register(&mut sql);
        if let Some(role) = self.role {
            sql.push_str(&isolation::role_sql(operator.facts(), role, facts.presence()));
            sql.push_str(&login::enter_by_role_sql(operator.facts(), role, self.logins));
        }
        if facts.owner.is_none() {
            // Never IF NOT EXISTS: a schema that is there already is somebody's.
            sql.push_str(&format!("create schema {};\n", self.schema.quoted()));
        }
        if let Some(owner) = other_owner(operator, facts) {
            sql.push_str(&format!("set local role {};\n", owner.quoted()));
        }
        if facts.owner.is_none() || facts.is_unbound() {
            sql.push_str(&binding::comment_sql(self.schema, id, facts.schema_comment.as_deref()));
        }
        let ledger = self.grant(&mut sql);
        (sql, ledger)
    }

    /// Writes or checks the registry row. Returns the organization.
    fn register(&self, sql: &mut String) -> OrganizationId {
        match &self.facts.tenant {
            None => {
                let name = self.options.name.as_deref().unwrap_or(self.slug.as_str());
                let id = self.options.organization.unwrap_or_else(|| OrganizationId(Uuid::new_v4()));
                let status = if self.in_steps { TenantStatus::Onboarding } else { TenantStatus::Active };
                sql.push_str(&registry::insert_sql(id, self.slug, name, &status));
                id
            }
            Some(tenant) => {
                sql.push_str(&registry::demand_sql(tenant.id, self.slug));
                if !self.in_steps {
                    sql.push_str(&registry::activate_sql(self.slug));
                }
                tenant.id
            }
        }
    }

    /// Grants the tenant's role, or the logins of services, their rights in the schema.
    fn grant(&self, sql: &mut String) -> LedgerPresence {
        let (schema, has_ledger) = (self.schema, self.facts.has_ledger);
        // Nothing is in a new schema yet but, at most, the ledger.
        let grants = if self.facts.owner.is_some() { isolation::grants_sql } else { isolation::grants_to_come_sql };
        let present = if has_ledger { LedgerPresence::Present } else { LedgerPresence::Absent };
        if let Some(role) = self.role {
            sql.push_str(&grants(schema, role.ident()));
            if has_ledger {
                sql.push_str(&isolation::protect_ledger_sql(schema, role.ident()));
            }
            return present;
        }
        if self.logins.is_empty() {
            return present;
        }
        if !has_ledger {
            // Here, and not by the migrations' own message: what protects it from the logins stands behind it.
            sql.push_str(&ledger::create_sql(schema, None));
        }
        for login in self.logins {
            sql.push_str(&grants(schema, &login.name));
            sql.push_str(&isolation::protect_ledger_sql(schema, &login.name));
        }
        LedgerPresence::Present
    }
}

/// Returns the schema's owner; `None` if it is the operator.
pub(super) fn other_owner<'a>(operator: &Operator, facts: &'a TenantFacts) -> Option<&'a Ident> {
    facts.owner.as_ref().filter(|owner| owner.as_str() != operator.facts().role)
}
