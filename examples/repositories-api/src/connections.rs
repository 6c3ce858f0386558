//! The connections of clients. `axum::serve` has no time limit for the header of a request, so a client that never finishes one
//! would keep its connection for ever.

use axum::{Router, serve::Listener};
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
    service::TowerToHyperService,
};
use std::time::Duration;
use tokio::net::TcpListener;

/// Answers the requests of each connection until `end` is there. Then no connection is accepted any more, and those that wait for a
/// request are closed. Returns when the requests that have come are answered.
///
/// A connection whose next request does not have its whole header after `header_time_max` is closed; so a connection without
/// requests lasts as long.
pub async fn serve(
    mut listener: TcpListener,
    router: Router,
    header_time_max: Duration,
    end: impl Future<Output = ()>,
) {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(header_time_max);
    let open = GracefulShutdown::new();
    tokio::pin!(end);
    loop {
        let (stream, _) = tokio::select! {
            // It logs errors, and waits where there are too many open files.
            accepted = Listener::accept(&mut listener) => accepted,
            () = &mut end => break,
        };
        let connection = http.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router.clone()));
        // It fails where a client ends its connection or is too slow.
        tokio::spawn(open.watch(connection));
    }
    drop(listener);
    open.shutdown().await;
}
