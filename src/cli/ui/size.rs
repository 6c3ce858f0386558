//! Formats sizes as text.

pub(crate) use cgk::report::size_text as of;
