//! The progress of a migration without a transaction in a schema: the table `schema_migration_steps`, which exists only
//! while a file is partially applied.

use crate::{
    db::{
        Operator,
        message::{self, Answer},
        message_head::{MessageHead, demand},
    },
    error::{Error, MigrationError, Result, while_doing},
    ident::{RoleName, SchemaName, literal},
    lock,
    migrate::files::{file::MigrationFile, source::Source},
    migration::MigrationId,
    row_check,
    version::{Checksum, Version},
};
use tokio_postgres::error::SqlState;

/// The table of the step log.
pub(crate) use crate::migration::STEPS_TABLE;

/// Why a partially applied file cannot be continued.
pub(in crate::migrate) const WITHOUT_FILE: &str = "its file is missing or was moved";

/// Returns the checksum of a file's first statements; `None` if it has fewer. Comments between them are not included.
pub(in crate::migrate) fn checksum(file: &MigrationFile, statements: usize) -> Option<Checksum> {
    let texts = file.statements().get(..statements)?.iter();
    let texts: Vec<&str> = texts.map(|statement| &file.sql()[statement.range.clone()]).collect();
    Some(Checksum::of(&texts.join(";\n")))
}

/// The progress of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FileProgress {
    pub(in crate::migrate) id: MigrationId,
    /// The number of executed statements.
    pub(in crate::migrate) done: usize,
    /// Whether the next statement was announced. The catalogue shows its result.
    pub(in crate::migrate) begun: bool,
    /// The checksum of the executed and announced statements.
    pub(in crate::migrate) checksum: Checksum,
}

impl FileProgress {
    /// Returns the error for a file that differs from the one that was started.
    pub(crate) fn refused(&self, schema: &SchemaName, problem: &str) -> Error {
        let begun = if self.begun { ", and one more is started" } else { "" };
        let statements = crate::migration::count(self.done, "statement");
        let problem = format!("{statements} of it done{begun}, and {problem}");
        Error::Migration(MigrationError::PartiallyApplied {
            schema: schema.clone(),
            migration: self.id.clone(),
            problem,
        })
    }

    /// Returns why a file cannot be continued from here. `None` if it starts with the text that was already executed.
    pub(in crate::migrate) fn problem(&self, file: Option<&MigrationFile>) -> Option<&'static str> {
        let Some(file) = file.filter(|file| *file.id() == self.id) else { return Some(WITHOUT_FILE) };
        if file.is_transactional() {
            return Some("the file no longer says that it runs without a transaction");
        }
        match checksum(file, self.done + usize::from(self.begun)) {
            Some(checksum) if checksum == self.checksum => None,
            Some(_) => Some("an executed statement was edited"),
            None => Some("the file has fewer statements now"),
        }
    }

    /// Returns the file that would have to be applied before this one is continued. `next` is the first file that the
    /// ledger does not have.
    pub(in crate::migrate) fn overtaken_by<'f>(&self, next: Option<&'f MigrationFile>) -> Option<&'f MigrationFile> {
        next.filter(|next| next.id().version < self.id.version)
    }

    /// Reads the progress of a file of this set, and finds the file. `None` if no statement was executed, if the role
    /// may not read the progress, because then it may not migrate the schema either, or if the table is not cgk's.
    pub(in crate::migrate) async fn of_set<'s>(
        operator: &Operator,
        schema: &SchemaName,
        source: &'s Source,
    ) -> Result<Option<(Self, Option<&'s MigrationFile>)>> {
        let found = match Self::read(operator, schema).await {
            Err(error)
                if [Some(&SqlState::INSUFFICIENT_PRIVILEGE), Some(&SqlState::UNDEFINED_COLUMN)]
                    .contains(&error.sqlstate()) =>
            {
                None
            }
            found => found?.filter(|found| !found.is_nothing()),
        };
        Ok(found.map(|found| {
            let file = source.files().iter().find(|file| *file.id() == found.id);
            (found, file)
        }))
    }

    /// Returns whether no statement was executed or announced.
    pub(crate) fn is_nothing(&self) -> bool {
        self.done == 0 && !self.begun
    }

    pub(crate) async fn read(operator: &Operator, schema: &SchemaName) -> Result<Option<Self>> {
        let doing = || while_doing(format!("read the progress of the migration of schema {:?}", schema.as_str()));
        let table = schema.qualified(STEPS_TABLE);
        let there = format!("select pg_catalog.to_regclass({}) is not null", literal(&table));
        let there = operator.client().query_typed(&there, &[]).await.map_err(doing())?;
        if !there.first().map_or(Ok(false), |row| row.try_get(0)).map_err(doing())? {
            return Ok(None);
        }
        let sql = format!("select version, name, done, begun, checksum from {table} order by version limit 1");
        let rows = operator.client().query_typed(&sql, &[]).await.map_err(doing())?;
        let Some(row) = rows.first() else { return Ok(None) };
        let (version, done): (i64, i32) = (row.try_get(0).map_err(doing())?, row.try_get(2).map_err(doing())?);
        let found = |found: String| Error::Unexpected { doing: format!("read {table}"), found };
        let version = Version::new(version).ok_or_else(|| found(format!("version {version}")))?;
        Ok(Some(Self {
            id: MigrationId { version, name: row.try_get(1).map_err(doing())? },
            done: usize::try_from(done).map_err(|_| found(format!("{done} statements done")))?,
            begun: row.try_get(3).map_err(doing())?,
            checksum: Checksum::recorded(row.try_get::<_, String>(4).map_err(doing())?),
        }))
    }
}

