//! One schema's migration as one message: everything it needs is in one implicit transaction, and one round trip carries it.
//!
//! Committed together or not at all: provisioning, every file's statements, the ledger's rows and its comment. Rows of our
//! own, `cgk:<random>:<n>`, mark where each part begins, so that an error can be laid at the right file and line.

use super::{
    ledger::{self, LedgerDigest},
    plan::Plan,
    settle::Backoff,
    source::MigrationFile,
};
use crate::{
    db::{
        Operator,
        message::{self, Answer},
    },
    error::{Error, Result, while_doing},
    ident::{Ident, RoleName, SchemaName, literal, quoted},
    lock,
    migration::{MigrationFailure, Place},
    sqlstate,
};
use std::time::Duration;
use tokio_postgres::error::{DbError, ErrorPosition, SqlState};

/// What is to be done to one schema, beyond its plan.
pub(crate) struct Unit<'a> {
    pub(crate) plan: &'a Plan<'a>,
    /// The tenant's role, which must not get at the ledger.
    pub(crate) role: Option<&'a RoleName>,
    /// Statements that make the schema usable: registry row, schema, role, grants.
    pub(crate) provision: String,
    pub(crate) ledger: LedgerPresence,
    /// The schema's owner, where it is somebody else: objects are created in its name.
    pub(crate) owner: Option<Ident>,
}

/// Whether a schema has its ledger yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LedgerPresence {
    Present,
    Absent,
}

/// How a try ended that did not fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Landing {
    /// Committed.
    Done,
    /// The schema was not as the plan took it to be; nothing was done. Look again and plan anew.
    Moved,
    /// Another run is at the schema; nothing was done.
    Busy,
}

/// What to do while another run is at the schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// Wait, as long as the configuration says.
    Wait,
    /// Come back later.
    Try,
}

/// Carries a unit out, again where a lock timeout, a deadlock or a serialization failure undid it.
///
/// Locks and cancel safety: as [`attempt`].
pub(crate) async fn apply(operator: &Operator, unit: &Unit<'_>) -> Result<Landing> {
    let mut backoff = Backoff::new();
    loop {
        match attempt(operator, unit, Turn::Wait).await {
            Err(error) => match backoff.after(&error) {
                Some(pause) => {
                    tracing::info!(schema = unit.plan.schema.as_str(), %error, "trying again");
                    tokio::time::sleep(pause).await;
                }
                None => return Err(error),
            },
            landed => return landed,
        }
    }
}

/// Tries a unit once.
///
/// Locks: the schema's migration lock ([`lock::migration_key`]) and whatever the files lock, to the end of the message.
/// Cancel safety: dropped, the server may still finish and commit the message; the ledger tells.
pub(crate) async fn attempt(operator: &Operator, unit: &Unit<'_>, turn: Turn) -> Result<Landing> {
    let script = Script::of(operator, unit, turn);
    let schema = &unit.plan.schema;
    let answer = message::run(operator.client(), &script.sql)
        .await
        .map_err(while_doing(format!("migrate schema {:?}", schema.as_str())))?;
    script.judge(operator, unit, answer)
}

/// The message, and what each part of it is.
struct Script<'a> {
    sql: String,
    parts: Vec<Part<'a>>,
    /// How long the message waits for its turn.
    wait: Duration,
    /// What the marks begin with; no row of a migration looks like that.
    mark: String,
}

struct Part<'a> {
    kind: PartKind<'a>,
    /// Where the part's own text begins in the message.
    start: usize,
}

