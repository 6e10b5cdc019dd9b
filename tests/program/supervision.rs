//! What supervisors see: systemd's notification socket, a hardware watchdog, the exit codes for too much memory and for a
//! camera that does not come back.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::Path;

use crate::harness::{PATIENCE, Setup, until};

/// A network camera that is away holds nobody up: neither the boot nor the package's installation.
#[test]
fn a_network_camera_that_is_away_is_told_and_not_waited_for() {
    // A port where nobody listens.
    let away = format!("rtsp://me:secret@127.0.0.1:{}/1", crate::harness::free_port());
    let setup = Setup::new("away").set("camera.source", away).frameless();
    let socket = setup.dir.join("notify");
    let supervisor = Supervisor::new(&socket);
    let mut r = setup.env("NOTIFY_SOCKET", socket.to_str().unwrap()).env("WATCHDOG_USEC", "900000").start();
    let mut heard = Vec::new();
    until("the reason in STATUS=, and the watchdog fed", || {
        heard.extend(supervisor.heard());
        let told = heard.iter().position(|m| m.starts_with("STATUS=waiting for the camera rtsp://127.0.0.1:"))?;
        heard[told..].contains(&"WATCHDOG=1".to_string()).then_some(())
    });
    assert_eq!(heard[0], "READY=1");
    assert!(!heard.iter().any(|m| m.contains("secret")), "{heard:?}");
    r.expect_alive();
}

/// A socket as systemd would hold it.
pub struct Supervisor(UnixDatagram);

impl Supervisor {
    pub fn new(at: &Path) -> Self {
        let socket = UnixDatagram::bind(at).unwrap();
        socket.set_nonblocking(true).unwrap();
        Supervisor(socket)
    }

    /// What came since the last look.
    pub fn heard(&self) -> Vec<String> {
        let mut buffer = [0; 256];
        let mut all = Vec::new();
        while let Ok(n) = self.0.recv(&mut buffer) {
            all.push(String::from_utf8(buffer[..n].to_vec()).unwrap());
        }
        all
    }
}

#[test]
fn the_supervisor_hears_that_the_port_serves_and_is_fed_by_frames() {
    let setup = Setup::new("systemd").controlled("hang=1").frameless();
    let socket = setup.dir.join("notify");
    let supervisor = Supervisor::new(&socket);
    let setup = setup.env("NOTIFY_SOCKET", socket.to_str().unwrap()).env("WATCHDOG_USEC", "900000");
    let mut r = setup.start();
    // It has no frame, but it serves: nobody waits for a camera, and the watchdog is fed while one is waited for.
    let mut heard = Vec::new();
    let mut fed_and_told = |status: &str| {
        until(status, || {
            heard.extend(supervisor.heard());
            let fed = heard.iter().rev().take_while(|m| !m.starts_with("STATUS=")).filter(|m| *m == "WATCHDOG=1").count();
            let told = heard.iter().rev().find(|m| m.starts_with("STATUS="));
            (fed >= 3 && told.is_some_and(|t| t.starts_with(status))).then_some(())
        });
    };
    fed_and_told("STATUS=waiting for the first frame of pattern");
    assert_eq!(r.status()["state"], "STARTING");
    setup.control("fail=1");
    fed_and_told("STATUS=waiting for the camera pattern");
    setup.control("lux=400");
    fed_and_told("STATUS=frames come from pattern");
    assert_eq!(heard[0], "READY=1");
    assert!(heard.iter().any(|m| m.starts_with("STATUS=waiting for the camera") && m.contains("fail=1")), "{heard:?}");
    assert_eq!(heard.iter().filter(|m| *m == "READY=1").count(), 1);

    setup.control("hang=1");
    until("frames to stop", || (r.status()["frame"]["age_s"].as_f64()? > 0.7).then_some(()));
    supervisor.heard();
    until("more rounds without a frame", || (r.status()["frame"]["age_s"].as_f64()? > 2.2).then_some(()));
    assert!(!supervisor.heard().contains(&"WATCHDOG=1".to_string()), "the watchdog is fed without frames");
    // A camera that is lost and worked on is no reason for a new start, which would only lose the past.
    until("WATCHDOG=1 while the camera is brought back", || supervisor.heard().contains(&"WATCHDOG=1".to_string()).then_some(()));
    assert_eq!(r.status()["state"], "LOST");

    setup.control("lux=400");
    until("WATCHDOG=1 again", || supervisor.heard().contains(&"WATCHDOG=1".to_string()).then_some(()));
    assert_eq!(r.terminate().code(), Some(0));
    assert!(supervisor.heard().contains(&"STOPPING=1".to_string()));
}

