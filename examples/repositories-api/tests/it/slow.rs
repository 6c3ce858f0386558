//! Clients that never finish what they send, or read nothing.

use crate::stage::{LATER, Stage, must_end};
use repositories_api::{connections, routes};
use std::{
    future::pending,
    io::{BufRead as _, BufReader, Read as _},
    process::{Child, Command, Stdio},
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

const HALF: &[u8] = b"GET /healthz HTTP/1.1\r\nhost: api.example.com\r\nx-";
const REST: &[u8] = b"half: 1\r\nconnection: close\r\n\r\n";

/// A connection that has sent this.
async fn connection(port: u16, sent: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    stream.write_all(sent).await.unwrap();
    stream
}

/// What the service sends until it ends the connection.
async fn answer(mut stream: TcpStream) -> String {
    let mut answer = Vec::new();
    // An end with what was not read is a reset.
    let _ = must_end(stream.read_to_end(&mut answer)).await;
    String::from_utf8(answer).unwrap()
}

/// The port of the service with this limit.
async fn serve(stage: &Stage, client_time_max: Duration) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let router = routes::router(&stage.app, &stage.settings).unwrap();
    tokio::spawn(connections::serve(listener, router, client_time_max, pending()));
    port
}

#[tokio::test]
async fn a_response_that_is_not_read_ends_its_connection() {
    const REQUESTS: usize = 400;
    let stage = Stage::set().await;
    // More than the buffers of both sides hold.
    let request = b"GET /openapi.json HTTP/1.1\r\nhost: api.example.com\r\n\r\n".repeat(REQUESTS);
    let unread = async |limit| {
        let mut stream = connection(serve(&stage, limit).await, b"").await;
        let _ = must_end(stream.write_all(&request)).await;
        stream
    };
    let (ended, mut open) = (unread(Duration::from_secs(1)).await, unread(LATER).await);
    // When the service has ended it, nothing can be written any more.
    must_end(async {
        while ended.try_write(b"x").is_ok() || ended.writable().await.is_ok_and(|()| ended.try_write(b"x").is_ok()) {
            tokio::task::yield_now().await;
        }
    })
    .await;
    // The control: on a service that waits longer, all answers are there.
    let (mut answers, mut part) = (0, vec![0; 1 << 20]);
    while answers < REQUESTS {
        let read = must_end(open.read(&mut part)).await.unwrap();
        assert_ne!(read, 0, "{answers}");
        answers += part[..read].windows(9).filter(|window| window == b"HTTP/1.1 ").count();
    }
}

#[tokio::test]
async fn a_header_that_never_ends_ends_its_connection() {
    let stage = Stage::set().await;
    let (short, long) = (serve(&stage, Duration::from_secs(1)).await, serve(&stage, LATER).await);
    // The control: the same on a service that waits longer.
    let mut late = connection(long, HALF).await;
    for sent in [HALF, b""] {
        assert_eq!(answer(connection(short, sent).await).await, "");
    }
    // After an answer too.
    let again = answer(connection(short, b"GET /healthz HTTP/1.1\r\nhost: api.example.com\r\n\r\n").await).await;
    assert!(again.starts_with("HTTP/1.1 200") && again.ends_with(r#"{"status":"alive"}"#), "{again}");
    late.write_all(REST).await.unwrap();
    let late = answer(late).await;
    assert!(late.starts_with("HTTP/1.1 200") && late.ends_with(r#"{"status":"alive"}"#), "{late}");
}

/// The program, and the lines of its log as they come.
struct Program {
    child: Child,
    log: BufReader<std::process::ChildStderr>,
    port: u16,
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Program {
    /// Starts it with room for this many open files.
    fn start(url: &str, open_files: u32) -> Self {
        let mut child = Command::new("sh")
            .args(["-c", &format!("ulimit -n {open_files} && exec \"$0\""), env!("CARGO_BIN_EXE_repositories-api")])
            .envs([
                ("DATABASE_URL", url),
                ("LISTEN", "127.0.0.1:0"),
                ("HOSTS", "api.example.com"),
                ("RUST_LOG", "info"),
            ])
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        let port = loop {
            line.clear();
            assert_ne!(log.read_line(&mut line).unwrap(), 0, "it ended");
            let line: serde_json::Value = serde_json::from_str(&line).unwrap();
            if let Some(address) = line["fields"]["address"].as_str() {
                break address.parse::<std::net::SocketAddr>().unwrap().port();
            }
        };
        Self { child, log, port }
    }

    /// Ends it as a service manager does: whether it succeeded, and the rest of its log.
    fn end(mut self) -> (bool, String) {
        let kill = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status().unwrap();
        assert!(kill.success());
        let mut log = String::new();
        self.log.read_to_string(&mut log).unwrap();
        (self.child.wait().unwrap().success(), log)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_clients_that_send_half_a_header_stop_neither_the_program_nor_its_end() {
    let stage = Stage::set().await;
    let url = stage.url.clone();
    let program = tokio::task::spawn_blocking(move || Program::start(&url, 256)).await.unwrap();
    let mut held = Vec::new();
    for _ in 0..260 {
        held.push(connection(program.port, HALF).await);
    }
    // One that has no open file of the program's yet is answered when the others have lost theirs.
    let answered = answer(connection(program.port, &[HALF, REST].concat()).await).await;
    assert!(answered.starts_with("HTTP/1.1 200"), "{answered}");
    let _half = connection(program.port, HALF).await;
    let (success, log) = tokio::task::spawn_blocking(move || program.end()).await.unwrap();
    assert!(success, "{log}");
    // The control: this is what it logs where there are too many.
    assert!(log.contains("Too many open files"), "{log}");
    assert!(log.contains("stopping") && !log.contains("did not end in time"), "{log}");
}
