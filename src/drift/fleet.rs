//! Compares all tenants: one query for their fingerprints, a small one for each ledger, and a detailed comparison of
//! the tenants that differ.

use super::{
    binding, detailed, fix,
    group::{DriftGroupKey, Groups, RoleLook},
    inspect::{TRIES_MAX, is_moving},
    judge, login_rights,
    reference::References,
    report::{Change, Difference, NotCompared, SchemaDrift},
    roles::{self, RoleFindings, RoleSelection},
    stamps::{self, SchemaStamps, Stamps},
};
use crate::{
    catalogue::{Fingerprint, SCHEMA_OWNER, Schemas, ServiceAccess, fingerprint_sql, fingerprints},
    config::Isolation,
    db::{Operator, message},
    error::{Error, Result, TenantError, while_doing},
    ident::{Ident, SchemaName},
    migrate::{
        LEDGER_TABLE, Migrations, Scope, Set,
        ledger::{self, LedgerDigest, Prefixes},
    },
    registry::{self, Facts, TenantFacts, role_of},
    slug::TenantSlug,
    tenant::{StrangeRow, TenantStatus},
};
use futures_util::{
    StreamExt,
    future::{try_join_all, try_join3},
    stream,
};
use std::collections::{BTreeMap, HashMap};
use tokio_postgres::types::Type;

/// How many ledgers are requested concurrently on the one connection.
const LEDGERS_IN_FLIGHT_MAX: usize = 64;
/// Up to this many tenants are inspected one by one. For more, the fingerprints of the complete fleet are cheaper.
const ONE_BY_ONE_MAX: usize = 20;

/// Compares the tenants of a scope. The result is sorted by slug.
pub(super) async fn tenants(
    operator: &Operator,
    migrations: &Migrations,
    scope: &Scope,
) -> Result<(Vec<SchemaDrift>, Vec<StrangeRow>)> {
    let Facts { tenants: facts, strange } = match scope {
        Scope::Only(slugs) => registry::facts_of_all(operator, slugs).await?,
        _ => registry::facts_of_fleet(operator).await?,
    };
    if let Some(unknown) = facts.iter().find(|(_, facts)| facts.tenant.is_none()).map(|(slug, _)| slug) {
        return Err(Error::Tenant(TenantError::NotFound { tenant: unknown.clone() }));
    }
    let mut references = References::new(operator, migrations, Set::Tenant);
    let mut done: BTreeMap<TenantSlug, SchemaDrift> = BTreeMap::new();
    let mut rest: Vec<(TenantSlug, TenantFacts)> = Vec::new();
    let mut owners: HashMap<_, _> =
        facts.iter().filter_map(|(slug, of)| Some((slug.clone(), of.owner.clone()?))).collect();
    let mut bindings: HashMap<_, _> =
        facts.iter().filter_map(|(slug, facts)| Some((slug.clone(), binding::of_schema(slug, facts)?))).collect();
    for (slug, facts) in facts {
        match (&facts.owner, facts.tenant.as_ref().map(|tenant| &tenant.status)) {
            (None, status) => {
                let schema = SchemaName::of_tenant(&slug);
                let drift = match status {
                    Some(TenantStatus::Onboarding) => judge::not_compared(&schema, Some(&slug), NotCompared::SettingUp),
                    Some(TenantStatus::Other(_)) => {
                        judge::not_compared(&schema, Some(&slug), NotCompared::UnknownStatus)
                    }
                    _ => judge::gone(&schema, Some(&slug)),
                };
                done.insert(slug, drift);
            }
            (Some(_), _) if facts.refuse_being_dropped().is_err() => {
                let schema = SchemaName::of_tenant(&slug);
                let drift = judge::not_compared(&schema, Some(&slug), NotCompared::BeingDropped);
                done.insert(slug, drift);
            }
            (Some(_), _) => rest.push((slug, facts)),
        }
    }
    let slugs: Vec<TenantSlug>;
    let whose = match scope {
        Scope::Only(named) => {
            slugs = named.clone();
            RoleSelection::These(&slugs)
        }
        _ => RoleSelection::Fleet,
    };
    let (groups, mut roles, compared) = if rest.len() <= ONE_BY_ONE_MAX {
        let groups = rest.into_iter().map(|(slug, _)| (None, vec![slug])).collect();
        (groups, roles::findings(operator, whose, false).await?, None)
    } else {
        let (groups, roles, stamped) =
            compare_fingerprints(operator, migrations, whose, rest, &mut references, &mut done).await?;
        (groups, roles, Some(stamped))
    };
    for (schema, found) in login_rights::findings(operator, whose).await? {
        roles.entry(schema).or_default().extend(found);
    }
    done.extend(detailed::compare(operator, migrations, references, groups).await?);
    owners.extend(owners_of_changed(operator, done.values()).await?);
    for drift in done.values_mut().filter(|drift| !drift.needs_no_schema()) {
        let found = roles.remove(drift.schema.as_str()).unwrap_or_default();
        drift.differences.splice(0..0, found);
        let Some(slug) = &drift.slug else { continue };
        drift.differences.splice(0..0, bindings.remove(slug));
        fix::fill(&mut drift.differences, &drift.schema, role_of(operator, slug).as_ref(), owners.get(slug));
    }
    if let Some(stamped) = compared {
        stamped.keep(operator, &done, *scope == Scope::Everything).await;
    }
    Ok((done.into_values().collect(), strange))
}

