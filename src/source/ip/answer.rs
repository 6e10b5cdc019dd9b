//! Owns what an HTTP camera sends in answer to a request: finds the pictures in it, numbers them and hands them to the decoder.
//! What is no JPEG it hands on as it is. Never asks. Bytes come on the library's thread; the capture thread looks on.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use gstreamer as gst;
use gstreamer_app::AppSrc;

use super::jpeg::{Found, Splitter};
use super::tail::{self, RateLimiter};
use crate::clock::{BootUs, Clock, SystemClock};
use crate::source::Camera;

/// Pictures that may be between the receiver and the capture: two each before and behind the decoder, and one in it.
const INSIDE: usize = 8;

/// What has come of the answer under way.
#[derive(Clone, Default)]
pub(super) struct Answer {
    /// Whole pictures.
    pub pictures: u32,
    /// Pictures that were cut off or damaged.
    pub broken: u32,
    /// Bytes in all.
    pub bytes: u64,
    /// It is neither text nor a picture.
    pub foreign: bool,
    /// What is too much of a picture that was dropped for that.
    pub excess: Option<String>,
    /// Nothing more comes.
    pub over: bool,
}

/// Who takes what comes.
enum Whose {
    /// It may be JPEG.
    Unknown,
    /// It is looked through for pictures here.
    Ours,
    /// Somebody else decodes it.
    Other(AppSrc),
}

struct Inner {
    whose: Whose,
    splitter: Splitter,
    decoder: AppSrc,
    answer: Answer,
    pace: RateLimiter,
    /// The answer before had one picture: what comes first in this one was asked for in time.
    single: bool,
    next: u64,
    last: BootUs,
    inside: VecDeque<(BootUs, u64)>,
}

/// See the module's first lines.
pub(super) struct Receiver {
    inner: Mutex<Inner>,
    settled: Condvar,
}

impl Receiver {
    /// Frames are numbered from `first`; JPEG pictures go to `decoder`, whose time stamps are boot-time instants.
    pub fn new(camera: &Camera, first: u64, decoder: AppSrc) -> Receiver {
        let inner = Inner {
            whose: Whose::Unknown,
            splitter: Splitter::new(tail::most_pixels(camera)),
            decoder,
            answer: Answer::default(),
            pace: RateLimiter::new(camera.fps),
            single: true,
            next: first,
            last: BootUs(0),
            inside: VecDeque::new(),
        };
        Receiver { inner: Mutex::new(inner), settled: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Whole at every point where a panic could strike.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A request is about to be made.
    pub fn begin(&self) {
        let mut k = self.lock();
        k.splitter.end();
        k.single = k.answer.pictures <= 1;
        k.answer = Answer::default();
    }

    /// Takes the next bytes; false where no more are wanted. Waits until it is settled whose they are.
    pub fn take(&self, bytes: &[u8]) -> bool {
        let mut k = self.lock();
        if !matches!(k.whose, Whose::Other(_)) {
            k.take(bytes);
        }
        let open = |k: &mut Inner| k.answer.foreign && matches!(k.whose, Whose::Unknown);
        let k = self.settled.wait_while(k, open).unwrap_or_else(PoisonError::into_inner);
        let Whose::Other(other) = &k.whose else { return true };
        let other = other.clone();
        drop(k);
        other.push_buffer(gst::Buffer::from_mut_slice(bytes.to_vec())).is_ok()
    }

    /// Whose the bytes are from now on, with those that were just taken: `other`'s, or those of this receiver.
    pub fn settle(&self, other: Option<AppSrc>) {
        self.lock().whose = other.map_or(Whose::Ours, Whose::Other);
        self.settled.notify_all();
    }

    /// The answer is over.
    pub fn end(&self) {
        let mut k = self.lock();
        k.answer.over = true;
        if let Whose::Other(other) = &k.whose {
            // It has gone already, or is told so by its own pipeline.
            let _ = other.end_of_stream();
        }
        if k.splitter.end() {
            k.broken();
        }
    }

    /// What has come so far.
    pub fn answer(&self) -> Answer {
        self.lock().answer.clone()
    }

    /// A picture that was asked for did not come: its number is left out.
    pub fn lose(&self) {
        self.lock().next += 1;
    }

    /// Number and instant of a decoded picture.
    pub fn of(&self, pts: Option<gst::ClockTime>) -> (u64, BootUs) {
        let mut k = self.lock();
        while let Some((boot, id)) = k.inside.pop_front() {
            if pts.is_none_or(|pts| boot.0 >= pts.useconds()) {
                return (id, boot);
            }
        }
        // A decoder that makes time stamps of its own.
        k.next += 1;
        (k.next - 1, SystemClock.boot())
    }
}

impl Inner {
    fn take(&mut self, bytes: &[u8]) {
        self.answer.bytes += bytes.len() as u64;
        let mut found = Vec::new();
        self.splitter.feed(bytes, &mut |f| found.push(f));
        if self.splitter.binary && matches!(self.whose, Whose::Unknown) {
            // What looks like pictures may be inside a container.
            self.answer.foreign = true;
            return;
        }
        for one in found {
            match one {
                Found::Broken(much) => {
                    self.answer.excess = much.or(self.answer.excess.take());
                    self.broken();
                }
                Found::Whole(picture) => {
                    self.answer.pictures += 1;
                    self.whose = Whose::Ours;
                    self.decode(picture);
                }
            }
        }
    }

    /// Whether a picture of this instant is wanted: a camera that sends more than the wished rate is thinned out.
    fn keeps(&mut self, boot: BootUs) -> bool {
        let asked_for = self.single && self.answer.pictures + self.answer.broken == 1;
        self.pace.keeps(boot.0) || asked_for
    }

    fn broken(&mut self) {
        self.answer.broken += 1;
        if self.keeps(SystemClock.boot()) {
            self.next += 1;
        }
    }

    fn decode(&mut self, jpeg: Vec<u8>) {
        // Later than all before, by the millisecond that recordings count in.
        let boot = SystemClock.boot().max(self.last + Duration::from_millis(1));
        if !self.keeps(boot) {
            return;
        }
        if self.inside.len() >= INSIDE {
            self.inside.pop_front();
        }
        self.inside.push_back((boot, self.next));
        (self.last, self.next) = (boot, self.next + 1);
        let mut buffer = gst::Buffer::from_mut_slice(jpeg);
        if let Some(buffer) = buffer.get_mut() {
            buffer.set_pts(gst::ClockTime::from_useconds(boot.0));
        }
        // A decoder that is too slow loses the oldest; one that has failed says so on its bus.
        let _ = self.decoder.push_buffer(buffer);
    }
}
