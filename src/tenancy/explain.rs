//! Finds out why a tenant cannot be entered, from one row about it. It uses no connection.

use super::protocol::TenantTarget;
use crate::{
    binding::Binding,
    error::{Error, MissingPart, SetupError, TenantError},
    registry,
    tenant::{OrganizationId, TenantStatus},
};
use tokio_postgres::Row;
use uuid::Uuid;

/// The number of columns of [`diagnose_sql`].
const COLUMNS: usize = 11;

/// Returns a query over the registry and the catalogue, with one row, for a tenant that could not be entered. Its
/// parameters are all text: slug, schema, role. From PostgreSQL 16 on, a member of a role may lack the right to act as
/// it. Older servers do not have the keyword for that.
pub(super) fn diagnose_sql() -> String {
    format!(
        "
select {status},
       exists (select from pg_catalog.pg_namespace n where n.nspname::pg_catalog.text = $2),
       exists (select from pg_catalog.pg_roles r where r.rolname::pg_catalog.text = $3),
       coalesce((select pg_catalog.pg_has_role(current_user, r.oid,
                   case when pg_catalog.current_setting('server_version_num')::pg_catalog.int4 >= 160000 then 'set' else 'member' end)
                 from pg_catalog.pg_roles r where r.rolname::pg_catalog.text = $3), false),
       coalesce((select pg_catalog.has_schema_privilege(r.oid, n.oid, 'usage') from pg_catalog.pg_roles r,
                 pg_catalog.pg_namespace n where r.rolname::pg_catalog.text = $3 and n.nspname::pg_catalog.text = $2), false),
       current_user::pg_catalog.text,
       coalesce((select pg_catalog.has_schema_privilege(n.oid, 'usage') from pg_catalog.pg_namespace n
                 where n.nspname::pg_catalog.text = $2), false),
       pg_catalog.current_setting('server_version_num')::pg_catalog.int4 >= 160000,
       {id},
       (select d.description from pg_catalog.pg_description d join pg_catalog.pg_namespace n on n.oid = d.objoid
         where d.classoid = 'pg_catalog.pg_namespace'::pg_catalog.regclass and d.objsubid = 0 and n.nspname::pg_catalog.text = $2),
       {hidden}",
        status = registry::sql::status_sql("$1"),
        id = registry::sql::id_sql("$1"),
        hidden = registry::REGISTRY_IS_HIDDEN,
    )
}

/// A row of [`diagnose_sql`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct EntryDiagnosis {
    /// The status in the registry; `None` if the registry has no row.
    status: Option<String>,
    has_schema: bool,
    has_role: bool,
    /// Whether the login may act as the role.
    may_act: bool,
    /// Whether the role may use the schema.
    role_may_use: bool,
    /// The name of the login.
    login: String,
    /// Whether the login may use the schema.
    login_may_use: bool,
    /// Whether this server's memberships have the option SET.
    has_set_option: bool,
    pub(super) id: Option<Uuid>,
    /// The comment on the schema.
    comment: Option<String>,
    /// Whether row level security hides all rows of the registry from the login.
    is_hidden: bool,
}

impl EntryDiagnosis {
    pub(super) fn of_row(row: &Row) -> Result<Self, tokio_postgres::Error> {
        Ok(Self {
            status: row.try_get(0)?,
            has_schema: row.try_get(1)?,
            has_role: row.try_get(2)?,
            may_act: row.try_get(3)?,
            role_may_use: row.try_get(4)?,
            login: row.try_get(5)?,
            login_may_use: row.try_get(6)?,
            has_set_option: row.try_get(7)?,
            id: row.try_get(8)?,
            comment: row.try_get(9)?,
            is_hidden: row.try_get(10)?,
        })
    }

