//! Owns the memory of one slot: a header page and the pixels behind it, private or in a file shared with the next process.
//! One of three rooms where `unsafe` is allowed (the others are `source::camera::map` and `video::rtsp::tls`): mapping a file. Any thread.

use std::fs::File;
use std::sync::Arc;

use memmap2::{MmapMut, MmapOptions};
use nix::fcntl::Flock;

use super::header::{HEADER_BYTES, Header};
use crate::clock::BootUs;
use crate::error::{Error, Kind, Result};
use crate::frame::FrameMeta;

/// Memory of one slot.
pub(super) struct Region {
    // Unmapped before its share in the lock is given back: fields go in this order.
    map: MmapMut,
    /// The lock on the file behind a kept slot; a private one has neither file nor header.
    file: Option<Arc<Flock<File>>>,
}

impl Region {
    pub(super) fn bytes(&self) -> usize {
        self.map.len()
    }
    fn start(&self) -> usize {
        if self.file.is_some() { HEADER_BYTES } else { 0 }
    }
    pub(super) fn pixels(&self) -> &[u8] {
        &self.map[self.start()..]
    }
    pub(super) fn pixels_mut(&mut self) -> &mut [u8] {
        let start = self.start();
        &mut self.map[start..]
    }

    /// Marks the slot as being written, for a process that finds it after a crash.
    pub(super) fn begin(&mut self) {
        if self.file.is_some() {
            Header::tear(&mut self.map[..HEADER_BYTES]);
        }
    }
    /// Marks the slot as whole.
    pub(super) fn finish(&mut self, meta: &FrameMeta) {
        if self.file.is_some() {
            let bytes = self.map.len();
            Header::write(&mut self.map[..HEADER_BYTES], meta, bytes);
        }
    }
    /// The frame a former process left here, when it is whole.
    pub(super) fn found(&self, now: BootUs) -> Option<FrameMeta> {
        Header::read(&self.map[..HEADER_BYTES], self.map.len(), now)
    }

    /// Lets the kernel hand out the pages now, so that the first frame does not fault for them.
    pub(super) fn populate(&mut self) {
        // Linux before 5.14 does not know the advice: touching one byte a page does the same, slower.
        if self.map.advise(memmap2::Advice::PopulateWrite).is_err() {
            for page in self.map.chunks_mut(4096) {
                let first = std::hint::black_box(page[0]);
                page[0] = first;
            }
        }
    }
    /// Keeps the pages out of swap.
    pub(super) fn lock(&mut self) -> std::io::Result<()> {
        self.map.lock()
    }
}

/// Private memory for `pixels` bytes.
pub(super) fn anonymous(pixels: usize) -> Result<Region> {
    let map = MmapMut::map_anon(pixels)
        .map_err(|e| Error::caused(Kind::Io, format!("set aside {pixels} bytes for a ring slot; make ring.size smaller"), e))?;
    Ok(Region { map, file: None })
}

/// The `index`-th slot of a file that is at least `(index + 1) × slot` bytes long.
#[allow(unsafe_code, reason = "mapping a file has no safe form; the SAFETY line says what makes it sound here")]
pub(super) fn in_file(file: &Arc<Flock<File>>, index: usize, slot: usize) -> Result<Region> {
    // SAFETY: nobody else changes or cuts the file while this mapping lives.
    // - Other users cannot: `persist::Store` takes a regular file only, of our own user id, mode 0600.
    // - Another pastcam cannot: it takes the lock (flock) before it cuts or maps. The `Region` keeps a share in ours and drops it
    //   behind the mapping; the kernel, too, takes a dying process's memory down before it closes its files.
    // - We do not: `Store::ring` cuts before it maps, consumes the only `Store` of this lock and maps each slot once; slots do not
    //   overlap.
    // - Left is a program of our own user (or root) that ignores the lock. It could as well write into our memory by ptrace.
    let map = unsafe { MmapOptions::new().offset((index * slot) as u64).len(slot).map_mut(&***file) }
        .map_err(|e| Error::caused(Kind::Io, format!("map ring slot {index} of the file in ring.persist_path"), e))?;
    Ok(Region { map, file: Some(file.clone()) })
}
