//! Servers for tests: real TCP on loopback, with whatever behaviour a test wants.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use dns_cache_common::header::{Flags, Header};
use dns_cache_common::question::split_question;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// A server that hands each connection, with its number, to a function; it ends when dropped.
pub(crate) struct Fake {
    pub(crate) address: SocketAddr,
    pub(crate) connections: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Fake {
    pub(crate) async fn start<F>(serve: impl Fn(TcpStream, usize) -> F + Send + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        Self::start_at("127.0.0.1:0".parse().unwrap(), serve).await
    }

    pub(crate) async fn start_at<F>(
        address: SocketAddr,
        serve: impl Fn(TcpStream, usize) -> F + Send + 'static,
    ) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&connections);
        let task = tokio::spawn(async move {
            let mut serving = tokio::task::JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                serving.spawn(serve(stream, counted.fetch_add(1, SeqCst)));
            }
        });
        Self {
            address,
            connections,
            task,
        }
    }

    /// A server that answers every query with one address record, and counts them.
    pub(crate) async fn answering() -> (Self, Arc<AtomicUsize>) {
        Self::start_counting(address).await
    }

    /// A server that answers every query by a function, and counts them.
    pub(crate) async fn start_counting(answer: fn(&[u8]) -> Vec<u8>) -> (Self, Arc<AtomicUsize>) {
        let queries = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&queries);
        let serve = move |stream, _| answer_by(stream, Arc::clone(&counted), answer);
        (Self::start(serve).await, queries)
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Answers every query on a connection, until it ends.
pub(crate) async fn answer_all(stream: TcpStream, queries: Arc<AtomicUsize>) {
    answer_by(stream, queries, address).await;
}

async fn answer_by(mut stream: TcpStream, queries: Arc<AtomicUsize>, answer: fn(&[u8]) -> Vec<u8>) {
    while let Some(query) = read(&mut stream).await {
        queries.fetch_add(1, SeqCst);
        write(&mut stream, &answer(&query)).await;
    }
}

/// The server's side of TLS. The certificates are good for a hundred years, for `dns.example` and 127.0.0.1; nobody
/// has the authority's key any more.
pub(crate) fn acceptor() -> TlsAcceptor {
    let certificate = CertificateDer::from_pem_slice(include_bytes!("tests/server.pem")).unwrap();
    let key = PrivateKeyDer::from_pem_slice(include_bytes!("tests/server.key")).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    TlsAcceptor::from(Arc::new(config))
}

/// The next message on a stream.
pub(crate) async fn read(stream: &mut (impl AsyncRead + Unpin)) -> Option<Vec<u8>> {
    let length = stream.read_u16().await.ok()?;
    let mut message = vec![0; length.into()];
    stream.read_exact(&mut message).await.ok()?;
    Some(message)
}

pub(crate) fn frame(message: &[u8]) -> Vec<u8> {
    [
        &u16::try_from(message.len()).unwrap().to_be_bytes()[..],
        message,
    ]
    .concat()
}

pub(crate) async fn write(stream: &mut TcpStream, message: &[u8]) {
    let _ = stream.write_all(&frame(message)).await;
}

/// A response to a query, from its flags, counts and the bytes of its records.
pub(crate) fn respond(query: &[u8], flags: u16, records: [u16; 3], body: &[u8]) -> Vec<u8> {
    let header = Header {
        id: u16::from_be_bytes([query[0], query[1]]),
        flags: Flags(flags),
        questions: 1,
        records,
    };
    let (question, _) = split_question(query).unwrap();
    [&header.bytes()[..], question, body].concat()
}

/// A response with one record: 10.0.0.1, for 20 seconds.
pub(crate) fn address(query: &[u8]) -> Vec<u8> {
    respond(
        query,
        0x8580,
        [1, 0, 0],
        b"\xc0\x0c\0\x01\0\x01\0\0\0\x14\0\x04\x0a\0\0\x01",
    )
}
