//! Owns the big digits in the synthetic picture: time of day (UTC) and number of the frame, white on black, for people to read.
//! Pure; no allocation; runs on the thread `sensor`.

use super::plan::{Plan, Rows};
use crate::clock::WallUs;
use crate::overlay::letters::dots;

/// Luma of paper and ink: not so far out that they count as clipped.
const PAPER: u8 = 20;
const INK: u8 = 225;
/// Columns and rows of a character (dots), with the gap behind and below it.
const CELL: (usize, usize) = (6, 8);
/// Characters of the time, and of the number with its sign.
const TIME: usize = 10;
const NUMBER: usize = 8;

/// Where they stand.
pub struct Digits {
    /// First column and row of each text, even.
    at: [(usize, usize); 2],
    /// Samples to the side of a dot.
    dot: usize,
}

impl Digits {
    /// In one line beside the patches, or in two; `None` where there is no room.
    pub fn new(plan: &Plan) -> Option<Digits> {
        let [columns, rows] = plan.digits.as_ref()?;
        let fits = |letters: usize, high: usize| ((columns.len() - 8) / (CELL.0 * letters)).min(high / CELL.1);
        // Between two lines is room for the words.
        let half = rows.len() * 3 / 8;
        let (one, two) = (fits(TIME + 2 + NUMBER, rows.len()), fits(TIME, half));
        let left = columns.start + 8;
        // One line is large enough where its dots are three pixels wide; more would make nights brighter.
        if one >= two.min(3) {
            let top = rows.start + (rows.len() - CELL.1 * one) / 2 / 2 * 2;
            let second = left + (TIME + 2) * CELL.0 * one;
            return (one > 0).then_some(Digits { at: [(left, top), (second / 2 * 2, top)], dot: one });
        }
        let top = rows.start + (half - CELL.1 * two) / 2 / 2 * 2;
        Some(Digits { at: [(left, top), (left, top + (rows.len() - half) / 2 * 2)], dot: two })
    }

    /// Writes both, and the paper below them.
    pub fn write(&self, pixels: &mut [u8], rows: &Rows, id: u64, wall: WallUs) {
        let tenths = wall.0.rem_euclid(86_400_000_000) / 100_000;
        let (seconds, mut time) = (tenths / 10, *b"00:00:00.0");
        let pairs = [(0, seconds / 3600), (3, seconds / 60 % 60), (6, seconds % 60)];
        for (at, n) in pairs {
            time[at] += (n / 10) as u8;
            time[at + 1] += (n % 10) as u8;
        }
        time[9] += (tenths % 10) as u8;
        let mut number = *b"#0000000";
        let mut rest = id;
        for digit in number[1..].iter_mut().rev() {
            *digit += (rest % 10) as u8;
            rest /= 10;
        }
        self.text(pixels, rows, &time, self.at[0]);
        self.text(pixels, rows, &number, self.at[1]);
    }

    fn text(&self, pixels: &mut [u8], rows: &Rows, text: &[u8], (left, top): (usize, usize)) {
        let (dot, wide) = (self.dot, text.len() * CELL.0 * self.dot);
        for (plane, part) in [(1, 2), (2, 2)] {
            let out = pixels[rows.range[plane].clone()].chunks_exact_mut(rows.stride[plane]);
            out.skip(top / part).take(CELL.1 * dot / part).for_each(|row| row[left / part..(left + wide) / part].fill(128));
        }
        for (y, row) in pixels[rows.range[0].clone()].chunks_exact_mut(rows.stride[0]).skip(top).take(CELL.1 * dot).enumerate() {
            row[left..left + wide].fill(PAPER);
            for (k, letter) in text.iter().enumerate() {
                for (c, column) in dots(char::from(*letter)).into_iter().enumerate() {
                    // A row of dots above, so that the ink has paper on all sides.
                    if y >= dot && column >> (y / dot - 1) & 1 == 1 {
                        let x = left + (k * CELL.0 + c) * dot;
                        row[x..x + dot].fill(INK);
                    }
                }
            }
        }
    }
}
