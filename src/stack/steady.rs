//! Owns the gated average: each place is averaged over those frames that show there what the reference shows, as far as noise
//! lets one tell. Pure arithmetic on frames; export threads.
//!
//! A frame is compared with the reference cell by cell ([`rows`]), each with its eight neighbours, and counts the less the more it
//! differs: fully up to [`ALIKE`] times what noise alone makes of two frames, not at all from [`OTHER`] times on. In between lies
//! the point where what a frame adds in error outweighs what it takes away in noise. A difference of colour beyond noise counts
//! as well: something red before something grey and as bright.
//!
//! A frame in another light goes through its [`light::Curve`] first.
//!
//! Frames are read row by row, once: what is compared is added up one row later, while it is still in a cache.

use super::light;
use super::noise::{LEVELS, Noise};
use super::rows::{self, Limits};
use crate::frame::Layout;

/// Difference, in units of what noise makes, up to which a frame counts fully.
const ALIKE: f32 = 1.4;
/// Difference from which on it does not count.
const OTHER: f32 = 2.4;
/// Difference of colour, in the same units, up to which it is noise: it is looked at sample by sample.
const COLOUR: f32 = 3.0;
/// The weight of a frame that counts fully, at most. Sums of weights stay below 257, so that sums of samples fit 16 bits.
const FULL: usize = 32;
/// What a difference is multiplied by when it is smoothed 1 : 2 : 1 in both directions.
const SMOOTHED: f32 = 16.0;
/// From the sum of eight luma samples to one of [`LEVELS`] levels.
const LEVEL_SHIFT: u32 = (8 * 256 / LEVELS).ilog2();
/// Where in [`Scratch::differences`] the row begins; beyond either end there is its last cell again.
const EDGE: usize = 8;

/// What decides on weights, for one picture.
struct Gate {
    /// For each level of the reference: [`Limits::none`] and [`Limits::slope`].
    none: [u16; LEVELS],
    slope: [u16; LEVELS],
    full: u16,
    /// See [`rows::add_colour`].
    colour_noise: u8,
    colour_times: u16,
}

impl Gate {
    fn new(noise: &Noise, frames: usize) -> Gate {
        let full = FULL.min(256 / frames) as u16;
        // Casts from floating point saturate.
        let none = noise.luma.map(|mean| (SMOOTHED * OTHER * mean) as u16);
        let slope = noise.luma.map(|mean| (f32::from(full) * 65_536.0 / (SMOOTHED * (OTHER - ALIKE) * mean)) as u16);
        let luma = noise.luma.iter().sum::<f32>() / LEVELS as f32;
        let times = (luma / noise.colour).clamp(1.0, 32.0) as u16;
        Gate { none, slope, full, colour_noise: (COLOUR * noise.colour) as u8, colour_times: times }
    }
}

impl Gate {
    /// [`Limits`] for the cells of the reference, which go by two and two.
    #[inline(never)]
    fn limits(&self, reference: &[u16], none: &mut [u16], slope: &mut [u16]) {
        for ((sums, none), slope) in reference.chunks_exact(2).zip(none.chunks_exact_mut(2)).zip(slope.chunks_exact_mut(2)) {
            let level = usize::from((sums[0] + sums[1]) >> LEVEL_SHIFT) % LEVELS;
            (none[0], none[1]) = (self.none[level], self.none[level]);
            (slope[0], slope[1]) = (self.slope[level], self.slope[level]);
        }
        if let ([.., sum], [.., none], [.., slope], 1) = (reference, none, slope, reference.len() % 2) {
            let level = usize::from((2 * sum) >> LEVEL_SHIFT) % LEVELS;
            (*none, *slope) = (self.none[level], self.slope[level]);
        }
    }
}

/// Rows at work, kept from call to call.
#[derive(Debug, Default)]
pub struct Scratch {
    /// Cell sums of the reference.
    reference: Vec<u16>,
    /// Differences of one row, with a cell more on either side.
    differences: Vec<u16>,
    /// For each frame three rows of smoothed differences.
    smoothed: Vec<u16>,
    /// Of two rows.
    none: [Vec<u16>; 2],
    slope: [Vec<u16>; 2],
    /// Differences of colour in one row.
    coloured: Vec<u8>,
    /// Two luma rows of a frame, as pairs of samples, and its weights; of two frames.
    pairs: [[Vec<u16>; 2]; 2],
    weights: [Vec<u16>; 2],
    /// Of all frames: weights, and samples times weights, as [`rows::add_luma`] and [`rows::add_colours`] have them.
    totals: Vec<u16>,
    luma: [Vec<u16>; 4],
    colours: [Vec<u16>; 2],
}

