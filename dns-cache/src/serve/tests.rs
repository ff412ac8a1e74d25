//! Real sockets on loopback, from the client's query to its reply.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};

use super::tcp::RECEIVE_BUFFER;
use super::*;
use crate::config::Config;
use crate::resolver::tests::{config, query};
use crate::resolver::{Clock, Resolver};
use crate::upstream::Timings;
use crate::upstream::fake::{self, Fake};

/// Far more than any of these tests needs, on any machine.
const PATIENCE: Duration = Duration::from_secs(30);

struct Bench {
    resolver: Arc<Resolver>,
    server: Server,
    address: SocketAddr,
}

impl Bench {
    fn start(upstream: SocketAddr, limits: Limits) -> Self {
        Self::start_at("127.0.0.1:0", upstream, limits)
    }

    fn start_at(address: &str, upstream: SocketAddr, limits: Limits) -> Self {
        Self::with(address, &config(&[upstream]), limits)
    }

    fn with(address: &str, config: &Config, limits: Limits) -> Self {
        let timings = Timings {
            attempt: PATIENCE,
            connect: PATIENCE,
            ..Timings::default()
        };
        let resolver = Resolver::with(config, Clock::Boot, timings, PATIENCE).unwrap();
        // Another test may hold the TCP port with the UDP port's number.
        let (udp, tcp) = (0..100)
            .find_map(|_| {
                let udp = std::net::UdpSocket::bind(address).unwrap();
                let tcp = std::net::TcpListener::bind(udp.local_addr().unwrap()).ok()?;
                Some((udp, tcp))
            })
            .unwrap();
        udp.set_nonblocking(true).unwrap();
        tcp.set_nonblocking(true).unwrap();
        let address = udp.local_addr().unwrap();
        let sockets = Sockets {
            udp: vec![udp],
            tcp: vec![tcp],
        };
        let server = Server::with(
            sockets,
            Heartbeats::default(),
            Arc::clone(&resolver),
            limits,
        )
        .unwrap();
        Self {
            resolver,
            server,
            address,
        }
    }

    async fn udp(&self) -> UdpSocket {
        let any = if self.address.is_ipv4() {
            "127.0.0.1:0"
        } else {
            "[::1]:0"
        };
        let socket = UdpSocket::bind(any).await.unwrap();
        socket.connect(self.address).await.unwrap();
        socket
    }

