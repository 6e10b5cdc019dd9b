//! Owns the picture of the synthetic sensor: a scene that moves, its tones and colours, the code drawn into it.
//! Pure arithmetic on a buffer it is handed; runs on the thread `sensor`.

use std::ops::Range;

use super::dials::Look;
use super::title::Title;
use crate::clock::BootUs;
use crate::frame::{Layout, Packing, Planes};
use crate::night::level::tone;
use crate::night::simulate::CONTRAST;
use crate::source::barcode;

/// Where the planes of a picture lie in a buffer whose rows may be longer than the picture is wide.
#[derive(Debug, Clone, PartialEq)]
pub struct Rows {
    layout: Layout,
    /// Bytes from row to row: Y, U, V.
    pub stride: [usize; 3],
    /// Y, U, V.
    pub range: [Range<usize>; 3],
}

impl Rows {
    /// Y rows of `stride` bytes, U and V rows of half of that; the picture's own strides where that is too short for a row.
    pub fn new(layout: Layout, stride: usize) -> Rows {
        let stride = if stride / 2 >= layout.width as usize / 2 && stride >= layout.width as usize {
            [stride, stride / 2, stride / 2]
        } else {
            [layout.y_stride(), layout.c_stride(), layout.c_stride()]
        };
        let y = 0..stride[0] * layout.height as usize;
        let u = y.end..y.end + stride[1] * layout.c_height();
        let v = u.end..u.end + stride[2] * layout.c_height();
        Rows { layout, stride, range: [y, u, v] }
    }
    /// Bytes of the whole buffer.
    pub fn bytes(&self) -> usize {
        self.range[2].end
    }
    /// The picture in such a buffer.
    pub fn planes<'a>(&self, pixels: &'a [u8]) -> Planes<'a> {
        let plane = |k: usize| &pixels[self.range[k].clone()];
        Planes { layout: self.layout, packing: Packing::Planar, data: [plane(0), plane(1), plane(2)], stride: self.stride }
    }
}

/// Columns the picture is wider than the frame: each frame is a window that moves over it.
const MARGIN: usize = 256;
/// Columns the window moves per frame.
const STEP: u64 = 4;

/// Rows and columns of a patch of colour.
const SIDE: usize = 64;

/// Rows below the upper code and above the lower one; all of them where there is no code.
fn between_codes(layout: Layout) -> Range<usize> {
    let (w, h) = (layout.width as usize, layout.height as usize);
    if !barcode::fits(w, h) {
        return 0..h;
    }
    let lower = barcode::lower(w, h);
    // Both are of one height.
    h / 16 * 16 - lower..lower
}

/// Whether there is room for the patches.
fn patched(layout: Layout) -> bool {
    let (w, h) = (layout.width as usize, layout.height as usize);
    barcode::fits(w, h) && w >= 3 * SIDE && between_codes(layout).len() >= SIDE
}

/// Columns and rows that neither codes nor patches take: above the patches, in small pictures beside them.
fn free(layout: Layout) -> (Range<usize>, Range<usize>) {
    let (rows, width, patches) = (between_codes(layout), layout.width as usize, patched(layout));
    let above = rows.start..rows.end - if patches { SIDE } else { 0 };
    if patches && above.len() < SIDE / 2 && width >= 5 * SIDE {
        (3 * SIDE..width, above.end..rows.end)
    } else {
        (0..width, above)
    }
}

/// The drawn scene.
pub struct Scene {
    layout: Layout,
    /// How bright each point is against the scene's mean, an index into `relative`.
    map: Vec<u8>,
    relative: [f64; 64],
    /// The picture as exposed: Y `width + MARGIN` wide, U and V half of that.
    wide: [Vec<u8>; 3],
    /// What `wide` was exposed with.
    exposed: f64,
    look: Look,
    title: Title,
    noise: Vec<i8>,
    random: u32,
}

