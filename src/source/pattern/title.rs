//! Owns the words TEST PATTERN in the synthetic sensor's picture, so that nobody takes it for a camera's. White dots with a
//! black shadow, as large as fits between the codes, above the patches or beside them. Pure arithmetic; runs on the thread `sensor`.

use std::ops::Range;

/// Rows of each letter from the top, the left column in the highest of five bits.
const LETTERS: [(char, [u8; 7]); 7] = [
    ('A', [0b01110, 0b10001, 0b10001, 0b11111, 0b10001, 0b10001, 0b10001]),
    ('E', [0b11111, 0b10000, 0b10000, 0b11110, 0b10000, 0b10000, 0b11111]),
    ('N', [0b10001, 0b11001, 0b10101, 0b10101, 0b10011, 0b10001, 0b10001]),
    ('P', [0b11110, 0b10001, 0b10001, 0b11110, 0b10000, 0b10000, 0b10000]),
    ('R', [0b11110, 0b10001, 0b10001, 0b11110, 0b10100, 0b10010, 0b10001]),
    ('S', [0b01111, 0b10000, 0b10000, 0b01110, 0b00001, 0b00001, 0b11110]),
    ('T', [0b11111, 0b00100, 0b00100, 0b00100, 0b00100, 0b00100, 0b00100]),
];
const WORDS: &str = "TEST PATTERN";
/// Dots of the words with their gaps and the shadow: five columns and one of gap a letter; seven rows.
const SIZE: (usize, usize) = (12 * 6, 8);
/// Luma of shadow and ink: not so far out that they count as clipped.
const SHADOW: u8 = 20;
const INK: u8 = 225;

/// Whether a dot of the words, counted from their upper left corner, is ink.
fn ink(column: usize, row: usize) -> bool {
    let letter = WORDS.as_bytes().get(column / 6).map_or(' ', |b| char::from(*b));
    let rows = LETTERS.iter().find(|(l, _)| *l == letter).map(|(_, rows)| rows);
    column % 6 < 5 && rows.and_then(|rows| rows.get(row)).is_some_and(|bits| bits >> (4 - column % 6) & 1 == 1)
}

/// The words as runs of samples, for a picture of one size.
pub struct Title {
    left: usize,
    top: usize,
    /// Samples to the side of a dot; 0 where the picture is too small for any.
    dot: usize,
    /// For each row of dots: columns, counted in dots, and their luma.
    runs: [Vec<(Range<usize>, u8)>; SIZE.1],
}

impl Title {
    /// Words in these columns, in the middle of the rows `free`.
    pub fn new(columns: Range<usize>, free: Range<usize>) -> Title {
        let width = columns.len();
        let dot = (width * 2 / 3 / SIZE.0).max(usize::from(width >= SIZE.0)).min(free.len() / SIZE.1);
        let mut runs = [const { Vec::new() }; SIZE.1];
        for (row, runs) in runs.iter_mut().enumerate() {
            for column in 0..SIZE.0 {
                let shadow = || column > 0 && row > 0 && ink(column - 1, row - 1);
                let luma = match ink(column, row) {
                    true => INK,
                    false if shadow() => SHADOW,
                    false => continue,
                };
                runs.push((column..column + 1, luma));
            }
        }
        let left = columns.start + (width / 32).min(width.saturating_sub(SIZE.0 * dot));
        Title { left, top: free.start + (free.len() - SIZE.1 * dot) / 2, dot, runs }
    }

    /// Writes the words into a luma plane of rows `stride` bytes apart.
    pub fn write(&self, y: &mut [u8], stride: usize) {
        for (row, runs) in self.runs.iter().enumerate() {
            for line in 0..self.dot {
                let line = &mut y[(self.top + row * self.dot + line) * stride + self.left..];
                for (columns, luma) in runs {
                    line[columns.start * self.dot..columns.end * self.dot].fill(*luma);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The words as they stand in a picture, `#` for ink.
    fn read(y: &[u8], title: &Title, stride: usize) -> Vec<String> {
        let at = |c: usize, r: usize| y[(title.top + r * title.dot) * stride + title.left + c * title.dot] == INK;
        (0..7).map(|r| (0..SIZE.0).map(|c| if at(c, r) { '#' } else { ' ' }).collect::<String>().trim_end().into()).collect()
    }

    #[test]
    fn the_words_stand_in_every_picture_that_has_room() {
        for (width, free) in [(1024, 32..672), (640, 48..368), (320, 80..96), (80, 4..40), (4056, 16..2960)] {
            let title = Title::new(0..width, free.clone());
            let mut y = vec![100; width * free.end];
            title.write(&mut y, width);
            let seen = read(&y, &title, width);
            assert_eq!(seen[0], "##### #####  #### #####       ####   ###  ##### ##### ##### ####  #   #", "{width}");
            assert_eq!(seen[6], "  #   ##### ####    #         #     #   #   #     #   ##### #   # #   #", "{width}");
            assert!(y[..free.start * width].iter().all(|v| *v == 100), "nothing above");
            assert!(title.dot * SIZE.0 * 2 > width || title.dot * (SIZE.1 + 8) > free.len(), "{width}: as large as fits");
        }
        for (width, free) in [(16, 0..16), (64, 0..48), (320, 80..85)] {
            let title = Title::new(0..width, free.clone());
            let mut y = vec![100; width * free.end];
            title.write(&mut y, width);
            assert!(y.iter().all(|v| *v == 100), "{width} has no room");
        }
    }
}
