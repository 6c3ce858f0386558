//! Finds the additional schemas in the search path of this database, and checks them.

use crate::{
    config::{Config, Isolation},
    error::{Error, Result, SetupError, while_doing},
    ident::{DatabaseTag, Ident},
    search_path::{SearchPath, parse_list},
};
use tokio_postgres::{Client, Row, types::Type};

/// The value of `search_path` set with ALTER DATABASE, if there is one.
const DATABASE_SETTING: &str = "
select pg_catalog.substr(c.entry, 13)
from pg_catalog.pg_db_role_setting s
join pg_catalog.pg_database d on d.oid = s.setdatabase
cross join pg_catalog.unnest(s.setconfig) c (entry)
where s.setrole = 0 and d.datname = pg_catalog.current_database() and pg_catalog.starts_with(c.entry, 'search_path=')";

/// Returns one row for each named schema. Its columns are:
///
/// - the name of the schema
/// - whether the schema exists, whether PUBLIC may use it, and whether the login may use it
/// - a role that may create in it: PUBLIC, a tenant's role or the service's login. The role has the right by a grant,
///   by a membership, or as the owner of the schema or of the database
/// - whether that role owns the schema, and which role should own it
///
/// The login of an operator may have a name like a tenant's role, but a tenant's role cannot log in. A login with the
/// rights of the registry's owner is an operator, because it owns everything in `public`. Parameters: the names, the
/// pattern of tenants' roles, and whether the login is checked.
const SCHEMAS: &str = "
select w.name, n.oid is not null,
       exists (select from pg_catalog.aclexplode(n.nspacl) a where a.grantee = 0 and a.privilege_type = 'USAGE'),
       coalesce(pg_catalog.has_schema_privilege(n.oid, 'usage'), false),
       case when g.grantee = 0 then 'PUBLIC' else pg_catalog.pg_get_userbyid(g.grantee)::pg_catalog.text end,
       coalesce(g.grantee = n.nspowner, false),
       coalesce(pg_catalog.pg_get_userbyid(c.relowner), current_user)::pg_catalog.text
from pg_catalog.unnest($1::pg_catalog.text[]) with ordinality w (name, place)
left join pg_catalog.pg_namespace n on n.nspname::pg_catalog.text = w.name
left join pg_catalog.pg_namespace r on r.nspname = 'public'
left join pg_catalog.pg_class c on c.relnamespace = r.oid and c.relname = 'organizations' and c.relkind in ('r', 'p', 'v')
left join lateral (
    select g.grantee
    from (select a.grantee from pg_catalog.aclexplode(n.nspacl) a where a.privilege_type = 'CREATE'
          union select n.nspowner) g (grantee)
    where g.grantee = 0
       or case when $3 and g.grantee <> 0 and not pg_catalog.pg_has_role(c.relowner, 'usage') then pg_catalog.pg_has_role(g.grantee,
            case when pg_catalog.current_setting('server_version_num')::pg_catalog.int4 >= 160000 then 'set, usage' else 'member' end)
          end
       or exists (with recursive may (oid) as (
                    select g.grantee
                    union select m.member from may join (
                        select a.roleid, a.member from pg_catalog.pg_auth_members a
                        union all select o.oid, d.datdba from pg_catalog.pg_roles o, pg_catalog.pg_database d
                        where o.rolname = 'pg_database_owner' and d.datname = pg_catalog.current_database()
                    ) m (roleid, member) on m.roleid = may.oid)
                  select from may join pg_catalog.pg_roles r on r.oid = may.oid
                  where r.rolname::pg_catalog.text like $2 and not r.rolcanlogin)
    order by g.grantee limit 1) g on true
order by w.place";

/// The caller that needs the schemas of a search path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SearchPathUser {
    /// A service. Its login must not be able to create in the schemas either. The statements of all other tenants would
    /// use the objects that it creates for one tenant.
    Service,
    /// The operator, who sets up and migrates.
    Operator,
}

/// Names that are always in the path, or that mean a different schema in every session.
const OWN: [&str; 3] = ["public", "pg_temp", "$user"];

