//! Owns the one door to `GStreamer`: starting it, our layout and colour as caps and back, its errors as ours, and the
//! name of the Debian package that brings an element which is missing. Keeps no state of its own. Any thread.

mod direct;
mod pipe;
mod told;

use gstreamer as gst;
use gstreamer_video as video;

use crate::error::{Error, Kind, Result};
use crate::frame::{Colour, Layout, Matrix, Span};

pub use direct::Direct;
pub use pipe::Pipe;
pub use told::ToldColour;

/// Starts `GStreamer`; every further call costs one atomic read.
///
/// The first call reads the plugin registry. When that file is missing or older than a plugin, every plugin is loaded once
/// in a child process, which takes seconds on a small board. Leave it in the child: with `GST_REGISTRY_FORK=no` this
/// process stays at 113 MB after such a scan instead of 12 (Debian 12 with 259 plugin files).
pub fn init() -> Result<()> {
    gst::init().map_err(|e| {
        Error::caused(Kind::Media, "start gstreamer: its core could not be initialised; reinstall libgstreamer1.0-0", e)
    })
}

/// Makes the element `factory`, for example `jpegenc`.
///
/// A missing factory is an error of kind `media` that names the package to install.
pub fn element(factory: &str) -> Result<gst::Element> {
    init()?;
    let Some(found) = gst::ElementFactory::find(factory) else {
        return Err(Error::new(Kind::Media, missing(factory)));
    };
    found.create().build().map_err(|e| {
        let cure = package_of(factory).map_or(String::new(), |p| format!("; reinstall {p}"));
        Error::caused(Kind::Media, format!("create gstreamer element {factory}: its plugin does not load{cure}"), e)
    })
}

/// Whether the element can be had.
pub fn has(factory: &str) -> bool {
    init().is_ok() && gst::ElementFactory::find(factory).is_some()
}

fn missing(factory: &str) -> String {
    match package_of(factory) {
        Some(p) => format!("create gstreamer element {factory}: it is not installed; install the package {p}"),
        None => format!("create gstreamer element {factory}: it is not installed and no known package brings it"),
    }
}

/// The Debian 12 package that brings an element this program may ask for.
pub fn package_of(factory: &str) -> Option<&'static str> {
    Some(match factory {
        "appsrc" | "appsink" | "audioconvert" | "audioresample" | "audiotestsrc" | "videoconvert" | "videoscale"
        | "videorate" | "videotestsrc" | "decodebin" | "uridecodebin" => "gstreamer1.0-plugins-base",
        "jpegenc" | "jpegdec" | "rtph264pay" | "rtpmp4gpay" | "rtph264depay" | "rtpjpegdepay" | "rtspsrc" | "mp4mux"
        | "qtmux" | "qtdemux" | "matroskamux" | "splitmuxsink" | "multifilesrc" | "souphttpsrc" | "udpsrc" | "v4l2src"
        | "v4l2h264enc" | "v4l2h264dec" | "v4l2convert" => "gstreamer1.0-plugins-good",
        "h264parse" | "h265parse" | "jpegparse" | "openh264enc" | "openh264dec" => "gstreamer1.0-plugins-bad",
        "alsasrc" => "gstreamer1.0-alsa",
        "x264enc" => "gstreamer1.0-plugins-ugly",
        "avdec_h264" | "avdec_h265" | "avdec_mjpeg" => "gstreamer1.0-libav",
        "libcamerasrc" => "gstreamer1.0-libcamera",
        "rtspclientsink" => "gstreamer1.0-rtsp",
        "queue" | "tee" | "valve" | "identity" | "capsfilter" | "filesink" | "filesrc" | "fakesink" => "libgstreamer1.0-0",
        _ => return None,
    })
}

/// How `GStreamer` writes our colour. Transfer and primaries, which we do not track, are those that go with it by custom:
/// sYCC for JPEG's colour; SMPTE 170M for limited BT.601, whose transfer is the same curve as BT.709's; BT.709.
pub fn colorimetry(colour: Colour) -> video::VideoColorimetry {
    use video::{VideoColorMatrix as M, VideoColorPrimaries as P, VideoColorRange as R, VideoTransferFunction as T};
    let range = match colour.span {
        Span::Full => R::Range0_255,
        Span::Limited => R::Range16_235,
    };
    match (colour.matrix, colour.span) {
        (Matrix::Bt601, Span::Full) => video::VideoColorimetry::new(range, M::Bt601, T::Srgb, P::Bt709),
        (Matrix::Bt601, Span::Limited) => video::VideoColorimetry::new(range, M::Bt601, T::Bt709, P::Smpte170m),
        (Matrix::Bt709, _) => video::VideoColorimetry::new(range, M::Bt709, T::Bt709, P::Bt709),
    }
}

