//! Network cameras: another instance of this program, and strangers. What is passed on, what is decoded, and what happens when
//! they go, come back, freeze, grow or want a password.

use std::time::{Duration, Instant};

use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app::AppSink;
use gstreamer_rtsp_server::gst_rtsp::{RTSPAuthMethod, RTSPLowerTrans};
use serde_json::Value;

use crate::film::{decoded, has_ffmpeg, probed};
use crate::harness::{Running, Setup, free_port, is_quiet, until};
use crate::image::Image;
use crate::peer::{Make, Peer, Snapshots, units};
use crate::recordings::{file_of, films};
use crate::said;
use crate::viewers::{Rude, Viewer, codes, served, viewers};

fn passing(r: &Running) -> String {
    r.status()["video"]["pass_through"].as_str().unwrap_or_default().to_string()
}

fn until_passing(r: &Running) {
    until("the camera's own stream", || (passing(r) == "yes" && r.status()["state"] == "RUNNING").then_some(()));
}

/// A program in front of a camera.
fn proxy(word: &str, camera: &str) -> (Setup, String) {
    let (setup, url) = served(word);
    (setup.set("camera.source", camera).set("video.encoder", "x264").frameless(), url)
}

fn rtsp_is_possible() -> bool {
    let possible = ["x264enc", "rtph264depay", "h264parse", "avdec_h264"].iter().all(|e| pastcam::gst::has(e));
    if !possible {
        println!("SKIP: no x264, parser or decoder of H.264 here");
    }
    possible && has_ffmpeg()
}

#[test]
fn one_connection_to_the_camera_serves_many_viewers_the_ring_and_the_recorder() {
    if !rtsp_is_possible() {
        return;
    }
    for transport in ["tcp", "udp"] {
        let (camera, camera_url) = served("camera");
        let camera = camera.start();
        let (setup, url) = proxy("proxy", &camera_url);
        let r = setup.set("camera.transport", transport).start();
        until_passing(&r);
        let mut tcp = Viewer::of_all(&url, "tcp");
        tcp.pictures(1);
        let mut udp = Viewer::of_all(&url, "udp");
        let recording = r.ask("record start 3");
        assert!(recording.starts_with("OK recording "), "{recording}");
        let seen = [tcp.pictures(30), udp.pictures(30)];
        assert_eq!((viewers(&camera), viewers(&r)), (1, 2));
        assert_eq!((passing(&r).as_str(), &r.status()["video"]["encoder"]), ("yes", &Value::Null));
        let [seen_tcp, seen_udp] = [&seen[0], &seen[1]].map(|s| codes(s).into_iter().map(|c| c.0).collect::<Vec<_>>());
        assert!(seen_tcp.is_sorted() && seen_udp.is_sorted(), "{seen_tcp:?} {seen_udp:?}");
        // The other's pictures waited to be read.
        let late = seen[0].iter().map(|s| s.late_us).min().unwrap();
        println!("{transport}: a picture of the camera's camera is {} ms old at the viewer", late / 1000);
        assert!(late < 500_000, "{late}");
        until("the file", || (films(&r).len() == 1).then_some(()));
        let (film, said) = decoded(&films(&r)[0]);
        let ids: Vec<u64> = film.into_iter().map(|c| c.0).collect();
        assert_eq!(said, "");
        // From the key frame before the command on, of which there is one in two seconds.
        assert!((25..=52).contains(&ids.len()), "{} pictures: {ids:?}", ids.len());
        // A busy machine's camera may lose a frame; the recorder and a viewer over TCP have all that it sent, just the same.
        // A viewer may be shown the picture that it begins with twice.
        let common = |all: &[u64], other: &[u64]| -> Vec<u64> {
            let (from, to) = (all[0].max(other[0]), all[all.len() - 1].min(other[other.len() - 1]));
            let mut common: Vec<u64> = all.iter().copied().filter(|id| (from..=to).contains(id)).collect();
            common.dedup();
            common
        };
        let (recorded, viewed) = (common(&ids, &seen_tcp), common(&seen_tcp, &ids));
        assert!(recorded == viewed && recorded.len() >= 15, "recorded {recorded:?}, seen {viewed:?}");
        assert_eq!(probed(&films(&r)[0], "stream=codec_name,width,height"), "h264\n320\n240");
        // The ring has the same pictures, and the past can be had as ever.
        let s = said::single(&r.ask("save png"));
        Image::open(&s.path).code();
        let clip = file_of(&r.ask("clip 2"));
        assert!(decoded(&clip).0.len() >= 15);
        assert_eq!(r.status()["ring"]["dropped"], 0);
        drop(r);
        until("nobody at the camera", || (viewers(&camera) == 0).then_some(()));
    }
}

