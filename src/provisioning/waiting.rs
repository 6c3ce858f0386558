//! Waits for the end of requests, all of a service on one connection that listens.

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

/// How long a waiter goes without a look of its own. Notices are missed where a pooler is in between, or the connection is lost.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// The longest wait, so that the end of one can be computed.
const WAIT_MAX: Duration = Duration::from_secs(24 * 3600);
/// How long it takes to listen anew after the connection was lost.
const PAUSE: Duration = Duration::from_secs(1);
/// How many notices a waiter may be behind before it looks at the table instead.
const NOTICES_MAX: usize = 256;

/// The connection of those who wait, while anybody does.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    listening: Mutex<Weak<Listening>>,
}

/// A task that listens; ends with the last who waits.
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
    /// Any may have: notices may have been missed.
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
                    // Nobody may be waiting at the moment.
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
    /// Waits until a request is done or failed, at most `time_max` or a day, and returns it as it is then: `Pending` when the time is over.
    ///
    /// While anybody waits, one connection beside the pool listens for notices, and each waiter looks at its request once a second
    /// besides, so a notice that is lost costs a second.
    ///
    /// # Errors
    ///
    /// `NotFound`, also when the organization is deleted meanwhile. `Invalid`: inside a transaction, whose changes nobody else
    /// sees yet. `TablesMissing`; `Database`.
    ///
    /// # Cancel safety
    ///
    /// It changes nothing.
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
            let request = self.find(id).await?;
            if request.status != ProvisioningStatus::Pending || Instant::now() >= deadline {
                return Ok(request);
            }
            let next = deadline.min(Instant::now() + LOOK_INTERVAL);
            let _ = tokio::time::timeout_at(next, noticed(&mut notices, id)).await;
        }
    }
}

/// Waits for a notice that may be of this request; cancel safe.
async fn noticed(notices: &mut broadcast::Receiver<Notice>, id: ProvisioningId) {
    loop {
        match notices.recv().await {
            Ok(Notice::Of(other)) if other != id => {}
            Ok(_) | Err(RecvError::Lagged(_)) => return,
            // The task has ended: there are no notices. The caller's time limit is what is left.
            Err(RecvError::Closed) => std::future::pending().await,
        }
    }
}
