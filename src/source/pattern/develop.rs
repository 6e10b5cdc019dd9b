//! Owns how light becomes code values in the synthetic sensor: levels of the scene, electrons and their noise, white balance,
//! the tone curve, 8 bits. Pure arithmetic into tables it keeps; runs on the thread `sensor`.
//!
//! The noise is the linear model of EMVA 1288: a pixel that holds N electrons has the variance N (shot noise) + `READ`². It is
//! added to linear light; the tone curve and the rounding to 8 bits follow, so that dark parts are noisier than bright ones.
//! Sources: the full well is the OV5647's data sheet (4.3 ke⁻; its 36 dB of signal to noise are 4.0 ke⁻), the noise profile in
//! its libcamera tuning file (`rpi.noise`, slope 4.25) amounts to 3.6 ke⁻. The data sheet's dynamic range (67 dB at gain 8)
//! is a read noise of 1.9 e⁻ at that gain; 3 e⁻ at every gain is assumed, quantisation to 10 bits included. One pixel of the
//! picture counts as one of the sensor, without the denoising and scaling of an ISP. The chroma noise is assumed.

use super::dials::Look;
use crate::frame::Exposure;
use crate::night::level::tone;
use crate::night::simulate::{CONTRAST, K};

/// Electrons of a full pixel.
pub const FULL_WELL: f64 = 4300.0;
/// Read noise (e⁻).
pub const READ: f64 = 3.0;
/// Chroma noise as a part of luma noise: chroma has half the samples each way.
const CHROMA: f64 = 0.5;
/// Most chroma noise (code values, standard deviation): four of it, the most there is, leave room for a colour.
const GRAIN_MAX: f64 = 25.0;

/// The noise of the pictures.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum Noise {
    /// As this module's first lines say.
    #[default]
    Sensor,
    /// The same at every level, luma only (code values, standard deviation).
    Codes(f64),
    /// None.
    Off,
}

/// Levels that reflect the scene's light, evenly in logarithm; those above shine by themselves.
const REFLECTING: u8 = 192;
/// What a level that shines reflects besides.
const LAMP_REFLECTS: f64 = 0.5;
/// Light of the weakest and the strongest level that shines (lux, as if reflected by the scene's mean).
const SHINES: (f64, f64) = (0.05, 100.0);
/// Values of the noise of a level, and how many of them make a standard deviation.
const STEPS: usize = 64;
const PER_SIGMA: f64 = 8.0;

/// The level that reflects so much, against the scene's mean; between 0.1 and 2.65.
pub fn reflecting(reflectance: f64) -> u8 {
    let (low, high) = (CONTRAST[0].ln(), CONTRAST[CONTRAST.len() - 1].ln());
    let part = (reflectance.ln() - low) / (high - low);
    (part * f64::from(REFLECTING - 1)).round().clamp(0.0, f64::from(REFLECTING - 1)) as u8
}

/// The level that shines with so much light (lux); `None` where that is too little.
pub fn shining(lux: f64) -> Option<u8> {
    let part = (lux / SHINES.0).ln() / (SHINES.1 / SHINES.0).ln();
    (part >= 0.0).then(|| REFLECTING + (part * f64::from(255 - REFLECTING)).round().min(63.0) as u8)
}

/// Linear light of a level; 1.0 saturates.
pub fn linear(level: u8, lux: f64, e: f64) -> f64 {
    if level < REFLECTING {
        let (low, high) = (CONTRAST[0].ln(), CONTRAST[CONTRAST.len() - 1].ln());
        return K * e * lux * (low + (high - low) * f64::from(level) / f64::from(REFLECTING - 1)).exp();
    }
    let part = f64::from(level - REFLECTING) / f64::from(255 - REFLECTING);
    K * e * (lux * LAMP_REFLECTS + SHINES.0 * (SHINES.1 / SHINES.0).powf(part))
}

/// Standard deviation of linear light at this gain.
pub fn sigma(linear: f64, gain: f64) -> f64 {
    (linear * FULL_WELL / gain + READ * READ).sqrt() * gain / FULL_WELL
}

/// Tables for one light and exposure.
pub struct Developer {
    noise: Noise,
    light: f64,
    made_for: Option<(f64, Exposure, Look)>,
    linear: [f64; 256],
    /// Code values of each level, one for each value of the noise.
    luma: Box<[[u8; STEPS]; 256]>,
    /// Code values of each colour of the scene: U, V.
    chroma: [[u8; 256]; 2],
    /// What each value of the noise adds to chroma.
    grain: [i8; STEPS],
}

impl Developer {
    pub fn new(noise: Noise) -> Developer {
        let luma = Box::new([[0; STEPS]; 256]);
        Developer { noise, light: 0.0, made_for: None, linear: [0.0; 256], luma, chroma: [[128; 256]; 2], grain: [0; STEPS] }
    }

