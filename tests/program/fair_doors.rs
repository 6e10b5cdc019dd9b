//! The RTSP port under clients that take what is not theirs: threads, places, descriptors, the log. Loopback has many addresses, so
//! one machine is many neighbours here.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream};
use std::process::Command;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrIn, bind, connect, socket};

use crate::harness::{Running, until};
use crate::viewers::{Rude, served, viewers};

/// Far less than a newcomer waited (15 s), far more than a busy machine needs.
const SOON: Duration = Duration::from_secs(6);
const DESCRIBE: &str = "Accept: application/sdp\r\n";

fn port(url: &str) -> u16 {
    url.split([':', '/']).nth(4).unwrap().parse().unwrap()
}

/// A connection from this neighbour, 127.0.0.N.
fn from(n: u8, url: &str) -> Rude {
    use std::os::fd::AsRawFd;
    let fd = socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).unwrap();
    let at = |ip: Ipv4Addr, port: u16| SockaddrIn::from(SocketAddrV4::new(ip, port));
    bind(fd.as_raw_fd(), &at(Ipv4Addr::new(127, 0, 0, n), 0)).unwrap();
    connect(fd.as_raw_fd(), &at(Ipv4Addr::LOCALHOST, port(url))).unwrap();
    Rude::over(TcpStream::from(fd), url)
}

/// How many lines of the log say this.
fn told(r: &Running, what: &str) -> usize {
    r.log().lines().filter(|l| l.contains(what)).count()
}

/// Until the other side has closed the connection.
fn until_closed(socket: &mut TcpStream) {
    let mut rest = [0; 4096];
    while matches!(socket.read(&mut rest), Ok(n) if n > 0) {}
}

/// Lines of a request that never ends, as fast as they are taken; ends when the connection is closed.
fn endless(mut rude: Rude) -> JoinHandle<()> {
    std::thread::spawn(move || {
        let lines = b"X-More: and more\r\n".repeat(4096);
        let _ = rude.socket.write_all(b"OPTIONS * RTSP/1.0\r\nCSeq: 7\r\n");
        while rude.socket.write_all(&lines).is_ok() {}
    })
}

#[test]
fn a_request_without_an_end_keeps_nobody_out() {
    let (setup, url) = served("endless");
    let r = setup.start();
    let mut endlesses: Vec<_> = (0..4).map(|_| endless(from(2, &url))).collect();
    // The same behind a request that is in order.
    for _ in 0..2 {
        let mut rude = from(3, &url);
        assert!(rude.ask("OPTIONS", &url, "").contains(" 200 "));
        endlesses.push(endless(rude));
    }
    let mut longest = Duration::ZERO;
    for n in 0..8 {
        let begun = Instant::now();
        let mut newcomer = from(10 + n, &url);
        assert!(newcomer.ask("OPTIONS", &url, "").contains(" 200 ") && newcomer.play().contains(" 200 "));
        longest = longest.max(begun.elapsed());
    }
    println!("a newcomer waited {:.1} s at most", longest.as_secs_f64());
    assert!(longest < SOON, "{longest:?}");
    for endless in endlesses {
        endless.join().unwrap();
    }
    assert!(told(&r, "without an end") <= 2, "{}", r.log());
}

