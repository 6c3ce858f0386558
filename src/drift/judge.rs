//! Evaluates an inspected schema.

use super::{
    compare::differences,
    ignore,
    inspect::{Inspection, Ledger},
    reference::References,
    report::{Change, Difference, NotCompared, SchemaDrift},
    volatile,
};
use crate::{
    error::Result,
    ident::{RoleName, SchemaName},
    migrate::{
        Applied, Divergence, LEDGER_TABLE, MigrationId, RenamedFile, Source, Target, ledger::LedgerDigest, plan,
    },
    slug::TenantSlug,
};

/// Compares an inspected schema with the objects of the migrations in its ledger.
pub(super) async fn judge(
    schema: &SchemaName,
    slug: Option<&TenantSlug>,
    role: Option<&RoleName>,
    found: &Inspection,
    source: &Source,
    references: &mut References<'_>,
) -> Result<SchemaDrift> {
    let mut drift = empty(schema, slug);
    if let Some(role) = role.filter(|_| !found.has_role) {
        drift.differences.push(Difference::new("role", role.as_str(), Change::Missing));
    }
    let rows = match &found.ledger {
        Ledger::Rows(rows) => rows,
        other => {
            drift.differences.push(no_ledger(other));
            drift.not_compared = Some(NotCompared::NoLedger);
            return Ok(drift);
        }
    };
    drift.head = rows.last().map(|row| row.id.clone());
    drift.differences.extend(ledger_differences(schema, source, rows, found.comment.as_deref()));
    let Some(applied) = places(source, rows) else {
        drift.not_compared = Some(NotCompared::UnknownMigrations);
        return Ok(drift);
    };
    let Some(reference) = references.of(&applied).await? else {
        drift.not_compared = Some(NotCompared::NoReference);
        return Ok(drift);
    };
    let (mut given, mut there) = (reference.catalogue.for_schema(schema), found.catalogue.clone());
    if slug.is_none() {
        there.forget_what_is_no_migrations(&mut given);
    }
    there.forget_progress();
    if role.is_some() && !found.has_role {
        given.forget_grants_to_the_tenant();
        there.forget_grants_to_the_tenant();
    }
    let mut found = differences(&given, &there);
    let files: Vec<_> = applied.iter().map(|place| &source.files()[*place]).collect();
    volatile::note(&mut found, &given, &there, &files);
    ignore::doubt(&mut found, &there);
    drift.differences.extend(found);
    Ok(drift)
}

/// Returns the result for a registered schema, or the shared one, that does not exist.
pub(super) fn gone(schema: &SchemaName, slug: Option<&TenantSlug>) -> SchemaDrift {
    let missing = Difference::new("schema", schema.as_str(), Change::Missing);
    SchemaDrift { differences: vec![missing], ..empty(schema, slug) }
}

/// Returns the result for a schema that is being migrated.
pub(super) fn busy(schema: &SchemaName, slug: Option<&TenantSlug>) -> SchemaDrift {
    not_compared(schema, slug, NotCompared::Busy)
}

pub(super) fn not_compared(schema: &SchemaName, slug: Option<&TenantSlug>, why: NotCompared) -> SchemaDrift {
    SchemaDrift { not_compared: Some(why), ..empty(schema, slug) }
}

pub(super) fn clean(schema: &SchemaName, slug: &TenantSlug, head: Option<MigrationId>) -> SchemaDrift {
    SchemaDrift { head, ..empty(schema, Some(slug)) }
}

fn empty(schema: &SchemaName, slug: Option<&TenantSlug>) -> SchemaDrift {
    SchemaDrift {
        schema: schema.clone(),
        slug: slug.cloned(),
        head: None,
        differences: vec![],
        ignored: vec![],
        not_compared: None,
        started: None,
    }
}

/// Returns the indexes of the rows' files in the set; `None` if a row has no file.
pub(super) fn places(source: &Source, rows: &[Applied]) -> Option<Vec<usize>> {
    let place = |row: &Applied| source.place_of(&row.id);
    let mut places = rows.iter().map(place).collect::<Option<Vec<_>>>()?;
    places.sort_unstable();
    Some(places)
}

fn no_ledger(ledger: &Ledger) -> Difference {
    let change = match ledger {
        Ledger::Foreign { columns } => Change::Wrong { what: format!("is not cgk's: its columns are {columns}") },
        Ledger::Closed => Change::Wrong { what: "may not be read by this login".into() },
        Ledger::Absent | Ledger::Rows(_) => Change::Missing,
    };
    Difference::new("ledger", LEDGER_TABLE, change)
}

/// Returns the differences between rows, comment and files.
fn ledger_differences(
    schema: &SchemaName,
    source: &Source,
    rows: &[Applied],
    comment: Option<&str>,
) -> Vec<Difference> {
    let mut all = Vec::new();
    let wrong = |what: String| Difference::wrong("ledger", LEDGER_TABLE, what);
    match (LedgerDigest::in_comment(comment), comment) {
        (Some(digest), _) if digest == LedgerDigest::of(rows) => {}
        (Some(_), _) => {
            all.push(wrong("its rows do not match its comment: they were changed by hand".into()));
        }
        (None, None) => all.push(wrong("has no comment: every run has to read its rows".into())),
        (None, Some(_)) => all.push(wrong("its comment is not cgk's: every run has to read its rows".into())),
    }
    if let Err(divergence) = plan(source, schema, rows.to_vec(), Target::Head) {
        let Divergence { edited, renamed, missing, out_of_order, ahead, .. } = *divergence;
        let of_renamed = |file: RenamedFile| Difference::wrong("migration", file.recorded.to_string(), file.problem());
        all.extend(renamed.into_iter().map(of_renamed));
        for (ids, what) in [
            (edited, "was edited after it was applied"),
            (missing, "is applied here, but its file is missing"),
            (out_of_order, "is not applied here, but a later one is"),
            (ahead, "is applied here, but its file is missing: the database is newer than the files"),
        ] {
            all.extend(ids.into_iter().map(|id| Difference::wrong("migration", id.to_string(), what)));
        }
    }
    all
}
