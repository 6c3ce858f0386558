//! Builds the messages of a migration without a transaction: their parts, their guards, and their settings.

use super::super::{
    concurrent::Concurrent,
    script::Script,
    step_log::{self, FileProgress},
    transactionality::is_setting,
    unit,
};
use crate::{
    db::{
        Operator, message,
        message_head::{LOST_CLIENT_CHECK, set_local},
        milliseconds,
    },
    error::{Error, Result},
    ident::{Ident, RoleName, literal},
    lock,
    migrate::{files::file::MigrationFile, fileset::record::FileRecord, plan::SchemaPlan},
    migration::Set,
    version::Checksum,
};
use tokio_postgres::error::SqlState;

/// One attempt at one file.
pub(super) struct Stepper<'a> {
    pub(super) operator: &'a Operator,
    pub(super) role: Option<&'a RoleName>,
    pub(super) owner: Option<&'a Ident>,
    pub(super) plan: &'a SchemaPlan<'a>,
    pub(super) file: &'a MigrationFile,
    /// The text of each statement for this database's encoding. It has no CONCURRENTLY if no session uses the schema.
    pub(super) texts: Vec<String>,
    /// Checks for statements whose text was simplified. A check fails if the server would refuse the original
    /// statement.
    pub(super) checks: Vec<Option<String>>,
    pub(super) files: Option<(&'a FileRecord, Set)>,
    /// The backend that holds the lock.
    pub(super) pid: i32,
}

/// A setting of the file must not apply to cgk's own statements.
pub(super) const OWN_TIMEOUT: &str = "set local statement_timeout = 0;";

/// The parts of a message of this module.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum StepSection {
    Session,
    /// Checks that the backend is still the one that took the lock.
    Backend,
    /// Checks that the lock is still held.
    Held,
    /// Checks that the ledger still matches the plan.
    Check,
    /// Checks that the server would execute the original statement of the file.
    Written,
    /// Checks that the session still uses its schema.
    Place,
    Record,
    /// Writes the ledger's row.
    Ledger,
}

/// How the transaction of a message is controlled.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Transaction {
    /// The implicit transaction, which ends with the message.
    Implicit,
    /// A transaction that this message starts and a later one ends.
    Explicit,
}

/// Why a statement was not executed.
pub(super) enum StepFailure {
    /// It cannot share a transaction.
    NeedsToBeAlone,
    With(Error),
}

/// The server's error for a message.
pub(super) struct Refused {
    pub(super) state: Option<SqlState>,
    pub(super) number: Option<usize>,
    pub(super) source: tokio_postgres::Error,
}

impl Refused {
    /// Whether a condition of cgk failed, and not a statement.
    pub(super) fn is_demand(&self) -> bool {
        self.state == Some(SqlState::DIVISION_BY_ZERO)
    }
}

