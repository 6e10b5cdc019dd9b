//! Owns the end of every decoding pipeline: pictures thinned out to the wished rate, their colour told in full, made I420 of the
//! camera's configured size, and lent to the capture. Probes run on `GStreamer`'s threads, `lend` on the capture thread.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app as gst_app;
use gstreamer_video as gst_video;
use gstreamer_video::prelude::*;

use super::jpeg;
use super::told::Container;
use crate::clock::BootUs;
use crate::error::{Error, Kind, Result};
use crate::frame::{Ae, Layout, Packing, Planes};
use crate::gst::{self as door, ToldColour};
use crate::source::{Camera, Incoming};
use crate::turn::Turn;

/// Thins a faster stream out to the wished rate.
pub(super) struct RateLimiter {
    gap_us: u64,
    /// When the next frame is due.
    due_us: Option<u64>,
    /// The time of the frame before, kept or not (µs).
    before: u64,
}

impl RateLimiter {
    pub fn new(fps: f64) -> RateLimiter {
        RateLimiter { gap_us: (1e6 / fps) as u64, due_us: None, before: 0 }
    }

    /// Whether the frame of this time is kept. Frames up to half a gap early are, so that a stream of just this rate loses
    /// none to its jitter; on the average the rate holds.
    pub fn keeps(&mut self, time_us: u64) -> bool {
        // Time runs backwards: a file has begun again, and a short one would never reach what was due. Two gaps off: the
        // stream has paused.
        let again = time_us < std::mem::replace(&mut self.before, time_us);
        let due = self.due_us.filter(|due| !again && due.abs_diff(time_us) <= 2 * self.gap_us).unwrap_or(time_us);
        let keeps = time_us + self.gap_us / 2 >= due;
        if keeps {
            self.due_us = Some(due + self.gap_us);
        }
        keeps
    }
}

/// The end of a pipeline.
pub(super) struct DecoderTail {
    /// Decoded pictures go in here.
    pub entry: gst::Pad,
    sink: gst_app::AppSink,
    /// Pixels of the decoded pictures, at most [`most_pixels`].
    sent: Arc<AtomicU64>,
    /// What the container tells; see [`Container::watch`].
    pub container: Arc<Container>,
}

impl DecoderTail {
    /// Puts it into a pipeline. `keeps` is asked for each decoded picture, ahead of the conversion, so that those that go cost
    /// nothing. With `sync` pictures wait for their time.
    pub fn new(
        pipeline: &gst::Pipeline,
        camera: &Camera,
        sync: bool,
        keeps: impl Fn(&gst::BufferRef) -> bool + Send + Sync + 'static,
    ) -> Result<DecoderTail> {
        let convert = door::element("videoconvert")?;
        let scale = door::element("videoscale")?;
        // A picture of another shape keeps it, between black bars.
        scale.set_property("add-borders", true);
        // Two frames at most: when the capture is late the oldest goes, and the decoder never waits for it.
        let sink = gst_app::AppSink::builder()
            .caps(&wanted(camera.turn.of(camera.layout), None))
            .max_buffers(2)
            .drop(true)
            .sync(sync)
            .build();
        let chain = [&convert, &scale, sink.upcast_ref()];
        let failed = |e: gst::glib::BoolError| Error::caused(Kind::Media, "build the end of the decoder", e);
        pipeline.add_many(chain).map_err(failed)?;
        gst::Element::link_many(chain).map_err(failed)?;
        let entry = convert.static_pad("sink").expect("videoconvert has a sink pad");
        // Not `videorate`: on a stream without a frame rate (MJPEG over HTTP) GStreamer 1.22's fails an assertion and takes
        // the process with it, or drops every frame that has no time.
        let container = Arc::<Container>::default();
        let known = container.clone();
        entry.add_probe(gst::PadProbeType::BUFFER, move |pad, info| {
            if known.has_news() {
                // Told again, and with what is new, to all that follows.
                let _ = pad.current_caps().is_none_or(|caps| pad.send_event(gst::event::Caps::new(&caps)));
            }
            let keeps = info.buffer().is_none_or(|b| keeps(b));
            // `Handled` gives the frame back here; with `Drop` GStreamer 1.22 would do that once more and complain.
            if keeps { gst::PadProbeReturn::Ok } else { gst::PadProbeReturn::Handled }
        });
        let size_told = AtomicU64::new(0);
        let sent = Arc::<AtomicU64>::default();
        let (known, exit, layout, wish) = (container.clone(), sink.clone(), camera.layout, camera.turn);
        let (decoded, most) = (sent.clone(), most_pixels(camera));
        entry.add_probe(gst::PadProbeType::EVENT_DOWNSTREAM, move |_, info| {
            let told = info.event().and_then(|e| match e.view() {
                gst::EventView::Caps(caps) => whole_colour(caps.caps(), &known),
                _ => None,
            });
            if let Some((mut caps, sent, colorimetry)) = told {
                decoded.store(sent.pixels().min(most), Relaxed);
                let turn = known.turn().then(wish);
                let upright = turn.of(sent);
                let size = u64::from(upright.width) << 32 | u64::from(upright.height);
                if size_told.swap(size, Relaxed) != size {
                    tell_size(upright, layout);
                }
                exit.set_caps(Some(&wanted(turn.of(layout), Some(&colorimetry))));
                note_turn(&mut caps, turn);
                info.data = Some(gst::PadProbeData::Event(gst::event::Caps::new(&caps)));
            }
            gst::PadProbeReturn::Ok
        });
        Ok(DecoderTail { entry, sink, sent, container })
    }

