//! Drops the demo's database when the demo is gone, however it went.
//!
//! The demo starts itself once more, in a process group of its own that Ctrl-C does not reach, and holds the only writing end
//! of a pipe to it. The kernel closes that end when the demo ends, even by SIGKILL. Where the database is comes through the
//! environment, because other users can read the arguments of a process.

use anyhow::{Context as _, Result, bail};
use cgk::{Config, config::Overrides, ident::Ident, testing};
use std::{
    io::{Read as _, Write as _},
    os::unix::process::CommandExt as _,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};
use tokio::signal::unix::{SignalKind, signal};

use super::{exit::Exit, global::Globals};

/// The name of the hidden command.
pub(crate) const COMMAND: &str = "demo:reaper";
const DATABASE: &str = "CGK_DEMO_DATABASE";
/// Said by the demo once the server has answered, and so nothing is under way that could make the database later.
const MADE: &[u8] = b"made";
/// A CREATE DATABASE that was under way when the demo was killed goes on; it is over by then.
const LATE_MAX: Duration = Duration::from_secs(3);
const PATIENCE: Duration = Duration::from_secs(20);

/// A process that drops a database when this value is dropped, or when this process is gone.
pub(crate) struct Reaper {
    child: Child,
    database: String,
    reaped: bool,
}

impl Reaper {
    /// Starts the process; to be called before the database is made.
    pub(crate) fn spawn(globals: &Globals, database: &Ident) -> Result<Self> {
        let program = std::env::current_exe().context("could not find this program")?;
        let mut command = Command::new(program);
        command.arg(COMMAND).env(DATABASE, database.as_str());
        for (name, value) in globals.as_environment() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
        let child = command.spawn().context("could not start the process that cleans up after the demo")?;
        Ok(Self { child, database: database.as_str().to_owned(), reaped: false })
    }

    /// Tells the process that the server has answered.
    pub(crate) fn made(&mut self) {
        if let Some(pipe) = &mut self.child.stdin {
            let _ = pipe.write_all(MADE);
        }
    }

    /// Has the database dropped now.
    pub(crate) fn reap(mut self) -> Result<()> {
        self.finish()
    }

    fn finish(&mut self) -> Result<()> {
        if std::mem::replace(&mut self.reaped, true) {
            return Ok(());
        }
        drop(self.child.stdin.take());
        let began = Instant::now();
        while began.elapsed() < PATIENCE {
            match self.child.try_wait()? {
                Some(status) if status.success() => return Ok(()),
                Some(_) => break,
                None => std::thread::sleep(Duration::from_millis(5)),
            }
        }
        bail!(
            "could not drop database {}; drop it yourself: drop database {} with (force)",
            self.database,
            self.database
        )
    }
}

impl Drop for Reaper {
    fn drop(&mut self) {
        if let Err(error) = self.finish() {
            tracing::error!("{error:#}");
        }
    }
}

/// The hidden command.
pub(crate) async fn run() -> Result<Exit> {
    // Whoever ends the demo's session means the demo; this process has to survive that.
    let _ignored = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()].map(signal);
    let Ok(name) = std::env::var(DATABASE) else { return Ok(Exit::Usage) };
    let name = Ident::new(name)?;
    let config = Config::load_with(Overrides::default())?;
    let mut said = Vec::new();
    // Blocking is all this process does until then.
    std::io::stdin().read_to_end(&mut said)?;
    if said == MADE {
        testing::drop_database(&config, &name).await?;
        return Ok(Exit::Done);
    }
    let began = Instant::now();
    loop {
        let dropped = testing::drop_database(&config, &name).await;
        if began.elapsed() > LATE_MAX {
            dropped?;
            return Ok(Exit::Done);
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}
