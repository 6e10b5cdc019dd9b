//! Owns how a recording gets into the folder: under a hidden name while it grows, under its own when it is whole, and mended
//! after a crash; and the list of files, and the deleting of one by its name. Never encodes. Blocks for as long as the disk does.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use super::keep::Written;
use super::{Exporter, Format, Tag, mend, name};
use crate::claim;
use crate::clock::{BootUs, WallUs};
use crate::disk::{self, Name, Names, Step, numbered};
use crate::error::{Error, Kind, Result};

/// A recording under way. Dropped without [`Film::finish`], it stays as it is, for the next start to mend.
pub struct Film {
    exporter: Arc<Exporter>,
    dir: PathBuf,
    stem: String,
    part: PathBuf,
    wall: WallUs,
    step: Step,
}

/// A file of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its name, without a folder.
    pub name: String,
    /// Size (bytes).
    pub bytes: u64,
    /// When it was written.
    pub modified: SystemTime,
}

impl Film {
    /// A name for a recording that begins with this frame, and an empty file of it. Makes room and the folder first.
    pub fn begin(exporter: &Arc<Exporter>, wall: WallUs, boot: BootUs, id: u64, tag: Option<&Tag>) -> Result<Film> {
        let dir = exporter.settings().dir.clone();
        if let Err(e) = exporter.make_room() {
            if !disk::is_gone(&e) {
                return Err(e);
            }
            disk::make_folder(&dir)?;
        }
        let first = name::stem_of(wall, boot, id, tag);
        let mut n = 1;
        loop {
            let file = format!("{}.mp4", numbered(&first, n));
            let part = dir.join(name::part(&file));
            // In the list of what is in work before it is there, or it would be mended as left over.
            let step = Step::on("write the recording", &part);
            let taken = step.run(|| fs::symlink_metadata(dir.join(file)).is_ok());
            match step.run(|| OpenOptions::new().write(true).create_new(true).open(&part)) {
                Ok(_) if !taken => return Ok(Film { exporter: exporter.clone(), dir, stem: first, part, wall, step }),
                // The name is somebody else's, so the file just made is not needed.
                Ok(_) => drop(step.run(|| fs::remove_file(&part))),
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                Err(e) => return Err(disk::error("begin the recording", &part, e)),
            }
            n += 1;
        }
    }

    /// The file to write into.
    pub fn part(&self) -> &Path {
        &self.part
    }

    /// Runs one step of writing into it, so that others see how long the disk takes.
    pub fn step<T>(&self, f: impl FnOnce() -> T) -> T {
        self.step.run(f)
    }

    /// Size so far (bytes).
    pub fn bytes(&self) -> u64 {
        self.step(|| fs::metadata(&self.part).map_or(0, |m| m.len()))
    }

    /// Gives the whole file its name, once all of it is on the medium, and lets old files go for it.
    pub fn finish(self) -> Result<PathBuf> {
        // What lies on a disk that was taken away is mended when it is back.
        let home = self.exporter.home.check(&self.dir).inspect_err(|_| self.exporter.retention.look());
        home.map_err(|e| Error { what: format!("keep the recording {}: {}", self.name(), e.what), ..e })?;
        if self.wall.is_set() {
            if let Err(e) = self.step(|| mend::date(&self.part, self.wall)) {
                log::warn!("export: {}", disk::error("write the start's time into", &self.part, e));
            }
        }
        let (path, _name) = settle(&self.exporter.names, &self.dir, &self.part, &self.stem)?;
        // A clip may be larger than what was free above the floor. Where no room can be made, the next file's answer says it.
        let _ = self.exporter.make_room();
        self.exporter.note_film(&path);
        Ok(path)
    }

    /// The name it will have unless that is taken meanwhile.
    pub fn name(&self) -> String {
        let part = self.part.file_name().and_then(|n| n.to_str()).unwrap_or_default();
        name::of_part(part).map_or_else(String::new, |(name, _)| name.to_owned())
    }

