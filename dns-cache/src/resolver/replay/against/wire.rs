//! Messages over this machine's loopback.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};

/// Where everybody listens.
pub(super) const PORT: u16 = 5300;

/// An address of this machine's loopback that nobody else has.
pub(super) fn loopback() -> SocketAddr {
    let [_, a, b, c, ..] = RandomState::new().hash_one(()).to_ne_bytes();
    SocketAddr::new([127, a | 1, b, c | 1].into(), PORT)
}

pub(super) fn read_frame(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut length = [0; 2];
    stream.read_exact(&mut length)?;
    let mut message = vec![0; u16::from_be_bytes(length).into()];
    stream.read_exact(&mut message)?;
    Ok(message)
}

pub(super) fn write_frame(stream: &mut TcpStream, message: &[u8]) -> io::Result<()> {
    let length = u16::try_from(message.len()).map_err(io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes(), message].concat())
}
