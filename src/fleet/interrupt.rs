//! Stops a run early.

use std::sync::Arc;
use tokio::sync::watch;

/// Stops a run early, in two stages. At the first stage, no new work starts. At the second stage, running work is also
/// cancelled. Cloning is cheap, and all clones control the same run.
///
/// ```
/// let interrupt = cgk::migrate::Interrupt::new();
/// let options = cgk::migrate::RunOptions::default().interrupt(&interrupt);
/// interrupt.stop(); // as after the first Ctrl-C: the schemas under way are finished, no other is begun
/// interrupt.cancel(); // as after the second: they are cancelled and rolled back
/// ```
#[derive(Clone, Debug)]
pub struct Interrupt {
    stage: Arc<watch::Sender<InterruptStage>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum InterruptStage {
    Idle,
    Running,
    Stopping,
    Cancelling,
}

impl Default for Interrupt {
    fn default() -> Self {
        Self::new()
    }
}

impl Interrupt {
    /// Creates an interrupt in the initial state.
    pub fn new() -> Self {
        Self { stage: Arc::new(watch::Sender::new(InterruptStage::Idle)) }
    }

    /// Asks the run to start no further schema.
    pub fn stop(&self) {
        self.raise(InterruptStage::Stopping);
    }

    /// Asks the run to cancel the running schemas as well. The server rolls them back.
    pub fn cancel(&self) {
        self.raise(InterruptStage::Cancelling);
    }

    /// Returns whether a run is using this interrupt.
    pub fn is_heard(&self) -> bool {
        *self.stage.borrow() >= InterruptStage::Running
    }

    pub(crate) fn listen(&self) {
        self.raise(InterruptStage::Running);
    }

    pub(crate) fn is_stopping(&self) -> bool {
        *self.stage.borrow() >= InterruptStage::Stopping
    }

    pub(crate) fn is_cancelling(&self) -> bool {
        *self.stage.borrow() >= InterruptStage::Cancelling
    }

    /// Waits until the run is asked to stop. If the future is dropped, nothing is lost.
    pub(crate) async fn stopping(&self) {
        self.reached(InterruptStage::Stopping).await;
    }

    /// Waits until the run is asked to cancel. If the future is dropped, nothing is lost.
    pub(crate) async fn cancelling(&self) {
        self.reached(InterruptStage::Cancelling).await;
    }

    async fn reached(&self, wanted: InterruptStage) {
        // The sender is in `self`, so the channel cannot be closed.
        let _ = self.stage.subscribe().wait_for(|stage| *stage >= wanted).await;
    }

    fn raise(&self, wanted: InterruptStage) {
        self.stage.send_if_modified(|stage| {
            let raised = *stage < wanted;
            *stage = (*stage).max(wanted);
            raised
        });
    }
}
