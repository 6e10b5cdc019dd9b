//! Owns what is deleted: the free-space floor, and how many bytes and seconds of each kind of picture are kept, or of those with
//! a tag that has bounds of its own.
//! Deletes only regular files whose names are ours, oldest first, never a link or a foreign file. Does not encode or write.
//! Runs on the thread `retention` alone.
//!
//! Memory stays flat however many pictures there are: per kind and such tag a byte count and the [`SHELF`] oldest files. The folder is
//! read at the start, when a shelf runs empty, when a file was found deleted by somebody else, and at most once an hour
//! before something is deleted. Where nothing is limited it is read once, at the start, for stale unfinished files.

use std::collections::{BinaryHeap, VecDeque};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use nix::sys::statvfs::Statvfs;

use super::age::{Ages, Present};
use super::retention::Shared;
use super::{Format, Keep, KeepKind, name};
use crate::clock::{BootUs, Clock, SystemClock, WallUs};
use crate::disk::{self, Names, Step};
use crate::error::{Error, Result};

/// Oldest files remembered per kind: about 25 kB each.
const SHELF: usize = 256;

/// Kinds of files.
const KINDS: usize = Format::KEPT.len();

/// Longest trust in a count that somebody else's deleting may have made wrong.
const TRUST: Duration = Duration::from_secs(3600);

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Entry {
    modified: SystemTime,
    name: String,
    bytes: u64,
}

/// A file that is in the folder since a moment.
pub(super) struct Written {
    /// What it is.
    pub format: Format,
    /// Its name.
    pub name: String,
    /// Its size (bytes).
    pub bytes: u64,
}

/// The files of one kind, or with one tag.
#[derive(Debug, Default)]
struct Stock {
    /// Of all of them.
    bytes: u64,
    /// The oldest, oldest first.
    oldest: VecDeque<Entry>,
    /// There are younger ones beyond `oldest`.
    more: bool,
}

/// The rules, and what is known of the folder.
pub(super) struct RetentionKeeper {
    dir: PathBuf,
    rules: Keep,
    /// Of each kind, and behind them of each tag with bounds of its own.
    stocks: Vec<Stock>,
    /// When the folder was read; `None` = what is known is wrong.
    scanned: Option<BootUs>,
    /// Youngest modification time seen.
    newest: SystemTime,
    ages: Ages,
    /// When what is certain of the time was last written down; `None` where nothing is.
    remembered: Option<BootUs>,
    /// What could not be written last for want of room (bytes).
    coming: u64,
    /// Deleted since that was told last: files, and their bytes.
    deleted: (u64, u64),
    /// Files on their way into the count.
    shared: Arc<Shared>,
    names: Names,
}

impl Keep {
    /// The floor of free space on this disk (bytes).
    pub(super) fn floor(&self, disk: &Statvfs) -> u64 {
        self.min_free_mib.saturating_mul(1 << 20).max(disk::size_of(disk) / 100 * u64::from(self.min_free_percent))
    }

    /// Whether there is a floor.
    pub(super) fn has_floor(&self) -> bool {
        self.min_free_mib > 0 || self.min_free_percent > 0
    }

    fn bounds(&self) -> impl Iterator<Item = &KeepKind> {
        self.kinds.iter().map(|(_, k)| k).chain(self.tags.iter().map(|(_, k)| k))
    }

    /// The largest age that is allowed, if any is.
    pub(super) fn longest(&self) -> Option<Duration> {
        self.bounds().filter_map(|k| k.max_age_s).max().map(Duration::from_secs)
    }

    pub(super) fn limited(&self) -> bool {
        self.has_floor() || self.bounds().any(|k| k.max_bytes.is_some() || k.max_age_s.is_some())
    }

    /// The place of a file among the stocks.
    fn place(&self, format: Format, name: &str) -> usize {
        let tag = self.tags.iter().position(|(tag, _)| name::has_tag(name, tag));
        tag.map_or(format as usize, |tag| KINDS + tag)
    }

    /// Nothing yet, of all that have bounds.
    fn empty(&self) -> Vec<Stock> {
        (0..KINDS + self.tags.len()).map(|_| Stock::default()).collect()
    }
}

