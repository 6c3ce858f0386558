//! Reads the state of a login from the catalogue. Writes nothing.

use super::{LoginName, SharedTables};
use crate::{
    config::Isolation,
    db::Operator,
    error::{Error, Result, SetupError, while_doing},
    ident::{Ident, RoleName, SchemaName, quoted},
    migration::LEDGER_TABLE,
    registry::sql::{ADMITTED_LOGINS, REQUIRED_OID, TENANTS},
    slug::TenantSlug,
};
use tokio_postgres::{
    Row,
    types::{ToSql, Type},
};

/// An admitted login, and one tenant.
pub(crate) struct Admitted {
    pub(crate) name: Ident,
    /// Whether it may enter that tenant.
    pub(crate) may_enter: bool,
}

/// Returns the logins that the database has admitted for the configured isolation, and whether each may enter this
/// tenant.
pub(crate) async fn admitted(operator: &Operator, slug: &TenantSlug) -> Result<Vec<Admitted>> {
    admitted_to(operator, &object_of(operator, slug)).await
}

/// The same for the tenant's role of this name, or under path isolation for its schema.
pub(crate) async fn admitted_to(operator: &Operator, object: &str) -> Result<Vec<Admitted>> {
    let doing = || while_doing("look for the logins of services");
    let (may_enter, fits) = match operator.config().isolation() {
        Isolation::Role => (member_sql(operator, "r.oid", "$1"), "true"),
        Isolation::Path => (usage_sql("r.oid", "$1"), NOT_BY_ROLE_ALONE),
    };
    let sql = format!("select r.rolname::pg_catalog.text, {may_enter} from {ADMITTED_LOGINS} where {fits} order by 1");
    let rows = operator.client().query_typed(&sql, &[(&object, Type::TEXT)]).await.map_err(doing())?;
    rows.iter()
        .map(|row| {
            let name: String = row.try_get(0).map_err(doing())?;
            Ok(Admitted { name: ident(name)?, may_enter: row.try_get(1).map_err(doing())? })
        })
        .collect()
}

/// Returns whether the bundled migration is applied that creates the roles which read the shared tables.
pub(super) async fn has_readers(operator: &Operator) -> Result<bool> {
    let doing = || while_doing("look for the function that admits readers");
    let sql = "select pg_catalog.to_regprocedure('public.cgk_admit_reader(name)') is not null";
    let row = operator.client().query_typed_one(sql, &[]).await.map_err(doing())?;
    row.try_get(0).map_err(doing())
}

/// Which logins to list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LoginSelection {
    AnyIsolation,
    /// Those that work with the configured isolation.
    ThisIsolation,
}

/// Returns the names of the logins that the database has admitted.
pub(super) async fn admitted_names(operator: &Operator, of: LoginSelection) -> Result<Vec<Ident>> {
    let doing = || while_doing("look for the logins of services");
    let fits = match (of, operator.config().isolation()) {
        (LoginSelection::ThisIsolation, Isolation::Path) => NOT_BY_ROLE_ALONE,
        _ => "true",
    };
    let sql = format!("select r.rolname::pg_catalog.text from {ADMITTED_LOGINS} where {fits} order by 1");
    let rows = run(operator, &sql, &[]).await.map_err(doing())?;
    rows.iter().map(|row| ident(row.try_get(0).map_err(doing())?)).collect()
}

/// A condition on a login's policy. A login for role mode can see all rows of the shared tables when it is the current
/// role. With its own rights on a schema it could be the current role inside a tenant; a setup in path mode changes its
/// policies first.
const NOT_BY_ROLE_ALONE: &str = "pg_catalog.pg_get_expr(p.polqual, p.polrelid) <> 'true'";

/// Returns the name of the object that a login needs in order to enter a tenant: its role, or its schema.
fn object_of(operator: &Operator, slug: &TenantSlug) -> String {
    match operator.config().isolation() {
        Isolation::Role => RoleName::of_tenant(slug, &operator.facts().database_tag()).as_str().to_owned(),
        Isolation::Path => SchemaName::of_tenant(slug).as_str().to_owned(),
    }
}

