//! Fetches a prebuilt PostgreSQL into the cache and prints the directory of its programs.
//!
//! ```sh
//! CGK_PG_BIN=$(cargo run --example fetch_postgres -- 16) cargo test
//! ```
//!
//! Exits with 3 when no server of that version is known for this machine, and with 4 when it could not be downloaded.

use std::{
    error::Error,
    io::{self, Write},
    process::ExitCode,
};

use cgk::testing::{DEFAULT_MAJOR, LocalServerError, fetch};

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let major = std::env::args().nth(1).map_or(Ok(DEFAULT_MAJOR), |major| major.parse())?;
    let say = |line: &str| {
        let _ = writeln!(io::stderr(), "{line}");
    };
    match fetch(major, &say) {
        Ok(installation) => {
            writeln!(io::stdout(), "{}", installation.bin_dir.display())?;
            Ok(ExitCode::SUCCESS)
        }
        Err(error) => {
            say(&format!("fetch_postgres: {error}"));
            Ok(ExitCode::from(match error {
                LocalServerError::NoPackage { .. } => 3,
                LocalServerError::Download { .. } | LocalServerError::DownloadRefused { .. } => 4,
                _ => 1,
            }))
        }
    }
}
