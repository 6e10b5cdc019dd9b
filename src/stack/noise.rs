//! Owns what noise alone makes of two frames of the same scene, measured on the frames themselves: by brightness, for luma and for
//! colour. Looks at several hundred tiles of a picture. Pure arithmetic; export threads.
//!
//! Motion must not pass for noise. The difference of two frames is taken once more across each cell, both ways (`+ − − +`): what
//! rests is gone with the first difference, what moves and is smooth with the second, and white noise is as strong in it as in
//! four samples. Cameras that smooth their pictures leave coarse noise, of which that shows little. Where the plain difference, less
//! what a whole tile differs by, is much stronger and nearly the same all over the picture, and no shift explains it, it is noise and
//! counts instead.

use super::shift;
use crate::frame::Layout;

/// A tile is so many luma samples wide and high.
const TILE: usize = 8;
/// About how many tiles are looked at.
const TILES: usize = 500;
/// Light is looked at in one of so many tiles, but in all frames.
const SPARSE: usize = 2;
/// Levels of brightness that are told apart.
pub const LEVELS: usize = 64;
/// The same, as tiles are sorted.
const CLASSES: usize = 16;
/// Fewest tiles that tell something about a level.
const FEW: usize = 24;
/// The eighth of the tiles with the least fine difference tells the noise: moving fine structure is in the others. Of the coarse
/// difference it is the quarter.
const FINE: usize = 8;
const COARSE: usize = 4;
/// Below these shares of the mean lie an eighth and a quarter of all means of n differences that are normally distributed:
/// 1 − 1.15·0.756/√n and 1 − 0.674·0.756/√n; of 16 cells and 64 samples of luma, of 8 and 32 of colour.
const LOW: (f32, f32) = (0.783, 0.936);
const LOW_COLOUR: (f32, f32) = (0.693, 0.910);
/// The coarse difference counts as even where its median is no larger than this times its lowest quarter's limit. By the same
/// formula white noise has 1.07 there, and 1.22 where no more than 8 of the 64 samples are independent.
const EVEN: f32 = 1.25;
/// So much stronger than the fine noise the coarse noise is where it counts: from here on motion does not look like it.
const COARSER: f32 = 1.8;
/// And so much at most.
const COARSEST: f32 = 2.5;
/// What is allowed for coarse noise otherwise.
const ALLOWED: f32 = 1.05;
/// Smallest noise that is believed (mean difference): what rounding makes of two frames.
const LEAST: f32 = 0.8;
const LEAST_COLOUR: f32 = 0.9;

/// How much two frames differ on average by noise alone, by the reference's brightness.
#[derive(Debug, Clone, PartialEq)]
pub struct Noise {
    /// A luma sample.
    pub luma: Level,
    /// A sample of U and one of V, together.
    pub colour: Level,
    /// Neighbours share their noise, so that there is less to judge it by.
    pub coarse: bool,
}

/// A value for each level of brightness.
pub type Level = [f32; LEVELS];

/// What one tile shows: means of differences.
#[derive(Debug, Clone, Copy)]
struct Tile {
    class: usize,
    /// Luma: across cells, and of samples.
    fine: f32,
    coarse: f32,
    /// Colour likewise.
    fine_colour: f32,
    coarse_colour: f32,
}

/// Tiles that were looked at, kept from call to call.
#[derive(Debug, Default)]
pub struct Scratch {
    tiles: Vec<Tile>,
    values: Vec<f32>,
}

/// Where the tiles of a sample lie: first column and first row (luma samples).
fn places(layout: Layout) -> impl Iterator<Item = (usize, usize)> {
    let (columns, rows) = (layout.width as usize / TILE, layout.height as usize / TILE);
    let step = (columns * rows).div_ceil(TILES).max(1);
    // Every so many in a row, shifted from row to row.
    (0..rows).flat_map(move |row| ((row * 7) % step..columns).step_by(step).map(move |column| (column * TILE, row * TILE)))
}

/// One of [`SPARSE`] of the tiles that are looked at: the mean luma of a frame.
pub fn means(frame: &[u8], layout: Layout, out: &mut Vec<f32>) {
    out.clear();
    out.extend(places(layout).step_by(SPARSE).map(|(left, top)| {
        let rows = (top..top + TILE).map(|row| &frame[row * layout.y_stride() + left..][..TILE]);
        rows.map(|row| row.iter().map(|v| u32::from(*v)).sum::<u32>()).sum::<u32>() as f32 / (TILE * TILE) as f32
    }));
}

impl Noise {
    /// Measures `frames` against the frame `reference`, at `places` of the picture.
    pub fn measure(s: &mut Scratch, frames: &[&[u8]], reference: usize, layout: Layout) -> Noise {
        s.tiles.clear();
        // The nearest frames, in which least has moved; what is the very same picture again tells nothing.
        let near = (1..frames.len()).flat_map(|away| [reference.checked_sub(away), Some(reference + away)]).flatten();
        let mut near = near.filter_map(|index| frames.get(index)).filter(|frame| **frame != frames[reference]);
        let first = near.next();
        if let Some(first) = first {
            let second = near.next().unwrap_or(first);
            for (k, place) in places(layout).enumerate() {
                let other = if k % 2 == 0 { first } else { second };
                s.tiles.push(look(frames[reference], other, layout, place));
            }
        }
        // Where the whole picture has moved alike, its difference is even too.
        let turned = || first.is_some_and(|first| shift::explains(frames[reference], first, layout));
        let (luma, coarse) = curve(s, |t| (t.fine, t.coarse), LOW, LEAST, &turned);
        let (colour, _) = curve(s, |t| (t.fine_colour, t.coarse_colour), LOW_COLOUR, LEAST_COLOUR, &|| !coarse);
        Noise { luma, colour, coarse }
    }
}

