//! Checks of the shared tables of the business layer, if the database has them.

use super::{CheckResult, DoctorOptions, Verdict, are, rows};
use crate::{
    db::Operator,
    error::{Result, while_doing},
};

async fn has(operator: &Operator, table: &str) -> Result<bool> {
    let doing = "look for a shared table";
    let sql = format!("select pg_catalog.to_regclass('public.{table}') is not null");
    let rows = rows(operator, doing, &sql).await?;
    rows.first().map_or(Ok(false), |row| row.try_get(0).map_err(while_doing(doing)))
}

/// Whether row level security hides all rows of a shared table from the role. The policies for PUBLIC are those for
/// tenants' roles.
async fn is_hidden(operator: &Operator, table: &str) -> Result<bool> {
    let doing = "look at the row level security of a shared table";
    let sql = format!(
        "select pg_catalog.row_security_active(c.oid)
                and not exists (select from pg_catalog.pg_policy p, pg_catalog.unnest(p.polroles) m (role)
                                where p.polrelid = c.oid and p.polpermissive and p.polcmd in ('r', '*')
                                and (case when m.role = 0 then p.polname <> '{table}_tenant' else pg_catalog.pg_has_role(m.role, 'usage') end))
           from pg_catalog.pg_class c where c.oid = 'public.{table}'::pg_catalog.regclass"
    );
    let rows = rows(operator, doing, &sql).await?;
    rows.first().map_or(Ok(false), |row| row.try_get(0).map_err(while_doing(doing)))
}

/// Checks for domain events that wait longer than the limit, or that are marked as failed.
pub(super) async fn events(operator: &Operator, options: &DoctorOptions) -> Result<CheckResult> {
    if !has(operator, "domain_events").await? {
        return Ok(CheckResult::good("this database has no domain events"));
    }
    if is_hidden(operator, "domain_events").await? {
        return Ok(CheckResult::unknown("row level security shows this role no domain event"));
    }
    let doing = "count the domain events";
    let sql = format!(
        "select count(*) filter (where status = 'pending' and occurred_at < pg_catalog.clock_timestamp() - interval '{} milliseconds'),
                count(*) filter (where status = 'dead')
         from public.domain_events where status <> 'delivered'",
        options.event_age_max.as_millis()
    );
    let rows = rows(operator, doing, &sql).await?;
    let [row] = rows.as_slice() else { return Ok(CheckResult::unknown("the server returned no row")) };
    let (waiting, dead): (i64, i64) =
        (row.try_get(0).map_err(while_doing(doing))?, row.try_get(1).map_err(while_doing(doing))?);
    let number = |count: i64| usize::try_from(count).unwrap_or_default();
    match (waiting, dead) {
        (0, 0) => Ok(CheckResult::good("no domain event waits for long, and none was given up")),
        (0, dead) => Ok(CheckResult::of(
            Verdict::Warning,
            format!("{} given up", are(number(dead), "domain event", "domain events")),
        )
        .fix("cgk events:list --status dead, then cgk events:retry")),
        (waiting, _) => Ok(CheckResult::of(
            Verdict::Warning,
            format!(
                "{} not delivered for a long time; {dead} were given up",
                are(number(waiting), "domain event", "domain events")
            ),
        )
        .fix("run cgk events:relay --watch, or a relay in the service")),
    }
}

/// Checks whether the audit log has a partition for this month and the next one. Without a partition, rows are stored
/// in the default partition, and creating the month later must move them under a lock.
pub(super) async fn audit_months(operator: &Operator) -> Result<CheckResult> {
    if !has(operator, "audit_events").await? {
        return Ok(CheckResult::good("this database has no audit log"));
    }
    let doing = "look for the months of the audit log";
    let sql = "
        select pg_catalog.to_char(m.month, 'YYYY-MM')
        from pg_catalog.generate_series(pg_catalog.date_trunc('month', pg_catalog.now() at time zone 'UTC'),
                                        pg_catalog.date_trunc('month', pg_catalog.now() at time zone 'UTC') + interval '1 month',
                                        interval '1 month') m (month)
        where pg_catalog.to_regclass('public.audit_events_' || pg_catalog.to_char(m.month, 'YYYY_MM')) is null
        order by 1";
    let missing = super::texts(operator, doing, sql).await?;
    if missing.is_empty() {
        return Ok(CheckResult::good("the audit log has partitions for this month and the next one"));
    }
    let found = format!("the audit log has no partition for {}", missing.join(" and "));
    Ok(CheckResult::of(Verdict::Warning, found).naming(missing).fix("cgk audit:retain"))
}
