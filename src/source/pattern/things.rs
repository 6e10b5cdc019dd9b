//! Owns what moves in the synthetic scene and what shines in it: figures on lanes, stars, lamps. Where each is follows from the
//! number of the frame alone. Pure; runs on the thread `sensor`.

use super::develop::{Developer, reflecting, scatter, shining};
use super::plan::Plan;
use crate::overlay::letters::dots;

/// Columns that each thing moves to the right in a frame: a person, a car, a disc, and a disc that differs from the ground by
/// its colour alone.
pub const SPEEDS: [usize; 4] = [1, 4, 16, 4];
/// Frames in which the stars move one column.
pub const STAR_FRAMES: u64 = 8;
/// Lamps and stars where nothing is asked for: so many, fewer where the picture is small.
const LAMPS: usize = 20;
const STARS: usize = 40;
/// Lamps, one after another: what they look like through the lens (pixels, standard deviation) and their light (lux, at the
/// middle).
const LENS: [(f64, f64); 4] = [(1.0, 10.0), (0.8, 6.0), (1.4, 25.0), (2.0, 30.0)];
/// Rows and columns from a lamp's middle to where nothing of it is left.
const HALO: usize = 7;
/// Light of the weakest and of the brightest star (lux, as a whole pixel has it).
const STAR_LUX: (f64, f64) = (0.6, 5.0);

/// No level and no colour: the ground shows.
const NOTHING: u8 = 255;

/// Something with an outline.
struct Thing {
    width: usize,
    height: usize,
    /// Its first column in frame 0, its upper row.
    left: usize,
    top: usize,
    speed: usize,
    luma: Vec<u8>,
    /// U, V of each two by two pixels.
    chroma: [Vec<u8>; 2],
}

impl Thing {
    /// `paint` tells level and colours of a point, whose coordinates are parts of the height, or that it is outside.
    fn new(width: usize, height: usize, mut paint: impl FnMut(f64, f64) -> (u8, [u8; 2])) -> Thing {
        let mut at = |x: usize, y: usize| paint((x as f64 + 0.5) / height as f64, (y as f64 + 0.5) / height as f64);
        let points: Vec<(u8, [u8; 2])> = (0..width * height).map(|i| at(i % width, i / width)).collect();
        let colours = (0..width / 2 * (height / 2)).map(|i| points[i / (width / 2) * 2 * width + i % (width / 2) * 2].1);
        let chroma = [0, 1].map(|plane| colours.clone().map(|c| c[plane]).collect());
        Thing { width, height, left: 0, top: 0, speed: 0, luma: points.into_iter().map(|p| p.0).collect(), chroma }
    }

    /// Its row of this number, as (column in the scene, value) of what is not empty; `part` is 2 for chroma.
    fn row(&self, values: &[u8], y: usize, frame: u64, scene: usize, part: usize, mut put: impl FnMut(usize, u8)) {
        let (width, top) = (self.width / part, self.top / part);
        if y < top || y >= top + self.height / part {
            return;
        }
        let left = ((self.left as u64 + self.speed as u64 * frame) % scene as u64) as usize;
        for (k, v) in values[(y - top) * width..][..width].iter().enumerate().filter(|(_, v)| **v != NOTHING) {
            put((left / part + k) % (scene / part), *v);
        }
    }
}

/// Everything that is not ground.
pub struct Things {
    width: usize,
    moving: Vec<Thing>,
    lamps: Vec<Thing>,
    /// Row, column in frame 0, level; by rows.
    stars: Vec<(usize, usize, u8)>,
}

/// Picks what is at this point of a figure of a person: head, trunk, legs.
fn person(x: f64, y: f64) -> (u8, [u8; 2]) {
    let from = |cx: f64, cy: f64| (x - cx).hypot(y - cy);
    if from(0.25, 0.13) < 0.12 {
        (reflecting(1.1), [112, 146])
    } else if (0.27..0.62).contains(&y) && (0.1..0.4).contains(&x) {
        // A jacket of two stripes.
        (reflecting(if (y * 12.0) as u32 % 2 == 0 { 1.6 } else { 0.25 }), [112, 180])
    } else if y >= 0.62 && ((0.12..0.23).contains(&x) || (0.27..0.38).contains(&x)) {
        (reflecting(0.2), [150, 120])
    } else {
        (NOTHING, [NOTHING; 2])
    }
}

/// Picks what is at this point of a car of two by one.
fn car(x: f64, y: f64) -> (u8, [u8; 2]) {
    let wheel = |cx: f64| (x - cx).hypot(y - 0.82) < 0.16;
    if wheel(0.45) || wheel(1.55) {
        (reflecting(0.12), [128; 2])
    } else if (0.45..0.82).contains(&y) {
        (reflecting(1.0), [108, 176])
    } else if (0.15..0.45).contains(&y) && x > 0.6 - (y - 0.15) * 0.6 && x < 1.4 + (y - 0.15) * 0.6 {
        (reflecting(if (0.95..1.02).contains(&x) { 1.0 } else { 0.3 }), [136, 124])
    } else {
        (NOTHING, [NOTHING; 2])
    }
}

