//! Owns the words for what goes wrong with a film or a network camera: what the library reports, in our own sentences, with the cause
//! as far as it can be found out and the cure. Never repeats a sentence of the library's, and no secret; with `logging.level` DEBUG
//! the log has both, the secrets taken out. Called on the capture thread when a source has failed; may then connect once to see why.

use gstreamer as gst;
use gstreamer::{CoreError, ResourceError, StreamError, glib};

use super::address::Address;
use super::reach;
use crate::error::{Error, Kind};

/// An error that the library has put on its bus; `came`: after pictures had come.
pub(super) fn explain(message: &gst::message::Error, address: &Address, came: bool) -> Error {
    log::debug!("{}", scrubbed(message, address));
    reason(&message.error(), status(message), address, came)
}

/// An error of the library's as it may stand in the log.
fn scrubbed(message: &gst::message::Error, address: &Address) -> String {
    address.scrub(&format!("GStreamer: {}: {}", message.error(), message.debug().unwrap_or_default()))
}

/// The status of the camera's answer, of which the library complains; 0 where there is none.
pub(super) fn status(message: &gst::message::Error) -> u32 {
    let field = |name| message.details().and_then(|d| d.get::<u32>(name).ok());
    field("rtsp-status-code").or_else(|| field("http-status-code")).unwrap_or(0)
}

/// The first error waiting on a bus, if any.
pub(super) fn first_error(bus: &gst::Bus, address: &Address) -> Option<Error> {
    match bus.pop_filtered(&[gst::MessageType::Error])?.view() {
        gst::MessageView::Error(e) => Some(explain(e, address, false)),
        _ => None,
    }
}

/// An error of the library's in our words; `status` is that of the camera's answer, 0 where there was none.
pub(super) fn reason(error: &glib::Error, status: u32, address: &Address, came: bool) -> Error {
    let kind = if status == 0 && error.matches(ResourceError::NotAuthorized) { 401 } else { status };
    if let Some(e) = refused(kind, address) {
        return e;
    }
    let why = answered(kind).or_else(|| unreachable(error, address, came)).unwrap_or_else(|| what(error, address, came).into());
    Error::new(Kind::Source, format!("{}: {why}", address.shown))
}

/// The camera does not let us in: asking again does not help.
pub(super) fn refused(status: u32, address: &Address) -> Option<Error> {
    let why = match (status, &address.login) {
        (401, Some(_)) if reach::wants_sha256(address) => {
            "the camera takes a login only as a SHA-256 digest, and the library for this knows MD5 only; choose MD5, digest or basic in the camera's settings"
        }
        (401, Some(_)) => "the camera refuses this user or password (401); correct them in camera.source",
        (401, None) => {
            "the camera wants a user and a password (401); write them into camera.source, as in rtsp://USER:PASSWORD@HOST/PATH"
        }
        (402 | 403, _) => {
            "the camera forbids this (403); give the user the right to watch, or this machine's address, in the camera's settings"
        }
        (407, _) => "a proxy on the way wants a login (407); reach the camera without the proxy",
        _ => return None,
    };
    Some(Error::new(Kind::Denied, format!("{}: {why}", address.shown)))
}

/// What the status of an answer means.
pub(super) fn answered(status: u32) -> Option<String> {
    Some(match status {
        404 | 410 => format!("the camera has nothing at this address ({status}); correct the path in camera.source"),
        300..=399 => format!("the camera sends elsewhere ({status}); write that address into camera.source"),
        429 | 453 | 503 => {
            format!("the camera serves nobody else now ({status}); close another viewer of it, or raise its limit")
        }
        459..=461 => format!("the camera refuses this way of transport ({status})"),
        400..=499 => format!("the camera refuses the request ({status}); check the path in camera.source"),
        500..=599 => format!("the camera has an error of its own ({status}); restart it if that stays"),
        _ => return None,
    })
}

/// Why there is no connection.
fn unreachable(error: &glib::Error, address: &Address, came: bool) -> Option<String> {
    // What is not understood has arrived.
    let arrived = came || error.kind::<StreamError>().is_some_and(|kind| kind != StreamError::Failed);
    let settled = arrived || error.matches(ResourceError::Settings) || error.is::<CoreError>();
    if !settled && !address.is_file() { reach::trouble(address) } else { None }
}

