//! Opens the connections of workers, and computes their number.

use crate::db::Operator;
use std::{num::NonZeroUsize, ops::Deref};

/// The default number of tenants that are processed at the same time. A larger number was not faster on the tested
/// servers, and services need resources too.
const JOBS_DEFAULT: usize = 4;
/// The minimum number of tenants per worker. With fewer, another connection costs more time than it saves.
const TENANTS_PER_WORKER_MIN: usize = 4;

/// Returns the number of workers for a number of tenants. `wanted` is the requested number.
pub(crate) async fn workers(operator: &Operator, wanted: Option<NonZeroUsize>, tenants: usize) -> usize {
    if let Some(wanted) = wanted {
        return wanted.get().min(tenants);
    }
    let wanted = JOBS_DEFAULT.min(tenants / TENANTS_PER_WORKER_MIN).max(1);
    if wanted == 1 {
        return 1;
    }
    // Uses a quarter of the free connections, so that services can still connect.
    let free = operator.free_connections().await.unwrap_or(0);
    wanted.min(free / 4).max(1)
}

/// A worker's connection. The first worker uses the operator's, every other worker a separate one.
pub(crate) enum WorkerConnection<'o> {
    Operators(&'o Operator),
    Own(Box<Operator>),
}

impl<'o> WorkerConnection<'o> {
    /// Connects. Returns `None` if the connection fails. Then there is one worker fewer.
    pub(crate) async fn open(operator: &'o Operator, number: usize) -> Option<Self> {
        if number == 0 {
            return Some(Self::Operators(operator));
        }
        match operator.sibling().await {
            Ok(own) => Some(Self::Own(Box::new(own))),
            Err(error) => {
                tracing::warn!(%error, "one worker less: no connection for it");
                None
            }
        }
    }
}

impl Deref for WorkerConnection<'_> {
    type Target = Operator;

    fn deref(&self) -> &Operator {
        match self {
            Self::Operators(operator) => operator,
            Self::Own(operator) => operator,
        }
    }
}
