//! Pictures on disk, end to end: what was written is decoded by others and compared, and the disk is made to fail.

use std::collections::HashSet;
use std::fs;
use std::io::Cursor;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Barrier};

use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app::AppSink;
use gstreamer_video::VideoFrameExt;
use pastcam::clock::{BootUs, WallUs};
use pastcam::error::Kind;
use pastcam::export::keys::Place;
use pastcam::export::{Encoders, Exporter, Format, Keep, KeepKind, Label, Look, Picture, Pixels, Settings, Tag, encode};
use pastcam::frame::{Ae, Colour, Exposure, FrameMeta, Layout, Matrix, Span};
use pastcam::stack::{Mode, Stacked};

/// A folder of one test, removed at the end; a small tmpfs of its own when asked for.
struct Folder {
    path: PathBuf,
    mounted: bool,
}

impl Folder {
    fn new(word: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let n = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("pastcam-export-{}-{n}-{word}", std::process::id()));
        fs::create_dir(&path).unwrap();
        Folder { path, mounted: false }
    }

    /// A tmpfs of `size`, or `None` (and says so) where mounting is not allowed.
    fn tmpfs(word: &str, size: &str) -> Option<Self> {
        let mut folder = Folder::new(word);
        if !run("mount", &["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"], &folder.path) {
            eprintln!("SKIP: {word}: mounting a tmpfs needs root");
            return None;
        }
        folder.mounted = true;
        Some(folder)
    }

    fn names(&self) -> Vec<String> {
        let mut names: Vec<String> =
            fs::read_dir(&self.path).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

fn run(program: &str, arguments: &[&str], path: &Path) -> bool {
    Command::new(program).args(arguments).arg(path).stderr(Stdio::null()).status().is_ok_and(|s| s.success())
}

impl Deref for Folder {
    type Target = Path;
    fn deref(&self) -> &Path {
        &self.path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if self.mounted {
            run("umount", &["-l"], &self.path);
        }
        let _ = fs::remove_dir_all(&self.path);
    }
}

const COLOURS: [Colour; 4] = [
    Colour { matrix: Matrix::Bt601, span: Span::Full },
    Colour { matrix: Matrix::Bt601, span: Span::Limited },
    Colour { matrix: Matrix::Bt709, span: Span::Full },
    Colour { matrix: Matrix::Bt709, span: Span::Limited },
];

const BARS: [[u8; 3]; 8] =
    [[255, 0, 0], [0, 255, 0], [0, 0, 255], [0, 0, 0], [255, 255, 255], [128, 128, 128], [200, 120, 40], [30, 90, 160]];

/// R, G, B as a camera of this colour would deliver it (BT.601 and BT.709, 8 bit).
fn yuv(colour: Colour, rgb: [u8; 3]) -> [u8; 3] {
    let [r, g, b] = rgb.map(f64::from);
    let (kr, kb) = if colour.matrix == Matrix::Bt601 { (0.299, 0.114) } else { (0.2126, 0.0722) };
    let luma = kr * r + (1.0 - kr - kb) * g + kb * b;
    let (cb, cr) = ((b - luma) / (2.0 - 2.0 * kb), (r - luma) / (2.0 - 2.0 * kr));
    let (luma, cb, cr) = match colour.span {
        Span::Full => (luma, cb, cr),
        Span::Limited => (16.0 + luma * 219.0 / 255.0, cb * 224.0 / 255.0, cr * 224.0 / 255.0),
    };
    [luma, cb + 128.0, cr + 128.0].map(|x| x.round().clamp(0.0, 255.0) as u8)
}

fn meta(id: u64, layout: Layout, colour: Colour) -> FrameMeta {
    FrameMeta {
        id,
        boot: BootUs(65_000_000),
        wall: WallUs(1_800_000_000_123_456),
        layout,
        colour,
        exposure: Some(Exposure { time_us: 20_000.0, analogue_gain: 4.0, digital_gain: 1.0 }),
        ae: Ae::Converged,
        lux: None,
        colour_temperature: None,
        focus: None,
        night: false,
        drawn: false,
    }
}

/// Eight vertical bars.
fn bars(layout: Layout, colour: Colour) -> Picture {
    let mut px = vec![0; layout.bytes()];
    let bar = |x: u32| yuv(colour, BARS[(x * 8 / layout.width) as usize]);
    for y in 0..layout.height {
        for x in 0..layout.width {
            px[y as usize * layout.y_stride() + x as usize] = bar(x)[0];
            if x % 2 == 0 && y % 2 == 0 {
                let at = y as usize / 2 * layout.c_stride() + x as usize / 2;
                px[layout.u().start + at] = bar(x)[1];
                px[layout.v().start + at] = bar(x)[2];
            }
        }
    }
    Picture { meta: meta(7, layout, colour), pixels: Pixels::new(px), model: None, stacked: None }
}

/// Something without flat areas.
fn noise(layout: Layout) -> Picture {
    let px: Vec<u8> = (0..layout.bytes() as u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    Picture { meta: meta(7, layout, Colour::default()), pixels: Pixels::new(px), model: None, stacked: None }
}

/// Decoded by `jpegdec`: the I420 planes, JPEG's own colour.
fn decode_jpeg(file: &Path) -> (Layout, Vec<u8>) {
    pastcam::gst::init().unwrap();
    let line = format!("filesrc location={} ! jpegdec ! video/x-raw,format=I420 ! appsink name=out sync=false", file.display());
    let pipeline = gst::parse::launch(&line).unwrap().downcast::<gst::Pipeline>().unwrap();
    let out = pipeline.by_name("out").unwrap().downcast::<AppSink>().unwrap();
    pipeline.set_state(gst::State::Playing).unwrap();
    let sample = out.pull_sample().expect("a picture comes out");
    pipeline.set_state(gst::State::Null).unwrap();
    let info = gstreamer_video::VideoInfo::from_caps(sample.caps().unwrap()).unwrap();
    let layout = Layout::new(info.width(), info.height());
    let frame = gstreamer_video::VideoFrame::from_buffer_readable(sample.buffer_owned().unwrap(), &info).unwrap();
    let plane = |p: u32| frame.plane_data(p).unwrap();
    let stride = |p: usize| frame.info().stride()[p] as usize;
    let planes = pastcam::frame::Planes {
        layout,
        packing: pastcam::frame::Packing::Planar,
        data: [plane(0), plane(1), plane(2)],
        stride: [stride(0), stride(1), stride(2)],
    };
    let mut px = vec![0; layout.bytes()];
    planes.copy_to(&mut px);
    (layout, px)
}

/// The pixel of a JPEG's planes, by the formula of JFIF 1.02.
fn jpeg_pixel(layout: Layout, px: &[u8], x: u32, y: u32) -> [f64; 3] {
    let luma = f64::from(px[y as usize * layout.y_stride() + x as usize]);
    let at = (y / 2) as usize * layout.c_stride() + (x / 2) as usize;
    let (cb, cr) = (f64::from(px[layout.u().start + at]) - 128.0, f64::from(px[layout.v().start + at]) - 128.0);
    [luma + 1.402 * cr, luma - 0.344_136 * cb - 0.714_136 * cr, luma + 1.772 * cb].map(|x| x.clamp(0.0, 255.0))
}

fn decode_png(file: &Path) -> (u32, u32, Vec<u8>) {
    let mut reader = png::Decoder::new(Cursor::new(fs::read(file).unwrap())).read_info().unwrap();
    let mut out = vec![0; reader.output_buffer_size().unwrap()];
    let info = reader.next_frame(&mut out).unwrap();
    assert_eq!(info.color_type, png::ColorType::Rgb);
    // The trailer too, or a file cut off behind its pixels would pass.
    reader.finish().unwrap();
    (info.width, info.height, out)
}

/// An NPY file of our kind: height, width and the bytes.
fn decode_npy(file: &Path) -> (u32, u32, Vec<u8>) {
    let bytes = fs::read(file).unwrap();
    assert_eq!(&bytes[..8], b"\x93NUMPY\x01\x00");
    let end = 10 + usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
    let head = std::str::from_utf8(&bytes[10..end]).unwrap();
    assert!(end % 64 == 0 && head.ends_with('\n') && head.starts_with("{'descr': '|u1', 'fortran_order': False, "));
    let shape = head.split_once("'shape': (").unwrap().1.split_once(')').unwrap().0;
    let n: Vec<u32> = shape.split(", ").map(|n| n.parse().unwrap()).collect();
    assert!(n.len() == 3 && n[2] == 3);
    (n[0], n[1], bytes[end..].to_vec())
}

fn worst(a: [f64; 3], b: [u8; 3]) -> f64 {
    (0..3).map(|k| (a[k] - f64::from(b[k])).abs()).fold(0.0, f64::max)
}

#[test]
fn colours_are_true_in_every_format() {
    let folder = Folder::new("colours");
    let exporter = Exporter::new(Settings::new(&*folder)).unwrap();
    let mut encoders = Encoders::new();
    // Bars of 32 columns: their centre columns share no JPEG block with a neighbour.
    let layout = Layout::new(256, 64);
    for colour in COLOURS {
        let files = exporter.save(&mut encoders, &bars(layout, colour), &Format::ALL, None).unwrap();
        let (size, jpeg) = decode_jpeg(&files[0]);
        let (w, h, rgb) = decode_png(&files[1]);
        let (rows, columns, bgr) = decode_npy(&files[2]);
        assert_eq!((size, w, h, rows, columns), (layout, 256, 64, 64, 256));
        for (k, bar) in BARS.into_iter().enumerate() {
            let x = 32 * k as u32 + 16;
            let at = (20 * 256 + x) as usize * 3;
            let png: [u8; 3] = rgb[at..at + 3].try_into().unwrap();
            assert!(worst(png.map(f64::from), bar) <= 3.0, "{colour:?} {bar:?}: png {png:?}");
            assert_eq!([bgr[at + 2], bgr[at + 1], bgr[at]], png, "npy is png, blue first");
            let seen = jpeg_pixel(layout, &jpeg, x, 20);
            assert!(worst(seen, bar) <= 6.0, "{colour:?} {bar:?}: jpg {seen:?}");
        }
    }
}

#[test]
fn sizes_with_padded_rows_come_out_whole() {
    let folder = Folder::new("sizes");
    let exporter = Exporter::new(Settings::new(&*folder)).unwrap();
    let mut encoders = Encoders::new();
    for (w, h) in [(6, 4), (640, 360), (1022, 766), (2, 2)] {
        let layout = Layout::new(w, h);
        let picture = noise(layout);
        let files = exporter.save(&mut encoders, &picture, &Format::ALL, None).unwrap();
        let (pw, ph, rgb) = decode_png(&files[1]);
        let (nh, nw, bgr) = decode_npy(&files[2]);
        assert_eq!((pw, ph, nw, nh, rgb.len()), (w, h, w, h, (w * h * 3) as usize));
        assert!(rgb.chunks(3).eq(bgr.chunks(3).map(|p| [p[2], p[1], p[0]])));
        let last = rgb.len() - 3;
        let want = jpeg_pixel(layout, picture.pixels.as_ref(), w - 1, h - 1);
        assert!(worst(want, rgb[last..].try_into().unwrap()) <= 1.0);
        let (size, jpeg) = decode_jpeg(&files[0]);
        assert_eq!(size, layout);
        // Noise suffers at quality 95, but a row out of step would be off by 64 on average.
        let px = picture.pixels.as_ref();
        let off = (0..h).flat_map(|y| (0..w).map(move |x| (y as usize * layout.y_stride()) + x as usize));
        let sum: u64 = off.map(|i| u64::from(jpeg[i].abs_diff(px[i]))).sum();
        assert!(sum < 6 * u64::from(w * h), "{w}x{h}: luma off by {} on average", sum / u64::from(w * h));
    }
}

#[test]
fn the_jpeg_says_when_and_what() {
    let folder = Folder::new("exif");
    let exporter = Exporter::new(Settings::new(&*folder)).unwrap();
    let mut picture = bars(Layout::new(64, 48), Colour::default());
    picture.stacked = Some(Stacked { mode: Mode::Mean, frames: 4, share: 1.0 });
    let tag = Tag::new("gate").unwrap();
    let file = &exporter.save(&mut Encoders::new(), &picture, &[Format::Jpg], Some(&tag)).unwrap()[0];
    let exif = exif::Reader::new().read_from_container(&mut Cursor::new(fs::read(file).unwrap())).unwrap();
    let text = |key| match &exif.get_field(key, exif::In::PRIMARY).unwrap().value {
        exif::Value::Ascii(lines) => String::from_utf8(lines[0].clone()).unwrap(),
        other => panic!("{other:?}"),
    };
    let name = file.file_name().unwrap().to_str().unwrap();
    let date: String = text(exif::Tag::DateTimeOriginal).chars().filter(|c| *c != ':').collect();
    assert_eq!(name, format!("{}_f00000007_gate.jpg", date.replace(' ', "_")));
    assert_eq!(text(exif::Tag::SubSecTimeOriginal), "123");
    assert_eq!(text(exif::Tag::OffsetTimeOriginal).len(), 6);
    assert_eq!(text(exif::Tag::ImageDescription), "gate; average of 4 frames");
    assert!(text(exif::Tag::Software).starts_with("pastcam "));
    let iso = exif.get_field(exif::Tag::PhotographicSensitivity, exif::In::PRIMARY).unwrap();
    assert_eq!(iso.value.get_uint(0), Some(400));
    let (size, _) = decode_jpeg(file);
    assert_eq!(size, Layout::new(64, 48));
}

/// What photo libraries read with: every field again, by a program that shares nothing with ours.
#[test]
fn another_reader_finds_every_field() {
    if Command::new("exiftool").arg("-ver").output().is_err() {
        eprintln!("SKIP: EXIF by another reader: no exiftool");
        return;
    }
    let folder = Folder::new("exiftool");
    let mut settings = Settings::new(&*folder);
    settings.label = Label { name: "T\u{fc}r".into(), place: Place(Some([-338_568_123, -1_512_153_000])) };
    let exporter = Exporter::new(settings).unwrap();
    let mut picture = bars(Layout::new(64, 48), Colour::default());
    picture.stacked = Some(Stacked { mode: Mode::Steady, frames: 4, share: 0.874 });
    (picture.meta.ae, picture.meta.lux) = (Ae::Converged, Some(3.5));
    let tag = Tag::new("gate").unwrap();
    let files = exporter.save(&mut Encoders::new(), &picture, &[Format::Jpg, Format::Png], Some(&tag)).unwrap();
    let read = Command::new("exiftool").args(["-j", "-n", "-G0", "-EXIF:all", "-validate"]).args(&files).output().unwrap();
    let read: serde_json::Value = serde_json::from_slice(&read.stdout).unwrap();
    let exif = exif::Reader::new().read_from_container(&mut Cursor::new(fs::read(&files[0]).unwrap())).unwrap();
    let own = |key| exif.get_field(key, exif::In::PRIMARY).unwrap().display_value().to_string();
    let (date, offset) = (own(exif::Tag::DateTimeOriginal).replace('-', ":"), own(exif::Tag::OffsetTimeOriginal));
    let mut want = serde_json::json!({
        "ImageDescription": "gate; steady stack of 4 frames, 87 % averaged", "Model": "T\u{fc}r", "UserComment": "lux=3.500",
        "Software": concat!("pastcam ", env!("CARGO_PKG_VERSION")), "ExifVersion": "0232", "FlashpixVersion": "0100",
        "Orientation": 1, "XResolution": 72, "YResolution": 72, "ResolutionUnit": 2, "ColorSpace": 1,
        "ExifImageWidth": 64, "ExifImageHeight": 48, "YCbCrPositioning": 1, "ComponentsConfiguration": "1 2 3 0",
        "ModifyDate": date, "DateTimeOriginal": date, "CreateDate": date,
        "SubSecTime": 123, "SubSecTimeOriginal": 123, "SubSecTimeDigitized": 123,
        "OffsetTime": offset.trim_matches('"'), "OffsetTimeOriginal": offset.trim_matches('"'),
        "OffsetTimeDigitized": offset.trim_matches('"'),
        "ExposureTime": 0.02, "ISO": 400, "ExposureProgram": 2, "ExposureMode": 0,
        "CompositeImage": 3, "CompositeImageCount": "4 4",
        "GPSVersionID": "2 3 0 0", "GPSLatitudeRef": "S", "GPSLatitude": 33.856_812_3, "GPSLongitudeRef": "W",
        "GPSLongitude": 151.2153, "GPSMapDatum": "WGS-84", "GPSProcessingMethod": "MANUAL",
    });
    for file in read.as_array().unwrap() {
        assert_eq!(file["ExifTool:Validate"], "0 0 0", "errors, warnings, small ones: {file}");
        let fields = file.as_object().unwrap().iter();
        let got: serde_json::Map<_, _> =
            fields.filter_map(|(key, value)| Some((key.strip_prefix("EXIF:")?.to_string(), value.clone()))).collect();
        assert_eq!(serde_json::Value::Object(got), want);
        // The second is a PNG, which has no Y, Cb and Cr.
        for key in ["YCbCrPositioning", "ComponentsConfiguration"] {
            want.as_object_mut().unwrap().remove(key);
        }
    }
}

#[test]
fn any_writer_gets_the_bytes_of_the_file() {
    let folder = Folder::new("writer");
    let mut settings = Settings::new(&*folder);
    settings.overlay = Some("%Y gate".into());
    let exporter = Exporter::new(settings).unwrap();
    let (mut encoders, picture) = (Encoders::new(), noise(Layout::new(64, 48)));
    let files = exporter.save(&mut encoders, &picture, &Format::ALL, None).unwrap();
    let look = Look { quality: 95, overlay: Some("%Y gate"), tag: None, label: &Label::default() };
    for (format, file) in Format::ALL.into_iter().zip(files) {
        let mut bytes = Vec::new();
        encode(&mut encoders, &picture, format, look, &mut bytes).unwrap();
        assert!(bytes == fs::read(file).unwrap(), "{format}");
    }
    let plain = Look { overlay: None, ..look };
    let mut bytes = [Vec::new(), Vec::new()];
    for (out, look) in bytes.iter_mut().zip([look, plain]) {
        encode(&mut encoders, &picture, Format::Png, look, out).unwrap();
    }
    assert!(bytes[0] != bytes[1], "the text is missing");
    let e = encode(&mut encoders, &picture, Format::Png, plain, &mut &mut [0u8; 100][..]).unwrap_err();
    assert!(e.kind == Kind::Io && e.what == "hand out frame 7 as png", "{e}");
    assert_eq!(encode(&mut encoders, &picture, Format::Mp4, plain, &mut Vec::new()).unwrap_err().kind, Kind::Usage);
}

#[test]
fn without_a_clock_the_name_counts_from_boot() {
    let folder = Folder::new("noclock");
    let exporter = Exporter::new(Settings::new(&*folder)).unwrap();
    let mut picture = bars(Layout::new(64, 48), Colour::default());
    picture.meta.wall = WallUs(12_000_000);
    exporter.save(&mut Encoders::new(), &picture, &[Format::Png, Format::Png], None).unwrap();
    assert_eq!(folder.names(), ["noclock_0000065_f00000007.png"]);
}

#[test]
fn no_format_no_file() {
    let folder = Folder::new("none");
    let exporter = Exporter::new(Settings::new(&*folder)).unwrap();
    let e = exporter.save(&mut Encoders::new(), &noise(Layout::new(6, 4)), &[], None).unwrap_err();
    assert!(e.kind == Kind::Usage && folder.names().is_empty());
}

#[test]
fn latest_points_at_the_jpeg_written_last() {
    let folder = Folder::new("latest");
    let exporter = Exporter::new(Settings::new(&*folder)).unwrap();
    let mut encoders = Encoders::new();
    let mut picture = noise(Layout::new(6, 4));
    for id in [1, 2] {
        picture.meta.id = id;
        let file = exporter.save(&mut encoders, &picture, &Format::ALL, None).unwrap().remove(0);
        let link = fs::read_link(folder.join("latest.jpg")).unwrap();
        assert_eq!(link.as_os_str(), file.file_name().unwrap(), "relative, so the folder can be moved");
    }
    picture.meta.id = 3;
    exporter.save(&mut encoders, &picture, &[Format::Png], None).unwrap();
    assert!(fs::read_link(folder.join("latest.jpg")).unwrap().to_str().unwrap().ends_with("_f00000002.jpg"));
}

#[test]
fn equal_names_from_eight_threads_become_distinct_files() {
    let folder = Folder::new("threads");
    let exporter = Exporter::new(Settings::new(&*folder)).unwrap();
    let picture = noise(Layout::new(64, 48));
    let start = Barrier::new(8);
    let save = || {
        let mut encoders = Encoders::new();
        start.wait();
        (0..3)
            .flat_map(|_| exporter.save(&mut encoders, &picture, &[Format::Jpg, Format::Png], None).unwrap())
            .collect::<Vec<_>>()
    };
    let files: Vec<PathBuf> = std::thread::scope(|s| {
        let threads: Vec<_> = (0..8).map(|_| s.spawn(save)).collect();
        threads.into_iter().flat_map(|t| t.join().unwrap()).collect()
    });
    assert_eq!(files.iter().collect::<HashSet<_>>().len(), 48);
    assert_eq!(folder.names().len(), 49, "48 pictures and latest.jpg: {:?}", folder.names());
    for file in files.iter().filter(|f| f.extension().unwrap() == "png") {
        decode_png(file);
    }
}

#[test]
fn a_full_disk_is_told_and_leaves_nothing_half_done() {
    // Room for a PNG of a flat picture, not for 2.3 MB of NPY.
    let Some(folder) = Folder::tmpfs("full", "1m") else { return };
    let exporter = Exporter::new(Settings::new(&*folder)).unwrap();
    let (mut encoders, picture) = (Encoders::new(), bars(Layout::new(1024, 768), Colour::default()));
    let e = exporter.save(&mut encoders, &picture, &[Format::Npy], None).unwrap_err();
    assert!(e.kind == Kind::Disk && e.what.contains("the disk is full"), "{e}");
    assert!(folder.names().is_empty(), "{:?}", folder.names());
    let e = exporter.save(&mut encoders, &picture, &[Format::Npy, Format::Jpg], None).unwrap_err();
    let name = folder.names().into_iter().find(|n| n != "latest.jpg").unwrap();
    assert!(name.ends_with("_f00000007.jpg") && e.what.contains("the disk is full"), "{e}");
    assert!(e.what.ends_with(&format!("(written all the same: {})", folder.join(&name).display())), "{e}");
    decode_jpeg(&folder.join(name));
    // An incompressible PNG meets the full disk inside the encoder.
    let e = exporter.save(&mut encoders, &noise(Layout::new(1024, 768)), &[Format::Png], None).unwrap_err();
    assert!(e.what.contains("the disk is full") && folder.names().len() == 2, "{e}");
}

#[test]
fn a_read_only_disk_is_told_and_works_again_afterwards() {
    let Some(folder) = Folder::tmpfs("ro", "4m") else { return };
    let exporter = Exporter::new(Settings::new(&*folder)).unwrap();
    let (mut encoders, picture) = (Encoders::new(), noise(Layout::new(64, 48)));
    assert!(run("mount", &["-o", "remount,ro"], &folder.path));
    for format in Format::ALL {
        let e = exporter.save(&mut encoders, &picture, &[format], None).unwrap_err();
        assert!(e.kind == Kind::Disk && e.what.contains("read-only"), "{e}");
    }
    assert!(run("mount", &["-o", "remount,rw"], &folder.path) && folder.names().is_empty());
    assert_eq!(exporter.save(&mut encoders, &picture, &Format::ALL, None).unwrap().len(), 3);
}

#[test]
fn a_deleted_folder_is_made_again_and_one_that_cannot_be_is_told() {
    let above = Folder::new("gone");
    let dir = above.join("captures");
    let exporter = Exporter::new(Settings::new(&dir)).unwrap();
    exporter.tidy();
    let (mut encoders, picture) = (Encoders::new(), noise(Layout::new(64, 48)));
    fs::remove_dir(&dir).unwrap();
    let files = exporter.save(&mut encoders, &picture, &Format::ALL, None).unwrap();
    assert!(files.iter().all(|f| f.is_file() && f.parent() == Some(&dir)));
    fs::remove_dir_all(&dir).unwrap();
    fs::write(&dir, "in the way").unwrap();
    let e = exporter.save(&mut encoders, &picture, &[Format::Jpg], None).unwrap_err();
    assert!(e.kind == Kind::Disk && e.what.contains("a file stands where the folder should be"), "{e}");
}

#[test]
fn the_next_start_sweeps_what_a_kill_left() {
    let folder = Folder::new("sweep");
    for name in [".20270115_080000_f7.png.99-0.tmp", ".latest.jpg.99-1.tmp", ".mine.tmp"] {
        fs::write(folder.join(name), "half").unwrap();
    }
    Exporter::new(Settings::new(&*folder)).unwrap().tidy();
    assert_eq!(folder.names(), [".mine.tmp"]);
}

/// Not a test of its own: the child of the next one.
#[test]
#[ignore = "runs until it is killed"]
fn child_that_saves_until_killed() {
    let Some(dir) = std::env::var_os("PASTCAM_TEST_KILL_DIR") else { return };
    let exporter = Exporter::new(Settings::new(dir)).unwrap();
    let (mut encoders, mut picture) = (Encoders::new(), noise(Layout::new(1024, 768)));
    loop {
        picture.meta.id += 1;
        exporter.save(&mut encoders, &picture, &[Format::Png], None).unwrap();
    }
}

#[test]
fn a_kill_leaves_no_partial_file_under_a_final_name() {
    let folder = Folder::new("kill");
    for round in 1..=3 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child_that_saves_until_killed", "--ignored"])
            .env("PASTCAM_TEST_KILL_DIR", &folder.path)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let finals = || folder.names().into_iter().filter(|n| !n.starts_with('.')).count();
        while finals() < 3 * round && child.try_wait().unwrap().is_none() {
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
        child.kill().unwrap();
        assert!(!child.wait().unwrap().success());
        for name in folder.names().iter().filter(|n| !n.starts_with('.')) {
            decode_png(&folder.join(name));
        }
    }
    Exporter::new(Settings::new(&*folder)).unwrap().tidy();
    assert!(folder.names().iter().all(|n| !n.starts_with('.')), "{:?}", folder.names());
}

#[test]
fn limits_delete_the_oldest_and_spare_foreign_files() {
    let folder = Folder::new("limits");
    fs::write(folder.join("holiday.npy"), [0; 5000]).unwrap();
    let mut settings = Settings::new(&*folder);
    // An NPY of 6×4 has 128 + 72 bytes.
    settings.keep.kinds[Format::Npy] = KeepKind { max_bytes: Some(600), max_age_s: None };
    let exporter = Exporter::new(settings.clone()).unwrap();
    let (mut encoders, mut picture) = (Encoders::new(), noise(Layout::new(6, 4)));
    let mut save = |exporter: &Exporter, id| {
        picture.meta.id = id;
        exporter.save(&mut encoders, &picture, &[Format::Png, Format::Npy], None).unwrap()
    };
    let ids = |extension: &str| -> Vec<u64> {
        let names = folder.names().into_iter().filter(|n| n.contains("_f") && n.ends_with(extension));
        names.map(|n| n.split("_f").nth(1).unwrap().split('.').next().unwrap().parse().unwrap()).collect()
    };
    for id in 1..=5 {
        save(&exporter, id);
    }
    exporter.tidy();
    assert_eq!(ids(".npy"), [3, 4, 5]);
    assert_eq!(ids(".png"), [1, 2, 3, 4, 5]);
    settings.keep.kinds[Format::Npy].max_bytes = Some(250);
    exporter.reconfigure(settings.clone()).unwrap();
    exporter.tidy();
    assert_eq!(ids(".npy"), [5]);
    settings.keep.kinds[Format::Npy].max_bytes = Some(1);
    exporter.reconfigure(settings).unwrap();
    assert!(save(&exporter, 6)[1].is_file(), "just written stays");
    exporter.tidy();
    assert_eq!(ids(".npy"), [6]);
    assert!(folder.join("holiday.npy").is_file());
}

#[test]
fn the_free_space_floor_costs_the_oldest_pictures() {
    let Some(folder) = Folder::tmpfs("floor", "8m") else { return };
    fs::write(folder.join("foreign.bin"), vec![1; 2 << 20]).unwrap();
    let mut settings = Settings::new(&*folder);
    settings.keep = Keep { min_free_mib: 2, ..Keep::default() };
    let exporter = Exporter::new(settings.clone()).unwrap();
    let (mut encoders, mut picture) = (Encoders::new(), noise(Layout::new(640, 360)));
    for id in 1..=20 {
        picture.meta.id = id;
        exporter.save(&mut encoders, &picture, &[Format::Npy], None).unwrap();
        // One picture (0.66 MiB) may be written into the floor; it is made good before the next.
        assert!(pastcam::disk::free_bytes(&folder).unwrap() >= (2 << 20) - 700_000);
    }
    let names = folder.names();
    assert!(
        names.iter().any(|n| n.ends_with("_f00000020.npy")) && !names.iter().any(|n| n.ends_with("_f00000001.npy")),
        "{names:?}"
    );
    assert!(names.contains(&"foreign.bin".to_owned()) && names.len() >= 6, "{names:?}");
    settings.keep.min_free_mib = 7;
    exporter.reconfigure(settings).unwrap();
    let e = exporter.save(&mut encoders, &picture, &[Format::Npy], None).unwrap_err();
    assert!(e.kind == Kind::Disk && e.what.contains("min_free_mib"), "{e}");
    assert_eq!(folder.names(), names, "nothing written, nothing deleted in vain");
}

#[test]
fn a_new_folder_takes_effect_at_once() {
    let (one, two) = (Folder::new("one"), Folder::new("two"));
    let exporter = Exporter::new(Settings::new(&*one)).unwrap();
    let (mut encoders, picture) = (Encoders::new(), noise(Layout::new(6, 4)));
    exporter.reconfigure(Settings::new(two.join("sub"))).unwrap();
    exporter.save(&mut encoders, &picture, &[Format::Png], None).unwrap();
    assert!(one.names().is_empty() && fs::read_dir(two.join("sub")).unwrap().count() == 1);
    assert!(exporter.reconfigure(Settings::new("/proc/no")).is_err());
    assert_eq!(exporter.settings().dir, two.join("sub"));
}

#[test]
fn pixels_are_released_after_a_save() {
    let folder = Folder::new("release");
    let exporter = Exporter::new(Settings::new(&*folder)).unwrap();
    let owner: Arc<Vec<u8>> = Arc::new(vec![100; Layout::new(64, 48).bytes()]);
    let mut picture = noise(Layout::new(64, 48));
    picture.pixels = Pixels::shared(Arc::clone(&owner) as Arc<dyn AsRef<[u8]> + Send + Sync>);
    let mut encoders = Encoders::new();
    exporter.save(&mut encoders, &picture, &Format::ALL, None).unwrap();
    drop(picture);
    assert_eq!(Arc::strong_count(&owner), 1, "with the encoders still alive");
}
