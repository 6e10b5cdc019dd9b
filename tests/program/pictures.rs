//! Which pictures are taken: the frame drawn into each is read back and held against the answer and the moment of the command.

use std::collections::HashSet;
use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use pastcam::clock::{Clock, SystemClock};

use crate::client;
use crate::harness::{Running, Setup, is, until};
use crate::image::Image;
use crate::said::{self, id_of};

/// What the wall clock shows (s) when the boot-time clock shows this (µs).
fn wall_of(boot_us: u64) -> f64 {
    SystemClock.wall().secs() - SystemClock.boot().secs() + boot_us as f64 / 1e6
}

fn pictures(r: &Running, extension: &str) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> =
        r.names().iter().filter(|n| is(n, extension) && *n != "latest.jpg").map(|n| r.captures().join(n)).collect();
    paths.sort_by_key(|p| id_of(p));
    paths
}

#[test]
fn a_saved_picture_is_the_first_frame_after_the_trigger() {
    let r = Setup::new("trigger").start();
    let mut waits = Vec::new();
    for n in 0..10 {
        // Off the beat of the frames, so that every phase occurs.
        std::thread::sleep(Duration::from_millis(37 * n % 100));
        let mut s = client::connect(r.setup.port);
        let before = SystemClock.boot().0;
        // Without a line end: the command begins with its first byte, not after the silence that ends it.
        s.write_all(if n % 2 == 0 { b"save npy\n" } else { b"save npy" }).unwrap();
        let after = SystemClock.boot().0;
        let mut answer = Vec::new();
        std::io::Read::read_to_end(&mut s, &mut answer).unwrap();
        let said = said::single(&client::one_line(&answer));
        let (id, time) = Image::open(&said.path).code();
        assert_eq!(id, id_of(&said.path));
        assert!(time >= before, "a frame from {} us before the trigger", before - time);
        assert!((wall_of(time) - said.timestamp).abs() < 0.02, "{} against {}", wall_of(time), said.timestamp);
        waits.push(time.saturating_sub(after));
    }
    // One frame time at most; the machine may be busy for some of the ten but not for most.
    waits.sort_unstable();
    assert!(waits[5] <= 115_000, "{waits:?} us from trigger to frame");
}

#[test]
fn every_format_shows_one_and_the_same_frame_in_true_colours() {
    // At this size the blocks of the code are still readable and three patches of 64 pixels stand at the left.
    let r = Setup::new("colours").start();
    r.until_frame(5);
    for command in ["save jpg png npy", "pastStack jpg png npy before=0.3 count=1"] {
        let answer = r.ask(command);
        let path = if command.starts_with("save") { said::single(&answer).path } else { said::stacked(&answer).path };
        let [jpg, png, npy] = ["jpg", "png", "npy"].map(|e| Image::open(&path.with_extension(e)));
        for image in [&jpg, &png, &npy] {
            assert_eq!((image.width, image.height), (320, 240));
            assert_eq!(image.code().0, id_of(&path), "{command}");
        }
        assert_eq!(png.worst(&npy), 0, "{command}");
        for (x, colour) in [(32, [255.0, 0.0, 0.0]), (96, [0.0, 255.0, 0.0]), (160, [0.0, 0.0, 255.0])] {
            for (image, allowed) in [(&jpg, 6.0), (&png, 3.0)] {
                let got = image.mean(x, 128, 16);
                let off = (0..3).map(|k| (got[k] - colour[k]).abs()).fold(0.0, f64::max);
                assert!(off <= allowed, "{command}: {got:?} instead of {colour:?}");
            }
        }
        let mean = |a: &Image, b: &Image| {
            let sum: u64 = a.rgb.iter().zip(&b.rgb).map(|(a, b)| u64::from(a.abs_diff(*b))).sum();
            sum as f64 / a.rgb.len() as f64
        };
        assert!(mean(&jpg, &png) < 4.0, "{}", mean(&jpg, &png));
    }
}

