//! Owns the wish to stop: a flag that threads can sleep on, and the signals that raise it. Never ends the process itself.
//! One thread, `signals`, turns signals into calls; everyone else only asks or sleeps.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::error::{Error, Kind, Result};
use crate::threads::{self, Thread};

/// The flag. Clones share it.
#[derive(Clone, Default)]
pub struct Shutdown(Arc<(Mutex<bool>, Condvar)>);

impl Shutdown {
    /// Raises the flag and wakes all sleepers.
    pub fn request(&self) {
        *self.0.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.0.1.notify_all();
    }
    /// Whether it is raised.
    pub fn requested(&self) -> bool {
        *self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
    /// Sleeps until it is raised.
    pub fn wait(&self) {
        let mut stop = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        while !*stop {
            stop = self.0.1.wait(stop).unwrap_or_else(PoisonError::into_inner);
        }
    }
    /// Sleeps for `time` or until the flag is raised; true when it is raised.
    pub fn sleep(&self, time: Duration) -> bool {
        let end = Instant::now() + time;
        let mut stop = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        while !*stop {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            stop = self.0.1.wait_timeout(stop, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        *stop
    }
}

/// SIGTERM and SIGINT raise the flag, a second one ends the process at once; SIGHUP calls `reload`. SIGPIPE is ignored by
/// Rust's start-up code.
///
/// `reload` runs on a thread of its own, `reload`: it may wait for a disk, and a stop must not.
pub fn on_signals(shutdown: Shutdown, reload: impl Fn() + Send + 'static) -> Result<()> {
    let (bell, rings) = std::sync::mpsc::sync_channel(1);
    let listen = move || {
        while rings.recv().is_ok() {
            threads::fault("work");
            reload();
        }
    };
    Thread::Reload.keep(listen)?;
    let mut signals = signal_hook::iterator::Signals::new([SIGTERM, SIGINT, SIGHUP])
        .map_err(|e| Error::caused(Kind::Io, "take over the signals", e))?;
    let turn_into_calls = move || {
        for signal in &mut signals {
            threads::fault("work");
            match signal {
                // A second ring while one waits is the same wish.
                SIGHUP => drop(bell.try_send(())),
                _ if shutdown.requested() => std::process::exit(128 + signal),
                _ => {
                    log::info!("Stopping: signal {signal}");
                    shutdown.request();
                }
            }
        }
    };
    Thread::Signals.keep(turn_into_calls).map(drop)
}
