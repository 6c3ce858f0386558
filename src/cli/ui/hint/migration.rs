//! Hints for errors of a migration.

use super::{super::report::display_path, by_sqlstate};
use cgk::{
    Error, LedgerProblem, MigrationError, TenantSlug,
    ident::SchemaName,
    migrate::{Divergence, FileMismatch, MigrationFailure, MigrationId, Mismatch, Set, Unfinished},
};
use std::path::Path;

pub(super) fn of(error: &Error, refused: &MigrationError) -> Option<String> {
    let text = match refused {
        MigrationError::Unreadable { problem, .. } if problem.contains("written") || problem.contains("made") => {
            "Make the folder writable for this user, or name another one with --migrations.".into()
        }
        MigrationError::Unreadable { path, .. } if set_inside_a_set(path).is_some() => {
            let directory = set_inside_a_set(path).unwrap_or(path);
            let directory = if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
            format!("Name the folder above, with both sets: --migrations {}", display_path(directory))
        }
        MigrationError::Unreadable { .. } => {
            "Set --migrations, or `migrations` in cgk.toml, to a folder with public/ and tenant/. `cgk \
             migrate:new <name>` creates one."
                .into()
        }
        MigrationError::Invalid { .. } => "Fix the files and run the command again.".into(),
        MigrationError::Failed(failure) => migration(failure),
        MigrationError::Diverged(divergence) => diverged(divergence),
        MigrationError::PartiallyApplied { schema, migration, .. } => half_done(schema, migration),
        MigrationError::WrongFiles { set, mismatches } => wrong_files(*set, mismatches),
        MigrationError::NoSuchVersion { .. } => {
            "`cgk migrate:status` shows the newest file of each set; the files are in the folder of --migrations."
                .into()
        }
        MigrationError::NoReference { .. } => {
            "To compare, cgk runs every migration in an empty schema and rolls it back. This file must also work \
             without rows."
                .into()
        }
        MigrationError::Rehearsal { .. } => {
            "No tenant was changed. Fix the cause and run the command again; do not edit a file that tenants \
             already have. To migrate existing tenants without this check, add --no-rehearsal."
                .into()
        }
        MigrationError::ChangesShared { .. } => {
            "A tenant's file must not change it. Move the statement to a file of the shared set: `cgk migrate:new <name> --public`."
                .into()
        }
        MigrationError::RowNotWritten { table, .. } => format!(
            "The transaction was rolled back. Check the table's triggers, rules, policies and columns (`\\d \
             {table}` in psql): drop or disable what prevents the write, add a default to your own columns, and \
             run the command again."
        ),
        MigrationError::LedgerRefused { schema, why } => ledger(schema.as_str(), why)?,
        MigrationError::BaselineDiffers { .. } => {
            "Fix the schema, or pass the version that it really has with --version. To adopt it as it is, add \
             --accept-differences \"reason\" and one --accept per difference."
                .into()
        }
        MigrationError::Locked { .. } | MigrationError::Contended { .. } => {
            "Wait until the other run ends, then run the command again.".into()
        }
        MigrationError::TooManyLocks { .. } => {
            "Run it without --all-or-nothing: each schema is then its own transaction. Or raise \
             max_locks_per_transaction on the server, which needs a restart."
                .into()
        }
        MigrationError::CanaryLeftOut { tenant } => {
            format!("Select {tenant} too, or name a canary that is selected. `cgk tenant:list` lists the tenants.")
        }
        MigrationError::PlanStale { .. } => "Make a new plan and review it: `cgk migrate --plan`.".into(),
        _ => by_sqlstate(error)?,
    };
    Some(text)
}

/// Returns the folder above, if the path is a set in a folder that is itself a set: `migrations/tenant/public`.
fn set_inside_a_set(path: &Path) -> Option<&Path> {
    let given = path.parent()?;
    [Set::Public, Set::Tenant].iter().any(|set| given.ends_with(set.folder())).then(|| given.parent())?
}

