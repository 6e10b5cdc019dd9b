//! Players as people start them, with default options, at night with a frame in 2 s: how long it takes them to show the first picture.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::film::has_ffmpeg;
use crate::harness::{Running, is_quiet, until};
use crate::viewers::{served, viewers};

/// What a person waits for a picture. On a busy machine the test allows for twice that; without the cure it takes 17 s.
pub fn patience() -> Duration {
    Duration::from_secs(if is_quiet() { 4 } else { 8 })
}

/// Columns and rows: at 320×240 the code drawn into the picture would be a third of it, and too bright for a night.
pub const NIGHT: (u32, u32) = (640, 480);

/// A program in the night, with exposures of 2 s.
pub fn dark(word: &str) -> (Running, String) {
    let (setup, url) = served(word);
    let setup = setup.controlled("lux=0.02").set("night.min_dark_frames", 1);
    let r = setup.set("camera.width", NIGHT.0).set("camera.height", NIGHT.1).start();
    until("frames that take 2 s", || (r.status()["frame"]["exposure_us"].as_f64()? > 1_900_000.0).then_some(()));
    (r, url)
}

/// One picture by `ffmpeg -i URL -frames:v 1`, as Home Assistant and many scripts take theirs.
fn still(url: &str, how: &[&str], to: &Path) -> Duration {
    let begun = Instant::now();
    let mut ffmpeg = Command::new("ffmpeg");
    ffmpeg.args(["-v", "error", "-nostdin"]).args(how).args(["-i", url, "-frames:v", "1", "-y"]).arg(to);
    let said = ffmpeg.stdin(Stdio::null()).output().unwrap();
    assert!(said.status.success() && fs::metadata(to).unwrap().len() > 1000, "{}", String::from_utf8_lossy(&said.stderr));
    begun.elapsed()
}

#[test]
fn ffmpeg_with_default_options_shows_a_picture_at_night_within_4_s() {
    if !has_ffmpeg() {
        return;
    }
    let (r, url) = dark("night-stock");
    for how in [&["-rtsp_transport", "tcp"][..], &["-rtsp_transport", "udp"], &[]] {
        let took = still(&url, how, &r.setup.dir.join("still.jpg"));
        println!("{how:?}: a first picture after {:.1} s", took.as_secs_f64());
        assert!(took < patience(), "{how:?}: {took:?}");
    }
    until("nobody", || (viewers(&r) == 0).then_some(()));
}
