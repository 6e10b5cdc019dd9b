//! Owns what the container of a stream tells of its pictures, and how they lie. For the colour the coded pictures' own word goes
//! first: decoders take a container's, and `GStreamer` reads it wrongly out of MP4 (the mark of full range is lost). How a picture
//! lies is told by MP4's display matrix and by the EXIF of JPEG. Runs on `GStreamer`'s threads.

use std::io::Cursor;
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use exif::{In, Reader, Tag};
use gstreamer as gst;
use gstreamer::prelude::*;

use crate::codec::{H264, h264};
use crate::frame::{Matrix, Span};
use crate::gst::ToldColour;
use crate::turn::Turn;

/// See the module's first lines.
#[derive(Default)]
pub(super) struct Container {
    colour: Mutex<ToldColour>,
    /// What the SPS of H.264 tells: openh264's decoder passes it over.
    stream: Mutex<ToldColour>,
    /// How the pictures lie, as EXIF says it; 0: nothing is told.
    orientation: AtomicU8,
    /// The same as [`Container::turn`] was last asked for it.
    asked: AtomicU8,
}

impl Container {
    /// The colour of decoded pictures: the stream's own word, then the decoder's, which is made of it and may have lost a part, then
    /// the container's.
    pub fn colour(&self, decoded: ToldColour) -> ToldColour {
        let read = |told: &Mutex<ToldColour>| *told.lock().unwrap_or_else(PoisonError::into_inner);
        read(&self.stream).or(decoded).or(read(&self.colour))
    }

    /// What sets the pictures upright.
    pub fn turn(&self) -> Turn {
        let now = self.orientation.load(Relaxed);
        if self.asked.swap(now, Relaxed) != now && now > 0 {
            log::info!("The source tells how its pictures lie (EXIF orientation {now}), and they are set upright");
        }
        Turn::exif(now)
    }

    /// Whether the pictures lie another way than they did when [`Container::turn`] was last asked.
    pub fn has_news(&self) -> bool {
        self.asked.load(Relaxed) != self.orientation.load(Relaxed)
    }

    /// Takes note of an element of the pipeline: call it with each one before it runs.
    pub fn watch(self: &Arc<Self>, element: &gst::Element) {
        let Some(factory) = element.factory() else { return };
        let is = |word| factory.metadata("klass").is_some_and(|k| k.contains(word));
        if is("Demux") {
            let (container, mp4) = (self.clone(), factory.name() == "qtdemux");
            element.connect_pad_added(move |_, pad| container.listen(pad, mp4));
        }
        // Not `decodebin`, which is made of decoders.
        let takes = |media| factory.can_sink_any_caps(&gst::Caps::new_empty_simple(media));
        let Some(pad) = element.static_pad("sink").filter(|_| is("Decoder") && !is("Bin")) else { return };
        let container = self.clone();
        if takes(H264.media_type()) {
            pad.add_probe(gst::PadProbeType::BUFFER, move |_, info| container.look_at_key_frame(info));
        } else if takes("image/jpeg") {
            pad.add_probe(gst::PadProbeType::BUFFER, move |_, info| container.look(info));
        }
    }

    /// Listens to what a demuxer says of its pictures.
    fn listen(self: &Arc<Self>, pad: &gst::Pad, mp4: bool) {
        let container = self.clone();
        pad.add_probe(gst::PadProbeType::EVENT_DOWNSTREAM, move |_, info| {
            let without = info.event().and_then(|e| match e.view() {
                gst::EventView::Caps(caps) => container.take_colour(caps.caps(), mp4),
                gst::EventView::Tag(tags) => {
                    if let Some(told) = tags.tag().get::<gst::tags::ImageOrientation>() {
                        container.orientation.store(orientation(told.get()), Relaxed);
                    }
                    None
                }
                _ => None,
            });
            if let Some(caps) = without {
                info.data = Some(gst::PadProbeData::Event(gst::event::Caps::new(&caps)));
            }
            gst::PadProbeReturn::Ok
        });
    }

    /// The caps of coded pictures without their colour, which is kept here; `None` where they tell none.
    fn take_colour(&self, caps: &gst::CapsRef, mp4: bool) -> Option<gst::Caps> {
        if !caps.structure(0)?.name().starts_with("video/") || !caps.structure(0)?.has_field("colorimetry") {
            return None;
        }
        let mut told = ToldColour::of(caps);
        if mp4 {
            // `qtdemux` says limited range whatever the file says.
            told.span = told.span.filter(|s| *s == Span::Full);
        }
        *self.colour.lock().unwrap_or_else(PoisonError::into_inner) = told;
        let mut caps = caps.to_owned();
        caps.make_mut().structure_mut(0)?.remove_field("colorimetry");
        Some(caps)
    }

    /// Reads the SPS of H.264 on its way to the decoder.
    fn look_at_key_frame(&self, info: &gst::PadProbeInfo<'_>) -> gst::PadProbeReturn {
        let key = info.buffer().filter(|b| !b.flags().contains(gst::BufferFlags::DELTA_UNIT));
        if let Some(signal) = key.and_then(|b| b.map_readable().ok()).and_then(|bytes| h264::signal(&bytes)) {
            let matrix = signal.codes.and_then(|[_, _, matrix]| match matrix {
                // Table E-5: FCC, BT.470BG, SMPTE 170M; BT.709, SMPTE 240M, BT.2020. The nearest of our two.
                4..=6 => Some(Matrix::Bt601),
                1 | 7 | 9 | 10 => Some(Matrix::Bt709),
                _ => None,
            });
            let span = Some(if signal.full { Span::Full } else { Span::Limited });
            *self.stream.lock().unwrap_or_else(PoisonError::into_inner) = ToldColour { matrix, span };
        }
        gst::PadProbeReturn::Ok
    }

    /// Reads the EXIF of a JPEG picture on its way to the decoder.
    fn look(&self, info: &gst::PadProbeInfo<'_>) -> gst::PadProbeReturn {
        let picture = info.buffer().and_then(|b| b.map_readable().ok());
        self.orientation.store(picture.and_then(|jpeg| told_by(&jpeg)).unwrap_or_default(), Relaxed);
        gst::PadProbeReturn::Ok
    }
}

/// The orientation in the EXIF of a JPEG picture, where it tells one.
fn told_by(jpeg: &[u8]) -> Option<u8> {
    let read = Reader::new().read_from_container(&mut Cursor::new(jpeg)).ok()?;
    let told = read.get_field(Tag::Orientation, In::PRIMARY)?.value.get_uint(0)?;
    u8::try_from(told).ok().filter(|n| (1..=8).contains(n))
}

/// The library's words for EXIF's numbers.
fn orientation(word: &str) -> u8 {
    const WORDS: [&str; 8] = [
        "rotate-0",
        "flip-rotate-0",
        "rotate-180",
        "flip-rotate-180",
        "flip-rotate-270",
        "rotate-90",
        "flip-rotate-90",
        "rotate-270",
    ];
    WORDS.iter().position(|w| *w == word).map_or(0, |at| at as u8 + 1)
}
