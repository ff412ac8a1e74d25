//! The agent's side.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use nix::sys::stat::{Mode, fchmod};
use socket2::{Domain, SockAddr, Socket, Type};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tracing::{debug, warn};

use super::SOCKET_NAME;
use super::protocol::{Command, Response};

/// Bytes of a request with its line break.
const LONGEST_REQUEST: usize = 64 * 1024;
/// Clients at once; one more is told so and turned away.
const MOST_CLIENTS: usize = 16;
/// For a client to send a request, and to take the answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// Before the next accept when descriptors have run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Held for as long as the agent lives; the kernel lets go of it however the agent ends.
const LOCK_NAME: &str = "agent.lock";

/// Who does what is asked for.
pub trait Handler: Send + Sync {
    /// The answer to a request. It is awaited on the runtime: what takes long belongs on a thread of its own.
    fn handle(self: Arc<Self>, command: Command) -> BoxFuture<'static, Response>;

    /// Takes the connection of an agent that asked for a hand-over by this version of the protocol.
    fn hand_over(&self, successor: UnixStream, protocol: u32);
}

/// How the server ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shutdown {
    /// Not yet.
    Running,
    /// With its socket's name.
    Stop,
    /// Another process listens to its socket.
    HandedOver,
}

/// Why a state directory cannot be taken.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// Another agent has it.
    #[error(
        "another agent runs with stateDir {}, pid {pid}: stop it first, or give this one its own stateDir and bpffs",
        state_dir.display()
    )]
    Taken {
        /// The state directory.
        state_dir: PathBuf,
        /// The other agent's process; `?` in the moment in which it starts.
        pid: String,
    },
    /// The system's word.
    #[error("{action} {}: {reason}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// How it went.
        reason: io::Error,
    },
}

/// The control socket of this agent. While it lives no other agent takes the state directory.
#[derive(Debug)]
pub struct Server {
    listener: std::os::unix::net::UnixListener,
    socket: SocketFile,
    // Last: the lock must outlast the socket's removal.
    lock: File,
}

/// Removed when dropped, if it is this agent's. One that stays behind is replaced by the next agent.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    is_ours: bool,
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if self.is_ours {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

impl Server {
    /// Takes the state directory, which is made if need be, and opens its control socket.
    ///
    /// A socket that a dead agent left is replaced.
    ///
    /// # Errors
    /// If another agent runs with the directory, or the system refuses.
    pub fn bind(state_dir: &Path) -> Result<Self, ServerError> {
        // For root alone, as the socket: whoever may look in may also flush.
        let made = DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(state_dir);
        made.map_err(failed("making the directory", state_dir))?;
        let lock = lock(state_dir)?;
        let socket = state_dir.join(SOCKET_NAME);
        // With the lock held, a socket that is there is a dead agent's.
        match std::fs::remove_file(&socket) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(failed("removing the old socket", &socket)(error));
            }
            _ => {}
        }
        let listener = listen(&socket).map_err(failed("opening the control socket", &socket))?;
        Ok(Self {
            listener,
            socket: SocketFile {
                path: socket,
                is_ours: true,
            },
            lock,
        })
    }

    /// The control socket of another agent, with the lock of its state directory. It is the other's until
    /// [`Self::run`].
    #[must_use]
    pub fn inherit(state_dir: &Path, lock: OwnedFd, listener: OwnedFd) -> Self {
        Self {
            listener: listener.into(),
            socket: SocketFile {
                path: state_dir.join(SOCKET_NAME),
                is_ours: false,
            },
            lock: lock.into(),
        }
    }

    /// The lock and the listener once more, for [`Self::inherit`] in another process.
    ///
    /// # Errors
    /// If there are no more descriptors.
    pub fn duplicate(&self) -> io::Result<(OwnedFd, OwnedFd)> {
        let (lock, listener) = (self.lock.try_clone()?, self.listener.try_clone()?);
        Ok((lock.into(), listener.into()))
    }

    /// Gives the state directory back for good: socket, lock and, if nothing else is in it, the directory.
    ///
    /// # Errors
    /// If the system refuses to remove the lock.
    pub fn remove(self, state_dir: &Path) -> Result<(), ServerError> {
        let Self {
            listener,
            socket,
            lock,
        } = self;
        // Once the lock's file is gone the next agent makes one of its own, and its socket: nothing of that
        // name may be removed any more.
        drop((listener, socket));
        let path = state_dir.join(LOCK_NAME);
        std::fs::remove_file(&path).map_err(failed("removing", &path))?;
        drop(lock);
        // Others' files keep it.
        let _ = std::fs::remove_dir(state_dir);
        Ok(())
    }

    /// Answers requests until `shutdown` says so or its sender is gone; then no client is left.
    ///
    /// # Errors
    /// If the socket cannot be handed to the runtime, or the lock's file not be written.
    pub async fn run(
        mut self,
        handler: Arc<dyn Handler>,
        mut shutdown: watch::Receiver<Shutdown>,
    ) -> io::Result<()> {
        self.socket.is_ours = true;
        sign(&self.lock)?;
        let listener = UnixListener::from_std(self.listener.try_clone()?)?;
        let mut clients = JoinSet::new();
        let mut over = std::pin::pin!(async {
            let ended = shutdown.wait_for(|shutdown| *shutdown != Shutdown::Running);
            ended.await.map_or(Shutdown::Stop, |shutdown| *shutdown)
        });
        let how = loop {
            tokio::select! {
                how = &mut over => break how,
                Some(_) = clients.join_next() => {}
                accepted = listener.accept() => match accepted {
                    Ok((client, _)) if clients.len() < MOST_CLIENTS => {
                        clients.spawn(serve(client, Arc::clone(&handler)));
                    }
                    Ok((client, _)) => turn_away(&client),
                    Err(error) => {
                        warn!(%error, "the control socket does not accept");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                },
            }
        };
        if how == Shutdown::HandedOver {
            self.socket.is_ours = false;
        }
        clients.shutdown().await;
        Ok(())
    }
}

