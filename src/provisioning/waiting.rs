//! Waits for the end of requests; all calls of a service share one listening connection.

use super::{
    CHANNEL, Provisioning, ProvisioningError, ProvisioningId, ProvisioningRequest, ProvisioningStatus, Result,
};
use crate::{
    error::{ConnectionError, Error},
    ident::Ident,
    tenancy::{Db, is_inside_transaction},
};
use std::{
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};
use tokio::{
    sync::broadcast::{self, error::RecvError},
    task::AbortHandle,
    time::Instant,
};

/// How often a waiting call reads its request. Notifications can be lost if a pooler is in between, or with the
/// connection.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// The longest wait, so that its end can be computed.
const WAIT_MAX: Duration = Duration::from_secs(24 * 3600);
/// The pause before listening again after the connection was lost.
const PAUSE: Duration = Duration::from_secs(1);
/// How many notifications a waiting call may be behind before it reads the table instead.
const NOTICES_MAX: usize = 256;

/// The shared connection, while a call waits.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    listening: Mutex<Weak<Listening>>,
}

/// A task that listens; it ends with the last waiting call.
#[derive(Debug)]
struct Listening {
    notices: broadcast::Sender<Notice>,
    task: AbortHandle,
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Notice {
    /// This request has a new status.
    Of(ProvisioningId),
    /// Any request may have a new status: notifications may have been lost.
    Any,
}

impl Waiting {
    fn join(&self, db: &Db<ProvisioningError>) -> Arc<Listening> {
        let mut listening = self.listening.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(there) = listening.upgrade() {
            return there;
        }
        let notices = broadcast::Sender::new(NOTICES_MAX);
        let task = tokio::spawn(listen(db.clone(), notices.clone())).abort_handle();
        let new = Arc::new(Listening { notices, task });
        *listening = Arc::downgrade(&new);
        new
    }
}

async fn listen(db: Db<ProvisioningError>, notices: broadcast::Sender<Notice>) {
    let channel = Ident::new(CHANNEL).expect("a short name is an identifier");
    loop {
        match db.listen(std::slice::from_ref(&channel)).await {
            Ok(mut listener) => {
                let _ = notices.send(Notice::Any);
                while let Ok(notification) = listener.recv().await {
                    let id = notification.payload().split_once(' ').and_then(|(_, id)| id.parse().ok());
                    // There may be no waiting call at the moment.
                    let _ = notices.send(id.map_or(Notice::Any, Notice::Of));
                }
            }
            Err(Error::Connection(ConnectionError::PoolerRefused { .. })) => return,
            Err(error) => tracing::debug!(%error, "notices of provisioned tenants are not received"),
        }
        tokio::time::sleep(PAUSE).await;
    }
}

impl Provisioning {
    /// Waits until a request is done or failed, at most `time_max` or a day, and returns its current state: `Pending`
    /// if the time is over.
    ///
    /// While calls wait, one connection outside of the pool listens for notifications. Each call also reads its request
    /// once a second, so a lost notification causes a delay of at most a second.
    ///
    /// # Errors
    ///
    /// `NotFound`, also if the organization is deleted in the meantime. `Invalid`: inside a transaction, because the
    /// other process does not see its changes yet. `TablesMissing`; `Database`: if the error is retryable, for example
    /// a lost connection, only when the time is over; until then the request is read again.
    ///
    /// # Cancel safety
    ///
    /// Nothing is changed.
    pub async fn wait(&self, id: ProvisioningId, time_max: Duration) -> Result<ProvisioningRequest> {
        if is_inside_transaction() {
            return Err(ProvisioningError::Invalid {
                what: "the call",
                why: "what a transaction has written is seen by others when it has committed; wait after it",
            });
        }
        let deadline = Instant::now() + time_max.min(WAIT_MAX);
        let listening = self.waiting.join(&self.db);
        let mut notices = listening.notices.subscribe();
        loop {
            let is_over = Instant::now() >= deadline;
            match self.find(id).await {
                Ok(request) if request.status != ProvisioningStatus::Pending || is_over => return Ok(request),
                Ok(_) => {}
                // The request is committed, so a later look may succeed.
                Err(ProvisioningError::Database(error)) if error.is_retryable() && !is_over => {}
                Err(error) => return Err(error),
            }
            let next = deadline.min(Instant::now() + LOOK_INTERVAL);
            let _ = tokio::time::timeout_at(next, noticed(&mut notices, id)).await;
        }
    }
}

/// Waits for a notification that may concern this request; cancel safe.
async fn noticed(notices: &mut broadcast::Receiver<Notice>, id: ProvisioningId) {
    loop {
        match notices.recv().await {
            Ok(Notice::Of(other)) if other != id => {}
            Ok(_) | Err(RecvError::Lagged(_)) => return,
            // The task has ended: there are no notifications. Only the caller's time limit is left.
            Err(RecvError::Closed) => std::future::pending().await,
        }
    }
}
