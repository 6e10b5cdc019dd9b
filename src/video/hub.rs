//! Owns the one encoded stream: hands each access unit to everybody who takes it, and knows whether anybody does.
//! Never encodes and never waits: a taker that has no room for a unit loses it. Units come from the encoder's own thread;
//! takers come and go on any.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use gstreamer as gst;

use crate::clock::WallUs;

/// One encoded picture: H.264 as a byte stream, parameter sets in front of every key frame.
#[derive(Debug, Clone)]
pub struct Unit {
    /// The bytes. Its time stamp is the frame's boot-time instant [ns].
    pub buffer: gst::Buffer,
    /// What they are; changes with the picture's size.
    pub caps: gst::Caps,
    /// Whether decoding may begin here.
    pub key: bool,
    /// The frame's number.
    pub id: u64,
    /// The frame's instant on the wall clock.
    pub wall: WallUs,
}

impl Unit {
    /// The frame's boot-time instant; units have one by construction.
    pub fn time(&self) -> gst::ClockTime {
        self.buffer.pts().unwrap_or_default()
    }
}

/// Called with each unit, on the encoder's thread: must not block, and must not drop a [`Taking`].
pub type Taker = Box<dyn FnMut(&Unit) + Send>;

struct Place {
    number: u64,
    /// It has had its first key frame.
    begun: bool,
    take: Taker,
}

#[derive(Default)]
struct Inside {
    places: Vec<Place>,
    next: u64,
    closed: bool,
}

/// The hub. See the module's first lines.
pub struct Hub {
    inside: Mutex<Inside>,
    /// Somebody takes, or the end.
    changed: Condvar,
    key_asked: AtomicBool,
    /// Wakes whoever feeds the encoder from its wait for a frame.
    wake: Box<dyn Fn() + Send + Sync>,
}

impl Hub {
    /// A hub nobody takes from; `wake` is called when a key frame is asked for and when the last taker has gone.
    pub fn new(wake: impl Fn() + Send + Sync + 'static) -> Arc<Hub> {
        Arc::new(Hub {
            inside: Mutex::default(),
            changed: Condvar::new(),
            key_asked: AtomicBool::new(false),
            wake: Box::new(wake),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Inside> {
        // Whole at every point where a panic could strike.
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands `take` every unit from the next key frame on, which is asked for, until what comes back is dropped.
    pub fn take(self: &Arc<Self>, take: Taker) -> Taking {
        let mut inside = self.lock();
        inside.next += 1;
        let number = inside.next;
        inside.places.push(Place { number, begun: false, take });
        drop(inside);
        self.ask_key();
        self.changed.notify_all();
        Taking { hub: self.clone(), number }
    }

    /// Asks for a key frame soon: somebody has joined.
    pub fn ask_key(&self) {
        self.key_asked.store(true, Relaxed);
        (self.wake)();
    }

    /// Wakes whoever feeds the encoder: its settings have changed.
    pub fn nudge(&self) {
        (self.wake)();
    }

    /// Whether a key frame was asked for.
    pub fn key_asked(&self) -> bool {
        self.key_asked.load(Relaxed)
    }

    /// The key frame is on its way.
    pub fn key_given(&self) {
        self.key_asked.store(false, Relaxed);
    }

    /// Whether anybody takes.
    pub fn is_taken(&self) -> bool {
        let inside = self.lock();
        !inside.places.is_empty() && !inside.closed
    }

    /// Sleeps until somebody takes; false at the end of the program.
    pub fn wait_taken(&self) -> bool {
        let mut inside = self.lock();
        while inside.places.is_empty() && !inside.closed {
            inside = self.changed.wait(inside).unwrap_or_else(PoisonError::into_inner);
        }
        !inside.closed
    }

    /// Ends [`Hub::wait_taken`] for good.
    pub fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
        (self.wake)();
    }

    /// Hands a unit round.
    pub fn publish(&self, unit: &Unit) {
        for place in &mut self.lock().places {
            place.begun |= unit.key;
            if place.begun {
                (place.take)(unit);
            }
        }
    }
}

/// A place at the hub; dropping it gives the place up.
pub struct Taking {
    hub: Arc<Hub>,
    number: u64,
}

impl Drop for Taking {
    fn drop(&mut self) {
        let mut inside = self.hub.lock();
        let at = inside.places.iter().position(|p| p.number == self.number);
        let gone = at.map(|i| inside.places.swap_remove(i));
        let last = inside.places.is_empty();
        drop(inside);
        // Outside the lock: what the taker owns may be slow to end.
        drop(gone);
        if last {
            (self.hub.wake)();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    fn unit(id: u64, key: bool) -> Unit {
        crate::gst::init().unwrap();
        let caps = gst::Caps::new_empty_simple("video/x-h264");
        Unit { buffer: gst::Buffer::new(), caps, key, id, wall: WallUs(0) }
    }

    #[test]
    fn a_taker_begins_with_a_key_frame_and_ends_when_dropped() {
        let hub = Hub::new(|| {});
        assert!(!hub.is_taken() && !hub.key_asked());
        let (to, from) = channel();
        let place = hub.take(Box::new(move |u| to.send(u.id).unwrap()));
        assert!(hub.is_taken() && hub.key_asked() && hub.wait_taken());
        for (id, key) in [(1, false), (2, true), (3, false)] {
            hub.publish(&unit(id, key));
        }
        drop(place);
        assert!(!hub.is_taken());
        hub.publish(&unit(4, true));
        assert_eq!(from.iter().collect::<Vec<_>>(), [2, 3]);
        hub.close();
        assert!(!hub.wait_taken());
    }
}
