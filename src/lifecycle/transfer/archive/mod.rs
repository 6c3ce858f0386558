//! The file format of an exported tenant.
//!
//! The file starts with [`MAGIC`] and the number of the format, as four bytes. Blocks follow: one byte for the kind,
//! the length as four bytes, and the content of that length. The last part is the SHA-256 of everything before it. All
//! numbers are little-endian.
//!
//! | kind | content |
//! |---|---|
//! | 1 | the first block: [`Head`] as JSON |
//! | 2 | rows: the number of the table as four bytes, and a zstd frame with a piece of its COPY text, at most [`PIECE_BYTES_MAX`] |
//! | 3 | the last block: [`Tail`] as JSON |
//!
//! The pieces of different tables can alternate; the pieces of one table are in order. So a file can be written to a
//! pipe, and can be checked while it is read from one. The rows themselves are read table by table, which needs a file.

mod reader;
mod writer;

pub use reader::Archive;
pub(super) use writer::{Block, Output};

use crate::{
    migrate::Applied,
    migration::MigrationId,
    version::{Checksum, Version},
};
use serde::{Deserialize, Serialize};

/// The first bytes of a file.
const MAGIC: &[u8; 12] = b"cgk tenant\r\n";
/// The format that this version writes, and the newest that it reads.
const FORMAT: u32 = 1;
/// The maximum size of the text in a block of rows.
pub(super) const PIECE_BYTES_MAX: usize = 1 << 20;

/// The data that is known before the rows are read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Head {
    /// The version of cgk.
    pub(super) cgk: String,
    /// When the snapshot of the rows was taken, in UTC.
    pub(super) created_at: String,
    pub(super) server_version: String,
    pub(super) database: String,
    /// The tag in the database's record. It is a part of the names of its roles.
    pub(super) database_tag: String,
    pub(super) organization: String,
    pub(super) slug: String,
    pub(super) name: String,
    pub(super) ledger: Vec<LedgerRow>,
    pub(super) tables: Vec<HeadTable>,
    pub(super) partitions: Vec<HeadPartition>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct LedgerRow {
    pub(super) version: i64,
    pub(super) name: String,
    pub(super) checksum: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct HeadTable {
    pub(super) name: String,
    pub(super) columns: Vec<String>,
}

/// A partition. The file contains partitions because services create some that no migration creates.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct HeadPartition {
    pub(super) name: String,
    pub(super) parent: String,
    pub(super) bound: String,
    pub(super) is_leaf: bool,
}

/// The data that is known after the rows are read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Tail {
    /// One entry per table, in the order of the head.
    pub(super) tables: Vec<TailTable>,
    pub(super) sequences: Vec<TailSequence>,
    /// Foreign tables, whose rows are not in the file.
    pub(super) left_out: Vec<String>,
    /// The materialized views that have contents. Older files do not have this.
    #[serde(default)]
    pub(super) populated_views: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct TailTable {
    pub(super) rows: u64,
    /// The size of the COPY text, before compression.
    pub(super) bytes: u64,
    pub(super) checksum: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct TailSequence {
    pub(super) name: String,
    pub(super) last_value: i64,
    pub(super) is_called: bool,
}

impl From<&Applied> for LedgerRow {
    fn from(row: &Applied) -> Self {
        let (version, name) = (row.id.version.get(), row.id.name.clone());
        Self { version, name, checksum: row.checksum.as_str().to_owned() }
    }
}

impl LedgerRow {
    /// Returns the row of a ledger; `None` if the data is not a valid row.
    fn applied(&self) -> Option<Applied> {
        let id = MigrationId { version: Version::new(self.version)?, name: self.name.clone() };
        Some(Applied { id, checksum: Checksum::recorded(self.checksum.clone()) })
    }
}