#[test]
fn a_hardware_watchdog_is_fed_by_frames_and_let_go_at_the_end() {
    let setup = Setup::new("watchdog").controlled("lux=400");
    let device = setup.dir.join("watchdog");
    fs::write(&device, "").unwrap();
    let setup = setup.set("limits.watchdog_device", device.to_str().unwrap());
    let mut r = setup.start();
    let fed = || fs::read(&device).unwrap().len();
    until("three meals", || (fed() >= 3).then_some(()));
    setup.control("hang=1");
    until("frames to stop", || (r.status()["frame"]["age_s"].as_f64()? > 1.5).then_some(()));
    let before = fed();
    until("rounds without a frame", || (r.status()["frame"]["age_s"].as_f64()? > 3.5).then_some(()));
    assert_eq!(fed(), before);
    until("the loss of the camera", || (r.status()["state"] == "LOST").then_some(()));
    let before = fed();
    until("meals while it is being brought back", || (fed() > before).then_some(()));
    setup.control("lux=400");
    until("frames again", || (r.status()["state"] == "RUNNING").then_some(()));
    let before = fed();
    until("meals by them", || (fed() > before).then_some(()));
    assert_eq!(r.terminate().code(), Some(0));
    let all = fs::read(&device).unwrap();
    assert_eq!(all.last(), Some(&b'V'));
    assert!(all[..all.len() - 1].iter().all(|b| *b == 0));

    let (code, said) = Setup::new("no-watchdog").set("limits.watchdog_device", "/no/such/watchdog").end();
    assert!(code == 1 && said.contains("limits.watchdog_device") && said.contains("/no/such/watchdog"), "{code}: {said}");
    Setup::new("none-watchdog").set("limits.watchdog_device", "none").start();
}

#[test]
fn too_much_memory_ends_with_its_own_code_and_the_ring_does_not_count() {
    // The ring is larger than the limit; what is beyond it decides.
    let setup = Setup::new("memory").set("ring.size", 1200).set("limits.max_rss_mib", 120);
    let mut r = setup.start();
    until("a populated ring beyond the limit", || (r.status()["rss_bytes"].as_u64()? > 130 << 20).then_some(()));
    // The keeper looks at the memory every 3 s, first at once: these are two more looks at the populated ring.
    until("two more looks at the memory", || (r.status()["uptime_s"].as_f64()? > 7.0).then_some(()));
    r.expect_alive();
    drop(r);
    // The least limit there is, and pictures until the encoders have passed it.
    let mut r = Setup::new("memory-out")
        .set("camera.width", 1920)
        .set("camera.height", 1080)
        .set("ring.size", 10)
        .set("limits.max_rss_mib", 16)
        .spawn();
    let port = r.setup.port;
    let status = until("the end by memory", || {
        crate::client::try_ask(port, "pastStack jpg png npy count=8");
        r.ended_already()
    });
    assert_eq!(status.code(), Some(42));
    assert!(r.log().contains("limits.max_rss_mib 16"), "the reason is logged");
}

