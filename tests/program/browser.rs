//! A browser plays recordings: Chromium without a window loads a page of this test, which plays the file and sends every
//! picture it draws back to the test's own little web server.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use pastcam::source::read_barcode;

use crate::film::SIZE;
use crate::harness::{PATIENCE, Scratch, Setup, until};
use crate::recordings::for_each_kind;

/// Plays the file once; each picture goes back as grey samples with the player's time. Then it leaps back to the middle.
const PAGE: &str = r#"<!doctype html><video id=v muted src=/film.mp4></video><script>
const v = document.getElementById("v"), c = document.createElement("canvas");
let waits = Promise.resolve(), leapt = false;
const say = (path, body) => { waits = waits.then(() => fetch(path, {method: "POST", body})); };
v.onerror = () => say("/error", v.error.code + " " + v.error.message);
function draw(now, meta) {
  c.width = v.videoWidth; c.height = v.videoHeight;
  const d = c.getContext("2d", {willReadFrequently: true});
  d.drawImage(v, 0, 0);
  const rgba = d.getImageData(0, 0, c.width, c.height).data, grey = new Uint8Array(rgba.length / 4);
  for (let i = 0; i < grey.length; i++) grey[i] = rgba[4 * i + 1];
  say(`/picture?${leapt ? "leap" : "play"}&${meta.mediaTime}&${v.currentTime}&${v.duration}&${c.width}x${c.height}`, grey);
  if (leapt) say("/done", ""); else v.requestVideoFrameCallback(draw);
}
v.requestVideoFrameCallback(draw);
v.onended = () => {
  leapt = true;
  v.requestVideoFrameCallback(draw);
  v.currentTime = v.duration / 2;
};
v.play().catch(e => say("/error", "play: " + e));
</script>"#;

/// A picture as the browser drew it.
#[derive(Debug)]
struct Drawn {
    leapt: bool,
    /// The picture's own time in the file, the player's time and the file's length (s).
    media: f64,
    current: f64,
    duration: f64,
    size: String,
    /// Number and instant (µs) of the frame.
    code: Option<(u64, u64)>,
}

#[derive(Default)]
struct Said {
    drawn: Vec<Drawn>,
    error: Option<String>,
    done: bool,
}

/// Serves the page and the file until the test ends; what the page says comes together in `Said`.
fn serve(file: &Path) -> (u16, Arc<Mutex<Said>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (bytes, said) = (Arc::new(fs::read(file).unwrap()), Arc::<Mutex<Said>>::default());
    let hears = said.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let (bytes, hears) = (bytes.clone(), hears.clone());
            // A browser closes connections as it likes.
            std::thread::spawn(move || drop(answer(stream, &bytes, &hears)));
        }
    });
    (port, said)
}

fn answer(mut stream: TcpStream, film: &[u8], said: &Mutex<Said>) -> std::io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut from = BufReader::new(stream.try_clone()?);
    let head: Vec<String> = from.by_ref().lines().map_while(Result::ok).take_while(|l| !l.is_empty()).collect();
    let path = head.first().and_then(|l| l.split(' ').nth(1)).unwrap_or_default().to_owned();
    let field = |name: &str| head.iter().find_map(|l| l.to_ascii_lowercase().strip_prefix(name).map(str::to_owned));
    let length = field("content-length: ").and_then(|n| n.parse().ok()).unwrap_or(0usize);
    let mut body = vec![0; length];
    from.read_exact(&mut body)?;
    let (mut status, mut more, mut content) = ("200 OK", String::new(), Vec::new());
    match path.as_str() {
        "/" => content = PAGE.as_bytes().to_vec(),
        "/film.mp4" => {
            let range = field("range: bytes=").unwrap_or_default();
            let (begin, end) = range.split_once('-').unwrap_or_default();
            let begin: usize = begin.parse().unwrap_or(0).min(film.len());
            let end = end.parse().map_or(film.len(), |last: usize| last + 1).clamp(begin, film.len());
            if !range.is_empty() {
                status = "206 Partial Content";
                more = format!("Content-Range: bytes {begin}-{}/{}\r\n", end.saturating_sub(1), film.len());
            }
            content = film[begin..end].to_vec();
        }
        "/error" => said.lock().unwrap().error = Some(String::from_utf8_lossy(&body).into_owned()),
        "/done" => said.lock().unwrap().done = true,
        _ => match path.strip_prefix("/picture?").map(|q| q.split('&').collect::<Vec<_>>()).as_deref() {
            Some([way, media, current, duration, size]) => {
                let (w, h) = SIZE;
                let code = (body.len() == w * h).then(|| read_barcode(&body, w, w, h, false)).flatten();
                let number = |s: &str| s.parse().unwrap_or(f64::NAN);
                said.lock().unwrap().drawn.push(Drawn {
                    leapt: *way == "leap",
                    media: number(media),
                    current: number(current),
                    duration: number(duration),
                    size: (*size).to_owned(),
                    code,
                });
            }
            _ => status = "404 Not Found",
        },
    }
    let kind = if path == "/film.mp4" { "video/mp4" } else { "text/html" };
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nAccept-Ranges: bytes\r\n{more}Connection: close\r\n\r\n",
        content.len()
    )?;
    stream.write_all(&content)
}

