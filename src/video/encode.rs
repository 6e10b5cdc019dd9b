//! Owns one encoder: a `GStreamer` pipeline that takes pictures without copying them and hands out access units.
//! Never waits: when the encoder is late the oldest of two waiting pictures goes. Made and fed by one thread; units come out
//! on the pipeline's own thread.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app as gst_app;
use gstreamer_video as gst_video;

use super::access_unit::AccessUnit;
use crate::clock::WallUs;
use crate::codec::{Implementation, h264};
use crate::error::{Error, Kind, Result};
use crate::export::Pixels;
use crate::frame::{Colour, Layout, Matrix, Span};
use crate::gst::{self as door, Pipe};

/// The part of a pipeline that encodes, its element called `encoder`.
pub(super) fn line(by: Implementation, s: &Settings) -> String {
    let (gop, kbps) = (s.gop(), s.bitrate_kbps);
    match by {
        // Without a level the driver takes level 1 and refuses the first frame (raspberrypi/linux#3974).
        Implementation::Hardware => {
            format!("v4l2h264enc name=encoder {} ! video/x-h264,level=(string)4", hardware_controls(gop, kbps))
        }
        // One thread makes one slice, and parameter sets come once a key frame. The fastest preset: a Pi has no more.
        Implementation::X264 => format!(
            "x264enc name=encoder tune=zerolatency speed-preset=ultrafast threads=1 byte-stream=true key-int-max={gop} bitrate={kbps} \
             ! video/x-h264,profile=constrained-baseline"
        ),
        Implementation::OpenH264 => format!(
            "openh264enc name=encoder complexity=low usage-type=camera rate-control=bitrate multi-thread=1 gop-size={gop} bitrate={} \
             ! video/x-h264,profile=constrained-baseline",
            kbps * 1000
        ),
    }
}

fn hardware_controls(gop: u32, kbps: u32) -> String {
    format!("extra-controls=\"controls,video_bitrate={},h264_i_frame_period={gop},repeat_sequence_header=1\"", kbps * 1000)
}

/// How to encode.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Bits a second (kbit/s).
    pub bitrate_kbps: u32,
    /// Longest time between two key frames (s).
    pub keyframe_s: f64,
    /// Size of the stream, where it is not the pictures'.
    pub size: Option<Layout>,
    /// The day's frame rate (1/s): what the caps say all day and night, while time stamps tell the truth.
    pub fps: f64,
}

impl Settings {
    /// Frames between key frames at the day's rate.
    fn gop(&self) -> u32 {
        (self.fps * self.keyframe_s).round().max(1.0) as u32
    }
}

/// Gets what comes out of an encoder, on that encoder's own thread.
pub type Out = Box<dyn FnMut(&AccessUnit) + Send>;

/// What a picture in the encoder is, found again by its time stamp.
type FrameStamp = (gst::ClockTime, u64, WallUs);

/// Pictures that may wait in front of it.
const WAITING: u64 = 2;
/// Pictures that may be inside an encoder at once, far more than real ones hold.
const INSIDE: usize = 16;

#[derive(Default)]
struct InFlight {
    frames: Mutex<VecDeque<FrameStamp>>,
    fed: AtomicU64,
    out: AtomicU64,
}

/// One encoder at work. Dropping it stops it.
pub struct Encoder {
    pipe: Pipe,
    source: gst_app::AppSrc,
    element: gst::Element,
    in_flight: Arc<InFlight>,
    coder: Implementation,
    /// What it encodes: size and colour.
    pub picture: (Layout, Colour),
    settings: Settings,
}

impl Encoder {
    /// An encoder of pictures of this size and colour; `out` gets what comes out.
    pub fn new(coder: Implementation, picture: (Layout, Colour), settings: &Settings, out: Out) -> Result<Encoder> {
        Encoder::with(coder, &line(coder, settings), picture, settings, out)
    }

