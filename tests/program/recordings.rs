//! Recordings and clips as files that others play: which frames are in them, what a crash costs, what is listed and deleted.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::film::{assert_gapless, decoded, has_ffmpeg, probed};
use crate::harness::{Running, Setup, is, until};

/// The file that an answer names.
pub fn file_of(answer: &str) -> PathBuf {
    let path = answer.split(": ").nth(1).and_then(|r| r.split(" (").next());
    PathBuf::from(path.unwrap_or_else(|| panic!("{answer}")))
}

pub fn films(r: &Running) -> Vec<PathBuf> {
    r.names().iter().filter(|n| is(n, "mp4")).map(|n| r.captures().join(n)).collect()
}

/// Hands a player the kinds of files there are: a recording, one whose stream came from two encoders, a clip, and what was left of a
/// recording that was cut off.
pub fn for_each_kind(setup: &Setup, play: fn(&Path)) {
    let mut r = setup.start();
    r.until_frame(25);
    assert!(r.ask("record start before=2").starts_with("OK recording "));
    r.until_more_frames(20);
    play(&file_of(&r.ask("record stop")));
    if pastcam::gst::has("x264enc") && pastcam::gst::has("openh264enc") {
        play(&of_two_encoders(&r));
    }
    play(&file_of(&r.ask("clip 2")));
    let before: Vec<PathBuf> = films(&r);
    r.ask("record start");
    r.until_more_frames(30);
    r.kill();
    let r = setup.start();
    play(&films(&r).into_iter().find(|f| !before.contains(f)).expect("the recording that was cut off"));
}

/// A recording of one file in whose middle the parameter sets change twice.
fn of_two_encoders(r: &Running) -> PathBuf {
    assert!(r.ask("record start").starts_with("OK recording "));
    for encoder in ["openh264", "x264", "openh264"] {
        r.ask(&format!("set video.encoder={encoder}"));
        until("the encoder", || (r.status()["video"]["encoder"] == encoder).then_some(()));
        r.until_more_frames(10);
    }
    let answer = r.ask("record stop");
    assert!(answer.ends_with(" pictures)"), "one file without a gap: {answer}");
    file_of(&answer)
}

/// A whole file without a complaint of ffmpeg's, and no frame missing; the frame numbers.
fn whole(file: &Path) -> Vec<u64> {
    let (codes, said) = decoded(file);
    assert_eq!(said, "", "{}", file.display());
    assert_gapless(&codes);
    codes.into_iter().map(|c| c.0).collect()
}

/// The frames of a whole file, each once; a machine without time for them may have left some out.
pub fn different(file: &Path) -> Vec<u64> {
    let (codes, said) = decoded(file);
    assert_eq!(said, "", "{}", file.display());
    let mut ids: Vec<u64> = codes.into_iter().map(|c| c.0).collect();
    ids.dedup();
    assert!(!ids.is_empty() && ids.is_sorted(), "{ids:?}");
    ids
}

fn recording(r: &Running) -> Value {
    r.status()["recording"].clone()
}

#[test]
fn a_recording_of_some_seconds_ends_by_itself_and_is_a_plain_mp4() {
    if !has_ffmpeg() {
        return;
    }
    let r = Setup::new("record").start();
    let answer = r.ask("record start 2 tag=gate id=5");
    assert!(answer.starts_with("OK recording 2") && answer.ends_with("_gate.mp4 id=5"), "{answer}");
    assert!(r.ask("record start").starts_with("ERR busy "));
    let status = r.ask("record status");
    assert!(status.contains("_gate.mp4 seconds=") && status.ends_with(" lost=0 by=command"), "{status}");
    assert!(films(&r).is_empty(), "an unfinished file has its name");
    until("the file", || (films(&r).len() == 1).then_some(()));
    let file = films(&r).remove(0);
    let ids = whole(&file);
    assert!((19..=24).contains(&ids.len()), "{} pictures in 2 s", ids.len());
    // The name is that of the first frame.
    assert!(file.to_string_lossy().contains(&format!("_f{:08}_gate", ids[0])), "{} begins with {}", file.display(), ids[0]);
    assert_eq!(probed(&file, "stream=codec_name,width,height"), "h264\n320\n240");
    assert_eq!(probed(&file, "format_tags=title"), "gate");
    // The wall clock at the first frame, twice in the metadata, and in the name.
    let (comment, created) = (probed(&file, "format_tags=comment"), probed(&file, "format_tags=creation_time"));
    assert!(comment.starts_with("start 20") && comment[6..25] == created[..19], "{comment} and {created}");
    until("the end in the status", || recording(&r).is_null().then_some(()));
    assert_eq!(r.ask("record status"), "OK recording=-");
    assert_eq!(r.ask("record stop"), "ERR usage record stop: nothing is being recorded");
}

