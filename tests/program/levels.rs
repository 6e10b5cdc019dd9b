//! Levels: a grey ramp through every door, and out of every exit as it was. Saturated pictures hide a wrong range; a ramp shows it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::film::has_ffmpeg;
use crate::harness::{Running, free_port, until};
use crate::image::Image;
use crate::jpegs::{Jpegs, Kind};
use crate::peer::{Make, Peer};
use crate::recordings::file_of;
use crate::said;
use crate::viewers::served;

/// Columns of the ramp from left to right, 20 pixels each.
const RAMP: [u8; 16] = [0, 8, 16, 32, 48, 64, 80, 96, 128, 160, 192, 208, 224, 232, 248, 255];
const SIZE: (usize, usize) = (320, 240);
/// Code values that a column may be off.
const ALLOWED: f64 = 2.0;

/// The ramp as grey samples in a file.
fn ramp(dir: &Path) -> PathBuf {
    let file = dir.join("ramp.gray");
    fs::write(&file, (0..SIZE.0 * SIZE.1).map(|i| RAMP[i % SIZE.0 / 20]).collect::<Vec<u8>>()).unwrap();
    file
}

/// Three seconds of the ramp, or one picture, as ffmpeg makes it with these arguments.
fn made(dir: &Path, name: &str, arguments: &str) -> PathBuf {
    let to = dir.join(name);
    let done = Command::new("ffmpeg")
        .args([
            "-v",
            "error",
            "-y",
            "-f",
            "rawvideo",
            "-pix_fmt",
            "gray",
            "-s",
            "320x240",
            "-r",
            "10",
            "-stream_loop",
            "29",
            "-i",
        ])
        .arg(ramp(dir))
        .args(arguments.split(' '))
        .arg(&to)
        .status();
    assert!(done.unwrap().success(), "{name}: {arguments}");
    to
}

/// The ramp as a JPEG picture of one component.
fn grey_jpeg(dir: &Path) -> Vec<u8> {
    pastcam::gst::init().unwrap();
    let (from, to) = (ramp(dir), dir.join("grey.jpg"));
    let line = format!(
        "filesrc location={} blocksize=76800 ! rawvideoparse width=320 height=240 format=gray8 ! jpegenc quality=97 ! filesink location={}",
        from.display(),
        to.display()
    );
    let pipe = pastcam::gst::Pipe::launch(&line, "make a grey picture").unwrap();
    pipe.play(pastcam::error::Kind::Media, || "make a grey picture".into()).unwrap();
    let end = pipe.bus.timed_pop_filtered(gstreamer::ClockTime::from_seconds(30), &[gstreamer::MessageType::Eos]);
    assert!(end.is_some());
    fs::read(to).unwrap()
}

/// What keeps a door's source alive while the program looks at it.
type Held = Box<dyn std::any::Any>;

