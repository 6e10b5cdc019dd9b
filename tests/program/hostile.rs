//! What nobody should send and no machine should meet: the program answers in words, or not at all, and goes on.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use crate::client::{self, exchange};
use crate::harness::{Setup, free_port, until};
use crate::said;

/// Bytes that look random and are the same in every run.
fn garbage(seed: u32, n: usize) -> Vec<u8> {
    let mut x = seed;
    (0..n)
        .map(|_| {
            x = x.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (x >> 24) as u8
        })
        .collect()
}

#[test]
fn garbage_runs_nothing_and_hurts_nobody() {
    let r = Setup::new("garbage").start();
    for seed in 0..60 {
        let answer = exchange(r.setup.port, &garbage(seed, 1 + seed as usize * 97), seed % 2 == 0);
        let lines: Vec<&[u8]> = answer.split_inclusive(|b| *b == b'\n').collect();
        assert!(lines.len() <= 1, "{:?}", String::from_utf8_lossy(&answer));
        for line in lines {
            let line = client::one_line(line);
            assert!(line == "UNKNOWN_COMMAND" || line.starts_with("ERR "), "{line}");
        }
    }
    for bytes in [
        &b"\xff\xfe\xfd\n"[..],
        b"s\xc3\xa4ve jpg\n",
        b"save\x01jpg\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"\0\0\0\0",
    ] {
        let answer = exchange(r.setup.port, bytes, true);
        assert_eq!(client::one_line(&answer), "UNKNOWN_COMMAND", "{bytes:?}");
    }
    assert_eq!(r.names(), [""; 0]);
    said::health(&r.ask("health"));
    r.until_more_frames(1);
}

#[test]
fn a_line_of_a_mebibyte_gets_one_error_and_no_prefix_of_it_runs() {
    let r = Setup::new("mebibyte").start();
    let mut line = b"save jpg ".to_vec();
    line.resize(1 << 20, b'x');
    line.extend_from_slice(b"\nsave jpg\n");
    let answer = exchange(r.setup.port, &line, false);
    assert_eq!(client::one_line(&answer), "ERR usage line longer than 1024 bytes");
    // Just short enough is a command, with words nobody knows.
    let mut line = b"save jpg ".to_vec();
    line.resize(1024, b'x');
    line.push(b'\n');
    said::single(&client::one_line(&exchange(r.setup.port, &line, false)));
    assert_eq!(r.names().len(), 2);
    // A megabyte without any end.
    let answer = exchange(r.setup.port, &vec![b'a'; 1 << 20], true);
    assert_eq!(client::one_line(&answer), "ERR usage line longer than 1024 bytes");
    assert!(r.status()["rss_beyond_ring_bytes"].as_u64().unwrap() < 64 << 20);
}

#[test]
fn a_web_page_takes_no_picture() {
    let r = Setup::new("http").start();
    let body = "save jpg\r\nsave jpg\r\n";
    for request in [
        "GET / HTTP/1.1\r\nHost: camera\r\n\r\n".to_string(),
        "GET /save HTTP/1.1\r\n\r\nsave jpg\r\n".to_string(),
        format!("POST / HTTP/1.1\r\nHost: camera\r\nContent-Length: {}\r\n\r\n{body}", body.len()),
        "save HTTP/1.1\r\nsave jpg\r\n".replace("save HTTP", "OPTIONS * HTTP"),
    ] {
        assert_eq!(exchange(r.setup.port, request.as_bytes(), false), b"UNKNOWN_COMMAND\n", "{request:?}");
    }
    assert_eq!(r.names(), [""; 0]);
}

#[test]
fn half_open_and_vanishing_clients_are_no_concern_of_others() {
    let r = Setup::new("half-open").start();
    // Half a command and then nothing: it is complete after a moment of silence, and the picture is taken.
    let mut half = client::connect(r.setup.port);
    half.write_all(b"save jp").unwrap();
    // A client that sends its command and is gone: the command is carried out all the same.
    let mut gone = client::connect(r.setup.port);
    gone.write_all(b"save png tag=gone\n").unwrap();
    drop(gone);
    until("the picture of the client that left", || r.names().iter().any(|n| n.ends_with("_gone.png")).then_some(()));
    let mut answer = Vec::new();
    half.read_to_end(&mut answer).unwrap();
    assert_eq!(client::one_line(&answer), "NOT_SAVED");
    // Closed without a byte: nothing is answered, nothing runs.
    for _ in 0..20 {
        drop(client::connect(r.setup.port));
    }
    // Sending half closed after a command without a line end: run and answer.
    assert_eq!(exchange(r.setup.port, b"ping", true), b"PONG\n");
    // A client that sends and never reads.
    let mut deaf = client::connect(r.setup.port);
    deaf.write_all(b"status json\n").unwrap();
    deaf.shutdown(Shutdown::Write).unwrap();
    said::health(&r.ask("health"));
    let files = r.names().len();
    assert_eq!(files, 1, "{:?}", r.names());
    // All of them are let go in the end, the deaf one while it is still here.
    until("the connections to end", || (r.status()["clients"] == 1).then_some(()));
}

