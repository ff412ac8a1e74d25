//! The real server that a file is played against.

use std::env;
use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use dns_cache_common::question::Transport;

use super::super::script::Ask;
use super::wire::{PORT, loopback, read_frame, write_frame};
use super::{AGAINST, QUIET};

const TOOLS: &str = "DNS_CACHE_TOOLS";
const PATIENCE: Duration = Duration::from_secs(3);

/// A server that forwards everything to the upstream, with an empty cache; killed at the end.
pub(super) struct Server {
    child: Child,
    address: SocketAddr,
    _folder: tempfile::TempDir,
}

impl Server {
    /// Starts it; it keeps denials for so many seconds.
    pub(super) fn start(name: &str, upstream: SocketAddr, negative: u32) -> io::Result<Self> {
        let folder = tempfile::tempdir()?;
        let address = loopback();
        let (ip, dir) = (address.ip(), folder.path().display());
        let (program, args, file, text): (_, &[&str], _, _) = match name {
            "unbound" => (
                PathBuf::from("/usr/sbin/unbound"),
                &["-c"],
                "unbound.conf",
                format!(
                    "server:\n  interface: {ip}@{PORT}\n  do-daemonize: no\n  use-syslog: no\n  logfile: \"\"\n  \
                     username: \"\"\n  chroot: \"\"\n  pidfile: \"\"\n  directory: \"{dir}\"\n  module-config: iterator\n  \
                     do-not-query-localhost: no\n  access-control: 127.0.0.0/8 allow\n  cache-max-ttl: 30\n  \
                     unknown-server-time-limit: 3000\n  \
                     cache-max-negative-ttl: {negative}\n  minimal-responses: no\n  max-udp-size: 1232\n  \
                     local-zone: \"in-addr.arpa.\" nodefault\n  local-zone: \"10.in-addr.arpa.\" nodefault\n\
                     remote-control:\n  control-enable: no\n\
                     forward-zone:\n  name: \".\"\n  forward-addr: {}@{PORT}\n",
                    upstream.ip()
                ),
            ),
            "coredns" => (
                tools().join("bin/coredns"),
                &["-conf"],
                "Corefile",
                format!(
                    ".:{PORT} {{\n  bind {ip}\n  cache {{\n    success 1000 30 0\n    denial 1000 {negative} 0\n  }}\n  \
                     forward . {upstream}\n}}\n"
                ),
            ),
            other => panic!("{AGAINST} names {other:?}; known are unbound and coredns"),
        };
        let path = folder.path().join(file);
        fs::write(&path, text)?;
        let child = Command::new(&program)
            .args(args)
            .arg(&path)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| {
                panic!(
                    "{}: {error}; `cargo xtask setup` installs it",
                    program.display()
                )
            });
        let server = Self {
            child,
            address,
            _folder: folder,
        };
        let end = Instant::now() + 5 * PATIENCE;
        while let Err(error) = TcpStream::connect(address) {
            if Instant::now() > end {
                return Err(error);
            }
            thread::sleep(Duration::from_millis(5));
        }
        Ok(server)
    }

    /// What is replied to a query; `None` if nothing is.
    pub(super) fn exchange(&self, ask: &Ask) -> io::Result<Option<Vec<u8>>> {
        let silent = ask.expected.summary == "silence";
        let patience = Some(if silent { QUIET } else { PATIENCE });
        let result = match ask.transport {
            Transport::Udp => self.datagram(&ask.query, patience),
            Transport::Tcp => self.stream(&ask.query, patience),
        };
        match result {
            Err(error) if silent && error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            result => result.map(Some),
        }
    }

    fn datagram(&self, query: &[u8], patience: Option<Duration>) -> io::Result<Vec<u8>> {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        socket.connect(self.address)?;
        socket.set_read_timeout(patience)?;
        let mut buffer = vec![0; 65_535];
        loop {
            socket.send(query)?;
            match socket.recv(&mut buffer) {
                // It listens over TCP only, yet.
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                    thread::sleep(Duration::from_millis(5));
                }
                result => return result.map(|length| buffer[..length].to_vec()),
            }
        }
    }

    fn stream(&self, query: &[u8], patience: Option<Duration>) -> io::Result<Vec<u8>> {
        let mut stream = TcpStream::connect(self.address)?;
        stream.set_read_timeout(patience)?;
        write_frame(&mut stream, query)?;
        read_frame(&mut stream)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn tools() -> PathBuf {
    env::var_os(TOOLS).map_or_else(
        || env::home_dir().unwrap().join(".cache/dns-cache/tools"),
        PathBuf::from,
    )
}
