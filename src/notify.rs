//! Owns the words to the supervisor: systemd's notification socket and the hardware watchdog.
//! Never decides whether the program is well: it passes on what the keeper saw. Runs on the keeper's thread.

use std::env;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;
use std::time::Duration;

use crate::claim::wait_for_ending;
use crate::error::{Error, Kind, Result};

/// systemd's notification socket, where the environment names one.
pub struct Systemd(Option<(UnixDatagram, SocketAddr)>);

impl Systemd {
    /// Reads `NOTIFY_SOCKET`.
    pub fn from_environment() -> Systemd {
        let address = env::var_os("NOTIFY_SOCKET").and_then(|name| match name.as_bytes() {
            [b'@', rest @ ..] => SocketAddr::from_abstract_name(rest).ok(),
            _ => SocketAddr::from_pathname(&name).ok(),
        });
        // A supervisor that does not read must not stop the keeper's rounds.
        let socket = || UnixDatagram::unbound().and_then(|s| s.set_nonblocking(true).map(|()| s)).ok();
        Systemd(address.and_then(|a| Some((socket()?, a))))
    }

    /// Sends one message such as `READY=1`; whether it went out, where anybody is to hear it. A supervisor that does not listen is
    /// no error of ours.
    pub fn tell(&self, message: &str) -> bool {
        self.0.as_ref().is_none_or(|(socket, address)| socket.send_to_addr(message.as_bytes(), address).is_ok())
    }

    /// How often the supervisor wants to hear `WATCHDOG=1` at least.
    pub fn watchdog() -> Option<Duration> {
        let us: u64 = env::var("WATCHDOG_USEC").ok()?.parse().ok()?;
        let ours = env::var("WATCHDOG_PID").map_or(true, |p| p.parse() == Ok(std::process::id()));
        (us > 0 && ours).then(|| Duration::from_micros(us))
    }
}

/// The hardware watchdog. Opened, it bites unless fed.
pub struct Hardware(File);

impl Hardware {
    /// Opens the device, waiting for a program that is ending.
    pub fn open(device: &Path) -> Result<Hardware> {
        let open = || OpenOptions::new().write(true).open(device);
        let busy = |e: &std::io::Error| (e.kind() == std::io::ErrorKind::ResourceBusy).then_some(None);
        let file = wait_for_ending(&format!("the watchdog {}", device.display()), open, busy).map_err(|e| {
            Error::caused(
                Kind::Config,
                format!(
                    "open the watchdog {} (limits.watchdog_device); is its driver loaded and nobody else using it?",
                    device.display()
                ),
                e,
            )
        })?;
        Ok(Hardware(file))
    }

    /// Feeds it.
    pub fn feed(&mut self) -> std::io::Result<()> {
        self.0.write_all(b"\0")
    }

    /// Lets it sleep: the letter V before closing is the kernel's sign for an end on purpose.
    pub fn release(mut self) {
        // Where the driver does not allow that, the board restarts, which is what its owner set.
        let _ = self.0.write_all(b"V");
    }
}
