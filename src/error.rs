//! Owns the one error type of the program and the word each kind of error has on the wire.
//! Never logs, never decides an exit code. Any thread.

use std::error::Error as StdError;
use std::fmt;
use std::path::Path;

/// What sort of thing went wrong. The kind is also the word after `ERR` in an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// `config.json` or the command line asks for something that cannot be.
    Config,
    /// A command's words are wrong.
    Usage,
    /// Not allowed: address, token, a camera's login. Asking again does not help.
    Denied,
    /// A limit of clients or of work is reached; ask again.
    Busy,
    /// A frame that was waited for did not come.
    Timeout,
    /// The asked-for moment is not in the ring.
    Past,
    /// The disk is full, read-only or gone.
    Disk,
    /// The camera, file or network stream failed.
    Source,
    /// A library (`GStreamer`, an encoder) failed.
    Media,
    /// An update was not installed.
    Update,
    /// Network or operating system.
    Io,
}

impl Kind {
    /// The lower-case word used on the wire.
    pub fn word(self) -> &'static str {
        match self {
            Kind::Config => "config",
            Kind::Usage => "usage",
            Kind::Denied => "denied",
            Kind::Busy => "busy",
            Kind::Timeout => "timeout",
            Kind::Past => "past",
            Kind::Disk => "disk",
            Kind::Source => "source",
            Kind::Media => "media",
            Kind::Update => "update",
            Kind::Io => "io",
        }
    }
}

/// An error: its kind, and one sentence naming attempt, object, cause and, where there is one, the cure.
#[derive(Debug)]
pub struct Error {
    /// Which sort.
    pub kind: Kind,
    /// The sentence, lower case, without a final full stop.
    pub what: String,
    /// Of kind `disk`: what the disk is, `full`, `read-only`, `gone` or `failing`.
    pub disk: &'static str,
    /// What lay beneath.
    pub source: Option<Box<dyn StdError + Send + Sync + 'static>>,
}

/// The result of everything that can fail here.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// An error without a cause beneath it.
    pub fn new(kind: Kind, what: impl Into<String>) -> Self {
        Error { kind, what: what.into(), disk: "failing", source: None }
    }

    /// An error of kind `disk`, where the disk is known to be more than `failing`.
    pub fn of_disk(disk: &'static str, what: impl Into<String>) -> Self {
        Error { disk, ..Error::new(Kind::Disk, what) }
    }

    /// An error with the error that caused it.
    pub fn caused(kind: Kind, what: impl Into<String>, source: impl Into<Box<dyn StdError + Send + Sync + 'static>>) -> Self {
        Error { source: Some(source.into()), ..Error::new(kind, what) }
    }
}

/// A disk error in one sentence: what was tried on which path, why it failed as far as the errno tells, and what to do.
pub fn disk(attempt: &str, path: &Path, e: std::io::Error) -> Error {
    use nix::errno::Errno as E;
    let errno = e.raw_os_error().map(E::from_raw);
    let state = match errno {
        Some(E::ENOSPC | E::EDQUOT) => "full",
        Some(E::EROFS) => "read-only",
        Some(E::ENOENT | E::ENOTDIR | E::ENODEV | E::ENXIO | E::ESTALE) => "gone",
        _ => "failing",
    };
    let why = match errno {
        Some(E::ENOSPC | E::EDQUOT) => ": the disk is full; delete files or lower the limits of export",
        Some(E::EROFS) => ": the file system is read-only; remount it writable and check the card",
        Some(E::ENOENT) => ": the folder is gone; create it or correct export.base_dir",
        Some(E::EACCES | E::EPERM) => ": no permission; give this program's user write access to the folder",
        Some(E::ENOTDIR | E::EEXIST) => ": a file stands where the folder should be; move it away",
        Some(E::EIO) => ": the medium fails; replace the card",
        _ => "",
    };
    Error { disk: state, ..Error::caused(Kind::Disk, format!("{attempt} {}{why}", path.display()), e) }
}

impl fmt::Display for Error {
    /// The sentence and the chain of causes on one line: `what: cause: deeper cause`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        let mut next = self.source.as_deref().map(|e| e as &dyn StdError);
        while let Some(e) = next {
            write!(f, ": {e}")?;
            next = e.source();
        }
        Ok(())
    }
}

impl StdError for Error {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_chain_stands_on_one_line() {
        let e = Error::caused(Kind::Disk, "write a.jpg", std::io::Error::other("no space left"));
        assert_eq!(e.to_string(), "write a.jpg: no space left");
        assert_eq!(e.kind.word(), "disk");
    }
}
