//! Finds the transaction for which a migration without a transaction waits, while it waits.

use crate::{
    db::Operator,
    error::{Result, while_doing},
    ident::SchemaName,
    lock,
};
use std::{
    future::{Future, pending},
    time::Duration,
};

/// How long a migration runs before the transaction that blocks it is looked for, and the pause between two looks.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// A transaction of another session for which a migration waits.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BlockingTransaction {
    /// The process of its session; `None` for a prepared transaction, which has none.
    pub pid: Option<i32>,
    /// The role of its session; empty if it is unknown.
    pub role: String,
    /// The application name of its session; empty if it is unknown or hidden from the operator.
    pub application: String,
    /// The state of its session, such as `idle in transaction`; empty if it is unknown or hidden from the operator.
    pub state: String,
    /// The time since its start; `None` if it is unknown or hidden from the operator.
    pub age: Option<Duration>,
}

/// Does the work, and reports meanwhile which transaction blocks the migration of a schema that runs without a
/// transaction. It uses another connection, opened only after [`LOOK_EVERY`]. Without one, nothing is reported.
pub(crate) async fn watched<T>(
    operator: &Operator,
    schema: &SchemaName,
    mut report: impl FnMut(&BlockingTransaction),
    work: impl Future<Output = T>,
) -> T {
    let watch = async {
        tokio::time::sleep(LOOK_EVERY).await;
        let watcher = match operator.sibling().await {
            Ok(watcher) => watcher,
            Err(error) => {
                tracing::debug!(%error, "no connection to look for a blocking transaction");
                return pending().await;
            }
        };
        loop {
            match blocking(&watcher, schema).await {
                Ok(found) => found.iter().for_each(&mut report),
                Err(error) => {
                    tracing::debug!(%error, "could not look for a blocking transaction");
                    return pending().await;
                }
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    };
    tokio::select! {
        biased;
        done = work => done,
        () = watch => unreachable!("it looks until the work is done"),
    }
}

/// Returns the oldest transaction that blocks the session that holds the schema's lock of [`lock::steps_key`].
async fn blocking(watcher: &Operator, schema: &SchemaName) -> Result<Option<BlockingTransaction>> {
    let doing = || while_doing("look for the transaction that blocks a migration");
    let key = lock::steps_key(schema).cast_unsigned();
    // For a prepared transaction, the server's answer is 0.
    let sql = format!(
        "select nullif(b.pid, 0), coalesce(a.usename::pg_catalog.text, ''), coalesce(a.application_name, ''),
                coalesce(a.state, ''), extract(epoch from pg_catalog.clock_timestamp() - a.xact_start)::pg_catalog.int8
         from pg_catalog.pg_locks l
              cross join pg_catalog.unnest(pg_catalog.pg_blocking_pids(l.pid)) b (pid)
              left join pg_catalog.pg_stat_activity a on a.pid = b.pid
         where l.locktype = 'advisory' and l.classid = {} and l.objid = {} and l.objsubid = 1 and l.granted
           and l.database = (select d.oid from pg_catalog.pg_database d where d.datname = pg_catalog.current_database())
         order by a.xact_start nulls last limit 1",
        key >> 32,
        key & 0xffff_ffff,
    );
    let rows = watcher.client().query_typed(&sql, &[]).await.map_err(doing())?;
    let read = |row: &tokio_postgres::Row| {
        let age: Option<i64> = row.try_get(4)?;
        Ok(BlockingTransaction {
            pid: row.try_get(0)?,
            role: row.try_get(1)?,
            application: row.try_get(2)?,
            state: row.try_get(3)?,
            age: age.map(|seconds| Duration::from_secs(u64::try_from(seconds).unwrap_or_default())),
        })
    };
    rows.first().map(read).transpose().map_err(doing())
}
