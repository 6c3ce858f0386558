//! Reads the registry and the catalogue in one query, for one tenant, for some, or for all.

use super::{TenantFacts, require};
use crate::{
    binding,
    db::Operator,
    error::{Error, Result, while_doing},
    migration::{LEDGER_TABLE, STEPS_TABLE},
    slug::TenantSlug,
    tenant::{OrganizationId, StrangeRow, Tenant, TenantStatus},
};
use futures_util::{Stream, TryStreamExt as _};
use std::{collections::BTreeMap, pin::pin};
use tokio_postgres::{Row, error::SqlState, types::Type};

/// Returns the facts of the registry and the catalogue about one slug, even if it is not registered.
pub(crate) async fn facts_of(operator: &Operator, slug: &TenantSlug) -> Result<TenantFacts> {
    let slugs = std::slice::from_ref(slug);
    let mut rows = std::pin::pin!(facts_rows(operator, Slugs::named(slugs)).await?);
    match rows.try_next().await? {
        Some(RegistryRow::Tenant(_, facts)) => Ok(*facts),
        Some(RegistryRow::Strange(row)) => {
            Err(Error::Unexpected { doing: format!("look at tenant {slug}"), found: row.to_string() })
        }
        None => Err(Error::Unexpected { doing: format!("look at tenant {slug}"), found: "no row at all".into() }),
    }
}

/// The facts of the registry and the catalogue about many slugs.
#[derive(Debug, Default)]
pub(crate) struct Facts {
    pub(crate) tenants: BTreeMap<TenantSlug, TenantFacts>,
    /// The rows of the registry that are not valid tenants.
    pub(crate) strange: Vec<StrangeRow>,
}

/// Returns the facts about many slugs, in one query.
pub(crate) async fn facts_of_all(operator: &Operator, slugs: &[TenantSlug]) -> Result<Facts> {
    collect(operator, Slugs::named(slugs)).await
}

/// Returns the facts about every tenant of the registry.
pub(crate) async fn facts_of_fleet(operator: &Operator) -> Result<Facts> {
    collect(operator, Slugs::fleet()).await
}

async fn collect(operator: &Operator, slugs: Slugs) -> Result<Facts> {
    let mut facts = Facts::default();
    let mut rows = pin!(facts_rows(operator, slugs).await?);
    while let Some(found) = rows.try_next().await? {
        match found {
            RegistryRow::Tenant(slug, tenant) => drop(facts.tenants.insert(slug, *tenant)),
            RegistryRow::Strange(row) => facts.strange.push(row),
        }
    }
    Ok(facts)
}

/// A row of the response.
pub(crate) enum RegistryRow {
    /// A slug and its facts.
    Tenant(TenantSlug, Box<TenantFacts>),
    /// A row of the registry that is not a valid tenant.
    Strange(StrangeRow),
}

/// The slugs whose facts are read.
pub(crate) struct Slugs {
    /// The text after `from` that defines `s`: the slug, whether it is registered, and the columns of the registry's
    /// row.
    from: &'static str,
    named: Vec<String>,
}

impl Slugs {
    /// Selects every slug of the registry.
    pub(crate) fn fleet() -> Self {
        Self {
            from: "(select o.slug::pg_catalog.text as slug, true as registered, o.id, o.name, o.status, o.created_at
                    from public.organizations o where $2::pg_catalog.text[] is not null)",
            named: Vec::new(),
        }
    }

    /// Selects these slugs, registered or not.
    pub(crate) fn named(slugs: &[TenantSlug]) -> Self {
        Self {
            from: "(select w.slug, coalesce(o.registered, false) as registered, o.id, o.name, o.status, o.created_at
                    from (select distinct pg_catalog.unnest($2::pg_catalog.text[])) w (slug)
                    left join (select true as registered, o.slug, o.id, o.name, o.status, o.created_at
                               from public.organizations o) o on o.slug = w.slug)",
            named: slugs.iter().map(|slug| slug.as_str().to_owned()).collect(),
        }
    }
}

/// Whether the table of the schemas that are ready for new tenants exists, and the operator may take one of them.
const MAY_TAKE_WARM: &str =
    "coalesce(pg_catalog.has_table_privilege(pg_catalog.to_regclass('public.cgk_warm')::pg_catalog.oid, 'delete')
              and pg_catalog.has_table_privilege(pg_catalog.to_regclass('public.cgk_warm')::pg_catalog.oid, 'select'), false)";

