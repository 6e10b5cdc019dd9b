//! Owns a network camera that speaks RTSP. What is of a known [`Codec`] is passed through as it comes, and decoded beside that for
//! the ring; everything else is only decoded. Never reconnects by itself: it reports a loss and the capture starts it again. `next`
//! runs on the capture thread; receiving and decoding run on `GStreamer`'s own.
//!
//! ```text
//! rtspsrc ─► depay ─► parse ─┬► outlet (viewers, recorder)
//!                            └► [gate] queue ─► decoder ─► tail ─► capture
//! ```

use std::str::FromStr;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use gstreamer as gst;
use gstreamer::ResourceError as Refused;
use gstreamer::glib;
use gstreamer::prelude::*;

use super::address::Address;
use super::brake::{self, Brake};
use super::coded::{Coded, CodedAccessUnit, Outlet, TimestampMap, instant_in, instant_on};
use super::explain::{explain, status, unanswered};
use super::intake::{self, Intake};
use super::login;
use super::play;
use super::relay::Relay;
use super::tail::{self, DecoderTail};
use super::told::Container;
use crate::codec::Codec;
use crate::error::{Error, Kind, Result};
use crate::gst::{self as door, Pipe};
use crate::source::{Camera, Incoming, Link, Polled, Source, Transport};

/// Seconds without data after which the stream is lost (µs): the library's default is longer than the capture's patience.
const SILENT_US: u64 = 5_000_000;
/// A camera that has sent nothing for so long sends nothing that can be seen; less than the capture's patience.
const SILENT: Duration = Duration::from_secs(4);
/// A camera that has not described its stream after so long does not; less than the capture's patience, which knows no reason.
const UNANSWERED: Duration = Duration::from_millis(4700);
/// Between looks while the camera is being connected.
const LOOK: Duration = Duration::from_millis(50);
/// How long a missing packet is waited for (ms); over TCP none can be missing.
const REORDER_MS: u32 = 200;
/// Units that may wait for the decoder: then it is too slow, and what follows up to the next key frame is not decoded.
const WAITING: u32 = 50;

/// The camera of this process sent nothing over TCP, though it had described its stream: the next attempt is made the other way,
/// with a [`Relay`] or without. A source lasts for one attempt, so this stands beside it.
static BY_RELAY: AtomicBool = AtomicBool::new(false);

/// The source. See the module's first lines.
pub struct RtspSource {
    address: Address,
    transport: Transport,
    camera: Camera,
    outlet: Outlet,
    running: Option<Running>,
}

struct Running {
    pipe: Pipe,
    tail: DecoderTail,
    timestamps: Arc<TimestampMap>,
    /// Anything of the picture has come.
    came: Arc<AtomicBool>,
    /// The camera has described its stream.
    described: Arc<AtomicBool>,
    /// Anything of the stream has come.
    intake: Intake,
    /// Between the camera and the library, where there must be something.
    relay: Option<Relay>,
    begun: Instant,
    brake: Brake,
    /// Why what comes cannot be decoded.
    broken: Arc<Mutex<Option<Error>>>,
    /// By which way; never `Auto`.
    over: Transport,
    first: u64,
}

impl RtspSource {
    /// The camera at this address; what it sends as H.264 goes to the outlet as well.
    pub fn new(url: &str, link: &Link, camera: &Camera, outlet: &Outlet) -> Result<RtspSource> {
        let address = Address::of(url).trusting(&link.tls)?;
        Ok(RtspSource { address, transport: link.transport, camera: *camera, outlet: outlet.clone(), running: None })
    }

    fn begin(&mut self, over: Transport, first: u64) -> Result<()> {
        self.stop();
        let running = self.running.insert(self.build(over, first)?);
        play(&running.pipe, &self.address)
    }