/// What a viewer receives, as units of H.264, until there are so many.
fn received(url: &str, many: usize) -> Vec<Vec<u8>> {
    let line = format!(
        "rtspsrc location={url} protocols=tcp latency=0 ! rtph264depay ! video/x-h264,stream-format=byte-stream,alignment=au ! appsink name=out sync=false"
    );
    let pipeline = gst::parse::launch(&line).unwrap().downcast::<gst::Pipeline>().unwrap();
    let out = pipeline.by_name("out").unwrap().downcast::<AppSink>().unwrap();
    pipeline.set_state(gst::State::Playing).unwrap();
    let mut all = Vec::new();
    while all.len() < many {
        let sample = out.try_pull_sample(gst::ClockTime::from_seconds(30)).expect("a unit");
        all.extend(units(&sample.buffer().unwrap().map_readable().unwrap()));
    }
    pipeline.set_state(gst::State::Null).unwrap();
    all
}

/// Slices and parameter sets, which are the picture; what else a parser may add is none.
fn of_the_picture(units: &[Vec<u8>]) -> Vec<&[u8]> {
    units.iter().filter(|u| matches!(u[0] & 31, 1 | 5 | 7 | 8)).map(Vec::as_slice).collect()
}

#[test]
fn every_byte_of_the_camera_s_pictures_comes_through() {
    if !rtsp_is_possible() {
        return;
    }
    let camera = Peer::new(free_port(), &Make::default());
    let (setup, url) = proxy("bytes", &camera.url(""));
    let r = setup.start();
    until_passing(&r);
    let got = received(&url, 140);
    let mut got = of_the_picture(&got);
    // The receiver puts the parameter sets of the description in front.
    let first = got.iter().position(|u| u[0] & 31 == 5).expect("a key frame");
    got.drain(..first - 2);
    let sent = camera.sent.lock().unwrap().clone();
    let sent = of_the_picture(&sent);
    let slices = |u: &[&[u8]]| u.iter().filter(|u| matches!(u[0] & 31, 1 | 5)).count();
    assert!(slices(&got) > 30, "{}", slices(&got));
    let at = sent.windows(got.len()).position(|w| w == got.as_slice());
    let kinds = |u: &[&[u8]]| u.iter().map(|u| format!("{}:{}", u[0] & 31, u.len())).collect::<Vec<_>>().join(" ");
    assert!(at.is_some(), "units came that were not sent so: {}\nsent: {}", kinds(&got), kinds(&sent));
}

#[test]
fn who_joins_has_a_picture_at_once_however_rare_key_frames_are() {
    if !rtsp_is_possible() {
        return;
    }
    // A key frame in a hundred seconds: nobody could wait for the second one.
    let camera = Peer::new(free_port(), &Make { key_frames: 1000, ..Make::default() });
    let (setup, url) = proxy("join", &camera.url(""));
    let r = setup.start();
    until_passing(&r);
    r.until_more_frames(20);
    for n in 0..3 {
        let begun = Instant::now();
        let mut viewer = Viewer::of_all(&url, "tcp");
        viewer.pictures(1);
        let first = begun.elapsed();
        // It catches up with all that came since, and goes on.
        viewer.pictures(30);
        println!("viewer {n}: first picture after {} ms", first.as_millis());
        assert!(first < Duration::from_secs(5), "{first:?}");
    }
    let answer = r.ask("record start");
    assert!(answer.starts_with("OK recording "), "{answer}");
    r.until_more_frames(10);
    let file = file_of(&r.ask("record stop"));
    let frames = probed(&file, "stream=nb_frames").parse::<usize>().unwrap();
    assert!(frames >= 30, "{frames}");
}

