//! A proxy that holds every byte back for a fixed time, in both directions: a network between client and server.

use cgk::{Config, testing::TestServer};
use std::time::Duration;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, UnixStream},
    sync::mpsc,
    time::Instant,
};
use tokio_postgres::{Client, NoTls};

/// A listening proxy in front of the private server.
pub struct Proxy {
    port: u16,
}

impl Proxy {
    pub async fn start(server: &TestServer, delay: Duration) -> Self {
        let socket = server.local().expect("the benchmark wants the private server").dir().join(".s.PGSQL.5432");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let server = UnixStream::connect(&socket).await.expect("the server's socket");
                client.set_nodelay(true).expect("nodelay");
                let (from_client, to_client) = client.into_split();
                let (from_server, to_server) = server.into_split();
                pipe(from_client, to_server, delay);
                pipe(from_server, to_client, delay);
            }
        });
        Self { port }
    }

    /// The configuration of a database, by way of the proxy.
    pub fn config(&self, database: &Config) -> Config {
        let url =
            format!("postgresql://postgres@127.0.0.1:{}/{}?sslmode=disable", self.port, database.target().database());
        Config::from_url(&url).expect("a URL")
    }
}

fn pipe(
    mut from: impl AsyncRead + Unpin + Send + 'static,
    mut to: impl AsyncWrite + Unpin + Send + 'static,
    delay: Duration,
) {
    let (sender, mut receiver) = mpsc::unbounded_channel::<(Instant, Vec<u8>)>();
    tokio::spawn(async move {
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(length @ 1..) = from.read(&mut buffer).await {
            if sender.send((Instant::now() + delay, buffer[..length].to_vec())).is_err() {
                return;
            }
        }
    });
    tokio::spawn(async move {
        while let Some((due, bytes)) = receiver.recv().await {
            if !delay.is_zero() {
                tokio::time::sleep_until(due).await;
            }
            if to.write_all(&bytes).await.is_err() {
                return;
            }
        }
        let _ = to.shutdown().await;
    });
}

/// A connection without cgk.
pub async fn plain_client(config: &Config) -> Client {
    let url = config.target().to_string();
    let separator = if url.contains('?') { '&' } else { '?' };
    let (client, connection) =
        tokio_postgres::connect(&format!("{url}{separator}sslmode=disable"), NoTls).await.expect("connect");
    tokio::spawn(connection);
    client
}
