//! Owns the little that must be known of H.264's NAL units: where they begin in a byte stream (annex B), their `nal_unit_type`,
//! whether a picture is a B picture. Pure; any thread.

mod vui;

pub use vui::{Signal, signal, with_signal};

/// `nal_unit_type` (H.264, table 7-1).
const SLICE_NON_IDR: u8 = 1;
const SLICE_IDR: u8 = 5;
const SPS: u8 = 7;

/// A NAL unit's `nal_unit_type`.
pub fn nal_unit_type(nal: &[u8]) -> u8 {
    nal.first().map_or(0, |b| b & 31)
}

/// The NAL units of one access unit up to its first slice, without start codes and without the zeros behind them. The slice itself
/// comes with all that follows it: slices are nearly all bytes and are not searched.
pub fn leading_nal_units(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let start = |from: usize| bytes[from..].windows(3).position(|w| w == [0, 0, 1]).map(|i| from + i + 3);
    let mut next = start(0);
    std::iter::from_fn(move || {
        let from = next?;
        if (SLICE_NON_IDR..=SLICE_IDR).contains(&nal_unit_type(&bytes[from..])) {
            next = None;
            return Some(&bytes[from..]);
        }
        next = start(from);
        let until = next.map_or(bytes.len(), |n| n - 3);
        let end = bytes[from..until].iter().rposition(|b| *b != 0).map_or(from, |i| from + i + 1);
        Some(&bytes[from..end])
    })
}

/// Whether decoding may begin with this access unit, which a parser takes for a key frame: it is an IDR picture, or it brings its
/// own SPS, as cameras do that never send an IDR picture.
pub fn is_random_access(bytes: &[u8]) -> bool {
    leading_nal_units(bytes).any(|u| matches!(nal_unit_type(u), SLICE_IDR | SPS))
}

/// Whether the picture's first slice is a B slice: it needs a picture that is shown after it.
pub fn is_b_picture(bytes: &[u8]) -> bool {
    let slice = leading_nal_units(bytes).find(|u| nal_unit_type(u) == SLICE_NON_IDR);
    slice.is_some_and(|u| {
        let mut bits = BitReader { bytes: &u[1..], at: 0 };
        // first_mb_in_slice, then slice_type (H.264, 7.3.3).
        let (_, slice_type) = (bits.exp_golomb(), bits.exp_golomb());
        matches!(slice_type, Some(1 | 6))
    })
}

/// Reads bits, the most significant first.
struct BitReader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl BitReader<'_> {
    fn bit(&mut self) -> Option<u32> {
        let byte = self.bytes.get(self.at / 8)?;
        let bit = byte >> (7 - self.at % 8) & 1;
        self.at += 1;
        Some(u32::from(bit))
    }

    /// An unsigned Exp-Golomb number, `ue(v)` (H.264, 9.1).
    fn exp_golomb(&mut self) -> Option<u32> {
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
        assert_eq!(leading_nal_units(&key).map(nal_unit_type).collect::<Vec<_>>(), [9, 7, 8, 5]);
        assert!(is_random_access(&key) && !is_b_picture(&key));
        let twice = [&key[6..20], &key[..]].concat();
        // First macroblock 0 (1), then P = 0 (1), B = 1 (010), B = 6 (00111), I = 7 (0001000).
        let slice = |bits: u8| [0, 0, 1, 0x41, bits, 0, 0];
        assert!(!is_b_picture(&slice(0b1100_0000)) && !is_b_picture(&slice(0b1000_1000)));
        assert!(is_b_picture(&slice(0b1010_0000)) && is_b_picture(&slice(0b1001_1100)));
        assert!(!is_random_access(&slice(0b1000_1000)));
        // xorshift64: the same damage in every run.
        let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
        let mut random = |below: usize| {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            seed as usize % below
        };
        for _ in 0..100_000 {
            let mut damaged = twice[random(twice.len())..].to_vec();
            for _ in 0..random(8) {
                let at = random(damaged.len());
                damaged[at] = [0, 1, 0x41, 0x67, 0xff, random(256) as u8][random(6)];
            }
            damaged.truncate(random(damaged.len() + 1));
            assert!(leading_nal_units(&damaged).map(<[u8]>::len).sum::<usize>() <= damaged.len());
            let _ = (is_random_access(&damaged), is_b_picture(&damaged));
        }
        for short in [&[][..], &[0, 0, 1], &[0, 0, 1, 0x41], &[0, 0, 1, 0x41, 0]] {
            assert!(!is_b_picture(short) && !is_random_access(short));
        }
    }
}
