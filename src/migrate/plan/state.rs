//! Where every schema stands, in a constant number of round trips for any number of tenants. Writes nothing.

use super::{Target, plan};
use crate::{
    binding::{self, Binding},
    config::Isolation,
    db::Operator,
    error::{Error, MigrationError, Result, SetupError, TenantError, while_doing},
    ident::{Ident, RoleName, SchemaName, quoted},
    isolation::RoleState,
    migrate::{
        files::source::{Migrations, Source},
        ledger::{self, Applied, LEDGER_TABLE, LedgerDigest, Prefixes},
    },
    migration::{Divergence, MigrationId, Set},
    slug::TenantSlug,
    tenancy::protocol::REGISTRY_IS_HIDDEN,
    tenant::{OrganizationId, StrangeRow, Tenant, TenantStatus},
};
use futures_util::{Stream, StreamExt, TryStreamExt, stream};
use std::{collections::BTreeMap, pin::pin};
use tokio_postgres::{Row, error::SqlState, types::Type};

/// How many ledgers are asked for at once on the one connection, where a comment was not enough.
const LEDGERS_IN_FLIGHT_MAX: usize = 64;

/// Where one schema stands.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum SchemaState {
    /// Everything is applied.
    AtHead,
    /// This many migrations are pending.
    Behind {
        /// How many.
        pending: usize,
    },
    /// Ledger and files do not agree; [`Divergence::ahead`] alone means that newer files were here.
    Diverged(Box<Divergence>),
    /// There is no such schema.
    Missing,
    /// The schema is there, and something else that it needs is not.
    HalfProvisioned {
        /// What is not there.
        missing: String,
    },
    /// The schema belongs to another organization than the one that has the slug in the registry.
    OtherOrganization {
        /// The one that the comment on the schema names.
        found: String,
    },
}

impl SchemaState {
    /// Whether nothing is to be done.
    pub fn is_at_head(&self) -> bool {
        matches!(self, Self::AtHead)
    }
}

/// The shared schema and the whole fleet.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct FleetState {
    /// Where the shared schema stands.
    pub public: SchemaState,
    /// The newest migration applied to the shared schema.
    pub public_head: Option<MigrationId>,
    /// Each tenant of the registry, by slug.
    pub tenants: Vec<TenantState>,
    /// The rows of the registry that are no tenants.
    pub strange: Vec<StrangeRow>,
}

/// Where one tenant stands.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TenantState {
    /// The registry's row.
    pub tenant: Tenant,
    /// Where its schema stands.
    pub state: SchemaState,
    /// The newest migration applied to it.
    pub head: Option<MigrationId>,
    pub(crate) facts: TenantFacts,
    /// The rows of its ledger, where they are not those that the set's files leave: files are known by earlier ids.
    pub(crate) rows: Option<Vec<Applied>>,
}

/// What registry and catalogue say of one slug.
#[derive(Clone, Debug)]
pub(crate) struct TenantFacts {
    pub(crate) tenant: Option<Tenant>,
    /// The schema's owner, and so whether there is one.
    pub(crate) owner: Option<Ident>,
    /// The comment on the schema.
    pub(crate) schema_comment: Option<String>,
    pub(crate) has_ledger: bool,
    /// The comment on the ledger.
    pub(crate) comment: Option<String>,
    pub(crate) has_role: bool,
    /// Whether the role may use the schema.
    pub(crate) role_admitted: bool,
    /// Whether the operator may act as the role; looked up for a single tenant only, as is the next.
    pub(crate) role_usable: bool,
    /// Whether the operator may let others act as the role.
    pub(crate) role_grantable: bool,
}

impl TenantFacts {
    /// The organization that the schema belongs to, if it is another one than the registry's.
    pub(crate) fn other_organization(&self) -> Option<String> {
        let tenant = self.tenant.as_ref()?;
        Binding::of(self.schema_comment.as_deref()).other_than(tenant.id).map(ToOwned::to_owned)
    }

    /// Whether the schema is there and belongs to no organization yet.
    pub(crate) fn is_unbound(&self) -> bool {
        self.owner.is_some() && Binding::of(self.schema_comment.as_deref()) == Binding::None
    }