/// Returns the roles that own what cgk created in schemas whose owner was changed by hand.
async fn owners_of_changed(
    operator: &Operator,
    drifts: impl Iterator<Item = &SchemaDrift>,
) -> Result<Vec<(TenantSlug, Ident)>> {
    let is_changed = |difference: &Difference| {
        difference.kind == "schema" && matches!(&difference.change, Change::Differs { aspect, .. } if aspect == "owner")
    };
    let changed: Vec<(TenantSlug, &str)> = drifts
        .filter(|drift| drift.differences.iter().any(is_changed))
        .filter_map(|drift| Some((drift.slug.clone()?, drift.schema.as_str())))
        .collect();
    if changed.is_empty() {
        return Ok(Vec::new());
    }
    let doing = || while_doing("read the owners of schemas");
    let sql = format!(
        "select n.nspname::pg_catalog.text, pg_catalog.pg_get_userbyid({SCHEMA_OWNER})::pg_catalog.text
         from pg_catalog.pg_namespace n where n.nspname = any ($1)"
    );
    let names: Vec<&str> = changed.iter().map(|(_, name)| *name).collect();
    let rows = operator.client().query_typed(&sql, &[(&names, Type::NAME_ARRAY)]).await.map_err(doing())?;
    let mut all = Vec::new();
    for row in rows {
        let (name, owner): (String, String) = (row.try_get(0).map_err(doing())?, row.try_get(1).map_err(doing())?);
        let slug = changed.iter().find(|(_, schema)| *schema == name).map(|(slug, _)| slug.clone());
        all.extend(slug.zip(Ident::new(&owner).ok()));
    }
    Ok(all)
}

/// What a comparison can record about its tenants.
struct StampedTenants {
    stamps: Stamps,
    /// The schemas of all compared tenants.
    schemas: Vec<SchemaName>,
    /// The new stamps, each with the fingerprint of the expected objects.
    new: BTreeMap<TenantSlug, (SchemaStamps, Fingerprint)>,
}

impl StampedTenants {
    /// Records which tenants have no differences, and that others have some. A tenant can have the expected objects and
    /// another fingerprint, because the texts of the server differ after a restored dump. It is recorded with the
    /// expected one.
    async fn keep(mut self, operator: &Operator, done: &BTreeMap<TenantSlug, SchemaDrift>, is_whole_fleet: bool) {
        let (mut clean, mut different) = (Vec::new(), Vec::new());
        for (slug, drift) in done {
            if !drift.is_clean() {
                different.push(drift.schema.clone());
            } else if let Some((stamp, expected)) = self.new.remove(slug) {
                clean.push((drift.schema.clone(), stamp, expected));
            }
        }
        self.stamps.keep(operator, &clean, &different, is_whole_fleet.then_some(self.schemas.as_slice())).await;
    }
}

