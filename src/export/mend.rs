//! Owns what a crash leaves of an MP4: cuts it behind its last index and writes one index over everything, so that it is as
//! plain as a file that was ended. Reads indexes and never pictures, copies nothing. Blocks for as long as the disk does.
//!
//! `mp4mux` writes half a second's pictures (`mdat`) and their index behind them: first a `moov`, then a `moof` each time. ffmpeg
//! plays such a file; VLC 3 shows no picture of it and `qtdemux` no time. The muxer itself turns it into a plain
//! one at the end: a `moov` for all behind it, and the first `mdat` made so large that the small indexes lie inside it.

use std::collections::HashSet;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;

use crate::clock::WallUs;

/// Seconds from 1904, where MP4 begins to count, to 1970.
const MP4_EPOCH: i64 = 2_082_844_800;
/// No index of half a second, and no first one, is larger (bytes).
const LARGEST: u64 = 4 << 20;
/// No recording has more pictures: a day at 60 a second. A damaged number must not take all memory there is.
const MOST: usize = 6 << 20;
/// A time further on than this is damage (ticks): it leaves room for calculating with it.
const LATEST: u64 = 1 << 40;

type Kind = [u8; 4];

/// One picture, or one packet of sound. A day at 25 a second takes 50 MiB of them, as it does in the muxer.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Sample {
    at: u64,
    /// In ticks of its track.
    time: u64,
    size: u32,
    key: bool,
}

#[derive(Debug, Default)]
struct Track {
    id: u32,
    /// Ticks a second.
    scale: u32,
    /// What a `moof` leaves out: ticks, bytes, flags.
    usual: [u32; 3],
    samples: Vec<Sample>,
    /// When the last sample ends (ticks).
    end: u64,
}

impl Track {
    /// Adds a sample that lasts so long and lies before `limit`, where its index ends; returns where it ends itself.
    fn push(&mut self, (at, size): (u64, u32), limit: u64, key: bool, ticks: u32) -> io::Result<u64> {
        if self.samples.len() >= MOST || self.end > LATEST {
            return Err(broken("more or later samples than any recording has"));
        }
        let end = at.checked_add(u64::from(size)).filter(|end| size > 0 && *end <= limit);
        let end = end.ok_or_else(|| broken("samples where there can be none"))?;
        self.samples.push(Sample { at, time: self.end, size, key });
        self.end += u64::from(ticks);
        Ok(end)
    }
}

/// Makes a plain file of what a crash left; how many bytes of it were of use, 0 where it holds no picture with an index.
pub(crate) fn mend(path: &Path) -> io::Result<u64> {
    let mut file = OpenOptions::new().read(true).write(true).open(path)?;
    let mut whole = cut(&mut file, u64::MAX)?;
    if whole == 0 && reopen(&mut file)? {
        whole = cut(&mut file, u64::MAX)?;
    }
    while whole > 0 {
        let Err(e) = flatten(&mut file) else { break };
        file.set_len(whole)?;
        if matches!(e.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) {
            // On a full disk the room for the index is that of the last pictures.
            let shorter = cut(&mut file, whole)?;
            if shorter > 0 {
                whole = shorter;
                continue;
            }
        }
        // As it is some players show it.
        log::warn!("export: write an index for {}: {e}", path.display());
        break;
    }
    Ok(whole)
}

/// Cuts a recording behind the last box before `end` that says where pictures are (`moov`, `moof`); how many bytes are left, which is
/// nothing where there is none, and then the file stays as it is.
fn cut(file: &mut File, end: u64) -> io::Result<u64> {
    let length = file.metadata()?.len();
    let (mut at, mut whole) = (0u64, 0u64);
    while let Some((kind, next)) = next_box(file, at, length)? {
        if matches!(&kind, b"moov" | b"moof") && next < end {
            whole = next;
        }
        at = next;
    }
    if whole > 0 {
        file.set_len(whole)?;
    }
    Ok(whole)
}