impl RetentionKeeper {
    /// Nothing is known of `dir` yet.
    pub fn new(dir: PathBuf, rules: Keep, ages: Ages, shared: Arc<Shared>, names: Names) -> RetentionKeeper {
        let (stocks, newest) = (rules.empty(), SystemTime::UNIX_EPOCH);
        RetentionKeeper {
            dir,
            rules,
            stocks,
            scanned: None,
            newest,
            ages,
            remembered: None,
            coming: 0,
            deleted: (0, 0),
            shared,
            names,
        }
    }

    /// What the clocks have shown so far, for another folder.
    pub fn ages(&self) -> Ages {
        self.ages.elsewhere()
    }

    /// Looks at the clocks, and reads the folder first if that has not been done. Why the bounds by age rest, if they do.
    pub fn present(&mut self, clock: &dyn Clock) -> (Present, Option<String>) {
        let Some(longest) = self.rules.longest() else {
            return (self.ages.look(clock, Duration::MAX).0, None);
        };
        self.front(0);
        let start = self.ages.start();
        let (mut present, mut why) = self.ages.look(clock, longest);
        if self.ages.start() != start {
            self.scanned = None;
            self.front(0);
            (present, why) = self.ages.look(clock, longest);
        }
        self.remember(clock.boot(), present, why.is_some());
        (present, why)
    }

    /// While the clock is doubted, leaves once an hour what is certain to the next start; takes it away when that is over.
    fn remember(&mut self, now: BootUs, present: Present, doubted: bool) {
        let (path, certain) = (self.dir.join(name::CERTAIN), present.certain());
        let done = match self.remembered {
            Some(at) if doubted && now.since(at) < TRUST => return,
            _ if doubted && certain.is_set() => disk::replace(&path, format!("{}\n", certain.0 / 1_000_000).as_bytes()),
            Some(_) if !doubted => Step::on("delete", &path).run(|| fs::remove_file(&path)),
            _ => return,
        };
        self.remembered = if doubted { Some(now) } else { None };
        if let Err(e) = done {
            log::debug!("export: {}", disk::error("write", &path, e));
        }
    }

    /// What [`Self::remember`] left.
    fn recall(&mut self) {
        let path = self.dir.join(name::CERTAIN);
        let text = Step::on("read", &path).run(|| disk::read_text(&path, disk::SMALL)).unwrap_or_default();
        if let Ok(s) = text.trim_end().parse::<u32>() {
            self.ages.recall(WallUs(i64::from(s) * 1_000_000));
            self.remembered = Some(BootUs(0));
        }
    }

    /// Removes unfinished files of a previous run and, if anything is limited, counts.
    pub fn take_over(&mut self, start: bool) -> Result<()> {
        self.sweep(start)?;
        self.recall();
        if self.rules.limited() { self.scan() } else { Ok(()) }
    }

    /// What must be free on this disk: the floor, and what could not be written last (bytes).
    pub fn need(&self, disk: &Statvfs) -> u64 {
        self.rules.floor(disk).saturating_add(self.coming)
    }

    /// Youngest modification time seen.
    pub fn newest(&self) -> SystemTime {
        self.newest
    }

    /// The folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Somebody has deleted a file: the count is no longer true.
    pub fn forget(&mut self) {
        self.scanned = None;
    }

    /// New rules for the same folder.
    pub fn set_rules(&mut self, rules: Keep) {
        self.stocks = rules.empty();
        self.rules = rules;
        self.scanned = None;
    }

    fn each_name(&self, mut see: impl FnMut(&fs::DirEntry, &str) -> io::Result<()>) -> Result<()> {
        let mut walk = || {
            let step = Step::begin("read the folder", &self.dir);
            for entry in fs::read_dir(&self.dir)? {
                step.next();
                let entry = entry?;
                if self.shared.is_closed() {
                    return Err(io::ErrorKind::Interrupted.into());
                }
                if let Some(name) = entry.file_name().to_str() {
                    see(&entry, name)?;
                }
            }
            Ok(())
        };
        walk().map_err(|e| disk::error("read the folder", &self.dir, e))
    }

