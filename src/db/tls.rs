//! TLS for the driver. It uses rustls with ring, chosen here and not installed for the whole process.

use std::path::Path;
use std::sync::Arc;

use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem};
use rustls::{ClientConfig, RootCertStore};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::config::{ClientCert, ConfigError, RootCerts, TlsMode, ValueProblem};

/// The protocol's name in TLS. libpq 17 always sends it. Servers need it for `sslnegotiation=direct`.
const ALPN: &[u8] = b"postgresql";

/// Creates the TLS connector of the driver.
///
/// Reads the certificate files, and the system's certificates if needed, so call it once per pool. For
/// [`TlsMode::Disable`] it reads nothing, and the connector trusts no certificate, so it cannot be misused.
///
/// # Errors
///
/// [`Unreadable`](crate::config::ConfigErrorKind::Unreadable): when a file cannot be read.
/// [`Invalid`](crate::config::ConfigErrorKind::Invalid): when it contains no certificate or key that can be used. The
/// error contains the file's path.
pub(crate) fn connector(mode: &TlsMode) -> Result<MakeRustlsConnect, ConfigError> {
    let (roots, client) = match mode {
        TlsMode::Disable => (RootCertStore::empty(), None),
        TlsMode::Verify { roots, client } => (root_store(roots)?, client.as_ref()),
    };
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("ring has the cipher suites of TLS 1.2 and 1.3")
        .with_root_certificates(roots);
    let mut config = match client {
        None => builder.with_no_client_auth(),
        Some(ClientCert { certificate, key }) => {
            let chain = certificates(certificate, "sslcert")?;
            let secret = private_key(key)?;
            builder.with_client_auth_cert(chain, secret).map_err(|error| {
                let what = format!(
                    "the key in {} cannot be used with the certificate in {}",
                    key.display(),
                    certificate.display()
                );
                ValueProblem::invalid(what, "Name a certificate and its own key in sslcert and sslkey.")
                    .because(error)
                    .of("sslkey", None)
            })?
        }
    };
    config.alpn_protocols = vec![ALPN.to_vec()];
    Ok(MakeRustlsConnect::new(config))
}

fn root_store(roots: &RootCerts) -> Result<RootCertStore, ConfigError> {
    match roots {
        RootCerts::File(path) => {
            let mut store = RootCertStore::empty();
            for certificate in certificates(path, "sslrootcert")? {
                store.add(certificate).map_err(|error| {
                    let what = format!("the file {} has a certificate that cannot be a root", path.display());
                    ValueProblem::invalid(what, "Name a PEM file with the authority's certificates.")
                        .because(error)
                        .of("sslrootcert", None)
                })?;
            }
            Ok(store)
        }
        RootCerts::System => {
            let native = rustls_native_certs::load_native_certs();
            for error in &native.errors {
                tracing::debug!(%error, "could not read one of the system's certificates");
            }
            Ok(of_system(native.certs))
        }
    }
}

/// Returns the system's certificates. If the system has none, as in minimal container images, returns Mozilla's.
fn of_system(certificates: Vec<CertificateDer<'static>>) -> RootCertStore {
    let mut store = RootCertStore::empty();
    store.add_parsable_certificates(certificates);
    if store.is_empty() {
        store.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    }
    store
}

fn certificates(path: &Path, option: &'static str) -> Result<Vec<CertificateDer<'static>>, ConfigError> {
    let read = || CertificateDer::pem_file_iter(path)?.collect::<Result<Vec<_>, _>>();
    match read() {
        Ok(certificates) if certificates.is_empty() => Err(pem_error(pem::Error::NoItemsFound, path, option)),
        Ok(certificates) => Ok(certificates),
        Err(error) => Err(pem_error(error, path, option)),
    }
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, ConfigError> {
    PrivateKeyDer::from_pem_file(path).map_err(|error| pem_error(error, path, "sslkey"))
}

fn pem_error(error: pem::Error, path: &Path, option: &'static str) -> ConfigError {
    let what = if option == "sslkey" { "private key" } else { "certificate" };
    match error {
        pem::Error::Io(error) => {
            let problem = format!("could not read the file {}", path.display());
            ValueProblem::unreadable(problem, format!("Correct the path in {option}.")).because(error)
        }
        // The error of an invalid section quotes the file. For a key, it must not be shown.
        _ => ValueProblem::invalid(
            format!("the file {} holds no {what} in PEM form", path.display()),
            format!("Name an unencrypted PEM file in {option}."),
        ),
    }
    .of(option, None)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use crate::config::ConfigErrorKind;

    use super::*;

    fn data(name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/tls").join(name)
    }

    fn with_roots(name: &str) -> TlsMode {
        TlsMode::Verify { roots: RootCerts::File(data(name)), client: None }
    }

    fn with_client(certificate: &str, key: &str) -> TlsMode {
        let client = ClientCert { certificate: data(certificate), key: data(key) };
        TlsMode::Verify { roots: RootCerts::File(data("authority.pem")), client: Some(client) }
    }

    #[test]
    fn makes_connectors() {
        let system = TlsMode::Verify { roots: RootCerts::System, client: None };
        for mode in [TlsMode::Disable, system, with_roots("authority.pem"), with_client("authority.pem", "client.key")]
        {
            assert!(connector(&mode).is_ok(), "{mode}");
        }
    }

    #[test]
    fn mozillas_roots_are_trusted_only_if_the_system_has_none() {
        assert!(!root_store(&RootCerts::System).unwrap().is_empty());
        assert_eq!(of_system(Vec::new()).len(), webpki_roots::TLS_SERVER_ROOTS.len());
        assert_eq!(of_system(certificates(&data("authority.pem"), "sslrootcert").unwrap()).len(), 1);
        let unreadable = vec![CertificateDer::from(vec![0; 8])];
        assert_eq!(of_system(unreadable).len(), webpki_roots::TLS_SERVER_ROOTS.len());
    }

    #[test]
    fn names_the_file_that_is_wrong() {
        let cases = [
            (with_roots("absent.pem"), "sslrootcert", ConfigErrorKind::Unreadable, "absent.pem"),
            (with_roots("client.key"), "sslrootcert", ConfigErrorKind::Invalid, "client.key holds no certificate"),
            (with_client("client.key", "client.key"), "sslcert", ConfigErrorKind::Invalid, "holds no certificate"),
            (with_client("authority.pem", "authority.pem"), "sslkey", ConfigErrorKind::Invalid, "no private key"),
            (with_client("authority.pem", "other.key"), "sslkey", ConfigErrorKind::Invalid, "cannot be used with"),
        ];
        for (mode, setting, kind, text) in cases {
            let error = connector(&mode).err().unwrap();
            assert_eq!((error.setting(), error.kind()), (setting, kind), "{error}");
            assert!(error.to_string().contains(text), "{error}");
        }
    }
}