/// Where the last index found no room on a full disk, the muxer may have made the first `mdat` large all the same, and the small
/// indexes lie hidden inside: makes it end again where the first of them begins. Whether it was so.
fn reopen(file: &mut File) -> io::Result<bool> {
    let length = file.metadata()?.len();
    let mut at = 0;
    let start = loop {
        let mut start = Vec::new();
        file.seek(SeekFrom::Start(at))?;
        Read::by_ref(file).take(LARGEST).read_to_end(&mut start)?;
        if start.get(4..8) == Some(b"mdat") {
            break start;
        }
        let Some((_, next)) = next_box(file, at, length)? else { return Ok(false) };
        at = next;
    };
    let is_index = |i: &usize| {
        let moov = word(&start, *i).ok().and_then(|size| start.get(i + 8..i.checked_add(size as usize)?));
        moov.is_some_and(|m| inside(m).any(|(kind, _)| &kind == b"mvex") && tracks_of(m, at + *i as u64).is_ok())
    };
    let found = start.windows(4).enumerate().filter(|(_, w)| w == b"moov").filter_map(|(i, _)| i.checked_sub(4));
    let Some(index) = found.into_iter().find(is_index) else { return Ok(false) };
    file.seek(SeekFrom::Start(at))?;
    let size = index as u32;
    if word(&start, 0)? == 1 {
        // A long head took the eight bytes of the empty box in front.
        file.write_all(&[boxed(*b"free", b""), (size - 8).to_be_bytes().into(), b"mdat".into()].concat())?;
    } else {
        file.write_all(&size.to_be_bytes())?;
    }
    Ok(true)
}

/// Writes one `moov` for all pictures behind them, unless there is one.
fn flatten(file: &mut File) -> io::Result<()> {
    let length = file.metadata()?.len();
    let (mut at, mut first, mut mdat, mut tracks, mut end) = (0, None, None, Vec::new(), 0);
    while let Some((kind, next)) = next_box(file, at, length)? {
        match &kind {
            b"mdat" if mdat.is_none() => mdat = Some(at),
            b"moov" if first.is_none() => {
                let moov = content(file, at, next)?;
                if inside(&moov).all(|(kind, _)| &kind != b"mvex") {
                    return Ok(());
                }
                tracks = tracks_of(&moov, next)?;
                (first, end) = (Some(moov), next);
            }
            // A crash struck at the end, when the index for all was there already: it is made again.
            b"moov" => break,
            b"moof" => {
                add(&mut tracks, &content(file, at, next)?, at, next)?;
                end = next;
            }
            _ => {}
        }
        at = next;
    }
    let (Some(moov), Some(mdat)) = (first, mdat) else { return Err(broken("no pictures with an index")) };
    let index = boxed(*b"moov", &rebuilt(&moov, &tracks, None, 0)?);
    file.set_len(end)?;
    file.seek(SeekFrom::Start(end))?;
    file.write_all(&index)?;
    // The new index must be there before the old ones vanish inside the pictures.
    file.sync_data()?;
    let size = end - mdat;
    if let Ok(size) = u32::try_from(size) {
        file.seek(SeekFrom::Start(mdat))?;
        file.write_all(&size.to_be_bytes())?;
    } else {
        // Over 4 GiB: the head takes the eight bytes of the empty box in front, which the muxer put there for it.
        let before = mdat.checked_sub(8).ok_or_else(|| broken("no room for a long head"))?;
        if next_box(file, before, length)?.is_none_or(|(kind, next)| &kind != b"free" || next != mdat) {
            return Err(broken("no room for a long head"));
        }
        file.seek(SeekFrom::Start(before))?;
        file.write_all(&[&[0, 0, 0, 1], b"mdat".as_slice(), &(size + 8).to_be_bytes()].concat())?;
    }
    Ok(())
}

/// Writes the start's time into the heads of the file's last `moov`: the muxer puts there when the file was begun, which is
/// another time for pictures of the past.
pub(super) fn date(path: &Path, wall: WallUs) -> io::Result<()> {
    let mut file = OpenOptions::new().read(true).write(true).open(path)?;
    let length = file.metadata()?.len();
    let (mut at, mut moov) = (0, None);
    while let Some((kind, end)) = next_box(&mut file, at, length)? {
        if &kind == b"moov" {
            moov = Some(at);
        }
        at = end;
    }
    let Some(moov) = moov else { return Ok(()) };
    // The three heads stand in front of the tables, within the first few hundred bytes.
    let mut head = vec![0; (length - moov).min(1024) as usize];
    file.seek(SeekFrom::Start(moov))?;
    file.read_exact(&mut head)?;
    let time = ((wall.0.div_euclid(1_000_000) + MP4_EPOCH) as u32).to_be_bytes();
    for kind in [b"mvhd", b"tkhd", b"mdhd"] {
        // Behind the kind: one byte of version, three of flags, the time of creation. Version 1 is for the year 2040.
        if let Some(i) = head.windows(4).position(|w| w == kind).filter(|i| head.get(i + 4) == Some(&0)) {
            file.seek(SeekFrom::Start(moov + i as u64 + 8))?;
            file.write_all(&time)?;
        }
    }
    Ok(())
}

