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

/// How much light one frame took: `E = t·g [s]`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Exposure {
    /// Exposure time [µs].
    pub time_us: f64,
    /// Analogue gain, 1.0 and more.
    pub analogue_gain: f64,
    /// Digital gain, 1.0 and more.
    pub digital_gain: f64,
}

impl Exposure {
    /// Exposure time × both gains [s].
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
    /// Whether two frames may be averaged: `E` differs by at most 2 %, less than one code value in mid grey
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
    /// Scene light [lux], where the source knows.
    pub lux: Option<f64>,
    /// Colour temperature [K], where the source knows.
    pub colour_temperature: Option<u32>,
    /// Focus figure of merit, where the source knows.
    pub focus: Option<i32>,
    /// Taken in night mode.
    pub night: bool,
}

/// Borrowed planes of one picture as a source delivers them: any stride.
#[derive(Debug, Clone, Copy)]
pub struct Planes<'a> {
    /// Size.
    pub layout: Layout,
    /// Y, U, V.
    pub data: [&'a [u8]; 3],
    /// Bytes from row to row, one number per plane.
    pub stride: [usize; 3],
}

impl<'a> Planes<'a> {
    /// The planes of one buffer in this program's own layout.
    pub fn of(layout: Layout, pixels: &'a [u8]) -> Self {
        Planes {
            layout,
            data: [&pixels[layout.y()], &pixels[layout.u()], &pixels[layout.v()]],
            stride: [layout.y_stride(), layout.c_stride(), layout.c_stride()],
        }
    }

    /// The one copy of a frame: into `slot`, laid out as [`Layout`] says. One `memcpy` per plane where the strides agree.
    ///
    /// `slot` is at least `self.layout.bytes()` long.
    pub fn copy_to(&self, slot: &mut [u8]) {
        let l = self.layout;
        let c_rows = l.c_height();
        let (w, cw) = (l.width as usize, l.width as usize / 2);
        let plan =
            [(l.y(), l.y_stride(), l.height as usize, w), (l.u(), l.c_stride(), c_rows, cw), (l.v(), l.c_stride(), c_rows, cw)];
        for (p, (range, to, rows, row_bytes)) in plan.into_iter().enumerate() {
            let (src, dst, from) = (self.data[p], &mut slot[range], self.stride[p]);
            if from == to && src.len() >= dst.len() {
                dst.copy_from_slice(&src[..dst.len()]);
            } else {
                for r in 0..rows {
                    dst[r * to..r * to + row_bytes].copy_from_slice(&src[r * from..r * from + row_bytes]);
                }
            }
        }
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
        let src = Planes { layout: l, data: [&padded[0], &padded[1], &padded[2]], stride: [12, 7, 7] };
        let mut slot = vec![0; l.bytes()];
        src.copy_to(&mut slot);
        assert_eq!(slot, own);
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
