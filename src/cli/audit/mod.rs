//! The commands about the audit log.

pub(crate) mod list;
pub(crate) mod retain;

use cgk::{Operator, platform::AuditLog};

/// Creates the next months of the audit log. A failure does not fail the command. Without a month, no rows are lost:
/// they are stored in the default partition.
pub(crate) async fn keep_months(operator: &Operator) {
    if let Err(error) = AuditLog::keep_months_of(operator).await {
        tracing::warn!(%error, "no month of the audit log was made");
    }
}