#[test]
fn a_recording_begins_at_once_between_two_key_frames_of_a_camera() {
    if !rtsp_is_possible() {
        return;
    }
    // A key frame in five seconds, and more between two of them than is kept.
    let heavy = "x264enc pass=quant quantizer=1 tune=zerolatency speed-preset=ultrafast threads=1 key-int-max=50 \
                 ! h264parse name=parse config-interval=-1 ! video/x-h264,stream-format=byte-stream,alignment=au \
                 ! rtph264pay name=pay0 pt=96 config-interval=0";
    let camera = Peer::new(free_port(), &Make { encoder: Some(heavy), ..Make::default() });
    let r = proxy("between", &camera.url("")).0.start();
    until_passing(&r);
    camera.snow();
    let since_key = || {
        let sent = camera.sent.lock().unwrap();
        let from = sent.iter().rposition(|u| u[0] & 31 == 5)?;
        Some((from, sent[from..].iter().map(Vec::len).sum::<usize>()))
    };
    r.until_more_frames(20);
    // Its seconds are over before the camera's next key frame.
    let (key, _) = until("more than is kept", || since_key().filter(|(_, bytes)| *bytes > 4 << 20));
    assert!(r.ask("record start 0.5").starts_with("OK recording "));
    let seconds = until("its end", || r.status()["recorded"]["seconds"].as_f64());
    assert!((0.2..0.8).contains(&seconds), "{seconds}");
    assert!(!is_quiet() || since_key().unwrap().0 == key, "it waited for the key frame");
    for (start, back) in [("record start", 0), ("record start before=2", 20)] {
        let (key, _) = until("more than is kept", || since_key().filter(|(_, bytes)| *bytes > 4 << 20));
        let now = r.newest_id().unwrap();
        assert!(r.ask(start).starts_with("OK recording "));
        until("the next key frame", || since_key().filter(|(at, bytes)| *at > key && *bytes > 1 << 20));
        let last = r.newest_id().unwrap();
        let answer = r.ask("record stop");
        assert!(answer.ends_with(" pictures)"), "one file, nothing lost: {answer}");
        let file = file_of(&answer);
        let first: u64 = file.file_stem().unwrap().to_str().unwrap().rsplit_once("_f").unwrap().1.parse().unwrap();
        assert!(first.abs_diff(now - back) <= 4, "{start} at {now} begins at {first}");
        assert_eq!(decoded_quietly(&file), "");
        let times: Vec<f64> = probed(&file, "packet=pts_time").lines().map(|t| t.parse().unwrap()).collect();
        assert!(times.len() as u64 + 1 >= last - first, "{} pictures from {first} to {last}", times.len());
        assert!(times.windows(2).all(|w| w[1] - w[0] < 0.5), "{times:?}");
    }
}

#[test]
fn viewers_of_a_camera_s_own_stream_leave_nothing_behind() {
    if !rtsp_is_possible() {
        return;
    }
    let camera = Peer::new(free_port(), &Make { key_frames: 1000, ..Make::default() });
    let (setup, url) = proxy("come and go", &camera.url(""));
    let r = setup.start();
    until_passing(&r);
    let round = |n: usize| {
        for k in 0..n {
            let mut one = Rude::connect(&url);
            assert!(one.play().contains(" 200 "));
            one.until_key_frame();
            if k % 2 == 0 { one.vanish() } else { drop(one) }
        }
        until("nobody", || (viewers(&r) == 0).then_some(()));
    };
    let count = |what: &str| std::fs::read_dir(format!("/proc/{}/{what}", r.pid())).unwrap().count();
    round(8);
    let (threads, files) = (count("task"), count("fd"));
    let before = r.status()["rss_bytes"].as_u64().unwrap();
    round(60);
    until("all threads and files gone", || (count("task") <= threads && count("fd") <= files).then_some(()));
    let grown = r.status()["rss_bytes"].as_u64().unwrap().saturating_sub(before);
    println!("60 viewers left {} KiB behind", grown >> 10);
    assert!(grown < 4 << 20, "{grown} bytes more");
    assert_eq!(passing(&r), "yes");
}