#[test]
fn one_frame_of_the_past_is_the_one_nearest_to_the_moment() {
    let r = Setup::new("nearest").start();
    r.until_frame(25);
    for before in [0.0, 0.4, 1.0, 1.55, 2.0] {
        let asked = SystemClock.boot().0;
        let answer = said::stacked(&r.ask(&format!("pastStack png npy before={before} count=1")));
        assert_eq!(answer.frames, 1);
        assert!((answer.first - answer.last).abs() < 1e-9);
        let image = Image::open(&answer.path);
        let (id, time) = image.code();
        assert_eq!(id, id_of(&answer.path));
        assert_eq!(Image::open(&answer.path.with_extension("npy")).worst(&image), 0);
        assert!((wall_of(time) - answer.first).abs() < 0.02);
        // Half a frame time and what a busy machine adds to both ends.
        let off = (asked - time) as f64 / 1e6 - before;
        assert!((-0.2..=0.2).contains(&off), "before={before}: off by {off} s");
    }
}

/// The frames that went in are fetched one by one and averaged here.
#[test]
fn a_stack_is_the_mean_of_its_frames() {
    let r = Setup::new("mean").set("export.stack_dark_frames", false).set("export.save_before_s", 4.0).start();
    r.until_frame(20);
    let stack = said::stacked(&r.ask("pastStack npy png before=1 count=4 mode=mean"));
    assert_eq!(stack.frames, 4);
    said::separate(&r.ask("pastStack npy"));
    let frames: Vec<(f64, Image)> = pictures(&r, "npy")
        .into_iter()
        .filter(|p| *p != stack.path.with_extension("npy"))
        .map(|p| Image::open(&p))
        .map(|i| (wall_of(i.code().1), i))
        .filter(|(t, _)| *t > stack.first - 0.003 && *t < stack.last + 0.003)
        .collect();
    assert_eq!(frames.len(), 4, "from {} to {}", stack.first, stack.last);
    let mean = Image::open(&stack.path);
    // Between the two codes and right of the patches, where no colour is cut off at 0 or 255: the mean is of Y, U and V and is
    // rounded there, each of the four was rounded to R, G and B as well.
    let (mut off, mut n) = (0, 0);
    for (x, y) in (88..152).flat_map(|y| (200..320).map(move |x| (x, y))) {
        for (k, got) in mean.pixel(x, y).into_iter().enumerate() {
            let all = frames.iter().map(|(_, f)| f.pixel(x, y)[k]);
            if all.clone().any(|v| v == 0 || v == 255) {
                continue;
            }
            let want = all.map(f64::from).sum::<f64>() / 4.0;
            n += 1;
            off += i32::from((want - f64::from(got)).abs() > 2.5);
        }
    }
    assert!(n > 20_000 && off == 0, "{off} of {n} values are not the mean");
    // The name is the last frame's.
    assert_eq!(id_of(&stack.path), frames[3].1.code().0);
}

