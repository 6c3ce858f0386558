//! `cgk report --serve`: the page for browsers on this machine. Each load reads the database, at most every few
//! seconds.

use super::{
    Rendered,
    address::{Loopback, is_own_host},
    request::{self, Response},
};
use crate::cli::{
    exit::Exit,
    session::Session,
    ui::{report::Refusal, style::sanitize},
};
use anyhow::Result;
use cgk::{Config, ErrorKind, Operator, migrate::Migrations, report::ReportOptions};
use futures_util::{StreamExt as _, stream::FuturesUnordered};
use serde::Serialize;
use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};
use tokio::{
    io::AsyncWriteExt as _,
    net::{TcpListener, TcpStream},
    sync::Mutex,
    time::timeout,
};

/// A report that is younger than this is sent again.
const AGE_MAX: Duration = Duration::from_secs(5);
/// How long a client may take to send its request, or to read the response.
const CLIENT_WAIT: Duration = Duration::from_secs(10);
/// The maximum number of clients at once. Others wait.
const CLIENTS_MAX: usize = 32;

#[derive(Serialize)]
struct Serving<'a> {
    event: &'static str,
    v: u32,
    url: &'a str,
}

/// The source of reports, and the last report.
pub(super) struct Source {
    config: Config,
    migrations: Migrations,
    options: ReportOptions,
    state: Mutex<SourceState>,
}

struct SourceState {
    /// `None` after the connection was lost.
    operator: Option<Operator>,
    last: Option<(Instant, Rendered)>,
}

impl Source {
    pub(super) fn new(config: Config, migrations: Migrations, operator: Operator, options: ReportOptions) -> Self {
        let state = Mutex::new(SourceState { operator: Some(operator), last: None });
        Self { config, migrations, options, state }
    }

    /// Returns a part of a report that is young enough.
    async fn take(&self, part: impl Fn(&Rendered) -> String) -> cgk::Result<String> {
        let mut state = self.state.lock().await;
        let is_young = |(read, _): &(Instant, Rendered)| read.elapsed() < AGE_MAX;
        if !state.last.as_ref().is_some_and(is_young) {
            state.last = None;
            let rendered = match self.read(&mut state).await {
                // For example, the server was restarted since the last load.
                Err(error) if error.kind() == ErrorKind::Unavailable => self.read(&mut state).await?,
                rendered => rendered?,
            };
            state.last = Some((Instant::now(), rendered));
        }
        Ok(state.last.as_ref().map(|(_, rendered)| part(rendered)).unwrap_or_default())
    }

    async fn read(&self, state: &mut SourceState) -> cgk::Result<Rendered> {
        let operator = match state.operator.take() {
            Some(operator) => operator,
            None => Operator::connect(&self.config).await?,
        };
        let rendered = Rendered::of(&operator, &self.migrations, &self.options).await;
        if !rendered.as_ref().is_err_and(|error| error.kind() == ErrorKind::Unavailable) {
            state.operator = Some(operator);
        }
        rendered
    }
}

/// Serves until the process receives a signal to end.
pub(super) async fn run(session: &Session<'_>, address: Loopback, source: Source) -> Result<Exit> {
    let refused = |error: std::io::Error| Refusal {
        message: format!("could not listen on {}: {error}", address.0),
        hint: "Choose another port, or leave the address out: then any free port is taken.".into(),
        exit: Exit::Failed,
    };
    let listener = TcpListener::bind(address.0).await.map_err(refused)?;
    let address = listener.local_addr().map_err(refused)?;
    let (printer, url) = (session.printer, format!("http://{address}/"));
    printer.record(&Serving { event: "serving", v: crate::cli::JSON_VERSION, url: &url });
    printer.output(&url);
    printer.info("Every user of this machine can open it. Ctrl-C ends it.");
    let mut clients = FuturesUnordered::new();
    loop {
        tokio::select! {
            accepted = listener.accept(), if clients.len() < CLIENTS_MAX => match accepted {
                Ok((stream, _)) => clients.push(serve(stream, address, &source)),
                Err(error) => {
                    printer.warn(format!("could not accept a connection: {error}"));
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            },
            Some(()) = clients.next() => {}
        }
    }
}

/// Serves one connection, with one request. An error of a client ends only its own connection.
async fn serve(mut stream: TcpStream, address: SocketAddr, source: &Source) {
    let Ok(Ok(request)) = timeout(CLIENT_WAIT, request::read(&mut stream)).await else { return };
    let (method, response) = match &request {
        None => ("GET", Response::text("400 Bad Request", "this is not a request that can be read")),
        Some(request) => (request.method.as_str(), answer(request, address, source).await),
    };
    let bytes = response.bytes(method);
    let send = async {
        stream.write_all(&bytes).await?;
        stream.shutdown().await
    };
    let _ = timeout(CLIENT_WAIT, send).await;
}

async fn answer(request: &request::Request, address: SocketAddr, source: &Source) -> Response {
    if !request.host.as_deref().is_some_and(|host| is_own_host(host, address)) {
        return Response::text("421 Misdirected Request", format!("open http://{address}/"));
    }
    if !matches!(request.method.as_str(), "GET" | "HEAD") {
        return Response::text("405 Method Not Allowed", "only GET and HEAD");
    }
    let (content_type, taken) = match request.path.as_str() {
        "/" => ("text/html; charset=utf-8", source.take(|rendered| rendered.page.clone()).await),
        "/report.json" => ("application/json", source.take(|rendered| rendered.json.clone()).await),
        _ => return Response::text("404 Not Found", "there is / and /report.json"),
    };
    match taken {
        Ok(body) => Response { status: "200 OK", content_type, body },
        Err(error) => {
            let text = format!("{} ({})", sanitize(&error.report()), error.code());
            Response::text("503 Service Unavailable", text)
        }
    }
}
