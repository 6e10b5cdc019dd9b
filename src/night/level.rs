//! Owns what a picture says about light: the camera's tone curve and its inverse, the luma histogram of a frame, and the
//! level that day mode would have measured. Never decides anything and never allocates. Called on the capture thread.

use crate::frame::{Layout, Span};

/// `gamma_curve` of the sensor tuning files (OV5647 and IMX219 carry the same one): linear light → code, both 16 bit.
/// Source: raspberrypi/libcamera, `src/ipa/rpi/vc4/data/ov5647.json`, `rpi.contrast`.
pub const GAMMA_CURVE: [(u16, u16); 33] = [
    (0, 0),
    (1024, 5040),
    (2048, 9338),
    (3072, 12356),
    (4096, 15312),
    (5120, 18051),
    (6144, 20790),
    (7168, 23193),
    (8192, 25744),
    (9216, 27942),
    (10240, 30035),
    (11264, 32005),
    (12288, 33975),
    (13312, 35815),
    (14336, 37600),
    (15360, 39168),
    (16384, 40642),
    (18432, 43379),
    (20480, 45749),
    (22528, 47753),
    (24576, 49621),
    (26624, 51253),
    (28672, 52698),
    (30720, 53796),
    (32768, 54876),
    (36864, 57012),
    (40960, 58656),
    (45056, 59954),
    (49152, 61183),
    (53248, 62355),
    (57344, 63419),
    (61440, 64476),
    (65535, 65535),
];

/// 16-bit code to 8-bit code: 65535 / 255.
const PER_CODE: f64 = 257.0;

/// The curve at every multiple of 1024, so that an evaluation is one index and one line. Exact: every knot of
/// [`GAMMA_CURVE`] but the last is such a multiple, and the last piece is carried on by one step to 65536.
const KNOTS: [f64; 65] = knots();

/// Linear light of each full-range luma value: the inverse of [`tone`] at 0 to 255.
pub static INV: [f64; 256] = inverse_table(&plain_table());

/// The same for limited-range values.
static INV_LIMITED: [f64; 256] = inverse_table(&EXPANDED);

/// Full-range value (0 to 255, not rounded) of each limited-range luma value.
static EXPANDED: [f64; 256] = expanded_table();

/// The value from which a pixel counts as clipped.
pub const CLIPPED: f64 = 250.0;

/// The value that clips when the exposure is doubled: `tone(INV[250] / 2)`.
const CLIPPED_TWICE: f64 = tone(INVERSE_OF_CLIPPED / 2.0);
const INVERSE_OF_CLIPPED: f64 = inverse(CLIPPED);

/// Within this many stops two exposures are the same light and the level is the plain mean.
const SAME_STOPS: f64 = 0.02;

const fn knots() -> [f64; 65] {
    let mut out = [0.0; 65];
    let (mut i, mut piece) = (0, 0);
    while i < 65 {
        let x = i as f64 * 1024.0;
        while piece + 2 < GAMMA_CURVE.len() && GAMMA_CURVE[piece + 1].0 as f64 <= x {
            piece += 1;
        }
        let (a, b) = (GAMMA_CURVE[piece], GAMMA_CURVE[piece + 1]);
        let slope = (b.1 as f64 - a.1 as f64) / (b.0 as f64 - a.0 as f64);
        out[i] = a.1 as f64 + (x - a.0 as f64) * slope;
        i += 1;
    }
    out
}

/// The tone curve in 8-bit terms: linear light 0 to 1 (clamped) → luma 0 to 255, not rounded.
pub const fn tone(linear: f64) -> f64 {
    let x = linear.clamp(0.0, 1.0) * (65535.0 / 1024.0);
    let i = x as usize; // 63 at most: 65535 / 1024 < 64
    (KNOTS[i] + (x - i as f64) * (KNOTS[i + 1] - KNOTS[i])) / PER_CODE
}

