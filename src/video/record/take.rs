//! Owns the files of one recording or clip while they grow: when another one begins, which pictures are missing, and what it all
//! comes to. Never asks the ring or the hub. Runs on the threads `recorder` and `clip`, which may wait for the disk.

use std::path::PathBuf;
use std::sync::atomic::Ordering::Relaxed;

use super::super::access_unit::AccessUnit;
use super::super::mp4::Mp4Writer;
use super::Parts;
use crate::clock::BootUs;
use crate::error::Result;
use crate::events::{By, Ended, Event, Moment};
use crate::export::{Film, Tag};
use crate::threads;

/// What became of a recording or a clip.
#[derive(Debug, Clone)]
pub struct Recorded {
    /// The last of its files, absolute.
    pub file: PathBuf,
    /// How many files it became.
    pub files: u32,
    /// From the first picture to the last, all files together (s).
    pub seconds: f64,
    /// Pictures in all files.
    pub pictures: u64,
    /// How long the pictures that are missing between two others would have lasted (s).
    pub lost_s: f64,
    /// Why it ended.
    pub ended: Ended,
    /// The sentence to that, where it ended by itself and too early; else empty.
    pub why: String,
}

/// One file while it grows.
struct Segment {
    film: Film,
    mp4: Mp4Writer,
    size: Option<(i32, i32)>,
    first: Moment,
    last: Moment,
}

fn moment(unit: &AccessUnit) -> Moment {
    Moment { boot: BootUs(unit.time().useconds()), wall: unit.wall }
}

impl Segment {
    fn begin(parts: &Parts, unit: &AccessUnit, tag: Option<&Tag>) -> Result<Segment> {
        let first = moment(unit);
        let film = Film::begin(&parts.exporter, unit.wall, first.boot, unit.id, tag)?;
        let mp4 = film.step(|| Mp4Writer::begin(film.part(), unit, unit.wall, tag.map(Tag::as_str)))?;
        Ok(Segment { film, mp4, size: unit.size(), first, last: first })
    }

    /// Whether this unit can follow in the same file: players follow other parameter sets, but not another size.
    fn goes_on_with(&self, unit: &AccessUnit) -> bool {
        !unit.keyframe || unit.size() == self.size
    }

    fn write(&mut self, unit: &AccessUnit) -> Result<()> {
        let Segment { film, mp4, .. } = self;
        film.step(|| mp4.write(unit))?;
        self.last = moment(unit);
        Ok(())
    }

    fn finish(self) -> Result<PathBuf> {
        let Segment { film, mp4, .. } = self;
        match film.step(|| mp4.finish()) {
            Ok(()) => film.finish(),
            Err(e) => {
                log::warn!("Recording: {e}; what is whole is kept");
                film.salvage()
            }
        }
    }
}

/// See the module's first lines.
pub(super) struct Take<'a> {
    parts: &'a Parts,
    by: By,
    tag: Option<&'a Tag>,
    segment: Option<Segment>,
    /// The last file that is whole.
    file: Option<PathBuf>,
    files: u32,
    pictures: u64,
    /// Instants of the first and the last picture.
    span: Option<(BootUs, BootUs)>,
    gaps: Gaps,
}

/// Which frames are missing, by their numbers.
#[derive(Default)]
struct Gaps {
    /// Number and instant of the first and of the newest frame.
    seen: Option<[(u64, BootUs); 2]>,
    lost: u64,
    lost_us: u64,
}

impl Gaps {
    /// Frames are numbered without gaps. The missing ones lay evenly between two others, and no further apart than the rest: while the
    /// camera is away, the grey picture is there.
    fn see(&mut self, id: u64, at: BootUs) {
        let [first, newest] = *self.seen.get_or_insert([(id, at); 2]);
        if id <= newest.0 {
            return;
        }
        let (missing, us) = (id - newest.0 - 1, |later: BootUs, earlier| later.since(earlier).as_micros() as u64);
        let usual = us(newest.1, first.1).checked_div(newest.0 - first.0).unwrap_or(u64::MAX);
        self.lost += missing;
        self.lost_us += (us(at, newest.1) / (missing + 1)).min(usual).saturating_mul(missing);
        self.seen = Some([first, (id, at)]);
    }
}

