//! Copies the data of tenants: to a file, from a file, and from tenant to tenant.

mod archive;
mod clone;
pub(crate) mod contents;
mod export;
mod export_many;
mod fields;
mod import;
pub(crate) mod load;
mod mask;
mod rows;
mod source;
mod target;

pub use archive::Archive;
pub use clone::{CloneOptions, CloneRows, Cloned, clone_tenant};
pub use export::{ExistingFile, ExportOptions, Exported, TransferObserver, export, export_to_file};
pub use export_many::{ExportManyOptions, ExportObserver, ExportOutcome, ExportReport, ExportResult, export_many};
pub use import::{ImportOptions, Imported, import};
pub use mask::Mask;
