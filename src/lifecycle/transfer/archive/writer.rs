//! Writes a file block by block.

use super::{FORMAT, Head, MAGIC, Tail};
use sha2::{Digest as _, Sha256};
use std::io::{self, Write};
use tokio::{sync::mpsc, task::JoinHandle};

/// How many blocks can wait for a slow disk or pipe.
const BLOCKS_WAITING_MAX: usize = 8;

pub(in crate::lifecycle::transfer) enum Block {
    Head(Box<Head>),
    /// A compressed piece of a table's rows.
    Rows {
        table: u32,
        frame: Vec<u8>,
    },
    Tail(Tail),
}

/// Writes blocks in a thread for blocking work, in the order in which they arrive. Without a tail the file is
/// incomplete, and every reader refuses it.
pub(in crate::lifecycle::transfer) struct Output {
    blocks: mpsc::Sender<Block>,
    thread: JoinHandle<io::Result<u64>>,
}

impl Output {
    pub(in crate::lifecycle::transfer) fn new(output: impl Write + Send + 'static) -> Self {
        let (blocks, waiting) = mpsc::channel(BLOCKS_WAITING_MAX);
        Self { blocks, thread: tokio::task::spawn_blocking(move || write(output, waiting)) }
    }

    /// Sends a block. Returns false if the thread has ended with an error, which [`finish`](Self::finish) returns.
    pub(in crate::lifecycle::transfer) async fn send(&self, block: Block) -> bool {
        self.blocks.send(block).await.is_ok()
    }

    /// Waits until everything is written. Returns the size of the file.
    pub(in crate::lifecycle::transfer) async fn finish(self) -> io::Result<u64> {
        drop(self.blocks);
        self.thread.await.map_err(io::Error::other)?
    }
}

fn write(output: impl Write, mut blocks: mpsc::Receiver<Block>) -> io::Result<u64> {
    let mut file = Hashing { output, hash: Sha256::new(), bytes: 0 };
    file.write(MAGIC)?;
    file.write(&FORMAT.to_le_bytes())?;
    let mut is_whole = false;
    while let Some(block) = blocks.blocking_recv() {
        match block {
            Block::Head(head) => file.block(1, &serde_json::to_vec(&head)?)?,
            Block::Rows { table, frame } => file.block(2, &[&table.to_le_bytes(), frame.as_slice()].concat())?,
            Block::Tail(tail) => {
                file.block(3, &serde_json::to_vec(&tail)?)?;
                is_whole = true;
            }
        }
    }
    if is_whole {
        let digest = file.hash.clone().finalize();
        file.write(&digest)?;
    }
    file.output.flush()?;
    Ok(file.bytes)
}

struct Hashing<W> {
    output: W,
    hash: Sha256,
    bytes: u64,
}

impl<W: Write> Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.hash.update(bytes);
        self.bytes += bytes.len() as u64;
        self.output.write_all(bytes)
    }

    fn block(&mut self, kind: u8, content: &[u8]) -> io::Result<()> {
        let length = u32::try_from(content.len()).map_err(io::Error::other)?;
        self.write(&[kind])?;
        self.write(&length.to_le_bytes())?;
        self.write(content)
    }
}
