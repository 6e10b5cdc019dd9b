//! Owns the still scene: one clean frame again and again, each time with other noise.

use pastcam::frame::Layout;
use pastcam::stack::{Mode, Stacker};
use serde_json::{Value, json};

use super::film::Film;
use super::noise::{Kind, Noise};
use super::score::{least, mean};
use super::{Plan, Verdict};

/// What is left of the noise.
pub struct Row {
    scene: String,
    sigma: f64,
    frames: usize,
    /// Noise of the picture / (σ/√n), of the mean and of `steady`.
    mean: f64,
    steady: f64,
    share: f64,
}

/// Places of a film as still scenes: three frames of it.
pub fn measure(plan: &Plan, film: &Film) -> Vec<Row> {
    if plan.noise != Kind::Plain {
        return Vec::new();
    }
    let scenes = [0, 1, 2].map(|k| &film.frames[k * (film.frames.len() - 1) / 2]);
    rows(plan, &film.name, film.layout, &scenes.map(Vec::as_slice))
}

/// Grey areas without any texture.
pub fn flat(plan: &Plan) -> Vec<Row> {
    let layout = Layout::new(640, 480);
    let greys = [60u8, 128, 190].map(|grey| {
        let mut pixels = vec![128; layout.bytes()];
        pixels[layout.y()].fill(grey);
        pixels
    });
    rows(plan, "plain grey", layout, &[&greys[0], &greys[1], &greys[2]])
}

fn rows(plan: &Plan, name: &str, layout: Layout, scenes: &[&[u8]]) -> Vec<Row> {
    let mut rows = Vec::new();
    for &sigma in &plan.sigmas {
        for &frames in &plan.counts {
            let each: Vec<[f64; 3]> = scenes.iter().map(|clean| noise_left(clean, layout, sigma, frames)).collect();
            let [mean, steady, share] = [0, 1, 2].map(|k| mean(each.iter().map(|e| e[k]).filter(|x| x.is_finite())));
            println!(
                "at rest: {name:14} sigma {sigma:2} n {frames}: noise / (sigma/sqrt n): mean {mean:.3}, steady {steady:.3}; share {share:.3}"
            );
            rows.push(Row { scene: name.into(), sigma, frames, mean, steady, share });
        }
    }
    rows
}

fn noise_left(clean: &[u8], layout: Layout, sigma: f64, frames: usize) -> [f64; 3] {
    let mut noise = Noise::new(frames as u64 * 977 + 5);
    let taken: Vec<Vec<u8>> = (0..frames).map(|_| noise.on(clean, layout, Kind::Plain, sigma)).collect();
    let refs: Vec<&[u8]> = taken.iter().map(Vec::as_slice).collect();
    let (mut stacker, mut out) = (Stacker::default(), vec![0; layout.bytes()]);
    let mut left = |mode| {
        let share = stacker.merge(mode, &refs, frames / 2, layout, &mut out).share;
        // Noise near black and white is cut off and tells nothing.
        let inside = |c: u8| (4.0 * sigma..255.0 - 4.0 * sigma).contains(&f64::from(c));
        let squares = clean[layout.y()]
            .iter()
            .zip(&out)
            .filter(|(c, _)| inside(**c))
            .map(|(c, o)| f64::from(u32::from(c.abs_diff(*o)).pow(2)));
        (mean(squares).sqrt() / (sigma / (frames as f64).sqrt()), f64::from(share))
    };
    let ((mean, _), (steady, share)) = (left(Mode::Mean), left(Mode::Steady));
    [mean, steady, share]
}

impl Row {
    fn name(&self) -> String {
        format!("{} sigma {} n {}", self.scene, self.sigma, self.frames)
    }
    pub fn told(&self) -> Value {
        json!({ "scene": self.scene, "sigma": self.sigma, "frames": self.frames, "mean": self.mean, "steady": self.steady, "share": self.share })
    }
}

pub fn verdicts(rows: &[Row]) -> Vec<Verdict> {
    if rows.is_empty() {
        return Vec::new();
    }
    let worst = |number: fn(&Row) -> f64| {
        let (value, at) = least(rows.iter().map(|r| (-number(r), r.name())));
        (-value, at)
    };
    vec![
        // Rounding alone adds 4 % at sigma 3 and 8 frames.
        Verdict::most("at rest: noise of steady / (sigma/sqrt n)", worst(|r| r.steady), 1.05),
        Verdict::most("at rest: noise of steady / noise of the mean", worst(|r| r.steady / r.mean), 1.05),
    ]
}
