//! Which further schemas are in the search path of this database, and whether they may be.

use crate::{
    config::{Config, Isolation},
    error::{Error, Result, SetupError, while_doing},
    ident::{DatabaseTag, Ident},
    search_path::{SearchPath, parse_list},
};
use tokio_postgres::{Client, types::Type};

/// The value of `search_path` that ALTER DATABASE has set for every session, if it has.
const DATABASE_SETTING: &str = "
select pg_catalog.substr(c.entry, 13)
from pg_catalog.pg_db_role_setting s
join pg_catalog.pg_database d on d.oid = s.setdatabase
cross join pg_catalog.unnest(s.setconfig) c (entry)
where s.setrole = 0 and d.datname = pg_catalog.current_database() and pg_catalog.starts_with(c.entry, 'search_path=')";

/// Of each named schema: whether it is there, whether everybody may use it, whether the login may, and who of PUBLIC and the
/// tenants' roles may create in it, by a grant, by membership in whoever may, or as its owner. Parameters: names, and the
/// pattern of tenants' roles.
const SCHEMAS: &str = "
select w.name, n.oid is not null,
       exists (select from pg_catalog.aclexplode(n.nspacl) a where a.grantee = 0 and a.privilege_type = 'USAGE'),
       coalesce(pg_catalog.has_schema_privilege(n.oid, 'usage'), false),
       (select case when g.grantee = 0 then 'PUBLIC' else pg_catalog.pg_get_userbyid(g.grantee)::pg_catalog.text end
        from (select a.grantee from pg_catalog.aclexplode(n.nspacl) a where a.privilege_type = 'CREATE'
              union select n.nspowner) g (grantee)
        where g.grantee = 0
           or exists (with recursive may (oid) as (
                        select g.grantee
                        union select m.member from pg_catalog.pg_auth_members m join may on m.roleid = may.oid)
                      select from may join pg_catalog.pg_roles r on r.oid = may.oid where r.rolname::pg_catalog.text like $2)
        order by 1 limit 1)
from pg_catalog.unnest($1::pg_catalog.text[]) with ordinality w (name, place)
left join pg_catalog.pg_namespace n on n.nspname::pg_catalog.text = w.name
order by w.place";

/// Names that are in the path anyway, or that every session has another schema for.
const OWN: [&str; 3] = ["public", "pg_temp", "$user"];

/// Finds the further schemas: the configured ones, or else what the database itself says through ALTER DATABASE … SET
/// search_path.
///
/// # Errors
///
/// Kind `Conflict`: one of them is missing, is a tenant's or the server's, cannot be used by everybody who needs it, or can be
/// written by somebody whose objects would then be found by other tenants.
pub(crate) async fn search_path(client: &Client, config: &Config, tag: &DatabaseTag) -> Result<SearchPath> {
    let doing = || while_doing("look at the schemas of the search path");
    let (names, configured) = match config.search_path() {
        Some(names) => (names.iter().map(|name| name.as_str().to_owned()).collect(), true),
        None => {
            let rows = client.query_typed(DATABASE_SETTING, &[]).await.map_err(doing())?;
            let setting: Option<String> = rows.first().map(|row| row.try_get(0)).transpose().map_err(doing())?;
            (setting.and_then(|text| parse_list(&text)).unwrap_or_default(), false)
        }
    };
    let mut wanted: Vec<String> = Vec::new();
    for name in names {
        let reserved = name.starts_with("pg_") || name.starts_with("tenant_") || name == "information_schema";
        match (OWN.contains(&name.as_str()), reserved) {
            (true, _) => {}
            (false, true) if configured => return Err(unfit(&name, "it is a tenant's or the server's", "")),
            (false, true) => {}
            (false, false) if name.is_empty() || wanted.contains(&name) => {}
            (false, false) => wanted.push(name),
        }
    }
    if wanted.is_empty() {
        return Ok(SearchPath::default());
    }
    let roles = format!("cgk\\_%\\_{}", tag.as_str());
    let parameters: [(&(dyn tokio_postgres::types::ToSql + Sync), Type); 2] =
        [(&wanted, Type::TEXT_ARRAY), (&roles, Type::TEXT)];
    let rows = client.query_typed(SCHEMAS, &parameters).await.map_err(doing())?;
    let mut further = Vec::new();
    for row in &rows {
        let name: String = row.try_get(0).map_err(doing())?;
        let flag = |index: usize| row.try_get::<_, bool>(index).map_err(doing());
        let writer: Option<String> = row.try_get(4).map_err(doing())?;
        let quoted = Ident::new(name.clone()).map_or_else(|_| name.clone(), |ident| ident.quoted());
        if !flag(1)? {
            match configured {
                true => return Err(unfit(&name, "there is no such schema", &format!("create schema {quoted}"))),
                // The server passes over it too.
                false => continue,
            }
        }
        let usable = match config.isolation() {
            Isolation::Role => flag(2)?,
            Isolation::Path => flag(3)?,
        };
        if !usable {
            let fix = format!("grant usage on schema {quoted} to public");
            return Err(unfit(&name, "not everybody may use it, so the server would pass over it in silence", &fix));
        }
        if let Some(writer) = writer {
            let from = if writer == "PUBLIC" { "public".to_owned() } else { crate::ident::quoted(&writer) };
            let why = format!("{writer} may create objects in it, which every tenant would then find");
            return Err(unfit(&name, &why, &format!("revoke create on schema {quoted} from {from}")));
        }
        further.extend(Ident::new(name).ok());
    }
    Ok(SearchPath::with(further))
}

fn unfit(schema: &str, why: &str, fix: &str) -> Error {
    Error::Setup(SetupError::SearchPathUnfit { schema: schema.to_owned(), why: why.to_owned(), fix: fix.to_owned() })
}
