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
    registry::{self, RoleState, TenantFacts, WarmSchema},
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
    /// The schema, with its role and its files, that it gets instead of a new one.
    pub(super) warm: Option<&'a WarmSchema>,
    /// Whether it is activated only after its migrations, in a separate message.
    pub(super) in_steps: bool,
}

impl Provision<'_> {
    /// Returns the statements, and whether the ledger exists after them.
    pub(super) fn sql(&self) -> (String, LedgerPresence) {
        let (operator, facts) = (self.operator, self.facts);
        let mut sql = identity::isolation::demand_sql(operator);
        if let Some(warm) = self.warm {
            sql.push_str(&warm.take_sql());
            let id = self.register(&mut sql);
            sql.push_str(&warm.give_sql(self.schema, self.role));
            if let Some(role) = self.role {
                sql.push_str(&login::enter_by_role_sql(operator.facts(), role, self.logins));
            }
            sql.push_str(&binding::comment_sql(self.schema, id, None));
            return (sql, LedgerPresence::Present);
        }
        let id = self.register(&mut sql);
        let place = ProvisionedSchema { operator, schema: self.schema, role: self.role, logins: self.logins };
        place.create(&mut sql, facts.presence(), facts.owner.is_none());
        if let Some(owner) = other_owner(operator, facts) {
            sql.push_str(&format!("set local role {};\n", owner.quoted()));
        }
        if facts.owner.is_none() || facts.is_unbound() {
            let comment_sql = if self.options.is_marked { binding::mark_dropped_sql } else { binding::comment_sql };
            sql.push_str(&comment_sql(self.schema, id, facts.schema_comment.as_deref()));
        }
        let ledger = place.grant(&mut sql, facts.owner.is_some(), facts.has_ledger);
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
}

/// A schema, and who may use it.
pub(super) struct ProvisionedSchema<'a> {
    pub(super) operator: &'a Operator,
    pub(super) schema: &'a SchemaName,
    pub(super) role: Option<&'a RoleName>,
    pub(super) logins: &'a [Admitted],
}

impl ProvisionedSchema<'_> {
    /// Creates the role, and the schema if it is new.
    pub(super) fn create(&self, sql: &mut String, presence: RoleState, is_new: bool) {
        if let Some(role) = self.role {
            sql.push_str(&isolation::role_sql(self.operator.facts(), role, presence));
            sql.push_str(&login::enter_by_role_sql(self.operator.facts(), role, self.logins));
        }
        if is_new {
            // Without IF NOT EXISTS, because an existing schema can belong to another tenant or application.
            sql.push_str(&format!("create schema {};\n", self.schema.quoted()));
        }
    }

    /// Grants the tenant's role, or the logins of services, their rights in the schema; `has_objects` is whether it is
    /// not new.
    pub(super) fn grant(&self, sql: &mut String, has_objects: bool, has_ledger: bool) -> LedgerPresence {
        let schema = self.schema;
        // A new schema contains nothing yet, except possibly the ledger.
        let grants = if has_objects { isolation::grants_sql } else { isolation::grants_to_come_sql };
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
            // The ledger is created here and not by the migrations' message, because the statements that protect it
            // from the logins follow.
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
