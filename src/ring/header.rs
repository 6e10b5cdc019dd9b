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
                | u64::from(m.night) << 2,
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

    /// The meta of a whole slot of this size written since this boot; `None` for a torn, foreign or older one.
    pub(super) fn read(page: &[u8], slot_bytes: usize) -> Option<FrameMeta> {
        let at = |i: usize| u64::from_le_bytes(page[8 * i..8 * i + 8].try_into().expect("eight bytes"));
        let field = |i: usize| at(2 + i);
        if at(0) != MAGIC || at(1) != checksum(&page[16..FIELDS]) || field(0) != boot_mark() || field(14) != slot_bytes as u64 {
            return None;
        }
        let real = |i: usize| Some(f64::from_bits(field(i))).filter(|v| !v.is_nan());
        let exposure = match (real(8), real(9), real(10)) {
            (Some(time_us), Some(analogue_gain), Some(digital_gain)) => Some(Exposure { time_us, analogue_gain, digital_gain }),
            _ => None,
        };
        Some(FrameMeta {
            id: field(1),
            boot: BootUs(field(2)),
            wall: WallUs(field(3) as i64),
            layout: Layout::new(field(4) as u32, field(5) as u32),
            colour: Colour {
                matrix: if field(6) & 1 == 0 { Matrix::Bt601 } else { Matrix::Bt709 },
                span: if field(6) & 2 == 0 { Span::Full } else { Span::Limited },
            },
            night: field(6) & 4 != 0,
            ae: [Ae::Off, Ae::Searching, Ae::Converged].get(field(7) as usize).copied().unwrap_or_default(),
            exposure,
            lux: real(11),
            colour_temperature: u32::try_from(field(12)).ok(),
            focus: u32::try_from(field(13)).ok().map(|f| f as i32),
        })
    }
}

/// FNV-1a, 64 bits: tells a torn header from a whole one; no defence against malice is meant.
fn checksum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(*b)).wrapping_mul(0x0100_0000_01b3))
}

/// A number for this boot: a frame of an earlier one carries times of another clock.
fn boot_mark() -> u64 {
    static MARK: std::sync::OnceLock<u64> = std::sync::OnceLock::new();
    *MARK.get_or_init(|| checksum(&std::fs::read("/proc/sys/kernel/random/boot_id").unwrap_or_default()))
}
