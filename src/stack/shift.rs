//! Owns whether two frames show the same scene from another direction: a camera that turns, a belt, a sky. Compares a few patches
//! of luma under all small shifts. Pure arithmetic; export threads.

use crate::frame::Layout;

/// Largest shift that is tried, in both directions (samples).
const REACH: usize = 12;
/// Side of a patch; every other row of it counts.
const PATCH: usize = 16;
/// Patches across and down.
const ACROSS: usize = 4;
const DOWN: usize = 3;
/// A shift explains a difference that it makes smaller than this share. Under the best of all shifts, white noise kept 0.93
/// at least and noise in blotches of a few samples 0.88 (12 pairs of drawn frames each).
const LESS: f32 = 0.75;

/// Whether some shift makes the frames much more alike than they are as they lie.
pub fn explains(one: &[u8], other: &[u8], layout: Layout) -> bool {
    let (width, height) = (layout.width as usize, layout.height as usize);
    let around = PATCH + 2 * REACH;
    if width < around || height < around {
        return false;
    }
    let places = |count: usize, length: usize| (0..count).map(move |k| (length - around) * k / (count - 1) + REACH);
    let row = |x: usize, y: usize| {
        let at = layout.y().start + y * layout.y_stride() + x;
        at..at + PATCH
    };
    let differ = |right: usize, down: usize| -> u32 {
        let patches = places(ACROSS, width).flat_map(|x| places(DOWN, height).map(move |y| (x, y)));
        let of = |(x, y): (usize, usize)| {
            let rows = (0..PATCH).step_by(2).map(move |k| (x, y + k));
            rows.map(|(x, y)| {
                let (a, b) = (&one[row(x, y)], &other[row(x + right - REACH, y + down - REACH)]);
                a.iter().zip(b).map(|(a, b)| u32::from(a.abs_diff(*b))).sum::<u32>()
            })
            .sum::<u32>()
        };
        patches.map(of).sum()
    };
    let least = (0..=2 * REACH).flat_map(|right| (0..=2 * REACH).map(move |down| (right, down))).map(|(r, d)| differ(r, d)).min();
    least.is_some_and(|least| (least as f32) < LESS * differ(REACH, REACH) as f32)
}