fn migration(failure: &MigrationFailure) -> String {
    let again = match (failure.unfinished, failure.committed.last()) {
        (Some(Unfinished { statement: 1, .. }), None) | (None, None) => {
            format!("This run changed nothing in that schema. {} Then run the command again.", advice(failure))
        }
        (Some(Unfinished { statement: 1, .. }) | None, Some(last)) => {
            format!("The schema is at {last}. {} Then run the command again; it continues from there.", advice(failure))
        }
        (Some(Unfinished { statement, .. }), _) => match failure.schemas_with_file {
            Some(0) => format!(
                "The earlier statements are committed; do not edit them. No schema has the whole file yet: fix the cause, or \
                 this statement, and run the command again: it continues with statement {statement}."
            ),
            _ => format!(
                "The earlier statements are committed. {} Then run the command again: it continues with statement {statement}.",
                advice(failure)
            ),
        },
    };
    // If no edit of the file fixes the error, the hint is the same for every file. Do not advise an edit of an applied
    // file.
    let edits = matches!(failure.sqlstate.code(), "25001" | "25006");
    if edits && failure.schemas_with_file.is_some_and(|number| number > 0) {
        return again;
    }
    let special = match failure.sqlstate.code() {
        "42710" if failure.message.starts_with("extension ") => {
            "An extension exists once in a database: create it in a file of the shared set, and take it out of this file."
        }
        "42P07" | "42710" | "42723" => {
            "The schema already has an object of that name that no migration created. Use a separate database, or \
             rename that object."
        }
        "55P03" if failure.unfinished.is_some() => {
            "Another session holds a lock or a long transaction: end it, or wait for a quiet time. Then run the \
             command again; it continues with this statement."
        }
        "55P03" => {
            "Another session holds a lock on the table: end it, or wait for a quiet time. Then run the command again."
        }
        "57014" => {
            "The statement ran longer than session.migration_statement_timeout, or than a statement_timeout that the file sets. \
             Raise the limit, or split the work."
        }
        "25001" => {
            "The statement cannot run inside a transaction. Write `-- cgk:no-transaction` on the file's first \
             line: its statements then run one by one."
        }
        "53200" => "The transaction needs too many locks: raise max_locks_per_transaction on the server.",
        "25006" => {
            "A statement of the file made the session read-only (`set session characteristics`, \
             `default_transaction_read_only`): take it out."
        }
        "53100" => "The server's disk is full: free some space, then run the command again.",
        _ => "",
    };
    match (special, failure.committed.last()) {
        ("", _) => again,
        (special, Some(last)) => format!("The schema is at {last}: what is committed stays. {special}"),
        (special, None) => special.into(),
    }
}

/// Returns whether to change the rows or the file. A file that other schemas have must not be changed.
fn advice(failure: &MigrationFailure) -> String {
    // Integrity violations, and values that cannot be converted.
    let is_data = ["22", "23"].iter().any(|class| failure.sqlstate.code().starts_with(class));
    let have = |number: usize| match number {
        1 => "1 schema already has this file".to_owned(),
        number => format!("{number} schemas already have this file"),
    };
    match (is_data, failure.schemas_with_file) {
        (true, Some(0)) => "No schema has this file yet: fix the rows, or edit the file.".into(),
        (true, Some(number)) => format!("{}: fix the rows of this schema, not the file.", have(number)),
        (true, None) => "Fix the rows of this schema. Do not edit a file that other schemas already have.".into(),
        (false, Some(0)) => "No schema has this file yet: edit it.".into(),
        (false, Some(number)) => format!(
            "{}: do not edit it. Fix what is different in this schema (`cgk drift` shows it), and put a change \
             into a new file.",
            have(number)
        ),
        (false, None) => "Fix the cause. Do not edit a file that other schemas already have.".into(),
    }
}

fn half_done(schema: &SchemaName, migration: &MigrationId) -> String {
    format!(
        "Restore the files as they were when {migration} was started, and run the command again: it continues where it \
             stopped. A file that was added before it needs a later version. Or undo its changes by hand and drop the table \
             \"{}\".schema_migration_steps: then it starts again.",
        schema.as_str()
    )
}

/// Returns the hint for a tenant without a ledger.
pub(super) fn lost_ledger(tenant: &TenantSlug, schema: &SchemaName) -> String {
    format!(
        "Restore the table {}.schema_migrations from a backup. Without one, run `cgk migrate:baseline {tenant}`: it compares the \
         schema with the migrations and writes a new ledger.",
        schema.as_str()
    )
}

