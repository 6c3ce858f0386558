//! Encrypted connections: which servers are trusted, and what a server gets from a client that trusts it.

use crate::support::cgk::Shell;
use cgk::{Config, Db, ErrorKind, Operator};
use rustls::{
    RootCertStore, ServerConfig, ServerConnection, StreamOwned,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::WebPkiClientVerifier,
};
use std::{
    io::{self, Read, Write},
    net::{TcpListener, TcpStream},
    sync::{Arc, mpsc},
};

/// What a server got from a client before the client could be refused.
#[derive(Debug, PartialEq, Eq)]
struct Login {
    protocol: Option<Vec<u8>>,
    certificate: Option<CertificateDer<'static>>,
    startup: String,
}

fn data(name: &str) -> String {
    format!("{}/tests/data/tls/{name}", env!("CARGO_MANIFEST_DIR"))
}

fn certificate(name: &str) -> CertificateDer<'static> {
    CertificateDer::from_pem_file(data(name)).unwrap()
}

/// A server with a certificate for `localhost`, which refuses every password; its port, and the logins that it refused.
fn server() -> (u16, mpsc::Receiver<Login>) {
    let provider = Arc::new(ring::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(certificate("authority.pem")).unwrap();
    let clients = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(clients.allow_unauthenticated().build().unwrap())
        .with_single_cert(vec![certificate("server.pem")], PrivateKeyDer::from_pem_file(data("server.key")).unwrap())
        .unwrap();
    config.alpn_protocols = vec![b"postgresql".to_vec()];
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (sender, logins) = mpsc::channel();
    std::thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            // A client that does not trust the server ends the connection.
            let _ = refuse(client, Arc::clone(&config), &sender);
        }
    });
    (port, logins)
}

fn refuse(mut client: TcpStream, config: Arc<ServerConfig>, logins: &mpsc::Sender<Login>) -> io::Result<()> {
    let mut first = [0];
    client.peek(&mut first)?;
    // The first byte of a TLS handshake; otherwise the client asks first.
    if first != [0x16] {
        client.read_exact(&mut [0; 8])?;
        client.write_all(b"S")?;
    }
    let mut stream = StreamOwned::new(ServerConnection::new(config).map_err(io::Error::other)?, client);
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let mut startup = vec![0; u32::from_be_bytes(length) as usize - 4];
    stream.read_exact(&mut startup)?;
    let login = Login {
        protocol: stream.conn.alpn_protocol().map(<[u8]>::to_vec),
        certificate: stream.conn.peer_certificates().map(|chain| chain[0].clone().into_owned()),
        startup: String::from_utf8_lossy(&startup[4..]).replace('\0', " "),
    };
    logins.send(login).map_err(io::Error::other)?;
    let fields = b"SFATAL\0VFATAL\0C28P01\0Mpassword authentication failed for user \"app\"\0\0";
    stream.write_all(b"E")?;
    stream.write_all(&u32::try_from(fields.len() + 4).unwrap().to_be_bytes())?;
    stream.write_all(fields)?;
    stream.conn.send_close_notify();
    stream.flush()
}

fn url(host: &str, port: u16, options: &str) -> String {
    format!("postgresql://app:hunter2@{host}:{port}/postgres?hostaddr=127.0.0.1&sslmode=verify-full{options}")
}

/// What an operator and a service get.
async fn outcomes(url: &str) -> [(&'static str, ErrorKind); 2] {
    let config = Config::from_url(url).unwrap();
    let operator = Operator::connect(&config).await.map(drop);
    let service = Db::connect(&config).await.map(drop);
    [operator, service].map(|outcome| {
        let error = outcome.unwrap_err();
        (error.code(), error.kind())
    })
}

#[tokio::test]
async fn a_server_is_trusted_if_the_named_authority_signed_its_certificate_for_that_host() {
    let (port, logins) = server();
    let authority = format!("&sslrootcert={}", data("authority.pem"));
    for negotiation in ["", "&sslnegotiation=direct"] {
        let found = outcomes(&url("localhost", port, &format!("{authority}{negotiation}"))).await;
        assert_eq!(found, [("CGK0202", ErrorKind::Denied); 2], "{negotiation}");
        for login in [logins.try_recv().unwrap(), logins.try_recv().unwrap()] {
            assert_eq!((login.protocol.as_deref(), login.certificate), (Some(b"postgresql".as_slice()), None));
            assert!(login.startup.contains("user app"), "{}", login.startup);
        }
    }
    let other = format!("&sslrootcert={}", data("other_authority.pem"));
    for (what, url) in [
        ("another authority", url("localhost", port, &other)),
        ("the system's authorities", url("localhost", port, "")),
        ("another host", url("127.0.0.1", port, &authority)),
    ] {
        assert_eq!(outcomes(&url).await, [("CGK0201", ErrorKind::Unavailable); 2], "{what}");
        assert!(logins.try_recv().is_err(), "{what}: the login was sent");
    }
}

#[tokio::test]
async fn a_client_shows_its_certificate_if_it_has_one() {
    let (port, logins) = server();
    let authority = format!("&sslrootcert={}", data("authority.pem"));
    let own = format!("{authority}&sslcert={}&sslkey={}", data("client.pem"), data("other.key"));
    for (options, shown) in [(&own, Some(certificate("client.pem"))), (&authority, None)] {
        outcomes(&url("localhost", port, options)).await;
        assert_eq!(logins.try_iter().map(|login| login.certificate).collect::<Vec<_>>(), [shown.clone(), shown]);
    }
}

/// `SSL_CERT_FILE` names the system's authorities, as for other programs.
#[test]
fn the_systems_authorities_are_trusted_without_another_setting() {
    let (port, logins) = server();
    for (authority, is_trusted) in [("authority.pem", true), ("other_authority.pem", false)] {
        let shell =
            Shell::new().set("DATABASE_URL", &url("localhost", port, "")).set("SSL_CERT_FILE", &data(authority));
        assert_ne!(shell.run(&["tenant:list"]).code, 0);
        assert_eq!(logins.try_iter().count() > 0, is_trusted, "{authority}");
    }
}
