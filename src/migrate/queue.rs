//! The queue that workers share: what comes back is done later, and nobody waits behind it.

use super::interrupt::Interrupt;
use std::{
    collections::VecDeque,
    pin::pin,
    sync::{Mutex, MutexGuard},
    time::Instant,
};
use tokio::sync::Notify;

/// What becomes of a job after a try.
pub(crate) enum Returned<J> {
    Done,
    Now(J),
    At(Instant, J),
}

/// The jobs that wait for a worker.
pub(crate) struct Queue<'i, J> {
    waiting: Mutex<Waiting<J>>,
    /// A job came back.
    changed: Notify,
    interrupt: &'i Interrupt,
}

struct Waiting<J> {
    ready: VecDeque<J>,
    /// Not before its time.
    later: Vec<(Instant, J)>,
    /// With a worker just now, and may come back.
    out: usize,
    stopped: bool,
}

impl<'i, J> Queue<'i, J> {
    pub(crate) fn new(jobs: Vec<J>, interrupt: &'i Interrupt) -> Self {
        let waiting = Waiting { ready: jobs.into(), later: Vec::new(), out: 0, stopped: false };
        Self { waiting: Mutex::new(waiting), changed: Notify::new(), interrupt }
    }

    /// The next job; `None` when there is none left or the run is to end.
    pub(crate) async fn next(&self) -> Option<J> {
        loop {
            let mut changed = pin!(self.changed.notified());
            // Before the look, so that what comes back meanwhile is noticed.
            changed.as_mut().enable();
            let next_due = {
                let mut waiting = self.waiting();
                if waiting.stopped || self.interrupt.is_stopping() {
                    return None;
                }
                if let Some(job) = waiting.take(Instant::now()) {
                    waiting.out += 1;
                    return Some(job);
                }
                if waiting.later.is_empty() && waiting.out == 0 {
                    return None;
                }
                waiting.later.iter().map(|(due, _)| *due).min()
            };
            let due = async {
                match next_due {
                    Some(due) => tokio::time::sleep_until(due.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = changed => {}
                () = due => {}
                () = self.interrupt.stopping() => {}
            }
        }
    }

    pub(crate) fn put(&self, returned: Returned<J>) {
        let mut waiting = self.waiting();
        waiting.out -= 1;
        match returned {
            Returned::Done => {}
            Returned::Now(job) => waiting.ready.push_back(job),
            Returned::At(due, job) => waiting.later.push((due, job)),
        }
        drop(waiting);
        self.changed.notify_waiters();
    }

    pub(crate) fn stop(&self) {
        self.waiting().stopped = true;
        self.changed.notify_waiters();
    }

    /// How many jobs were not done.
    pub(crate) fn left(&self) -> usize {
        let waiting = self.waiting();
        waiting.ready.len() + waiting.later.len()
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting<J>> {
        self.waiting.lock().expect("nothing panics while it is held")
    }
}

impl<J> Waiting<J> {
    fn take(&mut self, now: Instant) -> Option<J> {
        if let Some(index) = self.later.iter().position(|(due, _)| *due <= now) {
            return Some(self.later.swap_remove(index).1);
        }
        self.ready.pop_front()
    }
}
