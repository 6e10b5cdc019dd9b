//! Owns what the RTSP server asks of whoever connects: the login, and the files of its certificate. Never accepts and never sends.
//! Made on the main thread, read by the server library's own.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;

use gstreamer_rtsp_server as rtsp;
use gstreamer_rtsp_server::gio::{self, TlsCertificate, TlsError};
use gstreamer_rtsp_server::glib;
use gstreamer_rtsp_server::prelude::*;

use super::super::settings::Tls;
use crate::disk;
use crate::error::{Error, Kind, Result};
use crate::threads::Thread;

/// Name of the one role there is; the library wants one.
pub const VIEWER: &str = "viewer";
/// What a player shows when it asks for the password.
const REALM: &str = "pastcam";

impl Tls {
    /// Reads both files. An error names the file, or the package where the system has no TLS.
    pub fn load(&self) -> Result<TlsCertificate> {
        let (certificate, key) = (self.certificate.display(), self.key.display());
        let readable = |key: &str, path: &Path| {
            let what = || format!("{key}: read {}", path.display());
            disk::read(path, disk::SMALL).map(drop).map_err(|e| Error::caused(Kind::Config, what(), e))
        };
        readable("rtsp.tls_certificate", &self.certificate)?;
        readable("rtsp.tls_key", &self.key)?;
        let read = TlsCertificate::from_files(&self.certificate, &self.key).and_then(|c| prove(&c).map(|()| c));
        read.map_err(|e| {
            if e.matches(TlsError::Unavailable) {
                let what = "rtsp.tls_certificate: this system has no TLS; install the package glib-networking";
                return Error::caused(Kind::Config, what, e);
            }
            let rule = "the files must hold a certificate and the key that belongs to it, both as PEM";
            Error::caused(Kind::Config, format!("rtsp.tls_certificate {certificate}, rtsp.tls_key {key}: {rule}"), e)
        })
    }
}

/// Meets a client of our own: only that shows whether the key belongs to the certificate.
fn prove(certificate: &TlsCertificate) -> std::result::Result<(), glib::Error> {
    let failed = |e: std::io::Error| glib::Error::new(TlsError::Misc, &e.to_string());
    let (here, there) = UnixStream::pair().map_err(failed)?;
    let stream = |end: UnixStream| -> std::result::Result<gio::SocketConnection, glib::Error> {
        let socket = gio::Socket::from_fd(OwnedFd::from(end))?;
        socket.set_timeout(5);
        Ok(socket.connection_factory_create_connection())
    };
    let shake = move || {
        let tls = gio::TlsClientConnection::new(&stream(there)?, gio::SocketConnectable::NONE)?;
        tls.connect_accept_certificate(|_, _, _| true);
        tls.handshake(gio::Cancellable::NONE)
    };
    let (to, client) = std::sync::mpsc::channel();
    let started = Thread::Tls.spawn(move || drop(to.send(shake())));
    started.map_err(|e| glib::Error::new(TlsError::Misc, &e.to_string()))?;
    let server =
        gio::TlsServerConnection::new(&stream(here)?, Some(certificate)).and_then(|tls| tls.handshake(gio::Cancellable::NONE));
    let met = client.recv().unwrap_or_else(|_| Err(glib::Error::new(TlsError::Misc, "the client of our own failed")));
    server.and(met)
}

/// Who gets in: whoever knows the login, or everybody where the user is empty; and the certificate that each of them is shown.
pub fn require(auth: &impl IsA<rtsp::RTSPAuth>, (user, password): (&str, &str), certificate: Option<&TlsCertificate>) {
    auth.set_realm(Some(REALM));
    auth.set_supported_methods(rtsp::gst_rtsp::RTSPAuthMethod::Digest);
    let mut token = rtsp::RTSPToken::builder().field(rtsp::RTSP_TOKEN_MEDIA_FACTORY_ROLE, VIEWER).build();
    if user.is_empty() {
        auth.set_default_token(Some(&mut token));
    } else {
        auth.add_digest(user, password, &token);
    }
    auth.set_tls_certificate(certificate);
}