    /// Makes the tables for this light (lux), exposure and look, where they are others than before.
    pub fn expose(&mut self, lux: f64, exposure: Exposure, look: &Look) {
        let key = Some((lux, exposure, Look { crop: [0; 4], hflip: false, vflip: false, ..*look }));
        if self.made_for == key {
            return;
        }
        (self.made_for, self.light) = (key, K * lux * exposure.e());
        for level in 0..=255 {
            let x = linear(level, lux, exposure.e());
            self.linear[usize::from(level)] = x;
            let row = &mut self.luma[usize::from(level)];
            let clean = toned(x, look);
            match self.noise {
                Noise::Off => row.fill(clean.round() as u8),
                // Clamped by the cast.
                Noise::Codes(n) => row.iter_mut().enumerate().for_each(|(i, v)| *v = (clean + n * sigmas(i)).round() as u8),
                Noise::Sensor => {
                    let s = sigma(x, exposure.gain());
                    row.iter_mut().enumerate().for_each(|(i, v)| *v = toned(x + s * sigmas(i), look).round() as u8);
                }
            }
        }
        let grain = if self.noise == Noise::Sensor {
            let grey = self.linear[usize::from(reflecting(0.6))];
            let s = sigma(grey, exposure.gain());
            (CHROMA * look.saturation.min(1.0) * (toned(grey + s, look) - toned(grey - s, look)) / 2.0).min(GRAIN_MAX)
        } else {
            0.0
        };
        self.grain = std::array::from_fn(|i| (grain * sigmas(i)).round() as i8);
        // Colour fades with the light, as it does in a dark picture. It leaves room for its noise, so that the sum needs no limit.
        let (fade, room) = ((tone(self.light) / 128.0).min(1.0) * look.saturation, f64::from(self.grain[0].unsigned_abs()));
        for (table, cast) in self.chroma.iter_mut().zip(look.cast) {
            *table = std::array::from_fn(|c| (128.0 + fade * (c as f64 - 128.0 + cast)).clamp(room, 255.0 - room) as u8);
        }
    }

    /// Whether one level is brighter than another.
    pub fn is_brighter(&self, level: u8, than: u8) -> bool {
        self.linear[usize::from(level)] > self.linear[usize::from(than)]
    }

    /// Luma of a row of levels; `noise` has a value for each.
    pub fn luma(&self, levels: &[u8], noise: &[u8], out: &mut [u8]) {
        let (levels, noise) = (&levels[..out.len()], &noise[..out.len()]);
        // Three zipped iterators take four times as long in debug builds, in which tests run.
        let mut x = 0;
        while x < out.len() {
            out[x] = self.luma[levels[x] as usize][noise[x] as usize % STEPS];
            x += 1;
        }
    }

    /// Chroma of a row of colours: `plane` 0 is U, 1 is V.
    pub fn chroma(&self, plane: usize, colours: &[u8], noise: &[u8], out: &mut [u8]) {
        let (table, colours, noise) = (&self.chroma[plane], &colours[..out.len()], &noise[..out.len()]);
        let mut x = 0;
        while x < out.len() {
            let (colour, grain) = (table[colours[x] as usize], self.grain[noise[x] as usize % STEPS]);
            out[x] = colour.wrapping_add_signed(grain);
            x += 1;
        }
    }

    /// Luma of a level in a pixel that leaks so many electrons in this exposure.
    pub fn hot(&self, level: u8, electrons: f64, noise: u8) -> u8 {
        let Some((_, exposure, look)) = &self.made_for else { return 0 };
        let x = self.linear[usize::from(level)] + electrons * exposure.gain() / FULL_WELL;
        let s = if self.noise == Noise::Sensor { sigma(x, exposure.gain()) } else { 0.0 };
        toned(x + s * sigmas(usize::from(noise)), look).round() as u8
    }
}

/// A value of the noise in standard deviations.
fn sigmas(step: usize) -> f64 {
    (step as f64 - STEPS as f64 / 2.0) / PER_SIGMA
}

/// Code value, not rounded, of linear light.
fn toned(linear: f64, look: &Look) -> f64 {
    ((tone(linear) - 128.0) * look.contrast + 128.0 + 128.0 * look.brightness).clamp(0.0, 255.0)
}

/// Values of the noise, drawn once; each row of each frame begins somewhere else among them.
pub struct Grain {
    values: Vec<u8>,
}

/// Places where a row may begin.
const BEGINS: usize = 65_536;

impl Grain {
    /// Enough for rows of this width.
    pub fn new(width: usize) -> Grain {
        let mut random = 0x2545_f491_u32;
        let mut next = || {
            random ^= random << 13;
            random ^= random >> 17;
            random ^= random << 5;
            f64::from(random) / f64::from(u32::MAX)
        };
        // The sum of twelve even numbers is near enough to a normal one; its standard deviation is 1.
        let mut one = || {
            let normal = (0..12).map(|_| next()).sum::<f64>() - 6.0;
            (normal * PER_SIGMA + STEPS as f64 / 2.0).round().clamp(0.0, STEPS as f64 - 1.0) as u8
        };
        let mut values: Vec<u8> = (0..BEGINS).map(|_| one()).collect();
        values.extend_from_within(..width.min(BEGINS));
        Grain { values }
    }

    /// The noise of one row (of luma or chroma, by its number in the buffer) of one frame.
    pub fn row(&self, id: u64, row: usize) -> &[u8] {
        &self.values[scatter(id << 16 ^ row as u64) as usize % BEGINS..]
    }
}

/// A number that looks as if drawn by chance, the same for the same seed.
pub fn scatter(seed: u64) -> u64 {
    // The finaliser of SplitMix64.
    let x = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ x >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ x >> 31
}
