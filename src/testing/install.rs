use std::{
    fmt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use super::{
    LocalServerError,
    account::{Account, isolate},
    places::{cached, expand},
    variable,
};

/// The oldest major version that cgk supports.
pub const MIN_MAJOR: u32 = 14;

/// A PostgreSQL on this machine. Its `postgres` and `initdb` were executed once, as the user who will run the server.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Installation {
    /// The directory of `postgres` and `initdb`, with symbolic links resolved.
    pub bin_dir: PathBuf,
    /// The version as the server prints it, such as `15.18` or `19beta1`.
    pub version: String,
    /// The major version, such as 15.
    pub major: u32,
    /// How it was found.
    pub origin: InstallationOrigin,
}

/// How an [`Installation`] was found. Displayed as the name of the variable, the command or the kind of place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum InstallationOrigin {
    /// The environment variable `CGK_PG_BIN`.
    Variable,
    /// `pg_config --bindir`.
    PgConfig,
    /// A directory of `PATH`.
    Path,
    /// A directory where a package manager or installer puts PostgreSQL.
    WellKnown,
    /// Fetched by [`fetch`](fn@super::fetch) into the cache.
    Cache,
}

impl fmt::Display for InstallationOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Variable => "CGK_PG_BIN",
            Self::PgConfig => "pg_config",
            Self::Path => "PATH",
            Self::WellKnown => "a well-known place",
            Self::Cache => "the cache",
        })
    }
}

/// Finds the best installation, or `None` when this machine has none of version [`MIN_MAJOR`] or newer.
///
/// The order: `CGK_PG_BIN`, `pg_config`, `PATH`, the well-known places, the cache; in the last two the newest version
/// first. It only runs `--version` of the programs that it finds, and writes and downloads nothing.
///
/// # Errors
///
/// - [`LocalServerError::UnusableInstallation`] if `CGK_PG_BIN` is set and contains no usable server.
/// - [`LocalServerError::NoAccount`] if the process runs as root and the machine has no account to run a server.
pub fn find() -> Result<Option<Installation>, LocalServerError> {
    Ok(search()?.next())
}

/// Finds every usable installation, each once, in the order of [`find`]. If `CGK_PG_BIN` is set, only that one.
///
/// # Errors
///
/// The errors of [`find`].
pub fn find_all() -> Result<Vec<Installation>, LocalServerError> {
    let mut all: Vec<Installation> = Vec::new();
    for installation in search()? {
        if all.iter().all(|known| known.bin_dir != installation.bin_dir) {
            all.push(installation);
        }
    }
    Ok(all)
}

fn search() -> Result<Box<dyn Iterator<Item = Installation>>, LocalServerError> {
    let account = Account::for_server()?;
    if let Some(bin_dir) = variable("CGK_PG_BIN") {
        let pinned = Installation::probe(Path::new(&bin_dir), InstallationOrigin::Variable, account)?;
        return Ok(Box::new(std::iter::once(pinned)));
    }
    let usable = move |origin| move |bin_dir: PathBuf| Installation::probe(&bin_dir, origin, account).ok();
    let newest_first = move |origin, bin_dirs: Vec<PathBuf>| {
        let mut found: Vec<_> = bin_dirs.into_iter().filter_map(usable(origin)).collect();
        found.sort_by_key(|installation| std::cmp::Reverse(numbers(&installation.version)));
        found
    };
    // Lazy, because usually the first candidate is the right one, and every probe starts two processes.
    let later = |places: Box<dyn FnOnce() -> Vec<Installation>>| std::iter::once_with(places).flatten();
    Ok(Box::new(
        later(Box::new(move || pg_config().into_iter().filter_map(usable(InstallationOrigin::PgConfig)).collect()))
            .chain(later(Box::new(move || path().filter_map(usable(InstallationOrigin::Path)).collect())))
            .chain(later(Box::new(move || newest_first(InstallationOrigin::WellKnown, well_known()))))
            .chain(later(Box::new(move || newest_first(InstallationOrigin::Cache, cached())))),
    ))
}

impl Installation {
    /// Runs `postgres --version` and `initdb --version` as the server's user. This proves that the user can execute the
    /// programs and that their libraries load.
    pub(super) fn probe(
        bin_dir: &Path,
        origin: InstallationOrigin,
        account: Option<Account>,
    ) -> Result<Self, LocalServerError> {
        let unusable = |reason| LocalServerError::UnusableInstallation { origin, bin_dir: bin_dir.into(), reason };
        let bin_dir = resolve(bin_dir);
        let text = version_text(&bin_dir.join("postgres"), account).map_err(unusable)?;
        version_text(&bin_dir.join("initdb"), account).map_err(unusable)?;
        let (version, major) =
            parse_version(&text).ok_or_else(|| unusable(format!("`postgres --version` says {text:?}")))?;
        if major < MIN_MAJOR {
            return Err(unusable(format!("version {version} is older than {MIN_MAJOR}")));
        }
        Ok(Self { version: version.to_owned(), major, origin, bin_dir })
    }
}

