//! Owns the little that must be known of H.264's units: where they begin in a byte stream, which kinds they are, whether
//! pictures stand out of their order. Pure; any thread.

/// Kinds of units (H.264, table 7-1).
const SLICE: u8 = 1;
const SLICE_OF_KEY: u8 = 5;
const SEQUENCE_SET: u8 = 7;
const PICTURE_SET: u8 = 8;

/// A unit's kind.
pub fn kind(unit: &[u8]) -> u8 {
    unit.first().map_or(0, |b| b & 31)
}

/// The units of one picture up to its first slice, without start codes and without the zeros behind them. The slice itself
/// comes with all that follows it: slices are nearly all bytes and are not searched.
pub fn leading(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let start = |from: usize| bytes[from..].windows(3).position(|w| w == [0, 0, 1]).map(|i| from + i + 3);
    let mut next = start(0);
    std::iter::from_fn(move || {
        let from = next?;
        if (SLICE..=SLICE_OF_KEY).contains(&kind(&bytes[from..])) {
            next = None;
            return Some(&bytes[from..]);
        }
        next = start(from);
        let until = next.map_or(bytes.len(), |n| n - 3);
        let end = bytes[from..until].iter().rposition(|b| *b != 0).map_or(from, |i| from + i + 1);
        Some(&bytes[from..end])
    })
}

/// The parameter sets in front of a key frame, each once: two streams with the same ones can follow each other in one file.
pub fn parameter_sets(bytes: &[u8]) -> Vec<u8> {
    let mut sets: Vec<&[u8]> = Vec::new();
    for set in leading(bytes).filter(|u| matches!(kind(u), SEQUENCE_SET | PICTURE_SET)) {
        if !sets.contains(&set) {
            sets.push(set);
        }
    }
    sets.concat()
}

/// Whether decoding may begin with this picture, which a parser takes for a key frame: it knows nothing of what lay before, or it
/// brings its own parameter sets, as cameras do that never send a picture of the first kind.
pub fn begins(bytes: &[u8]) -> bool {
    leading(bytes).any(|u| matches!(kind(u), SLICE_OF_KEY | SEQUENCE_SET))
}

/// Whether the picture's first slice is of the kind that later pictures are needed for (B).
pub fn looks_ahead(bytes: &[u8]) -> bool {
    let slice = leading(bytes).find(|u| kind(u) == SLICE);
    slice.is_some_and(|u| {
        let mut bits = Bits { bytes: &u[1..], at: 0 };
        // The first macroblock's number, then the kind of slice (H.264, 7.3.3).
        let (_, kind) = (bits.golomb(), bits.golomb());
        matches!(kind, Some(1 | 6))
    })
}

/// Reads bits, the most significant first.
struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Bits<'_> {
    fn bit(&mut self) -> Option<u32> {
        let byte = self.bytes.get(self.at / 8)?;
        let bit = byte >> (7 - self.at % 8) & 1;
        self.at += 1;
        Some(u32::from(bit))
    }

    /// A number as H.264 writes it (9.1).
    fn golomb(&mut self) -> Option<u32> {
        let mut zeros = 0;
        while self.bit()? == 0 {
            zeros += 1;
        }
        if zeros > 24 {
            return None;
        }
        (0..zeros).try_fold(1u32, |n, _| Some(n << 1 | self.bit()?)).map(|n| n - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_told_apart() {
        let key = [0, 0, 0, 1, 0x09, 0x10, 0, 0, 0, 1, 0x67, 1, 2, 0, 0, 0, 1, 0x68, 3, 0, 0, 1, 0x65, 0x88, 0, 0, 1, 0x65, 9];
        assert_eq!(leading(&key).map(kind).collect::<Vec<_>>(), [9, 7, 8, 5]);
        assert_eq!(parameter_sets(&key), [0x67, 1, 2, 0x68, 3]);
        assert!(begins(&key) && !looks_ahead(&key));
        let twice = [&key[6..20], &key[..]].concat();
        assert_eq!(parameter_sets(&twice), [0x67, 1, 2, 0x68, 3]);
        // First macroblock 0 (1), then P = 0 (1), B = 1 (010), B = 6 (00111), I = 7 (0001000).
        let slice = |bits: u8| [0, 0, 1, 0x41, bits, 0, 0];
        assert!(!looks_ahead(&slice(0b1100_0000)) && !looks_ahead(&slice(0b1000_1000)));
        assert!(looks_ahead(&slice(0b1010_0000)) && looks_ahead(&slice(0b1001_1100)));
        assert!(!begins(&slice(0b1000_1000)));
        for short in [&[][..], &[0, 0, 1], &[0, 0, 1, 0x41], &[0, 0, 1, 0x41, 0]] {
            assert!(!looks_ahead(short) && !begins(short));
        }
    }
}
