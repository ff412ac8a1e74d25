//! A cluster DNS that hands every query to a server outside the lab, as bytes.
//!
//! Its listeners belong to a namespace of the lab, its upstream sockets to the one it was started in.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::runtime::Runtime;
use tokio::time::timeout;

use crate::embedded::{listen, runtime};
use crate::netns::Netns;
use crate::or_panic::OrPanic;

/// A running relay. Dropping it stops it.
#[derive(Debug)]
pub(crate) struct Relay {
    runtime: Option<Runtime>,
}

impl Relay {
    /// Starts it in the namespace.
    #[must_use]
    pub(crate) fn start(netns: &Netns, server: SocketAddr) -> Self {
        let (udp, tcp) = listen(netns);
        let runtime = runtime();
        let guard = runtime.enter();
        let udp = Arc::new(UdpSocket::from_std(udp).or_panic("taking over a UDP socket"));
        let tcp = TcpListener::from_std(tcp).or_panic("taking over a TCP socket");
        drop(guard);
        runtime.spawn(relay_udp(udp, server));
        runtime.spawn(relay_tcp(tcp, server));
        Self {
            runtime: Some(runtime),
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_timeout(Duration::from_secs(1));
        }
    }
}

async fn relay_udp(listener: Arc<UdpSocket>, server: SocketAddr) {
    let mut buffer = vec![0; 65_535];
    while let Ok((length, client)) = listener.recv_from(&mut buffer).await {
        let query = buffer[..length].to_vec();
        let listener = Arc::clone(&listener);
        tokio::spawn(async move {
            // A server that is silent is silence for the client, too.
            if let Ok(Ok(answer)) = timeout(Duration::from_secs(5), ask(&query, server)).await {
                let _ = listener.send_to(&answer, client).await;
            }
        });
    }
}

async fn ask(query: &[u8], server: SocketAddr) -> io::Result<Vec<u8>> {
    let any = if server.is_ipv4() {
        "0.0.0.0:0"
    } else {
        "[::]:0"
    };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(server).await?;
    socket.send(query).await?;
    let mut answer = vec![0; 65_535];
    let length = socket.recv(&mut answer).await?;
    answer.truncate(length);
    Ok(answer)
}

async fn relay_tcp(listener: TcpListener, server: SocketAddr) {
    while let Ok((mut client, _)) = listener.accept().await {
        tokio::spawn(async move {
            if let Ok(mut upstream) = TcpStream::connect(server).await {
                let _ = copy_bidirectional(&mut client, &mut upstream).await;
            }
        });
    }
}
