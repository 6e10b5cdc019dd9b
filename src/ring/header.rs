//! Owns the header of a kept slot, by which the next process tells a whole frame from a torn one.
//! Never touches pixels. Written by the capture thread, read at start.
//!
//! A frame is written in this order: torn mark, pixels, meta and checksum, whole mark. A process that is killed in between
//! leaves a torn slot; the kernel keeps the memory of a tmpfs file as the processor left it.

use std::sync::atomic::{Ordering, compiler_fence};

use crate::clock::{BootUs, WallUs};
use crate::frame::{Ae, Colour, Exposure, FrameMeta, Layout, Matrix, Span};

/// The header's page in front of the pixels, so that pixels start on a page of their own.
pub(super) const HEADER_BYTES: usize = 4096;
/// Changes whenever the header's fields do: a ring of another version is not read.
const MAGIC: u64 = u64::from_le_bytes(*b"pastrg02");
/// Bytes of the header that the checksum covers and that carry fields.
const FIELDS: usize = 160;
/// Columns or rows that a picture has at most: twice what the configuration allows, for sources that send more.
const LONGEST_SIDE: u32 = 16_384;
/// A thousand frames a second reach it in 8900 years.
const LAST_ID: u64 = 1 << 48;
/// 10000-01-01 UTC (µs): later times have no name.
const YEAR_10000_US: i64 = 253_402_300_800_000_000;

/// The header of a slot: 64-bit little-endian fields.
pub(super) struct Header;

impl Header {
    /// Marks the slot as being written.
    pub(super) fn tear(page: &mut [u8]) {
        page[..8].fill(0);
        // The compiler must not move the mark behind the pixels that follow.
        compiler_fence(Ordering::SeqCst);
        std::hint::black_box(&mut *page);
    }

    /// Writes the meta and marks the slot as whole.
    pub(super) fn write(page: &mut [u8], m: &FrameMeta, slot_bytes: usize) {
        compiler_fence(Ordering::SeqCst);
        let e = m.exposure;
        let bits = |v: Option<f64>| v.unwrap_or(f64::NAN).to_bits();
        let fields = [
            boot_mark(),
            m.id,
            m.boot.0,
            m.wall.0 as u64,
            u64::from(m.layout.width),
            u64::from(m.layout.height),
            u64::from(m.colour.matrix == Matrix::Bt709)
                | u64::from(m.colour.span == Span::Limited) << 1
                | u64::from(m.night) << 2
                | u64::from(m.drawn) << 3,
            match m.ae {
                Ae::Off => 0,
                Ae::Searching => 1,
                Ae::Converged => 2,
            },
            bits(e.map(|e| e.time_us)),
            bits(e.map(|e| e.analogue_gain)),
            bits(e.map(|e| e.digital_gain)),
            bits(m.lux),
            m.colour_temperature.map_or(u64::MAX, u64::from),
            m.focus.map_or(u64::MAX, |f| u64::from(f as u32)),
            slot_bytes as u64,
        ];
        for (i, f) in fields.into_iter().enumerate() {
            page[16 + 8 * i..24 + 8 * i].copy_from_slice(&f.to_le_bytes());
        }
        let sum = checksum(&page[16..FIELDS]);
        page[8..16].copy_from_slice(&sum.to_le_bytes());
        compiler_fence(Ordering::SeqCst);
        std::hint::black_box(&mut *page);
        page[..8].copy_from_slice(&MAGIC.to_le_bytes());
    }

    /// The meta of a whole slot of this size written since this boot; `None` for a torn, foreign or older one, for a frame of the
    /// future and for fields that no camera makes: the checksum is no defence against a hand that writes into the file.
    pub(super) fn read(page: &[u8], slot_bytes: usize, now: BootUs) -> Option<FrameMeta> {
        let at = |i: usize| u64::from_le_bytes(page[8 * i..8 * i + 8].try_into().expect("eight bytes"));
        let field = |i: usize| at(2 + i);
        if at(0) != MAGIC || at(1) != checksum(&page[16..FIELDS]) || field(0) != boot_mark() || field(14) != slot_bytes as u64 {
            return None;
        }
        let side = |i: usize| u32::try_from(field(i)).ok().filter(|n| (2..=LONGEST_SIDE).contains(n) && n % 2 == 0);
        let layout = Layout::new(side(4)?, side(5)?);
        let (id, boot, wall) = (field(1), BootUs(field(2)), WallUs(field(3) as i64));
        if HEADER_BYTES + layout.bytes() > slot_bytes || id > LAST_ID || boot > now || !(0..YEAR_10000_US).contains(&wall.0) {
            return None;
        }
        // NaN: the source does not know.
        let real = |i: usize| match f64::from_bits(field(i)) {
            v if v.is_nan() => Some(None),
            v => (v.is_finite() && v >= 0.0).then_some(Some(v)),
        };
        let exposure = match (real(8)?, real(9)?, real(10)?) {
            (Some(time_us), Some(analogue_gain), Some(digital_gain)) => Some(Exposure { time_us, analogue_gain, digital_gain }),
            (None, None, None) => None,
            _ => return None,
        };
        let word = |i: usize| match field(i) {
            u64::MAX => Some(None),
            n => u32::try_from(n).ok().map(Some),
        };
        let flags = Some(field(6)).filter(|f| *f < 16)?;
        Some(FrameMeta {
            id,
            boot,
            wall,
            layout,
            colour: Colour {
                matrix: if flags & 1 == 0 { Matrix::Bt601 } else { Matrix::Bt709 },
                span: if flags & 2 == 0 { Span::Full } else { Span::Limited },
            },
            night: flags & 4 != 0,
            drawn: flags & 8 != 0,
            ae: *[Ae::Off, Ae::Searching, Ae::Converged].get(usize::try_from(field(7)).ok()?)?,
            exposure,
            lux: real(11)?,
            colour_temperature: word(12)?,
            focus: word(13)?.map(|f| f as i32),
        })
    }
}

