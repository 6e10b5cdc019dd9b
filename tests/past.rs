//! What `steady` is held to, on a film and on made scenes that are hard on it; `cargo bench --bench past` measures many more
//! moments. `PASTCAM_FILM` names the film.

use pastcam::frame::Layout;
use pastcam::stack::{Mode, Stacker};

#[allow(dead_code, reason = "the benchmark uses all of it")]
#[path = "../benches/past/film.rs"]
mod film;
#[path = "../benches/past/made.rs"]
mod made;
#[allow(dead_code, reason = "the benchmark uses all of it")]
#[path = "../benches/past/noise.rs"]
mod noise;
#[allow(dead_code, reason = "the benchmark uses all of it")]
#[path = "../benches/past/score.rs"]
mod score;

use noise::{Kind, Noise};
use score::{Score, moving, squares};

/// The middle frame, the mean and steady of `clean` with noise, and the share that was averaged.
fn pictures(clean: &[&[u8]], layout: Layout, sigma: f64) -> ([Vec<u8>; 3], f32) {
    let mut noise = Noise::new(7);
    let taken: Vec<Vec<u8>> = clean.iter().map(|f| noise.on(f, layout, Kind::Plain, sigma)).collect();
    let refs: Vec<&[u8]> = taken.iter().map(Vec::as_slice).collect();
    let middle = clean.len() / 2;
    let [mut mean, mut steady] = [0, 1].map(|_| vec![0; layout.bytes()]);
    let mut stacker = Stacker::default();
    stacker.merge(Mode::Mean, &refs, middle, layout, &mut mean);
    let share = stacker.merge(Mode::Steady, &refs, middle, layout, &mut steady).share;
    ([taken[middle].clone(), mean, steady], share)
}

/// Never worse than the single frame, in luma and chroma, where it moves neither; where it rests as good as the mean.
fn assert_worth_it(what: &str, clean: &[&[u8]], layout: Layout, sigma: f64) -> f64 {
    let middle = clean.len() / 2;
    let (pictures, share) = pictures(clean, layout, sigma);
    let moves = moving(clean, middle, layout);
    let [single, mean, steady] = pictures.map(|p| Score::of(&p, clean[middle], &moves, layout));
    println!(
        "{what}, sigma {sigma}, {} frames, {share:.2} averaged\n  single {single:.2?}\n  mean   {mean:.2?}\n  steady {steady:.2?}",
        clean.len()
    );
    assert!(steady.all >= single.all - 0.1, "{what}: {:.2} against one frame's {:.2} dB", steady.all, single.all);
    assert!(
        steady.chroma >= single.chroma - 0.1,
        "{what}: chroma {:.2} against one frame's {:.2} dB",
        steady.chroma,
        single.chroma
    );
    // A part of less than half a per cent, chance decides about.
    let part = moves.iter().filter(|m| **m).count() as f64 / moves.len() as f64;
    assert!(
        part < 0.005 || steady.moving >= single.moving,
        "{what}: moving {:.2} against {:.2} dB",
        steady.moving,
        single.moving
    );
    assert!(part > 0.995 || steady.still >= mean.still - 0.5, "{what}: still {:.2} against {:.2} dB", steady.still, mean.still);
    steady.all - single.all
}

#[test]
fn made_scenes_are_never_worse_than_one_frame() {
    let gains = ["walk", "dim", "thin", "pan", "leaf", "fade"].map(|rule| {
        let frames = made::frames(rule, 8);
        let clean: Vec<&[u8]> = frames.iter().map(Vec::as_slice).collect();
        assert_worth_it(rule, &clean, made::LAYOUT, 6.0)
    });
    let mean = score::mean(gains.into_iter());
    assert!(mean >= 3.0, "{gains:.1?} dB");
}