impl Scene {
    /// A scene for pictures of this size; `noise`: standard deviation (code values).
    pub fn new(layout: Layout, noise: f64) -> Scene {
        let (w, h) = (layout.width as usize + MARGIN, layout.height as usize);
        let mut random = 0x2545_f491u32;
        let mut next = move || {
            random ^= random << 13;
            random ^= random >> 17;
            random ^= random << 5;
            f64::from(random) / f64::from(u32::MAX)
        };
        // 64 steps between the darkest and the brightest contrast of the simulated scenes, evenly in logarithm.
        let (low, high) = (CONTRAST[0].ln(), CONTRAST[CONTRAST.len() - 1].ln());
        let relative = std::array::from_fn(|i| (low + (high - low) * i as f64 / 63.0).exp());
        let mut map = Vec::with_capacity(w * h);
        for y in 0..h {
            for x in 0..w {
                let (fx, fy) = (x as f64, y as f64);
                let waves = (fx / 37.0).sin() * (fy / 53.0).cos() + 0.6 * ((fx + 2.0 * fy) / 71.0).sin();
                let boxes = if (x / 64 + y / 64) % 2 == 0 { 0.25 } else { -0.25 };
                map.push((34.0 + 14.0 * waves + 14.0 * boxes + 2.0 * (next() - 0.5)).clamp(0.0, 63.0) as u8);
            }
        }
        // The sum of four even numbers is near enough to a normal one; its standard deviation is 1/√3.
        let noise = if noise > 0.0 {
            (0..65_536)
                .map(|_| ((next() + next() + next() + next() - 2.0) * 3f64.sqrt() * noise).round().clamp(-127.0, 127.0) as i8)
                .collect()
        } else {
            Vec::new()
        };
        let wide = [vec![0; w * h], vec![0; w / 2 * (h / 2)], vec![0; w / 2 * (h / 2)]];
        let look = Look::plain(layout);
        let (columns, rows) = free(layout);
        let title = Title::new(columns, rows);
        Scene { layout, map, relative, wide, exposed: f64::NAN, look, title, noise, random: 1 }
    }

    /// The size of its pictures.
    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// Exposes the whole scene: `light` is the linear value of its mean, 1.0 being saturation.
    fn expose(&mut self, light: f64, look: Look) {
        let toned = |v: f64| ((v - 128.0) * look.contrast + 128.0 + 128.0 * look.brightness).clamp(0.0, 255.0);
        let luma: [u8; 64] = std::array::from_fn(|i| toned(tone((light * self.relative[i]).min(1.0))).round() as u8);
        for (out, i) in self.wide[0].iter_mut().zip(&self.map) {
            *out = luma[usize::from(*i)];
        }
        // Colour fades with the light, as it does in a dark picture.
        let fade = (tone(light.min(1.0)) / 128.0).min(1.0);
        let columns = usize::midpoint(self.layout.width as usize, MARGIN);
        for ((out, start), cast) in self.wide[1..].iter_mut().zip([0, 70]).zip(look.cast) {
            let wave: [u8; 256] = std::array::from_fn(|i| {
                let colour = 42.0 * (i as f64 * std::f64::consts::TAU / 256.0).sin() + cast;
                (128.0 + fade * look.saturation * colour).clamp(0.0, 255.0) as u8
            });
            for (y, row) in out.chunks_exact_mut(columns).enumerate() {
                for (x, out) in row.iter_mut().enumerate() {
                    // A wave every 195 columns and every 295 rows.
                    *out = wave[(start + (x * 21 + y * 14) / 16) % 256];
                }
            }
        }
        (self.exposed, self.look) = (light, look);
    }

    /// Draws one frame: the scene as exposed, noise, the words, the code of `id` and `boot`, patches of colour.
    pub fn draw(&mut self, pixels: &mut [u8], rows: &Rows, id: u64, boot: BootUs, light: f64, look: &Look) {
        // A change below half a code value is not worth drawing the scene again; nor is another part of it.
        let tones = |l: &Look| Look { crop: [0; 4], hflip: false, vflip: false, ..*l };
        if self.exposed.is_nan() || (light / self.exposed).ln().abs() > 0.002 || tones(look) != tones(&self.look) {
            self.expose(light, *look);
        }
        let (w, h) = (self.layout.width as usize, self.layout.height as usize);
        self.window(pixels, rows, (id * STEP) as usize % MARGIN, look);
        if !self.noise.is_empty() {
            for row in pixels[rows.range[0].clone()].chunks_exact_mut(rows.stride[0]) {
                self.random = self.random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let at = (self.random >> 16) as usize % (self.noise.len() - w.min(60_000));
                for (p, n) in row[..w].iter_mut().zip(&self.noise[at..]) {
                    *p = p.saturating_add_signed(*n);
                }
            }
        }
        self.title.write(&mut pixels[rows.range[0].clone()], rows.stride[0]);
        if barcode::fits(w, h) {
            barcode::write(&mut pixels[rows.range[0].clone()], rows.stride[0], w, h, id, boot.0);
            self.patches(pixels, rows, barcode::lower(w, h));
        }
    }