/// Linear light 0 to 1 of a luma value 0 to 255 (clamped): the inverse of [`tone`].
pub const fn inverse(luma: f64) -> f64 {
    let code = luma.clamp(0.0, 255.0) * PER_CODE;
    let mut i = 0;
    while i < 63 && KNOTS[i + 1] < code {
        i += 1;
    }
    (i as f64 + (code - KNOTS[i]) / (KNOTS[i + 1] - KNOTS[i])) * (1024.0 / 65535.0)
}

const fn inverse_table(luma: &[f64; 256]) -> [f64; 256] {
    let mut out = [0.0; 256];
    let mut v = 0;
    while v < 256 {
        out[v] = inverse(luma[v]);
        v += 1;
    }
    out
}

const fn plain_table() -> [f64; 256] {
    let mut out = [0.0; 256];
    let mut v = 0;
    while v < 256 {
        out[v] = v as f64;
        v += 1;
    }
    out
}

const fn expanded_table() -> [f64; 256] {
    let mut out = [0.0; 256];
    let mut v = 0;
    while v < 256 {
        out[v] = ((v as f64 - 16.0) * 255.0 / 219.0).clamp(0.0, 255.0);
        v += 1;
    }
    out
}

/// Full-range luma, 0 to 255 and not rounded, of a stored value.
pub fn full_range(v: u8, span: Span) -> f64 {
    match span {
        Span::Full => f64::from(v),
        Span::Limited => EXPANDED[usize::from(v)],
    }
}

/// How often each luma value occurs, as stored (not yet converted to full range).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Histogram {
    bins: [u32; 256],
    n: u32,
    sum: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Histogram { bins: [0; 256], n: 0, sum: 0 }
    }
}

impl Histogram {
    /// Counts every `step`-th pixel of every `step`-th row of a Y plane, replacing what was counted before.
    /// A step of 1 counts them all; 8 is for the frame path. The grid starts half a step in, so both edges weigh the same.
    ///
    /// Panics when `y` is shorter than `layout` and `stride` say, which is our own bug.
    pub fn measure(&mut self, y: &[u8], stride: usize, layout: Layout, step: usize) {
        let step = step.max(1);
        let (width, height) = (layout.width as usize, layout.height as usize);
        *self = Histogram::default();
        for row in (step / 2..height).step_by(step) {
            for &v in y[row * stride..row * stride + width].iter().skip(step / 2).step_by(step) {
                self.bins[usize::from(v)] += 1;
            }
        }
        for (v, &count) in self.bins.iter().enumerate() {
            self.n += count;
            self.sum += u64::from(count) * v as u64;
        }
    }

    /// Adds `count` pixels of value `v`.
    pub fn add(&mut self, v: u8, count: u32) {
        self.bins[usize::from(v)] += count;
        self.n += count;
        self.sum += u64::from(count) * u64::from(v);
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        *self = Histogram::default();
    }

    /// Pixels counted.
    pub fn n(&self) -> u32 {
        self.n
    }

    /// Counts by stored value.
    pub fn bins(&self) -> &[u32; 256] {
        &self.bins
    }

    /// Mean full-range luma 0 to 255; 0 when nothing was counted. For [`Span::Full`] it is sum / count and nothing else.
    pub fn mean(&self, span: Span) -> f64 {
        match span {
            _ if self.n == 0 => 0.0,
            Span::Full => self.sum as f64 / f64::from(self.n),
            Span::Limited => self.weigh(&EXPANDED),
        }
    }

    /// Share (0 to 1) of the pixels whose full-range value is `luma` or more.
    pub fn share_from(&self, luma: f64, span: Span) -> f64 {
        let first = match span {
            Span::Full => luma.ceil(),
            Span::Limited => (16.0 + luma * 219.0 / 255.0).ceil(),
        };
        let count: u32 = self.bins[(first as usize).min(256)..].iter().sum();
        f64::from(count) / f64::from(self.n.max(1))
    }

