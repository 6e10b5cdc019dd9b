//! Owns what is known of one pixel: what each look says of it, what views of the scene make of that, and when it is proven. A plain
//! value of the learner.

use super::Spot;
use super::ground::{AROUND, Luma};

/// Evidence after which a pixel is known, and what a view counts that is new as a whole.
const PROOF: u16 = 300;
pub const WHOLE: u16 = 30;
/// Looks in one view after which it adds nothing more.
const ENOUGH: u8 = 8;
/// Sums are halved beyond so many looks, so that they follow the sensor's temperature.
const LOOKS: u16 = 64;
/// A known pixel that has not been found for so many looks goes: an hour of the night, at least.
const ABSENT: u16 = 1800;
/// Least that a pixel must stand out by at each later look, above the median of its neighbours (code values, deviations of the noise) and
/// above the brightest of them (deviations), and on average to become known (deviations).
const FOUND: (f32, f32) = (4.0, 2.5);
const ABOVE: f32 = 0.5;
const KNOWN: f32 = 3.5;

/// What is known of one pixel.
#[derive(Debug, Clone, Copy, Default)]
pub struct Record {
    pub x: u16,
    pub y: u16,
    pub known: bool,
    /// What the view under way counts.
    pub worth: u16,
    /// Looks of the view under way that found it, and that did not.
    found: u8,
    missed: u8,
    /// Evidence of views that found it, how much of it is of views that were new as a whole, and what views that did not find it would
    /// have counted.
    proof: u16,
    moved: u16,
    against: u16,
    /// Looks since it was found last.
    absent: u16,
    /// Looks that the sums are of.
    looks: u16,
    luma: i32,
    /// How far the neighbours stand above what lies beyond them.
    spill: [i32; 8],
    /// How far the neighbours differ by noise and texture: twice the way from their median down, where no light adds to it.
    range: i32,
    /// How far chroma stands off its neighbours, and the squares of that: U, V.
    chroma: [(i32, i32); 2],
}

enum Verdict {
    Found,
    Missed,
    /// Something stronger is there.
    Hidden,
}

impl Record {
    /// One that an earlier run knew.
    pub fn adopted(s: Spot) -> Record {
        let chroma = [s.u, s.v].map(|c| (8 * i32::from(c), 8 * i32::from(c).pow(2)));
        let (luma, proof) = (8 * i32::from(s.luma), PROOF);
        Record { x: s.x, y: s.y, known: true, proof, moved: proof, looks: 8, luma, chroma, ..Record::default() }
    }

    /// One that stands out for the first time.
    pub fn noticed(luma: &Luma<'_>, (x, y): (u16, u16)) -> Record {
        let g = luma.ground(x.into(), y.into());
        let (luma, range) = (g.own - g.median, 2 * (g.median - g.least));
        Record { x, y, worth: 1, found: 1, looks: 1, luma, range, ..Record::default() }
    }

    pub fn spot(&self) -> Spot {
        let n = i32::from(self.looks.max(1));
        let [u, v] = self.chroma.map(|(sum, squares)| {
            let mean = sum as f32 / n as f32;
            let variance = (squares as f32 / n as f32 - mean * mean).max(0.0);
            // Four deviations of the mean of so many looks.
            let sure = mean.abs() >= 3.0 && mean.abs() >= 4.0 * (variance / n as f32).sqrt();
            if sure { mean.round().clamp(-127.0, 127.0) as i8 } else { 0 }
        });
        Spot { y: self.y, x: self.x, luma: (self.luma / n).clamp(1, 255) as u8, u, v }
    }

    /// What this frame says.
    fn verdict(&self, luma: &Luma<'_>, noise: f32) -> Verdict {
        let g = luma.ground(self.x.into(), self.y.into());
        let usual = self.luma as f32 / f32::from(self.looks.max(1));
        let (above, range) = ((g.own - g.median) as f32, (g.most - g.least) as f32);
        if above >= FOUND.0.max(FOUND.1 * noise).max(usual / 4.0) && (g.own - g.most) as f32 >= ABOVE * noise {
            Verdict::Found
        } else if range > usual.max(8.0 + 4.0 * noise) {
            Verdict::Hidden
        } else {
            Verdict::Missed
        }
    }

