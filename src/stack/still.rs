//! Owns the median of frames, byte by byte: what stays while others pass. Pure arithmetic; export threads.

/// Bytes worked on at a time, so that they and what is counted stay in a level-1 cache.
const BLOCK: usize = 512;
/// Up to so many frames are sorted; beyond, counting is faster.
const SORTED: usize = 16;

/// Writes the median of the frames' bytes into `out`; of an even number the mean of the two in the middle, rounded up. All slices
/// have the length of `out`; 1 to [`super::MAX`] frames.
pub fn median(frames: &[&[u8]], out: &mut [u8]) {
    for (k, found) in out.chunks_mut(BLOCK).enumerate() {
        let length = found.len();
        let blocks = frames.iter().map(|f| &f[k * BLOCK..][..length]);
        if frames.len() <= SORTED { sort(blocks, found) } else { count(blocks, frames.len(), found) }
    }
}

/// By a sorting network, the same for all bytes: Batcher's odd-even merge sort (Knuth, The Art of Computer Programming 3, 5.2.2 M).
fn sort<'a>(blocks: impl Iterator<Item = &'a [u8]>, found: &mut [u8]) {
    let mut rows = [[0u8; BLOCK]; SORTED];
    let mut n = 0;
    for (row, block) in rows.iter_mut().zip(blocks) {
        row[..block.len()].copy_from_slice(block);
        n += 1;
    }
    let mut sorted = 1;
    while sorted < n {
        let mut apart = sorted;
        while apart > 0 {
            for start in (apart % sorted..n - apart).step_by(2 * apart) {
                for low in start..(start + apart).min(n - apart) {
                    if low / (2 * sorted) == (low + apart) / (2 * sorted) {
                        let (lower, upper) = rows.split_at_mut(low + apart);
                        exchange(&mut lower[low], &mut upper[0]);
                    }
                }
            }
            apart /= 2;
        }
        sorted *= 2;
    }
    for ((found, a), b) in found.iter_mut().zip(&rows[(n - 1) / 2]).zip(&rows[n / 2]) {
        *found = (u16::from(*a) + u16::from(*b)).div_ceil(2) as u8;
    }
}

fn exchange(low: &mut [u8; BLOCK], high: &mut [u8; BLOCK]) {
    for (low, high) in low.iter_mut().zip(high) {
        (*low, *high) = ((*low).min(*high), (*low).max(*high));
    }
}

/// Bit by bit: the value is the largest that enough frames reach. So the time grows with the number of frames and not faster.
fn count<'a>(blocks: impl Iterator<Item = &'a [u8]> + Clone, n: usize, found: &mut [u8]) {
    let (mut tried, mut reached) = ([0u8; BLOCK], [0u8; BLOCK]);
    let (tried, reached) = (&mut tried[..found.len()], &mut reached[..found.len()]);
    // The lower one of the two in the middle.
    let enough = (n / 2 + 1) as u8;
    found.fill(0);
    for bit in [0x80, 0x40, 0x20, 0x10, 8, 4, 2, 1] {
        reached.fill(0);
        for (tried, found) in tried.iter_mut().zip(&*found) {
            *tried = found | bit;
        }
        for block in blocks.clone() {
            reach(block, tried, reached);
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
        for block in blocks {
            larger(block, found, tried, reached);
        }
        for ((found, upper), above) in found.iter_mut().zip(&*tried).zip(&*reached) {
            let upper = if usize::from(*above) >= n / 2 { *upper } else { *found };
            *found = (u16::from(*found) + u16::from(upper)).div_ceil(2) as u8;
        }
    }
}

/// Counts stop at 255: what is asked is whether they reach half of at most [`super::MAX`].
fn reach(block: &[u8], tried: &[u8], reached: &mut [u8]) {
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
        for n in (1..=SORTED + 2).chain([255, 256]) {
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
