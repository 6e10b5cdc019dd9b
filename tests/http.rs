//! A network camera that sends JPEG pictures over HTTP, as most old ones do: no frame rate, no times, one endless answer.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app::AppSink;

/// The program, killed when the test ends.
struct Program(Child);

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn jpegs() -> Vec<Vec<u8>> {
    pastcam::gst::init().unwrap();
    let line =
        "videotestsrc num-buffers=10 pattern=ball ! video/x-raw,width=320,height=240 ! jpegenc ! appsink name=out sync=false";
    let pipeline = gst::parse::launch(line).unwrap().downcast::<gst::Pipeline>().unwrap();
    let out = pipeline.by_name("out").unwrap().downcast::<AppSink>().unwrap();
    pipeline.set_state(gst::State::Playing).unwrap();
    let all: Vec<_> =
        std::iter::from_fn(|| Some(out.pull_sample().ok()?.buffer()?.map_readable().ok()?.as_slice().to_vec())).collect();
    pipeline.set_state(gst::State::Null).unwrap();
    all
}

/// Answers every request with pictures, 25 a second, until the client goes.
fn camera() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let jpegs = jpegs();
    assert_eq!(jpegs.len(), 10);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, jpegs) = (stream.unwrap(), jpegs.clone());
            std::thread::spawn(move || -> std::io::Result<()> {
                let mut head = BufReader::new(stream.try_clone()?);
                while head.by_ref().lines().next().is_some_and(|l| l.is_ok_and(|l| !l.is_empty())) {}
                stream.write_all(b"HTTP/1.0 200 OK\r\nContent-Type: multipart/x-mixed-replace;boundary=cut\r\n\r\n")?;
                for jpeg in jpegs.iter().cycle() {
                    write!(stream, "--cut\r\nContent-Type: image/jpeg\r\nContent-Length: {}\r\n\r\n", jpeg.len())?;
                    stream.write_all(jpeg)?;
                    stream.write_all(b"\r\n")?;
                    std::thread::sleep(Duration::from_millis(40));
                }
                Ok(())
            });
        }
    });
    port
}

fn ask(port: u16, line: &str) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.write_all(format!("{line}\n").as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer.trim_end().to_string())
}

#[test]
fn pictures_over_http_become_frames_at_the_wished_rate() {
    if !["souphttpsrc", "jpegdec"].into_iter().all(pastcam::gst::has) {
        println!("SKIP: gstreamer1.0-plugins-good is not whole");
        return;
    }
    let dir = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("http");
    // Left by a run before, if any.
    let _ = std::fs::remove_dir_all(&dir);
    std::fs::create_dir_all(&dir).unwrap();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let config = format!(
        r#"{{"camera": {{"width": 320, "height": 240, "framerate": 10}}, "ring": {{"size": 40}}, "logging": {{"dir": ""}},
            "export": {{"auto_save_interval_s": 0}}, "network": {{"trigger_port": {port}, "bind": ["127.0.0.1"]}}}}"#
    );
    std::fs::write(dir.join("config.json"), config).unwrap();
    let log = std::fs::File::create(dir.join("log")).unwrap();
    let source = format!("http://user:hidden@127.0.0.1:{}/video.mjpg?key=hidden", camera());
    let child = Command::new(env!("CARGO_BIN_EXE_pastcam"))
        .args(["--source", &source])
        .current_dir(&dir)
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .unwrap();
    let mut program = Program(child);
    let said = || std::fs::read_to_string(dir.join("log")).unwrap();
    let end = Instant::now() + Duration::from_secs(60);
    let status = loop {
        let status: serde_json::Value = ask(port, "status json").and_then(|s| serde_json::from_str(&s).ok()).unwrap_or_default();
        if status["ring"]["frames"].as_u64() == Some(40) {
            break status;
        }
        assert!(program.0.try_wait().unwrap().is_none(), "the program ended: {}", said());
        assert!(Instant::now() < end, "no frames: {}", said());
        std::thread::sleep(Duration::from_millis(50));
    };
    let fps = status["frame"]["fps"].as_f64().unwrap();
    assert!((7.0..13.0).contains(&fps), "{fps} frames a second of 25 sent and 10 wished: {}", said());
    assert_eq!(status["source"]["rebuilds"], 0, "{}", said());
    let answer = ask(port, "save png").unwrap();
    assert!(answer.starts_with("Saved single full-resolution image: "), "{answer}");
    assert!(!said().contains("hidden"), "{}", said());
    assert!(!said().contains("CRITICAL"), "GStreamer complains: {}", said());
}