    /// Makes of a file that could not be ended what the next start would make of it.
    pub fn salvage(self) -> Result<PathBuf> {
        match self.step(|| mend::mend(&self.part)) {
            Ok(0) => {
                let what = format!("keep the recording {}: it holds no whole half second", self.name());
                self.discard();
                Err(Error::new(Kind::Disk, what))
            }
            Ok(_) => self.finish(),
            Err(e) => Err(disk::error("mend the recording", &self.part, e)),
        }
    }

    /// Removes the file: nothing came of it.
    pub fn discard(self) {
        // What cannot be removed now is mended or removed at the next start.
        let _ = self.step(|| fs::remove_file(&self.part));
    }
}

/// Syncs a file and gives it the first free name of `stem`. The name stays reserved until the file is counted.
fn settle(names: &Names, dir: &Path, part: &Path, stem: &str) -> Result<(PathBuf, Name)> {
    let sync = || File::open(part).and_then(|f| f.sync_all());
    Step::on("sync", part).run(sync).map_err(|e| disk::error("sync the recording", part, e))?;
    let mut name = names.first(dir, stem.to_owned(), vec!["mp4"]);
    loop {
        let path = dir.join(name.file("mp4"));
        match Step::on("name", &path).run(|| disk::rename_new(part, &path)) {
            Ok(()) => {
                disk::sync_folder(dir).map_err(|e| disk::error("make the names durable in", dir, e))?;
                return Ok((path, name));
            }
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => name.next(),
            Err(e) => return Err(disk::error("name the recording", &path, e)),
        }
    }
}

/// Finishes what a crash left in `dir`: makes a plain file of what is whole in each recording and gives it its name; one
/// without a whole half second is removed. So with what this process could not finish because the disk was gone.
pub(super) fn tidy(names: &Names, dir: &Path, closed: &dyn Fn() -> bool) -> Result<()> {
    let reading = Step::begin("read the folder", dir);
    let entries = fs::read_dir(dir).map_err(|e| disk::error("read the folder", dir, e))?;
    // Where the folder is this process's own, whoever has a number from before a crash now is somebody else.
    let ours = claim::has(dir);
    // Files only: a link with such a name may lead anywhere.
    let files = entries.filter_map(std::io::Result::ok).filter(|e| e.file_type().is_ok_and(|t| t.is_file()));
    for part in files.filter_map(|e| e.file_name().into_string().ok()) {
        reading.next();
        if closed() {
            return Ok(());
        }
        let Some((name, pid)) = name::of_part(&part) else { continue };
        let own = pid == std::process::id();
        if !own && !ours && is_pastcam(pid) {
            log::info!("export: {part} is left alone: process {pid} still writes it");
            continue;
        }
        let at = dir.join(&part);
        if disk::in_work(&at) {
            continue;
        }
        let stem = name.strip_suffix(".mp4").unwrap_or(name);
        let done = match mend::mend(&at) {
            Ok(0) => fs::remove_file(&at).map(|()| None).map_err(|e| disk::error("remove", &at, e)),
            Ok(_) => settle(names, dir, &at, stem).map(|(path, _)| Some(path)),
            // This process has given it its name meanwhile.
            Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
            Err(e) => Err(disk::error("mend the recording", &at, e)),
        };
        match done {
            Ok(Some(path)) => log::info!("export: {} was left unfinished and is mended", path.display()),
            Ok(None) => log::info!("export: {part} was left unfinished and held no picture yet; removed"),
            Err(e) => log::warn!("export: {e}"),
        }
    }
    Ok(())
}

