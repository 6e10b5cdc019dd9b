//! Owns the step that makes a new connection an encrypted one. One of three rooms where `unsafe` is allowed (the others are
//! `ring::map` and `source::camera::map`): the server library takes connections that were accepted elsewhere, but looks at
//! its certificate only for those it accepts itself, and the functions for the former have no safe form. Runs on the thread
//! `rtsp`, before the library reads the first byte.
#![allow(unsafe_code, reason = "the binding has no safe form of these three calls")]

use gstreamer_rtsp_server as rtsp;
use gstreamer_rtsp_server::ffi;
use gstreamer_rtsp_server::gio::{TlsCertificate, TlsConnection, prelude::*};
use gstreamer_rtsp_server::glib::translate::{ToGlibPtr, from_glib_none};
use gstreamer_rtsp_server::gst_rtsp::ffi as connection;

use crate::error::{Error, Kind, Result};

/// Shows this certificate on a connection of which nothing has been read yet. After an error the connection must be ended.
pub(super) fn encrypt(client: &rtsp::RTSPClient, certificate: &TlsCertificate) -> Result<()> {
    let failed = || Error::new(Kind::Io, "take a connection: it cannot be encrypted; reinstall the package glib-networking");
    // SAFETY: the client is alive for the length of the borrow, and the function only reads a pointer from it.
    let raw = unsafe { ffi::gst_rtsp_client_get_connection(client.to_glib_none().0) };
    if raw.is_null() {
        return Err(failed());
    }
    // SAFETY: the connection belongs to the client, which is alive, and no other thread knows either yet: the library says
    // `client-connected` before it hands the client to a thread. A null error pointer is allowed.
    let tls = unsafe { connection::gst_rtsp_connection_get_tls(raw, std::ptr::null_mut()) };
    if tls.is_null() {
        return Err(failed());
    }
    // SAFETY: not null, and a reference of our own is taken; the connection keeps its own.
    let tls: TlsConnection = unsafe { from_glib_none(tls) };
    tls.set_certificate(certificate);
    Ok(())
}
