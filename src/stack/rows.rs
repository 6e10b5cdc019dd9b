//! Owns what the gated average does to one row: sums of cells, how they differ, weights, weighted sums. Loops over slices of 8 and
//! 16 bit integers, which compilers turn into vector code where there is any. Pure arithmetic; export threads.
//!
//! None is inlined: as arguments the slices are known not to overlap, without which there is no vector code.
//!
//! A cell is two by two luma samples and the one sample of U and of V that lie on them.

/// Every other byte of eight.
const LANES: u64 = 0x00ff_00ff_00ff_00ff;

/// The sums of four cells, a lane each.
fn four(upper: &[u8], lower: &[u8]) -> u64 {
    let [a, b] = [upper, lower].map(|row| u64::from_le_bytes(row.try_into().expect("chunks of eight bytes")));
    (a & LANES) + ((a >> 8) & LANES) + (b & LANES) + ((b >> 8) & LANES)
}

/// The sums of the cells in two luma rows: 0 to 1020.
#[inline(never)]
pub fn cells(upper: &[u8], lower: &[u8], sums: &mut [u16]) {
    let whole = upper.len() / 8;
    for ((a, b), sums) in upper.chunks_exact(8).zip(lower.chunks_exact(8)).zip(sums.chunks_exact_mut(4)) {
        let four = four(a, b);
        sums[0] = four as u16;
        sums[1] = (four >> 16) as u16;
        sums[2] = (four >> 32) as u16;
        sums[3] = (four >> 48) as u16;
    }
    let rest = upper[whole * 8..].chunks_exact(2).zip(lower[whole * 8..].chunks_exact(2));
    for ((a, b), sum) in rest.zip(&mut sums[whole * 4..]) {
        *sum = [a[0], a[1], b[0], b[1]].map(u16::from).iter().sum();
    }
}

/// By how much `sums` differ from the reference's, in their place.
#[inline(never)]
pub fn differ(reference: &[u16], sums: &mut [u16]) {
    for (sum, reference) in sums.iter_mut().zip(reference) {
        *sum = sum.abs_diff(*reference);
    }
}

/// Adds `times` what two samples of colour differ together beyond `noise`.
#[inline(never)]
pub fn add_colour(u: [&[u8]; 2], v: [&[u8]; 2], noise: u8, times: u16, by: &mut [u16]) {
    // `abs_diff` in a form that stays in bytes.
    let differ = |a: u8, b: u8| a.saturating_sub(b) | b.saturating_sub(a);
    for ((((u, ru), v), rv), by) in u[0].iter().zip(u[1]).zip(v[0]).zip(v[1]).zip(by) {
        let both = differ(*u, *ru).saturating_add(differ(*v, *rv));
        *by += u16::from(both.saturating_sub(noise)) * times;
    }
}

/// Each value with its two neighbours, 1 : 2 : 1.
#[inline(never)]
pub fn smooth(left: &[u16], own: &[u16], right: &[u16], out: &mut [u16]) {
    for (((a, b), c), out) in left.iter().zip(own).zip(right).zip(out) {
        *out = a + 2 * b + c;
    }
}

/// From where on a frame counts no more, and how fast it gets there, for each cell.
pub struct Limits<'a> {
    /// Difference from which on the weight is 0.
    pub none: &'a [u16],
    /// Weight / 2^16 for each unit below that.
    pub slope: &'a [u16],
    /// Largest weight.
    pub full: u16,
}

/// How much of a frame goes in, which is also added to `totals`. `rows`: smoothed differences of the row above, of this one and of
/// the one below. False where nothing goes in.
#[inline(never)]
pub fn weigh(rows: [&[u16]; 3], limits: &Limits<'_>, weights: &mut [u16], totals: &mut [u16]) -> bool {
    let mut any = 0;
    let near = rows[0].iter().zip(rows[1]).zip(rows[2]).zip(limits.none).zip(limits.slope);
    for (((((a, b), c), none), slope), (weight, total)) in near.zip(weights.iter_mut().zip(totals)) {
        let below = none.saturating_sub(a + 2 * b + c);
        *weight = (((u32::from(below) * u32::from(*slope)) >> 16) as u16).min(limits.full);
        *total += *weight;
        any |= *weight;
    }
    any != 0
}

/// Each value twice: cells to luma columns.
#[inline(never)]
pub fn twice(cells: &[u16], out: &mut [u16]) {
    for (two, cell) in out.chunks_exact_mut(2).zip(cells) {
        two[0] = *cell;
        two[1] = *cell;
    }
}

/// Adds the samples of two rows times weights to their sums.
pub fn add([first, second]: [&[u8]; 2], weights: &[u16], [first_sums, second_sums]: [&mut [u16]; 2]) {
    // All of one length, so that nothing is checked in the loop.
    let n = weights.len();
    let (first, second) = (&first[..n], &second[..n]);
    let (first_sums, second_sums) = (&mut first_sums[..n], &mut second_sums[..n]);
    for i in 0..n {
        first_sums[i] += u16::from(first[i]) * weights[i];
        second_sums[i] += u16::from(second[i]) * weights[i];
    }
}

/// `2^16 / weight`, rounded down to 16 bits.
pub const SHARES: [u16; 257] = {
    let mut shares = [65_535; 257];
    let mut weight = 2;
    while weight < 257 {
        shares[weight] = (65_536 / weight) as u16;
        weight += 1;
    }
    shares
};

/// `round(sum / weight)`; `share` comes from [`SHARES`]. Exact: the product is too small by less than one.
#[inline(never)]
pub fn divide(sums: &[u16], weights: &[u16], shares: &[u16], out: &mut [u8]) {
    for (((sum, weight), share), out) in sums.iter().zip(weights).zip(shares).zip(out) {
        let sum = sum + weight / 2;
        let low = ((u32::from(sum) * u32::from(*share)) >> 16) as u16;
        *out = (low + u16::from(sum - low * weight >= *weight)) as u8;
    }
}
