//! Owns what stands around one pixel, how noisy a frame is, and which of its pixels stand out. Arithmetic on luma it is handed. Any
//! thread.

/// Luma of one frame.
#[derive(Debug, Clone, Copy)]
pub struct Luma<'a> {
    /// From the first sample on.
    pub data: &'a [u8],
    /// Samples from row to row.
    pub stride: usize,
    /// Samples across.
    pub width: usize,
    /// Rows.
    pub height: usize,
}

/// The eight neighbours, and where they lie; those in front come first.
pub const AROUND: [(isize, isize); 8] = [(-1, -1), (0, -1), (1, -1), (-1, 0), (1, 0), (-1, 1), (0, 1), (1, 1)];
/// Between (x, y) and samples two away from it: what light that spreads over its neighbours hardly reaches.
const BEYOND: [(isize, isize); 8] = [(-2, -2), (0, -2), (2, -2), (-2, 0), (2, 0), (-2, 2), (0, 2), (2, 2)];

/// The pixel and its neighbours; of those beyond the picture's edge there is none.
#[derive(Debug, Clone, Copy)]
pub struct Ground {
    /// The pixel itself.
    pub own: i32,
    /// Median, smallest and largest of the neighbours.
    pub median: i32,
    pub least: i32,
    pub most: i32,
}

impl<'a> Luma<'a> {
    /// The sample at (x, y), if the picture reaches there.
    pub fn at(&self, x: isize, y: isize) -> Option<i32> {
        let inside = x >= 0 && y >= 0 && (x as usize) < self.width && (y as usize) < self.height;
        inside.then(|| i32::from(self.data[y as usize * self.stride + x as usize]))
    }

    fn row(&self, y: usize) -> &'a [u8] {
        &self.data[y * self.stride..][..self.width]
    }

    /// What stands around (x, y).
    pub fn ground(&self, x: usize, y: usize) -> Ground {
        let (x, y) = (x as isize, y as isize);
        let mut around = [0; 8];
        let mut n = 0;
        for value in AROUND.iter().filter_map(|(dx, dy)| self.at(x + dx, y + dy)) {
            around[n] = value;
            n += 1;
        }
        let around = &mut around[..n.max(1)];
        around.sort_unstable();
        let (least, most) = (around[0], around[around.len() - 1]);
        Ground { own: self.at(x, y).unwrap_or(0), median: middle(around), least, most }
    }

    /// The median of the samples two away from (x, y).
    pub fn beyond(&self, x: usize, y: usize) -> i32 {
        let (x, y) = (x as isize, y as isize);
        let mut beyond = [0; 8];
        let mut n = 0;
        for value in BEYOND.iter().filter_map(|(dx, dy)| self.at(x + dx, y + dy)) {
            beyond[n] = value;
            n += 1;
        }
        let beyond = &mut beyond[..n.max(1)];
        beyond.sort_unstable();
        middle(beyond)
    }

    /// Standard deviation of the noise (code values), at least 1: from how far samples lie off the line through their neighbours to
    /// the left and right, where that is little. Texture is in the upper three quarters; what is drawn into a picture has no noise
    /// and does not count.
    pub fn noise(&self) -> f32 {
        let mut bins = [0u32; 512];
        let mut all = 0;
        for row in (0..self.height).step_by(5).map(|y| self.row(y)) {
            for three in row.chunks_exact(3).step_by(2) {
                if three[0] == three[1] && three[1] == three[2] {
                    continue;
                }
                let bend = 2 * i32::from(three[1]) - i32::from(three[0]) - i32::from(three[2]);
                bins[bend.unsigned_abs() as usize] += 1;
                all += 1;
            }
        }
        let (mut below, quarter) = (0, all / 4);
        for (k, bin) in bins.iter().enumerate() {
            if below + bin > quarter {
                // The bin holds what lies within half a code value; 0.3186: quarter of a normal distribution by amount.
                let part = (quarter - below) as f32 / *bin as f32;
                let low = if k == 0 { 0.0 } else { k as f32 - 0.5 };
                let width = if k == 0 { 0.5 } else { 1.0 };
                return ((low + part * width) / (0.3186 * 6.0f32.sqrt())).max(1.0);
            }
            below += bin;
        }
        1.0
    }

    /// Hands over every pixel that is brighter than all its neighbours by `margin` and by half of what those differ, row by row from
    /// `first` on and round, until `take` says that it is enough.
    pub fn peaks(&self, margin: i32, first: usize, take: &mut dyn FnMut(usize, usize) -> bool) {
        let stands_out = |x: usize, y: usize| {
            let g = self.ground(x, y);
            g.own - g.most >= margin.max((g.most - g.least) / 2)
        };
        let step = margin.clamp(1, 255) as u8;
        for y in (0..self.height).map(|k| (first + k) % self.height) {
            let row = self.row(y);
            let inner = row.windows(3).enumerate().filter(|(_, w)| w[1].saturating_sub(step) >= w[0].max(w[2]) && w[1] >= step);
            let ends = [0, self.width - 1].into_iter();
            for x in inner.map(|(k, _)| k + 1).chain(ends) {
                if stands_out(x, y) && !take(x, y) {
                    return;
                }
            }
        }
    }
}

/// The median of sorted values: of an even number the mean of the middle two.
pub fn middle(sorted: &[i32]) -> i32 {
    let half = sorted.len() / 2;
    if sorted.len() % 2 == 0 { (sorted[half - 1] + sorted[half]).div_euclid(2) } else { sorted[half] }
}
