//! Owns the reading of whole files that somebody else may have put there: settings, certificates, traces. Never waits for a writer and
//! never takes in more than the caller's bound. The caller's thread; a call may block for as long as the disk does.

use std::fs::{self, File, FileType, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;

use nix::fcntl::OFlag;

/// Largest file of settings, names or keys (bytes): far beyond any real one.
pub const SMALL: u64 = 1 << 20;

/// Opens a regular file. A pipe, whose opening waits for a writer, and a device, whose opening may start it, are refused unopened.
pub fn open(path: &Path) -> io::Result<File> {
    regular(fs::metadata(path)?.file_type())?;
    // It may have been exchanged meanwhile. For regular files the flag says nothing.
    let file = OpenOptions::new().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(path)?;
    regular(file.metadata()?.file_type())?;
    Ok(file)
}

/// The content of a regular file of at most `most` bytes.
pub fn read(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let file = open(path)?;
    let large = || Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("it is larger than {most} bytes")));
    let length = file.metadata()?.len();
    if length > most {
        return large();
    }
    // Some files of the kernel have no length, and others grow while they are read.
    let mut bytes = Vec::with_capacity(length as usize);
    file.take(most + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most { large() } else { Ok(bytes) }
}

/// The same as text.
pub fn read_text(path: &Path, most: u64) -> io::Result<String> {
    let not_text = |_| io::Error::new(io::ErrorKind::InvalidData, "it is not UTF-8 text");
    String::from_utf8(read(path, most)?).map_err(not_text)
}

/// An error for everything but a regular file.
pub fn regular(kind: FileType) -> io::Result<()> {
    let what = match () {
        () if kind.is_file() => return Ok(()),
        () if kind.is_dir() => "a folder",
        () if kind.is_fifo() => "a named pipe",
        () if kind.is_socket() => "a socket",
        () => "a device",
    };
    Err(io::Error::new(io::ErrorKind::InvalidInput, format!("it is {what} and not a regular file")))
}

#[cfg(test)]
mod tests {
    use super::super::tests::Scratch;
    use super::*;
    use nix::sys::stat::Mode;

    #[test]
    fn only_regular_files_of_a_bounded_size_are_read() {
        let dir = Scratch::new("read");
        let said = |path: &Path| read(path, 10).unwrap_err().to_string();
        let (pipe, link, large, end) = (dir.join("pipe"), dir.join("link"), dir.join("large"), dir.join("end"));
        nix::unistd::mkfifo(&pipe, Mode::S_IRWXU).unwrap();
        std::os::unix::fs::symlink("/dev/zero", &link).unwrap();
        // Gigabytes that take no room.
        File::create(&large).unwrap().set_len(8 << 30).unwrap();
        assert_eq!(said(&pipe), "it is a named pipe and not a regular file");
        assert_eq!(said(&link), "it is a device and not a regular file");
        assert_eq!(said(&dir), "it is a folder and not a regular file");
        assert_eq!(said(&large), "it is larger than 10 bytes");
        // No length, and yet bytes.
        assert_eq!(said(Path::new("/proc/self/stat")), "it is larger than 10 bytes");
        fs::write(&end, "0123456789").unwrap();
        assert_eq!(read_text(&end, 10).unwrap(), "0123456789");
        assert_eq!(read(&dir.join("none"), 10).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
