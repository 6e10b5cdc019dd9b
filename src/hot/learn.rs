//! Owns the evidence: which pixels were seen to stand out, in how many views of the scene, and when that is enough. Sees one frame
//! now and then; never touches a ring, a clock or a disk. A plain value, stepped on the thread `hot-pixels`; allocates when it is made.
//!
//! A lamp, a star or a speck of the ground lies in the scene: when the scene moves, its light falls on another pixel. A hot pixel
//! stays. So evidence is counted in views: however often a pixel is found while nothing moves, that is one. A view in which it is not
//! found counts against it. A pixel whose neighbours glow with it is the middle of a lamp and never becomes known.

use super::ground::{AROUND, Luma};
use super::scene::{Change, Scene};
use super::{List, MAX, Spot};
use crate::clock::BootUs;
use crate::frame::Layout;

/// Evidence after which a pixel is known, and what a view counts that is new as a whole. One that is new in parts counts less, this much by
/// the square of their share: a text in the picture stays while all else moves. But so does a yard through which a car drives; so
/// less than a share of [`LITTLE`] counts nothing, and the pixel must also be so sharp that no lens could have drawn it.
const PROOF: u16 = 300;
const WHOLE: u16 = 30;
const PARTS: f32 = 80.0;
const LITTLE: f32 = 0.3;
/// Every so often (µs) half of the evidence for unknown pixels is forgotten: dusk and dawn give a camera that never moves new views
/// as well, four of them a day.
const FORGET: i64 = 3600 * 1_000_000;
/// Looks in one view after which it adds nothing more.
const ENOUGH: u8 = 8;
/// Sums are halved beyond so many looks, so that they follow the sensor's temperature.
const LOOKS: u16 = 64;
/// A known pixel that has not been found for so many looks goes: an hour of the night, at least.
const ABSENT: u16 = 1800;
/// Least that a pixel must stand out by (code values), and in how many deviations of the noise: to be noticed above the brightest of its
/// neighbours; at each later look, above their median and above the brightest of them; and on average, to become known.
const NOTICED: (f32, f32) = (6.0, 3.0);
const FOUND: (f32, f32) = (4.0, 2.5);
const ABOVE: f32 = 0.5;
const KNOWN: f32 = 3.5;

/// What is known of one pixel.
#[derive(Debug, Clone, Copy, Default)]
struct Record {
    x: u16,
    y: u16,
    known: bool,
    /// What the view under way counts.
    worth: u16,
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

/// See the module's first lines.
#[derive(Debug)]
pub struct Learner {
    layout: Layout,
    scene: Scene,
    records: Vec<Record>,
    fresh: Vec<(u16, u16)>,
    looks: usize,
    forgotten: BootUs,
}

impl Learner {
    /// For frames of this size.
    pub fn new(layout: Layout) -> Learner {
        Learner {
            layout,
            scene: Scene::new(layout.width as usize, layout.height as usize),
            records: Vec::with_capacity(MAX),
            fresh: Vec::with_capacity(MAX),
            looks: 0,
            forgotten: BootUs(0),
        }
    }

    /// Takes over what an earlier run knew.
    pub fn adopt(&mut self, list: &List) {
        for s in list.spots.iter().take(MAX - self.records.len()) {
            let mut record = Record { x: s.x, y: s.y, known: true, proof: PROOF, moved: PROOF, looks: 8, ..Record::default() };
            record.luma = 8 * i32::from(s.luma);
            record.chroma = [s.u, s.v].map(|c| (8 * i32::from(c), 8 * i32::from(c).pow(2)));
            self.records.push(record);
        }
    }

    /// The known pixels, by row and column.
    pub fn list(&self) -> List {
        let mut spots: Vec<Spot> = self.records.iter().filter(|r| r.known).map(Record::spot).collect();
        spots.sort_unstable();
        List { layout: self.layout, spots }
    }