    /// The same around any encoding part of a pipeline whose encoder is called `encoder`.
    pub(super) fn with(
        coder: Implementation,
        line: &str,
        picture: (Layout, Colour),
        settings: &Settings,
        mut out: Out,
    ) -> Result<Encoder> {
        let scale = match settings.size {
            Some(size) if size != picture.0 => scaled(size, true),
            _ => String::new(),
        };
        let (parser, repeating) = coder.codec().parser;
        let whole = format!(
            "appsrc name=in is-live=true format=time max-buffers={WAITING} max-bytes=0 leaky-type=downstream ! {scale}{line} \
             ! {parser} {repeating} ! {} ! appsink name=out sync=false",
            coder.codec().caps
        );
        let pipe = Pipe::launch(&whole, &format!("build the encoder {}", coder.word()))?;
        let (source, sink) = (pipe.named::<gst_app::AppSrc>("in"), pipe.named::<gst_app::AppSink>("out"));
        let fps = gst::Fraction::approximate_f64(settings.fps).unwrap_or(gst::Fraction::new(10, 1));
        source.set_caps(Some(&door::caps(picture.0, picture.1, fps)?));
        // Time stamps are the boot-time clock's own.
        pipe.keep_times();
        let in_flight = Arc::new(InFlight::default());
        let inside = in_flight.clone();
        // x264 tells the colour itself.
        let colour = (coder != Implementation::X264).then(|| signal(picture.1));
        sink.set_callbacks(
            gst_app::AppSinkCallbacks::builder()
                .new_sample(move |sink| {
                    let sample = sink.pull_sample().map_err(|_| gst::FlowError::Eos)?;
                    if let Some(mut unit) = unit(&sample, &inside) {
                        if let Some(colour) = colour.filter(|_| unit.keyframe) {
                            tell(&mut unit, colour);
                        }
                        inside.out.fetch_add(1, Relaxed);
                        out(&unit);
                    }
                    Ok(gst::FlowSuccess::Ok)
                })
                .build(),
        );
        pipe.play(Kind::Media, || format!("start the encoder {}", coder.word()))?;
        Ok(Encoder { element: pipe.named("encoder"), pipe, source, in_flight, coder, picture, settings: settings.clone() })
    }

    /// Who encodes.
    pub fn coder(&self) -> Implementation {
        self.coder
    }

    /// Hands a picture in, with the instant it is of; `key` makes it a key frame.
    pub fn feed(&self, pixels: &Pixels, time: gst::ClockTime, id: u64, wall: WallUs, key: bool) -> Result<()> {
        if key {
            let event = gst_video::UpstreamForceKeyUnitEvent::builder().all_headers(true).build();
            let pad = self.element.static_pad("src").expect("an encoder has a src pad");
            // An encoder that does not understand it gives its next key frame when that is due.
            let _ = pad.send_event(event);
        }
        {
            let mut frames = self.in_flight.frames.lock().unwrap_or_else(PoisonError::into_inner);
            if frames.len() >= INSIDE {
                frames.pop_front();
            }
            frames.push_back((time, id, wall));
        }
        let mut buffer = pixels.to_buffer();
        buffer.get_mut().expect("a buffer just made has one owner").set_pts(time);
        self.in_flight.fed.fetch_add(1, Relaxed);
        match self.source.push_buffer(buffer) {
            Ok(_) => Ok(()),
            Err(flow) => Err(self
                .complaint()
                .unwrap_or_else(|| Error::caused(Kind::Media, format!("feed the encoder {}", self.coder.word()), flow))),
        }
    }

    /// Pictures handed in, and units that came out.
    pub fn counts(&self) -> (u64, u64) {
        (self.in_flight.fed.load(Relaxed), self.in_flight.out.load(Relaxed))
    }

    /// Whether one picture more would drive the oldest waiting one out.
    pub fn is_full(&self) -> bool {
        self.source.property::<u64>("current-level-buffers") >= WAITING
    }

    /// What the encoder has to complain of since the last look.
    pub fn complaint(&self) -> Option<Error> {
        self.pipe.complaint(Kind::Media)
    }