/// Our picture as `GStreamer` describes it: I420, planes as [`Layout`] places them, frame rate `fps` as a fraction
/// (0/1 = variable or a single picture).
pub fn video_info(layout: Layout, colour: Colour, fps: gst::Fraction) -> Result<video::VideoInfo> {
    init()?;
    let bad = || format!("describe a {}x{} picture to gstreamer", layout.width, layout.height);
    let info = video::VideoInfo::builder(video::VideoFormat::I420, layout.width, layout.height)
        .colorimetry(&colorimetry(colour))
        .fps(fps)
        .build()
        .map_err(|e| Error::caused(Kind::Media, bad(), e))?;
    let ours = [0, layout.u().start, layout.v().start];
    let strides = [layout.y_stride() as i32, layout.c_stride() as i32, layout.c_stride() as i32];
    if info.offset() != ours || info.stride() != strides || info.size() != layout.bytes() {
        return Err(Error::new(Kind::Media, format!("{}: it would lay out the planes differently; use even sizes", bad())));
    }
    Ok(info)
}

/// Caps of our picture; see [`video_info`].
pub fn caps(layout: Layout, colour: Colour, fps: gst::Fraction) -> Result<gst::Caps> {
    let bad = || format!("make caps of a {}x{} picture", layout.width, layout.height);
    video_info(layout, colour, fps)?.to_caps().map_err(|e| Error::caused(Kind::Media, bad(), e))
}

/// What raw caps say about the picture: size and colour. Only I420 of even size is ours.
pub fn read_caps(caps: &gst::CapsRef) -> Result<(Layout, Colour)> {
    init()?;
    let info = video::VideoInfo::from_caps(caps)
        .map_err(|e| Error::caused(Kind::Media, format!("read caps {caps}: they are not raw video"), e))?;
    if info.format() != video::VideoFormat::I420 || info.width() % 2 != 0 || info.height() % 2 != 0 {
        let why = "only I420 of even width and height is taken; put videoconvert and videoscale before it";
        return Err(Error::new(Kind::Media, format!("read caps {caps}: {why}")));
    }
    Ok((Layout::new(info.width(), info.height()), ToldColour::of(caps).completed(&info)))
}

/// An error message of a bus as ours: which element, what it says, and the place in its source for a bug report.
pub fn bus_error(kind: Kind, message: &gst::message::Error) -> Error {
    let from = message.src().map_or_else(|| "gstreamer".into(), gst::prelude::GstObjectExt::name);
    let detail = message.debug().map_or(String::new(), |d| format!(" ({})", d.replace('\n', " ")));
    Error::caused(kind, format!("run gstreamer element {from}{detail}"), message.error())
}

/// The first error waiting on a bus, if any. Never blocks.
pub fn pending_error(kind: Kind, bus: &gst::Bus) -> Option<Error> {
    let message = bus.pop_filtered(&[gst::MessageType::Error])?;
    match message.view() {
        gst::MessageView::Error(e) => Some(bus_error(kind, e)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use gstreamer::prelude::*;

    use super::*;

    const ALL: [Colour; 4] = [
        Colour { matrix: Matrix::Bt601, span: Span::Full },
        Colour { matrix: Matrix::Bt601, span: Span::Limited },
        Colour { matrix: Matrix::Bt709, span: Span::Full },
        Colour { matrix: Matrix::Bt709, span: Span::Limited },
    ];

    #[test]
    fn layout_and_colour_survive_the_way_through_caps() {
        for colour in ALL {
            for (w, h) in [(1024, 768), (6, 4), (1022, 766), (640, 360)] {
                let caps = caps(Layout::new(w, h), colour, gst::Fraction::new(10, 1)).unwrap();
                assert_eq!(read_caps(&caps).unwrap(), (Layout::new(w, h), colour));
            }
        }
    }

    #[test]
    fn foreign_caps_are_refused_in_words() {
        init().unwrap();
        let nv12 = gst::Caps::builder("video/x-raw").field("format", "NV12").field("width", 16).field("height", 16).build();
        assert!(read_caps(&nv12).unwrap_err().what.contains("videoconvert"));
        let jpeg = gst::Caps::builder("image/jpeg").field("width", 16).field("height", 16).build();
        assert!(read_caps(&jpeg).unwrap_err().what.contains("only I420"));
        let sound = gst::Caps::new_empty_simple("audio/x-raw");
        assert!(read_caps(&sound).unwrap_err().what.contains("not raw video"));
    }

    #[test]
    fn a_missing_element_names_its_package_or_admits_it() {
        assert_eq!(element("nosuchelement").unwrap_err().kind, Kind::Media);
        assert!(missing("x264enc").ends_with("install the package gstreamer1.0-plugins-ugly"));
        assert!(!has("nosuchelement") && has("identity"));
        let lost = Pipe::launch("fakesrc ! audio/x-raw,rate=1 ! gone.sink nosuchelement name=gone ! fakesink", "build").map(drop);
        assert_eq!(lost.unwrap_err().what, missing("nosuchelement"));
    }

    #[test]
    fn an_element_s_complaint_becomes_an_error() {
        init().unwrap();
        let bus = gst::Bus::new();
        let file = gst::ElementFactory::make("filesrc").property("location", "/no/such/file").build().unwrap();
        file.set_bus(Some(&bus));
        assert!(pending_error(Kind::Source, &bus).is_none());
        assert!(file.set_state(gst::State::Paused).is_err());
        let e = pending_error(Kind::Source, &bus).unwrap();
        assert!(e.kind == Kind::Source && e.what.contains("filesrc") && e.to_string().contains("/no/such/file"), "{e}");
        file.set_state(gst::State::Null).unwrap();
    }
}
