//! Builds the message of a unit.

use super::super::{
    guard,
    script::Script,
    step_log::STEPS_TABLE,
    transactionality::within_a_transaction,
    unit::{LedgerPresence, LockWait, Purpose, Unit, in_schema},
};
use crate::{
    db::{
        Operator,
        message_head::{demand, lost_client_check, set_local},
        milliseconds,
        run_files::Commits,
        session_reset::{BETWEEN_FILES, UNLOCK, new_seed},
    },
    ident::{Ident, SchemaName, literal},
    lock,
    migrate::{
        files::file::MigrationFile,
        ledger::{self, LedgerDigest},
    },
};
use std::borrow::Cow;

/// The part that an error after a marker belongs to. Before the first marker, the message waits for its locks.
#[derive(Clone, Copy)]
pub(super) enum PartKind<'a> {
    Provision,
    /// Checks that the ledger matches the plan, and that no file is partially applied.
    Check,
    File(&'a MigrationFile),
    /// Checks that a file changed only its schema. Only for schemas that are dropped afterwards.
    Outside(&'a MigrationFile),
    /// The file's ledger row.
    Record(&'a MigrationFile),
    Comment,
    /// The record of the fleet's files.
    Files,
}

/// Returns the message of a unit.
pub(super) fn script_of<'a>(operator: &Operator, unit: &Unit<'a>, turn: LockWait) -> Script<PartKind<'a>> {
    let session = operator.session();
    let timeouts = [
        set_local("lock_timeout", &milliseconds(session.lock_timeout)),
        set_local("statement_timeout", &milliseconds(session.migration_statement_timeout)),
    ];
    let path = set_local("search_path", &operator.search_path().of(&unit.plan.schema));
    let notices = lost_client_check(operator);
    let mut builder = Builder { operator, unit, script: Script::new(), timeouts, path, notices };
    builder.begin(turn);
    builder.open(turn);
    builder.check();
    builder.files();
    builder.end();
    builder.script
}

struct Builder<'a, 'u> {
    operator: &'u Operator,
    unit: &'u Unit<'a>,
    script: Script<PartKind<'a>>,
    /// The settings of a file: its timeouts, its search path, and whether the server notices a lost client.
    timeouts: [String; 2],
    path: String,
    notices: Option<String>,
}

/// Records when a file starts.
const STARTED: &str = "pg_catalog.set_config('cgk.started', pg_catalog.clock_timestamp()::pg_catalog.text, true)";