/// Whether this process runs and is a pastcam: then it is another camera that shares a folder which cannot be claimed.
fn is_pastcam(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // `17 (pastcam) S …`; Z: it has ended, and nobody has asked how.
    stat.split_once(" (pastcam) ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

impl Exporter {
    /// Lets the oldest files go until the free-space floor holds; fails where that is not enough, or where the folder has come to
    /// lie on another disk.
    pub fn make_room(&self) -> Result<()> {
        let dir = self.settings().dir.clone();
        self.home.check(&dir).and_then(|()| self.retention.make_room(&dir, 0)).inspect_err(|_| self.retention.look())
    }

    fn note_film(&self, path: &Path) {
        let bytes = Step::on("look at", path).run(|| fs::metadata(path).map_or(0, |m| m.len()));
        let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default().to_owned();
        if let Some(dir) = path.parent() {
            self.retention.wrote(dir, [Written { format: Format::Mp4, name, bytes }].into_iter());
        }
    }

    /// Our files of these kinds, newest first, at most `last` of them.
    pub fn list(&self, kinds: &[Format], last: usize) -> Result<Vec<Listed>> {
        let dir = self.settings().dir.clone();
        self.home.check(&dir)?;
        let step = Step::begin("read the folder", &dir);
        let entries = fs::read_dir(&dir).map_err(|e| disk::error("read the folder", &dir, e))?;
        let mut newest = std::collections::BinaryHeap::new();
        for entry in entries.flatten() {
            step.next();
            let Ok(name) = entry.file_name().into_string() else { continue };
            if !name::ours(&name).is_some_and(|f| kinds.contains(&f)) {
                continue;
            }
            // Deleted meanwhile, or a link: not listed.
            let Ok(meta) = entry.metadata() else { continue };
            let Ok(modified) = meta.modified() else { continue };
            if meta.is_file() {
                newest.push(std::cmp::Reverse((modified, name, meta.len())));
                if newest.len() > last {
                    newest.pop();
                }
            }
        }
        let listed = |std::cmp::Reverse((modified, name, bytes))| Listed { name, bytes, modified };
        // Ascending in `Reverse` is newest first.
        Ok(newest.into_sorted_vec().into_iter().map(listed).collect())
    }

    /// Deletes the file of this name, which must be one that this program gives; no path reaches the disk.
    pub fn delete(&self, name: &str) -> Result<()> {
        if name::ours(name).is_none() {
            return Err(Error::new(Kind::Usage, format!("delete {name}: no name of a file of this program; see files")));
        }
        let path = self.settings().dir.join(name);
        self.home.check(&self.settings().dir)?;
        let step = Step::begin("delete", &path);
        let meta = fs::symlink_metadata(&path).map_err(|e| match e.kind() {
            io::ErrorKind::NotFound => Error::new(Kind::Usage, format!("delete {name}: there is no such file; see files")),
            _ => disk::error("delete", &path, e),
        })?;
        if !meta.is_file() {
            return Err(Error::new(Kind::Usage, format!("delete {name}: it is not a file")));
        }
        step.next();
        fs::remove_file(&path).map_err(|e| disk::error("delete", &path, e))?;
        self.retention.deleted();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::super::Settings;
    use super::*;
    use crate::disk::tests::Scratch;

    fn boxed(kind: [u8; 4], content: usize) -> Vec<u8> {
        let mut b = ((content + 8) as u32).to_be_bytes().to_vec();
        b.extend(kind);
        b.resize(content + 8, 7);
        b
    }

    #[test]
    fn what_a_crash_left_is_cut_behind_its_last_index() {
        let dir = Scratch::new("mend");
        let whole =
            [boxed(*b"ftyp", 8), boxed(*b"mdat", 100), boxed(*b"moov", 50), boxed(*b"mdat", 90), boxed(*b"moof", 20)].concat();
        let torn = [whole.clone(), boxed(*b"mdat", 500)[..300].to_vec()].concat();
        // No process has this number: it is larger than Linux gives.
        let at = |name: &str| dir.join(format!(".{name}.mp4.999999999.part"));
        fs::write(at("20261120_083408_f1"), &torn).unwrap();
        fs::write(at("20261120_083408_f2"), &whole[..60]).unwrap();
        fs::write(at("20261120_083408_f3"), [whole.clone(), boxed(*b"mdat", 30), vec![0, 0]].concat()).unwrap();
        fs::write(dir.join("20261120_083408_f3.mp4"), "another").unwrap();
        fs::write(dir.join(".mine.mp4.5.part"), "foreign").unwrap();
        let link = ".20261120_083408_f4.mp4.999999999.part";
        fs::write(dir.join("elsewhere"), &torn).unwrap();
        std::os::unix::fs::symlink("elsewhere", dir.join(link)).unwrap();
        // What bears this process's number is left alone while it is in work, under whatever path.
        let own = format!(".20260101_000000_f9.mp4.{}.part", std::process::id());
        fs::write(dir.join(&own), &whole[..60]).unwrap();
        let step = Step::on("write the recording", &Path::new("/another/path").join(&own));
        tidy(&Names::default(), &dir, &|| true).unwrap();
        assert_eq!(dir.names().len(), 8, "an end under way leaves everything: {:?}", dir.names());
        tidy(&Names::default(), &dir, &|| false).unwrap();
        assert!(dir.join(&own).exists());
        drop(step);
        tidy(&Names::default(), &dir, &|| false).unwrap();
        let films = ["20261120_083408_f1.mp4", "20261120_083408_f3.mp4", "20261120_083408_f3_002.mp4"];
        assert_eq!(dir.names(), [&[link, ".mine.mp4.5.part"], &films[..], &["elsewhere"]].concat());
        assert_eq!(fs::read(dir.join("elsewhere")).unwrap(), torn, "a link's target is not ours");
        for name in ["20261120_083408_f1.mp4", "20261120_083408_f3_002.mp4"] {
            assert_eq!(fs::read(dir.join(name)).unwrap(), whole);
        }
    }

    #[test]
    fn a_recording_appears_when_it_is_finished_and_never_replaces() {
        let dir = Scratch::new("film");
        let exporter = Arc::new(Exporter::new(Settings::new(&*dir)).unwrap());
        let tag = Tag::new("gate").unwrap();
        let begin = || Film::begin(&exporter, WallUs(0), BootUs(5_000_000), 7, Some(&tag)).unwrap();
        let (a, b, c) = (begin(), begin(), begin());
        assert!(dir.names().iter().all(|n| n.starts_with('.')), "{:?}", dir.names());
        fs::write(a.part(), "aa").unwrap();
        assert_eq!(a.bytes(), 2);
        assert_eq!(a.finish().unwrap(), dir.join("noclock_0000005_f00000007_gate.mp4"));
        assert_eq!(b.finish().unwrap(), dir.join("noclock_0000005_f00000007_gate_002.mp4"));
        c.discard();
        assert_eq!(dir.names().len(), 2);
    }

    #[test]
    fn files_are_listed_newest_first_and_only_ours_are_deleted() {
        let dir = Scratch::new("files");
        let exporter = Exporter::new(Settings::new(&*dir)).unwrap();
        for (n, name) in
            ["20261120_083408_f1.jpg", "20261120_083409_f2.mp4", "20261120_083410_f3.jpg", "holiday.jpg"].iter().enumerate()
        {
            fs::write(dir.join(name), "x".repeat(n + 1)).unwrap();
            let file = File::options().write(true).open(dir.join(name)).unwrap();
            file.set_modified(SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(n as u64)).unwrap();
        }
        symlink("holiday.jpg", dir.join("20261120_083411_f4.jpg")).unwrap();
        let names = |kinds: &[Format], last| exporter.list(kinds, last).unwrap().into_iter().map(|l| l.name).collect::<Vec<_>>();
        assert_eq!(names(&Format::KEPT, 9), ["20261120_083410_f3.jpg", "20261120_083409_f2.mp4", "20261120_083408_f1.jpg"]);
        assert_eq!(names(&[Format::Jpg], 1), ["20261120_083410_f3.jpg"]);
        for bad in ["holiday.jpg", "../x/20261120_083408_f1.jpg", "20261120_083411_f4.jpg", "20261120_083499_f9.jpg", "", "."] {
            assert_eq!(exporter.delete(bad).unwrap_err().kind, Kind::Usage, "{bad}");
        }
        exporter.delete("20261120_083409_f2.mp4").unwrap();
        assert!(!dir.join("20261120_083409_f2.mp4").exists() && dir.join("holiday.jpg").exists());
    }
}
