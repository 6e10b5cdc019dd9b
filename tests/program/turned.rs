//! Turned pictures: what a source tells of how its pictures lie, and what the configuration asks for, at every door and exit.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::film::has_ffmpeg;
use crate::harness::{Running, Setup, free_port, until};
use crate::image::Image;
use crate::jpegs::{Jpegs, Kind};
use crate::peer::{Make, Peer};
use crate::recordings::file_of;
use crate::said;
use crate::viewers::served;

/// An upright picture of this size: a dark grey ground, its left half lighter, a white block at the upper left.
const UPRIGHT: (usize, usize) = (320, 240);
const GROUND: u8 = 40;
const LEFT: u8 = 110;
const BLOCK: u8 = 230;

/// The corners of a picture: upper left, upper right, lower left, lower right.
fn corners(grey: impl Fn(usize, usize) -> f64, (w, h): (usize, usize)) -> [f64; 4] {
    [(w / 8, h / 8), (w * 7 / 8, h / 8), (w / 8, h * 7 / 8), (w * 7 / 8, h * 7 / 8)].map(|(x, y)| grey(x, y))
}

/// Corners of the upright picture after EXIF's operation of this number: which corner of the upright one comes to each place.
fn turned(orientation: u8) -> [u8; 4] {
    let [a, b, c, d] = [BLOCK, GROUND, LEFT, GROUND];
    match orientation {
        1 => [a, b, c, d],
        2 => [b, a, d, c],
        3 => [d, c, b, a],
        4 => [c, d, a, b],
        5 => [a, c, b, d],
        6 => [c, a, d, b],
        7 => [d, b, c, a],
        8 => [b, d, a, c],
        _ => unreachable!(),
    }
}

/// How a picture lies that this operation sets upright: the operation that undoes it.
fn undone(orientation: u8) -> u8 {
    match orientation {
        6 => 8,
        8 => 6,
        same => same,
    }
}

fn is_quarter(orientation: u8) -> bool {
    orientation >= 5
}

fn size_after(orientation: u8) -> (usize, usize) {
    if is_quarter(orientation) { (UPRIGHT.1, UPRIGHT.0) } else { UPRIGHT }
}

/// The upright picture after this operation, as a file of grey samples.
fn drawn(dir: &Path, orientation: u8) -> PathBuf {
    let (w, h) = size_after(orientation);
    let upright = |x: usize, y: usize| match (x < UPRIGHT.0 / 4 && y < UPRIGHT.1 / 4, x < UPRIGHT.0 / 2) {
        (true, _) => BLOCK,
        (_, true) => LEFT,
        _ => GROUND,
    };
    let (right, bottom) = (UPRIGHT.0 - 1, UPRIGHT.1 - 1);
    let from = |x: usize, y: usize| match orientation {
        2 => upright(right - x, y),
        3 => upright(right - x, bottom - y),
        4 => upright(x, bottom - y),
        5 => upright(y, x),
        6 => upright(y, bottom - x),
        7 => upright(right - y, bottom - x),
        8 => upright(right - y, x),
        _ => upright(x, y),
    };
    let file = dir.join(format!("lies{orientation}.gray"));
    fs::write(&file, (0..h).flat_map(|y| (0..w).map(move |x| from(x, y))).collect::<Vec<u8>>()).unwrap();
    file
}

/// What ffmpeg makes of the picture after this operation.
fn made(dir: &Path, orientation: u8, name: &str, arguments: &str) -> PathBuf {
    let (w, h) = size_after(orientation);
    let to = dir.join(name);
    let done = Command::new("ffmpeg")
        .args(["-v", "error", "-y", "-f", "rawvideo", "-pix_fmt", "gray", "-s", &format!("{w}x{h}"), "-r", "10"])
        .args(["-stream_loop", "29", "-i"])
        .arg(drawn(dir, orientation))
        .args(arguments.split(' '))
        .arg(&to)
        .status();
    assert!(done.unwrap().success(), "{name}: {arguments}");
    to
}

const H264: &str = "-c:v libx264 -g 10 -bf 0 -qp 10 -vf format=yuv420p";

