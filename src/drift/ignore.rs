//! Moves known differences to a separate list of the report. They are counted and shown, but do not count as drift. In
//! addition to the rules of the configuration, this file has rules for the ledgers of other tools.

use super::{
    objects::{Catalogue, ObjectKey},
    report::{Change, Difference, DriftReport, IgnoredDifference},
};
use crate::{catalogue::OWNER_LACKS, config::IgnoreRule, ident::SchemaName};

/// How a list of rights names the tenant's own role.
const TENANT_ROLE: &str = "the tenant's role";

/// Tables in which other tools record what they applied, with the tool, and columns that identify the table. Such a
/// table exists because rows from before cgk are kept, or because the tool still manages a part of the database.
const LEDGERS: &[(&str, &str, &[&str])] = &[
    ("_prisma_migrations", "Prisma", &["checksum", "migration_name", "started_at"]),
    ("__diesel_schema_migrations", "Diesel", &["version", "run_on"]),
    ("flyway_schema_history", "Flyway", &["installed_rank", "version", "script", "success"]),
    ("goose_db_version", "goose", &["version_id", "is_applied"]),
    ("_sqlx_migrations", "sqlx", &["version", "description", "checksum", "success"]),
    ("__drizzle_migrations", "Drizzle", &["hash", "created_at"]),
    ("ar_internal_metadata", "Rails", &["key", "value"]),
    ("django_migrations", "Django", &["app", "name", "applied"]),
    ("pgmigrations", "node-pg-migrate", &["name", "run_on"]),
    ("knex_migrations", "Knex", &["name", "batch", "migration_time"]),
    ("knex_migrations_lock", "Knex", &["is_locked"]),
    ("alembic_version", "Alembic", &["version_num"]),
    ("databasechangelog", "Liquibase", &["id", "author", "filename"]),
    ("databasechangeloglock", "Liquibase", &["id", "locked"]),
    ("refinery_schema_history", "refinery", &["version", "name", "applied_on", "checksum"]),
    ("gorp_migrations", "sql-migrate", &["id", "applied_at"]),
    ("SequelizeMeta", "Sequelize", &["name"]),
    ("kysely_migration", "Kysely", &["name", "timestamp"]),
    ("kysely_migration_lock", "Kysely", &["is_locked"]),
];

/// Returns the tool of a ledger, if an unexpected table is one.
pub(super) fn foreign_ledger(difference: &Difference) -> Option<String> {
    let (name, tool, _) = LEDGERS.iter().find(|(name, ..)| *name == difference.object)?;
    (difference.kind == "table" && difference.change == Change::Unexpected)
        .then(|| format!("{name} is the ledger of {tool}; cgk leaves it alone"))
}

/// Unmarks a table that has only the name of another tool's ledger, or that other roles may access. It then counts as a
/// difference.
pub(super) fn doubt(differences: &mut [Difference], found: &Catalogue) {
    for difference in differences.iter_mut().filter(|difference| foreign_ledger(difference).is_some()) {
        let Some((name, tool, known)) = LEDGERS.iter().find(|(name, ..)| *name == difference.object) else { continue };
        let columns = found.columns_of(name);
        let is_the_tools = known.iter().all(|column| columns.iter().any(|found| found == column));
        let table = found.objects.iter().find(|(key, _)| key.kind == "table" && key.name == *name);
        let grants = table.and_then(|(_, facts)| facts.get("grants")).map_or("", String::as_str);
        let is_open = grants.split("; ").any(|held| !held.is_empty() && !held.starts_with("the tenant's role: "));
        if !is_the_tools {
            let what = format!(
                "not from any migration; named as the ledger of {tool}, without its columns {}",
                known.join(", ")
            );
            difference.change = Change::Wrong { what };
        } else if is_open {
            let what = format!("not from any migration; the ledger of {tool}, and others have rights on it: {grants}");
            difference.change = Change::Wrong { what };
            difference.gives_rights = true;
        }
    }
}

/// Returns the rights that others than the tenant's role have on an object from no migration and on its columns; `None` if
/// there are none. What everyone has on each new function and type is none of them.
pub(super) fn rights_of_others(key: &ObjectKey, found: &Catalogue) -> Option<String> {
    let built_in = |kind: &str, held: &str| {
        held == "everyone: execute" || (held == "everyone: usage" && ["type", "domain"].contains(&kind))
    };
    let is_part = |part: &ObjectKey| part == key || (key.parent.is_empty() && part.parent == key.name);
    let held = found.objects.iter().filter(|(part, _)| is_part(part)).flat_map(|(part, facts)| {
        let grants = facts.get("grants").map_or("", String::as_str).split("; ");
        grants.filter(|held| !held.is_empty() && !built_in(&part.kind, held))
    });
    let is_of_others = |held: &&str| ![TENANT_ROLE, OWNER_LACKS].contains(&held.split(": ").next().unwrap_or_default());
    let mut others: Vec<&str> = held.filter(is_of_others).collect();
    others.dedup();
    (!others.is_empty()).then(|| format!("others have rights on it: {}", others.join("; ")))
}

/// Moves the differences that match a rule to the ignored ones. A rule with a wildcard does not accept rights that a
/// difference gives to others: its author has not seen this object.
/// With `everything`, rules without a match are recorded.
pub(super) fn apply(report: &mut DriftReport, rules: &[IgnoreRule], everything: bool) {
    let mut used = vec![false; rules.len()];
    let mut sort = |schema: &str, differences: &mut Vec<Difference>| -> Vec<IgnoredDifference> {
        let (mut kept, mut ignored) = (Vec::new(), Vec::new());
        for difference in differences.drain(..) {
            let accepts = |rule: &IgnoreRule| {
                rule.matches(schema, &difference.kind, &difference.object)
                    && (rule.names_one_object() || !difference.opens())
            };
            match rules.iter().position(accepts) {
                Some(place) => {
                    used[place] = true;
                    ignored.push(IgnoredDifference { difference, reason: rules[place].reason.clone() });
                }
                None => match foreign_ledger(&difference) {
                    Some(reason) => ignored.push(IgnoredDifference { difference, reason }),
                    None => kept.push(difference),
                },
            }
        }
        *differences = kept;
        ignored
    };
    for drift in report.public.iter_mut().chain(&mut report.tenants) {
        drift.ignored = sort(drift.schema.as_str(), &mut drift.differences);
    }
    let public = SchemaName::public();
    report.ignored = sort(public.as_str(), &mut report.rights);
    report.ignored.extend(sort("", &mut report.strays));
    if everything {
        report.unused_rules = rules.iter().zip(used).filter(|(_, used)| !used).map(|(rule, _)| rule.clone()).collect();
    }
}
