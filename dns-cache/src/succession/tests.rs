//! Both sides over a real socket pair.

use std::io::Write as _;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::mpsc::channel;
use std::thread;

use super::*;
use crate::control::{self, ClientError, SOCKET_NAME};
use crate::serve::{Connection, Sockets};

/// More than go with one message.
const SOCKETS: usize = 600;

fn estate() -> Estate {
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let file = || OwnedFd::from(tempfile::tempfile().unwrap());
    Estate {
        lock: file(),
        control: file(),
        node: file(),
        node_netns: own_netns().unwrap(),
        namespace: file(),
        link: serde_json::from_str(r#"{"ifindex":3,"netnsId":5,"innerMac":[1,2,3,4,5,6]}"#)
            .unwrap(),
        sockets: Sockets {
            udp: (0..SOCKETS).map(|_| udp.try_clone().unwrap()).collect(),
            tcp: vec![tcp],
        },
        metrics: None,
    }
}

/// An agent that does this with whoever asks it.
fn agent(
    answer: impl FnOnce(UnixStream) + Send + 'static,
) -> (tempfile::TempDir, thread::JoinHandle<()>) {
    let dir = tempfile::tempdir().unwrap();
    let listener = UnixListener::bind(dir.path().join(SOCKET_NAME)).unwrap();
    let thread = thread::spawn(move || {
        let (client, _) = listener.accept().unwrap();
        let mut incoming = message::Incoming::new(client.try_clone().unwrap());
        let line = incoming.line().unwrap().unwrap();
        let request = br#"{"version":1,"command":"hand-over","protocol":1}"#;
        assert_eq!(line.trim_ascii(), request);
        answer(client);
    });
    (dir, thread)
}

#[test]
fn everything_arrives() {
    let estate = estate();
    let address = estate.sockets.udp[0].local_addr().unwrap();
    let listening = estate.sockets.tcp[0].local_addr().unwrap();
    let (dir, old) = agent(move |client| {
        let mut successor = Successor::new(client).unwrap();
        successor.leave_to(&estate).unwrap();
        for unread in [vec![], vec![7; 65_537]] {
            let stream = TcpStream::connect(listening).unwrap();
            successor.pass(Connection { stream, unread }).unwrap();
        }
    });
    let (predecessor, estate) = Predecessor::ask(dir.path()).unwrap();
    assert_eq!(estate.sockets.udp.len(), SOCKETS);
    for socket in &estate.sockets.udp {
        assert_eq!(socket.local_addr().unwrap(), address);
    }
    assert_eq!(estate.sockets.tcp[0].local_addr().unwrap(), listening);
    let passed: Vec<_> = predecessor.leave().unwrap().collect();
    assert_eq!(passed.len(), 2);
    assert_eq!(passed[1].unread, [7; 65_537]);
    for connection in passed {
        assert_eq!(connection.stream.peer_addr().unwrap(), listening);
    }
    old.join().unwrap();
}

#[test]
fn a_successor_that_ends_before_it_serves_has_taken_nothing() {
    let (dir, old) = agent(|client| {
        let mut successor = Successor::new(client).unwrap();
        let error = successor.leave_to(&estate()).unwrap_err();
        assert_eq!(error.to_string(), "it has ended");
    });
    drop(Predecessor::ask(dir.path()).unwrap());
    old.join().unwrap();
}

#[test]
fn it_is_asked_whether_it_still_waits() {
    let (tell, told) = channel();
    let (dir, old) = agent(move |client| {
        let mut successor = Successor::new(client).unwrap();
        let hang_up = successor.hang_up().unwrap();
        let waiting = thread::spawn(move || successor.leave_to(&estate()).unwrap_err());
        told.recv().unwrap();
        hang_up.now().unwrap();
        assert_eq!(waiting.join().unwrap().to_string(), "it has ended");
    });
    let (predecessor, _) = Predecessor::ask(dir.path()).unwrap();
    let mut waiting = predecessor.waiting().unwrap();
    for _ in 0..3 {
        waiting.ask().unwrap();
    }
    tell.send(()).unwrap();
    old.join().unwrap();
    assert!(waiting.ask().is_err());
    assert!(predecessor.leave().is_err());
}

/// One of an earlier version.
#[test]
fn one_that_does_not_say_that_it_answers_is_not_asked() {
    let (dir, old) = agent(|client| {
        let estate = estate();
        let response = control::Response::HandedOver(estate.manifest());
        let mut response = serde_json::to_value(control::versioned(&response)).unwrap();
        let manifest = response["handed-over"].as_object_mut().unwrap();
        assert!(manifest.remove("saysWhetherItWaits").is_some());
        message::send(&client, &response, &estate.descriptors()).unwrap();
        let mut incoming = message::Incoming::new(client);
        let line = incoming.line().unwrap().unwrap();
        assert_eq!(line.trim_ascii(), br#"{"serving":true}"#);
    });
    let (predecessor, _) = Predecessor::ask(dir.path()).unwrap();
    predecessor.waiting().unwrap().ask().unwrap();
    assert_eq!(predecessor.leave().unwrap().count(), 0);
    old.join().unwrap();
}

/// Of a UDP socket that does not come with it.
fn manifest(node_netns: u64) -> String {
    format!(
        r#"{{"version":1,"handed-over":{{"nodeNetns":{node_netns},"link":{{"ifindex":3,"netnsId":5,"innerMac":[1,2,3,4,5,6]}},"udp":1,"tcp":0,"metrics":false}}}}"#
    )
}

#[test]
fn an_agent_that_refuses_or_does_not_understand_says_so() {
    let refused = r#"{"version":1,"error":"not a request: unknown variant `hand-over`"}"#;
    let answers = [
        (refused.to_owned(), "the agent says: not a request"),
        (String::new(), "it closed the connection"),
        ("what?".to_owned(), "is not understood"),
        (manifest(own_netns().unwrap()), "descriptors are missing"),
        (manifest(1), "it serves another network namespace"),
    ];
    for (answer, expected) in answers {
        let line = match answer.as_str() {
            "" => String::new(),
            answer => format!("{answer}\n"),
        };
        let (dir, old) = agent(move |mut client| client.write_all(line.as_bytes()).unwrap());
        let error = Predecessor::ask(dir.path())
            .map(drop)
            .unwrap_err()
            .to_string();
        assert!(error.contains(expected), "{answer}: {error}");
        old.join().unwrap();
    }
    let nowhere = tempfile::tempdir().unwrap();
    let error = Predecessor::ask(nowhere.path()).map(drop).unwrap_err();
    assert!(matches!(error, Error::Control(ClientError::NoAgent { .. })));
}
