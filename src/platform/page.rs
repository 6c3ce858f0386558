//! Pages of a list. A page starts after the key of the last row of the previous page, so every page costs the same.

use std::{
    fmt,
    str::FromStr,
    time::{Duration, SystemTime},
};
use uuid::Uuid;

/// The maximum length of a page.
const LIMIT_MAX: u32 = 1000;
const LIMIT_DEFAULT: u32 = 50;
/// The first day of year 1, in seconds before 1970. It is before every row.
const BEFORE_EPOCH: Duration = Duration::from_secs(62_135_596_800);

/// The first day of year 9000, in seconds since 1970. It is after every row.
const AFTER_EVERYTHING: Duration = Duration::from_secs(221_845_392_000);

/// The end of a page. Send its text to the client. The client sends it back to get the next page.
///
/// ```
/// use cgk::platform::Cursor;
/// let text = "1764201600000000.0195f0a0000070008000000000000001";
/// assert_eq!(text.parse::<Cursor>()?.to_string(), text);
/// assert!("1764201600000000".parse::<Cursor>().is_err());
/// # Ok::<(), cgk::platform::InvalidCursor>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor {
    created_at: SystemTime,
    id: Uuid,
}

/// A text that is not a valid cursor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this is no cursor of a page")]
pub struct InvalidCursor;

impl Cursor {
    pub(crate) fn at(created_at: SystemTime, id: impl Into<Uuid>) -> Self {
        Self { created_at, id: id.into() }
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let micros = match self.created_at.duration_since(SystemTime::UNIX_EPOCH) {
            Ok(since) => i128::try_from(since.as_micros()).unwrap_or(i128::MAX),
            Err(before) => -i128::try_from(before.duration().as_micros()).unwrap_or(i128::MAX),
        };
        write!(f, "{micros}.{}", self.id.simple())
    }
}

impl FromStr for Cursor {
    type Err = InvalidCursor;

    fn from_str(text: &str) -> Result<Self, InvalidCursor> {
        let (micros, id) = text.split_once('.').ok_or(InvalidCursor)?;
        let micros: i64 = micros.parse().map_err(|_| InvalidCursor)?;
        let since = Duration::from_micros(micros.unsigned_abs());
        // A limit that is well inside the range of the server's timestamp type.
        let created_at = match micros {
            0.. => SystemTime::UNIX_EPOCH.checked_add(since),
            _ if since > BEFORE_EPOCH => None,
            _ => SystemTime::UNIX_EPOCH.checked_sub(since),
        };
        match (created_at, id.parse()) {
            (Some(created_at), Ok(id)) if since.as_secs() < 250_000_000_000 => Ok(Self { created_at, id }),
            _ => Err(InvalidCursor),
        }
    }
}

/// Which page of a list to return. Default: the first 50 rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageRequest {
    after: Option<Cursor>,
    limit: u32,
}

impl Default for PageRequest {
    fn default() -> Self {
        Self { after: None, limit: LIMIT_DEFAULT }
    }
}

impl PageRequest {
    /// Returns the rows after the end of another page.
    pub fn after(mut self, cursor: Cursor) -> Self {
        self.after = Some(cursor);
        self
    }

    /// Sets the maximum number of rows: 1 to 1,000.
    pub fn limit(mut self, rows: u32) -> Self {
        self.limit = rows.clamp(1, LIMIT_MAX);
        self
    }

    /// Returns the time and the id after which the rows come.
    pub(crate) fn start(&self) -> (SystemTime, Uuid) {
        match self.after {
            Some(cursor) => (cursor.created_at, cursor.id),
            None => (SystemTime::UNIX_EPOCH - BEFORE_EPOCH, Uuid::nil()),
        }
    }

    /// Returns the time and the id before which the rows come, in a list that is sorted newest first.
    pub(crate) fn start_of_newest(&self) -> (SystemTime, Uuid) {
        match self.after {
            Some(cursor) => (cursor.created_at, cursor.id),
            None => (SystemTime::UNIX_EPOCH + AFTER_EVERYTHING, Uuid::max()),
        }
    }

    /// Returns one row more than the page has, to detect whether there is a next page.
    pub(crate) fn rows(&self) -> i64 {
        i64::from(self.limit) + 1
    }

    /// Returns the page of the rows that were found.
    pub(crate) fn page<T>(&self, mut rows: Vec<T>, cursor: impl Fn(&T) -> Cursor) -> Page<T> {
        let limit = self.limit as usize;
        let more = rows.len() > limit;
        rows.truncate(limit);
        let next = rows.last().filter(|_| more).map(cursor);
        Page { items: rows, next }
    }
}

/// A page of a list, oldest rows first. In the audit log the newest rows are first.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Page<T> {
    /// The rows.
    pub items: Vec<T>,
    /// The start of the next page. `None`: this is the last page.
    pub next: Option<Cursor>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_keeps_its_place() {
        let id: Uuid = "0195f0a0-0000-7000-8000-000000000001".parse().unwrap();
        for at in [SystemTime::UNIX_EPOCH + Duration::from_micros(1_764_201_600_000_001), SystemTime::UNIX_EPOCH] {
            let cursor = Cursor::at(at, id);
            assert_eq!(cursor.to_string().parse(), Ok(cursor));
        }
        let text = format!("-5.{}", id.simple());
        assert_eq!(text.parse::<Cursor>().unwrap().to_string(), text);
        for bad in ["", ".", "1.", ".0", "x.0195f0a0000070008000000000000001", "1.2", &format!("{}.{id}", i64::MIN)] {
            assert_eq!(bad.parse::<Cursor>(), Err(InvalidCursor), "{bad}");
        }
    }

    #[test]
    fn a_page_ends_where_the_next_one_begins() {
        let cursor = |n: &u64| Cursor::at(SystemTime::UNIX_EPOCH + Duration::from_secs(*n), Uuid::nil());
        let request = PageRequest::default().limit(2);
        assert_eq!(request.rows(), 3);
        let page = request.page(vec![1, 2, 3], cursor);
        assert_eq!((page.items, page.next), (vec![1, 2], Some(cursor(&2))));
        assert_eq!(request.page(vec![1, 2], cursor).next, None);
        assert_eq!((PageRequest::default().limit(0).rows(), PageRequest::default().limit(5000).rows()), (2, 1001));
    }
}
