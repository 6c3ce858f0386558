//! Revokes rights from PUBLIC that injected SQL could use.

use crate::{
    db::{Operator, message},
    error::{Error, Result, while_doing},
    ident::quoted,
    registry,
};
use tokio_postgres::error::SqlState;

/// Whether hardening changes anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HardeningMode {
    /// Missing measures are applied.
    Apply,
    /// Missing measures are only listed. Nothing is written.
    DryRun,
}

/// The result of hardening, measure by measure.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct HardeningReport {
    /// The measures, in order.
    pub measures: Vec<MeasureReport>,
}

impl HardeningReport {
    /// Returns whether every measure is in place.
    pub fn is_complete(&self) -> bool {
        self.measures.iter().all(|measure| matches!(measure.state, MeasureState::InPlace | MeasureState::Applied))
    }
}

/// One measure of hardening.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Measure {
    /// Only the logins that cgk uses may call `set_config`, which can change role, path or organization inside an
    /// expression.
    SetConfig,
    /// Only the roles that migrate may use trusted languages. A block or function in such a language can run any
    /// statement.
    Languages,
    /// Only the roles that migrate may create temporary objects.
    Temporary,
    /// Only the roles that migrate may terminate or cancel other sessions of their login, with `pg_terminate_backend`
    /// and `pg_cancel_backend`. A login can still do this with the protocol's cancel request, which is not a statement.
    Sessions,
}

impl Measure {
    const ALL: [Self; 4] = [Self::SetConfig, Self::Languages, Self::Temporary, Self::Sessions];
}

/// The state of a measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MeasureState {
    /// It was already applied.
    InPlace,
    /// This run applied it.
    Applied,
    /// It is not applied, because this was a dry run.
    Pending,
    /// The operator may not apply it. A superuser or the object's owner must run the statements.
    NotAllowed,
}

/// A measure and its state.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MeasureReport {
    /// The measure.
    pub measure: Measure,
    /// Its state.
    pub state: MeasureState,
    /// The statements that were run or must be run. Empty if there are none.
    pub statements: Vec<String>,
}

/// Revokes from PUBLIC the right to call `set_config`, to use trusted languages, to create temporary objects and to
/// terminate other sessions. Grants these rights to the roles that need them: the operator, and the owners of the
/// database, the registry and the tenants' schemas. The admitted logins of services get `set_config` only. Logins that
/// are admitted later get their grant from [`login::admit`](crate::login::admit).
///
/// With role isolation, SQL text that is injected into a statement can then no longer change role, path or
/// organization. With path isolation, the services' login keeps `set_config`, and with it access to other tenants. But
/// injected text can no longer change the login itself or terminate its sessions.
///
/// It can be called again at any time. Other roles that call `set_config`, for example to run `pg_dump`, need a manual
/// grant.
///
/// # Locks
///
/// Rows of the catalogue, for a short time.
///
/// # Committed when
///
/// Each measure separately: its grants and its revocation together.
///
/// # Errors
///
/// Kind `NotReady`: the database has no registry. A measure that the operator may not apply is not an error but a line
/// of the report.
///
/// # Cancel safety
///
/// If the future is dropped, each measure is either applied or not.
pub async fn harden(operator: &Operator, mode: HardeningMode) -> Result<HardeningReport> {
    registry::require(operator).await?;
    let mut measures = Vec::new();
    for measure in Measure::ALL {
        let statements = missing(operator, measure).await?;
        let state = match (statements.is_empty(), mode) {
            (true, _) => MeasureState::InPlace,
            (false, HardeningMode::DryRun) => MeasureState::Pending,
            (false, HardeningMode::Apply) => apply(operator, measure, &statements).await?,
        };
        measures.push(MeasureReport { measure, state, statements });
    }
    Ok(HardeningReport { measures })
}

async fn apply(operator: &Operator, measure: Measure, statements: &[String]) -> Result<MeasureState> {
    let doing = || while_doing("take rights from everybody");
    let answer = message::run(operator.client(), &statements.join(";\n")).await.map_err(doing())?;
    match answer.complete() {
        // If the operator is not the owner, the server returns a warning and no error. So the result is checked.
        Ok(_) if missing(operator, measure).await?.is_empty() => Ok(MeasureState::Applied),
        Ok(_) => Ok(MeasureState::NotAllowed),
        Err(error) if error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE) => Ok(MeasureState::NotAllowed),
        Err(error) => Err(doing()(error)),
    }
}

/// Returns the statements that a measure still needs.
async fn missing(operator: &Operator, measure: Measure) -> Result<Vec<String>> {
    let mut statements = Vec::new();
    for Right { name, kind, public_has, needs } in rights(operator, measure).await? {
        // An operator with the grant option can also grant the right to another login later.
        for (role, hands_on) in needs {
            let option = if hands_on { " with grant option" } else { "" };
            statements.push(format!("grant {kind} {name} to {}{option}", quoted(&role)));
        }
        if public_has {
            statements.push(format!("revoke {kind} {name} from public"));
        }
    }
    Ok(statements)
}

