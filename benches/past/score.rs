//! Owns the arithmetic of comparing: peak signal to noise, and which part of a picture moves.

use pastcam::frame::Layout;

/// Sum of squares and number of samples.
#[derive(Debug, Clone, Copy, Default)]
pub struct Squares {
    sum: f64,
    n: f64,
}

impl Squares {
    fn add(&mut self, a: u8, b: u8) {
        self.sum += f64::from(u32::from(a.abs_diff(b)).pow(2));
        self.n += 1.0;
    }
    pub fn mean(self) -> f64 {
        self.sum / self.n
    }
    /// dB; where nothing differs, as if it differed by a tenth on average. Not a number of no samples.
    pub fn psnr(self) -> f64 {
        if self.n == 0.0 { f64::NAN } else { 10.0 * (255.0f64.powi(2) / self.mean().max(0.01)).log10() }
    }
}

/// PSNR (dB) of a picture: luma of all, of the moving part, of the still part; chroma.
#[derive(Debug, Clone, Copy)]
pub struct Score {
    pub all: f64,
    pub moving: f64,
    pub still: f64,
    pub chroma: f64,
}

impl Score {
    pub fn of(picture: &[u8], truth: &[u8], moving: &[bool], layout: Layout) -> Score {
        let mut parts = [Squares::default(); 2];
        for ((p, t), m) in picture[layout.y()].iter().zip(&truth[layout.y()]).zip(moving) {
            parts[usize::from(*m)].add(*p, *t);
        }
        let [still, moving] = parts;
        let all = Squares { sum: still.sum + moving.sum, n: still.n + moving.n };
        Score {
            all: all.psnr(),
            moving: moving.psnr(),
            still: still.psnr(),
            chroma: squares(&picture[layout.y().end..], &truth[layout.y().end..]).psnr(),
        }
    }
}

pub fn squares(a: &[u8], b: &[u8]) -> Squares {
    let mut all = Squares::default();
    a.iter().zip(b).for_each(|(a, b)| all.add(*a, *b));
    all
}

/// Where the clean frames differ from the clean reference: a mean of more than 6 over 5×5 of the largest difference.
pub fn moving(clean: &[&[u8]], reference: usize, layout: Layout) -> Vec<bool> {
    let (w, h) = (layout.width as usize, layout.height as usize);
    let truth = &clean[reference][layout.y()];
    let mut apart = vec![0u8; w * h];
    for frame in clean {
        for ((most, a), b) in apart.iter_mut().zip(&frame[layout.y()]).zip(truth) {
            *most = (*most).max(a.abs_diff(*b));
        }
    }
    // Sums along rows, then down columns; at the edges of what is there.
    let window = |i: usize, n: usize| i.saturating_sub(2)..(i + 3).min(n);
    let rows: Vec<u32> = (0..w * h).map(|i| window(i % w, w).map(|x| u32::from(apart[i / w * w + x])).sum()).collect();
    (0..w * h)
        .map(|i| {
            let (x, y) = (i % w, i / w);
            let sum: u32 = window(y, h).map(|y| rows[y * w + x]).sum();
            sum as usize > 6 * window(x, w).len() * window(y, h).len()
        })
        .collect()
}

/// The smallest of these with where it is; infinite where there is none.
pub fn least(of: impl Iterator<Item = (f64, String)>) -> (f64, String) {
    of.min_by(|a, b| a.0.total_cmp(&b.0)).unwrap_or((f64::INFINITY, "nothing measured".into()))
}

/// The mean; not a number where there is nothing.
pub fn mean(of: impl Iterator<Item = f64>) -> f64 {
    let (n, sum) = of.fold((0.0, 0.0), |(n, sum), x| (n + 1.0, sum + x));
    sum / n
}
