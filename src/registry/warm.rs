//! The schemas that are ready for new tenants, in the table `public.cgk_warm`. They belong to no organization.

use crate::{
    config::Isolation,
    db::{Operator, message, message_head::MessageHead, own_table},
    error::{Result, while_doing},
    ident::{Ident, RoleName, SchemaName, literal},
    lock,
    migration::LEDGER_TABLE,
    registry::RoleState,
};
use tokio_postgres::{
    Row,
    error::SqlState,
    types::{ToSql, Type},
};

const WARM: &str = "public.cgk_warm";

/// The comment on the shared schema's ledger, which contains a digest of its rows.
const SHARED_LEDGER: &str =
    "pg_catalog.obj_description(pg_catalog.to_regclass('public.schema_migrations'), 'pg_class')";

/// A row of the table, and the state of its schema in the catalogue.
#[derive(Clone, Debug)]
pub(crate) struct WarmSchema {
    pub(crate) schema: SchemaName,
    /// The role that the schema has with role isolation.
    pub(crate) role: RoleName,
    /// Whether a check has shown that the schema can be renamed.
    pub(crate) is_checked: bool,
    pub(crate) has_schema: bool,
    /// Whether the operator's role owns the schema. It also owns the schemas of tenants that it creates.
    pub(crate) is_own: bool,
    /// Whether the operator's role may drop the schema, if it exists.
    pub(crate) may_drop: bool,
    pub(crate) has_role: bool,
    /// The comment on the ledger.
    pub(crate) ledger_comment: Option<String>,
    /// Whether the shared schema has the same migrations as when the schema was created. Migrations can read it.
    pub(crate) is_of_shared: bool,
    /// The roles with rights on the schema, except its owner.
    grantees: Vec<String>,
    /// The roles that may act as its role, except the operator.
    members: Vec<String>,
}

impl WarmSchema {
    /// Returns whether the schema has the rights that a tenant with this role would get. In path mode, these are the
    /// rights of these logins. In role mode, no login may act as the role before a tenant has the schema.
    pub(crate) fn has_rights_of(&self, role: Option<&RoleName>, logins: &[&Ident], own_role: &str) -> bool {
        match role {
            Some(role) => self.has_role && self.members.is_empty() && self.grantees == [role.as_str()],
            None => {
                let logins = logins.iter().map(|login| login.as_str()).filter(|login| *login != own_role);
                let mut logins: Vec<&str> = logins.collect();
                logins.sort_unstable();
                !self.has_role && self.grantees == logins
            }
        }
    }

    /// Returns whether the role exists.
    pub(crate) fn role_state(&self) -> RoleState {
        if self.has_role { RoleState::Present } else { RoleState::Absent }
    }

    /// Returns statements that fail with a division by zero unless the table still has the row, and no other session
    /// has created the schema. They lock the row until the transaction ends.
    pub(crate) fn demand_sql(&self) -> String {
        format!(
            "select 1 / (case when exists (select from {WARM} w where w.schema_name = {0} for update) then 1 else 0 end);
select 1 / (case when exists (select from pg_catalog.pg_namespace n where n.nspname = {0}) then 0 else 1 end);\n",
            literal(self.schema.as_str())
        )
    }

    /// Records the migrations of the shared schema, before the schema is created. If other migrations are applied
    /// meanwhile, the schema is not taken. Returns false if another session is creating it, or has created or dropped
    /// it.
    pub(crate) async fn record_shared(&self, operator: &Operator) -> Result<bool> {
        let doing = || while_doing(format!("record the migrations before schema {:?}", self.schema.as_str()));
        let sql = format!(
            "update {WARM} set shared_ledger = {SHARED_LEDGER}
             where schema_name = (select w.schema_name from {WARM} w where w.schema_name = $1 for update skip locked)
               and not exists (select from pg_catalog.pg_namespace n where n.nspname = $1::pg_catalog.name)"
        );
        let done = operator.client().execute_typed(&sql, &[(&self.schema.as_str(), Type::TEXT)]).await;
        done.map(|rows| rows == 1).map_err(doing())
    }

