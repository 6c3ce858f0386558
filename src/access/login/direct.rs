//! The rights that a login itself has on tenants' schemas, and how they are revoked. Path isolation works with them.

use super::{LoginName, SCHEMAS_PER_MESSAGE_MAX, TRIES_MAX, facts, turn_sql};
use crate::{
    db::{Operator, message},
    error::{Error, Result, while_doing},
    ident::quoted,
    registry,
};
use std::fmt::Write as _;
use tokio_postgres::{
    Row,
    error::SqlState,
    types::{ToSql, Type},
};

const RIGHTS: &str = include_str!("direct.sql");

/// How many schemas' statements are read at once, which limits the memory that they use.
const SCHEMAS_PER_PAGE_MAX: i64 = 1000;

/// The schemas on which a login itself has rights.
#[derive(Debug, Default)]
pub(super) struct OwnRights {
    /// The number of schemas of tenants and of schemas that are ready for new ones.
    pub(super) schemas: usize,
    /// Whether [`revoke`] revokes the rights on one of these schemas.
    pub(super) is_revocable: bool,
    /// The schemas with the name of a tenant's, of no tenant.
    pub(super) strays: Vec<String>,
}

impl OwnRights {
    pub(super) async fn read(operator: &Operator, name: &LoginName) -> Result<Self> {
        let doing = || while_doing(format!("look at the rights of login {:?}", name.as_str()));
        let sql = format!(
            "{}select pg_catalog.count(distinct p.schema) filter (where p.kind <> 'stray'),
       coalesce(pg_catalog.bool_or(p.is_revocable), false),
       coalesce(pg_catalog.array_agg(distinct p.schema) filter (where p.kind = 'stray'), '{{}}')
from own s join place p on p.nsp = s.nsp",
            rights_sql(operator).await?
        );
        let (login, tag) = (name.as_str(), operator.facts().database_tag());
        let params: [(&(dyn ToSql + Sync), Type); 2] = [(&login, Type::TEXT), (&tag.as_str(), Type::TEXT)];
        let row = operator.client().query_typed_one(&sql, &params).await.map_err(doing())?;
        let schemas: i64 = row.try_get(0).map_err(doing())?;
        Ok(Self {
            schemas: usize::try_from(schemas).unwrap_or_default(),
            is_revocable: row.try_get(1).map_err(doing())?,
            strays: row.try_get(2).map_err(doing())?,
        })
    }
}

/// Returns the tenants' schemas on which PUBLIC has rights. These are no login's own, and each login has them.
pub(super) async fn open_to_everyone(operator: &Operator) -> Result<Vec<String>> {
    let doing = || while_doing("look for tenants' schemas that are open to everyone");
    let sql = registry::sql::fill(
        "select n.nspname::pg_catalog.text from {tenant_schemas}
         where exists (select from pg_catalog.aclexplode(n.nspacl) a where a.grantee = 0) order by n.nspname",
    );
    let rows = facts::run(operator, &sql, &[]).await.map_err(doing())?;
    rows.iter().map(|row| row.try_get(0).map_err(doing())).collect()
}

/// Revokes a login's own rights on the schemas of tenants whose role it may act as, and on schemas that are ready for new
/// tenants: on the schema, on what is in it, and by default on what is created there later. Rights that the login passed
/// on are revoked too.
pub(super) async fn revoke(operator: &Operator, name: &LoginName) -> Result<()> {
    let doing = || while_doing(format!("revoke the direct rights of login {:?}", name.as_str()));
    let (mut after, mut tries, mut refused) = (String::new(), 1, None);
    loop {
        let page = page(operator, name, &after).await?;
        let Some(last) = page.last() else { break };
        match send(operator, &page).await {
            Ok(()) => {}
            // Another session dropped or renamed something since.
            Err(error) if error.code().is_some_and(is_undefined) && tries < TRIES_MAX => {
                tries += 1;
                continue;
            }
            Err(error) => return Err(doing()(error)),
        }
        (after, tries) = (last.schema.clone(), 1);
        refused = refused.or_else(|| page.into_iter().flat_map(|schema| schema.statements).find(|s| !s.is_allowed));
    }
    refused.map_or(Ok(()), |statement| Err(statement.refused(operator, name)))
}

/// The statements that revoke a login's own rights on one schema.
struct SchemaRights {
    schema: String,
    statements: Vec<Revocation>,
}

/// A statement that revokes rights. Only the role that granted them can run it.
struct Revocation {
    grantor: String,
    /// Whether the operator may act as that role.
    is_allowed: bool,
    sql: String,
}

