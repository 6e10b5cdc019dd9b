//! Owns the order in which locks may be taken, one while another is held. In debug builds, which the tests are, whoever takes them
//! out of order panics at once, and not some day in a deadlock. Only the locks of the list are checked. Any thread.

use std::ops::{Deref, DerefMut};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Each may be taken while those before it are held, and none behind it nor itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rank {
    /// The pictures on their way.
    Jobs,
    /// What becomes of a camera's own stream.
    PassThrough,
    /// The subscribers of the stream.
    Hub,
    /// One subscriber's access units.
    AccessUnits,
    /// The order of the frames.
    Ring,
}

/// A value behind a lock of this rank. A panic elsewhere must leave it whole: it is used all the same.
#[derive(Debug)]
pub struct Ordered<T>(Rank, Mutex<T>);

/// The value, locked.
#[must_use]
pub struct Guard<'a, T> {
    value: MutexGuard<'a, T>,
    held: Held,
}

#[cfg(debug_assertions)]
mod check {
    use std::cell::RefCell;

    use super::Rank;

    thread_local! {
        static HELD: RefCell<Vec<Rank>> = const { RefCell::new(Vec::new()) };
    }

    pub(super) struct Held(Rank);

    impl Held {
        pub(super) fn new(rank: Rank) -> Held {
            HELD.with_borrow_mut(|held| {
                let before = held.iter().max();
                assert!(before < Some(&rank), "the lock {rank:?} is taken while {before:?} is held");
                held.push(rank);
            });
            Held(rank)
        }
    }

    impl Drop for Held {
        fn drop(&mut self) {
            HELD.with_borrow_mut(|held| held.retain(|rank| *rank != self.0));
        }
    }
}

#[cfg(not(debug_assertions))]
mod check {
    pub(super) struct Held;

    impl Held {
        pub(super) fn new(_: super::Rank) -> Held {
            Held
        }
    }
}

use check::Held;

impl<T> Ordered<T> {
    /// Behind a new lock.
    pub const fn new(rank: Rank, value: T) -> Self {
        Ordered(rank, Mutex::new(value))
    }

    /// Waits for the lock.
    pub fn lock(&self) -> Guard<'_, T> {
        let held = Held::new(self.0);
        Guard { value: self.1.lock().unwrap_or_else(PoisonError::into_inner), held }
    }
}

impl<T> Guard<'_, T> {
    /// [`Condvar::wait`]
    pub fn wait(self, bell: &Condvar) -> Self {
        let Guard { value, held } = self;
        Guard { value: bell.wait(value).unwrap_or_else(PoisonError::into_inner), held }
    }

    /// [`Condvar::wait_timeout`]
    pub fn wait_timeout(self, bell: &Condvar, most: Duration) -> Self {
        let Guard { value, held } = self;
        Guard { value: bell.wait_timeout(value, most).unwrap_or_else(PoisonError::into_inner).0, held }
    }
}

impl<T> Deref for Guard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T> DerefMut for Guard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locks_nest_in_order_only() {
        let (jobs, ring) = (Ordered::new(Rank::Jobs, 1), Ordered::new(Rank::Ring, 2));
        {
            let outer = jobs.lock();
            assert_eq!(*outer + *ring.lock(), 3);
            // Given back in between: no nesting.
            drop(outer);
            let _inner = ring.lock();
        }
        let wrong = |first: &Ordered<i32>, second: &Ordered<i32>| {
            let _first = first.lock();
            let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| drop(second.lock())));
            caught.is_err()
        };
        assert_eq!(wrong(&ring, &jobs), cfg!(debug_assertions));
        assert!(!wrong(&jobs, &ring), "a panic leaves nothing behind");
        let other = Ordered::new(Rank::Ring, 3);
        assert_eq!(wrong(&ring, &other), cfg!(debug_assertions), "two of one rank have no order");
    }
}
