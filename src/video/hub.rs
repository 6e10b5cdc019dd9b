//! Owns the one encoded stream: gives each access unit to all subscribers, and knows whether there are any. The units come
//! from the encoder or are passed through from the camera, and each turn begins with a key frame. Never encodes and never waits: a
//! subscriber that has no room for a unit loses it. Units come from the encoder's own thread or the camera's; subscribers come and
//! go on any.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Condvar};

use super::access_unit::AccessUnit;
use super::gop::GopCache;
use crate::lock::{Guard, Ordered, Rank};

/// Called with each unit, on the thread it comes from: must not block, and must not drop a [`Subscription`]. False where it cannot
/// take anything yet: it is offered a key frame again.
pub type Deliver = Box<dyn FnMut(&AccessUnit) -> bool + Send>;

struct Subscriber {
    number: u64,
    /// It has had its first key frame.
    begun: bool,
    deliver: Deliver,
}

impl Subscriber {
    fn offer(&mut self, unit: &AccessUnit) {
        if self.begun || unit.keyframe {
            self.begun = (self.deliver)(unit);
        }
    }

    /// Everything from the key frame on, to one who has just come.
    fn catch_up(&mut self, kept: &[AccessUnit]) {
        for (n, unit) in kept.iter().enumerate() {
            let old = AccessUnit { behind: (kept.len() - 1 - n) as u32, ..unit.clone() };
            self.offer(&old);
            if !self.begun {
                return;
            }
        }
    }
}

#[derive(Default)]
struct Inside {
    subscribers: Vec<Subscriber>,
    next: u64,
    closed: bool,
    /// Subscribers get the camera's own units.
    passes_through: bool,
    gop: GopCache,
}

/// The hub. See the module's first lines.
pub struct Hub {
    inside: Ordered<Inside>,
    /// The first subscriber has come, or the end.
    changed: Condvar,
    keyframe_requested: AtomicBool,
    /// A viewer has begun since the feeder's last look.
    viewer_began: AtomicBool,
    /// Wakes whoever feeds the encoder from its wait for a frame.
    wake: Box<dyn Fn() + Send + Sync>,
}

impl Hub {
    /// A hub without subscribers; `wake` is called when a key frame is asked for and when the last subscriber has gone.
    pub fn new(wake: impl Fn() + Send + Sync + 'static) -> Arc<Hub> {
        Arc::new(Hub {
            inside: Ordered::new(Rank::Hub, Inside::default()),
            changed: Condvar::new(),
            keyframe_requested: AtomicBool::new(false),
            viewer_began: AtomicBool::new(false),
            wake: Box::new(wake),
        })
    }

    fn lock(&self) -> Guard<'_, Inside> {
        // Whole at every point where a panic could strike.
        self.inside.lock()
    }

    /// Calls `deliver` with every unit from a key frame on, until the subscription is dropped: from the camera's last key frame at
    /// once, or from the encoder's next one, which is asked for.
    pub fn subscribe(self: &Arc<Self>, deliver: Deliver) -> Subscription {
        let mut inside = self.lock();
        inside.next += 1;
        let number = inside.next;
        inside.subscribers.push(Subscriber { number, begun: false, deliver });
        drop(inside);
        self.request_keyframe();
        self.changed.notify_all();
        Subscription { hub: self.clone(), number }
    }

    /// Asks for a key frame soon: somebody has joined. Not for subscribers, who say it by what they return.
    pub fn request_keyframe(&self) {
        if !self.catch_up() {
            self.keyframe_requested.store(true, Relaxed);
            (self.wake)();
        }
    }

    /// A viewer begins to watch: it needs a key frame soon, and then pictures at short intervals.
    pub fn viewer_begins(&self) {
        self.viewer_began.store(true, Relaxed);
        self.request_keyframe();
    }

    /// Whether a viewer has begun since the last call.
    pub fn take_viewer_began(&self) -> bool {
        self.viewer_began.swap(false, Relaxed)
    }

    /// Gives those who wait for a key frame the camera's last one and what followed; false where it is the encoder's turn.
    pub fn catch_up(&self) -> bool {
        let mut inside = self.lock();
        let Inside { subscribers, gop, passes_through, .. } = &mut *inside;
        if *passes_through {
            subscribers.iter_mut().filter(|p| !p.begun).for_each(|p| p.catch_up(gop.units()));
        }
        *passes_through
    }

    /// Wakes whoever feeds the encoder: its settings have changed.
    pub fn nudge(&self) {
        (self.wake)();
    }

    /// Whether a key frame was asked for.
    pub fn keyframe_requested(&self) -> bool {
        self.keyframe_requested.load(Relaxed)
    }

    /// The key frame is on its way.
    pub fn keyframe_sent(&self) {
        self.keyframe_requested.store(false, Relaxed);
    }

    /// Whether there is a subscriber.
    pub fn has_subscribers(&self) -> bool {
        let inside = self.lock();
        !inside.subscribers.is_empty() && !inside.closed
    }

    /// Sleeps until there is a subscriber; false at the end of the program.
    pub fn wait_for_subscriber(&self) -> bool {
        let mut inside = self.lock();
        while inside.subscribers.is_empty() && !inside.closed {
            inside = inside.wait(&self.changed);
        }
        !inside.closed
    }

    /// Ends [`Hub::wait_for_subscriber`] for good.
    pub fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
        (self.wake)();
    }

    /// Gives the encoder's unit to all subscribers. While the camera's own are passed through it is dropped: it was still on its way.
    pub fn publish(&self, unit: &AccessUnit) {
        let mut inside = self.lock();
        if inside.passes_through {
            return;
        }
        inside.subscribers.iter_mut().for_each(|p| p.offer(unit));
        let missed = unit.keyframe && inside.subscribers.iter().any(|p| !p.begun);
        drop(inside);
        if missed {
            // Who could not take this one is to have another.
            self.request_keyframe();
        }
    }

    /// Gives the camera's own unit to all subscribers; its first key frame ends the encoder's turn.
    pub fn pass_through(&self, unit: &AccessUnit) {
        let mut inside = self.lock();
        let begins = unit.keyframe && !inside.passes_through;
        if !unit.keyframe && !inside.passes_through {
            return;
        }
        inside.passes_through = true;
        inside.gop.add(unit);
        let Inside { subscribers, gop, .. } = &mut *inside;
        for subscriber in subscribers {
            if subscriber.begun || unit.keyframe {
                subscriber.offer(unit);
            } else {
                subscriber.catch_up(gop.units());
            }
        }
        drop(inside);
        if begins {
            (self.wake)();
        }
    }

    /// The camera's stream has ended: it is the encoder's turn, with a key frame.
    pub fn end_pass_through(&self) {
        let mut inside = self.lock();
        inside.gop.clear();
        if std::mem::take(&mut inside.passes_through) {
            inside.subscribers.iter_mut().for_each(|p| p.begun = false);
            drop(inside);
            self.request_keyframe();
        }
    }

    /// Whether subscribers get the camera's own units.
    pub fn passes_through(&self) -> bool {
        self.lock().passes_through
    }
}