#[test]
fn a_recording_can_begin_in_the_past_without_a_gap() {
    if !has_ffmpeg() {
        return;
    }
    for encoder in ["x264", "openh264"] {
        let r = Setup::new("before").set("video.encoder", encoder).start();
        r.until_frame(45);
        let now = r.newest_id().unwrap();
        assert!(r.ask("record start before=3").starts_with("OK recording "));
        r.until_more_frames(15);
        let file = file_of(&r.ask("record stop"));
        assert_eq!(films(&r), std::slice::from_ref(&file), "one file with {encoder}");
        let ids = whole(&file);
        assert!(ids[0] <= now - 28 && ids[0] + 35 >= now, "asked at {now}, begins at {}", ids[0]);
        assert!(*ids.last().unwrap() >= now + 12, "{ids:?}");
    }
}

#[test]
fn the_past_of_a_smaller_ring_is_stretched_and_the_stream_follows_in_the_same_file() {
    if !has_ffmpeg() {
        return;
    }
    // Squeezed to another shape, so that bars would show.
    let setup = Setup::new("stretched")
        .set("camera.width", 640)
        .set("camera.height", 480)
        .set("ring.downscale", serde_json::json!({"enable": true, "width": 320, "height": 120}));
    for (encoder, size) in [("x264", (0, 0)), ("openh264", (0, 0)), ("x264", (320, 320))] {
        let setup = setup.clone().set("video.encoder", encoder).set("video.width", size.0).set("video.height", size.1);
        let r = setup.set("export.base_dir", format!("{encoder}-{}", size.0)).start();
        r.until_frame(30);
        assert!(r.ask("record start before=2").starts_with("OK recording "));
        r.until_more_frames(15);
        let file = file_of(&r.ask("record stop"));
        assert_eq!(fs::read_dir(file.parent().unwrap()).unwrap().count(), 1, "one file with {encoder}");
        let (wide, high) = if size.0 == 0 { (640, 480) } else { size };
        assert_eq!(probed(&file, "stream=width,height"), format!("{wide}\n{high}"));
        let count: usize = probed_count(&file);
        assert!(count >= 33, "{count} pictures of 3.5 s with {encoder}");
        // The picture before the seam and the one behind it show the same scene at the same place: of the three patches at
        // the left the middle one is green.
        let bars = if size.0 == 0 { 0 } else { (high - wide * 3 / 4) / 2 };
        let at = (96 * wide / 640, bars + 416 * (high - 2 * bars) / 480);
        for k in [2, count - 3] {
            let [red, green, blue] = pixel(&file, k, at);
            assert!(green > 150 && red < 100 && blue < 100, "{encoder} {size:?} picture {k}: {red} {green} {blue}");
        }
        assert!(r.ask("clip 1").starts_with("Saved clip: "));
    }
}

fn probed_count(file: &Path) -> usize {
    let out = std::process::Command::new("ffprobe")
        .args(["-v", "error", "-count_frames", "-show_entries", "stream=nb_read_frames", "-of", "csv=p=0"])
        .arg(file)
        .output()
        .unwrap();
    String::from_utf8_lossy(&out.stdout).trim().parse().unwrap()
}

/// One pixel of one picture, as ffmpeg decodes it.
fn pixel(file: &Path, picture: usize, (x, y): (usize, usize)) -> [u8; 3] {
    let out = std::process::Command::new("ffmpeg")
        .args(["-v", "error", "-nostdin", "-i"])
        .arg(file)
        .args(["-vf", &format!("select=eq(n\\,{picture}),crop=2:2:{x}:{y}"), "-frames:v", "1"])
        .args(["-f", "rawvideo", "-pix_fmt", "rgb24", "-"])
        .output()
        .unwrap();
    out.stdout[..3].try_into().unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&out.stderr)))
}

