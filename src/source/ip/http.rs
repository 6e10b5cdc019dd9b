//! Owns a network camera that sends JPEG pictures over HTTP: one in an answer, several, or without end (MJPEG). When an answer has
//! ended it asks again, at the camera's rate or, where the answer lasted, at once. A bad answer costs its picture; only a camera that
//! gives none for a while is lost, which is reported with the reason. What is no JPEG is left to [`UriSource`]. `next` runs on the
//! capture thread; receiving and decoding run on `GStreamer`'s own.
//!
//! ```text
//! fetch (souphttpsrc) ─► receiver (finds pictures) ─► appsrc ─► jpegdec ─► tail ─► capture
//! ```

use std::sync::{Arc, Once, PoisonError};
use std::time::{Duration, Instant};

use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app::AppSrc;

use super::address::Address;
use super::answer::Receiver;
use super::coded::{Coded, Outlet};
use super::explain::{answered, first_error, refused};
use super::fetch::Fetch;
use super::tail::DecoderTail;
use super::{UriSource, reach};
use crate::error::{Error, Kind, Result};
use crate::gst::Pipe;
use crate::source::{Camera, Incoming, Link, Polled, Source};

/// How long a wait for a picture lasts before the answer is looked at.
const LOOK: Duration = Duration::from_millis(50);

/// For how long a stream that has ended may refuse to be opened again: some cameras notice late that nobody reads the one before.
const REOPEN: Duration = Duration::from_millis(400);

/// Without a picture for so long a camera is lost, or for three frame times longer than this. Some need 5 s for a still.
const PATIENCE: Duration = Duration::from_secs(6);

/// One that is known to be slow, or is sending, gets no longer than this: systemd's watchdog bites after 30 s without a frame.
const LONGEST: Duration = Duration::from_secs(20);

/// How long a camera may take for a picture; `took` is what the last one took, `sending`: part of it has come.
fn patience(gap: Duration, took: Duration, sending: bool) -> Duration {
    let usual = PATIENCE.max(PATIENCE / 2 + 3 * gap);
    usual.max(LONGEST.min(if sending { LONGEST } else { 2 * took }))
}

/// The source. See the module's first lines.
pub struct HttpSource {
    address: Address,
    camera: Camera,
    outlet: Outlet,
    running: Option<Running>,
}

enum Running {
    Pictures(Box<Pictures>),
    /// Video in a container, a playlist and the like.
    Other(Box<Other>),
}

/// Dropped in this order: whoever feeds waits for the decoder.
struct Other {
    decoder: UriSource,
    /// Brings the bytes, where they come over the connection that is there.
    feed: Option<Box<Pictures>>,
}

struct Pictures {
    camera: Camera,
    address: Address,
    fetch: Fetch,
    receiver: Arc<Receiver>,
    decoder: Pipe,
    tail: DecoderTail,
    gap: Duration,
    /// When the next request is due.
    due: Instant,
    /// A request is under way.
    asking: bool,
    /// The last answer with pictures in it had several.
    stream: bool,
    told: Once,
    /// The start, and the last picture.
    begun: Instant,
    last: Option<Instant>,
    /// When the request under way was made; how long the last picture took.
    asked: Instant,
    took: Duration,
    /// The bytes of the answer under way, and when they became more.
    grown: (u64, Instant),
    /// A request was refused after pictures had come, and is made again with a new login.
    again: bool,
    bad: Option<Bad>,
    first: u64,
}

/// Answers without a picture.
struct Bad {
    since: Instant,
    /// Of the last one, and what was wrong with it.
    status: u32,
    why: Option<String>,
}

impl HttpSource {
    /// The camera at this address.
    pub fn new(url: &str, link: &Link, camera: &Camera, outlet: &Outlet) -> Result<HttpSource> {
        let address = Address::of(url).trusting(&link.tls)?;
        Ok(HttpSource { address, camera: *camera, outlet: outlet.clone(), running: None })
    }
}

impl Source for HttpSource {
    fn name(&self) -> String {
        self.address.shown.clone()
    }

    fn start(&mut self, first: u64) -> Result<()> {
        self.stop();
        self.running = Some(Running::Pictures(Box::new(Pictures::new(&self.address, &self.camera, first)?)));
        (self.outlet)(Coded::OtherCodec);
        Ok(())
    }