    /// Returns statements that delete the row from the table. They fail with a division by zero in three cases: another
    /// session has the schema's migration lock or has deleted the row, or the shared schema has other migrations. They
    /// do not wait for the migration lock.
    pub(crate) fn take_sql(&self) -> String {
        self.delete_sql(&format!("shared_ledger is not distinct from {SHARED_LEDGER}"))
    }

    fn delete_sql(&self, condition: &str) -> String {
        format!(
            "select 1 / (case when pg_catalog.pg_try_advisory_xact_lock({}) then 1 else 0 end);
with taken as (delete from {WARM} where schema_name = {} and {condition} returning 1)
select 1 / pg_catalog.count(*) from taken;\n",
            lock::migration_key(&self.schema),
            literal(self.schema.as_str())
        )
    }

    /// Returns statements that rename the schema and its role for a new tenant.
    pub(crate) fn give_sql(&self, schema: &SchemaName, role: Option<&RoleName>) -> String {
        let mut sql = format!("alter schema {} rename to {};\n", self.schema.quoted(), schema.quoted());
        if let Some(role) = role {
            sql.push_str(&format!("alter role {} rename to {};\n", self.role.quoted(), role.quoted()));
        }
        sql
    }

    /// Records that the schema can be renamed. Returns false if another session has recorded it or has dropped the
    /// schema.
    pub(crate) async fn checked(&self, operator: &Operator) -> Result<bool> {
        let doing = || while_doing(format!("record that schema {:?} is ready", self.schema.as_str()));
        let sql = format!("update {WARM} set is_checked = true where schema_name = $1 and not is_checked returning 1");
        let rows = operator.client().query_typed(&sql, &[(&self.schema.as_str(), Type::TEXT)]).await;
        rows.map(|rows| !rows.is_empty()).map_err(doing())
    }

    /// Drops the schema, its role and its row. If the role exists, `drop_role` is the SQL that drops it. Returns false
    /// if another session uses the schema.
    pub(crate) async fn drop(&self, operator: &Operator, drop_role: &str) -> Result<bool> {
        let doing = || while_doing(format!("drop schema {:?}", self.schema.as_str()));
        // Another session may have created the schema and the role since the table was read.
        let mut sql = self.delete_sql("true") + &format!("drop schema if exists {} cascade;\n", self.schema.quoted());
        if self.has_role {
            sql.push_str(drop_role);
        } else if operator.config().isolation() == Isolation::Role {
            sql.push_str(&format!("drop role if exists {};\n", self.role.quoted()));
        }
        operator.reset_session().await.map_err(doing())?;
        match message::run(operator.client(), &sql).await.map_err(doing())?.complete() {
            Ok(_) => Ok(true),
            Err(error) if error.code() == Some(&SqlState::DIVISION_BY_ZERO) => Ok(false),
            Err(error) => Err(doing()(error)),
        }
    }

    fn of_row(row: &Row, operator: &Operator) -> Result<Option<Self>, tokio_postgres::Error> {
        // A schema with another name is never changed, whatever the table contains.
        let Some(schema) = SchemaName::of_warm(row.try_get(0)?) else { return Ok(None) };
        Ok(Some(Self {
            role: RoleName::of_warm(&schema, &operator.facts().database_tag()),
            schema,
            is_checked: row.try_get(1)?,
            has_schema: row.try_get(2)?,
            is_own: row.try_get(3)?,
            may_drop: row.try_get(4)?,
            has_role: row.try_get(5)?,
            ledger_comment: row.try_get(6)?,
            is_of_shared: row.try_get(7)?,
            grantees: row.try_get(8)?,
            members: row.try_get(9)?,
        }))
    }
}

/// Returns whether the table exists.
pub(crate) async fn has_warm(operator: &Operator) -> Result<bool> {
    let doing = || while_doing(format!("look for the table {WARM}"));
    let sql = "select pg_catalog.to_regclass($1) is not null";
    let row = operator.client().query_typed_one(sql, &[(&WARM, Type::TEXT)]).await.map_err(doing())?;
    row.try_get(0).map_err(doing())
}