    /// Takes over what can change while it runs; false when it has to be made anew.
    pub fn adapt(&mut self, settings: &Settings) -> bool {
        let (gop, kbps) = (settings.gop(), settings.bitrate_kbps);
        if settings.size != self.settings.size || settings.fps.total_cmp(&self.settings.fps).is_ne() {
            return false;
        }
        if kbps != self.settings.bitrate_kbps {
            match self.coder {
                Implementation::Hardware => {
                    let controls = gst::Structure::builder("controls")
                        .field("video_bitrate", (kbps * 1000) as i32)
                        .field("h264_i_frame_period", gop as i32);
                    self.element.set_property("extra-controls", controls.build());
                }
                Implementation::X264 => self.element.set_property("bitrate", kbps),
                Implementation::OpenH264 => self.element.set_property("bitrate", kbps * 1000),
            }
        }
        // A longer time between key frames than it was made for needs another one; a shorter one is the feeder's to ask for.
        let fits = gop <= self.settings.gop();
        self.settings = Settings { keyframe_s: self.settings.keyframe_s, ..settings.clone() };
        fits
    }

    /// Waits until everything handed in has come out.
    pub fn finish(&self) -> Result<()> {
        let what = format!("end the encoder {}", self.coder.word());
        // Far longer than the two pictures inside can take.
        let end = self.pipe.finish(&self.source, Kind::Media, &what, Duration::from_secs(20));
        end.unwrap_or_else(|| Err(Error::new(Kind::Timeout, format!("{what}: it does not finish"))))
    }
}

/// The part of a pipeline that scales to this size: with bars where the shape differs, or stretched.
pub(super) fn scaled(to: Layout, bars: bool) -> String {
    let (w, h) = (to.width, to.height);
    format!("videoscale add-borders={bars} ! video/x-raw,width={w},height={h},pixel-aspect-ratio=1/1 ! ")
}

/// Our colour as H.264 tells it; transfer and primaries as [`door::colorimetry`] has them.
fn signal(colour: Colour) -> h264::Signal {
    let codes = match (colour.matrix, colour.span) {
        (Matrix::Bt601, Span::Full) => [1, 13, 6],
        (Matrix::Bt601, Span::Limited) => [6, 1, 6],
        (Matrix::Bt709, _) => [1, 1, 1],
    };
    h264::Signal { full: colour.span == Span::Full, codes: Some(codes) }
}

/// Makes a key frame tell the colour where its encoder did not; players would take it for video's limited range.
fn tell(unit: &mut AccessUnit, colour: h264::Signal) {
    let told = unit.buffer.map_readable().ok().and_then(|bytes| h264::with_signal(&bytes, colour));
    let Some(told) = told else { return };
    let mut buffer = gst::Buffer::from_mut_slice(told);
    let new = buffer.get_mut().expect("a buffer just made has one owner");
    if unit.buffer.copy_into(new, gst::BufferCopyFlags::FLAGS | gst::BufferCopyFlags::TIMESTAMPS, ..).is_ok() {
        unit.buffer = buffer;
    }
}

/// What came out, in the time of what went in: an encoder may shift its time stamps (x264enc by 1000 hours) and says so in its segment.
fn unit(sample: &gst::Sample, in_flight: &InFlight) -> Option<AccessUnit> {
    let segment = sample.segment()?.downcast_ref::<gst::ClockTime>()?;
    let mut buffer = sample.buffer_owned()?;
    let time = segment.to_running_time(buffer.pts()?)?;
    let caps = sample.caps_owned()?;
    let keyframe = !buffer.flags().contains(gst::BufferFlags::DELTA_UNIT);
    let b = buffer.make_mut();
    b.set_pts(time);
    // No encoder here reorders pictures.
    b.set_dts(time);
    let mut frames = in_flight.frames.lock().unwrap_or_else(PoisonError::into_inner);
    // What was overtaken or dropped goes, too. Encoders may round to their own clock: within half a millisecond it is the same.
    while frames.front().is_some_and(|k| k.0 + gst::ClockTime::from_useconds(500) < time) {
        frames.pop_front();
    }
    let (_, id, wall) = *frames.front()?;
    Some(AccessUnit { buffer, caps, keyframe, id, wall, behind: 0 })
}