    fn build(&self, over: Transport, first: u64) -> Result<Running> {
        door::init()?;
        let pipeline = gst::Pipeline::new();
        // Time stamps are then the monotonic clock's own.
        pipeline.use_clock(Some(&gst::SystemClock::obtain()));
        let timestamps = Arc::new(TimestampMap::new(first, self.camera.fps));
        let judge = timestamps.clone();
        // Pictures are not held back for the sake of an even rhythm: their instants are known.
        let tail = DecoderTail::new(&pipeline, &self.camera, false, move |b| judge.keeps(b.pts()))?;
        let source = door::element("rtspsrc")?;
        let relay = if over == Transport::Tcp && BY_RELAY.load(Relaxed) { self.relay()? } else { None };
        let location = relay.as_ref().map_or(&self.address.location, |(_, location)| location);
        source.set_property("location", location);
        self.address.log_in(&source);
        self.address.trust.tell(&source);
        source.set_property_from_str("protocols", if over == Transport::Udp { "udp" } else { "tcp" });
        source.set_property("latency", if over == Transport::Udp { REORDER_MS } else { 0 });
        source.set_property("tcp-timeout", SILENT_US);
        source.set_property("timeout", SILENT_US);
        let described = Arc::new(AtomicBool::new(false));
        login::try_once(&source, &described, &self.address);
        let only_one = AtomicBool::new(false);
        source.connect("select-stream", false, move |values| {
            let caps = values[2].get::<gst::Caps>().ok();
            let media = caps.as_ref().and_then(|c| c.structure(0)).and_then(|s| s.get::<&str>("media").ok());
            // Sound and the camera's own notes would only cost, and a second picture has no place to go.
            let takes = media == Some("video") && !only_one.swap(true, Relaxed);
            Some(takes.to_value())
        });
        let failed = |e: glib::BoolError| Error::caused(Kind::Media, "build the receiver", e);
        pipeline.add(&source).map_err(failed)?;
        let (came, broken) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(None)));
        let intake = Intake::default();
        let branch = Branch {
            camera: self.camera,
            intake: intake.clone(),
            pipeline: pipeline.downgrade(),
            entry: tail.entry.downgrade(),
            container: tail.container.clone(),
            timestamps: timestamps.clone(),
            came: came.clone(),
            broken: broken.clone(),
            outlet: self.outlet.clone(),
        };
        source.connect_pad_added(move |_, pad| branch.attach(pad));
        let relay = relay.map(|(relay, _)| relay);
        Ok(Running {
            pipe: pipeline.into(),
            tail,
            timestamps,
            came,
            described,
            intake,
            relay,
            begun: Instant::now(),
            brake: Brake::new(),
            broken,
            over,
            first,
        })
    }

    /// A way to the camera that mends its answers, and the address of that; `None` over TLS, into which nobody can look.
    fn relay(&self) -> Result<Option<(Relay, String)>> {
        let (Some((host, port)), Some(rest)) = (self.address.server(), self.address.location.strip_prefix("rtsp://")) else {
            return Ok(None);
        };
        let relay = Relay::start(host, port)?;
        let place = &rest[rest.find(['/', '?']).unwrap_or(rest.len())..];
        let location = format!("rtsp://127.0.0.1:{}{place}", relay.port);
        Ok(Some((relay, location)))
    }

    /// What the pipeline has to say since the last look; true where the other way is to be tried.
    fn heard(&self, running: &Running) -> Result<bool> {
        let Some(message) = running.pipe.bus.pop_filtered(&[gst::MessageType::Error, gst::MessageType::Eos]) else {
            return Ok(false);
        };
        let gst::MessageView::Error(said) = message.view() else {
            return Err(Error::new(Kind::Source, format!("{}: the stream ended", self.address.shown)));
        };
        if let Some(mut e) = running.broken.lock().unwrap_or_else(PoisonError::into_inner).take() {
            e.what = format!("{}: {}", self.address.shown, e.what);
            return Err(e);
        }
        let came = running.came.load(Relaxed);
        let mut e = explain(said, &self.address, came);
        // Nothing that another way could cure: no such camera, no such stream, no right to it.
        let elsewhere = e.kind == Kind::Denied
            || !running.described.load(Relaxed)
            || [Refused::NotFound, Refused::OpenRead, Refused::OpenReadWrite].iter().any(|k| said.error().matches(*k));
        if !elsewhere && !came {
            if running.over == Transport::Udp && status(said) == 0 && said.error().matches(Refused::Read) {
                e.what = format!("{}: no packet comes over UDP; let it through the firewalls on the way", self.address.shown);
            }
            match (self.transport, running.over) {
                (Transport::Auto, Transport::Tcp) => {
                    log::info!("{e}; trying UDP");
                    return Ok(true);
                }
                (Transport::Auto, _) => {}
                _ => e.what.push_str("; another camera.transport may do"),
            }
        }
        Err(e)
    }
}

/// Ends the stream for a reason of our own.
fn end(pipeline: Option<&gst::Pipeline>, broken: &Mutex<Option<Error>>, why: Error) {
    broken.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(why);
    if let Some(pipeline) = pipeline {
        gst::element_error!(pipeline, gst::StreamError::Failed, ["for a reason of our own"]);
    }
}

