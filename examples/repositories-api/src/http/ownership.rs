//! Whose a record is, before it is changed.

use cgk::{TenantContext, axum::Problem, ownership::Owned};

/// A record that is to be changed or deleted: 404 where there is none, 403 where it is another organization's.
///
/// A record of another organization cannot be in the tenant's schema unless somebody put it there. Reading treats it as not there
/// (`TenantContext::own`); changing it is refused by name, and the log has a line of it.
pub fn changeable<R: Owned>(context: &TenantContext, found: Option<R>) -> Result<R, Problem> {
    match found {
        Some(record) => {
            context.check_access(&record)?;
            Ok(record)
        }
        None => Ok(context.own(None)?),
    }
}
