//! How servers are asked: over TCP, over plain UDP, or over TLS (DoT, RFC 7858).

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use tokio::io;
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::ServerName;

use crate::config;
use crate::tls::{self, Error as TlsError};

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
        let client = if config.ca_file == Path::new(config::CA_FILE) {
            tls::client_or_public(&config.ca_file)?
        } else {
            tls::client(&config.ca_file)?
        };
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
