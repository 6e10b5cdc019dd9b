//! A panic in each kind of thread: the part comes back or the program ends, within seconds, and it is told. Debug builds fail
//! once where `PASTCAM_FAULT` says.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;

use nix::sys::signal::Signal;
use pastcam::threads::Thread;

use crate::client::{connect, try_ask};
use crate::encrypted::encrypted;
use crate::events::{event, subscribed};
use crate::film::has_ffmpeg;
use crate::harness::{PATIENCE, Running, Setup, until};
use crate::odd::{Odd, OddCamera};
use crate::recordings::films;
use crate::supervision::Supervisor;
use crate::viewers::served;
use crate::{said, slow_disk, sound};

/// The log's line of this panic.
fn told(r: &Running, name: &str) {
    r.until_logged(&format!("Panic in {name}: asked for by PASTCAM_FAULT="));
}

fn faulty(place: &str) -> Setup {
    Setup::new("panic").env("PASTCAM_FAULT", format!("panic:{place}"))
}

/// The command is answered with an error, and the next time done.
fn fails_once(r: &Running, command: &str, done: &str) {
    let answer = r.ask(command);
    assert!(answer.starts_with("ERR io "), "{command}: {answer}");
    let answer = r.ask(command);
    assert!(answer.starts_with(done), "{command}: {answer}");
}

#[test]
fn every_kind_of_thread_is_here() {
    // An encoder that fails, and a second processor, are not to be had everywhere.
    let elsewhere = ["video-end", "export-2"];
    for name in Thread::ALL.iter().map(|t| t.name()).filter(|n| !elsewhere.contains(n)) {
        let forced = ["start", "work"].map(|at| format!("{name}/{at}\""));
        assert!(forced.iter().any(|f| include_str!("panics.rs").contains(f)), "no test lets {name} panic");
    }
}

#[test]
fn pictures_fail_with_an_answer_and_the_next_are_saved() {
    let mut r = faulty("export-1/work").start();
    fails_once(&r, "save jpg", "Saved ");
    r.until_logged("Panic in picture on the thread export-1: asked for by PASTCAM_FAULT=panic:export-1/work (src/threads.rs:");
    until("nothing to wait", || (r.status()["jobs"] == 0).then_some(()));
    r.expect_alive();
    // Who waits for a frame is served by the shutter that comes after.
    for (place, name) in [("shutter/work", "shutter"), ("export-1/start", "export-1")] {
        let r = faulty(place).start();
        said::single(&r.ask("save jpg"));
        told(&r, name);
    }
}

#[test]
fn the_camera_s_thread_ends_the_program_and_its_sensor_comes_back() {
    let mut r = faulty("capture/work").spawn();
    assert_eq!(r.ended(PATIENCE).code(), Some(44));
    told(&r, "capture");
    assert!(r.log().contains("ends the program"));

    // `start` waits for a frame.
    let r = faulty("sensor/start").start();
    told(&r, "sensor");
    r.until_more_frames(3);
}

#[test]
fn a_relay_that_fails_costs_one_attempt_on_its_camera() {
    if !["x264enc", "rtph264pay", "rtph264depay", "h264parse", "avdec_h264"].iter().all(|e| pastcam::gst::has(e)) {
        println!("SKIP: no x264, parser or decoder of H.264 here");
        return;
    }
    let camera = OddCamera::new(Odd::NoChannels);
    let r = faulty("relay/start").set("camera.source", camera.url("")).frameless().start();
    told(&r, "relay");
    r.until_logged("Frames come");
}

#[test]
fn the_server_loses_its_clients_and_keeps_port_and_past() {
    let r = faulty("server/work").spawn();
    // The first client is lost.
    until("an answer", || try_ask(r.setup.port, "ping").filter(|a| a == "PONG"));
    told(&r, "server");
    r.until_frame(3);
    said::stacked(&r.ask("pastStack jpg"));
}

#[test]
fn what_runs_beside_the_camera_starts_again() {
    let setup = faulty("keeper/work").set("export.auto_save_interval_s", 1.0);
    let r = setup.start();
    told(&r, "keeper");
    until("a periodic picture", || r.names().iter().any(|n| n == "latest.jpg").then_some(()));
    drop(r);

    let mut r = faulty("log/work").start();
    told(&r, "log");
    assert_eq!(r.terminate().code(), Some(0));
    assert!(r.log().contains("Stopped"), "the log goes on");

    let r = faulty("warm-up/start").start();
    told(&r, "warm-up");
    r.until_logged("The ring is populated");

    let r = faulty("files/start").start();
    told(&r, "files");
    assert!(r.ask("files").starts_with("{\"ok\":true"));

    // Its second life reads the folder again.
    let r = faulty("retention/start").set("export.keep.jpg.max_bytes", 1).start();
    told(&r, "retention");
    said::single(&r.ask("save jpg"));
    until("only the newest picture", || {
        said::single(&r.ask("save jpg"));
        (r.names().iter().filter(|n| n.contains("_f")).count() <= 2).then_some(())
    });
    drop(r);

    let r = faulty("notes/start").start();
    told(&r, "notes");
    drop(r);

    let r = faulty("hot-pixels/work").start();
    told(&r, "hot-pixels");
    drop(r);

    let r = faulty("tuning/work").start();
    fails_once(&r, "set Brightness=0.1", "OK ");
    told(&r, "tuning");
}

