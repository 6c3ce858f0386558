use std::{
    ffi::OsString,
    fmt::Write,
    fs,
    io::Read,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::{Duration, Instant, SystemTime},
};

use super::{
    DEFAULT_MAJOR, Installation, LocalServerError,
    account::{Account, isolate},
    fetch, find, variable,
};

const SUPERVISOR: &str = include_str!("supervisor.sh");

/// Much longer than any successful start, which takes a second even on a busy machine.
const START_MAX: Duration = Duration::from_secs(60);

/// A private PostgreSQL server that runs as long as this value lives.
///
/// All its files are in one directory with mode 0700: the data (30 MB and about 8 MB per database), the log and the
/// socket. The directory is in `/dev/shm` if that has 1 GB free (cloning a database is 2 to 20 times faster there),
/// otherwise in the temporary directory. The server listens on that socket only and trusts every client that can reach
/// it: the user who runs it, and root. PostgreSQL refuses to run as root, so for root it runs as the caller of `sudo`,
/// as `postgres` or as `nobody`.
///
/// It runs without fsync and is stopped without a checkpoint. Do not store data in it that you need later.
///
/// # When it stops
///
/// Dropping the value stops the server, even if clients are connected, and removes the directory before it returns, in
/// 10 to 20 ms. If the value is never dropped, the same happens shortly after the process ends. This is so for a
/// `static`, and for a process that exits, panics or is killed, also by Ctrl-C or SIGKILL. A small `sh` process, in its
/// own process group, watches a pipe that only this process keeps open. The server remains only if that process is
/// killed too.
#[derive(Debug)]
pub struct LocalServer {
    dir: PathBuf,
    installation: Installation,
    supervisor: Child,
}

/// Settings of a [`LocalServer`].
#[derive(Debug, Clone)]
pub struct LocalServerOptions {
    settings: Vec<String>,
}

impl Default for LocalServerOptions {
    fn default() -> Self {
        let settings = [
            "listen_addresses=",
            "fsync=off",
            "synchronous_commit=off",
            "full_page_writes=off",
            "max_connections=100",
            // One transaction may use the schemas of many tenants, and locks each of their relations.
            "max_locks_per_transaction=256",
            "shared_buffers=32MB",
            "max_wal_size=256MB",
            "jit=off",
            "logging_collector=off",
            "autovacuum_naptime=1h",
        ];
        Self { settings: settings.map(str::to_owned).to_vec() }
    }
}

impl LocalServerOptions {
    /// Creates the defaults: 100 connections, 256 locks per transaction, and settings that prefer speed over
    /// durability.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets how many connections the server accepts.
    #[must_use]
    pub fn max_connections(self, max_connections: u16) -> Self {
        self.setting("max_connections", &max_connections.to_string())
    }

    /// Sets a server setting. It overrides the default and earlier calls; `CGK_PG_OPTS` overrides it.
    #[must_use]
    pub fn setting(mut self, name: &str, value: &str) -> Self {
        self.settings.push(format!("{name}={value}"));
        self
    }

    /// Starts a server with these settings; see [`LocalServer::start`].
    ///
    /// # Errors
    ///
    /// The errors of [`LocalServer::start`]; an unknown setting is a [`LocalServerError::Start`].
    pub fn start(&self, installation: &Installation) -> Result<LocalServer, LocalServerError> {
        let base = variable("CGK_PG_TMP").map_or_else(scratch_dir, PathBuf::from);
        let mut server = LocalServer::spawn(installation, &base, &self.arguments())?;
        server.wait_until_ready(START_MAX)?;
        Ok(server)
    }

    /// Starts a server with these settings; see [`LocalServer::start_default`].
    ///
    /// # Errors
    ///
    /// The errors of [`LocalServer::start_default`].
    pub fn start_default(&self, progress: &dyn Fn(&str)) -> Result<LocalServer, LocalServerError> {
        let installation = match find()? {
            Some(installation) => installation,
            None => {
                fetch(DEFAULT_MAJOR, progress).map_err(|why| LocalServerError::Unavailable { why: Box::new(why) })?
            }
        };
        self.start(&installation)
    }

    /// If a name occurs more than once, the last value is used.
    fn arguments(&self) -> Vec<OsString> {
        let from_variable = variable("CGK_PG_OPTS").unwrap_or_default().to_string_lossy().into_owned();
        let settings = self.settings.iter().map(String::as_str).chain(from_variable.split_whitespace());
        settings.flat_map(|setting| ["-c".into(), setting.into()]).collect()
    }
}

impl LocalServer {
    /// Creates a cluster and starts a server with the default options; takes about 0.4 s.
    ///
    /// Its superuser is `postgres`, its databases are UTF-8 with the locale C.
    ///
    /// # Errors
    ///
    /// - [`LocalServerError::Start`] with the program's error lines if `initdb` or `postgres` fails.
    /// - [`LocalServerError::Timeout`] if the server is not ready after a minute.
    /// - [`LocalServerError::NoAccount`] if the process runs as root and the machine has no account to run the server.
    /// - [`LocalServerError::Io`] if its directory or its processes cannot be created.
    ///
    /// After an error, no files or processes of the server remain.
    pub fn start(installation: &Installation) -> Result<Self, LocalServerError> {
        LocalServerOptions::default().start(installation)
    }

