//! A proxy that holds every byte back for a fixed time, in both directions: a network between client and server.

use cgk::{Config, testing::TestServer};
use std::{
    io::{Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    os::unix::net::UnixStream,
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};
use tokio_postgres::{Client, NoTls};

/// A listening proxy in front of the private server. Threads, because the timers of an async runtime are a millisecond wide.
pub(crate) struct Proxy {
    port: u16,
}

impl Proxy {
    pub(crate) fn start(server: &TestServer, delay: Duration) -> Self {
        let socket = server.local().expect("the benchmark wants the private server").dir().join(".s.PGSQL.5432");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        thread::spawn(move || {
            for client in listener.incoming() {
                let client = client.expect("a client");
                client.set_nodelay(true).expect("nodelay");
                let server = UnixStream::connect(&socket).expect("the server's socket");
                let (client_out, server_out) = (client.try_clone().expect("clone"), server.try_clone().expect("clone"));
                pipe(client, server_out, |server| drop(server.shutdown(Shutdown::Both)), delay);
                pipe(server, client_out, |client: &TcpStream| drop(client.shutdown(Shutdown::Both)), delay);
            }
        });
        Self { port }
    }

    /// The configuration of a database, by way of the proxy.
    pub(crate) fn config(&self, database: &Config) -> Config {
        let url =
            format!("postgresql://postgres@127.0.0.1:{}/{}?sslmode=disable", self.port, database.target().database());
        Config::from_url(&url).expect("a URL")
    }
}

fn pipe<W: Write + Send + 'static>(
    mut from: impl Read + Send + 'static,
    mut to: W,
    close: impl FnOnce(&W) + Send + 'static,
    delay: Duration,
) {
    let (sender, receiver) = mpsc::channel::<(Instant, Vec<u8>)>();
    thread::spawn(move || {
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(length @ 1..) = from.read(&mut buffer) {
            if sender.send((Instant::now() + delay, buffer[..length].to_vec())).is_err() {
                return;
            }
        }
    });
    thread::spawn(move || {
        while let Ok((due, bytes)) = receiver.recv() {
            thread::sleep(due.saturating_duration_since(Instant::now()));
            if to.write_all(&bytes).is_err() {
                break;
            }
        }
        close(&to);
    });
}

/// A connection without cgk.
pub(crate) async fn plain_client(config: &Config) -> Client {
    let url = config.target().to_string();
    let separator = if url.contains('?') { '&' } else { '?' };
    let (client, connection) =
        tokio_postgres::connect(&format!("{url}{separator}sslmode=disable"), NoTls).await.expect("connect");
    tokio::spawn(connection);
    client
}
