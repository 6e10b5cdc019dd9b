//! Owns the code that is drawn into pictures so that anyone can read back which frame they are and when it was.
//! Pure arithmetic on a luma plane; any thread.
//!
//! 96 bits, most significant first, each a block of 16×16 luma samples (220 for 1, 30 for 0), from the top left, as many a
//! row as fit, and the same code again in the last whole block rows: a torn picture carries two different codes.
//! Bytes: `A5`, frame id (32 bits, big end first), time (48 bits, microseconds), the exclusive or of those with `5A`.

const BLOCK: usize = 16;
const BITS: usize = 96;

fn rows(width: usize) -> usize {
    BITS.div_ceil(width / BLOCK)
}

/// Whether both codes fit into a picture with something left between them.
pub(super) fn fits(width: usize, height: usize) -> bool {
    width >= BLOCK && height / BLOCK >= 2 * rows(width) + 2
}

/// First luma row of the lower code.
pub(super) fn lower(width: usize, height: usize) -> usize {
    (height / BLOCK - rows(width)) * BLOCK
}

/// Draws the upper and the lower code into a luma plane of rows `stride` bytes apart.
pub(super) fn write(y: &mut [u8], stride: usize, width: usize, height: usize, id: u64, time_us: u64) {
    let mut bytes = [0u8; 12];
    bytes[0] = 0xa5;
    bytes[1..5].copy_from_slice(&(id as u32).to_be_bytes());
    bytes[5..11].copy_from_slice(&time_us.to_be_bytes()[2..]);
    bytes[11] = bytes[..11].iter().fold(0x5a, |x, b| x ^ b);
    let per_row = width / BLOCK;
    for top in [0, lower(width, height)] {
        for bit in 0..BITS {
            let level = if bytes[bit / 8] & (0x80 >> (bit % 8)) != 0 { 220 } else { 30 };
            let (x, row) = (bit % per_row * BLOCK, top + bit / per_row * BLOCK);
            for line in row..row + BLOCK {
                y[line * stride + x..line * stride + x + BLOCK].fill(level);
            }
        }
    }
}

/// Reads id and time (µs) from the upper code, or from the lower one; `None` where there is no whole code.
pub fn read(y: &[u8], stride: usize, width: usize, height: usize, from_below: bool) -> Option<(u64, u64)> {
    if !fits(width, height) {
        return None;
    }
    let (per_row, top) = (width / BLOCK, if from_below { lower(width, height) } else { 0 });
    let mut bytes = [0u8; 12];
    for bit in 0..BITS {
        let (x, row) = (bit % per_row * BLOCK, top + bit / per_row * BLOCK);
        // The middle of the block, away from what compression smears over its edges.
        let sum: u32 = (5..11).flat_map(|dy| &y[(row + dy) * stride + x + 5..][..6]).map(|v| u32::from(*v)).sum();
        if sum > 125 * 36 {
            bytes[bit / 8] |= 0x80 >> (bit % 8);
        }
    }
    let whole = bytes[0] == 0xa5 && bytes[..11].iter().fold(0x5a, |x, b| x ^ b) == bytes[11];
    let number = |b: &[u8]| b.iter().fold(0u64, |n, b| n << 8 | u64::from(*b));
    whole.then(|| (number(&bytes[1..5]), number(&bytes[5..11])))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_at_every_size_that_fits() {
        for (w, h) in [(1024, 768), (640, 480), (642, 362), (320, 416)] {
            assert!(fits(w, h));
            let mut y = vec![128; w * h];
            write(&mut y, w, w, h, 123_456, 0xffff_1234_5678);
            for below in [false, true] {
                assert_eq!(read(&y, w, w, h, below), Some((123_456, 0xffff_1234_5678)), "{w}x{h}");
            }
            y[..w * h / 2].fill(0);
            assert_eq!(read(&y, w, w, h, false), None);
        }
        assert!(!fits(256, 192) && !fits(8, 8));
    }
}
