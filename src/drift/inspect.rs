//! Reads one schema, its ledger and its role, while no migration of it can run.

use super::objects::Catalogue;
use crate::{
    catalogue::{
        Fingerprint, SCHEMA_OWNER, Schemas, ServiceAccess, fingerprint_sql, fingerprints, objects_sql, settings_sql,
    },
    db::{
        Operator,
        message::Answer,
        message_head::{Hold, MessageHead},
    },
    error::{Error, MigrationError, Result, while_doing},
    ident::{Ident, RoleName, SchemaName, literal},
    migrate::{Applied, Checksum, LEDGER_TABLE, MigrationId, Version, execute::schema_lock},
    slug::TenantSlug,
};
use tokio_postgres::error::SqlState;

/// How often a schema is read again because something other than a migration changed it while it was read.
pub(super) const TRIES_MAX: u32 = 5;

/// The state of a schema at one moment.
#[derive(Debug)]
pub(super) struct Inspection {
    /// `None` if it was not requested.
    pub(super) fingerprint: Option<Fingerprint>,
    pub(super) catalogue: Catalogue,
    pub(super) ledger: Ledger,
    pub(super) comment: Option<String>,
    /// Whether the tenant's role exists.
    pub(super) has_role: bool,
    /// The owner of the objects that migrations create.
    pub(super) owner: Option<Ident>,
}

#[derive(Debug)]
pub(super) enum Ledger {
    Absent,
    /// A table of that name exists, with these columns, and it is not cgk's.
    Foreign {
        columns: String,
    },
    /// It may not be read.
    Closed,
    Rows(Vec<Applied>),
}

/// Which data of a schema is read. Reading a fingerprint takes as long as reading the objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    Objects,
    ObjectsAndFingerprint,
}

/// Why a schema could not be inspected.
pub(super) enum InspectOutcome {
    At(Box<Inspection>),
    /// It is being migrated.
    Busy,
    /// The schema no longer exists.
    Gone,
}

/// Reads a schema in one transaction, with shared migration locks. It waits for a running migration, at most
/// `session.lock_timeout`. A migration waits for it for some milliseconds. Writes nothing.
pub(super) async fn inspect(operator: &Operator, schema: &SchemaName, wanted: Wanted) -> Result<InspectOutcome> {
    let what = || format!("read the catalogue of schema {:?}", schema.as_str());
    let doing = || while_doing(what());
    let sql = script(operator, schema, named_role(operator, schema).as_ref(), wanted);
    let mut tries = 0;
    loop {
        tries += 1;
        let wait = operator.session().lock_timeout;
        let answer = match schema_lock::run(operator, schema, &sql, wait, what).await {
            Err(Error::Migration(MigrationError::Locked { .. })) => return Ok(InspectOutcome::Busy),
            answer => answer?,
        };
        let has_ledger = tagged(&answer, "facts").next().map(|row| row.get(1) == Some("t"));
        let reached_ledger = tagged(&answer, "ledger next").next().is_some();
        let ledger = match (&answer.error, has_ledger) {
            (None, _) => Ledger::Rows(rows(schema, &answer)?),
            (Some(error), Some(has_ledger)) if reached_ledger => match error.code() {
                Some(&SqlState::UNDEFINED_TABLE) if !has_ledger => Ledger::Absent,
                Some(&SqlState::UNDEFINED_COLUMN) => {
                    let columns = tagged(&answer, "facts").next().and_then(|row| row.get(4)).unwrap_or_default();
                    Ledger::Foreign { columns: columns.to_owned() }
                }
                Some(&SqlState::INSUFFICIENT_PRIVILEGE) => Ledger::Closed,
                _ => return Err(doing()(answer.error.expect("it was there above"))),
            },
            (Some(error), _) if error.code() == Some(&SqlState::LOCK_NOT_AVAILABLE) => return Ok(InspectOutcome::Busy),
            // An object was dropped after the query had found it and before the server's function described it.
            (Some(error), _) if is_moving(error) && tries < TRIES_MAX => continue,
            (Some(_), _) => return Err(doing()(answer.error.expect("it was there above"))),
        };
        let Some(facts) = tagged(&answer, "facts").next() else { return Ok(InspectOutcome::Gone) };
        let fingerprint = fingerprints(&answer).next().map(|(_, fingerprint)| fingerprint);
        let has_role = facts.get(3) == Some("t");
        let comment = facts.get(2).map(ToOwned::to_owned);
        let owner = facts.get(6).and_then(|owner| Ident::new(owner).ok());
        let mut catalogue = Catalogue::of(&answer);
        if facts.get(5) == Some("f") {
            catalogue.unqualify(schema.as_str());
        }
        let inspection = Inspection { fingerprint, catalogue, ledger, comment, has_role, owner };
        return Ok(InspectOutcome::At(Box::new(inspection)));
    }
}

