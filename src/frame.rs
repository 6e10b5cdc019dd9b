//! Owns what a frame is: the I420 layout of its bytes, how its light became numbers, and what is known about it.
//! Never holds pixels (that is the ring) and does no I/O. Any thread.

use std::ops::Range;

use crate::clock::{BootUs, WallUs};

/// Size of a picture and, derived from it, where its planes lie in one I420 buffer.
///
/// The layout is `GStreamer`'s own for `video/x-raw,format=I420`: Y rows padded to 4 bytes, chroma rows to 4 bytes, planes
/// Y, U, V one after the other. So a ring slot can be handed to an encoder as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Layout {
    /// Columns, even.
    pub width: u32,
    /// Rows, even.
    pub height: u32,
}

impl Layout {
    /// A layout of even width and height.
    pub const fn new(width: u32, height: u32) -> Self {
        Layout { width, height }
    }
    /// Columns times rows.
    pub fn pixels(self) -> u64 {
        u64::from(self.width) * u64::from(self.height)
    }
    /// Bytes from one Y row to the next.
    pub const fn y_stride(self) -> usize {
        (self.width as usize).next_multiple_of(4)
    }
    /// Bytes from one U or V row to the next.
    pub const fn c_stride(self) -> usize {
        (self.width as usize / 2).next_multiple_of(4)
    }
    /// Rows of U and of V.
    pub const fn c_height(self) -> usize {
        self.height as usize / 2
    }
    /// Where Y lies.
    pub const fn y(self) -> Range<usize> {
        0..self.y_stride() * self.height as usize
    }
    /// Where U lies.
    pub const fn u(self) -> Range<usize> {
        let start = self.y().end;
        start..start + self.c_stride() * self.c_height()
    }
    /// Where V lies.
    pub const fn v(self) -> Range<usize> {
        let start = self.u().end;
        start..start + self.c_stride() * self.c_height()
    }
    /// Bytes of the whole picture.
    pub const fn bytes(self) -> usize {
        self.v().end
    }
}

/// Which luma and chroma weights made Y, U and V from R, G and B.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Matrix {
    /// ITU-R BT.601: JPEG, webcams, SD video.
    #[default]
    Bt601,
    /// ITU-R BT.709: HD video.
    Bt709,
}

/// Which numbers mean black and white.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Span {
    /// 0 to 255, as JPEG and the Pi's still pipeline have it.
    #[default]
    Full,
    /// 16 to 235 (chroma to 240), as video has it.
    Limited,
}

/// How colour became numbers. The default is JPEG's own (BT.601, full range).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Colour {
    /// Weights.
    pub matrix: Matrix,
    /// Black and white.
    pub span: Span,
}

/// How much light one frame took: `E = t·g` (s).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Exposure {
    /// Exposure time (µs).
    pub time_us: f64,
    /// Analogue gain, 1.0 and more.
    pub analogue_gain: f64,
    /// Digital gain, 1.0 and more.
    pub digital_gain: f64,
}

impl Exposure {
    /// Exposure time × both gains (s).
    pub fn e(self) -> f64 {
        self.time_us / 1e6 * self.analogue_gain * self.digital_gain
    }
    /// Both gains together.
    pub fn gain(self) -> f64 {
        self.analogue_gain * self.digital_gain
    }
    /// ISO as picture viewers understand it: gain 1 is ISO 100.
    pub fn iso(self) -> u32 {
        (self.gain() * 100.0).round() as u32
    }
    /// Whether two frames may meet in one picture: `E` differs by at most 2 %, less than one code value in mid grey
    /// (a 2 % step moves luma 128 by about 1.2 through the camera's tone curve).
    pub fn same_light(a: Option<Exposure>, b: Option<Exposure>) -> bool {
        match (a, b) {
            (None, None) => true,
            (Some(a), Some(b)) => {
                let (a, b) = (a.e(), b.e());
                (a - b).abs() <= 0.02 * a.max(b)
            }
            _ => false,
        }
    }
}

/// What auto-exposure says of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Ae {
    /// Exposure is set by hand, or the source has no such thing.
    #[default]
    Off,
    /// Still moving.
    Searching,
    /// Settled.
    Converged,
}

/// All that is known about one frame.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FrameMeta {
    /// Counted from 0 by the capture; goes on after a restart when the ring was kept.
    pub id: u64,
    /// When the sensor delivered it, boot-time clock.
    pub boot: BootUs,
    /// The same instant on the wall clock as it stood then.
    pub wall: WallUs,
    /// Size.
    pub layout: Layout,
    /// How colour became numbers.
    pub colour: Colour,
    /// Light taken, where the source knows.
    pub exposure: Option<Exposure>,
    /// Auto-exposure's word.
    pub ae: Ae,
    /// Scene light (lux), where the source knows.
    pub lux: Option<f64>,
    /// Colour temperature (K), where the source knows.
    pub colour_temperature: Option<u32>,
    /// Focus figure of merit, where the source knows.
    pub focus: Option<i32>,
    /// Taken in night mode.
    pub night: bool,
    /// Drawn by the program and not taken by a camera: the test pattern.
    pub drawn: bool,
}

