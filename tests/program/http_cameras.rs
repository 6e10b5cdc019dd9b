//! Cameras over HTTP as they are: careless with headers, lengths and boundaries, that fail for a moment, close when they like, want a
//! login, send elsewhere, or never end. What costs a picture, what costs the connection, and what is said.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, LazyLock, Mutex};
use std::thread::JoinHandle;

use gstreamer::glib;
use gstreamer::prelude::*;
use gstreamer_app::AppSink;

use crate::harness::{Running, Setup, until};
use crate::image::Image;
use crate::said;

/// Answers a request, the `n`th of all; false closes the connection.
type Answer = dyn Fn(&mut TcpStream, &str, usize) -> std::io::Result<bool> + Send + Sync;

/// A camera that speaks HTTP, as it is told to.
struct HttpCamera {
    port: u16,
    connections: Arc<AtomicUsize>,
    /// Heads of the requests.
    requests: Arc<Mutex<Vec<String>>>,
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl HttpCamera {
    fn new(answer: impl Fn(&mut TcpStream, &str, usize) -> std::io::Result<bool> + Send + Sync + 'static) -> HttpCamera {
        let answer: Arc<Answer> = Arc::new(answer);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let over = Arc::new(AtomicBool::new(false));
        let (connections, requests): (Arc<AtomicUsize>, Arc<Mutex<Vec<String>>>) = Default::default();
        let (end, count, heads) = (over.clone(), connections.clone(), requests.clone());
        let thread = std::thread::spawn(move || {
            while let Ok((client, _)) = listener.accept() {
                if end.load(Relaxed) {
                    return;
                }
                count.fetch_add(1, Relaxed);
                let (answer, heads) = (answer.clone(), heads.clone());
                // Ends with its client, which is a program that is killed.
                std::thread::spawn(move || serve(client, &*answer, &heads));
            }
        });
        HttpCamera { port, connections, requests, over, thread: Some(thread) }
    }

    fn url(&self, login: &str) -> String {
        format!("http://{login}127.0.0.1:{}/camera/picture", self.port)
    }

    fn connections(&self) -> usize {
        self.connections.load(Relaxed)
    }

    fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

impl Drop for HttpCamera {
    fn drop(&mut self) {
        self.over.store(true, Relaxed);
        let _ = TcpStream::connect(("127.0.0.1", self.port));
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn serve(mut client: TcpStream, answer: &Answer, heads: &Mutex<Vec<String>>) -> std::io::Result<()> {
    client.set_nodelay(true)?;
    loop {
        let (mut head, mut byte) = (Vec::new(), [0]);
        while !head.ends_with(b"\r\n\r\n") {
            client.read_exact(&mut byte)?;
            head.push(byte[0]);
        }
        let head = String::from_utf8_lossy(&head).into_owned();
        let n = {
            let mut heads = heads.lock().unwrap();
            heads.push(head.clone());
            heads.len() - 1
        };
        if !answer(&mut client, &head, n)? {
            return Ok(());
        }
    }
}

/// White pictures of 320×240, ten a second, encoded.
fn white(pictures: u32, encoder: &str) -> Vec<u8> {
    pastcam::gst::init().unwrap();
    let line = format!(
        "videotestsrc num-buffers={pictures} pattern=white ! video/x-raw,format=I420,width=320,height=240,framerate=10/1 \
         ! {encoder} ! appsink name=out sync=false max-buffers=0"
    );
    let pipeline = gstreamer::parse::launch(&line).unwrap().downcast::<gstreamer::Pipeline>().unwrap();
    let out = pipeline.by_name("out").unwrap().downcast::<AppSink>().unwrap();
    pipeline.set_state(gstreamer::State::Playing).unwrap();
    let mut bytes = Vec::new();
    while let Ok(sample) = out.pull_sample() {
        bytes.extend_from_slice(&sample.buffer().unwrap().map_readable().unwrap());
    }
    pipeline.set_state(gstreamer::State::Null).unwrap();
    bytes
}

/// One as JPEG: what is missing of it shows as grey.
static WHITE: LazyLock<Vec<u8>> = LazyLock::new(|| white(1, "jpegenc"));

/// Sends a whole answer.
fn send(client: &mut TcpStream, status: &str, content: &str, body: &[u8]) -> std::io::Result<bool> {
    let head = format!("HTTP/1.1 {status}\r\nContent-Type: {content}\r\nContent-Length: {}\r\n\r\n", body.len());
    client.write_all(&[head.as_bytes(), body].concat())?;
    Ok(true)
}

fn still(client: &mut TcpStream) -> std::io::Result<bool> {
    send(client, "200 OK", "image/jpeg", &WHITE)
}

fn watching(word: &str, url: String, fps: f64) -> Running {
    Setup::new(word).frameless().set("camera.source", url).set("camera.framerate", fps).start()
}

fn possible() -> bool {
    let possible = ["souphttpsrc", "jpegdec", "jpegenc"].iter().all(|e| pastcam::gst::has(e));
    if !possible {
        println!("SKIP: no elements for HTTP and JPEG here");
    }
    possible
}

/// That one frame in so many was lost, as of the answer's newest.
fn lost_one_in(n: u64, status: &serde_json::Value) {
    let (lost, id) = (status["source"]["lost"].as_u64().unwrap(), status["frame"]["id"].as_u64().unwrap());
    assert!(lost.abs_diff(id / n) <= 2 + id / 20, "{lost} of {id}");
}

/// Not one frame of the last has anything grey in it.
fn all_white(r: &Running) {
    let image = Image::open(&said::stacked(&r.ask("pastStack png before=0")).path);
    let darkest = image.luma().into_iter().min().unwrap();
    assert!(darkest > 225, "{darkest}");
}

#[test]
fn a_bad_answer_costs_its_picture_and_no_more() {
    if !possible() {
        return;
    }
    let camera = HttpCamera::new(|client, head, n| match n % 6 {
        _ if head.contains("Range:") => send(client, "416 No", "text/plain", b""),
        1 => match n / 6 % 6 {
            0 => send(client, "503 Busy", "text/plain", b"busy"),
            1 => send(client, "200 OK", "image/jpeg", b""),
            2 => send(client, "200 OK", "text/html", b"<html>Please wait</html>"),
            3 => send(client, "200 OK", "image/jpeg", &WHITE[..WHITE.len() / 2]),
            4 => {
                client.write_all(b"HTTP/1.0 200 OK\r\n\r\n")?;
                client.write_all(&WHITE[..WHITE.len() * 3 / 4])?;
                Ok(false)
            }
            _ => {
                client.write_all(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", WHITE.len()).as_bytes())?;
                client.write_all(&WHITE[..WHITE.len() * 3 / 4])?;
                Ok(false)
            }
        },
        _ => still(client),
    });
    let r = watching("bad answers", camera.url(""), 30.0);
    r.until_frame(80);
    let status = r.status();
    lost_one_in(6, &status);
    assert_eq!((&status["source"]["rebuilds"], &status["state"]), (&0.into(), &"RUNNING".into()));
    assert!(!r.log().contains("Frames lost: "), "{}", r.log());
    all_white(&r);
}

/// A segment of a JPEG file.
fn segment(code: u8, payload: &[u8]) -> Vec<u8> {
    [&[0xff, code], &(payload.len() as u16 + 2).to_be_bytes()[..], payload].concat()
}

#[test]
fn a_camera_that_never_gives_a_picture_is_lost_with_the_reason() {
    if !possible() {
        return;
    }
    let sof = |code, w: u16, h: u16| {
        let ([h1, h0], [w1, w0]) = (h.to_be_bytes(), w.to_be_bytes());
        segment(code, &[8, h1, h0, w1, w0, 1, 1, 0x11, 0])
    };
    let scan = segment(0xda, &[1, 1, 0, 0, 0x3f, 0]);
    let large = [&[0xff, 0xd8][..], &sof(0xc0, 40_000, 40_000), &scan, &[0xff, 0xd9]].concat();
    let scans = [&[0xff, 0xd8][..], &sof(0xc2, 320, 240), &scan.repeat(3000), &[0xff, 0xd9]].concat();
    // 40000×40000 as well, with nothing in it.
    let chunk = |kind: &[u8], data: &[u8]| [&(data.len() as u32).to_be_bytes()[..], kind, data, &[0; 4]].concat();
    let header = chunk(b"IHDR", b"\0\0\x9c\x40\0\0\x9c\x40\x08\x02\0\0\0");
    let png = [b"\x89PNG\r\n\x1a\n".as_slice(), &header, &chunk(b"IDAT", &[0; 64]), &chunk(b"IEND", &[])].concat();
    for (status, content, body, said) in [
        ("404 No", "text/html", vec![], "the camera has nothing at this address (404); correct the path in camera.source"),
        ("503 No", "text/html", vec![], "the camera serves nobody else now (503)"),
        ("403 No", "text/html", vec![], "the camera forbids this (403)"),
        ("302 No\r\nLocation: ?again", "", vec![], "the camera sends elsewhere (302)"),
        ("200 OK", "text/html; charset=x", b"<html>Log in</html>".to_vec(), "the camera sends text/html and no JPEG picture"),
        ("200 OK", "image/jpeg", vec![], "the camera sends an empty answer"),
        ("200 OK", "application/octet-stream", png.clone(), "pictures of 40000x40000, and at most 8847360 pixels are taken"),
        ("200 OK", "image/png", png, "the camera sends image/png and no JPEG picture"),
        ("200 OK", "image/jpeg", WHITE[..999].to_vec(), "the camera sends pictures that break off before their end mark"),
        ("200 OK", "image/jpeg", large, "the camera sends pictures of 40000x40000, and at most 8847360 pixels are taken"),
        ("200 OK", "image/jpeg", scans, "the camera sends a picture of more than 100 scans"),
        ("200 OK", "image/jpeg", vec![], ""),
    ] {
        let endless = said.is_empty();
        let said = if endless { "the camera sends a picture that does not end within 1202176 bytes" } else { said };
        let camera = HttpCamera::new(move |client, _, _| {
            if endless {
                client.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\n\r\n")?;
                client.write_all(&WHITE[..WHITE.len() / 2])?;
                let more = vec![0x55; 65_536];
                loop {
                    client.write_all(&more)?;
                }
            }
            send(client, status, content, &body)
        });
        let mut r = watching("refused", camera.url(""), 10.0);
        r.until_logged(&format!("Frames lost: http://127.0.0.1:{}/camera/picture: {said}", camera.port));
        assert_eq!(r.terminate().code(), Some(0), "{said}");
    }
}

/// Ways of careless servers.
const STYLES: usize = 14;

/// A body of six pictures as one careless server or another sends it.
fn parts(style: usize) -> (&'static str, Vec<u8>) {
    let typed =
        |kind: &str, length: usize| format!("--next\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\r\n").into_bytes();
    let n = WHITE.len();
    let usual = "HTTP/1.1 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary=next\r\n\r\n";
    let (head, ahead, part, behind): (&str, &str, Vec<u8>, &str) = match style {
        0 => (usual, "", typed("image/jpg", n), "\r\n"),
        1 => (usual, "", typed("image/pjpeg", n), "\r\n"),
        2 => (usual, "", typed("application/octet-stream", n), "\r\n"),
        3 => (usual, "Hello.\r\nThis is a camera.\r\n", b"--next\r\n\r\n".to_vec(), "\r\n"),
        4 => (usual, "", typed("image/jpeg", n / 2), "\r\n"),
        5 => (usual, "", typed("image/jpeg", n * 2), "\r\n"),
        6 => (usual, "", typed("image/jpeg", 99_999_999_999_999), "\r\n"),
        7 => (usual, "", b"next\nContent-Length: nonsense\n\n".to_vec(), "\n"),
        8 => (usual, "", vec![], "\r\n--next\r\nContent-Type: image/jpeg\r\n\r\n"),
        9 => ("HTTP/1.1 200 OK\r\nContent-Type: multipart/mixed; boundary=\"--next\"\r\n\r\n", "", typed("image/jpeg", n), ""),
        10 => ("HTTP/1.0 200 OK\r\nContent-Type: text/html\r\n\r\n", "", typed("image/jpeg", n), "\r\n"),
        11 => ("HTTP/1.0 200 OK\r\n\r\n", "", typed("image/jpeg", n), "\r\n"),
        12 => ("HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\n\r\n", "", vec![], ""),
        _ => (
            "HTTP/1.1 200 OK\r\nContent-Type: multipart/x-mixed-replace\r\nTransfer-Encoding: chunked\r\n\r\n",
            "",
            typed("image/jpeg", n),
            "\r\n",
        ),
    };
    let one = [&part, &WHITE[..], behind.as_bytes()].concat();
    let mut body = [ahead.as_bytes(), &one.repeat(6)].concat();
    if head.contains("chunked") {
        let chunk = |c: &[u8]| [format!("{:x}\r\n", c.len()).as_bytes(), c, b"\r\n"].concat();
        body = body.chunks(777).flat_map(chunk).chain(*b"0\r\n\r\n").collect();
    }
    (head, body)
}

#[test]
fn careless_mjpeg_plays_and_is_opened_again_at_once_when_it_ends() {
    if !possible() {
        return;
    }
    // Each connection in another style, six pictures at 25 a second and away.
    let camera = HttpCamera::new(|client, _, n| {
        let (head, body) = parts(n % STYLES);
        client.write_all(head.as_bytes())?;
        for piece in body.chunks(body.len().div_ceil(6)) {
            client.write_all(piece)?;
            std::thread::sleep(std::time::Duration::from_millis(40));
        }
        Ok(false)
    });
    let r = watching("careless", camera.url(""), 25.0);
    until("each style twice", || (camera.connections() > 2 * STYLES).then_some(()));
    let status = r.status();
    let frames = status["frame"]["id"].as_u64().unwrap() + 1;
    // The picture that was on its way when the connection closed, and what a busy machine thins out.
    assert!(frames >= 2 * 5 * STYLES as u64, "{frames} frames");
    assert_eq!((&status["source"]["lost"], &status["source"]["rebuilds"]), (&0.into(), &0.into()), "{}", r.log());
    assert!(!r.log().contains("Frames lost: "), "{}", r.log());
    all_white(&r);
}

#[test]
fn a_stream_that_closes_after_each_picture_keeps_the_cadence() {
    if !possible() {
        return;
    }
    let camera = HttpCamera::new(|client, _, n| {
        client.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary=next\r\n\r\n--next\r\n\r\n")?;
        // Every eighth is cut off.
        client.write_all(if n % 8 == 3 { &WHITE[..WHITE.len() / 2] } else { &WHITE })?;
        Ok(false)
    });
    let r = watching("one by one", camera.url(""), 25.0);
    r.until_frame(60);
    let status = r.status();
    lost_one_in(8, &status);
    // One connection for each picture; some may be on their way through the decoder.
    let (asked, frames) = (camera.connections() as u64, r.newest_id().unwrap() + 1);
    assert!(asked <= frames + 10, "{asked} connections for {frames} frames");
    assert_eq!((&status["source"]["rebuilds"], r.log().contains("Frames lost: ")), (&0.into(), false));
    all_white(&r);
}

#[test]
fn parts_that_are_cut_off_are_left_out_and_counted() {
    if !possible() {
        return;
    }
    let camera = HttpCamera::new(|client, _, _| {
        client.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary=next\r\n\r\n")?;
        for n in 0.. {
            let sent = if n % 4 == 3 { WHITE.len() / 2 } else { WHITE.len() };
            client.write_all(b"--next\r\nContent-Type: image/jpeg\r\n\r\n")?;
            client.write_all(&WHITE[..sent])?;
            client.write_all(b"\r\n")?;
            std::thread::sleep(std::time::Duration::from_millis(33));
        }
        Ok(false)
    });
    let r = watching("cut parts", camera.url(""), 30.0);
    r.until_frame(60);
    let status = r.status();
    lost_one_in(4, &status);
    assert_eq!((&status["source"]["rebuilds"], camera.connections()), (&0.into(), 1));
    all_white(&r);
}

/// Whether a request has the right answer to a digest challenge with this nonce.
fn answers(head: &str, nonce: &str) -> bool {
    let Some(given) = head.lines().find_map(|l| l.strip_prefix("Authorization: Digest ")) else { return false };
    let field = |name: &str| {
        let value = given.split(name).nth(1).and_then(|v| v.strip_prefix('=')).unwrap_or_default();
        value.trim_matches([',', ' ']).trim_start_matches('"').split(['"', ',']).next().unwrap_or_default().to_string()
    };
    let md5 = |text: String| glib::compute_checksum_for_string(glib::ChecksumType::Md5, &text).unwrap().to_string();
    let user = md5("operator:cam:hunter2".into());
    let what = md5(format!("GET:{}", head.split(' ').nth(1).unwrap()));
    let right = md5(format!("{user}:{nonce}:{}:{}:auth:{what}", field(" nc"), field("cnonce")));
    field(" response") == right && given.contains(&format!("\"{nonce}\""))
}

fn challenge(client: &mut TcpStream, nonce: &str) -> std::io::Result<bool> {
    let head = format!("401 No\r\nWWW-Authenticate: Digest realm=\"cam\", qop=\"auth\", nonce=\"{nonce}\"");
    send(client, &head, "text/plain", b"")
}

#[test]
fn stills_keep_their_connection_and_their_login() {
    if !possible() {
        return;
    }
    let camera = HttpCamera::new(|client, head, _| if answers(head, "n1") { still(client) } else { challenge(client, "n1") });
    let r = watching("kept", camera.url("operator:hunter2@"), 30.0);
    r.until_frame(44);
    let frames = r.newest_id().unwrap() as usize + 1;
    let refused = camera.requests().iter().filter(|h| !answers(h, "n1")).count();
    println!("{frames} frames, {} requests over {} connections", camera.requests().len(), camera.connections());
    assert_eq!((refused, camera.connections()), (1, 1));
    assert!(!(r.log() + &r.ask("status json")).contains("hunter"));
    drop(r);
    // A wrong one: one attempt, then a pause.
    let before = camera.requests().len();
    let r = watching("wrong", camera.url("operator:hunter3@"), 30.0);
    r.until_logged("the camera refuses this user or password (401); correct them in camera.source");
    assert_eq!(camera.requests()[before..].iter().filter(|h| h.contains("Authorization")).count(), 1);
}

#[test]
fn a_refused_request_costs_no_more_than_its_moment() {
    if !possible() {
        return;
    }
    // Each nonce holds for eight pictures, and the camera does not say that it is stale; now and then it forbids one.
    let given = Arc::new(AtomicUsize::new(0));
    let (count, changed) = (given.clone(), Arc::new(AtomicBool::new(false)));
    let gone = changed.clone();
    let camera = HttpCamera::new(move |client, head, n| {
        let nonce = format!("n{}", count.load(Relaxed) / 8);
        if n % 11 == 7 {
            return send(client, "403 No", "text/plain", b"");
        }
        if gone.load(Relaxed) || !answers(head, &nonce) {
            return challenge(client, &nonce);
        }
        count.fetch_add(1, Relaxed);
        still(client)
    });
    let r = watching("moments", camera.url("operator:hunter2@"), 30.0);
    until("60 pictures", || (given.load(Relaxed) >= 60).then_some(()));
    let source = &r.status()["source"];
    assert_eq!((&source["rebuilds"], r.log().contains("Frames lost: ")), (&0.into(), false), "{}", r.log());
    // Another password: two wrong logins, and a pause.
    let before = camera.requests().len();
    changed.store(true, Relaxed);
    r.until_logged("the camera refuses this user or password (401)");
    let wrong = camera.requests().iter().skip(before + 1).filter(|h| h.contains("Authorization")).count();
    assert!(wrong <= 3, "{wrong} wrong logins");
}

#[test]
fn a_camera_that_forbids_all_after_pictures_is_lost_with_that_reason() {
    if !possible() {
        return;
    }
    let camera = HttpCamera::new(|client, _, n| if n < 5 { still(client) } else { send(client, "403 No", "text/plain", b"") });
    let r = watching("forbidden", camera.url(""), 10.0);
    r.until_logged("Frames lost: http://127.0.0.1:");
    assert!(r.log().contains("the camera forbids this (403)") && r.log().contains("trying again in 10 s"), "{}", r.log());
    assert!(camera.requests().len() > 15, "asked again meanwhile");
}

#[test]
fn a_still_may_take_its_time_as_long_as_it_comes() {
    if !possible() {
        return;
    }
    // As slow as the capture's own patience allows for a camera of ten pictures a second, and slower.
    let camera = HttpCamera::new(|client, _, n| {
        client.write_all(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", WHITE.len()).as_bytes())?;
        for piece in WHITE.chunks(WHITE.len().div_ceil(8)) {
            if n == 0 {
                std::thread::sleep(std::time::Duration::from_millis(850));
            }
            client.write_all(piece)?;
        }
        Ok(true)
    });
    let r = watching("slow stills", camera.url(""), 10.0);
    r.until_frame(3);
    assert_eq!((&r.status()["source"]["rebuilds"], r.log().contains("Frames lost: ")), (&0.into(), false), "{}", r.log());
}

#[test]
fn a_stream_that_cannot_be_decoded_is_told_as_that() {
    if !possible() {
        return;
    }
    let camera = HttpCamera::new(|client, _, _| {
        client.write_all(b"HTTP/1.0 200 OK\r\nContent-Type: application/octet-stream\r\n\r\n")?;
        loop {
            client.write_all(&[1; 9_999])?;
        }
    });
    let r = watching("nonsense", camera.url(""), 10.0);
    r.until_logged("Frames lost: ");
    let log = r.log();
    assert!(log.contains("what it sends is no video that is known here") && !log.contains("no machine called"), "{log}");
}

#[test]
fn a_kept_connection_that_the_camera_closes_is_made_again_at_once() {
    if !possible() {
        return;
    }
    // It says that it keeps the connection, and closes it after five answers.
    let left = Arc::new(AtomicUsize::new(0));
    let camera = HttpCamera::new(move |client, _, _| {
        still(client)?;
        Ok(left.fetch_add(1, Relaxed) % 5 != 4)
    });
    let r = watching("closing", camera.url(""), 30.0);
    r.until_frame(60);
    let status = r.status();
    assert_eq!((&status["source"]["lost"], &status["source"]["rebuilds"]), (&0.into(), &0.into()), "{}", r.log());
    assert!(camera.connections() >= 12, "{}", camera.connections());
}

#[test]
fn redirects_are_followed_and_no_other_server_is_shown_the_login() {
    if !possible() {
        return;
    }
    let elsewhere = HttpCamera::new(|client, head, _| {
        if head.contains("/open") {
            still(client)
        } else {
            send(client, "401 No\r\nWWW-Authenticate: Basic realm=\"cam\"", "", b"")
        }
    });
    let port = elsewhere.port;
    for (status, to, wants) in [
        (301, "/other?key=1".to_string(), "Authorization: Basic"),
        (302, "other".to_string(), "Authorization: Basic"),
        (307, format!("http://127.0.0.1:{port}/open"), ""),
    ] {
        let camera = HttpCamera::new(move |client, head, n| match head.split(' ').nth(1) {
            Some("/camera/picture") => send(client, &format!("{status} Go\r\nLocation: {to}"), "", b""),
            _ if !head.contains(wants) => send(client, "401 No\r\nWWW-Authenticate: Basic realm=\"cam\"", "", b""),
            // What a redirect led to is gone now and then, and is asked for again at the first address.
            _ if n % 10 == 9 => send(client, "404 Gone", "", b""),
            _ => still(client),
        });
        let r = watching("redirect", camera.url("operator:hunter2@"), 30.0);
        r.until_frame(20);
        assert_eq!(r.status()["source"]["rebuilds"], 0, "{status}: {}", r.log());
    }
    let camera =
        HttpCamera::new(move |client, _, _| send(client, &format!("302 Go\r\nLocation: http://127.0.0.1:{port}/shut"), "", b""));
    let r = watching("away", camera.url("operator:hunter2@"), 30.0);
    r.until_logged("the camera sends to another server, which wants a login (401)");
    let seen = elsewhere.requests();
    assert!(seen.len() > 20 && seen.iter().all(|head| !head.contains("uthorization")), "{seen:?}");
}

#[test]
fn a_stream_in_a_container_comes_over_the_one_connection_that_a_server_may_have() {
    if !possible() || !pastcam::gst::has("matroskamux") {
        println!("SKIP: no elements for Matroska here");
        return;
    }
    let film = white(100, "jpegenc ! matroskamux streamable=true");
    let camera = HttpCamera::new(move |client, _, n| {
        if n == 0 {
            client.write_all(b"HTTP/1.0 200 OK\r\n\r\n")?;
            film.chunks(5000).try_for_each(|piece| client.write_all(piece))?;
        }
        Ok(false)
    });
    let r = watching("container", camera.url(""), 10.0);
    r.until_frame(20);
    assert_eq!((camera.connections(), r.status()["source"]["rebuilds"].as_u64()), (1, Some(0)), "{}", r.log());
    all_white(&r);
}