/// Finds the tenants with the expected fingerprints, and groups the others by their differences.
async fn compare_fingerprints(
    operator: &Operator,
    migrations: &Migrations,
    whose: RoleSelection<'_>,
    tenants: Vec<(TenantSlug, TenantFacts)>,
    references: &mut References<'_>,
    done: &mut BTreeMap<TenantSlug, SchemaDrift>,
) -> Result<(Groups, RoleFindings, StampedTenants)> {
    let source = migrations.set(Set::Tenant);
    let prefixes = Prefixes::of(source);
    let siblings = connections(operator, tenants.len()).await;
    // Each connection gets a share of the fingerprints and of the ledgers.
    let all: Vec<&Operator> = std::iter::once(operator).chain(&siblings).collect();
    let schemas: Vec<SchemaName> = tenants.iter().map(|(slug, _)| SchemaName::of_tenant(slug)).collect();
    let stamps = Stamps::read(operator).await?;
    // The first two connections are busy with the stamps.
    let others = if all.len() > 2 { &all[2..] } else { &all[..] };
    let asked = tenants.iter().enumerate().map(|(index, (slug, _))| ledger_of(others[index % others.len()], slug));
    let asked = async { Ok(stream::iter(asked).buffered(LEDGERS_IN_FLIGHT_MAX).collect::<Vec<_>>().await) };
    let (mut fingerprints, ledgers, roles) =
        try_join3(fingerprints_of(&all, &schemas, &stamps), asked, roles::findings(all[all.len() - 1], whose, false))
            .await?;
    let mut new = BTreeMap::new();
    let mut groups: HashMap<DriftGroupKey, Vec<TenantSlug>> = HashMap::new();
    for ((slug, facts), ledger) in tenants.into_iter().zip(ledgers) {
        let schema = SchemaName::of_tenant(&slug);
        let Seen { fingerprint, stamp } = fingerprints.remove(schema.as_str()).unwrap_or_default();
        let digest = LedgerDigest::in_comment(facts.comment.as_deref());
        // Rows and comment match, and both show that the tenant has this many of the files.
        let length = match (&digest, &ledger) {
            (Some(digest), Some(rows)) if digest.as_str() == rows => prefixes.length_of(digest),
            _ => None,
        };
        let role = match operator.config().isolation() {
            Isolation::Role if !facts.has_role => RoleLook::Missing,
            Isolation::Role | Isolation::Path => RoleLook::There,
        };
        if let Some(length) = length.filter(|_| role == RoleLook::There)
            && let Some(reference) = references.of(&(0..length).collect::<Vec<_>>()).await?
        {
            if let Some(stamp) = stamp {
                new.insert(slug.clone(), (stamp, reference.fingerprint.clone()));
            }
            if fingerprint.as_ref() == Some(&reference.fingerprint) {
                let head = length.checked_sub(1).map(|last| source.files()[last].id().clone());
                done.insert(slug.clone(), judge::clean(&schema, &slug, head));
                continue;
            }
        }
        let likeness = DriftGroupKey { fingerprint, comment: facts.comment, ledger, role };
        groups.entry(likeness).or_default().push(slug);
    }
    let mut groups: Groups = groups.into_iter().map(|(likeness, slugs)| (Some(likeness), slugs)).collect();
    groups.sort_by(|(_, a), (_, b)| a.cmp(b));
    Ok((groups, roles, StampedTenants { stamps, schemas, new }))
}

/// At most this many connections compute the fingerprints, each for a part of the tenants.
const CONNECTIONS_MAX: usize = 4;
/// With fewer tenants per connection, another connection costs more than it saves.
const TENANTS_PER_CONNECTION_MIN: usize = 250;

/// Returns the operator's connection and additional ones. Their number depends on the fleet and on the server's free
/// connections.
async fn connections(operator: &Operator, tenants: usize) -> Vec<Operator> {
    let wanted = (tenants / TENANTS_PER_CONNECTION_MIN).clamp(1, CONNECTIONS_MAX) - 1;
    let mut more = Vec::new();
    if wanted > 0 {
        // Uses a quarter of the free connections, so that services can still connect.
        let free = operator.free_connections().await.unwrap_or(0) / 4;
        for _ in 0..wanted.min(free) {
            match operator.sibling().await {
                Ok(sibling) => more.push(sibling),
                Err(error) => tracing::warn!(%error, "one connection less for the comparison"),
            }
        }
    }
    more
}

/// The result of the quick check for a schema. It is empty if objects kept changing during the query.
#[derive(Debug, Default)]
struct Seen {
    fingerprint: Option<Fingerprint>,
    /// The stamp to store.
    stamp: Option<SchemaStamps>,
}

