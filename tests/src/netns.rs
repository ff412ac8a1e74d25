//! One network namespace: a name that `ip netns` knows, threads that enter it, processes that live in it.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex, mpsc};
use std::thread::{self, JoinHandle};

use nix::sched::{CloneFlags, setns};

use crate::or_panic::OrPanic;
use crate::scope::{ETC_NETNS, Lock, NETNS, Scope};

type Job = Box<dyn FnOnce() + Send>;

/// A network namespace. Dropping it removes its name; it ends when its last socket is closed.
#[derive(Debug)]
pub struct Netns {
    name: String,
    scope: Arc<Scope>,
    spawner: Mutex<Option<(mpsc::Sender<Job>, JoinHandle<()>)>>,
}

impl Netns {
    /// A new namespace `dnsc-<id>-<short>` with its loopback up.
    #[must_use]
    pub fn new(scope: &Arc<Scope>, short: &str) -> Self {
        let name = scope.netns_name(short);
        {
            let _lock = Lock::take();
            succeed(Command::new("ip").args(["netns", "add", &name]));
        }
        let netns = Self {
            name,
            scope: Arc::clone(scope),
            spawner: Mutex::new(None),
        };
        netns.run(|| {
            // A veth is of use at once, not after a second of duplicate address detection.
            for path in [
                "net/ipv6/conf/all/accept_dad",
                "net/ipv6/conf/default/accept_dad",
            ] {
                sysctl(path, "0");
            }
            succeed(Command::new("ip").args(["link", "set", "lo", "up"]));
        });
        netns
    }

    /// The name by which `ip netns` knows it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The lab that it belongs to.
    #[must_use]
    pub fn scope(&self) -> &Arc<Scope> {
        &self.scope
    }

    /// Its file under `/run/netns`.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        PathBuf::from(NETNS).join(&self.name)
    }

    /// Runs `work` on a thread of its own inside the namespace: sockets it opens belong to it.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let path = self.path();
        let done = thread::scope(|scope| {
            scope
                .spawn(|| {
                    enter(&path);
                    work()
                })
                .join()
        });
        match done {
            Ok(value) => value,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }

    /// Runs a command inside to its end. The mounts are the caller's, unlike under `ip netns exec`.
    #[must_use]
    pub fn output(&self, command: &mut Command) -> Output {
        self.run(|| output(command))
    }

    /// Runs a command inside that must succeed; its standard output.
    pub fn succeed(&self, command: &mut Command) -> String {
        self.run(|| succeed(command))
    }

    /// Runs a command inside that must succeed, feeding it `input`; its standard output.
    pub fn feed(&self, command: &mut Command, input: &str) -> String {
        self.run(|| feed(command, input))
    }

    /// Runs `ip -batch` inside.
    pub fn ip(&self, batch: &str) {
        self.feed(Command::new("ip").args(["-batch", "-"]), batch);
    }

    /// Writes a sysctl inside (`net/ipv4/ip_forward`).
    pub fn sysctl(&self, path: &str, value: &str) {
        self.run(|| sysctl(path, value));
    }

    /// Starts a process inside, from a thread that lives as long as the namespace's handle: the
    /// parent-death signal of a child goes by the thread that started it.
    pub fn spawn(&self, mut command: Command) -> io::Result<Child> {
        let (answer, result) = mpsc::channel();
        let job: Job = Box::new(move || {
            // The asker waits below.
            let _ = answer.send(command.spawn());
        });
        self.spawner()
            .send(job)
            .or_panic("the namespace's spawner has ended");
        result.recv().or_panic("the namespace's spawner has ended")
    }

    /// Gives the namespace a `resolv.conf` under `ip netns exec`.
    pub fn write_resolv_conf(&self, text: &str) {
        let _lock = Lock::take();
        let dir = PathBuf::from(ETC_NETNS).join(&self.name);
        fs::create_dir_all(&dir).or_panic(format_args!("making {}", dir.display()));
        fs::write(dir.join("resolv.conf"), text)
            .or_panic(format_args!("writing {}/resolv.conf", dir.display()));
    }

    fn spawner(&self) -> mpsc::Sender<Job> {
        let mut spawner = self
            .spawner
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let (sender, _) = spawner.get_or_insert_with(|| {
            let (sender, jobs) = mpsc::channel::<Job>();
            let path = self.path();
            let thread = thread::spawn(move || {
                enter(&path);
                jobs.into_iter().for_each(|job| job());
            });
            (sender, thread)
        });
        sender.clone()
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        let spawner = self
            .spawner
            .get_mut()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .take();
        if let Some((sender, thread)) = spawner {
            drop(sender);
            // A thread of a namespace keeps it alive.
            let _ = thread.join();
        }
        let _lock = Lock::take();
        let _ = Command::new("ip")
            .args(["netns", "del", &self.name])
            .output();
        let _ = fs::remove_dir_all(PathBuf::from(ETC_NETNS).join(&self.name));
        let _ = fs::remove_dir(ETC_NETNS);
    }
}

fn enter(path: &std::path::Path) {
    let file = File::open(path).or_panic(format_args!("opening {}", path.display()));
    setns(file, CloneFlags::CLONE_NEWNET).or_panic(format_args!("entering {}", path.display()));
}

pub(crate) fn sysctl(path: &str, value: &str) {
    fs::write(format!("/proc/sys/{path}"), value)
        .or_panic(format_args!("setting {path} to {value}"));
}

pub(crate) fn output(command: &mut Command) -> Output {
    let program = command.get_program().to_string_lossy().into_owned();
    command.stdin(Stdio::null()).output().or_panic(format_args!(
        "running {program} (`cargo xtask setup` installs what the lab needs)"
    ))
}

pub(crate) fn succeed(command: &mut Command) -> String {
    let output = output(command);
    checked(command, &output)
}

fn feed(command: &mut Command, input: &str) -> String {
    let program = command.get_program().to_string_lossy().into_owned();
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().or_panic(format_args!(
        "running {program} (`cargo xtask setup` installs what the lab needs)"
    ));
    let mut stdin = child.stdin.take().or_panic("a pipe was asked for");
    stdin
        .write_all(input.as_bytes())
        .or_panic(format_args!("writing to {program}"));
    drop(stdin);
    let output = child
        .wait_with_output()
        .or_panic(format_args!("waiting for {program}"));
    if !output.status.success() {
        eprintln!("{program} was given:\n{input}");
    }
    checked(command, &output)
}

#[track_caller]
fn checked(command: &Command, output: &Output) -> String {
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{command:?} ended with {}:\n{stdout}{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    stdout
}