#[test]
fn five_hundred_connections_at_once() {
    let r = Setup::new("crowd").start();
    // Silent ones first: they must not keep anybody out.
    let silent: Vec<TcpStream> = (0..500).map(|_| client::connect(r.setup.port)).collect();
    let mut worst = Duration::ZERO;
    for _ in 0..20 {
        let start = Instant::now();
        said::health(&r.ask("health"));
        worst = worst.max(start.elapsed());
    }
    assert!(worst < Duration::from_secs(2), "health took {worst:?} beside 500 silent clients");
    said::single(&r.ask("save jpg"));
    drop(silent);
    // Then all of them speak.
    let mut clients: Vec<TcpStream> = (0..500).map(|_| client::connect(r.setup.port)).collect();
    for c in &mut clients {
        // One that had to make room may have been closed by now.
        let _ = c.write_all(b"health\n");
    }
    let (mut served, mut busy, mut closed) = (0, 0, 0);
    for mut c in clients {
        let mut answer = Vec::new();
        let _ = c.read_to_end(&mut answer);
        match answer.as_slice() {
            [] => closed += 1,
            b if b.starts_with(b"ERR busy ") => busy += 1,
            b => {
                said::health(&client::one_line(b));
                served += 1;
            }
        }
    }
    println!("500 at once: {served} served, {busy} busy, {closed} made room");
    assert!(served >= 256, "{served} served, {busy} busy, {closed} closed");
    said::health(&r.ask("health"));
    let status = r.status();
    assert_eq!((&status["state"], &status["ring"]["dropped"]), (&"RUNNING".into(), &0.into()));
    until("the crowd to be gone", || (r.status()["clients"] == 1).then_some(()));
}

