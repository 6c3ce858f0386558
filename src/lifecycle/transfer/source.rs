//! The tenant whose data is read.

use super::{
    contents::{Contents, of},
    fields::FieldReader,
};
use crate::{
    db::{
        Operator, message,
        message_head::{Hold, MessageHead},
        milliseconds,
    },
    error::{Error, LedgerProblem, MissingPart, Result, TenantError, TransferError, while_doing},
    ident::{SchemaName, literal},
    lock,
    migrate::execute::{schema_lock, step_log::FileProgress},
    registry,
    slug::TenantSlug,
    tenant::{Tenant, TenantStatus},
};
use std::time::Duration;
use tokio_postgres::error::SqlState;

/// A tenant that cannot be migrated, renamed or dropped until this value is dropped. Services can use it as before.
pub(super) struct SourceTenant {
    pub(super) tenant: Tenant,
    pub(super) schema: SchemaName,
    /// The connection whose transaction has the locks.
    lock: Operator,
}

impl SourceTenant {
    /// Takes the tenant's lock and the schema's migration lock, both shared, on a separate connection. Its
    /// `application_name` contains the command.
    pub(super) async fn lock(operator: &Operator, slug: &TenantSlug, command: &str) -> Result<Self> {
        registry::require(operator).await?;
        let schema = SchemaName::of_tenant(slug);
        let holder = operator.sibling().await?;
        let wait = operator.session().migration_wait;
        let doing = || format!("lock tenant {slug}");
        let name = format!("{} {command}", operator.session().application_name);
        // The previous attempt may have failed in its transaction.
        let head = MessageHead::begin(operator)
            .lock_timeout(wait)
            .statement_timeout(Duration::ZERO)
            .set("application_name", name.trim())
            .lock_shared(lock::tenant_key(slug))
            .lock_schema(&schema, Hold::Shared)
            .sql();
        let sql = format!(
            "rollback;\n{head}select pg_catalog.count(pg_catalog.set_config(s.name, '0', true)) from pg_catalog.pg_settings s
              where s.name in ('idle_in_transaction_session_timeout', 'transaction_timeout');\n"
        );
        let answer = schema_lock::run(&holder, &schema, &sql, wait, doing).await?;
        answer.complete().map_err(while_doing(doing()))?;
        let facts = registry::facts_of(&holder, slug).await?;
        let Some(tenant) = facts.tenant.clone() else {
            return Err(registry::not_found(operator, slug).await);
        };
        facts.refuse_other_organization()?;
        facts.refuse_being_dropped()?;
        let status = tenant.status.clone();
        if status == TenantStatus::Onboarding {
            let missing = MissingPart::Creation;
            return Err(Error::Tenant(TenantError::NotReady { tenant: slug.clone(), status, missing }));
        }
        if facts.owner.is_none() {
            return Err(Error::Tenant(TenantError::SchemaGone { tenant: slug.clone(), status, schema }));
        }
        if !facts.has_ledger {
            let missing = MissingPart::Ledger { schema, why: Box::new(LedgerProblem::NoLedger) };
            return Err(Error::Tenant(TenantError::NotReady { tenant: slug.clone(), status, missing }));
        }
        if let Some(progress) = FileProgress::read(&holder, &schema).await?.filter(|found| !found.is_nothing()) {
            return Err(progress.refused(&schema, "it is not complete: run `cgk migrate` before the tenant is copied"));
        }
        Ok(Self { tenant, schema, lock: holder })
    }

    /// Returns the tables whose rows can be read, including the ledger.
    pub(super) async fn table_names(&self) -> Result<Vec<String>> {
        Contents::table_names(&self.lock, &self.schema).await
    }

    /// Locks tables against all changes that remove or rewrite rows outside of snapshots: TRUNCATE, ALTER TABLE, DROP.
    /// This must be the first statement of the reader's transaction. The next statement takes the snapshot, so no such
    /// change can happen between the two.
    pub(super) async fn lock_tables(&self, reader: &Operator, tables: &[String], waited: Duration) -> Result<()> {
        let names: Vec<String> = tables.iter().map(|table| of(&self.schema, table)).collect();
        let sql = format!(
            "set local lock_timeout = {};\nlock table {} in access share mode",
            literal(&milliseconds(waited)),
            names.join(", ")
        );
        match message::run(reader.client(), &sql).await.and_then(message::Answer::complete) {
            Ok(_) => Ok(()),
            Err(error) if error.code() == Some(&SqlState::LOCK_NOT_AVAILABLE) => {
                let tables = self.locked_tables().await?;
                Err(TransferError::TableLocked { tenant: self.tenant.slug.clone(), tables, waited }.into())
            }
            Err(error) if error.code() == Some(&SqlState::UNDEFINED_TABLE) => Err(self.changed()),
            Err(error) => Err(while_doing(format!("lock the tables of tenant {}", self.tenant.slug))(error)),
        }
    }

    /// Reads the contents in the reader's snapshot. Checks that its tables are those that were locked.
    pub(super) async fn contents(&self, reader: &Operator, locked: &[String]) -> Result<Contents> {
        let contents = Contents::read(reader, &self.schema).await?;
        if contents.tables.iter().all(|table| locked.contains(&table.name)) {
            Ok(contents)
        } else {
            Err(self.changed())
        }
    }

    /// Refuses if the server has terminated the session with the locks, because a migration can have started since
    /// then.
    pub(super) async fn refuse_unlocked(&self) -> Result<()> {
        let doing = || while_doing(format!("keep tenant {} locked until its rows were read", self.tenant.slug));
        message::run(self.lock.client(), "select").await.map_err(doing())?.complete().map(drop).map_err(doing())
    }

    fn changed(&self) -> Error {
        Error::Tenant(TenantError::Changed { tenant: self.tenant.slug.clone() })
    }

    /// Describes the tables that other sessions lock against readers.
    async fn locked_tables(&self) -> Result<String> {
        let fields = FieldReader { operator: &self.lock, what: "look who locks the tables".into() };
        let sql = format!(
            "select coalesce(pg_catalog.string_agg(distinct pg_catalog.format('%s (process %s)', c.relname, l.pid), ', '),
                             'a table') || ' is'
             from pg_catalog.pg_locks l join pg_catalog.pg_class c on c.oid = l.relation
             join pg_catalog.pg_namespace n on n.oid = c.relnamespace
             where l.mode = 'AccessExclusiveLock' and n.nspname::pg_catalog.text = {} and c.relkind in ('r', 'p')
               and l.database = (select d.oid from pg_catalog.pg_database d where d.datname = pg_catalog.current_database())",
            literal(self.schema.as_str())
        );
        let rows = fields.rows(&sql).await?;
        rows.first().map_or_else(|| Ok(String::new()), |row| fields.of(row, 0))
    }

    /// Waits for a change of the database's isolation mode. The next such change waits for this transaction.
    pub(super) async fn keep_isolation(&self) -> Result<()> {
        let doing = || while_doing(format!("lock tenant {}", self.tenant.slug));
        let sql = format!("select pg_catalog.pg_advisory_xact_lock_shared({})", lock::database_key());
        message::run(self.lock.client(), &sql).await.map_err(doing())?.complete().map(drop).map_err(doing())
    }
}
