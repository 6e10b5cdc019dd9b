//! Owns the RTSP port's thread `rtsp`: takes connections, hands those that have asked to the server library, and sees to time limits.
//! Waits for sockets only.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use gstreamer_rtsp_server as rtsp;
use gstreamer_rtsp_server::gio;
use gstreamer_rtsp_server::glib;
use gstreamer_rtsp_server::prelude::*;
use log::Level;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::resource::{Resource, getrlimit, rlim_t};
use nix::sys::socket::{setsockopt, sockopt};

use super::connections::{Connection, Shared};
use super::lobby::{Guest, Lobby};
use super::media::Lingers;
use crate::error::{Error, Kind, Result};
use crate::threads;

/// A viewer that takes nothing for so long (ms) is cut off: over TCP it holds up the others meanwhile.
const STALLED_MS: u32 = 5000;
/// Between looks at the time limits, while there is nobody and while there is somebody.
const ROUND: Duration = Duration::from_secs(2);
const LOOK: Duration = Duration::from_millis(250);
/// After a connection could not be taken, because descriptors or memory are used up, none is for this time.
const PAUSE: Duration = Duration::from_secs(1);
/// Descriptors that must be free before a connection is taken: the library's threads, its media and an encoder need some of them, and
/// `GLib` aborts the process where it gets none.
const SPARE: rlim_t = 32;
/// Connections that are taken in a row before others are looked after.
const BATCH: usize = 64;

/// Runs until the stop.
pub(super) fn run(shared: &Shared, server: &rtsp::RTSPServer, listeners: &[TcpListener], lingers: &Lingers, encrypted: bool) {
    let (mut lobby, mut paused, mut looked) = (Lobby::default(), None::<Instant>, Instant::now());
    loop {
        paused = paused.filter(|until| *until > Instant::now());
        let somebody = lingers.look() || !shared.lock().connections.is_empty();
        let mut wait = lobby.rest().unwrap_or(ROUND).min(if somebody { LOOK } else { ROUND });
        if let Some(until) = paused {
            wait = wait.min(until.saturating_duration_since(Instant::now())).max(Duration::from_millis(1));
        }
        let mut fds = vec![PollFd::new(shared.stop.as_fd(), PollFlags::POLLIN)];
        fds.extend(listeners.iter().filter(|_| paused.is_none()).map(|l| PollFd::new(l.as_fd(), PollFlags::POLLIN)));
        fds.extend(lobby.polled());
        // Interrupted or not: what is ready is looked at, and the limits are.
        let _ = poll(&mut fds, PollTimeout::try_from(wait).unwrap_or(PollTimeout::NONE));
        let ready: Vec<bool> = fds.iter().map(|f| f.any().unwrap_or(false)).collect();
        threads::fault("work");
        if ready[0] {
            break;
        }
        let open = if paused.is_some() { &[] } else { listeners };
        for (listener, _) in open.iter().zip(&ready[1..]).filter(|(_, ready)| **ready) {
            if let Err(e) = take(shared, listener, &mut lobby) {
                shared.tally.log_about(Level::Warn, "accept", &format!("RTSP: take connections: {e}; trying again every second"));
                paused = Some(Instant::now() + PAUSE);
            }
        }
        for guest in lobby.ready(encrypted, shared) {
            if let Err(e) = admit(shared, server, guest) {
                shared.tally.log_about(Level::Warn, "admit", &format!("RTSP: {e}"));
            }
        }
        // The end of each handshake of TLS waits here, and holds its connection until somebody takes it.
        while glib::MainContext::default().iteration(false) {}
        if looked.elapsed() >= LOOK {
            looked = Instant::now();
            shared.sessions.cleanup();
            shared.look(encrypted);
        }
    }
    shared.lock().connections.iter_mut().for_each(Connection::end);
}

/// Whether enough descriptors are free: the lowest free one is given out first, so its number tells.
fn has_room(socket: &TcpStream) -> std::io::Result<()> {
    let (limit, _) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if rlim_t::try_from(socket.as_raw_fd()).is_ok_and(|next| next + SPARE < limit) {
        return Ok(());
    }
    Err(std::io::Error::other(format!("fewer than {SPARE} of {limit} open files are left; raise LimitNOFILE")))
}

/// Takes the connections that wait; fails where the machine has no room for one.
fn take(shared: &Shared, listener: &TcpListener, lobby: &mut Lobby) -> std::io::Result<()> {
    for _ in 0..BATCH {
        let (socket, peer) = match listener.accept() {
            Ok(accepted) => accepted,
            Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(()),
            // It went before it was taken.
            Err(e) if matches!(e.kind(), ErrorKind::ConnectionAborted | ErrorKind::Interrupted) => continue,
            Err(e) => return Err(e),
        };
        let ip = peer.ip().to_canonical();
        if shared.lock().allow.contains(ip) {
            has_room(&socket)?;
            lobby.enter(socket, peer, shared);
        } else {
            shared.tell("stranger", ip, "is not in rtsp.allow; its connection was closed");
        }
    }
    Ok(())
}

/// Hands a connection to the library.
fn admit(shared: &Shared, server: &rtsp::RTSPServer, Guest { socket, peer, .. }: Guest) -> Result<()> {
    let (ip, what) = (peer.ip().to_canonical(), format!("take the connection of {peer}"));
    let failed = |e: std::io::Error| Error::caused(Kind::Io, what.as_str(), e);
    setsockopt(&socket, sockopt::TcpUserTimeout, &STALLED_MS).map_err(|e| failed(e.into()))?;
    let Some(number) = shared.admit(ip, socket.try_clone().map_err(failed)?) else { return Ok(()) };
    log::debug!("RTSP: {ip} connects");
    hand_over(server, socket, peer).map_err(|e| {
        shared.forget(number);
        Error::caused(Kind::Io, what.as_str(), e)
    })
}

fn hand_over(
    server: &rtsp::RTSPServer,
    socket: TcpStream,
    peer: SocketAddr,
) -> std::result::Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let socket = gio::Socket::from_fd(OwnedFd::from(socket))?;
    server.transfer_connection(socket, &peer.ip().to_canonical().to_string(), i32::from(peer.port()), None)?;
    Ok(())
}