#[test]
fn parameter_sets_that_change_stay_in_one_file() {
    if has_ffmpeg() && pastcam::gst::has("x264enc") && pastcam::gst::has("openh264enc") {
        let r = Setup::new("sets").start();
        let file = of_two_encoders(&r);
        assert_eq!(films(&r), std::slice::from_ref(&file));
        assert!(whole(&file).len() >= 30);
    }
}

#[test]
fn a_clip_holds_the_seconds_before_the_command() {
    if !has_ffmpeg() {
        return;
    }
    let r = Setup::new("clip").start();
    r.until_frame(40);
    let now = r.newest_id().unwrap();
    let answer = r.ask("clip 3 tag=door");
    assert!(answer.starts_with("Saved clip: ") && answer.ends_with(" pictures)"), "{answer}");
    let ids = whole(&file_of(&answer));
    assert!(ids.len() >= 29 && ids.len() <= 31, "{ids:?}");
    assert!(ids.last().unwrap().abs_diff(now) <= 1, "{ids:?} at {now}");
    // Not when the clip was made but when it begins.
    let file = file_of(&answer);
    assert_eq!(probed(&file, "format_tags=comment")[6..25], probed(&file, "format_tags=creation_time")[..19]);
    assert!(r.ask("clip 9000").starts_with("ERR past clip=9000 lies beyond the ring"));
    for bad in ["clip", "clip x", "clip 0", "clip 1 2", "clip 3 before=1"] {
        assert!(r.ask(bad).starts_with("ERR usage clip takes "), "{bad}");
    }
    assert_eq!(r.status()["ring"]["dropped"], 0);
}

#[test]
fn a_stop_of_the_program_finishes_the_recording() {
    if !has_ffmpeg() {
        return;
    }
    let mut r = Setup::new("term").start();
    r.ask("record start");
    r.until_more_frames(12);
    assert_eq!(r.terminate().code(), Some(0));
    assert!(whole(&films(&r)[0]).len() >= 11);
}

/// Kinds of the boxes a file is made of. VLC shows nothing of one with `moof`s.
pub fn boxes(file: &Path) -> Vec<String> {
    let bytes = fs::read(file).unwrap();
    let (mut at, mut kinds) = (0, Vec::new());
    while at < bytes.len() {
        kinds.push(String::from_utf8_lossy(&bytes[at + 4..at + 8]).into_owned());
        at += u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
    }
    kinds
}

/// `kill -9` at these moments [ms after the start of the recording]; what is left is decoded frame by frame.
fn cut(moments: impl Iterator<Item = u64>) {
    let setup = Setup::new("cut");
    let (mut worst, mut total) = (0.0f64, 0);
    for (n, after) in moments.enumerate() {
        let mut r = setup.start();
        assert!(r.ask("record start").starts_with("OK recording "), "{n}");
        std::thread::sleep(Duration::from_millis(after));
        let newest = r.newest_id().unwrap();
        r.kill();
        let r = setup.start();
        let mut files = films(&r);
        assert!(r.names().iter().all(|n| !n.starts_with('.')), "{:?}", r.names());
        // The first index is written when a tenth of a second is over and the disk has it.
        let lost = match files.pop() {
            None => newest,
            Some(file) => {
                let ids = different(&file);
                assert_eq!(boxes(&file), ["ftyp", "free", "mdat", "moov"], "{}", file.display());
                assert!(r.ask(&format!("delete {}", file.file_name().unwrap().to_str().unwrap())).starts_with("OK deleted "));
                // All frames count, also those a busy machine had no time for.
                newest + 1 - ids[0] - ids.len() as u64
            }
        };
        assert!(files.is_empty() && lost <= 20, "cut {after} ms after the start: {lost} of 10 frames a second are lost");
        total += lost;
        worst = worst.max(lost as f64 / 10.0);
    }
    println!("at most {worst:.1} s were lost, {total} frames in all");
}

#[test]
fn a_crash_costs_two_seconds_at_most() {
    if has_ffmpeg() {
        // Spread over the fragments' seconds and over what lies between two frames.
        cut((0..10).map(|n| 300 + n * 373));
    }
}