/// Returns a condition: the login is a member of the role of that name, and may act as it.
pub(super) fn member_sql(operator: &Operator, login: &str, role: &str) -> String {
    let set = if operator.facts().major() >= 16 { " and m.set_option" } else { "" };
    format!(
        "exists (select from pg_catalog.pg_auth_members m join pg_catalog.pg_roles t on t.oid = m.roleid
                 where t.rolname = {role} and m.member = {login}{set})"
    )
}

/// Returns a condition: the login may use the schema of that name with its own rights.
fn usage_sql(login: &str, schema: &str) -> String {
    format!(
        "coalesce((select pg_catalog.has_schema_privilege({login}, n.oid, 'usage') from pg_catalog.pg_namespace n
                   where n.nspname = {schema}), false)"
    )
}

/// The rights of a login on one tenant.
pub(super) struct TenantRights {
    pub(super) slug: TenantSlug,
    /// The schema's owner.
    pub(super) owner: Option<Ident>,
    /// Whether the object that the login needs exists: the tenant's role, or its schema with a ledger.
    pub(super) is_ready: bool,
    /// Whether it may act as the role, or may use the schema and a table in it.
    pub(super) may_enter: bool,
    /// Whether it may use the schema without the tenant's role, also with rights of PUBLIC.
    pub(super) direct: bool,
}

/// Returns an expression: whether a login `l` has a right on some table of a schema `n`, apart from the ledger; null if
/// there is no such table. It does not matter which rights these are: an operator can restrict a login.
fn reads_a_table_sql() -> String {
    format!(
        "(select pg_catalog.bool_or(
                    exists (select from pg_catalog.aclexplode(c.relacl) a where a.grantee in (l.oid, 0))
                    or exists (select from pg_catalog.pg_attribute b, pg_catalog.aclexplode(b.attacl) a
                               where b.attrelid = c.oid and b.attacl is not null and a.grantee in (l.oid, 0)))
                from pg_catalog.pg_depend d join pg_catalog.pg_class c on c.oid = d.objid
                where d.refclassid = 'pg_catalog.pg_namespace'::pg_catalog.regclass and d.refobjid = n.oid
                  and d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass and d.objsubid = 0
                  and c.relkind in ('r', 'p', 'v', 'm', 'f') and c.relname <> '{LEDGER_TABLE}')"
    )
}

/// Returns the rights of a login on every tenant of the registry.
pub(super) async fn tenants(operator: &Operator, name: &LoginName) -> Result<Vec<TenantRights>> {
    let doing = || while_doing("look at the tenants");
    let by_role = operator.config().isolation() == Isolation::Role;
    let sql = format!(
        "select o.slug::pg_catalog.text, pg_catalog.pg_get_userbyid(n.nspowner)::pg_catalog.text, k.oid is not null, t.oid is not null, {member},
                coalesce(pg_catalog.has_schema_privilege(l.oid, n.oid, 'usage'), false),
                coalesce({reads}, true)
         from {TENANTS}
         left join pg_catalog.pg_roles l on l.rolname::pg_catalog.text = $1
         left join pg_catalog.pg_class k on k.relnamespace = n.oid and k.relname = '{LEDGER_TABLE}' and k.relkind in ('r', 'p')
         left join pg_catalog.pg_roles t on t.rolname::pg_catalog.text = 'cgk_' || o.slug || '_' || $2
         order by o.slug collate \"C\"",
        reads = if by_role { "true".to_owned() } else { reads_a_table_sql() },
        member = if operator.facts().major() >= 16 {
            "exists (select from pg_catalog.pg_auth_members m where m.roleid = t.oid and m.member = l.oid and m.set_option)"
        } else {
            "exists (select from pg_catalog.pg_auth_members m where m.roleid = t.oid and m.member = l.oid)"
        }
    );
    let tag = operator.facts().database_tag();
    let rows = run(operator, &sql, &[name.as_str(), tag.as_str()]).await.map_err(doing())?;
    rows.iter()
        .filter_map(|row| match row.try_get::<_, Option<String>>(0).map_err(doing()) {
            // A row that is not a tenant has no schema and no role of cgk.
            Ok(slug) => Some(Ok((row, slug?.parse().ok()?))),
            Err(error) => Some(Err(error)),
        })
        .map(|read| {
            let (row, slug) = read?;
            let get = |index: usize| row.try_get::<_, bool>(index).map_err(doing());
            let owner: Option<String> = row.try_get(1).map_err(doing())?;
            let (schema, role, member, direct, reads) = (get(2)?, get(3)?, get(4)?, get(5)?, get(6)?);
            Ok(TenantRights {
                slug,
                owner: owner.map(ident).transpose()?,
                is_ready: if by_role { role } else { schema },
                may_enter: if by_role { member } else { direct && reads },
                direct,
            })
        })
        .collect()
}

