//! Owns the RTSP server: who may connect, how many, and the media that give the hub's units to viewers: one for all of them, or
//! one each while a camera's own stream is passed through. Never encodes. The thread `rtsp` accepts connections and sees to time
//! limits; the server library's own threads speak to viewers and send pictures.

pub mod auth;
pub mod sound;
mod tls;
mod unprepare;

use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app as gst_app;
use gstreamer_rtsp_server as rtsp;
use gstreamer_rtsp_server::gio::{self, TlsCertificate};
use gstreamer_rtsp_server::glib;
use gstreamer_rtsp_server::prelude::*;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::socket::{Shutdown, setsockopt, shutdown, sockopt};

use self::auth::VIEWER;
use self::sound::Sound;
use self::unprepare::Unpreparing;
use super::CODEC;
use super::access_unit::AccessUnit;
use super::gop;
use super::hub::{Hub, Subscription};
use super::settings::{Audio, Rtsp as Settings, Tls};
use crate::clock::{Clock, SystemClock, monotonic_us};
use crate::error::{Error, Kind, Result};
use crate::net::AllowList;
use crate::threads::{self, Thread};

/// A viewer that takes nothing for so long is cut off: over TCP it holds up the others meanwhile.
const STALLED_MS: u32 = 5000;
/// A connection that has not set a stream up (SETUP) in this time is closed.
const IDLE: Duration = Duration::from_secs(15);
/// What a viewer may send behind a request (bytes): parameters that nobody here reads. The library's default is 4 GiB, taken into
/// memory ahead of any login.
const BODY: u32 = 16 << 10;
/// Between looks at the time limits.
const ROUND: Duration = Duration::from_secs(2);
/// Units that may wait for the senders (bytes): a megabyte more than who joins a camera's stream is given at once. More means
/// that they hang.
const WAITING: u64 = (1 << 20) + gop::MOST as u64;

/// One connection; the descriptor is a second one of the library's socket, to shut that down from here.
struct Connection {
    number: u64,
    socket: OwnedFd,
    since: Instant,
    /// It has set up a stream.
    watches: bool,
    /// Its sessions, so that they end with it: a player that was killed would otherwise be sent pictures for a minute.
    sessions: Vec<rtsp::RTSPSession>,
}

#[derive(Default)]
struct Inside {
    connections: Vec<Connection>,
    next: u64,
    allow: AllowList,
}

struct Shared {
    inside: Mutex<Inside>,
    stop: EventFd,
    sessions: rtsp::RTSPSessionPool,
}

