//! A Redis of the run's own, on a socket in a directory of its own.

use anyhow::{Context as _, ensure};
use std::{
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

pub struct Redis {
    directory: PathBuf,
    child: Option<Child>,
}

impl Redis {
    pub async fn start() -> anyhow::Result<Self> {
        let directory = std::env::temp_dir().join(format!("api-load-{}", uuid::Uuid::now_v7().simple()));
        std::fs::create_dir(&directory)?;
        let mut redis = Self { directory, child: None };
        redis.listen().await?;
        Ok(redis)
    }

    /// Starts, empty.
    pub async fn listen(&mut self) -> anyhow::Result<()> {
        let socket = self.socket();
        let mut command = Command::new("redis-server");
        command.args(["--port", "0", "--save", "", "--appendonly", "no", "--unixsocket"]).arg(&socket);
        let child =
            command.current_dir(&self.directory).stdout(Stdio::null()).spawn().context("redis-server is needed")?;
        self.child = Some(child);
        let began = Instant::now();
        while tokio::net::UnixStream::connect(&socket).await.is_err() {
            ensure!(began.elapsed() < Duration::from_secs(60), "redis-server does not listen");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    }

    pub fn url(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    fn socket(&self) -> PathBuf {
        self.directory.join("socket")
    }

    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.kill();
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}