    /// Mean of `table[value]` over all pixels.
    fn weigh(&self, table: &[f64; 256]) -> f64 {
        let mut sum = 0.0;
        for (&count, &weight) in self.bins.iter().zip(table) {
            if count != 0 {
                sum += f64::from(count) * weight;
            }
        }
        sum / f64::from(self.n.max(1))
    }
}

/// What one frame says about the light, in the score of day mode at its full exposure.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Light {
    /// Mean luma as the frame has it.
    pub mean: f64,
    /// The score day mode would measure. Where pixels are clipped it is a lower bound.
    pub level: f64,
    /// The upper bound that goes with it.
    pub upper: f64,
    /// Share of pixels that are clipped.
    pub clipped: f64,
    /// Share that would be clipped at twice the exposure.
    pub clipped_twice: f64,
    /// [`Light::upper`] as it would be at twice the exposure.
    pub upper_twice: f64,
}

/// Translates histograms taken at one exposure into the score of another: a table of 256 values, made anew only when the
/// ratio of the exposures changes.
#[derive(Debug, Clone)]
pub struct Scale {
    ratio: f64,
    span: Span,
    table: [f64; 256],
}

impl Default for Scale {
    fn default() -> Self {
        Scale { ratio: f64::NAN, span: Span::Full, table: [0.0; 256] } // NaN equals nothing: the first use fills the table
    }
}

impl Scale {
    /// Whether `ratio` is 1 within what a tone value can show.
    pub fn is_identity(ratio: f64) -> bool {
        ratio.log2().abs() < SAME_STOPS
    }

    /// The mean luma that this picture would have at `ratio` times its exposure. At a ratio of 1 it is the plain mean, bit
    /// for bit.
    pub fn level(&mut self, h: &Histogram, span: Span, ratio: f64) -> f64 {
        if Scale::is_identity(ratio) {
            return h.mean(span);
        }
        // Exactly the same ratio, not a similar one: at night it is constant because the driver rounds the same way.
        if self.ratio.to_bits() != ratio.to_bits() || self.span != span {
            let linear = match span {
                Span::Full => &INV,
                Span::Limited => &INV_LIMITED,
            };
            for (out, l) in self.table.iter_mut().zip(linear) {
                *out = tone(ratio * l);
            }
            (self.ratio, self.span) = (ratio, span);
        }
        h.weigh(&self.table)
    }