/// FNV-1a, 64 bits: tells a torn header from a whole one.
fn checksum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(*b)).wrapping_mul(0x0100_0000_01b3))
}

/// A number for this boot: a frame of an earlier one carries times of another clock.
fn boot_mark() -> u64 {
    static MARK: std::sync::OnceLock<u64> = std::sync::OnceLock::new();
    *MARK.get_or_init(|| checksum(&std::fs::read("/proc/sys/kernel/random/boot_id").unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SLOT: usize = HEADER_BYTES + 8192;
    const NOW: BootUs = BootUs(2_000_000);

    fn page() -> Vec<u8> {
        let meta = FrameMeta {
            id: 7,
            boot: BootUs(1_000_000),
            wall: WallUs(1),
            layout: Layout::new(64, 32),
            colour: Colour::default(),
            exposure: Some(Exposure { time_us: 33.0, analogue_gain: 2.0, digital_gain: 1.0 }),
            ae: Ae::Converged,
            lux: Some(0.0),
            colour_temperature: Some(5600),
            focus: Some(-3),
            night: true,
            drawn: true,
        };
        let mut page = vec![0; HEADER_BYTES];
        Header::write(&mut page, &meta, SLOT);
        assert_eq!(Header::read(&page, SLOT, NOW), Some(meta));
        page
    }

    /// The header with one field changed by a hand that knows the checksum.
    fn with(field: usize, value: u64) -> Option<FrameMeta> {
        let mut page = page();
        page[16 + 8 * field..24 + 8 * field].copy_from_slice(&value.to_le_bytes());
        let sum = checksum(&page[16..FIELDS]);
        page[8..16].copy_from_slice(&sum.to_le_bytes());
        Header::read(&page, SLOT, NOW)
    }

    #[test]
    fn fields_that_no_camera_makes_are_torn() {
        let (nan, infinite, negative) = (f64::NAN.to_bits(), f64::INFINITY.to_bits(), (-1.0f64).to_bits());
        let bad = [
            (0, &[0][..]),
            (1, &[LAST_ID + 1, u64::MAX]),
            (2, &[NOW.0 + 1, u64::MAX]),
            (3, &[u64::MAX, YEAR_10000_US as u64]),
            (4, &[0, 63, 256, 1 << 16, 1 << 32 | 64]),
            (5, &[0, 33, 256, u64::MAX]),
            (6, &[16]),
            (7, &[3, 1 << 32, u64::MAX]),
            (8, &[nan, infinite, negative]),
            (9, &[nan, infinite, negative]),
            (10, &[nan, infinite, negative]),
            (11, &[infinite, negative]),
            (12, &[1 << 32]),
            (13, &[1 << 32]),
            (14, &[0, SLOT as u64 + 1]),
        ];
        for (field, values) in bad {
            for value in values {
                assert_eq!(with(field, *value), None, "field {field} = {value:#x}");
            }
        }
        assert!(with(2, NOW.0).is_some() && with(11, nan).is_some_and(|m| m.lux.is_none()));
        assert!(with(12, u64::MAX).is_some_and(|m| m.colour_temperature.is_none()));
    }

    #[test]
    fn no_header_of_random_bytes_stops_the_start() {
        // xorshift64: the same bytes in every run.
        let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
        let mut random = move || {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            seed
        };
        for _ in 0..100_000 {
            let (field, value) = (random() as usize % 15, random() >> (random() % 64));
            if let Some(meta) = with(field, value) {
                assert!(meta.boot <= NOW && HEADER_BYTES + meta.layout.bytes() <= SLOT);
            }
        }
    }
}