fn failed<'a>(action: &'static str, path: &'a Path) -> impl Fn(io::Error) -> ServerError + 'a {
    move |reason| ServerError::Io {
        action,
        path: path.to_owned(),
        reason,
    }
}

/// Whether an agent has the state directory. Nothing is made there, and nothing of what is there is changed.
///
/// # Errors
/// If the system refuses to open or to try the lock.
pub fn is_taken(state_dir: &Path) -> Result<bool, ServerError> {
    let path = state_dir.join(LOCK_NAME);
    let file = match File::open(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        file => file.map_err(failed("opening", &path))?,
    };
    match file.try_lock_shared() {
        Ok(()) => Ok(false),
        Err(TryLockError::WouldBlock) => Ok(true),
        Err(TryLockError::Error(error)) => Err(failed("locking", &path)(error)),
    }
}

/// A lock, not a try at the socket: two agents that start at once must not both find it dead.
///
/// It is `flock`'s, which belongs to the open file: whoever is handed the descriptor holds it too, until all of them
/// have closed theirs.
fn lock(state_dir: &Path) -> Result<File, ServerError> {
    let path = state_dir.join(LOCK_NAME);
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(failed("opening", &path))?;
    match file.try_lock() {
        Ok(()) => {
            sign(&file).map_err(failed("writing", &path))?;
            Ok(file)
        }
        Err(TryLockError::WouldBlock) => {
            let mut pid = String::new();
            let _ = file.take(20).read_to_string(&mut pid);
            let pid = if pid.is_empty() { "?".to_owned() } else { pid };
            Err(ServerError::Taken {
                state_dir: state_dir.to_owned(),
                pid,
            })
        }
        Err(TryLockError::Error(error)) => Err(failed("locking", &path)(error)),
    }
}

/// Says in the lock's file whose it is.
fn sign(mut lock: &File) -> io::Result<()> {
    lock.set_len(0)?;
    lock.rewind()?;
    write!(lock, "{}", std::process::id())
}

fn listen(path: &Path) -> io::Result<std::os::unix::net::UnixListener> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // Before bind: Linux makes the file with the socket's own mode (unix_bind_bsd in
    // net/unix/af_unix.c), so that there is no moment in which others may connect.
    fchmod(&socket, Mode::S_IRUSR | Mode::S_IWUSR)?;
    socket.bind(&SockAddr::unix(path)?)?;
    socket.listen(128)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

fn turn_away(client: &UnixStream) {
    let response = Response::Error(format!("{MOST_CLIENTS} clients are connected; try again"));
    if let Ok(line) = response.to_line() {
        // The socket's buffer is empty, so this takes all of it at once or the client is gone.
        let _ = client.try_write(line.as_bytes());
    }
}

/// Answers one client's requests, one after the other.
async fn serve(client: UnixStream, handler: Arc<dyn Handler>) {
    if let Err(error) = converse(client, handler).await {
        debug!(%error, "a client of the control socket is gone");
    }
}

async fn converse(client: UnixStream, handler: Arc<dyn Handler>) -> io::Result<()> {
    let (reader, mut writer) = client.into_split();
    let mut reader = BufReader::new(reader);
    let mut line = Vec::new();
    loop {
        line.clear();
        // One byte over the limit tells a request that is too long.
        let mut limited = (&mut reader).take(LONGEST_REQUEST as u64 + 1);
        let (response, go_on) = match timeout(PATIENCE, limited.read_until(b'\n', &mut line)).await
        {
            Err(_) => (
                Response::Error(format!("no request within {PATIENCE:?}")),
                false,
            ),
            Ok(Err(error)) => return Err(error),
            Ok(Ok(0)) => return Ok(()),
            Ok(Ok(_)) if line.len() > LONGEST_REQUEST => {
                let message = format!("the request is longer than {LONGEST_REQUEST} bytes");
                (Response::Error(message), false)
            }
            Ok(Ok(_)) => match Command::from_line(&line) {
                Ok(Command::HandOver { protocol }) => {
                    // Both halves are of one stream.
                    if let Ok(client) = reader.into_inner().reunite(writer) {
                        handler.hand_over(client, protocol);
                    }
                    return Ok(());
                }
                Ok(command) => (Arc::clone(&handler).handle(command).await, true),
                Err(message) => (Response::Error(message), true),
            },
        };
        let response = response.to_line()?;
        timeout(PATIENCE, writer.write_all(response.as_bytes())).await??;
        if !go_on {
            return Ok(());
        }
    }
}
