//! A process that the lab started: killed and waited for when it is dropped.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::netns::Netns;
use crate::or_panic::OrPanic;
use crate::patience::{LONG, slowness};
use crate::procfs;

/// A child in a namespace, its output in a file.
#[derive(Debug)]
pub struct Process {
    what: String,
    pid: i32,
    child: Mutex<Child>,
    log: PathBuf,
}

impl Process {
    /// Starts `program` in the namespace; `what` names it and its log file.
    ///
    /// It leads a process group of its own, so that Ctrl-C in a terminal reaches the lab's owner first,
    /// and dies with its owner (`setpriv --pdeathsig`).
    #[must_use]
    pub fn start<S: AsRef<OsStr>>(
        netns: &Netns,
        what: &str,
        program: &Path,
        args: impl IntoIterator<Item = S>,
    ) -> Self {
        let mut command = Command::new(program);
        command.args(args);
        Self::run(netns, what, &command)
    }

    /// The same as process 1 of a PID namespace, as the first process of a container is.
    #[must_use]
    pub fn start_in_container<S: AsRef<OsStr>>(
        netns: &Netns,
        what: &str,
        program: &Path,
        args: impl IntoIterator<Item = S>,
    ) -> Self {
        let mut command = Command::new("unshare");
        command
            .args(["--pid", "--mount-proc", "--fork", "--kill-child=KILL", "--"])
            .arg(program)
            .args(args);
        let mut process = Self::run(netns, what, &command);
        let outside = process.pid;
        let children = format!("/proc/{outside}/task/{outside}/children");
        let end = Instant::now() + Duration::from_secs(20);
        while process.pid == outside && process.exit_status().is_none() {
            assert!(Instant::now() < end, "{what} does not start");
            let text = fs::read_to_string(&children).unwrap_or_default();
            if let Some(child) = text.split_whitespace().next() {
                process.pid = child.parse().or_panic(&children);
            }
            thread::sleep(Duration::from_millis(1));
        }
        process
    }

    fn run(netns: &Netns, what: &str, program: &Command) -> Self {
        let scope = netns.scope();
        let log = scope.dir().join(format!("{what}.log"));
        let open = || {
            File::options()
                .create(true)
                .append(true)
                .open(&log)
                .or_panic(format_args!("opening {}", log.display()))
        };
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", "KILL", "--"])
            .arg(program.get_program())
            .args(program.get_args());
        command.stdin(Stdio::null()).stdout(open()).stderr(open());
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let child = netns
            .spawn(command)
            .or_panic(format_args!("starting {program:?}"));
        let pid = i32::try_from(child.id()).or_panic("a pid is an i32");
        scope.record_process(pid, what);
        Self {
            what: what.to_owned(),
            pid,
            child: Mutex::new(child),
            log,
        }
    }

    /// Its pid.
    #[must_use]
    pub const fn pid(&self) -> i32 {
        self.pid
    }

    /// All that it wrote.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// The file that its output goes to.
    #[must_use]
    pub fn log_path(&self) -> &Path {
        &self.log
    }

    /// Its exit status, if it has ended.
    #[must_use]
    pub fn exit_status(&self) -> Option<ExitStatus> {
        self.child()
            .try_wait()
            .or_panic(format_args!("waiting for {}", self.what))
    }

    /// Sends it a signal. It has not been waited for, so the pid is its own still.
    pub fn signal(&self, signal: Signal) {
        if self.exit_status().is_none() {
            match kill(Pid::from_raw(self.pid), signal) {
                // In a container it has another one to wait for it, which is about to end as well.
                Err(Errno::ESRCH) => {}
                sent => sent.or_panic(format_args!("sending {signal} to {}", self.what)),
            }
        }
    }

    /// SIGSTOP, and waits until none of its threads runs any more: on a busy machine one that is to take part may run on
    /// for a moment.
    pub fn pause(&self) {
        self.signal(Signal::SIGSTOP);
        let end = Instant::now() + LONG * slowness();
        while procfs::has_running_threads(self.pid) && self.exit_status().is_none() {
            assert!(Instant::now() < end, "{} does not stop", self.what);
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// SIGCONT.
    pub fn resume(&self) {
        self.signal(Signal::SIGCONT);
    }

    /// SIGKILL, and waits for its end.
    pub fn kill9(&self) {
        self.end_by(Signal::SIGKILL);
    }

    /// SIGABRT, as a process ends that panics; waits for its end.
    pub fn abort(&self) {
        self.end_by(Signal::SIGABRT);
    }

    fn end_by(&self, signal: Signal) {
        self.signal(signal);
        self.child()
            .wait()
            .or_panic(format_args!("waiting for {}", self.what));
    }

    /// SIGTERM, and waits for its end; panics when it has not ended in time.
    pub fn stop(&self, patience: Duration) -> ExitStatus {
        self.signal(Signal::SIGTERM);
        let end = Instant::now() + patience;
        loop {
            if let Some(status) = self.exit_status() {
                return status;
            }
            assert!(
                Instant::now() < end,
                "{} did not end within {patience:?} of SIGTERM",
                self.what
            );
            thread::sleep(Duration::from_millis(5));
        }
    }

    fn child(&self) -> std::sync::MutexGuard<'_, Child> {
        self.child
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let child = self
            .child
            .get_mut()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let _ = child.kill();
        let _ = child.wait();
        if thread::panicking() {
            let log = fs::read_to_string(&self.log).unwrap_or_default();
            let lines: Vec<_> = log.lines().collect();
            eprintln!(
                "--- the last lines of {}:\n{}\n---",
                self.what,
                lines[lines.len().saturating_sub(60)..].join("\n")
            );
        }
    }
}