impl Scratch {
    /// Makes room for rows of `n` cells.
    fn fit(&mut self, n: usize, frames: usize) {
        let twos = [&mut self.none, &mut self.slope, &mut self.weights, &mut self.colours].into_iter().chain(&mut self.pairs);
        let twos = twos.map(<[Vec<u16>; 2]>::each_mut);
        let ones = [&mut self.reference, &mut self.totals].into_iter().chain(&mut self.luma);
        for row in ones.chain(twos.flatten()) {
            row.resize(n, 0);
        }
        self.differences.resize(n + 2 * EDGE, 0);
        self.coloured.resize(n, 0);
        self.smoothed.resize(frames * 3 * n, 0);
    }
}

/// The planes of one frame.
#[derive(Clone, Copy)]
struct Sight<'a> {
    frame: &'a [u8],
    layout: Layout,
}

impl<'a> Sight<'a> {
    /// The two luma rows of a row of cells.
    fn luma(self, row: usize) -> [&'a [u8]; 2] {
        [2 * row, 2 * row + 1].map(|y| {
            let start = self.layout.y().start + y * self.layout.y_stride();
            &self.frame[start..start + self.layout.width as usize]
        })
    }

    /// The rows of U and V.
    fn colour(self, row: usize) -> [&'a [u8]; 2] {
        [self.layout.u(), self.layout.v()].map(|plane| {
            let start = plane.start + row * self.layout.c_stride();
            &self.frame[start..start + self.layout.width as usize / 2]
        })
    }
}

/// What is averaged.
pub struct Frames<'a> {
    /// I420 as `layout` places it.
    pub pixels: &'a [&'a [u8]],
    /// Which of them is the reference.
    pub reference: usize,
    /// Of those in another light, the way back to the reference's.
    pub curves: &'a [Option<light::Curve>],
    /// Where the planes lie.
    pub layout: Layout,
}

/// Writes the gated average into `out` and returns what share of the other frames went in.
pub fn merge(s: &mut Scratch, frames: &Frames<'_>, noise: &Noise, out: &mut [u8]) -> f32 {
    let Frames { pixels: frames, reference, curves, layout } = *frames;
    let gate = Gate::new(noise, frames.len());
    let (columns, rows) = (layout.width as usize / 2, layout.height as usize / 2);
    let work = Work { frames, reference, curves, layout, gate: &gate, rows };
    s.fit(columns, frames.len());
    work.compare(s, 0);
    let mut taken = 0u64;
    for row in 0..rows {
        if row + 1 < rows {
            work.compare(s, row + 1);
        }
        work.blend(s, row);
        taken += s.totals.iter().map(|t| u64::from(t - gate.full)).sum::<u64>();
        work.write(s, row, out);
    }
    let all = (frames.len() as u64 - 1) * u64::from(gate.full) * (columns * rows) as u64;
    taken as f32 / all.max(1) as f32
}

/// Frames of `rows` rows of cells, and how they are weighed.
struct Work<'a> {
    frames: &'a [&'a [u8]],
    reference: usize,
    curves: &'a [Option<light::Curve>],
    layout: Layout,
    gate: &'a Gate,
    rows: usize,
}

