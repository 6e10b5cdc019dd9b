//! Owns the eight ways in which a picture can lie, and the copy that sets one upright on its way into the ring. Never allocates
//! and never looks at what is in the picture. Any thread; the copy runs on the capture thread.

use crate::frame::{Layout, Packing, Planes, Samples, eight, every_other};

/// What is done to a picture: its rows become its columns, then left and right change places, then top and bottom.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Turn {
    transposed: bool,
    /// Left and right change places.
    across: bool,
    /// Top and bottom change places.
    down: bool,
}

impl Turn {
    /// Clockwise by 0, 90, 180 or 270 degrees, then mirrored left and right (`hflip`), then top and bottom (`vflip`).
    pub const fn new(rotation: u32, hflip: bool, vflip: bool) -> Turn {
        Turn {
            transposed: rotation == 90 || rotation == 270,
            across: (rotation == 90 || rotation == 180) != hflip,
            down: (rotation == 180 || rotation == 270) != vflip,
        }
    }

    /// What sets a picture upright that lies as EXIF's orientation says, 1 to 8; nothing for any other number.
    pub const fn exif(orientation: u8) -> Turn {
        match orientation {
            2 => Turn::new(0, true, false),
            3 => Turn::new(180, false, false),
            4 => Turn::new(0, false, true),
            5 => Turn::new(90, true, false),
            6 => Turn::new(90, false, false),
            7 => Turn::new(90, false, true),
            8 => Turn::new(270, false, false),
            _ => Turn::new(0, false, false),
        }
    }

    /// The number of EXIF's orientation for it: 1 where nothing is done.
    pub const fn orientation(self) -> u8 {
        match (self.transposed, self.across, self.down) {
            (false, false, false) => 1,
            (false, true, false) => 2,
            (false, true, true) => 3,
            (false, false, true) => 4,
            (true, false, false) => 5,
            (true, true, false) => 6,
            (true, true, true) => 7,
            (true, false, true) => 8,
        }
    }

    /// This and then the other.
    #[must_use]
    pub const fn then(self, other: Turn) -> Turn {
        let (across, down) = if other.transposed { (self.down, self.across) } else { (self.across, self.down) };
        Turn { transposed: self.transposed != other.transposed, across: across != other.across, down: down != other.down }
    }

    /// Nothing is done.
    pub fn is_none(self) -> bool {
        self == Turn::default()
    }

    /// Width and height change places.
    pub const fn is_quarter(self) -> bool {
        self.transposed
    }

    /// The size of the turned picture, and of the picture that it is made of.
    pub const fn of(self, layout: Layout) -> Layout {
        if self.transposed { Layout::new(layout.height, layout.width) } else { layout }
    }

    /// Copies the picture into `slot` and turns it on the way. Where there is nothing to turn it is [`Planes::copy_to`].
    ///
    /// `slot` is at least as long as the turned picture's [`Layout::bytes`].
    pub fn copy(self, from: &Planes<'_>, slot: &mut [u8]) {
        if self.is_none() {
            return from.copy_to(slot);
        }
        let to = self.of(from.layout);
        for (component, (range, pitch)) in
            [(to.y(), to.y_stride()), (to.u(), to.c_stride()), (to.v(), to.c_stride())].into_iter().enumerate()
        {
            let (samples, to) = (from.samples(component), &mut slot[range]);
            match (from.packing, component) {
                (Packing::Planar, _) | (Packing::SemiPlanar, 0) => self.plane(&Plane::<1, false>(samples), to, pitch),
                (Packing::SemiPlanar, _) | (Packing::Packed, 0) => self.plane(&Plane::<2, false>(samples), to, pitch),
                // Chroma of a packed picture has all its rows: two become one.
                (Packing::Packed, _) => self.plane(&Plane::<4, true>(samples), to, pitch),
            }
        }
    }

    fn plane<const STEP: usize, const PAIRS: bool>(self, from: &Plane<'_, STEP, PAIRS>, to: &mut [u8], pitch: usize) {
        if self.transposed { self.columns(from, to, pitch) } else { self.rows(from, to, pitch) }
    }

    /// Row by row.
    fn rows<const STEP: usize, const PAIRS: bool>(self, from: &Plane<'_, STEP, PAIRS>, to: &mut [u8], pitch: usize) {
        let (width, height) = from.size();
        for (y, to) in to.chunks_exact_mut(pitch).take(height).enumerate() {
            let (y, to) = (if self.down { height - 1 - y } else { y }, &mut to[..width]);
            if STEP == 1 {
                let row = &from.0.data[y * from.0.stride..][..width];
                if self.across {
                    backwards(row, to);
                } else {
                    to.copy_from_slice(row);
                }
                continue;
            }
            for (x, to) in to.iter_mut().enumerate() {
                *to = from.one(if self.across { width - 1 - x } else { x }, y);
            }
        }
    }

