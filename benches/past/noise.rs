//! Owns the noise: the same seed makes the same noise.

use pastcam::frame::Layout;

use super::score::mean;

/// How the noise lies in the picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The same in every place, each sample on its own.
    Plain,
    /// As of light: its variance grows with brightness, from a fifth of σ² in black to nine fifths in white.
    Shot,
    /// In blotches of about three pixels, as a camera's own smoothing leaves them.
    Blotchy,
}

impl Kind {
    pub fn of(word: &str) -> Kind {
        [Kind::Plain, Kind::Shot, Kind::Blotchy]
            .into_iter()
            .find(|k| k.word() == word)
            .unwrap_or_else(|| panic!("--noise {word:?}"))
    }
    pub fn word(self) -> &'static str {
        match self {
            Kind::Plain => "plain",
            Kind::Shot => "shot",
            Kind::Blotchy => "blotchy",
        }
    }
}

/// Adds normal noise to pictures.
pub struct Noise {
    seed: u64,
    normal: Vec<f32>,
}

const NORMALS: usize = 1 << 16;

impl Noise {
    pub fn new(seed: u64) -> Noise {
        let mut noise = Noise { seed: seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1, normal: Vec::new() };
        // Pairs by Box and Muller, then scaled so that mean and variance are exact.
        let mut unit = || (noise.random() >> 11) as f64 / (1u64 << 53) as f64;
        let mut normal: Vec<f64> = (0..NORMALS / 2)
            .flat_map(|_| {
                let (far, turn) = ((-2.0 * (1.0 - unit()).ln()).sqrt(), std::f64::consts::TAU * unit());
                [far * turn.cos(), far * turn.sin()]
            })
            .collect();
        let middle = mean(normal.iter().copied());
        let sigma = mean(normal.iter().map(|n| (n - middle).powi(2))).sqrt();
        for n in &mut normal {
            *n = (*n - middle) / sigma;
        }
        noise.normal = normal.iter().map(|n| *n as f32).collect();
        noise
    }

    fn random(&mut self) -> u64 {
        self.seed ^= self.seed << 13;
        self.seed ^= self.seed >> 7;
        self.seed ^= self.seed << 17;
        self.seed.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// `clean` with noise of `sigma` in luma and half as much in chroma, rounded and cut off at 0 and 255.
    pub fn on(&mut self, clean: &[u8], layout: Layout, kind: Kind, sigma: f64) -> Vec<u8> {
        let mut out = Vec::with_capacity(clean.len());
        for (plane, range) in [layout.y(), layout.u(), layout.v()].into_iter().enumerate() {
            let (sigma, stride) = if plane == 0 { (sigma, layout.y_stride()) } else { (sigma / 2.0, layout.c_stride()) };
            let clean = &clean[range];
            let mut deviation: Vec<f32> = Vec::with_capacity(clean.len() + 3);
            while deviation.len() < clean.len() {
                let random = self.random();
                deviation.extend([0, 16, 32, 48].map(|by| self.normal[(random >> by) as usize % NORMALS]));
            }
            if kind == Kind::Blotchy {
                blur(&mut deviation, stride);
            }
            let sigma = sigma as f32;
            out.extend(clean.iter().zip(deviation).map(|(clean, n)| {
                let level = f32::from(*clean);
                let sigma = if kind == Kind::Shot && plane == 0 { sigma * (0.2 + 1.6 * level / 255.0).sqrt() } else { sigma };
                // Adding a half and cutting rounds, as nothing is below zero.
                (level + sigma * n + 0.5).clamp(0.0, 255.0) as u8
            }));
        }
        out
    }
}

/// Smooths by 1 2 1 along rows, then down columns, keeping the variance.
fn blur(deviation: &mut [f32], stride: usize) {
    let keep = 1.0 / 6.0f32.sqrt();
    for step in [1, stride] {
        let old = deviation.to_vec();
        for i in step..old.len() - step {
            deviation[i] = (old[i - step] + 2.0 * old[i] + old[i + step]) * keep;
        }
    }
}