/// Returns the role with the name for the tenant of a schema; `None` for the shared schema. With path isolation the role
/// is left from an earlier isolation, if it exists.
pub(super) fn named_role(operator: &Operator, schema: &SchemaName) -> Option<RoleName> {
    let slug = schema.as_str().strip_prefix("tenant_")?.parse::<TenantSlug>().ok()?;
    Some(RoleName::of_tenant(&slug, &operator.facts().database_tag()))
}

/// Whether the server failed because an object was changed at the same time.
pub(super) fn is_moving(error: &tokio_postgres::Error) -> bool {
    let states = [
        SqlState::INTERNAL_ERROR,
        SqlState::UNDEFINED_TABLE,
        SqlState::UNDEFINED_OBJECT,
        SqlState::UNDEFINED_FUNCTION,
        SqlState::UNDEFINED_COLUMN,
    ];
    error.code().is_some_and(|state| states.contains(state))
}

fn script(operator: &Operator, schema: &SchemaName, role: Option<&RoleName>, wanted: Wanted) -> String {
    let access = ServiceAccess::of(operator);
    let schemas = Schemas::One { schema, role };
    format!(
        "{head}{empty_path};
{facts};
{fingerprint};
{own_path};
{objects};
select 'ledger next';
select 'row', version, name, checksum from {ledger} order by version;
",
        head = MessageHead::read_only(operator)
            .lock_timeout(operator.session().lock_timeout)
            .lock_schema(schema, Hold::Shared)
            .sql(),
        empty_path = settings_sql(""),
        own_path = settings_sql(schema.as_str()),
        facts = facts_sql(schema, role),
        fingerprint = match wanted {
            Wanted::Objects => "select 'no fingerprint'".into(),
            Wanted::ObjectsAndFingerprint => fingerprint_sql(&schemas, access),
        },
        objects = objects_sql(&schemas, access),
        ledger = schema.qualified(LEDGER_TABLE),
    )
}

fn facts_sql(schema: &SchemaName, role: Option<&RoleName>) -> String {
    format!(
        "select 'facts', c.oid is not null, pg_catalog.obj_description(c.oid, 'pg_class'), r.oid is not null,
                (select pg_catalog.string_agg(a.attname::pg_catalog.text, ', ' order by a.attnum) from pg_catalog.pg_attribute a
                 where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped),
                pg_catalog.has_schema_privilege(n.oid, 'usage'),
                pg_catalog.pg_get_userbyid({owner})
         from pg_catalog.pg_namespace n
         left join pg_catalog.pg_class c
                on c.relnamespace = n.oid and c.relname = '{LEDGER_TABLE}' and c.relkind in ('r', 'p')
         left join pg_catalog.pg_roles r on r.rolname = {role}
         where n.nspname = {schema}",
        owner = SCHEMA_OWNER,
        role = role.map_or_else(|| "null".into(), |role| literal(role.as_str())),
        schema = literal(schema.as_str()),
    )
}

fn tagged<'a>(answer: &'a Answer, tag: &'a str) -> impl Iterator<Item = &'a tokio_postgres::SimpleQueryRow> {
    answer.rows.iter().map(|(_, row)| row).filter(move |row| row.get(0) == Some(tag))
}

fn rows(schema: &SchemaName, answer: &Answer) -> Result<Vec<Applied>> {
    let read = |row: &tokio_postgres::SimpleQueryRow| {
        let version: Version = row.get(1)?.parse().ok()?;
        let name = row.get(2)?.to_owned();
        Some(Applied { id: MigrationId { version, name }, checksum: Checksum::recorded(row.get(3)?) })
    };
    let rows: Option<Vec<_>> = tagged(answer, "row").map(read).collect();
    rows.ok_or_else(|| Error::Unexpected {
        doing: format!("read the ledger of schema {:?}", schema.as_str()),
        found: "a row without a version, name or checksum".into(),
    })
}
