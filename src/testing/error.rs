use std::{error::Error, io, path::PathBuf};

/// Why a local server could not be found, fetched or started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LocalServerError {
    /// The directory contains no PostgreSQL that can run here. For `CGK_PG_BIN` this is an error; other places are
    /// skipped.
    #[error("{origin} gives {}, which is not a usable PostgreSQL: {reason}", bin_dir.display())]
    UnusableInstallation {
        /// How the directory was found.
        origin: super::InstallationOrigin,
        /// The directory.
        bin_dir: PathBuf,
        /// The reason.
        reason: String,
    },

    /// PostgreSQL refuses to run as root, and there is no other account to use.
    #[error("PostgreSQL does not run as root, and this machine has no user `postgres` or `nobody` to run it as")]
    NoAccount,

    /// There is no directory for fetched servers.
    #[error("no home directory to keep a fetched PostgreSQL in; set CGK_CACHE_DIR")]
    NoCacheDirectory,

    /// `CGK_NO_DOWNLOAD` is set.
    #[error("fetching PostgreSQL {major} is refused by CGK_NO_DOWNLOAD")]
    DownloadRefused {
        /// The requested major version.
        major: u32,
    },

    /// No prebuilt server of this major version is defined for this machine.
    #[error("no prebuilt PostgreSQL {major} is known for {os}/{arch}")]
    NoPackage {
        /// The requested major version.
        major: u32,
        /// The operating system, in Rust's notation.
        os: &'static str,
        /// The processor, in Rust's notation.
        arch: &'static str,
    },

    /// All download methods failed.
    #[error("could not fetch PostgreSQL {major} ({attempts})")]
    Download {
        /// The requested major version.
        major: u32,
        /// Each method and its error, in the order of the attempts.
        attempts: String,
    },

    /// The downloaded archive does not match the pinned checksum. Nothing was unpacked.
    #[error("checksum of {package} is {actual}, expected {expected}")]
    Checksum {
        /// The package and its version.
        package: String,
        /// The SHA-256 in the source code.
        expected: &'static str,
        /// The SHA-256 of the downloaded archive.
        actual: String,
    },

    /// No server was found and none could be fetched; the message says why, and lists possible solutions.
    // The message contains everything, so the sources do not, because test harnesses, which show this error, print only
    // the message.
    #[error("no PostgreSQL found on this machine, and {}\n{ADVICE}", with_causes(why))]
    Unavailable {
        /// Why none was fetched.
        why: Box<LocalServerError>,
    },

    /// `initdb` or `postgres` failed. The server's files are removed.
    #[error("{program} of PostgreSQL {version} failed: {log}")]
    Start {
        /// `initdb` or `postgres`.
        program: &'static str,
        /// The version of the installation.
        version: String,
        /// The program's error lines, or its whole log if there are none.
        log: String,
    },

    /// The server was not ready within the time limit. It has been stopped and removed.
    #[error("PostgreSQL {version} was not ready after {seconds} seconds: {log}")]
    Timeout {
        /// The version of the installation.
        version: String,
        /// The limit.
        seconds: u64,
        /// The server's log.
        log: String,
    },

    /// The operating system returned an error.
    #[error("could not {doing} {}", path.display())]
    Io {
        /// The operation, such as `create`.
        doing: &'static str,
        /// The path.
        path: PathBuf,
        /// The operating system's error.
        source: io::Error,
    },
}

const ADVICE: &str = "\
any one of these will do:
  Debian, Ubuntu  sudo apt-get install postgresql
  Fedora          sudo dnf install postgresql-server
  Alpine          apk add postgresql
  macOS           brew install postgresql
  elsewhere       set CGK_PG_BIN to the directory that holds `postgres` and `initdb`
  your server     set DATABASE_URL (the demo) or CGK_TEST_DATABASE_URL (the tests)";

fn with_causes(error: &dyn Error) -> String {
    let causes = std::iter::successors(error.source(), |&cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

impl LocalServerError {
    pub(super) fn io(doing: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { doing, path, source }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_unavailable_says_why_once_and_what_to_do() {
        let why = LocalServerError::io("create", "/var/cache/cgk")(io::Error::other("read-only"));
        let error = LocalServerError::Unavailable { why: Box::new(why) };
        let text = error.to_string();
        let first = "no PostgreSQL found on this machine, and could not create /var/cache/cgk: read-only\nany one of";
        assert!(text.starts_with(first), "{text}");
        for system in ["Debian", "Fedora", "Alpine", "macOS", "CGK_PG_BIN", "DATABASE_URL"] {
            assert!(text.contains(system), "{text}");
        }
        assert!(error.source().is_none());
    }
}