/// By the key and by a word of the command, in `status json`, in the log and in EXIF; the answer stays as it was.
#[test]
fn the_mode_of_a_stack_is_chosen_and_told() {
    let setup = Setup::new("modes").set("export.stack_dark_frames", false);
    let r = setup.start();
    r.until_frame(12);
    let told = || {
        let stack = r.status()["stack"].take();
        let mode = ["configured", "mode"].map(|key| stack[key].as_str().unwrap_or("none").to_string());
        (mode, stack)
    };
    // One frame alone is no stack.
    assert_eq!(said::stacked(&r.ask("pastStack jpg before=0.3 count=1")).frames, 1);
    let (mode, stack) = told();
    assert!(mode == ["steady", "none"] && stack["reference"].is_null() && stack["averaged_percent"].is_null(), "{stack}");
    let describe = |path: &PathBuf| {
        let exif = exif::Reader::new().read_from_container(&mut std::io::Cursor::new(std::fs::read(path).unwrap())).unwrap();
        exif.get_field(exif::Tag::ImageDescription, exif::In::PRIMARY).unwrap().display_value().to_string()
    };
    for (word, description) in
        [("steady", "steady stack of 5 frames, "), ("mean", "average of 5 frames"), ("still", "median of 5 frames")]
    {
        // With neither `count=` nor `stack_dark_frames`, the word alone asks for a stack.
        let by_word = said::stacked(&r.ask(&format!("pastStack jpg before=0.5 mode={word}")));
        assert_eq!(by_word.frames, 4);
        let s = said::stacked(&r.ask(&format!("pastStack jpg before=0.5 count=5 mode={word}")));
        assert_eq!(s.frames, 5);
        let (mode, stack) = told();
        assert!(mode == ["steady", word] && stack["frames"] == 5, "{stack}");
        let share = stack["averaged_percent"].as_f64();
        let fits = match word {
            "still" => share.is_none(),
            "mean" => share == Some(100.0),
            _ => share.is_some_and(|share| (0.0..=100.0).contains(&share)),
        };
        assert!(fits, "{stack}");
        // The frame that was asked for is one of the five; the name is the last one's. Where frames were lost, their ids are too.
        let (reference, last) = (stack["reference"].as_u64().unwrap(), id_of(&s.path));
        let ids = ((s.last - s.first) * 10.0).round() as u64;
        assert!((last - ids..=last).contains(&reference), "{stack}, named after {last}");
        let averaged = if word == "still" { "\n" } else { ": " };
        r.until_logged(&format!("stack of 5 frames around frame {reference}, {word}{averaged}"));
        assert!(describe(&s.path).contains(description), "{}", describe(&s.path));
    }
    let changed = setup.set("export.stack_mode", "still");
    std::fs::write(changed.config_file(), changed.config.to_string()).unwrap();
    r.signal(nix::sys::signal::Signal::SIGHUP);
    until("the key", || (told().0[0] == "still").then_some(()));
    said::stacked(&r.ask("pastStack jpg before=0.5 count=2"));
    assert_eq!(told().0, ["still", "still"]);
    said::stacked(&r.ask("pastStack jpg before=0.5 count=2 mode=mean"));
    assert_eq!(told().0, ["still", "mean"]);
}

#[test]
fn a_stack_lies_around_its_moment() {
    let r = Setup::new("centred").start();
    r.until_frame(45);
    for (before, count) in [(2.0, 4), (2.0, 5), (1.0, 8), (2.5, 16)] {
        let asked = SystemClock.wall().secs();
        let s = said::stacked(&r.ask(&format!("pastStack npy before={before} count={count}")));
        assert_eq!(s.frames, count);
        let off = asked - f64::midpoint(s.first, s.last) - before;
        assert!(off.abs() < 0.2, "before={before} count={count}: the middle is off by {off} s");
    }
    // Nothing lies behind the newest frame, so what there is before it goes in.
    assert_eq!(said::stacked(&r.ask("pastStack npy before=0 count=6")).frames, 6);
}

/// Noise is what a stack is for: it falls with the square root of the number of frames.
#[test]
fn a_stack_takes_noise_away() {
    let r = Setup::new("noise").set("camera.source", "pattern:noise=24").start();
    r.until_frame(40);
    // Strong enough to drown what texture the scene itself has from pixel to pixel.
    let deviation = |count: usize| {
        let s = said::stacked(&r.ask(&format!("pastStack npy before=1.5 count={count} mode=mean")));
        assert_eq!(s.frames, count);
        let luma = Image::open(&s.path);
        let values: Vec<f64> = (60..100)
            .flat_map(|y| (224..304).map(move |x| (x, y)))
            .map(|(x, y)| {
                // Neighbours differ by noise alone: the scene is smooth at this distance.
                let g = |x: usize| f64::from(luma.pixel(x, y)[1]);
                g(x) - f64::midpoint(g(x - 1), g(x + 1))
            })
            .collect();
        (values.iter().map(|v| v * v).sum::<f64>() / values.len() as f64).sqrt()
    };
    let [one, four, sixteen] = [1, 4, 16].map(deviation);
    println!("noise of 1, 4 and 16 frames: {one:.2} {four:.2} {sixteen:.2}");
    assert!((1.6..2.4).contains(&(one / four)), "{one} to {four}");
    assert!((2.7..5.0).contains(&(one / sixteen)), "{one} to {sixteen}");
}

