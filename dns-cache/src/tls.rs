//! The client's side of TLS: whom to trust.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

/// Why TLS cannot be spoken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The file of trusted certificates.
    #[error(
        "{}: no certificates of authorities: {reason}; give caFile a PEM file that the agent may read",
        path.display()
    )]
    CaFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The server's name.
    #[error("{0:?} as a TLS server's name is neither a domain name nor an IP address")]
    ServerName(String),
    /// The TLS library.
    #[error("TLS cannot be used: {0}")]
    Library(String),
}

/// A client that trusts the authorities whose certificates stand in a PEM file.
pub(crate) fn client(ca_file: &Path) -> Result<ClientConfig, Error> {
    let wrong = |reason: String| Error::CaFile {
        path: ca_file.to_owned(),
        reason,
    };
    let mut roots = RootCertStore::empty();
    let certificates = CertificateDer::pem_file_iter(ca_file)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| wrong(error.to_string()))?;
    // A bundle may hold one that is too old to be read; the others are good.
    let (taken, ignored) = roots.add_parsable_certificates(certificates);
    if taken == 0 {
        return Err(wrong(format!("{ignored} of {ignored} cannot be used")));
    }
    let client = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::Library(error.to_string()))?;
    Ok(client.with_root_certificates(roots).with_no_client_auth())
}
