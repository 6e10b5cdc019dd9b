//! Owns the evidence: which pixels were seen to stand out, in how many views of the scene, and when that is enough. Sees one frame
//! now and then; never touches a ring, a clock or a disk. A plain value, stepped on the thread `hot-pixels`; allocates when it is made.
//!
//! A lamp, a star or a speck of the ground lies in the scene: when the scene moves, its light falls on another pixel. A hot pixel
//! stays. So evidence is counted in views: however often a pixel is found while nothing moves, that is one. A view in which it is not
//! found counts against it. A pixel whose neighbours glow with it is the middle of a lamp and never becomes known.

use super::ground::Luma;
use super::record::{Record, WHOLE};
use super::scene::{Change, Scene};
use super::{List, MAX, Spot};
use crate::clock::BootUs;
use crate::frame::Layout;

/// What a view counts that is new in parts: this much by the square of their share. A text in the picture stays while all else moves.
/// But so does a yard through which a car drives; so less than a share of [`LITTLE`] counts nothing.
const PARTS: f32 = 80.0;
const LITTLE: f32 = 0.3;
/// Every so often (µs) half of the evidence for unknown pixels is forgotten: dusk and dawn give a camera that never moves new views
/// as well, four of them a day.
const FORGET: i64 = 3600 * 1_000_000;
/// Least that a pixel must stand out above the brightest of its neighbours to be noticed: code values, deviations of the noise.
const NOTICED: (f32, f32) = (6.0, 3.0);

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

    /// Takes over what an earlier run knew, beside what is known. What is not known yet will be noticed again.
    pub fn adopt(&mut self, list: &List) {
        self.records.retain(|r| r.known);
        let room = MAX - self.records.len();
        let known = self.list().spots;
        let new = list.spots.iter().filter(|s| known.binary_search_by_key(&(s.y, s.x), |k| (k.y, k.x)).is_err());
        self.records.extend(new.take(room).copied().map(Record::adopted));
    }

    /// The next frame is another exposure: it is compared with none before, and the view under way goes on.
    pub fn restart_scene(&mut self) {
        self.scene.restart();
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
        self.records.extend(self.fresh.iter().map(|at| Record::noticed(luma, *at)));
    }
}
