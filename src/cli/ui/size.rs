//! Sizes for people.

pub(crate) use cgk::report::size_text as of;