    /// Refuses a schema of another organization.
    pub(crate) fn refuse_other_organization(&self) -> Result<()> {
        match (&self.tenant, self.other_organization()) {
            (Some(tenant), Some(found)) => Err(Error::Tenant(TenantError::OrganizationMismatch {
                tenant: tenant.slug.clone(),
                schema: SchemaName::of_tenant(&tenant.slug),
                expected: tenant.id,
                found,
            })),
            _ => Ok(()),
        }
    }

    /// Whether the role is there, and whether the operator may act as it.
    pub(crate) fn presence(&self) -> RoleState {
        match (self.has_role, self.role_usable) {
            (false, _) => RoleState::Absent,
            (true, false) => RoleState::Present,
            (true, true) => RoleState::Usable,
        }
    }
}

/// Looks at the shared schema and at every tenant of the registry.
///
/// # Errors
///
/// Kind `NotReady`: there is no registry. Kinds `Unavailable` and `Failed`: the server.
pub async fn look(operator: &Operator, migrations: &Migrations) -> Result<FleetState> {
    let (public, public_head) = look_at_public(operator, migrations).await?;
    require_registry(operator).await?;
    let (mut tenants, mut strange) = (Vec::new(), Vec::new());
    each_tenant(operator, migrations, TenantFilter::All, &mut strange, |tenant| tenants.push(tenant)).await?;
    tenants.sort_by(|one, other| one.tenant.slug.cmp(&other.tenant.slug));
    Ok(FleetState { public, public_head, tenants, strange })
}

/// Looks at the shared schema alone; needs no registry.
pub(crate) async fn look_at_public(
    operator: &Operator,
    migrations: &Migrations,
) -> Result<(SchemaState, Option<MigrationId>)> {
    let schema = SchemaName::public();
    let source = migrations.set(Set::Public);
    let read = ledger::read(operator, &schema).await?;
    let head = read.rows.last().map(|row| row.id.clone());
    let state = match (read.schema_exists, read.ledger_exists) {
        (false, _) => SchemaState::Missing,
        (true, false) => SchemaState::Behind { pending: source.files().len() },
        (true, true) => by_rows(source, &schema, read.rows),
    };
    Ok((state, head))
}

