//! Stopping, starting again, reading the configuration again, and a wall clock that jumps.

use std::fs;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::client;
use crate::harness::{PATIENCE, Setup, is, names, until};
use crate::image::Image;
use crate::said::{self, id_of};

/// How many files there are under final names; each must be whole.
fn all_whole(dir: &Path) -> usize {
    let finals: Vec<String> = names(dir).into_iter().filter(|n| !is(n, "tmp")).collect();
    for name in &finals {
        Image::open(&dir.join(name));
    }
    finals.len()
}

#[test]
fn a_stop_while_pictures_are_written_is_quick_and_leaves_whole_files() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let setup = Setup::new("stop").set("camera.width", 640).set("camera.height", 480);
        let (mut r, port) = (setup.start(), setup.port);
        r.until_frame(4);
        let (status, took) = std::thread::scope(|s| {
            let clients: Vec<_> = (0..8)
                .map(|n| {
                    s.spawn(move || {
                        let command = if n % 2 == 0 { "pastStack png" } else { "save png" };
                        (0..50).map_while(|_| client::try_ask(port, command)).collect::<Vec<_>>()
                    })
                })
                .collect::<Vec<_>>();
            until("some pictures", || (r.names().len() >= 4).then_some(()));
            let start = Instant::now();
            r.signal(signal);
            let status = r.ended(PATIENCE);
            let took = start.elapsed();
            for c in clients {
                c.join().unwrap();
            }
            (status, took)
        });
        assert_eq!(status.code(), Some(0), "{signal}");
        assert!(took < Duration::from_secs(5), "{signal}: {took:?}");
        let whole = all_whole(&r.captures());
        assert!(whole >= 4);
        // On a machine so slow that not all could be finished in that time, the rest lies there under temporary names; the next
        // start sweeps those.
        if !r.log().contains("Not everything ended in time") {
            assert!(r.log().contains("Stopped; "), "{signal}");
            assert_eq!(r.names().len(), whole);
        }
        let again = setup.start();
        assert_eq!((all_whole(&again.captures()), again.names().len()), (whole, whole));
    }
}

#[test]
fn what_a_kill_left_unfinished_is_swept_at_the_next_start() {
    let setup = Setup::new("swept");
    fs::create_dir(setup.captures()).unwrap();
    let left = setup.captures().join(".20260102_030405_f6.jpg.123-4.tmp");
    fs::write(&left, "half a picture").unwrap();
    fs::write(setup.captures().join("notes.tmp"), "somebody's").unwrap();
    let r = setup.start();
    assert!(!left.exists() && r.captures().join("notes.tmp").exists());
}

#[test]
fn a_restart_right_after_serving_clients_binds_at_once() {
    let setup = Setup::new("rebind");
    for _ in 0..3 {
        let mut r = setup.start();
        // The server closes first, so its side of the connections lingers in TIME_WAIT.
        for _ in 0..5 {
            r.ask("health");
        }
        let open = client::connect(setup.port);
        r.kill();
        drop((r, open));
    }
    let mut r = setup.start();
    assert_eq!(r.terminate().code(), Some(0));
}

#[test]
fn a_stop_does_not_wait_for_idle_clients_or_a_camera_that_hangs() {
    let mut r = Setup::new("idle-stop").controlled("hang=1").frameless().start();
    let _silent: Vec<TcpStream> = (0..5).map(|_| client::connect(r.setup.port)).collect();
    let port = r.setup.port;
    let waiting = std::thread::spawn(move || client::try_ask(port, "save jpg"));
    until("the save to wait", || (r.status()["jobs"] == 1).then_some(()));
    let start = Instant::now();
    assert_eq!(r.terminate().code(), Some(0));
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    assert_eq!(waiting.join().unwrap().as_deref(), Some("ERR busy the program is stopping"));
}

