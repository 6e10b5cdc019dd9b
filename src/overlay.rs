//! Owns text in pictures, drawn white on black, and the picture that stands in for a camera that is away.
//! Pure arithmetic on I420; any thread.

pub mod letters;

use gstreamer::glib::DateTime;
use letters::dots;

use crate::clock::WallUs;
use crate::frame::Layout;

/// A character takes so many dots with the gap behind and below it.
const CELL: (usize, usize) = (6, 9);

/// Luma of paper and ink; both are black and white enough at full and at limited range.
const PAPER: u8 = 20;
const INK: u8 = 225;

/// The size of a dot (pixels) at which a line of text is about a thirtieth of the picture's height, even so that chroma fits.
fn dot_of(layout: Layout, letters: usize) -> usize {
    let high = layout.height as usize / 30 / CELL.1;
    let wide = layout.width as usize / (CELL.0 * letters.max(1));
    high.min(wide).max(1).div_ceil(2) * 2
}

/// Writes one line of text from the pixel (`left`, `top`), both even, with dots of `dot` pixels; what does not fit is cut.
fn write(pixels: &mut [u8], layout: Layout, text: &str, (left, top): (usize, usize), dot: usize) {
    let (w, h) = (layout.width as usize, layout.height as usize);
    let bottom = (top + (CELL.1 + 1) * dot).min(h);
    let letters: Vec<[u8; 5]> = text.chars().map(dots).collect();
    let right = (left + (letters.len() * CELL.0 + 1) * dot).min(w);
    if left >= right || top >= bottom {
        return;
    }
    for row in top..bottom {
        let line = &mut pixels[layout.y()][row * layout.y_stride()..][left..right];
        let dot_row = ((row - top) / dot).checked_sub(1);
        for (x, p) in line.iter_mut().enumerate() {
            let column = (x / dot).checked_sub(1);
            let on = column.zip(dot_row).is_some_and(|(c, r)| {
                let (letter, within) = (c / CELL.0, c % CELL.0);
                within < 5 && r < 8 && letters.get(letter).is_some_and(|d| d[within] >> r & 1 == 1)
            });
            *p = if on { INK } else { PAPER };
        }
    }
    for plane in [layout.u(), layout.v()] {
        for row in top / 2..bottom / 2 {
            pixels[plane.clone()][row * layout.c_stride()..][left / 2..right / 2].fill(128);
        }
    }
}

/// The text of `pattern`, which may hold date and time as `strftime` writes them, for an instant; the pattern itself while
/// the clock is not set.
fn at(pattern: &str, wall: WallUs) -> String {
    let local = if wall.is_set() { DateTime::from_unix_local(wall.0.div_euclid(1_000_000)).ok() } else { None };
    // Single digits are padded with a blank as wide as a digit, which all letters here are.
    local.and_then(|t| t.format(pattern).ok()).map_or_else(|| pattern.to_string(), |s| s.replace('\u{2007}', " "))
}

/// Draws `pattern` at the instant `wall` into the upper left corner.
pub fn stamp(pixels: &mut [u8], layout: Layout, pattern: &str, wall: WallUs) {
    let text = at(pattern, wall);
    write(pixels, layout, &text, (0, 0), dot_of(layout, text.chars().count() + 1));
}

/// Makes the whole picture the one that stands in for a camera that is away: grey, the words, the time.
pub fn no_signal(pixels: &mut [u8], layout: Layout, wall: WallUs) {
    pixels[layout.y()].fill(60);
    pixels[layout.u().start..layout.v().end].fill(128);
    let even = |n: usize| n / 2 * 2;
    for (text, part) in [("NO SIGNAL", 2), (at("%Y-%m-%d %H:%M:%S", wall).as_str(), 3)] {
        let letters = text.chars().count() + 1;
        let dot = even((layout.width as usize / part * 2 / 3 / (CELL.0 * letters)).max(2));
        let width = letters * CELL.0 * dot;
        let left = even((layout.width as usize).saturating_sub(width) / 2);
        let top = if part == 2 { layout.height as usize / 3 } else { layout.height as usize * 3 / 5 };
        write(pixels, layout, text, (left, even(top)), dot);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_have_their_dots_and_nothing_leaves_the_picture() {
        let layout = Layout::new(32, 24);
        let mut pixels = vec![128; layout.bytes()];
        write(&mut pixels, layout, "I", (0, 0), 2);
        let row = |y: usize| -> String {
            let line = &pixels[layout.y()][y * layout.y_stride()..];
            (0..7)
                .map(|x| {
                    if line[2 * x] == INK {
                        '#'
                    } else if line[2 * x] == PAPER {
                        '.'
                    } else {
                        ' '
                    }
                })
                .collect()
        };
        assert_eq!([row(0), row(2), row(4), row(14)], [".......", "..###..", "...#...", "..###.."].map(String::from));
        write(&mut pixels, layout, &"W".repeat(99), (28, 20), 4);
        for (w, h) in [(16, 16), (18, 1000), (4096, 16)] {
            let l = Layout::new(w, h);
            let mut p = vec![0; l.bytes()];
            stamp(&mut p, l, "%H:%M:%S ÄÖ~ gate", WallUs(1_800_000_000_000_000));
            no_signal(&mut p, l, WallUs(0));
        }
    }

    #[test]
    fn text_holds_the_time() {
        assert_eq!(at("%% gate", WallUs(1_800_000_000_000_000)), "% gate");
        assert_eq!(at("%Y", WallUs(1_800_000_000_000_000)), "2027");
        assert_eq!(at("%Y", WallUs(0)), "%Y");
        let drawn = |text: &str| text == "%" || !text.contains('%') && text.chars().all(|c| letters::place(c).is_some());
        let all = letters::FORMATS.chars().flat_map(|f| ["%", "%-", "%_", "%0"].map(|start| format!("{start}{f}")));
        let bad: Vec<String> = all.filter(|p| !drawn(&at(p, WallUs(1_800_000_000_000_000)))).collect();
        assert!(bad.is_empty(), "{bad:?}");
    }
}