/// What is put behind the camera's stream once it is known what that is.
struct Branch {
    camera: Camera,
    intake: Intake,
    pipeline: glib::WeakRef<gst::Pipeline>,
    entry: glib::WeakRef<gst::Pad>,
    container: Arc<Container>,
    timestamps: Arc<TimestampMap>,
    came: Arc<AtomicBool>,
    broken: Arc<Mutex<Option<Error>>>,
    outlet: Outlet,
}

impl Branch {
    fn attach(&self, pad: &gst::Pad) {
        let (Some(pipeline), Some(entry)) = (self.pipeline.upgrade(), self.entry.upgrade()) else { return };
        let caps = pad.current_caps().unwrap_or_else(|| pad.query_caps(None));
        let field = |name: &str| caps.structure(0).and_then(|s| s.get::<String>(name).ok());
        if field("media").as_deref() != Some("video") || entry.is_linked() {
            return;
        }
        let coding = field("encoding-name").unwrap_or_default();
        let intake = self.intake.clone();
        let (broken, weak, kind) = (self.broken.clone(), self.pipeline.clone(), coding.clone());
        intake.count(pad, move || {
            let what = format!("{} MiB of {kind} came and no picture was complete; restart the camera", intake::MOST >> 20);
            end(weak.upgrade().as_ref(), &broken, Error::new(Kind::Source, what));
        });
        let made = match Codec::ALL.into_iter().find(|c| c.encoding_name == coding) {
            Some(codec) => self.passed(codec, &pipeline, pad, &entry, &intake),
            None => self.other(&pipeline, pad, entry, &coding, intake),
        };
        if let Err(e) = made {
            end(Some(&pipeline), &self.broken, e);
        }
    }

    /// Ends the stream because of pictures that are too large.
    fn beyond(&self) -> impl Fn(String) + Send + Sync + 'static {
        let (broken, pipeline) = (self.broken.clone(), self.pipeline.clone());
        move |much| end(pipeline.upgrade().as_ref(), &broken, Error::new(Kind::Source, much))
    }

    /// What is passed on, and decoded beside that.
    fn passed(
        &self,
        codec: &'static Codec,
        pipeline: &gst::Pipeline,
        pad: &gst::Pad,
        entry: &gst::Pad,
        intake: &Intake,
    ) -> Result<()> {
        let [depay, parse, caps, queue] = [codec.depayloader, codec.parser.0, "capsfilter", "queue"].map(door::element);
        let (depay, parse, caps, queue) = (depay?, parse?, caps?, queue?);
        let decoder = decoder(codec)?;
        self.container.watch(&decoder);
        // Parameter sets in front of every key frame, so that anybody may begin there.
        if let Some((property, value)) = codec.parser.1.split_once('=') {
            parse.set_property_from_str(property, value);
        }
        caps.set_property_from_str("caps", codec.caps);
        // The gate before it bounds it: a queue that is full would hold up the stream.
        for limit in ["max-size-buffers", "max-size-bytes"] {
            queue.set_property(limit, 0u32);
        }
        queue.set_property("max-size-time", 0u64);
        let gate = Gate::new(self, codec, pipeline, &queue);
        let exit = caps.static_pad("src").expect("a capsfilter has a src pad");
        // Behind the depayloader: the parser drops what comes before the first parameter sets.
        intake.watch(&depay.static_pad("src").expect("a depayloader has a src pad"));
        let (most, beyond, too_large) = (tail::most_pixels(&self.camera), self.beyond(), Arc::new(AtomicBool::new(false)));
        let seen = too_large.clone();
        exit.add_probe(gst::PadProbeType::EVENT_DOWNSTREAM, move |_, info| {
            if let Some(gst::EventView::Caps(caps)) = info.event().map(|e| e.view()) {
                let much = tail::too_large(caps.caps(), most);
                seen.store(much.is_some(), Relaxed);
                much.into_iter().for_each(&beyond);
            }
            gst::PadProbeReturn::Ok
        });
        exit.add_probe(gst::PadProbeType::BUFFER, move |pad, info| {
            let passes = !too_large.load(Relaxed) && info.buffer().is_none_or(|b| gate.passes(pad, b));
            // As in the tail.
            if passes { gst::PadProbeReturn::Ok } else { gst::PadProbeReturn::Handled }
        });
        let chain = [&depay, &parse, &caps, &queue, &decoder];
        let failed = |e: glib::BoolError| Error::caused(Kind::Media, format!("build the decoder of {}", codec.name), e);
        pipeline.add_many(chain).map_err(failed)?;
        gst::Element::link_many(chain).map_err(failed)?;
        let link = |from: &gst::Pad, to: &gst::Pad| {
            from.link(to).map(drop).map_err(|e| Error::caused(Kind::Media, format!("join the decoder of {}", codec.name), e))
        };
        link(&decoder.static_pad("src").expect("a decoder has a src pad"), entry)?;
        for element in chain.iter().rev() {
            element.sync_state_with_parent().map_err(failed)?;
        }
        link(pad, &depay.static_pad("sink").expect("a depayloader has a sink pad"))
    }

    /// Everything that is not passed on.
    fn other(&self, pipeline: &gst::Pipeline, pad: &gst::Pad, entry: gst::Pad, coding: &str, intake: Intake) -> Result<()> {
        log::info!("The camera sends {coding}, which cannot be passed on as it is: viewers and recordings get it encoded anew");
        (self.outlet)(Coded::OtherCodec);
        let decode = door::element("decodebin")?;
        if let Some(bin) = decode.downcast_ref::<gst::Bin>() {
            bin.connect_deep_element_added(move |_, _, element| {
                let depays = element.factory().and_then(|f| f.metadata("klass").map(|k| k.contains("Depayloader")));
                if let (Some(true), Some(exit)) = (depays, element.static_pad("src")) {
                    intake.watch(&exit);
                }
            });
        }
        tail::bound(&decode, &self.camera, self.beyond());
        let came = self.came.clone();
        decode.connect_pad_added(move |_, pad| {
            came.store(true, Relaxed);
            if !entry.is_linked() {
                // A pad that does not fit shows as an error of the pipeline, which `next` reports.
                let _ = pad.link(&entry);
            }
        });
        let failed = |e: glib::BoolError| Error::caused(Kind::Media, format!("build the decoder of {coding}"), e);
        pipeline.add(&decode).map_err(failed)?;
        decode.sync_state_with_parent().map_err(failed)?;
        let sink = decode.static_pad("sink").expect("decodebin has a sink pad");
        pad.link(&sink).map(drop).map_err(|e| Error::caused(Kind::Media, format!("join the decoder of {coding}"), e))
    }
}

