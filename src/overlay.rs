//! Owns text in pictures: a font of 5×7 dots, drawn white on black, and the picture that stands in for a camera that is away.
//! Pure arithmetic on I420; any thread.

pub mod letters;

use gstreamer::glib::DateTime;

use crate::clock::WallUs;
use crate::frame::Layout;

/// Dots of the characters from blank to `_`, five columns each, the lowest bit the upper row. Small letters are drawn large.
const FONT: [[u8; 5]; 64] = [
    [0x00, 0x00, 0x00, 0x00, 0x00],
    [0x00, 0x00, 0x5f, 0x00, 0x00],
    [0x00, 0x07, 0x00, 0x07, 0x00],
    [0x14, 0x7f, 0x14, 0x7f, 0x14],
    [0x24, 0x2a, 0x7f, 0x2a, 0x12],
    [0x23, 0x13, 0x08, 0x64, 0x62],
    [0x36, 0x49, 0x56, 0x20, 0x50],
    [0x00, 0x04, 0x03, 0x00, 0x00],
    [0x00, 0x1c, 0x22, 0x41, 0x00],
    [0x00, 0x41, 0x22, 0x1c, 0x00],
    [0x2a, 0x1c, 0x7f, 0x1c, 0x2a],
    [0x08, 0x08, 0x3e, 0x08, 0x08],
    [0x00, 0x40, 0x30, 0x00, 0x00],
    [0x08, 0x08, 0x08, 0x08, 0x08],
    [0x00, 0x60, 0x60, 0x00, 0x00],
    [0x20, 0x10, 0x08, 0x04, 0x02],
    [0x3e, 0x51, 0x49, 0x45, 0x3e],
    [0x00, 0x42, 0x7f, 0x40, 0x00],
    [0x72, 0x49, 0x49, 0x49, 0x46],
    [0x21, 0x41, 0x49, 0x4d, 0x33],
    [0x18, 0x14, 0x12, 0x7f, 0x10],
    [0x27, 0x45, 0x45, 0x45, 0x39],
    [0x3c, 0x4a, 0x49, 0x49, 0x31],
    [0x41, 0x21, 0x11, 0x09, 0x07],
    [0x36, 0x49, 0x49, 0x49, 0x36],
    [0x46, 0x49, 0x49, 0x29, 0x1e],
    [0x00, 0x00, 0x14, 0x00, 0x00],
    [0x00, 0x40, 0x34, 0x00, 0x00],
    [0x00, 0x08, 0x14, 0x22, 0x41],
    [0x14, 0x14, 0x14, 0x14, 0x14],
    [0x00, 0x41, 0x22, 0x14, 0x08],
    [0x02, 0x01, 0x59, 0x09, 0x06],
    [0x3e, 0x41, 0x5d, 0x59, 0x4e],
    [0x7c, 0x12, 0x11, 0x12, 0x7c],
    [0x7f, 0x49, 0x49, 0x49, 0x36],
    [0x3e, 0x41, 0x41, 0x41, 0x22],
    [0x7f, 0x41, 0x41, 0x41, 0x3e],
    [0x7f, 0x49, 0x49, 0x49, 0x41],
    [0x7f, 0x09, 0x09, 0x09, 0x01],
    [0x3e, 0x41, 0x41, 0x51, 0x73],
    [0x7f, 0x08, 0x08, 0x08, 0x7f],
    [0x00, 0x41, 0x7f, 0x41, 0x00],
    [0x20, 0x40, 0x41, 0x3f, 0x01],
    [0x7f, 0x08, 0x14, 0x22, 0x41],
    [0x7f, 0x40, 0x40, 0x40, 0x40],
    [0x7f, 0x02, 0x1c, 0x02, 0x7f],
    [0x7f, 0x04, 0x08, 0x10, 0x7f],
    [0x3e, 0x41, 0x41, 0x41, 0x3e],
    [0x7f, 0x09, 0x09, 0x09, 0x06],
    [0x3e, 0x41, 0x51, 0x21, 0x5e],
    [0x7f, 0x09, 0x19, 0x29, 0x46],
    [0x26, 0x49, 0x49, 0x49, 0x32],
    [0x03, 0x01, 0x7f, 0x01, 0x03],
    [0x3f, 0x40, 0x40, 0x40, 0x3f],
    [0x1f, 0x20, 0x40, 0x20, 0x1f],
    [0x3f, 0x40, 0x38, 0x40, 0x3f],
    [0x63, 0x14, 0x08, 0x14, 0x63],
    [0x03, 0x04, 0x78, 0x04, 0x03],
    [0x61, 0x59, 0x49, 0x4d, 0x43],
    [0x00, 0x7f, 0x41, 0x41, 0x41],
    [0x02, 0x04, 0x08, 0x10, 0x20],
    [0x00, 0x41, 0x41, 0x41, 0x7f],
    [0x04, 0x02, 0x01, 0x02, 0x04],
    [0x40, 0x40, 0x40, 0x40, 0x40],
];

/// A character takes so many dots with the gap behind and below it.
const CELL: (usize, usize) = (6, 9);

/// Luma of paper and ink; both are black and white enough at full and at limited range.
const PAPER: u8 = 20;
const INK: u8 = 225;

fn dots(c: char) -> [u8; 5] {
    FONT[letters::place(c).unwrap_or('?' as usize - ' ' as usize)]
}

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