/// Which tenants to look at, and how closely.
#[derive(Clone, Copy, Debug)]
pub(crate) enum TenantFilter<'a> {
    /// The fleet: the digests in the ledgers' comments are believed.
    All,
    /// These, which must be in the registry: every ledger's rows are read.
    These(&'a [TenantSlug]),
    /// These, whose ledgers were just written: the digests are believed. Who is not in the registry is not visited.
    Made(&'a [TenantSlug]),
}

/// The fleet in one query, and the rows of those ledgers whose comment is missing or unknown: tenant by tenant as the server
/// answers, so that what is not kept takes no memory. Those whose rows must be read come last.
pub(crate) async fn each_tenant(
    operator: &Operator,
    migrations: &Migrations,
    whom: TenantFilter<'_>,
    strange: &mut Vec<StrangeRow>,
    mut visit: impl FnMut(TenantState) + Send,
) -> Result<()> {
    let source = migrations.set(Set::Tenant);
    let (prefixes, isolation) = (Prefixes::of(source), operator.config().isolation());
    let (mut unread, mut unknown, mut any) = (Vec::new(), None, false);
    {
        // Nothing else is asked until the last row is taken: the driver stops reading where an answer is not.
        let mut rows = pin!(facts_rows(operator, Slugs::of(whom)).await?);
        while let Some(found) = rows.try_next().await? {
            any = true;
            let (slug, facts) = match found {
                Found::Tenant(slug, facts) => (slug, *facts),
                Found::Strange(row) => {
                    strange.push(row);
                    continue;
                }
            };
            let Some(tenant) = facts.tenant.clone() else {
                if matches!(whom, TenantFilter::These(_)) {
                    unknown.get_or_insert(slug);
                }
                continue;
            };
            if let Some(state) = by_facts(&slug, &facts, isolation) {
                visit(TenantState { tenant, state, head: None, facts, rows: None });
                continue;
            }
            let comment = facts.comment.as_deref().filter(|_| !matches!(whom, TenantFilter::These(_)));
            match LedgerDigest::in_comment(comment).and_then(|digest| prefixes.length_of(&digest)) {
                Some(applied) => {
                    let head = applied.checked_sub(1).map(|last| source.files()[last].id().clone());
                    let state = by_length(applied, source.files().len());
                    visit(TenantState { tenant, state, head, facts, rows: None });
                }
                None => unread.push((tenant, facts)),
            }
        }
    }
    // The registry of one who is not shown its rows looks empty, and is looked at again before that is believed.
    if !any || unknown.is_some() {
        require_sight(operator).await?;
    }
    if let Some(tenant) = unknown {
        return Err(Error::Tenant(TenantError::NotFound { tenant }));
    }
    let read = unread.into_iter().map(|(tenant, facts)| async move {
        let schema = SchemaName::of_tenant(&tenant.slug);
        let read = match ledger::read(operator, &schema).await {
            // One tenant's, and no reason to leave the others unseen.
            Err(Error::Migration(MigrationError::LedgerRefused { why, .. })) => {
                let missing = format!("its ledger ({why})");
                let state = SchemaState::HalfProvisioned { missing };
                return Ok(TenantState { tenant, state, head: None, facts, rows: None });
            }
            read => read?,
        };
        let head = read.rows.last().map(|row| row.id.clone());
        let is_beginning = read.rows.iter().zip(source.files()).all(|(row, file)| row.id == *file.id());
        let rows = (!is_beginning).then(|| read.rows.clone());
        Ok::<_, Error>(TenantState { tenant, state: by_rows(source, &schema, read.rows), head, facts, rows })
    });
    let mut read = pin!(stream::iter(read).buffered(LEDGERS_IN_FLIGHT_MAX));
    while let Some(tenant) = read.next().await {
        visit(tenant?);
    }
    Ok(())
}

/// What is wrong with a tenant before any ledger is opened.
fn by_facts(slug: &TenantSlug, facts: &TenantFacts, isolation: Isolation) -> Option<SchemaState> {
    let half = |missing: &str| Some(SchemaState::HalfProvisioned { missing: missing.into() });
    if facts.owner.is_none() {
        Some(SchemaState::Missing)
    } else if let Some(found) = facts.other_organization() {
        Some(SchemaState::OtherOrganization { found })
    } else if !facts.has_ledger {
        half(&format!("its ledger, {}.{LEDGER_TABLE}", SchemaName::of_tenant(slug).as_str()))
    } else if isolation == Isolation::Role && !facts.has_role {
        half("its role")
    } else if isolation == Isolation::Role && !facts.role_admitted {
        half("its role's right to use the schema")
    } else {
        None
    }
}

fn by_length(applied: usize, files: usize) -> SchemaState {
    if applied == files { SchemaState::AtHead } else { SchemaState::Behind { pending: files - applied } }
}

fn by_rows(source: &Source, schema: &SchemaName, rows: Vec<Applied>) -> SchemaState {
    let applied = rows.len();
    match plan(source, schema, rows, Target::Head) {
        Ok(_) => by_length(applied, source.files().len()),
        Err(divergence) => SchemaState::Diverged(divergence),
    }
}

/// Says clearly when there is no registry, instead of letting a query fail on it.
pub(crate) async fn require_registry(operator: &Operator) -> Result<()> {
    let row = operator
        .client()
        .query_typed(
            "select coalesce(pg_catalog.array_agg(a.attname::pg_catalog.text), '{}') from pg_catalog.pg_class c
             join pg_catalog.pg_namespace n on n.oid = c.relnamespace and n.nspname = 'public'
             join pg_catalog.pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
             where c.relname = 'organizations' and c.relkind in ('r', 'p', 'v')",
            &[],
        )
        .await
        .map_err(while_doing("look for the registry"))?;
    let columns: Vec<String> = row
        .first()
        .map(|row| row.try_get(0))
        .transpose()
        .map_err(while_doing("look for the registry"))?
        .unwrap_or_default();
    let missing =
        |missing: String| Error::Setup(SetupError::NotSetUp { database: operator.facts().database.clone(), missing });
    if columns.is_empty() {
        return Err(missing("there is no table public.organizations".into()));
    }
    match ["id", "slug", "name", "status", "created_at"]
        .iter()
        .find(|needed| !columns.iter().any(|found| found == *needed))
    {
        Some(column) => Err(missing(format!("public.organizations has no column {column}"))),
        None => require_sight(operator).await,
    }
}

/// Refuses where row level security hides the registry's rows: an empty fleet would look like one without tenants.
async fn require_sight(operator: &Operator) -> Result<()> {
    let doing = || while_doing("look at the row level security of the registry");
    let sql = format!(
        "select pg_catalog.pg_get_userbyid(c.relowner)::pg_catalog.text from pg_catalog.pg_class c
         where c.oid = 'public.organizations'::pg_catalog.regclass and {REGISTRY_IS_HIDDEN}"
    );
    let rows = match operator.client().query_typed(&sql, &[]).await {
        // No registry at all is for others to say.
        Err(error) if error.code() == Some(&SqlState::UNDEFINED_TABLE) => return Ok(()),
        rows => rows.map_err(doing())?,
    };
    let Some(row) = rows.first() else { return Ok(()) };
    let owner: String = row.try_get(0).map_err(doing())?;
    let grant = format!("grant {} to {}", quoted(&owner), quoted(&operator.facts().role));
    Err(operator.facts().lacks("read public.organizations: row level security shows it no row", grant))
}

/// What registry and catalogue say of one slug, whether or not the registry knows it.
pub(crate) async fn facts_of(operator: &Operator, slug: &TenantSlug) -> Result<TenantFacts> {
    let slugs = std::slice::from_ref(slug);
    let mut rows = std::pin::pin!(facts_rows(operator, Slugs::of(TenantFilter::These(slugs))).await?);
    match rows.try_next().await? {
        Some(Found::Tenant(_, facts)) => Ok(*facts),
        Some(Found::Strange(row)) => {
            Err(Error::Unexpected { doing: format!("look at tenant {slug}"), found: row.to_string() })
        }
        None => Err(Error::Unexpected { doing: format!("look at tenant {slug}"), found: "no row at all".into() }),
    }
}

/// What registry and catalogue say of many slugs.
#[derive(Debug, Default)]
pub(crate) struct Facts {
    pub(crate) tenants: BTreeMap<TenantSlug, TenantFacts>,
    /// The rows of the registry that are no tenants.
    pub(crate) strange: Vec<StrangeRow>,
}

/// The same of many slugs, in one query.
pub(crate) async fn facts_of_all(operator: &Operator, slugs: &[TenantSlug]) -> Result<Facts> {
    collect(operator, Slugs::of(TenantFilter::These(slugs))).await
}

/// The same of every tenant of the registry.
pub(crate) async fn facts_of_fleet(operator: &Operator) -> Result<Facts> {
    collect(operator, Slugs::of(TenantFilter::All)).await
}

async fn collect(operator: &Operator, slugs: Slugs) -> Result<Facts> {
    let mut facts = Facts::default();
    let mut rows = pin!(facts_rows(operator, slugs).await?);
    while let Some(found) = rows.try_next().await? {
        match found {
            Found::Tenant(slug, tenant) => drop(facts.tenants.insert(slug, *tenant)),
            Found::Strange(row) => facts.strange.push(row),
        }
    }
    Ok(facts)
}

/// A row of the answer.
enum Found {
    /// A slug, and what is known of it.
    Tenant(TenantSlug, Box<TenantFacts>),
    /// A row of the registry that is no tenant.
    Strange(StrangeRow),
}

/// The slugs to look up: those of the registry, or some that the registry may not know.
struct Slugs {
    /// The text of `s (slug, o)`, `o` being the registry's row.
    from: &'static str,
    named: Vec<String>,
}

impl Slugs {
    fn of(whom: TenantFilter<'_>) -> Self {
        match whom {
            TenantFilter::All => Self {
                from:
                    "(select o.slug::pg_catalog.text as slug, true as registered, o.id, o.name, o.status, o.created_at
                        from public.organizations o where $2::pg_catalog.text[] is not null)",
                named: Vec::new(),
            },
            TenantFilter::These(slugs) | TenantFilter::Made(slugs) => {
                let named = slugs.iter().map(|slug| slug.as_str().to_owned()).collect();
                Self {
                    from: "(select w.slug, coalesce(o.registered, false) as registered, o.id, o.name, o.status, o.created_at
                            from (select distinct pg_catalog.unnest($2::pg_catalog.text[])) w (slug)
                            left join (select true as registered, o.slug, o.id, o.name, o.status, o.created_at
                                       from public.organizations o) o on o.slug = w.slug)",
                    named,
                }
            }
        }
    }
}