/// Kind and end of the box that begins at `at`; `None` where no whole one does.
fn next_box(file: &mut File, at: u64, length: u64) -> io::Result<Option<(Kind, u64)>> {
    if at + 8 > length {
        return Ok(None);
    }
    file.seek(SeekFrom::Start(at))?;
    let mut head = [0; 8];
    file.read_exact(&mut head)?;
    let mut size = u64::from(u32::from_be_bytes([head[0], head[1], head[2], head[3]]));
    if size == 1 && at + 16 <= length {
        let mut long = [0; 8];
        file.read_exact(&mut long)?;
        size = u64::from_be_bytes(long);
    }
    let end = at.checked_add(size).filter(|end| size >= 8 && *end <= length);
    Ok(end.map(|end| ([head[4], head[5], head[6], head[7]], end)))
}

fn broken(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_owned())
}

/// What is in the box from `at` to `end`, which has a short head.
fn content(file: &mut File, at: u64, end: u64) -> io::Result<Vec<u8>> {
    if end - at > LARGEST {
        return Err(broken("an index of more than 4 MiB"));
    }
    let mut bytes = vec![0; (end - at - 8) as usize];
    file.seek(SeekFrom::Start(at + 8))?;
    file.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// Kinds and contents of the boxes in a box.
fn inside(bytes: &[u8]) -> impl Iterator<Item = (Kind, &[u8])> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let size = word(rest, 0).ok()? as usize;
        let kind = rest.get(4..8)?.try_into().ok()?;
        let content = rest.get(8..size)?;
        rest = &rest[size..];
        Some((kind, content))
    })
}

fn child<'a>(bytes: &'a [u8], path: &[&Kind]) -> io::Result<&'a [u8]> {
    path.iter().try_fold(bytes, |at, kind| {
        let found = inside(at).find(|(k, _)| k == *kind).map(|(_, c)| c);
        found.ok_or_else(|| broken(&format!("no box {}", String::from_utf8_lossy(*kind))))
    })
}

fn word(bytes: &[u8], at: usize) -> io::Result<u32> {
    let four = bytes.get(at..at + 4).and_then(|b| b.try_into().ok());
    four.map(u32::from_be_bytes).ok_or_else(|| broken("a box ends too early"))
}

fn long(bytes: &[u8], at: usize) -> io::Result<u64> {
    Ok(u64::from(word(bytes, at)?) << 32 | u64::from(word(bytes, at + 4)?))
}

/// The numbers in a box from `at` on.
fn words(bytes: &[u8], at: usize) -> impl Iterator<Item = u32> {
    bytes.get(at..).unwrap_or_default().chunks_exact(4).map(|b| u32::from_be_bytes([b[0], b[1], b[2], b[3]]))
}

fn boxed(kind: Kind, content: &[u8]) -> Vec<u8> {
    [&((content.len() + 8) as u32).to_be_bytes(), kind.as_slice(), content].concat()
}

/// A box of version 0 without flags that holds these numbers.
fn table(kind: Kind, numbers: impl IntoIterator<Item = u32>) -> Vec<u8> {
    let content: Vec<u8> = std::iter::once(0).chain(numbers).flat_map(u32::to_be_bytes).collect();
    boxed(kind, &content)
}

