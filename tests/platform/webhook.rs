//! `cgk events:relay`: events as signed requests, to a receiver that is a socket and nothing else.

use crate::{
    events::SHIPPED,
    stage::{Stage, must_end},
    support::cgk::Shell,
};
use cgk::platform::{Event, EventFilter, EventStatus, Outbox};
use regex::Regex;
use sha2::{Digest as _, Sha256};
use std::{
    collections::HashMap,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex},
};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
/// The bytes of the secret.
const KEY: [u8; 24] = [
    0x31, 0xf2, 0x90, 0xf6, 0xbf, 0x06, 0x29, 0x8a, 0xab, 0x4f, 0x08, 0xd4, 0x3c, 0x3f, 0x08, 0x2c, 0xf6, 0x48, 0xa3,
    0x62, 0xda, 0x2d, 0xa4, 0xb0,
];

struct Received {
    headers: HashMap<String, String>,
    body: Vec<u8>,
}

/// Answers each request with the next of these statuses, and with the last from then on.
struct Receiver {
    address: String,
    received: Arc<Mutex<Vec<Received>>>,
}

impl Receiver {
    fn answering(statuses: &'static [&'static str]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}/hooks", listener.local_addr().unwrap());
        let received: Arc<Mutex<Vec<Received>>> = Arc::default();
        let shared = Arc::clone(&received);
        std::thread::spawn(move || {
            for connection in listener.incoming() {
                let (connection, received) = (connection.unwrap(), Arc::clone(&shared));
                std::thread::spawn(move || serve(&connection, &received, statuses));
            }
        });
        Self { address, received }
    }
}

fn serve(connection: &TcpStream, received: &Mutex<Vec<Received>>, statuses: &[&str]) {
    let mut reader = BufReader::new(connection);
    loop {
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).unwrap_or(0) == 0 {
                return;
            }
            let line = line.trim_end().to_owned();
            if line.is_empty() {
                break;
            }
            lines.push(line);
        }
        let headers: HashMap<String, String> = lines[1..]
            .iter()
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
            .collect();
        let mut body = vec![0; headers["content-length"].parse().unwrap()];
        reader.read_exact(&mut body).unwrap();
        let status = {
            let mut received = received.lock().unwrap();
            received.push(Received { headers, body });
            statuses[(received.len() - 1).min(statuses.len() - 1)]
        };
        let mut writer = connection;
        write!(writer, "HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n").unwrap();
    }
}

/// HMAC-SHA256 by hand, so that the test does not go by the code that it tests.
fn hmac(message: &[u8]) -> Vec<u8> {
    let mut block = [0u8; 64];
    block[..KEY.len()].copy_from_slice(&KEY);
    let inner = Sha256::new().chain_update(block.map(|byte| byte ^ 0x36)).chain_update(message).finalize();
    Sha256::new().chain_update(block.map(|byte| byte ^ 0x5c)).chain_update(inner).finalize().to_vec()
}

fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let number = (0..3).fold(0u32, |number, index| number << 8 | u32::from(*chunk.get(index).unwrap_or(&0)));
        for index in 0..4 {
            let letter = LETTERS[(number >> (18 - 6 * index) & 63) as usize];
            text.push(if index <= chunk.len() { letter as char } else { '=' });
        }
    }
    text
}