    /// Starts a server from the best installation on this machine, or fetches one first.
    ///
    /// [`find`](super::find) defines which one is best, and [`fetch`](fn@super::fetch) what is downloaded and where it
    /// is stored. `progress` receives a line before each download, and nothing if no download is needed.
    ///
    /// # Errors
    ///
    /// - [`LocalServerError::Unavailable`] if there is no server and none can be fetched; the message says what to
    ///   install.
    /// - [`LocalServerError::UnusableInstallation`] if `CGK_PG_BIN` is set and contains no usable server.
    /// - The errors of [`start`](Self::start).
    pub fn start_default(progress: &dyn Fn(&str)) -> Result<Self, LocalServerError> {
        LocalServerOptions::default().start_default(progress)
    }

    /// Returns the URL of a database on this server, as its superuser, for tokio-postgres and for psql.
    pub fn url(&self, database: &str) -> String {
        let host = percent_encode(self.dir.as_os_str().as_encoded_bytes());
        format!("postgresql://postgres@/{}?host={host}", percent_encode(database.as_bytes()))
    }

    /// Returns the server's log.
    pub fn log(&self) -> String {
        read(&self.dir.join("log"))
    }

    /// Returns the installation that it was started from.
    pub fn installation(&self) -> &Installation {
        &self.installation
    }

    /// Returns the server's directory: `data/`, the log and the socket.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    fn spawn(installation: &Installation, base: &Path, arguments: &[OsString]) -> Result<Self, LocalServerError> {
        let dir = base.join(unique_name());
        let mut supervisor = Command::new("/bin/sh");
        supervisor.args(["-c", SUPERVISOR, "cgk-local-server"]);
        supervisor.arg(&dir).arg(&installation.bin_dir).args(arguments);
        supervisor.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        // Ctrl-C reaches the terminal's whole process group; the supervisor must survive it.
        supervisor.process_group(0);
        isolate(&mut supervisor, Account::for_server()?);
        let supervisor = supervisor.spawn().map_err(LocalServerError::io("run", "/bin/sh"))?;
        Ok(Self { dir, installation: installation.clone(), supervisor })
    }

    /// Waits until line 8 of the pid file says that the server is ready. `pg_ctl -w` waits for the same line.
    fn wait_until_ready(&mut self, max: Duration) -> Result<(), LocalServerError> {
        let began = Instant::now();
        let (pid_file, exit) = (self.dir.join("data/postmaster.pid"), self.dir.join("exit"));
        loop {
            if read(&pid_file).lines().nth(7).is_some_and(|line| line.trim() == "ready") {
                return Ok(());
            }
            if !read(&exit).is_empty() {
                return Err(self.start_error());
            }
            if let Ok(Some(_)) = self.supervisor.try_wait() {
                return Err(self.supervisor_error());
            }
            if began.elapsed() > max {
                let version = self.installation.version.clone();
                return Err(LocalServerError::Timeout { version, seconds: max.as_secs(), log: self.log() });
            }
            thread::sleep(Duration::from_millis(5));
        }
    }

    fn start_error(&self) -> LocalServerError {
        let log = self.dir.join("log");
        let (program, log) =
            if log.exists() { ("postgres", read(&log)) } else { ("initdb", read(&self.dir.join("initdb.log"))) };
        LocalServerError::Start { program, version: self.installation.version.clone(), log: error_lines(&log) }
    }

    /// Returns the error of a server that ended before there was a directory for a log.
    fn supervisor_error(&mut self) -> LocalServerError {
        let mut said = String::new();
        if let Some(stderr) = &mut self.supervisor.stderr {
            let _ = stderr.read_to_string(&mut said);
        }
        LocalServerError::io("create", &self.dir)(std::io::Error::other(said.trim().to_owned()))
    }
}

impl Drop for LocalServer {
    fn drop(&mut self) {
        // The supervisor waits for the end of the pipe.
        drop(self.supervisor.stdin.take());
        let _ = self.supervisor.wait();
    }
}

/// Returns a short name, because the path of a socket is limited to about 100 bytes.
fn unique_name() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let nanos = SystemTime::UNIX_EPOCH.elapsed().map_or(0, |time| time.subsec_nanos());
    format!("cgk-{:x}-{nanos:x}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

/// Shared memory if it has 1 GB free. A container often has only 64 MB there.
fn scratch_dir() -> PathBuf {
    let df = Command::new("df").args(["-Pk", "/dev/shm"]).stderr(Stdio::null()).output();
    let free = df.ok().and_then(|output| free_kilobytes(&String::from_utf8_lossy(&output.stdout), "/dev/shm"));
    if free >= Some(1 << 20) {
        return "/dev/shm".into();
    }
    // On Linux, the temporary directory may be private to a user other than the server's.
    if cfg!(target_os = "macos") { std::env::temp_dir() } else { "/tmp".into() }
}

/// Reads the output of `df -Pk`, if the directory is a mount point.
fn free_kilobytes(df: &str, mount: &str) -> Option<u64> {
    let fields: Vec<_> = df.lines().nth(1)?.split_whitespace().collect();
    let [.., available, _, at] = fields[..] else { return None };
    (at == mount).then(|| available.parse().ok()).flatten()
}

fn read(file: &Path) -> String {
    fs::read(file).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}

/// Returns the lines that contain the error, or all of them.
fn error_lines(log: &str) -> String {
    let telling = |line: &&str| ["FATAL:", "PANIC:", "error:"].iter().any(|mark| line.contains(mark));
    let lines: Vec<_> = log.lines().filter(telling).collect();
    if lines.is_empty() { log.trim().to_owned() } else { lines.join("\n") }
}

fn percent_encode(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => text.push(char::from(*byte)),
            _ => write!(text, "%{byte:02X}").expect("writing to a String cannot fail"),
        }
        text
    })
}

#[cfg(test)]
mod tests;