#[test]
fn a_crash_leaves_something_of_a_recording_of_less_than_a_second() {
    if !has_ffmpeg() {
        return;
    }
    let setup = Setup::new("short");
    let mut r = setup.start();
    assert!(r.ask("record start").starts_with("OK recording "));
    // What a fragment takes until it is on the disk is for the disk to say; its pictures are those of a tenth of a second.
    let unfinished = || r.names().iter().find(|n| n.starts_with('.')).map(|n| fs::read(r.captures().join(n)).unwrap());
    let fragments = || unfinished().map_or(0, |bytes| bytes.windows(4).filter(|w| *w == b"moof").count());
    until("the first fragment", || (fragments() > 0).then_some(()));
    r.kill();
    let mut r = setup.start();
    assert!(!whole(&films(&r)[0]).is_empty());
    // The first second has more of them than it would have of half seconds, and those come later.
    assert!(r.ask("record start").starts_with("OK recording "));
    until("two seconds", || (recording(&r)["seconds"].as_f64()? > 2.0).then_some(()));
    let unfinished = || r.names().iter().find(|n| n.starts_with('.')).map(|n| fs::read(r.captures().join(n)).unwrap());
    let bytes = unfinished().unwrap();
    let count = bytes.windows(4).filter(|w| *w == b"moof").count();
    assert!(count >= 6, "{count} fragments");
    r.kill();
}

#[test]
fn what_a_crash_left_is_mended_whoever_has_the_number_of_the_dead() {
    let other = Setup::new("other").start();
    let mut dead = Setup::new("dead").start();
    dead.signal(Signal::SIGKILL);
    // Nobody has asked how it ended.
    until("a zombie", || fs::read_to_string(format!("/proc/{}/stat", dead.pid())).unwrap().contains(") Z ").then_some(()));
    let setup = Setup::new("number");
    let mut r = setup.start();
    r.ask("record start");
    r.until_more_frames(15);
    r.kill();
    let left = r.names().remove(0);
    let at = |pid: u32, f: u32| r.captures().join(format!(".20260101_000000_f{f}.mp4.{pid}.part"));
    fs::copy(r.captures().join(left), at(other.pid(), 1)).unwrap();
    fs::copy(at(other.pid(), 1), at(dead.pid(), 2)).unwrap();
    let r = setup.start();
    until("three whole files", || (films(&r).len() == 3 && r.names().len() == 3).then_some(()));
    assert!(dead.ended_already().is_some());
}

#[test]
#[ignore = "takes minutes"]
fn fifty_crashes_cost_two_seconds_at_most() {
    if has_ffmpeg() {
        let mut seed = 0x2545_f491_4f6c_dd1d_u64;
        cut((0..50).map(|_| {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            100 + seed % 7900
        }));
    }
}

#[test]
fn the_free_space_floor_ends_a_recording_cleanly() {
    if !has_ffmpeg() {
        return;
    }
    let setup = Setup::new("floor");
    let r = setup.start();
    r.ask("record start");
    r.until_more_frames(12);
    let full = setup.clone().set("export.min_free_mib", 1u64 << 40);
    fs::write(full.config_file(), full.config.to_string()).unwrap();
    r.signal(Signal::SIGHUP);
    until("the end of the recording", || recording(&r).is_null().then_some(()));
    r.until_logged("Recording: it ends here: keep ");
    assert!(whole(&films(&r)[0]).len() >= 11);
    assert!(r.ask("record start").starts_with("ERR disk keep "));
}

#[test]
fn recordings_by_the_clock_begin_split_and_stay_stopped() {
    if !has_ffmpeg() {
        return;
    }
    let setup = Setup::new("clock").set("record.schedule", vec!["always"]).set("record.split_s", 2).set("video.keyframe_s", 1.0);
    let r = setup.start();
    until("a recording by the clock", || (recording(&r)["by_clock"] == true).then_some(()));
    until("two files", || (films(&r).len() >= 2).then_some(()));
    let answer = r.ask("record stop");
    assert!(answer.starts_with("Saved recording: "), "{answer}");
    let ids: Vec<u64> = films(&r).iter().flat_map(|f| whole(f)).collect();
    assert!(ids.windows(2).all(|w| w[1] == w[0] || w[1] == w[0] + 1), "a frame is missing between two files: {ids:?}");
    r.until_more_frames(15);
    assert!(recording(&r).is_null());
    // A command may still record.
    assert!(r.ask("record start 1").starts_with("OK recording "));
}

