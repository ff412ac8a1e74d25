//! Agent and client over real sockets.

use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, ready};
use tempfile::TempDir;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::*;

const PATIENCE: Duration = Duration::from_secs(10);

struct Fixed;

impl Handler for Fixed {
    fn handle(self: Arc<Self>, _: Command) -> BoxFuture<'static, Response> {
        ready(Response::Status(Box::new(self.status()))).boxed()
    }

    fn hand_over(&self, _: tokio::net::UnixStream, _: u32) {}
}

impl Fixed {
    fn status(&self) -> Status {
        Status {
            version: "1.2.3".to_owned(),
            pid: 42,
            uptime_seconds: 1,
            config_path: None,
            reload: ReloadStatus::default(),
            state_dir: "/run/dns-cache".into(),
            listen: vec!["10.96.0.10".parse().unwrap()],
            kubernetes: None,
            datapath: DatapathStatus {
                mechanism: Some(Mechanism::Clsact),
                interfaces: vec![AttachedInterface {
                    name: "veth0".to_owned(),
                    ifindex: 3,
                    mechanism: Mechanism::Clsact,
                    behind: None,
                    hits: 5,
                    misses: 2,
                    bypasses: 1,
                }],
                counters: [("steered".to_owned(), u64::MAX)].into(),
                ..DatapathStatus::default()
            },
            resolver: ResolverStatus::default(),
        }
    }
}

/// A server that runs, with a directory of its own.
struct Running {
    dir: TempDir,
    shutdown: watch::Sender<Shutdown>,
    task: JoinHandle<std::io::Result<()>>,
    // Last: the tasks above live on it.
    runtime: tokio::runtime::Runtime,
}

