//! Requests to the API server: HTTP/1.1 over TLS, a connection for each.

use std::env;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header::{ACCEPT, AUTHORIZATION, HOST, HeaderValue, USER_AGENT};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;

use crate::config::{ApiServer, Kubernetes};
use crate::tls;

/// From the first packet to the response's head.
const ANSWER: Duration = Duration::from_secs(10);
/// Of TCP: a server that vanished without a word is found.
const KEEPALIVE: Duration = Duration::from_secs(30);
/// Larger bodies are no EndpointSlices of one Service.
const MOST_BYTES: usize = 16 << 20;

/// Why a request has no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error(
        "no API server is known: KUBERNETES_SERVICE_HOST is not set, as it is for a pod; give kubernetes.apiServer"
    )]
    NoServer,
    #[error("{}: {reason}; give kubernetes.tokenFile the service account's token", path.display())]
    Token { path: PathBuf, reason: String },
    #[error(transparent)]
    Tls(#[from] tls::Error),
    #[error("the API server at {0} cannot be reached: {1}")]
    Unreachable(String, io::Error),
    #[error("the API server does not answer")]
    Silent,
    #[error("HTTP with the API server: {0}")]
    Http(#[from] hyper::Error),
    #[error("the API server says {code}: {message}")]
    Refused { code: u16, message: String },
    /// What was to be continued from is not kept any more.
    #[error("the API server has forgotten where the watch stood")]
    Gone,
    #[error("the API server sends what cannot be read: {0}")]
    Json(#[from] serde_json::Error),
    #[error("the API server sends more than {MOST_BYTES} bytes")]
    TooLarge,
}

/// What the API server says instead of an answer (`metav1.Status`).
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Status {
    code: u16,
    message: String,
}

impl From<Status> for Error {
    fn from(Status { code, message }: Status) -> Self {
        match code {
            410 => Self::Gone,
            _ => Self::Refused { code, message },
        }
    }
}

impl Error {
    /// Whether the same request would be answered like that for ever: one watch must not begin where the last one broke off.
    pub(super) fn is_lasting(&self) -> bool {
        match self {
            Self::Gone | Self::Json(_) | Self::TooLarge => true,
            // But for too many requests: a list would be one more.
            Self::Refused { code, .. } => (400..500).contains(code) && *code != 429,
            _ => false,
        }
    }
}

/// Where the API server is and who we are.
#[derive(Debug)]
pub(super) struct Client {
    server: Option<ApiServer>,
    ca_file: PathBuf,
    token_file: PathBuf,
}

/// A response's body as it comes.
#[derive(Debug)]
pub(super) struct Body {
    incoming: Incoming,
    /// Drives the connection; ends with the body.
    _connection: JoinSet<()>,
}

impl Client {
    pub(super) fn new(config: &Kubernetes) -> Self {
        Self {
            server: config.api_server.clone().or_else(in_cluster),
            ca_file: config.ca_file.clone(),
            token_file: config.token_file.clone(),
        }
    }

    /// The object or list at `path`.
    pub(super) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Error> {
        let mut body = self.open(path).await?;
        let mut text = BytesMut::new();
        while let Some(chunk) = body.chunk(ANSWER).await? {
            if text.len() + chunk.len() > MOST_BYTES {
                return Err(Error::TooLarge);
            }
            text.extend_from_slice(&chunk);
        }
        Ok(serde_json::from_slice(&text)?)
    }

    /// A successful response to `GET path`.
    pub(super) async fn open(&self, path: &str) -> Result<Body, Error> {
        let answer = timeout(ANSWER, self.request(path));
        let (status, mut body) = answer.await.map_err(|_| Error::Silent)??;
        if status == StatusCode::OK {
            return Ok(body);
        }
        let text = body.chunk(ANSWER).await?.unwrap_or_default();
        let said = serde_json::from_slice(&text).unwrap_or_else(|_| Status::default());
        Err(Status {
            code: status.as_u16(),
            ..said
        }
        .into())
    }

    async fn request(&self, path: &str) -> Result<(StatusCode, Body), Error> {
        let server = self.server.as_ref().ok_or(Error::NoServer)?;
        let unreachable = |error| Error::Unreachable(authority(server), error);
        let stream = connect(server).await.map_err(unreachable)?;
        let mut request = Request::get(path)
            .header(HOST, authority(server))
            .header(ACCEPT, "application/json")
            .header(USER_AGENT, concat!("dns-cache/", env!("CARGO_PKG_VERSION")))
            .body(Empty::<Bytes>::new())
            // Path and headers are made of names that the configuration's rules let through.
            .map_err(|error| unreachable(io::Error::other(error)))?;
        if !server.tls {
            return exchange(stream, request).await;
        }
        let name = ServerName::try_from(server.host.clone())
            .map_err(|_| tls::Error::ServerName(server.host.clone()))?;
        let connector = TlsConnector::from(Arc::new(tls::client(&self.ca_file)?));
        request.headers_mut().insert(AUTHORIZATION, self.token()?);
        let stream = connector.connect(name, stream).await.map_err(unreachable)?;
        exchange(stream, request).await
    }

    /// Read each time: the kubelet replaces it before it expires.
    fn token(&self) -> Result<HeaderValue, Error> {
        let wrong = |reason: String| Error::Token {
            path: self.token_file.clone(),
            reason,
        };
        let token = std::fs::read_to_string(&self.token_file).map_err(|e| wrong(e.to_string()))?;
        let mut header = HeaderValue::try_from(format!("Bearer {}", token.trim()))
            .map_err(|error| wrong(error.to_string()))?;
        header.set_sensitive(true);
        Ok(header)
    }
}

impl Body {
    /// The next piece; `None` at the end. One that does not come in time is an error.
    pub(super) async fn chunk(&mut self, patience: Duration) -> Result<Option<Bytes>, Error> {
        loop {
            let frame = timeout(patience, self.incoming.frame());
            match frame.await.map_err(|_| Error::Silent)?.transpose()? {
                None => return Ok(None),
                // Trailers say nothing to us.
                Some(frame) => {
                    if let Ok(data) = frame.into_data() {
                        return Ok(Some(data));
                    }
                }
            }
        }
    }
}

/// As the kubelet tells every pod.
fn in_cluster() -> Option<ApiServer> {
    let variable = |name| env::var(name).ok().filter(|value| !value.is_empty());
    Some(ApiServer {
        tls: true,
        host: variable("KUBERNETES_SERVICE_HOST")?,
        port: variable("KUBERNETES_SERVICE_PORT").map_or(Some(443), |port| port.parse().ok())?,
    })
}

/// `HOST:PORT`, an IPv6 address in brackets.
fn authority(ApiServer { host, port, .. }: &ApiServer) -> String {
    match host.contains(':') {
        true => format!("[{host}]:{port}"),
        false => format!("{host}:{port}"),
    }
}

async fn connect(server: &ApiServer) -> io::Result<TcpStream> {
    let stream = TcpStream::connect((server.host.as_str(), server.port)).await?;
    let keepalive = TcpKeepalive::new()
        .with_time(KEEPALIVE)
        .with_interval(KEEPALIVE / 3);
    SockRef::from(&stream).set_tcp_keepalive(&keepalive)?;
    Ok(stream)
}

async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    request: Request<Empty<Bytes>>,
) -> Result<(StatusCode, Body), Error> {
    let (mut sender, driven) = http1::handshake(TokioIo::new(stream)).await?;
    let mut connection = JoinSet::new();
    connection.spawn(async move {
        // Its errors are the body's as well.
        let _ = driven.await;
    });
    let response = sender.send_request(request).await?;
    let status = response.status();
    let body = Body {
        incoming: response.into_body(),
        _connection: connection,
    };
    Ok((status, body))
}
