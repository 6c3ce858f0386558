//! Pauses between attempts to get a lock without waiting in the server.

use crate::db::Operator;
use rand::RngExt as _;
use std::time::{Duration, Instant};

const POLL_FIRST: Duration = Duration::from_millis(20);
const POLL_MAX: Duration = Duration::from_millis(500);

/// The pauses between checks of something that another session must end, up to a limit.
pub(crate) struct PollBackoff {
    began: Instant,
    wait: Duration,
    pause: Duration,
}

impl PollBackoff {
    pub(in crate::migrate) fn of(operator: &Operator) -> Self {
        Self::within(operator.session().migration_wait)
    }

    pub(crate) fn within(wait: Duration) -> Self {
        Self { began: Instant::now(), wait, pause: POLL_FIRST }
    }

    /// Waits for the next pause. Returns false when the limit is reached.
    pub(in crate::migrate) async fn wait(&mut self) -> bool {
        let left = self.wait.saturating_sub(self.began.elapsed());
        if left.is_zero() {
            return false;
        }
        let pause = self.pause.mul_f64(rand::rng().random_range(0.5..1.5)).min(left);
        tokio::time::sleep(pause).await;
        self.pause = (self.pause * 2).min(POLL_MAX);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_wait_of_ages_is_no_panic_and_none_ends_at_once() {
        assert!(PollBackoff::within(Duration::MAX).wait().await);
        assert!(!PollBackoff::within(Duration::ZERO).wait().await);
    }
}
