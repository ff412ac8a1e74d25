//! DNS over TLS against rustls's own server.

use std::path::PathBuf;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::super::fake::{Fake, acceptor, address, frame};
use super::*;
use crate::config;

async fn server() -> Fake {
    let acceptor = acceptor();
    Fake::start(move |stream, _| {
        let acceptor = acceptor.clone();
        async move {
            let Ok(mut stream) = acceptor.accept(stream).await else {
                return;
            };
            while let Ok(length) = stream.read_u16().await {
                let mut query = vec![0; length.into()];
                stream.read_exact(&mut query).await.unwrap();
                stream.write_all(&frame(&address(&query))).await.unwrap();
                stream.flush().await.unwrap();
            }
        }
    })
    .await
}

fn transport(server_name: Option<&str>, ca: &str) -> Result<Transport, TlsError> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src/upstream/tests");
    Transport::new(&config::Transport::Tls(config::Tls {
        server_name: server_name.map(str::to_owned),
        ca_file: folder.join(ca),
    }))
}

#[tokio::test]
async fn queries_share_a_tls_connection() {
    let fake = server().await;
    // By name, and by the address that is asked.
    for name in [Some("dns.example"), None] {
        let before = fake.connections.load(SeqCst);
        let transport = transport(name, "ca.pem").unwrap();
        let group = Group::new(&[fake.address.into()], transport, patient());
        let names: Vec<_> = (0..20).map(|i| format!("n{i}")).collect();
        for result in join_all(names.iter().map(|name| ask(&group, name))).await {
            result.unwrap();
        }
        assert_eq!(fake.connections.load(SeqCst), before + 1);
    }
}

#[tokio::test]
async fn a_server_that_is_another_gets_no_query() {
    let fake = server().await;
    let transport = transport(Some("other.example"), "ca.pem").unwrap();
    let group = Group::new(&[fake.address.into()], transport, patient());
    assert_eq!(ask(&group, "x").await, Err(Failure::Unreachable));
}

#[test]
fn files_without_certificates_say_what_to_do() {
    for file in ["none.pem", "server.key"] {
        let error = transport(None, file).unwrap_err().to_string();
        assert!(error.contains(file) && error.contains("caFile"), "{error}");
    }
}
