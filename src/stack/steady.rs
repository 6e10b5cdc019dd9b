//! Owns the gated average: each place is averaged over those frames that show there what the reference shows, as far as noise
//! lets one tell. Pure arithmetic on frames; export threads.
//!
//! A frame is compared with the reference cell by cell ([`rows`]), sample by sample, each cell with its eight neighbours, and
//! counts the less the more it differs: fully up to [`ALIKE`] times what noise alone makes of two frames, not at all from [`OTHER`]
//! times on. In between lies the point where what a frame adds in error outweighs what it takes away in noise. Colour counts along
//! with luma: something red before something grey and as bright.
//!
//! A frame in another light goes through its [`light::Curve`] first.
//!
//! Frames are read row by row, once: what is compared is added up one row later, while it is still in a cache.

use super::light;
use super::noise::{LEVELS, Noise};
use super::rows::{self, Limits};
use crate::frame::Layout;

/// Difference of luma, in units of what noise makes, up to which a frame counts fully.
const ALIKE: f32 = 1.4;
/// Difference from which on it does not count.
const OTHER: f32 = 1.7;
/// The same where neighbours share their noise: the fewer samples there are that tell something, the wider they spread.
const ALIKE_COARSE: f32 = 1.45;
const OTHER_COARSE: f32 = 2.2;
/// Share of colour in a difference, beside luma.
const COLOUR: f32 = 0.4;
/// Luma samples of a cell.
const CELL: f32 = 4.0;
/// A difference of colour counts so many times at most, so that a smoothed difference fits 16 bits.
const MOST_TIMES: f32 = 12.0;
const _: () = assert!((2.0 * 255.0 + MOST_TIMES * 255.0) * SMOOTHED <= 65_535.0);
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
    /// See [`rows::cells_differ`].
    colour_times: u16,
}

impl Gate {
    fn new(noise: &Noise, frames: usize) -> Gate {
        let (alike, other) = if noise.coarse { (ALIKE_COARSE, OTHER_COARSE) } else { (ALIKE, OTHER) };
        let [luma, colour] = [&noise.luma, &noise.colour].map(|by_level| by_level.iter().sum::<f32>());
        let times = (COLOUR * CELL * luma / colour).round().clamp(1.0, MOST_TIMES);
        // Where there is hardly any noise a weight goes down steeply: no more steps than its slope has room for.
        let least = noise.luma.iter().copied().fold(f32::INFINITY, f32::min);
        let steps = (SMOOTHED * CELL * (other - alike) * least) as usize;
        let full = FULL.min(256 / frames).min(steps).max(1) as u16;
        // Casts from floating point saturate.
        let none = |level: usize| (SMOOTHED * (CELL * other * noise.luma[level] + times * noise.colour[level])) as u16;
        let slope = |level: usize| (f32::from(full) * 65_536.0 / (SMOOTHED * CELL * (other - alike) * noise.luma[level])) as u16;
        Gate { none: std::array::from_fn(none), slope: std::array::from_fn(slope), full, colour_times: times as u16 }
    }

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
    /// Differences of one row, of luma samples (both rows of a cell together) and of colour.
    samples: Vec<u8>,
    coloured: Vec<u8>,
    /// Two luma rows of a frame in another light, as the reference's light would show them.
    relit: [Vec<u8>; 2],
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
        for row in self.relit.iter_mut().chain([&mut self.samples]) {
            row.resize(2 * n, 0);
        }
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
        for (samples, pairs) in reference.luma(row).into_iter().zip(pairs.iter_mut()) {
            rows::pairs(samples, pairs);
        }
        rows::cells(&pairs[0], &pairs[1], &mut s.reference);
        self.gate.limits(&s.reference, &mut s.none[row % 2], &mut s.slope[row % 2]);
        for (index, _) in self.frames.iter().enumerate().filter(|(index, _)| *index != self.reference) {
            let luma = self.relit(index, row, &mut s.relit);
            rows::samples_differ(luma, reference.luma(row), &mut s.samples);
            rows::colours_differ(self.sight(index).colour(row), reference.colour(row), &mut s.coloured);
            rows::pairs(&s.samples, &mut pairs[0]);
            rows::cells_differ(&pairs[0], &s.coloured, self.gate.colour_times, &mut s.differences[inner.clone()]);
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
            for (samples, pairs) in self.relit(index, row, &mut s.relit).into_iter().zip(&mut s.pairs[place]) {
                rows::pairs(samples, pairs);
            }
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

    /// The two luma rows of a row of cells of a frame, in the reference's light.
    fn relit<'b>(&'b self, frame: usize, row: usize, room: &'b mut [Vec<u8>; 2]) -> [&'b [u8]; 2] {
        let luma = self.sight(frame).luma(row);
        let Some(curve) = &self.curves[frame] else { return luma };
        for (samples, room) in luma.iter().zip(room.iter_mut()) {
            for (sample, room) in samples.iter().zip(room) {
                *room = curve[usize::from(*sample)];
            }
        }
        room.each_ref().map(Vec::as_slice)
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
