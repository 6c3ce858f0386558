//! Servers that cannot be used: one that is too old, one that refuses the password, one that is not there.

use cgk::{Config, ConnectionError, Db, Error, ErrorKind, Operator, config::TargetHost, testing::TestServer};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, UnixStream},
};

fn config(port: u16) -> Config {
    Config::from_url(&format!("postgresql://app:hunter2@127.0.0.1:{port}/postgres?sslmode=disable")).unwrap()
}

/// Passes a conversation with the private server on, and makes its version a 13.
async fn old_server() -> u16 {
    let [TargetHost::Socket { directory, port }] = TestServer::shared().config().target().hosts() else {
        panic!("this test wants the private server, and CGK_TEST_DATABASE_URL names another");
    };
    let socket = format!("{directory}/.s.PGSQL.{port}");
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let own_port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let server = UnixStream::connect(&socket).await.unwrap();
            let ((mut from_client, mut to_client), (mut from_server, mut to_server)) =
                (client.into_split(), server.into_split());
            tokio::spawn(async move { tokio::io::copy(&mut from_client, &mut to_server).await });
            tokio::spawn(async move {
                let mut buffer = vec![0; 64 * 1024];
                while let Ok(length @ 1..) = from_server.read(&mut buffer).await {
                    // server_version_num comes as four bytes: 14xxxx and above becomes 130018.
                    for at in 0..length.saturating_sub(3) {
                        let number = i32::from_be_bytes(buffer[at..at + 4].try_into().unwrap());
                        if (140_000..190_000).contains(&number) && buffer[..at].ends_with(&[0, 0, 0, 4]) {
                            buffer[at..at + 4].copy_from_slice(&130_018_i32.to_be_bytes());
                        }
                    }
                    if to_client.write_all(&buffer[..length]).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    own_port
}

#[tokio::test]
async fn a_server_that_is_too_old_is_named_with_what_is_needed() {
    let url = format!("postgresql://postgres@127.0.0.1:{}/postgres?sslmode=disable", old_server().await);
    let error = Operator::connect(&Config::from_url(&url).unwrap()).await.unwrap_err();
    assert!(matches!(error, Error::Connection(ConnectionError::ServerTooOld { needed: 14, .. })), "{error:?}");
    assert_eq!((error.code(), error.kind()), ("CGK0204", ErrorKind::Refused));
}

/// Answers every login with what PostgreSQL answers to a wrong password.
async fn strict_server() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let _ = client.read(&mut [0; 1024]).await;
            let fields = b"SFATAL\0VFATAL\0C28P01\0Mpassword authentication failed for user \"app\"\0\0";
            let mut message = vec![b'E'];
            message.extend_from_slice(&u32::try_from(fields.len() + 4).unwrap().to_be_bytes());
            message.extend_from_slice(fields);
            let _ = client.write_all(&message).await;
        }
    });
    port
}

#[tokio::test]
async fn a_wrong_password_is_a_refused_login_and_is_not_shown() {
    let config = config(strict_server().await);
    for error in [Operator::connect(&config).await.map(drop), Db::connect(&config).await.map(drop)] {
        let error = error.unwrap_err();
        assert_eq!((error.code(), error.kind()), ("CGK0202", ErrorKind::Denied), "{error:?}");
        assert_eq!(error.sqlstate().unwrap().code(), "28P01");
        assert!(!format!("{error} {error:?} {config:?}").contains("hunter2"));
    }
}

#[tokio::test]
async fn a_host_that_is_down_is_named() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let error = Operator::connect(&config(port)).await.unwrap_err();
    assert_eq!((error.code(), error.kind()), ("CGK0201", ErrorKind::Unavailable), "{error:?}");
    assert!(error.to_string().contains(&format!("127.0.0.1:{port}")), "{error}");
}
