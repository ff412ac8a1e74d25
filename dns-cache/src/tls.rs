//! The client's side of TLS: whom to trust.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::{self, PemObject};
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
    with(in_file(ca_file)?.ok_or_else(|| Error::CaFile {
        path: ca_file.to_owned(),
        reason: "there is no such file".to_owned(),
    })?)
}

/// The same, and where there is no such file, those that Mozilla trusts, as they were when this program was built: an image
/// that has nothing but the program has no such file.
pub(crate) fn client_or_public(ca_file: &Path) -> Result<ClientConfig, Error> {
    with(in_file(ca_file)?.unwrap_or_else(|| RootCertStore {
        roots: webpki_roots::TLS_SERVER_ROOTS.to_vec(),
    }))
}

/// The authorities in a PEM file, if it exists.
fn in_file(ca_file: &Path) -> Result<Option<RootCertStore>, Error> {
    let wrong = |reason: String| Error::CaFile {
        path: ca_file.to_owned(),
        reason,
    };
    let certificates =
        CertificateDer::pem_file_iter(ca_file).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let certificates = match certificates {
        Err(pem::Error::Io(error)) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        read => read.map_err(|error| wrong(error.to_string()))?,
    };
    let mut roots = RootCertStore::empty();
    // A bundle may hold one that is too old to be read; the others are good.
    let (taken, ignored) = roots.add_parsable_certificates(certificates);
    if taken == 0 {
        return Err(wrong(format!("{ignored} of {ignored} cannot be used")));
    }
    Ok(Some(roots))
}

fn with(roots: RootCertStore) -> Result<ClientConfig, Error> {
    let client = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::Library(error.to_string()))?;
    Ok(client.with_root_certificates(roots).with_no_client_auth())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The image has no files but the program.
    #[test]
    fn without_the_system_s_file_public_authorities_are_trusted() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ca-certificates.crt");
        assert!(client_or_public(&file).is_ok());
        let error = client(&file).unwrap_err().to_string();
        assert!(error.contains("caFile"), "{error}");
        // One that is there and says nothing is a mistake.
        std::fs::write(&file, "").unwrap();
        assert!(client_or_public(&file).is_err());
    }
}