    /// Columns become rows, in blocks of eight by eight. A strip of [`STRIP`] columns is done from top to bottom, so that each
    /// cache line is read once and the rows that are being written stay in the cache.
    fn columns<const STEP: usize, const PAIRS: bool>(self, from: &Plane<'_, STEP, PAIRS>, to: &mut [u8], pitch: usize) {
        let (width, height) = from.size();
        let row = |x: usize| pitch * if self.down { width - 1 - x } else { x };
        let (wide, high) = (width / 8 * 8, height / 8 * 8);
        for strip in (0..wide).step_by(STRIP) {
            for y in (0..high).step_by(8) {
                let at = if self.across { height - 8 - y } else { y };
                for x in (strip..wide.min(strip + STRIP)).step_by(8) {
                    let block = transposed([0, 1, 2, 3, 4, 5, 6, 7].map(|k| from.eight(x, y + k)));
                    for (k, samples) in block.into_iter().enumerate() {
                        let bytes = if self.across { samples.swap_bytes() } else { samples }.to_le_bytes();
                        to[row(x + k) + at..][..8].copy_from_slice(&bytes);
                    }
                }
            }
        }
        let mut rest = |x: usize, y: usize| to[row(x) + if self.across { height - 1 - y } else { y }] = from.one(x, y);
        for x in 0..width {
            let first = if x < wide { high } else { 0 };
            (first..height).for_each(|y| rest(x, y));
        }
    }
}

/// The samples of a row in reverse.
fn backwards(row: &[u8], to: &mut [u8]) {
    let (mut from, mut back) = (row.chunks_exact(8), to.rchunks_exact_mut(8));
    for (from, to) in from.by_ref().zip(back.by_ref()) {
        to.copy_from_slice(&eight(from).to_be_bytes());
    }
    for (from, to) in from.remainder().iter().zip(back.into_remainder().iter_mut().rev()) {
        *to = *from;
    }
}

/// Columns of the picture that are turned together: a cache line of the oldest processor (ARM1176).
const STRIP: usize = 32;

/// The samples of one component, `STEP` bytes apart; with `PAIRS` two rows of them make one.
struct Plane<'a, const STEP: usize, const PAIRS: bool>(Samples<'a>);

impl<const STEP: usize, const PAIRS: bool> Plane<'_, STEP, PAIRS> {
    fn size(&self) -> (usize, usize) {
        (self.0.width, if PAIRS { self.0.height / 2 } else { self.0.height })
    }

    #[inline]
    fn one(&self, x: usize, y: usize) -> u8 {
        let at = |y: usize| self.0.data[y * self.0.stride + x * STEP];
        if PAIRS { at(2 * y).midpoint(at(2 * y + 1)) } else { at(y) }
    }

    /// Eight samples of a row, the first in the lowest byte.
    #[inline]
    fn eight(&self, x: usize, y: usize) -> u64 {
        let at = |y: usize| {
            let row = &self.0.data[y * self.0.stride + x * STEP..][..=7 * STEP];
            match STEP {
                1 => eight(row),
                // Fifteen bytes, as a row may end there: the second eight of them begin one early.
                2 => {
                    let half = |bytes: u64| u64::from(u32::from_le_bytes(every_other(bytes)));
                    half(eight(&row[..8])) | half(eight(&row[7..]) >> 8) << 32
                }
                _ => u64::from_le_bytes([0, 1, 2, 3, 4, 5, 6, 7].map(|k| row[k * STEP])),
            }
        };
        if !PAIRS {
            return at(y);
        }
        let (a, b) = (at(2 * y), at(2 * y + 1));
        (a & b) + ((a ^ b) >> 1 & 0x7f7f_7f7f_7f7f_7f7f)
    }
}

