//! The queue that workers share. A returned job is tried again later, and other jobs do not wait for it.

use super::interrupt::Interrupt;
use std::{
    collections::VecDeque,
    pin::pin,
    sync::{Mutex, MutexGuard},
    time::Instant,
};
use tokio::sync::Notify;

/// The next step for a job after an attempt.
pub(crate) enum Returned<J> {
    Done,
    Now(J),
    At(Instant, J),
    /// Run the job after all others, without parallel work, because it conflicts with them.
    Alone(J),
}

/// The jobs that wait for a worker.
pub(crate) struct Queue<'i, J> {
    waiting: Mutex<WaitingJobs<J>>,
    /// Notified when a job is returned or the queue stops.
    changed: Notify,
    interrupt: &'i Interrupt,
}

struct WaitingJobs<J> {
    ready: VecDeque<J>,
    /// The jobs that must wait, each with its time.
    later: Vec<(Instant, J)>,
    /// The jobs that run one at a time, after all others.
    alone: VecDeque<J>,
    /// The number of jobs that workers have taken and may return.
    out: usize,
    /// Whether a taken job must run without parallel work.
    alone_out: bool,
    stopped: bool,
}

impl<'i, J> Queue<'i, J> {
    pub(crate) fn new(jobs: Vec<J>, interrupt: &'i Interrupt) -> Self {
        let waiting = WaitingJobs {
            ready: jobs.into(),
            later: Vec::new(),
            alone: VecDeque::new(),
            out: 0,
            alone_out: false,
            stopped: false,
        };
        Self { waiting: Mutex::new(waiting), changed: Notify::new(), interrupt }
    }

    /// Returns the next job, or `None` if there is none left or the run must stop.
    pub(crate) async fn next(&self) -> Option<J> {
        loop {
            let mut changed = pin!(self.changed.notified());
            // The notification is enabled before the check, so that no job that is returned meanwhile is missed.
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
                if waiting.later.is_empty() && waiting.alone.is_empty() && waiting.out == 0 {
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
        waiting.alone_out = false;
        match returned {
            Returned::Done => {}
            Returned::Now(job) => waiting.ready.push_back(job),
            Returned::At(due, job) => waiting.later.push((due, job)),
            Returned::Alone(job) => waiting.alone.push_back(job),
        }
        drop(waiting);
        self.changed.notify_waiters();
    }

    pub(crate) fn stop(&self) {
        self.waiting().stopped = true;
        self.changed.notify_waiters();
    }

    /// Returns the number of jobs that wait in the queue.
    pub(crate) fn left(&self) -> usize {
        let waiting = self.waiting();
        waiting.ready.len() + waiting.later.len() + waiting.alone.len()
    }

    fn waiting(&self) -> MutexGuard<'_, WaitingJobs<J>> {
        self.waiting.lock().expect("nothing panics while it is held")
    }
}

impl<J> WaitingJobs<J> {
    fn take(&mut self, now: Instant) -> Option<J> {
        if self.alone_out {
            return None;
        }
        if let Some(index) = self.later.iter().position(|(due, _)| *due <= now) {
            return Some(self.later.swap_remove(index).1);
        }
        if let Some(job) = self.ready.pop_front() {
            return Some(job);
        }
        let job = if self.later.is_empty() && self.out == 0 { self.alone.pop_front() } else { None };
        self.alone_out = job.is_some();
        job
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt as _;

    /// Returns the next job, if one is available without waiting.
    fn now(queue: &Queue<'_, u32>) -> Option<u32> {
        queue.next().now_or_never().flatten()
    }

    #[tokio::test]
    async fn a_job_that_collides_is_done_last_and_with_nobody_beside_it() {
        let interrupt = Interrupt::default();
        let queue = Queue::new(vec![1, 2, 3], &interrupt);
        assert_eq!((now(&queue), now(&queue)), (Some(1), Some(2)));
        queue.put(Returned::Alone(1));
        assert_eq!(now(&queue), Some(3));
        queue.put(Returned::Alone(2));
        assert_eq!((now(&queue), queue.left()), (None, 2), "3 is still with a worker");
        queue.put(Returned::Done);
        assert_eq!(now(&queue), Some(1));
        assert_eq!(now(&queue), None, "one at a time");
        queue.put(Returned::Now(1));
        // Returned jobs run first, in parallel again.
        assert_eq!(now(&queue), Some(1));
        queue.put(Returned::Done);
        assert_eq!(now(&queue), Some(2));
        queue.put(Returned::Done);
        assert_eq!((queue.next().await, queue.left()), (None, 0));
    }

    #[tokio::test]
    async fn a_job_alone_waits_for_those_that_are_due_later() {
        let interrupt = Interrupt::default();
        let queue = Queue::new(vec![1, 2], &interrupt);
        assert_eq!((now(&queue), now(&queue)), (Some(1), Some(2)));
        queue.put(Returned::Alone(1));
        queue.put(Returned::At(Instant::now() + std::time::Duration::from_millis(20), 2));
        assert_eq!(queue.next().await, Some(2));
        queue.put(Returned::Done);
        assert_eq!(queue.next().await, Some(1));
    }
}
