//! Owns the median of frames, byte by byte: what stays while others pass. Pure arithmetic; export threads.

/// Bytes worked on at a time, so that they and what is counted stay in a level-1 cache.
const BLOCK: usize = 1024;

/// Writes the median of the frames' bytes into `out`; of an even number the mean of the two in the middle, rounded up. All slices
/// have the length of `out`; 1 to [`super::MAX`] frames.
///
/// The value is found bit by bit: it is the largest that enough frames reach. So the time grows with the number of frames and not
/// with its square, and there is no sorting.
pub fn median(frames: &[&[u8]], out: &mut [u8]) {
    let n = frames.len();
    let (mut tried, mut reached) = ([0u8; BLOCK], [0u8; BLOCK]);
    for (k, found) in out.chunks_mut(BLOCK).enumerate() {
        let length = found.len();
        let (tried, reached) = (&mut tried[..length], &mut reached[..length]);
        let blocks = || frames.iter().map(|f| &f[k * BLOCK..][..length]);
        // The lower one of the two in the middle.
        let enough = (n / 2 + 1) as u8;
        found.fill(0);
        for bit in [0x80, 0x40, 0x20, 0x10, 8, 4, 2, 1] {
            reached.fill(0);
            for (tried, found) in tried.iter_mut().zip(&*found) {
                *tried = found | bit;
            }
            for block in blocks() {
                count(block, tried, reached);
            }
            for ((found, tried), reached) in found.iter_mut().zip(&*tried).zip(&*reached) {
                if *reached >= enough {
                    *found = *tried;
                }
            }
        }
        if n % 2 == 0 {
            // The upper one: the next larger value, where so many are larger.
            tried.fill(255);
            reached.fill(0);
            for block in blocks() {
                larger(block, found, tried, reached);
            }
            for ((found, upper), above) in found.iter_mut().zip(&*tried).zip(&*reached) {
                let upper = if usize::from(*above) >= n / 2 { *upper } else { *found };
                *found = (u16::from(*found) + u16::from(upper)).div_ceil(2) as u8;
            }
        }
    }
}

/// Counts stop at 255: what is asked is whether they reach half of at most [`super::MAX`].
fn count(block: &[u8], tried: &[u8], reached: &mut [u8]) {
    for ((value, tried), reached) in block.iter().zip(tried).zip(reached) {
        *reached = reached.saturating_add(u8::from(value >= tried));
    }
}

/// Counts the values above `found`, and keeps the smallest of them.
fn larger(block: &[u8], found: &[u8], smallest: &mut [u8], above: &mut [u8]) {
    for (((value, found), smallest), above) in block.iter().zip(found).zip(smallest).zip(above) {
        *above = above.saturating_add(u8::from(value > found));
        *smallest = (*smallest).min(if value > found { *value } else { 255 });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_exact_for_every_count() {
        let length = BLOCK + 37;
        let mut x = 7u32;
        let frames: Vec<Vec<u8>> = (0..super::super::MAX)
            .map(|_| {
                (0..length)
                    .map(|i| {
                        x = x.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                        // Many equal values, and the ends of the range.
                        (x >> 24) as u8 >> (i % 8)
                    })
                    .collect()
            })
            .collect();
        let mut out = vec![0; length];
        for n in [1, 2, 3, 4, 5, 8, 255, 256] {
            let some: Vec<&[u8]> = frames[..n].iter().map(Vec::as_slice).collect();
            median(&some, &mut out);
            for (i, out) in out.iter().enumerate() {
                let mut values: Vec<u16> = some.iter().map(|f| u16::from(f[i])).collect();
                values.sort_unstable();
                assert_eq!(u16::from(*out), (values[(n - 1) / 2] + values[n / 2]).div_ceil(2), "n {n} at {i}");
            }
        }
    }
}
