//! Owns the choice of the encoder: which ones there are, and the test that a processor's own encoder must pass before it is
//! trusted. The test runs in a child process with a time limit, since a driver may hang, and its verdict is remembered on
//! disk, since it may take the machine with it. Runs on the thread `video`; the test itself on the child's main thread.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use gstreamer as gst;
use gstreamer_app as gst_app;
use gstreamer_video as gst_video;
use gstreamer_video::prelude::*;

use super::CODEC;
use super::access_unit::AccessUnit;
use super::encode::{Encoder, Settings};
use crate::clock::WallUs;
use crate::codec::{Codec, Implementation};
use crate::disk;
use crate::error::{Error, Kind, Result};
use crate::export::Pixels;
use crate::frame::{Colour, Layout, Packing, Planes};
use crate::gst::{self as door, Pipe};

/// A healthy encoder passes in well under a second; reading `GStreamer`'s list of plugins anew takes some.
const LIMIT: Duration = Duration::from_secs(20);
/// Pictures of the test.
const PICTURES: usize = 12;
/// Least likeness (PSNR) of what was decoded to what was encoded (dB). x264 and openh264 reach more than 35 on the test's scene; a
/// picture shifted by one column is below 25.
const MIN_PSNR_DB: f64 = 28.0;

/// The encoders of the stream's codec that this machine has and that take pictures of this size, best first, for a `video.encoder` of
/// this name: one that was named, then what replaces it.
pub fn candidates(named: Option<Implementation>, size: Layout) -> Vec<Implementation> {
    let mut all = installed(named);
    all.retain(|c| c.takes(size.width, size.height));
    all
}

/// Why there is none that works.
pub fn none_for(size: Layout) -> Error {
    let all = installed(None);
    let most: Vec<_> = all.iter().map(|c| format!("{} takes up to {}", c.word(), c.max_pixels())).collect();
    let (w, h) = (size.width, size.height);
    Error::new(
        Kind::Media,
        if all.is_empty() {
            "encode: no encoder is installed; install gstreamer1.0-plugins-ugly (x264enc) or gstreamer1.0-plugins-bad (openh264enc)".into()
        } else if all.iter().any(|c| c.takes(size.width, size.height)) {
            "encode the stream: no encoder works; install gstreamer1.0-plugins-ugly (x264enc) or gstreamer1.0-plugins-bad (openh264enc)".into()
        } else {
            format!("encode {w}x{h}, which are {} pixels: {}; set video.width and video.height", w * h, most.join(", "))
        },
    )
}

fn installed(named: Option<Implementation>) -> Vec<Implementation> {
    let mut all = Implementation::ALL.to_vec();
    if let Some(first) = named {
        all.retain(|c| *c != first && *c != Implementation::Hardware);
        all.insert(0, first);
    }
    all.retain(|c| std::ptr::eq(c.codec(), CODEC) && door::has(c.element()));
    all
}

/// Whether the hardware encoder may be given pictures of this size: by the verdict of an earlier test, else by a test now.
pub fn trusts_hardware(layout: Layout, fps: f64) -> bool {
    let (a, b, c, _) = gst::version();
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    // Another size, kernel or library is another case.
    let about = format!("{}x{} at {fps} kernel {} gstreamer {a}.{b}.{c}", layout.width, layout.height, kernel.trim());
    judge(verdict_file().as_deref(), &about, || test_in_child(Implementation::Hardware, layout))
}

/// Where the verdict is kept: systemd's `CacheDirectory=`, else the user's cache.
fn verdict_file() -> Option<PathBuf> {
    let of = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    let dir = of("CACHE_DIRECTORY")
        .or_else(|| Some(of("XDG_CACHE_HOME")?.join("pastcam")))
        .or_else(|| Some(of("HOME")?.join(".cache/pastcam")))?;
    Some(dir.join("hardware-encoder"))
}

