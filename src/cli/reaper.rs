//! Drops the demo's database when the demo ends in any way.
//!
//! The demo starts itself a second time, in a separate process group that Ctrl-C does not reach. The demo has the only
//! writing end of a pipe to this process. The kernel closes that end when the demo ends, even after SIGKILL. The
//! address of the database is in the environment, because other users can read the arguments of a process.

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
/// The demo sends this when the server has responded. After that, no running statement can create the database later.
const MADE: &[u8] = b"made";
/// If the demo is killed, the server continues a running CREATE DATABASE. It has finished after this time.
const LATE_MAX: Duration = Duration::from_secs(3);
const PATIENCE: Duration = Duration::from_secs(20);

/// A process that drops a database when this value is dropped, or when this process is gone.
pub(crate) struct Reaper {
    child: Child,
    database: String,
    reaped: bool,
}

impl Reaper {
    /// Starts the process. Call it before the database is created.
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

    /// Reports to the process that the server has responded.
    pub(crate) fn made(&mut self) {
        if let Some(pipe) = &mut self.child.stdin {
            let _ = pipe.write_all(MADE);
        }
    }

    /// Drops the database now.
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
    // Signals to the demo's session also reach this process, which must survive them.
    let _ignored = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()].map(signal);
    let Ok(name) = std::env::var(DATABASE) else { return Ok(Exit::Usage) };
    let name = Ident::new(name)?;
    let config = Config::load_with(Overrides::default())?;
    let mut said = Vec::new();
    // This process only waits until then, so it may block.
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