#[test]
fn a_stack_never_crosses_a_change_of_exposure_or_size() {
    let setup = Setup::new("crossing")
        .controlled("lux=400")
        .set("export.stack_dark_frames", false)
        .set("export.save_before_s", 120.0)
        .set("ring.size", 900);
    let r = setup.start();
    r.until_frame(12);
    // Four times the light: auto-exposure takes a quarter of the time.
    setup.control("lux=1600");
    r.until_more_frames(12);
    setup.control("lux=1600 resize=320x192");
    r.until_more_frames(12);
    let mut sizes = HashSet::new();
    // Counted from here, however long the commands take.
    let start = std::time::Instant::now();
    for tenth in 2..34 {
        let before = f64::from(tenth) / 10.0 + start.elapsed().as_secs_f64();
        let s = said::stacked(&r.ask(&format!("pastStack npy before={before:.3} count=8")));
        assert!((1..=8).contains(&s.frames));
        sizes.insert((s.frames, Image::open(&s.path).height));
        std::fs::remove_file(s.path).unwrap();
    }
    // Both sizes occur with full stacks, and next to the changes there are stacks beside them, of frames of one kind.
    assert!(sizes.contains(&(8, 240)) && sizes.contains(&(8, 192)), "{sizes:?}");
    // When the size changed, from the frames themselves.
    said::separate(&r.ask("pastStack npy"));
    let frames: Vec<(f64, usize)> =
        pictures(&r, "npy").iter().map(|p| Image::open(p)).map(|i| (wall_of(i.code().1), i.height)).collect();
    let change = frames.windows(2).find(|w| w[0].1 != w[1].1).map(|w| w[1].0).expect("both sizes are in the ring");
    for offset in [-0.35, -0.15, 0.05, 0.25] {
        let before = SystemClock.wall().secs() - change - offset;
        let s = said::stacked(&r.ask(&format!("pastStack npy before={before:.3} count=8")));
        assert!(s.last < change - 0.001 || s.first > change - 0.02, "{} to {} across {change}", s.first, s.last);
    }
}

#[test]
fn a_light_that_changes_parts_the_stack() {
    // Light that steps every second: the exposures of neighbouring seconds must not mix.
    let setup = Setup::new("light");
    let trace = setup.dir.join("light.csv");
    let rows: Vec<String> =
        (0..600).map(|i| format!("{:.2},{}", f64::from(i) * 0.5, if i / 2 % 2 == 0 { 400 } else { 1600 })).collect();
    std::fs::write(&trace, format!("t_s,lux\n{}\n", rows.join("\n"))).unwrap();
    let r = setup.set("camera.source", format!("pattern:trace={}", trace.display())).start();
    r.until_frame(50);
    let mut shortest = usize::MAX;
    for tenth in 5..30 {
        let s = said::stacked(&r.ask(&format!("pastStack npy before={:.1} count=30", f64::from(tenth) / 10.0)));
        // Between the steps the trace is drawn straight, so at most about half a second is of one exposure.
        assert!(s.frames < 15, "{} frames from {} to {}", s.frames, s.first, s.last);
        shortest = shortest.min(s.frames);
    }
    assert!(shortest >= 1);
}

#[test]
fn at_night_the_past_is_counted_in_seconds_and_not_in_frames() {
    let r = Setup::new("night")
        // At 320×240 the code drawn into the picture would be a third of it, and too bright for a night.
        .set("camera.width", 640)
        .set("camera.height", 480)
        .set("camera.source", "pattern:lux=0.02")
        .set("night.min_dark_frames", 3)
        .set("night.exposure_us", 1_000_000)
        .start();
    until("the night", || (r.status()["mode"] == "NIGHT").then_some(()));
    until("long exposures", || (r.status()["frame"]["exposure_us"].as_f64()? > 900_000.0).then_some(()));
    r.until_more_frames(6);
    for before in [4.0, 2.6, 1.2] {
        let asked = SystemClock.boot().0;
        let s = said::stacked(&r.ask(&format!("pastStack npy before={before} count=1")));
        let (id, time) = Image::open(&s.path).code();
        assert_eq!(id, id_of(&s.path));
        let off = (asked - time) as f64 / 1e6 - before;
        // Half of a frame time of a second.
        assert!(off.abs() < 0.8, "before={before}: off by {off} s");
    }
    let s = said::stacked(&r.ask("pastStack npy before=2.5 count=3"));
    assert_eq!(s.frames, 3);
    assert!((1.5..3.0).contains(&(s.last - s.first)), "three frames in {} s", s.last - s.first);
    // A picture of the present waits for the frame that is being exposed, and is that one.
    let asked = SystemClock.boot().0;
    let s = said::single(&r.ask("save jpg"));
    let time = Image::open(&s.path).code().1;
    assert!(time >= asked && time < asked + 3_000_000, "{} us after the trigger", time as i64 - asked as i64);
}

