//! Receives the notifications of changes on its own connection, and records whether they arrive.

use super::changes::Changes;
use crate::{
    error::{ConnectionError, Error},
    ident::Ident,
    registry,
    tenancy::{Db, Listener},
};
use rand::RngExt as _;
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::{
    sync::{Notify, watch},
    time::MissedTickBehavior,
};

/// The channel of migration 010.
const CHANNEL: &str = "cgk_changes";
const PAUSE_FIRST: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// Whether notifications of changes in the database arrive.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NoticeState {
    /// They arrive: a changed object is looked up again at once.
    Received,
    /// They do not arrive: answers are used for [`time_max_unnotified`](super::ResolverSettings::time_max_unnotified),
    /// until the connection and the triggers of migration 010 exist again.
    NotReceived {
        /// The reason, for a log.
        why: String,
    },
    /// They cannot arrive: the connection goes through a transaction pooler, which does not support LISTEN. Answers are
    /// used for [`time_max_unnotified`](super::ResolverSettings::time_max_unnotified).
    Unavailable {
        /// The reason, for a log.
        why: String,
    },
}

/// The state that the receiving task shares with the lookups.
pub(crate) struct Notices {
    pub(crate) changes: Changes,
    state: watch::Sender<NoticeState>,
    /// When the last answered query was sent; `None`: notifications do not arrive.
    heard: watch::Sender<Option<Instant>>,
    /// Requests that a query is sent now.
    wanted: Notify,
    silence_max: Duration,
    /// No log line is needed when receiving stops: it was already written, or the last handle was dropped.
    ended: AtomicBool,
}

impl Notices {
    pub(crate) fn new(silence_max: Duration) -> Self {
        let state = NoticeState::NotReceived { why: "the connection is being made".into() };
        Self {
            changes: Changes::new(),
            state: watch::Sender::new(state),
            heard: watch::Sender::new(None),
            wanted: Notify::new(),
            silence_max,
            ended: AtomicBool::new(false),
        }
    }

    /// Suppresses the log line when receiving stops.
    pub(crate) fn end(&self) {
        self.ended.store(true, Ordering::Relaxed);
    }

    pub(crate) fn state(&self) -> watch::Receiver<NoticeState> {
        self.state.subscribe()
    }

    /// Returns whether every change has arrived that was committed longer ago than the longest silence.
    pub(crate) fn are_received(&self) -> bool {
        self.heard.borrow().is_some_and(|heard| heard.elapsed() < self.silence_max)
    }

    /// Waits until every change that was committed before this call is processed, or until notifications no longer
    /// arrive.
    pub(crate) async fn caught_up(&self) {
        let called = Instant::now();
        let mut heard = self.heard.subscribe();
        self.wanted.notify_one();
        // The sender exists at least as long as this borrow.
        let _ = heard.wait_for(|heard| heard.is_none_or(|heard| heard >= called)).await;
    }

    /// Records that a query sent at this time was answered, and that the database notifies of every change.
    fn heard_at(&self, asked: Instant) {
        if *self.state.borrow() == NoticeState::Received {
            self.heard.send_replace(Some(asked));
            return;
        }
        // Cached answers may have changed while no notifications arrived.
        self.changes.everything();
        self.heard.send_replace(Some(asked));
        self.state.send_replace(NoticeState::Received);
        tracing::info!(target: "cgk::resolver", "changes of tenants and credentials are received");
    }

    fn become_unnotified(&self, state: NoticeState) {
        let (NoticeState::NotReceived { why } | NoticeState::Unavailable { why }) = &state else { return };
        // The line is logged once per reason, not at each attempt.
        if *self.state.borrow() != state {
            tracing::warn!(target: "cgk::resolver", %why, "changes of tenants and credentials are not received; answers are used for a short time only");
        }
        // The state is set last: when a waiting call sees it, everything else matches it.
        self.heard.send_replace(None);
        self.state.send_replace(state);
    }
}

/// Dropped when the receiving task ends. Its drop records that notifications no longer arrive.
pub(crate) struct Ending(pub(crate) Arc<Notices>);

impl Drop for Ending {
    fn drop(&mut self) {
        if !self.0.ended.load(Ordering::Relaxed) {
            let why = "the task that receives them has ended with the runtime that the resolver was created on".into();
            self.0.become_unnotified(NoticeState::NotReceived { why });
        }
    }
}

/// Receives notifications until the task is aborted, the pool is closed, or notifications are not possible.
pub(crate) async fn receive<E: Send + 'static>(db: Db<E>, ending: Ending) {
    let notices = &ending.0;
    let why = tokio::select! {
        why = receive_all(&db, notices) => NoticeState::Unavailable { why },
        () = db.until_closed() => NoticeState::NotReceived { why: "the pool is closed".into() },
    };
    notices.become_unnotified(why);
    notices.end();
}

/// Receives notifications, with a new connection after each lost one; returns why they are not possible.
async fn receive_all<E: Send + 'static>(db: &Db<E>, notices: &Notices) -> String {
    let channel = Ident::new(CHANNEL).expect("a short name is an identifier");
    let mut pause = PAUSE_FIRST;
    loop {
        let why = match db.listen(std::slice::from_ref(&channel)).await {
            Ok(listener) => follow(listener, notices, &mut pause).await,
            Err(error @ Error::Connection(ConnectionError::PoolerRefused { .. })) => return error.report(),
            Err(error) => error.report(),
        };
        notices.become_unnotified(NoticeState::NotReceived { why });
        let random: f64 = rand::rng().random_range(0.5..1.5);
        tokio::time::sleep(pause.mul_f64(random)).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

/// Processes notifications until the connection is lost or silent; returns the reason.
async fn follow(mut listener: Listener, notices: &Notices, pause: &mut Duration) -> String {
    let silence_max = notices.silence_max;
    // The first query is sent immediately.
    let mut due = tokio::time::interval((silence_max / 4).max(Duration::from_millis(1)));
    due.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let question = registry::unnotified_sql();
    let mut asked = Instant::now();
    // The query in flight.
    let mut ping = None;
    loop {
        tokio::select! {
            biased;
            received = listener.recv() => match received {
                Ok(notification) => notices.changes.noticed(notification.payload()),
                Err(error) => return error.report(),
            },
            answer = async { ping.as_mut().expect("there is a question").await }, if ping.is_some() => {
                ping = None;
                let unnotified: Option<String> = match answer {
                    Ok(Ok(unnotified)) => unnotified,
                    Ok(Err(error)) => return Error::report(&error),
                    Err(_) => return format!("the server has not answered in {silence_max:?}"),
                };
                // Everything committed before the query has arrived by now.
                while let Some(notification) = listener.try_recv() {
                    notices.changes.noticed(notification.payload());
                }
                *pause = PAUSE_FIRST;
                match unnotified {
                    None => notices.heard_at(asked),
                    Some(why) => notices.become_unnotified(NoticeState::NotReceived { why }),
                }
            }
            () = async { tokio::select! { _ = due.tick() => {}, () = notices.wanted.notified() => {} } }, if ping.is_none() => {
                asked = Instant::now();
                ping = Some(Box::pin(tokio::time::timeout(silence_max, listener.ask(&question))));
            }
        }
    }
}
