//! The end of the service.

use crate::stage::{Ask, Stage, must_end};
use repositories_api::{app::App, serve};
use serde_json::json;
use tokio::{net::TcpListener, sync::oneshot};

#[tokio::test]
async fn what_has_come_is_answered_and_nothing_is_left_open() {
    let stage = Stage::set().await;
    let acme = stage.of("acme");
    let app = App::new(cgk::Db::connect(&stage.service).await.unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (end, ended) = oneshot::channel::<()>();
    let settings = stage.settings.clone();
    let serving = app.clone();
    let served =
        tokio::spawn(async move { serve::until(serving, &settings, listener, async { ended.await.unwrap() }).await });
    assert_eq!(stage.send_to(port, &Ask::new("GET", "/readyz")).await.status, 200);

    // A request that is under way when the end comes.
    stage.block().await;
    let path = format!("/organizations/{}/repositories", acme.organization);
    let ask = Ask::new("POST", path).bearer(&acme.key).json(&json!({ "name": "last" }));
    let waiting =
        "select count(*) = 1 from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'
        and application_name <> 'observer'";
    let last = async {
        let answered = stage.send_to(port, &ask);
        let ending = async {
            stage.until(waiting).await;
            end.send(()).unwrap();
            while !app.is_stopping() {
                tokio::task::yield_now().await;
            }
            stage.unblock().await;
        };
        tokio::join!(answered, ending).0
    };
    assert_eq!(must_end(last).await.status, 201);
    must_end(served).await.unwrap().unwrap();
    assert!(tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_err(), "nobody listens any more");
}