/// Its luma rests everywhere, but is averaged only where the colour rests too: it is not held to the mean.
#[test]
fn colour_that_moves_is_kept() {
    let frames = made::frames("tint", 8);
    let clean: Vec<&[u8]> = frames.iter().map(Vec::as_slice).collect();
    let (pictures, share) = pictures(&clean, made::LAYOUT, 6.0);
    let [single, mean, steady] = pictures.map(|p| Score::of(&p, clean[4], &vec![false; made::LAYOUT.y().len()], made::LAYOUT));
    println!("tint, {share:.2} averaged\n  single {single:.2?}\n  mean   {mean:.2?}\n  steady {steady:.2?}");
    assert!(steady.all >= single.all + 3.0, "{:.2} against one frame's {:.2} dB", steady.all, single.all);
    let others = single.chroma.max(mean.chroma);
    assert!(steady.chroma >= others + 3.0, "chroma {:.2} against {others:.2} dB", steady.chroma);
}

#[test]
fn a_film_is_never_worse_than_one_frame() {
    let Some(path) = std::env::var("PASTCAM_FILM").ok().filter(|f| std::path::Path::new(f).exists()) else {
        println!("SKIP: PASTCAM_FILM names no film");
        return;
    };
    let film = film::Film::open(&path).unwrap();
    let mut gains = Vec::new();
    for (at, sigma, frames) in [(20, 6.0, 8), (70, 3.0, 4), (128, 6.0, 4), (183, 12.0, 8)] {
        let clean: Vec<&[u8]> = film.frames[at..at + frames].iter().map(Vec::as_slice).collect();
        gains.push(assert_worth_it(&format!("{} at {at}", film.name), &clean, film.layout, sigma));
    }
    let mean = score::mean(gains.iter().copied());
    assert!(mean >= 3.0, "{gains:.1?} dB");
}

#[test]
fn a_still_scene_keeps_a_root_of_the_noise() {
    let grey = {
        let mut pixels = vec![128; made::LAYOUT.bytes()];
        pixels[made::LAYOUT.y()].fill(110);
        pixels
    };
    for (what, clean) in [("grey", grey), ("texture", made::frames("ground", 1).remove(0))] {
        for (sigma, frames) in [(3.0, 8), (6.0, 4), (12.0, 8)] {
            let ([_, _, steady], share) = pictures(&vec![clean.as_slice(); frames], made::LAYOUT, sigma);
            let left = squares(&steady[made::LAYOUT.y()], &clean[made::LAYOUT.y()]).mean().sqrt();
            let ratio = left / (sigma / (frames as f64).sqrt());
            println!("{what}: sigma {sigma}, {frames} frames: {ratio:.3} of sigma / root n, {share:.3} averaged");
            // Rounding adds 4 % at sigma 3 and 8 frames, and nobody can average that away.
            assert!((0.95..=1.05).contains(&ratio), "{what}: sigma {sigma}, {frames} frames: {ratio:.3}");
        }
    }
}

#[test]
fn a_step_of_light_costs_nothing_against_one_frame() {
    let ground = made::frames("ground", 1).remove(0);
    let lit: Vec<u8> =
        ground.iter().enumerate().map(|(i, v)| if i < made::LAYOUT.y().end { (f64::from(*v) * 1.1) as u8 } else { *v }).collect();
    for (before, after) in [(&ground, &lit), (&lit, &ground)] {
        for from in [1, 4, 6] {
            let clean: Vec<&[u8]> = (0..8).map(|k| if k < from { before.as_slice() } else { after.as_slice() }).collect();
            let ([single, _, steady], share) = pictures(&clean, made::LAYOUT, 6.0);
            let [single, steady] = [single, steady].map(|p| squares(&p[made::LAYOUT.y()], &clean[4][made::LAYOUT.y()]).psnr());
            println!("light steps before frame {from}: single {single:.2}, steady {steady:.2} dB, {share:.2} averaged");
            assert!(steady >= single, "light steps before frame {from}: {steady:.2} against {single:.2} dB");
        }
    }
}
