//! Sources of frames as they fail in the field: a camera that changes its size, video files, network streams that are cut.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app::{AppSink, AppSrc};

use crate::harness::{Running, Setup, free_port, names, until};
use crate::image::Image;
use crate::said::{self, id_of};

/// Frames of the test's video; it runs three seconds.
const FRAMES: usize = 30;
/// Bars from left to right.
const BARS: [[u8; 3]; 5] = [[220, 30, 30], [30, 200, 40], [40, 40, 220], [128, 128, 128], [230, 220, 60]];

/// Five bars of colour above, five blocks below that tell the frame's number in binary.
fn drawn(n: usize) -> Vec<u8> {
    let bit = |x: usize| if n >> (x / 64) & 1 == 1 { [235; 3] } else { [20; 3] };
    (0..240).flat_map(|y| (0..320).flat_map(move |x| if y < 160 { BARS[x / 64] } else { bit(x) })).collect()
}

/// The number in a picture; fails where its colours are not the bars'.
fn number(image: &Image, allowed: f64) -> usize {
    assert_eq!((image.width, image.height), (320, 240));
    for (k, bar) in BARS.iter().enumerate() {
        let got = image.mean(k * 64 + 32, 80, 12);
        let off = (0..3).map(|c| (got[c] - f64::from(bar[c])).abs()).fold(0.0, f64::max);
        assert!(off <= allowed, "bar {k} is {got:?} instead of {bar:?}");
    }
    (0..5).map(|k| usize::from(image.mean(k * 64 + 32, 200, 12)[1] > 128.0) << k).sum()
}

/// Pushes the video through this part of a pipeline and waits for its end.
fn encode(tail: &str, take: impl FnOnce(&gst::Pipeline)) {
    pastcam::gst::init().unwrap();
    let caps = "video/x-raw,format=RGB,width=320,height=240,framerate=10/1";
    let line = format!("appsrc name=in format=time caps={caps} ! videoconvert ! {tail}");
    let pipeline = gst::parse::launch(&line).unwrap().downcast::<gst::Pipeline>().unwrap();
    let source = pipeline.by_name("in").unwrap().downcast::<AppSrc>().unwrap();
    pipeline.set_state(gst::State::Playing).unwrap();
    for n in 0..FRAMES {
        let mut buffer = gst::Buffer::from_mut_slice(drawn(n));
        let b = buffer.get_mut().unwrap();
        b.set_pts(gst::ClockTime::from_mseconds(n as u64 * 100));
        b.set_duration(gst::ClockTime::from_mseconds(100));
        source.push_buffer(buffer).unwrap();
    }
    source.end_of_stream().unwrap();
    take(&pipeline);
    let end = pipeline
        .bus()
        .unwrap()
        .timed_pop_filtered(gst::ClockTime::from_seconds(60), &[gst::MessageType::Eos, gst::MessageType::Error]);
    let end = end.expect("the encoder to end");
    assert!(end.type_() == gst::MessageType::Eos, "{end:?}");
    pipeline.set_state(gst::State::Null).unwrap();
}

/// Ways to a video file: elements needed, the pipeline, the file's extension.
const KINDS: [(&[&str], &str, &str); 5] = [
    (
        &["x264enc", "mp4mux", "avdec_h264"],
        "video/x-raw,format=I420 ! x264enc bitrate=2000 key-int-max=10 ! h264parse ! mp4mux",
        "mp4",
    ),
    (
        &["openh264enc", "mp4mux", "openh264dec"],
        "video/x-raw,format=I420 ! openh264enc bitrate=2000000 ! h264parse ! mp4mux",
        "mp4",
    ),
    (&["theoraenc", "oggmux", "theoradec"], "theoraenc quality=60 ! oggmux", "ogv"),
    (&["jpegenc", "avimux", "jpegdec", "avidemux"], "jpegenc quality=95 ! avimux", "avi"),
    (&["jpegenc", "matroskamux", "jpegdec", "matroskademux"], "jpegenc quality=95 ! matroskamux", "mkv"),
];

/// Writes the video in one of the kinds this machine can make and read.
fn video(kind: usize, to: &Path) {
    encode(&format!("{} ! filesink location={}", KINDS[kind].1, to.display()), |_| {});
}

fn possible() -> Vec<usize> {
    (0..KINDS.len()).filter(|k| KINDS[*k].0.iter().all(|e| pastcam::gst::has(e))).collect()
}

/// The video as JPEG pictures.
fn jpegs() -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    encode("jpegenc quality=95 ! appsink name=out sync=false max-buffers=0", |pipeline| {
        let out = pipeline.by_name("out").unwrap().downcast::<AppSink>().unwrap();
        while let Ok(sample) = out.pull_sample() {
            all.push(sample.buffer().unwrap().map_readable().unwrap().to_vec());
        }
    });
    assert_eq!(all.len(), FRAMES);
    all
}

