//! Owns the main part: moments of films as one picture.

use pastcam::stack::{Mode, Stacker};
use serde_json::{Value, json};

use super::film::Film;
use super::noise::Noise;
use super::score::{Score, least, mean, moving};
use super::{Plan, Verdict, sheet};

/// The least share of a picture that counts as its moving or its still part: in less, chance decides.
const PART: f64 = 0.005;

/// One moment of a film.
struct Moment {
    at: usize,
    moving: f64,
    share: f64,
    single: Score,
    mean: Score,
    steady: Score,
    still: Option<Score>,
}

/// All moments of a film with one noise, number of frames and step.
pub struct Row {
    film: String,
    sigma: f64,
    frames: usize,
    step: usize,
    moments: Vec<Moment>,
}

pub fn head() {
    println!("PSNR (dB): luma of the whole picture, of its moving part, of its still part, then chroma; means of all moments.");
    println!(
        "`least`: the worst moment of steady - single, in the whole picture and in the moving part; `most`: of mean - steady in the still part."
    );
}

pub fn measure(plan: &Plan, film: &Film) -> Vec<Row> {
    println!(
        "\n{} {}x{}, {} frames, {} noise",
        film.name,
        film.layout.width,
        film.layout.height,
        film.frames.len(),
        plan.noise.word()
    );
    println!(
        "sigma n step moments moving share |        all: single mean steady |     moving: single mean steady  least |      still: single mean steady   most | chroma: single mean steady | least, at"
    );
    let mut rows = Vec::new();
    for &sigma in &plan.sigmas {
        for &frames in &plan.counts {
            for &step in &plan.steps {
                let row = Row::measure(plan, film, sigma, frames, step);
                row.show();
                rows.push(row);
            }
        }
    }
    if let Some(dir) = &plan.worst {
        let all = rows.iter().flat_map(|r| r.moments.iter().map(move |m| (m.steady.all - m.single.all, r, m)));
        if let Some((_, r, m)) = all.min_by(|a, b| a.0.total_cmp(&b.0)) {
            sheet::write(dir, plan, film, (r.sigma, r.frames, r.step, m.at));
        }
    }
    rows
}

/// Noisy frames of a moment, the clean ones, and which of them is the reference.
pub fn noisy<'a>(
    plan: &Plan,
    film: &'a Film,
    sigma: f64,
    frames: usize,
    step: usize,
    at: usize,
) -> (Vec<Vec<u8>>, Vec<&'a [u8]>, usize) {
    let clean: Vec<&[u8]> = (0..frames).map(|k| film.frames[at + k * step].as_slice()).collect();
    let mut noise = Noise::new((at * 31 + frames * 7 + step) as u64 + 1);
    let taken = clean.iter().map(|f| noise.on(f, film.layout, plan.noise, sigma)).collect();
    (taken, clean, frames / 2)
}

impl Row {
    fn measure(plan: &Plan, film: &Film, sigma: f64, frames: usize, step: usize) -> Row {
        let places = film.frames.len().saturating_sub((frames - 1) * step);
        let wanted = plan.moments.min(places);
        let mut stacker = Stacker::default();
        let mut out = vec![0; film.layout.bytes()];
        let moments = (0..wanted).map(|k| {
            let at = if wanted > 1 { k * (places - 1) / (wanted - 1) } else { 0 };
            let (noisy, clean, reference) = noisy(plan, film, sigma, frames, step, at);
            let mask = moving(&clean, reference, film.layout);
            let refs: Vec<&[u8]> = noisy.iter().map(Vec::as_slice).collect();
            let mut score = |mode| {
                let told = stacker.merge(mode, &refs, reference, film.layout, &mut out);
                (Score::of(&out, clean[reference], &mask, film.layout), f64::from(told.share))
            };
            let (mean, (steady, share)) = (score(Mode::Mean).0, score(Mode::Steady));
            let still = plan.still.then(|| score(Mode::Still).0);
            let single = Score::of(refs[reference], clean[reference], &mask, film.layout);
            let moving = mask.iter().filter(|m| **m).count() as f64 / mask.len() as f64;
            Moment { at, moving, share, single, mean, steady, still }
        });
        Row { film: film.name.clone(), sigma, frames, step, moments: moments.collect() }
    }

