//! Owns what commands want of the disk and what is no picture: lists, deletions. One at a time, in order, so that a slow card has
//! one reader and the thread that serves everybody none. Never touches the disk itself. Callers leave an errand; the thread
//! `files` runs it.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use crate::error::{Error, Kind, Result};
use crate::threads::{Thread, guarded};

/// Errands that may wait; beyond, clients are told to come again.
pub const QUEUE: usize = 16;

/// Is given why it is not run, or nothing, and then runs.
type Errand = Box<dyn FnOnce(Option<Error>) + Send>;

/// The queue and its thread.
pub struct Errands {
    queue: SyncSender<Errand>,
    closed: Arc<AtomicBool>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

fn stopping() -> Error {
    Error::new(Kind::Busy, "the program is stopping")
}

impl Errands {
    /// Starts the thread `files`.
    pub fn start() -> Result<Errands> {
        let (queue, errands) = sync_channel::<Errand>(QUEUE);
        let closed = Arc::new(AtomicBool::new(false));
        let over = closed.clone();
        let thread = Thread::Files.keep(move || {
            while let Ok(errand) = errands.recv() {
                // Whoever waits is answered by the end of the errand.
                let _ = guarded("files", || errand(over.load(Relaxed).then(stopping)));
                if over.load(Relaxed) {
                    for errand in errands.try_iter() {
                        errand(Some(stopping()));
                    }
                    return;
                }
            }
        })?;
        Ok(Errands { queue, closed, thread: Mutex::new(Some(thread)) })
    }

    /// Has `work` done and `done` told what came of it, there or, when too many wait, here.
    pub fn run<T>(&self, work: impl FnOnce() -> Result<T> + Send + 'static, done: impl FnOnce(Result<T>) + Send + 'static) {
        let errand = Box::new(move |refused: Option<Error>| done(refused.map_or_else(work, Err)));
        match self.queue.try_send(errand) {
            Ok(()) => {}
            Err(TrySendError::Disconnected(errand)) => errand(Some(stopping())),
            Err(TrySendError::Full(errand)) => {
                errand(Some(Error::new(Kind::Busy, "too many commands wait for the disk; ask again")));
            }
        }
    }

    /// Refuses what waits; waits for nothing itself.
    pub fn stop(&self) {
        self.closed.store(true, Relaxed);
        // Wakes a thread that has nothing to do; a full queue does too.
        let _ = self.queue.try_send(Box::new(|_| ()));
    }

    /// Refuses what waits and ends the thread, once the disk lets it.
    pub fn close(&self) {
        self.stop();
        if let Some(thread) = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take() {
            // A panic has been told.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;

    #[test]
    fn one_runs_few_wait_and_the_rest_is_busy() {
        let errands = Errands::start().unwrap();
        let (open, gate) = channel::<()>();
        let (to, from) = channel();
        let told = |n: usize| {
            let to = to.clone();
            move |done: Result<usize>| to.send((n, done.map_err(|e| e.kind))).unwrap()
        };
        let (begun, has_begun) = channel();
        let hangs = move || {
            begun.send(()).unwrap();
            let _ = gate.recv();
            Ok(0)
        };
        errands.run(hangs, told(0));
        has_begun.recv().unwrap();
        (1..=QUEUE + 1).for_each(|n| errands.run(move || Ok(n), told(n)));
        assert_eq!(from.recv().unwrap(), (QUEUE + 1, Err(Kind::Busy)));
        assert!(from.try_recv().is_err(), "nothing but the one beyond is told while the disk hangs");
        open.send(()).unwrap();
        for n in 0..=QUEUE {
            assert_eq!(from.recv().unwrap(), (n, Ok(n)));
        }
        errands.run(|| panic!("for the test"), told(99));
        errands.run(|| Ok(7), told(7));
        assert_eq!(from.recv().unwrap(), (7, Ok(7)), "a panic costs its own errand");
        errands.close();
        errands.run(|| Ok(8), told(8));
        assert_eq!(from.recv().unwrap(), (8, Err(Kind::Busy)));
    }
}