#[test]
fn with_a_smaller_ring_save_is_full_and_the_past_is_small() {
    let r = Setup::new("downscale")
        .set("camera.width", 640)
        .set("camera.height", 480)
        .set("ring.downscale.enable", true)
        .set("ring.downscale.width", 320)
        .set("ring.downscale.height", 240)
        .start();
    r.until_frame(15);
    for _ in 0..3 {
        let asked = SystemClock.boot().0;
        let s = said::single(&r.ask("save png"));
        let full = Image::open(&s.path);
        assert_eq!((full.width, full.height), (640, 480));
        let (id, time) = full.code();
        assert_eq!(id, id_of(&s.path));
        assert!(time >= asked);
    }
    let s = said::stacked(&r.ask("pastStack png before=1 count=1"));
    let small = Image::open(&s.path);
    assert_eq!((small.width, small.height), (320, 240));
    let (id, time) = small.enlarged(2).code();
    assert_eq!(id, id_of(&s.path));
    assert!((wall_of(time) - s.first).abs() < 0.02);
}

#[test]
fn requests_at_the_same_time_get_files_of_their_own() {
    let r = Setup::new("same").start();
    r.until_frame(10);
    let answers: Vec<String> = std::thread::scope(|s| {
        let clients: Vec<_> = (0..12)
            .map(|n| {
                let r = &r;
                s.spawn(move || r.ask(if n % 3 == 0 { "save jpg png" } else { "pastStack jpg png before=0.5" }))
            })
            .collect();
        clients.into_iter().map(|c| c.join().unwrap()).collect()
    });
    let mut paths = HashSet::new();
    for a in &answers {
        let path = if a.starts_with("Saved single") { said::single(a).path } else { said::stacked(a).path };
        Image::open(&path);
        Image::open(&path.with_extension("png"));
        assert!(paths.insert(path), "{a}");
    }
    assert_eq!(pictures(&r, "jpg").len(), 12);
    let latest = std::fs::read_link(r.captures().join("latest.jpg")).unwrap();
    assert!(paths.contains(&r.captures().join(latest)));
}

/// Cut to the millisecond everywhere, or rounded everywhere: of eight frames some are near the next one.
#[test]
fn name_exif_and_answer_show_one_instant() {
    let r = Setup::new("instant").set("camera.framerate", 7.3).env("TZ", "UTC").start();
    for _ in 0..8 {
        let answer = r.ask("save jpg");
        let path = said::single(&answer).path;
        let exif = exif::Reader::new().read_from_container(&mut std::io::Cursor::new(std::fs::read(&path).unwrap())).unwrap();
        let shown = |tag| exif.get_field(tag, exif::In::PRIMARY).unwrap().display_value().to_string();
        let digits = |s: &str| s.chars().filter(char::is_ascii_digit).collect::<String>();
        let (date, ms) = (digits(&shown(exif::Tag::DateTimeOriginal)), digits(&shown(exif::Tag::SubSecTimeOriginal)));
        let (seconds, told) = answer.split_once("timestamp: ").unwrap().1.split_once(',').unwrap().0.split_once('.').unwrap();
        assert_eq!(
            (ms.as_str(), &date[12..]),
            (told, format!("{:02}", seconds.parse::<u64>().unwrap() % 60).as_str()),
            "{answer}"
        );
        assert_eq!(digits(&path.file_name().unwrap().to_string_lossy()[..15]), date, "{answer}");
        assert_eq!(shown(exif::Tag::OffsetTimeOriginal), "\"+00:00\"");
    }
}

