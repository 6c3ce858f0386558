//! The encryption of a connection, and the certificate authorities that it trusts.

use std::fmt;
use std::fs::File;
use std::path::{Path, PathBuf};

use super::error::ValueProblem;
use super::options::{Options, SslMode};
use super::settings::RemotePlaintext;
use super::target::Distance;

/// Whether a connection is encrypted. There are only two modes: no optional encryption and no unverified certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TlsMode {
    /// No TLS: the server is on this machine, or plaintext was allowed.
    Disable,
    /// TLS with verified certificate chain and host name.
    Verify {
        /// The trusted certificate authorities.
        roots: RootCerts,
        /// The client certificate.
        client: Option<ClientCert>,
    },
}

/// The certificate authorities that are trusted to sign a server's certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum RootCerts {
    /// The operating system's, or Mozilla's if the system has none.
    #[default]
    System,
    /// Only those in a PEM file.
    File(PathBuf),
}

/// A certificate that authenticates the client to the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCert {
    /// The PEM file with the certificate and its chain.
    pub certificate: PathBuf,
    /// The PEM file with the unencrypted private key.
    pub key: PathBuf,
}

impl fmt::Display for TlsMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TlsMode::Disable => f.write_str("disable"),
            TlsMode::Verify { roots, client } => {
                match roots {
                    RootCerts::System => f.write_str("verify-full, system roots")?,
                    RootCerts::File(path) => write!(f, "verify-full, roots in {}", path.display())?,
                }
                f.write_str(if client.is_some() { ", client certificate" } else { "" })
            }
        }
    }
}

/// Decides whether to use TLS for hosts that are at most `farthest` and at least `nearest` away.
pub(super) fn decide(
    options: &mut Options,
    (nearest, farthest): (Distance, Distance),
    plaintext: RemotePlaintext,
    base: &Path,
) -> Result<TlsMode, ValueProblem> {
    let implied = options.root_certificates.is_some()
        || options.client_certificate.is_some()
        || options.channel_binding_required.is_some();
    let wanted = match (farthest, options.ssl) {
        (_, Some(SslMode::Disable)) if options.channel_binding_required.is_some() => {
            return Err(ValueProblem::refused(
                "asks for channel_binding=require without TLS",
                "Remove sslmode=disable; channel binding only exists over TLS.",
            ));
        }
        // PostgreSQL does not support TLS over sockets, with any sslmode.
        (Distance::Socket, _) => false,
        (_, Some(SslMode::Verify)) => true,
        (Distance::Loopback, Some(SslMode::Disable | SslMode::Prefer)) => false,
        (Distance::Loopback, None) => implied,
        (Distance::Remote, Some(SslMode::Disable)) => match plaintext {
            RemotePlaintext::Allow => unencrypted(options),
            RemotePlaintext::Refuse => {
                return Err(ValueProblem::refused(
                    "would send the password and the data in the clear to another machine",
                    "Remove sslmode=disable, or allow it for this network with --insecure-plaintext or \
                     CGK_INSECURE_PLAINTEXT=1.",
                ));
            }
        },
        (Distance::Remote, Some(SslMode::Prefer) | None) => match plaintext {
            RemotePlaintext::Allow if !implied => unencrypted(options),
            _ => {
                if options.ssl.is_some() {
                    options.notices.push("sslmode=prefer is taken as verify-full: the host is not this machine".into());
                }
                true
            }
        },
    };
    if !wanted {
        return Ok(TlsMode::Disable);
    }
    if nearest == Distance::Socket {
        return Err(ValueProblem::refused(
            "mixes socket directories and hosts that need TLS",
            "Name either sockets or network hosts in one URL.",
        ));
    }
    let roots = match options.root_certificates.as_deref() {
        None | Some("system") => RootCerts::System,
        Some(path) => RootCerts::File(readable(base.join(path), "sslrootcert")?),
    };
    let client = match (&options.client_certificate, &options.client_key) {
        (Some(certificate), Some(key)) => Some(ClientCert {
            certificate: readable(base.join(certificate), "sslcert")?,
            key: readable(base.join(key), "sslkey")?,
        }),
        _ => None,
    };
    Ok(TlsMode::Verify { roots, client })
}

fn unencrypted(options: &mut Options) -> bool {
    options.notices.push("the connection to another machine is not encrypted".into());
    false
}

/// Opens the file, so that a wrong path is reported now and not at the first connection.
fn readable(path: PathBuf, option: &str) -> Result<PathBuf, ValueProblem> {
    let problem = |error| {
        let what = format!("could not read the file {} that {option} names", path.display());
        ValueProblem::unreadable(what, format!("Correct the path in {option}.")).because(error)
    };
    let metadata = File::open(&path).and_then(|file| file.metadata()).map_err(problem)?;
    if metadata.is_file() { Ok(path) } else { Err(problem(std::io::ErrorKind::IsADirectory.into())) }
}
