//! VLC, without a window: what it decodes of recordings and of the stream, read back from its raw pictures.
//!
//! Debian's VLC is built without the library that speaks RTSP (live555). There the test itself sets up the session and hands
//! VLC the packets with their description; a VLC with live555 (or `VLC_PLUGIN_PATH` naming one) does all of it.

use std::fs::{self, File};
use std::io::Read;
use std::net::UdpSocket;
use std::os::unix::fs::chown;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use crate::film::{SIZE, codes, decoded, has_ffmpeg};
use crate::harness::{Scratch, Setup, free_port, until};
use crate::night_viewers::{NIGHT, dark, patience};
use crate::recordings::for_each_kind;
use crate::viewers::{Rude, served};

/// `nobody`: VLC refuses to run as root.
const NOBODY: u32 = 65_534;

/// VLC at work in a folder of its own; killed when dropped.
struct Vlc {
    child: Child,
    dir: Scratch,
}

fn command(home: &Path) -> Command {
    let mut command = if nix::unistd::geteuid().is_root() {
        let mut as_nobody = Command::new("setpriv");
        as_nobody.args([format!("--reuid={NOBODY}"), format!("--regid={NOBODY}"), "--clear-groups".into(), "vlc".into()]);
        as_nobody
    } else {
        Command::new("vlc")
    };
    command.args(["-I", "dummy", "--no-audio"]).env("HOME", home).env("XDG_RUNTIME_DIR", home).stdin(Stdio::null());
    command
}

/// Whether VLC is installed (says so where it is not), and whether it speaks RTSP itself.
fn installed() -> Option<bool> {
    let home = home("vlc-list");
    let Ok(listed) = command(&home).arg("--list").output().map(|o| String::from_utf8_lossy(&o.stdout).into_owned()) else {
        println!("SKIP: vlc (vlc-bin, vlc-plugin-base) or setpriv is not installed");
        return None;
    };
    if !listed.contains("stream_out_transcode") {
        println!("SKIP: vlc does not run here or lacks vlc-plugin-base: {listed:.200}");
        return None;
    }
    Some(listed.contains("live555"))
}

/// A folder that VLC may write to.
fn home(word: &str) -> Scratch {
    let dir = Scratch::new(word);
    if nix::unistd::geteuid().is_root() {
        chown(&*dir, Some(NOBODY), Some(NOBODY)).unwrap();
    }
    dir
}

impl Vlc {
    /// Plays this to its end, if it has one, into a file of raw pictures.
    fn play(what: &str, how: &[&str]) -> Vlc {
        Vlc::play_from(home("vlc"), what, how)
    }

    fn play_from(dir: Scratch, what: &str, how: &[&str]) -> Vlc {
        let log = File::create(dir.join("log")).unwrap();
        let sink = format!("#transcode{{vcodec=I420}}:std{{access=file,mux=dummy,dst={}}}", dir.join("raw").display());
        let child = command(&dir)
            .args(how)
            .args(["--sout", &sink, "--play-and-exit", what, "vlc://quit"])
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        Vlc { child, dir }
    }

    /// Numbers and instants of the pictures so far, one of each run of the same.
    fn seen(&self) -> Vec<(u64, u64)> {
        let (w, h) = SIZE;
        let raw = fs::read(self.dir.join("raw")).unwrap_or_default();
        let luma: Vec<u8> = raw.chunks_exact(w * h * 3 / 2).flat_map(|p| &p[..w * h]).copied().collect();
        different(codes(&luma))
    }
}

impl Drop for Vlc {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- VLC said ---\n{}", fs::read_to_string(self.dir.join("log")).unwrap_or_default());
        }
    }
}

fn different(mut codes: Vec<(u64, u64)>) -> Vec<(u64, u64)> {
    codes.dedup_by_key(|c| c.0);
    codes
}

fn assert_plays(file: &Path) {
    let mut vlc = Vlc::play(file.to_str().unwrap(), &[]);
    until("VLC to reach the end of the file", || vlc.child.try_wait().unwrap());
    let seen = vlc.seen();
    assert!(seen.len() > 10 && seen.windows(2).all(|w| w[0].0 < w[1].0), "{seen:?}");
    assert!(file.to_string_lossy().contains(&format!("_f{:08}.", seen[0].0)), "{} begins with {}", file.display(), seen[0].0);
    if has_ffmpeg() {
        let all = different(decoded(file).0);
        println!("{}: {} of {} frames in VLC", file.display(), seen.len(), all.len());
        assert!(seen.iter().all(|s| all.contains(s)) && seen[0] == all[0] && seen.last() == all.last(), "{seen:?} of {all:?}");
        // On its way to raw pictures VLC drops those that lie closer together than a tenth of a second, as on a busy machine.
        let near = all.windows(2).filter(|w| w[1].1 - w[0].1 < 90_000).count();
        assert!(seen.len() + 2 * near >= all.len(), "{near} near their neighbour; {seen:?} of {all:?}");
    }
}

#[test]
fn vlc_shows_recordings_clips_and_mended_files() {
    if installed().is_none() {
        return;
    }
    for_each_kind(&Setup::new("vlc-files"), assert_plays);
}

