//! Checks of the server: version, settings, connections, locks, transaction ids.

use super::{CheckResult, Verdict, rows};
use crate::{
    db::Operator,
    error::{Result, while_doing},
};

/// The minor versions that fix CVE-2024-10978, with which a role can be reset to another role than the session's.
/// Source: PostgreSQL's security page. Later major versions already contained the fix.
const ROLE_RESET_CORRECTED: [(u32, u32); 4] = [(14, 14), (15, 9), (16, 5), (17, 1)];

pub(super) fn version(operator: &Operator) -> CheckResult {
    let facts = operator.facts();
    let (major, minor) = (facts.major(), facts.version_number % 10_000);
    let needed = ROLE_RESET_CORRECTED.iter().find(|(of, _)| *of == major).map_or(0, |(_, minor)| *minor);
    match minor < needed {
        false => CheckResult::good(format!("PostgreSQL {major}.{minor}")),
        true => CheckResult::of(
            Verdict::Failed,
            format!("PostgreSQL {major}.{minor} may reset a session to a wrong role (CVE-2024-10978)"),
        )
        .fix(format!("upgrade to PostgreSQL {major}.{needed} or newer")),
    }
}

/// Checks for settings that risk data loss, and for settings that disable features that cgk needs.
pub(super) async fn settings(operator: &Operator) -> Result<CheckResult> {
    let doing = "read the server's settings";
    let sql = "
        select s.name || ' = ' || s.setting, w.fails
        from (values ('fsync', 'on', false), ('full_page_writes', 'on', false), ('autovacuum', 'on', false),
                     ('track_counts', 'on', false), ('zero_damaged_pages', 'off', true), ('row_security', 'on', true),
                     ('session_replication_role', 'origin', true)) w (name, wanted, fails)
        join pg_catalog.pg_settings s on s.name = w.name and s.setting <> w.wanted
        order by 1";
    let rows = rows(operator, doing, sql).await?;
    let mut wrong = Vec::new();
    let mut verdict = Verdict::Warning;
    for row in &rows {
        wrong.push(row.try_get(0).map_err(while_doing(doing))?);
        if row.try_get(1).map_err(while_doing(doing))? {
            verdict = Verdict::Failed;
        }
    }
    if wrong.is_empty() {
        return Ok(CheckResult::good("the settings that protect data and isolation have their defaults"));
    }
    Ok(CheckResult::of(verdict, format!("not at the default that protects data or isolation: {}", wrong.join(", ")))
        .naming(wrong)
        .fix("alter system reset NAME, or remove the setting from the database, the role or the server's files"))
}

pub(super) async fn connections(operator: &Operator) -> Result<CheckResult> {
    let free = operator.free_connections().await?;
    let pool = operator.config().pool().size_max;
    if free >= pool {
        return Ok(CheckResult::good(format!(
            "{free} connections are free; a process of a service opens up to {pool}"
        )));
    }
    Ok(CheckResult::of(
        Verdict::Warning,
        format!("only {free} connections are free, and a process of a service opens up to {pool}"),
    )
    .fix("reduce pool.size_max, use a pooler, or raise max_connections"))
}

/// Checks the size of the lock table. A transaction that uses every table, such as that of pg_dump, needs a lock for
/// each.
pub(super) async fn locks(operator: &Operator) -> Result<CheckResult> {
    let doing = "count tables and locks";
    let sql = "
        select pg_catalog.current_setting('max_locks_per_transaction')::pg_catalog.int8
                 * (pg_catalog.current_setting('max_connections')::pg_catalog.int8
                    + pg_catalog.current_setting('max_prepared_transactions')::pg_catalog.int8),
               (select count(*) from pg_catalog.pg_class where relkind in ('r', 'p', 'v', 'm', 'S'))";
    let rows = rows(operator, doing, sql).await?;
    let [row] = rows.as_slice() else { return Ok(CheckResult::unknown("the server returned no row")) };
    let (locks, tables): (i64, i64) =
        (row.try_get(0).map_err(while_doing(doing))?, row.try_get(1).map_err(while_doing(doing))?);
    if tables <= locks {
        return Ok(CheckResult::good(format!("{tables} tables, views and sequences, and room for {locks} locks")));
    }
    Ok(CheckResult::of(
        Verdict::Warning,
        format!(
            "{tables} tables, views and sequences, and room for {locks} locks: pg_dump of the whole database fails"
        ),
    )
    .fix("back tenants up one at a time (pg_dump -n), or raise max_locks_per_transaction"))
}

/// The age of the oldest transaction id from which vacuum is far behind. The server stops at 2,146,483,648.
const AGE_WARNING: i64 = 500_000_000;
const AGE_FAILED: i64 = 1_500_000_000;

pub(super) async fn transaction_ids(operator: &Operator) -> Result<CheckResult> {
    let doing = "read the age of the oldest transaction id";
    let sql = "select greatest(pg_catalog.age(d.datfrozenxid), pg_catalog.mxid_age(d.datminmxid))::pg_catalog.int8
               from pg_catalog.pg_database d where d.datname = pg_catalog.current_database()";
    let rows = rows(operator, doing, sql).await?;
    let [row] = rows.as_slice() else { return Ok(CheckResult::unknown("the server returned no row")) };
    Ok(by_age(row.try_get(0).map_err(while_doing(doing))?))
}

fn by_age(age: i64) -> CheckResult {
    let millions = age / 1_000_000;
    let behind =
        format!("vacuum is {millions} million transactions behind; at 2,146 million the server refuses writes");
    match age {
        ..AGE_WARNING => CheckResult::good(format!("the oldest transaction id is {millions} million old")),
        AGE_WARNING..AGE_FAILED => {
            CheckResult::of(Verdict::Warning, behind).fix("vacuumdb --freeze, and end old transactions")
        }
        _ => CheckResult::of(Verdict::Failed, behind).fix("vacuumdb --freeze, and end old transactions"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_age_of_transaction_ids_has_two_limits() {
        for (age, verdict) in [
            (0, Verdict::Good),
            (AGE_WARNING - 1, Verdict::Good),
            (AGE_WARNING, Verdict::Warning),
            (AGE_FAILED - 1, Verdict::Warning),
            (AGE_FAILED, Verdict::Failed),
            (i64::from(i32::MAX), Verdict::Failed),
        ] {
            let found = by_age(age);
            assert_eq!(found.verdict, verdict, "{age}");
            assert_eq!(found.fix.is_some(), verdict != Verdict::Good);
        }
    }
}
