//! Viewers over changes: those that come in the very moment in which the last one goes, and those that stay through a night.

use crate::film::{assert_gapless, has_ffmpeg};
use crate::harness::{PATIENCE, until_within};
use crate::viewers::{Rude, Viewer, served};

#[test]
fn whoever_comes_while_the_last_one_goes_is_served() {
    let (setup, url) = served("coming");
    let r = setup.start();
    for n in 0..60 {
        let mut rude = Rude::connect(&url);
        let said = rude.play();
        assert!(said.contains(" 200 "), "viewer {n}: {said}");
        if n % 2 == 0 { rude.vanish() } else { drop(rude) }
    }
    assert_eq!(r.status()["ring"]["dropped"], 0);
}

#[test]
#[ignore = "takes minutes: a night lasts one at least"]
fn three_viewers_stay_from_day_through_night_to_day() {
    if !has_ffmpeg() {
        return;
    }
    let (setup, url) = served("night");
    let setup = setup.controlled("lux=400").set("night.min_dark_frames", 1).set("camera.width", 640).set("camera.height", 480);
    let r = setup.start();
    // Frame numbers and instants until pictures come by day again, two frames that lie a second apart having been among them.
    let watch = |transport: &'static str| {
        let url = url.clone();
        std::thread::spawn(move || {
            let mut viewer = Viewer::of(&url, transport);
            viewer.size = (640, 480);
            let (mut codes, mut slow, mut fast) = (vec![viewer.pictures(1)[0].code.unwrap()], 0, 0);
            while slow < 3 || fast < 20 {
                let next = viewer.pictures(1)[0].code.unwrap();
                let apart = next.1 - codes.last().unwrap().1;
                slow += u32::from(apart > 1_000_000);
                fast = if (1..300_000).contains(&apart) { fast + 1 } else { fast * u32::from(apart == 0) };
                codes.push(next);
            }
            codes
        })
    };
    let watching = ["tcp", "udp", "tcp"].map(watch);
    let mode = |word: &str| (r.status()["mode"] == word).then_some(());
    until_within("three viewers", PATIENCE, || (r.status()["video"]["viewers"] == 3).then_some(()));
    setup.control("lux=0.02");
    until_within("the night", PATIENCE, || mode("NIGHT"));
    r.until_more_frames(5);
    setup.control("lux=400");
    until_within("the day", 4 * PATIENCE, || mode("DAY"));
    for (n, codes) in watching.map(|w| w.join().unwrap()).iter().enumerate() {
        assert_gapless(codes);
        println!("viewer {n}: {} pictures without a gap", codes.len());
    }
    assert_eq!(r.log().matches("Encoding ").count(), 1, "the stream was begun anew");
}
