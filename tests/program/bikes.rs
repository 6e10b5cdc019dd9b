//! A real film as the camera goes the whole way: file, decoder, ring, stream, recording, clip, picture. Every picture that comes
//! out is found again in the film, by its pixels: which one it is, and how far it is from it. `PASTCAM_FILM` names the film.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::film::has_ffmpeg;
use crate::harness::{Running, until};
use crate::recordings::file_of;
use crate::said::{self, id_of};
use crate::viewers::served;

/// Pictures are compared at about a tenth of the film's 640×272: unoptimised code looks at every frame for every picture.
const SIZE: usize = 60 * 26;

/// What ffmpeg makes of this input: small grey pictures, at most `most`.
fn grey(input: &[&str], most: usize) -> Vec<Vec<u8>> {
    let mut child = Command::new("ffmpeg")
        .args(["-v", "error", "-nostdin"])
        .args(input)
        .args([
            "-vf",
            "scale=60:26:flags=area,format=gray,settb=1/90000",
            "-enc_time_base",
            "1:90000",
            "-fps_mode",
            "passthrough",
        ])
        .args(["-f", "rawvideo", "-"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut out = child.stdout.take().unwrap();
    let mut pictures = Vec::new();
    let mut picture = vec![0; SIZE];
    while pictures.len() < most && out.read_exact(&mut picture).is_ok() {
        pictures.push(picture.clone());
    }
    let _ = child.kill();
    let _ = child.wait();
    pictures
}

/// Mean difference of two pictures (code values).
fn apart(a: &[u8], b: &[u8]) -> f64 {
    a.iter().zip(b).map(|(a, b)| f64::from(a.abs_diff(*b))).sum::<f64>() / SIZE as f64
}

/// The largest step from one place in the film to the next. Where nothing moves two neighbours look the same, so a step back is
/// none; at its end the film begins again.
fn longest_step(places: &[usize]) -> usize {
    places.windows(2).map(|w| (w[1] + 250 + 2 - w[0]) % 250).max().unwrap_or(2).saturating_sub(2)
}

/// The film, frame by frame.
struct Film(Vec<Vec<u8>>);

impl Film {
    /// Which frame of the film each of these pictures is; fails on one that is none, and unless they
    /// are in order.
    fn places(&self, what: &str, pictures: &[Vec<u8>]) -> Vec<usize> {
        assert!(!pictures.is_empty(), "{what}: no picture");
        let (mut places, mut worst) = (Vec::<usize>::new(), 0.0f64);
        for picture in pictures {
            let by = |k: &usize| apart(picture, &self.0[*k]);
            let place = (0..self.0.len()).min_by(|a, b| by(a).total_cmp(&by(b))).unwrap();
            worst = worst.max(by(&place));
            places.push(place);
        }
        println!(
            "{what}: {} pictures from frame {} to {}, at most {worst:.1} apart",
            places.len(),
            places[0],
            places[places.len() - 1]
        );
        assert!(worst < 6.0, "{what}: {worst:.1} from any frame of the film");
        // A machine without time for it leaves frames out in the decoder, for up to a second; that nothing is lost from the ring on
        // is for the pattern's tests.
        assert!(longest_step(&places) <= 25, "{what}: {places:?}");
        places
    }

    fn of_file(&self, what: &str, file: &Path) -> Vec<usize> {
        self.places(what, &grey(&["-i", file.to_str().unwrap()], usize::MAX))
    }
}

/// Whether so many frames of the film can be so many of the camera: a decoder without time leaves some out.
fn follows(film: usize, camera: u64) -> bool {
    (camera.saturating_sub(2)..=camera + 25).contains(&(film as u64))
}

fn ring_seconds(r: &Running) -> f64 {
    r.status()["ring"]["seconds"].as_f64().unwrap_or_default()
}

#[test]
fn a_real_film_goes_the_whole_way() {
    let Some(path) = std::env::var_os("PASTCAM_FILM").map(PathBuf::from).filter(|f| f.exists()) else {
        println!("SKIP: PASTCAM_FILM names no film");
        return;
    };
    if !has_ffmpeg() {
        return;
    }
    let film = Film(grey(&["-i", path.to_str().unwrap()], usize::MAX));
    assert_eq!(film.0.len(), 250);
    let (setup, url) = served("bikes");
    let r = setup
        .set("camera.source", format!("file:{}", path.display()))
        .set("camera.width", 640)
        .set("camera.height", 272)
        .set("camera.framerate", 25.0)
        .set("ring.size", 250)
        .set("video.bitrate_kbps", 2000)
        .start();
    until("5 s of the film", || (ring_seconds(&r) >= 5.0).then_some(()));
    for transport in ["tcp", "udp"] {
        film.places(transport, &grey(&["-rtsp_transport", transport, "-i", &url], 50));
    }
    // From the past into the present without a seam. First everything is asked for, then compared.
    assert!(r.ask("record start before=3 tag=street").starts_with("OK recording "));
    let saved = said::single(&r.ask("save png")).path;
    r.until_more_frames(50);
    let street = file_of(&r.ask("record stop"));
    let (now, recorded) = (film.of_file("now", &saved)[0], film.of_file("recording", &street));
    assert!(recorded.len() >= 75 + 25, "{}", recorded.len());
    // 3 s before the command, which came before the picture; and as many frames of the film as of the camera.
    let (between, back) = (id_of(&saved) - id_of(&street), (now + 250 - recorded[0]) % 250);
    assert!((60..=200).contains(&between) && follows(back, between), "{back} frames of the film, {between} of the camera");
    // A clip ends with its command, and the mean of the past is the film's of that moment.
    until("5 s of the film", || (ring_seconds(&r) >= 5.0).then_some(()));
    let clip = film.of_file("clip", &file_of(&r.ask("clip 4")));
    assert!((85..=115).contains(&clip.len()), "{}", clip.len());
    let (saved, stacked) = (said::single(&r.ask("save png")).path, said::stacked(&r.ask("pastStack png before=2 count=1")).path);
    let (now, past) = (film.of_file("now", &saved)[0], film.of_file("past", &stacked)[0]);
    let (between, back) = (id_of(&saved) - id_of(&stacked), (now + 250 - past) % 250);
    assert!((5..=55).contains(&between) && follows(back, between), "{back} frames of the film, {between} of the camera");
    assert_eq!(r.status()["ring"]["dropped"], 0);
}
