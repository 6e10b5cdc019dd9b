//! What the ways of stacking are worth through the whole program: a film with noise as the camera, and each picture against the film
//! without it.

use std::fs;
use std::path::{Path, PathBuf};

use gstreamer::{ClockTime, MessageType};
use pastcam::error::Kind as Fault;
use pastcam::gst::{Pipe, has};

use crate::harness::{Running, Setup, until};
use crate::image::Image;
use crate::said;

#[path = "../../benches/past/made.rs"]
mod made;
#[allow(dead_code, reason = "the benchmark uses all of it")]
#[path = "../../benches/past/noise.rs"]
mod noise;
#[allow(dead_code, reason = "the benchmark uses all of it")]
#[path = "../../benches/past/score.rs"]
mod score;

use made::LAYOUT;
use score::squares;

/// Frames of the film, which goes on from its last to its first, in a second, and in a stack.
const FRAMES: usize = 24;
const RATE: u32 = 10;
const STACK: usize = 8;

/// Luma in the span of pictures (0 to 255) of a frame in that of films (16 to 235).
fn shown(frame: &[u8]) -> Vec<u8> {
    let full = |y: &u8| ((f64::from(*y) - 16.0) * 255.0 / 219.0).round().clamp(0.0, 255.0) as u8;
    frame[LAYOUT.y()].iter().map(full).collect()
}

/// These frames as a file that decodes to the very same bytes.
fn film(dir: &Path, frames: &[Vec<u8>]) -> PathBuf {
    let (raw, avi) = (dir.join("film.raw"), dir.join("film.avi"));
    fs::write(&raw, frames.concat()).unwrap();
    let line = format!(
        "filesrc location={} blocksize={} ! rawvideoparse width={} height={} format=i420 framerate={RATE}/1 ! avimux ! filesink location={}",
        raw.display(),
        LAYOUT.bytes(),
        LAYOUT.width,
        LAYOUT.height,
        avi.display()
    );
    let pipe = Pipe::launch(&line, "make a film").unwrap();
    pipe.play(Fault::Media, || "make a film".into()).unwrap();
    let end = pipe.bus.timed_pop_filtered(ClockTime::from_seconds(30), &[MessageType::Eos, MessageType::Error]).unwrap();
    assert!(end.type_() == MessageType::Eos, "{end:?}");
    avi
}

/// A picture against the frame it shows of the film without noise: PSNR (dB) of all, of what moves around that frame, and of those
/// places over which nothing ever moves.
#[derive(Debug)]
struct Score {
    all: f64,
    moving: f64,
    still: f64,
}

/// The film without noise, as pictures show it.
struct Truth(Vec<Vec<u8>>);

impl Truth {
    fn score(&self, picture: &[u8]) -> Score {
        let apart = |k: &usize| squares(picture, &self.0[*k]).mean();
        let frame = (0..FRAMES).min_by(|a, b| apart(a).total_cmp(&apart(b))).unwrap();
        let all: Vec<&[u8]> = (0..FRAMES).map(|k| self.0[(frame + k) % FRAMES].as_slice()).collect();
        let around: Vec<&[u8]> = (0..STACK).map(|k| all[(FRAMES - STACK / 2 + k) % FRAMES]).collect();
        let part = |frames: &[&[u8]], reference, moves| {
            let mask = score::moving(frames, reference, LAYOUT);
            let only =
                |luma: &[u8]| -> Vec<u8> { luma.iter().zip(&mask).filter(|(_, m)| **m == moves).map(|(y, _)| *y).collect() };
            squares(&only(picture), &only(all[0])).psnr()
        };
        Score { all: squares(picture, all[0]).psnr(), moving: part(&around, STACK / 2, true), still: part(&all, 0, false) }
    }
}

/// A picture of so many frames, none of which is missing between the first and the last, as may happen on a busy machine.
fn luma(r: &Running, command: &str, frames: usize) -> Vec<u8> {
    until("frames in a row", || {
        let said = said::stacked(&r.ask(command));
        assert_eq!(said.frames, frames, "{command}");
        let steps = (said.last - said.first) * f64::from(RATE);
        (steps.round() as usize == frames - 1).then(|| Image::open(&said.path).luma())
    })
}

#[test]
fn a_stack_is_sharp_where_it_moves_and_clean_where_it_rests() {
    if let Some(gone) = ["avimux", "avidemux", "rawvideoparse"].into_iter().find(|e| !has(e)) {
        println!("SKIP: there is no {gone}");
        return;
    }
    let setup = Setup::new("stacks");
    let clean = made::frames("walk", FRAMES);
    let mut noise = noise::Noise::new(3);
    let taken: Vec<Vec<u8>> = clean.iter().map(|f| noise.on(f, LAYOUT, noise::Kind::Plain, 5.0)).collect();
    let file = film(&setup.dir, &taken);
    let truth = Truth(clean.iter().map(|f| shown(f)).collect());
    let r = setup.set("camera.source", format!("file:{}", file.display())).set("camera.framerate", RATE).start();
    r.until_frame(14);
    let mut gains = Vec::new();
    for _ in 0..3 {
        let single = truth.score(&luma(&r, "pastStack npy before=0.6 count=1", 1));
        let mean = truth.score(&luma(&r, "pastStack npy before=0.6 count=8 mode=mean", STACK));
        let steady = truth.score(&luma(&r, "pastStack npy before=0.6 count=8", STACK));
        println!("single {single:.1?}\nmean   {mean:.1?}\nsteady {steady:.1?}");
        // σ 5 in the span of films: this is the film.
        assert!((32.0..33.5).contains(&single.all), "{single:?}");
        // What moves is lost in a mean.
        assert!(mean.moving < single.moving - 5.0, "{mean:?}");
        assert!(steady.moving >= single.moving - 0.1, "{steady:?} {single:?}");
        assert!(steady.still >= mean.still - 0.5, "{steady:?} {mean:?}");
        gains.push(steady.all - single.all);
    }
    assert!(gains.iter().all(|g| *g >= 3.0), "{gains:?}");
    // Walkers stand in front of no place in more than two frames of eight.
    let empty = shown(&made::frames("ground", 1)[0]);
    let still = luma(&r, "pastStack npy before=0.6 count=8 mode=still", STACK);
    let left = squares(&still, &empty).psnr();
    assert!(left > 36.0, "{left:.1} dB from the empty place");
}