async fn facts_rows(operator: &Operator, slugs: Slugs) -> Result<impl Stream<Item = Result<Found>> + Send + use<>> {
    let (usable, grantable) = acting_sql(operator, &slugs);
    // Names are compared as text: comparing with the type `name` would cut off what is too long and call it equal. The second
    // comparison is what the index answers.
    let sql = format!(
        "select s.slug, s.id::pg_catalog.text, coalesce(s.name::pg_catalog.text, ''), s.status::pg_catalog.text,
                case when pg_catalog.isfinite(s.created_at) then s.created_at::pg_catalog.timestamptz
                     else 'epoch'::pg_catalog.timestamptz end,
                pg_catalog.pg_get_userbyid(n.nspowner)::pg_catalog.text,
                c.oid is not null, pg_catalog.obj_description(c.oid, 'pg_class'), r.oid is not null,
                coalesce(pg_catalog.has_schema_privilege(r.oid, n.oid, 'usage'), false),
                {usable}, {grantable}, {comment}, s.registered
         from {} s
         left join pg_catalog.pg_namespace n on n.nspname::pg_catalog.text = 'tenant_' || s.slug
                and n.nspname = ('tenant_' || s.slug)::pg_catalog.name
         left join pg_catalog.pg_class c
                on c.relnamespace = n.oid and c.relname = '{LEDGER_TABLE}' and c.relkind in ('r', 'p')
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
                require_registry(operator).await?;
            }
            Err(while_doing("look at the fleet")(error))
        }
    }
}