/// A camera that has not answered in time.
pub(super) fn unanswered(address: &Address) -> Error {
    let why = reach::trouble(address).unwrap_or_else(|| NO_ANSWER.into());
    Error::new(Kind::Source, format!("{}: {why}", address.shown))
}

const NO_ANSWER: &str = "the camera takes the connection and then closes it or does not answer; check that camera.source names the right port and path";

/// What the library's code means, where nothing better is known.
fn what(error: &glib::Error, address: &Address, came: bool) -> &'static str {
    let file = address.is_file();
    if let Some(kind) = error.kind::<ResourceError>() {
        return match kind {
            ResourceError::NotFound if file => "the file is gone; correct camera.source",
            _ if file => "the file cannot be read; check its permissions and its disk",
            ResourceError::Settings => {
                "the camera offers no video, or none that can be transported this way; check the path in camera.source"
            }
            _ if came => "the connection broke off",
            _ => NO_ANSWER,
        };
    }
    match (error.kind::<StreamError>(), error.kind::<CoreError>()) {
        (Some(StreamError::CodecNotFound), _) | (_, Some(CoreError::MissingPlugin)) => {
            "there is no decoder for what it sends; install the packages gstreamer1.0-libav and gstreamer1.0-plugins-bad, or choose H.264 in the camera"
        }
        (Some(StreamError::Failed), _) if came => "the stream broke off",
        (Some(StreamError::Decode | StreamError::Demux), _) if came => "what it sends is damaged",
        (Some(_), _) if file => "this is no video that is known here; convert it to H.264 in MP4",
        (Some(_), _) => {
            "what it sends is no video that is known here; check the path in camera.source, and choose H.264 in the camera"
        }
        _ => "the receiver failed; logging.level DEBUG tells more",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_logged_without_secrets() {
        crate::gst::init().unwrap();
        let cam = Address::of("rtsp://me:hunter1@cam/live?key=hunter2");
        let text = format!("cannot open {} as hunter1", cam.location);
        let message = gst::message::Error::builder(StreamError::Failed, &text).debug(&text).build();
        let gst::MessageView::Error(message) = message.view() else { panic!("{message:?}") };
        let told = scrubbed(message, &cam);
        assert!(told.contains("cam/live?key=***") && !told.contains("hunter"), "{told}");
    }

    #[test]
    fn no_sentence_of_the_library_s_is_repeated() {
        let library = "Internal data stream error.";
        let film = Address {
            location: "file:///a.mp4".into(),
            login: None,
            shown: "file /a.mp4".into(),
            trust: super::super::trust::Trust::default(),
        };
        let cam = Address::of("rtsp://me:secret@127.0.0.1:1/live");
        let said = |e: glib::Error, status, address: &Address, came| {
            let e = reason(&e, status, address, came);
            let text = e.to_string();
            assert!(text.starts_with(&address.shown) && !text.contains("Internal") && !text.contains("secret"), "{text}");
            (e.kind, text)
        };
        let failed = || glib::Error::new(StreamError::Failed, library);
        let read = || glib::Error::new(ResourceError::Read, library);
        assert!(said(failed(), 0, &film, false).1.contains("this is no video that is known here"));
        assert!(said(failed(), 0, &cam, true).1.ends_with("the stream broke off"));
        assert!(said(read(), 0, &cam, true).1.ends_with("the connection broke off"));
        assert!(said(read(), 0, &cam, false).1.contains("nothing listens on port 1 of 127.0.0.1"));
        assert!(said(read(), 404, &cam, false).1.contains("nothing at this address (404)"));
        assert!(said(read(), 453, &cam, false).1.contains("serves nobody else"));
        assert_eq!(said(read(), 403, &cam, false).0, Kind::Denied);
        assert_eq!(said(glib::Error::new(ResourceError::NotAuthorized, library), 0, &cam, false).0, Kind::Denied);
        assert!(said(glib::Error::new(CoreError::Pad, library), 0, &cam, false).1.contains("logging.level DEBUG"));
        assert!(said(glib::Error::new(CoreError::MissingPlugin, library), 0, &cam, false).1.contains("gstreamer1.0-libav"));
        assert!(said(glib::Error::new(ResourceError::NotFound, library), 0, &film, false).1.contains("the file is gone"));
    }
}