    pub fn look(&mut self, luma: &Luma<'_>, chroma: &[Luma<'_>; 2], noise: f32) {
        self.absent = self.absent.saturating_add(1);
        match self.verdict(luma, noise) {
            Verdict::Hidden => {}
            Verdict::Missed => self.missed = self.missed.saturating_add(1),
            Verdict::Found => {
                self.absent = 0;
                self.found = self.found.saturating_add(1);
                if self.found <= ENOUGH {
                    self.measure(luma, chroma);
                }
            }
        }
    }

    fn measure(&mut self, luma: &Luma<'_>, chroma: &[Luma<'_>; 2]) {
        if self.looks >= LOOKS {
            self.looks /= 2;
            for sum in self.spill.iter_mut().chain([&mut self.luma, &mut self.range]) {
                *sum /= 2;
            }
            self.chroma = self.chroma.map(|(sum, squares)| (sum / 2, squares / 2));
        }
        let (x, y) = (usize::from(self.x), usize::from(self.y));
        let g = luma.ground(x, y);
        self.looks += 1;
        self.luma += g.own - g.median;
        self.range += 2 * (g.median - g.least);
        let beyond = luma.beyond(x, y);
        for (sum, (dx, dy)) in self.spill.iter_mut().zip(AROUND) {
            *sum += luma.at(x as isize + dx, y as isize + dy).map_or(0, |value| value - beyond);
        }
        for ((sum, squares), plane) in self.chroma.iter_mut().zip(chroma) {
            let g = plane.ground(x / 2, y / 2);
            let off = g.own - g.median;
            *sum += off;
            *squares += off * off;
        }
    }

    /// Ends the view under way.
    pub fn judge(&mut self) {
        let (found, missed) = (std::mem::take(&mut self.found), std::mem::take(&mut self.missed));
        if u16::from(found) > 2 * u16::from(missed) {
            self.proof = self.proof.saturating_add(self.worth);
            self.moved = self.moved.saturating_add(if self.worth == WHOLE { WHOLE } else { 0 });
        } else if missed > 0 && missed >= found {
            self.against = self.against.saturating_add(self.worth);
        }
        if self.proof > 4 * PROOF {
            self.halve();
        }
    }

    pub fn halve(&mut self) {
        (self.proof, self.moved, self.against) = (self.proof / 2, self.moved / 2, self.against / 2);
    }

    /// Where it stayed while the whole scene moved, its neighbours must not glow with it by more than a third, which is what the reckoning of
    /// colour from the sensor's mosaic may spread. Without that they must not glow at all.
    pub fn is_proven(&self, noise: f32) -> bool {
        let clear = self.luma as f32 / f32::from(self.looks.max(1)) >= KNOWN * noise;
        self.proof >= PROOF && clear && self.is_sharp() && (self.moved >= PROOF || self.is_needle())
    }

    /// None of its neighbours glows with it by more than a third. What was measured over few looks is believed less.
    fn is_sharp(&self) -> bool {
        let n = f32::from(self.looks.max(1));
        let unsure = 2.0 * self.range as f32 / n / 2.85 / n.sqrt();
        let most = self.spill.iter().max().map_or(0.0, |s| *s as f32 / n);
        most <= self.luma as f32 / n / 3.0 + unsure
    }

    /// It stands out by more than anything around, and the four pixels beside it stay dark: less than a sixth of it reaches them,
    /// where a lens, and a tone curve that lifts what is dark, bring a quarter at least.
    fn is_needle(&self) -> bool {
        let beside: i32 = AROUND.iter().zip(self.spill).filter(|((dx, dy), _)| dx * dy == 0).map(|(_, spill)| spill).sum();
        self.range <= self.luma && beside <= self.luma * 4 / 6
    }

    /// It is not there in too many views, or, while nobody can say that it belongs to the sensor, not even all the time in one.
    pub fn is_refuted(&self) -> bool {
        let elsewhere = self.against > WHOLE + self.proof / 6;
        let flickers = !self.known && self.missed >= 2 && self.missed > self.found;
        elsewhere || flickers || (self.known && (self.absent >= ABSENT || !self.is_sharp()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_view_that_missed_it_as_often_as_it_was_found_counts_against_it() {
        let mut record = Record { worth: WHOLE, found: 200, missed: 200, ..Record::default() };
        record.judge();
        assert_eq!((record.proof, record.against), (0, WHOLE));
    }
}