/// Rows of eight samples as columns: blocks of four by four change places, then of two by two, then single samples.
fn transposed(mut rows: [u64; 8]) -> [u64; 8] {
    for (apart, low) in [(4, 0x0000_0000_ffff_ffff), (2, 0x0000_ffff_0000_ffff), (1, 0x00ff_00ff_00ff_00ff_u64)] {
        for i in (0..8).filter(|i| i & apart == 0) {
            let (a, b) = (rows[i], rows[i + apart]);
            rows[i] = a & low | (b & low) << (8 * apart);
            rows[i + apart] = a >> (8 * apart) & low | b & !low;
        }
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> impl Iterator<Item = Turn> {
        (1..=8).map(Turn::exif)
    }

    /// Where the pixel (x, y) of a picture of this size comes to lie, by the words of the standards and one at a time.
    fn lands(orientation: u8, (x, y): (usize, usize), (w, h): (usize, usize)) -> (usize, usize) {
        match orientation {
            1 => (x, y),
            2 => (w - 1 - x, y),
            3 => (w - 1 - x, h - 1 - y),
            4 => (x, h - 1 - y),
            5 => (y, x),
            6 => (h - 1 - y, x),
            7 => (h - 1 - y, w - 1 - x),
            8 => (y, w - 1 - x),
            _ => unreachable!(),
        }
    }

    fn noise(bytes: usize) -> Vec<u8> {
        (0..bytes).map(|i| (i * 37 % 251) as u8).collect()
    }

    #[test]
    fn every_orientation_of_exif_is_set_upright() {
        // Neither is a multiple of eight, so that the edges are seen to.
        let l = Layout::new(42, 22);
        let own = noise(l.bytes());
        let from = Planes::of(l, &own);
        for turn in all() {
            let to = turn.of(l);
            let mut slot = vec![0; to.bytes()];
            turn.copy(&from, &mut slot);
            let turned = Planes::of(to, &slot);
            for c in 0..3 {
                let (a, b) = (from.samples(c), turned.samples(c));
                for (x, y) in (0..a.height).flat_map(|y| (0..a.width).map(move |x| (x, y))) {
                    let (tx, ty) = lands(turn.orientation(), (x, y), (a.width, a.height));
                    assert_eq!(b.data[ty * b.stride + tx], a.data[y * a.stride + x], "{turn:?} component {c} ({x}, {y})");
                }
            }
        }
    }

    #[test]
    fn every_packing_is_turned_to_the_same_picture() {
        let lying = Layout::new(44, 20);
        let own = noise(lying.bytes());
        let plain = Planes::of(lying, &own);
        let (w, half, rows) = (lying.width as usize, lying.width as usize / 2, lying.height as usize);
        let chroma = |c: usize, x: usize, y: usize| plain.data[c][y * plain.stride[c] + x];
        let uv: Vec<u8> = (0..rows / 2).flat_map(|y| (0..half).flat_map(move |x| [chroma(1, x, y), chroma(2, x, y)])).collect();
        // Rows of chroma that differ by one on both sides of the mean that copies take.
        let packed: Vec<u8> = (0..rows)
            .flat_map(|y| {
                (0..half).flat_map(move |x| {
                    let at = y * plain.stride[0] + 2 * x;
                    [
                        plain.data[0][at],
                        chroma(1, x, y / 2) + (y % 2) as u8,
                        plain.data[0][at + 1],
                        chroma(2, x, y / 2) + (y % 2) as u8,
                    ]
                })
            })
            .collect();
        let nv12 = Planes {
            layout: lying,
            packing: Packing::SemiPlanar,
            data: [plain.data[0], &uv, &[]],
            stride: [plain.stride[0], w, 0],
        };
        let yuyv = Planes { layout: lying, packing: Packing::Packed, data: [&packed, &[], &[]], stride: [2 * w, 0, 0] };
        for turn in all() {
            let mut expected = vec![0; turn.of(lying).bytes()];
            turn.copy(&plain, &mut expected);
            for other in [nv12, yuyv] {
                let mut slot = vec![0; turn.of(lying).bytes()];
                turn.copy(&other, &mut slot);
                let (got, want) = (Planes::of(turn.of(lying), &slot), Planes::of(turn.of(lying), &expected));
                for c in 0..3 {
                    let (a, b) = (got.samples(c), want.samples(c));
                    for y in 0..a.height {
                        let row = |s: Samples<'_>| s.data[y * s.stride..][..s.width].to_vec();
                        assert_eq!(row(a), row(b), "{:?} {turn:?} component {c} row {y}", other.packing);
                    }
                }
            }
        }
    }

    #[test]
    fn one_after_the_other_is_one_turn() {
        let l = Layout::new(16, 8);
        let own = noise(l.bytes());
        for (first, second) in all().flat_map(|a| all().map(move |b| (a, b))) {
            let middle = first.of(l);
            let (mut once, mut twice) = (vec![0; middle.bytes()], vec![0; l.bytes()]);
            first.copy(&Planes::of(l, &own), &mut once);
            second.copy(&Planes::of(middle, &once), &mut twice);
            let mut both = vec![0; l.bytes()];
            first.then(second).copy(&Planes::of(l, &own), &mut both);
            assert_eq!(both, twice, "{first:?} then {second:?}");
        }
        assert_eq!(Turn::new(90, true, false).then(Turn::new(90, true, false)), Turn::default());
        assert!(all().zip(1..).all(|(turn, n)| turn.orientation() == n));
    }
}
