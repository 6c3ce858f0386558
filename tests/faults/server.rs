//! A server of one's own that can be stopped in the middle of its work and started again on the same data.

use cgk::testing::{LocalServer, LocalServerOptions};
use std::{
    fs,
    os::unix::{fs::MetadataExt as _, process::CommandExt as _},
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

/// Far beyond any recovery of so little data.
const START_MAX: Duration = Duration::from_secs(120);

/// The server runs as long as somebody holds the other end of its standard input, as those of `cgk::testing` do.
const SUPERVISE: &str = r#""$@" </dev/null >>"$LOG" 2>&1 & server=$!; read -r _; kill -QUIT $server; wait $server"#;

/// A private server. Commits are flushed to the operating system, so that what was said to be committed outlives an
/// immediate shutdown; the machine itself never goes down here.
pub(crate) struct Server {
    /// Gone after `restarted`, which works on its directory.
    restarted: Option<Child>,
    local: LocalServer,
}

impl Server {
    pub(crate) fn start() -> Self {
        let options = LocalServerOptions::new().setting("synchronous_commit", "on");
        let local = options.start_default(&|_| ()).unwrap_or_else(|problem| panic!("{problem}"));
        Self { restarted: None, local }
    }

    pub(crate) fn url(&self, database: &str) -> String {
        self.local.url(database)
    }

    /// Its version, as the other tests write it into the scoreboard.
    pub(crate) fn version(&self) -> String {
        self.local.installation().version.clone()
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.local.dir().join("data")
    }

    /// Makes a directory the server's.
    pub(crate) fn give(&self, directory: &std::path::Path) {
        let owner = fs::metadata(self.data()).unwrap();
        std::os::unix::fs::chown(directory, Some(owner.uid()), Some(owner.gid())).unwrap();
    }

    fn postmaster(&self) -> Option<String> {
        let file = fs::read_to_string(self.data().join("postmaster.pid")).ok()?;
        file.lines().next().map(ToOwned::to_owned)
    }

    fn is_ready(&self) -> bool {
        let file = fs::read_to_string(self.data().join("postmaster.pid")).unwrap_or_default();
        file.lines().nth(7).is_some_and(|line| line.trim() == "ready")
    }

    /// Shuts the server down as a loss of power would, without a checkpoint and without a word to its clients; its
    /// files are then at rest.
    pub(crate) fn stop_at_once(&self) {
        let Some(pid) = self.postmaster() else { return };
        signal(&pid, "QUIT");
        wait_for("the server ends", || !signal(&pid, "0") || is_defunct(&pid));
    }

    /// Waits until the server has ended by itself.
    pub(crate) fn wait_until_down(&self) {
        let pid = self.postmaster();
        wait_for("the server ends", || pid.as_ref().is_none_or(|pid| !signal(pid, "0") || is_defunct(pid)));
    }

    /// Starts it again on its data.
    pub(crate) fn start_again(&mut self) {
        self.end_restarted();
        // A server that ended in a panic leaves its file, and its number may be somebody else's by now.
        let _ = fs::remove_file(self.data().join("postmaster.pid"));
        let owner = fs::metadata(self.data()).unwrap();
        // What it was started with, as the server itself has written it down: "program" "argument" …
        let options = fs::read_to_string(self.data().join("postmaster.opts")).unwrap();
        let (program, rest) = options.trim().split_once(' ').unwrap();
        let arguments = rest.split('"').skip(1).step_by(2);
        let mut command = Command::new("/bin/sh");
        command.args(["-c", SUPERVISE, "cgk-faults", program]).args(arguments);
        command.env("LOG", self.local.dir().join("log")).env("LC_ALL", "C").current_dir("/");
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
        if fs::metadata("/proc/self").map_or(owner.uid(), |me| me.uid()) != owner.uid() {
            command.uid(owner.uid()).gid(owner.gid());
        }
        for (name, _) in std::env::vars_os() {
            if ["PG", "LD_", "DYLD_"].iter().any(|prefix| name.to_string_lossy().starts_with(prefix)) {
                command.env_remove(&name);
            }
        }
        self.restarted = Some(command.spawn().unwrap());
        let began = Instant::now();
        while !self.is_ready() {
            assert!(began.elapsed() < START_MAX, "the server does not come back:\n{}", self.local.log());
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    fn end_restarted(&mut self) {
        if let Some(mut child) = self.restarted.take() {
            drop(child.stdin.take());
            let _ = child.wait();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end_restarted();
    }
}

fn signal(pid: &str, signal: &str) -> bool {
    let status = Command::new("kill").args([&format!("-{signal}"), pid]).stderr(Stdio::null()).status();
    status.unwrap().success()
}

/// Whether a process has ended and only its parent does not know yet.
fn is_defunct(pid: &str) -> bool {
    let output = Command::new("ps").args(["-o", "stat=", "-p", pid]).output();
    output.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).trim_start().starts_with('Z'))
}

fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    let began = Instant::now();
    while !condition() {
        assert!(began.elapsed() < START_MAX, "never: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}
