//! Executes one statement of a file: in a transaction with its record, or alone.

use super::{
    super::{
        concurrent::{Concurrent, ConcurrentStep},
        guard::{self, Broken},
        script::{self, Script},
        step_log::FileProgress,
    },
    stepper::{OWN_TIMEOUT, StepFailure, StepSection, Stepper, Transaction, ask, set},
};
use crate::{
    db::{message, milliseconds},
    error::{ConnectionError, Error, Result, while_doing},
};
use tokio_postgres::error::SqlState;

impl Stepper<'_> {
    /// Runs a statement and its record in one transaction, in three messages. The statement is a separate message, so
    /// that the server refuses a text that contains several statements. Its record is sent with it.
    ///
    /// The transaction must be open first. BEGIN fails if a cancel request arrives during it, and a statement that is
    /// already sent would then run in its own transaction without being recorded.
    pub(super) async fn recorded(&self, progress: &FileProgress) -> Result<(), StepFailure> {
        let number = progress.done;
        let mut before = self.script(Transaction::Explicit);
        if let Some(check) = &self.checks[number] {
            before.part(StepSection::Written, &[]);
            before.line(&format!("{check};"));
            before.part(StepSection::Session, &[]);
        }
        before.line(&guard::open_sql());
        before.line(&self.settings_before(number));
        let mut behind = Script::new();
        behind.line(OWN_TIMEOUT);
        self.record(&mut behind, number + 1);
        behind.line(&guard::close_sql());
        behind.line("commit;");
        let _undivided = self.operator.undivided().await;
        let failed = match self.send(&before, Some(number)).await {
            Err((part, error)) => StepFailure::With(self.error(part, error)),
            Ok(()) => match self.statement_and_record(number, &behind).await {
                Ok(()) => return Ok(()),
                Err(failed) => failed,
            },
        };
        // The transaction is still open but aborted.
        ask(self.operator, "rollback;")
            .await
            .map_err(while_doing("roll back a statement"))
            .map_err(StepFailure::With)?;
        Err(failed)
    }

    /// Sends a statement, and the statements that record and commit it, in the open transaction.
    async fn statement_and_record(&self, number: usize, behind: &Script<StepSection>) -> Result<(), StepFailure> {
        // They are polled in this order, and so written to the connection in this order.
        let (statement, behind) = tokio::join!(
            biased;
            message::run_single(self.operator.client(), self.text(number)),
            self.send(behind, Some(number)),
        );
        match (statement, behind) {
            (Ok(()), Ok(())) => Ok(()),
            (Err(source), _) => Err(self.refused(number, source)),
            (Ok(()), Err((part, error))) => {
                Err(StepFailure::With(match error.source.as_db_error().and_then(Broken::of) {
                    Some(_) => self.failure(number, None, error.source),
                    None => self.error(part, error),
                }))
            }
        }
    }

    /// Returns the server's error for a statement in a transaction.
    fn refused(&self, number: usize, source: tokio_postgres::Error) -> StepFailure {
        let alone = [SqlState::ACTIVE_SQL_TRANSACTION, SqlState::INVALID_TRANSACTION_TERMINATION];
        if source.code().is_some_and(|state| alone.contains(state)) {
            return StepFailure::NeedsToBeAlone;
        }
        let offset = source.as_db_error().and_then(|error| script::offset_in(self.text(number), error));
        StepFailure::With(self.failure(number, offset, source))
    }

    /// Runs a statement alone: announces, executes, verifies and records it.
    pub(super) async fn alone(&self, progress: &mut FileProgress) -> Result<(), StepFailure> {
        let number = progress.done;
        let statement = &self.file.statements()[number];
        let concurrent = Concurrent::of(statement);
        let outlook = match &concurrent {
            Some(concurrent) => {
                self.enter_session(progress, None).await.map_err(StepFailure::With)?;
                let step = concurrent.prepare(self.operator, &self.plan.schema, statement, progress.begun).await;
                step.map_err(|error| StepFailure::With(self.of_statement(number, error)))?
            }
            None => ConcurrentStep::Run,
        };
        let text = match outlook {
            ConcurrentStep::Done => {
                return self.enter_session(progress, Some(number + 1)).await.map_err(StepFailure::With);
            }
            ConcurrentStep::Run => self.written(number),
            ConcurrentStep::RunInstead(text) => text,
            ConcurrentStep::Refused { shared } => return Err(StepFailure::With(self.of_shared(number, shared))),
        };
        if !progress.begun {
            progress.begun = true;
            self.announce(progress).await.map_err(StepFailure::With)?;
        }
        self.enter_session(progress, None).await.map_err(StepFailure::With)?;
        if let Err(error) = self.execute(number, &text).await {
            if !matches!(error, Error::Connection(ConnectionError::Lost { .. })) {
                self.take_back(progress, concurrent.as_ref().filter(|concurrent| !concurrent.found_nothing(&error)))
                    .await;
            }
            return Err(StepFailure::With(error));
        }
        if let Some(concurrent) = &concurrent {
            concurrent.verify(self.operator, &self.plan.schema).await.map_err(StepFailure::With)?;
        }
        self.enter_session(progress, Some(number + 1)).await.map_err(StepFailure::With)
    }

    /// Sends one statement alone. The server refuses a text that contains several statements.
    async fn execute(&self, number: usize, text: &str) -> Result<()> {
        message::run_single(self.operator.client(), text).await.map_err(|source| {
            let offset = source.as_db_error().and_then(|error| script::offset_in(text, error));
            self.failure(number, offset, source)
        })
    }

    /// Removes the remains and the announcement of a statement that the server refused. If they cannot be removed now,
    /// the announcement remains, and the next attempt finds it.
    async fn take_back(&self, progress: &mut FileProgress, concurrent: Option<&Concurrent>) {
        let removed = match concurrent {
            Some(concurrent) => {
                // If the statement was blocked for a long time, the cleanup does not wait that long again.
                let timeout = milliseconds(self.operator.session().lock_timeout);
                let sql = format!("select {};", set("lock_timeout", &timeout));
                match ask(self.operator, &sql).await {
                    Ok(_) => concurrent.clean_up(self.operator, &self.plan.schema).await,
                    Err(error) => Err(while_doing("set a timeout")(error)),
                }
            }
            // Nothing is left. Or it is a procedure, whose effects before its failure are kept: it is run again completely,
            // whether or not it was edited.
            None => Ok(()),
        };
        let taken_back = match removed {
            Ok(()) => {
                progress.begun = false;
                self.announce(progress).await
            }
            Err(error) => Err(error),
        };
        if let Err(error) = taken_back {
            progress.begun = true;
            tracing::warn!(schema = self.plan.schema.as_str(), %error, "what a failed statement left is still there");
        }
    }
}
