//! Owns the change of light: from one frame to the next it is a tenth brighter or darker.

use pastcam::frame::Layout;
use pastcam::stack::{Mode, Stacker};
use serde_json::{Value, json};

use super::film::Film;
use super::noise::Noise;
use super::score::{Score, least, mean};
use super::{Plan, Verdict};

/// One moment with one step of light.
pub struct Row {
    what: String,
    single: f64,
    mean: f64,
    steady: f64,
    share: f64,
}

/// The light of a code value `gain` times as bright: of the code itself, or of the light that a tone curve (to the power 1/2.2)
/// made it of.
fn lit(clean: &[u8], layout: Layout, gain: f64) -> Vec<u8> {
    let table: Vec<u8> = (0..256).map(|v| (f64::from(v) * gain).round().min(255.0) as u8).collect();
    let chroma: Vec<u8> = (0..256).map(|v| ((f64::from(v) - 128.0) * gain + 128.0).round().clamp(0.0, 255.0) as u8).collect();
    let y = layout.y().end;
    clean[..y].iter().map(|v| table[usize::from(*v)]).chain(clean[y..].iter().map(|v| chroma[usize::from(*v)])).collect()
}

pub fn measure(plan: &Plan, film: &Film) -> Vec<Row> {
    let mut rows = Vec::new();
    let gains = [
        ("code up", 1.1),
        ("code down", 1.0 / 1.1),
        ("light up", 1.1f64.powf(1.0 / 2.2)),
        ("light down", 1.1f64.powf(-1.0 / 2.2)),
    ];
    for &sigma in &plan.sigmas {
        for &frames in &plan.counts {
            for (scene, step) in [("still", 0), ("film", 1)] {
                for (word, gain) in gains {
                    let of = rows.len();
                    for from in 1..frames {
                        for at in [1, 2, 3].map(|k| k * film.frames.len().saturating_sub(frames) / 4) {
                            let what = format!("{} {scene} sigma {sigma} n {frames} {word} from frame {from} at {at}", film.name);
                            rows.push(row(plan, film, sigma, (frames, step, at), (gain, from), what));
                        }
                    }
                    let some = &rows[of..];
                    let typical = |number: fn(&Row) -> f64| mean(some.iter().map(number));
                    println!(
                        "light: {} {scene:5} sigma {sigma:2} n {frames} {word:10}: single {:.2} mean {:.2} steady {:.2}; least steady - single {:.2}; share {:.2}",
                        film.name,
                        typical(|r| r.single),
                        typical(|r| r.mean),
                        typical(|r| r.steady),
                        least(some.iter().map(|r| (r.steady - r.single, String::new()))).0,
                        typical(|r| r.share)
                    );
                }
            }
        }
    }
    rows
}

fn row(
    plan: &Plan,
    film: &Film,
    sigma: f64,
    (frames, step, at): (usize, usize, usize),
    (gain, from): (f64, usize),
    what: String,
) -> Row {
    let mut noise = Noise::new((at + from * 131 + frames) as u64);
    let clean: Vec<Vec<u8>> =
        (0..frames).map(|k| lit(&film.frames[at + k * step], film.layout, if k >= from { gain } else { 1.0 })).collect();
    let taken: Vec<Vec<u8>> = clean.iter().map(|f| noise.on(f, film.layout, plan.noise, sigma)).collect();
    let refs: Vec<&[u8]> = taken.iter().map(Vec::as_slice).collect();
    let (mut stacker, mut out, reference) = (Stacker::default(), vec![0; film.layout.bytes()], frames / 2);
    let moving = vec![false; film.layout.y().len()];
    let score = |picture: &[u8]| Score::of(picture, &clean[reference], &moving, film.layout).all;
    stacker.merge(Mode::Mean, &refs, reference, film.layout, &mut out);
    let mean = score(&out);
    let share = f64::from(stacker.merge(Mode::Steady, &refs, reference, film.layout, &mut out).share);
    Row { what, single: score(refs[reference]), mean, steady: score(&out), share }
}

impl Row {
    pub fn told(&self) -> Value {
        json!({ "what": self.what, "single": self.single, "mean": self.mean, "steady": self.steady, "share": self.share })
    }
}

pub fn verdicts(rows: &[Row]) -> Vec<Verdict> {
    if rows.is_empty() {
        return Vec::new();
    }
    vec![Verdict::least(
        "light steps by a tenth: steady - single, worst (dB)",
        least(rows.iter().map(|r| (r.steady - r.single, r.what.clone()))),
        0.0,
    )]
}