impl<'a> Take<'a> {
    pub(super) fn new(parts: &'a Parts, by: By, tag: Option<&'a Tag>) -> Take<'a> {
        let (segment, file, span) = (None, None, None);
        Take { parts, by, tag, segment, file, files: 0, pictures: 0, span, gaps: Gaps::default() }
    }

    /// Adds a unit, to a new file where it cannot follow in the present one or that one is `full` of so many seconds.
    pub(super) fn put(&mut self, unit: &AccessUnit, full: Option<f64>) -> Result<()> {
        let over = |s: &Segment| unit.keyframe && full.is_some_and(|full| s.mp4.seconds() >= full);
        if let Some(old) = self.segment.take_if(|s| !s.goes_on_with(unit) || over(s)) {
            self.finished(old)?;
        }
        let segment = match &mut self.segment {
            Some(segment) => segment,
            none => none.insert(Segment::begin(self.parts, unit, self.tag)?),
        };
        segment.write(unit)?;
        self.pictures += 1;
        if self.pictures == 20 {
            threads::fault("work");
        }
        let now = BootUs(unit.time().useconds());
        let (first, _) = *self.span.get_or_insert((now, now));
        self.span = Some((first, now));
        self.gaps.see(unit.id, now);
        Ok(())
    }

    /// Notes what is missing behind the last picture.
    pub(super) fn missed_until(&mut self, end: BootUs) {
        self.gaps.lost_us += self.span.map_or(0, |(_, last)| end.since(last).as_micros() as u64);
    }

    /// From the first picture to the last so far (s).
    pub(super) fn seconds(&self) -> f64 {
        self.span.map_or(0.0, |(first, last)| last.since(first).as_secs_f64())
    }

    /// Instant of the first picture.
    pub(super) fn first(&self) -> Option<BootUs> {
        self.span.map(|(first, _)| first)
    }

    /// Pictures that are missing so far.
    pub(super) fn lost(&self) -> u64 {
        self.gaps.lost
    }

    /// The name the present file will have, and its size so far (bytes).
    pub(super) fn present(&self) -> Option<(String, u64)> {
        self.segment.as_ref().map(|s| (s.film.name(), s.film.bytes()))
    }

    fn finished(&mut self, segment: Segment) -> Result<()> {
        let (first, last) = (segment.first, segment.last);
        let file = segment.finish()?;
        self.parts.gauges.saved.fetch_add(1, Relaxed);
        log::info!("Recorded {}, {:.1} s", file.display(), last.boot.since(first.boot).as_secs_f64());
        self.parts.events.publish(Event::Saved { files: vec![file.clone()], first, last, by: self.by });
        self.files += 1;
        self.file = Some(file);
        Ok(())
    }

    /// Makes the last file whole; `None` where there was never a picture. One that fails is an error unless there are others.
    pub(super) fn finish(mut self, ended: Ended) -> Option<Result<Recorded>> {
        if let Some(Err(e)) = self.segment.take().map(|segment| self.finished(segment)) {
            if self.files == 0 {
                return Some(Err(e));
            }
            log::warn!("Recording: {e}");
        }
        let (seconds, why) = (self.seconds(), String::new());
        let Take { files, pictures, .. } = self;
        let lost_s = self.gaps.lost_us as f64 / 1e6;
        self.file.map(|file| Ok(Recorded { file, files, seconds, pictures, lost_s, ended, why }))
    }

    /// Removes the file that is not whole yet.
    pub(super) fn discard(self) {
        if let Some(Segment { film, mp4, .. }) = self.segment {
            drop(mp4);
            film.discard();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_counted_once_and_in_time() {
        // Number and instant (s) of each picture; what is lost.
        let lost = |pictures: &[(u64, f64)]| {
            let mut gaps = Gaps::default();
            for (id, at) in pictures {
                gaps.see(*id, BootUs((at * 1e6) as u64));
            }
            (gaps.lost, gaps.lost_us)
        };
        assert_eq!(lost(&[(7, 1.0), (8, 1.5), (8, 1.75), (9, 2.0)]), (0, 0));
        assert_eq!(lost(&[(7, 1.0), (10, 2.5)]), (2, 1_000_000));
        // The newest picture was sent again before the next one came.
        assert_eq!(lost(&[(7, 1.0), (8, 1.5), (8, 3.25), (12, 3.5)]), (3, 1_500_000));
        // A minute of the grey picture, and one frame that never came.
        assert_eq!(lost(&[(7, 1.0), (8, 1.5), (8, 2.0), (8, 60.0), (10, 61.5)]), (1, 500_000));
    }
}
