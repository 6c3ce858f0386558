//! Splits a connection string, `postgresql://…` or `key=value …`, into its parts, as libpq does.
//!
//! Other modules interpret the options. No message contains a part of the text: if a password was not escaped, any part
//! may belong to it.

use super::error::ValueProblem;
use super::parts::Parts;
use super::{dsn, url};

impl Parts {
    /// Splits a connection string into its parts.
    pub(super) fn parse(text: &str) -> Result<Parts, ValueProblem> {
        let text = text.trim();
        if text.contains('\0') {
            return Err(ValueProblem::invalid("contains a NUL character", "Remove the NUL character."));
        }
        match text.split_once("://") {
            Some(("postgres" | "postgresql", rest)) => url::parse(rest),
            Some((scheme, _)) if is_scheme(scheme) => Err(ValueProblem::invalid(
                "does not start with postgresql://",
                "Write the URL with postgresql:// in front, without `jdbc:` and without a driver such as `+asyncpg`.",
            )),
            _ if text.contains('=') => dsn::parse(text),
            _ => Err(ValueProblem::invalid(
                "is neither a URL nor key=value pairs",
                "Write it as postgresql://user:password@host:5432/database.",
            )),
        }
    }
}

fn is_scheme(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "+-.:".contains(c))
}