#[test]
fn signals_are_still_heard() {
    let mut r = faulty("signals/work").start();
    r.signal(Signal::SIGHUP);
    told(&r, "signals");
    assert_eq!(r.terminate().code(), Some(0));

    let r = faulty("reload/work").start();
    r.signal(Signal::SIGHUP);
    told(&r, "reload");
    r.signal(Signal::SIGHUP);
    r.until_logged("The configuration was read again");
}

#[test]
fn nothing_but_itself_bounds_the_stop() {
    // Something must hang, or all else has ended before the panic is told.
    let Some((_dir, library)) = slow_disk::library() else { return };
    let setup = slow_disk::slow("panic-stop", &library).env("PASTCAM_FAULT", "panic:stop/start");
    let mut r = setup.start();
    let list = slow_disk::hanging_list(&setup, &r);
    assert_eq!(r.terminate().code(), Some(44));
    told(&r, "stop");
    let _ = list.join();
}

#[test]
fn a_recording_fails_with_an_answer_and_an_event_and_keeps_its_file() {
    let (r, mut s) = subscribed(faulty("recorder/work"));
    let answer = r.ask("record start");
    assert!(answer.starts_with("OK recording "), "{answer}");
    // The answer to `stop` comes after the panic, or there is nothing to stop any more.
    r.until_logged("Panic in record on the thread recorder: asked for by");
    assert!(event(&mut s, "EVENT failed=thread").starts_with("EVENT failed=thread name=record why="));
    let saved = event(&mut s, "EVENT saved=");
    let failed = event(&mut s, "EVENT failed=record");
    assert!(failed.contains(" kind=io ") && failed.contains("kept: "), "{failed}");
    assert_eq!(saved, format!("EVENT saved={}", films(&r)[0].display()));
    assert_eq!(r.ask("record status"), "OK recording=-");
    assert!(r.ask("record start").starts_with("OK recording "));
    assert!(r.ask("record stop").starts_with("Saved recording: "));

    let r = faulty("recorder/start").start();
    told(&r, "recorder");
    assert!(r.ask("record start").starts_with("OK recording "));
}

#[test]
fn a_clip_fails_with_an_answer_and_the_next_is_made() {
    let r = faulty("clip/work").start();
    r.until_frame(40);
    fails_once(&r, "clip 3", "Saved clip: ");
}

#[test]
fn the_stream_starts_again() {
    let r = faulty("video/work").start();
    assert!(r.ask("record start").starts_with("OK recording "));
    told(&r, "video");

    let (setup, url) = served("panic-rtsp");
    let r = setup.env("PASTCAM_FAULT", "panic:rtsp/work").start();
    told(&r, "rtsp");
    let mut socket = TcpStream::connect(url.split('/').nth(2).unwrap()).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.write_all(format!("OPTIONS {url} RTSP/1.0\r\nCSeq: 1\r\n\r\n").as_bytes()).unwrap();
    let mut said = [0; 15];
    socket.read_exact(&mut said).unwrap();
    assert_eq!(&said, b"RTSP/1.0 200 OK");
    drop(r);

    if let Some((setup, _)) = encrypted("panic-tls") {
        let (code, said) = setup.env("PASTCAM_FAULT", "panic:tls/start").end();
        assert!(code == 1 && said.contains("rtsp.tls_certificate gate.pem") && said.contains("Panic in tls: "), "{said}");
    }
    if sound::can_run() && has_ffmpeg() {
        let (setup, url) = sound::wired("panic-sound");
        let r = setup.env("PASTCAM_FAULT", "panic:sound/start").start();
        assert!(sound::kinds(&url).contains("aac"));
        told(&r, "sound");
    }
}

#[test]
fn an_update_fails_with_an_answer_and_the_next_is_taken() {
    let setup = faulty("update/work").set("network.token", "river").set("update.dir", "update").frameless();
    fs::create_dir(setup.dir.join("update")).unwrap();
    let r = setup.start();
    let answer = String::from_utf8(crate::client::exchange(r.setup.port, b"update 3 token=river\nabc", false)).unwrap();
    assert!(answer.starts_with("ERR io update: "), "{answer}");
    let mut s = connect(r.setup.port);
    s.write_all(b"update 3 token=river\nabc").unwrap();
    until("the next update in its folder", || fs::read(setup.dir.join("update/incoming.raucb")).ok());
}

#[test]
fn a_watched_thread_that_hangs_starves_the_watchdog() {
    let setup = Setup::new("hang").env("PASTCAM_FAULT", "hang:shutter/work");
    let socket = setup.dir.join("notify");
    let supervisor = Supervisor::new(&socket);
    let setup = setup.env("NOTIFY_SOCKET", socket.to_str().unwrap()).env("WATCHDOG_USEC", "900000");
    let r = setup.start();
    let fed = || supervisor.heard().iter().any(|m| m == "WATCHDOG=1");
    until("a first meal", || fed().then_some(()));
    let mut waits = connect(r.setup.port);
    waits.write_all(b"save jpg\n").unwrap();
    r.until_logged("The thread shutter hangs: the watchdogs are not fed");
    supervisor.heard();
    let now = r.status()["uptime_s"].as_f64().unwrap();
    until("a few rounds more", || (r.status()["uptime_s"].as_f64()? > now + 1.5).then_some(()));
    assert!(!fed(), "fed while the shutter hangs");
    assert_eq!(r.status()["state"], "RUNNING", "the camera is well");
}
