//! The commands about the audit log.

pub(crate) mod list;
pub(crate) mod retain;

use cgk::{Operator, platform::AuditLog};

/// Makes the next months of the audit log. The command is done, whatever comes of this: nothing is lost without a month, its lines
/// are in the default partition.
pub(crate) async fn keep_months(operator: &Operator) {
    if let Err(error) = AuditLog::keep_months_of(operator).await {
        tracing::warn!(%error, "no month of the audit log was made");
    }
}