pub(crate) async fn facts_rows(
    operator: &Operator,
    slugs: Slugs,
) -> Result<impl Stream<Item = Result<RegistryRow>> + Send + use<>> {
    let (usable, grantable) = acting_sql(operator, &slugs);
    let warm = if slugs.named.len() == 1 { MAY_TAKE_WARM } else { "false" };
    // Names are compared as text. A comparison as type `name` would shorten long names and then treat them as equal.
    // The second comparison uses the index.
    let sql = format!(
        "select s.slug, s.id::pg_catalog.text, coalesce(s.name::pg_catalog.text, ''), s.status::pg_catalog.text,
                coalesce(s.created_at::pg_catalog.timestamptz, 'epoch'::pg_catalog.timestamptz),
                pg_catalog.pg_get_userbyid(n.nspowner)::pg_catalog.text,
                c.oid is not null, pg_catalog.obj_description(c.oid, 'pg_class'), r.oid is not null,
                coalesce(pg_catalog.has_schema_privilege(r.oid, n.oid, 'usage'), false),
                {usable}, {grantable}, {comment}, s.registered, {warm}, steps.relnamespace is not null
         from {} s
         left join pg_catalog.pg_namespace n on n.nspname::pg_catalog.text = 'tenant_' || s.slug
                and n.nspname = ('tenant_' || s.slug)::pg_catalog.name
         left join pg_catalog.pg_class c
                on c.relnamespace = n.oid and c.relname = '{LEDGER_TABLE}' and c.relkind in ('r', 'p')
         left join (select p.relnamespace from pg_catalog.pg_class p where p.relname = '{STEPS_TABLE}' and p.relkind in ('r', 'p')) steps
                on steps.relnamespace = n.oid
         left join pg_catalog.pg_roles r on r.rolname::pg_catalog.text = 'cgk_' || s.slug || '_' || $1
                and r.rolname = ('cgk_' || s.slug || '_' || $1)::pg_catalog.name
         order by s.slug collate \"C\", s.created_at, s.id",
        slugs.from,
        comment = binding::comment_of_sql("n.oid"),
    );
    let tag = operator.facts().database_tag().as_str().to_owned();
    let params: [(&(dyn tokio_postgres::types::ToSql + Sync), Type); 2] =
        [(&tag, Type::TEXT), (&slugs.named, Type::TEXT_ARRAY)];
    match operator.client().query_typed_raw(&sql, params).await {
        Ok(rows) => {
            let mut last = None;
            Ok(rows
                .map_err(|error| while_doing("look at the fleet")(error))
                .and_then(move |row| std::future::ready(found_in(&row, &mut last))))
        }
        Err(error) => {
            if [Some(&SqlState::UNDEFINED_TABLE), Some(&SqlState::UNDEFINED_COLUMN)].contains(&error.code()) {
                require(operator).await?;
            }
            Err(while_doing("look at the fleet")(error))
        }
    }
}

/// Returns two expressions: whether the operator may act as the role `r`, and whether it may grant the role to others.
/// They are used for one tenant only, because each evaluation reads all memberships again.
fn acting_sql(operator: &Operator, slugs: &Slugs) -> (String, String) {
    match (slugs.named.len() == 1, operator.facts().major() >= 16) {
        (false, _) => ("false".into(), "false".into()),
        (true, true) => {
            (member_sql("set", "and m.set_option"), member_sql("member with admin option", "and m.admin_option"))
        }
        // Before PostgreSQL 16, a role with CREATEROLE may grant such roles to others.
        (true, false) => (
            member_sql("member", ""),
            "(select m.rolcreaterole or m.rolsuper from pg_catalog.pg_roles m where m.rolname = current_user)".into(),
        ),
    }
}

/// Returns an expression: whether the operator is a member of the role `r`. The operator's own membership is checked
/// first: it is one row, found by index. The server's function would collect all memberships of the operator, which can
/// be the roles of all tenants.
fn member_sql(privilege: &str, option: &str) -> String {
    format!(
        "case when exists (select from pg_catalog.pg_auth_members m where m.roleid = r.oid {option}
              and m.member = (select u.oid from pg_catalog.pg_roles u where u.rolname = current_user)) then true
         else coalesce(pg_catalog.pg_has_role(r.oid, '{privilege}'), false) end"
    )
}

/// Reads a row of the response. `last` is the slug of the previous row, which shows whether two rows have the same
/// slug. Such rows are next to each other.
fn found_in(row: &Row, last: &mut Option<TenantSlug>) -> Result<RegistryRow> {
    let doing = || while_doing("read the registry");
    let text = |index: usize| row.try_get::<_, Option<String>>(index).map_err(doing());
    let (slug, id, status) = (text(0)?, text(1)?, text(3)?);
    let parsed = slug.as_deref().map(str::parse::<TenantSlug>);
    let why = match (&parsed, id.as_deref().map(str::parse::<uuid::Uuid>)) {
        (None, _) => "it has no slug".to_owned(),
        (Some(Err(error)), _) => format!("no slug of a tenant: {}", error.problem),
        (Some(Ok(slug)), _) if last.as_ref() == Some(slug) => "another organization has the same slug".to_owned(),
        (Some(Ok(slug)), Some(Ok(id))) => {
            *last = Some(slug.clone());
            let tenant = Tenant {
                id: OrganizationId(id),
                slug: slug.clone(),
                name: row.try_get(2).map_err(doing())?,
                status: TenantStatus::from(status.as_deref().unwrap_or("null")),
                created_at: row.try_get(4).map_err(doing())?,
            };
            let facts = TenantFacts::of_row(row, slug, Some(tenant))?;
            return Ok(RegistryRow::Tenant(slug.clone(), Box::new(facts)));
        }
        (Some(Ok(slug)), None) if !row.try_get::<_, bool>(13).map_err(doing())? => {
            let facts = TenantFacts::of_row(row, slug, None)?;
            return Ok(RegistryRow::Tenant(slug.clone(), Box::new(facts)));
        }
        (Some(Ok(_)), None) => "it has no id".to_owned(),
        (Some(Ok(_)), Some(Err(_))) => "its id is no uuid".to_owned(),
    };
    Ok(RegistryRow::Strange(StrangeRow { id, slug, status, why }))
}