    async fn tcp(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    fn count(&self, name: &str) -> u64 {
        self.resolver
            .status()
            .counters
            .into_iter()
            .find(|(n, _)| *n == name)
            .unwrap()
            .1
    }
}

/// A server that answers a name that begins with `s` only for a permit.
async fn slow_upstream() -> (Fake, Arc<Semaphore>) {
    let told = Arc::new(Semaphore::new(0));
    let waits = Arc::clone(&told);
    let fake = Fake::start(move |stream, _| {
        let waits = Arc::clone(&waits);
        async move {
            let (mut reading, writing) = stream.into_split();
            let writing = Arc::new(tokio::sync::Mutex::new(writing));
            while let Ok(length) = reading.read_u16().await {
                let mut query = vec![0; length.into()];
                reading.read_exact(&mut query).await.unwrap();
                let (waits, writing) = (Arc::clone(&waits), Arc::clone(&writing));
                tokio::spawn(async move {
                    if query[13] == b's' {
                        waits.acquire().await.unwrap().forget();
                    }
                    let _ = writing
                        .lock()
                        .await
                        .write_all(&fake::frame(&fake::address(&query)))
                        .await;
                });
            }
        }
    })
    .await;
    (fake, told)
}

async fn receive(socket: &UdpSocket) -> Vec<u8> {
    let mut buffer = [0; 4096];
    let length = timeout(PATIENCE, socket.recv(&mut buffer))
        .await
        .unwrap()
        .unwrap();
    buffer[..length].to_vec()
}

async fn read(stream: &mut (impl AsyncRead + Unpin)) -> Option<Vec<u8>> {
    timeout(PATIENCE, fake::read(stream)).await.unwrap()
}

fn id(reply: &[u8]) -> u16 {
    u16::from_be_bytes([reply[0], reply[1]])
}

#[tokio::test]
async fn udp_hits_misses_and_garbage_in_one_batch() {
    for address in ["127.0.0.1:0", "[::1]:0"] {
        let (fake, queries) = Fake::answering().await;
        let bench = Bench::start_at(address, fake.address, Limits::default());
        let socket = bench.udp().await;
        for _ in 0..2 {
            for id in 0..30 {
                socket
                    .send(&query(id, &format!("n{}", id % 10), 1, 0x0100))
                    .await
                    .unwrap();
                socket.send(b"garbage").await.unwrap();
                socket.send(&[]).await.unwrap();
            }
            socket.send(&query(30, "x", 1, 0x2000)).await.unwrap();
            let mut ids = vec![];
            for _ in 0..31 {
                let reply = receive(&socket).await;
                assert_eq!(reply[3] & 15, if id(&reply) == 30 { 4 } else { 0 });
                ids.push(id(&reply));
            }
            ids.sort_unstable();
            assert_eq!(ids, (0..31).collect::<Vec<_>>());
        }
        assert_eq!(queries.load(SeqCst), 10);
        assert_eq!((bench.count("dropped"), bench.count("refused")), (120, 2));
        assert!(bench.count("hits") >= 30);
    }
}

#[tokio::test]
async fn udp_hits_are_answered_while_misses_wait() {
    let (fake, told) = slow_upstream().await;
    let mut config = config(&[fake.address]);
    config.queries.in_flight_per_client = 3;
    let bench = Bench::with("127.0.0.1:0", &config, Limits::default());
    let socket = bench.udp().await;
    socket.send(&query(1, "fast", 1, 0x0100)).await.unwrap();
    assert_eq!(id(&receive(&socket).await), 1);
    for slow in 2..5 {
        socket
            .send(&query(slow, &format!("s{slow}"), 1, 0x0100))
            .await
            .unwrap();
    }
    socket.send(&query(5, "fast", 1, 0x0100)).await.unwrap();
    assert_eq!(id(&receive(&socket).await), 5);
    // There is no room for a fourth.
    socket.send(&query(6, "s6", 1, 0x0100)).await.unwrap();
    let reply = receive(&socket).await;
    assert_eq!(
        (id(&reply), reply[3] & 15, bench.count("overload")),
        (6, 5, 1)
    );
    let mut ids = vec![];
    for _ in 0..3 {
        told.add_permits(1);
        ids.push(id(&receive(&socket).await));
    }
    ids.sort_unstable();
    assert_eq!(ids, [2, 3, 4]);
}

#[tokio::test]
async fn identical_misses_over_udp_and_tcp_share_one_query() {
    let (fake, told) = slow_upstream().await;
    let bench = Bench::start(fake.address, Limits::default());
    let (socket, mut stream) = (bench.udp().await, bench.tcp().await);
    socket.send(&query(1, "slow", 1, 0x0100)).await.unwrap();
    let second = fake::frame(&query(2, "SLOW", 1, 0x0100));
    stream.write_all(&second).await.unwrap();
    while bench.count("coalesced") == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    told.add_permits(1);
    assert_eq!(id(&receive(&socket).await), 1);
    assert_eq!(id(&read(&mut stream).await.unwrap()), 2);
    assert_eq!(bench.resolver.status().upstreams[0].queries, 1);
}

#[tokio::test]
async fn tcp_answers_as_they_are_ready() {
    let (fake, told) = slow_upstream().await;
    let bench = Bench::start(fake.address, Limits::default());
    let mut stream = bench.tcp().await;
    let frames = [
        query(1, "slow", 1, 0x0100),
        query(2, "a", 1, 0x0100),
        query(3, "b", 1, 0x0100),
    ];
    stream
        .write_all(&frames.map(|query| fake::frame(&query)).concat())
        .await
        .unwrap();
    let mut ids = vec![];
    for _ in 0..2 {
        ids.push(id(&read(&mut stream).await.unwrap()));
    }
    ids.sort_unstable();
    assert_eq!(ids, [2, 3]);
    told.add_permits(1);
    assert_eq!(id(&read(&mut stream).await.unwrap()), 1);
}

/// What follows a query that waits is not read for a while, and then does not wait for the deadline after the deadline.
#[tokio::test]
async fn too_many_misses_on_one_connection_are_turned_away() {
    let (fake, told) = slow_upstream().await;
    let limits = Limits {
        misses_per_connection: 1,
        hold: Duration::from_millis(50),
        ..Limits::default()
    };
    let bench = Bench::start(fake.address, limits);
    let mut stream = bench.tcp().await;
    let ask = |id| fake::frame(&query(id, &format!("s{id}"), 1, 0x0100));
    stream
        .write_all(&[ask(1), ask(2), ask(3)].concat())
        .await
        .unwrap();
    for expected in 2..4 {
        let reply = read(&mut stream).await.unwrap();
        assert_eq!((id(&reply), reply[3] & 15), (expected, 5));
    }
    assert_eq!(bench.count("overload"), 2);
    told.add_permits(2);
    let reply = read(&mut stream).await.unwrap();
    assert_eq!((id(&reply), reply[3] & 15), (1, 0));
    stream.write_all(&ask(4)).await.unwrap();
    let reply = read(&mut stream).await.unwrap();
    assert_eq!((id(&reply), reply[3] & 15), (4, 0));
}

#[tokio::test]
async fn tcp_queries_come_in_any_pieces() {
    let (fake, _) = Fake::answering().await;
    let bench = Bench::start(fake.address, Limits::default());
    let mut stream = bench.tcp().await;
    stream.set_nodelay(true).unwrap();
    for id in 0..3 {
        for byte in fake::frame(&query(id, "web", 1, 0x0100)) {
            stream.write_all(&[byte]).await.unwrap();
            tokio::task::yield_now().await;
        }
    }
    for expected in 0..3 {
        assert_eq!(id(&read(&mut stream).await.unwrap()), expected);
    }
}

#[tokio::test]
async fn a_client_that_closed_its_side_gets_its_answers() {
    let (fake, told) = slow_upstream().await;
    let bench = Bench::start(fake.address, Limits::default());
    let mut stream = bench.tcp().await;
    for name in ["slow", "fast"] {
        stream
            .write_all(&fake::frame(&query(1, name, 1, 0x0100)))
            .await
            .unwrap();
    }
    stream.shutdown().await.unwrap();
    assert!(read(&mut stream).await.is_some());
    told.add_permits(1);
    assert!(read(&mut stream).await.is_some());
    assert!(read(&mut stream).await.is_none());
}

#[tokio::test]
async fn many_queries_on_one_connection() {
    let (fake, _) = Fake::answering().await;
    let bench = Bench::start(
        fake.address,
        Limits {
            misses_per_connection: 3,
            ..Limits::default()
        },
    );
    let (mut reading, mut writing) = bench.tcp().await.into_split();
    let sender = tokio::spawn(async move {
        for id in 0..2000 {
            writing
                .write_all(&fake::frame(&query(
                    id,
                    &format!("n{}", id % 50),
                    1,
                    0x0100,
                )))
                .await
                .unwrap();
        }
        writing
    });
    let mut seen = vec![false; 2000];
    for _ in 0..2000 {
        let length = timeout(PATIENCE, reading.read_u16())
            .await
            .unwrap()
            .unwrap();
        let mut reply = vec![0; length.into()];
        reading.read_exact(&mut reply).await.unwrap();
        assert!(!std::mem::replace(&mut seen[usize::from(id(&reply))], true));
    }
    sender.await.unwrap();
}

#[tokio::test]
async fn bad_lengths_on_a_stream() {
    let (fake, _) = Fake::answering().await;
    let bench = Bench::start(fake.address, Limits::default());
    // A message without a header, or a response: the connection ends, after what came before.
    for bad in [
        &[0, 0][..],
        &[0, 5, 1, 2, 3, 4, 5],
        &fake::frame(&query(1, "x", 1, 0x8000)),
    ] {
        let mut stream = bench.tcp().await;
        stream
            .write_all(&[&fake::frame(&query(1, "web", 1, 0x0100)), bad].concat())
            .await
            .unwrap();
        assert_eq!(id(&read(&mut stream).await.unwrap()), 1);
        assert!(read(&mut stream).await.is_none());
    }
    // The longest garbage is answered like any other, and the connection goes on.
    let mut stream = bench.tcp().await;
    let mut garbage = query(7, "web", 1, 0x0100);
    garbage.resize(65_535, 0xaa);
    stream.write_all(&fake::frame(&garbage)).await.unwrap();
    let reply = read(&mut stream).await.unwrap();
    assert_eq!((id(&reply), reply[3] & 15, reply.len()), (7, 1, 35));
    stream
        .write_all(&fake::frame(&query(8, "web", 1, 0x0100)))
        .await
        .unwrap();
    assert_eq!(id(&read(&mut stream).await.unwrap()), 8);
}

#[tokio::test]
async fn an_idle_or_dripping_connection_is_closed() {
    let (fake, _) = Fake::answering().await;
    let limits = Limits {
        idle: Duration::from_millis(100),
        ..Limits::default()
    };
    let bench = Bench::start(fake.address, limits);
    let mut idle = bench.tcp().await;
    assert!(read(&mut idle).await.is_none());
    let (mut reading, mut writing) = bench.tcp().await.into_split();
    let drip = tokio::spawn(async move {
        while writing.write_all(&[0xff]).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    let mut buffer = [0; 1];
    assert!(matches!(
        timeout(PATIENCE, reading.read(&mut buffer)).await.unwrap(),
        Ok(0) | Err(_)
    ));
    timeout(PATIENCE, drip).await.unwrap().unwrap();
}

#[tokio::test]
async fn connections_are_bounded() {
    let (fake, _) = Fake::answering().await;
    for limits in [
        Limits {
            connections: 2,
            ..Limits::default()
        },
        Limits {
            connections_per_client: 2,
            ..Limits::default()
        },
    ] {
        let bench = Bench::start(fake.address, limits);
        let mut streams = [bench.tcp().await, bench.tcp().await];
        for stream in &mut streams {
            stream
                .write_all(&fake::frame(&query(1, "web", 1, 0x0100)))
                .await
                .unwrap();
            assert!(read(stream).await.is_some());
        }
        let mut third = bench.tcp().await;
        assert!(read(&mut third).await.is_none());
        assert_eq!(
            (bench.count("tcp_connections"), bench.count("tcp_refused")),
            (2, 1)
        );
        // A place that is given up is free again.
        let [first, _second] = streams;
        drop(first);
        let again = async {
            loop {
                let mut stream = bench.tcp().await;
                let _ = stream
                    .write_all(&fake::frame(&query(1, "web", 1, 0x0100)))
                    .await;
                if fake::read(&mut stream).await.is_some() {
                    return;
                }
            }
        };
        timeout(PATIENCE, again).await.unwrap();
    }
}

/// Nearly as long as an answer can be.
fn large(query: &[u8]) -> Vec<u8> {
    const RECORDS: usize = 4_000;
    let record = b"\xc0\x0c\0\x01\0\x01\0\0\0\x14\0\x04\x0a\0\0\x01";
    let records = [RECORDS as u16, 0, 0];
    fake::respond(query, 0x8580, records, &record.repeat(RECORDS))
}

/// Sends queries for one name and takes no reply, until the connection is closed.
async fn ask_and_take_nothing(address: SocketAddr) {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut stream = socket.connect(address).await.unwrap();
    let queries = fake::frame(&query(1, "web", 1, 0x0100)).repeat(100);
    let ended = async { while stream.write_all(&queries).await.is_ok() {} };
    timeout(PATIENCE, ended).await.unwrap();
}

/// Bytes of all replies that were made.
fn replied(bench: &Bench) -> u64 {
    bench.server.tally().totals().reply_size[1].sum
}

#[tokio::test]
async fn a_client_that_takes_no_replies_gets_no_more_of_them() {
    let (fake, _) = Fake::start_counting(large).await;
    let limits = Limits {
        idle: Duration::from_secs(1),
        ..Limits::default()
    };
    let bench = Bench::start(fake.address, limits);
    let mut stream = bench.tcp().await;
    let web = fake::frame(&query(1, "web", 1, 0x0100));
    stream.write_all(&web).await.unwrap();
    let size = read(&mut stream).await.unwrap().len() as u64;
    assert!(size > 60_000);
    ask_and_take_nothing(bench.address).await;
    // What the sockets' buffers took, and one chunk.
    assert!(replied(&bench) < 8 * size, "{}", replied(&bench) / size);
}

#[tokio::test]
async fn replies_that_nobody_takes_are_bounded() {
    let (fake, _) = Fake::start_counting(large).await;
    for (untaken, untaken_per_client) in [(150_000, 1_000_000), (1_000_000, 150_000)] {
        let limits = Limits {
            untaken,
            untaken_per_client,
            ..Limits::default()
        };
        let bench = Bench::start(fake.address, limits);
        // Two have room; without the bound each would have.
        let greedy = || tokio::spawn(ask_and_take_nothing(bench.address));
        let _greedy = [greedy(), greedy(), greedy()];
        let overflow = async {
            while bench.count("tcp_overflows") == 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        timeout(PATIENCE, overflow).await.unwrap();
    }
}

/// Queries `s1` over UDP and `s2` over TCP, on their way to an upstream that keeps silent.
async fn two_slow_queries(bench: &Bench) -> (UdpSocket, TcpStream) {
    let socket = bench.udp().await;
    let mut stream = bench.tcp().await;
    socket.send(&query(1, "s1", 1, 0x0100)).await.unwrap();
    stream
        .write_all(&fake::frame(&query(2, "s2", 1, 0x0100)))
        .await
        .unwrap();
    in_flight(bench, 2).await;
    (socket, stream)
}

async fn in_flight(bench: &Bench, count: u64) {
    while bench.resolver.status().upstreams[0].in_flight < count {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Longer than a shutdown that waits for nothing takes; one that waits as it should passes at any speed.
const A_WHILE: Duration = Duration::from_millis(300);

#[tokio::test]
async fn shutdown_waits_for_what_was_asked() {
    for slow_over_udp in [true, false] {
        let (fake, told) = slow_upstream().await;
        let limits = Limits {
            drain: PATIENCE,
            ..Limits::default()
        };
        let bench = Bench::start(fake.address, limits);
        let socket = bench.udp().await;
        let mut stream = bench.tcp().await;
        let slow = query(1, "s1", 1, 0x0100);
        if slow_over_udp {
            socket.send(&slow).await.unwrap();
        } else {
            stream.write_all(&fake::frame(&slow)).await.unwrap();
        }
        in_flight(&bench, 1).await;
        let mut shutdown = tokio::spawn(bench.server.shutdown());
        assert!(
            timeout(A_WHILE, &mut shutdown).await.is_err(),
            "it left a query behind, over UDP: {slow_over_udp}"
        );
        assert!(TcpStream::connect(bench.address).await.is_err());
        told.add_permits(1);
        // The client reads only after the end: nothing of the server's is needed any more.
        timeout(PATIENCE, shutdown).await.unwrap().unwrap();
        if slow_over_udp {
            assert_eq!(id(&receive(&socket).await), 1);
        } else {
            assert_eq!(id(&read(&mut stream).await.unwrap()), 1);
        }
        assert!(read(&mut stream).await.is_none());
    }
}

#[tokio::test]
async fn shutdown_does_not_wait_for_ever() {
    let (fake, _told) = slow_upstream().await;
    let drain = Duration::from_millis(50);
    let bench = Bench::start(
        fake.address,
        Limits {
            drain,
            ..Limits::default()
        },
    );
    let _clients = two_slow_queries(&bench).await;
    let start = Instant::now();
    timeout(PATIENCE, bench.server.shutdown()).await.unwrap();
    // It was the bound that ended the wait, no answer. (The thread of UDP ends, and its query with it.)
    assert!(start.elapsed() >= drain);
    assert!(bench.resolver.status().upstreams[0].in_flight >= 1);
}

/// The kernel's look-up, which the datapath asks too, must not find a socket that nobody reads.
#[tokio::test]
async fn sockets_that_wait_for_late_answers_take_no_queries() {
    for address in ["127.0.0.1:0", "[::1]:0"] {
        let (fake, told) = slow_upstream().await;
        let limits = Limits {
            drain: PATIENCE,
            ..Limits::default()
        };
        let bench = Bench::start_at(address, fake.address, limits);
        let (socket, _stream) = two_slow_queries(&bench).await;
        let late = bench.udp().await;
        let shutdown = tokio::spawn(bench.server.shutdown());
        let refused = async {
            // Answered, as long as the worker has not heard of the end.
            while late.send(&query(3, "fast", 1, 0x0100)).await.is_ok()
                && !matches!(timeout(A_WHILE, late.recv(&mut [0; 512])).await, Ok(Err(_)))
            {
            }
        };
        timeout(PATIENCE, refused).await.unwrap();
        told.add_permits(2);
        assert_eq!(id(&receive(&socket).await), 1);
        timeout(PATIENCE, shutdown).await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn shutdown_answers_what_waits_in_udp_sockets() {
    const QUERIES: u16 = 100;
    let (fake, _) = Fake::answering().await;
    let resolver = Resolver::new(&config(&[fake.address])).unwrap();
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_nonblocking(true).unwrap();
    let client = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    client.connect(socket.local_addr().unwrap()).await.unwrap();
    for id in 0..QUERIES {
        let query = query(id, &format!("n{id}"), 1, 0x0100);
        client.send(&query).await.unwrap();
    }
    // Workers that are told of the end before they read anything.
    let (_service, service) = service::channel();
    let (left, mut finished) = mpsc::unbounded_channel();
    let running = Running {
        resolver,
        heartbeats: Arc::default(),
        tally: Arc::default(),
        limits: Limits::default(),
        room: Arc::new(Places::new(0, 0)),
        service,
        address: Ipv4Addr::LOCALHOST.into(),
        left,
    };
    udp::start(vec![Arc::new(socket)], &running).unwrap();
    drop(running);
    let mut ids = vec![];
    for _ in 0..QUERIES {
        ids.push(id(&receive(&client).await));
    }
    ids.sort_unstable();
    assert_eq!(ids, (0..QUERIES).collect::<Vec<_>>());
    let left = timeout(PATIENCE, finished.recv()).await.unwrap();
    assert!(left.is_none());
}

/// What was read is answered by the one that read it; the rest is the successor's, in the middle of a query too.
#[tokio::test]
async fn a_successor_goes_on_with_sockets_and_connections() {
    let (fake, told) = slow_upstream().await;
    let first = Bench::start(fake.address, Limits::default());
    let mut stream = first.tcp().await;
    let slow = fake::frame(&query(1, "s1", 1, 0x0100));
    let fast = fake::frame(&query(2, "n2", 1, 0x0100));
    let (start, end) = fast.split_at(7);
    stream.write_all(&[&slow, start].concat()).await.unwrap();
    in_flight(&first, 1).await;
    let client = first.udp().await;
    let sockets = first.server.sockets().unwrap();
    assert_eq!((sockets.udp.len(), sockets.tcp.len()), (1, 1));
    let second = Bench::start(fake.address, Limits::default());
    second.server.listen(sockets).unwrap();
    let (sender, mut passed) = mpsc::unbounded_channel();
    let pass = move |connection| drop(sender.send(connection));
    let left = tokio::spawn(first.server.hand_over(pass));
    assert!(timeout(A_WHILE, passed.recv()).await.is_err(), "too early");
    told.add_permits(1);
    let connection = timeout(PATIENCE, passed.recv()).await.unwrap().unwrap();
    assert_eq!(connection.unread, start);
    second.server.adopt(connection).unwrap();
    assert_eq!(id(&read(&mut stream).await.unwrap()), 1);
    stream.write_all(end).await.unwrap();
    assert_eq!(id(&read(&mut stream).await.unwrap()), 2);
    timeout(PATIENCE, left).await.unwrap().unwrap();
    client.send(&query(3, "n3", 1, 0x0100)).await.unwrap();
    assert_eq!(id(&receive(&client).await), 3);
    assert!(TcpStream::connect(first.address).await.is_ok());
}

/// However large the kernel would let it become, and all is answered nonetheless.
#[tokio::test]
async fn the_kernel_holds_few_queries_of_a_connection() {
    const QUERIES: u16 = 20_000;
    let (fake, _) = Fake::answering().await;
    let bench = Bench::start(fake.address, Limits::default());
    let sockets = bench.server.sockets().unwrap();
    // Connections have what their listener has.
    let listener = SockRef::from(&sockets.tcp[0]);
    listener.set_recv_buffer_size(8 * RECEIVE_BUFFER).unwrap();
    let large = listener.recv_buffer_size().unwrap();
    assert!(large > 2 * RECEIVE_BUFFER);
    let mut stream = bench.tcp().await;
    let (mut reading, mut writing) = stream.split();
    let queries: Vec<_> = (0..QUERIES)
        .flat_map(|id| fake::frame(&query(id, &"n".repeat(60), 1, 0x0100)))
        .collect();
    let answers = async {
        let mut ids = vec![];
        for _ in 0..QUERIES {
            ids.push(id(&read(&mut reading).await.unwrap()));
        }
        ids.sort_unstable();
        ids
    };
    let (sent, ids) = tokio::join!(writing.write_all(&queries), answers);
    sent.unwrap();
    assert_eq!(ids, (0..QUERIES).collect::<Vec<_>>());
    let (sender, mut passed) = mpsc::unbounded_channel();
    let pass = move |connection| drop(sender.send(connection));
    bench.server.hand_over(pass).await;
    let connection = timeout(PATIENCE, passed.recv()).await.unwrap().unwrap();
    let bound = SockRef::from(&connection.stream).recv_buffer_size();
    // The kernel doubles what it is told (socket(7)).
    assert_eq!(bound.unwrap(), 2 * RECEIVE_BUFFER);
}

#[tokio::test]
async fn shutdown_answers_what_waits_in_connections() {
    const QUERIES: u16 = 2000;
    let (fake, told) = slow_upstream().await;
    let limits = Limits {
        drain: PATIENCE,
        misses_per_connection: 1,
        ..Limits::default()
    };
    let bench = Bench::start(fake.address, limits);
    let mut stream = bench.tcp().await;
    // With one miss at a time, the two slow ones keep the reader from all the others, which are more than
    // it has taken off the socket.
    let frames: Vec<_> = ["s1", "s2"]
        .into_iter()
        .chain([&"f".repeat(60)[..]; QUERIES as usize - 2])
        .zip(0..)
        .flat_map(|(name, id)| fake::frame(&query(id, name, 1, 0x0100)))
        .collect();
    stream.write_all(&frames).await.unwrap();
    in_flight(&bench, 1).await;
    let mut shutdown = tokio::spawn(bench.server.shutdown());
    assert!(timeout(A_WHILE, &mut shutdown).await.is_err());
    told.add_permits(2);
    for _ in 0..QUERIES {
        assert!(read(&mut stream).await.is_some());
    }
    assert!(read(&mut stream).await.is_none());
    timeout(PATIENCE, shutdown).await.unwrap().unwrap();
}

#[test]
fn clients_leave_descriptors_for_the_rest() {
    for (open_files, most) in [(1 << 20, 1000), (2000, 1000), (1024, 512), (u64::MAX, 1000)] {
        assert_eq!(connections(open_files), most);
    }
}

/// Several sockets on one address, as the agent has one a core.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sockets_that_share_a_port() {
    let (fake, _) = Fake::answering().await;
    let resolver = Resolver::new(&config(&[fake.address])).unwrap();
    let mut address: SocketAddr = "127.0.0.1:0".parse().unwrap();
    let mut udp = vec![];
    for _ in 0..2 {
        let socket =
            socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::DGRAM, None).unwrap();
        socket.set_reuse_port(true).unwrap();
        socket.set_nonblocking(true).unwrap();
        socket.bind(&address.into()).unwrap();
        address = socket.local_addr().unwrap().as_socket().unwrap();
        udp.push(socket.into());
    }
    let server = Server::start(
        Sockets { udp, tcp: vec![] },
        Heartbeats::default(),
        resolver,
    )
    .unwrap();
    let answered = Arc::new(AtomicUsize::new(0));
    for i in 0..20 {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        socket.connect(address).await.unwrap();
        socket.send(&query(i, "web", 1, 0x0100)).await.unwrap();
        assert_eq!(id(&receive(&socket).await), i);
        answered.fetch_add(1, SeqCst);
    }
    server.shutdown().await;
}
