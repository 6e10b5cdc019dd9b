//! The pictures that the virtual camera is given, and telling which of them a frame shows.

use std::sync::OnceLock;

use gstreamer::prelude::*;
use gstreamer_app::{AppSink, AppSrc};
use pastcam::frame::{Colour, Layout};

/// Y, U and V of each picture's left half; the right half is darker by 20. All far enough apart to survive what is done to them.
pub const SHOWN: [[u8; 3]; 5] = [[50, 90, 160], [85, 160, 90], [120, 128, 128], [155, 100, 110], [190, 150, 140]];
/// Frames that the virtual camera shows each picture for.
pub const REPEATED: usize = 4;
/// Where `virtual.yaml` says they are.
const FOLDER: &str = "/pictures";

/// Writes them, once.
pub fn write() {
    static WRITTEN: OnceLock<()> = OnceLock::new();
    WRITTEN.get_or_init(|| {
        let layout = Layout::new(640, 480);
        for (n, yuv) in SHOWN.iter().enumerate() {
            let mut pixels = vec![0; layout.bytes()];
            for row in pixels[layout.y()].chunks_mut(layout.y_stride()) {
                row[..320].fill(yuv[0]);
                row[320..].fill(yuv[0] - 20);
            }
            pixels[layout.u()].fill(yuv[1]);
            pixels[layout.v()].fill(yuv[2]);
            std::fs::create_dir_all(FOLDER).unwrap();
            std::fs::write(format!("{FOLDER}/{n}.jpg"), jpeg(layout, pixels)).unwrap();
        }
    });
}

fn jpeg(layout: Layout, pixels: Vec<u8>) -> Vec<u8> {
    gstreamer::init().unwrap();
    let line = "appsrc name=in ! jpegenc quality=98 ! appsink name=out sync=false";
    let pipeline = gstreamer::parse::launch(line).unwrap().downcast::<gstreamer::Pipeline>().unwrap();
    let entry = pipeline.by_name("in").unwrap().downcast::<AppSrc>().unwrap();
    let exit = pipeline.by_name("out").unwrap().downcast::<AppSink>().unwrap();
    entry.set_caps(Some(&pastcam::gst::caps(layout, Colour::default(), gstreamer::Fraction::new(0, 1)).unwrap()));
    pipeline.set_state(gstreamer::State::Playing).unwrap();
    entry.push_buffer(gstreamer::Buffer::from_slice(pixels)).unwrap();
    let bytes = exit.pull_sample().unwrap().buffer().unwrap().map_readable().unwrap().to_vec();
    pipeline.set_state(gstreamer::State::Null).unwrap();
    bytes
}

/// Which picture these I420 pixels, just as the camera gave them, show. Panics, with what it saw, when it is none of them.
pub fn which(layout: Layout, pixels: &[u8]) -> usize {
    recognise(layout, pixels, 3)
}

fn recognise(layout: Layout, pixels: &[u8], slack: u8) -> usize {
    let (w, h) = (layout.width as usize, layout.height as usize);
    let at = |x: usize, y: usize| pixels[y * layout.y_stride() + x];
    let chroma = h / 4 * layout.c_stride() + w / 4;
    let seen = [at(w / 4, h / 2), pixels[layout.u()][chroma], pixels[layout.v()][chroma]];
    let near = |a: u8, b: u8| a.abs_diff(b) <= slack;
    let n = SHOWN.iter().position(|s| s.iter().zip(seen).all(|(a, b)| near(*a, b)));
    let n = n.unwrap_or_else(|| panic!("Y, U, V {seen:?} are none of {SHOWN:?}"));
    assert!(near(at(3 * w / 4, h / 4), SHOWN[n][0] - 20), "the right half of picture {n} is {}", at(3 * w / 4, h / 4));
    n
}

/// The same of a JPEG file. libcamera 0.7 calls the virtual camera's colour video's, although it is JPEG's, and the program
/// converts what it is told to convert: that moves luma by up to 18; no two pictures are alike in colour by then.
pub fn which_file(path: &std::path::Path) -> usize {
    gstreamer::init().unwrap();
    let line = format!("filesrc location={} ! jpegdec ! video/x-raw,format=I420 ! appsink name=out sync=false", path.display());
    let pipeline = gstreamer::parse::launch(&line).unwrap().downcast::<gstreamer::Pipeline>().unwrap();
    let exit = pipeline.by_name("out").unwrap().downcast::<AppSink>().unwrap();
    pipeline.set_state(gstreamer::State::Playing).unwrap();
    let sample = exit.pull_sample().unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let (layout, _) = pastcam::gst::read_caps(sample.caps().unwrap()).unwrap();
    let pixels = sample.buffer().unwrap().map_readable().unwrap().to_vec();
    pipeline.set_state(gstreamer::State::Null).unwrap();
    recognise(layout, &pixels, 22)
}
