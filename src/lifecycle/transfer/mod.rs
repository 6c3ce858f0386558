//! The data of tenants on their way: into a file, out of one, and what a copy of a tenant needs of both.

mod archive;
pub(crate) mod contents;
mod export;
mod export_many;
mod fields;
mod import;
pub(crate) mod load;
mod rows;

pub use archive::Archive;
pub use export::{ExistingFile, ExportOptions, Exported, TransferObserver, export, export_to_file};
pub use export_many::{ExportManyOptions, ExportObserver, ExportOutcome, ExportReport, ExportResult, export_many};
pub use import::{ImportOptions, Imported, import};