/// A door: its name, and what makes its source in a folder.
type Door = (&'static str, fn(&Path) -> (String, Held));

fn file(dir: &Path, name: &str, arguments: &str) -> (String, Held) {
    (format!("file:{}", made(dir, name, arguments).display()), Box::new(()))
}

fn http(dir: &Path, kind: Kind) -> (String, Held) {
    let camera = Jpegs::new(kind, vec![grey_jpeg(dir)]);
    (camera.url.clone(), Box::new(camera))
}

/// An RTSP camera that sends this file over and over.
fn rtsp(file: &Path, line: &str) -> (String, Held) {
    let line = format!("fakesink multifilesrc loop=true location={} {line} name=pay0 pt=96", file.display());
    let camera = Peer::new(free_port(), &Make { encoder: Some(line.leak()), ..Make::default() });
    (camera.url(""), Box::new(camera))
}

/// Full range and nothing else told, as many network cameras have it.
const FULL: &str = "-vf scale=out_range=full,format=yuvj420p -g 10 -bf 0";

const DOORS: [Door; 10] = [
    ("H.264 of full range in MP4 with its colr box", |dir| {
        let h264 = format!("{FULL} -c:v libx264 -qp 4 -movflags +write_colr");
        file(dir, "full.mp4", &h264)
    }),
    ("H.264 of full range and BT.709 in MP4", |dir| {
        let colour = "-colorspace bt709 -color_primaries bt709 -color_trc bt709";
        let scale = "-vf scale=out_range=full:out_color_matrix=bt709,format=yuvj420p";
        file(dir, "hd.mp4", &format!("{scale} {colour} -g 10 -bf 0 -c:v libx264 -qp 4"))
    }),
    ("H.264 that tells nothing in Matroska", |dir| {
        file(dir, "plain.mkv", "-vf scale=out_range=limited,format=yuv420p -c:v libx264 -g 10 -bf 0 -qp 4")
    }),
    ("H.264 of BT.2020", |dir| {
        let colour = "-colorspace bt2020nc -color_primaries bt2020 -color_trc bt2020-10 -color_range tv";
        file(dir, "wide.mkv", &format!("-vf scale=out_range=limited,format=yuv420p {colour} -c:v libx264 -g 10 -bf 0 -qp 4"))
    }),
    ("grey samples of 8 bits", |dir| file(dir, "grey.mkv", "-c:v rawvideo -pix_fmt gray")),
    ("grey JPEG as MJPEG", |dir| http(dir, Kind::Mjpeg)),
    ("grey JPEG as stills", |dir| http(dir, Kind::Stills)),
    ("H.264 of full range over RTSP", |dir| {
        let h264 = made(dir, "full.h264", &format!("{FULL} -c:v libx264 -qp 4"));
        rtsp(&h264, "caps=video/x-h264,framerate=10/1,stream-format=byte-stream ! h264parse config-interval=-1 ! rtph264pay")
    }),
    ("H.265 of full range over RTSP", |dir| {
        let h265 = made(dir, "full.h265", &format!("{FULL} -c:v libx265 -x265-params log-level=0:qp=4"));
        rtsp(&h265, "caps=video/x-h265,framerate=10/1 ! h265parse config-interval=-1 ! rtph265pay")
    }),
    ("grey H.265", |dir| file(dir, "grey265.mkv", "-pix_fmt gray -g 10 -c:v libx265 -x265-params log-level=0:qp=4")),
];

/// Means of the ramp's columns in grey samples.
fn columns(grey: &[u8]) -> Vec<f64> {
    let mean = |k: usize| {
        let at = |i: usize| f64::from(grey[(80 + i / 10) * SIZE.0 + k * 20 + 5 + i % 10]);
        (0..400).map(at).sum::<f64>() / 400.0
    };
    (0..RAMP.len()).map(mean).collect()
}

/// What a player shows of this: the last of its first five pictures.
fn played(input: &[&str]) -> Vec<f64> {
    let out = Command::new("ffmpeg")
        .args(["-v", "error", "-nostdin"])
        .args(input)
        .args(["-frames:v", "5", "-f", "rawvideo", "-pix_fmt", "gray", "-"])
        .output()
        .unwrap();
    assert!(out.stdout.len() >= SIZE.0 * SIZE.1, "{input:?}: {}", String::from_utf8_lossy(&out.stderr));
    columns(&out.stdout[out.stdout.len() - SIZE.0 * SIZE.1..])
}

/// Every exit of a program whose camera shows the ramp: its name, and the columns.
fn exits(r: &Running, url: &str) -> Vec<(&'static str, Vec<f64>)> {
    r.until_more_frames(4);
    let saved = said::single(&r.ask("save jpg png npy")).path;
    let mut all = Vec::new();
    for format in ["jpg", "png", "npy"] {
        let image = Image::open(&saved.with_extension(format));
        // Grey stays grey in all three components.
        for c in 0..3 {
            all.push((format, columns(&image.rgb.iter().skip(c).step_by(3).copied().collect::<Vec<u8>>())));
        }
    }
    assert!(r.ask("record start").starts_with("OK recording "));
    all.push(("viewer", played(&["-rtsp_transport", "tcp", "-i", url])));
    let recording = file_of(&r.ask("record stop"));
    let clip = file_of(&r.ask("clip 1"));
    all.push(("recording", played(&["-i", recording.to_str().unwrap()])));
    all.push(("clip", played(&["-i", clip.to_str().unwrap()])));
    all
}

#[test]
fn a_grey_ramp_comes_out_of_every_exit_as_it_came_in_by_every_door() {
    if !has_ffmpeg() || !["x264enc", "avdec_h264", "souphttpsrc"].iter().all(|e| pastcam::gst::has(e)) {
        println!("SKIP: no elements for this here");
        return;
    }
    let wrong: Vec<String> = std::thread::scope(|s| {
        let doors = DOORS.map(|(door, source)| s.spawn(move || through(door, source, "x264", "")));
        doors.into_iter().flat_map(|d| d.join().unwrap()).collect()
    });
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn openh264_tells_and_hears_the_range_as_others_do() {
    if !has_ffmpeg() || !["openh264enc", "openh264dec"].iter().all(|e| pastcam::gst::has(e)) {
        println!("SKIP: no openh264 here");
        return;
    }
    // Where FFmpeg's decoder is not installed.
    let without = "avdec_h264:NONE";
    let wrong: Vec<String> = std::thread::scope(|s| {
        let doors = [0, 7].map(|k| s.spawn(move || through(DOORS[k].0, DOORS[k].1, "openh264", without)));
        doors.into_iter().flat_map(|d| d.join().unwrap()).collect()
    });
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

/// What is wrong behind this door, with this encoder and these ranks of the library's elements.
fn through(door: &str, source: fn(&Path) -> (String, Held), encoder: &str, ranks: &str) -> Vec<String> {
    let (setup, url) = served("levels");
    let (source, _held) = source(&setup.dir);
    let r = setup
        .set("camera.source", source)
        .set("camera.frozen_s", 0)
        .set("video.encoder", encoder)
        .env("GST_PLUGIN_FEATURE_RANK", ranks)
        .set("video.bitrate_kbps", 8000)
        .set("export.jpeg_quality", 97)
        .frameless()
        .start();
    until("frames", || (r.status()["state"] == "RUNNING").then_some(()));
    let (mut wrong, mut worst) = (Vec::new(), 0.0f64);
    for (exit, columns) in exits(&r, &url) {
        let off = columns.iter().zip(RAMP).map(|(got, want)| (got - f64::from(want)).abs()).fold(0.0, f64::max);
        worst = worst.max(off);
        if off > ALLOWED {
            wrong.push(format!("{door} → {exit}: {columns:.0?} instead of {RAMP:?}"));
        }
    }
    println!("{door}: at most {worst:.1} off");
    let (level, mean) = (said::night_level(&r.ask("night_level")).0, RAMP.map(f64::from).iter().sum::<f64>() / 16.0);
    if (level - mean).abs() > ALLOWED {
        wrong.push(format!("{door} → level: {level} instead of {mean}"));
    }
    wrong
}