/// Expressions: whether the operator may act as the role `r`, and whether it may let others. Asked of one tenant only: for
/// a fleet each answer would walk all memberships anew.
fn acting_sql(operator: &Operator, slugs: &Slugs) -> (&'static str, &'static str) {
    match (slugs.named.len() == 1, operator.facts().major() >= 16) {
        (false, _) => ("false", "false"),
        (true, true) => (
            "coalesce(pg_catalog.pg_has_role(r.oid, 'set'), false)",
            "coalesce(pg_catalog.pg_has_role(r.oid, 'member with admin option'), false)",
        ),
        // Before PostgreSQL 16 whoever may create roles may hand them on.
        (true, false) => (
            "coalesce(pg_catalog.pg_has_role(r.oid, 'member'), false)",
            "(select m.rolcreaterole or m.rolsuper from pg_catalog.pg_roles m where m.rolname = current_user)",
        ),
    }
}

/// Reads a row of the answer; `last` is the slug of the one before, because equal ones follow each other.
fn found_in(row: &Row, last: &mut Option<TenantSlug>) -> Result<Found> {
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
            let facts = facts_of_row(row, slug, Some(tenant))?;
            return Ok(Found::Tenant(slug.clone(), Box::new(facts)));
        }
        (Some(Ok(slug)), None) if !row.try_get::<_, bool>(13).map_err(doing())? => {
            let facts = facts_of_row(row, slug, None)?;
            return Ok(Found::Tenant(slug.clone(), Box::new(facts)));
        }
        (Some(Ok(_)), None) => "it has no id".to_owned(),
        (Some(Ok(_)), Some(Err(_))) => "its id is no uuid".to_owned(),
    };
    Ok(Found::Strange(StrangeRow { id, slug, status, why }))
}

fn facts_of_row(row: &Row, slug: &TenantSlug, tenant: Option<Tenant>) -> Result<TenantFacts> {
    let doing = || while_doing("read the registry");
    let owner: Option<String> = row.try_get(5).map_err(doing())?;
    let owner = owner.map(Ident::new).transpose().map_err(|error| Error::Unexpected {
        doing: format!("look at the schema of tenant {slug}"),
        found: error.to_string(),
    })?;
    Ok(TenantFacts {
        tenant,
        owner,
        schema_comment: row.try_get(12).map_err(doing())?,
        has_ledger: row.try_get(6).map_err(doing())?,
        comment: row.try_get(7).map_err(doing())?,
        has_role: row.try_get(8).map_err(doing())?,
        role_admitted: row.try_get(9).map_err(doing())?,
        role_usable: row.try_get(10).map_err(doing())?,
        role_grantable: row.try_get(11).map_err(doing())?,
    })
}

/// The role that a tenant has under the operator's configuration.
pub(crate) fn role_of(operator: &Operator, slug: &TenantSlug) -> Option<RoleName> {
    match operator.config().isolation() {
        Isolation::Role => Some(RoleName::of_tenant(slug, &operator.facts().database_tag())),
        Isolation::Path => None,
    }
}
