//! Owns the picture of the synthetic sensor: the scene as it stands in a frame, developed, with the words, digits, codes and
//! patches over it. Pure arithmetic on a buffer it is handed; runs on the thread `sensor`.
//!
//! A frame follows from its moment and the options alone, noise included: drawn twice, it is the same bit for bit. The scene is
//! as wide as the picture and closed to a ring, so that what leaves on one side comes back on the other.

use super::develop::{Developer, Grain, Noise};
use super::dials::Look;
use super::digits::Digits;
use super::ground::Ground;
use super::hot::{self, Hot};
use super::options::Options;
use super::plan::{Plan, Rows, SIDE};
use super::things::Things;
use super::title::Title;
use crate::clock::{BootUs, WallUs};
use crate::frame::{Exposure, Layout};
use crate::source::barcode;

/// When a frame was taken, and in what light.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Moment {
    /// Its number, from which all places follow.
    pub id: u64,
    /// In the codes.
    pub boot: BootUs,
    /// In the digits.
    pub wall: WallUs,
    /// Light of the scene (lux).
    pub lux: f64,
    /// How much of it was taken.
    pub exposure: Exposure,
}

/// The drawn scene at one size.
pub struct Scene {
    layout: Layout,
    plan: Plan,
    options: Options,
    ground: Ground,
    things: Things,
    hot: Vec<Hot>,
    developer: Developer,
    grain: Grain,
    title: Title,
    digits: Option<Digits>,
    /// A row of the scene, and what the picture shows of it.
    row: Vec<u8>,
    view: Vec<u8>,
}

impl Scene {
    /// A scene for pictures of this size.
    pub fn new(layout: Layout, options: &Options) -> Scene {
        let plan = Plan::new(layout);
        let [columns, rows] = plan.title.clone();
        Scene {
            layout,
            options: options.clone(),
            ground: Ground::new(&plan),
            things: Things::new(&plan, options.lamps, options.stars),
            hot: hot::places(&plan, options.hot),
            developer: Developer::new(options.noise),
            grain: Grain::new(plan.width),
            title: Title::new(columns, rows),
            digits: Digits::new(&plan),
            row: vec![0; plan.width],
            view: vec![0; plan.width],
            plan,
        }
    }

    /// The size of its pictures.
    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// Its hot pixels, by rows.
    pub fn hot_pixels(&self) -> &[Hot] {
        &self.hot
    }

    /// One frame as I420 without padding.
    pub fn picture(&mut self, moment: &Moment) -> Vec<u8> {
        let rows = Rows::new(self.layout, 0);
        let mut pixels = vec![0; rows.bytes()];
        self.draw(&mut pixels, &rows, moment, &Look::plain(self.layout));
        pixels
    }

    /// Draws one frame.
    pub fn draw(&mut self, pixels: &mut [u8], rows: &Rows, moment: &Moment, look: &Look) {
        self.developer.expose(moment.lux, moment.exposure, look);
        for plane in 0..3 {
            let part = if plane == 0 { 1 } else { 2 };
            for y in 0..self.plan.height / part {
                let out = &mut pixels[rows.range[plane].clone()][y * rows.stride[plane]..][..self.plan.width / part];
                self.row(plane, y, moment, look, out);
            }
        }
        self.title.write(&mut pixels[rows.range[0].clone()], rows.stride[0]);
        if let Some(digits) = &self.digits {
            digits.write(pixels, rows, moment.id, moment.wall);
        }
        if self.plan.coded {
            let (w, h) = (self.plan.width, self.plan.height);
            barcode::write(&mut pixels[rows.range[0].clone()], rows.stride[0], w, h, moment.id, moment.boot.0);
        }
        if self.plan.patched {
            patches(pixels, rows, self.plan.free.end);
        }
    }

    /// Row `y` of a plane of the picture.
    fn row(&mut self, plane: usize, y: usize, moment: &Moment, look: &Look, out: &mut [u8]) {
        let part = if plane == 0 { 1 } else { 2 };
        let (w, h) = (self.plan.width / part, self.plan.height / part);
        let [left, top, wide, high] = look.crop.map(|v| v / part);
        let seen = (top + if look.vflip { h - 1 - y } else { y } * high / h).min(h - 1);
        let frame = if self.options.still { 0 } else { moment.id };
        let (row, view) = (&mut self.row[..w], &mut self.view[..w]);
        if plane == 0 {
            row.copy_from_slice(&self.ground.luma[seen * w..][..w]);
            self.things.luma(seen, frame, &self.developer, row);
        } else {
            row.copy_from_slice(&self.ground.chroma[plane - 1][seen * w..][..w]);
            self.things.chroma(plane - 1, seen, frame, row);
        }
        // The camera pans to the right: the scene moves to the left.
        let shift = (self.options.pan.wrapping_mul(moment.id) % self.plan.width as u64) as usize / part;
        if (left, wide) == (0, w) && !look.hflip {
            view[..w - shift].copy_from_slice(&row[shift..]);
            view[w - shift..].copy_from_slice(&row[..shift]);
        } else {
            for (x, view) in view.iter_mut().enumerate() {
                let x = if look.hflip { w - 1 - x } else { x };
                *view = row[((left + x * wide / w).min(w - 1) + shift) % w];
            }
        }
        let noise = self.grain.row(moment.id, plane * self.plan.height + y);
        if plane > 0 {
            return self.developer.chroma(plane - 1, view, noise, out);
        }
        self.developer.luma(view, noise, out);
        // A sensor that is read from the other end has its hot pixels there.
        let at = if look.vflip { h - 1 - y } else { y };
        let from = self.hot.partition_point(|hot| hot.y < at);
        for hot in self.hot[from..].iter().take_while(|hot| hot.y == at) {
            let x = if look.hflip { w - 1 - hot.x } else { hot.x };
            out[x] = self.developer.hot(view[x], hot.leaks * moment.exposure.time_us / 1e6, noise[x]);
        }
    }
}