/// A subscription to the stream; dropping it ends it.
pub struct Subscription {
    hub: Arc<Hub>,
    number: u64,
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let mut inside = self.hub.lock();
        let at = inside.subscribers.iter().position(|p| p.number == self.number);
        let gone = at.map(|i| inside.subscribers.swap_remove(i));
        let last = inside.subscribers.is_empty();
        drop(inside);
        // Outside the lock: what the subscriber owns may be slow to end.
        drop(gone);
        if last {
            (self.hub.wake)();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use gstreamer as gst;

    use super::*;
    use crate::clock::WallUs;

    fn unit(id: u64, key: bool) -> AccessUnit {
        crate::gst::init().unwrap();
        let caps = gst::Caps::new_empty_simple("video/x-h264");
        AccessUnit { buffer: gst::Buffer::new(), caps, keyframe: key, id, wall: WallUs(0), behind: 0 }
    }

    #[test]
    fn a_subscriber_begins_with_a_key_frame_and_ends_when_dropped() {
        let hub = Hub::new(|| {});
        assert!(!hub.has_subscribers() && !hub.keyframe_requested());
        let (to, from) = channel();
        let subscriber = hub.subscribe(Box::new(move |u| to.send(u.id).is_ok()));
        assert!(hub.has_subscribers() && hub.keyframe_requested() && hub.wait_for_subscriber());
        for (id, key) in [(1, false), (2, true), (3, false)] {
            hub.publish(&unit(id, key));
        }
        drop(subscriber);
        assert!(!hub.has_subscribers());
        hub.publish(&unit(4, true));
        assert_eq!(from.iter().collect::<Vec<_>>(), [2, 3]);
        hub.close();
        assert!(!hub.wait_for_subscriber());
    }

    #[test]
    fn camera_and_encoder_take_turns_at_key_frames() {
        let hub = Hub::new(|| {});
        let (to, from) = channel();
        let _place = hub.subscribe(Box::new(move |u| to.send(u.id).is_ok()));
        hub.publish(&unit(1, true));
        hub.pass_through(&unit(101, false));
        hub.publish(&unit(2, false));
        hub.pass_through(&unit(102, true));
        hub.publish(&unit(3, true));
        hub.pass_through(&unit(103, false));
        hub.keyframe_sent();
        hub.end_pass_through();
        assert!(hub.keyframe_requested() && !hub.passes_through());
        hub.publish(&unit(4, false));
        hub.pass_through(&unit(104, false));
        hub.publish(&unit(5, true));
        assert_eq!(from.try_iter().collect::<Vec<_>>(), [1, 2, 102, 103, 5]);
    }

    #[test]
    fn who_joins_a_camera_gets_what_is_kept_as_soon_as_it_can_take() {
        let hub = Hub::new(|| {});
        hub.pass_through(&unit(1, true));
        hub.pass_through(&unit(2, false));
        let (to, from) = channel();
        let ready = Arc::new(AtomicBool::new(false));
        let is_ready = ready.clone();
        let deliver = move |u: &AccessUnit| is_ready.load(Relaxed) && to.send((u.id, u.behind)).is_ok();
        let _place = hub.subscribe(Box::new(deliver));
        hub.pass_through(&unit(3, false));
        assert!(!hub.keyframe_requested(), "the camera cannot be asked");
        ready.store(true, Relaxed);
        hub.request_keyframe();
        hub.request_keyframe();
        hub.pass_through(&unit(4, false));
        assert_eq!(from.try_iter().collect::<Vec<_>>(), [(1, 2), (2, 1), (3, 0), (4, 0)]);
    }
}