#[test]
fn viewers_stay_while_the_camera_is_gone_and_see_it_again() {
    if !rtsp_is_possible() {
        return;
    }
    let (camera_setup, camera_url) = served("flaky");
    let mut camera = camera_setup.start();
    let (setup, url) = proxy("outage", &camera_url);
    let r = setup.start();
    until_passing(&r);
    let mut viewer = Viewer::of_all(&url, "tcp");
    assert!(codes(&viewer.pictures(10)).is_sorted());
    r.ask("record start");
    for _ in 0..2 {
        camera.kill();
        until("the grey picture", || viewer.pictures(1)[0].code.is_none().then_some(()));
        assert!(viewer.pictures(4).iter().all(|s| s.code.is_none()), "it goes on");
        assert_eq!((passing(&r).as_str(), &r.status()["video"]["encoder"]), ("waiting", &Value::from("x264")));
        camera = camera_setup.start();
        until("the camera's picture on the same connection", || viewer.pictures(1)[0].code.is_some().then_some(()));
        until("twenty of them", || viewer.pictures(20).iter().all(|s| s.code.is_some()).then_some(()));
        until("no encoder", || r.status()["video"]["encoder"].is_null().then_some(()));
    }
    r.ask("record stop");
    // Files that play; where the encoder's stream is not just like the camera's, the grey pictures are in files of their own.
    assert!(!films(&r).is_empty());
    for file in films(&r) {
        assert_eq!(decoded_quietly(&file), "", "{}", file.display());
    }
    assert_eq!(viewers(&r), 1);
    assert!(r.status()["source"]["rebuilds"].as_u64().unwrap() >= 2);
}

/// What ffmpeg complains of in a file.
fn decoded_quietly(file: &std::path::Path) -> String {
    let out = std::process::Command::new("ffmpeg")
        .args(["-v", "error", "-nostdin", "-i"])
        .arg(file)
        .args(["-vf", "settb=1/90000", "-enc_time_base", "1:90000", "-fps_mode", "passthrough", "-f", "null", "-"])
        .output()
        .unwrap();
    String::from_utf8_lossy(&out.stderr).into_owned()
}

#[test]
fn a_camera_that_is_not_there_yet_leaves_viewers_a_grey_picture() {
    if !rtsp_is_possible() {
        return;
    }
    let port = free_port();
    let (setup, url) = proxy("early", &format!("rtsp://127.0.0.1:{port}/live"));
    let r = setup.start();
    let mut viewer = Viewer::of_all(&url, "tcp");
    viewer.pictures(3);
    assert_eq!(passing(&r), "waiting");
    // From the first attempt on the pauses grow.
    r.until_logged("Frames lost: ");
    let _camera = Peer::new(port, &Make::default());
    until_passing(&r);
    viewer.pictures(30);
    assert!(r.status()["video"]["encoder"].is_null());
}

#[test]
fn a_wrong_password_is_said_and_no_password_is_ever() {
    if !rtsp_is_possible() {
        return;
    }
    for method in [RTSPAuthMethod::Basic, RTSPAuthMethod::Digest] {
        let make = Make { login: Some(("operator", "hunter2/@x", method)), ..Make::default() };
        let camera = Peer::new(free_port(), &make);
        let start = |login: &str| proxy("login", &camera.url(login)).0.set("logging.level", "TRACE").start();
        let r = start("");
        r.until_logged("the camera wants a user and a password (401)");
        drop(r);
        let r = start("operator:hunter3@");
        r.until_logged("the camera refuses this user or password (401); correct them in camera.source");
        let told = r.log() + &r.ask("status json");
        assert!(!told.contains("hunter") && !told.contains("operator"), "{told}");
        drop(r);
        // As it stands, and as addresses are written.
        for right in ["operator:hunter2/@x@", "operator:hunter2%2F%40x@"] {
            let r = start(right);
            until_passing(&r);
            let told = r.log() + &r.ask("status json") + &r.ask("status");
            assert!(!told.contains("hunter") && !told.contains("operator"), "{told}");
            assert!(told.contains(&format!("rtsp://127.0.0.1:{}/live", camera.port)), "{told}");
        }
    }
}

#[test]
fn a_camera_that_takes_the_connection_and_never_answers_holds_nothing_up() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let source = format!("rtsp://127.0.0.1:{}/live", listener.local_addr().unwrap().port());
    let mut r = proxy("mute", &source).0.start();
    let first = listener.accept().unwrap();
    r.until_logged("Frames lost: ");
    let second = listener.accept().unwrap();
    let begun = Instant::now();
    assert_eq!(r.terminate().code(), Some(0));
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    drop((first, second));
}