    /// The part of the scene that one frame sees, `shift` columns from its left edge.
    fn window(&self, pixels: &mut [u8], rows: &Rows, shift: usize, look: &Look) {
        let (w, h) = (self.layout.width as usize, self.layout.height as usize);
        let whole = look.crop == Look::plain(self.layout).crop && !look.hflip && !look.vflip;
        for (plane, wide) in self.wide.iter().enumerate() {
            let part = if plane == 0 { 1 } else { 2 };
            let (width, height, from, shift) = (w / part, h / part, (w + MARGIN) / part, shift / part);
            let out = pixels[rows.range[plane].clone()].chunks_exact_mut(rows.stride[plane]);
            if whole {
                for (out, src) in out.zip(wide.chunks_exact(from)) {
                    out[..width].copy_from_slice(&src[shift..shift + width]);
                }
                continue;
            }
            let [left, top, wide_of, high_of] = look.crop.map(|v| v / part);
            for (row, out) in out.enumerate() {
                let row = if look.vflip { height - 1 - row } else { row };
                let src = &wide[(top + row * high_of / height).min(height - 1) * from + shift..][..width];
                for (column, out) in out[..width].iter_mut().enumerate() {
                    let column = if look.hflip { width - 1 - column } else { column };
                    *out = src[(left + column * wide_of / width).min(width - 1)];
                }
            }
        }
    }

    /// Pure red, green and blue, 64 pixels square, left above `bottom`: a viewer that mixes up colours shows it there.
    fn patches(&self, pixels: &mut [u8], rows: &Rows, bottom: usize) {
        if !patched(self.layout) {
            return;
        }
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
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: Layout = Layout::new(320, 240);

    fn drawn(stride: usize, look: &Look) -> Vec<u8> {
        let rows = Rows::new(SIZE, stride);
        let mut pixels = vec![0xaa; rows.bytes()];
        Scene::new(SIZE, 0.0).draw(&mut pixels, &rows, 7, BootUs(1), 0.18, look);
        let mut own = vec![0; SIZE.bytes()];
        rows.planes(&pixels).copy_to(&mut own);
        own
    }
    fn at(pixels: &[u8], x: usize, y: usize) -> u8 {
        pixels[y * SIZE.y_stride() + x]
    }

    #[test]
    fn padded_rows_hold_the_same_picture_and_nothing_behind_it() {
        let plain = Look::plain(SIZE);
        assert_eq!(drawn(0, &plain), drawn(384, &plain));
        assert_eq!(drawn(8, &plain), drawn(0, &plain), "a stride below a row is none");
        let rows = Rows::new(SIZE, 384);
        let mut pixels = vec![0xaa; rows.bytes()];
        Scene::new(SIZE, 4.0).draw(&mut pixels, &rows, 7, BootUs(1), 0.18, &plain);
        assert!(pixels[..384 * 240].chunks_exact(384).all(|row| row[320..].iter().all(|p| *p == 0xaa)));
    }

    #[test]
    fn a_crop_enlarges_and_a_flip_mirrors() {
        let plain = Look::plain(SIZE);
        let whole = drawn(0, &plain);
        let zoomed = drawn(0, &Look { crop: [160, 80, 160, 120], ..plain });
        let (left, down) = (drawn(0, &Look { hflip: true, ..plain }), drawn(0, &Look { vflip: true, ..plain }));
        // The codes leave rows 80 to 160 free, the patches columns from 192 on; the words stand there in rows 124 to 132.
        for (x, y) in (80..88).chain(136..160).flat_map(|y| (200..320).map(move |x| (x, y))) {
            assert_eq!(at(&zoomed, x, y), at(&whole, 160 + x / 2, 80 + y / 2), "{x},{y}");
            assert_eq!(at(&down, x, y), at(&whole, x, 239 - y), "{x},{y}");
        }
        for (x, y) in (80..96).flat_map(|y| (0..320).map(move |x| (x, y))) {
            assert_eq!(at(&left, x, y), at(&whole, 319 - x, y), "{x},{y}");
        }
    }

    #[test]
    fn tones_and_colours_move_the_right_way() {
        let plain = Look::plain(SIZE);
        let mean = |p: &[u8], of: &[usize]| of.iter().map(|i| f64::from(p[*i])).sum::<f64>() / of.len() as f64;
        let spread = |p: &[u8], of: &[usize]| of.iter().map(|i| (f64::from(p[*i]) - 128.0).abs()).sum::<f64>();
        // Rows 82 to 94 of luma, 41 to 47 of chroma: between code and patches.
        let y: &Vec<usize> = &(82..94).flat_map(|row| row * 320..row * 320 + 320).collect();
        let v: &Vec<usize> = &(SIZE.v().start + 41 * SIZE.c_stride()..SIZE.v().start + 47 * SIZE.c_stride()).collect();
        let whole = drawn(0, &plain);
        let brighter = drawn(0, &Look { brightness: 0.25, ..plain });
        assert!((mean(&brighter, y) - mean(&whole, y) - 32.0).abs() < 1.0);
        assert!(spread(&drawn(0, &Look { contrast: 0.5, ..plain }), y) < 0.6 * spread(&whole, y));
        assert!(spread(&drawn(0, &Look { saturation: 0.0, ..plain }), v) < 1e-9);
        let red = drawn(0, &Look { cast: [0.0, 40.0], ..plain });
        assert!(mean(&red, v) - mean(&whole, v) > 20.0);
    }
}
