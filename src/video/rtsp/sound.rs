//! Owns the sound of the stream: an ALSA device, an AAC encoder, and silence while the device is away, so that viewers keep
//! the pictures whatever becomes of it. Never runs while nobody watches: it lives as long as the media that viewers share.
//! Its thread `sound` tries the device; sound itself passes through `GStreamer`'s own threads.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app as gst_app;

use super::super::settings::Audio as Settings;
use crate::error::{Error, Kind, Result};
use crate::gst::{self as door, Pipe};
use crate::threads::Thread;

/// Encoders of AAC, the cheapest for a small processor first: the first two calculate with whole numbers.
const ENCODERS: [&str; 4] = ["fdkaacenc", "voaacenc", "avenc_aac", "faac"];
/// One voice is what a camera hears; 48 kHz is what devices run at.
const FORMAT: &str = "audio/x-raw,rate=48000,channels=1";
/// Units a second: 1024 samples each. A device of twice as many would be encoded with all the processor has.
const UNITS: f64 = 48_000.0 / 1024.0;
/// A device that gives nothing for so long is away.
const SILENT: Duration = Duration::from_secs(2);
/// Between looks at a device that runs.
const ROUND: Duration = Duration::from_millis(200);
/// Between attempts to open the device: the first, and the longest.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(30));
/// A unit this much later than now is none of a microphone's.
const AHEAD: gst::ClockTime = gst::ClockTime::from_seconds(1);
/// Sound that may wait for the senders (bytes): seconds. More means that they hang, and the oldest goes.
pub const WAITING: u64 = 64 << 10;

/// Sound on its way to one media; dropping it ends the thread.
pub struct Sound {
    _stop: Sender<()>,
}

/// Where sound goes.
struct Out {
    source: gst_app::AppSrc,
    /// Time stamp of the newest unit: what overlaps at a change of sources is left out.
    last: Mutex<gst::ClockTime>,
}

/// One pipeline from a source to units of AAC.
struct Feed {
    // Stopped by the thread `sound`, which a device that hangs holds up alone.
    pipe: Pipe,
    units: Arc<AtomicU64>,
}

/// The encoder that is installed.
fn encoder() -> Result<&'static str> {
    let cure = "install gstreamer1.0-plugins-bad (voaacenc) or gstreamer1.0-libav (avenc_aac), or empty rtsp.audio.device";
    let none = || Error::new(Kind::Media, format!("encode sound: no AAC encoder is installed; {cure}"));
    ENCODERS.into_iter().find(|e| door::has(e)).ok_or_else(none)
}

/// Fails where a part of the system is missing, with the name of its package. The device itself may be away.
pub fn check() -> Result<()> {
    for element in ["alsasrc", "audiotestsrc", "audioconvert", "audioresample", "rtpmp4gpay"] {
        door::element(element)?;
    }
    encoder().map(drop)
}

impl Sound {
    /// Sends sound into `source` until it is dropped.
    pub fn start(settings: Settings, source: gst_app::AppSrc) -> Result<Sound> {
        let (stop, stopped) = channel();
        let out = Arc::new(Out { source, last: Mutex::new(gst::ClockTime::ZERO) });
        Thread::Sound.keep(move || run(&settings, &out, &stopped))?;
        Ok(Sound { _stop: stop })
    }
}

/// Silence from the first moment on, for the library waits for sound before it answers a viewer; the device as soon as it
/// gives something, and again and again when it does not.
fn run(settings: &Settings, out: &Arc<Out>, stopped: &Receiver<()>) {
    let (mut silence, mut pause, mut told) = (None, BACKOFF.0, false);
    loop {
        if silence.is_none() {
            silence = match Feed::begin("audiotestsrc name=source wave=silence is-live=true", settings, out) {
                Ok(feed) => Some(feed),
                Err(e) => {
                    log::warn!("Sound: {e}");
                    None
                }
            };
        }
        let mut heard = || {
            silence = None;
            log::info!("Sound: from {}", settings.device);
        };
        match listen(settings, out, stopped, &mut heard) {
            Ok(()) => return,
            Err(e) => {
                if silence.is_none() {
                    (pause, told) = (BACKOFF.0, false);
                }
                if told {
                    log::debug!("Sound: {e}");
                } else {
                    log::warn!("Sound: {e}; viewers hear silence until it is back");
                }
                told = true;
            }
        }
        if !matches!(stopped.recv_timeout(pause), Err(RecvTimeoutError::Timeout)) {
            return;
        }
        pause = (pause * 2).min(BACKOFF.1);
    }
}

/// Sound from the device until the end, which is `Ok`, or until it fails; `heard` is called with its first unit.
fn listen(settings: &Settings, out: &Arc<Out>, stopped: &Receiver<()>, heard: &mut dyn FnMut()) -> Result<()> {
    let feed = Feed::begin("alsasrc name=source provide-clock=false", settings, out)?;
    let (begun, mut seen, mut since) = (Instant::now(), 0, Instant::now());
    loop {
        if !matches!(stopped.recv_timeout(ROUND), Err(RecvTimeoutError::Timeout)) {
            return Ok(());
        }
        if let Some(e) = feed.pipe.complaint(Kind::Media) {
            return Err(e);
        }
        let units = feed.units.load(Relaxed);
        if units as f64 > UNITS * (2.0 * begun.elapsed().as_secs_f64() + 1.0) {
            let why = "gives sound faster than time goes by, so it is no microphone (`null`, a file, one that was pulled out)";
            return Err(Error::new(Kind::Media, format!("{} {why}", settings.device)));
        }
        if units != seen {
            if seen == 0 {
                heard();
            }
            (seen, since) = (units, Instant::now());
        } else if since.elapsed() > SILENT {
            let what = format!("{} gives nothing for {} s", settings.device, SILENT.as_secs());
            return Err(Error::new(Kind::Media, what));
        }
    }
}

