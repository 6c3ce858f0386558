//! An HTTP request and its response. Only the head of a request is read, and every response closes the connection.

use std::{fmt::Write as _, io};
use tokio::io::{AsyncRead, AsyncReadExt as _};

/// The maximum size of a head. A longer one is refused.
const HEAD_MAX: usize = 16 * 1024;
const HEADERS_MAX: usize = 64;

/// The contents of a request.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) method: String,
    /// The path, without a question mark and the text after it.
    pub(super) path: String,
    /// The Host header; `None` if there is none or more than one.
    pub(super) host: Option<String>,
}

/// Reads the head of a request; `None` if it is not one.
pub(super) async fn read(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<Request>> {
    let mut head = Vec::new();
    loop {
        if head.len() > HEAD_MAX || stream.read_buf(&mut head).await? == 0 {
            return Ok(None);
        }
        match parse(&head) {
            Ok(None) => {}
            Ok(request) => return Ok(request),
            Err(_) => return Ok(None),
        }
    }
}

/// Parses a head. Returns `Ok(None)` if it is not complete.
fn parse(head: &[u8]) -> Result<Option<Request>, httparse::Error> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut request = httparse::Request::new(&mut headers);
    if request.parse(head)?.is_partial() {
        return Ok(None);
    }
    let mut hosts = request.headers.iter().filter(|header| header.name.eq_ignore_ascii_case("host"));
    let host = match (hosts.next(), hosts.next()) {
        (Some(host), None) => std::str::from_utf8(host.value).ok().map(ToOwned::to_owned),
        _ => None,
    };
    let path = request.path.unwrap_or_default().split('?').next().unwrap_or_default();
    Ok(Some(Request { method: request.method.unwrap_or_default().to_owned(), path: path.to_owned(), host }))
}

pub(super) struct Response {
    /// The status, such as `200 OK`.
    pub(super) status: &'static str,
    pub(super) content_type: &'static str,
    pub(super) body: String,
}

impl Response {
    pub(super) fn text(status: &'static str, body: impl Into<String>) -> Self {
        Self { status, content_type: "text/plain; charset=utf-8", body: body.into() + "\n" }
    }

    /// Returns the bytes to send. The response to a HEAD request has no body.
    pub(super) fn bytes(&self, method: &str) -> Vec<u8> {
        let mut text = format!("HTTP/1.1 {}\r\nContent-Type: {}\r\n", self.status, self.content_type);
        let _ = write!(text, "Content-Length: {}\r\n", self.body.len());
        // Caches must not store it, pages must not embed it, and browsers must not guess its type.
        text.push_str("Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\nX-Frame-Options: DENY\r\n");
        text.push_str("Cross-Origin-Resource-Policy: same-origin\r\nCross-Origin-Opener-Policy: same-origin\r\n");
        text.push_str("Referrer-Policy: no-referrer\r\nConnection: close\r\n\r\n");
        if method != "HEAD" {
            text.push_str(&self.body);
        }
        text.into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn of(text: &str) -> Option<Request> {
        read(&mut text.as_bytes()).await.unwrap()
    }

    #[tokio::test]
    async fn a_head_is_read() {
        let found = of("GET /report.json?x=1 HTTP/1.1\r\nhOsT: localhost:1\r\n\r\nbody").await.unwrap();
        let wanted = ("GET", "/report.json", Some("localhost:1"));
        assert_eq!((found.method.as_str(), found.path.as_str(), found.host.as_deref()), wanted);
        let twice = of("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n").await.unwrap();
        assert_eq!(twice.host, None);
    }

    #[tokio::test]
    async fn what_is_no_request_is_refused() {
        let long = format!("GET / HTTP/1.1\r\nx: {}", "y".repeat(HEAD_MAX + 1));
        for text in ["", "GET / HTTP/1.1\r\n", "\u{16}\u{3}\u{1}", "GET\r\n\r\n", &long] {
            assert_eq!(of(text).await, None, "{text:.20}");
        }
    }

    #[test]
    fn a_response_to_head_has_no_body() {
        let response = Response::text("200 OK", "x");
        let (get, head) = (response.bytes("GET"), response.bytes("HEAD"));
        assert!(get.ends_with(b"\r\n\r\nx\n") && head.ends_with(b"\r\n\r\n") && get.starts_with(&head));
    }
}
