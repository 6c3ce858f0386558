//! Exports, imports and copies of tenants.

use cgk::TransferError;

pub(super) fn of(refused: &TransferError) -> Option<String> {
    let text = match refused {
        TransferError::NotCopyable { objects, .. } if objects.iter().all(|object| object.starts_with("table ")) => {
            "Run the command as a role that bypasses row-level security (BYPASSRLS)."
        }
        TransferError::NotCopyable { .. } => "Store the contents in the schema: large objects as bytea.",
        TransferError::NotAnExport => "Name a file that `cgk tenant:export` wrote.",
        TransferError::NewerFormat { .. } => "Import it with the version of cgk that wrote it, or a newer one.",
        TransferError::Damaged { .. } => "Use another copy of the file, or export the tenant again.",
        TransferError::NotInSet { .. } => "Use the migrations that the tenant had: --migrations.",
        TransferError::Exists { .. } => "Import it under another slug with --as, or drop what exists.",
        TransferError::NotInOneTransaction { .. } => {
            "An import is one transaction. Change the file so that it can run in one, in a set of your own."
        }
        TransferError::NotEqual { .. } => "Nothing is committed. Export the tenant again, or report this.",
        TransferError::FileExists { .. } => {
            "Give another name, or remove the file. tenant:export also replaces it with --force."
        }
        _ => return None,
    };
    Some(text.into())
}