    /// The next picture; `None` when none comes within `wait`.
    pub fn pull(&self, wait: Duration) -> Option<gst::Sample> {
        self.sink.try_pull_sample(gst::ClockTime::from_nseconds(wait.as_nanos() as u64))
    }

    /// Lends a picture to the capture; `shown` names the source in errors.
    pub fn lend(
        &self,
        sample: &gst::Sample,
        id: u64,
        boot: BootUs,
        shown: &str,
        sink: &mut dyn FnMut(&Incoming<'_>),
    ) -> Result<()> {
        let broken = |what: &str| Error::new(Kind::Source, format!("{shown}: a frame without {what}"));
        let caps = sample.caps().ok_or_else(|| broken("caps"))?;
        let (layout, colour) = door::read_caps(caps)?;
        let info = gst_video::VideoInfo::from_caps(caps).map_err(|_| broken("video caps"))?;
        let buffer = sample.buffer().ok_or_else(|| broken("a buffer"))?;
        let frame = gst_video::VideoFrameRef::from_buffer_ref_readable(buffer, &info).map_err(|_| broken("readable planes"))?;
        let plane = |i: u32| frame.plane_data(i).map_err(|_| broken("three planes"));
        sink(&Incoming {
            main: Planes {
                layout,
                packing: Packing::Planar,
                data: [plane(0)?, plane(1)?, plane(2)?],
                stride: [0, 1, 2].map(|i| frame.plane_stride()[i] as usize),
            },
            sent: self.sent.load(Relaxed),
            low: None,
            turn: turn_in(caps),
            id,
            boot,
            colour,
            exposure: None,
            ae: Ae::Off,
            lux: None,
            colour_temperature: None,
            focus: None,
            shown: &[],
        });
        Ok(())
    }
}

/// Pictures as they are to come out.
fn wanted(layout: Layout, colorimetry: Option<&gst_video::VideoColorimetry>) -> gst::Caps {
    gst_video::VideoCapsBuilder::new()
        .format(gst_video::VideoFormat::I420)
        .width(layout.width as i32)
        .height(layout.height as i32)
        .pixel_aspect_ratio(gst::Fraction::new(1, 1))
        .field_if_some("colorimetry", colorimetry.map(ToString::to_string))
        .build()
}

/// The caps of decoded pictures with their colour told in full, so that every element behind understands it; their size, and the
/// colorimetry that they keep as I420: no sample is converted. `None` where these are no raw pictures.
fn whole_colour(caps: &gst::CapsRef, container: &Container) -> Option<(gst::Caps, Layout, gst_video::VideoColorimetry)> {
    let info = gst_video::VideoInfo::from_caps(caps).ok()?;
    let colorimetry = door::colorimetry(container.colour(ToldColour::of(caps)).completed(&info));
    let mut caps = caps.to_owned();
    if !info.is_rgb() {
        caps.make_mut().set("colorimetry", colorimetry.to_string());
    }
    Some((caps, Layout::new(info.width(), info.height()), colorimetry))
}

/// What is decoded at most (pixels): a 4K picture, or four times the configured size. A progressive JPEG of 4096×2160 with full colour
/// takes 70 MiB.
pub(super) fn most_pixels(camera: &Camera) -> u64 {
    (4 * camera.layout.pixels()).max(4096 * 2160)
}

/// What is wrong with coded pictures of these caps, where they are larger than that, and the cure.
pub(super) fn too_large(caps: &gst::CapsRef, most_pixels: u64) -> Option<String> {
    let field = |name| Some(caps.structure(0)?.get::<i32>(name).ok()?.max(0) as u32);
    let much = jpeg::too_large((field("width")?, field("height")?), most_pixels)?;
    Some(format!("{much}; choose smaller pictures, or raise camera.width and camera.height"))
}

/// Has a `decodebin` take no pictures that are too large. It asks with what is known of them, before there is a decoder; `beyond`
/// is told.
pub(super) fn bound(decode: &gst::Element, camera: &Camera, beyond: impl Fn(String) + Send + Sync + 'static) {
    let most = most_pixels(camera);
    decode.connect("autoplug-continue", false, move |values| {
        let much = values[2].get::<gst::Caps>().ok().and_then(|caps| too_large(&caps, most));
        let goes_on = much.is_none();
        much.into_iter().for_each(&beyond);
        Some(goes_on.to_value())
    });
}

/// The field of raw caps that says how their pictures lie, as EXIF does: elements hand on what they do not know.
const TURN: &str = "turn";

fn note_turn(caps: &mut gst::Caps, turn: Turn) {
    if let Some(fields) = caps.make_mut().structure_mut(0) {
        fields.remove_field(TURN);
        if !turn.is_none() {
            fields.set(TURN, i32::from(turn.orientation()));
        }
    }
}

fn turn_in(caps: &gst::CapsRef) -> Turn {
    let told = caps.structure(0).and_then(|s| s.get::<i32>(TURN).ok());
    told.map_or(Turn::default(), |n| Turn::exif(n as u8))
}

/// Says how to spare the scaling.
fn tell_size(sent: Layout, wanted: Layout) {
    if sent != wanted {
        log::info!(
            "The source sends {}x{}; set camera.width and camera.height to that to spare the scaling to {}x{}",
            sent.width,
            sent.height,
            wanted.width,
            wanted.height
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(fps: f64, times_ms: impl Iterator<Item = u64>) -> usize {
        let mut pace = RateLimiter::new(fps);
        times_ms.filter(|t| pace.keeps(t * 1000)).count()
    }

    #[test]
    fn a_faster_stream_is_thinned_out_and_another_is_left_alone() {
        assert_eq!(kept(10.0, (0..298).map(|i| i * 100 / 3)), 100, "30 a second");
        assert_eq!(kept(10.0, (0..248).map(|i| i * 40)), 100, "25 a second");
        assert_eq!(kept(10.0, (0..100).map(|i| i * 100 + [0, 40, 10, 30][i as usize % 4])), 100, "10 a second, unevenly");
        assert_eq!(kept(10.0, (0..50).map(|i| i * 200)), 50, "5 a second");
        assert_eq!(kept(10.0, (0..10).chain(0..10).map(|i| i * 100)), 20, "begun again");
        assert_eq!(kept(10.0, (0..9).map(|i| i % 3 * 40)), 6, "two frames of each turn of a film of 0.12 s");
    }
}
