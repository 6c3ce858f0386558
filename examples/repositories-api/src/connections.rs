//! The connections of clients. `axum::serve` has no time limit for the header of a request or for a response that is not read, so a
//! client that never finishes either would keep its connection without limit.

use axum::{Router, serve::Listener};
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
    service::TowerToHyperService,
};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio_io_timeout::TimeoutStream;

/// Answers the requests of each connection until `end` is there. Then no connection is accepted any more, and those that wait for a
/// request are closed. Returns when the requests that have come are answered.
///
/// A connection whose next request does not have its whole header after `client_time_max` is closed; so a connection without
/// requests lasts as long. It is also closed if the client reads nothing of a response for that time.
pub async fn serve(
    mut listener: TcpListener,
    router: Router,
    client_time_max: Duration,
    end: impl Future<Output = ()>,
) {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(client_time_max);
    let open = GracefulShutdown::new();
    tokio::pin!(end);
    loop {
        let (stream, _) = tokio::select! {
            // It logs errors, and waits where there are too many open files.
            accepted = Listener::accept(&mut listener) => accepted,
            () = &mut end => break,
        };
        let mut stream = TimeoutStream::new(stream);
        stream.set_write_timeout(Some(client_time_max));
        let connection =
            http.serve_connection(TokioIo::new(Box::pin(stream)), TowerToHyperService::new(router.clone()));
        // It fails where a client ends its connection or is too slow.
        tokio::spawn(open.watch(connection));
    }
    drop(listener);
    open.shutdown().await;
}