/// The tracks with the samples that the first index names; it ends at `limit`.
fn tracks_of(moov: &[u8], limit: u64) -> io::Result<Vec<Track>> {
    let mut tracks = Vec::new();
    for (_, trak) in inside(moov).filter(|(kind, _)| kind == b"trak") {
        let (head, times) = (child(trak, &[b"tkhd"])?, child(trak, &[b"mdia", b"mdhd"])?);
        if head.first() != Some(&0) || times.first() != Some(&0) {
            return Err(broken("heads of another version"));
        }
        let mut track = Track { id: word(head, 12)?, scale: word(times, 12)?, ..Track::default() };
        for (_, trex) in inside(child(moov, &[b"mvex"])?).filter(|(k, c)| k == b"trex" && word(c, 4).ok() == Some(track.id)) {
            track.usual = [word(trex, 12)?, word(trex, 16)?, word(trex, 20)?];
        }
        let stbl = child(trak, &[b"mdia", b"minf", b"stbl"])?;
        let sizes = child(stbl, &[b"stsz"])?;
        let (one_size, count) = (word(sizes, 4)?, word(sizes, 8)? as usize);
        if count > MOST {
            return Err(broken("more samples than any recording has"));
        }
        let keys: Option<HashSet<u32>> = child(stbl, &[b"stss"]).ok().map(|b| words(b, 8).collect());
        let mut ticks: Vec<u32> = Vec::new();
        for run in words(child(stbl, &[b"stts"])?, 8).collect::<Vec<_>>().chunks_exact(2) {
            ticks.extend(std::iter::repeat_n(run[1], (run[0] as usize).min(count - ticks.len().min(count))));
        }
        let chunks: Vec<u64> = if let Ok(b) = child(stbl, &[b"stco"]) {
            words(b, 8).map(u64::from).collect()
        } else {
            let offsets = child(stbl, &[b"co64"])?.get(8..).ok_or_else(|| broken("an empty co64"))?;
            offsets.chunks_exact(8).map(|b| long(b, 0)).collect::<io::Result<_>>()?
        };
        let runs: Vec<u32> = words(child(stbl, &[b"stsc"])?, 8).collect();
        let (mut n, mut runs, mut here) = (0, runs.chunks_exact(3).peekable(), None);
        for (chunk, &offset) in chunks.iter().enumerate() {
            while let Some(run) = runs.next_if(|r| r[0] as usize <= chunk + 1) {
                here = Some(run);
            }
            let mut at = offset;
            for _ in 0..here.map_or(0, |r| r[1]) {
                let size = if one_size == 0 { word(sizes, 12 + 4 * n)? } else { one_size };
                let key = keys.as_ref().is_none_or(|k| k.contains(&(n as u32 + 1)));
                let ticks = *ticks.get(n).ok_or_else(|| broken("a sample without a time"))?;
                at = track.push((at, size), limit, key, ticks)?;
                n += 1;
            }
        }
        tracks.push(track);
    }
    Ok(tracks)
}

/// Adds what a `moof` from `start` to `limit` says.
fn add(tracks: &mut [Track], moof: &[u8], start: u64, limit: u64) -> io::Result<()> {
    for (_, traf) in inside(moof).filter(|(kind, _)| kind == b"traf") {
        let head = child(traf, &[b"tfhd"])?;
        let (flags, id) = (word(head, 0)?, word(head, 4)?);
        let track = tracks.iter_mut().find(|t| t.id == id).ok_or_else(|| broken("samples of no track"))?;
        let (mut next, mut base, mut usual) = (8, start, track.usual);
        if flags & 1 != 0 {
            base = long(head, next)?;
            next += 8;
        }
        next += if flags & 2 != 0 { 4 } else { 0 };
        for (bit, value) in [8, 16, 32].into_iter().zip(&mut usual) {
            if flags & bit != 0 {
                *value = word(head, next)?;
                next += 4;
            }
        }
        if let Ok(time) = child(traf, &[b"tfdt"]) {
            // What was lost between two fragments shows as a longer last picture.
            let time = if time.first() == Some(&0) { u64::from(word(time, 4)?) } else { long(time, 4)? };
            track.end = track.end.max(time);
        }
        let mut at = base;
        for (_, run) in inside(traf).filter(|(kind, _)| kind == b"trun") {
            let (flags, count) = (word(run, 0)?, word(run, 4)?);
            if flags & 0x800 != 0 {
                return Err(broken("pictures out of order"));
            }
            let mut next = 8;
            let mut given = |bit: u32| -> io::Result<Option<u32>> {
                if flags & bit == 0 {
                    return Ok(None);
                }
                next += 4;
                word(run, next - 4).map(Some)
            };
            if let Some(offset) = given(1)? {
                at = base.checked_add_signed(i64::from(offset as i32)).ok_or_else(|| broken("samples before the file"))?;
            }
            let mut first = given(4)?;
            for _ in 0..count {
                let (ticks, size, said) = (given(0x100)?, given(0x200)?, given(0x400)?);
                let (ticks, size) = (ticks.unwrap_or(usual[0]), size.unwrap_or(usual[1]));
                let how = first.take().or(said).unwrap_or(usual[2]);
                // Bit 16: not one to begin with.
                at = track.push((at, size), limit, how & 0x1_0000 == 0, ticks)?;
            }
        }
    }
    Ok(())
}