#[test]
fn a_stream_may_change_its_size_in_the_middle() {
    if !rtsp_is_possible() {
        return;
    }
    let camera = Peer::new(free_port(), &Make::default());
    let (setup, url) = proxy("grow", &camera.url(""));
    let r = setup.start();
    until_passing(&r);
    let mut viewer = Viewer::of_all(&url, "tcp");
    viewer.pictures(5);
    r.ask("record start");
    r.until_more_frames(5);
    let rebuilds = r.status()["source"]["rebuilds"].clone();
    camera.resize(640, 368);
    r.until_logged("The camera sends H.264 of 640x368");
    // ffmpeg makes its pictures as large as the first; that they come is what counts.
    viewer.pictures(20);
    r.until_more_frames(15);
    let answer = r.ask("record stop");
    assert!(answer.ends_with(" files=2"), "{answer}");
    let pictures: usize = films(&r).iter().map(|f| probed(f, "stream=nb_frames").parse::<usize>().unwrap()).sum();
    assert!(answer.contains(&format!(" s, {pictures} pictures) ")), "{answer}: {pictures}");
    let sizes: Vec<String> = films(&r).iter().map(|f| probed(f, "stream=width,height")).collect();
    assert_eq!(sizes, ["320\n240", "640\n368"]);
    let mut joined = Viewer::of_all(&url, "tcp");
    joined.size = (640, 368);
    joined.pictures(5);
    // In the ring all are of the configured size.
    assert_eq!((&r.status()["frame"]["width"], &r.status()["source"]["rebuilds"]), (&320.into(), &rebuilds));
    assert_eq!(passing(&r), "yes");
}

#[test]
fn a_frozen_stream_counts_as_lost_and_comes_back() {
    if !rtsp_is_possible() {
        return;
    }
    let camera = Peer::new(free_port(), &Make::default());
    let (setup, url) = proxy("ice", &camera.url(""));
    let r = setup.set("camera.frozen_s", 1.5).start();
    until_passing(&r);
    let mut viewer = Viewer::of_all(&url, "tcp");
    viewer.pictures(5);
    r.until_more_frames(30);
    assert!(!r.log().contains("camera.frozen_s"), "pictures that move are no loss");
    camera.freeze(true);
    r.until_logged("one and the same picture for 2 s (camera.frozen_s)");
    until("the grey picture's encoder", || (r.status()["video"]["encoder"] == "x264").then_some(()));
    camera.freeze(false);
    until_passing(&r);
    viewer.pictures(20);
    until("no encoder", || r.status()["video"]["encoder"].is_null().then_some(()));
}

#[test]
fn what_only_an_encoder_can_do_wins_over_passing_on() {
    if !rtsp_is_possible() {
        return;
    }
    let (camera, camera_url) = served("plain");
    let camera = camera.start();
    let (setup, url) = proxy("overlay", &camera_url);
    let r = setup.start();
    until_passing(&r);
    let mut viewer = Viewer::of_all(&url, "tcp");
    viewer.pictures(5);
    for (change, why, back) in [
        ("set video.overlay=gate", "overlay", "set video.overlay="),
        ("set video.width=160 video.height=120", "size", "set video.width=0 video.height=0"),
        ("set video.pass_through=false", "off", "set video.pass_through=true"),
    ] {
        assert!(r.ask(change).starts_with("OK "), "{change}");
        assert_eq!(passing(&r), why);
        until("the encoder", || (r.status()["video"]["encoder"] == "x264").then_some(()));
        viewer.pictures(10);
        assert!(r.ask(back).starts_with("OK "), "{back}: {}", r.ask(back));
        until("no encoder", || r.status()["video"]["encoder"].is_null().then_some(()));
        // What is still on its way to the viewer is the encoder's.
        let seen = until("the camera's pictures", || {
            let ten = viewer.pictures(10);
            ten.iter().all(|s| s.code.is_some()).then_some(ten)
        });
        assert!(codes(&seen).is_sorted(), "{:?}", codes(&seen));
    }
    assert_eq!((viewers(&camera), viewers(&r)), (1, 1));
}