/// A right that PUBLIC has or had on one object.
struct Right {
    /// The object as written in GRANT.
    name: String,
    /// The privilege and the kind of object, as written in GRANT.
    kind: &'static str,
    public_has: bool,
    /// The roles that need it and do not have it, each with whether it needs the grant option.
    needs: Vec<(String, bool)>,
}

/// The roles that need their own right when PUBLIC has none: those that migrate, and the service logins.
const NEEDS: &str = "
needs (oid, migrates) as (
    select r.oid, bool_or(n.migrates)
    from (select r.oid, true from pg_catalog.pg_roles r where r.rolname = current_user
          union all select d.datdba, true from pg_catalog.pg_database d where d.datname = pg_catalog.current_database()
          union all select c.relowner, true from pg_catalog.pg_class c where c.oid = {required_registry_oid}
          union all select n.nspowner, true from {tenant_schemas}
          union all select m.role, false from pg_catalog.pg_policy p cross join pg_catalog.unnest(p.polroles) m (role)
                    where p.polrelid = {required_registry_oid}
                      and pg_catalog.starts_with(p.polname::pg_catalog.text, 'cgk_login_')) n (oid, migrates)
    join pg_catalog.pg_roles r on r.oid = n.oid
    where not r.rolsuper
    group by r.oid)";

async fn rights(operator: &Operator, measure: Measure) -> Result<Vec<Right>> {
    let (kind, privilege, objects, who) = match measure {
        Measure::SetConfig => (
            "execute on function",
            "EXECUTE",
            "select 'pg_catalog.set_config(text, text, boolean)', coalesce(p.proacl, pg_catalog.acldefault('f', p.proowner))
             from pg_catalog.pg_proc p
             where p.oid = 'pg_catalog.set_config(text, text, boolean)'::pg_catalog.regprocedure",
            "true",
        ),
        Measure::Languages => (
            "usage on language",
            "USAGE",
            "select pg_catalog.quote_ident(l.lanname), coalesce(l.lanacl, pg_catalog.acldefault('l', l.lanowner))
             from pg_catalog.pg_language l where l.lanpltrusted order by l.lanname",
            "w.migrates",
        ),
        Measure::Temporary => (
            "temporary on database",
            "TEMPORARY",
            "select pg_catalog.quote_ident(d.datname), coalesce(d.datacl, pg_catalog.acldefault('d', d.datdba))
             from pg_catalog.pg_database d where d.datname = pg_catalog.current_database()",
            "w.migrates",
        ),
        Measure::Sessions => (
            "execute on function",
            "EXECUTE",
            "select f.name, coalesce(p.proacl, pg_catalog.acldefault('f', p.proowner))
             from (values ('pg_catalog.pg_cancel_backend(integer)'), ('pg_catalog.pg_terminate_backend(integer, bigint)')) f (name)
             join pg_catalog.pg_proc p on p.oid = pg_catalog.to_regprocedure(f.name)",
            "w.migrates",
        ),
    };
    let hands_on = measure == Measure::SetConfig;
    let needs = registry::sql::fill(NEEDS);
    let sql = format!(
        "with {needs}, objects (name, acl) as ({objects})
         select o.name,
                exists (select from pg_catalog.aclexplode(o.acl) a where a.grantee = 0 and a.privilege_type = '{privilege}'),
                array(select pg_catalog.pg_get_userbyid(w.oid)::pg_catalog.text from needs w
                      where {who} and not exists (select from pg_catalog.aclexplode(o.acl) a where a.grantee = w.oid
                          and a.privilege_type = '{privilege}' and (a.is_grantable or not (w.migrates and {hands_on})))
                      order by 1),
                array(select pg_catalog.pg_get_userbyid(w.oid)::pg_catalog.text from needs w where w.migrates)
         from objects o order by 1"
    );
    let doing = || while_doing("look at the rights of everybody");
    let rows = operator.client().query_typed(&sql, &[]).await.map_err(doing())?;
    let read = |row: &tokio_postgres::Row| -> Result<Right, tokio_postgres::Error> {
        let (roles, migrating): (Vec<String>, Vec<String>) = (row.try_get(2)?, row.try_get(3)?);
        let needs = roles.into_iter().map(|role| {
            let hands_on = hands_on && migrating.contains(&role);
            (role, hands_on)
        });
        Ok(Right { name: row.try_get(0)?, kind, public_has: row.try_get(1)?, needs: needs.collect() })
    };
    rows.iter().map(|row| read(row).map_err(|error| -> Error { doing()(error) })).collect()
}
