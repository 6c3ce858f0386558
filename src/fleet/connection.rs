//! The connections of workers, and how many there are.

use crate::db::Operator;
use std::{num::NonZeroUsize, ops::Deref};

/// How many tenants are worked on at once where nobody says otherwise. More gained nothing on the servers tried, and the
/// live traffic wants its share.
const JOBS_DEFAULT: usize = 4;
/// Tenants per worker below which another connection costs more than it saves.
const TENANTS_PER_WORKER_MIN: usize = 4;

/// How many workers there are to be for so many tenants; `wanted` is what somebody asked for.
pub(crate) async fn workers(operator: &Operator, wanted: Option<NonZeroUsize>, tenants: usize) -> usize {
    if let Some(wanted) = wanted {
        return wanted.get().min(tenants);
    }
    let wanted = JOBS_DEFAULT.min(tenants / TENANTS_PER_WORKER_MIN).max(1);
    if wanted == 1 {
        return 1;
    }
    // A quarter of what is free, so that services can still connect.
    let free = operator.free_connections().await.unwrap_or(0);
    wanted.min(free / 4).max(1)
}

/// A worker's connection: the first works on the operator's, each other on one of its own.
pub(crate) enum WorkerConnection<'o> {
    Operators(&'o Operator),
    Own(Box<Operator>),
}

impl<'o> WorkerConnection<'o> {
    /// Connects; `None` where the server has no connection left, and then there is one worker less.
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
