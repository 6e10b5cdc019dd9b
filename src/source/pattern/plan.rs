//! Owns which part of the synthetic picture holds what, at every size, and where the planes lie in a buffer.
//! Pure; runs on the thread `sensor`.

use std::ops::Range;

use crate::frame::{Layout, Packing, Planes};
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

/// Rows and columns of a patch of colour.
pub const SIDE: usize = 64;
/// Lanes on which things move, where there is room.
const LANES: usize = 4;
/// Rows of the lowest lane worth having.
const LANE: usize = 12;

/// The parts of a picture, as rows and columns.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    pub width: usize,
    pub height: usize,
    /// Whether the codes fit.
    pub coded: bool,
    /// Whether the three patches of colour fit, at the left above the lower code.
    pub patched: bool,
    /// Rows below the upper code and above the lower one; all of them where there is no code.
    pub free: Range<usize>,
    pub sky: Range<usize>,
    /// Letters, bars and grey steps; empty in small pictures.
    pub chart: Range<usize>,
    /// Down to the patches.
    pub lanes: Vec<Range<usize>>,
    /// Columns and rows of the words TEST PATTERN.
    pub title: [Range<usize>; 2],
    /// Columns and rows of clock and number, beside the patches; the words may stand between the two.
    pub digits: Option<[Range<usize>; 2]>,
}

impl Plan {
    pub fn new(layout: Layout) -> Plan {
        let (width, height) = (layout.width as usize, layout.height as usize);
        let coded = barcode::fits(width, height);
        let lower = if coded { barcode::lower(width, height) } else { height };
        // Both codes are of one height.
        let free = if coded { height / 16 * 16 - lower..lower } else { 0..height };
        let patched = coded && width >= 3 * SIDE && free.len() >= SIDE;
        let scene = free.start..free.end - if patched { SIDE } else { 0 };
        let (rows, even) = (scene.len(), |part: usize| scene.start + scene.len() * part / 32 / 2 * 2);
        // The words stand in the middle, in large pictures between the wall and the lanes.
        let worded = rows >= 96;
        let sky = scene.start..even(7);
        let chart = sky.end..if rows >= 200 { even(13) } else { sky.end };
        let road = if worded { even(19) } else { sky.end };
        let n = ((scene.end - road) / LANE).clamp(1, LANES);
        let high = (scene.end - road) / n / 2 * 2;
        let lanes = (0..n).map(|k| road + k * high..road + (k + 1) * high).collect();
        let digits = (patched && width >= 5 * SIDE).then_some([3 * SIDE..width, scene.end..free.end]);
        let title = match &digits {
            // A small picture has no room for the words above.
            Some([columns, rows]) if scene.len() < SIDE / 2 => {
                [columns.clone(), rows.start + SIDE * 3 / 8..rows.end - SIDE * 3 / 8]
            }
            _ if worded => [0..width, even(14)..even(18)],
            _ => [0..width, scene.clone()],
        };
        Plan { width, height, coded, patched, free, sky, chart, lanes, title, digits }
    }
}