#[test]
fn periodic_pictures_keep_their_beat() {
    for (interval, use_ring, n) in [(0.2, true, 12), (0.5, false, 8), (1.5, true, 4)] {
        let r =
            Setup::new("beat").set("export.auto_save_interval_s", interval).set("export.auto_save_use_ring", use_ring).start();
        until("periodic pictures", || (pictures(&r, "jpg").len() >= n).then_some(()));
        // In the order of their names, within a second too.
        let times: Vec<u64> = pictures(&r, "jpg").iter().take(n).map(|p| Image::open(p).code().1).collect();
        assert!(times.windows(2).all(|w| w[0] < w[1]), "{times:?}");
        let since = |t: u64| (t - times[0]) as f64 / 1e6;
        assert!(since(times[n - 1]) >= (interval - 0.05) * (n - 1) as f64, "{interval} s, ring {use_ring}: {times:?}");
        // A busy machine leaves beats out, and the nearest frame may be 0.1 s off: nothing adds up.
        let off = |t: u64| (since(t) - (since(t) / interval).round() * interval).abs();
        assert!(times.iter().all(|t| interval < 0.5 || off(*t) <= 0.4 * interval), "{interval} s, ring {use_ring}: {times:?}");
    }
}

#[test]
fn a_camera_that_was_away_costs_one_picture_and_two_lines() {
    let away = |use_ring: bool| {
        let setup = Setup::new("away").set("export.auto_save_interval_s", 0.3).set("export.auto_save_use_ring", use_ring);
        let setup = setup.controlled("lux=400");
        let r = setup.start();
        until("a periodic picture", || (!pictures(&r, "jpg").is_empty()).then_some(()));
        setup.control("fail=1");
        r.until_logged("Auto-save waits for the camera");
        let before = pictures(&r, "jpg").len();
        // Seven beats without a frame; one picture may have been on its way.
        std::thread::sleep(std::time::Duration::from_secs(2));
        assert_eq!(r.status()["state"], "LOST");
        assert!(pictures(&r, "jpg").len() <= before + 1, "{:?}", r.names());
        setup.control("lux=400");
        r.until_logged("Auto-save goes on; ");
        let log = r.log();
        assert_eq!(log.matches("Auto-save waits").count() + log.matches("Auto-save goes on").count(), 2, "ring {use_ring}");
        assert!(!log.contains("Auto-save failed"));
        let frames: HashSet<u64> = pictures(&r, "jpg").iter().map(|p| said::id_of(p)).collect();
        assert_eq!(frames.len(), pictures(&r, "jpg").len(), "one frame was saved twice");
    };
    std::thread::scope(|s| {
        for use_ring in [false, true] {
            s.spawn(move || away(use_ring));
        }
    });
}

/// Nobody takes the pattern for a camera: not in the log, in `status`, in a picture or in what the picture says of itself.
#[test]
fn a_drawn_picture_says_so_wherever_it_goes() {
    let r = Setup::new("drawn").set("camera.source", "auto").set("camera.width", 640).set("camera.height", 480).start();
    r.until_logged("[WARN] No camera");
    for part in ["TEST PATTERN", "camera.source", "rtsp://"] {
        assert!(r.log().lines().any(|l| l.contains("[WARN] No camera") && l.contains(part)), "{part}: {}", r.log());
    }
    assert!(r.ask("status").contains(" source=pattern"));
    assert_eq!((&r.status()["source"]["kind"], &r.status()["source"]["spec"]), (&"pattern".into(), &"auto".into()));
    let path = said::single(&r.ask("save jpg")).path;
    let exif = exif::Reader::new().read_from_container(&mut std::io::Cursor::new(std::fs::read(&path).unwrap())).unwrap();
    for tag in [exif::Tag::Model, exif::Tag::ImageDescription] {
        let told = exif.get_field(tag, exif::In::PRIMARY).unwrap().display_value().to_string();
        assert!(told.contains("TEST PATTERN"), "{tag}: {told}");
    }
    // The upper bars of the letters T E S T, each followed by its gap: dots of five pixels from (20, 188) on.
    let image = Image::open(&path);
    let luma = image.luma();
    let bar = |column: usize| {
        let dots = (0..5).map(|dot| luma[190 * image.width + 20 + (column + dot) * 5 + 2]);
        dots.filter(|v| *v > 180).count()
    };
    assert_eq!([0, 6, 18].map(bar), [5, 5, 5], "the words are not in the picture");
    assert_eq!(image.code().0, id_of(&path));
}
