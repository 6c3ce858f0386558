//! Checks the binding of schemas to organizations: the comment on a tenant's schema, and the triggers that protect the
//! registry.

use super::report::{Difference, FixStatement};
use crate::{
    binding::comment_sql,
    db::Operator,
    error::Result,
    ident::SchemaName,
    registry::{self, GuardFound, TenantFacts},
    slug::TenantSlug,
};

/// Returns the problem with the comment on a tenant's schema.
pub(super) fn of_schema(slug: &TenantSlug, facts: &TenantFacts) -> Option<Difference> {
    let tenant = facts.tenant.as_ref()?;
    let schema = SchemaName::of_tenant(slug);
    // No fix is suggested: only a person can decide to which organization the schema belongs.
    if let Some(found) = facts.other_organization() {
        let what =
            format!("belongs to organization {found} by its comment, and in the registry {slug} is {}", tenant.id);
        return Some(Difference::wrong("schema", schema.as_str(), what));
    }
    if !facts.is_unbound() || !facts.has_ledger {
        return None;
    }
    let what = format!("its comment does not name organization {}; `cgk setup:database` writes it", tenant.id);
    let fix = comment_sql(&schema, tenant.id, facts.schema_comment.as_deref());
    let fix = vec![FixStatement::about_role(fix.trim_end().trim_end_matches(';').to_owned())];
    Some(Difference { fix, ..Difference::wrong("schema", schema.as_str(), what) })
}

/// Returns the problems with the triggers that keep an organization in the registry while its schema exists.
pub(super) async fn of_registry(operator: &Operator) -> Result<Vec<Difference>> {
    let GuardFound::Wrong(wrong) = registry::inspect_guard(operator).await? else { return Ok(Vec::new()) };
    let difference = |(name, what): (&str, &str)| {
        let what = format!("{what}; `cgk setup:database` makes it anew");
        Difference::wrong("trigger", format!("organizations.{name}"), what)
    };
    Ok(wrong.into_iter().map(difference).collect())
}