/// The frames of a scene as they would be without noise and hot pixels: what pictures are compared with.
pub fn truth(layout: Layout, options: &Options) -> Scene {
    Scene::new(layout, &Options { noise: Noise::Off, hot: 0, ..options.clone() })
}

/// Pure red, green and blue, 64 pixels square, left above `bottom`: a viewer that mixes up colours shows it there.
fn patches(pixels: &mut [u8], rows: &Rows, bottom: usize) {
    // BT.601 at full range.
    for (k, yuv) in [[76, 85, 255], [150, 44, 21], [29, 255, 107]].into_iter().enumerate() {
        for (plane, value) in yuv.into_iter().enumerate() {
            let half = if plane == 0 { 1 } else { 2 };
            let side = SIDE / half;
            let out = pixels[rows.range[plane].clone()].chunks_exact_mut(rows.stride[plane]);
            for row in out.skip((bottom - SIDE) / half).take(side) {
                row[k * side..(k + 1) * side].fill(value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::night::simulate::K;

    const SIZE: Layout = Layout::new(640, 480);
    /// Rows between the words and the patches, which upside down lie above the words.
    const ROWS: std::ops::Range<usize> = 300..360;

    fn draw(stride: usize, look: &Look, options: &str) -> Vec<u8> {
        let rows = Rows::new(SIZE, stride);
        let mut pixels = vec![0xaa; rows.bytes()];
        let exposure = Exposure { time_us: 10_000.0, analogue_gain: 1.0, digital_gain: 1.0 };
        let moment = Moment { id: 7, boot: BootUs(1), wall: WallUs(2), lux: 0.18 / K / exposure.e(), exposure };
        Scene::new(SIZE, &Options::parse(options).unwrap()).draw(&mut pixels, &rows, &moment, look);
        pixels
    }
    fn drawn(stride: usize, look: &Look) -> Vec<u8> {
        let (rows, mut own) = (Rows::new(SIZE, stride), vec![0; SIZE.bytes()]);
        rows.planes(&draw(stride, look, "noise=off,pan=4")).copy_to(&mut own);
        own
    }
    fn at(pixels: &[u8], x: usize, y: usize) -> u8 {
        pixels[y * SIZE.y_stride() + x]
    }

    #[test]
    fn padded_rows_hold_the_same_picture_and_nothing_behind_it() {
        let plain = Look::plain(SIZE);
        assert_eq!(drawn(0, &plain), drawn(704, &plain));
        assert_eq!(drawn(8, &plain), drawn(0, &plain), "a stride below a row is none");
        let pixels = draw(704, &plain, "noise=4,hot=50");
        assert!(pixels[..704 * 480].chunks_exact(704).all(|row| row[640..].iter().all(|p| *p == 0xaa)));
    }

    #[test]
    fn a_crop_enlarges_and_a_flip_mirrors() {
        let plain = Look::plain(SIZE);
        let whole = drawn(0, &plain);
        let zoomed = drawn(0, &Look { crop: [160, 180, 320, 240], ..plain });
        let (left, down) = (drawn(0, &Look { hflip: true, ..plain }), drawn(0, &Look { vflip: true, ..plain }));
        for (x, y) in ROWS.flat_map(|y| (0..640).map(move |x| (x, y))) {
            assert_eq!(at(&zoomed, x, y), at(&whole, 160 + x / 2, 180 + y / 2), "{x},{y}");
            assert_eq!(at(&left, x, y), at(&whole, 639 - x, y), "{x},{y}");
            assert_eq!(at(&down, x, 479 - y), at(&whole, x, y), "{x},{y}");
        }
    }

    #[test]
    fn tones_and_colours_move_the_right_way() {
        let plain = Look::plain(SIZE);
        let mean = |p: &[u8], of: &[usize]| of.iter().map(|i| f64::from(p[*i])).sum::<f64>() / of.len() as f64;
        let spread = |p: &[u8], of: &[usize]| of.iter().map(|i| (f64::from(p[*i]) - 128.0).abs()).sum::<f64>();
        let y: &Vec<usize> = &ROWS.flat_map(|row| row * 640..row * 640 + 640).collect();
        let v: &Vec<usize> = &(SIZE.v().start + 60 * SIZE.c_stride()..SIZE.v().start + 180 * SIZE.c_stride()).collect();
        let whole = drawn(0, &plain);
        let brighter = drawn(0, &Look { brightness: 0.25, ..plain });
        assert!((mean(&brighter, y) - mean(&whole, y) - 32.0).abs() < 1.0);
        assert!(spread(&drawn(0, &Look { contrast: 0.5, ..plain }), y) < 0.6 * spread(&whole, y));
        assert!(spread(&drawn(0, &Look { saturation: 0.0, ..plain }), v) < 1e-9);
        let red = drawn(0, &Look { cast: [0.0, 40.0], ..plain });
        assert!(mean(&red, v) - mean(&whole, v) > 20.0);
    }
}
