//! How a run is asked to end before it is done.

use std::sync::Arc;
use tokio::sync::watch;

/// Asks a run to end early, in two stages: to begin nothing more, and then to give up what is under way as well. Cheap to
/// clone; every clone speaks to the same run.
///
/// ```
/// let interrupt = cgk::migrate::Interrupt::new();
/// let options = cgk::migrate::RunOptions::default().interrupt(&interrupt);
/// interrupt.stop(); // as after the first Ctrl-C: the schemas under way are finished, no other is begun
/// interrupt.cancel(); // as after the second: they are cancelled and rolled back
/// ```
#[derive(Clone, Debug)]
pub struct Interrupt {
    stage: Arc<watch::Sender<Stage>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
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
    /// One that asks for nothing yet.
    pub fn new() -> Self {
        Self { stage: Arc::new(watch::Sender::new(Stage::Idle)) }
    }

    /// Asks the run to begin no further schema.
    pub fn stop(&self) {
        self.raise(Stage::Stopping);
    }

    /// Asks the run to cancel the schemas under way as well; the server rolls them back.
    pub fn cancel(&self) {
        self.raise(Stage::Cancelling);
    }

    /// Whether a run is under way that listens.
    pub fn is_heard(&self) -> bool {
        *self.stage.borrow() >= Stage::Running
    }

    pub(crate) fn listen(&self) {
        self.raise(Stage::Running);
    }

    pub(crate) fn is_stopping(&self) -> bool {
        *self.stage.borrow() >= Stage::Stopping
    }

    pub(crate) fn is_cancelling(&self) -> bool {
        *self.stage.borrow() >= Stage::Cancelling
    }

    /// Waits until the run is asked to stop; cancel safe.
    pub(crate) async fn stopping(&self) {
        self.reached(Stage::Stopping).await;
    }

    /// Waits until the run is asked to cancel; cancel safe.
    pub(crate) async fn cancelling(&self) {
        self.reached(Stage::Cancelling).await;
    }

    async fn reached(&self, wanted: Stage) {
        // The sender is in `self`, so the channel cannot be closed.
        let _ = self.stage.subscribe().wait_for(|stage| *stage >= wanted).await;
    }

    fn raise(&self, wanted: Stage) {
        self.stage.send_if_modified(|stage| {
            let raised = *stage < wanted;
            *stage = (*stage).max(wanted);
            raised
        });
    }
}
