//! Cancel requests through a pooler.
//!
//! The driver closes the connection of a cancel request as soon as it has written the request. PgBouncer 1.18.0 then
//! stops completely ("bad client state"), and other versions may drop the request. So here the connection is open until
//! the pooler has closed it, as in libpq.

use std::{
    io,
    net::IpAddr,
    path::PathBuf,
    pin::Pin,
    task::{Context, Poll, ready},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpStream, UnixStream},
};
use tokio_postgres::{CancelToken, NoTls, config::Host, tls::MakeTlsConnect};
use tokio_postgres_rustls::MakeRustlsConnect;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The address of the pooler.
#[derive(Clone)]
pub(super) enum PoolerAddress {
    Network { name: String, address: Option<IpAddr>, port: u16 },
    Socket(PathBuf),
}

impl PoolerAddress {
    /// Returns the pooler of these settings. Returns `None` if they name several hosts, because only the driver knows
    /// which one it chose.
    pub(super) fn of(settings: &tokio_postgres::Config) -> Option<Self> {
        let port = settings.get_ports().first().copied().unwrap_or(5432);
        match (settings.get_hosts(), settings.get_hostaddrs()) {
            ([Host::Unix(directory)], []) => Some(Self::Socket(directory.join(format!(".s.PGSQL.{port}")))),
            ([Host::Tcp(name)], addresses @ ([] | [_])) => {
                Some(Self::Network { name: name.clone(), address: addresses.first().copied(), port })
            }
            _ => None,
        }
    }

    /// Sends the cancel request and waits until the pooler has closed its connection. If the name has several
    /// addresses, each is a pooler and gets the request. Poolers that do not have the connection ignore the request.
    pub(super) async fn cancel(self, token: CancelToken, mut tls: MakeRustlsConnect) -> Result<(), BoxError> {
        match self {
            Self::Socket(path) => {
                token.cancel_query_raw(UntilClosed(UnixStream::connect(path).await?), NoTls).await?;
            }
            Self::Network { name, address, port } => {
                let addresses = match address {
                    Some(address) => vec![(address, port).into()],
                    None => tokio::net::lookup_host((name.as_str(), port)).await?.collect::<Vec<_>>(),
                };
                for address in addresses {
                    let Ok(stream) = TcpStream::connect(address).await else { continue };
                    let tls = MakeTlsConnect::<UntilClosed<TcpStream>>::make_tls_connect(&mut tls, &name)?;
                    token.cancel_query_raw(UntilClosed(stream), tls).await?;
                }
            }
        }
        Ok(())
    }
}

/// A stream whose shutdown first waits until the other side has closed it.
struct UntilClosed<S>(S);

impl<S: AsyncRead + Unpin> AsyncRead for UntilClosed<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for UntilClosed<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            let mut ignored = [0; 64];
            let mut buffer = ReadBuf::new(&mut ignored);
            // A reset connection is closed too.
            if ready!(Pin::new(&mut self.0).poll_read(context, &mut buffer)).is_err() || buffer.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
        }
    }
}
