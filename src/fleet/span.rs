//! The spans of an operation over many tenants: one for the operation, one for each step, and one for each attempt at a
//! tenant.
//!
//! All have the level `debug`, the target `cgk::fleet` and the fields `operation` and `outcome`. `outcome` is recorded
//! at the end. It is missing if the future was dropped.

use super::stop::Stop;
use crate::slug::TenantSlug;
use std::future::Future;
use tracing::{Instrument as _, Span, field::Empty};

/// Returns the span of the complete operation.
pub(crate) fn of_run(operation: &'static str) -> Span {
    tracing::debug_span!(target: "cgk::fleet", "cgk", operation, run = Empty, outcome = Empty)
}

/// Returns the span of a step that concerns several tenants or the shared schema.
pub(crate) fn of_step(operation: &'static str, step: &'static str) -> Span {
    tracing::debug_span!(target: "cgk::fleet", "cgk", operation, step, outcome = Empty)
}

/// Returns the span of an attempt at a tenant. `attempt` starts at 1.
pub(crate) fn of_tenant(operation: &'static str, slug: &TenantSlug, attempt: u32) -> Span {
    tracing::debug_span!(target: "cgk::fleet", "cgk", operation, tenant = slug.as_str(), attempt, outcome = Empty)
}

/// Runs work inside its span, and records its outcome there.
pub(crate) async fn recorded<T>(
    span: Span,
    work: impl Future<Output = T>,
    outcome: impl FnOnce(&T) -> &'static str,
) -> T {
    let result = work.instrument(span.clone()).await;
    span.record("outcome", outcome(&result));
    result
}

/// Returns the outcome of a step: `done` or `failed`.
pub(crate) fn of_result<T, E>(result: &Result<T, E>) -> &'static str {
    if result.is_ok() { "done" } else { "failed" }
}

/// Returns the outcome of the work of a pool: `done` or `stopped`. Each tenant has a separate outcome.
pub(crate) fn of_work(stopped: &Option<Stop>) -> &'static str {
    if stopped.is_none() { "done" } else { "stopped" }
}