impl Feed {
    fn begin(source: &str, settings: &Settings, out: &Arc<Out>) -> Result<Feed> {
        let (encoder, bits) = (encoder()?, settings.bitrate_kbps * 1000);
        let line = format!(
            "{source} ! audioconvert ! audioresample ! {FORMAT} ! audioconvert ! {encoder} bitrate={bits} \
             ! audio/mpeg,mpegversion=4,stream-format=raw ! appsink name=out sync=false"
        );
        let pipe = Pipe::launch(&line, "build the sound's pipeline")?;
        let (source, sink) = (pipe.named::<gst::Element>("source"), pipe.named::<gst_app::AppSink>("out"));
        if source.has_property("device") {
            source.set_property("device", &settings.device);
        }
        // Time stamps are those of the system's clock, as the media's are.
        pipe.pipeline.use_clock(Some(&gst::SystemClock::obtain()));
        pipe.keep_times();
        let (to, units) = (out.clone(), Arc::new(AtomicU64::new(0)));
        let counted = units.clone();
        sink.set_callbacks(
            gst_app::AppSinkCallbacks::builder()
                .new_sample(move |sink| {
                    let sample = sink.pull_sample().map_err(|_| gst::FlowError::Eos)?;
                    counted.fetch_add(1, Relaxed);
                    to.push(&sample);
                    Ok(gst::FlowSuccess::Ok)
                })
                .build(),
        );
        pipe.play(Kind::Media, || format!("listen to {}", settings.device))?;
        Ok(Feed { pipe, units })
    }
}

impl Out {
    fn push(&self, sample: &gst::Sample) {
        let segment = sample.segment().and_then(|s| s.downcast_ref::<gst::ClockTime>());
        let (Some(buffer), Some(segment)) = (sample.buffer_owned(), segment) else { return };
        let Some(time) = buffer.pts().and_then(|t| segment.to_running_time(t)) else { return };
        let base = self.source.base_time().filter(|base| !base.is_zero());
        let time = match base {
            Some(base) => time.saturating_sub(base),
            // Before the media runs it needs one unit for its description, and there is no time of its own to tell it by.
            None if self.source.caps().is_none() => gst::ClockTime::ZERO,
            None => return,
        };
        // What a device that was pulled out gives without end would otherwise keep all that follows out until its time comes.
        if time > gst::SystemClock::obtain().time().saturating_sub(base.unwrap_or_default()) + AHEAD {
            return;
        }
        {
            let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
            if base.is_some() && time <= *last {
                return;
            }
            *last = time;
        }
        let mut buffer = buffer;
        let b = buffer.make_mut();
        b.set_pts(time);
        b.set_dts(gst::ClockTime::NONE);
        if let Some(caps) = sample.caps_owned().filter(|c| self.source.caps().as_ref() != Some(c)) {
            self.source.set_caps(Some(&caps));
        }
        // Refused only while the media is being put away.
        let _ = self.source.push_buffer(buffer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A unit of this running time, as a pipeline on the system's clock makes it.
    fn unit(at: gst::ClockTime) -> gst::Sample {
        let mut buffer = gst::Buffer::with_size(8).unwrap();
        buffer.make_mut().set_pts(at);
        let segment = gst::FormattedSegment::<gst::ClockTime>::new();
        gst::Sample::builder().buffer(&buffer).caps(&gst::Caps::new_empty_simple("audio/mpeg")).segment(&segment).build()
    }

    #[test]
    fn sound_from_before_the_media_runs_keeps_no_later_sound_out() {
        gst::init().unwrap();
        let source = gst_app::AppSrc::builder().format(gst::Format::Time).build();
        let sink = gst_app::AppSink::builder().sync(false).async_(false).build();
        let both = gst::Bin::new();
        both.add_many([source.upcast_ref::<gst::Element>(), sink.upcast_ref()]).unwrap();
        source.link(&sink).unwrap();
        // A bin alone sets no base time: the media does not run yet.
        both.set_state(gst::State::Playing).unwrap();
        let out = Out { source: source.clone(), last: Mutex::new(gst::ClockTime::ZERO) };
        let (now, ms) = (gst::SystemClock::obtain().time(), gst::ClockTime::from_mseconds);
        // The first is for the description.
        out.push(&unit(now - ms(40)));
        out.push(&unit(now - ms(20)));
        source.set_base_time(now - ms(10));
        out.push(&unit(now));
        // Each instant once, and nothing from the future.
        out.push(&unit(now));
        out.push(&unit(now + ms(3000)));
        out.push(&unit(now + ms(900)));
        source.end_of_stream().unwrap();
        let came: Vec<_> = std::iter::from_fn(|| sink.pull_sample().ok()?.buffer()?.pts()).collect();
        both.set_state(gst::State::Null).unwrap();
        assert_eq!(came, [ms(0), ms(10), ms(910)]);
    }
}