#[test]
fn streams_that_cannot_be_passed_on_are_encoded_anew() {
    if !rtsp_is_possible() {
        return;
    }
    let jpeg = "jpegenc ! rtpjpegpay name=pay0";
    let ahead = "x264enc bframes=2 b-adapt=false key-int-max=20 bitrate=400 speed-preset=veryfast rc-lookahead=2 ! video/x-h264,profile=main ! rtph264pay name=pay0 config-interval=-1";
    for (encoder, why) in [(jpeg, "codec"), (ahead, "order")] {
        let camera = Peer::new(free_port(), &Make { encoder: Some(encoder), ..Make::default() });
        let (setup, url) = proxy("anew", &camera.url(""));
        let r = setup.start();
        until("the reason", || (passing(&r) == why).then_some(()));
        let mut viewer = Viewer::of_all(&url, "tcp");
        viewer.pictures(20);
        assert_eq!(r.status()["video"]["encoder"], "x264", "{why}");
        r.until_more_frames(20);
        let fps = r.status()["frame"]["fps"].as_f64().unwrap();
        assert!((7.0..12.0).contains(&fps), "{why}: {fps} frames a second");
    }
}

#[test]
fn the_transport_is_the_one_that_was_asked_for() {
    if !rtsp_is_possible() {
        return;
    }
    let only = |transport| Peer::new(free_port(), &Make { transport, ..Make::default() });
    let (tcp, udp) = (only(RTSPLowerTrans::TCP), only(RTSPLowerTrans::UDP));
    for (camera, word, works) in [
        (&tcp, "tcp", true),
        (&udp, "udp", true),
        (&tcp, "auto", true),
        (&udp, "auto", true),
        (&tcp, "udp", false),
        (&udp, "tcp", false),
    ] {
        let r = proxy("transport", &camera.url("")).0.set("camera.transport", word).start();
        if works {
            until_passing(&r);
            r.until_more_frames(3);
            assert_eq!(r.status()["source"]["rebuilds"], 0, "{word}: {}", r.log());
        } else {
            r.until_logged("Frames lost: ");
            assert!(r.log().contains("camera.transport"), "{}", r.log());
        }
    }
}

#[test]
fn single_pictures_over_http_are_fetched_again_and_again() {
    if !["souphttpsrc", "jpegdec"].iter().all(|e| pastcam::gst::has(e)) {
        println!("SKIP: no elements for HTTP and JPEG here");
        return;
    }
    // operator:hunter2
    let camera = Snapshots::new(Some("Basic b3BlcmF0b3I6aHVudGVyMg=="));
    let source = |login: &str| format!("http://{login}127.0.0.1:{}/still.jpg?key=hunter4", camera.port);
    let (setup, url) = proxy("still", &source("operator:hunter2@"));
    let r = setup.set("camera.framerate", 5.0).start();
    until("frames", || (r.status()["state"] == "RUNNING").then_some(()));
    r.until_logged("The address answers with one picture a request: it is asked 5 times a second");
    r.until_more_frames(30);
    let fps = r.status()["frame"]["fps"].as_f64().unwrap();
    assert!((3.5..5.5).contains(&fps), "{fps} frames a second");
    let count = |what: &str| std::fs::read_dir(format!("/proc/{}/{what}", r.pid())).unwrap().count();
    let (threads, files) = (count("task"), count("fd"));
    r.until_more_frames(20);
    // Twenty requests later. A connection on its way, or one more of the library's pooled threads, is none that was left behind.
    until("no thread and no file more", || (count("task") <= threads + 2 && count("fd") <= files + 2).then_some(()));
    assert_eq!((r.status()["source"]["rebuilds"].as_u64(), passing(&r).as_str()), (Some(0), "codec"));
    if has_ffmpeg() {
        Viewer::of_all(&url, "tcp").pictures(10);
    }
    let told = r.log() + &r.ask("status json");
    assert!(!told.contains("hunter") && !told.contains("operator"), "{told}");
    drop(r);
    let r = proxy("still", &source("operator:hunter3@")).0.start();
    r.until_logged("the camera refuses this user or password (401)");
    assert!(!r.log().contains("hunter"), "{}", r.log());
    assert!(camera.requests.load(std::sync::atomic::Ordering::Relaxed) > 30);
}
