//! Owns what the gated average does to one row: how cells differ, weights, weighted sums. Loops over slices of 8 and
//! 16 bit integers, which compilers turn into vector code where there is any. Pure arithmetic; export threads.
//!
//! The loops are not inlined: as arguments the slices are known not to overlap, without which there is no vector code.
//!
//! A cell is two by two luma samples and the one sample of U and of V that lie on them.

/// Pairs of luma samples as words, the left one in the lower byte: what cells are made of. In vector code this is a plain copy.
pub fn pairs(row: &[u8], words: &mut [u16]) {
    let (eights, fours) = (row.chunks_exact(8), words.chunks_exact_mut(4));
    let rest = eights.remainder().chunks_exact(2);
    let done = row.len() / 8 * 4;
    for (eight, four) in eights.zip(fours) {
        let all = u64::from_le_bytes(eight.try_into().expect("chunks of eight bytes"));
        four[0] = all as u16;
        four[1] = (all >> 16) as u16;
        four[2] = (all >> 32) as u16;
        four[3] = (all >> 48) as u16;
    }
    for (two, word) in rest.zip(&mut words[done..]) {
        *word = u16::from_le_bytes([two[0], two[1]]);
    }
}

/// Left and right samples of a pair.
fn left(pair: u16) -> u16 {
    pair & 0xff
}
fn right(pair: u16) -> u16 {
    pair >> 8
}

/// By how much the samples of two luma rows differ from the reference's, both together and at most 255.
#[inline(never)]
pub fn samples_differ([upper, lower]: [&[u8]; 2], reference: [&[u8]; 2], by: &mut [u8]) {
    for ((((a, ra), b), rb), by) in upper.iter().zip(reference[0]).zip(lower).zip(reference[1]).zip(by) {
        *by = differ(*a, *ra).saturating_add(differ(*b, *rb));
    }
}

/// `abs_diff` in a form that stays in bytes.
fn differ(a: u8, b: u8) -> u8 {
    a.saturating_sub(b) | b.saturating_sub(a)
}

/// By how much two samples of colour differ together.
#[inline(never)]
pub fn colours_differ([u, v]: [&[u8]; 2], reference: [&[u8]; 2], by: &mut [u8]) {
    for ((((u, ru), v), rv), by) in u.iter().zip(reference[0]).zip(v).zip(reference[1]).zip(by) {
        *by = differ(*u, *ru).saturating_add(differ(*v, *rv));
    }
}

/// The differences of cells: those of their luma samples, and `times` those of their colour.
#[inline(never)]
pub fn cells_differ(pairs: &[u16], colour: &[u8], times: u16, by: &mut [u16]) {
    for ((pair, colour), by) in pairs.iter().zip(colour).zip(by) {
        *by = left(*pair) + right(*pair) + u16::from(*colour) * times;
    }
}

/// The sums of the cells in two luma rows: 0 to 1020.
#[inline(never)]
pub fn cells(upper: &[u16], lower: &[u16], sums: &mut [u16]) {
    for ((a, b), sum) in upper.iter().zip(lower).zip(sums) {
        *sum = left(*a) + right(*a) + left(*b) + right(*b);
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

/// A row of one frame: luma as [`pairs`], upper and lower, and the weights of its cells.
pub type Weighed<'a> = [&'a [u16]; 3];

/// Adds the luma of a frame, or of two at once, times their weights: left and right samples of the upper row, then of the lower.
#[inline(never)]
pub fn add_luma([upper, lower, weights]: Weighed<'_>, second: Option<Weighed<'_>>, sums: [&mut [u16]; 4]) {
    // All of one length, so that nothing is checked in the loops.
    let n = weights.len();
    let (upper, lower) = (&upper[..n], &lower[..n]);
    let [upper_left, upper_right, lower_left, lower_right] = sums.map(|sum| &mut sum[..n]);
    if let Some(second) = second {
        let [upper2, lower2, weights2] = second.map(|row| &row[..n]);
        for i in 0..n {
            upper_left[i] += left(upper[i]) * weights[i] + left(upper2[i]) * weights2[i];
            upper_right[i] += right(upper[i]) * weights[i] + right(upper2[i]) * weights2[i];
            lower_left[i] += left(lower[i]) * weights[i] + left(lower2[i]) * weights2[i];
            lower_right[i] += right(lower[i]) * weights[i] + right(lower2[i]) * weights2[i];
        }
    } else {
        for i in 0..n {
            upper_left[i] += left(upper[i]) * weights[i];
            upper_right[i] += right(upper[i]) * weights[i];
            lower_left[i] += left(lower[i]) * weights[i];
            lower_right[i] += right(lower[i]) * weights[i];
        }
    }
}

/// Adds the samples of U and of V times their weights.
#[inline(never)]
pub fn add_colours([u, v]: [&[u8]; 2], weights: &[u16], [u_sums, v_sums]: [&mut [u16]; 2]) {
    let n = weights.len();
    let (u, v, u_sums, v_sums) = (&u[..n], &v[..n], &mut u_sums[..n], &mut v_sums[..n]);
    for i in 0..n {
        u_sums[i] += u16::from(u[i]) * weights[i];
        v_sums[i] += u16::from(v[i]) * weights[i];
    }
}

/// `2^16 / weight`, rounded down to 16 bits.
const SHARES: [u16; 512] = {
    let mut shares = [65_535; 512];
    let mut weight = 2;
    while weight < 257 {
        shares[weight] = (65_536 / weight) as u16;
        weight += 1;
    }
    shares
};

/// [`SHARES`] of weights up to 256.
#[inline(never)]
pub fn shares(weights: &[u16], out: &mut [u16]) {
    for (share, weight) in out.iter_mut().zip(weights) {
        *share = SHARES[usize::from(*weight) & 511];
    }
}

/// `round(sum / weight)`; `share` comes from [`SHARES`]. Exact: the product is too small by less than one.
fn quotient(sum: u16, weight: u16, share: u16) -> u16 {
    let sum = sum + weight / 2;
    let low = ((u32::from(sum) * u32::from(share)) >> 16) as u16;
    low + u16::from(sum - low * weight >= weight)
}

/// Divides sums by weights.
#[inline(never)]
pub fn divide(sums: &[u16], weights: &[u16], shares: &[u16], out: &mut [u8]) {
    for (((sum, weight), share), out) in sums.iter().zip(weights).zip(shares).zip(out) {
        *out = quotient(*sum, *weight, *share) as u8;
    }
}

/// Divides sums of left and of right samples by their cells' weights.
#[inline(never)]
pub fn divide_pairs(sums: [&[u16]; 2], weights: &[u16], shares: &[u16], out: &mut [u8]) {
    let cells = sums[0].iter().zip(sums[1]).zip(weights).zip(shares);
    for ((((left, right), weight), share), out) in cells.zip(out.chunks_exact_mut(2)) {
        out[0] = quotient(*left, *weight, *share) as u8;
        out[1] = quotient(*right, *weight, *share) as u8;
    }
}
