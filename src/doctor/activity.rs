//! Checks of other sessions: transactions that a migration would wait for.

use super::{CheckResult, DoctorOptions, Verdict, are, rows};
use crate::{
    db::Operator,
    error::{Result, while_doing},
};
use std::time::Duration;

/// Checks for transactions of this database that are older than the limit. A migration waits for their locks,
/// `create index concurrently` waits for their snapshots, and vacuum cannot remove rows that they can still see.
pub(super) async fn old_transactions(operator: &Operator, options: &DoctorOptions) -> Result<CheckResult> {
    let doing = "list the sessions";
    // For a role without pg_read_all_stats, the times of other users' sessions are null.
    let sql = format!(
        "select a.pid, coalesce(a.usename::pg_catalog.text, ''), coalesce(a.application_name, ''), coalesce(a.state, ''),
                extract(epoch from pg_catalog.clock_timestamp() - a.xact_start)::pg_catalog.int8,
                a.state is null and a.usename is distinct from current_user
         from pg_catalog.pg_stat_activity a
         where a.datname = pg_catalog.current_database() and a.pid <> pg_catalog.pg_backend_pid()
           and coalesce(a.backend_type, 'client backend') = 'client backend'
           and (a.state is null or a.xact_start < pg_catalog.clock_timestamp() - interval '{} milliseconds')
         order by a.xact_start, a.pid",
        options.transaction_age_max.as_millis()
    );
    let (mut old, mut hidden) = (Vec::new(), 0);
    for row in rows(operator, doing, &sql).await? {
        let get = |error| while_doing(doing)(error);
        if row.try_get(5).map_err(get)? {
            hidden += 1;
            continue;
        }
        let Some(age): Option<i64> = row.try_get(4).map_err(get)? else { continue };
        let (pid, user): (i32, String) = (row.try_get(0).map_err(get)?, row.try_get(1).map_err(get)?);
        let (application, state): (String, String) = (row.try_get(2).map_err(get)?, row.try_get(3).map_err(get)?);
        let age = Duration::from_secs(u64::try_from(age).unwrap_or_default());
        old.push(format!("process {pid} of {user} ({application}): {state} for {}", humantime(age)));
    }
    if !old.is_empty() {
        let found = format!(
            "{} open for a long time; migrations wait for their locks",
            are(old.len(), "transaction", "transactions")
        );
        return Ok(CheckResult::of(Verdict::Warning, found)
            .naming(old)
            .fix("end them, or end the process: select pg_catalog.pg_terminate_backend(PID)"));
    }
    if hidden > 0 {
        let role = crate::ident::quoted(&operator.facts().role);
        let reason =
            format!("{} hidden from this role", are(hidden, "session of another role", "sessions of other roles"));
        return Ok(CheckResult::unknown(reason).fix(format!("grant pg_read_all_stats to {role}")));
    }
    Ok(CheckResult::good("no transaction of another session is old"))
}

/// Returns the duration in seconds, minutes or hours.
fn humantime(age: Duration) -> String {
    match age.as_secs() {
        seconds @ ..120 => format!("{seconds} s"),
        seconds @ ..7200 => format!("{} min", seconds / 60),
        seconds => format!("{} h", seconds / 3600),
    }
}

/// Checks for prepared transactions. They keep their locks over a restart, and no session shows them.
pub(super) async fn prepared_transactions(operator: &Operator, options: &DoctorOptions) -> Result<CheckResult> {
    let sql = format!(
        "select 'prepared transaction ' || pg_catalog.quote_literal(p.gid) || ' of ' || p.owner::pg_catalog.text
         from pg_catalog.pg_prepared_xacts p
         where p.database = pg_catalog.current_database()
           and p.prepared < pg_catalog.clock_timestamp() - interval '{} milliseconds' order by p.prepared",
        options.transaction_age_max.as_millis()
    );
    let old = super::texts(operator, "list the prepared transactions", &sql).await?;
    if old.is_empty() {
        return Ok(CheckResult::good("no prepared transaction is old"));
    }
    let found =
        format!("{} not finished; its locks stay", are(old.len(), "prepared transaction", "prepared transactions"));
    Ok(CheckResult::of(Verdict::Warning, found).naming(old).fix("commit prepared 'NAME', or rollback prepared 'NAME'"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_readable() {
        let shown = [0, 119, 120, 7199, 7200].map(|seconds| humantime(Duration::from_secs(seconds)));
        assert_eq!(shown, ["0 s", "119 s", "2 min", "119 min", "2 h"]);
    }
}
