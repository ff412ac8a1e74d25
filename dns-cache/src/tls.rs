//! The client's side of TLS: whom to trust.

use std::fs;
use std::io;
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
    let pem = read(ca_file)?.ok_or_else(|| no_file(ca_file))?;
    with(authorities(&pem, ca_file)?)
}

/// The same for what was [`read`] of the file, and where there is none, those that Mozilla trusts, as they were when this
/// program was built: an image that has nothing but the program has no such file.
pub(crate) fn client_or_public(pem: Option<&[u8]>, ca_file: &Path) -> Result<ClientConfig, Error> {
    with(match pem {
        Some(pem) => authorities(pem, ca_file)?,
        None => RootCertStore {
            roots: webpki_roots::TLS_SERVER_ROOTS.to_vec(),
        },
    })
}

/// What stands in a file of authorities, if it exists.
pub(crate) fn read(ca_file: &Path) -> Result<Option<Vec<u8>>, Error> {
    match fs::read(ca_file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        read => read
            .map(Some)
            .map_err(|error| wrong(ca_file, error.to_string())),
    }
}

pub(crate) fn no_file(ca_file: &Path) -> Error {
    wrong(ca_file, "there is no such file".to_owned())
}

fn authorities(pem: &[u8], ca_file: &Path) -> Result<RootCertStore, Error> {
    let mut roots = RootCertStore::empty();
    let certificates = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| wrong(ca_file, error.to_string()))?;
    // A bundle may hold one that is too old to be read; the others are good.
    let (taken, ignored) = roots.add_parsable_certificates(certificates);
    if taken == 0 {
        let reason = format!("{ignored} of {ignored} cannot be used");
        return Err(wrong(ca_file, reason));
    }
    Ok(roots)
}

fn with(roots: RootCertStore) -> Result<ClientConfig, Error> {
    let client = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::Library(error.to_string()))?;
    Ok(client.with_root_certificates(roots).with_no_client_auth())
}

fn wrong(ca_file: &Path, reason: String) -> Error {
    Error::CaFile {
        path: ca_file.to_owned(),
        reason,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The image has no files but the program.
    #[test]
    fn without_the_system_s_file_public_authorities_are_trusted() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ca-certificates.crt");
        let or_public = || client_or_public(read(&file).unwrap().as_deref(), &file);
        assert!(or_public().is_ok());
        let error = client(&file).unwrap_err().to_string();
        assert!(error.contains("caFile"), "{error}");
        // One that is there and says nothing is a mistake.
        fs::write(&file, "").unwrap();
        assert!(or_public().is_err());
    }
}