/// The content of a box with new tables and durations; `track` is the one it belongs to, so deep in it.
fn rebuilt(bytes: &[u8], tracks: &[Track], track: Option<&Track>, depth: u32) -> io::Result<Vec<u8>> {
    // Ticks of the movie a second, which are not the tracks'.
    let scale = |movie: &[u8]| word(movie, 12).map(u64::from);
    let mut out = Vec::new();
    let movie = child(bytes, &[b"mvhd"]).and_then(scale).unwrap_or_default();
    for (kind, content) in inside(bytes) {
        let mut content = content.to_vec();
        match (&kind, track) {
            (b"mvex", _) => continue,
            (b"mvhd", _) => {
                let longest =
                    tracks.iter().map(|t| t.end.saturating_mul(movie) / u64::from(t.scale.max(1))).max().unwrap_or_default();
                put(&mut content, 16, longest)?;
            }
            (b"trak", None) => {
                let id = word(child(&content, &[b"tkhd"])?, 12)?;
                let track = tracks.iter().find(|t| t.id == id).ok_or_else(|| broken("a track without a number"))?;
                let length = track.end.saturating_mul(movie) / u64::from(track.scale.max(1));
                content = rebuilt(&content, tracks, Some(track), 0)?;
                patch(&mut content, &[b"tkhd"], |b| put(b, 20, length))?;
                // The last of its entries is the one for the samples.
                let edits = patch(&mut content, &[b"edts", b"elst"], |b| {
                    let last = b.len().checked_sub(12).ok_or_else(|| broken("an empty elst"))?;
                    put(b, last, length)
                });
                if child(&content, &[b"edts"]).is_ok() {
                    edits?;
                }
            }
            (b"mdhd", Some(t)) => put(&mut content, 16, t.end)?,
            // One in the other and no deeper: a damaged file's could go on to the end of the stack.
            (b"mdia" | b"minf", Some(_)) if depth < 2 => content = rebuilt(&content, tracks, track, depth + 1)?,
            (b"stbl", Some(t)) => {
                let described = boxed(*b"stsd", child(&content, &[b"stsd"])?);
                content = described.into_iter().chain(tables(t)).collect();
            }
            _ => {}
        }
        out.extend(boxed(kind, &content));
    }
    Ok(out)
}

/// Changes the content of a box in a box.
fn patch(bytes: &mut [u8], path: &[&Kind], with: impl FnOnce(&mut [u8]) -> io::Result<()>) -> io::Result<()> {
    let found = child(bytes, path)?;
    let (from, length) = (found.as_ptr() as usize - bytes.as_ptr() as usize, found.len());
    with(&mut bytes[from..from + length])
}

fn put(bytes: &mut [u8], at: usize, value: u64) -> io::Result<()> {
    // 32 bits hold five days of 10 000 ticks a second.
    let value = u32::try_from(value).map_err(|_| broken("longer than the heads can say"))?;
    let place = bytes.get_mut(at..at + 4).ok_or_else(|| broken("a box ends too early"))?;
    place.copy_from_slice(&value.to_be_bytes());
    Ok(())
}

/// The tables that say where, how long and how large each sample is.
fn tables(t: &Track) -> Vec<u8> {
    let s = &t.samples;
    let mut times: Vec<(u32, u32)> = Vec::new();
    let mut chunks: Vec<(u64, u32)> = Vec::new();
    for (n, one) in s.iter().enumerate() {
        let ticks = (s.get(n + 1).map_or(t.end, |next| next.time) - one.time) as u32;
        match times.last_mut() {
            Some((count, of)) if *of == ticks => *count += 1,
            _ => times.push((1, ticks)),
        }
        match chunks.last_mut().filter(|_| s[n - 1].at + u64::from(s[n - 1].size) == one.at) {
            Some((_, count)) => *count += 1,
            None => chunks.push((one.at, 1)),
        }
    }
    let mut runs: Vec<[u32; 3]> = Vec::new();
    for (n, (_, count)) in chunks.iter().enumerate() {
        if runs.last().is_none_or(|r| r[1] != *count) {
            runs.push([n as u32 + 1, *count, 1]);
        }
    }
    let keys: Vec<u32> = (1..).zip(s).filter(|(_, s)| s.key).map(|(n, _)| n).collect();
    let with_count = |numbers: Vec<u32>, each: usize| std::iter::once((numbers.len() / each) as u32).chain(numbers);
    let mut out = table(*b"stts", with_count(times.iter().flat_map(|t| [t.0, t.1]).collect(), 2));
    if keys.len() < s.len() {
        out.extend(table(*b"stss", with_count(keys, 1)));
    }
    out.extend(table(*b"stsc", with_count(runs.concat(), 3)));
    out.extend(table(*b"stsz", [0, s.len() as u32].into_iter().chain(s.iter().map(|s| s.size))));
    let high = |at: u64| (at >> 32) as u32;
    if chunks.last().is_some_and(|c| high(c.0) > 0) {
        let offsets = chunks.iter().flat_map(|c| [high(c.0), c.0 as u32]).collect();
        out.extend(table(*b"co64", with_count(offsets, 2)));
    } else {
        out.extend(table(*b"stco", with_count(chunks.iter().map(|c| c.0 as u32).collect(), 1)));
    }
    out
}

#[cfg(test)]
mod tests;
