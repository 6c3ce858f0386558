//! Whether the registry's row can be deleted, found out before anything is dropped.

use super::{Doomed, Run, Step};
use crate::{
    binding,
    error::{Error, Result, TenantError},
    registry, row_check,
    tenant::OrganizationId,
};

impl Run<'_> {
    /// Deletes the registry's row as the last step does, and rolls back: a row further away than the tables that refer to the registry,
    /// or a trigger, would otherwise refuse it when the tables are gone.
    pub(super) async fn try_to_delete_row(&self) -> Result<()> {
        let Doomed { facts, schema, .. } = &self.doomed;
        let mut sql = self.opening();
        if facts.owner.is_some() {
            // To the registry's guard it is another organization's schema.
            let other = OrganizationId(uuid::Uuid::nil());
            sql.push_str(&self.as_owner());
            sql.push_str(&binding::comment_sql(schema, other, None));
            sql.push_str("reset role;\n");
        }
        sql.push_str(&registry::delete_sql(self.doomed.id()));
        // Also what would be refused at the end of the transaction only.
        sql.push_str("set constraints all immediate;\nrollback;\n");
        match self.send(&sql).await {
            Ok(Step::Done) => Ok(()),
            Ok(Step::Stale | Step::TooManyLocks) => Err(self.changed()),
            Err(error) => match error.server().filter(|answer| row_check::is_refusal(answer)) {
                Some(answer) => {
                    let by = vec![format!("its row in the registry cannot be deleted: {}", answer.message())];
                    Err(Error::Tenant(TenantError::DropBlocked { tenant: self.slug().clone(), by }))
                }
                None => Err(error),
            },
        }
    }
}