impl Revocation {
    fn refused(&self, operator: &Operator, name: &LoginName) -> Error {
        let needed = format!("revoke rights of login {} that role {} granted", name.as_str(), self.grantor);
        operator.facts().lacks(needed, format!("set role {}; {}; reset role", quoted(&self.grantor), self.sql))
    }
}

impl SchemaRights {
    fn of_row(row: &Row) -> Result<Self, tokio_postgres::Error> {
        let grantors: Vec<String> = row.try_get(1)?;
        let allowed: Vec<bool> = row.try_get(2)?;
        let texts: Vec<String> = row.try_get(3)?;
        let statements = grantors.into_iter().zip(allowed).zip(texts);
        let statements = statements.map(|((grantor, is_allowed), sql)| Revocation { grantor, is_allowed, sql });
        Ok(Self { schema: row.try_get(0)?, statements: statements.collect() })
    }
}

/// Returns the statements for the next schemas, in the order of their names.
async fn page(operator: &Operator, name: &LoginName, after: &str) -> Result<Vec<SchemaRights>> {
    let doing = || while_doing(format!("look at the rights of login {:?}", name.as_str()));
    let acts = if operator.facts().major() >= 16 { "set" } else { "member" };
    let sql = format!(
        "{}select p.schema, pg_catalog.array_agg(g.rolname::pg_catalog.text order by s.step, s.clause, g.rolname),
       pg_catalog.array_agg(pg_catalog.pg_has_role(g.oid, '{acts}') order by s.step, s.clause, g.rolname),
       pg_catalog.array_agg(pg_catalog.concat_ws(' ', s.clause, nullif(s.objects, ''), 'from', pg_catalog.quote_ident(l.name), 'cascade')
                            order by s.step, s.clause, g.rolname)
from login l, own s join place p on p.nsp = s.nsp join pg_catalog.pg_roles g on g.oid = s.grantor
where p.is_revocable and p.schema > $3 collate \"C\"
group by p.schema order by p.schema collate \"C\" limit {SCHEMAS_PER_PAGE_MAX}",
        rights_sql(operator).await?
    );
    let (login, tag) = (name.as_str(), operator.facts().database_tag());
    let params: [(&(dyn ToSql + Sync), Type); 3] =
        [(&login, Type::TEXT), (&tag.as_str(), Type::TEXT), (&after, Type::TEXT)];
    let rows = operator.client().query_typed(&sql, &params).await.map_err(doing())?;
    rows.iter().map(|row| SchemaRights::of_row(row).map_err(doing())).collect()
}

/// Runs the statements that the operator may run, several schemas in one transaction.
async fn send(operator: &Operator, schemas: &[SchemaRights]) -> Result<(), tokio_postgres::Error> {
    let own = &operator.facts().role;
    for schemas in schemas.chunks(SCHEMAS_PER_MESSAGE_MAX) {
        let mut sql = turn_sql(operator);
        for statement in schemas.iter().flat_map(|schema| &schema.statements).filter(|statement| statement.is_allowed) {
            let _ = match statement.grantor == *own {
                true => writeln!(sql, "{};", statement.sql),
                false => {
                    writeln!(sql, "set local role {};\n{};\nreset role;", quoted(&statement.grantor), statement.sql)
                }
            };
        }
        message::run(operator.client(), &sql).await?.complete()?;
    }
    Ok(())
}

/// Returns whether an object of a statement does not exist.
fn is_undefined(state: &SqlState) -> bool {
    let undefined = [
        SqlState::INVALID_SCHEMA_NAME,
        SqlState::UNDEFINED_TABLE,
        SqlState::UNDEFINED_FUNCTION,
        SqlState::UNDEFINED_OBJECT,
    ];
    undefined.contains(state)
}

/// Returns the start of a query about the rights of the login `$1` in a database with the tag `$2`.
async fn rights_sql(operator: &Operator) -> Result<String> {
    let member = facts::member_sql(operator, "l.oid", "'cgk_' || o.slug::pg_catalog.text || '_' || $2");
    let doing = || while_doing("look for schemas that are ready for new tenants");
    let sees_warm = format!("select {}", registry::sql::SEES_WARM);
    let row = operator.client().query_typed_one(&sees_warm, &[]).await.map_err(doing())?;
    let is_ready = match row.try_get(0).map_err(doing())? {
        true => registry::sql::IS_WARM_SCHEMA,
        false => "false",
    };
    Ok(registry::sql::fill(RIGHTS)
        .replace("{member}", &member)
        .replace("{is_ready}", is_ready)
        .replace("{is_tenant_schema}", registry::sql::IS_TENANT_SCHEMA))
}
