//! Checks a complete file, and reads the rows of its tables.

use super::{FORMAT, Head, LedgerRow, MAGIC, PIECE_BYTES_MAX, Tail};
use crate::{
    error::{Result, TransferError},
    migrate::Applied,
    slug::TenantSlug,
    tenant::OrganizationId,
};
use sha2::{Digest as _, Sha256};
use std::{
    fs::File,
    io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write},
    path::Path,
};

/// The maximum size of a block that does not contain rows.
const JSON_BYTES_MAX: usize = 256 << 20;
/// The maximum size of a block of rows. Text that cannot be compressed grows by less than this margin.
const ROWS_BYTES_MAX: usize = PIECE_BYTES_MAX + (64 << 10);

/// The checked file of an exported tenant: nothing is missing, and nothing was changed.
#[derive(Debug)]
pub struct Archive {
    file: File,
    pub(in crate::lifecycle::transfer) head: Head,
    pub(in crate::lifecycle::transfer) tail: Tail,
    slug: TenantSlug,
    organization: OrganizationId,
    ledger: Vec<Applied>,
    /// The position and the length of each frame, by table.
    frames: Vec<Vec<(u64, usize)>>,
    bytes: u64,
}

impl Archive {
    /// Opens a file and checks all of it. This blocks while the file is read once.
    ///
    /// # Errors
    ///
    /// - Kind `Invalid`: the file is not an export, has a newer format, or is damaged.
    /// - Kind `Refused`: it cannot be read, or it cannot be read twice, as a pipe. Use [`spool`](Self::spool) for
    ///   those.
    pub fn open(path: &Path) -> Result<Self> {
        let unreadable = |source| TransferError::File { doing: format!("read {}", path.display()), source };
        if !path.metadata().map_err(unreadable)?.is_file() {
            return Err(TransferError::NotAFile { path: path.to_owned() }.into());
        }
        Self::check(File::open(path).map_err(unreadable)?)
    }

    /// Copies an export that cannot be read twice, such as standard input, to a temporary file in `folder`, and checks
    /// it meanwhile. The file has no name and disappears when the program ends. This blocks.
    ///
    /// # Errors
    ///
    /// Those of [`open`](Self::open).
    pub fn spool(mut input: impl Read, folder: &Path) -> Result<Self> {
        let unwritable = |source| TransferError::File { doing: format!("write to {}", folder.display()), source };
        let mut first = Vec::new();
        input.by_ref().take(MAGIC.len() as u64).read_to_end(&mut first).map_err(unwritable)?;
        if first != MAGIC {
            return Err(TransferError::NotAnExport.into());
        }
        let mut input = MAGIC.chain(input);
        let path = folder.join(format!("cgk-{}", uuid::Uuid::new_v4()));
        let file = File::options().read(true).write(true).create_new(true).open(&path).map_err(unwritable)?;
        // From here on, the file disappears when the program ends.
        std::fs::remove_file(&path).map_err(unwritable)?;
        let mut spooled = BufWriter::with_capacity(PIECE_BYTES_MAX, &file);
        io::copy(&mut input, &mut spooled).and_then(|_| spooled.flush()).map_err(unwritable)?;
        drop(spooled);
        (&file).rewind().map_err(unwritable)?;
        Self::check(file)
    }

    fn check(file: File) -> Result<Self> {
        let mut input = Input { file: BufReader::with_capacity(PIECE_BYTES_MAX, &file), hash: Sha256::new(), at: 0 };
        let mut magic = [0; MAGIC.len()];
        if !input.fill(&mut magic)? || magic != *MAGIC {
            return Err(TransferError::NotAnExport.into());
        }
        let found = u32::from_le_bytes(input.array()?);
        if found > FORMAT {
            return Err(TransferError::NewerFormat { found, known: FORMAT }.into());
        }
        let (kind, head) = input.block()?;
        let head: Head = json(kind, 1, &head)?;
        let mut frames = vec![Vec::new(); head.tables.len()];
        let tail: Tail = loop {
            let (kind, content) = input.block()?;
            if kind != 2 {
                break json(kind, 3, &content)?;
            }
            let (table, frame) = content.split_first_chunk().ok_or_else(|| damaged("a block of rows is too short"))?;
            let table = usize::try_from(u32::from_le_bytes(*table)).ok().and_then(|table| frames.get_mut(table));
            let place = input.at - frame.len() as u64;
            table.ok_or_else(|| damaged("rows belong to no table"))?.push((place, frame.len()));
        };
        let digest = input.hash.clone().finalize();
        if input.array::<32>()?[..] != digest[..] {
            return Err(damaged("its checksum differs"));
        }
        if input.fill(&mut [0])? {
            return Err(damaged("something follows its end"));
        }
        if tail.tables.len() != head.tables.len() {
            return Err(damaged("its two lists of tables differ"));
        }
        let bytes = input.at;
        drop(input);
        let slug = head.slug.parse().map_err(|_| damaged("its slug is not valid"))?;
        let organization = head.organization.parse().map_err(|_| damaged("its organization is not valid"))?;
        let ledger: Option<Vec<Applied>> = head.ledger.iter().map(LedgerRow::applied).collect();
        let ledger = ledger.ok_or_else(|| damaged("its ledger is not valid"))?;
        Ok(Self { file, head, tail, slug, organization, ledger, frames, bytes })
    }

