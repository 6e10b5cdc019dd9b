//! Owns the choice of frames around a moment and how several become one picture: arithmetic on frames it is handed.
//! Never touches the ring's order, a clock or a disk. Runs on export threads.

mod choice;
mod light;
mod mean;
mod noise;
mod rows;
mod shift;
mod steady;
mod still;

pub use choice::{centred, window};
pub use mean::average;

use crate::frame::Layout;
use crate::settings::{Refusal, Word};

/// Most frames one average takes: a 16-bit lane holds the sum of 256 bytes and the rounding.
pub const MAX: usize = 256;

/// How several frames become one picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// Each place is averaged over those frames that show there what the reference frame shows: what rests gets clean, what
    /// moves stays sharp.
    #[default]
    Steady,
    /// The plain mean: what moves is smeared.
    Mean,
    /// The median: what moved is gone.
    Still,
}

impl Mode {
    /// All of them.
    pub const ALL: [Mode; 3] = [Mode::Steady, Mode::Mean, Mode::Still];

    /// The word for it in settings, commands and answers.
    pub const fn word(self) -> &'static str {
        match self {
            Mode::Steady => "steady",
            Mode::Mean => "mean",
            Mode::Still => "still",
        }
    }

    /// The mode of this word.
    pub fn of(word: &str) -> Option<Mode> {
        Mode::ALL.into_iter().find(|mode| mode.word() == word)
    }
}

impl Word for Mode {
    fn read(text: &str) -> Result<Self, Refusal> {
        Mode::of(text).ok_or_else(|| Refusal::text("steady, mean or still", text))
    }
    fn word(&self) -> String {
        (*self).word().into()
    }
    fn range() -> String {
        Mode::ALL.map(Mode::word).join(", ")
    }
}

/// How a picture came of several frames.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Stacked {
    /// By which rule.
    pub mode: Mode,
    /// How many went in.
    pub frames: usize,
    /// What share of all samples of the other frames went in, 0 to 1: 1 where nothing moved, and with a plain mean. Says
    /// nothing with a median.
    pub share: f32,
}

impl Stacked {
    /// [`Stacked::share`] in per cent; none with a median, which averages nothing.
    pub fn averaged_percent(&self) -> Option<f64> {
        (self.mode != Mode::Still).then(|| f64::from(self.share) * 100.0)
    }
}

/// Makes one picture of several frames. Keeps its working memory from call to call; one for each thread.
#[derive(Debug, Default)]
pub struct Stacker {
    noise: noise::Scratch,
    light: light::Scratch,
    curves: Vec<Option<light::Curve>>,
    steady: steady::Scratch,
}

impl Stacker {
    /// Makes one picture of `frames` (I420 as `layout` places it, 1 to [`MAX`]) by `mode` and writes it to `out`, which has
    /// `layout.bytes()` bytes. `reference` is the frame that was asked for: nothing of it is voted away, unless by `still`.
    pub fn merge(&mut self, mode: Mode, frames: &[&[u8]], reference: usize, layout: Layout, out: &mut [u8]) -> Stacked {
        assert!(reference < frames.len() && out.len() == layout.bytes(), "frame {reference} of {}", frames.len());
        let share = match mode {
            Mode::Steady if frames.len() > 1 => self.steady(frames, reference, layout, out),
            Mode::Still => {
                still::median(frames, out);
                1.0
            }
            Mode::Mean | Mode::Steady => {
                average(frames, out);
                1.0
            }
        };
        Stacked { mode, frames: frames.len(), share }
    }

    fn steady(&mut self, pixels: &[&[u8]], reference: usize, layout: Layout, out: &mut [u8]) -> f32 {
        let noise = noise::Noise::measure(&mut self.noise, pixels, reference, layout);
        light::curves(&mut self.light, pixels, reference, &noise, layout, &mut self.curves);
        let frames = steady::Frames { pixels, reference, curves: &self.curves, layout };
        steady::merge(&mut self.steady, &frames, &noise, out)
    }
}

#[cfg(test)]
mod tests;
