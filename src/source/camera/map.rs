//! Owns the view of a camera buffer's bytes: mapped once, read between two calls that tell the driver so.
//! A room where `unsafe` is allowed, as in `ring::map`: memory that others write, and an `ioctl`. Runs on the capture thread.
#![allow(unsafe_code, reason = "mapping memory that a driver writes, and an ioctl, have no safe form")]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};

use memmap2::{Mmap, MmapOptions};
use nix::errno::Errno;

use crate::error::{Error, Kind, Result};

/// `struct dma_buf_sync` of `linux/dma-buf.h`.
#[repr(C)]
struct DmaBufSync {
    flags: u64,
}

const SYNC_READ: u64 = 1;
const SYNC_END: u64 = 4;

nix::ioctl_write_ptr!(dma_buf_sync, b'b', 0, DmaBufSync);

/// Where a plane lies: descriptor, offset and length (bytes).
pub(super) type Place = (RawFd, usize, usize);

/// One descriptor's memory; planes often share one.
struct Area {
    fd: OwnedFd,
    of: RawFd,
    start: usize,
    map: Mmap,
    /// Cleared for memory that is no DMA buffer and needs no such calls.
    synced: bool,
}

/// The mapped planes of one buffer.
pub(super) struct Mapped {
    areas: Vec<Area>,
    /// Area, first byte in it, bytes.
    planes: Vec<(usize, usize, usize)>,
}

impl Mapped {
    /// Maps the planes of a buffer whose descriptors are open now. It keeps descriptors of its own.
    pub(super) fn new(parts: &[Place]) -> Result<Mapped> {
        let failed = |e: io::Error| Error::caused(Kind::Source, "map a buffer of the camera into memory", e);
        let mut areas: Vec<Area> = Vec::new();
        let mut planes = Vec::new();
        for &(fd, offset, bytes) in parts {
            let index = if let Some(index) = areas.iter().position(|a| a.of == fd) {
                index
            } else {
                let mine = parts.iter().filter(|p| p.0 == fd);
                let start = mine.clone().map(|p| p.1).min().unwrap_or(0);
                let end = mine.map(|p| p.1 + p.2).max().unwrap_or(0);
                // SAFETY: the caller's descriptor is open, and is only used to make one of our own.
                let fd = unsafe { BorrowedFd::borrow_raw(fd) }.try_clone_to_owned().map_err(failed)?;
                // SAFETY: bytes are only looked at in `read`, which the caller runs while the request that holds this buffer is
                // completed and not queued again; libcamera writes a buffer only between queueing and completion. The memory of
                // a camera buffer never shrinks.
                let map = unsafe { MmapOptions::new().offset(start as u64).len(end - start).map(&fd) }.map_err(failed)?;
                areas.push(Area { fd, of: parts[planes.len()].0, start, map, synced: true });
                areas.len() - 1
            };
            planes.push((index, offset - areas[index].start, bytes));
        }
        Ok(Mapped { areas, planes })
    }

    /// Shows the planes to `look`, with the caches told before and after. Only while the buffer's request is completed.
    pub(super) fn read<R>(&mut self, look: impl FnOnce(&[&[u8]]) -> R) -> Result<R> {
        self.sync(SYNC_READ)?;
        let mut planes: [&[u8]; 3] = [&[]; 3];
        let count = self.planes.len().min(3);
        for (slice, (area, first, bytes)) in planes.iter_mut().zip(&self.planes) {
            *slice = &self.areas[*area].map[*first..first + bytes];
        }
        let result = look(&planes[..count]);
        self.sync(SYNC_READ | SYNC_END)?;
        Ok(result)
    }

    fn sync(&mut self, flags: u64) -> Result<()> {
        let range = DmaBufSync { flags };
        for area in self.areas.iter_mut().filter(|a| a.synced) {
            loop {
                // SAFETY: the descriptor is open and the structure is the one this request reads.
                match unsafe { dma_buf_sync(area.fd.as_raw_fd(), &raw const range) } {
                    Ok(_) => break,
                    Err(Errno::EINTR | Errno::EAGAIN) => {}
                    Err(Errno::ENOTTY | Errno::EINVAL) => {
                        area.synced = false;
                        break;
                    }
                    Err(e) => return Err(Error::caused(Kind::Source, "make a buffer of the camera readable", e)),
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn planes_that_share_a_descriptor_are_one_mapping() {
        let fd = nix::sys::memfd::memfd_create("planes", nix::sys::memfd::MFdFlags::MFD_CLOEXEC).unwrap();
        let mut file = std::fs::File::from(fd);
        file.write_all(&(0..=255).cycle().take(20_000).collect::<Vec<u8>>()).unwrap();
        let raw = file.as_raw_fd();
        let mut m = Mapped::new(&[(raw, 5000, 100), (raw, 9000, 50)]).unwrap();
        drop(file);
        assert_eq!(m.areas.len(), 1);
        let seen = m.read(|p| (p.len(), p[0][0], p[0].len(), p[1][1])).unwrap();
        assert_eq!(seen, (2, (5000 % 256) as u8, 100, (9001 % 256) as u8));
        assert!(!m.areas[0].synced, "a memory file is no DMA buffer");
        assert_eq!(m.read(|p| p[1].len()).unwrap(), 50);
    }

    #[test]
    fn a_descriptor_that_is_no_file_is_an_error() {
        let (r, _w) = nix::unistd::pipe().unwrap();
        assert!(Mapped::new(&[(r.as_raw_fd(), 0, 10)]).is_err());
    }
}