/// One tile of two frames.
fn look(one: &[u8], other: &[u8], layout: Layout, (left, top): (usize, usize)) -> Tile {
    let luma = Differences { one, other, start: layout.y().start, stride: layout.y_stride() };
    let [u, v] = [layout.u(), layout.v()].map(|p| Differences { one, other, start: p.start, stride: layout.c_stride() });
    let seen = luma.seen(left, top, TILE);
    let colour = [u, v].map(|plane| plane.seen(left / 2, top / 2, TILE / 2));
    let corners = [(0, 0), (TILE - 2, 0), (2, 4), (4, 4), (0, TILE - 2), (TILE - 2, TILE - 2)];
    let at = |(x, y): (usize, usize)| usize::from(one[layout.y().start + (top + y) * layout.y_stride() + left + x]);
    Tile {
        class: corners.map(at).iter().sum::<usize>() * CLASSES / (corners.len() * 256),
        // Four samples together are twice as strong as one; U and V count together.
        fine: seen.across as f32 / 16.0 / 2.0,
        coarse: seen.single / 64.0,
        fine_colour: colour.iter().map(|c| c.across).sum::<u32>() as f32 / 4.0 / 2.0,
        coarse_colour: colour.iter().map(|c| c.single).sum::<f32>() / 16.0,
    }
}

/// Two planes.
struct Differences<'a> {
    one: &'a [u8],
    other: &'a [u8],
    start: usize,
    stride: usize,
}

/// Sums of absolute differences.
struct Seen {
    /// Across cells: `+ − − +`.
    across: u32,
    /// Of samples, less what the whole square differs by.
    single: f32,
}

impl Differences<'_> {
    /// A square of `side` samples, at most [`TILE`].
    fn seen(&self, left: usize, top: usize, side: usize) -> Seen {
        let (mut across, mut samples, mut count) = (0, [0; TILE * TILE], 0);
        for row in (top..top + side).step_by(2) {
            let start = self.start + row * self.stride + left;
            let [upper, lower] = [start, start + self.stride].map(|at| (&self.one[at..at + side], &self.other[at..at + side]));
            for column in (0..side).step_by(2) {
                let by = |(one, other): (&[u8], &[u8]), x: usize| i32::from(one[x]) - i32::from(other[x]);
                let four = [by(upper, column), by(upper, column + 1), by(lower, column), by(lower, column + 1)];
                across += (four[0] - four[1] - four[2] + four[3]).unsigned_abs();
                samples[count..count + 4].copy_from_slice(&four);
                count += 4;
            }
        }
        // What the whole square differs by is a change of light.
        let mean = samples[..count].iter().sum::<i32>() as f32 / count as f32;
        let single = samples[..count].iter().map(|v| (*v as f32 - mean).abs()).sum::<f32>();
        Seen { across, single }
    }
}

/// The value below which one of `one_in` lies; `values` are put out of order.
fn low(values: &mut [f32], one_in: usize) -> f32 {
    let at = values.len() / one_in;
    *values.select_nth_unstable_by(at, f32::total_cmp).1
}

/// Noise by level, and whether it is coarse, which it is not where the picture has `turned`. Classes that were hardly seen take what their neighbours have.
fn curve(
    s: &mut Scratch,
    of: fn(&Tile) -> (f32, f32),
    calibration: (f32, f32),
    least: f32,
    turned: &dyn Fn() -> bool,
) -> (Level, bool) {
    // For each class what is fine and what is coarse.
    let mut known: [Option<(f32, f32)>; CLASSES] = [None; CLASSES];
    let (mut even, mut seen) = (0.0, 0.0);
    for (class, known) in known.iter_mut().enumerate() {
        // A tile that is the very same picture tells nothing.
        let near = |reach: usize| s.tiles.iter().filter(move |t| t.class.abs_diff(class) <= reach && of(t).1 > 0.0);
        let own = near(0).count();
        let reach = usize::from(own < FEW);
        if own == 0 || near(reach).count() < FEW.min(s.tiles.len()) {
            continue;
        }
        let values = &mut s.values;
        values.clear();
        values.extend(near(reach).map(|t| of(t).0));
        let fine = low(values, FINE) / calibration.0;
        values.clear();
        values.extend(near(reach).map(|t| of(t).1));
        let (coarse, median) = (low(values, COARSE), low(values, 2));
        even += own as f32 * median / coarse.max(least / 4.0);
        seen += own as f32;
        *known = Some((fine, coarse / calibration.1));
    }
    let ratio = |limit: f32| known.iter().flatten().filter(|(fine, coarse)| *coarse > limit * fine.max(least)).count();
    let counts = even <= EVEN * seen && 2 * ratio(COARSER) > ratio(0.0) && !turned();
    let noise = |(fine, coarse): (f32, f32)| {
        let most = if counts { COARSEST * fine.max(least) } else { ALLOWED * fine };
        coarse.min(most).max(fine).max(least)
    };
    let near = |class: usize| {
        let nearest = (0..CLASSES).filter(|c| known[*c].is_some()).min_by_key(|c| c.abs_diff(class));
        nearest.and_then(|c| known[c]).map_or(least, noise)
    };
    // Between the middles of the classes it goes straight.
    let curve = std::array::from_fn(|level| {
        let place = ((level as f32 + 0.5) / (LEVELS / CLASSES) as f32 - 0.5).clamp(0.0, CLASSES as f32 - 1.0);
        let below = place as usize;
        let part = place - below as f32;
        near(below) * (1.0 - part) + near((below + 1).min(CLASSES - 1)) * part
    });
    (curve, counts)
}
