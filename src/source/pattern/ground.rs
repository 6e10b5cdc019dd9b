//! Owns what rests in the synthetic scene: sky, a wall with letters, bars and grey steps, ground of fine texture.
//! Drawn once for each size; pure; runs on the thread `sensor`.

use std::ops::Range;

use super::develop::{reflecting, scatter};
use super::plan::Plan;
use crate::night::simulate::CONTRAST;
use crate::overlay::letters::dots;

/// Rows and columns of the texture, which repeats.
const TILE: usize = 256;
/// Octaves of the texture: pixels from knot to knot, and how far it goes (levels). Nothing finer than four pixels a period:
/// no lens shows more, and what is smaller or turned shows no moiré.
const OCTAVES: [(usize, f64); 3] = [(2, 7.0), (8, 6.0), (32, 5.0)];
/// Rows of a brick.
const BRICK: usize = 12;
/// What is written on the wall, smaller from line to line.
const LINE: &str = "PASTCAM 0123456789";
/// Periods of the bars (pixels).
const PERIODS: [usize; 8] = [16, 12, 8, 6, 5, 4, 3, 2];
/// Colours (U, V) of sky, wall, lanes, and of what lies before them.
const COLOURS: [[u8; 2]; 4] = [[150, 116], [114, 150], [116, 134], [110, 120]];
/// How bright they are, against the mean of the scene's light.
const SKY: (f64, f64) = (0.9, 0.66);
const WALL: f64 = 0.5;
const MORTAR: f64 = 0.7;
const LANES: f64 = 0.50;
const BEFORE: f64 = 0.48;
const BOARD: f64 = 1.4;
const INK: f64 = 0.12;

/// The still part: a level for each pixel, a colour for each four.
pub struct Ground {
    pub luma: Vec<u8>,
    /// U, V, before the light fades them.
    pub chroma: [Vec<u8>; 2],
}

impl Ground {
    pub fn new(plan: &Plan) -> Ground {
        let (w, h) = (plan.width, plan.height);
        let tile = texture();
        let mut luma = Vec::with_capacity(w * h);
        for y in 0..h {
            let row = &tile[y % TILE * TILE..][..TILE];
            // How much of the texture shows: little in the sky.
            let (base, part) = of_row(plan, y);
            let joint = plan.chart.contains(&y) && (y - plan.chart.start) % BRICK == 0;
            let shifted = y.saturating_sub(plan.chart.start) / BRICK % 2 * BRICK;
            for x in 0..w {
                let upright = plan.chart.contains(&y) && (x + shifted) % (2 * BRICK) == 0;
                let base = if joint || upright { reflecting(MORTAR) } else { base };
                luma.push(base.saturating_add_signed(row[x % TILE] / part));
            }
        }
        let chroma = [0, 1].map(|plane| {
            let mut out = Vec::with_capacity(w / 2 * (h / 2));
            for y in 0..h / 2 {
                let colour = COLOURS[part_of(plan, 2 * y)][plane];
                let row = &tile[(y + 90 * plane) % TILE * TILE..][..TILE];
                out.extend((0..w / 2).map(|x| colour.saturating_add_signed(row[x % TILE] / 2)));
            }
            out
        });
        let mut ground = Ground { luma, chroma };
        if !plan.chart.is_empty() {
            ground.chart(plan);
        }
        ground
    }

