//! Sound beside the pictures. ALSA's file device stands in for a microphone: it reads a pipe that ffmpeg fills with a tone as
//! fast as time goes by; without the pipe the device cannot be opened, and when ffmpeg ends it is as one that was pulled out.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use nix::sys::stat::Mode;

use crate::film::{assert_gapless, has_ffmpeg};
use crate::harness::{PATIENCE, Running, Setup, until};
use crate::viewers::{Viewer, served};

/// The tone of a microphone that is plugged in, and an end of its pipe, so that the tone outlasts a reader.
struct Tone {
    child: Child,
    _pipe: fs::File,
}

impl Drop for Tone {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn can_run() -> bool {
    let alsa = ["alsasrc", "rtpmp4gpay", "audioresample"].iter().all(|e| pastcam::gst::has(e));
    let aac = ["fdkaacenc", "voaacenc", "avenc_aac", "faac"].iter().any(|e| pastcam::gst::has(e));
    if !alsa || !aac {
        println!("SKIP: GStreamer has no ALSA or no AAC encoder here (gstreamer1.0-alsa, gstreamer1.0-libav)");
    }
    alsa && aac && has_ffmpeg()
}

/// A stream with the microphone `tone`, which is not plugged in; its address.
pub fn wired(word: &str) -> (Setup, String) {
    let (setup, url) = served(word);
    let pipe = setup.dir.join("microphone");
    let own = format!(
        "</usr/share/alsa/alsa.conf>\npcm.tone {{ type file slave.pcm null file /dev/null infile \"{}\" format raw }}\n",
        pipe.display()
    );
    let conf = setup.dir.join("asound.conf");
    fs::write(&conf, own).unwrap();
    (setup.set("rtsp.audio.device", "tone").env("ALSA_CONFIG_PATH", conf.to_string_lossy()), url)
}

fn pipe(setup: &Setup) -> PathBuf {
    setup.dir.join("microphone")
}

fn plug_in(setup: &Setup) -> Tone {
    nix::unistd::mkfifo(&pipe(setup), Mode::S_IRUSR | Mode::S_IWUSR).unwrap();
    let child = Command::new("ffmpeg")
        .args(["-v", "error", "-nostdin", "-y", "-re", "-f", "lavfi", "-i", "sine=frequency=1000:sample_rate=48000"])
        .args(["-ac", "1", "-f", "s16le"])
        .arg(pipe(setup))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let held = fs::OpenOptions::new().read(true).write(true).open(pipe(setup)).unwrap();
    Tone { child, _pipe: held }
}

/// Kinds of the streams that ffprobe sees.
pub fn kinds(url: &str) -> String {
    let out = Command::new("ffprobe")
        .args(["-v", "error", "-rtsp_transport", "tcp", "-show_entries", "stream=codec_name,sample_rate,channels"])
        .args(["-of", "csv=p=0", url])
        .output()
        .unwrap();
    String::from_utf8(out.stdout).unwrap().trim().to_string()
}

/// How loud two seconds of it are (dB), as ffmpeg decodes them. Without any sound ffmpeg would wait for ever.
fn loudness(url: &str) -> f64 {
    let out = Command::new("timeout")
        .args([
            &PATIENCE.as_secs().to_string(),
            "ffmpeg",
            "-v",
            "info",
            "-nostdin",
            "-rtsp_transport",
            "tcp",
            "-i",
            url,
            "-map",
            "0:a",
            "-t",
            "2",
        ])
        .args(["-af", "volumedetect", "-f", "null", "-"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    let level = said.split("mean_volume: ").nth(1).and_then(|r| r.split(' ').next()).and_then(|n| n.parse().ok());
    level.unwrap_or_else(|| panic!("{said}"))
}

fn nobody_watches(r: &Running) {
    until("nobody", || (r.status()["video"]["viewers"] == 0 && r.status()["video"]["encoder"].is_null()).then_some(()));
}

#[test]
fn a_microphone_is_heard_while_somebody_watches() {
    if !can_run() {
        return;
    }
    let (setup, url) = wired("sound");
    let r = setup.start();
    let tone = plug_in(&r.setup);
    let is_open = || {
        let files = fs::read_dir(format!("/proc/{}/fd", r.pid())).unwrap();
        files.filter_map(|f| fs::read_link(f.ok()?.path()).ok()).any(|f| f == pipe(&r.setup))
    };
    r.until_more_frames(5);
    assert!(!is_open(), "the device is open although nobody watches");
    assert_eq!(kinds(&url), "h264\naac,48000,1");
    let mut viewer = Viewer::of(&url, "tcp");
    viewer.pictures(5);
    until("the device in use", || is_open().then_some(()));
    assert_gapless(&viewer.pictures(10).iter().map(|s| s.code.unwrap()).collect::<Vec<_>>());
    drop(viewer);
    r.until_logged("Sound: from tone");
    // A sine of an eighth of full scale is at -21 dB. The first blocks are the silence before it.
    let loud = loudness(&url);
    assert!((-26.0..-18.0).contains(&loud), "{loud} dB");
    nobody_watches(&r);
    until("the device let go", || (!is_open()).then_some(()));
    drop(tone);
}

#[test]
fn pictures_go_on_without_the_microphone_and_sound_comes_back() {
    if !can_run() {
        return;
    }
    let (setup, url) = wired("mute");
    let r = setup.start();
    // A viewer that stops reading would be thrown out.
    let over = Arc::new(AtomicBool::new(false));
    let (ends, mut viewer) = (over.clone(), Viewer::of(&url, "tcp"));
    let watching = std::thread::spawn(move || {
        let mut seen = viewer.pictures(1);
        while !ends.load(Relaxed) {
            seen.extend(viewer.pictures(1));
        }
        seen
    });
    r.until_logged("viewers hear silence until it is back");
    assert_eq!(kinds(&url), "h264\naac,48000,1");
    assert!(loudness(&url) < -80.0);
    let tone = plug_in(&r.setup);
    r.until_logged("Sound: from tone");
    assert!(loudness(&url) > -30.0);
    // Pulled out.
    fs::remove_file(pipe(&r.setup)).unwrap();
    drop(tone);
    until("a second complaint", || (r.log().matches("viewers hear silence").count() == 2).then_some(()));
    assert!(loudness(&url) < -80.0);
    // In all that time the first viewer saw pictures, in order; a busy machine may leave some out.
    over.store(true, Relaxed);
    let seen: Vec<u64> = watching.join().unwrap().iter().map(|s| s.code.unwrap().0).collect();
    assert!(seen.windows(2).all(|w| (w[0]..w[0] + 20).contains(&w[1])), "{seen:?}");
    assert_eq!(r.status()["ring"]["dropped"], 0);
}

#[test]
fn a_missing_encoder_of_sound_is_an_error_of_the_start() {
    let (setup, _) = served("deaf");
    // A system without a single plugin.
    let none = setup.dir.join("plugins");
    fs::create_dir(&none).unwrap();
    let none = none.to_string_lossy().into_owned();
    let setup = setup
        .set("rtsp.audio.device", "tone")
        .env("GST_PLUGIN_SYSTEM_PATH_1_0", &*none)
        .env("GST_REGISTRY_1_0", format!("{none}/registry"));
    let (code, said) = setup.end();
    assert!(code == 1 && said.contains("install the package gstreamer1.0-"), "{said}");
}