#[test]
fn sighup_takes_over_what_can_change() {
    let setup = Setup::new("hup");
    let r = setup.start();
    r.until_frame(3);
    assert_eq!(said::night_level(&r.ask("night_level")).1, "35");
    let changed = setup
        .clone()
        .set("night.dark_threshold", 40.5)
        .set("night.bright_threshold", 60)
        .set("export.formats", vec!["npy"])
        .set("export.base_dir", "elsewhere")
        .set("export.save_before_s", 0.2)
        .set("logging.level", "DEBUG")
        .set("network.debounce_ms", 0)
        .set("camera.width", 640)
        .set("network.trigger_port", 9);
    drop(changed.command());
    r.signal(Signal::SIGHUP);
    r.until_logged("The configuration was read again");
    assert_eq!(said::night_level(&r.ask("night_level")).1, "40.5");
    let s = said::single(&r.ask("save"));
    assert_eq!(s.path.parent().unwrap(), setup.dir.join("elsewhere"));
    assert_eq!(s.path.extension().unwrap(), "npy");
    assert!((said::stacked(&r.ask("pastStack")).before - 0.2).abs() < 1e-9);
    until("the log at its new level", || r.log().contains("[DEBUG]").then_some(()));
    // What takes effect at the next start only is said to.
    for key in ["camera", "network.trigger_port"] {
        assert!(r.log().contains(&format!("{key} has changed and takes effect at the next start")), "{key}");
    }
    assert!(r.log().contains("takes effect at the next start: camera.width\n"));
    assert_eq!(Image::open(&s.path).width, 320);

    // A broken file changes nothing.
    for broken in ["{", "{\"camera\": {\"widht\": 1}}", "{\"night\": {\"dark_threshold\": 999}}"] {
        let told = r.log().matches("The configuration stays as it was: ").count();
        fs::write(setup.config_file(), broken).unwrap();
        r.signal(Signal::SIGHUP);
        until("the refusal", || (r.log().matches("The configuration stays as it was: ").count() > told).then_some(()));
    }
    assert_eq!(said::night_level(&r.ask("night_level")).1, "40.5");
    // The allow list is taken over at once too: last, for it locks this client out.
    let closed = changed.set("network.allow", vec!["10.0.0.0/8"]);
    drop(closed.command());
    r.signal(Signal::SIGHUP);
    until("the port to be closed to us", || r.ask("health").starts_with("ERR denied ").then_some(()));
}

#[test]
fn logs_go_to_files_too_and_a_folder_that_cannot_be_written_costs_only_them() {
    let r = Setup::new("logs").set("logging.dir", "logs").start();
    let file = r.setup.dir.join("logs/camera_service.log");
    until("the log file", || fs::read_to_string(&file).ok()?.contains("Frames come").then_some(()));
    let setup = Setup::new("no-logs").set("logging.dir", "in-the-way");
    fs::write(setup.dir.join("in-the-way"), "").unwrap();
    let r = setup.start();
    assert!(r.log().contains("no log files: "));
    said::single(&r.ask("save jpg"));
}

/// A library that adds what stands in a file to the wall clock, as NTP's step would; `None` (and says so) without a compiler.
fn stepping_clock(setup: &Setup) -> Option<(PathBuf, PathBuf)> {
    let (source, library, offset) = (setup.dir.join("step.c"), setup.dir.join("step.so"), setup.dir.join("offset"));
    fs::write(&offset, "0").unwrap();
    let code = r#"
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>
static long long offset(void) {
    char text[32] = {0};
    const char *path = getenv("STEP_FILE");
    int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (fd < 0) return 0;
    if (read(fd, text, sizeof text - 1) < 0) text[0] = 0;
    close(fd);
    return atoll(text);
}
int clock_gettime(clockid_t id, struct timespec *t) {
    int done = syscall(SYS_clock_gettime, id, t);
    if (!done && (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE)) t->tv_sec += offset();
    return done;
}
int gettimeofday(struct timeval *restrict tv, void *restrict tz) {
    struct timespec t;
    (void)tz;
    int done = clock_gettime(CLOCK_REALTIME, &t);
    tv->tv_sec = t.tv_sec;
    tv->tv_usec = t.tv_nsec / 1000;
    return done;
}
time_t time(time_t *out) {
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    if (out) *out = t.tv_sec;
    return t.tv_sec;
}
"#;
    fs::write(&source, code).unwrap();
    let done = Command::new("cc").args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(&source).output();
    match done {
        Ok(out) if out.status.success() => Some((library, offset)),
        Ok(out) => panic!("{}", String::from_utf8_lossy(&out.stderr)),
        Err(_) => {
            println!("SKIP: no C compiler (cc) here");
            None
        }
    }
}