    /// Reads the row in the text format. Returns `None` if it is not a row of this query.
    pub(super) fn of_text(columns: &[Option<&str>]) -> Option<Self> {
        if columns.len() != COLUMNS {
            return None;
        }
        let text = |index: usize| columns[index].map(ToOwned::to_owned);
        let is = |index: usize| match columns[index]? {
            "t" => Some(true),
            "f" => Some(false),
            _ => None,
        };
        let id = match columns[8] {
            Some(id) => Some(id.parse().ok()?),
            None => None,
        };
        Some(Self {
            status: text(0),
            has_schema: is(1)?,
            has_role: is(2)?,
            may_act: is(3)?,
            role_may_use: is(4)?,
            login: text(5)?,
            login_may_use: is(6)?,
            has_set_option: is(7)?,
            id,
            comment: text(9),
            is_hidden: is(10)?,
        })
    }

    /// Returns what is wrong with the tenant, or `None` if nothing is.
    pub(super) fn explain(&self, target: &TenantTarget) -> Option<Error> {
        let tenant = target.slug.clone();
        let Some(status) = &self.status else {
            return Some(match self.is_hidden {
                true => self.lacks(
                    "read public.organizations: row level security shows it no row".into(),
                    format!("cgk setup:database --app-role {}", self.login),
                ),
                false => Error::Tenant(TenantError::NotFound { tenant }),
            });
        };
        let status = TenantStatus::from(&**status);
        match status {
            TenantStatus::Suspended => return Some(Error::Tenant(TenantError::Suspended { tenant })),
            TenantStatus::Other(_) => return Some(Error::Tenant(TenantError::StatusUnknown { tenant, status })),
            TenantStatus::Active | TenantStatus::Onboarding => {}
        }
        let is_onboarding = status == TenantStatus::Onboarding;
        let not_ready = |missing| Some(Error::Tenant(TenantError::NotReady { tenant, status, missing }));
        if !self.has_schema {
            return not_ready(MissingPart::Schema { schema: target.schema.clone() });
        }
        if let Some(expected) = self.id.map(OrganizationId)
            && let Some(found) = Binding::of(self.comment.as_deref()).other_than(expected)
        {
            let (tenant, schema, found) = (target.slug.clone(), target.schema.clone(), found.to_owned());
            return Some(Error::Tenant(TenantError::OrganizationMismatch { tenant, schema, expected, found }));
        }
        match self.missing_right(target) {
            Some(Missing::Part(missing)) => return not_ready(missing),
            Some(Missing::Right { needed, grant }) => return Some(self.lacks(needed, grant)),
            None => {}
        }
        if is_onboarding { not_ready(MissingPart::Creation) } else { None }
    }

    /// Returns what the login, or the tenant's role, needs and does not have.
    fn missing_right(&self, target: &TenantTarget) -> Option<Missing> {
        let (schema, login) = (&target.schema, &self.login);
        let Some(role) = &target.role else {
            return (!self.login_may_use).then(|| Missing::Right {
                needed: format!("use schema {}", schema.as_str()),
                grant: format!("grant usage on schema {} to {login}", schema.quoted()),
            });
        };
        if !self.has_role {
            Some(Missing::Part(MissingPart::Role { role: role.clone() }))
        } else if !self.role_may_use {
            Some(Missing::Part(MissingPart::SchemaUsage { role: role.clone(), schema: schema.clone() }))
        } else if !self.may_act {
            // The grant is repeated with the option, because a membership WITH SET FALSE may exist.
            let option = if self.has_set_option { " with set true" } else { "" };
            Some(Missing::Right {
                needed: format!("act as role {}", role.as_str()),
                grant: format!("grant {} to {login}{option}", role.quoted()),
            })
        } else {
            None
        }
    }

    fn lacks(&self, needed: String, grant: String) -> Error {
        Error::Setup(SetupError::Privilege { needed, grant, role: self.login.clone(), source: None })
    }
}

enum Missing {
    /// A part of the tenant. `cgk tenant:create` creates it.
    Part(MissingPart),
    /// A right of the login.
    Right { needed: String, grant: String },
}
