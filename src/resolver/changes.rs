//! Records what changed and when, from the database's notifications, in a fixed amount of memory.

use sha2::{Digest, Sha256};
use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicU64, Ordering},
};

/// The number of distinct marks. Entries with the same mark are removed together.
const MARKS: usize = 4096;

/// A digest of the name of something that can change, computed as migration 010 does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mark(u16);

impl Mark {
    /// Returns the mark of a name such as `slug:acme`.
    pub(crate) fn of(name: &str) -> Self {
        let digest = Sha256::digest(name.as_bytes());
        Self::of_number(u16::from_be_bytes([digest[0], digest[1]]))
    }

    /// Converts the number of a notification. Notifications have more marks than this process distinguishes.
    fn of_number(number: u16) -> Self {
        Self(number >> 4)
    }
}

/// A point in the sequence of changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Point(u64);

/// When each mark last changed.
pub(crate) struct Changes {
    /// Locked by the writer, so that each point represents one write.
    writing: Mutex<()>,
    now: AtomicU64,
    /// The last time that everything may have changed.
    all: AtomicU64,
    marks: Vec<AtomicU64>,
}

impl Changes {
    pub(crate) fn new() -> Self {
        let zero = || AtomicU64::new(0);
        Self { writing: Mutex::default(), now: zero(), all: zero(), marks: (0..MARKS).map(|_| zero()).collect() }
    }

    /// Returns the current point. A lookup that starts now has seen all changes up to it.
    pub(crate) fn now(&self) -> Point {
        Point(self.now.load(Ordering::SeqCst))
    }

    /// Returns whether none of these can have changed since a lookup that started at this point.
    pub(crate) fn none_since(&self, began: Point, marks: &[Mark]) -> bool {
        let before = |changed: &AtomicU64| changed.load(Ordering::SeqCst) <= began.0;
        before(&self.all) && marks.iter().all(|mark| before(&self.marks[usize::from(mark.0)]))
    }

    /// Records that everything may have changed.
    pub(crate) fn everything(&self) {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        // The change is recorded before the point: a lookup that sees the new point started after the change.
        let next = self.next();
        self.all.store(next, Ordering::SeqCst);
        self.now.store(next, Ordering::SeqCst);
    }

    /// Records the content of a notification. If it cannot be parsed, anything may have changed.
    pub(crate) fn noticed(&self, payload: &str) {
        let marks: Option<Vec<Mark>> = payload.split(',').map(mark).collect();
        let Some(marks) = marks else { return self.everything() };
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let next = self.next();
        for mark in marks {
            self.marks[usize::from(mark.0)].store(next, Ordering::SeqCst);
        }
        self.now.store(next, Ordering::SeqCst);
    }

    fn next(&self) -> u64 {
        self.now.load(Ordering::SeqCst) + 1
    }
}

fn mark(text: &str) -> Option<Mark> {
    let plain = text.len() == 4 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    plain.then(|| u16::from_str_radix(text, 16).ok().map(Mark::of_number)).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_holds_until_something_of_it_changes() {
        let changes = Changes::new();
        let (acme, globex) = (Mark::of("slug:acme"), Mark::of("slug:globex"));
        assert_ne!(acme, globex);
        let first = changes.now();
        assert!(changes.none_since(first, &[acme, globex]));
        // sha256('slug:acme') starts with these digits.
        changes.noticed(&format!("{:04x}", acme.0 << 4));
        assert!(!changes.none_since(first, &[globex, acme]) && changes.none_since(first, &[globex]));
        assert!(changes.none_since(changes.now(), &[acme]));
        changes.everything();
        assert!(!changes.none_since(first, &[globex]) && !changes.none_since(first, &[]));
    }

    #[test]
    fn what_cannot_be_read_may_mean_anything() {
        for payload in ["*", "", "12", "12345", "+123", "0x12", "zzzz", "1234,", "1234,*", "1234, 5678", "ａ123"] {
            let changes = Changes::new();
            let began = changes.now();
            changes.noticed(payload);
            assert!(!changes.none_since(began, &[]), "{payload:?}");
        }
        let changes = Changes::new();
        let began = changes.now();
        changes.noticed("1234,abcd,FFFF");
        assert!(changes.none_since(began, &[]));
        assert!(!changes.none_since(began, &[Mark::of_number(0xffff)]));
    }
}