    fn name(&self) -> String {
        format!("{} sigma {} n {} step {}", self.film, self.sigma, self.frames, self.step)
    }
    fn mean(&self, number: impl Fn(&Moment) -> f64) -> f64 {
        mean(self.moments.iter().map(number).filter(|x| x.is_finite()))
    }
    /// Steady less single, in the whole picture.
    fn gains(&self) -> impl Iterator<Item = (f64, String)> {
        self.moments.iter().map(|m| (m.steady.all - m.single.all, format!("{} at {}", self.name(), m.at)))
    }
    /// Steady less single, in the moving part.
    fn moving(&self) -> impl Iterator<Item = (f64, String)> {
        let some = self.moments.iter().filter(|m| m.moving >= PART);
        some.map(|m| {
            (m.steady.moving - m.single.moving, format!("{} at {} ({:.1} % moving)", self.name(), m.at, m.moving * 100.0))
        })
    }
    /// Steady less mean, in the still part.
    fn still(&self) -> impl Iterator<Item = (f64, String)> {
        let some = self.moments.iter().filter(|m| 1.0 - m.moving >= PART);
        some.map(|m| {
            (m.steady.still - m.mean.still, format!("{} at {} ({:.1} % still)", self.name(), m.at, (1.0 - m.moving) * 100.0))
        })
    }
    fn chroma(&self) -> impl Iterator<Item = (f64, String)> {
        self.moments.iter().map(|m| (m.steady.chroma - m.single.chroma, format!("{} at {}", self.name(), m.at)))
    }

    fn show(&self) {
        let of = |part: fn(&Score) -> f64| {
            [self.mean(|m| part(&m.single)), self.mean(|m| part(&m.mean)), self.mean(|m| part(&m.steady))]
        };
        let [all, moving, still, chroma] = [of(|s| s.all), of(|s| s.moving), of(|s| s.still), of(|s| s.chroma)];
        let worst = least(self.gains());
        print!(
            "{:5} {} {:4} {:7} {:5.1}% {:5.2} |",
            self.sigma,
            self.frames,
            self.step,
            self.moments.len(),
            self.mean(|m| m.moving) * 100.0,
            self.mean(|m| m.share)
        );
        print!("             {:6.2} {:5.2} {:6.2} |", all[0], all[1], all[2]);
        print!("             {:6.2} {:5.2} {:6.2} {:6.2} |", moving[0], moving[1], moving[2], least(self.moving()).0);
        print!("             {:6.2} {:5.2} {:6.2} {:6.2} |", still[0], still[1], still[2], -least(self.still()).0);
        print!(
            "        {:6.2} {:5.2} {:6.2} | {:5.2} {}",
            chroma[0],
            chroma[1],
            chroma[2],
            worst.0,
            worst.1.rsplit(' ').next().unwrap_or_default()
        );
        if self.moments.iter().any(|m| m.still.is_some()) {
            print!(" | median {:.2}", self.mean(|m| m.still.map_or(f64::NAN, |s| s.all)));
        }
        println!();
    }

    pub fn told(&self) -> Value {
        let score = |s: &Score| {
            json!([s.all, s.moving, s.still, s.chroma].map(|x| x.is_finite().then_some((x * 1000.0).round() / 1000.0)))
        };
        let moments = self.moments.iter().map(|m| {
            json!({ "at": m.at, "moving": m.moving, "share": m.share, "single": score(&m.single), "mean": score(&m.mean), "steady": score(&m.steady), "still": m.still.as_ref().map(score) })
        });
        json!({ "film": self.film, "sigma": self.sigma, "frames": self.frames, "step": self.step, "moments": moments.collect::<Vec<_>>() })
    }
}

pub fn verdicts(rows: &[Row]) -> Vec<Verdict> {
    if rows.is_empty() {
        return Vec::new();
    }
    println!();
    let gain = mean(rows.iter().flat_map(Row::gains).map(|g| g.0));
    let typical = |of: &dyn Fn(&Row) -> Vec<f64>| {
        least(rows.iter().map(|r| (mean(of(r).into_iter()), r.name())).filter(|m| m.0.is_finite()))
    };
    let moving = typical(&|r| r.moving().map(|m| m.0).collect());
    let still = typical(&|r| r.still().map(|m| m.0).collect());
    vec![
        Verdict::least("steady - single, worst moment (dB)", least(rows.iter().flat_map(Row::gains)), -0.1),
        Verdict::least("steady - single in moving parts, mean of the worst row (dB)", moving, 0.0),
        Verdict::least("steady - single in moving parts, worst moment (dB)", least(rows.iter().flat_map(Row::moving)), -0.1),
        Verdict::least("steady - mean in still parts, mean of the worst row (dB)", still, -0.5),
        Verdict::least("steady - mean in still parts, worst moment (dB)", least(rows.iter().flat_map(Row::still)), -0.5),
        Verdict::least("steady - single, mean of all (dB)", (gain, String::new()), 3.0),
        Verdict::least("chroma: steady - single, worst moment (dB)", least(rows.iter().flat_map(Row::chroma)), -0.1),
    ]
}
