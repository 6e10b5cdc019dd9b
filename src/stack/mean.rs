//! Owns the plain mean of frames, byte by byte. Pure arithmetic; export threads.

use super::MAX;

/// Bytes averaged at a time: sums (two bytes each) and one input block stay in a 16 KiB level-1 cache.
const BLOCK: usize = 2048;
/// Every other byte of eight: the lanes in which sums of 16 bits have room.
const LANES: u64 = 0x00ff_00ff_00ff_00ff;
const ONES: u64 = 0x0001_0001_0001_0001;

/// Writes `round(mean)` of the frames' bytes into `out`. All slices have the length of `out`; 1 to [`MAX`] frames.
///
/// Sums run in 64-bit words of four 16-bit lanes: plain integer code that needs no vector unit (`ARMv6` adds two lanes an
/// instruction) and that compilers turn into vector code where there is one.
pub fn average(frames: &[&[u8]], out: &mut [u8]) {
    let n = frames.len();
    assert!((1..=MAX).contains(&n), "the caller chose {n} frames with `centred`, which gives 1 to {MAX}");
    let mut even = [0u64; BLOCK / 8];
    let mut odd = [0u64; BLOCK / 8];
    for start in (0..out.len()).step_by(BLOCK) {
        let end = (start + BLOCK).min(out.len());
        let words = (end - start) / 8;
        even[..words].fill(0);
        odd[..words].fill(0);
        for frame in frames {
            let block = &frame[start..start + words * 8];
            for ((bytes, even), odd) in block.chunks_exact(8).zip(&mut even).zip(&mut odd) {
                let w = word(bytes);
                *even += w & LANES;
                *odd += (w >> 8) & LANES;
            }
        }
        let mean = &mut out[start..start + words * 8];
        if n.is_power_of_two() {
            let (half, shift) = (ONES * (n as u64 / 2), n.trailing_zeros());
            for ((bytes, even), odd) in mean.chunks_exact_mut(8).zip(&even).zip(&odd) {
                let lanes = |sum: u64| ((sum + half) >> shift) & LANES;
                bytes.copy_from_slice(&(lanes(*even) | lanes(*odd) << 8).to_le_bytes());
            }
        } else {
            // ceil(2^24 / n): exact for every sum of up to 256 bytes, since sum · n < 2^24.
            let recip = (1u32 << 24).div_ceil(n as u32);
            for ((bytes, even), odd) in mean.chunks_exact_mut(8).zip(&even).zip(&odd) {
                for (lane, pair) in bytes.chunks_exact_mut(2).enumerate() {
                    let mean = |sum: u64| (((u32::from((sum >> (16 * lane)) as u16) + n as u32 / 2) * recip) >> 24) as u8;
                    pair[0] = mean(*even);
                    pair[1] = mean(*odd);
                }
            }
        }
        for i in start + words * 8..end {
            let sum: usize = frames.iter().map(|f| f[i] as usize).sum();
            out[i] = ((sum + n / 2) / n) as u8;
        }
    }
}

fn word(bytes: &[u8]) -> u64 {
    u64::from_le_bytes(bytes.try_into().expect("chunks of eight bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mean_is_exact_for_every_count() {
        let len = BLOCK * 2 + 13;
        let mut x = 1u32;
        let frames: Vec<Vec<u8>> = (0..MAX)
            .map(|k| {
                let mut noise = || {
                    x = x.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    (x >> 24) as u8
                };
                if k % 5 == 4 { vec![255; len] } else { (0..len).map(|_| noise()).collect() }
            })
            .collect();
        let mut out = vec![0; len];
        for n in (1..=MAX).filter(|n| *n < 20 || n % 37 == 0 || *n >= MAX - 2) {
            let some: Vec<&[u8]> = frames[MAX - n..].iter().map(Vec::as_slice).collect();
            average(&some, &mut out);
            for i in 0..len {
                let sum: usize = some.iter().map(|f| f[i] as usize).sum();
                assert_eq!(out[i] as usize, (sum + n / 2) / n, "n {n} at {i}");
            }
        }
    }

    #[test]
    fn the_brightest_sum_does_not_overflow() {
        let white = vec![255u8; 64];
        for n in [1, 3, 255, 256] {
            let mut out = [0; 64];
            average(&vec![white.as_slice(); n], &mut out);
            assert!(out.iter().all(|v| *v == 255), "n {n}");
        }
    }
}