/// A session over UDP or TCP whose packets go to a port on which VLC listens.
fn hand_over(url: &str, transport: &str, port: u16) -> Rude {
    let mut session = Rude::connect(url);
    assert!(session.ask("DESCRIBE", url, "Accept: application/sdp\r\n").contains(" 200 "));
    let way = match transport {
        "udp" => format!("RTP/AVP;unicast;client_port={port}-{}", port + 1),
        _ => "RTP/AVP/TCP;unicast;interleaved=0-1".into(),
    };
    assert!(session.ask("SETUP", &format!("{url}/stream=0"), &format!("Transport: {way}\r\n")).contains(" 200 "));
    assert!(session.ask("PLAY", url, "Range: npt=now-\r\n").contains(" 200 "));
    if transport == "tcp" {
        let mut from = session.socket.try_clone().unwrap();
        let to = UdpSocket::bind("127.0.0.1:0").unwrap();
        // Ends with the connection.
        std::thread::spawn(move || {
            let mut head = [0; 4];
            while from.read_exact(&mut head).is_ok() && head[0] == b'$' {
                let mut packet = vec![0; usize::from(u16::from_be_bytes([head[2], head[3]]))];
                if from.read_exact(&mut packet).is_err() {
                    return;
                }
                // Channel 1 is RTCP; before VLC listens there is nobody to take it.
                let _ = to.send_to(&packet, ("127.0.0.1", port + u16::from(head[1])));
            }
        });
    }
    session
}

/// VLC on its way to the stream, with the session where it does not hold that itself.
fn watch(url: &str, transport: &str, speaks_rtsp: bool) -> (Vlc, Option<Rude>) {
    if speaks_rtsp {
        let how: &[&str] = if transport == "tcp" { &["--rtsp-tcp"] } else { &[] };
        return (Vlc::play(url, how), None);
    }
    // RTP's port is even and RTCP's the next; free_port's are below those that the kernel gives out.
    let port = std::iter::repeat_with(free_port).find(|p| p % 2 == 0 && UdpSocket::bind(("127.0.0.1", p + 1)).is_ok()).unwrap();
    let dir = home("vlc-sdp");
    let sdp = dir.join("stream.sdp");
    let text = format!(
        "v=0\no=- 1 1 IN IP4 127.0.0.1\ns=-\nc=IN IP4 127.0.0.1\nt=0 0\nm=video {port} RTP/AVP 96\na=rtpmap:96 H264/90000\n"
    );
    fs::write(&sdp, text).unwrap();
    let vlc = Vlc::play_from(dir, sdp.to_str().unwrap(), &["--demux", "avformat"]);
    // Packets that come before it listens are lost to it.
    until("VLC to listen", || UdpSocket::bind(("127.0.0.1", port)).is_err().then_some(()));
    (vlc, Some(hand_over(url, transport, port)))
}

#[test]
fn vlc_shows_the_stream_over_udp_and_tcp() {
    let Some(speaks_rtsp) = installed() else { return };
    let (setup, url) = served("vlc-stream");
    // Where VLC joins late it waits for the next key frame.
    let r = setup.set("video.keyframe_s", 1.0).start();
    for transport in ["udp", "tcp"] {
        let (vlc, session) = watch(&url, transport, speaks_rtsp);
        let seen = until("40 pictures in VLC", || Some(vlc.seen()).filter(|s| s.len() >= 40));
        assert!(seen.windows(2).all(|w| w[0].0 < w[1].0 && w[0].1 < w[1].1), "{transport}: out of order: {seen:?}");
        let span = (seen[39].0 - seen[0].0 + 1) as usize;
        println!("{transport}: 40 of {span} frames, VLC {} RTSP itself", if speaks_rtsp { "speaks" } else { "does not speak" });
        // With live555 VLC sets its clock anew at the first sender report, 1.2 s after the start, and lets about ten pictures go; more
        // go where the machine is busy.
        assert!(span <= 80, "{transport}: 40 of {span} frames: {seen:?}");
        drop(vlc);
        // The relay holds the socket, too.
        drop(session.map(|s| s.socket.shutdown(std::net::Shutdown::Both)));
        until("VLC gone", || (r.status()["video"]["viewers"] == 0).then_some(()));
    }
}

#[test]
fn vlc_shows_a_picture_at_night_within_4_s() {
    let Some(speaks_rtsp) = installed() else { return };
    let (_r, url) = dark("vlc-night");
    for transport in ["udp", "tcp"] {
        let (vlc, _session) = watch(&url, transport, speaks_rtsp);
        let begun = Instant::now();
        let whole = u64::from(NIGHT.0 * NIGHT.1 * 3 / 2);
        until("a picture in VLC", || (fs::metadata(vlc.dir.join("raw")).ok()?.len() >= whole).then_some(()));
        println!("{transport}: a first picture after {:.1} s", begun.elapsed().as_secs_f64());
        assert!(begun.elapsed() < patience(), "{transport}: {:?}", begun.elapsed());
    }
}
