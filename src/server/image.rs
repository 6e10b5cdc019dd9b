//! Owns the recognition of PLC string images at the start of a line: Siemens S7 `STRING` (`<max><len>text`) and Logix
//! `STRING` (a 32-bit little-endian length, then the text). Never keeps bytes. Pure; any thread.
//!
//! Both carry lengths that can look like text or like line ends (a 13 is also CR), so the recognition is a judgement over
//! all bytes of the line so far; whatever fits no image is read as plain text.

/// The shortest command words (`save`, `ping`, `help`) have four letters. Smaller "lengths" are STX, ETX and their kind.
const SHORTEST: usize = 4;

/// What the bytes of a line so far are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// May become an image.
    More,
    /// Plain text.
    Not,
    /// An image whose text ends with the last byte seen: it starts at `from` and has `len` bytes. Up to `tail` stale bytes
    /// of the PLC's string variable may follow.
    Whole { from: usize, len: usize, tail: usize },
}

/// Judges the bytes of a line so far (at least one); `over` when no more will come. `longest` is the longest text that a Logix image
/// may announce: a line's limit.
pub(super) fn judge(bytes: &[u8], over: bool, longest: usize) -> Verdict {
    match (s7(bytes, over), logix(bytes, longest)) {
        (whole @ Verdict::Whole { .. }, _) | (_, whole @ Verdict::Whole { .. }) => whole,
        (Verdict::More, _) | (_, Verdict::More) if !over => Verdict::More,
        _ => Verdict::Not,
    }
}

/// Printable, and the first one a letter: every command starts with one.
fn is_text(bytes: &[u8]) -> bool {
    bytes.iter().all(|b| (0x20..=0x7E).contains(b)) && bytes.first().is_none_or(u8::is_ascii_alphabetic)
}

fn s7(bytes: &[u8], over: bool) -> Verdict {
    let Some((&max, rest)) = bytes.split_first() else { return Verdict::More };
    // A tab may indent a line and a declared length of less than four letters holds no command.
    if max == b'\t' || usize::from(max) < SHORTEST {
        return Verdict::Not;
    }
    let Some((&len, text)) = rest.split_first() else { return Verdict::More };
    let (printable, tail) = ((0x20..0x7F).contains(&max), usize::from(max.saturating_sub(len)));
    let n = usize::from(len);
    let fits = if max >= 0x7F { len <= max } else { len <= max && n >= SHORTEST && len < 0x20 };
    if !fits {
        return Verdict::Not;
    }
    if n == 0 {
        // Could still be the length of a Logix image (`FE 00 00 00`); the first byte that tells them apart ends the wait.
        return match text {
            [] | [0] if !over => Verdict::More,
            [0, 0, ..] => Verdict::Not,
            _ => Verdict::Whole { from: 2, len: 0, tail },
        };
    }
    if !is_text(&text[..n.min(text.len())]) {
        return Verdict::Not;
    }
    if text.len() < n {
        return Verdict::More;
    }
    // `P\npastStack ` is a STRING[80] of ten letters, and also the line "P" followed by another one. It is taken for the
    // image only when nothing follows, or a NUL.
    if printable && matches!(len, b'\n' | b'\r' | b'\t') {
        return match text[n..].first() {
            None if over => Verdict::Whole { from: 2, len: n, tail },
            None => Verdict::More,
            Some(0) => Verdict::Whole { from: 2, len: n, tail },
            Some(_) => Verdict::Not,
        };
    }
    Verdict::Whole { from: 2, len: n, tail }
}

fn logix(bytes: &[u8], longest: usize) -> Verdict {
    let byte = |i: usize| bytes.get(i).copied().unwrap_or(0);
    let n = usize::from(u16::from_le_bytes([byte(0), byte(1)]));
    if bytes.len() >= 2 && !(SHORTEST..=longest).contains(&n) || byte(2) != 0 || byte(3) != 0 {
        return Verdict::Not;
    }
    match bytes.get(4..) {
        None => Verdict::More,
        Some(text) if !is_text(text) => Verdict::Not,
        Some(text) if text.len() < n => Verdict::More,
        // The structure behind the length may be of any declared size; its stale bytes end at the first NUL.
        Some(_) => Verdict::Whole { from: 4, len: n, tail: longest },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONGEST: usize = 1024;

    /// The verdict at every prefix, until one is final.
    fn read(bytes: &[u8]) -> Verdict {
        (1..=bytes.len())
            .map(|n| judge(&bytes[..n], false, LONGEST))
            .find(|v| *v != Verdict::More)
            .unwrap_or(judge(bytes, true, LONGEST))
    }

    #[test]
    fn s7_images_of_any_declared_size() {
        for max in [13u8, 20, 32, 80, 127, 200, 254] {
            for text in ["save", "health", "pastStack", "save png x", "pastStack png", "night_level"] {
                if text.len() > usize::from(max) || matches!(max, 10 | 13) {
                    continue; // A declared size of 10 or 13 is a line end: the text after it is read as plain text.
                }
                let image = [&[max, text.len() as u8], text.as_bytes()].concat();
                let tail = usize::from(max) - text.len();
                assert_eq!(read(&image), Verdict::Whole { from: 2, len: text.len(), tail }, "{max} {text}");
            }
        }
        assert_eq!(read(b"\xfe\0stale"), Verdict::Whole { from: 2, len: 0, tail: 254 });
    }

    #[test]
    fn logix_images() {
        assert_eq!(read(b"\x04\0\0\0save"), Verdict::Whole { from: 4, len: 4, tail: LONGEST });
        let long = format!("save cause={}", "b".repeat(29));
        assert_eq!(read(&[b"\x28\0\0\0", long.as_bytes()].concat()), Verdict::Whole { from: 4, len: 40, tail: LONGEST });
    }

    #[test]
    fn everything_else_is_text() {
        let tls = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03";
        let texts: [&[u8]; 10] = [
            b"save",
            b"A\npastStack png\n",
            b"q\n",
            b"\xef\xbb\xbfsave",
            b"\x02save\x03",
            b"\t\tsave jpg",
            b"\x01\0\0\0\x06\x01",
            tls,
            b"\x1b[A",
            b"GET / HTTP/1.1\r\n",
        ];
        for t in texts {
            assert_eq!(read(t), Verdict::Not, "{t:?}");
        }
    }
}
