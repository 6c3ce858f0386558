//! A PgBouncer of one's own in front of the tests' server.

use crate::proxy::{self, Rewrite};
use cgk::{
    Config,
    config::{Pooling, TargetHost},
    testing::{TestDatabase, TestServer},
};
use std::{
    fs,
    net::TcpListener,
    os::unix::{
        fs::{MetadataExt, PermissionsExt},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};
use tokio_postgres::{Client, NoTls};

/// What has not ended by now hangs.
const HANG: Duration = Duration::from_secs(120);

/// A database with the tenants `acme` and `globex`, reached through a PgBouncer in transaction mode with one server
/// connection.
pub(crate) struct Stage {
    database: TestDatabase,
    port: u16,
    directory: PathBuf,
    process: Child,
}

impl Stage {
    pub(crate) async fn set() -> Self {
        Self::with_server_connections(1).await
    }

    /// With several, each transaction goes to the one that was not used for the longest time.
    pub(crate) async fn with_server_connections(number: usize) -> Self {
        Self::start(number, None).await
    }

    /// With one server connection, on which each query is rewritten before the server reads it.
    pub(crate) async fn rewriting(rewrite: Rewrite) -> Self {
        Self::start(1, Some(rewrite)).await
    }

    async fn start(number: usize, rewrite: Option<Rewrite>) -> Self {
        let database = TestServer::shared().set_up_database().await.unwrap();
        database.with_tenants(&["acme", "globex"]).await.unwrap();
        // A port that is free now may be somebody else's by the time that PgBouncer listens: then another.
        for _ in 0..20 {
            if let Some((port, directory, process)) = Self::listen(&database, number, rewrite).await {
                return Self { database, port, directory, process };
            }
        }
        panic!("PgBouncer finds no port");
    }

    /// A PgBouncer that listens, or none if its port is taken.
    async fn listen(database: &TestDatabase, number: usize, rewrite: Option<Rewrite>) -> Option<(u16, PathBuf, Child)> {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let [TargetHost::Socket { directory: socket, port: server_port }] = database.config().target().hosts() else {
            panic!("this test wants the private server, and CGK_TEST_DATABASE_URL names another");
        };
        let host = match rewrite {
            None => format!("host={socket} port={server_port}"),
            Some(rewrite) => {
                let address = Path::new(socket).join(format!(".s.PGSQL.{server_port}"));
                format!("host=127.0.0.1 port={}", proxy::listen(address, rewrite).await)
            }
        };
        let directory = std::env::temp_dir().join(format!("cgk-pgbouncer-{:016x}", rand::random::<u64>()));
        fs::create_dir_all(&directory).unwrap();
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o755)).unwrap();
        let users = directory.join("users");
        fs::write(&users, "\"postgres\" \"\"\n").unwrap();
        let ini = directory.join("pgbouncer.ini");
        let settings = format!(
            "[databases]\n* = {host} user=postgres\n[pgbouncer]\nlisten_addr = 127.0.0.1\n\
             listen_port = {port}\nunix_socket_dir =\nauth_type = trust\nauth_file = {}\npool_mode = transaction\n\
             default_pool_size = {number}\nmax_db_connections = {number}\nserver_round_robin = 1\n",
            users.display()
        );
        fs::write(&ini, settings).unwrap();
        let mut process = spawn(&ini, socket);
        let started = Instant::now();
        let url = url(port, database);
        loop {
            let answer = connect(&url).await;
            // Whoever answers, it is not this one.
            if process.try_wait().unwrap().is_some() {
                let _ = fs::remove_dir_all(&directory);
                return None;
            }
            match answer {
                Ok(_) => return Some((port, directory, process)),
                Err(error) => assert!(started.elapsed() < HANG, "PgBouncer does not answer: {error}"),
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    pub(crate) fn url(&self) -> String {
        url(self.port, &self.database)
    }

    /// Past the pooler.
    pub(crate) fn direct_url(&self) -> String {
        TestServer::shared().local().expect("this test wants the private server").url(self.database.name())
    }

    pub(crate) fn database(&self) -> &TestDatabase {
        &self.database
    }

    pub(crate) fn pooled(&self) -> Config {
        Config::from_url(&self.url()).unwrap().with_pooling(Pooling::Transaction)
    }

    /// A client that cgk knows nothing of.
    pub(crate) async fn raw_client(&self) -> Client {
        connect(&self.url()).await.unwrap()
    }
}

fn url(port: u16, database: &TestDatabase) -> String {
    format!("postgresql://postgres@127.0.0.1:{port}/{}?sslmode=disable", database.name())
}

async fn connect(url: &str) -> Result<Client, tokio_postgres::Error> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

/// PgBouncer refuses to run as root, and the server's socket is its owner's alone: it runs as that owner.
fn spawn(ini: &std::path::Path, socket: &str) -> Child {
    let owner = fs::metadata(socket).unwrap();
    let path = std::env::var("PATH").unwrap_or_default();
    let mut command = Command::new("pgbouncer");
    command.arg("-q").arg(ini).current_dir("/").env("PATH", format!("{path}:/usr/sbin")).stdin(Stdio::null());
    let me = fs::metadata(ini).unwrap();
    if me.uid() == 0 {
        command.uid(owner.uid()).gid(owner.gid());
    }
    command.spawn().unwrap_or_else(|error| panic!("PgBouncer is needed: run scripts/pooler-tests.sh ({error})"))
}

impl Drop for Stage {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = fs::remove_dir_all(&self.directory);
    }
}
