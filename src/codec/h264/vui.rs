//! Owns what H.264 says of its pictures' colour (VUI, H.264 annex E), in both directions: reads it, and writes it where an encoder
//! left it out, as openh264 does: players then take video's limited range and a guess. Pure; any thread.

use super::{SPS, leading_nal_units, nal_unit_type};

/// What a stream says of its colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Signal {
    /// Black is 0 and white 255.
    pub full: bool,
    /// `colour_primaries`, `transfer_characteristics` and `matrix_coefficients` (tables E-3 to E-5), where they are told.
    pub codes: Option<[u8; 3]>,
}

/// What the access unit's SPS says; `None` where there is none or it does not tell.
pub fn signal(access_unit: &[u8]) -> Option<Signal> {
    let sps = leading_nal_units(access_unit).find(|u| nal_unit_type(u) == SPS)?;
    let mut bits = Bits { bytes: plain(sps), at: 8 };
    match place(&mut bits)? {
        Place::Told => {
            bits.skip(3);
            let (full, told) = (bits.flag()?, bits.flag()?);
            let codes = if told { Some([bits.number(8)? as u8, bits.number(8)? as u8, bits.number(8)? as u8]) } else { None };
            Some(Signal { full, codes })
        }
        Place::NoVui | Place::Untold => None,
    }
}

/// The access unit with this in its SPS; `None` where that tells already, is missing or is not understood.
pub fn with_signal(access_unit: &[u8], signal: Signal) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(access_unit.len() + 32);
    let mut told = false;
    for unit in leading_nal_units(access_unit) {
        out.extend([0, 0, 0, 1]);
        let new = if nal_unit_type(unit) == SPS { sps_with(unit, signal) } else { None };
        told |= new.is_some();
        out.extend_from_slice(new.as_deref().unwrap_or(unit));
    }
    told.then_some(out)
}

fn sps_with(sps: &[u8], signal: Signal) -> Option<Vec<u8>> {
    let mut bits = Bits { bytes: plain(sps), at: 8 };
    let place = place(&mut bits)?;
    let last = bits.bytes.iter().rposition(|b| *b != 0)?;
    let stop = last * 8 + 7 - bits.bytes[last].trailing_zeros() as usize;
    // Up to the flag that is 0 now.
    let kept = bits.at - 1;
    let mut new: Vec<bool> = (0..kept).map(|at| bits.bit(at)).collect();
    if place == Place::NoVui {
        // `vui_parameters_present_flag`, no aspect ratio, no overscan.
        new.extend([true, false, false]);
    }
    // `video_signal_type_present_flag`, `video_format` 5: unspecified.
    new.extend([true, true, false, true, signal.full, signal.codes.is_some()]);
    for code in signal.codes.into_iter().flatten() {
        new.extend((0..8).rev().map(|k| code >> k & 1 == 1));
    }
    match place {
        Place::Told => return None,
        Place::Untold => {}
        // No chroma location, timing, NAL HRD, VCL HRD, picture structure, restriction.
        Place::NoVui => new.extend([false; 6]),
    }
    new.extend((kept + 1..=stop).map(|at| bits.bit(at)));
    let bytes = new.chunks(8).map(|byte| byte.iter().enumerate().fold(0u8, |b, (k, bit)| b | u8::from(*bit) << (7 - k)));
    Some(escaped(bytes))
}

/// Where a reader of an SPS stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Behind a `vui_parameters_present_flag` that is 0.
    NoVui,
    /// Behind a `video_signal_type_present_flag` that is 0.
    Untold,
    /// Behind one that is 1.
    Told,
}

/// Reads an SPS (H.264, 7.3.2.1.1) up to what it says of colour. `None`: it is cut off, or has scaling lists.
fn place(bits: &mut Bits) -> Option<Place> {
    let profile = bits.number(8)?;
    bits.skip(16);
    bits.ue()?;
    if [100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135].contains(&profile) {
        if bits.ue()? == 3 {
            bits.skip(1);
        }
        bits.pair()?;
        bits.skip(1);
        if bits.flag()? {
            return None;
        }
    }
    bits.ue()?;
    match bits.ue()? {
        0 => _ = bits.ue()?,
        1 => {
            bits.skip(1);
            bits.pair()?;
            for _ in 0..bits.ue()?.min(255) {
                bits.ue()?;
            }
        }
        _ => {}
    }
    bits.ue()?;
    bits.skip(1);
    bits.pair()?;
    if !bits.flag()? {
        bits.skip(1);
    }
    bits.skip(1);
    if bits.flag()? {
        for _ in 0..4 {
            bits.ue()?;
        }
    }
    if !bits.flag()? {
        return Some(Place::NoVui);
    }
    if bits.flag()? && bits.number(8)? == 255 {
        bits.skip(32);
    }
    if bits.flag()? {
        bits.skip(1);
    }
    Some(if bits.flag()? { Place::Told } else { Place::Untold })
}