    fn sweep(&self, start: bool) -> Result<()> {
        let own = format!(".{}-", std::process::id());
        self.each_name(|entry, name| {
            let of_another = start || !name.contains(&own);
            if name::temporary(name) && of_another && !disk::in_work(&entry.path()) && !entry.file_type()?.is_dir() {
                log::info!("export: removing {name}, left unfinished by a previous run");
                if let Err(e) = fs::remove_file(entry.path()) {
                    log::warn!("export: {}", disk::error("remove", &entry.path(), e));
                }
            }
            Ok(())
        })
    }

    fn scan(&mut self) -> Result<()> {
        let mut stocks = self.rules.empty();
        let mut heaps: Vec<BinaryHeap<Entry>> = stocks.iter().map(|_| BinaryHeap::new()).collect();
        let (mut newest, mut ages) = (SystemTime::UNIX_EPOCH, self.ages.clone());
        self.each_name(|entry, name| {
            let Some(format) = name::ours(name) else { return Ok(()) };
            // In this order: the name is free again only when the file waits to be counted.
            if self.names.has(&entry.path()) || self.shared.will_be_counted(name) {
                return Ok(());
            }
            let meta = match entry.metadata() {
                Ok(meta) => meta,
                Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
                Err(e) => return Err(e),
            };
            if !meta.is_file() {
                return Ok(());
            }
            let (place, modified) = (self.rules.place(format, name), meta.modified()?);
            let (heap, stock) = (&mut heaps[place], &mut stocks[place]);
            newest = newest.max(modified);
            // Not the modification time, which copying and `touch` set at will.
            ages.witness(WallUs(meta.ctime().saturating_mul(1_000_000)));
            stock.bytes += meta.len();
            heap.push(Entry { modified, name: name.to_owned(), bytes: meta.len() });
            if heap.len() > SHELF {
                heap.pop();
                stock.more = true;
            }
            Ok(())
        })?;
        for (stock, heap) in stocks.iter_mut().zip(heaps) {
            stock.oldest = heap.into_sorted_vec().into();
        }
        (self.stocks, self.newest, self.ages) = (stocks, newest, ages);
        self.scanned = Some(SystemClock.boot());
        Ok(())
    }

    /// Reads the folder again when what is known may be wrong.
    fn refresh(&mut self) -> Result<()> {
        match self.scanned {
            Some(at) if SystemClock.boot().since(at) < TRUST => Ok(()),
            _ => self.scan(),
        }
    }

    /// Before a write of so many bytes: deletes our oldest pictures until the floor will hold. When even all of them would not do,
    /// nothing is deleted and the error says so.
    pub fn make_room(&mut self, coming: u64) -> Result<()> {
        self.coming = if self.rules.has_floor() { coming } else { 0 };
        loop {
            let disk = disk::ask(&self.dir).map_err(|e| disk::error("measure the free space of", &self.dir, e))?;
            let (free, need) = (disk::free_of(&disk), self.need(&disk));
            if free >= need {
                break;
            }
            self.refresh()?;
            let fronts = (0..self.stocks.len()).map(|k| self.front(k).map(|e| (e.modified, k)));
            let oldest = fronts.flatten().min().map(|(_, k)| k);
            let held: u64 = self.stocks.iter().map(|s| s.bytes).sum();
            let Some(place) = oldest.filter(|_| free + held >= need) else {
                return Err(Error::of_disk("full", self.no_room(&disk, held)));
            };
            self.remove_front(place)?;
        }
        self.coming = 0;
        Ok(())
    }

    /// Why so little free space is too little, where not even deleting everything would do.
    pub fn shortfall(&self, disk: &Statvfs) -> Option<String> {
        let held: u64 = self.stocks.iter().map(|s| s.bytes).sum();
        (self.scanned.is_some() && disk::free_of(disk) + held < self.need(disk)).then(|| self.no_room(disk, held))
    }

    fn no_room(&self, disk: &Statvfs, held: u64) -> String {
        let (dir, floor, free) = (self.dir.display(), self.rules.floor(disk), disk::free_of(disk));
        let beside =
            if free < floor { String::new() } else { format!(" beside a file of {:.1} MiB", self.coming as f64 / 1_048_576.0) };
        let (want, free, held) = (floor >> 20, free >> 20, held >> 20);
        format!(
            "keep {want} MiB free in {dir}{beside}: only {free} MiB are, and deleting all {held} MiB of pictures would not do; \
             delete other files or lower export.min_free_mib"
        )
    }

