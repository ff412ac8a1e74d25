//! What the process may do, and how it gives that up.
//!
//! Capabilities belong to threads, and threads inherit them. So one thread, the [`Resident`], is made before all
//! others; then the first one gives up what only the start needs, and all that it makes have never had it. The
//! resident makes the resolver's namespace, gives the same up when the sockets stand, and stays there for the sake of
//! sockets to come: nobody has to enter the namespace any more, which takes CAP_SYS_ADMIN.

use std::io;
use std::sync::mpsc::{Sender, channel};
use std::thread;

use nix::sys::prctl::set_no_new_privs;
use tracing::{debug, info};

use crate::sys;

/// A capability's number (`linux/capability.h`), its name, and what it is for.
#[derive(Debug, Clone, Copy)]
struct Capability(u8, &'static str, &'static str);

const SETPCAP: Capability = Capability(8, "CAP_SETPCAP", "");
const NET_BIND_SERVICE: Capability = Capability(10, "CAP_NET_BIND_SERVICE", "to listen on port 53");
const NET_ADMIN: Capability = Capability(
    12,
    "CAP_NET_ADMIN",
    "to make interfaces and attach programs to them",
);
const SYS_ADMIN: Capability = Capability(
    21,
    "CAP_SYS_ADMIN",
    "to make the resolver's network namespace; given up after that",
);
const PERFMON: Capability = Capability(38, "CAP_PERFMON", "to load eBPF programs");
const BPF: Capability = Capability(39, "CAP_BPF", "to load eBPF programs and use their maps");

/// What the start needs.
const NEEDED: [Capability; 5] = [SYS_ADMIN, NET_ADMIN, BPF, PERFMON, NET_BIND_SERVICE];
/// What all threads keep: interfaces come and go, and maps are written.
const KEPT: [Capability; 2] = [NET_ADMIN, BPF];
/// What the resident keeps: addresses come, and sockets at them.
const KEPT_INSIDE: [Capability; 2] = [NET_ADMIN, NET_BIND_SERVICE];

/// Why the process cannot do its work.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Capabilities that it does not have.
    #[error("the agent cannot work: {}; add it to the container's securityContext.capabilities, or run as root", .0.join("; "))]
    Missing(Vec<String>),
    /// The kernel refuses to take any away, or to make a thread.
    #[error("privileges cannot be given up: {0}")]
    Kept(#[from] io::Error),
}

type Job = Box<dyn FnOnce() + Send>;

/// The thread that lives in the resolver's namespace.
#[derive(Debug, Clone)]
pub struct Resident {
    jobs: Sender<Job>,
}

impl Resident {
    /// Starts the thread, with all that the caller may do.
    ///
    /// # Errors
    /// If there can be no further thread.
    pub fn start() -> io::Result<Self> {
        let (jobs, queue) = channel::<Job>();
        let work = move || queue.into_iter().for_each(|job| job());
        thread::Builder::new()
            .name("resident".to_owned())
            .spawn(work)?;
        Ok(Self { jobs })
    }

    /// Runs `work` on the resident's thread and waits for it. If it panics, so does the caller.
    pub(crate) fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        let (sender, result) = channel();
        let job = move || {
            // The caller waits for it.
            let _ = sender.send(work());
        };
        let sent = self.jobs.send(Box::new(job));
        match sent.ok().and_then(|()| result.recv().ok()) {
            Some(value) => value,
            None => {
                unreachable!("the resident ends when nobody can ask it any more, or by a panic")
            }
        }
    }

    /// Gives up what only the start needs. From here on no thread has it, or can get it again.
    pub(crate) fn settle(&self) -> io::Result<()> {
        self.run(|| give_up_all_but(&KEPT_INSIDE))?;
        info!("privileges of the start are given up");
        Ok(())
    }
}

/// Starts the resident, and leaves the calling thread, and all that it will make, with what they need.
///
/// # Errors
/// Names each capability that is missing, and what for.
pub fn divide() -> Result<Resident, Error> {
    let has = sys::effective_capabilities()?;
    let missing = NEEDED
        .iter()
        .filter(|Capability(number, ..)| has & 1 << number == 0);
    let missing: Vec<_> = missing
        .map(|Capability(_, name, what)| format!("{name} is missing ({what})"))
        .collect();
    if !missing.is_empty() {
        return Err(Error::Missing(missing));
    }
    // No program that is ever executed gets more than its caller.
    set_no_new_privs().map_err(io::Error::from)?;
    let resident = Resident::start()?;
    give_up_all_but(&KEPT)?;
    Ok(resident)
}

/// Takes everything else out of all sets of the calling thread: bounding, ambient, inheritable, permitted, effective.
fn give_up_all_but(kept: &[Capability]) -> io::Result<()> {
    let kept = kept
        .iter()
        .fold(0, |set, Capability(number, ..)| set | 1 << number);
    let own = sys::effective_capabilities()?;
    sys::clear_ambient_set()?;
    if own & 1 << SETPCAP.0 == 0 {
        // What is there has no way back into the other sets, as no program gains anything by being executed.
        debug!("without CAP_SETPCAP the bounding set stays");
    } else {
        for number in (0..64).filter(|number| kept & 1 << number == 0) {
            match sys::drop_from_bounding_set(number) {
                // Beyond the last one that this kernel knows.
                Err(error) if error.raw_os_error() == Some(libc::EINVAL) => break,
                dropped => dropped?,
            }
        }
    }
    sys::set_capabilities(own & kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_waits_for_a_resident_that_has_panicked() {
        let resident = Resident::start().unwrap();
        assert_eq!(resident.run(|| 7), 7);
        let panic = std::panic::catch_unwind(|| resident.run(|| panic!("at work")));
        assert!(panic.is_err());
    }

    /// What is given up is gone for this thread and its children, whoever asks for it.
    #[test]
    fn what_is_given_up_does_not_come_back() {
        let own = sys::effective_capabilities().unwrap();
        let resident = Resident::start().unwrap();
        resident.settle().unwrap();
        let (left, again, child) = resident.run(move || {
            let child = thread::spawn(sys::effective_capabilities);
            (
                sys::effective_capabilities().unwrap(),
                sys::set_capabilities(own),
                child.join().unwrap().unwrap(),
            )
        });
        let kept = 1 << NET_ADMIN.0 | 1 << NET_BIND_SERVICE.0;
        assert_eq!((left, child), (own & kept, own & kept));
        if own & !kept != 0 {
            assert_eq!(again.unwrap_err().kind(), io::ErrorKind::PermissionDenied);
        }
        assert_eq!(
            sys::effective_capabilities().unwrap(),
            own,
            "another thread's"
        );
    }
}
