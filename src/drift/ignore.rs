//! Takes known differences out of a report: they are counted and shown, and are no drift. Beside the rules of the configuration
//! there are those of this file, for the ledgers of other tools.

use super::report::{Change, Difference, DriftReport, IgnoredDifference};
use crate::{config::IgnoreRule, ident::SchemaName};

/// Tables in which other tools note what they did, and whose they are. The rows that a database had before cgk stay there, or
/// the tool goes on with a part of the database.
const LEDGERS: &[(&str, &str)] = &[
    ("_prisma_migrations", "Prisma"),
    ("__diesel_schema_migrations", "Diesel"),
    ("flyway_schema_history", "Flyway"),
    ("goose_db_version", "goose"),
    ("_sqlx_migrations", "sqlx"),
    ("__drizzle_migrations", "Drizzle"),
    ("ar_internal_metadata", "Rails"),
    ("django_migrations", "Django"),
    ("pgmigrations", "node-pg-migrate"),
    ("knex_migrations", "Knex"),
    ("knex_migrations_lock", "Knex"),
    ("alembic_version", "Alembic"),
    ("databasechangelog", "Liquibase"),
    ("databasechangeloglock", "Liquibase"),
    ("refinery_schema_history", "refinery"),
    ("gorp_migrations", "sql-migrate"),
    ("SequelizeMeta", "Sequelize"),
    ("kysely_migration", "Kysely"),
    ("kysely_migration_lock", "Kysely"),
];

/// Whose ledger it is that a table of no migration's is.
fn foreign_ledger(difference: &Difference) -> Option<String> {
    let (name, tool) = LEDGERS.iter().find(|(name, _)| *name == difference.object)?;
    (difference.kind == "table" && difference.change == Change::Unexpected)
        .then(|| format!("{name} is the ledger of {tool}; cgk leaves it alone"))
}

/// Moves the differences that a rule is about to the ignored ones. With `everything` the rules that matched nothing are noted.
pub(super) fn apply(report: &mut DriftReport, rules: &[IgnoreRule], everything: bool) {
    let mut used = vec![false; rules.len()];
    let mut sort = |schema: &str, differences: &mut Vec<Difference>| -> Vec<IgnoredDifference> {
        let (mut kept, mut ignored) = (Vec::new(), Vec::new());
        for difference in differences.drain(..) {
            match rules.iter().position(|rule| rule.matches(schema, &difference.kind, &difference.object)) {
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
