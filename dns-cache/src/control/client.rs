//! The side of `dns-cache status` and its like.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use socket2::{Domain, SockAddr, Socket, Type};

use super::protocol::{Command, Response};
use super::{SOCKET_NAME, Status};

/// The longest listing of the cache is shorter; this bounds a mad agent.
const LONGEST_RESPONSE: u64 = 64 * 1024 * 1024;

/// Why a request was not answered.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// There is no agent.
    #[error(
        "no agent runs with stateDir {dir}: start one with `dns-cache run --state-dir {dir} …`, or name another agent's directory by --state-dir",
        dir = state_dir.display()
    )]
    NoAgent {
        /// The state directory.
        state_dir: PathBuf,
    },
    /// The socket is for root.
    #[error("{} may not be opened: run this as root", socket.display())]
    Forbidden {
        /// The control socket.
        socket: PathBuf,
    },
    /// The agent is there and says nothing.
    #[error("the agent at {} does not answer within {patience:?}: see its log, or restart it", socket.display())]
    Silent {
        /// The control socket.
        socket: PathBuf,
        /// How long it was waited for.
        patience: Duration,
    },
    /// The agent refused.
    #[error("the agent says: {0}")]
    Refused(String),
    /// The agent said something else than what it was asked for.
    #[error("the agent at {} answers in a way that is not understood ({reason}): is it of another version?", socket.display())]
    NotUnderstood {
        /// The control socket.
        socket: PathBuf,
        /// What is not understood.
        reason: String,
    },
    /// The system's word.
    #[error("{}: {reason}", socket.display())]
    Io {
        /// The control socket.
        socket: PathBuf,
        /// How it went.
        reason: io::Error,
    },
}

/// Asks the agent with this state directory, and waits for each step no longer than `patience`.
///
/// # Errors
/// If there is no agent, or it does not answer, or not to the point.
pub fn request(
    state_dir: &Path,
    command: &Command,
    patience: Duration,
) -> Result<Response, ClientError> {
    let stream = connect(state_dir, patience)?;
    let line =
        exchange(stream, command).map_err(|reason| ClientError::of(state_dir, patience, reason))?;
    read_response(state_dir, &line)
}

/// A connection to the agent with this state directory, on which each step takes no longer than `patience`.
pub(crate) fn connect(state_dir: &Path, patience: Duration) -> Result<UnixStream, ClientError> {
    let connect = || {
        let stream = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        stream.set_read_timeout(Some(patience))?;
        // Before connect, which waits no longer than this for a stopped agent with a full queue.
        stream.set_write_timeout(Some(patience))?;
        stream.connect(&SockAddr::unix(state_dir.join(SOCKET_NAME))?)?;
        Ok(UnixStream::from(OwnedFd::from(stream)))
    };
    connect().map_err(|reason| ClientError::of(state_dir, patience, reason))
}

/// The response that a line is, if it is no refusal.
pub(crate) fn read_response(state_dir: &Path, line: &[u8]) -> Result<Response, ClientError> {
    let not_understood = |reason: String| ClientError::NotUnderstood {
        socket: state_dir.join(SOCKET_NAME),
        reason,
    };
    if line.is_empty() {
        return Err(not_understood("it closed the connection".to_owned()));
    }
    match Response::from_line(line) {
        Ok(Response::Error(message)) => Err(ClientError::Refused(message)),
        Ok(response) => Ok(response),
        Err(error) => Err(not_understood(error.to_string())),
    }
}

/// The status of the agent with this state directory.
///
/// # Errors
/// As [`request`].
pub fn status(state_dir: &Path, patience: Duration) -> Result<Status, ClientError> {
    match request(state_dir, &Command::Status, patience)? {
        Response::Status(status) => Ok(*status),
        other => Err(ClientError::beside_the_point(state_dir, &other)),
    }
}

impl ClientError {
    /// The system's word about an agent's control socket.
    pub(crate) fn of(state_dir: &Path, patience: Duration, reason: io::Error) -> Self {
        let socket = state_dir.join(SOCKET_NAME);
        match reason.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => Self::NoAgent {
                state_dir: state_dir.to_owned(),
            },
            io::ErrorKind::PermissionDenied => Self::Forbidden { socket },
            // A blocking read that times out says WouldBlock.
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
                Self::Silent { socket, patience }
            }
            _ => Self::Io { socket, reason },
        }
    }

    /// An agent that answers what it was not asked.
    pub(crate) fn beside_the_point(state_dir: &Path, response: &Response) -> Self {
        let mut reason = format!("{response:?}");
        reason.truncate(reason.floor_char_boundary(60));
        Self::NotUnderstood {
            socket: state_dir.join(SOCKET_NAME),
            reason: format!("an answer to something else: {reason}"),
        }
    }
}

fn exchange(mut stream: UnixStream, command: &Command) -> io::Result<Vec<u8>> {
    match stream.write_all(command.to_line()?.as_bytes()) {
        // Turned away: why stands in what can be read.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
        written => written?,
    }
    let mut line = Vec::new();
    BufReader::new(stream.take(LONGEST_RESPONSE)).read_until(b'\n', &mut line)?;
    Ok(line)
}
