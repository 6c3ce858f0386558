//! Creates a tenant inside of a transaction that does more, such as an import.

use super::{CreateOptions, check_privileges, check_role, provision::Provision, refuse_unsuitable, require_ready};
use crate::{
    access::login::{self, Admitted},
    db::{Operator, run_files::Commits},
    error::Result,
    ident::{RoleName, SchemaName},
    migrate::{
        self, Migrations, SchemaPlan, Set, encodable,
        execute::{
            apply,
            grouping::Grouping,
            unit::{ApplyOutcome, LockWait, Purpose, SchemaAccess, Unit},
        },
        fileset::record::FileRecord,
        rehearsal,
    },
    registry::{self, TenantFacts, role_of},
    slug::TenantSlug,
};

/// A tenant that does not exist yet, and the facts that were read before its transaction.
pub(in crate::lifecycle) struct NewTenantParts<'a> {
    operator: &'a Operator,
    slug: &'a TenantSlug,
    options: &'a CreateOptions,
    schema: SchemaName,
    facts: TenantFacts,
    role: Option<RoleName>,
    logins: Vec<Admitted>,
    files: FileRecord,
}

impl<'a> NewTenantParts<'a> {
    /// Runs the checks of a creation, outside of the transaction.
    pub(in crate::lifecycle) async fn check(
        operator: &'a Operator,
        migrations: &Migrations,
        slug: &'a TenantSlug,
        options: &'a CreateOptions,
    ) -> Result<Self> {
        require_ready(operator, migrations).await?;
        encodable::check_all(operator, migrations).await?;
        let files = FileRecord::of_fleet(operator, migrations).await?;
        let facts = registry::facts_of(operator, slug).await?;
        let role = role_of(operator, slug);
        refuse_unsuitable(operator, slug, role.as_ref(), &facts, options).await?;
        check_privileges(operator, &facts, role.is_some() && !facts.has_role)?;
        let logins = login::admitted(operator, slug).await?;
        if let Some(role) = &role {
            check_role(operator, &facts, role, logins.iter().any(|login| !login.may_enter))?;
        }
        Ok(Self { operator, slug, options, schema: SchemaName::of_tenant(slug), facts, role, logins, files })
    }

    pub(in crate::lifecycle) fn options(&self) -> &CreateOptions {
        self.options
    }

    /// Describes the parts of the tenant that exist.
    pub(in crate::lifecycle) fn existing(&self) -> Vec<String> {
        let mut existing = Vec::new();
        if let Some(tenant) = &self.facts.tenant {
            existing.push(format!("organization {} has the slug, its status is {}", tenant.id, tenant.status.as_str()));
        }
        if self.facts.owner.is_some() {
            existing.push(format!("schema {} exists", self.schema.as_str()));
        }
        existing
    }

    /// Creates the tenant in the open transaction. With `in_steps` it stays `onboarding`, so that it cannot be entered.
    pub(in crate::lifecycle) async fn create(&self, plan: &SchemaPlan<'_>, in_steps: bool) -> Result<ApplyOutcome> {
        let role = self.role.as_ref();
        let (operator, slug, schema) = (self.operator, self.slug, &self.schema);
        let (options, facts, logins) = (self.options, &self.facts, &self.logins);
        let (provision, ledger) =
            Provision { operator, slug, schema, options, facts, role, logins, warm: None, in_steps }.sql();
        let unit = Unit {
            plan,
            role,
            provision,
            ledger,
            owner: None,
            commits: Commits::Later,
            grouping: Grouping::Batch,
            sessions: SchemaAccess::None,
            purpose: Purpose::Use,
            files: Some((&self.files, Set::Tenant)),
        };
        apply::attempt(operator, &unit, LockWait::Block, &mut Vec::new()).await
    }
}

/// Whether it is known that the set only works file by file, and not in one transaction.
pub(in crate::lifecycle) async fn needs_steps(operator: &Operator, migrations: &Migrations) -> Result<bool> {
    Ok(rehearsal::known_grouping(operator, migrations).await? == Some(Grouping::FileByFile))
}

/// Records the objects that the migrations create, if no rehearsal did. Drift compares with the record. A failure does
/// not affect the tenant.
pub(in crate::lifecycle) async fn record_reference(operator: &Operator, migrations: &Migrations) {
    let recorded = match rehearsal::known_grouping(operator, migrations).await {
        Ok(Some(_)) => return,
        Ok(None) => migrate::rehearse(operator, migrations).await.map(drop),
        Err(error) => Err(error),
    };
    if let Err(error) = recorded {
        tracing::warn!(%error, "no record of what the migrations create");
    }
}