impl Running {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let server = Server::bind(dir.path()).unwrap();
        let (shutdown, told) = watch::channel(Shutdown::Running);
        let task = runtime.spawn(server.run(Arc::new(Fixed), told));
        Self {
            dir,
            shutdown,
            task,
            runtime,
        }
    }

    fn connect(&self) -> UnixStream {
        let stream = UnixStream::connect(self.dir.path().join(SOCKET_NAME)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// What comes back for these bytes, until the server closes.
    fn told(&self, bytes: &[u8]) -> String {
        let mut stream = self.connect();
        // The server may have closed in the middle of a request that is too long.
        let _ = stream.write_all(bytes);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let mut text = Vec::new();
        let _ = stream.read_to_end(&mut text);
        String::from_utf8(text).unwrap()
    }

    fn stop(self) -> TempDir {
        self.shutdown.send(Shutdown::Stop).unwrap();
        self.runtime.block_on(self.task).unwrap().unwrap();
        self.dir
    }
}

#[test]
fn a_status_comes_through_whole() {
    let running = Running::start();
    assert_eq!(
        status(running.dir.path(), PATIENCE).unwrap(),
        Fixed.status()
    );
    running.stop();
}

#[test]
fn the_socket_is_for_its_owner_alone_and_goes_with_the_agent() {
    let running = Running::start();
    let socket = running.dir.path().join(SOCKET_NAME);
    assert_eq!(
        socket.metadata().unwrap().permissions().mode() & 0o777,
        0o600
    );
    let dir = running.stop();
    assert!(!socket.exists());
    // And another may follow at once.
    Server::bind(dir.path()).unwrap();
}

#[test]
fn several_requests_on_one_connection() {
    let running = Running::start();
    let request = "{\"version\":1,\"command\":\"status\"}\n";
    let text = running.told(format!("{request}\n{request}x\n{}", request.trim()).as_bytes());
    let starts = [
        "{\"version\":1,\"status\":{",
        "{\"version\":1,\"error\":\"the request is not JSON",
        "{\"version\":1,\"status\":{",
        "{\"version\":1,\"error\":\"the request is not JSON",
        "{\"version\":1,\"status\":{",
    ];
    assert_eq!(text.lines().count(), starts.len(), "{text}");
    for (line, start) in text.lines().zip(starts) {
        assert!(line.starts_with(start), "{line}");
    }
    running.stop();
}

#[test]
fn bad_input_is_answered_and_does_no_harm() {
    let running = Running::start();
    for bytes in [
        &b"\xff\xfe\n"[..],
        b"{}\n",
        b"[[[[\n",
        b"\0\n",
        b"{\"version\":1,\"command\":{}}\n",
    ] {
        let text = running.told(bytes);
        assert!(
            text.starts_with("{\"version\":1,\"error\":\""),
            "{bytes:?}: {text}"
        );
    }
    assert_eq!(running.told(b""), "");
    status(running.dir.path(), PATIENCE).unwrap();
    running.stop();
}

#[test]
fn requests_are_bounded() {
    let running = Running::start();
    let mut request = vec![b' '; 64 * 1024];
    let len = request.len();
    request[len - 1] = b'\n';
    assert!(running.told(&request).contains("the request is not JSON"));
    // Exactly one byte more, so that nothing unread makes the kernel send a reset.
    let request = vec![b' '; 64 * 1024 + 1];
    assert!(
        running
            .told(&request)
            .contains("the request is longer than 65536 bytes")
    );
    running.stop();
}

#[test]
fn a_client_that_says_nothing_is_sent_away() {
    let running = Running::start();
    let mut stream = running.connect();
    let start = Instant::now();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    assert_eq!(text, "{\"version\":1,\"error\":\"no request within 5s\"}\n");
    assert!(start.elapsed() >= Duration::from_secs(4));
    running.stop();
}

#[test]
fn clients_are_bounded() {
    let running = Running::start();
    let request = b"{\"version\":1,\"command\":\"status\"}\n";
    let mut idle = Vec::new();
    for _ in 0..16 {
        let mut stream = running.connect();
        // An answer shows that the server has taken this one.
        stream.write_all(request).unwrap();
        assert_ne!(stream.read(&mut [0; 4096]).unwrap(), 0);
        idle.push(stream);
    }
    let error = status(running.dir.path(), PATIENCE)
        .unwrap_err()
        .to_string();
    assert_eq!(error, "the agent says: 16 clients are connected; try again");
    drop(idle);
    let deadline = Instant::now() + PATIENCE;
    while status(running.dir.path(), PATIENCE).is_err() {
        assert!(Instant::now() < deadline, "the server does not come back");
        std::thread::sleep(Duration::from_millis(10));
    }
    running.stop();
}

#[test]
fn shutdown_waits_for_no_idle_client() {
    let running = Running::start();
    let _idle = running.connect();
    let start = Instant::now();
    running.stop();
    assert!(start.elapsed() < Duration::from_secs(4));
}

#[test]
fn a_server_whose_owner_is_gone_ends() {
    let Running {
        shutdown,
        task,
        runtime,
        ..
    } = Running::start();
    drop(shutdown);
    runtime.block_on(task).unwrap().unwrap();
}

#[test]
fn a_second_agent_is_told_of_the_first() {
    let running = Running::start();
    let error = Server::bind(running.dir.path()).unwrap_err().to_string();
    let expected = format!(
        "another agent runs with stateDir {}, pid {}: stop it first, or give this one its own stateDir and bpffs",
        running.dir.path().display(),
        std::process::id()
    );
    assert_eq!(error, expected);
    // The first is none the worse for it.
    status(running.dir.path(), PATIENCE).unwrap();
    running.stop();
}

#[test]
fn a_dead_agents_socket_is_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join(SOCKET_NAME);
    drop(UnixListener::bind(&socket).unwrap());
    std::fs::write(dir.path().join("agent.lock"), "99999999").unwrap();
    assert!(socket.exists());
    let error = status(dir.path(), PATIENCE).unwrap_err();
    assert!(matches!(error, ClientError::NoAgent { .. }), "{error}");
    let _server = Server::bind(dir.path()).unwrap();
    UnixStream::connect(&socket).unwrap();
}

#[test]
fn a_state_dir_is_made_for_root_alone() {
    let dir = tempfile::tempdir().unwrap();
    let state_dir = dir.path().join("a/b");
    let _server = Server::bind(&state_dir).unwrap();
    assert_eq!(
        state_dir.metadata().unwrap().permissions().mode() & 0o777,
        0o700
    );
}

#[test]
fn a_state_dir_that_cannot_be_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, "").unwrap();
    let error = Server::bind(&file.join("x")).unwrap_err().to_string();
    assert!(
        error.starts_with(&format!("making the directory {}/x: ", file.display())),
        "{error}"
    );
}

