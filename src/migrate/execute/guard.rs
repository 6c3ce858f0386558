//! Protects the transaction of a message from the files in it. The server decides whether a file ended the transaction,
//! not cgk's parser.
//!
//! A cursor WITH HOLD is executed when its transaction commits. The cursor reads a parameter that does not exist. So a
//! COMMIT before the cursor is closed fails and rolls everything back, even if cgk did not detect that COMMIT. A
//! ROLLBACK removes the cursor, and then closing it fails. This needs two statements per file, and creates no table, no
//! function and no session object. A file without any of the relevant words does not need it.
//!
//! After a ROLLBACK, the server starts a transaction without the cursor, and a COMMIT there would commit the statements
//! between the two. So all transactions of the session are read-only, except cgk's own, which is explicitly read-write.
//! Writes after a ROLLBACK are then refused. This is only needed if the message contains the word.

use crate::{
    db::Operator,
    migrate::{files::file::MigrationFile, plan::SchemaPlan},
};
use tokio_postgres::error::{DbError, SqlState};

const CURSOR: &str = "cgk_transaction";

/// The name of a nonexistent parameter. The server reports it if a COMMIT comes too early.
const COMMITTED: &str = "cgk.transaction_ended_inside_a_migration_file";

/// Returns the statement after which a COMMIT fails.
pub(crate) fn open_sql() -> String {
    format!("declare {CURSOR} no scroll cursor with hold for select pg_catalog.current_setting('{COMMITTED}');")
}

/// Returns the statement that checks that the transaction is still the one of [`open_sql`], and allows its commit.
pub(crate) fn close_sql() -> String {
    format!("close {CURSOR};")
}

/// Makes the transactions of the session read-only, in a separate transaction, so that no ROLLBACK reverts this. The
/// reset of the session removes it.
pub(crate) const READ_ONLY_BUT_OURS: &str = "begin; set session characteristics as transaction read only; commit;";

/// The start of a message whose files contain a ROLLBACK anywhere in their texts.
pub(crate) const BEGIN_GUARDED: &str = "begin; set session characteristics as transaction read only; commit;
set transaction isolation level read committed, read write;";

/// Whether a file of a plan may contain a ROLLBACK that cgk did not detect. The server has two keywords for it, written
/// only in letters. If the session cannot write at all, no protection is needed.
pub(crate) fn is_needed(operator: &Operator, plan: &SchemaPlan<'_>) -> bool {
    !operator.facts().read_only && plan.pending.iter().any(|file| file.words().rolls_back)
}

/// Whether a file needs [`open_sql`] and [`close_sql`]: without one of the keywords, it cannot end its transaction.
pub(crate) fn may_end(file: &MigrationFile) -> bool {
    file.words().ends
}

/// How a file ended the transaction of its message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Broken {
    /// COMMIT, which the server refused; nothing was committed.
    Commit,
    /// ROLLBACK, after which the server refused to write, or the file closed the cursor.
    Gone,
}

impl Broken {
    /// Interprets an error of the server.
    pub(crate) fn of(error: &DbError) -> Option<Self> {
        match error.code() {
            state if *state == SqlState::UNDEFINED_OBJECT && error.message().contains(COMMITTED) => Some(Self::Commit),
            state if *state == SqlState::INVALID_CURSOR_NAME && error.message().contains(CURSOR) => Some(Self::Gone),
            _ => None,
        }
    }

    /// Returns the same as a message.
    pub(crate) fn problem(self) -> &'static str {
        match self {
            Self::Commit => {
                "the file ends its transaction; the server refused the COMMIT, and no change of the file remains"
            }
            Self::Gone => {
                "the file ends its transaction with a ROLLBACK, or closes all cursors; no change of the file remains"
            }
        }
    }
}

#[cfg(feature = "testing")]
#[cfg(test)]
mod tests {
    use crate::{
        Error, MigrationError, Operator,
        db::{message, run_files::Commits},
        ident::SchemaName,
        migrate::{
            Applied, MigrationFile, Migrations, SchemaPlan, Set,
            execute::{
                apply,
                grouping::Grouping,
                unit::{ApplyOutcome, LedgerPresence, LockWait, Purpose, SchemaAccess, Unit},
            },
        },
        testing::{TestDatabase, TestServer},
    };

    async fn database() -> (TestDatabase, Operator) {
        let database = TestServer::shared().set_up_database().await.unwrap();
        let operator = Operator::connect(database.config()).await.unwrap();
        (database, operator)
    }

    /// Executes a file of the public set that was not checked before.
    async fn carry_out(operator: &Operator, files: &[&MigrationFile]) -> crate::Result<ApplyOutcome> {
        let bundled = Migrations::bundled();
        let applied: Vec<Applied> = bundled.set(Set::Public).files().iter().map(Applied::of).collect();
        let plan = SchemaPlan { schema: SchemaName::public(), applied: applied.into(), pending: files.to_vec().into() };
        let (provision, ledger) = (String::new(), LedgerPresence::Present);
        let unit = Unit {
            plan: &plan,
            role: None,
            provision,
            ledger,
            owner: None,
            commits: Commits::WithMessage,
            files: None,
            grouping: Grouping::Batch,
            sessions: SchemaAccess::Any,
            purpose: Purpose::Use,
        };
        apply::attempt(operator, &unit, LockWait::Block, &mut Vec::new()).await
    }