impl Things {
    /// `lamps` and `stars` as asked for.
    pub fn new(plan: &Plan, lamps: Option<usize>, stars: Option<usize>) -> Things {
        let w = plan.width;
        let lane = |k: usize| &plan.lanes[k % plan.lanes.len()];
        let high = |k: usize| lane(k).len().saturating_sub(4) / 2 * 2;
        let mut moving = Vec::new();
        for (k, speed) in SPEEDS.into_iter().enumerate() {
            let h = high(k);
            let mut thing = match k {
                0 => Thing::new(h / 4 * 2, h, person),
                1 => {
                    let mut car = Thing::new(2 * h, h, car);
                    car.letter("PASTCAM");
                    car
                }
                2 => Thing::new(h, h, |x, y| {
                    // Sectors, so that there is detail to lose.
                    let bright = ((y - 0.5).atan2(x - 0.5) * 8.0 / std::f64::consts::PI).floor() as i32 % 2 == 0;
                    if (x - 0.5).hypot(y - 0.5) > 0.5 {
                        (NOTHING, [NOTHING; 2])
                    } else {
                        (reflecting(if bright { 1.8 } else { 0.2 }), [128; 2])
                    }
                }),
                _ => Thing::new(h, h, |x, y| (NOTHING, if (x - 0.5).hypot(y - 0.5) > 0.5 { [NOTHING; 2] } else { [106, 106] })),
            };
            (thing.left, thing.top, thing.speed) = (w * (2 * k + 1) / 8 / 2 * 2, lane(k).start + 2, speed);
            moving.push(thing);
        }
        let lamps = lamps.unwrap_or(LAMPS.min(w / 32));
        let stars = stars.unwrap_or(STARS.min(w * plan.sky.len() / 512));
        Things { width: w, moving, lamps: place_lamps(plan, lamps), stars: place_stars(plan, stars) }
    }

    /// Draws into one row of levels what stands in it in this frame.
    pub fn luma(&self, y: usize, frame: u64, developer: &Developer, row: &mut [u8]) {
        for thing in &self.moving {
            thing.row(&thing.luma, y, frame, self.width, 1, |x, level| row[x] = level);
        }
        let from = self.stars.partition_point(|s| s.0 < y);
        let drifted = (frame / STAR_FRAMES) as usize % self.width.max(1);
        let mut shine = |x: usize, level: u8| {
            if developer.is_brighter(level, row[x]) {
                row[x] = level;
            }
        };
        for (_, x, level) in self.stars[from..].iter().take_while(|s| s.0 == y) {
            shine((x + drifted) % self.width, *level);
        }
        for lamp in &self.lamps {
            lamp.row(&lamp.luma, y, 0, self.width, 1, &mut shine);
        }
    }

    /// The same for a row of colours.
    pub fn chroma(&self, plane: usize, y: usize, frame: u64, row: &mut [u8]) {
        for thing in &self.moving {
            thing.row(&thing.chroma[plane], y, frame, self.width, 2, |x, colour| row[x] = colour);
        }
    }
}

impl Thing {
    /// Letters on a side, as large as fits.
    fn letter(&mut self, text: &str) {
        let dot = (self.width / 2 / (text.len() * 6)).min(self.height / 4 / 8);
        let (left, top) = ((self.width - text.len() * 6 * dot) / 2, self.height / 2);
        for (k, letter) in text.chars().map(dots).enumerate() {
            for (x, y) in (0..5 * dot).flat_map(|x| (0..7 * dot).map(move |y| (x, y))) {
                if letter[x / dot] >> (y / dot) & 1 == 1 {
                    self.luma[(top + y) * self.width + left + k * 6 * dot + x] = reflecting(0.12);
                }
            }
        }
    }
}

/// Lamps stand along the foot of the sky and between the lanes, a dozen pixels and more apart.
fn place_lamps(plan: &Plan, n: usize) -> Vec<Thing> {
    let rows: Vec<usize> = std::iter::once(plan.sky.end)
        .chain(plan.lanes.iter().map(|l| l.start))
        .filter(|y| *y >= plan.free.start + HALO)
        .collect();
    if rows.is_empty() {
        return Vec::new();
    }
    let side = 2 * HALO + 1;
    let lamp = |k: usize| {
        let (sigma, lux) = LENS[k % LENS.len()];
        let mut lamp = Thing::new(side, side, |x, y| {
            let away = (x - 0.5).hypot(y - 0.5) * side as f64;
            (shining(lux * (-away * away / (2.0 * sigma * sigma)).exp()).unwrap_or(NOTHING), [NOTHING; 2])
        });
        let among = n.div_ceil(rows.len());
        lamp.left = (plan.width * (k / rows.len()) / among + 37 * k % (plan.width / among).max(1)) % plan.width;
        lamp.top = rows[k % rows.len()] - HALO;
        lamp
    };
    (0..n).map(lamp).collect()
}

/// Stars stand in a sky divided into as many fields.
fn place_stars(plan: &Plan, n: usize) -> Vec<(usize, usize, u8)> {
    let rows = plan.sky.len().saturating_sub(2 * HALO);
    if n == 0 || rows == 0 {
        return Vec::new();
    }
    let mut stars: Vec<(usize, usize, u8)> = (0..n as u64)
        .map(|k| {
            let chance = scatter(k + 7_000_000);
            let x = plan.width as u64 * k / n as u64 + chance % 5;
            let part = (chance >> 16 & 0xff) as f64 / 255.0;
            let level = shining(STAR_LUX.0 * (STAR_LUX.1 / STAR_LUX.0).powf(part)).unwrap_or(NOTHING);
            (plan.sky.start + 1 + ((chance >> 32) % rows as u64) as usize, x as usize % plan.width, level)
        })
        .collect();
    stars.sort_unstable();
    stars
}