/// The verdict in `file` if it is `about` this case, else that of `test`, which is written there.
fn judge(file: Option<&Path>, about: &str, test: impl FnOnce() -> Result<String>) -> bool {
    let earlier = file.and_then(|f| disk::read_text(f, disk::SMALL).ok());
    let earlier = earlier.as_deref().and_then(|text| text.trim_end().strip_prefix(about)?.strip_prefix(": "));
    let remember = |verdict: &str| {
        let Some(file) = file else { return };
        let folder = file.parent().map_or(Ok(()), std::fs::create_dir_all);
        if let Err(e) = folder.and_then(|()| std::fs::write(file, format!("{about}: {verdict}\n"))) {
            log::info!("The verdict on the hardware encoder is not remembered: write {}: {e}", file.display());
        }
    };
    match earlier {
        Some("good") => return true,
        Some("bad") => {
            log::info!(
                "The hardware encoder is not used: it failed its test; to test again, delete {}",
                file.map_or("", |f| f.to_str().unwrap_or(""))
            );
            return false;
        }
        Some(_) => {
            log::warn!("The hardware encoder is not used: its last test never ended");
            remember("bad");
            return false;
        }
        None => {}
    }
    // Read again only if the test takes the program or the machine down.
    remember("testing");
    let tested = test();
    remember(if tested.is_ok() { "good" } else { "bad" });
    match &tested {
        Ok(said) => log::info!("The hardware encoder is good: {said}"),
        Err(e) => log::warn!("The hardware encoder is not used: {e}"),
    }
    tested.is_ok()
}

/// Runs `pastcam test-encoder` and waits for it; what it said.
fn test_in_child(coder: Implementation, layout: Layout) -> Result<String> {
    let failed = |e| Error::caused(Kind::Io, "start the test of the hardware encoder", e);
    let program = std::env::current_exe().map_err(failed)?;
    let mut child = Command::new(program)
        .args(["test-encoder", coder.word(), &format!("{}x{}", layout.width, layout.height)])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(failed)?;
    let end = Instant::now() + LIMIT;
    let status = loop {
        match child.try_wait().map_err(failed)? {
            Some(status) => break status,
            None if Instant::now() >= end => {
                // A process that hangs in a driver does not die of this either; it is left to the system.
                let _ = child.kill();
                return Err(Error::new(Kind::Timeout, format!("its test did not end within {} s", LIMIT.as_secs())));
            }
            None => std::thread::sleep(Duration::from_millis(50)),
        }
    };
    let mut said = String::new();
    if let Some(mut out) = child.stdout.take() {
        // One short line; without it only the words are missing.
        let _ = std::io::Read::read_to_string(&mut out, &mut said);
    }
    if status.success() { Ok(said.trim().into()) } else { Err(Error::new(Kind::Media, format!("{}: {status}", said.trim()))) }
}

/// A scene that shows wrong strides, planes and colours: gradients in both directions, bars in chroma, a block that moves.
fn scene(layout: Layout, n: usize) -> Vec<u8> {
    let mut pixels = vec![0; layout.bytes()];
    let (w, h) = (layout.width as usize, layout.height as usize);
    for (row, line) in pixels[layout.y()].chunks_mut(layout.y_stride()).enumerate() {
        for (x, p) in line.iter_mut().enumerate() {
            let fine = if (x / 8 + row / 8) % 2 == 0 { 24 } else { 0 };
            let block = if x / 32 == n % (w / 32).max(1) && row / 32 == n % (h / 32).max(1) { 60 } else { 0 };
            *p = (40 + x * 90 / w + row * 40 / h + fine + block).min(235) as u8;
        }
    }
    for (plane, turned) in [(layout.u(), false), (layout.v(), true)] {
        for (row, line) in pixels[plane].chunks_mut(layout.c_stride()).enumerate() {
            for (x, p) in line.iter_mut().enumerate() {
                let along = if turned { row * 4 / (h / 2) } else { x * 4 / (w / 2) };
                *p = (70 + along.min(3) * 35) as u8;
            }
        }
    }
    pixels
}