impl Stepper<'_> {
    /// Returns the start of a message that is one transaction: its settings and the guards.
    pub(super) fn script(&self, transaction: Transaction) -> Script<StepSection> {
        let mut script = Script::new();
        if transaction == Transaction::Explicit {
            script.line("begin;");
        }
        script.line("reset role; reset all;");
        let settings: Vec<String> =
            self.session_settings().iter().map(|(name, value)| set_local(name, value)).collect();
        script.part(StepSection::Session, &settings);
        if let Some(owner) = self.owner {
            script.line(&format!("set local role {};", owner.quoted()));
        }
        self.guard(&mut script);
        script
    }

    /// Prepares the session for the next statement. With `done`, first records the previous one.
    pub(super) async fn enter_session(&self, progress: &FileProgress, done: Option<usize>) -> Result<()> {
        let mut script = Script::new();
        script.line("reset role; reset all;");
        let settings = self.session_settings();
        script.part(StepSection::Session, &settings.iter().map(|(name, value)| set(name, value)).collect::<Vec<_>>());
        if let Some(owner) = self.owner {
            script.line(&format!("set role {};", owner.quoted()));
        }
        self.guard(&mut script);
        script.part(StepSection::Place, &[]);
        script.demand(&self.in_place());
        if let Some(done) = done {
            script.part(StepSection::Record, &[]);
            let checksum = step_log::checksum(self.file, done).expect("the statement is one of the file's");
            script.line(&self.update_sql(done, false, &checksum));
        }
        // This is last, because settings of the file must not apply to cgk's own statements.
        script.part(StepSection::Session, &[]);
        script.line(&self.settings_before(progress.done));
        self.send(&script, None).await.map_err(|(part, error)| self.error(part, error))
    }

    /// Records whether the next statement is started.
    pub(super) async fn announce(&self, progress: &FileProgress) -> Result<()> {
        let mut script = self.script(Transaction::Implicit);
        script.part(StepSection::Record, &[]);
        let carried_out = progress.done + usize::from(progress.begun);
        let checksum = step_log::checksum(self.file, carried_out).expect("the statement is one of the file's");
        script.line(&self.update_sql(progress.done, progress.begun, &checksum));
        self.send(&script, None).await.map_err(|(part, error)| self.error(part, error))
    }

    /// Checks the state of the session after the statement, and records it.
    pub(super) fn record(&self, script: &mut Script<StepSection>, done: usize) {
        script.part(StepSection::Place, &[]);
        script.demand(&self.in_place());
        script.part(StepSection::Record, &[]);
        let checksum = step_log::checksum(self.file, done).expect("the statement is one of the file's");
        script.line(&self.update_sql(done, false, &checksum));
    }

    /// Sends a message. An error includes the part in which it occurred. `number` is the statement of the file in the
    /// message.
    pub(super) async fn send(
        &self,
        script: &Script<StepSection>,
        number: Option<usize>,
    ) -> Result<(), (Option<StepSection>, Refused)> {
        let refused = |source: tokio_postgres::Error| Refused { state: source.code().cloned(), number, source };
        let mut answer = match message::run_keeping(self.operator.client(), &script.sql, script.kept()).await {
            Ok(answer) => answer,
            Err(source) => return Err((None, refused(source))),
        };
        let Some(source) = answer.error.take() else { return Ok(()) };
        let reached = source.as_db_error().and_then(|error| script.reached(&answer, error, |_| false));
        Err((reached.map(|reached| reached.kind), refused(source)))
    }

    pub(super) fn text(&self, number: usize) -> &str {
        &self.texts[number]
    }

    /// Returns the original statement of the file, including CONCURRENTLY.
    pub(super) fn written(&self, number: usize) -> String {
        let sql = self.file.sql_for(&self.operator.facts().encoding);
        sql[self.file.statements()[number].range.clone()].to_owned()
    }

    fn guard(&self, script: &mut Script<StepSection>) {
        script.part(StepSection::Backend, &[]);
        script.demand(&format!("pg_catalog.pg_backend_pid() = {}", self.pid));
        script.part(StepSection::Held, &[]);
        let key = lock::steps_key(&self.plan.schema).cast_unsigned();
        script.demand(&format!(
            "exists (select from pg_catalog.pg_locks where locktype = 'advisory' and pid = pg_catalog.pg_backend_pid() \
             and classid = {} and objid = {} and objsubid = 1 and mode = 'ExclusiveLock' and granted)",
            key >> 32,
            key & 0xffff_ffff,
        ));
    }

    fn in_place(&self) -> String {
        let role = self.owner.map_or(self.operator.facts().role.as_str(), Ident::as_str);
        format!(
            "{} and current_user::pg_catalog.text = {}::pg_catalog.text",
            unit::in_schema(&self.plan.schema),
            literal(role)
        )
    }

    fn session_settings(&self) -> Vec<(&'static str, String)> {
        let session = self.operator.session();
        let mut settings = vec![
            ("lock_timeout", milliseconds(session.lock_timeout)),
            ("statement_timeout", milliseconds(session.migration_statement_timeout)),
            ("search_path", self.operator.search_path().of(&self.plan.schema)),
        ];
        // Without this, the statement of a killed client would run to its end, with its lock.
        if self.operator.facts().notices_lost_clients {
            let (name, value) = LOST_CLIENT_CHECK;
            settings.push((name, value.into()));
        }
        settings
    }

    /// Returns the settings of a statement in addition to cgk's own: a longer timeout for statements that block no
    /// other session while they wait, and the settings that the file itself has SET so far, in any session.
    pub(super) fn settings_before(&self, number: usize) -> String {
        let mut settings = String::new();
        if Concurrent::of(&self.file.statements()[number.min(self.file.statements().len() - 1)])
            .is_some_and(|concurrent| concurrent.waits_quietly())
        {
            let wait = milliseconds(self.operator.session().migration_wait);
            settings.push_str(&format!("select {};\n", set("lock_timeout", &wait)));
        }
        for (index, statement) in self.file.statements()[..number].iter().enumerate() {
            if is_setting(statement) {
                settings.push_str(self.text(index));
                settings.push_str("\n;\n");
            }
        }
        settings
    }

    fn update_sql(&self, done: usize, begun: bool, checksum: &Checksum) -> String {
        step_log::update_sql(&self.plan.schema, self.file.id(), done, begun, checksum)
    }
}

/// Returns the first row of the response.
pub(super) async fn ask(operator: &Operator, sql: &str) -> Result<Vec<Option<String>>, tokio_postgres::Error> {
    let answer = message::run(operator.client(), sql).await?.complete()?;
    let row = answer.rows.first().map(|(_, row)| row);
    Ok(row.map_or_else(Vec::new, |row| {
        (0..row.len()).map(|column| row.try_get(column).ok().flatten().map(ToOwned::to_owned)).collect()
    }))
}

/// Sets a configuration parameter of the session.
pub(super) fn set(name: &str, value: &str) -> String {
    format!("pg_catalog.set_config('{name}', {}, false)", literal(value))
}