#[test]
fn a_camera_that_changes_its_size_goes_on() {
    let setup = Setup::new("resize").controlled("lux=400");
    let r = setup.start();
    // Smaller than its place in the ring: as it is.
    setup.control("resize=320x192");
    until("the smaller size", || (r.status()["frame"]["height"] == 192).then_some(()));
    let s = said::single(&r.ask("save png jpg"));
    let image = Image::open(&s.path.with_extension("png"));
    assert_eq!((image.width, image.height, image.code().0), (320, 192, id_of(&s.path)));
    assert_eq!(Image::open(&s.path).height, 192);
    // Larger: made to fit.
    setup.control("resize=640x480");
    until("the configured size again", || (r.status()["frame"]["height"] == 240).then_some(()));
    assert!(r.log().contains("The source sends 640x480; it is made to fit"));
    let s = said::single(&r.ask("save png"));
    let image = Image::open(&s.path);
    assert_eq!((image.width, image.height), (320, 240));
    assert_eq!(image.enlarged(2).code().0, id_of(&s.path));
    setup.control("lux=400");
    r.until_more_frames(3);
    let s = said::single(&r.ask("save png"));
    assert_eq!(Image::open(&s.path).code().0, id_of(&s.path));
    let status = r.status();
    assert_eq!(
        (&status["state"], &status["ring"]["dropped"], &status["source"]["restarts"]),
        (&"RUNNING".into(), &0.into(), &0.into())
    );
}

/// The numbers of all frames in the ring, in order.
fn numbers_in_the_ring(r: &Running, allowed: f64) -> Vec<usize> {
    for n in r.names() {
        fs::remove_file(r.captures().join(n)).unwrap();
    }
    said::separate(&r.ask("pastStack npy"));
    let mut paths: Vec<_> = r.names().iter().map(|n| r.captures().join(n)).collect();
    paths.sort_by_key(|p| id_of(p));
    paths.iter().map(|p| number(&Image::open(p), allowed)).collect()
}

#[test]
fn a_video_file_runs_at_its_own_speed_for_ever_in_its_own_colours() {
    let kinds = possible();
    if kinds.is_empty() {
        println!("SKIP: no encoder for a video file here");
        return;
    }
    std::thread::scope(|s| {
        // One of video's limited range, one of JPEG's full range.
        for kind in [kinds[0], kinds[kinds.len() - 1]] {
            s.spawn(move || {
                let (_, pipeline, extension) = KINDS[kind];
                let setup = Setup::new("file").set("export.stack_dark_frames", false).set("export.save_before_s", 60.0);
                // A name that needs quoting where somebody forgets to.
                let file = setup.dir.join(format!("my video #1.{extension}"));
                let plain = setup.dir.join(format!("plain.{extension}"));
                video(kind, &plain);
                fs::rename(plain, &file).unwrap();
                let r = setup.set("camera.source", format!("file:{}", file.display())).start();
                let start = std::time::Instant::now();
                let first = r.newest_id().unwrap();
                r.until_frame(first + FRAMES as u64 + 12);
                let rate = (FRAMES + 12) as f64 / start.elapsed().as_secs_f64();
                assert!((5.0..14.0).contains(&rate), "{pipeline}: {rate} frames a second");
                let s = said::single(&r.ask("save jpg png"));
                let n = number(&Image::open(&s.path), 14.0);
                assert_eq!(number(&Image::open(&s.path.with_extension("png")), 12.0), n, "{pipeline}");
                // Without a jump but at the seam, where the video begins again; a busy machine may skip some.
                let numbers = numbers_in_the_ring(&r, 12.0);
                let steps: Vec<usize> = numbers.windows(2).map(|w| (w[1] + FRAMES - w[0]) % FRAMES).collect();
                let ones = steps.iter().filter(|s| **s == 1).count();
                assert!(ones * 10 >= steps.len() * 8, "{pipeline}: {numbers:?}");
                assert!(numbers.windows(2).any(|w| w[1] < w[0]), "{pipeline}: it does not begin again: {numbers:?}");
                let status = r.status();
                assert_eq!((&status["state"], &status["source"]["rebuilds"]), (&"RUNNING".into(), &0.into()), "{pipeline}");
            });
        }
    });
}

