//! Deletes the large objects of a tenant's role.

use super::{Run, StepOutcome};
use crate::{access::isolation, error::Result, ident::RoleName};
use tokio_postgres::types::Type;

/// The number of large objects that one transaction deletes.
const LARGE_OBJECTS_MAX: u32 = 200;

impl Run<'_> {
    /// Deletes the large objects of the tenant's role, which are outside of the schema.
    pub(super) async fn remove_large_objects(&self) -> Result<()> {
        let Some(role) = &self.doomed.role else { return Ok(()) };
        let sql = "select exists (select from pg_catalog.pg_largeobject_metadata l join pg_catalog.pg_roles r on r.oid = l.lomowner
                   where r.rolname::pg_catalog.text = $1)";
        loop {
            let rows =
                self.operator.client().query_typed(sql, &[(&role.as_str(), Type::TEXT)]).await.map_err(self.doing())?;
            if rows.first().map(|row| row.try_get(0)).transpose().map_err(self.doing())? != Some(true) {
                return Ok(());
            }
            let some = format!(
                "{}{}select pg_catalog.lo_unlink(l.oid) from (select m.oid from pg_catalog.pg_largeobject_metadata m
    where m.lomowner = (select r.oid from pg_catalog.pg_roles r where r.rolname = current_user) limit {LARGE_OBJECTS_MAX}) l;\n",
                self.opening(),
                self.as_role(role),
            );
            match self.send(&some).await? {
                StepOutcome::Done => {}
                StepOutcome::Stale(error) => return Err(self.doing()(error)),
                StepOutcome::TooManyLocks => return Err(self.changed()),
            }
        }
    }

    fn as_role(&self, role: &RoleName) -> String {
        let (own, presence) = (self.operator.facts(), self.doomed.facts.presence());
        format!("{}set local role {};\n", isolation::role_sql(own, role, presence), role.quoted())
    }
}