impl Work<'_> {
    fn sight(&self, frame: usize) -> Sight<'_> {
        Sight { frame: self.frames[frame], layout: self.layout }
    }

    /// Compares a row of all frames with the reference's.
    fn compare(&self, s: &mut Scratch, row: usize) {
        let inner = EDGE..EDGE + s.reference.len();
        let reference = self.sight(self.reference);
        let [pairs, _] = &mut s.pairs;
        self.pairs(self.reference, row, pairs);
        rows::cells(&pairs[0], &pairs[1], &mut s.reference);
        self.gate.limits(&s.reference, &mut s.none[row % 2], &mut s.slope[row % 2]);
        let [reference_u, reference_v] = reference.colour(row);
        for (index, _) in self.frames.iter().enumerate().filter(|(index, _)| *index != self.reference) {
            let frame = self.sight(index);
            let [u, v] = frame.colour(row);
            let differences = &mut s.differences[inner.clone()];
            self.pairs(index, row, pairs);
            rows::differ(&pairs[0], &pairs[1], &s.reference, differences);
            if rows::colours_differ([u, reference_u], [v, reference_v], self.gate.colour_noise, &mut s.coloured) {
                rows::add_difference(&s.coloured, self.gate.colour_times, differences);
            }
            let wide = &mut s.differences;
            (wide[EDGE - 1], wide[inner.end]) = (wide[EDGE], wide[inner.end - 1]);
            let smoothed = &mut s.smoothed[(index * 3 + row % 3) * inner.len()..][..inner.len()];
            rows::smooth(&wide[EDGE - 1..], &wide[EDGE..], &wide[EDGE + 1..], smoothed);
        }
    }

    /// Adds up a row of all frames.
    fn blend(&self, s: &mut Scratch, row: usize) {
        let cells = s.reference.len();
        let near = [row.saturating_sub(1) % 3, row % 3, (row + 1).min(self.rows - 1) % 3];
        let limits = Limits { none: &s.none[row % 2], slope: &s.slope[row % 2], full: self.gate.full };
        for sums in s.luma.iter_mut().chain(&mut s.colours).chain([&mut s.totals]) {
            sums.fill(0);
        }
        // Two frames at a time, which halves the way of the sums to and from memory.
        let mut waits = false;
        for index in 0..self.frames.len() {
            let three = near.map(|k| &s.smoothed[(index * 3 + k) * cells..][..cells]);
            let place = usize::from(waits);
            let weights = &mut s.weights[place];
            if index == self.reference {
                weights.fill(self.gate.full);
                s.totals.iter_mut().for_each(|total| *total += self.gate.full);
            } else if !rows::weigh(three, &limits, weights, &mut s.totals) {
                continue;
            }
            self.pairs(index, row, &mut s.pairs[place]);
            rows::add_colours(self.sight(index).colour(row), weights, slices(&mut s.colours));
            if waits {
                rows::add_luma(weighed(&s.pairs, &s.weights, 0), Some(weighed(&s.pairs, &s.weights, 1)), slices(&mut s.luma));
            }
            waits = !waits;
        }
        if waits {
            rows::add_luma(weighed(&s.pairs, &s.weights, 0), None, slices(&mut s.luma));
        }
    }

    /// The luma of one row of cells of a frame, in the reference's light.
    fn pairs(&self, frame: usize, row: usize, out: &mut [Vec<u16>; 2]) {
        for (samples, out) in self.sight(frame).luma(row).into_iter().zip(out) {
            match &self.curves[frame] {
                None => rows::pairs(samples, out),
                Some(curve) => {
                    for (two, out) in samples.chunks_exact(2).zip(out) {
                        *out = u16::from_le_bytes([curve[usize::from(two[0])], curve[usize::from(two[1])]]);
                    }
                }
            }
        }
    }

    /// Writes what has been added up.
    fn write(&self, s: &mut Scratch, row: usize, out: &mut [u8]) {
        let [shares, _] = &mut s.weights;
        rows::shares(&s.totals, shares);
        let (layout, columns) = (self.layout, self.layout.width as usize);
        for (half, sums) in s.luma.chunks_exact(2).enumerate() {
            let start = layout.y().start + (2 * row + half) * layout.y_stride();
            rows::divide_pairs([&sums[0], &sums[1]], &s.totals, shares, &mut out[start..start + columns]);
        }
        for (sums, plane) in s.colours.iter().zip([layout.u(), layout.v()]) {
            let start = plane.start + row * layout.c_stride();
            rows::divide(sums, &s.totals, shares, &mut out[start..start + columns / 2]);
        }
    }
}

/// One of the two frames at work.
fn weighed<'a>(pairs: &'a [[Vec<u16>; 2]; 2], weights: &'a [Vec<u16>; 2], place: usize) -> rows::Weighed<'a> {
    [&pairs[place][0], &pairs[place][1], &weights[place]]
}

fn slices<const N: usize>(rows: &mut [Vec<u16>; N]) -> [&mut [u16]; N] {
    rows.each_mut().map(Vec::as_mut_slice)
}