#[test]
fn a_missing_or_broken_file_is_tried_until_it_is_there() {
    let Some(&kind) = possible().first() else {
        println!("SKIP: no encoder for a video file here");
        return;
    };
    let setup = Setup::new("late").frameless();
    let file = setup.dir.join("late.video");
    let mut r = setup.clone().set("camera.source", format!("file:{}", file.display())).start();
    r.until_logged("Frames lost: open the video file ");
    assert_eq!(r.status()["state"], "LOST");
    assert_eq!(r.ask("pastStack jpg"), "NO_FRAMES");
    // Something that is no video.
    fs::write(&file, vec![7; 50_000]).unwrap();
    until("the broken file to be tried", || (r.log().matches("Frames lost: ").count() >= 2).then_some(()));
    let good = setup.dir.join("good.video");
    video(kind, &good);
    fs::rename(good, &file).unwrap();
    until("frames", || (r.status()["state"] == "RUNNING").then_some(()));
    let s = said::single(&r.ask("save png"));
    number(&Image::open(&s.path), 12.0);
    assert!(r.status()["source"]["rebuilds"].as_u64().unwrap() >= 2);
    r.expect_alive();
}

/// A network camera: serves JPEG pictures one after the other, until its line is cut.
struct NetworkCamera {
    port: u16,
    over: Arc<AtomicBool>,
    /// Cuts each connection while set.
    cut: Arc<AtomicBool>,
    /// Sends the same picture again and again while set.
    frozen: Arc<AtomicBool>,
    connections: Arc<AtomicUsize>,
    requests: Arc<Mutex<Vec<String>>>,
    thread: Option<JoinHandle<()>>,
}

impl NetworkCamera {
    fn new(port: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let flag = || Arc::new(AtomicBool::new(false));
        let (over, cut, frozen) = (flag(), flag(), flag());
        let (connections, requests) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(Vec::new())));
        let mut this = NetworkCamera {
            port,
            over: over.clone(),
            cut: cut.clone(),
            frozen: frozen.clone(),
            connections: connections.clone(),
            requests: requests.clone(),
            thread: None,
        };
        let thread = std::thread::spawn(move || {
            let pictures = jpegs();
            while !over.load(Ordering::Relaxed) {
                let Ok((client, _)) = listener.accept() else {
                    std::thread::sleep(Duration::from_millis(10));
                    continue;
                };
                connections.fetch_add(1, Ordering::Relaxed);
                let end = || over.load(Ordering::Relaxed) || cut.load(Ordering::Relaxed);
                // A client that has gone is no concern of the next one.
                let _ = serve(client, &pictures, &frozen, &requests, end);
            }
        });
        this.thread = Some(thread);
        this
    }
}