/// A NAL unit without its emulation prevention bytes (H.264, 7.4.1).
fn plain(unit: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(unit.len());
    let mut zeros = 0;
    for &byte in unit {
        if zeros >= 2 && byte == 3 {
            zeros = 0;
            continue;
        }
        zeros = if byte == 0 { zeros + 1 } else { 0 };
        out.push(byte);
    }
    out
}

/// The same with them.
fn escaped(bytes: impl Iterator<Item = u8>) -> Vec<u8> {
    let (mut out, mut zeros) = (Vec::new(), 0);
    for byte in bytes {
        if zeros >= 2 && byte <= 3 {
            out.push(3);
            zeros = 0;
        }
        zeros = if byte == 0 { zeros + 1 } else { 0 };
        out.push(byte);
    }
    out
}

/// Bits of an SPS, the most significant first.
struct Bits {
    bytes: Vec<u8>,
    at: usize,
}

impl Bits {
    /// The bit at this place; 0 behind the end.
    fn bit(&self, at: usize) -> bool {
        self.bytes.get(at / 8).is_some_and(|byte| byte >> (7 - at % 8) & 1 == 1)
    }

    fn flag(&mut self) -> Option<bool> {
        (self.at / 8 < self.bytes.len()).then(|| {
            self.at += 1;
            self.bit(self.at - 1)
        })
    }

    fn skip(&mut self, bits: usize) {
        self.at += bits;
    }

    fn number(&mut self, bits: usize) -> Option<u32> {
        (0..bits).try_fold(0, |n, _| Some(n << 1 | u32::from(self.flag()?)))
    }

    /// Two numbers that nobody here wants.
    fn pair(&mut self) -> Option<()> {
        self.ue().and_then(|_| self.ue()).map(drop)
    }

    /// An unsigned Exp-Golomb number (9.1); a signed one is as long.
    fn ue(&mut self) -> Option<u32> {
        let mut zeros = 0;
        while !self.flag()? {
            zeros += 1;
        }
        // 31 of them are the most that a number of 32 bits has.
        (zeros < 32).then(|| self.number(zeros)).flatten().map(|low| low.wrapping_add((1u32 << zeros) - 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const JPEG: Signal = Signal { full: true, codes: Some([1, 13, 6]) };

    /// Key frames of openh264 (baseline, a VUI that tells no colour) and of x264 (high, a VUI with timing).
    fn units() -> [Vec<u8>; 2] {
        let tail = [0, 0, 0, 1, 0x68, 0xce, 0x3c, 0x80, 0, 0, 0, 1, 0x65, 0xb8, 0, 4];
        let openh264 = [0x67, 0x42, 0xc0, 0x0b, 0x8c, 0x8d, 0x40, 0xa0, 0xf9, 0, 0xf0, 0x88, 0x46, 0xa0];
        let x264 =
            [0x67, 0x64, 0, 0x16, 0xac, 0xd9, 0x40, 0xa0, 0x3d, 0xa1, 0, 0, 3, 0, 1, 0, 0, 3, 0, 0x14, 0x0f, 0x16, 0x2d, 0x96];
        [&openh264[..], &x264[..]].map(|sps| [&[0, 0, 0, 1], sps, &tail].concat())
    }

    #[test]
    fn a_stream_that_does_not_tell_its_colour_is_made_to() {
        for unit in units() {
            let told = with_signal(&unit, JPEG).unwrap();
            assert_eq!((signal(&unit), signal(&told)), (None, Some(JPEG)), "{told:x?}");
            assert!(with_signal(&told, JPEG).is_none(), "it tells already");
            let rest = |bytes: &[u8]| bytes[bytes.windows(5).position(|w| w == [0, 0, 0, 1, 0x68]).unwrap()..].to_vec();
            assert_eq!(rest(&told), rest(&unit));
        }
    }

    #[test]
    fn no_damage_stops_the_reader() {
        // xorshift64: the same damage in every run.
        let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
        let mut random = |below: usize| {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            seed as usize % below
        };
        for _ in 0..50_000 {
            let mut unit = units()[random(2)].clone();
            for _ in 0..random(6) {
                let at = random(unit.len());
                unit[at] = random(256) as u8;
            }
            unit.truncate(random(unit.len() + 1));
            let _ = (signal(&unit), with_signal(&unit, JPEG));
        }
    }
}
