//! Hints for exports, imports and copies of tenants.

use cgk::TransferError;
use std::io::ErrorKind;

pub(super) fn of(refused: &TransferError) -> Option<String> {
    let text = match refused {
        TransferError::NotCopyable { objects, .. } if objects.iter().all(|object| object.starts_with("table ")) => {
            "Run the command as a role that bypasses row-level security (BYPASSRLS)."
        }
        TransferError::NotCopyable { .. } => "Store the contents in the schema: large objects as bytea.",
        TransferError::File { source, .. } => match source.kind() {
            ErrorKind::NotFound => "Check the path: the file, or the folder that it is written to, does not exist.",
            ErrorKind::PermissionDenied => "Let this user read the file, or write to the folder.",
            ErrorKind::StorageFull => "Free some space, or name a file on another disk.",
            _ => "Check the path and its disk.",
        },
        TransferError::NotAnExport => "Name a file that `cgk tenant:export` wrote.",
        TransferError::NewerFormat { .. } => "Import it with the version of cgk that wrote it, or a newer one.",
        TransferError::Damaged { .. } => "Use another copy of the file, or export the tenant again.",
        TransferError::NotInSet { .. } => "Use the migrations that the tenant had: --migrations.",
        TransferError::Exists { .. } => "Choose another slug (tenant:import: --as), or drop what exists.",
        TransferError::NotInOneTransaction { .. } => {
            "Import or clone with the migrations that the tenant had (--migrations), then run `cgk migrate`."
        }
        TransferError::NotEqual { .. } => {
            "Nothing is committed. A rule on the table or a mask can change the number of rows; if there is none, report this."
        }
        TransferError::FileExists { .. } => {
            "Give another name, or remove the file. tenant:export also replaces it with --force."
        }
        TransferError::TableLocked { .. } => {
            "Wait until those sessions end, or raise session.lock_timeout; then run the command again."
        }
        TransferError::NotAFile { .. } => {
            "Give the name of a file. For a pipe or a device write -: `tenant:export --to -`, `tenant:import -`."
        }
        TransferError::Unfinished { tenant, .. } => {
            return Some(format!(
                "Run `cgk tenant:create {tenant}`: it applies the newer migrations and activates the tenant."
            ));
        }
        TransferError::MaskInvalid { .. } => {
            "Write a table [tables.NAME] for each table, with lines: column = \"SQL expression\"."
        }
        TransferError::MaskUnknown { .. } => {
            "Name tables and columns of the source that are not generated, as they are written there."
        }
        TransferError::MaskRefused { .. } => {
            "Nothing is created. Change the expressions of the mask: the values must fit types and constraints of the table."
        }
        _ => return None,
    };
    Some(text.into())
}
