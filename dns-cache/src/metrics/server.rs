//! HTTP/1.1 for the few who ask: Prometheus, the kubelet, a person with curl.

use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use nix::errno::Errno;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::{sleep, timeout};
use tracing::{debug, warn};

use super::Exposition;

/// Connections at once; one more is closed unread.
const MOST_CONNECTIONS: usize = 32;
/// Connections that wait to be accepted.
const BACKLOG: i32 = 128;
/// For a request's head to come.
const HEAD: Duration = Duration::from_secs(5);
/// For a whole connection, whatever it does: scrapers come back.
const CONNECTION: Duration = Duration::from_secs(60);
/// Bytes of a request's head; hyper's least.
const BUFFER: usize = 8 * 1024;
/// Before the next accept when descriptors have run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Who knows what is asked for here. Both may take a while.
pub trait Source: Send + Sync + 'static {
    /// Writes every metric.
    fn scrape(&self, out: &mut Exposition);

    /// Why pods cannot be served; nothing if they can.
    fn not_ready(&self) -> Vec<String>;
}

/// Why there is no endpoint.
#[derive(Debug, thiserror::Error)]
#[error("metrics.listen {address}: {reason}; give another address and port there, or off")]
pub struct Error {
    address: SocketAddr,
    reason: io::Error,
}

/// The endpoint's socket.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
}

impl Server {
    /// Opens the socket, in this thread's network namespace. At `[::]` it is IPv4's as well, whatever the system's
    /// default (`net.ipv6.bindv6only`), and IPv4's alone where the kernel has no IPv6.
    ///
    /// # Errors
    /// If the system refuses, as when the port is taken.
    pub fn bind(address: SocketAddr) -> Result<Self, Error> {
        let bound = match listen(address) {
            Err(error) if has_no_ipv6(&error) && is_any_ipv6(address) => {
                listen((Ipv4Addr::UNSPECIFIED, address.port()).into())
            }
            bound => bound,
        };
        match bound.and_then(TcpListener::from_std) {
            Ok(listener) => Ok(Self { listener }),
            Err(reason) => Err(Error { address, reason }),
        }
    }

    /// The socket of another agent if it listens at this address; a new one otherwise. One for all of IPv4 is kept for all
    /// of both families too: the other agent has it still, so that nothing else can be opened beside it.
    ///
    /// # Errors
    /// If it cannot be watched, or the system refuses a new one.
    pub fn inherit(listener: std::net::TcpListener, address: SocketAddr) -> Result<Self, Error> {
        let found = listener.local_addr();
        let all_of_ipv4 = SocketAddr::from((Ipv4Addr::UNSPECIFIED, address.port()));
        let will_do = |found| found == address || (is_any_ipv6(address) && found == all_of_ipv4);
        if !found.is_ok_and(will_do) {
            return Self::bind(address);
        }
        match TcpListener::from_std(listener) {
            Ok(listener) => Ok(Self { listener }),
            Err(reason) => Err(Error { address, reason }),
        }
    }

    /// The socket once more, for [`Self::inherit`] in another process.
    ///
    /// # Errors
    /// If there are no more descriptors.
    pub fn duplicate(&self) -> io::Result<std::net::TcpListener> {
        let descriptor = self.listener.as_fd().try_clone_to_owned()?;
        Ok(descriptor.into())
    }

    /// The address it listens at.
    ///
    /// # Errors
    /// If the system refuses to say.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Answers until the task is aborted; its connections end with it.
    pub async fn run(self, source: Arc<dyn Source>) {
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                Some(_) = connections.join_next() => {}
                accepted = self.listener.accept() => match accepted {
                    Ok((stream, _)) if connections.len() < MOST_CONNECTIONS => {
                        connections.spawn(serve(stream, Arc::clone(&source)));
                    }
                    Ok(_) => debug!("too many connections to the metrics endpoint"),
                    Err(error) => {
                        warn!(%error, "the metrics endpoint does not accept");
                        sleep(ACCEPT_PAUSE).await;
                    }
                },
            }
        }
    }
}

fn listen(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM.nonblocking(),
        Some(Protocol::TCP),
    )?;
    if is_any_ipv6(address) {
        socket.set_only_v6(false)?;
    }
    // The connections of an agent that has just ended do not keep the next one from its port.
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

fn is_any_ipv6(address: SocketAddr) -> bool {
    address.is_ipv6() && address.ip().is_unspecified()
}

/// As with `ipv6.disable=1` on the kernel's command line.
fn has_no_ipv6(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::EAFNOSUPPORT as i32)
}

async fn serve(stream: TcpStream, source: Arc<dyn Source>) {
    let service = service_fn(move |request| {
        let source = Arc::clone(&source);
        async move { Ok::<_, Infallible>(respond(&request, source).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_buf_size(BUFFER)
        .serve_connection(TokioIo::new(stream), service);
    if let Ok(Err(error)) = timeout(CONNECTION, connection).await {
        debug!(%error, "a connection to the metrics endpoint ended");
    }
}

async fn respond(request: &Request<Incoming>, source: Arc<dyn Source>) -> Response<Full<Bytes>> {
    let plain = "text/plain; charset=utf-8";
    if ![Method::GET, Method::HEAD].contains(request.method()) {
        let mut response = response(
            StatusCode::METHOD_NOT_ALLOWED,
            plain,
            "GET or HEAD\n".to_owned(),
        );
        let allowed = HeaderValue::from_static("GET, HEAD");
        response.headers_mut().insert(ALLOW, allowed);
        return response;
    }
    match request.uri().path() {
        "/metrics" => {
            let scraped = spawn_blocking(move || {
                let mut out = Exposition::default();
                source.scrape(&mut out);
                out.finish()
            });
            match scraped.await {
                Ok(text) => response(
                    StatusCode::OK,
                    "text/plain; version=0.0.4; charset=utf-8",
                    text,
                ),
                Err(error) => {
                    let text = format!("{error}\n");
                    response(StatusCode::INTERNAL_SERVER_ERROR, plain, text)
                }
            }
        }
        "/health" => response(StatusCode::OK, plain, "OK\n".to_owned()),
        "/ready" => {
            let reasons = spawn_blocking(move || source.not_ready()).await;
            match reasons.unwrap_or_else(|error| vec![error.to_string()]) {
                none if none.is_empty() => response(StatusCode::OK, plain, "OK\n".to_owned()),
                reasons => {
                    let text = format!("{}\n", reasons.join("\n"));
                    response(StatusCode::SERVICE_UNAVAILABLE, plain, text)
                }
            }
        }
        _ => {
            let text = "/metrics, /health and /ready are here\n".to_owned();
            response(StatusCode::NOT_FOUND, plain, text)
        }
    }
}

fn response(status: StatusCode, content: &'static str, text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    let content = HeaderValue::from_static(content);
    response.headers_mut().insert(CONTENT_TYPE, content);
    response
}