/// The running server.
pub struct Rtsp {
    shared: Arc<Shared>,
    auth: rtsp::RTSPAuth,
    factory: rtsp::RTSPMediaFactory,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Inside> {
        // Whole at every point where a panic could strike.
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Rtsp {
    /// Opens the port and serves what the hub hands out at `/stream`.
    pub fn start(settings: &Settings, hub: &Arc<Hub>) -> Result<Rtsp> {
        crate::gst::init()?;
        for element in ["appsrc", CODEC.payloader.0] {
            crate::gst::element(element)?;
        }
        let sound = settings.sound();
        if sound.is_some() {
            sound::check()?;
        }
        let certificate = settings.tls().as_ref().map(Tls::load).transpose()?;
        let encrypted = certificate.is_some();
        let auth = auth::auth((&settings.user, &settings.password), certificate.as_ref());
        let listeners = crate::net::bind::tcp(&settings.bind, settings.port, "rtsp.port")?;
        let stop = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)
            .map_err(|e| Error::caused(Kind::Io, "open an eventfd for the rtsp port", e))?;
        let (server, unpreparing) = (rtsp::RTSPServer::new(), Arc::new(Unpreparing::default()));
        let sessions = rtsp::RTSPSessionPool::new();
        sessions.set_max_sessions(settings.max_clients);
        server.set_session_pool(Some(&sessions));
        // Since GStreamer 1.18.
        if server.has_property_with_type("content-length-limit", u32::static_type()) {
            server.set_property("content-length-limit", BODY);
        }
        let mounts = rtsp::RTSPMountPoints::new();
        let factory = factory(hub, encrypted, sound, &unpreparing);
        mounts.add_factory("/stream", factory.clone());
        server.set_mount_points(Some(&mounts));
        server.set_auth(Some(&auth));
        let inside = Inside { allow: settings.allow.clone(), ..Inside::default() };
        let shared = Arc::new(Shared { inside: Mutex::new(inside), stop, sessions });
        let (hub, known, shown) = (hub.clone(), shared.clone(), auth.clone());
        server.connect_client_connected(move |_, client| {
            let unpreparing = unpreparing.clone();
            client.connect_pre_describe_request(move |_, _| {
                unpreparing.wait();
                rtsp::gst_rtsp::RTSPStatusCode::Ok
            });
            watch_client(client, &shown, &hub, &known);
        });
        let most = settings.max_clients as usize;
        let accepts = shared.clone();
        let thread = Thread::Rtsp.keep(move || accept(&accepts, &server, &listeners, most))?;
        let scheme = if encrypted { "rtsps" } else { "rtsp" };
        log::info!("The stream is at {scheme}://THIS_MACHINE:{}/stream, for {}", settings.port, settings.allow);
        Ok(Rtsp { shared, auth, factory, thread: Mutex::new(Some(thread)) })
    }

    /// How many watch.
    pub fn viewers(&self) -> u32 {
        self.shared.sessions.n_sessions()
    }

    /// Whether those who come from now on share one media. With a camera's own stream each needs a media to itself, because each
    /// is given the units since the last key frame when it joins; an encoder gives a new key frame to all.
    pub fn share(&self, shared: bool) {
        self.factory.set_shared(shared);
    }

    /// Replaces the list of who may connect. Those who watch go on.
    pub fn set_allow(&self, allow: AllowList) {
        self.shared.lock().allow = allow;
    }

    /// Replaces the certificate for those who connect from now on: renewed ones keep their file's name.
    pub fn set_certificate(&self, certificate: &TlsCertificate) {
        self.auth.set_tls_certificate(Some(certificate));
    }

    /// Ends all connections and the thread.
    pub fn close(&self) {
        // The counter of an eventfd overflows at 2^64.
        let _ = self.shared.stop.write(1);
        if let Some(thread) = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take() {
            // A thread that panicked has already said so.
            let _ = thread.join();
        }
    }
}

/// The factory of the one media that all viewers share.
fn factory(hub: &Arc<Hub>, encrypted: bool, sound: Option<&Audio>, unpreparing: &Arc<Unpreparing>) -> rtsp::RTSPMediaFactory {
    let factory = rtsp::RTSPMediaFactory::new();
    let (pay, how) = CODEC.payloader;
    let pictures = format!("appsrc name=in is-live=true format=time max-bytes=0 ! {pay} name=pay0 pt=96 {how}");
    let beside = sound.map_or(String::new(), |_| {
        let room = sound::WAITING;
        format!("appsrc name=sound is-live=true format=time max-bytes={room} leaky-type=downstream ! rtpmp4gpay name=pay1 pt=97")
    });
    factory.set_launch(&format!("( {pictures} {beside} )"));
    factory.set_shared(true);
    // `Reset` would take the source apart at each pause.
    factory.set_suspend_mode(rtsp::RTSPSuspendMode::None);
    let udp = rtsp::gst_rtsp::RTSPLowerTrans::UDP;
    // Datagrams would go past the encryption.
    let datagrams = if encrypted { rtsp::gst_rtsp::RTSPLowerTrans::empty() } else { udp };
    factory.set_protocols(rtsp::gst_rtsp::RTSPLowerTrans::TCP | datagrams);
    // A key frame of the largest pictures fits into it.
    factory.set_buffer_size(512 << 10);
    factory.add_role_from_structure(
        &gst::Structure::builder(VIEWER)
            .field(rtsp::RTSP_PERM_MEDIA_FACTORY_ACCESS, true)
            .field(rtsp::RTSP_PERM_MEDIA_FACTORY_CONSTRUCT, true)
            .build(),
    );
    let (hub, sound, unpreparing) = (hub.clone(), sound.cloned(), unpreparing.clone());
    factory.connect_media_configure(move |_, media| {
        unpreparing.watch(media);
        let named = |name: &str| {
            let element = media.element().downcast::<gst::Bin>().ok()?.by_name(name)?;
            element.downcast::<gst_app::AppSrc>().ok()
        };
        let Some(source) = named("in") else { return };
        if let Some(pipeline) = source.parent().and_then(|bin| bin.parent()).and_then(|p| p.downcast::<gst::Bin>().ok()) {
            // Sinks allow themselves 20 ms of work and so send every picture 20 ms late once two ways of transport are in use.
            pipeline.connect_deep_element_added(|_, _, element| {
                if element.has_property_with_type("processing-deadline", u64::static_type()) {
                    element.set_property("processing-deadline", 0u64);
                }
            });
        }
        let heard = sound
            .clone()
            .zip(named("sound"))
            .and_then(|(settings, to)| Sound::start(settings, to).inspect_err(|e| log::warn!("RTSP: {e}")).ok());
        let place = Mutex::new(Some((subscribe(&hub, source), heard)));
        media.connect_unprepared(move |_| {
            let place: Option<(Subscription, Option<Sound>)> = place.lock().unwrap_or_else(PoisonError::into_inner).take();
            drop(place);
        });
    });
    factory
}

/// Between time stamps, at least (ns): one tick of RTP's clock and a little.
const TICK: u64 = 12_000;
/// Between units that are given to who joins, each (ns) and for each byte of the one before (ns): 40 Mbit/s. A player runs through
/// them and is then in the present; sent all at once, they would not fit into the buffer of one that watches over UDP.
const CATCH_UP: (u64, u64) = (1_000_000, 200);

/// Hands units to the media from the moment it runs.
fn subscribe(hub: &Arc<Hub>, source: gst_app::AppSrc) -> Subscription {
    let joins = Arc::downgrade(hub);
    let wants = move |_: &gst_app::AppSrc, _| {
        if let Some(hub) = joins.upgrade() {
            hub.catch_up();
        }
    };
    source.set_callbacks(gst_app::AppSrcCallbacks::builder().need_data(wants).build());
    // Until a key frame has gone in nothing may.
    let (mut broken, mut next) = (true, gst::ClockTime::ZERO);
    hub.subscribe(Box::new(move |unit: &AccessUnit| {
        // Units before it runs have no time in it.
        let runs = [source.current_state(), source.pending_state()].contains(&gst::State::Playing);
        let Some(base) = source.base_time().filter(|_| runs) else {
            broken = true;
            return false;
        };
        broken = (broken && !unit.keyframe) || source.current_level_bytes() > WAITING;
        if broken {
            return true;
        }
        // The boot-time clock counts suspend, GStreamer's does not.
        let now = SystemClock.boot().0;
        let suspended = now.saturating_sub(monotonic_us());
        let of = if unit.behind == 0 { unit.time() } else { gst::ClockTime::from_useconds(now) };
        let time = of.saturating_sub(gst::ClockTime::from_useconds(suspended)).saturating_sub(base).max(next);
        let pause = if unit.behind == 0 { TICK } else { CATCH_UP.0.max(CATCH_UP.1 * unit.buffer.size() as u64) };
        next = time + gst::ClockTime::from_nseconds(pause);
        let mut buffer = unit.buffer.clone();
        let b = buffer.make_mut();
        b.set_pts(time);
        b.set_dts(time);
        if source.caps().as_ref() != Some(&unit.caps) {
            source.set_caps(Some(&unit.caps));
        }
        // Refused only while the media is being put away.
        let _ = source.push_buffer(buffer);
        true
    }))
}

/// A new connection: it is known by the number that was given out last.
fn watch_client(client: &rtsp::RTSPClient, auth: &rtsp::RTSPAuth, hub: &Arc<Hub>, shared: &Arc<Shared>) {
    let number = shared.lock().next;
    if let Some(Err(e)) = auth.tls_certificate().map(|c| tls::encrypt(client, &c)) {
        log::warn!("RTSP: {e}");
        // Never in clear text.
        shared.lock().connections.iter_mut().filter(|c| c.number == number).for_each(end);
    }
    // Whole units or none, but never a growing queue.
    client.set_drop_backlog(true);
    let known = shared.clone();
    client.connect_setup_request(move |_, context| {
        for c in known.lock().connections.iter_mut().filter(|c| c.number == number) {
            c.watches = true;
            if let Some(session) = context.session().filter(|s| !c.sessions.contains(s)) {
                c.sessions.push(session.clone());
            }
        }
    });
    let hub = hub.clone();
    client.connect_play_request(move |_, _| hub.viewer_begins());
    let known = shared.clone();
    client.connect_closed(move |_| {
        let mut inside = known.lock();
        let at = inside.connections.iter().position(|c| c.number == number);
        let gone = at.map(|i| inside.connections.swap_remove(i));
        drop(inside);
        for session in gone.iter().flat_map(|c| &c.sessions) {
            // One that was torn down is no longer there.
            let _ = known.sessions.remove(session);
        }
    });
}

/// The thread `rtsp`.
fn accept(shared: &Shared, server: &rtsp::RTSPServer, listeners: &[TcpListener], most: usize) {
    loop {
        let mut fds = vec![PollFd::new(shared.stop.as_fd(), PollFlags::POLLIN)];
        fds.extend(listeners.iter().map(|l| PollFd::new(l.as_fd(), PollFlags::POLLIN)));
        let wait = PollTimeout::try_from(ROUND).unwrap_or(PollTimeout::NONE);
        // Interrupted or not: what is ready is looked at, and the limits are.
        let _ = poll(&mut fds, wait);
        threads::fault("work");
        let ready: Vec<bool> = fds.iter().map(|f| f.any().unwrap_or(false)).collect();
        if ready[0] {
            break;
        }
        for (listener, _) in listeners.iter().zip(&ready[1..]).filter(|(_, ready)| **ready) {
            while let Ok((socket, peer)) = listener.accept() {
                if let Err(e) = admit(shared, server, socket, peer, most) {
                    log::warn!("RTSP: {e}");
                }
            }
        }
        shared.sessions.cleanup();
        // The end of each handshake of TLS waits here, and holds its connection until somebody takes it.
        while glib::MainContext::default().iteration(false) {}
        let mut inside = shared.lock();
        for idle in inside.connections.iter_mut().filter(|c| !c.watches && c.since.elapsed() > IDLE) {
            end(idle);
        }
    }
    shared.lock().connections.iter_mut().for_each(end);
}

/// The library reads the end of the stream and does the rest.
fn end(c: &mut Connection) {
    // Already closed is as good.
    let _ = shutdown(std::os::fd::AsRawFd::as_raw_fd(&c.socket), Shutdown::Both);
}

fn admit(shared: &Shared, server: &rtsp::RTSPServer, socket: std::net::TcpStream, peer: SocketAddr, most: usize) -> Result<()> {
    let what = format!("take the connection of {peer}");
    let failed = |e: std::io::Error| Error::caused(Kind::Io, what.as_str(), e);
    let mut inside = shared.lock();
    let ip = peer.ip().to_canonical();
    if !inside.allow.contains(ip) {
        log::debug!("RTSP: {ip} is not in rtsp.allow");
        return Ok(());
    }
    // Twice as many connections as viewers: a player asks in one and watches in another. The oldest that only asks goes.
    if inside.connections.len() >= 2 * most {
        let oldest = inside.connections.iter_mut().filter(|c| !c.watches).min_by_key(|c| c.since);
        match oldest {
            Some(oldest) => {
                end(oldest);
                oldest.watches = true;
            }
            None => return Ok(()),
        }
    }
    setsockopt(&socket, sockopt::TcpUserTimeout, &STALLED_MS).map_err(|e| failed(e.into()))?;
    let second = socket.try_clone().map_err(failed)?;
    inside.next += 1;
    let number = inside.next;
    inside.connections.push(Connection {
        number,
        socket: second.into(),
        since: Instant::now(),
        watches: false,
        sessions: Vec::new(),
    });
    drop(inside);
    log::debug!("RTSP: {ip} connects");
    let refused = |e: Box<dyn std::error::Error + Send + Sync>| {
        shared.lock().connections.retain(|c| c.number != number);
        Error::caused(Kind::Io, what.as_str(), e)
    };
    let socket = gio::Socket::from_fd(OwnedFd::from(socket)).map_err(|e| refused(e.into()))?;
    let handed = server.transfer_connection(socket, &ip.to_string(), i32::from(peer.port()), None);
    handed.map_err(|e| refused(e.into()))
}