/// The first decoder of this codec that can be had, by the library's own order: hardware where it is trusted, then libav, openh264.
fn decoder(codec: &Codec) -> Result<gst::Element> {
    let stream = gst::Caps::from_str(codec.caps).map_err(|e| Error::caused(Kind::Media, "find a decoder", e))?;
    let kinds = gst::ElementFactoryType::DECODER | gst::ElementFactoryType::MEDIA_VIDEO;
    let mut all: Vec<gst::ElementFactory> =
        gst::ElementFactory::factories_with_type(kinds, gst::Rank::MARGINAL).into_iter().collect();
    all.sort_by_key(|f| std::cmp::Reverse(f.rank()));
    for factory in all.iter().filter(|f| f.can_sink_any_caps(&stream)) {
        let Ok(element) = factory.create().build() else { continue };
        // A decoder of a processor that is not there fails here.
        if element.static_pad("src").is_some() && element.set_state(gst::State::Ready).is_ok() {
            log::debug!("Decoding with {}", factory.name());
            return Ok(element);
        }
        // It is not used.
        let _ = element.set_state(gst::State::Null);
    }
    door::element(codec.decoders[0])
}

/// Where units part: all of them to the outlet, and to the decoder those it has time for.
struct Gate {
    codec: &'static Codec,
    timestamps: Arc<TimestampMap>,
    came: Arc<AtomicBool>,
    outlet: Outlet,
    pipeline: glib::WeakRef<gst::Pipeline>,
    queue: glib::WeakRef<gst::Element>,
    keyframes: KeyframeGate,
}

impl Gate {
    fn new(b: &Branch, codec: &'static Codec, pipeline: &gst::Pipeline, queue: &gst::Element) -> Gate {
        Gate {
            codec,
            timestamps: b.timestamps.clone(),
            came: b.came.clone(),
            outlet: b.outlet.clone(),
            pipeline: pipeline.downgrade(),
            queue: queue.downgrade(),
            keyframes: KeyframeGate::default(),
        }
    }