/// Returns how many tenants' schemas a login may use without the tenants' roles.
pub(super) async fn direct_rights(operator: &Operator, name: &LoginName) -> Result<usize> {
    Ok(tenants(operator, name).await?.iter().filter(|tenant| tenant.direct).count())
}

/// The existing state of a login.
pub(super) struct LoginFacts {
    pub(super) exists: bool,
    pub(super) may_connect: bool,
    pub(super) sees_public: bool,
    /// Whether it may call set_config, by its own grant or, before hardening, through PUBLIC.
    pub(super) calls_set_config: bool,
    /// Whether its search path in this database is empty.
    pub(super) has_empty_path: bool,
    pub(super) shared_tables: SharedTables,
    /// The registry's owner, if the operator lacks that role's rights.
    pub(super) registry_owner: Option<Ident>,
    /// Why a service must not log in with it, and the statement that fixes it.
    unfit: Option<(String, String)>,
}

impl LoginFacts {
    pub(super) async fn read(operator: &Operator, name: &LoginName) -> Result<Self> {
        let doing = || while_doing(format!("look at role {:?}", name.as_str()));
        let inherits = if operator.facts().major() >= 16 { "m.inherit_option" } else { "false" };
        let sql = format!(
            "select r.oid is not null, coalesce(pg_catalog.has_database_privilege(r.oid, pg_catalog.current_database(), 'connect'), false),
                    coalesce(pg_catalog.has_schema_privilege(r.oid, 'public', 'usage'), false),
                    exists (select from pg_catalog.pg_db_role_setting s join pg_catalog.pg_database d on d.oid = s.setdatabase
                            where s.setrole = r.oid and d.datname = pg_catalog.current_database() and 'search_path=\"\"' = any (s.setconfig)),
                    coalesce(pg_catalog.has_table_privilege(r.oid, c.oid, 'insert'), false),
                    case when not pg_catalog.pg_has_role(c.relowner, 'usage') then pg_catalog.pg_get_userbyid(c.relowner)::pg_catalog.text end,
                    r.rolname = current_user, r.rolsuper, r.rolbypassrls, r.rolcreaterole, r.rolcreatedb, r.rolreplication,
                    not r.rolcanlogin, r.rolinherit,
                    (select x.rolname::pg_catalog.text from pg_catalog.pg_roles x where x.oid <> r.oid and pg_catalog.pg_has_role(r.oid, x.oid, 'member')
                       and (x.rolsuper or x.rolbypassrls or x.rolcreaterole or x.oid = c.relowner
                            or x.rolname in ('pg_read_all_data', 'pg_write_all_data', 'pg_execute_server_program',
                                             'pg_read_server_files', 'pg_write_server_files'))
                     order by 1 limit 1),
                    (select x.rolname::pg_catalog.text from pg_catalog.pg_auth_members m join pg_catalog.pg_roles x on x.oid = m.roleid
                      where m.member = r.oid and {inherits} order by 1 limit 1),
                    exists (select from pg_catalog.pg_class k join pg_catalog.pg_namespace n on n.oid = k.relnamespace
                             where k.relowner = r.oid and n.nspname !~ '^pg_')
                      or exists (select from pg_catalog.pg_namespace n where n.nspowner = r.oid and n.nspname !~ '^pg_')
                      or exists (select from pg_catalog.pg_database d where d.datdba = r.oid),
                    coalesce(pg_catalog.has_function_privilege(r.oid, 'pg_catalog.set_config(text, text, boolean)', 'execute'),
                             exists (select from pg_catalog.pg_proc p,
                                            pg_catalog.aclexplode(coalesce(p.proacl, pg_catalog.acldefault('f', p.proowner))) a
                                     where p.oid = 'pg_catalog.set_config(text, text, boolean)'::pg_catalog.regprocedure
                                       and a.grantee = 0))
             from pg_catalog.pg_class c left join pg_catalog.pg_roles r on r.rolname::pg_catalog.text = $1
             where c.oid = {REQUIRED_OID}"
        );
        let rows = run(operator, &sql, &[name.as_str()]).await.map_err(doing())?;
        let row = rows.first().ok_or_else(|| Error::Unexpected {
            doing: format!("look at role {:?}", name.as_str()),
            found: "no row at all".into(),
        })?;
        let get = |index: usize| row.try_get::<_, Option<bool>>(index).map(Option::unwrap_or_default).map_err(doing());
        let owner: Option<String> = row.try_get(5).map_err(doing())?;
        Ok(Self {
            exists: get(0)?,
            may_connect: get(1)?,
            sees_public: get(2)?,
            calls_set_config: get(17)?,
            has_empty_path: get(3)?,
            shared_tables: if get(4)? { SharedTables::All } else { SharedTables::Registry },
            registry_owner: owner.map(ident).transpose()?,
            unfit: unfit(name, row).map_err(doing())?,
        })
    }