    fn next(&mut self, wait: Duration, sink: &mut dyn FnMut(&Incoming<'_>)) -> Result<Polled> {
        let pictures = match &mut self.running {
            Some(Running::Pictures(pictures)) => pictures,
            Some(Running::Other(other)) => return other.next(wait, sink),
            None => {
                return Err(Error::new(Kind::Source, format!("wait for a frame of {}: it was not started", self.address.shown)));
            }
        };
        if let Some(polled) = pictures.next(wait, sink)? {
            return Ok(polled);
        }
        let Some(Running::Pictures(pictures)) = self.running.take() else { return Ok(Polled::Nothing) };
        self.running = Some(Running::Other(Box::new(Other::new(pictures, &self.camera, &self.outlet)?)));
        Ok(Polled::Nothing)
    }

    fn patience(&self) -> Duration {
        match &self.running {
            Some(Running::Pictures(pictures)) => pictures.patience(),
            _ => Duration::ZERO,
        }
    }

    fn stop(&mut self) {
        if let Some(running) = self.running.take() {
            drop(running);
            (self.outlet)(Coded::End);
        }
    }
}

impl Drop for HttpSource {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Other {
    fn new(pictures: Box<Pictures>, camera: &Camera, outlet: &Outlet) -> Result<Other> {
        let (place, first) = (pictures.fetch.place(), pictures.first);
        if pictures.fetch.head.measured || pictures.receiver.answer().over {
            // A file or a playlist: whoever plays it goes to and fro in it. The connection is closed first; some cameras have but one.
            drop(pictures);
            let mut decoder = UriSource::stream(place, camera, outlet);
            decoder.start(first)?;
            return Ok(Other { decoder, feed: None });
        }
        let mut decoder = UriSource::fed(place, camera, outlet);
        decoder.start(first)?;
        pictures.receiver.settle(decoder.feed.lock().unwrap_or_else(PoisonError::into_inner).take());
        Ok(Other { decoder, feed: Some(pictures) })
    }

    fn next(&mut self, wait: Duration, sink: &mut dyn FnMut(&Incoming<'_>)) -> Result<Polled> {
        if let Some(feed) = &mut self.feed {
            feed.fetch.listen();
            if feed.fetch.head.failed.is_some() {
                feed.receiver.end();
            }
        }
        self.decoder.next(wait, sink)
    }
}

impl Drop for Pictures {
    fn drop(&mut self) {
        // The library's thread may wait for this, and is waited for.
        self.receiver.settle(None);
    }
}

impl Pictures {
    fn new(address: &Address, camera: &Camera, first: u64) -> Result<Pictures> {
        let what = "build the decoder of pictures over HTTP";
        // Two pictures may wait; then the oldest goes, and the receiver never waits.
        let line = "appsrc name=in caps=image/jpeg format=time is-live=true max-buffers=2 max-bytes=8388608 max-time=0 \
                    leaky-type=downstream ! jpegdec name=decoder";
        let decoder = Pipe::launch(line, what)?;
        let tail = DecoderTail::new(&decoder.pipeline, camera, false, |_| true)?;
        let jpeg = decoder.named::<gst::Element>("decoder");
        tail.container.watch(&jpeg);
        let exit = jpeg.static_pad("src").expect("a decoder has a src pad");
        exit.link(&tail.entry).map_err(|e| Error::caused(Kind::Media, what, e))?;
        decoder.play(Kind::Media, || "start the decoder of pictures over HTTP".into())?;
        let receiver = Arc::new(Receiver::new(camera, first, decoder.named::<AppSrc>("in")));
        Ok(Pictures {
            camera: *camera,
            address: address.clone(),
            fetch: Fetch::new(address, &receiver)?,
            receiver,
            decoder,
            tail,
            gap: Duration::from_secs_f64(1.0 / camera.fps),
            due: Instant::now(),
            asking: false,
            stream: false,
            told: Once::new(),
            begun: Instant::now(),
            last: None,
            asked: Instant::now(),
            took: Duration::ZERO,
            grown: (0, Instant::now()),
            again: false,
            bad: None,
            first,
        })
    }

    /// `None`: what comes is no JPEG.
    fn next(&mut self, wait: Duration, sink: &mut dyn FnMut(&Incoming<'_>)) -> Result<Option<Polled>> {
        let end = Instant::now() + wait;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let idle = if self.asking { LOOK } else { self.due.saturating_duration_since(Instant::now()) };
            if let Some(sample) = self.tail.pull(idle.min(left)) {
                let (id, boot) = self.receiver.of(sample.buffer().and_then(gst::BufferRef::pts));
                self.tail.lend(&sample, id, boot, &self.address.shown, sink)?;
                let now = Instant::now();
                self.took = now.duration_since(self.last.map_or(self.asked, |last| last.max(self.asked)));
                (self.last, self.bad, self.again) = (Some(now), None, false);
                return Ok(Some(Polled::Frame));
            }
            if self.asking && !self.look()? {
                return Ok(None);
            }
            if let Some(e) = first_error(&self.decoder.bus, &self.fetch.place()) {
                return Err(e);
            }
            let reopened = self.stream && !self.is_refused();
            let bad = self.bad.as_ref().is_some_and(|bad| reopened && bad.since.elapsed() > REOPEN);
            if bad || self.last.unwrap_or(self.begun).elapsed() > self.patience() {
                return Err(self.lost());
            }
            if !self.asking && Instant::now() >= self.due {
                // In step as long as the camera keeps up.
                self.due = (self.due + self.gap).max(Instant::now());
                self.receiver.begin();
                self.fetch.ask()?;
                (self.asking, self.asked, self.grown) = (true, Instant::now(), (0, Instant::now()));
            }
            if Instant::now() >= end {
                return Ok(Some(Polled::Nothing));
            }
        }
    }

    /// Without a picture for so long the camera is lost.
    fn patience(&self) -> Duration {
        let sending = self.asking && self.grown.0 > 0 && self.grown.1.elapsed() < PATIENCE;
        patience(self.gap, self.took, sending)
    }