/// Follows `/usr/local/bin/postgres -> /usr/lib/postgresql/17/bin/postgres`, so that one installation is listed once.
/// If the real directory has no `initdb`, for example that of a single wrapper script, the given directory is used.
fn resolve(bin_dir: &Path) -> PathBuf {
    let real = bin_dir.join("postgres").canonicalize().ok();
    let real = real.as_deref().and_then(Path::parent).filter(|real| real.join("initdb").exists());
    real.map_or_else(|| std::path::absolute(bin_dir).unwrap_or_else(|_| bin_dir.into()), Path::to_owned)
}

fn version_text(program: &Path, account: Option<Account>) -> Result<String, String> {
    let mut command = Command::new(program);
    command.arg("--version").stdin(Stdio::null());
    isolate(&mut command, account);
    let output = command.output().map_err(|error| format!("could not run {}: {error}", program.display()))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(format!("{} --version failed: {}", program.display(), said.trim()));
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// `postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)` is `("15.18", 15)`.
fn parse_version(text: &str) -> Option<(&str, u32)> {
    let version = text.split_whitespace().find(|word| word.starts_with(|c: char| c.is_ascii_digit()))?;
    Some((version, *numbers(version).first()?))
}

/// Returns the numbers in a version, for comparing: `18.10` is newer than `18.9`.
fn numbers(version: &str) -> Vec<u32> {
    version.split(|c: char| !c.is_ascii_digit()).map_while(|number| number.parse().ok()).collect()
}

fn pg_config() -> Option<PathBuf> {
    let output = Command::new("pg_config").arg("--bindir").stdin(Stdio::null()).output().ok()?;
    let bin_dir = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    (output.status.success() && !bin_dir.is_empty()).then(|| bin_dir.into())
}

fn path() -> impl Iterator<Item = PathBuf> {
    let path = variable("PATH").unwrap_or_default();
    let bin_dirs: Vec<_> = std::env::split_paths(&path).filter(|dir| dir.join("postgres").exists()).collect();
    bin_dirs.into_iter()
}

fn well_known() -> Vec<PathBuf> {
    const IN_ROOT: [&str; 11] = [
        "usr/lib/postgresql/*/bin", // Debian, Ubuntu
        "usr/pgsql-*/bin",          // the PostgreSQL project's packages for RHEL and Fedora
        "usr/libexec/postgresql*",  // Alpine
        "usr/lib/postgresql*/bin",  // SUSE
        "usr/local/pgsql/bin",      // built from source
        "opt/homebrew/opt/postgresql*/bin",
        "usr/local/opt/postgresql*/bin", // Homebrew on Intel
        "home/linuxbrew/.linuxbrew/opt/postgresql*/bin",
        "Applications/Postgres.app/Contents/Versions/*/bin",
        "Library/PostgreSQL/*/bin",      // the EDB installer
        "opt/local/lib/postgresql*/bin", // MacPorts
    ];
    const IN_HOME: [&str; 3] =
        [".asdf/installs/postgres/*/bin", ".local/share/mise/installs/postgres/*/bin", ".pgrx/*/pgrx-install/bin"];
    let mut bin_dirs: Vec<_> = IN_ROOT.iter().flat_map(|pattern| expand(Path::new("/"), pattern)).collect();
    if let Some(home) = std::env::home_dir() {
        bin_dirs.extend(IN_HOME.iter().flat_map(|pattern| expand(&home, pattern)));
    }
    bin_dirs
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn versions() {
        assert_eq!(parse_version("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)"), Some(("15.18", 15)));
        assert_eq!(parse_version("postgres (PostgreSQL) 18.4"), Some(("18.4", 18)));
        assert_eq!(parse_version("postgres (PostgreSQL) 19beta1"), Some(("19beta1", 19)));
        assert_eq!(parse_version("postgres (PostgreSQL)"), None);
        assert_eq!(parse_version(""), None);
        assert!(numbers("18.10") > numbers("18.9"));
        assert!(numbers("9.6.24") < numbers("10"));
    }

    #[test]
    fn the_unusable_says_why() {
        let account = Account::for_server().unwrap();
        let empty = std::env::temp_dir().join(format!("cgk-empty-{}", std::process::id()));
        fs::create_dir_all(&empty).unwrap();
        let error = Installation::probe(&empty, InstallationOrigin::Variable, account).unwrap_err();
        fs::remove_dir(&empty).unwrap();
        let text = error.to_string();
        assert!(text.starts_with(&format!("CGK_PG_BIN gives {}, which is not", empty.display())), "{text}");
        assert!(text.contains("No such file"), "{text}");
    }
}
