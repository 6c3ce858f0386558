//! Stands between PgBouncer and the server, and rewrites queries.

use std::path::PathBuf;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt, copy},
    net::{TcpListener, UnixStream},
};

/// What becomes of the text of a message of the simple-query protocol.
pub(crate) type Rewrite = fn(String) -> String;

/// Listens on a port of this machine and passes on to the server's socket what is said there.
pub(crate) async fn listen(server: PathBuf, rewrite: Rewrite) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let (mut from_client, mut to_client) = client.into_split();
            let (mut from_server, mut to_server) = UnixStream::connect(&server).await.unwrap().into_split();
            tokio::spawn(async move { copy(&mut from_server, &mut to_client).await });
            tokio::spawn(async move {
                // The first message has no type.
                let mut kind = None;
                while let Some(message) = read_message(&mut from_client, kind, rewrite).await {
                    let sent = to_server.write_all(&message).await;
                    let Ok(next) = from_client.read_u8().await else { break };
                    kind = Some(next);
                    if sent.is_err() {
                        break;
                    }
                }
            });
        }
    });
    port
}

/// The message of this type whose length comes next, with the text of a query (`Q`) rewritten.
async fn read_message(from: &mut (impl AsyncRead + Unpin), kind: Option<u8>, rewrite: Rewrite) -> Option<Vec<u8>> {
    let length = from.read_u32().await.ok()?;
    let mut body = vec![0; length as usize - 4];
    from.read_exact(&mut body).await.ok()?;
    if kind == Some(b'Q') {
        body.pop();
        body = rewrite(String::from_utf8(body).unwrap()).into_bytes();
        body.push(0);
    }
    let mut message: Vec<u8> = kind.into_iter().collect();
    message.extend((body.len() as u32 + 4).to_be_bytes());
    message.extend(body);
    Some(message)
}
