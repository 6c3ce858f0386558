//! Lines of setup's output that several parts use.

use cgk::{Error, TenantSlug};
use serde::Serialize;

use crate::cli::ui::{
    report::Report,
    style::{GOOD, WARNING, paint},
};

pub(in crate::cli) fn ok(text: String) -> String {
    format!("  {}  {text}", paint(GOOD, "ok"))
}

pub(in crate::cli) fn warning(text: String) -> String {
    format!("  {}  {text}", paint(WARNING, "!!"))
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
