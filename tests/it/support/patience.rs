//! Time limits that only notice a hang: no test measures by them, and a busy machine does not reach them.

use cgk::{Config, Operator, config::SessionSettings, testing::TestDatabase};
use std::{future::Future, time::Duration};

pub(crate) use crate::sandbox::HANG;

/// What ends a hang in the server or the pool comes later, so that [`must_end`] notices it.
const LATER: Duration = Duration::from_secs(600);

/// Awaits what must end, however slow the machine is.
pub(crate) async fn must_end<F: Future>(what: &str, future: F) -> F::Output {
    tokio::time::timeout(HANG, future).await.unwrap_or_else(|_| panic!("{what}: it hangs"))
}

/// The same configuration with time limits that no busy machine reaches: a test that wants one of them sets it.
pub(crate) fn patient(config: &Config) -> Config {
    let session = SessionSettings {
        lock_timeout: LATER,
        statement_timeout: LATER,
        idle_in_transaction_timeout: LATER,
        migration_wait: LATER,
        ..config.session().clone()
    };
    config.clone().with_session(session).with_pool_wait(LATER)
}

/// An operator for runs that wait for each other.
pub(crate) async fn patient_operator(database: &TestDatabase) -> Operator {
    Operator::connect(&patient(database.config())).await.unwrap()
}