/// Returns the fingerprints of schemas, by schema: stored ones for unchanged schemas, and newly computed ones for the
/// others.
async fn fingerprints_of(
    operators: &[&Operator],
    schemas: &[SchemaName],
    stamps: &Stamps,
) -> Result<HashMap<String, Seen>> {
    let unchanged = stamps.unchanged(operators, schemas).await?;
    let changed: Vec<SchemaName> =
        schemas.iter().filter(|schema| !unchanged.contains_key(schema.as_str())).cloned().collect();
    let mut seen: HashMap<String, Seen> = unchanged
        .into_iter()
        .map(|(schema, fingerprint)| (schema, Seen { fingerprint: Some(fingerprint), stamp: None }))
        .collect();
    if !changed.is_empty() {
        let parts = changed.chunks(changed.len().div_ceil(operators.len()));
        let work = operators.iter().zip(parts).map(|(operator, part)| part_of(operator, part, stamps.may_write()));
        seen.extend(try_join_all(work).await?.into_iter().flatten());
    }
    Ok(seen)
}

async fn part_of(operator: &Operator, schemas: &[SchemaName], with_stamps: bool) -> Result<HashMap<String, Seen>> {
    let tag = operator.facts().database_tag();
    let these = Schemas::These { tag: tag.as_str(), names: schemas };
    let sql = format!(
        "{}{};\n{};\n",
        stamps::opening_sql(operator),
        if with_stamps { stamps::now_sql(operator, schemas) } else { "select".into() },
        fingerprint_sql(&these, ServiceAccess::of(operator))
    );
    let doing = || while_doing("compare the fleet");
    for _ in 0..TRIES_MAX {
        let answer = message::run(operator.client(), &sql).await.map_err(doing())?;
        match answer.error {
            None => {
                let mut now = stamps::of_answer(&answer);
                let seen = |(schema, fingerprint): (&str, Fingerprint)| {
                    (schema.to_owned(), Seen { fingerprint: Some(fingerprint), stamp: now.remove(schema) })
                };
                return Ok(fingerprints(&answer).map(seen).collect());
            }
            Some(error) if is_moving(&error) => {}
            Some(error) => return Err(doing()(error)),
        }
    }
    Ok(HashMap::new())
}

/// Returns the digest of a ledger's rows. `None` requires a detailed comparison.
async fn ledger_of(operator: &Operator, slug: &TenantSlug) -> Option<String> {
    let sql = format!("select {}", ledger::digest_sql(&SchemaName::of_tenant(slug)));
    operator.client().query_typed(&sql, &[]).await.ok()?.first()?.try_get(0).ok()
}

/// Returns schemas and roles that have the name of a tenant's and are not in the registry.
pub(super) async fn strays(operator: &Operator) -> Result<Vec<Difference>> {
    let tag = operator.facts().database_tag();
    let sql = format!(
        "select 'schema', n.nspname::pg_catalog.text, exists (select from pg_catalog.pg_class c
                where c.relnamespace = n.oid and c.relname = '{LEDGER_TABLE}' and c.relkind in ('r', 'p'))
         from pg_catalog.pg_namespace n
         where pg_catalog.starts_with(n.nspname::pg_catalog.text, 'tenant_') and substr(n.nspname::pg_catalog.text, 8) ~ '^[a-z][a-z0-9_]{{0,47}}$'
           and not {is_schema}
         union all
         select 'role', r.rolname::pg_catalog.text, false from pg_catalog.pg_roles r
         where pg_catalog.starts_with(r.rolname::pg_catalog.text, 'cgk_') and right(r.rolname::pg_catalog.text, 11) = '_' || $1 and not r.rolcanlogin
           and not {is_role}
           and substr(r.rolname::pg_catalog.text, 5, length(r.rolname::pg_catalog.text) - 15) ~ '^[a-z][a-z0-9_]{{0,47}}$'
         order by 1 desc, 2",
        is_schema = registry::sql::IS_TENANT_SCHEMA,
        is_role = registry::sql::is_tenant_role_sql("r.rolname::pg_catalog.text", "$1"),
    );
    let doing = || while_doing("look for schemas of no tenant");
    let rows = operator.client().query_typed(&sql, &[(&tag.as_str(), Type::TEXT)]).await.map_err(doing())?;
    let mut strays = Vec::new();
    for row in rows {
        let (kind, object): (String, String) = (row.try_get(0).map_err(doing())?, row.try_get(1).map_err(doing())?);
        let has_ledger: bool = row.try_get(2).map_err(doing())?;
        let what =
            if has_ledger { "of no tenant in the registry; it has a ledger" } else { "of no tenant in the registry" };
        strays.push(Difference::wrong(&kind, object, what));
    }
    Ok(strays)
}