fn write_offset(file: &Path, seconds: i64) {
    let draft = file.with_extension("new");
    fs::write(&draft, seconds.to_string()).unwrap();
    fs::rename(draft, file).unwrap();
}

#[test]
fn a_step_of_the_wall_clock_moves_names_and_nothing_else() {
    let setup = Setup::new("step");
    let Some((library, offset)) = stepping_clock(&setup) else { return };
    let r = setup.env("LD_PRELOAD", library.to_str().unwrap()).env("STEP_FILE", offset.to_str().unwrap()).start();
    r.until_frame(25);
    let plain = said::single(&r.ask("save npy"));
    for day in [1i64, -1] {
        write_offset(&offset, day * 86400);
        // The past before the step is reached by time that passed, and carries the clock of its moment.
        let past = said::stacked(&r.ask("pastStack npy before=2 count=2"));
        assert_eq!(past.frames, 2);
        assert!((1.7..3.0).contains(&past.first_age) && past.first_age >= past.last_age, "age {}", past.first_age);
        let s = said::single(&r.ask("save npy"));
        assert!(s.age < 2.0, "age {}", s.age);
        let moved = s.timestamp - plain.timestamp;
        assert!((moved - day as f64 * 86400.0).abs() < 60.0, "the new picture is {moved} s from the old one");
        let (id, _) = Image::open(&s.path).code();
        assert_eq!(id, id_of(&s.path));
        r.until_more_frames(3);
        // A stack on both sides of the step is still of neighbours in time.
        let both = said::stacked(&r.ask("pastStack npy before=0.3 count=4"));
        assert_eq!(both.frames, 4);
        assert!(both.first_age - both.last_age < 1.5);
        let status = r.status();
        assert!(status["frame"]["age_s"].as_f64().unwrap() < 2.0 && status["uptime_s"].as_f64().unwrap() < 600.0, "{status}");
        r.until_more_frames(20);
    }
}

#[test]
fn a_clock_that_was_never_set_is_said_to_be_so() {
    let setup = Setup::new("unset");
    let Some((library, offset)) = stepping_clock(&setup) else { return };
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs() as i64;
    // Half an hour past midnight on 1970-01-01, where a board without a battery starts.
    write_offset(&offset, 1800 - now);
    let r = setup.env("LD_PRELOAD", library.to_str().unwrap()).env("STEP_FILE", offset.to_str().unwrap()).start();
    assert!(r.ask("status").contains(" clock=unset "));
    let s = said::single(&r.ask("save jpg"));
    let name = s.path.file_name().unwrap().to_str().unwrap().to_string();
    assert!(name.starts_with("noclock_") && !r.names().iter().any(|n| n.contains("1970")), "{name}");
    assert!(s.age < 2.0);
    // NTP comes: from now on names say when.
    write_offset(&offset, 0);
    r.until_more_frames(2);
    let s = said::single(&r.ask("save jpg"));
    let name = s.path.file_name().unwrap().to_str().unwrap().to_string();
    assert!(name.starts_with("20") && s.timestamp > 1.7e9 && s.age < 2.0, "{name}");
    assert!(!r.ask("status").contains(" clock=unset "));
}