/// Deletes the record of a file of which no statement was executed, as a run leaves it that is killed in the first one.
/// Returns whether there was such a record. Locks: the steps lock, tried, until the message ends.
pub(in crate::migrate) async fn forget_nothing(operator: &Operator, schema: &SchemaName) -> Result<bool> {
    if !FileProgress::read(operator, schema).await?.is_some_and(|found| found.is_nothing()) {
        return Ok(false);
    }
    let table = schema.qualified(STEPS_TABLE);
    let free = demand(&format!("pg_catalog.pg_try_advisory_xact_lock({})", lock::steps_key(schema)));
    let nothing = demand(&format!("not exists (select from {table} where done > 0 or begun)"));
    let sql = format!("{}select {free};\nselect {nothing};\ndrop table {table}", MessageHead::of(operator).sql());
    match message::run(operator.client(), &sql).await.and_then(Answer::complete) {
        Ok(_) => Ok(true),
        // Another run works on it, or has just finished it.
        Err(error) if [Some(&SqlState::DIVISION_BY_ZERO), Some(&SqlState::UNDEFINED_TABLE)].contains(&error.code()) => {
            Ok(false)
        }
        Err(error) => Err(while_doing(format!("remove {table}, which records nothing"))(error)),
    }
}

/// Returns the error for a schema in which another file than the next one is partially applied.
pub(in crate::migrate) async fn refused(operator: &Operator, schema: &SchemaName) -> Result<Error> {
    Ok(match FileProgress::read(operator, schema).await? {
        Some(found) => found.refused(schema, WITHOUT_FILE),
        // Another run has just finished it.
        None => Error::Migration(MigrationError::Contended { schema: schema.clone(), tries: 1 }),
    })
}

pub(in crate::migrate) fn create_sql(schema: &SchemaName, role: Option<&RoleName>) -> String {
    let table = schema.qualified(STEPS_TABLE);
    let mut sql = format!(
        "create table {table} (
    version bigint primary key,
    name text not null,
    done integer not null,
    begun boolean not null,
    checksum text not null,
    started_at timestamptz not null default pg_catalog.clock_timestamp(),
    changed_at timestamptz not null default pg_catalog.clock_timestamp()
);
revoke all on {table} from public;
"
    );
    if let Some(role) = role {
        sql.push_str(&format!("revoke all on {table} from {};\n", role.quoted()));
    }
    sql
}

pub(in crate::migrate) fn insert_sql(schema: &SchemaName, progress: &FileProgress) -> String {
    format!(
        "insert into {} (version, name, done, begun, checksum) values ({}, {}, {}, {}, {});\n{}",
        schema.qualified(STEPS_TABLE),
        progress.id.version.get(),
        literal(&progress.id.name),
        progress.done,
        progress.begun,
        literal(progress.checksum.as_str()),
        demand_sql(schema, &progress.id, progress.done, progress.begun, &progress.checksum),
    )
}

/// Records how many statements are executed, and whether the next one is started.
pub(in crate::migrate) fn update_sql(
    schema: &SchemaName,
    id: &MigrationId,
    done: usize,
    begun: bool,
    checksum: &Checksum,
) -> String {
    format!(
        "update {} set done = {done}, begun = {begun}, checksum = {}, changed_at = pg_catalog.clock_timestamp() \
         where version = {};\n{}",
        schema.qualified(STEPS_TABLE),
        literal(checksum.as_str()),
        id.version.get(),
        demand_sql(schema, id, done, begun, checksum),
    )
}

/// Checks that the record has the written content. Otherwise a statement that is not recorded would be executed again.
fn demand_sql(schema: &SchemaName, id: &MigrationId, done: usize, begun: bool, checksum: &Checksum) -> String {
    let table = schema.qualified(STEPS_TABLE);
    let condition = format!(
        "exists (select from {table} where version = {} and name = {} and done = {done} and begun = {begun} and \
         checksum = {})",
        id.version.get(),
        literal(&id.name),
        literal(checksum.as_str()),
    );
    row_check::demand_sql(&table, &condition, "")
}