#[test]
fn the_limit_of_memory_follows_the_size_of_the_pictures() {
    let checked = |limit: u64| {
        let setup = Setup::new("large").set("camera.width", 4056).set("camera.height", 3040).set("ring.size", 4);
        let out = setup.set("limits.max_rss_mib", limit).command().arg("check-config").output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        (out.status.code(), text(&out.stdout), text(&out.stderr))
    };
    let (code, said, complaint) = checked(0);
    assert_eq!((code, complaint.as_str()), (Some(0), ""));
    let mib = |word: &str| {
        let rest = said.lines().find_map(|l| l.trim().strip_prefix(word)).unwrap_or_else(|| panic!("{word}: {said}"));
        rest.trim_start_matches([' ', ':']).split(' ').next().unwrap().parse::<f64>().unwrap()
    };
    let (need, limit) = (mib("Needed beside it"), mib("Limit beside it"));
    // A recording of this size took 402 MiB with everything else in use as well.
    assert!(need > 420.0 && (limit - 1.5 * need).abs() < 1.0, "{said}");
    let (code, _, complaint) = checked(400);
    assert!(code == Some(0) && complaint.contains("limits.max_rss_mib is 400, but with a recording"), "{complaint}");
    let (code, _, complaint) = checked(160);
    assert!(code == Some(1) && complaint.contains("limits.max_rss_mib is 160, but frames and pictures"), "{complaint}");

    let r = Setup::new("both").set("limits.max_rss_mib", 120).start();
    let memory = &r.status()["memory"];
    assert_eq!(memory["limit_bytes"], 120 << 20);
    assert!((40 << 20..80 << 20).contains(&memory["need_bytes"].as_u64().unwrap()), "{memory}");
}

#[test]
fn a_ring_that_leaves_no_memory_for_the_rest_is_warned_of() {
    let setup = Setup::new("all").set("ring.size", 1_000_000).set("ring.memory_percent", 100).set("ring.reserve_mib", 0);
    let out = setup.set("camera.width", 4056).set("camera.height", 3040).command().arg("check-config").output().unwrap();
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success() && said.contains("pastcam: The ring leaves ") && said.contains("lower ring.size"), "{said}");
}

#[test]
fn a_camera_that_throws_or_hangs_is_recovered_and_at_last_given_up() {
    let setup = Setup::new("ladder").controlled("lux=400");
    let mut r = setup.start();
    r.until_frame(5);
    // It throws once: stopped and started, and frames go on with their numbers.
    let before = r.newest_id().unwrap();
    setup.control("fail=1");
    r.until_logged("as its control file asked (fail=1)");
    setup.control("lux=400");
    until("frames again", || (r.status()["state"] == "RUNNING" && r.newest_id()? > before + 5).then_some(()));
    let status = r.status();
    assert!(status["source"]["restarts"].as_u64().unwrap() >= 1, "{status}");
    r.expect_alive();
    drop(r);

    // It falls silent: 5 s until that is a loss, restarted; again, made anew; again, the supervisor's turn.
    let mut r = setup.start();
    setup.control("hang=1");
    r.until_logged("no frame for 5.0 s");
    assert_eq!(r.status()["state"], "LOST");
    r.until_logged("the source is stopped and started");
    r.until_logged("the source is made anew");
    // It still answers, and the past is still there.
    crate::said::stacked(&r.ask("pastStack jpg"));
    // A moment named by the client that the camera has missed is refused, not replaced by another.
    assert!(r.ask("pastStack jpg before=0").starts_with("ERR past the ring has a gap there"));
    let status = r.ended(PATIENCE);
    assert_eq!(status.code(), Some(43));
    assert!(r.log().contains("leaving for the supervisor"));
}

#[test]
fn one_silence_that_ends_is_only_a_gap() {
    let setup = Setup::new("gap").controlled("lux=400");
    let mut r = setup.start();
    r.until_frame(3);
    setup.control("hang=1");
    r.until_logged("no frame for 5.0 s");
    setup.control("lux=400");
    let id = r.newest_id().unwrap();
    until("frames again", || (r.newest_id()? > id + 3).then_some(()));
    let asked = pastcam::clock::Clock::boot(&pastcam::clock::SystemClock).0;
    let s = crate::said::single(&r.ask("save png"));
    let (drawn, time) = crate::image::Image::open(&s.path).code();
    assert!(drawn == crate::said::id_of(&s.path) && time >= asked);
    until("the state to be well", || (r.status()["state"] == "RUNNING").then_some(()));
    r.expect_alive();
}