/// Finds the additional schemas: the configured ones, or those of the database, set with ALTER DATABASE … SET
/// search_path.
///
/// # Errors
///
/// Kind `Conflict`: when a schema is missing, is a tenant's or the server's, or cannot be used by every role that needs
/// it. Also when a role may create in it whose objects other tenants would then use.
pub(crate) async fn search_path(
    client: &Client,
    config: &Config,
    tag: &DatabaseTag,
    caller: SearchPathUser,
) -> Result<SearchPath> {
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
    let rows = read_schemas(client, &wanted, tag, caller).await.map_err(doing())?;
    let mut further = Vec::new();
    for row in &rows {
        let name: String = row.try_get(0).map_err(doing())?;
        let flag = |index: usize| row.try_get::<_, bool>(index).map_err(doing());
        let quoted = Ident::new(name.clone()).map_or_else(|_| name.clone(), |ident| ident.quoted());
        if !flag(1)? {
            match configured {
                true => return Err(unfit(&name, "there is no such schema", &format!("create schema {quoted}"))),
                // The server also skips a missing schema.
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
        if let Some(error) = writable(&name, &quoted, row).map_err(doing())? {
            return Err(error);
        }
        further.extend(Ident::new(name).ok());
    }
    Ok(SearchPath::with(further))
}

/// Fails if PUBLIC, a tenant's role, or a service login that is not the operator's may create in a schema of the search
/// path. The statements of other tenants, and of the operator's migrations, would use the objects that one tenant
/// creates there. This concerns above all `public`, which is in every search path before the schemas of extensions.
///
/// # Errors
///
/// Kind `Conflict`: when such a role may create there. The error contains the statement that revokes the right.
pub(crate) async fn refuse_writable(
    client: &Client,
    path: &SearchPath,
    tag: &DatabaseTag,
    caller: SearchPathUser,
) -> Result<()> {
    let doing = || while_doing("look at who may create in the schemas of the search path");
    let further = path.further().iter().map(|name| name.as_str().to_owned());
    let names: Vec<String> = ["public".to_owned()].into_iter().chain(further).collect();
    for row in &read_schemas(client, &names, tag, caller).await.map_err(doing())? {
        let name: String = row.try_get(0).map_err(doing())?;
        let quoted = if name == "public" { name.clone() } else { crate::ident::quoted(&name) };
        if let Some(error) = writable(&name, &quoted, row).map_err(doing())? {
            return Err(error);
        }
    }
    Ok(())
}

async fn read_schemas(
    client: &Client,
    names: &[String],
    tag: &DatabaseTag,
    caller: SearchPathUser,
) -> Result<Vec<Row>, tokio_postgres::Error> {
    let (roles, service) = (format!("cgk\\_%\\_{}", tag.as_str()), caller == SearchPathUser::Service);
    client.query_typed(SCHEMAS, &[(&names, Type::TEXT_ARRAY), (&roles, Type::TEXT), (&service, Type::BOOL)]).await
}

/// Returns the error for a schema in which other roles may create, from its row of [`SCHEMAS`].
fn writable(schema: &str, quoted: &str, row: &Row) -> Result<Option<Error>, tokio_postgres::Error> {
    let Some(writer) = row.try_get::<_, Option<String>>(4)? else { return Ok(None) };
    let fix = match (writer.as_str(), row.try_get(5)?) {
        ("PUBLIC", _) => format!("revoke create on schema {quoted} from public"),
        (writer, false) => format!("revoke create on schema {quoted} from {}", crate::ident::quoted(writer)),
        // A schema's owner can always grant itself the right again, so the owner is changed.
        (_, true) => format!("alter schema {quoted} owner to {}", crate::ident::quoted(row.try_get(6)?)),
    };
    let why = format!("{writer} may create objects in it, which every tenant would then find");
    Ok(Some(unfit(schema, &why, &fix)))
}

fn unfit(schema: &str, why: &str, fix: &str) -> Error {
    Error::Setup(SetupError::SearchPathUnfit { schema: schema.to_owned(), why: why.to_owned(), fix: fix.to_owned() })
}
