//! Finds the sessions in a tenant, and waits until there are none. The transaction of such a session holds the tenant's
//! lock.

use crate::{
    db::{Operator, message, message_head::MessageHead},
    error::{Error, Result, TenantError, while_doing},
    lock,
    slug::TenantSlug,
};
use std::{
    fmt,
    time::{Duration, Instant},
};
use tokio_postgres::{error::SqlState, types::Type};

/// The maximum time of a single wait for the tenant's lock. A session that wants to enter meanwhile must wait too, at
/// most for this time.
pub(crate) const SHORT_LOCK_WAIT: Duration = Duration::from_millis(200);
/// The pause between two waits. During the pause, the waiting sessions can continue.
const PAUSE: Duration = Duration::from_millis(100);
/// The maximum number of sessions that an error lists.
const NAMED_MAX: usize = 5;

/// A session whose transaction is in a tenant.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct EnteredSession {
    /// The server process. `None` for a prepared transaction.
    pub pid: Option<i32>,
    /// The login.
    pub login: String,
    /// The session's `application_name`.
    pub application: String,
    /// Its state, as shown in `pg_stat_activity`. Empty if the operator may not see it.
    pub state: String,
    /// The time since its transaction started. `None` if the operator may not see it.
    pub age: Option<Duration>,
}

impl fmt::Display for EnteredSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.pid {
            Some(pid) => write!(f, "process {pid}")?,
            None => f.write_str("a prepared transaction")?,
        }
        let age = self.age.map(|age| format!("for {} s", age.as_secs())).unwrap_or_default();
        let texts = [self.login.as_str(), &self.application, &self.state, &age];
        let known: Vec<&str> = texts.into_iter().filter(|text| !text.is_empty()).collect();
        if known.is_empty() { Ok(()) } else { write!(f, " ({})", known.join(", ")) }
    }
}

/// Returns the sessions in a tenant. The session with the oldest transaction is first.
pub(crate) async fn entered_sessions(operator: &Operator, slug: &TenantSlug) -> Result<Vec<EnteredSession>> {
    let doing = || while_doing(format!("look who is inside tenant {slug}"));
    let sql = "
select l.pid, coalesce(a.usename::pg_catalog.text, ''), coalesce(a.application_name, ''), coalesce(a.state, ''),
       (pg_catalog.date_part('epoch', pg_catalog.clock_timestamp() - a.xact_start) * 1000)::pg_catalog.int8
from pg_catalog.pg_locks l left join pg_catalog.pg_stat_activity a on a.pid = l.pid
where l.locktype = 'advisory' and l.objsubid = 1 and l.granted and l.mode = 'ShareLock'
  and l.database = (select d.oid from pg_catalog.pg_database d where d.datname = pg_catalog.current_database())
  and (l.classid::pg_catalog.int8 << 32) | l.objid::pg_catalog.int8 = $1
group by 1, 2, 3, 4, 5 order by 5 desc nulls last, 1";
    let rows = operator.client().query_typed(sql, &[(&lock::tenant_key(slug), Type::INT8)]).await.map_err(doing())?;
    let read = |row: &tokio_postgres::Row| -> Result<EnteredSession, tokio_postgres::Error> {
        let age: Option<i64> = row.try_get(4)?;
        Ok(EnteredSession {
            pid: row.try_get(0)?,
            login: row.try_get(1)?,
            application: row.try_get(2)?,
            state: row.try_get(3)?,
            age: age.map(|age| Duration::from_millis(age.try_into().unwrap_or(0))),
        })
    };
    rows.iter().map(read).collect::<Result<_, _>>().map_err(doing())
}

/// Waits until no transaction is in a tenant that sessions can no longer enter.
///
/// The lock is requested repeatedly and released immediately. So even if a transaction is long, other sessions that try
/// to enter are refused without a long wait.
///
/// # Errors
///
/// [`TenantError::InUse`]: when a transaction is still in the tenant at the end of `wait`.
pub(crate) async fn wait_until_left(operator: &Operator, slug: &TenantSlug, wait: Duration) -> Result<()> {
    let doing = || while_doing(format!("wait for the transactions of tenant {slug}"));
    let head = MessageHead::of(operator).lock_timeout(SHORT_LOCK_WAIT).statement_timeout(Duration::ZERO);
    let sql = head.lock(lock::tenant_key(slug)).sql();
    let began = Instant::now();
    loop {
        match message::run(operator.client(), &sql).await.map_err(doing())?.complete() {
            Ok(_) => return Ok(()),
            Err(error) if error.code() == Some(&SqlState::LOCK_NOT_AVAILABLE) => {}
            Err(error) => return Err(doing()(error)),
        }
        if began.elapsed() >= wait {
            return Err(error_of(slug, wait, &entered_sessions(operator, slug).await?));
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Returns the error for a tenant whose lock other sessions hold. Returns `None` if no session holds it in the way that
/// a transaction of the tenant does.
pub(crate) async fn in_use(operator: &Operator, slug: &TenantSlug, waited: Duration) -> Result<Option<Error>> {
    let sessions = entered_sessions(operator, slug).await?;
    if sessions.is_empty() {
        return Ok(None);
    }
    Ok(Some(error_of(slug, waited, &sessions)))
}

fn error_of(slug: &TenantSlug, waited: Duration, sessions: &[EnteredSession]) -> Error {
    let mut named: Vec<String> = sessions.iter().take(NAMED_MAX).map(ToString::to_string).collect();
    match sessions.len().saturating_sub(NAMED_MAX) {
        0 if named.is_empty() => named.push("another command".into()),
        0 => {}
        more => named.push(format!("and {more} more")),
    }
    Error::Tenant(TenantError::InUse { tenant: slug.clone(), waited, sessions: named.join(", ") })
}

/// Terminates the sessions in a tenant, and returns them.
///
/// # Errors
///
/// Kind `Denied`: when the operator may not terminate a session of another role.
pub(crate) async fn terminate(operator: &Operator, slug: &TenantSlug) -> Result<Vec<EnteredSession>> {
    let doing = || while_doing(format!("end the sessions inside tenant {slug}"));
    let sessions = entered_sessions(operator, slug).await?;
    let pids: Vec<i32> = sessions.iter().filter_map(|session| session.pid).collect();
    // Terminates only sessions that still hold the lock, because another session may have the process id by now.
    let sql = "
select pg_catalog.pg_terminate_backend(l.pid) from pg_catalog.pg_locks l
where l.locktype = 'advisory' and l.objsubid = 1 and l.granted and l.mode = 'ShareLock' and l.pid = any ($2)
  and l.database = (select d.oid from pg_catalog.pg_database d where d.datname = pg_catalog.current_database())
  and (l.classid::pg_catalog.int8 << 32) | l.objid::pg_catalog.int8 = $1";
    let key = lock::tenant_key(slug);
    match operator.client().query_typed(sql, &[(&key, Type::INT8), (&pids, Type::INT4_ARRAY)]).await {
        Ok(_) => Ok(sessions),
        Err(error) if error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE) => {
            let role = crate::ident::quoted(&operator.facts().role);
            Err(operator.facts().lacks("end the sessions of other roles", format!("grant pg_signal_backend to {role}")))
        }
        Err(error) => Err(doing()(error)),
    }
}
