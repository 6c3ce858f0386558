//! Deletes the registry row in the last step. Before anything is dropped, tests whether this step and the drop of a
//! table are possible.

use super::{
    Doomed, MORE_LOCKS, Run, StepOutcome, demand_none,
    inventory::{DroppedObjects, dependents_sql},
    rights,
};
use crate::{
    access::isolation,
    binding,
    error::{Error, Result},
    lock,
    migration::LEDGER_TABLE,
    registry, row_check,
    tenant::OrganizationId,
};
use tokio_postgres::error::SqlState;

impl Run<'_> {
    /// Drops the ledger and deletes the registry row as later steps do, and rolls back. Otherwise an event trigger, a
    /// trigger, or a row that refers to the registry indirectly could refuse the deletion after the tables are dropped.
    pub(super) async fn try_to_delete(&self) -> Result<()> {
        self.try_to_drop_ledger().await?;
        let Doomed { facts, schema, .. } = &self.doomed;
        let mut sql = self.opening();
        if facts.owner.is_some() {
            // For the registry's guard, the schema then belongs to another organization.
            let other = OrganizationId(uuid::Uuid::nil());
            sql.push_str(&self.as_owner());
            sql.push_str(&binding::comment_sql(schema, other, None));
            sql.push_str("reset role;\n");
        }
        sql.push_str(&registry::delete_sql(self.doomed.id()));
        // This also finds checks that would fail only at the end of the transaction.
        sql.push_str("set constraints all immediate;\nrollback;\n");
        match self.send(&sql).await {
            Ok(StepOutcome::Done) => Ok(()),
            Ok(StepOutcome::Stale(error)) => Err(self.doing()(error)),
            Ok(StepOutcome::TooManyLocks) => Err(self.changed()),
            Err(error) => match error.server().filter(|answer| row_check::is_refusal(answer)) {
                Some(answer) => {
                    Err(self.blocked(vec![format!("its row in the registry cannot be deleted: {}", answer.message())]))
                }
                None => Err(error),
            },
        }
    }

    async fn try_to_drop_ledger(&self) -> Result<()> {
        let Doomed { facts, schema, .. } = &self.doomed;
        if facts.owner.is_none() || !facts.has_ledger {
            return Ok(());
        }
        let ledger = schema.qualified(LEDGER_TABLE);
        let sql = format!("{}{}drop table {ledger};\nrollback;\n", self.opening(), self.as_owner());
        let refused = |message: &str| self.blocked(vec![format!("no table of it can be dropped: {message}")]);
        match self.send(&sql).await {
            Ok(StepOutcome::Done) => Ok(()),
            Ok(StepOutcome::TooManyLocks) => Err(self.changed()),
            Ok(StepOutcome::Stale(error)) => match error.as_db_error() {
                Some(answer) => Err(refused(answer.message())),
                None => Err(self.doing()(error)),
            },
            Err(error) => match error.server().filter(|answer| is_refusal_of_the_application(answer.code())) {
                Some(answer) => Err(refused(answer.message())),
                None => Err(error),
            },
        }
    }

    /// Drops the schema and the role, and deletes the registry row, in one transaction.
    pub(super) async fn finish(&self) -> Result<()> {
        let Doomed { facts, schema, role, .. } = &self.doomed;
        let mut sql = self.opening();
        sql.push_str(&format!("select pg_catalog.pg_advisory_xact_lock({});\n", lock::tenant_key(self.slug())));
        if facts.owner.is_some() {
            sql.push_str(&self.demand_marked());
            sql.push_str(&demand_none(&dependents_sql(schema, &DroppedObjects::Schema)));
            sql.push_str(&format!("{}drop schema {} cascade;\nreset role;\n", self.as_owner(), schema.quoted()));
        }
        if let Some(role) = role {
            sql.push_str(&rights::revoke_sql(self.operator.facts(), schema, role));
            sql.push_str(&isolation::drop_role_sql(self.operator.facts(), role));
        }
        sql.push_str(&registry::delete_sql(self.doomed.id()));
        match self.send(&sql).await? {
            StepOutcome::Done => Ok(()),
            StepOutcome::Stale(error) => Err(self.doing()(error)),
            StepOutcome::TooManyLocks => Err(Error::Unexpected {
                doing: format!("drop schema {:?} with what is left in it", schema.as_str()),
                found: MORE_LOCKS.into(),
            }),
        }
    }
}

/// Whether a trigger refused the statement. `false` if the server's state or a missing right is the cause.
fn is_refusal_of_the_application(state: &SqlState) -> bool {
    let code = state.code();
    !["08", "40", "53", "55", "57", "58", "XX"].iter().any(|class| code.starts_with(class))
        && *state != SqlState::INSUFFICIENT_PRIVILEGE
}
