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
const COLOUR: f32 = 2.6;
/// The weight of a frame that counts fully, at most. Sums of weights stay below 257, so that sums of samples fit 16 bits.
const FULL: usize = 32;
/// What a difference is multiplied by when it is smoothed 1 : 2 : 1 in both directions.
const SMOOTHED: f32 = 16.0;
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
    /// Two luma rows of a frame in another light, as the reference's light would show them.
    relit: [Vec<u8>; 2],
    /// Of one frame, for cells and for luma columns; in the end what the sums are multiplied with.
    weights: Vec<u16>,
    doubled: Vec<u16>,
    /// Of all frames: weights for cells and for luma columns, and samples times weights of two luma rows, of U and of V.
    totals: Vec<u16>,
    doubled_totals: Vec<u16>,
    sums: [Vec<u16>; 4],
}

impl Scratch {
    /// Makes room for rows of `n` cells.
    fn fit(&mut self, n: usize, frames: usize) {
        let [none, slope] = [&mut self.none, &mut self.slope].map(<[Vec<u16>; 2]>::each_mut);
        let cells = [&mut self.reference, &mut self.weights, &mut self.totals].into_iter().chain(none).chain(slope);
        let [upper, lower, u, v] = &mut self.sums;
        let columns = [&mut self.doubled, &mut self.doubled_totals, upper, lower];
        let all = cells.chain([u, v]).map(|b| (b, n)).chain(columns.map(|b| (b, 2 * n)));
        for (buffer, length) in all.chain([(&mut self.differences, n + 2 * EDGE), (&mut self.smoothed, frames * 3 * n)]) {
            buffer.resize(length, 0);
        }
        for row in &mut self.relit {
            row.resize(2 * n, 0);
        }
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

/// The two luma rows of a frame in the reference's light.
fn relit<'a>(rows: [&'a [u8]; 2], curve: Option<&light::Curve>, room: &'a mut [Vec<u8>; 2]) -> [&'a [u8]; 2] {
    let Some(curve) = curve else { return rows };
    for (row, room) in rows.iter().zip(room.iter_mut()) {
        for (value, room) in row.iter().zip(room) {
            *room = curve[usize::from(*value)];
        }
    }
    let [upper, lower] = room;
    [upper, lower]
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
        let [upper, lower] = reference.luma(row);
        rows::cells(upper, lower, &mut s.reference);
        for ((none, slope), sum) in s.none[row % 2].iter_mut().zip(&mut s.slope[row % 2]).zip(&s.reference) {
            let level = usize::from(*sum) * LEVELS / 1024 % LEVELS;
            (*none, *slope) = (self.gate.none[level], self.gate.slope[level]);
        }
        let [reference_u, reference_v] = reference.colour(row);
        for (index, _) in self.frames.iter().enumerate().filter(|(index, _)| *index != self.reference) {
            let frame = self.sight(index);
            let [upper, lower] = relit(frame.luma(row), self.curves[index].as_ref(), &mut s.relit);
            let [u, v] = frame.colour(row);
            let differences = &mut s.differences[inner.clone()];
            rows::cells(upper, lower, differences);
            rows::differ(&s.reference, differences);
            let gate = self.gate;
            rows::add_colour([u, reference_u], [v, reference_v], gate.colour_noise, gate.colour_times, differences);
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
        let [upper, lower, u, v] = &mut s.sums;
        for sums in [&mut *upper, lower, u, v, &mut s.totals] {
            sums.fill(0);
        }
        for index in 0..self.frames.len() {
            let three = near.map(|k| &s.smoothed[(index * 3 + k) * cells..][..cells]);
            if index == self.reference {
                s.weights.fill(self.gate.full);
                s.totals.iter_mut().for_each(|total| *total += self.gate.full);
            } else if !rows::weigh(three, &limits, &mut s.weights, &mut s.totals) {
                continue;
            }
            rows::twice(&s.weights, &mut s.doubled);
            let frame = self.sight(index);
            let luma = relit(frame.luma(row), self.curves[index].as_ref(), &mut s.relit);
            rows::add(luma, &s.doubled, [upper, lower]);
            rows::add(frame.colour(row), &s.weights, [u, v]);
        }
    }

    /// Writes what has been added up.
    fn write(&self, s: &mut Scratch, row: usize, out: &mut [u8]) {
        for (share, total) in s.weights.iter_mut().zip(&s.totals) {
            *share = rows::SHARES[usize::from(*total) % 257];
        }
        rows::twice(&s.weights, &mut s.doubled);
        rows::twice(&s.totals, &mut s.doubled_totals);
        let (layout, [upper, lower, u, v]) = (self.layout, &s.sums);
        for (sums, y) in [(upper, 2 * row), (lower, 2 * row + 1)] {
            let start = layout.y().start + y * layout.y_stride();
            rows::divide(sums, &s.doubled_totals, &s.doubled, &mut out[start..start + layout.width as usize]);
        }
        for (sums, plane) in [(u, layout.u()), (v, layout.v())] {
            let start = plane.start + row * layout.c_stride();
            rows::divide(sums, &s.totals, &s.weights, &mut out[start..start + layout.width as usize / 2]);
        }
    }
}
