//! A redis-server of one's own, behind a socket in a folder of its own, with nothing on disk.

use redis::aio::MultiplexedConnection;
use std::{
    future::Future,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

/// What has not ended by now hangs.
pub(crate) const HANG: Duration = Duration::from_secs(120);

pub(crate) struct Server {
    folder: PathBuf,
    process: Option<Child>,
}

impl Server {
    pub(crate) async fn start() -> Self {
        let folder = std::env::temp_dir().join(format!("cgk-redis-{:016x}", rand::random::<u64>()));
        std::fs::create_dir(&folder).unwrap();
        let mut server = Self { folder, process: None };
        server.listen().await;
        server
    }

    /// Starts the process and waits until it answers.
    pub(crate) async fn listen(&mut self) {
        let mut command = Command::new("redis-server");
        command.args(["--port", "0", "--save", "", "--appendonly", "no", "--dir"]).arg(&self.folder);
        command.arg("--unixsocket").arg(self.socket());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let process = command.spawn().unwrap_or_else(|error| {
            panic!("redis-server is needed ({error}): scripts/redis-tests.sh, or sudo apt-get install redis-server")
        });
        self.process = Some(process);
        let began = Instant::now();
        while self.try_connect().await.is_err() {
            let ended = self.process.as_mut().unwrap().try_wait().unwrap();
            assert!(ended.is_none(), "redis-server ended: {ended:?}");
            assert!(began.elapsed() < HANG, "redis-server does not listen");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    fn socket(&self) -> PathBuf {
        self.folder.join("redis.sock")
    }

    pub(crate) fn url(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    /// A session of the test's own.
    pub(crate) async fn connect(&self) -> MultiplexedConnection {
        self.try_connect().await.unwrap()
    }

    async fn try_connect(&self) -> redis::RedisResult<MultiplexedConnection> {
        redis::Client::open(self.url())?.get_multiplexed_async_connection().await
    }

    pub(crate) fn kill(&mut self) {
        let mut process = self.process.take().unwrap();
        process.kill().unwrap();
        process.wait().unwrap();
    }

    /// Sends the process a signal.
    pub(crate) fn signal(&self, name: &str) {
        let id = self.process.as_ref().unwrap().id().to_string();
        assert!(Command::new("kill").args([&format!("-{name}"), &id]).status().unwrap().success());
    }

    /// How often the server has carried out a command.
    pub(crate) async fn calls(&self, command: &str) -> u64 {
        let info: String = redis::cmd("INFO").arg("commandstats").query_async(&mut self.connect().await).await.unwrap();
        let start = format!("cmdstat_{command}:calls=");
        let line = info.lines().find_map(|line| line.strip_prefix(&start));
        line.map_or(0, |rest| rest.split(',').next().unwrap().parse().unwrap())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.process.is_some() {
            self.kill();
        }
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// Waits until something holds.
pub(crate) async fn until<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    let began = Instant::now();
    while !holds().await {
        assert!(began.elapsed() < HANG, "it never came about that {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// The outcome, which must come while the server is as it is.
pub(crate) async fn ends<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(HANG, work).await.expect("it hangs")
}
