//! Errors of the files of seeds.

use super::ErrorKind;
use std::path::PathBuf;

/// Why the seeds of [`lifecycle::seed`](crate::lifecycle::seed()) were refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SeedError {
    /// The folder or a file in it could not be read.
    #[error("could not read the seeds {path:?}")]
    Unreadable {
        /// The folder or file.
        path: PathBuf,
        /// The error of the operating system.
        source: std::io::Error,
    },
    /// The folder contains no seed, or does not exist.
    #[error("there is no seed (*.sql) in folder {folder:?}")]
    NoFiles {
        /// The folder.
        folder: PathBuf,
    },
    /// A file cannot be run.
    #[error("seed {name}: {problem}")]
    Invalid {
        /// The name of the file, without `.sql`.
        name: String,
        /// The problem.
        problem: String,
    },
    /// There is no file with this name.
    #[error("there is no seed {name:?}")]
    Unknown {
        /// The name.
        name: String,
    },
}

impl SeedError {
    /// Returns code and kind of each variant.
    pub(super) fn entry(&self) -> (&'static str, ErrorKind) {
        match self {
            Self::Unreadable { .. } => ("CGK0953", ErrorKind::Refused),
            Self::NoFiles { .. } => ("CGK0954", ErrorKind::Invalid),
            Self::Invalid { .. } => ("CGK0955", ErrorKind::Invalid),
            Self::Unknown { .. } => ("CGK0956", ErrorKind::Invalid),
        }
    }
}
