//! How servers are asked: over TCP, over plain UDP, or over TLS (DoT, RFC 7858).

use std::hash::{DefaultHasher, Hash, Hasher};
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
    /// The same, but by datagrams where there is no connection to be had with a server that has never answered over one:
    /// nobody has said that it takes them.
    TcpOrUdp,
    /// By datagrams; what does not fit into one comes over TCP.
    Udp,
    /// Over TLS connections that are kept.
    Tls(Tls),
}

/// The client's side of TLS connections.
#[derive(Clone)]
pub struct Tls {
    config: config::Tls,
    /// Of what stood in the file of authorities.
    digest: u64,
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
            config::Transport::Tls(tls) => {
                let pem = authorities(tls)?;
                Tls::new(tls, pem.as_deref()).map(Self::Tls)
            }
        }
    }

    /// The same with the authorities that stand in the file by now; `None` if nothing has changed.
    pub(super) fn renewed(&self) -> Result<Option<Self>, TlsError> {
        let Self::Tls(tls) = self else {
            return Ok(None);
        };
        let pem = authorities(&tls.config)?;
        match digest(pem.as_deref()) == tls.digest {
            true => Ok(None),
            false => Tls::new(&tls.config, pem.as_deref()).map(|tls| Some(Self::Tls(tls))),
        }
    }
}

impl Tls {
    fn new(config: &config::Tls, pem: Option<&[u8]>) -> Result<Self, TlsError> {
        let client = tls::client_or_public(pem, &config.ca_file)?;
        let name = |name: &String| {
            ServerName::try_from(name.clone()).map_err(|_| TlsError::ServerName(name.clone()))
        };
        Ok(Self {
            config: config.clone(),
            digest: digest(pem),
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

/// What stands in the file of authorities; only the system's own may be missing.
fn authorities(tls: &config::Tls) -> Result<Option<Vec<u8>>, TlsError> {
    let pem = tls::read(&tls.ca_file)?;
    match pem.is_some() || tls.ca_file == Path::new(config::CA_FILE) {
        true => Ok(pem),
        false => Err(tls::no_file(&tls.ca_file)),
    }
}

/// Tells one file from another; nobody gains by two that look the same.
fn digest(pem: Option<&[u8]>) -> u64 {
    let mut hasher = DefaultHasher::new();
    pem.hash(&mut hasher);
    hasher.finish()
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tls")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}
