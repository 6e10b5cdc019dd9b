//! Owns the bytes that follow a line on its connection: their beginning, which the framing had already read, and the socket for the
//! rest. Never decides what they are. Read on a thread of the command's own; the server does not touch the socket meanwhile.

use std::io::{ErrorKind, Read};
use std::net::TcpStream;
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// What one look for bytes came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Got {
    /// So many bytes, at least one.
    Bytes(usize),
    /// None within the time.
    Nothing,
    /// The client sends no more.
    End,
}

/// A body. Clones share the one stream of bytes.
#[derive(Debug, Clone)]
pub struct Body {
    head: Arc<Mutex<Head>>,
    stream: Arc<TcpStream>,
}

#[derive(Debug)]
struct Head {
    bytes: Vec<u8>,
    taken: usize,
    /// The line ended in CR: a LF that comes first belongs to it.
    behind_cr: bool,
}

impl Body {
    /// `head` came together with the line; `behind_cr`: a LF at the very beginning is still the line's.
    pub(crate) fn new(head: Vec<u8>, behind_cr: bool, stream: TcpStream) -> Self {
        Body { head: Arc::new(Mutex::new(Head { bytes: head, taken: 0, behind_cr })), stream: Arc::new(stream) }
    }

    /// Takes some bytes, waiting for them at most so long.
    pub fn read(&self, into: &mut [u8], wait: Duration) -> std::io::Result<Got> {
        let mut head = self.head.lock().unwrap_or_else(PoisonError::into_inner);
        let waiting = &head.bytes[head.taken..];
        if !waiting.is_empty() {
            let n = waiting.len().min(into.len());
            into[..n].copy_from_slice(&waiting[..n]);
            head.taken += n;
            return Ok(Got::Bytes(n));
        }
        // The server's sockets never block.
        let mut fds = [PollFd::new(self.stream.as_fd(), PollFlags::POLLIN)];
        if poll(&mut fds, PollTimeout::try_from(wait.as_millis()).unwrap_or(PollTimeout::MAX))? == 0 {
            return Ok(Got::Nothing);
        }
        match (&*self.stream).read(into) {
            Ok(0) => Ok(Got::End),
            Ok(1) if head.behind_cr && into[0] == b'\n' => {
                head.behind_cr = false;
                Ok(Got::Nothing)
            }
            Ok(n) => {
                let lf = usize::from(std::mem::take(&mut head.behind_cr) && into[0] == b'\n');
                into.copy_within(lf..n, 0);
                Ok(Got::Bytes(n - lf))
            }
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Ok(Got::Nothing),
            Err(e) => Err(e),
        }
    }
}
