//! Owns the decoding of pictures by means other than the program's own, and the reading of what the pattern drew into them.

use std::fs;
use std::io::Cursor;
use std::path::Path;

use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app::AppSink;
use pastcam::source::read_barcode;

/// A decoded picture.
#[derive(Clone)]
pub struct Image {
    pub width: usize,
    pub height: usize,
    /// R, G, B.
    pub rgb: Vec<u8>,
}

impl Image {
    pub fn open(path: &Path) -> Image {
        match path.extension().and_then(|e| e.to_str()) {
            Some("png") => png(path),
            Some("npy") => npy(path),
            Some("jpg") => jpg(path),
            other => panic!("{other:?}"),
        }
    }

    pub fn pixel(&self, x: usize, y: usize) -> [u8; 3] {
        let at = (y * self.width + x) * 3;
        [self.rgb[at], self.rgb[at + 1], self.rgb[at + 2]]
    }

    /// Luma by the weights of BT.601, full range.
    pub fn luma(&self) -> Vec<u8> {
        let y = |p: &[u8]| 0.299 * f64::from(p[0]) + 0.587 * f64::from(p[1]) + 0.114 * f64::from(p[2]);
        self.rgb.chunks_exact(3).map(|p| y(p).round() as u8).collect()
    }

    /// Frame id and time (µs, boot-time clock) drawn into the picture. Fails on a torn picture: both codes must agree.
    pub fn code(&self) -> (u64, u64) {
        let y = self.luma();
        let [above, below] = [false, true].map(|low| read_barcode(&y, self.width, self.width, self.height, low));
        assert_eq!(above, below, "a torn picture");
        above.expect("a code in the picture")
    }

    /// The same picture with every pixel `k` times as wide and as high.
    pub fn enlarged(&self, k: usize) -> Image {
        let (width, height) = (self.width * k, self.height * k);
        let rgb = (0..height).flat_map(|y| (0..width).flat_map(move |x| self.pixel(x / k, y / k))).collect();
        Image { width, height, rgb }
    }

    /// Mean of a square around a point.
    pub fn mean(&self, x: usize, y: usize, half: usize) -> [f64; 3] {
        let mut sum = [0.0; 3];
        for (dy, dx) in (0..2 * half).flat_map(|dy| (0..2 * half).map(move |dx| (dy, dx))) {
            let p = self.pixel(x - half + dx, y - half + dy);
            (0..3).for_each(|k| sum[k] += f64::from(p[k]));
        }
        sum.map(|s| s / (4 * half * half) as f64)
    }

    /// Largest difference of a colour value between two pictures of one size.
    pub fn worst(&self, other: &Image) -> u8 {
        assert_eq!((self.width, self.height), (other.width, other.height));
        self.rgb.iter().zip(&other.rgb).map(|(a, b)| a.abs_diff(*b)).max().unwrap()
    }
}

fn png(file: &Path) -> Image {
    let mut reader = png::Decoder::new(Cursor::new(fs::read(file).unwrap())).read_info().unwrap();
    let mut rgb = vec![0; reader.output_buffer_size().unwrap()];
    let info = reader.next_frame(&mut rgb).unwrap();
    assert_eq!((info.color_type, info.bit_depth), (png::ColorType::Rgb, png::BitDepth::Eight));
    // The trailer too, or a file cut off behind its pixels would pass.
    reader.finish().unwrap();
    Image { width: info.width as usize, height: info.height as usize, rgb }
}

/// NPY 1.0 as the reference writes it: `|u1`, C order, (H, W, 3), B, G, R.
fn npy(file: &Path) -> Image {
    let bytes = fs::read(file).unwrap();
    assert_eq!(&bytes[..8], b"\x93NUMPY\x01\x00");
    let end = 10 + usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
    let head = std::str::from_utf8(&bytes[10..end]).unwrap();
    assert!(head.starts_with("{'descr': '|u1', 'fortran_order': False, 'shape': ("), "{head}");
    let shape = head.split_once("'shape': (").unwrap().1.split_once(')').unwrap().0;
    let n: Vec<usize> = shape.split(", ").map(|n| n.parse().unwrap()).collect();
    let [height, width, 3] = n[..] else { panic!("{head}") };
    let mut rgb = bytes[end..].to_vec();
    assert_eq!(rgb.len(), width * height * 3);
    rgb.chunks_exact_mut(3).for_each(|p| p.swap(0, 2));
    Image { width, height, rgb }
}

fn jpg(file: &Path) -> Image {
    pastcam::gst::init().unwrap();
    let line = "filesrc name=in ! jpegdec ! video/x-raw,format=I420 ! appsink name=out sync=false";
    let pipeline = gst::parse::launch(line).unwrap().downcast::<gst::Pipeline>().unwrap();
    pipeline.by_name("in").unwrap().set_property("location", file.to_str().unwrap());
    let out = pipeline.by_name("out").unwrap().downcast::<AppSink>().unwrap();
    pipeline.set_state(gst::State::Playing).unwrap();
    let sample = out.try_pull_sample(gst::ClockTime::from_seconds(30));
    let sample = sample.unwrap_or_else(|| panic!("jpegdec gives no picture of {}", file.display()));
    pipeline.set_state(gst::State::Null).unwrap();
    let info = gstreamer_video::VideoInfo::from_caps(sample.caps().unwrap()).unwrap();
    let frame = gstreamer_video::VideoFrame::from_buffer_readable(sample.buffer_owned().unwrap(), &info).unwrap();
    let (width, height) = (info.width() as usize, info.height() as usize);
    let at = |p: usize, x: usize, y: usize| f64::from(frame.plane_data(p as u32).unwrap()[y * info.stride()[p] as usize + x]);
    // JFIF 1.02.
    let rgb = (0..width * height)
        .flat_map(|i| {
            let (x, y) = (i % width, i / width);
            let (luma, cb, cr) = (at(0, x, y), at(1, x / 2, y / 2) - 128.0, at(2, x / 2, y / 2) - 128.0);
            [luma + 1.402 * cr, luma - 0.344_136 * cb - 0.714_136 * cr, luma + 1.772 * cb]
                .map(|v| v.round().clamp(0.0, 255.0) as u8)
        })
        .collect();
    Image { width, height, rgb }
}