    /// That of the last answer.
    fn status(&self) -> u32 {
        match (self.fetch.head.status, &self.bad) {
            (0, Some(bad)) => bad.status,
            (status, _) => status,
        }
    }

    /// The last answer says that we are not let in.
    fn is_refused(&self) -> bool {
        matches!(self.status(), 401..=403 | 407)
    }

    /// Looks at the answer under way; false where it is for somebody else.
    fn look(&mut self) -> Result<bool> {
        // In this order: the head of an answer comes before its body.
        let answer = self.receiver.answer();
        self.fetch.listen();
        // Only what may become the first picture of an answer: where several come, each has the usual time.
        if answer.pictures == 0 && answer.broken == 0 && answer.bytes != self.grown.0 {
            self.grown = (answer.bytes, Instant::now());
        }
        let content = &self.fetch.head.content;
        let declared = content.starts_with("image/") || content.starts_with("multipart/");
        let list = answer.over && (content.contains("mpegurl") || content.contains("dash+xml"));
        if self.last.is_none() && answer.pictures == 0 && (list || (answer.foreign && !declared)) {
            return Ok(false);
        }
        if answer.foreign && declared {
            self.receiver.settle(None);
        }
        if answer.over || self.fetch.head.failed.is_some() {
            self.finish()?;
        }
        Ok(true)
    }

    /// The answer is over.
    fn finish(&mut self) -> Result<()> {
        self.fetch.rest()?;
        self.receiver.end();
        let answer = self.receiver.answer();
        if self.fetch.follow()? {
            return Ok(());
        }
        if answer.pictures == 0 && self.fetch.return_home()? {
            return Ok(());
        }
        self.asking = false;
        if answer.pictures > 0 {
            self.stream = answer.pictures > 1;
            if !self.stream {
                self.told.call_once(|| {
                    log::info!("The address answers with one picture a request: it is asked {} times a second", self.camera.fps);
                });
            }
            return Ok(());
        }
        if self.last.is_some() && self.is_refused() && !std::mem::replace(&mut self.again, true) {
            // The camera has let us in before: it had a bad moment, or does not know our login's numbers any more. Asked at once, over a
            // connection of its own, where the login begins anew.
            self.fetch = Fetch::new(&self.address, &self.receiver)?;
            self.due = Instant::now();
            return Ok(());
        }
        if answer.broken == 0 {
            self.receiver.lose();
        }
        // No third time with this login: cameras lock an account for that.
        if self.last.is_none() || matches!(self.fetch.head.status, 401 | 407) {
            return Err(self.lost());
        }
        let since = self.bad.as_ref().map_or_else(Instant::now, |bad| bad.since);
        self.bad = Some(Bad { since, status: self.fetch.head.status, why: self.why() });
        Ok(())
    }

    /// The camera is lost: why, and what to do. May connect to see.
    fn lost(&self) -> Error {
        let place = self.fetch.place();
        if self.fetch.head.status == 401 && self.fetch.is_elsewhere() {
            let why =
                "the camera sends to another server, which wants a login (401); write that server's address into camera.source";
            return Error::new(Kind::Denied, format!("{}: {why}", self.address.shown));
        }
        refused(self.status(), &place).unwrap_or_else(|| {
            let before = || self.bad.as_ref().and_then(|bad| bad.why.clone());
            let why = self.why().or_else(before).or_else(|| reach::trouble(&place));
            let silent = "the camera takes the connection and gives no answer; check that camera.source names the right port";
            Error::new(Kind::Source, format!("{}: {}", self.address.shown, why.as_deref().unwrap_or(silent)))
        })
    }

    /// What is wrong with the last answer; `None` where there was none.
    fn why(&self) -> Option<String> {
        let (head, answer) = (&self.fetch.head, self.receiver.answer());
        let content = if head.content.is_empty() { "something" } else { &head.content };
        if let (Some(excess), 0) = (answer.excess, answer.pictures) {
            return Some(format!("the camera sends {excess}; correct its settings, or the address in camera.source"));
        }
        answered(head.status).or_else(|| match head.status {
            0 => None,
            _ if answer.pictures > 0 => Some("the camera sends JPEG pictures that cannot be decoded".into()),
            _ if answer.broken > 0 => Some("the camera sends pictures that break off before their end mark".into()),
            _ if answer.bytes == 0 => Some("the camera sends an empty answer; check the path in camera.source".into()),
            _ => Some(format!("the camera sends {content} and no JPEG picture; correct the path in camera.source")),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_camera_is_waited_for_but_not_for_ever() {
        let s = Duration::from_secs;
        assert_eq!(patience(Duration::from_millis(100), Duration::ZERO, false), s(6));
        assert_eq!(patience(s(2), Duration::ZERO, false), s(9), "three frame times and more");
        assert_eq!(patience(s(30), Duration::ZERO, false), s(93));
        assert_eq!([4, 7, 15].map(|took| patience(s(1), s(took), false)), [8, 14, 20].map(s));
        assert_eq!(patience(s(1), Duration::ZERO, true), s(20));
    }
}
