//! Owns what is known of each access unit between its arrival and its decoded picture: its instant, its number, whether it is
//! kept. So a unit that is passed on and the frame in the ring that shows it have one number and one time. Never decodes and
//! never waits. Called on the stream's own thread and, for decoded pictures, on the decoder's and the capture's.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use gstreamer as gst;
use gstreamer::prelude::*;

use super::tail::RateLimiter;
use crate::clock::{BootUs, Clock, SystemClock, monotonic_us};
use crate::codec::Codec;

/// What a camera sends that encodes by itself, ahead of decoding.
#[derive(Debug)]
pub enum Coded {
    /// One access unit, as its codec's `caps` say.
    AccessUnit(CodedAccessUnit),
    /// The camera sends something that cannot be passed on.
    OtherCodec,
    /// The stream has ended; what follows is another one.
    End,
}

/// One access unit.
#[derive(Debug)]
pub struct CodedAccessUnit {
    /// How it is coded.
    pub codec: &'static Codec,
    /// The bytes, as they came. No time stamp.
    pub buffer: gst::Buffer,
    /// What they are.
    pub caps: gst::Caps,
    /// The library takes it for a key frame.
    pub key: bool,
    /// The number of the frame that shows it or, where that one is not kept, of the one before.
    pub id: u64,
    /// When it arrived here.
    pub boot: BootUs,
}

/// Takes what a camera sends, on the stream's own thread; must not block.
pub type Outlet = Arc<dyn Fn(Coded) + Send + Sync>;

/// An outlet for those who want none of it.
pub fn no_outlet() -> Outlet {
    Arc::new(|_| {})
}

/// A time stamp of the pipeline's that is further from the clock than this is not believed (µs).
const BELIEVED_US: u64 = 5_000_000;
/// Pictures that may be inside a decoder at once, far more than real ones hold, and those that wait before it.
const INSIDE: usize = 512;

#[derive(Clone, Copy)]
struct Entry {
    /// The library's time stamp.
    pts: gst::ClockTime,
    id: u64,
    boot: BootUs,
    keeps: bool,
}

struct Inside {
    list: VecDeque<Entry>,
    pace: RateLimiter,
    next: u64,
    last: BootUs,
    newest: gst::ClockTime,
    /// Units come in another order than they are shown in (B pictures): what their arrival tells is of no use for pictures.
    reordered: bool,
}

/// See the module's first lines.
pub(super) struct TimestampMap {
    inside: Mutex<Inside>,
}

impl TimestampMap {
    /// Frames are numbered from `first`, `fps` a second at most.
    pub fn new(first: u64, fps: f64) -> TimestampMap {
        let inside = Inside {
            list: VecDeque::new(),
            pace: RateLimiter::new(fps),
            next: first,
            last: BootUs(0),
            newest: gst::ClockTime::ZERO,
            reordered: false,
        };
        TimestampMap { inside: Mutex::new(inside) }
    }

    fn lock(&self) -> MutexGuard<'_, Inside> {
        // Whole at every point where a panic could strike.
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A unit has come: its number, and its instant by the stream's own time stamps, which have none of the network's jitter.
    pub fn arrived(&self, pts: Option<gst::ClockTime>, believed: Option<BootUs>) -> (u64, BootUs) {
        let mut k = self.lock();
        if let Some(pts) = pts {
            // The library's own time stamps have less jitter.
            k.reordered |= pts + gst::ClockTime::from_mseconds(5) < k.newest;
            k.newest = k.newest.max(pts);
        }
        if k.reordered {
            return (k.next.saturating_sub(1), SystemClock.boot());
        }
        let boot = k.instant(believed);
        let keeps = k.pace.keeps(boot.0);
        if keeps {
            k.next += 1;
        }
        let id = k.next.saturating_sub(1);
        if let Some(pts) = pts {
            if k.list.len() >= INSIDE {
                k.list.pop_front();
            }
            k.list.push_back(Entry { pts, id, boot, keeps });
        }
        (id, boot)
    }

    /// Whether a decoded picture is to be a frame. One that nobody has announced is judged by its own time.
    pub fn keeps(&self, pts: Option<gst::ClockTime>) -> bool {
        let mut k = self.lock();
        match k.find(pts) {
            Some(entry) => entry.keeps,
            None => k.pace.keeps(pts.map_or_else(monotonic_us, gst::ClockTime::useconds)),
        }
    }