#[test]
fn an_encoder_that_finds_no_memory_or_no_level_is_refused_with_the_numbers() {
    let small = Setup::new("memory").set("camera.width", 320).set("camera.height", 240);
    let r = small.set("video.width", 2560).set("video.height", 1440).set("limits.max_rss_mib", 50).start();
    for (line, word) in [("record start", "record start"), ("record start before=0.1", "record start"), ("clip 0.1", "clip")] {
        let said = r.ask(line);
        assert!(said.starts_with(&format!("ERR media {word}: encoding takes up to ")), "{said}");
        assert!(said.contains(" of limits.max_rss_mib 50 are in use; raise limits.max_rss_mib or set video.width"), "{said}");
    }
    assert!(r.ask("set video.width=320 video.height=240").starts_with("OK "));
    assert!(r.ask("record start 0.2").starts_with("OK recording "));
    drop(r);
    let large = Setup::new("level").set("camera.width", 8192).set("camera.height", 6144).set("record.schedule", vec!["always"]);
    let (code, said) = large.end();
    assert!(code != 0 && said.contains("at most 35651584 pixels") && said.contains("not 8192x6144; set video.width"), "{said}");
}

#[test]
fn files_are_listed_and_deleted_by_their_names_only() {
    let r = Setup::new("files").start();
    for line in ["save jpg", "save png tag=x", "clip 0.5"] {
        assert!(r.ask(line).starts_with("Saved "), "{line}");
    }
    let list =
        |line: &str| -> Vec<Value> { serde_json::from_str::<Value>(&r.ask(line)).unwrap()["files"].as_array().unwrap().clone() };
    let all = list("files");
    assert_eq!(all.len(), 3);
    for entry in &all {
        let path = r.captures().join(entry["name"].as_str().unwrap());
        assert_eq!(entry["bytes"].as_u64(), Some(fs::metadata(path).unwrap().len()));
        assert!(entry["time"].as_f64().unwrap() > 1.7e9);
    }
    assert!(all.windows(2).all(|w| w[0]["time"].as_f64() >= w[1]["time"].as_f64()));
    assert_eq!((list("files mp4").len(), list("files jpg png").len(), list("files last=1").len()), (1, 2, 1));
    fs::write(r.captures().join("private.txt"), "x").unwrap();
    for bad in ["private.txt", "../config.json", "/etc/passwd", "latest.jpg", "20200101_000000_f1.jpg"] {
        assert!(r.ask(&format!("delete {bad}")).starts_with("ERR usage delete "), "{bad}");
    }
    for bad in ["delete", "delete a b", "files tag=x", "files bmp", "files last=0", "record", "record stop now", "record start 0"]
    {
        let said = r.ask(bad);
        assert!(said.starts_with("ERR usage ") || said == "UNKNOWN_COMMAND", "{bad}: {said}");
    }
    let name = all[0]["name"].as_str().unwrap();
    assert_eq!(r.ask(&format!("delete {name}")), format!("OK deleted {name}"));
    assert!(!r.captures().join(name).exists() && r.captures().join("private.txt").exists());
}

#[test]
fn the_stream_s_settings_change_by_command() {
    let r = Setup::new("set").start();
    assert_eq!(r.ask("set video.bitrate_kbps=300 video.keyframe_s=1"), "OK video.bitrate_kbps=300 video.keyframe_s=1");
    assert_eq!(r.ask("set video.bitrate_kbps=1"), "ERR usage video.bitrate_kbps: from 50 to 50000, not 1");
    assert_eq!(r.ask("set video.nothing=1"), "ERR usage video.nothing: no such key");
    for bad in ["set video.width=640", "set video.keyframe_s=x", "set video.encoder=best", "save video.keyframe_s=1"] {
        assert!(r.ask(bad).starts_with("ERR usage "), "{bad}");
    }
    // Beside a control of the camera they are one as well, which no camera has.
    assert!(r.ask("set video.width=160 Brightness=0.5").starts_with("ERR usage "));
    assert_eq!(r.ask("set video.width=160 video.height=120"), "OK video.width=160 video.height=120");
    let file = file_of(&r.ask("clip 0.5"));
    if has_ffmpeg() {
        assert_eq!(probed(&file, "stream=width,height"), "160\n120");
    }
}
