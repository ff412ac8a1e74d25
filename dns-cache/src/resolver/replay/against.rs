//! The files that are marked `common`, played against real Unbound or CoreDNS: what they expect is not only ours.
//!
//! The clock is the machine's, and the upstream a real one on this machine's loopback. AA and Extended DNS Errors are left
//! out of the comparison, as are RA of a refusal and what is in a truncated reply: each server has its own rule for
//! them. A TTL may be a second less or more.

use std::collections::hash_map::RandomState;
use std::env;
use std::fmt::Write as _;
use std::fs;
use std::hash::BuildHasher;
use std::io::{self, Read, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use dns_cache_common::question::{self, KeyParts, Parsed, Transport};

use super::message::Reply;
use super::script::{Ask, Expected, Script, Step};
use super::upstream::Scripted;
use super::{Wrong, equal, files};

/// Whom to play against: `unbound`, `coredns`, or both.
const AGAINST: &str = "DNS_CACHE_AGAINST";
const TOOLS: &str = "DNS_CACHE_TOOLS";
const PORT: u16 = 5300;
/// A file may move the clock so far: it takes that long.
const LONGEST: Duration = Duration::from_secs(4);
const PATIENCE: Duration = Duration::from_secs(3);
/// After this, silence is silence; and what was to be asked of the upstream has been.
const QUIET: Duration = Duration::from_millis(200);

/// A server that forwards everything to the upstream, with an empty cache; killed at the end.
struct Server {
    child: Child,
    address: SocketAddr,
    _folder: tempfile::TempDir,
}

impl Server {
    /// Starts it; it keeps denials for so many seconds.
    fn start(name: &str, upstream: SocketAddr, negative: u32) -> io::Result<Self> {
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
    fn exchange(&self, ask: &Ask) -> io::Result<Option<Vec<u8>>> {
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

/// An address of this machine's loopback that nobody else has.
fn loopback() -> SocketAddr {
    let [_, a, b, c, ..] = RandomState::new().hash_one(()).to_ne_bytes();
    SocketAddr::new([127, a | 1, b, c | 1].into(), PORT)
}

fn tools() -> PathBuf {
    env::var_os(TOOLS).map_or_else(
        || env::home_dir().unwrap().join(".cache/dns-cache/tools"),
        PathBuf::from,
    )
}

fn read_frame(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut length = [0; 2];
    stream.read_exact(&mut length)?;
    let mut message = vec![0; u16::from_be_bytes(length).into()];
    stream.read_exact(&mut message)?;
    Ok(message)
}

fn write_frame(stream: &mut TcpStream, message: &[u8]) -> io::Result<()> {
    let length = u16::try_from(message.len()).map_err(io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes(), message].concat())
}

/// Speaks for the upstream, over UDP and TCP. Its threads end with the test's process.
fn serve(script: &Arc<Scripted>) -> io::Result<SocketAddr> {
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

fn play(script: &Script, name: &str) -> Result<(), Wrong> {
    if !script.config.is_empty() {
        return Err((1, "a common file cannot have settings of ours".to_owned()));
    }
    let upstream = Arc::<Scripted>::default();
    let wrong = |error: io::Error| (1, error.to_string());
    let address = serve(&upstream).map_err(wrong)?;
    let server = Server::start(name, address, negative_cap(script)).map_err(wrong)?;
    let began = Instant::now();
    for (line, step) in &script.steps {
        let result = match step {
            Step::At(time) if *time > LONGEST => {
                Err("a common file cannot wait so long".to_owned())
            }
            Step::At(time) => {
                thread::sleep(time.saturating_sub(began.elapsed()));
                Ok(())
            }
            Step::Upstream(rule) => {
                upstream.learn(rule.clone());
                Ok(())
            }
            Step::Asked(expected) => {
                thread::sleep(QUIET);
                equal("the upstream was asked", &upstream.take_asked(), expected)
            }
            Step::Ask(ask) => thread::scope(|scope| {
                let clients: Vec<_> = (0..ask.clients)
                    .map(|_| scope.spawn(|| check(&server, ask)))
                    .collect();
                clients
                    .into_iter()
                    .try_for_each(|client| client.join().unwrap())
            }),
        };
        result.map_err(|what| (*line, what))?;
    }
    Ok(())
}

/// As our defaults have it: a file speaks either of the cluster's zones or of others.
fn negative_cap(script: &Script) -> u32 {
    let of_the_cluster = script.steps.iter().any(|(_, step)| match step {
        Step::Upstream(rule) => ["cluster.local.", "in-addr.arpa."]
            .iter()
            .any(|zone| rule.question.contains(zone)),
        _ => false,
    });
    if of_the_cluster { 5 } else { 30 }
}

fn check(server: &Server, ask: &Ask) -> Result<(), String> {
    let Some(reply) = server.exchange(ask).map_err(|error| error.to_string())? else {
        return Ok(());
    };
    if reply.len() > ask.limit() {
        return Err(format!("{} bytes are too many", reply.len()));
    }
    let reply = Reply::read(&reply, &ask.query)?;
    let Expected {
        summary,
        counts,
        records,
        ..
    } = &ask.expected;
    equal("reply", &common(&reply.summary), &common(summary))?;
    match counts {
        // How much of it is given besides is not said.
        _ if summary.ends_with(" tc") => Ok(()),
        Some(counts) => equal("records", &reply.counts, counts),
        None if same(&reply.records, records) => Ok(()),
        None => equal("records", &reply.records, records),
    }
}

/// The part of a reply's summary that is compared.
fn common(summary: &str) -> Vec<&str> {
    let is_answer = ["NOERROR", "NXDOMAIN", "SERVFAIL"]
        .contains(&summary.split(' ').next().unwrap_or_default());
    let words = summary.split(' ');
    words
        .filter(|word| *word != "aa" && !word.starts_with("ede=") && (is_answer || *word != "ra"))
        .collect()
}

/// Whether these are the same records, but for a second of their TTLs.
fn same(found: &[String], expected: &[String]) -> bool {
    let parts = |record: &String| -> Option<(u32, Vec<String>)> {
        let mut words: Vec<_> = record.split(' ').map(str::to_owned).collect();
        let ttl = words.get(2)?.parse().ok()?;
        words.remove(2);
        Some((ttl, words))
    };
    let sorted = |records: &[String]| {
        let mut all: Vec<_> = records.iter().filter_map(parts).collect();
        all.sort_by(|one, other| one.1.cmp(&other.1));
        all
    };
    let (found, expected) = (sorted(found), sorted(expected));
    let pairs = found.iter().zip(&expected);
    found.len() == expected.len()
        && pairs
            .into_iter()
            .all(|(one, other)| one.1 == other.1 && one.0.abs_diff(other.0) <= 1)
}

/// All marked files against this server, some at a time.
fn play_all(name: &str) -> (usize, String) {
    let marked: Vec<_> = files()
        .into_iter()
        .filter_map(|path| {
            let text = fs::read_to_string(&path).unwrap();
            let script = Script::read(&text).unwrap_or_else(|wrong| panic!("{wrong:?}"));
            script
                .common
                .iter()
                .any(|common| common == name)
                .then_some((path, script))
        })
        .collect();
    let mut wrong = String::new();
    for some in marked.chunks(8) {
        thread::scope(|scope| {
            let playing: Vec<_> = some
                .iter()
                .map(|(path, script)| (path, scope.spawn(|| play(script, name))))
                .collect();
            for (path, playing) in playing {
                if let Err((line, what)) = playing.join().unwrap() {
                    let file = path.file_name().map(Path::new).unwrap_or(path);
                    let _ = writeln!(wrong, "{}:{line}: {name}: {what}", file.display());
                }
            }
        });
    }
    (marked.len(), wrong)
}

#[test]
fn common_files_hold_against_other_servers() {
    let servers = env::var(AGAINST).unwrap_or_else(|_| "unbound".to_owned());
    for name in servers.split_whitespace() {
        let (count, wrong) = play_all(name);
        println!("{count} files against {name}");
        assert!(
            count >= 20,
            "{count} files are marked as common with {name}"
        );
        assert!(wrong.is_empty(), "\n{wrong}");
    }
}