impl<'a> Builder<'a, '_> {
    /// Starts the transaction.
    fn begin(&mut self, turn: LockWait) {
        // Whatever the database's default is, the check after the lock must see what the previous lock holder
        // committed.
        match (self.unit.commits, guard::is_needed(self.operator, self.unit.plan)) {
            (Commits::WithMessage, true) => self.script.line(guard::BEGIN_GUARDED),
            // The first statement of a message that commits starts the transaction, with the session's default.
            (Commits::WithMessage, false) if self.operator.facts().reads_committed => {}
            (Commits::WithMessage, false) => self.script.line("set transaction isolation level read committed;"),
            // The caller has started it.
            (Commits::Later, _) => {}
        }
        // statement_timeout is fixed when a statement starts, so clear it in a separate statement first.
        if turn == LockWait::Block {
            self.script.line("set local statement_timeout = 0;");
        }
    }

    /// Takes the locks and applies the settings. Creates the missing parts of the schema.
    ///
    /// Everything that needs no table access is one statement, because each statement costs the server as much as a
    /// small migration. Its columns are evaluated from left to right. The wait for the lock may take longer than any
    /// lock or statement of a migration. The steps lock is only tried: a waiting statement has a snapshot, and CREATE
    /// INDEX CONCURRENTLY waits for snapshots.
    fn open(&mut self, turn: LockWait) {
        let unit = self.unit;
        let schema = &unit.plan.schema;
        let key = lock::migration_key(schema);
        let turn = match turn {
            LockWait::Block => format!("pg_catalog.pg_advisory_xact_lock({key})"),
            LockWait::NoWait => demand(&format!("pg_catalog.pg_try_advisory_xact_lock({key})")),
        };
        let steps = demand(&format!("pg_catalog.pg_try_advisory_xact_lock_shared({})", lock::steps_key(schema)));
        let patience = set_local("lock_timeout", &milliseconds(self.operator.session().migration_wait));
        let opening: Vec<String> = std::iter::once(patience)
            .chain(self.notices.clone())
            .chain([turn, steps])
            .chain(self.timeouts.clone())
            .collect();
        let provisions = !unit.provision.is_empty() || unit.owner.is_some() || unit.ledger == LedgerPresence::Absent;
        if !provisions {
            self.script.part(PartKind::Check, &[opening, vec![self.path.clone()]].concat());
            return;
        }
        self.script.part(PartKind::Provision, &opening);
        self.script.line(&unit.provision);
        if let Some(owner) = &unit.owner {
            self.script.line(&format!("set local role {};", owner.quoted()));
        }
        self.script.line(&format!("select {};", self.path));
        if unit.ledger == LedgerPresence::Absent {
            self.script.line(&ledger::create_sql(schema, unit.role));
        }
        self.script.part(PartKind::Check, &[]);
    }

    /// Checks that the ledger matches the plan. This is a separate statement after the lock, because its snapshot is
    /// taken when it starts.
    fn check(&mut self) {
        let (unit, plan) = (self.unit, self.unit.plan);
        let schema = &plan.schema;
        let digest = literal(LedgerDigest::of(&plan.applied).as_str());
        let as_planned = demand(&format!("{} and {} = {digest}", in_schema(schema), ledger::DIGEST));
        let from_ledger = format!("from {}", schema.qualified(ledger::LEDGER_TABLE));
        // It fails with another error than the check beside it.
        let steps_table = literal(&schema.qualified(STEPS_TABLE));
        let whole = format!(
            "(case when pg_catalog.to_regclass({steps_table}) is null then '1' else 'steps pending' end)::pg_catalog.int4"
        );
        if let Some(observe) = unit.observed_after(0) {
            self.script.line(observe);
            let settings = [self.timeouts.to_vec(), vec![self.path.clone()]].concat();
            self.script.line(&format!("reset all;\nselect {};", settings.join(", ")));
        }
        if plan.pending.first().is_some_and(|first| guard::may_end(first)) {
            self.script.line(&guard::open_sql());
        }
        match plan.pending.first() {
            Some(first) => {
                let columns = [as_planned, whole, STARTED.to_owned()];
                self.script.part_from(PartKind::File(first), &columns, &from_ledger);
            }
            None => self.script.part_from(PartKind::Comment, &[as_planned], &from_ledger),
        }
    }

    /// Adds the files, each with its ledger row.
    fn files(&mut self) {
        let (unit, schema) = (self.unit, &self.unit.plan.schema);
        let role = literal(unit.owner.as_ref().map_or(self.operator.facts().role.as_str(), Ident::as_str));
        let still_there = format!("{} and current_user::pg_catalog.text = {role}::pg_catalog.text", in_schema(schema));
        for (number, file) in unit.plan.pending.iter().copied().enumerate() {
            if number > 0 {
                self.between(file);
            }
            self.text(file);
            if unit.purpose == Purpose::Drop {
                self.script.part(PartKind::Outside(file), &self.timeouts);
                self.script.demand(&keeps_to(schema));
            }
            self.script.part(PartKind::Record(file), &self.timeouts);
            self.script.line(&ledger::insert_sql(schema, file, &still_there));
            if guard::may_end(file) {
                self.script.line(&guard::close_sql());
            }
            if let Some(observe) = unit.observed_after(number + 1) {
                self.script.line(&format!("reset all;\n{observe}"));
            }
        }
    }

    /// Resets the session for the next file. The next file must not see session state of a file, as if both were
    /// released separately.
    fn between(&mut self, file: &'a MigrationFile) {
        self.script.line(BETWEEN_FILES);
        if guard::may_end(file) {
            self.script.line(&guard::open_sql());
        }
        let mut settings = vec![UNLOCK.to_owned(), new_seed()];
        settings.extend(self.timeouts.iter().chain(&self.notices).cloned());
        settings.extend([self.path.clone(), STARTED.to_owned()]);
        self.script.part(PartKind::File(file), &settings);
    }

    /// Adds the text of a file.
    fn text(&mut self, file: &MigrationFile) {
        let encoding = self.operator.facts().encoding.as_str();
        let text = match file.is_transactional() {
            true => file.sql_for(encoding),
            false => within_a_transaction(file, encoding).map_or_else(|| file.sql_for(encoding), Cow::Owned),
        };
        // A file may end with a comment or without a semicolon.
        self.script.line(&format!("{text}\n;"));
        // Settings of the file must not apply to cgk's statements after it.
        if file.words().timeouts {
            self.script.line("set local statement_timeout = 0;");
        }
    }

    /// Checks the ledger, writes its comment, and records the files of the fleet. A rehearsal is rolled back instead.
    fn end(&mut self) {
        let (unit, plan) = (self.unit, self.unit.plan);
        let (schema, applied) = (&plan.schema, plan.applied_after());
        if let Purpose::RollBack { .. } = unit.purpose {
            self.script.line("set constraints all immediate;\nreset all;");
            self.script.line(&ledger::demand_sql(schema, &applied));
            self.script.line("rollback;");
            return;
        }
        let digest = LedgerDigest::of(&applied);
        self.script.line(&ledger::demand_digest_sql(schema, &digest));
        self.script.line(&ledger::comment_digest_sql(schema, &applied, &digest));
        let files = unit.files.map(|(record, set)| record.sql(set, &plan.pending)).unwrap_or_default();
        if !files.is_empty() {
            // The operator owns the table.
            self.script.line("reset role;");
            self.script.part(PartKind::Files, &[]);
            self.script.line(&files);
        }
    }
}

/// Returns a condition: the transaction wrote to nothing outside of a schema, and created no extension in it, which
/// others could start to use. A foreign key only reads the referenced table.
fn keeps_to(schema: &SchemaName) -> String {
    let schema = literal(schema.as_str());
    format!(
        "not exists (select from pg_catalog.pg_locks l join pg_catalog.pg_class c on c.oid = l.relation
                     join pg_catalog.pg_namespace n on n.oid = c.relnamespace
                     where l.pid = pg_catalog.pg_backend_pid() and l.locktype = 'relation'
                       and l.mode in ('RowExclusiveLock', 'ShareUpdateExclusiveLock', 'ShareLock', 'ExclusiveLock', 'AccessExclusiveLock')
                       and n.nspname not in ({schema}, 'pg_catalog', 'pg_toast')
                       and n.oid <> pg_catalog.pg_my_temp_schema() and not pg_catalog.starts_with(n.nspname::pg_catalog.text, 'pg_toast_temp_'))
         and not exists (select from pg_catalog.pg_extension e join pg_catalog.pg_namespace n on n.oid = e.extnamespace
                         where n.nspname = {schema})"
    )
}