#[test]
fn a_request_has_three_seconds() {
    let (setup, url) = served("slow-head");
    let _r = setup.start();
    let begun = Instant::now();
    let (mut silent, mut slow) = (from(2, &url), from(3, &url));
    let drip = std::thread::spawn(move || {
        for byte in b"OPTIONS * RTSP/1.0\r\nCSeq: 1\r\nX: ".iter().chain(std::iter::repeat(&b'x')) {
            if slow.socket.write_all(&[*byte]).is_err() {
                return;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    });
    until_closed(&mut silent.socket);
    drip.join().unwrap();
    assert!(begun.elapsed() > Duration::from_secs(2) && begun.elapsed() < 2 * SOON, "{:?}", begun.elapsed());
}

#[test]
fn one_connection_takes_two_places_and_one_address_makes_room_for_others() {
    let (setup, url) = served("places");
    let r = setup.set("rtsp.max_clients", 4).start();
    let track = format!("{url}/stream=0");
    let mut greedy = from(2, &url);
    assert!(greedy.ask("DESCRIBE", &url, DESCRIBE).contains(" 200 "));
    let taken = (0..10).filter(|k| {
        greedy.forget_session();
        let way = format!("Transport: RTP/AVP/TCP;unicast;interleaved={}-{}\r\n", 2 * k, 2 * k + 1);
        greedy.ask("SETUP", &track, &way).contains(" 200 ")
    });
    assert_eq!(taken.count(), 2);
    let mut more: Vec<Rude> = (0..2).map(|_| from(2, &url)).collect();
    assert!(more.iter_mut().all(|m| m.play().contains(" 200 ")) && viewers(&r) == 4);
    // Full, but not for others: each gets a place as long as the one has more.
    let mut others = Vec::new();
    for n in 3..5 {
        let mut newcomer = from(n, &url);
        let said = newcomer.play();
        assert!(said.contains(" 200 "), "neighbour {n}: {said}; {}", r.log());
        others.push(newcomer);
        until("no more than the limit", || (viewers(&r) <= 4).then_some(()));
    }
    assert!(from(2, &url).play().contains(" 503 "), "who has most gets no more");
    for other in &mut others {
        other.until_key_frame();
    }
    assert_eq!(told(&r, "leaves, so that"), 2, "{}", r.log());
}

#[test]
fn who_is_given_no_description_throws_nobody_out() {
    let (setup, url) = served("no-description");
    let login = ("door", "river42");
    let r = setup.set("rtsp.max_clients", 3).set("rtsp.user", login.0).set("rtsp.password", login.1).start();
    let known = |n: u8| from(n, &url).knowing(login);
    let mut watching: Vec<Rude> = (0..3).map(|_| known(1)).collect();
    assert!(watching.iter_mut().all(|v| v.play().contains(" 200 ")) && viewers(&r) == 3, "{}", r.log());
    // Without a login, and with one but for what is not there.
    assert!(from(3, &url).ask("DESCRIBE", &url, DESCRIBE).contains(" 401 "));
    assert!(known(4).ask("DESCRIBE", &url.replace("/stream", "/other"), DESCRIBE).contains(" 404 "));
    assert_eq!((viewers(&r), told(&r, "leaves, so that")), (3, 0), "{}", r.log());
    // Nor is a place kept for them.
    drop(watching.pop());
    until("a place", || (viewers(&r) == 2).then_some(()));
    assert!(from(3, &url).ask("DESCRIBE", &url, DESCRIBE).contains(" 401 "));
    let mut third = known(1);
    assert!(third.play().contains(" 200 "));
    // Who knows the login has a place.
    assert!(known(5).play().contains(" 200 "), "{}", r.log());
    assert_eq!(told(&r, "leaves, so that"), 1, "{}", r.log());
}

#[test]
fn wrong_logins_are_slowed_down_and_told_once() {
    let (setup, url) = served("guesses");
    let r = setup.set("rtsp.user", "door").set("rtsp.password", "river42").start();
    let wrong = "Authorization: Digest username=\"door\", realm=\"pastcam\", nonce=\"0\", uri=\"*\", response=\"0\"\r\n";
    let end = Instant::now() + Duration::from_secs(3);
    let guess = move |url: String| {
        let mut answers = 0;
        while Instant::now() < end {
            let mut rude = from(2, &url);
            let left = end.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
            rude.socket.set_read_timeout(Some(left)).unwrap();
            answers += u32::from(rude.ask("DESCRIBE", &url, &format!("{DESCRIBE}{wrong}")).contains(" 401 "));
        }
        answers
    };
    let guessers: Vec<_> = (0..4).map(|_| url.clone()).map(|url| std::thread::spawn(move || guess(url))).collect();
    let answers: u32 = guessers.into_iter().map(|g| g.join().unwrap()).sum();
    println!("{answers} guesses in 3 s");
    assert!((1..40).contains(&answers), "{answers} guesses in 3 s");
    let begun = Instant::now();
    assert!(from(3, &url).ask("DESCRIBE", &url, DESCRIBE).contains(" 401 "));
    assert!(begun.elapsed() < SOON, "another waits for the guesser");
    r.until_logged("127.0.0.2 sent a wrong user or password");
    assert_eq!(told(&r, "wrong user or password"), 1, "{}", r.log());
}

#[test]
fn strangers_are_told_once() {
    let (setup, url) = served("strangers-told");
    let r = setup.set("rtsp.allow", vec!["127.0.0.1"]).start();
    for _ in 0..100 {
        until_closed(&mut from(2, &url).socket);
    }
    until_closed(&mut from(3, &url).socket);
    r.until_logged("127.0.0.3 is not in rtsp.allow");
    assert_eq!(told(&r, "is not in rtsp.allow"), 2, "{}", r.log());
    assert!(from(1, &url).play().contains(" 200 "));
}

/// Processor time of the thread `rtsp` (ms).
fn rtsp_thread_ms(r: &Running) -> u64 {
    let tasks = std::fs::read_dir(format!("/proc/{}/task", r.pid())).unwrap().filter_map(|t| {
        let stat = std::fs::read_to_string(t.ok()?.path().join("stat")).ok()?;
        let fields: Vec<u64> = stat.rsplit_once(") ")?.1.split(' ').skip(11).take(2).map(|n| n.parse().unwrap()).collect();
        stat.contains("(rtsp)").then(|| fields.iter().sum::<u64>() * 10)
    });
    tasks.sum()
}

#[test]
fn a_port_without_descriptors_pauses() {
    let (setup, url) = served("descriptors");
    let r = setup.start();
    let limit = |n: &str| {
        let (pid, files) = (r.pid().to_string(), format!("--nofile={n}:4096"));
        Command::new("prlimit").args(["--pid", &pid, &files]).status().is_ok_and(|s| s.success())
    };
    let open = std::fs::read_dir(format!("/proc/{}/fd", r.pid())).unwrap().count();
    if !limit(&(open + 34).to_string()) {
        println!("SKIP: prlimit (util-linux) does not run here");
        return;
    }
    let crowd: Vec<Rude> = (0..8).map(|_| from(2, &url)).collect();
    r.until_logged("take connections");
    let (before, begun) = (rtsp_thread_ms(&r), Instant::now());
    std::thread::sleep(Duration::from_secs(1));
    let busy = (rtsp_thread_ms(&r) - before) as f64 / begun.elapsed().as_millis() as f64;
    assert!(busy < 0.3, "the thread is busy for {:.0} % of the time", 100.0 * busy);
    assert_eq!(told(&r, "take connections"), 1, "{}", r.log());
    drop(crowd);
    assert!(limit("1024"));
    assert!(from(3, &url).play().contains(" 200 "), "{}", r.log());
}

#[test]
fn two_thousand_connections_cost_little_and_others_are_served() {
    let (setup, url) = served("crowd");
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    if hard < 4096 {
        println!("SKIP: no more than {hard} descriptors may be open here");
        return;
    }
    setrlimit(Resource::RLIMIT_NOFILE, soft.max(4096), hard).unwrap();
    let mut r = setup.start();
    assert!(from(1, &url).play().contains(" 200 "));
    let rss = |r: &Running| r.status()["rss_bytes"].as_u64().unwrap();
    let before = rss(&r);
    // Half of them silent, half of them in the middle of a request.
    let crowd: Vec<Rude> = (0..2000)
        .map(|k| {
            let mut rude = from(2, &url);
            if k % 2 == 0 {
                let _ = rude.socket.write_all(b"DESCRIBE rtsp://");
            }
            rude
        })
        .collect();
    for n in 3..6 {
        let begun = Instant::now();
        let mut viewer = from(n, &url);
        assert!(viewer.play().contains(" 200 "));
        viewer.until_key_frame();
        assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
    }
    let grown = rss(&r).saturating_sub(before);
    println!("{} connections cost {} KiB", crowd.len(), grown >> 10);
    assert!(grown < 24 << 20, "{grown} bytes more");
    r.expect_alive();
}

#[test]
fn descriptions_alone_make_one_encoder() {
    let (setup, url) = served("descriptions");
    let r = setup.start();
    let mut answered = Vec::new();
    for _ in 0..10 {
        assert!(from(2, &url).ask("DESCRIBE", &url, DESCRIBE).contains(" 200 "));
        answered.push(Instant::now());
    }
    // The encoder is kept for 2 s; on a busy machine the next one may ask later.
    let late = answered.windows(2).filter(|w| w[1] - w[0] >= Duration::from_secs(2)).count();
    until("the encoder to end", || r.status()["video"]["encoder"].is_null().then_some(()));
    let made = told(&r, "Encoding ");
    assert!(made <= 2 + late, "{made} encoders, {late} late: {}", r.log());
}