    /// Refuses an existing role with a right that the login of a service must not have. Its rights are not reduced,
    /// because they were set on purpose.
    pub(super) fn refuse_unfit(&self, name: &LoginName) -> Result<()> {
        match &self.unfit {
            Some((why, fix)) => Err(Error::Setup(SetupError::LoginUnfit {
                role: name.as_str().to_owned(),
                why: why.clone(),
                fix: fix.clone(),
            })),
            None => Ok(()),
        }
    }
}

/// Returns why a role cannot be the login of a service, and how to fix it.
fn unfit(name: &LoginName, row: &Row) -> Result<Option<(String, String)>, tokio_postgres::Error> {
    let role = name.ident().quoted();
    let is = |index: usize| row.try_get::<_, Option<bool>>(index).map(Option::unwrap_or_default);
    let attributes = [
        (7, "is a superuser", "nosuperuser"),
        (8, "bypasses row level security", "nobypassrls"),
        (9, "may create roles", "nocreaterole"),
        (10, "may create databases", "nocreatedb"),
        (11, "may read the write-ahead log", "noreplication"),
        (12, "cannot log in", "login"),
        (13, "inherits the rights of the roles it may act as", "noinherit"),
    ];
    if is(6)? {
        let why = "is the operator's own role; a service's login must be another one";
        return Ok(Some((why.into(), "cgk setup:database --app-role ANOTHER_NAME".into())));
    }
    for (index, why, advice) in attributes {
        if is(index)? {
            return Ok(Some((why.into(), format!("alter role {role} {advice}"))));
        }
    }
    if let Some(mighty) = row.try_get::<_, Option<String>>(14)? {
        let advice = format!("revoke {} from {role}", quoted(&mighty));
        return Ok(Some((
            format!("may act as {mighty:?}, which sees past row level security or owns the tables"),
            advice,
        )));
    }
    if let Some(inherited) = row.try_get::<_, Option<String>>(15)? {
        let advice = format!("grant {} to {role} with inherit false", quoted(&inherited));
        return Ok(Some((format!("inherits the rights of role {inherited:?}"), advice)));
    }
    if is(16)? {
        let advice = "cgk setup:database --app-role ANOTHER_NAME".into();
        return Ok(Some(("owns a table, a schema or a database".into(), advice)));
    }
    Ok(None)
}

pub(super) async fn run(operator: &Operator, sql: &str, texts: &[&str]) -> Result<Vec<Row>, tokio_postgres::Error> {
    let params: Vec<(&(dyn ToSql + Sync), Type)> = texts.iter().map(|text| (text as _, Type::TEXT)).collect();
    operator.client().query_typed(sql, &params).await
}

pub(super) fn ident(name: String) -> Result<Ident> {
    Ident::new(name)
        .map_err(|error| Error::Unexpected { doing: "read a name of the catalogue".into(), found: error.to_string() })
}
