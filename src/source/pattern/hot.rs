//! Owns the hot pixels of the synthetic sensor: fixed places that leak charge in every frame, whatever the scene does.
//! Pure; runs on the thread `sensor`.

use super::develop::scatter;
use super::plan::{Plan, SIDE};

/// Charge that the weakest and the strongest leaks (e⁻/s). Assumed: weak enough to be lost in the noise by day, and all to be
/// seen at 2 s.
const LEAKS: (f64, f64) = (60.0, 3000.0);
/// Rows and columns in which there is one at most, so that none is another's neighbour.
const CELL: usize = 4;

/// One of them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Hot {
    /// Column in the picture.
    pub x: usize,
    /// Row in the picture.
    pub y: usize,
    /// Charge (e⁻/s).
    pub leaks: f64,
}

/// The first `n`, or as many as there is room for, by rows: between the codes, off patches, words and digits.
pub fn places(plan: &Plan, n: usize) -> Vec<Hot> {
    let inside = |r: &[std::ops::Range<usize>; 2], x, y| r[0].contains(&x) && r[1].contains(&y);
    let patches = [0..3 * SIDE, plan.free.end.saturating_sub(SIDE)..plan.free.end];
    let covered = |x: usize, y: usize| {
        plan.patched && inside(&patches, x, y)
            || inside(&plan.title, x, y)
            || plan.digits.as_ref().is_some_and(|d| inside(d, x, y))
    };
    if n == 0 {
        return Vec::new();
    }
    let (columns, rows) = (plan.width / CELL, plan.free.len() / CELL);
    let mut cells: Vec<usize> = (0..columns * rows).collect();
    let mut hot = Vec::with_capacity(n.min(cells.len()));
    for k in 0..cells.len() {
        if hot.len() == n {
            break;
        }
        let chance = scatter(k as u64 + 3_000_000);
        let other = k + (chance as usize >> 8) % (cells.len() - k);
        cells.swap(k, other);
        // Away from the cell's right and lower edge, so two are two pixels apart at least.
        let (x, y) = (cells[k] % columns * CELL + (chance & 1) as usize, cells[k] / columns * CELL + (chance >> 1 & 1) as usize);
        let part = (chance >> 50) as f64 / 16_383.0;
        let y = plan.free.start + y;
        if x + 1 < plan.width && !covered(x, y) {
            hot.push(Hot { x, y, leaks: LEAKS.0 * (LEAKS.1 / LEAKS.0).powf(part) });
        }
    }
    hot.sort_unstable_by_key(|h| (h.y, h.x));
    hot
}