    /// Letters, bars and grey steps, from left to right.
    fn chart(&mut self, plan: &Plan) {
        let (top, rows) = (plan.chart.start + 4, plan.chart.len() - 8);
        let largest = (1..=8).rev().find(|d| 8 * (d * (d + 1) / 2) <= rows).unwrap_or(1);
        let wide = (LINE.len() * 6 * largest + 8).min(plan.width);
        let bottom = top + rows;
        self.board(plan, 0..wide, top..bottom);
        let mut y = top + largest / 2;
        for dot in (1..=largest).rev() {
            self.write(plan, LINE, (largest, y), dot);
            y += 8 * dot;
        }
        let mut x = wide + 8;
        let bars = |x: usize| x + PERIODS.iter().map(|p| 3 * p + 4).sum::<usize>() < plan.width;
        if bars(x) {
            let to = x + PERIODS.iter().map(|p| 3 * p + 4).sum::<usize>();
            self.board(plan, x..to, top..bottom);
            for p in PERIODS {
                for (y, x) in (top + 2..bottom - 2).flat_map(|y| (x + 2..x + 2 + 3 * p).map(move |x| (y, x))) {
                    let along = if y < top + rows / 2 { x - (wide + 8) } else { y };
                    // The thinnest bars are a pixel of ink, a pixel of board.
                    if along % p < p / 2 {
                        self.luma[y * plan.width + x] = reflecting(INK);
                    }
                }
                x += 3 * p + 4;
            }
            x = to + 8;
        }
        let step = plan.width.saturating_sub(x + 8) / CONTRAST.len() / 2 * 2;
        for (k, reflectance) in CONTRAST.into_iter().enumerate() {
            let columns = x + k * step..x + (k + 1) * step;
            self.board(plan, columns.clone(), top..bottom);
            for y in top..bottom {
                self.luma[y * plan.width..][columns.clone()].fill(reflecting(reflectance));
            }
        }
    }

    fn board(&mut self, plan: &Plan, columns: Range<usize>, rows: Range<usize>) {
        for y in rows {
            self.luma[y * plan.width..][columns.clone()].fill(reflecting(BOARD));
            for plane in &mut self.chroma {
                plane[y / 2 * (plan.width / 2)..][columns.start / 2..columns.end / 2].fill(128);
            }
        }
    }

    fn write(&mut self, plan: &Plan, text: &str, (left, top): (usize, usize), dot: usize) {
        for (k, letter) in text.chars().map(dots).enumerate() {
            for (c, r) in (0..5).flat_map(|c| (0..7).map(move |r| (c, r))).filter(|(c, r)| letter[*c] >> r & 1 == 1) {
                let x = left + (k * 6 + c) * dot;
                for y in (top + r * dot..top + (r + 1) * dot).take_while(|_| x + dot <= plan.width) {
                    self.luma[y * plan.width + x..][..dot].fill(reflecting(INK));
                }
            }
        }
    }
}

/// Sky, wall, lanes or what lies before them: a place in [`COLOURS`].
fn part_of(plan: &Plan, y: usize) -> usize {
    let end = plan.lanes.last().map_or(plan.chart.end, |l| l.end);
    [plan.sky.end, plan.chart.end, end].iter().filter(|end| y >= **end).count()
}

/// The level of a row, and the divisor of its texture.
fn of_row(plan: &Plan, y: usize) -> (u8, i8) {
    match part_of(plan, y) {
        0 => {
            let part = y as f64 / plan.sky.end.max(1) as f64;
            (reflecting(SKY.0 + (SKY.1 - SKY.0) * part), 4)
        }
        1 => (reflecting(WALL), 1),
        2 => (reflecting(LANES), 1),
        _ => (reflecting(BEFORE), 1),
    }
}

/// A texture that repeats without a seam: knots of random height, with straight slopes between them.
fn texture() -> Vec<i8> {
    let mut sum = vec![0.0; TILE * TILE];
    for (cell, height) in OCTAVES {
        let n = TILE / cell;
        let knots: Vec<f64> = (0..n * n)
            .map(|k| ((scatter((cell * 1_000_003 + k) as u64) >> 40) as f64 / (1u64 << 23) as f64 - 1.0) * height)
            .collect();
        for (i, sum) in sum.iter_mut().enumerate() {
            let (x, y) = (i % TILE, i / TILE);
            let knot = |dx: usize, dy: usize| knots[(y / cell + dy) % n * n + (x / cell + dx) % n];
            let (fx, fy) = ((x % cell) as f64 / cell as f64, (y % cell) as f64 / cell as f64);
            *sum += (knot(0, 0) * (1.0 - fx) + knot(1, 0) * fx) * (1.0 - fy) + (knot(0, 1) * (1.0 - fx) + knot(1, 1) * fx) * fy;
        }
    }
    sum.into_iter().map(|v| v.round() as i8).collect()
}
