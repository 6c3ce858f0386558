//! One client: asks as a tenant chosen at random, and compares what it reads with who it was.

use crate::tenants::Known;
use openidconnect::reqwest;
use serde_json::{Value, json};
use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

/// What the answers were.
#[derive(Debug, Default)]
pub struct Tally {
    pub right: usize,
    /// 503, 504, or no answer: the database was away.
    pub refused: usize,
    /// The client went away.
    pub dropped: usize,
    pub foreign: usize,
    pub wrong: Vec<String>,
}

impl Tally {
    pub fn add(&mut self, other: Self) {
        self.right += other.right;
        self.refused += other.refused;
        self.dropped += other.dropped;
        self.foreign += other.foreign;
        self.wrong.extend(other.wrong);
    }

    pub fn total(&self) -> usize {
        self.right + self.refused + self.dropped + self.foreign + self.wrong.len()
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { right, refused, dropped, foreign, wrong } = self;
        write!(
            f,
            "right {right}, refused for a fault {refused}, dropped by the client {dropped}, foreign {foreign}, wrong {}",
            wrong.len()
        )
    }
}

pub struct Client {
    http: reqwest::Client,
    base: String,
    tenants: Arc<Vec<Known>>,
    random: u64,
    tally: Tally,
}

impl Client {
    pub fn new(port: u16, tenants: Arc<Vec<Known>>, seed: u64) -> Self {
        let base = format!("http://127.0.0.1:{port}");
        // Seeds that follow each other become numbers that have nothing in common; never zero.
        let random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).max(1);
        Self { http: reqwest::Client::new(), base, tenants, random, tally: Tally::default() }
    }

    pub async fn run(mut self, asked: Arc<AtomicUsize>, requests: usize) -> Tally {
        while asked.fetch_add(1, Ordering::Relaxed) < requests {
            self.ask().await;
        }
        self.tally
    }

    /// xorshift64.
    fn below(&mut self, limit: usize) -> usize {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random % limit as u64) as usize
    }

    async fn ask(&mut self) {
        let tenants = Arc::clone(&self.tenants);
        let (own, other) = (&tenants[self.below(tenants.len())], &tenants[self.below(tenants.len())]);
        let kind = self.below(10);
        let of = if kind == 0 { other } else { own };
        let path = format!("{}/organizations/{}", self.base, of.organization);
        let name = format!("{}-{}", own.slug, self.below(1 << 30));
        let request = match kind {
            0..=4 => self.http.get(format!("{path}/repositories?limit=5")),
            5 => self.http.get(format!("{path}/summary")),
            6 => self.http.get(format!("{path}/jobs?limit=5")),
            _ => self.http.post(format!("{path}/repositories")).json(&json!({ "name": name })),
        };
        let request = request.bearer_auth(&own.key).send();
        // One of eight clients goes away, some before the server has begun and some when it has answered.
        let patience = match self.below(8) {
            0 => Duration::from_micros(self.below(20_000) as u64),
            _ => Duration::from_secs(60),
        };
        let answered = tokio::time::timeout(patience, async { Ok((request.await?, ())) }).await;
        let response = match answered {
            Err(_) => return self.tally.dropped += 1,
            Ok(Err(error)) => {
                let error: reqwest::Error = error;
                return self.tally.wrong.push(format!("no answer: {error:?}"));
            }
            Ok(Ok((response, ()))) => response,
        };
        let status = response.status().as_u16();
        let Ok(text) = response.text().await else {
            return self.tally.wrong.push(format!("{status} without its body"));
        };
        let is_own = of.organization == own.organization;
        match status {
            200 | 201 if is_own => self.judge(own, &text),
            404 if !is_own => self.tally.right += 1,
            503 | 504 => self.tally.refused += 1,
            // The commit was under way when the server crashed; whether it happened is unknown, and said so.
            500 if text.contains("it is unknown whether it was done") => self.tally.refused += 1,
            _ => self.tally.wrong.push(format!("kind {kind} {status} {text}")),
        }
    }

    /// Whether all in an answer is of the tenant that asked.
    fn judge(&mut self, own: &Known, text: &str) {
        let Ok(value) = serde_json::from_str::<Value>(text) else {
            return self.tally.wrong.push(format!("no JSON: {text}"));
        };
        match is_of(&value, own) {
            true => self.tally.right += 1,
            false => {
                self.tally.foreign += 1;
                self.tally.wrong.push(format!("{} was answered {text}", own.slug));
            }
        }
    }
}

fn is_of(value: &Value, own: &Known) -> bool {
    match value {
        Value::Object(members) => members.iter().all(|(name, value)| match (name.as_str(), value) {
            ("organization_id", value) => *value == own.organization.to_string(),
            ("name", Value::String(name)) => name.starts_with(&format!("{}-", own.slug)),
            (_, value) => is_of(value, own),
        }),
        Value::Array(items) => items.iter().all(|item| is_of(item, own)),
        _ => true,
    }
}
