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

/// The authority changes hands: its file does, and nothing else.
#[tokio::test]
async fn a_new_file_of_authorities_is_taken_up() {
    let fake = server().await;
    let file = tempfile::NamedTempFile::new().unwrap();
    let write = |pem: &[u8]| std::fs::write(file.path(), pem).unwrap();
    // A certificate, but of nobody who has signed the server's.
    write(include_bytes!("server.pem"));
    let transport = transport(None, file.path().to_str().unwrap()).unwrap();
    let group = Group::new(&[fake.address.into()], transport, patient());
    assert_eq!(ask(&group, "x").await, Err(Failure::Unreachable));
    assert!(!group.renew_authorities().unwrap());
    write(include_bytes!("ca.pem"));
    assert!(group.renew_authorities().unwrap());
    ask(&group, "x").await.unwrap();
    let queries = group.status()[0].queries;
    // What cannot be read changes nothing.
    for pem in [&b""[..], b"-----BEGIN CERTIFICATE-----\nAA"] {
        write(pem);
        assert!(group.renew_authorities().is_err());
        ask(&group, "x").await.unwrap();
    }
    write(include_bytes!("ca.pem"));
    assert!(!group.renew_authorities().unwrap());
    // It is the same server all the while.
    assert_eq!(group.status()[0].queries, queries + 2);
}
