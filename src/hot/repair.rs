//! Owns the repair: what each known pixel of a picture becomes. Touches none that does not stand out in this very picture. Arithmetic on
//! bytes it is handed; on the thread that makes the picture.

use super::ground::{AROUND, Luma, middle};
use super::{List, Spot};

/// A known pixel is repaired where it stands out by half of what it usually does, within these bounds (code values).
const LEAST: i32 = 6;
const MOST: i32 = 24;
/// The same for chroma.
const LEAST_CHROMA: i32 = 4;

/// Which bytes of a picture (I420 as `list.layout` places it) become what, and how many pixels that is.
pub fn mend(list: &List, pixels: &[u8]) -> (Vec<(usize, u8)>, u32) {
    let l = list.layout;
    let (width, height) = (l.width as usize, l.height as usize);
    let luma = Luma { data: &pixels[l.y()], stride: l.y_stride(), width, height };
    let planes = [l.u(), l.v()].map(|range| {
        let first = range.start;
        (first, Luma { data: &pixels[range], stride: l.c_stride(), width: width / 2, height: l.c_height() })
    });
    let mut out = Vec::new();
    let mut spots = 0;
    for spot in &list.spots {
        let (x, y) = (usize::from(spot.x) as isize, usize::from(spot.y) as isize);
        let Some(own) = luma.at(x, y) else { continue };
        let before = out.len();
        let good = around(&luma, x, y, &|x, y| is_hot(list, x, y));
        let margin = (i32::from(spot.luma) / 2).clamp(LEAST, MOST);
        if let Some(median) = good.filter(|median| own - median >= margin) {
            out.push((y as usize * luma.stride + x as usize, median as u8));
        }
        for (usual, (first, plane)) in [spot.u, spot.v].map(i32::from).into_iter().zip(&planes) {
            let (x, y) = (x / 2, y / 2);
            let (Some(own), true) = (plane.at(x, y), usual != 0) else { continue };
            let margin = (usual.abs() / 2).clamp(LEAST_CHROMA, MOST);
            let good = around(plane, x, y, &|x, y| is_coloured(list, x, y));
            if let Some(median) = good.filter(|median| (own - median) * usual.signum() >= margin) {
                out.push((first + y as usize * plane.stride + x as usize, median as u8));
            }
        }
        spots += u32::from(out.len() > before);
    }
    (out, spots)
}

/// The median of the neighbours that are not bad themselves.
fn around(plane: &Luma<'_>, x: isize, y: isize, bad: &dyn Fn(isize, isize) -> bool) -> Option<i32> {
    let mut good = [0; 8];
    let mut n = 0;
    for (x, y) in AROUND.map(|(dx, dy)| (x + dx, y + dy)) {
        if let Some(value) = plane.at(x, y).filter(|_| !bad(x, y)) {
            good[n] = value;
            n += 1;
        }
    }
    let good = &mut good[..n];
    good.sort_unstable();
    (n > 0).then(|| middle(good))
}

fn find(list: &List, x: isize, y: isize) -> Option<&Spot> {
    let at = (u16::try_from(y).ok()?, u16::try_from(x).ok()?);
    list.spots.binary_search_by_key(&at, |s| (s.y, s.x)).ok().map(|k| &list.spots[k])
}

fn is_hot(list: &List, x: isize, y: isize) -> bool {
    find(list, x, y).is_some()
}

/// Whether one of the four pixels under a sample of chroma is known to colour it.
fn is_coloured(list: &List, x: isize, y: isize) -> bool {
    let under = [(0, 0), (1, 0), (0, 1), (1, 1)].map(|(dx, dy)| find(list, 2 * x + dx, 2 * y + dy));
    under.into_iter().flatten().any(|s| s.u != 0 || s.v != 0)
}