/// `multipart/x-mixed-replace`, as network cameras send it.
fn serve(
    mut client: TcpStream,
    pictures: &[Vec<u8>],
    frozen: &AtomicBool,
    requests: &Mutex<Vec<String>>,
    end: impl Fn() -> bool,
) -> std::io::Result<()> {
    client.set_nonblocking(false)?;
    client.set_read_timeout(Some(Duration::from_secs(5)))?;
    client.set_write_timeout(Some(Duration::from_secs(5)))?;
    let mut request = Vec::new();
    let mut byte = [0];
    while !request.ends_with(b"\r\n\r\n") && request.len() < 16_384 {
        client.read_exact(&mut byte)?;
        request.push(byte[0]);
    }
    requests.lock().unwrap().push(String::from_utf8_lossy(&request).into_owned());
    client.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: multipart/x-mixed-replace;boundary=next\r\nConnection: close\r\n\r\n")?;
    let mut n = 0;
    while !end() {
        let picture = &pictures[n % pictures.len()];
        write!(client, "--next\r\nContent-Type: image/jpeg\r\nContent-Length: {}\r\n\r\n", picture.len())?;
        client.write_all(picture)?;
        client.write_all(b"\r\n")?;
        n += usize::from(!frozen.load(Ordering::Relaxed));
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}

impl Drop for NetworkCamera {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn network_is_possible() -> bool {
    let possible = ["souphttpsrc", "jpegdec", "jpegenc"].iter().all(|e| pastcam::gst::has(e));
    if !possible {
        println!("SKIP: no elements for HTTP and JPEG here");
    }
    possible
}

#[test]
fn a_film_larger_than_the_camera_is_given_the_memory_that_it_takes() {
    let Some(kind) = possible().into_iter().find(|k| KINDS[*k].2 != "ogv") else {
        println!("SKIP: no elements for video files here");
        return;
    };
    let setup = Setup::new("large");
    let film = setup.dir.join("film");
    let line = format!(
        "videotestsrc num-buffers=10 ! video/x-raw,format=I420,width=3840,height=2160,framerate=10/1 ! queue ! {} ! filesink location={}",
        KINDS[kind].1.replace("x264enc", "x264enc speed-preset=ultrafast"),
        film.display()
    );
    pastcam::gst::init().unwrap();
    let pipeline = gst::parse::launch(&line).unwrap();
    pipeline.set_state(gst::State::Playing).unwrap();
    let ends = [gst::MessageType::Eos, gst::MessageType::Error];
    pipeline.bus().unwrap().timed_pop_filtered(gst::ClockTime::from_seconds(60), &ends).unwrap();
    pipeline.set_state(gst::State::Null).unwrap();
    let mut r = setup.set("camera.source", format!("file:{}", film.display())).start();
    let memory = &r.status()["memory"];
    assert!(memory["need_bytes"].as_u64().unwrap() > 30 * 3840 * 2160, "{memory}");
    // Beyond the first look at the memory.
    r.until_more_frames(35);
    r.expect_alive();
    let image = Image::open(&said::single(&r.ask("save png")).path);
    assert_eq!((image.width, image.height), (320, 240), "the ring keeps the configured size");
}

#[test]
fn a_network_camera_is_waited_for_and_found_again_and_its_password_is_kept() {
    if !network_is_possible() {
        return;
    }
    let port = free_port();
    let source = format!("http://operator:hunter2@127.0.0.1:{port}/stream.mjpg?key=hunter3");
    let setup = Setup::new("network").frameless().set("logging.level", "TRACE").set("logging.dir", "logs");
    let mut r = setup.set("camera.source", source).start();
    // Nobody is there at first.
    r.until_logged("Frames lost: ");
    let camera = NetworkCamera::new(port);
    assert_eq!(camera.port, port);
    until("frames", || (r.status()["state"] == "RUNNING").then_some(()));
    r.until_more_frames(5);
    let s = said::single(&r.ask("save jpg png"));
    let n = number(&Image::open(&s.path.with_extension("png")), 12.0);
    assert!(n < FRAMES);
    // The line is cut, then mended.
    let (losses, newest) = (r.log().matches("Frames lost: ").count(), r.newest_id().unwrap());
    camera.cut.store(true, Ordering::Relaxed);
    until("the loss to be noticed", || (r.log().matches("Frames lost: ").count() > losses).then_some(()));
    said::stacked(&r.ask("pastStack jpg before=0"));
    camera.cut.store(false, Ordering::Relaxed);
    until("frames again", || (r.newest_id()? > newest + 3 && r.status()["state"] == "RUNNING").then_some(()));
    let s = said::single(&r.ask("save png"));
    number(&Image::open(&s.path), 12.0);
    r.expect_alive();
    // The password went to the camera, and nowhere else.
    assert!(camera.requests.lock().unwrap().iter().any(|q| q.contains("key=hunter3")));
    let status = r.ask("status json");
    assert!(status.contains(&format!("http://127.0.0.1:{port}/stream.mjpg")), "{status}");
    let logs: String =
        names(&r.setup.dir.join("logs")).iter().map(|n| fs::read_to_string(r.setup.dir.join("logs").join(n)).unwrap()).collect();
    assert!(logs.contains("Frames lost: "));
    for text in [&status, &r.log(), &logs, &r.ask("status")] {
        assert!(!text.contains("hunter") && !text.contains("operator"), "{text}");
    }
}

#[test]
fn a_network_camera_that_repeats_one_picture_counts_as_lost() {
    if !network_is_possible() {
        return;
    }
    let camera = NetworkCamera::new(free_port());
    let source = format!("http://127.0.0.1:{}/", camera.port);
    let r = Setup::new("frozen").frameless().set("camera.source", source).set("camera.frozen_s", 1.0).start();
    until("frames", || (r.status()["state"] == "RUNNING").then_some(()));
    let before = camera.connections.load(Ordering::Relaxed);
    r.until_more_frames(15);
    assert_eq!(camera.connections.load(Ordering::Relaxed), before, "pictures that move are no loss");
    camera.frozen.store(true, Ordering::Relaxed);
    r.until_logged("one and the same picture for 1 s (camera.frozen_s)");
    camera.frozen.store(false, Ordering::Relaxed);
    until("another connection", || (camera.connections.load(Ordering::Relaxed) > before).then_some(()));
    until("frames again", || (r.status()["state"] == "RUNNING").then_some(()));
}

#[test]
fn a_network_camera_that_falls_silent_is_asked_again() {
    // It takes the connection and never says a word.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let source = format!("http://127.0.0.1:{}/", listener.local_addr().unwrap().port());
    let mut r = Setup::new("mute").frameless().set("camera.source", source).start();
    let first = listener.accept().unwrap();
    r.until_logged("Frames lost: ");
    assert!(["LOST", "STARTING"].contains(&r.status()["state"].as_str().unwrap()));
    let second = listener.accept().unwrap();
    drop((first, second));
    let start = std::time::Instant::now();
    assert_eq!(r.terminate().code(), Some(0));
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
}