/// Creates the table if it does not exist.
pub(crate) async fn create_warm(operator: &Operator) -> Result<()> {
    let definition = format!(
        "create table {WARM} (
    schema_name text primary key,
    is_checked bool not null default false,
    shared_ledger text,
    created_at timestamptz not null default pg_catalog.clock_timestamp()
);
comment on table {WARM} is 'The schemas that cgk tenant:warm keeps ready for new tenants.';
"
    );
    let created = own_table::create(operator, lock::warm_key(), &[WARM], &definition).await;
    created.map_err(while_doing(format!("create the table {WARM}")))
}

/// Adds rows with new names until the table has `wanted` rows.
pub(crate) async fn claim_warm(operator: &Operator, wanted: usize) -> Result<()> {
    let doing = || while_doing(format!("add rows to the table {WARM}"));
    let names: Vec<String> = (0..wanted).map(|_| literal(SchemaName::warm().as_str())).collect();
    let sql = format!(
        "{}insert into {WARM} (schema_name)
select n.name from pg_catalog.unnest(array[{}]::pg_catalog.text[]) n (name)
limit greatest({wanted} - (select pg_catalog.count(*) from {WARM}), 0);\n",
        MessageHead::of(operator).lock(lock::warm_key()).sql(),
        names.join(", ")
    );
    message::run(operator.client(), &sql).await.map_err(doing())?.complete().map(drop).map_err(doing())
}

/// Returns the rows of the table, sorted by name, or only one of them. The table must exist.
pub(crate) async fn warm_schemas(operator: &Operator, only: Option<&SchemaName>) -> Result<Vec<WarmSchema>> {
    let doing = || while_doing(format!("read the table {WARM}"));
    let set = if operator.facts().major() >= 16 { " and m.set_option" } else { "" };
    let sql = format!(
        "select w.schema_name, w.is_checked, n.oid is not null, coalesce(o.rolname = current_user, false),
                coalesce(pg_catalog.pg_has_role(n.nspowner, 'usage'), true), r.oid is not null,
                (select pg_catalog.obj_description(c.oid, 'pg_class') from pg_catalog.pg_class c
                 where c.relnamespace = n.oid and c.relname = '{LEDGER_TABLE}' and c.relkind in ('r', 'p')),
                w.shared_ledger is not distinct from {SHARED_LEDGER},
                (select coalesce(pg_catalog.array_agg(g.name order by g.name collate \"C\"), '{{}}') from
                     (select distinct coalesce(u.rolname::pg_catalog.text, 'public') from pg_catalog.aclexplode(n.nspacl) a
                      left join pg_catalog.pg_roles u on u.oid = a.grantee where a.grantee <> n.nspowner) g (name)),
                (select coalesce(pg_catalog.array_agg(g.name order by g.name collate \"C\"), '{{}}') from
                     (select distinct u.rolname::pg_catalog.text from pg_catalog.pg_auth_members m
                      join pg_catalog.pg_roles u on u.oid = m.member
                      where m.roleid = r.oid and u.rolname <> current_user{set}) g (name))
         from {WARM} w
         left join pg_catalog.pg_namespace n on n.nspname = w.schema_name::pg_catalog.name
         left join pg_catalog.pg_roles o on o.oid = n.nspowner
         left join pg_catalog.pg_roles r on r.rolname = pg_catalog.concat('cgk_', pg_catalog.substr(w.schema_name, 4), '_', $1)::pg_catalog.name
         where $2::pg_catalog.text is null or w.schema_name = $2 order by w.schema_name"
    );
    let tag = operator.facts().database_tag();
    let only = only.map(SchemaName::as_str);
    let params: [(&(dyn ToSql + Sync), Type); 2] = [(&tag.as_str(), Type::TEXT), (&only, Type::TEXT)];
    let rows = operator.client().query_typed(&sql, &params).await.map_err(doing())?;
    let read = rows.iter().filter_map(|row| WarmSchema::of_row(row, operator).transpose());
    read.collect::<Result<_, _>>().map_err(doing())
}