#[test]
fn clients_leave_the_rest_of_the_program_its_descriptors() {
    let setup =
        Setup::new("descriptors").set("rtsp.enable", true).set("rtsp.port", free_port()).set("rtsp.bind", vec!["127.0.0.1"]);
    drop(setup.command());
    let mut child = std::process::Command::new("sh")
        .args(["-c", "ulimit -n 150; exec \"$0\" --config config.json 2>/dev/null", env!("CARGO_BIN_EXE_pastcam")])
        .current_dir(&**setup.dir)
        .spawn()
        .unwrap();
    until("a picture", || client::try_ask(setup.port, "save jpg").filter(|a| a.starts_with("Saved ")));
    // Silent ones, and ones that never finish their line.
    let crowd = |n: u8| {
        let mut c = client::connect(setup.port);
        if n % 2 == 0 {
            let _ = c.write_all(b"s");
        }
        c
    };
    let _crowd: Vec<TcpStream> = (0..=250).map(crowd).collect();
    for _ in 0..5 {
        said::single(&client::ask(setup.port, "save jpg"));
    }
    assert!(client::ask(setup.port, "record start").starts_with("OK recording "));
    assert!(client::ask(setup.port, "record stop").starts_with("Saved recording: "));
    let open = std::fs::read_dir(format!("/proc/{}/fd", child.id())).unwrap().count();
    assert!(open < 150, "{open}");
    assert!(child.try_wait().unwrap().is_none());
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_hundred_silent_clients_change_no_answer() {
    let r = Setup::new("silent").start();
    let silent: Vec<TcpStream> = (0..100).map(|_| client::connect(r.setup.port)).collect();
    for _ in 0..10 {
        said::health(&r.ask("health"));
        said::single(&r.ask("save jpg"));
    }
    // Those of one address are capped at eight once they have been silent for a while.
    until("the silent ones to be capped", || (r.status()["clients"].as_u64()? <= 9).then_some(()));
    let alive = silent
        .iter()
        .filter(|s| {
            s.set_nonblocking(true).unwrap();
            matches!(s.peek(&mut [0]), Err(e) if e.kind() == std::io::ErrorKind::WouldBlock)
        })
        .count();
    assert!((1..=8).contains(&alive), "{alive} still connected");
}

#[test]
fn many_pictures_at_once_lose_no_frame_and_delay_no_health() {
    let r = Setup::new("load").start();
    r.until_frame(10);
    let before = r.status();
    let mut waits: Vec<Duration> = Vec::new();
    std::thread::scope(|s| {
        let hammer: Vec<_> = (0..8)
            .map(|_| {
                s.spawn(|| {
                    for _ in 0..6 {
                        said::stacked(&r.ask("pastStack png before=0.5"));
                    }
                })
            })
            .collect();
        while !hammer.iter().all(std::thread::ScopedJoinHandle::is_finished) {
            let start = Instant::now();
            said::health(&r.ask("health"));
            waits.push(start.elapsed());
        }
    });
    waits.sort_unstable();
    let median = waits[waits.len() / 2];
    println!("health beside eight hammering clients: median {median:?}, worst {:?} of {}", waits[waits.len() - 1], waits.len());
    assert!(median < Duration::from_millis(200));
    let after = r.status();
    assert_eq!(after["ring"]["dropped"], before["ring"]["dropped"]);
    assert_eq!(r.names().len(), 48);
}

#[test]
fn a_port_in_use_is_told_with_its_key() {
    let r = Setup::new("in-use").start();
    let second = Setup::new("in-use-too").set("network.trigger_port", r.setup.port);
    let (code, said) = second.end();
    assert_eq!(code, 1, "{said}");
    let last = said.lines().last().unwrap();
    assert!(
        last.contains(&format!("another program owns port {}", r.setup.port)) && last.contains("network.trigger_port"),
        "{last}"
    );
    for key in ["network.persistent_port", "network.udp_port"] {
        let taken = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let port = if key == "network.udp_port" { taken.local_addr().unwrap().port() } else { r.setup.port };
        let (code, said) = Setup::new("in-use-three").set(key, port).end();
        let last = said.lines().last().unwrap();
        assert!(code == 1 && last.contains(&format!("port {port}")) && last.contains(key), "{code}: {last}");
    }
    assert_eq!(r.ask("ping"), "PONG");
}

#[test]
fn what_is_no_plain_file_is_refused_and_the_port_opens() {
    use std::fs::{self, File};
    use std::path::Path;
    let pipe = |at: &Path| nix::unistd::mkfifo(at, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let endless = |at: &Path| std::os::unix::fs::symlink("/dev/zero", at).unwrap();
    let large = |at: &Path| File::create(at).unwrap().set_len(8 << 30).unwrap();
    for (make, why) in [
        (&pipe as &dyn Fn(&Path), "it is a named pipe and not a regular file"),
        (&endless, "it is a device and not a regular file"),
        (&large, "it is larger than 1048576 bytes"),
    ] {
        let setup = Setup::new("odd-files").set("logging.dir", "logs");
        let notes = setup.dir.join("notes");
        let setup = setup.set("status.notes_file", notes.to_str().unwrap());
        fs::create_dir(setup.captures()).unwrap();
        fs::create_dir(setup.dir.join("logs")).unwrap();
        let tuning = setup.captures().join("tuning.json");
        make(&tuning);
        make(&notes);
        pipe(&setup.dir.join("logs/camera_service.log"));
        let r = setup.start();
        r.until_logged(&format!("read captures/tuning.json; its controls are not applied: {why}"));
        r.until_logged("no log files: open camera_service.log in logs: ");
        assert_eq!(r.status()["notes"][0], format!("no notes: read {}: {why}", notes.display()));
        // It is put aside for the program's own.
        assert!(r.ask("set Brightness=0.1 persist").starts_with("OK "));
        assert!(fs::symlink_metadata(&tuning).unwrap().is_file() && tuning.with_extension("json.bad").exists());
        // The same as a configuration.
        let config = setup.dir.join("odd.json");
        make(&config);
        if why.contains("regular") {
            // As a video.
            drop(r);
            let mut r = setup.clone().set("camera.source", format!("file:{}", notes.display())).frameless().start();
            r.until_logged(&format!("open the video file {}: {why}", notes.display()));
            assert_eq!(r.terminate().code(), Some(0));
            assert!(!r.log().contains("Not everything ended in time"));
        }
        for option in ["--config", "--defaults"] {
            let mut command = setup.command();
            let out = command.args(["check-config", option]).arg(&config).output().unwrap();
            let said = String::from_utf8_lossy(&out.stderr);
            assert_eq!(said, format!("pastcam: read the configuration {}: {why}\n", config.display()));
        }
    }
}