    async fn relations(operator: &Operator) -> String {
        let sql = "select coalesce(string_agg(relname::text, ' ' order by relname), '') || ' ' || (select count(*) from
                   public.schema_migrations where version >= 900) from pg_catalog.pg_class where relname ~ '^guarded'";
        operator.client().query_one(sql, &[]).await.unwrap().get(0)
    }

    #[tokio::test]
    async fn a_file_cannot_end_its_transaction_however_it_hides_it() {
        let (_database, operator) = database().await;
        // The control: without the guard, the part of such a text before the COMMIT is committed.
        let answer = message::run(operator.client(), "create table guarded_not (); commit; select 1/0").await.unwrap();
        assert!(answer.error.is_some());
        assert_eq!(relations(&operator).await, "guarded_not 0");

        let first = MigrationFile::unchecked("900_ok.sql", "create table guarded_ok ()");
        for (text, what, left) in [
            ("create table guarded_a (); commit; create table guarded_b ()", "the server refused the COMMIT", ""),
            ("create table guarded_a (); commit and chain; select 1", "COMMIT AND CHAIN can only be used", ""),
            ("create table guarded_a (); end; begin; create table guarded_b ()", "the server refused the COMMIT", ""),
            ("create table guarded_a (); rollback; create table guarded_b ()", "with a ROLLBACK", ""),
            ("create table guarded_a (); RollBack; create table guarded_b (); commit", "with a ROLLBACK", ""),
            ("abort; create table guarded_b (); commit; select 1/0", "with a ROLLBACK", ""),
            ("rollback and chain; create table guarded_b (); commit", "ROLLBACK AND CHAIN can only be used", ""),
            ("do 'begin rollback; create table guarded_b (); commit; end'", "invalid transaction termination", ""),
            ("rollback; begin; create table guarded_b (); commit; select 1", "with a ROLLBACK", ""),
            ("reset all; rollback; create table guarded_b (); commit", "with a ROLLBACK", ""),
            ("create table guarded_a (); close all", "closes all cursors", ""),
            // A text that removes the write protection is executed, but it is also reported.
            (
                "rollback; begin read write; create table guarded_c (); commit; select 1",
                "with a ROLLBACK",
                "guarded_c ",
            ),
        ] {
            let file = MigrationFile::unchecked("901_x.sql", text);
            let Err(Error::Migration(MigrationError::Failed(failure))) = carry_out(&operator, &[&first, &file]).await
            else {
                panic!("{text}: no failure")
            };
            assert!(failure.message.contains(what), "{text}: {}", failure.message);
            assert!(failure.file.ends_with("901_x.sql"), "{text}: {:?}", failure.file);
            assert_eq!(relations(&operator).await, format!("{left}guarded_not 0"), "{text}");
        }
        assert_eq!(carry_out(&operator, &[&first]).await.unwrap(), ApplyOutcome::Applied);
        assert_eq!(relations(&operator).await, "guarded_c guarded_not guarded_ok 1");
    }

    #[tokio::test]
    async fn a_hidden_begin_leaves_no_transaction_open() {
        let (database, operator) = database().await;
        let other = Operator::connect(database.config()).await.unwrap();
        // The control: such a message alone is not yet committed when the response arrives.
        message::run(other.client(), "begin; create table guarded_open ()").await.unwrap().complete().unwrap();
        assert_eq!(relations(&operator).await, " 0");
        drop(other);

        let file = MigrationFile::unchecked(
            "900_x.sql",
            "create table guarded_a (); prepare guarded as select 1; begin; create table guarded_b (); select 1/0",
        );
        assert!(carry_out(&operator, &[&file]).await.is_err());
        assert_eq!(relations(&operator).await, " 0");
        // What outlives the rollback is gone too.
        let prepared = "select count(*) from pg_catalog.pg_prepared_statements where name = 'guarded'";
        assert_eq!(operator.client().query_typed(prepared, &[]).await.unwrap()[0].get::<_, i64>(0), 0);
        let file = MigrationFile::unchecked("900_x.sql", "create table guarded_a (); begin; create table guarded_b ()");
        assert_eq!(carry_out(&operator, &[&file]).await.unwrap(), ApplyOutcome::Applied);
        let other = Operator::connect(database.config()).await.unwrap();
        assert_eq!(relations(&other).await, "guarded_a guarded_b 1");
    }

    #[tokio::test]
    async fn what_the_server_reads_as_several_statements_never_runs_as_one() {
        let (_database, operator) = database().await;
        for text in [
            "create table guarded_a (); create table guarded_b ()",
            "create table guarded_a (); commit; create table guarded_b ()",
            // In a separate file, because it contains CONCURRENTLY.
            "create index concurrently guarded_a on public.users (name); drop table public.users",
        ] {
            let file = MigrationFile::unchecked("900_x.sql", &format!("-- cgk:no-transaction\n{text}")).taken_for_one();
            assert_eq!(file.statements().len(), 1);
            let Err(Error::Migration(MigrationError::Failed(failure))) = carry_out(&operator, &[&file]).await else {
                panic!("{text}")
            };
            assert!(failure.message.contains("multiple commands"), "{text}: {}", failure.message);
            assert_eq!(relations(&operator).await, " 0", "{text}");
        }
        for text in ["commit", "rollback", "close all"] {
            let file = MigrationFile::unchecked("900_x.sql", &format!("-- cgk:no-transaction\n{text}"));
            let Err(Error::Migration(MigrationError::Failed(failure))) = carry_out(&operator, &[&file]).await else {
                panic!("{text}")
            };
            assert_eq!(failure.unfinished.unwrap().statement, 1, "{text}");
            assert_eq!(relations(&operator).await, " 0", "{text}");
        }
        let file = MigrationFile::unchecked("900_x.sql", "-- cgk:no-transaction\ncreate table guarded_a (); select 1");
        assert_eq!(carry_out(&operator, &[&file]).await.unwrap(), ApplyOutcome::Applied);
        assert_eq!(relations(&operator).await, "guarded_a 1");
    }
}