    /// Level, its bounds and the clipping of a picture; `ratio` as in [`Scale::level`].
    pub fn light(&mut self, h: &Histogram, span: Span, ratio: f64) -> Light {
        let level = self.level(h, span, ratio);
        let clipped = h.share_from(CLIPPED, span);
        let clipped_twice = h.share_from(CLIPPED_TWICE, span);
        Light {
            mean: h.mean(span),
            level,
            upper: level + clipped * (255.0 - tone(ratio)),
            clipped,
            clipped_twice,
            upper_twice: level + clipped_twice * (255.0 - tone(ratio / 2.0)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A histogram of a few values, one pixel each.
    fn of(values: &[u8]) -> Histogram {
        let mut h = Histogram::default();
        for &v in values {
            h.add(v, 1);
        }
        h
    }

    #[test]
    fn the_tone_curve_passes_through_the_points_of_the_tuning_file() {
        for (x, y) in GAMMA_CURVE {
            assert!((tone(f64::from(x) / 65535.0) - f64::from(y) / 257.0).abs() < 1e-9, "at {x}");
        }
        assert!((tone(0.5 / 65.535) - 5040.0 / 257.0 * 500.0 / 1024.0).abs() < 1e-9, "between points it is a line");
        assert_eq!((tone(-1.0), tone(7.0)), (0.0, 255.0));
    }

    #[test]
    fn the_inverse_undoes_the_tone() {
        for v in 0..=255_u8 {
            assert!((tone(INV[usize::from(v)]) - f64::from(v)).abs() < 1e-9, "at {v}");
        }
        assert!((0..255).all(|v| INV[v] < INV[v + 1]));
    }

    #[test]
    fn a_ratio_of_one_is_the_plain_mean_bit_for_bit() {
        let h = of(&[3, 7, 7, 30, 61, 199, 255]);
        let mean = f64::from(3 + 7 + 7 + 30 + 61 + 199 + 255) / 7.0;
        for r in [1.0, 1.013, 1.0 / 1.013] {
            assert_eq!(Scale::default().level(&h, Span::Full, r).to_bits(), mean.to_bits());
        }
        assert!(Scale::default().level(&h, Span::Full, 1.02) > mean);
    }

    #[test]
    fn the_level_of_a_night_frame_is_the_score_of_its_day_frame() {
        // the same patches at E and at 22.5 E, none clipped at night, values not rounded on the way
        for linear in [0.002, 0.01, 0.04] {
            let night = tone(linear).round() as u8;
            let mut scale = Scale::default();
            let level = scale.level(&of(&[night]), Span::Full, 1.0 / 22.5);
            assert!((level - tone(linear / 22.5)).abs() < 0.2, "{linear}: {level}");
        }
    }

    #[test]
    fn brighter_pixels_never_lower_the_level() {
        let mut scale = Scale::default();
        for r in [1.0 / 22.5, 0.3, 1.0, 40.0] {
            let levels: Vec<f64> = (0..=255).map(|v| scale.level(&of(&[v, 20]), Span::Full, r)).collect();
            assert!(levels.windows(2).all(|w| w[0] <= w[1]), "at ratio {r}");
        }
    }

    #[test]
    fn a_changed_ratio_or_span_renews_the_table() {
        let (h, mut scale) = (of(&[100]), Scale::default());
        let first = scale.level(&h, Span::Full, 0.5);
        assert!(scale.level(&h, Span::Full, 0.25) < first);
        assert_eq!(scale.level(&h, Span::Full, 0.5).to_bits(), first.to_bits());
        assert!(scale.level(&h, Span::Limited, 0.5) < first, "100 of 16..235 is darker than 100 of 0..255");
    }

    #[test]
    fn limited_range_is_stretched_first() {
        let h = of(&[16, 235]);
        assert!((h.mean(Span::Limited) - 127.5).abs() < 1e-9);
        assert!((of(&[0, 16]).mean(Span::Limited)).abs() < 1e-9, "below black is black");
        assert_eq!(
            (of(&[230, 231]).share_from(CLIPPED, Span::Limited), of(&[249, 250]).share_from(CLIPPED, Span::Full)),
            (0.5, 0.5)
        );
    }

    #[test]
    fn a_white_night_frame_proves_only_a_lower_bound() {
        let l = Scale::default().light(&of(&[255; 8]), Span::Full, 0.533_328 / 12.0);
        assert!((l.level - 46.0).abs() < 1.0, "{l:?}");
        assert!((l.upper - 255.0).abs() < 1e-9 && l.clipped > 0.999, "{l:?}");
    }

    #[test]
    fn sampling_reads_the_plane_and_not_its_padding() {
        let (layout, stride) = (Layout::new(1024, 768), 1030);
        let mut y = vec![255; stride * 768]; // padding is white, the picture is a ramp
        for row in y.chunks_exact_mut(stride) {
            row[..1024].iter_mut().enumerate().for_each(|(x, v)| *v = (x / 8) as u8);
        }
        let (mut all, mut some) = (Histogram::default(), Histogram::default());
        all.measure(&y, stride, layout, 1);
        some.measure(&y, stride, layout, 8);
        assert_eq!((all.n(), some.n()), (1024 * 768, 128 * 96));
        assert_eq!(all.mean(Span::Full).to_bits(), 63.5_f64.to_bits());
        assert_eq!(some.mean(Span::Full).to_bits(), 63.5_f64.to_bits());
        some.measure(&y, stride, layout, 8);
        assert_eq!(some.n(), 128 * 96, "a second measurement starts afresh");
    }

    #[test]
    fn an_empty_picture_has_no_light() {
        let h = Histogram::default();
        assert_eq!((h.mean(Span::Full), h.share_from(0.0, Span::Full)), (0.0, 0.0));
    }
}