fn ledger(schema: &str, why: &LedgerProblem) -> Option<String> {
    let name = schema.strip_prefix("tenant_").unwrap_or("--public");
    let hint = match why {
        LedgerProblem::OfCgk => {
            "The schema is adopted already: `cgk migrate:status` shows it. For another tool's table, give its name."
                .into()
        }
        LedgerProblem::OfAnotherTool { .. } => format!(
            "Rename that table: `alter table {schema}.schema_migrations rename to old_migrations`. Then run \
             `cgk migrate:baseline {name} --from-table old_migrations`, and drop the old table when it is no longer needed."
        ),
        LedgerProblem::NotATable { kind } => {
            let kind = if kind == "composite type" { "type" } else { kind };
            format!(
                "Rename it or drop it: `alter {kind} {schema}.schema_migrations rename to NEW_NAME`. Then run the command again."
            )
        }
        LedgerProblem::UnfilledColumn { column } => format!(
            "If another tool added the column, drop it or give it a default: `alter table {schema}.schema_migrations alter column \
             {column} drop not null`. Then run the command again."
        ),
        LedgerProblem::NoSchema => format!(
            "To adopt a schema with another name, rename it first: `alter schema NAME rename to {schema}`. To \
             create a new tenant, run `cgk tenant:create {name}`."
        ),
        LedgerProblem::OtherVersion { .. } => "To change a ledger, use `cgk migrate:repair`.".into(),
        LedgerProblem::OfAnotherTenant { .. } => format!(
            "If its rows belong to a new tenant, run `comment on schema {schema} is null` as its owner, and run \
             `cgk migrate:baseline {name}` again."
        ),
        LedgerProblem::FailedVersions { .. } => format!(
            "The other tool stopped in the middle of that version. Bring the schema to the end of a version by hand, correct \
             that table (for golang-migrate `migrate force VERSION`), and run the command again; or run `cgk \
             migrate:baseline {name} --version N` with the version that the schema really has."
        ),
        LedgerProblem::DifferentVersions { .. } | LedgerProblem::InvalidVersion { .. } => {
            format!(
                "Give the files the versions of that table, or run `cgk migrate:baseline {name} --version N` instead."
            )
        }
        LedgerProblem::FileExists { .. } => {
            "--forget is for a file that was deleted. If this one was edited, `cgk migrate:repair --version` accepts it; if it is not \
             to be applied, delete it first."
                .into()
        }
        LedgerProblem::NoLedger => "`cgk migrate:baseline` writes a ledger for a schema that has none.".into(),
        _ => return None,
    };
    Some(hint)
}

fn diverged(divergence: &Divergence) -> String {
    if divergence.is_only_ahead() {
        return "The database was migrated by a newer set of files: use that set (or a newer cgk).".into();
    }
    let mut advice = String::new();
    if !divergence.renamed.is_empty() {
        advice.push_str(
            "Give a renamed file its recorded name again. If that is impossible, `cgk migrate:repair` accepts the new name. ",
        );
    }
    if !divergence.edited.is_empty() || !divergence.missing.is_empty() {
        advice.push_str(
            "Restore the files as they were applied, and put the change into a new file: cgk migrate:new <name>. \
             If that is impossible, `cgk migrate:repair` accepts the files as they are. ",
        );
    }
    if !divergence.out_of_order.is_empty() {
        advice.push_str("Rename the file that was not applied to a number above the newest applied one. ");
    }
    advice.trim_end().to_owned()
}

fn wrong_files(set: Set, mismatches: &[FileMismatch]) -> String {
    let any = |wanted| mismatches.iter().any(|mismatch| mismatch.mismatch == wanted);
    let scope = if set == Set::Public { "--public" } else { "--all" };
    let repair = |wanted| {
        let found = mismatches.iter().find(|mismatch| mismatch.mismatch == wanted);
        let version = found.map(|mismatch| mismatch.id.version.to_string()).unwrap_or_default();
        format!("If that is impossible, `cgk migrate:repair --version {version} {scope} --reason \"…\"`")
    };
    let mut advice: Vec<String> = Vec::new();
    if any(Mismatch::Missing) {
        advice.push("Use the newest version of this database's migration folder (--migrations).".into());
    }
    if any(Mismatch::Renamed) {
        let repair = repair(Mismatch::Renamed);
        advice.push(format!("Give a renamed file its recorded name again. {repair} accepts the new name."));
    }
    if any(Mismatch::Edited) {
        let repair = repair(Mismatch::Edited);
        advice.push(format!(
            "Restore an edited file and put the change into a new file. {repair} accepts the file as it is."
        ));
    }
    if any(Mismatch::OutOfOrder) {
        advice.push("Rename a file that comes too late to a number above the newest one.".into());
    }
    advice.join(" ")
}