    /// Returns the slug of the exported tenant.
    pub fn slug(&self) -> &TenantSlug {
        &self.slug
    }

    /// Returns the organization of the exported tenant.
    pub fn organization(&self) -> OrganizationId {
        self.organization
    }

    /// Returns the display name of the exported tenant.
    pub fn name(&self) -> &str {
        &self.head.name
    }

    /// Returns the migrations of the exported tenant.
    pub fn ledger(&self) -> &[Applied] {
        &self.ledger
    }

    /// Returns when the rows were read, in UTC, for example `2026-11-27T18:00:00Z`.
    pub fn created_at(&self) -> &str {
        &self.head.created_at
    }

    /// Returns how many rows the file contains.
    pub fn rows(&self) -> u64 {
        self.tail.tables.iter().map(|table| table.rows).sum()
    }

    /// Returns how many tables the file contains.
    pub fn tables(&self) -> usize {
        self.head.tables.len()
    }

    /// Returns the size of the rows as text, before compression.
    pub fn text_bytes(&self) -> u64 {
        self.tail.tables.iter().map(|table| table.bytes).sum()
    }

    /// Returns the size of the file.
    pub fn file_bytes(&self) -> u64 {
        self.bytes
    }

    /// Reads the rows of a table, piece by piece. This blocks. It stops early, without an error, when `take` returns
    /// false.
    pub(in crate::lifecycle::transfer) fn read_rows(
        &self,
        table: usize,
        mut take: impl FnMut(Vec<u8>) -> bool,
    ) -> Result<()> {
        let unreadable = |source| TransferError::File { doing: "read the rows of the file".into(), source };
        let mut frame = Vec::new();
        for (place, length) in &self.frames[table] {
            frame.resize(*length, 0);
            let mut file = &self.file;
            file.seek(SeekFrom::Start(*place)).and_then(|_| file.read_exact(&mut frame)).map_err(unreadable)?;
            let piece = zstd::bulk::decompress(&frame, PIECE_BYTES_MAX)
                .map_err(|error| damaged(format!("rows of table {}: {error}", self.head.tables[table].name)))?;
            if !take(piece) {
                return Ok(());
            }
        }
        Ok(())
    }
}

pub(in crate::lifecycle::transfer) fn damaged(problem: impl Into<String>) -> crate::Error {
    TransferError::Damaged { problem: problem.into() }.into()
}

fn json<T: serde::de::DeserializeOwned>(kind: u8, wanted: u8, content: &[u8]) -> Result<T> {
    if kind != wanted {
        return Err(damaged(format!("block {wanted} is expected, and there is {kind}")));
    }
    serde_json::from_slice(content).map_err(|error| damaged(format!("block {wanted}: {error}")))
}

struct Input<'f> {
    file: BufReader<&'f File>,
    hash: Sha256,
    at: u64,
}

impl Input<'_> {
    /// Fills the buffer. Returns false if the file ends before the buffer is full.
    fn fill(&mut self, buffer: &mut [u8]) -> Result<bool> {
        match self.file.read_exact(buffer) {
            Ok(()) => {
                self.hash.update(&*buffer);
                self.at += buffer.len() as u64;
                Ok(true)
            }
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
            Err(source) => Err(TransferError::File { doing: "read the file".into(), source }.into()),
        }
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut bytes = [0; N];
        if self.fill(&mut bytes)? { Ok(bytes) } else { Err(damaged("it is cut off")) }
    }

    fn block(&mut self) -> Result<(u8, Vec<u8>)> {
        let [kind] = self.array()?;
        let length = u32::from_le_bytes(self.array()?) as usize;
        // The length in a damaged file must not decide how much memory is allocated.
        if !(1..=3).contains(&kind) || length > if kind == 2 { ROWS_BYTES_MAX } else { JSON_BYTES_MAX } {
            return Err(damaged(format!("there is no block at byte {}", self.at)));
        }
        let mut content = vec![0; length];
        if self.fill(&mut content)? { Ok((kind, content)) } else { Err(damaged("it is cut off")) }
    }
}
