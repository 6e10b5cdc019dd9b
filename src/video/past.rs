//! Owns the encoding of frames of the past: from the ring, as fast as the encoder can, in order. Holds no more of the ring
//! than is inside the encoder, so new frames always find room. Runs on the thread of whoever wants the past.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use gstreamer as gst;

use super::Video;
use super::access_unit::AccessUnit;
use super::encode::{self, Encoder, Out, Settings, scaled};
use super::feed::{Wish, dressed};
use crate::clock::BootUs;
use crate::codec::Implementation;
use crate::error::{Error, Kind, Result};
use crate::frame::{Colour, Layout};
use crate::ring::Ring;

/// An encoder that gives nothing back for so long swallowed a picture, which some do.
const SWALLOWED: Duration = Duration::from_secs(1);
/// And for so long: it has failed.
const FAILED: Duration = Duration::from_secs(5);
/// Between looks at what the encoder gives back while the next frame is waited for.
const NEXT: Duration = Duration::from_millis(20);

struct RunningEncoder {
    encoder: Encoder,
    units: Receiver<AccessUnit>,
    fed: u64,
}

impl RunningEncoder {
    /// Hands on what has come out.
    fn hand_on(&mut self, to: &mut dyn FnMut(&AccessUnit) -> Result<()>) -> Result<()> {
        self.units.try_iter().try_for_each(|unit| to(&unit))
    }

    /// The same until at most `inside` pictures are left in the encoder.
    fn drain(&mut self, inside: u64, to: &mut dyn FnMut(&AccessUnit) -> Result<()>) -> Result<()> {
        let begun = Instant::now();
        loop {
            self.hand_on(to)?;
            let left = self.fed.saturating_sub(self.encoder.counts().1);
            if left <= inside || (begun.elapsed() > SWALLOWED && left <= inside + 1) {
                return Ok(());
            }
            if let Some(e) = self.encoder.complaint() {
                return Err(e);
            }
            if begun.elapsed() > FAILED {
                let what = format!("encode the past: {} gives nothing back", self.encoder.coder().word());
                return Err(Error::new(Kind::Media, what));
            }
            if let Ok(unit) = self.units.recv_timeout(Duration::from_millis(5)) {
                to(&unit)?;
            }
        }
    }

    fn finish(mut self, to: &mut dyn FnMut(&AccessUnit) -> Result<()>) -> Result<()> {
        self.encoder.finish()?;
        self.drain(0, to)
    }
}

/// An encoder whose pictures are first stretched to the camera's size, as the ring has squeezed them.
fn stretching(coder: Implementation, picture: (Layout, Colour), wish: &Wish, out: Out) -> Result<Encoder> {
    let shown = wish.settings.size.filter(|s| *s != wish.camera).map_or(String::new(), |s| scaled(s, true));
    let line = format!("{}{shown}{}", scaled(wish.camera, false), encode::line(coder, &wish.settings));
    Encoder::with(coder, &line, picture, &Settings { size: None, ..wish.settings.clone() }, out)
}

/// Frames of the past to be encoded.
pub struct Past<'a> {
    /// Where they are.
    pub ring: &'a Ring,
    /// Pictures that the ring holds smaller than the camera's are stretched back to that size, so that the stream can follow.
    pub whole: bool,
    /// The first.
    pub from: BootUs,
    /// Where they end, which is not among them; asked before each. `None`: not known yet, so frames that come are waited for.
    pub until: &'a dyn Fn() -> Option<BootUs>,
    /// Whether to stop early.
    pub stop: &'a dyn Fn() -> bool,
    /// How long to wait for the next frame before that end.
    pub patience: Duration,
}

/// Encodes them and hands the units to `to`. Frames that the ring has given away meanwhile are left out.
pub fn encode(video: &Video, past: &Past<'_>, to: &mut dyn FnMut(&AccessUnit) -> Result<()>) -> Result<()> {
    let wish: Wish = video.wish();
    let (mut work, mut drawn, mut next) = (None::<RunningEncoder>, Arc::default(), past.from);
    let mut since = Instant::now();
    while !(past.stop)() {
        // The end after the frame: what ends them is known before the frame behind the end is here.
        let (seen, slot) = (past.ring.published(), past.ring.first_since(next));
        let end = (past.until)();
        if end.is_some_and(|end| slot.as_ref().map_or(since.elapsed() >= past.patience, |s| s.meta().boot >= end)) {
            break;
        }
        let Some(slot) = slot else {
            if let Some(work) = &mut work {
                work.hand_on(to)?;
            }
            past.ring.wait_published(seen, NEXT);
            continue;
        };
        since = Instant::now();
        let meta = *slot.meta();
        next = meta.boot + Duration::from_micros(1);
        let picture = (meta.layout, meta.colour);
        if let Some(other) = work.take_if(|w| w.encoder.picture != picture) {
            other.finish(to)?;
        }
        let work = match &mut work {
            Some(work) => work,
            none => {
                let coder: Implementation = video.coder(if past.whole { wish.camera } else { meta.layout })?;
                let (send, units) = channel();
                // A receiver that has gone has no use for the unit.
                let out = Box::new(move |unit: &AccessUnit| drop(send.send(unit.clone())));
                let encoder = if past.whole && meta.layout != wish.camera {
                    stretching(coder, picture, &wish, out)?
                } else {
                    Encoder::new(coder, picture, &wish.settings, out)?
                };
                none.insert(RunningEncoder { encoder, units, fed: 0 })
            }
        };
        let pixels = dressed(slot, &wish.overlay, &mut drawn);
        let key = work.fed == 0;
        work.encoder.feed(&pixels, gst::ClockTime::from_useconds(meta.boot.0), meta.id, meta.wall, key)?;
        drop(pixels);
        work.fed += 1;
        work.drain(1, to)?;
    }
    work.map_or(Ok(()), |w| w.finish(to))
}