async fn emit(stage: &Stage, subject: &str) {
    let event = Event::new(SHIPPED).organization(stage.acme).subject(subject);
    stage.db.platform().transaction(async |tx| tx.emit(&event).await).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_can_tell_that_the_request_is_from_the_relay() {
    let stage = Stage::set().await;
    emit(&stage, "order/1").await;
    let receiver = Receiver::answering(&["204 No Content"]);
    let shell = Shell::on(&stage.database).set("CGK_WEBHOOK_SECRET", SECRET);
    let answer = shell.run(&["events:relay", "--webhook", &receiver.address, "--json"]);
    assert_eq!(answer.code, 0, "{}", answer.stderr);
    assert!(answer.stdout.contains(r#""event":"summary","delivered":1,"failed":0,"dead":0"#), "{}", answer.stdout);
    let received = receiver.received.lock().unwrap();
    let request = &received[0];
    let event: serde_json::Value = serde_json::from_slice(&request.body).unwrap();
    assert_eq!((&event["specversion"], &event["subject"]), (&"1.0".into(), &"order/1".into()));
    assert_eq!(request.headers["content-type"], "application/cloudevents+json");
    assert_eq!(request.headers["webhook-id"], event["id"].as_str().unwrap());
    let time = &request.headers["webhook-timestamp"];
    let message = [format!("{}.{time}.", request.headers["webhook-id"]).as_bytes(), &request.body].concat();
    assert_eq!(request.headers["webhook-signature"], format!("v1,{}", base64(&hmac(&message))));
    assert!(time.parse::<u64>().unwrap() > 1_700_000_000, "{time}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_no_success_is_tried_again_and_gone_is_final() {
    let stage = Stage::set().await;
    for subject in ["tried again", "given up", "taken"] {
        emit(&stage, subject).await;
    }
    let receiver = Receiver::answering(&["503 Busy\r\nretry-after: 300", "200 OK", "410 Gone", "200 OK"]);
    let shell = Shell::on(&stage.database).set("CGK_WEBHOOK_SECRET", SECRET);
    let relay = ["events:relay", "--webhook", &receiver.address, "--json", "-q"];
    let outbox = Outbox::new(&stage.db);
    let first = shell.run(&relay);
    assert_eq!(first.code, 4, "{}", first.stderr);
    let all = outbox.list(&EventFilter::default()).await.unwrap();
    assert_eq!(all[2].error.as_deref(), Some("the receiver answered 503"));
    assert_eq!(all.iter().map(|event| event.attempts).collect::<Vec<_>>(), [0, 0, 1]);
    // The receiver asked for five minutes, and gets them.
    let later = "select count(*) from public.domain_event_queues where attempt_at > now() + interval '4 minutes'";
    assert_eq!(stage.count(later).await, 1);
    stage.run("update public.domain_event_queues set attempt_at = now()").await;
    let second = shell.run(&relay);
    assert_eq!(second.code, 4, "{}", second.stderr);
    let all = must_end(outbox.list(&EventFilter::default())).await.unwrap();
    let statuses: Vec<EventStatus> = all.iter().map(|event| event.status.clone()).collect();
    assert_eq!(statuses, [EventStatus::Delivered, EventStatus::Dead, EventStatus::Delivered]);

    let id = all[1].id.to_string();
    let instants = Regex::new(r"\d{4}-\d\d-\d\dT[0-9:.]+Z").unwrap();
    let ids = Regex::new(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f-]{22}").unwrap();
    let text = shell.transcript(&[
        "events:list acme",
        "events:list --status dead --json",
        &format!("events:retry {id}"),
        &format!("events:retry {id} --json"),
        "events:retry --all",
        "audit:list acme",
        "audit:list --json",
        "audit:list globex",
        "audit:retain --months 1 --json",
        "audit:retain --keep 1h",
        "events:relay --webhook ftp://example.com/",
        "events:list nobody",
    ]);
    let text = ids.replace_all(&instants.replace_all(&text, "<instant>"), "<id>").into_owned();
    insta::assert_snapshot!(text.replace(&receiver.address, "<receiver>"));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_secret_nothing_is_sent() {
    let stage = Stage::set().await;
    emit(&stage, "order/1").await;
    let receiver = Receiver::answering(&["200 OK"]);
    for secret in ["", "whsec_short", "shared"] {
        let shell = Shell::on(&stage.database).set("CGK_WEBHOOK_SECRET", secret);
        let answer = shell.run(&["events:relay", "--webhook", &receiver.address]);
        assert_eq!(answer.code, 2, "{}", answer.stderr);
        assert!(answer.stderr.contains("CGK_WEBHOOK_SECRET"), "{}", answer.stderr);
        assert!(secret.is_empty() || !answer.stderr.contains(secret), "{}", answer.stderr);
    }
    assert_eq!(receiver.received.lock().unwrap().len(), 0);
}

/// The first signal ends a relay that waits, and what it says is about deliveries.
#[tokio::test(flavor = "multi_thread")]
async fn a_signal_ends_a_relay_and_the_text_is_about_deliveries() {
    let stage = Stage::set().await;
    let receiver = Receiver::answering(&[]);
    let shell = Shell::on(&stage.database).set("CGK_WEBHOOK_SECRET", SECRET);
    let child = shell.start(&["events:relay", "--webhook", &receiver.address, "--watch"]);
    let listens =
        "select count(*) from pg_stat_activity where datname = current_database() and lower(query) like '%listen%cgk_events%'
         and pid <> pg_backend_pid()";
    stage.until_count(listens, |count| count > 0).await;
    assert!(std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    let answer = crate::support::cgk::Answer::of(child.wait_with_output().unwrap());
    assert_eq!((answer.code, answer.stdout.as_str()), (0, "Stopped. No event was delivered.\n"), "{}", answer.stderr);
    assert!(answer.stderr.contains("stopping: deliveries in progress finish"), "{}", answer.stderr);
    assert!(!answer.stderr.contains("schema"), "{}", answer.stderr);
}
