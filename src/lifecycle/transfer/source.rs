//! The tenant whose data is read.

use crate::{
    db::{Operator, message},
    error::{Error, Result, TenantError, while_doing},
    ident::{SchemaName, literal},
    lock,
    migrate::execute::schema_lock::{self, Hold},
    registry,
    slug::TenantSlug,
    tenant::{Tenant, TenantStatus},
};

/// A tenant that cannot be migrated, renamed or dropped until this value is dropped. It is used as before.
pub(super) struct Source {
    pub(super) tenant: Tenant,
    pub(super) schema: SchemaName,
    /// Holds the locks in a transaction.
    lock: Operator,
}

impl Source {
    /// Takes the tenant's lock and the schema's migration lock, both shared, on a connection of its own.
    pub(super) async fn lock(operator: &Operator, slug: &TenantSlug) -> Result<Self> {
        registry::require(operator).await?;
        let schema = SchemaName::of_tenant(slug);
        let holder = operator.sibling().await?;
        let wait = operator.session().migration_wait;
        let doing = || format!("lock tenant {slug}");
        // The attempt before may have failed in its transaction.
        let sql = format!(
            "rollback;\nbegin isolation level read committed;\nselect {}, {}, {};\nselect pg_catalog.pg_advisory_xact_lock_shared({});\n{}",
            "pg_catalog.set_config('statement_timeout', '0', true)",
            format_args!("pg_catalog.set_config('lock_timeout', {}, true)", literal(&crate::db::milliseconds(wait))),
            "(select pg_catalog.count(pg_catalog.set_config(s.name, '0', true)) from pg_catalog.pg_settings s
              where s.name in ('idle_in_transaction_session_timeout', 'transaction_timeout'))",
            lock::tenant_key(slug),
            schema_lock::lock_sql(&schema, Hold::Shared)
        );
        let answer = schema_lock::run(&holder, &schema, &sql, wait, doing).await?;
        answer.complete().map_err(while_doing(doing()))?;
        let facts = registry::facts_of(&holder, slug).await?;
        let Some(tenant) = facts.tenant.clone() else {
            return Err(Error::Tenant(TenantError::NotFound { tenant: slug.clone() }));
        };
        facts.refuse_other_organization()?;
        facts.refuse_being_dropped()?;
        let status = tenant.status.clone();
        if status == TenantStatus::Onboarding {
            let missing = "it is still being created".into();
            return Err(Error::Tenant(TenantError::NotReady { tenant: slug.clone(), status, missing }));
        }
        if facts.owner.is_none() || !facts.has_ledger {
            return Err(Error::Tenant(TenantError::SchemaGone { tenant: slug.clone(), status, schema }));
        }
        Ok(Self { tenant, schema, lock: holder })
    }

    /// Waits for a change of the database's isolation, and makes the next one wait as long.
    pub(super) async fn keep_isolation(&self) -> Result<()> {
        let doing = || while_doing(format!("lock tenant {}", self.tenant.slug));
        let sql = format!("select pg_catalog.pg_advisory_xact_lock_shared({})", lock::database_key());
        message::run(self.lock.client(), &sql).await.map_err(doing())?.complete().map(drop).map_err(doing())
    }
}