    /// One dark frame: I420 of the size that this is for. Returns whether a pixel has become known or is known no more.
    pub fn look(&mut self, pixels: &[u8], now: BootUs) -> bool {
        let l = self.layout;
        let (width, height) = (l.width as usize, l.height as usize);
        let luma = Luma { data: &pixels[l.y()], stride: l.y_stride(), width, height };
        let chroma = [l.u(), l.v()].map(|plane| Luma {
            data: &pixels[plane],
            stride: l.c_stride(),
            width: width / 2,
            height: l.c_height(),
        });
        let noise = luma.noise();
        let worth = match self.scene.look(&luma, noise) {
            Change::None => 0,
            Change::Whole => WHOLE,
            Change::Part(share) if share < LITTLE => 0,
            Change::Part(share) => ((PARTS * share * share) as u16).min(WHOLE - 1),
        };
        let mut changed = false;
        for record in &mut self.records {
            if worth > 0 {
                record.judge();
                changed |= !record.known && record.is_proven(noise);
                record.known |= record.is_proven(noise);
                record.worth = worth;
            }
            record.look(&luma, &chroma, noise);
        }
        if now.since(self.forgotten).as_micros() as i64 > FORGET {
            self.forgotten = now;
            for record in self.records.iter_mut().filter(|r| !r.known) {
                record.halve();
            }
        }
        self.records.retain(|r| {
            changed |= r.known && r.is_refuted();
            !r.is_refuted()
        });
        self.notice(&luma, noise);
        self.looks += 1;
        changed
    }

    /// Adds pixels that stand out and are not watched yet. Each look begins in another row, so that where there are too many, all get
    /// their turn.
    fn notice(&mut self, luma: &Luma<'_>, noise: f32) {
        let margin = NOTICED.0.max(NOTICED.1 * noise).ceil() as i32;
        let room = MAX - self.records.len();
        self.records.sort_unstable_by_key(|r| (r.y, r.x));
        self.fresh.clear();
        let (records, fresh) = (&self.records, &mut self.fresh);
        let first = self.looks * 331 % luma.height;
        luma.peaks(margin, first, &mut |x, y| {
            let at = (x as u16, y as u16);
            if records.binary_search_by_key(&(at.1, at.0), |r| (r.y, r.x)).is_err() && fresh.len() < room {
                fresh.push(at);
            }
            fresh.len() < room
        });
        for (x, y) in &self.fresh {
            let g = luma.ground((*x).into(), (*y).into());
            let luma = g.own - g.median;
            self.records.push(Record {
                x: *x,
                y: *y,
                worth: 1,
                found: 1,
                looks: 1,
                luma,
                range: 2 * (g.median - g.least),
                ..Record::default()
            });
        }
    }
}

impl Record {
    fn spot(&self) -> Spot {
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

    fn look(&mut self, luma: &Luma<'_>, chroma: &[Luma<'_>; 2], noise: f32) {
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
    fn judge(&mut self) {
        let (found, missed) = (std::mem::take(&mut self.found), std::mem::take(&mut self.missed));
        if found > 2 * missed {
            self.proof = self.proof.saturating_add(self.worth);
            self.moved = self.moved.saturating_add(if self.worth == WHOLE { WHOLE } else { 0 });
        } else if missed > 0 && missed >= found {
            self.against = self.against.saturating_add(self.worth);
        }
        if self.proof > 4 * PROOF {
            self.halve();
        }
    }

    fn halve(&mut self) {
        (self.proof, self.moved, self.against) = (self.proof / 2, self.moved / 2, self.against / 2);
    }

    /// Where it stayed while the whole scene moved, its neighbours must not glow with it by more than a third, which is what the reckoning of
    /// colour from the sensor's mosaic may spread. Without that they must not glow at all.
    fn is_proven(&self, noise: f32) -> bool {
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
    fn is_refuted(&self) -> bool {
        let elsewhere = self.against > WHOLE + self.proof / 6;
        let flickers = !self.known && self.missed >= 2 && self.missed > self.found;
        elsewhere || flickers || (self.known && (self.absent >= ABSENT || !self.is_sharp()))
    }
}