/// How the samples of a picture lie in its planes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Packing {
    /// Y, U and V in a plane each, chroma halved both ways: I420.
    #[default]
    Planar,
    /// Y in the first plane, U and V by turns in the second, chroma halved both ways: NV12.
    SemiPlanar,
    /// All in the first plane, by turns Y U Y V, chroma halved across only: YUYV.
    Packed,
}

/// Borrowed planes of one picture as a source delivers them: any stride.
#[derive(Debug, Clone, Copy)]
pub struct Planes<'a> {
    /// Size.
    pub layout: Layout,
    /// How the samples lie in the planes.
    pub packing: Packing,
    /// Y, U, V as far as `packing` has them; the others are empty.
    pub data: [&'a [u8]; 3],
    /// Bytes from row to row, one number per plane.
    pub stride: [usize; 3],
}

/// The samples of one component of a picture: the sample (x, y) is `data[y · stride + x · step]`.
#[derive(Debug, Clone, Copy)]
pub struct Samples<'a> {
    /// From the first sample on.
    pub data: &'a [u8],
    /// Bytes from row to row.
    pub stride: usize,
    /// Bytes from sample to sample.
    pub step: usize,
    /// Samples across.
    pub width: usize,
    /// Rows of samples.
    pub height: usize,
}

impl<'a> Planes<'a> {
    /// The planes of one buffer in this program's own layout.
    pub fn of(layout: Layout, pixels: &'a [u8]) -> Self {
        Planes {
            layout,
            packing: Packing::Planar,
            data: [&pixels[layout.y()], &pixels[layout.u()], &pixels[layout.v()]],
            stride: [layout.y_stride(), layout.c_stride(), layout.c_stride()],
        }
    }

    /// Y (0), U (1) or V (2). Chroma of a packed picture has all its rows, that of the others half of them.
    pub fn samples(&self, component: usize) -> Samples<'a> {
        let (width, height) = (self.layout.width as usize, self.layout.height as usize);
        let (plane, first, step) = match (self.packing, component) {
            (Packing::Planar, c) => (c, 0, 1),
            (Packing::SemiPlanar, 0) => (0, 0, 1),
            (Packing::SemiPlanar, c) => (1, c - 1, 2),
            (Packing::Packed, 0) => (0, 0, 2),
            (Packing::Packed, c) => (0, 2 * c - 1, 4),
        };
        let (across, rows) = match (component, self.packing) {
            (0, _) => (width, height),
            (_, Packing::Packed) => (width / 2, height),
            _ => (width / 2, height / 2),
        };
        Samples { data: &self.data[plane][first..], stride: self.stride[plane], step, width: across, height: rows }
    }

    /// The one copy of a frame: into `slot`, laid out as [`Layout`] says. One `memcpy` per plane where the strides agree;
    /// interleaved samples are parted on the way.
    ///
    /// `slot` is at least `self.layout.bytes()` long.
    pub fn copy_to(&self, slot: &mut [u8]) {
        let l = self.layout;
        match self.packing {
            Packing::Planar => {
                for (plane, range) in [l.y(), l.u(), l.v()].into_iter().enumerate() {
                    self.copy_plane(plane, &mut slot[range]);
                }
            }
            Packing::SemiPlanar => {
                self.copy_plane(0, &mut slot[l.y()]);
                let (u, v) = slot[l.u().start..l.v().end].split_at_mut(l.u().len());
                let pairs = self.data[1].chunks(self.stride[1]);
                let half = l.width as usize / 2;
                for ((from, u), v) in pairs.zip(u.chunks_exact_mut(l.c_stride())).zip(v.chunks_exact_mut(l.c_stride())) {
                    part(&from[..2 * half], &mut u[..half], &mut v[..half]);
                }
            }
            Packing::Packed => self.unpack(slot),
        }
    }

    fn copy_plane(&self, plane: usize, dst: &mut [u8]) {
        let (l, src, from) = (self.layout, self.data[plane], self.stride[plane]);
        let (to, width) = if plane == 0 { (l.y_stride(), l.width as usize) } else { (l.c_stride(), l.width as usize / 2) };
        if from == to && src.len() >= dst.len() {
            dst.copy_from_slice(&src[..dst.len()]);
        } else {
            for (dst, src) in dst.chunks_exact_mut(to).zip(src.chunks(from)) {
                dst[..width].copy_from_slice(&src[..width]);
            }
        }
    }

    /// Two rows at a time: their luma as it is, their chroma averaged.
    fn unpack(&self, slot: &mut [u8]) {
        let l = self.layout;
        let (luma, chroma) = slot[..l.bytes()].split_at_mut(l.y().end);
        let (u, v) = chroma.split_at_mut(l.u().len());
        let (to, width) = (l.y_stride(), 2 * l.width as usize);
        let rows = self.data[0].chunks(2 * self.stride[0]).zip(luma.chunks_exact_mut(2 * to));
        for (((src, dst), u), v) in rows.zip(u.chunks_exact_mut(l.c_stride())).zip(v.chunks_exact_mut(l.c_stride())) {
            let (upper, lower) = (&src[..width], &src[self.stride[0]..self.stride[0] + width]);
            let (first, second) = dst.split_at_mut(to);
            for (src, dst) in [(upper, first), (lower, second)] {
                evens(src, &mut dst[..l.width as usize]);
            }
            for (((a, b), u), v) in upper.chunks_exact(4).zip(lower.chunks_exact(4)).zip(u).zip(v) {
                *u = a[1].midpoint(b[1]);
                *v = a[3].midpoint(b[3]);
            }
        }
    }
}

