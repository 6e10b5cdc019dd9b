//! Owns the RTSP server: puts together who may connect, how many, and the media that give the hub's units to viewers: one for all
//! of them, or one each while a camera's own stream is passed through. Never encodes. The thread `rtsp` accepts connections and sees
//! to time limits; the server library's own threads speak to viewers and send pictures.

mod accept;
pub mod auth;
mod connections;
mod lobby;
mod login;
mod media;
pub mod sound;
mod tls;
mod unprepare;

use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use gstreamer_rtsp_server as rtsp;
use gstreamer_rtsp_server::gio::TlsCertificate;
use gstreamer_rtsp_server::glib::prelude::*;
use gstreamer_rtsp_server::gst_rtsp::RTSPStatusCode;
use gstreamer_rtsp_server::prelude::*;
use nix::sys::eventfd::{EfdFlags, EventFd};

use self::connections::{Connection, Shared};
use self::login::Login;
use self::media::Lingers;
use self::unprepare::Unpreparing;
use super::CODEC;
use super::hub::Hub;
use super::settings::{Rtsp as Settings, Tls};
use crate::error::{Error, Kind, Result};
use crate::net::AllowList;
use crate::threads::Thread;

/// What a viewer may send behind a request (bytes): parameters that nobody here reads. The library's default is 4 GiB, taken into
/// memory ahead of any login.
const BODY: u32 = 16 << 10;
/// Threads of the library that speak to viewers. With four, who came while the last viewer went was answered 503, and once the library
/// (1.22) ended the process while a viewer left; slow requests wait in the [lobby] and do not reach this one.
const THREADS: i32 = 1;

/// The running server.
pub struct Rtsp {
    shared: Arc<Shared>,
    auth: Login,
    factory: rtsp::RTSPMediaFactory,
    thread: Mutex<Option<JoinHandle<()>>>,
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
        let listeners = crate::net::bind::tcp(&settings.bind, settings.port, "rtsp.port")?;
        let stop = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)
            .map_err(|e| Error::caused(Kind::Io, "open an eventfd for the rtsp port", e))?;
        let (server, unpreparing, lingers) =
            (rtsp::RTSPServer::new(), Arc::new(Unpreparing::default()), Arc::new(Lingers::default()));
        let sessions = rtsp::RTSPSessionPool::new();
        // Who may watch is decided by connection; those that have just ended may still be in the library.
        sessions.set_max_sessions(4 * settings.max_clients);
        server.set_session_pool(Some(&sessions));
        // Since GStreamer 1.18.
        if server.has_property_with_type("content-length-limit", u32::static_type()) {
            server.set_property("content-length-limit", BODY);
        }
        let mounts = rtsp::RTSPMountPoints::new();
        let factory = media::factory(hub, encrypted, sound, &unpreparing, &lingers);
        mounts.add_factory("/stream", factory.clone());
        server.set_mount_points(Some(&mounts));
        let threads = rtsp::RTSPThreadPool::new();
        threads.set_max_threads(THREADS);
        server.set_thread_pool(Some(&threads));
        let shared = Arc::new(Shared::new(settings.allow.clone(), settings.max_clients as usize, stop, sessions));
        let ends = Arc::downgrade(&shared);
        let auth = Login::new(&shared);
        auth::require(&auth, (&settings.user, &settings.password), certificate.as_ref());
        server.set_auth(Some(&auth));
        shared.sessions.connect_session_removed(move |_, session| {
            if let Some(shared) = ends.upgrade() {
                shared.session_ended(session);
            }
        });
        let (hub, known, shown) = (hub.clone(), shared.clone(), auth.clone());
        server.connect_client_connected(move |_, client| watch_client(client, &shown, &hub, &known, &unpreparing));
        let accepts = shared.clone();
        let thread = Thread::Rtsp.keep(move || accept::run(&accepts, &server, &listeners, &lingers, encrypted))?;
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

/// A new connection: it is known by the number that was given out last.
fn watch_client(client: &rtsp::RTSPClient, auth: &Login, hub: &Arc<Hub>, shared: &Arc<Shared>, unpreparing: &Arc<Unpreparing>) {
    let number = shared.lock().next;
    let with = |act: &dyn Fn(&mut Connection)| shared.lock().connections.iter_mut().filter(|c| c.number == number).for_each(act);
    with(&|c| c.client.set(Some(client)));
    if let Some(Err(e)) = auth.tls_certificate().map(|c| tls::encrypt(client, &c)) {
        log::warn!("RTSP: {e}");
        // Never in clear text.
        with(&Connection::end);
    }
    // Whole units or none, but never a growing queue.
    client.set_drop_backlog(true);
    let unpreparing = unpreparing.clone();
    client.connect_pre_describe_request(move |_, _| {
        unpreparing.wait();
        RTSPStatusCode::Ok
    });
    // Said only of a description that was given: whoever has no login, or asks for another address, throws nobody out.
    let known = shared.clone();
    client.connect_describe_request(move |_, _| known.make_room(number));
    let known = shared.clone();
    client.connect_pre_setup_request(move |_, context| {
        let may = context.session().is_some() || known.may_watch(number);
        if may { RTSPStatusCode::Ok } else { RTSPStatusCode::ServiceUnavailable }
    });
    let known = shared.clone();
    client.connect_setup_request(move |_, context| {
        for c in known.lock().connections.iter_mut().filter(|c| c.number == number) {
            if let Some(session) = context.session().filter(|s| !c.sessions.contains(s)) {
                c.sessions.push(session.clone());
            }
        }
    });
    let hub = hub.clone();
    client.connect_play_request(move |_, _| hub.viewer_begins());
    let known = shared.clone();
    client.connect_closed(move |_| known.forget(number));
}