/// A JPEG picture that lies like this and says so in its EXIF.
fn jpeg(dir: &Path, orientation: u8) -> Vec<u8> {
    let file = made(dir, undone(orientation), &format!("lies{orientation}.jpg"), "-frames:v 1 -q:v 2 -vf format=yuvj420p");
    let plain = fs::read(file).unwrap();
    // TIFF of one entry: the tag 0x0112, one SHORT.
    let tiff = [b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0".as_slice(), &[orientation, 0, 0, 0, 0, 0, 0]].concat();
    let body = [b"Exif\0\0".as_slice(), &tiff].concat();
    let length = (body.len() as u16 + 2).to_be_bytes();
    [&plain[..2], &[0xff, 0xe1], &length, &body, &plain[2..]].concat()
}

/// The film with this in its track's display matrix: a, b, c and d of ISO/IEC 14496-12, 8.3.2.
fn with_matrix(film: &[u8], [a, b, c, d]: [i32; 4]) -> Vec<u8> {
    let bytes = |all: [i32; 9]| all.map(i32::to_be_bytes).concat();
    let of = |a: i32, b: i32, c: i32, d: i32| bytes([a << 16, b << 16, 0, c << 16, d << 16, 0, 0, 0, 0x4000_0000]);
    let track = film.windows(4).position(|w| w == b"tkhd").expect("the track's header");
    let at = track + film[track..].windows(36).position(|w| w == of(1, 0, 0, 1)).expect("a plain matrix");
    [&film[..at], &of(a, b, c, d), &film[at + 36..]].concat()
}

fn matches(got: [f64; 4], want: [u8; 4]) -> bool {
    got.iter().zip(want).all(|(g, w)| (g - f64::from(w)).abs() < 12.0)
}

fn of_image(image: &Image) -> [f64; 4] {
    corners(|x, y| image.mean(x, y, 4)[1], (image.width, image.height))
}

/// The corners of what a player shows.
fn played(input: &[&str], size: (usize, usize)) -> [f64; 4] {
    let out = Command::new("ffmpeg")
        .args(["-v", "error", "-nostdin"])
        .args(input)
        .args(["-frames:v", "2", "-f", "rawvideo", "-pix_fmt", "gray", "-"])
        .output()
        .unwrap();
    let one = size.0 * size.1;
    assert!(out.stdout.len() >= one && out.stdout.len() % one == 0, "{} bytes of {size:?}", out.stdout.len());
    let picture = &out.stdout[out.stdout.len() - one..];
    corners(|x, y| f64::from(picture[y * size.0 + x]), size)
}

/// Sets the size and the keys that do this operation.
fn asked(setup: Setup, (rotation, hflip, vflip): (u32, bool, bool), size: (usize, usize)) -> Setup {
    setup
        .set("camera.rotation", rotation)
        .set("camera.hflip", hflip)
        .set("camera.vflip", vflip)
        .set("camera.width", size.0)
        .set("camera.height", size.1)
        .set("camera.frozen_s", 0)
        .set("video.encoder", "x264")
        .set("video.bitrate_kbps", 4000)
        .frameless()
}

fn running(setup: &Setup) -> Running {
    let r = setup.start();
    until("frames", || (r.status()["state"] == "RUNNING").then_some(()));
    r
}

fn saved(r: &Running) -> Image {
    Image::open(&said::single(&r.ask("save png")).path)
}

fn is_possible() -> bool {
    let possible = has_ffmpeg() && ["x264enc", "avdec_h264", "souphttpsrc"].iter().all(|e| pastcam::gst::has(e));
    if !possible {
        println!("SKIP: no elements for this here");
    }
    possible
}

/// EXIF's number for a rotation and mirrors of the configuration.
const KEYS: [((u32, bool, bool), u8); 6] = [
    ((90, false, false), 6),
    ((180, false, false), 3),
    ((270, false, false), 8),
    ((90, true, false), 5),
    ((0, true, false), 2),
    ((0, false, true), 4),
];

#[test]
fn a_film_and_a_camera_are_turned_as_the_keys_say() {
    if !is_possible() {
        return;
    }
    std::thread::scope(|s| {
        for (keys, orientation) in KEYS {
            s.spawn(move || {
                let setup = Setup::new("turned");
                let film = made(&setup.dir, 1, "film.mp4", H264);
                let size = size_after(orientation);
                let r = running(&asked(setup, keys, size).set("camera.source", format!("file:{}", film.display())));
                let image = saved(&r);
                assert_eq!((image.width, image.height), size, "{keys:?}");
                assert!(matches(of_image(&image), turned(orientation)), "{keys:?}: {:?}", of_image(&image));
            });
        }
    });
}

#[test]
fn a_turned_network_camera_is_encoded_anew_and_upright_everywhere() {
    if !is_possible() {
        return;
    }
    let (setup, url) = served("sideways");
    let h264 = made(&setup.dir, 8, "film.h264", H264);
    let caps = "caps=video/x-h264,framerate=10/1,stream-format=byte-stream";
    let line = format!(
        "fakesink multifilesrc loop=true location={} {caps} ! h264parse config-interval=-1 ! rtph264pay name=pay0 pt=96",
        h264.display()
    );
    let camera = Peer::new(free_port(), &Make { encoder: Some(line.leak()), ..Make::default() });
    let r = running(&asked(setup, (90, false, false), UPRIGHT).set("camera.source", camera.url("")));
    assert_eq!(r.status()["video"]["pass_through"], "turned");
    let upright = turned(1);
    r.until_more_frames(5);
    let path = said::single(&r.ask("save jpg png npy")).path;
    for format in ["jpg", "png", "npy"] {
        let image = Image::open(&path.with_extension(format));
        assert!(matches(of_image(&image), upright), "{format}: {:?}", of_image(&image));
    }
    assert!(r.ask("record start").starts_with("OK recording "));
    let viewer = played(&["-rtsp_transport", "tcp", "-i", &url], UPRIGHT);
    assert!(matches(viewer, upright), "viewer: {viewer:?}");
    let (recording, clip) = (file_of(&r.ask("record stop")), file_of(&r.ask("clip 1")));
    for film in [recording, clip] {
        let film = played(&["-i", film.to_str().unwrap()], UPRIGHT);
        assert!(matches(film, upright), "{film:?}");
    }
}

#[test]
fn a_telephone_s_film_is_shown_upright() {
    if !is_possible() {
        return;
    }
    for (orientation, matrix) in [(6u8, [0, 1, -1, 0]), (3, [-1, 0, 0, -1]), (8, [0, -1, 1, 0])] {
        let setup = Setup::new("telephone");
        let film = made(&setup.dir, undone(orientation), "film.mp4", H264);
        fs::write(&film, with_matrix(&fs::read(&film).unwrap(), matrix)).unwrap();
        // What a player makes of it.
        assert!(matches(played(&["-i", film.to_str().unwrap()], UPRIGHT), turned(1)), "{orientation}");
        let r = running(&asked(setup, (0, false, false), UPRIGHT).set("camera.source", format!("file:{}", film.display())));
        let image = saved(&r);
        assert!(matches(of_image(&image), turned(1)), "{orientation}: {:?}", of_image(&image));
    }
}

#[test]
fn jpeg_pictures_are_shown_as_their_exif_says() {
    if !is_possible() {
        return;
    }
    std::thread::scope(|s| {
        for (kind, word, rotation, orientation) in
            [(Kind::Mjpeg, "mjpeg", 0, 1), (Kind::Stills, "stills", 0, 1), (Kind::Mjpeg, "both", 180, 3)]
        {
            s.spawn(move || {
                let setup = Setup::new(word);
                let camera = Jpegs::new(kind, (1..=8).map(|n| jpeg(&setup.dir, n)).collect());
                let r = running(&asked(setup, (rotation, false, false), UPRIGHT).set("camera.source", camera.url.clone()));
                // One after another lies in another way, and each is upright, and rotated after that.
                for _ in 0..5 {
                    let image = saved(&r);
                    assert!(matches(of_image(&image), turned(orientation)), "{word}: {:?}", of_image(&image));
                }
            });
        }
    });
}

#[test]
fn the_pattern_and_its_smaller_ring_are_turned() {
    let setup = Setup::new("pattern").set("ring.downscale", serde_json::json!({"enable": true, "width": 120, "height": 160}));
    let r = setup.set("camera.rotation", 90).set("camera.width", 240).set("camera.height", 320).start();
    r.until_more_frames(3);
    let whole = Image::open(&said::single(&r.ask("save png")).path);
    let small = Image::open(&said::stacked(&r.ask("pastStack png before=0 count=1")).path);
    assert_eq!(((whole.width, whole.height), (small.width, small.height)), ((240, 320), (120, 160)));
    // Set upright by hand it carries the pattern's code, whose rows stand as columns now.
    let rgb = (0..240).flat_map(|y| {
        (0..320).flat_map({
            let whole = &whole;
            move |x| whole.pixel(239 - y, x)
        })
    });
    let upright = Image { width: 320, height: 240, rgb: rgb.collect() };
    upright.code();
}