/// Bytes 0, 2, 4 and 6 of eight. Eight at a time is 2.4 times as fast as one by one (Xeon, 1024 columns).
#[inline]
pub(crate) fn every_other(eight: u64) -> [u8; 4] {
    let pairs = eight & 0x00ff_00ff_00ff_00ff;
    let fours = (pairs | pairs >> 8) & 0x0000_ffff_0000_ffff;
    ((fours | fours >> 16) as u32).to_le_bytes()
}

/// Eight bytes, the first in the lowest.
#[inline]
pub(crate) fn eight(bytes: &[u8]) -> u64 {
    u64::from_le_bytes(bytes.try_into().expect("chunks of eight are eight bytes long"))
}

/// The bytes at even places of `src` to `even`, the others to `odd`; each is half as long.
fn part(src: &[u8], even: &mut [u8], odd: &mut [u8]) {
    let mut from = src.chunks_exact(8);
    let (mut to_even, mut to_odd) = (even.chunks_exact_mut(4), odd.chunks_exact_mut(4));
    for ((src, even), odd) in from.by_ref().zip(to_even.by_ref()).zip(to_odd.by_ref()) {
        let bytes = eight(src);
        even.copy_from_slice(&every_other(bytes));
        odd.copy_from_slice(&every_other(bytes >> 8));
    }
    let rest = to_even.into_remainder().iter_mut().zip(to_odd.into_remainder());
    for (pair, (even, odd)) in from.remainder().chunks_exact(2).zip(rest) {
        (*even, *odd) = (pair[0], pair[1]);
    }
}

