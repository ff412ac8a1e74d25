//! A thread that takes no signals while the kernel verifies programs for it.

use std::io::ErrorKind;
use std::marker::PhantomData;

use aya::programs::ProgramError;
use nix::sys::signal::SigSet;

/// How often the verifier is asked before its EAGAIN counts.
const ATTEMPTS: u32 = 10;

/// As long as it lives, its thread takes no signals; those of the process go to other threads, or wait.
///
/// The verifier gives up with EAGAIN when its thread is to look at a signal, even one that is ignored in the end
/// (`do_check` of kernel/bpf/verifier.c): a program is not loaded then, and a feature that is probed for by loading one
/// seems to be missing. Threads and processes that are started meanwhile take over that they take none.
#[derive(Debug)]
pub struct Undisturbed {
    before: Option<SigSet>,
    /// The mask is this thread's.
    _thread: PhantomData<*const ()>,
}

impl Undisturbed {
    /// From now on.
    #[expect(
        clippy::new_without_default,
        reason = "it does something to the thread"
    )]
    #[must_use]
    pub fn new() -> Self {
        let before = SigSet::thread_get_mask().ok();
        Self {
            // It fails for no set that is made this way; and without it the attempts below are left.
            before: before.filter(|_| SigSet::all().thread_block().is_ok()),
            _thread: PhantomData,
        }
    }
}

impl Drop for Undisturbed {
    fn drop(&mut self) {
        if let Some(before) = self.before {
            let _ = before.thread_set_mask();
        }
    }
}

/// Loads a program, undisturbed. SIGSTOP cannot be kept off, nor what the kernel itself has to say to the thread: after an
/// EAGAIN the verifier is asked again, a few times.
///
/// # Errors
///
/// The kernel refuses the program.
pub fn verified(mut load: impl FnMut() -> Result<(), ProgramError>) -> Result<(), ProgramError> {
    let _undisturbed = Undisturbed::new();
    for _ in 1..ATTEMPTS {
        match load() {
            Err(ProgramError::LoadError { io_error, .. })
                if io_error.kind() == ErrorKind::WouldBlock => {}
            result => return result,
        }
    }
    load()
}

#[cfg(test)]
mod tests {
    use aya_obj::VerifierLog;

    use super::*;
    use nix::sys::signal::Signal;
    use std::io;

    fn is_blocked() -> bool {
        SigSet::thread_get_mask().unwrap().contains(Signal::SIGCHLD)
    }

    #[test]
    fn the_mask_is_as_before() {
        let mut own = SigSet::empty();
        own.add(Signal::SIGUSR2);
        own.thread_set_mask().unwrap();
        {
            let _outer = Undisturbed::new();
            drop(Undisturbed::new());
            assert!(is_blocked(), "the outer one holds still");
        }
        assert_eq!(SigSet::thread_get_mask().unwrap(), own);
    }

    #[test]
    fn the_verifier_is_asked_again() {
        let error = |kind: ErrorKind| ProgramError::LoadError {
            io_error: kind.into(),
            verifier_log: VerifierLog::new(String::new()),
        };
        let mut asked = 0;
        let result = verified(|| {
            asked += 1;
            assert!(is_blocked());
            if asked < 3 {
                return Err(error(ErrorKind::WouldBlock));
            }
            Ok(())
        });
        assert!(result.is_ok() && asked == 3 && !is_blocked());
        for (kind, times) in [(ErrorKind::WouldBlock, ATTEMPTS), (ErrorKind::Other, 1)] {
            let mut asked = 0;
            let result = verified(|| {
                asked += 1;
                Err(error(kind))
            });
            assert!(result.is_err());
            assert_eq!(asked, times, "{}", io::Error::from(kind));
        }
    }
}