    /// Hands a unit on; whether the decoder gets it.
    fn passes(&self, pad: &gst::Pad, buffer: &gst::Buffer) -> bool {
        let (Some(pipeline), Some(queue), Some(caps)) = (self.pipeline.upgrade(), self.queue.upgrade(), pad.current_caps())
        else {
            return false;
        };
        self.came.store(true, Relaxed);
        let (id, boot) = self.timestamps.arrived(buffer.pts(), instant_on(pad, buffer.pts(), pipeline.base_time()));
        let key = !buffer.flags().contains(gst::BufferFlags::DELTA_UNIT);
        (self.outlet)(Coded::AccessUnit(CodedAccessUnit { codec: self.codec, buffer: buffer.clone(), caps, key, id, boot }));
        let before = self.keyframes.shut.load(Relaxed);
        // Large ones count for several: a MiB is more than most key frames have.
        let (units, bytes) = (queue.property::<u32>("current-level-buffers"), queue.property::<u32>("current-level-bytes"));
        let passes = self.keyframes.admits(key, units.max(bytes >> 20));
        if !passes && !before {
            log::warn!("Decoding is too slow for this camera: frames are left out up to its next key frame");
        }
        passes
    }
}

/// Keeps the decoder from falling behind: what is left out goes up to a key frame, so that nothing is decoded wrongly.
#[derive(Default)]
struct KeyframeGate {
    shut: AtomicBool,
}

impl KeyframeGate {
    /// Whether this unit goes to the decoder, before which so many wait.
    fn admits(&self, key: bool, waiting: u32) -> bool {
        let shut = self.shut.load(Relaxed);
        let now = if shut { !key || waiting >= WAITING / 2 } else { waiting >= WAITING };
        self.shut.store(now, Relaxed);
        !now
    }
}

impl Source for RtspSource {
    fn name(&self) -> String {
        self.address.shown.clone()
    }

    fn start(&mut self, first: u64) -> Result<()> {
        // Over TCP no packet is lost, and no firewall is in the way of the answers.
        self.begin(if self.transport == Transport::Udp { Transport::Udp } else { Transport::Tcp }, first)
    }

    fn next(&mut self, wait: Duration, sink: &mut dyn FnMut(&Incoming<'_>)) -> Result<Polled> {
        let shown = &self.address.shown;
        let Some(running) = &self.running else {
            return Err(Error::new(Kind::Source, format!("wait for a frame of {shown}: it was not started")));
        };
        let described = running.described.load(Relaxed);
        let Some(sample) = running.tail.pull(if described { wait } else { wait.min(LOOK) }) else {
            if let (false, true, Some((host, port))) = (described, running.brake.is_needed(), self.address.server()) {
                brake::cut(&host, port);
                let what = "its description does not end; restart the camera".to_string();
                end(Some(&running.pipe.pipeline), &running.broken, Error::new(Kind::Source, what));
            }
            if !described && running.begun.elapsed() > UNANSWERED {
                return Err(unanswered(&self.address));
            }
            if self.heard(running)? {
                let first = running.first;
                self.begin(Transport::Udp, first)?;
            }
            return Ok(Polled::Nothing);
        };
        let pts = sample.buffer().and_then(gst::BufferRef::pts);
        let believed = sample.segment().and_then(|s| instant_in(s, pts, running.pipe.pipeline.base_time()));
        let (id, boot) = running.timestamps.shown(pts, believed);
        running.tail.lend(&sample, id, boot, shown, sink)?;
        Ok(Polled::Frame)
    }

    fn stop(&mut self) {
        if let Some(running) = self.running.take() {
            let silent = running.described.load(Relaxed) && !running.intake.has_come() && running.begun.elapsed() > SILENT;
            if silent && running.over == Transport::Tcp && self.address.location.starts_with("rtsp:") {
                let direct = running.relay.is_none();
                if direct {
                    log::info!(
                        "Nothing came over TCP: the camera may not say on which channel it sends, which is added from now on"
                    );
                }
                BY_RELAY.store(direct, Relaxed);
            }
            if let (false, Some((host, port))) = (running.described.load(Relaxed), self.address.server()) {
                // The library would wait for the end of an answer that has begun.
                brake::cut(&host, port);
            }
            drop(running);
            (self.outlet)(Coded::End);
        }
    }
}

impl Drop for RtspSource {
    fn drop(&mut self) {
        self.stop();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_decoder_that_is_too_slow_goes_on_at_a_key_frame() {
        let door = KeyframeGate::default();
        assert!(door.admits(true, 0) && door.admits(false, WAITING - 1));
        assert!(!door.admits(false, WAITING) && !door.admits(false, 0), "nothing of what needs the one left out");
        assert!(!door.admits(true, WAITING / 2), "it has not caught up");
        assert!(!door.admits(false, 0) && door.admits(true, 0) && door.admits(false, 1));
        assert!(!door.admits(true, WAITING), "full is full");
    }
}
