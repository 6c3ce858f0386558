//! Lines of setup's output that several parts use.

use cgk::{Error, TenantSlug};
use serde::Serialize;

use crate::cli::ui::{
    report::Report,
    style::{GOOD, WARNING, paint, sanitize},
};

pub(in crate::cli) fn ok(text: String) -> String {
    format!("  {}  {text}", paint(GOOD, "ok"))
}

pub(in crate::cli) fn warning(text: String) -> String {
    format!("  {}  {text}", paint(WARNING, "!!"))
}

/// Returns the message about schemas of no tenant on which a login has rights.
pub(super) fn on_strays(schemas: &[String]) -> String {
    format!("it has direct rights on schemas of no tenant, which no command changes: {}", names(schemas))
}

/// Returns the first names of a list, and how many more there are.
pub(super) fn names(all: &[String]) -> String {
    const NAMED_MAX: usize = 5;
    let named: Vec<_> = all.iter().take(NAMED_MAX).map(|name| sanitize(name)).collect();
    match all.len().saturating_sub(NAMED_MAX) {
        0 => named.join(", "),
        more => format!("{} and {more} more", named.join(", ")),
    }
}

/// A schema that could not be bound to its organization.
#[derive(Serialize)]
pub(in crate::cli) struct NotBoundView {
    tenant: String,
    error: Report,
}

impl NotBoundView {
    pub(in crate::cli) fn of((tenant, error): &(TenantSlug, Error)) -> Self {
        Self { tenant: tenant.to_string(), error: Report::of_library(error) }
    }
}
