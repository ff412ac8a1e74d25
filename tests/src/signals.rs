//! Clean-up on SIGINT, SIGTERM and SIGHUP, for programs that own labs.

use std::io;
use std::thread;

use tokio::signal::unix::{SignalKind, signal};

/// From now on the first of these signals runs `before`, removes this process's labs and ends it with
/// 128 + the signal's number, wherever the other threads are.
pub fn clean_up_on_signals(before: impl FnOnce() + Send + 'static) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let guard = runtime.enter();
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    drop(guard);
    thread::spawn(move || {
        let number = runtime.block_on(async {
            tokio::select! {
                _ = interrupt.recv() => SignalKind::interrupt(),
                _ = terminate.recv() => SignalKind::terminate(),
                _ = hang_up.recv() => SignalKind::hangup(),
            }
        });
        before();
        crate::scope::exit(128 + number.as_raw_value())
    });
    Ok(())
}
