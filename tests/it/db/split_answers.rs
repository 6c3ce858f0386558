//! Answers that arrive in pieces, as a network delivers them.

use cgk::{Config, Db, config::TargetHost, testing::TestServer};
use std::{path::PathBuf, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, UnixStream},
};

/// Passes everything on to a server's socket, and the server's answers a few bytes at a time.
async fn drip(listener: TcpListener, socket: PathBuf) {
    while let Ok((client, _)) = listener.accept().await {
        let socket = socket.clone();
        tokio::spawn(async move {
            let server = UnixStream::connect(socket).await.unwrap();
            client.set_nodelay(true).unwrap();
            let ((mut from_client, to_client), (from_server, mut to_server)) =
                (client.into_split(), server.into_split());
            tokio::spawn(async move { tokio::io::copy(&mut from_client, &mut to_server).await });
            let _ = in_pieces(from_server, to_client).await;
        });
    }
}

async fn in_pieces(
    mut from: tokio::net::unix::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
) -> std::io::Result<()> {
    let mut buffer = [0; 8192];
    loop {
        let read = from.read(&mut buffer).await?;
        if read == 0 {
            return to.shutdown().await;
        }
        for piece in buffer[..read].chunks(5) {
            to.write_all(piece).await?;
            // Long enough for the other side to read it alone.
            tokio::time::sleep(Duration::from_micros(200)).await;
        }
    }
}

/// The answer to the message that enters a tenant used to be left unread while the first statement was waited for; in more
/// than a few pieces it filled the driver's channel, and the statement's own answer never came.
#[tokio::test]
async fn a_tenant_is_entered_however_the_answers_arrive() {
    let database = TestServer::shared().set_up_database().await.unwrap();
    database.with_tenants(&["acme"]).await.unwrap();
    let [TargetHost::Socket { directory, port }] = database.config().target().hosts() else {
        return; // Another server than the private one is reached as its URL says.
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address: std::net::SocketAddr = listener.local_addr().unwrap();
    tokio::spawn(drip(listener, PathBuf::from(format!("{directory}/.s.PGSQL.{port}"))));
    assert!(TcpStream::connect(address).await.is_ok());

    let url = format!("postgresql://postgres@{address}/{}?sslmode=disable", database.name());
    let db = Db::connect(&Config::from_url(&url).unwrap()).await.unwrap();
    let slug = "acme".parse().unwrap();
    let work = async {
        for _ in 0..2 {
            let orders = db.with_tenant(&slug, async |tx| {
                Ok(tx.query_one("select count(*) from orders", &[]).await?.get::<_, i64>(0))
            });
            assert_eq!(orders.await.unwrap(), 0);
            let row = db.tenant(&slug).query_one("select count(*) from orders", &[]).await.unwrap();
            assert_eq!(row.get::<_, i64>(0), 0);
            let rows = db.tenant(&slug).query_typed("select * from orders", &[]).await.unwrap();
            assert!(rows.is_empty());
        }
        let failed = db.with_tenant(&slug, async |tx| tx.query("select nothing_like_it", &[]).await).await;
        assert!(failed.is_err());
    };
    crate::support::patience::must_end("the work", work).await;
}
