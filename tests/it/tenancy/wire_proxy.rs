//! A proxy in front of the server of the tests: it cuts connections at a byte, tears answers into pieces, and counts.

use crate::stage::{Stage, address};
use cgk::Config;
use std::sync::{
    Arc,
    atomic::{AtomicI64, AtomicUsize, Ordering},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream, UnixStream},
    sync::Notify,
};
use tokio_postgres::config::Host;

/// Nothing is cut.
pub(super) const NEVER: i64 = i64::MAX;

/// A proxy in front of the server of the tests.
pub(super) struct Proxy {
    pub(super) port: u16,
    pub(super) wire: Arc<Wire>,
    accepting: tokio::task::JoinHandle<()>,
}

/// What the proxy does and has seen.
pub(super) struct Wire {
    /// How many more bytes go through before the connection is cut.
    pub(super) to_server: AtomicI64,
    pub(super) to_client: AtomicI64,
    cut: Notify,
    /// Bytes that went through since the last look.
    pub(super) sent: AtomicUsize,
    pub(super) answered: AtomicUsize,
    /// How often the client wrote after it had been answered.
    pub(super) turns: AtomicUsize,
    last_was_answer: AtomicUsize,
    /// How the answers arrive.
    pace: Pace,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Pace {
    AtOnce,
    /// Each answer is held back, so that whatever the client sends without waiting is sent before.
    Late,
    /// A byte at a time.
    InPieces,
}

impl Proxy {
    pub(super) async fn start(stage: &Stage, pace: Pace) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let wire = Arc::new(Wire {
            to_server: AtomicI64::new(NEVER),
            to_client: AtomicI64::new(NEVER),
            cut: Notify::new(),
            sent: AtomicUsize::new(0),
            answered: AtomicUsize::new(0),
            turns: AtomicUsize::new(0),
            last_was_answer: AtomicUsize::new(1),
            pace,
        });
        let server = address(stage.database.name());
        let shared = Arc::clone(&wire);
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (wire, server) = (Arc::clone(&shared), server.clone());
                tokio::spawn(async move {
                    client.set_nodelay(true).unwrap();
                    let port = server.get_ports().first().copied().unwrap_or(5432);
                    match &server.get_hosts()[0] {
                        Host::Unix(dir) => {
                            let socket = UnixStream::connect(dir.join(format!(".s.PGSQL.{port}"))).await.unwrap();
                            let (read, write) = socket.into_split();
                            wire.join(client, read, write).await;
                        }
                        Host::Tcp(host) => {
                            let socket = TcpStream::connect((host.as_str(), port)).await.unwrap();
                            let (read, write) = socket.into_split();
                            wire.join(client, read, write).await;
                        }
                    }
                });
            }
        });
        Self { port, wire, accepting }
    }

    pub(super) fn config(&self, stage: &Stage) -> Config {
        let user = address(stage.database.name()).get_user().unwrap().to_owned();
        let url = format!("postgresql://{user}@127.0.0.1:{}/{}?sslmode=disable", self.port, stage.database.name());
        Config::from_url(&url).unwrap().with_pool_size_max(1)
    }

    /// Forgets what was counted.
    pub(super) fn reset(&self) {
        self.wire.sent.store(0, Ordering::SeqCst);
        self.wire.answered.store(0, Ordering::SeqCst);
        self.wire.turns.store(0, Ordering::SeqCst);
        self.wire.last_was_answer.store(1, Ordering::SeqCst);
    }

    /// Takes no more connections, such as those of cancel requests, and cuts those that are open.
    pub(super) fn vanish(&self) {
        self.accepting.abort();
        self.wire.cut.notify_waiters();
    }

    pub(super) fn never_cut(&self) {
        self.wire.to_server.store(NEVER, Ordering::SeqCst);
        self.wire.to_client.store(NEVER, Ordering::SeqCst);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Wire {
    async fn join(&self, client: TcpStream, from_server: impl AsyncRead + Unpin, to_server: impl AsyncWrite + Unpin) {
        let (from_client, to_client) = client.into_split();
        // Whichever ends first takes the other with it: both sockets are closed.
        tokio::select! {
            () = self.carry(from_client, to_server, Way::ToServer) => {}
            () = self.carry(from_server, to_client, Way::ToClient) => {}
            () = self.cut.notified() => {}
        }
    }

    async fn carry(&self, mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin, way: Way) {
        let mut buffer = vec![0; 65_536];
        loop {
            let Ok(length @ 1..) = from.read(&mut buffer).await else { return };
            let budget = match way {
                Way::ToServer => &self.to_server,
                Way::ToClient => &self.to_client,
            };
            let left = budget.load(Ordering::SeqCst);
            let passing = usize::try_from(left).map_or(length, |left| left.min(length));
            if left != NEVER {
                budget.fetch_sub(passing as i64, Ordering::SeqCst);
            }
            match way {
                Way::ToServer => {
                    self.sent.fetch_add(passing, Ordering::SeqCst);
                    self.turns.fetch_add(self.last_was_answer.swap(0, Ordering::SeqCst), Ordering::SeqCst);
                }
                Way::ToClient => {
                    // Every other task of the one thread comes to its end or waits for this answer; the client among them.
                    for _ in 0..if self.pace == Pace::Late { 1_000 } else { 0 } {
                        tokio::task::yield_now().await;
                    }
                    self.last_was_answer.store(1, Ordering::SeqCst);
                    self.answered.fetch_add(passing, Ordering::SeqCst);
                }
            }
            let pieces = if self.pace == Pace::InPieces && way == Way::ToClient { 1 } else { passing.max(1) };
            for piece in buffer[..passing].chunks(pieces) {
                if to.write_all(piece).await.is_err() {
                    return;
                }
                // Time for the other side to read it as it is.
                for _ in 0..if pieces < passing { 4 } else { 0 } {
                    tokio::task::yield_now().await;
                }
            }
            if passing < length || (left != NEVER && passing as i64 == left) {
                return;
            }
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    ToServer,
    ToClient,
}