    /// Number and instant of a decoded picture that is kept.
    pub fn shown(&self, pts: Option<gst::ClockTime>, believed: Option<BootUs>) -> (u64, BootUs) {
        let mut k = self.lock();
        if let Some(entry) = k.find(pts) {
            return (entry.id, entry.boot);
        }
        k.next += 1;
        (k.next - 1, k.instant(believed))
    }
}

impl Inside {
    /// Decoders hand time stamps on as they are, or rounded.
    fn find(&self, pts: Option<gst::ClockTime>) -> Option<Entry> {
        let pts = pts.filter(|_| !self.reordered)?;
        self.list.iter().rev().find(|e| e.pts.nseconds().abs_diff(pts.nseconds()) < 500_000).copied()
    }

    /// Later than all before, by the millisecond that recordings count in, and not in the future.
    fn instant(&mut self, believed: Option<BootUs>) -> BootUs {
        let now = SystemClock.boot();
        let boot = believed.filter(|b| b.0.abs_diff(now.0) < BELIEVED_US).unwrap_or(now).min(now);
        self.last = boot.max(self.last + Duration::from_millis(1));
        self.last
    }
}

/// The boot-time instant of a time stamp on this pad.
pub(super) fn instant_on(pad: &gst::Pad, pts: Option<gst::ClockTime>, base: Option<gst::ClockTime>) -> Option<BootUs> {
    let segment = pad.sticky_event::<gst::event::Segment>(0)?;
    instant_in(segment.segment(), pts, base)
}

/// The boot-time instant of a time stamp of a pipeline that runs on the monotonic clock.
pub(super) fn instant_in(segment: &gst::Segment, pts: Option<gst::ClockTime>, base: Option<gst::ClockTime>) -> Option<BootUs> {
    let running = segment.downcast_ref::<gst::ClockTime>()?.to_running_time(pts?)?;
    // The boot-time clock counts suspend, the library's does not.
    let suspended = SystemClock.boot().0.saturating_sub(monotonic_us());
    Some(BootUs((running + base?).useconds() + suspended))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_decoded_picture_has_the_number_and_instant_of_its_unit() {
        let timestamps = TimestampMap::new(7, 10.0);
        let now = SystemClock.boot().0 - 2_000_000;
        let ms = |n: u64| Some(gst::ClockTime::from_mseconds(n));
        // 20 units a second, 10 frames.
        let units: Vec<_> = (0..20).map(|n| timestamps.arrived(ms(50 * n), Some(BootUs(now + 50_000 * n)))).collect();
        let kept: Vec<u64> = (0..20).filter(|n| timestamps.keeps(ms(50 * n))).collect();
        assert!((10..=11).contains(&kept.len()), "{kept:?}");
        for (k, n) in kept.iter().enumerate() {
            assert_eq!(timestamps.shown(ms(50 * n), None), units[*n as usize]);
            assert_eq!(units[*n as usize].0, 7 + k as u64);
        }
        assert_eq!(units[3].1, BootUs(now + 150_000));
        // A decoder that makes its own time stamps still delivers.
        assert_eq!(timestamps.shown(ms(90_000), None).0, 7 + kept.len() as u64);
        // Neither the future nor the same instant twice.
        let late = timestamps.arrived(ms(1000), Some(BootUs(SystemClock.boot().0 + 1_000_000))).1;
        assert!(late.0 <= SystemClock.boot().0 + 2000 && timestamps.arrived(ms(1000), Some(late)).1 > late);
    }

    #[test]
    fn pictures_that_come_out_of_order_are_numbered_as_they_are_shown() {
        let timestamps = TimestampMap::new(0, 10.0);
        let ms = |n: u64| Some(gst::ClockTime::from_mseconds(n));
        for pts in [0, 300, 100, 200, 600, 400, 500] {
            timestamps.arrived(ms(pts), None);
        }
        let shown: Vec<_> =
            (3..7).filter(|n| timestamps.keeps(ms(100 * n))).map(|n| timestamps.shown(ms(100 * n), None)).collect();
        assert!(shown.len() == 4 && shown.windows(2).all(|w| w[1].0 == w[0].0 + 1 && w[1].1 > w[0].1), "{shown:?}");
    }
}
