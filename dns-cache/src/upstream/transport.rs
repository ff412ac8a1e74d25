//! How servers are asked: over TCP, over plain UDP, or over TLS (DoT, RFC 7858).

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::io;
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use crate::config;

/// How a group's servers are asked.
#[derive(Debug, Clone)]
pub enum Transport {
    /// Over TCP connections that are kept.
    Tcp,
    /// By datagrams; what does not fit into one comes over TCP.
    Udp,
    /// Over TLS connections that are kept.
    Tls(Tls),
}

/// The client's side of TLS connections.
#[derive(Clone)]
pub struct Tls {
    connector: tokio_rustls::TlsConnector,
    /// The name in the certificate; without it, the server's address stands there.
    name: Option<ServerName<'static>>,
}

/// Why a group cannot speak TLS.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TlsError {
    /// The file of trusted certificates.
    #[error(
        "{}: no certificates of authorities: {reason}; give tls.caFile a PEM file that the agent may read",
        path.display()
    )]
    CaFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The server's name.
    #[error("tls.serverName: {0:?} is neither a domain name nor an IP address")]
    ServerName(String),
    /// The TLS library.
    #[error("TLS cannot be used: {0}")]
    Library(String),
}

impl Transport {
    /// Reads what the configuration names.
    ///
    /// # Errors
    /// If TLS is wanted and its files cannot be read.
    pub fn new(config: &config::Transport) -> Result<Self, TlsError> {
        match config {
            config::Transport::Tcp => Ok(Self::Tcp),
            config::Transport::Udp => Ok(Self::Udp),
            config::Transport::Tls(tls) => Tls::new(tls).map(Self::Tls),
        }
    }
}

impl Tls {
    fn new(config: &config::Tls) -> Result<Self, TlsError> {
        let wrong = |reason: String| TlsError::CaFile {
            path: config.ca_file.clone(),
            reason,
        };
        let mut roots = RootCertStore::empty();
        let certificates = CertificateDer::pem_file_iter(&config.ca_file)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(|error| wrong(error.to_string()))?;
        // A bundle may hold one that is too old to be read; the others are good.
        let (taken, ignored) = roots.add_parsable_certificates(certificates);
        if taken == 0 {
            return Err(wrong(format!("{ignored} of {ignored} cannot be used")));
        }
        let client = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| TlsError::Library(error.to_string()))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = |name: &String| {
            ServerName::try_from(name.clone()).map_err(|_| TlsError::ServerName(name.clone()))
        };
        Ok(Self {
            connector: Arc::new(client).into(),
            name: config.server_name.as_ref().map(name).transpose()?,
        })
    }

    /// The handshake with the server at `address`.
    pub(super) async fn connect(
        &self,
        address: IpAddr,
        stream: TcpStream,
    ) -> io::Result<TlsStream<TcpStream>> {
        let name = self.name.clone();
        let name = name.unwrap_or_else(|| ServerName::IpAddress(address.into()));
        self.connector.connect(name, stream).await
    }
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tls")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}
