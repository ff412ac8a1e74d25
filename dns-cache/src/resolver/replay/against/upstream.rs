//! The upstream, which says what a file has.

use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::sync::Arc;
use std::thread;

use dns_cache_common::question::{self, KeyParts, Parsed, Transport};

use super::super::upstream::Scripted;
use super::wire::{loopback, read_frame, write_frame};

/// Speaks for the upstream, over UDP and TCP. Its threads end with the test's process.
pub(super) fn serve(script: &Arc<Scripted>) -> io::Result<SocketAddr> {
    let address = loopback();
    let (udp, tcp) = (UdpSocket::bind(address)?, TcpListener::bind(address)?);
    let own = Arc::clone(script);
    thread::spawn(move || {
        let udp = Arc::new(udp);
        let mut buffer = vec![0; 65_535];
        while let Ok((length, client)) = udp.recv_from(&mut buffer) {
            let (query, script, udp) = (
                buffer[..length].to_vec(),
                Arc::clone(&own),
                Arc::clone(&udp),
            );
            thread::spawn(move || {
                if let Some(reply) = reply(&script, &query) {
                    let _ = udp.send_to(&reply, client);
                }
            });
        }
    });
    let own = Arc::clone(script);
    thread::spawn(move || {
        for mut stream in tcp.incoming().flatten() {
            let script = Arc::clone(&own);
            thread::spawn(move || {
                while let Ok(query) = read_frame(&mut stream) {
                    let Some(reply) = reply(&script, &query) else {
                        continue;
                    };
                    if write_frame(&mut stream, &reply).is_err() {
                        return;
                    }
                }
            });
        }
    });
    Ok(address)
}

/// What the file has for a query: with DO and CD as they came, or if it has nothing for that, without; servers set
/// them for purposes of their own.
fn reply(script: &Scripted, message: &[u8]) -> Option<Vec<u8>> {
    let Parsed::Query(query) = question::parse(message, Transport::Tcp) else {
        return None;
    };
    let mut key = KeyParts::read(query.key.as_bytes())?;
    if !script.knows(&key) {
        (key.dnssec_ok, key.checking_disabled) = (false, false);
    }
    let rule = script.rule(&key);
    thread::sleep(rule.after);
    let mut reply = rule.says.message(&key)?;
    reply.get_mut(..2)?.copy_from_slice(&message[..2]);
    // The question as it was asked, whatever the case of its letters.
    reply
        .get_mut(12..12 + query.question.len())?
        .copy_from_slice(query.question);
    Some(reply)
}
