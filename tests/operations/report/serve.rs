//! `cgk report --serve`: the page over HTTP, for this machine only.

use super::{fleet::Fleet, page::Page};
use crate::support::cgk::{Answer, Shell};
use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    process::{Child, Command},
};

struct Server {
    child: Child,
    address: SocketAddr,
    output: BufReader<std::process::ChildStdout>,
}

impl Server {
    fn start(shell: &Shell) -> Self {
        let mut child = shell.start(&["report", "--serve"]);
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        output.read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("http://").and_then(|rest| rest.strip_suffix('/'));
        let address = address.unwrap_or_else(|| panic!("{line:?}")).parse().unwrap();
        Self { child, address, output }
    }

    /// Sends a request, and gives its status, head and body.
    fn send(&self, request: &str) -> (u16, String, String) {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(crate::stage::HANG)).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut response = String::new();
        stream.read_to_string(&mut response).unwrap();
        let (head, body) = response.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{request:?}: {response:?}"));
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let length = format!("Content-Length: {}", body.len());
        assert!(request.starts_with("HEAD") || head.contains(&length), "{head}");
        (status, head.to_owned(), body.to_owned())
    }

    fn get(&self, path: &str, host: &str) -> (u16, String, String) {
        self.send(&format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: test\r\n\r\n"))
    }

    fn signal(mut self, signal: &str) -> Answer {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args([signal, &id]).status().unwrap().success());
        let mut rest = String::new();
        self.output.read_to_string(&mut rest).unwrap();
        let answer = Answer::of(self.child.wait_with_output().unwrap());
        Answer { stdout: rest, ..answer }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn browsers_of_this_machine_get_the_page_until_ctrl_c() {
    let fleet = Fleet::of(&["acme", "globex"]).await;
    let shell = Shell::on(&fleet.database);
    let server = Server::start(&shell);
    assert!(server.address.ip().is_loopback() && server.address.port() > 0);
    let own = server.address.to_string();

    let (status, head, body) = server.get("/", &own);
    assert_eq!(status, 200, "{head}\n{body}");
    for header in ["text/html; charset=utf-8", "Cache-Control: no-store", "X-Frame-Options: DENY", "nosniff"] {
        assert!(head.contains(header), "{head}");
    }
    let page = Page::of(body);
    page.check();
    assert_eq!(page.figure("tenants"), "2");
    let (status, head, body) = server.get("/report.json?x=1", &format!("localhost:{}", server.address.port()));
    assert!(status == 200 && head.contains("application/json"), "{head}");
    crate::support::json_schema::check(&format!("{body}\n"));
    let json: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!(json["tenants"].as_array().unwrap().len(), 2);
    // Two loads close to each other are one report.
    let again: serde_json::Value = serde_json::from_str(&server.get("/report.json", &own).2).unwrap();
    let sessions =
        "select count(*) from pg_stat_activity where datname = current_database() and application_name = 'cgk'";
    assert!(again["tenants"] == json["tenants"] && fleet.number(sessions).await == 1);

    // Another site whose name leads here, and whatever is no request for the page.
    let refused = [
        (format!("GET / HTTP/1.1\r\nHost: evil.example:{}\r\n\r\n", server.address.port()), 421),
        ("GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".to_owned(), 421),
        ("GET / HTTP/1.1\r\n\r\n".to_owned(), 421),
        (format!("GET / HTTP/1.1\r\nHost: {own}\r\nHost: {own}\r\n\r\n"), 421),
        (format!("POST / HTTP/1.1\r\nHost: {own}\r\nContent-Length: 0\r\n\r\n"), 405),
        (format!("GET /etc/passwd HTTP/1.1\r\nHost: {own}\r\n\r\n"), 404),
        (format!("GET http://evil.example/ HTTP/1.1\r\nHost: {own}\r\n\r\n"), 404),
        ("\u{16}\u{3}\u{1} no HTTP\r\n\r\n".to_owned(), 400),
    ];
    for (request, status) in refused {
        let (found, _, body) = server.send(&request);
        assert!(found == status && !body.contains("acme"), "{request:?}: {found}");
    }
    let (status, _, body) = server.send(&format!("HEAD / HTTP/1.1\r\nHost: {own}\r\n\r\n"));
    assert_eq!((status, body.as_str()), (200, ""));

    for (signal, server) in [("-INT", server), ("-TERM", Server::start(&shell))] {
        let answer = server.signal(signal);
        assert_eq!((answer.code, answer.stdout.as_str()), (0, ""), "{signal}: {}", answer.stderr);
        assert!(!answer.stderr.contains("error"), "{signal}: {}", answer.stderr);
    }
}

/// A session that somebody ended is opened again by the next load.
#[tokio::test(flavor = "multi_thread")]
async fn a_lost_connection_is_opened_again() {
    let fleet = Fleet::of(&["acme"]).await;
    let shell = Shell::on(&fleet.database);
    let server = Server::start(&shell);
    let own = server.address.to_string();
    let ended = "select count(pg_terminate_backend(pid)) from pg_stat_activity
                 where datname = current_database() and application_name = 'cgk'";
    assert_eq!(fleet.number(ended).await, 1);
    assert_eq!(server.get("/", &own).0, 200);
    // The control: where no database is, the page says so. Connections of this database are refused.
    let close = format!("alter database {} allow_connections false", fleet.database.name());
    let other = cgk::testing::TestServer::shared().database().await.unwrap();
    let outside = crate::stage::connect(&other).await;
    crate::stage::run(&outside, &close).await;
    fleet.number(ended).await;
    crate::stage::must_end(async {
        loop {
            let (status, _, body) = server.get("/", &own);
            if status == 503 {
                assert!(body.contains("CGK0"), "{body}");
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
    })
    .await;
    crate::stage::run(&outside, &close.replace("false", "true")).await;
    assert_eq!(server.get("/", &own).0, 200);
    assert_eq!(server.signal("-INT").code, 0);
}