#[test]
fn without_an_agent_the_way_to_start_one_is_told() {
    let error = status(Path::new("/nonexistent"), PATIENCE)
        .unwrap_err()
        .to_string();
    assert_eq!(
        error,
        "no agent runs with stateDir /nonexistent: start one with `dns-cache run --state-dir \
         /nonexistent …`, or name another agent's directory by --state-dir"
    );
}

/// What the client says of an agent that does `reply`.
fn of_an_agent(reply: impl FnOnce(UnixStream) + Send + 'static) -> ClientError {
    let dir = tempfile::tempdir().unwrap();
    let listener = UnixListener::bind(dir.path().join(SOCKET_NAME)).unwrap();
    let agent = std::thread::spawn(move || reply(listener.accept().unwrap().0));
    let error = status(dir.path(), Duration::from_secs(2)).unwrap_err();
    agent.join().unwrap();
    error
}

#[test]
fn a_silent_agent_is_not_waited_for() {
    let error = of_an_agent(|_stream| std::thread::sleep(Duration::from_secs(4)));
    assert!(matches!(error, ClientError::Silent { .. }), "{error}");
}

#[test]
fn a_stopped_agent_with_a_full_queue_is_not_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let socket = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None).unwrap();
    let path = dir.path().join(SOCKET_NAME);
    socket
        .bind(&socket2::SockAddr::unix(&path).unwrap())
        .unwrap();
    socket.listen(0).unwrap();
    let _queued = UnixStream::connect(&path).unwrap();
    let error = status(dir.path(), Duration::from_millis(300)).unwrap_err();
    assert!(matches!(error, ClientError::Silent { .. }), "{error}");
}

#[test]
fn an_agent_of_another_kind_is_not_understood() {
    let error = of_an_agent(|mut stream| stream.write_all(b"hello\n").unwrap());
    assert!(
        matches!(error, ClientError::NotUnderstood { .. }),
        "{error}"
    );
    let error = of_an_agent(|mut stream| {
        // Read first: closing on unread bytes would be a reset.
        let _ = stream.read(&mut [0; 100]);
    });
    assert!(
        error.to_string().contains("it closed the connection"),
        "{error}"
    );
}

/// The one that inherits has the lock and the socket for itself when the other is gone.
#[test]
fn what_is_inherited_stays_locked_and_reachable() {
    let running = Running::start();
    let path = running.dir.path().to_owned();
    let first = Server::bind(&path.join("own")).unwrap();
    let (lock, listener) = first.duplicate().unwrap();
    let second = Server::inherit(&path.join("own"), lock, listener);
    let (shutdown, told) = watch::channel(Shutdown::HandedOver);
    running
        .runtime
        .block_on(first.run(Arc::new(Fixed), told))
        .unwrap();
    let error = Server::bind(&path.join("own")).unwrap_err().to_string();
    assert!(error.contains("another agent runs"), "{error}");
    shutdown.send_replace(Shutdown::Running);
    let task = running
        .runtime
        .spawn(second.run(Arc::new(Fixed), shutdown.subscribe()));
    assert!(status(&path.join("own"), PATIENCE).is_ok());
    shutdown.send_replace(Shutdown::Stop);
    running.runtime.block_on(task).unwrap().unwrap();
    assert!(!path.join("own").join(SOCKET_NAME).exists());
    Server::bind(&path.join("own")).unwrap();
    running.stop();
}

#[test]
fn a_look_at_the_lock_makes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    assert!(!is_taken(&state).unwrap());
    assert!(!state.exists());
    let server = Server::bind(&state).unwrap();
    assert!(is_taken(&state).unwrap());
    drop(server);
    assert!(!is_taken(&state).unwrap());
    assert!(!state.join(SOCKET_NAME).exists());
}

/// Whoever sees no lock's file may make a socket: from then on none may be removed.
#[test]
fn the_socket_goes_before_the_locks_file() {
    use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("state");
    let server = Server::bind(&dir).unwrap();
    let inotify = Inotify::init(InitFlags::IN_NONBLOCK).unwrap();
    inotify.add_watch(&dir, AddWatchFlags::IN_DELETE).unwrap();
    server.remove(&dir).unwrap();
    let removed: Vec<_> = inotify
        .read_events()
        .unwrap()
        .into_iter()
        .filter_map(|event| event.name?.into_string().ok())
        .collect();
    assert_eq!(removed, [SOCKET_NAME, "agent.lock"]);
    assert!(!dir.exists());
}
