//! A listener, the worker, and their end.

use crate::{app::App, connections, routes, settings::Settings, worker::Worker};
use anyhow::Context as _;
use std::time::Duration;
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    sync::watch,
    time::timeout,
};

/// The longest that requests and jobs may take to end when the service is to stop.
const GRACE: Duration = Duration::from_secs(30);

/// Serves until SIGTERM or ctrl-c. What has come is answered, jobs that are running are finished, and then the pool is closed.
pub async fn until_signal(app: App, settings: &Settings, listener: TcpListener) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let signal = async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = tokio::signal::ctrl_c() => {}
        }
    };
    until(app, settings, listener, signal).await
}

/// Serves until `end` is there.
pub async fn until(
    app: App,
    settings: &Settings,
    listener: TcpListener,
    end: impl Future<Output = ()> + Send + 'static,
) -> anyhow::Result<()> {
    let (stop, stopped) = watch::channel(false);
    let worker = tokio::spawn(Worker::new(app.clone()).run(stopped.clone()));
    let router = routes::router(&app, settings)?;
    let stopping = async move {
        let _ = stopped.clone().wait_for(|stop| *stop).await;
    };
    tracing::info!(address = %listener.local_addr()?, "listening");
    let served = tokio::spawn(connections::serve(listener, router, settings.client_time_max, stopping));
    end.await;
    tracing::info!("stopping");
    app.begin_to_stop();
    let _ = stop.send(true);
    match timeout(GRACE, served).await {
        Ok(served) => served?,
        // A client that never finishes its request does not keep the jobs and the pool from ending.
        Err(_) => tracing::warn!("requests did not end in time"),
    }
    timeout(GRACE, worker).await.context("jobs did not end in time")??;
    app.db.close(GRACE).await;
    Ok(())
}