/// Chromium in a profile of its own; killed, with its children, when dropped.
struct Browser {
    child: Child,
    profile: Scratch,
}

impl Browser {
    fn open(url: &str) -> Browser {
        use std::os::unix::process::CommandExt;
        let profile = Scratch::new("browser");
        let log = fs::File::create(profile.join("log")).unwrap();
        let child = Command::new("chromium")
            .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"])
            .args(["--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage"])
            .args(["--autoplay-policy=no-user-gesture-required", "--remote-debugging-port=0"])
            .arg(format!("--user-data-dir={}", profile.display()))
            .arg(url)
            .env("HOME", &*profile)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .process_group(0)
            .spawn()
            .unwrap();
        Browser { child, profile }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let group = nix::unistd::Pid::from_raw(self.child.id() as i32);
        let _ = nix::sys::signal::killpg(group, nix::sys::signal::Signal::SIGKILL);
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- chromium said ---\n{}", fs::read_to_string(self.profile.join("log")).unwrap_or_default());
        }
    }
}

/// Plays a file whose first frame is in its name; what the browser drew.
fn assert_plays(file: &Path) {
    let (port, said) = serve(file);
    let _browser = Browser::open(&format!("http://127.0.0.1:{port}/"));
    until("the browser to play the file and to leap", || {
        let said = said.lock().unwrap();
        assert_eq!(said.error, None, "{}", file.display());
        said.done.then_some(())
    });
    let drawn = std::mem::take(&mut said.lock().unwrap().drawn);
    let (played, leapt): (Vec<&Drawn>, Vec<&Drawn>) = drawn.iter().partition(|d| !d.leapt);
    let length = played[0].duration;
    let first: u64 = file.to_string_lossy().split("_f").nth(1).and_then(|r| r.split('.').next()?.parse().ok()).unwrap();
    println!("{} of {length} s: {} pictures drawn", file.display(), played.len());
    assert!(played[0].code.is_some_and(|c| (first..first + 5).contains(&c.0)), "{:?}, the first is {first}", played[0]);
    // The time in the file less the frame's own is the same for all, and more for a frame that was sent again.
    let offsets: Vec<f64> =
        drawn.iter().map(|d| d.media - d.code.unwrap_or_else(|| panic!("no code in {d:?}")).1 as f64 / 1e6).collect();
    let lowest = offsets.iter().copied().fold(f64::INFINITY, f64::min);
    let exact = offsets.iter().filter(|o| **o - lowest < 0.002).count();
    assert!(exact * 5 >= drawn.len() * 4, "{exact} of {}: {drawn:?}", drawn.len());
    for d in &drawn {
        assert_eq!(d.size, format!("{}x{}", SIZE.0, SIZE.1));
    }
    // A busy browser leaves pictures out, but not most of them.
    assert!(played.len() as f64 >= length * 10.0 / 3.0, "{played:?}");
    assert!(played.windows(2).all(|w| w[0].media <= w[1].media && w[0].current <= w[1].current), "{played:?}");
    assert!(played.last().unwrap().current > length * 0.6, "{played:?}");
    assert!((leapt[0].media - length / 2.0).abs() < 0.5, "{leapt:?}");
}

#[test]
fn a_browser_plays_recordings_clips_and_mended_files() {
    if Command::new("chromium").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_err() {
        println!("SKIP: chromium is not installed");
        return;
    }
    for_each_kind(&Setup::new("browser"), assert_plays);
}