#[derive(Clone, Copy)]
enum PartKind<'a> {
    Lock,
    Provision,
    Check,
    File(&'a MigrationFile),
    /// The file's row.
    Record(&'a MigrationFile),
    Comment,
}

impl<'a> Script<'a> {
    fn of(operator: &Operator, unit: &Unit<'a>, turn: Turn) -> Self {
        let (plan, schema) = (unit.plan, &unit.plan.schema);
        let mark = format!("cgk:{:08x}:", rand::random::<u32>());
        let mut script = Self { sql: String::new(), parts: Vec::new(), wait: operator.session().migration_wait, mark };
        let session = operator.session();
        let set = |name: &str, value: &str| format!("pg_catalog.set_config('{name}', {}, true)", literal(value));
        let milliseconds = crate::db::milliseconds;

        // Whatever the database's default is: the check behind the lock must see what the lock's last holder committed.
        script.line("set transaction isolation level read committed;");
        // Waiting for one's turn may take longer than any lock or statement of a migration.
        script.part(
            PartKind::Lock,
            &[set("lock_timeout", &milliseconds(session.migration_wait)), set("statement_timeout", "0")],
        );
        // Without this a killed client's message runs on, and commits.
        let notices = operator.facts().notices_lost_clients.then(|| set("client_connection_check_interval", "1000"));
        if let Some(notices) = &notices {
            script.line(&format!("select {notices};"));
        }
        let key = lock::migration_key(schema);
        script.line(&match turn {
            Turn::Wait => format!("select pg_catalog.pg_advisory_xact_lock({key});"),
            Turn::Try => {
                format!("select 1 / (case when pg_catalog.pg_try_advisory_xact_lock({key}) then 1 else 0 end);")
            }
        });

        let timeouts = vec![
            set("lock_timeout", &milliseconds(session.lock_timeout)),
            set("statement_timeout", &milliseconds(session.migration_statement_timeout)),
        ];
        script.part(PartKind::Provision, &timeouts);
        script.line(&unit.provision);
        if let Some(owner) = &unit.owner {
            script.line(&format!("set local role {};", owner.quoted()));
        }
        let path = set("search_path", &search_path(schema));
        script.line(&format!("select {path};"));
        if unit.ledger == LedgerPresence::Absent {
            script.line(&ledger::create_sql(schema, unit.role));
        }

        script.part(PartKind::Check, &[]);
        let in_schema = format!("pg_catalog.current_schema()::text = {}::text", literal(schema.as_str()));
        script.line(&format!(
            "select 1 / (case when {in_schema} and {} = {} then 1 else 0 end);",
            ledger::digest_sql(schema),
            literal(LedgerDigest::of(&plan.applied).as_str()),
        ));

        let role = unit.owner.as_ref().map_or(operator.facts().role.as_str(), Ident::as_str);
        let started = "pg_catalog.set_config('cgk.started', pg_catalog.clock_timestamp()::text, true)".to_owned();
        let settings: Vec<String> = timeouts.into_iter().chain(notices).chain([path, started]).collect();
        for file in plan.pending.iter() {
            // A file may SET what it likes: the next one, and the next schema on this connection, begin anew.
            script.line("reset all;");
            script.part(PartKind::File(file), &settings);
            // A file may end in a comment or without a semicolon.
            script.line(&format!("{}\n;", file.sql()));
            script.part(PartKind::Record(file), &[]);
            script.line(&format!(
                "select 1 / (case when {in_schema} and current_user::text = {}::text then 1 else 0 end);",
                literal(role)
            ));
            script.line(&ledger::insert_sql(schema, file));
        }
        script.part(PartKind::Comment, &[]);
        script.line(&ledger::comment_sql(schema, &plan.applied_after()));
        script.line("reset all;");
        script
    }

    /// Begins a part: its mark, with what is to be set beside it.
    fn part(&mut self, kind: PartKind<'a>, settings: &[String]) {
        let mark = format!("'{}{}'", self.mark, self.parts.len());
        let columns: Vec<&str> = std::iter::once(mark.as_str()).chain(settings.iter().map(String::as_str)).collect();
        self.line(&format!("select {};", columns.join(", ")));
        self.parts.push(Part { kind, start: self.sql.len() });
    }

    fn line(&mut self, text: &str) {
        self.sql.push_str(text);
        self.sql.push('\n');
    }

    fn judge(&self, operator: &Operator, unit: &Unit<'_>, answer: Answer) -> Result<Landing> {
        let schema = &unit.plan.schema;
        let Some(source) = answer.error else { return Ok(Landing::Done) };
        let doing = format!("migrate schema {:?}", schema.as_str());
        if sqlstate::is_lost(&source) {
            return Err(Error::ConnectionLost { doing, source });
        }
        let Some(db_error) = source.as_db_error() else { return Err(while_doing(doing)(source)) };
        let offset = original_position(db_error).map(|position| byte_of_character(&self.sql, position));
        let (index, completed) = self.reached(&answer.rows, answer.completed, offset);
        let state = db_error.code();
        match index.map(|index| self.parts[index].kind) {
            Some(PartKind::Lock) if *state == SqlState::LOCK_NOT_AVAILABLE => {
                Err(Error::Locked { schema: schema.clone(), waited: self.wait })
            }
            Some(PartKind::Lock) if *state == SqlState::DIVISION_BY_ZERO => Ok(Landing::Busy),
            Some(PartKind::Check) if *state == SqlState::DIVISION_BY_ZERO => Ok(Landing::Moved),
            Some(PartKind::Provision) if *state == SqlState::INSUFFICIENT_PRIVILEGE && unit.owner.is_some() => {
                let owner = unit.owner.as_ref().map_or_else(String::new, Ident::quoted);
                let role = &operator.facts().role;
                Err(Error::Privilege {
                    role: role.clone(),
                    needed: format!("act as {owner}, the owner of schema {:?}", schema.as_str()),
                    grant: format!("grant {owner} to {}", quoted(role)),
                    source: Some(source),
                })
            }
            // Somebody else made it first; the lock made us wait until they had.
            Some(PartKind::Provision)
                if [
                    SqlState::UNIQUE_VIOLATION,
                    SqlState::DUPLICATE_SCHEMA,
                    SqlState::DUPLICATE_OBJECT,
                    SqlState::DUPLICATE_TABLE,
                ]
                .contains(state) =>
            {
                Ok(Landing::Moved)
            }
            Some(PartKind::Record(file)) if *state == SqlState::DIVISION_BY_ZERO => {
                let found = format!("{} left the session in another schema or role", file.path().display());
                Err(Error::Unexpected { doing, found })
            }
            Some(PartKind::File(file)) => {
                let index = index.unwrap_or_default();
                let place = self.place(file, index, completed, offset);
                Err(Error::Migration(Box::new(MigrationFailure {
                    schema: schema.clone(),
                    file: file.path().to_owned(),
                    place,
                    sqlstate: state.clone(),
                    message: db_error.message().to_owned(),
                    hint: db_error.hint().map(ToOwned::to_owned),
                    source,
                })))
            }
            _ => Err(while_doing(doing)(source)),
        }
    }

    /// The part that an error belongs to, and how many of its statements were completed.
    fn reached(
        &self,
        rows: &[(usize, tokio_postgres::SimpleQueryRow)],
        completed: usize,
        offset: Option<usize>,
    ) -> (Option<usize>, usize) {
        let mark = rows.iter().rev().find_map(|(before, row)| {
            let index = row.try_get(0).ok().flatten()?.strip_prefix(&self.mark)?.parse::<usize>().ok()?;
            (index < self.parts.len()).then_some((index, completed.saturating_sub(before + 1)))
        });
        match (mark, offset) {
            (Some((index, completed)), _) => (Some(index), completed),
            // A syntax error rejects the message before anything ran: only the position tells where it is. It may lie
            // behind a file whose last statement is not finished; the text there is ours and has no errors of its own.
            (None, Some(offset)) => {
                let is_file = |part: &Part<'_>| matches!(part.kind, PartKind::File(_));
                (self.parts.iter().rposition(|part| is_file(part) && part.start <= offset), 0)
            }
            (None, None) => (None, 0),
        }
    }

    fn place(&self, file: &MigrationFile, index: usize, completed: usize, offset: Option<usize>) -> Option<Place> {
        let start = self.parts[index].start;
        let end = file.statements().last().map_or(0, |statement| statement.range.end);
        let within = offset.and_then(|offset| offset.checked_sub(start)).map(|within| within.min(end));
        let at = within.or_else(|| file.statements().get(completed).map(|statement| statement.range.start))?;
        Some(Place::of(file.sql(), at))
    }
}

/// The search path of a migration: its schema, then what extensions and shared functions live in.
fn search_path(schema: &SchemaName) -> String {
    if *schema == SchemaName::public() {
        "public, pg_temp".into()
    } else {
        format!("{}, public, pg_temp", schema.as_str())
    }
}

/// PostgreSQL counts characters from 1, whatever the driver's documentation says.
fn original_position(error: &DbError) -> Option<usize> {
    match error.position() {
        Some(ErrorPosition::Original(position)) => usize::try_from(*position).ok()?.checked_sub(1),
        _ => None,
    }
}

fn byte_of_character(text: &str, number: usize) -> usize {
    text.char_indices().nth(number).map_or(text.len(), |(at, _)| at)
}