    /// Counts new files.
    pub fn count(&mut self, written: Vec<Written>) {
        if !self.rules.limited() {
            return;
        }
        for Written { format, name, bytes } in written {
            let path = self.dir.join(&name);
            let stated = Step::on("look at", &path).run(|| fs::symlink_metadata(&path)).and_then(|m| m.modified());
            let modified = stated.unwrap_or_else(|_| SystemTime::now());
            self.newest = self.newest.max(modified);
            let stock = &mut self.stocks[self.rules.place(format, &name)];
            stock.bytes += bytes;
            stock.more |= stock.oldest.len() >= SHELF;
            if !stock.more {
                stock.oldest.push_back(Entry { modified, name, bytes });
            }
        }
    }

    /// Deletes what the limits no longer allow, except files called `spare`, for about as long as that. Whether there is more.
    pub fn tidy(&mut self, spare: &[&str], now: Present, until: Instant) -> Result<bool> {
        for place in 0..self.stocks.len() {
            while self.over_limit(place, spare, now) {
                if Instant::now() >= until {
                    return Ok(true);
                }
                // Somebody else may have deleted enough already.
                self.refresh()?;
                if !self.over_limit(place, spare, now) {
                    break;
                }
                self.remove_front(place)?;
            }
        }
        Ok(false)
    }

    /// Says how many files were deleted since that was said last.
    pub fn tell(&mut self) {
        let (files, bytes) = std::mem::take(&mut self.deleted);
        if files > 0 {
            let s = if files == 1 { "" } else { "s" };
            log::info!("Deleted {files} old file{s}, {:.1} MiB, from {}", bytes as f64 / 1_048_576.0, self.dir.display());
        }
    }

    /// Whether the oldest file of this kind or tag has to go.
    fn over_limit(&mut self, place: usize, spare: &[&str], now: Present) -> bool {
        let Some(rule) = self.rules.bounds().nth(place).copied() else { return false };
        if rule.max_bytes.is_none() && rule.max_age_s.is_none() {
            return false;
        }
        // First, as it may have to count anew.
        self.front(place);
        let stock = &self.stocks[place];
        let (bytes, Some(front)) = (stock.bytes, stock.oldest.front()) else { return false };
        if spare.contains(&front.name.as_str()) {
            return false;
        }
        let since_1970 = front.modified.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let age = now.age(WallUs(since_1970.as_micros() as i64)).as_secs();
        rule.max_bytes.is_some_and(|max| bytes > max) || rule.max_age_s.is_some_and(|max| age > max)
    }

    /// The oldest file of a kind or tag; reads the folder when the shelf has run empty.
    fn front(&mut self, place: usize) -> Option<&Entry> {
        if (self.stocks[place].oldest.is_empty() && self.stocks[place].more) || self.scanned.is_none() {
            match self.scan() {
                Err(e) if !self.shared.is_closed() => log::warn!("export: {e}"),
                _ => {}
            }
        }
        self.stocks[place].oldest.front()
    }

    fn remove_front(&mut self, place: usize) -> Result<()> {
        let stock = &mut self.stocks[place];
        let Some(entry) = stock.oldest.pop_front() else { return Ok(()) };
        let path = self.dir.join(&entry.name);
        let step = Step::on("delete", &path);
        let removed = match step.run(|| fs::symlink_metadata(&path)) {
            // Put there by somebody since the folder was read; not ours.
            Ok(m) if !m.is_file() => Ok(()),
            Ok(_) => step.run(|| fs::remove_file(&path)),
            Err(e) => Err(e),
        };
        match removed {
            Ok(()) => {
                log::debug!("export: deleted {} ({} bytes)", entry.name, entry.bytes);
                self.deleted = (self.deleted.0 + 1, self.deleted.1 + entry.bytes);
                stock.bytes = stock.bytes.saturating_sub(entry.bytes);
                Ok(())
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                self.scanned = None;
                Ok(())
            }
            Err(e) => {
                self.scanned = None;
                Err(disk::error("delete the old picture", &path, e))
            }
        }
    }
}

#[cfg(test)]
mod tests;