/// Encodes a scene, decodes it and compares: one line of what came of it.
pub fn test(coder: Implementation, layout: Layout) -> Result<String> {
    let settings =
        Settings { bitrate_kbps: (layout.width * layout.height / 50).max(4000), keyframe_s: 1.0, size: None, fps: 10.0 };
    let units: Arc<Mutex<Vec<AccessUnit>>> = Arc::default();
    let out = units.clone();
    let picture = (layout, Colour::default());
    let encoder = Encoder::new(
        coder,
        picture,
        &settings,
        Box::new(move |u| out.lock().unwrap_or_else(PoisonError::into_inner).push(u.clone())),
    )?;
    let began = Instant::now();
    for n in 0..PICTURES {
        let time = gst::ClockTime::from_mseconds(1000 + n as u64 * 100);
        encoder.feed(&Pixels::new(scene(layout, n)), time, n as u64, WallUs(0), n == 0)?;
        // The encoder drops pictures when it is given them faster than it can work.
        while encoder.counts().1 + 2 <= n as u64 && began.elapsed() < LIMIT / 2 {
            if let Some(e) = encoder.complaint() {
                return Err(e);
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    encoder.finish()?;
    let each_ms = began.elapsed().as_secs_f64() * 1e3 / PICTURES as f64;
    let units = std::mem::take(&mut *units.lock().unwrap_or_else(PoisonError::into_inner));
    // A driver may swallow a picture; what comes out must be right.
    if units.len() + 2 < PICTURES {
        return Err(Error::new(Kind::Media, format!("{}: {} of {PICTURES} pictures came out", coder.word(), units.len())));
    }
    let worst = decoded(coder.codec(), &units)?
        .iter()
        .zip(&units)
        .map(|(got, unit)| psnr_db(layout, &scene(layout, unit.id as usize), got))
        .fold(f64::INFINITY, f64::min);
    if worst < MIN_PSNR_DB {
        let what = format!(
            "{}: what was decoded is not what was encoded, {worst:.1} dB alike where {MIN_PSNR_DB} are needed",
            coder.word()
        );
        return Err(Error::new(Kind::Media, what));
    }
    Ok(format!(
        "{}: {} of {PICTURES} pictures of {}x{}, {worst:.1} dB, {each_ms:.1} ms each",
        coder.word(),
        units.len(),
        layout.width,
        layout.height
    ))
}

/// The worst of the three planes' peak signal-to-noise ratios (dB).
fn psnr_db(layout: Layout, sent: &[u8], got: &[u8]) -> f64 {
    if got.len() < layout.bytes() {
        return 0.0;
    }
    let (a, b) = (Planes::of(layout, sent), Planes::of(layout, got));
    let psnr = |p: usize| {
        let wide = if p == 0 { layout.width } else { layout.width / 2 } as usize;
        // Rows end in padding that means nothing.
        let rows = a.data[p].chunks(a.stride[p]).zip(b.data[p].chunks(b.stride[p]));
        let square = |x: &u8, y: &u8| u64::from(x.abs_diff(*y)).pow(2);
        let (sum, n) = rows.fold((0, 0), |(sum, n), (x, y)| {
            (sum + x[..wide].iter().zip(&y[..wide]).map(|(x, y)| square(x, y)).sum::<u64>(), n + wide)
        });
        10.0 * (255.0f64.powi(2) / (sum as f64 / n as f64).max(1e-3)).log10()
    };
    psnr(0).min(psnr(1)).min(psnr(2))
}

/// The pictures in these units, by whichever decoder is there.
fn decoded(codec: &Codec, units: &[AccessUnit]) -> Result<Vec<Vec<u8>>> {
    let decoder = codec.decoders.iter().find(|d| door::has(d));
    let decoder =
        decoder.ok_or_else(|| Error::new(Kind::Media, "test the encoder: there is no decoder; install gstreamer1.0-libav"))?;
    let line = format!(
        "appsrc name=in format=time max-bytes=0 ! {} ! {decoder} ! videoconvert ! video/x-raw,format=I420 ! appsink name=out sync=false",
        codec.parser.0
    );
    let pipe = Pipe::launch(&line, &format!("decode with {decoder}"))?;
    let (source, sink) = (pipe.named::<gst_app::AppSrc>("in"), pipe.named::<gst_app::AppSink>("out"));
    source.set_caps(units.first().map(|u| &u.caps));
    pipe.play(Kind::Media, || format!("start {decoder}"))?;
    for unit in units {
        // One that is refused shows as a picture that is missing.
        let _ = source.push_buffer(unit.buffer.clone());
    }
    let _ = source.end_of_stream();
    let mut pictures = Vec::new();
    while let Some(sample) = sink.try_pull_sample(gst::ClockTime::from_seconds(10)) {
        pictures.push(packed(&sample).unwrap_or_default());
    }
    match pipe.complaint(Kind::Media) {
        Some(e) => Err(e),
        None if pictures.len() < units.len() => {
            Err(Error::new(Kind::Media, format!("{decoder} made {} pictures of {}", pictures.len(), units.len())))
        }
        None => Ok(pictures),
    }
}

/// A decoded picture as [`Layout`] places it; decoders have strides of their own.
fn packed(sample: &gst::Sample) -> Option<Vec<u8>> {
    let info = gst_video::VideoInfo::from_caps(sample.caps()?).ok()?;
    let layout = Layout::new(info.width(), info.height());
    let frame = gst_video::VideoFrameRef::from_buffer_ref_readable(sample.buffer()?, &info).ok()?;
    let mut pixels = vec![0; layout.bytes()];
    let data = [frame.plane_data(0).ok()?, frame.plane_data(1).ok()?, frame.plane_data(2).ok()?];
    let packing = Packing::Planar;
    Planes { layout, packing, data, stride: [0, 1, 2].map(|i| frame.plane_stride()[i] as usize) }.copy_to(&mut pixels);
    Some(pixels)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: Layout = Layout::new(640, 480);

    #[test]
    fn every_encoder_of_this_machine_gives_back_what_it_was_given() {
        let found = candidates(None, SMALL);
        assert!(!found.is_empty(), "no encoder is installed");
        for coder in found.into_iter().filter(|c| *c != Implementation::Hardware) {
            for (w, h) in [(640, 480), (322, 242)] {
                println!("{}", test(coder, Layout::new(w, h)).unwrap());
            }
        }
    }

    #[test]
    fn a_shifted_picture_is_not_alike() {
        let layout = Layout::new(320, 240);
        let (sent, mut got) = (scene(layout, 3), scene(layout, 3));
        assert!(psnr_db(layout, &sent, &got) > 60.0);
        got.rotate_right(2);
        assert!(psnr_db(layout, &sent, &got) < MIN_PSNR_DB);
        let swapped = [&sent[layout.y()], &sent[layout.v()], &sent[layout.u()]].concat();
        assert!(psnr_db(layout, &sent, &swapped) < MIN_PSNR_DB);
    }

    #[test]
    fn the_verdict_is_remembered_and_a_test_that_never_ended_counts_as_failed() {
        let dir = std::env::temp_dir().join(format!("pastcam-verdict-{}", std::process::id()));
        let file = dir.join("hardware-encoder");
        let never = || -> Result<String> { panic!("tested again") };
        assert!(judge(Some(&file), "a", || Ok("fine".into())));
        assert!(judge(Some(&file), "a", never));
        assert!(!judge(Some(&file), "b", || Err(Error::new(Kind::Media, "green"))));
        assert!(!judge(Some(&file), "b", never));
        let hung = std::panic::catch_unwind(|| judge(Some(&file), "c", never));
        assert!(hung.is_err() && !judge(Some(&file), "c", never));
        assert!(judge(None, "c", || Ok("fine".into())));
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn an_encoder_that_is_named_comes_first_and_hardware_only_when_asked() {
        assert_ne!(candidates(Some(Implementation::OpenH264), SMALL).first(), Some(&Implementation::Hardware));
        assert!(!candidates(Some(Implementation::X264), SMALL).contains(&Implementation::Hardware));
        let software =
            |named| candidates(named, SMALL).into_iter().filter(|c| *c != Implementation::Hardware).collect::<Vec<_>>();
        if door::has("x264enc") && door::has("openh264enc") {
            assert_eq!(candidates(Some(Implementation::OpenH264), Layout::new(4056, 3040)), [Implementation::X264]);
            let why = none_for(Layout::new(8192, 6144)).what;
            assert!(
                why.contains("8192x6144, which are 50331648 pixels: ") && why.contains("x264 takes up to 35651584, "),
                "{why}"
            );
            assert_eq!(software(None), [Implementation::X264, Implementation::OpenH264]);
            assert_eq!(software(Some(Implementation::OpenH264)), [Implementation::OpenH264, Implementation::X264]);
        }
    }
}
