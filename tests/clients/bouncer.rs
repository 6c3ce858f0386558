//! A PgBouncer in transaction mode that passes the client's login on to the server.

use std::{
    fs,
    net::{TcpListener, TcpStream},
    os::unix::{
        fs::{MetadataExt, PermissionsExt},
        process::CommandExt,
    },
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

/// What has not ended by now hangs.
pub(crate) const HANG: Duration = Duration::from_secs(120);

/// Fewer than the clients' connections, so that transactions of both tenants follow each other on each.
const SERVER_CONNECTIONS: usize = 3;

pub(crate) struct Bouncer {
    port: u16,
    directory: PathBuf,
    process: Child,
}

impl Bouncer {
    pub(crate) async fn start((socket, server_port): &(String, u16), logins: &[&str]) -> Self {
        // A port that is free now may be somebody else's by the time that PgBouncer listens: then another.
        for _ in 0..20 {
            if let Some(bouncer) = Self::listen(socket, *server_port, logins).await {
                return bouncer;
            }
        }
        panic!("PgBouncer finds no port");
    }

    /// One that listens, or none if its port is taken.
    async fn listen(socket: &str, server_port: u16, logins: &[&str]) -> Option<Self> {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let directory = std::env::temp_dir().join(format!("cgk-clients-pgbouncer-{:016x}", rand::random::<u64>()));
        fs::create_dir_all(&directory).unwrap();
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o755)).unwrap();
        let users = directory.join("users");
        fs::write(&users, logins.iter().map(|login| format!("\"{login}\" \"\"\n")).collect::<String>()).unwrap();
        let ini = directory.join("pgbouncer.ini");
        let settings = format!(
            "[databases]\n* = host={socket} port={server_port}\n[pgbouncer]\nlisten_addr = 127.0.0.1\n\
             listen_port = {port}\nunix_socket_dir =\nauth_type = trust\nauth_file = {}\npool_mode = transaction\n\
             default_pool_size = {SERVER_CONNECTIONS}\nserver_round_robin = 1\n\
             ignore_startup_parameters = extra_float_digits\n",
            users.display()
        );
        fs::write(&ini, settings).unwrap();
        // PgBouncer refuses to run as root, and the server's socket is its owner's alone: it runs as that owner.
        let owner = fs::metadata(socket).unwrap();
        let path = std::env::var("PATH").unwrap_or_default();
        let mut command = Command::new("pgbouncer");
        command.arg("-q").arg(&ini).current_dir("/").env("PATH", format!("{path}:/usr/sbin")).stdin(Stdio::null());
        if fs::metadata(&ini).unwrap().uid() == 0 {
            command.uid(owner.uid()).gid(owner.gid());
        }
        let process = command
            .spawn()
            .unwrap_or_else(|error| panic!("PgBouncer is needed: run scripts/client-tests.sh ({error})"));
        let mut bouncer = Self { port, directory, process };
        let started = Instant::now();
        loop {
            let listens = TcpStream::connect(("127.0.0.1", port)).is_ok();
            // Whoever listens, it is not this one.
            if bouncer.process.try_wait().unwrap().is_some() {
                return None;
            }
            if listens {
                return Some(bouncer);
            }
            assert!(started.elapsed() < HANG, "PgBouncer does not listen");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for Bouncer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = fs::remove_dir_all(&self.directory);
    }
}