/// The bytes at even places of `src`; `even` is half as long.
fn evens(src: &[u8], even: &mut [u8]) {
    let (mut from, mut to) = (src.chunks_exact(8), even.chunks_exact_mut(4));
    for (src, even) in from.by_ref().zip(to.by_ref()) {
        even.copy_from_slice(&every_other(eight(src)));
    }
    for (pair, even) in from.remainder().chunks_exact(2).zip(to.into_remainder()) {
        *even = pair[0];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn planes_follow_one_another() {
        let l = Layout::new(1024, 768);
        assert_eq!(l.bytes(), 1024 * 768 * 3 / 2);
        let odd = Layout::new(6, 4); // chroma rows of 3 bytes are padded to 4
        assert_eq!((odd.y_stride(), odd.c_stride(), odd.bytes()), (8, 4, 32 + 8 + 8));
    }

    #[test]
    fn a_padded_source_lands_in_the_same_place() {
        let l = Layout::new(8, 4);
        let own: Vec<u8> = (0..l.bytes() as u8).collect();
        let mut padded = [vec![9; 12 * 4], vec![9; 7 * 2], vec![9; 7 * 2]];
        let p = Planes::of(l, &own);
        for (k, (rows, w, pitch)) in [(4, 8, 12), (2, 4, 7), (2, 4, 7)].into_iter().enumerate() {
            for r in 0..rows {
                padded[k][r * pitch..r * pitch + w].copy_from_slice(&p.data[k][r * w..r * w + w]);
            }
        }
        let src = Planes { layout: l, packing: Packing::Planar, data: [&padded[0], &padded[1], &padded[2]], stride: [12, 7, 7] };
        let mut slot = vec![0; l.bytes()];
        src.copy_to(&mut slot);
        assert_eq!(slot, own);
    }

    /// A picture whose samples are all different enough to betray a swap, and the same in another packing, rows padded.
    fn semi_planar(l: Layout, own: &[u8], pad: usize) -> [Vec<u8>; 2] {
        let p = Planes::of(l, own);
        let (w, pitch) = (l.width as usize, l.width as usize + pad);
        let (mut y, mut uv) = (vec![9; pitch * l.height as usize], vec![9; pitch * l.c_height()]);
        for r in 0..l.height as usize {
            y[r * pitch..r * pitch + w].copy_from_slice(&p.data[0][r * l.y_stride()..][..w]);
        }
        for r in 0..l.c_height() {
            for x in 0..w / 2 {
                uv[r * pitch + 2 * x] = p.data[1][r * l.c_stride() + x];
                uv[r * pitch + 2 * x + 1] = p.data[2][r * l.c_stride() + x];
            }
        }
        // The last row of a real buffer may end without its padding.
        uv.truncate(pitch * l.c_height() - pad);
        [y, uv]
    }

    #[test]
    fn interleaved_chroma_is_parted() {
        let l = Layout::new(22, 6); // not a multiple of eight, so that the rest is seen to
        let mut own: Vec<u8> = (0..l.bytes()).map(|i| (i * 7 % 256) as u8).collect();
        // The columns that only fill up a row are nobody's.
        for (range, pitch, width) in [(l.y(), l.y_stride(), 22), (l.u(), l.c_stride(), 11), (l.v(), l.c_stride(), 11)] {
            own[range].chunks_mut(pitch).for_each(|row| row[width..].fill(0));
        }
        for pad in [0, 12] {
            let [luma, pairs] = semi_planar(l, &own, pad);
            let (data, pitch) = ([&luma[..], &pairs, &[]], 22 + pad);
            let picture = Planes { layout: l, packing: Packing::SemiPlanar, data, stride: [pitch, pitch, 0] };
            let mut slot = vec![0; l.bytes()];
            picture.copy_to(&mut slot);
            assert_eq!(slot, own, "padding {pad}");
            let (u, v) = (picture.samples(1), picture.samples(2));
            assert_eq!(u.data[u.stride + 3 * u.step], own[l.u()][l.c_stride() + 3]);
            assert_eq!(v.data[2 * v.stride + 5 * v.step], own[l.v()][2 * l.c_stride() + 5]);
        }
    }

    #[test]
    fn packed_samples_are_unpacked_and_their_chroma_rows_averaged() {
        let (l, pitch) = (Layout::new(8, 4), 20);
        let at = |x: usize, y: usize, c: usize| (c * 80 + y * 10 + x) as u8;
        let mut packed = vec![9; pitch * 4 - 4];
        for y in 0..4 {
            for x in 0..4 {
                packed[y * pitch + 4 * x..][..4].copy_from_slice(&[
                    at(2 * x, y, 0),
                    at(x, y, 1),
                    at(2 * x + 1, y, 0),
                    at(x, y, 2),
                ]);
            }
        }
        let p = Planes { layout: l, packing: Packing::Packed, data: [&packed, &[], &[]], stride: [pitch, 0, 0] };
        let mut slot = vec![0; l.bytes()];
        p.copy_to(&mut slot);
        for (y, x) in (0..4).flat_map(|y| (0..8).map(move |x| (y, x))) {
            assert_eq!(slot[y * 8 + x], at(x, y, 0));
            let luma = p.samples(0);
            assert_eq!(luma.data[y * luma.stride + x * luma.step], at(x, y, 0));
        }
        for (y, x) in (0..2).flat_map(|y| (0..4).map(move |x| (y, x))) {
            // Rows 2y and 2y + 1 differ by 10: their mean lies 5 above the upper.
            assert_eq!(slot[l.u()][y * 4 + x], at(x, 2 * y, 1) + 5);
            assert_eq!(slot[l.v()][y * 4 + x], at(x, 2 * y, 2) + 5);
        }
        let v = p.samples(2);
        assert_eq!((v.data[3 * v.stride + 2 * v.step], v.width, v.height), (at(2, 3, 2), 4, 4));
    }

    #[test]
    fn light_within_two_percent_is_the_same() {
        let x = |t| Some(Exposure { time_us: t, analogue_gain: 2.0, digital_gain: 1.0 });
        assert!(Exposure::same_light(x(1000.0), x(1019.0)));
        assert!(!Exposure::same_light(x(1000.0), x(1030.0)));
        assert!(!Exposure::same_light(x(1000.0), None));
        assert_eq!(x(1000.0).unwrap().iso(), 200);
    }
}
