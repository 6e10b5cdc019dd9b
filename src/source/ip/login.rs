//! Owns how often a login is tried at an RTSP camera: the library answers each refusal with the same login, nine times, and cameras
//! lock an account after a few. Looks at each request before it is sent, on the library's thread, and may then ask the camera once
//! whether it wants a login for everything. Changes no request.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_rtsp_server::gst_rtsp::rtsp_message::RTSPMessage;

use super::address::Address;
use super::reach;

/// Has a login tried once. One that has worked on this connection may be repeated once a request, since a camera may ask for it anew,
/// with another nonce each time. `described` is set when the camera describes its stream.
pub(super) fn try_once(source: &gst::Element, described: &Arc<AtomicBool>, address: &Address) {
    let (accepted, knows, address) = (described.clone(), described.clone(), address.clone());
    source.connect("on-sdp", false, move |_| {
        knows.store(true, Relaxed);
        None
    });
    let attempts = Mutex::new(Attempts::default());
    source.connect("before-send", false, move |values| {
        let request = values[1].get::<&RTSPMessage>().ok();
        // A request that goes out once more still has the login that was refused.
        let refused = request.is_some_and(|r| !r.parse_auth_credentials().is_empty());
        let mut attempts = attempts.lock().unwrap_or_else(PoisonError::into_inner);
        // Not sent, the answer before it stands: the refusal.
        Some(attempts.goes_out(refused, accepted.load(Relaxed), || reach::wants_login(&address)).to_value())
    });
}

/// What has gone out on one connection.
#[derive(Default)]
struct Attempts {
    /// How often something went out for the first time, or for the first time with the login in force.
    sent: u32,
    /// The request under way has gone out with a new login.
    again: bool,
}

impl Attempts {
    /// Whether this request may go out. `refused`: it still has a login, which was refused; `accepted`: the login has worked.
    fn goes_out(&mut self, refused: bool, accepted: bool, wants_login: impl FnOnce() -> bool) -> bool {
        if !refused {
            (self.sent, self.again) = (self.sent + 1, false);
            return true;
        }
        // `OPTIONS`, then `DESCRIBE` without a login and with it; or `OPTIONS` without and with it, which has then worked, and
        // `DESCRIBE` with it. The library does not say which. One refused at the first request has not worked.
        !std::mem::replace(&mut self.again, true) && (accepted || self.sent > 2 && wants_login())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_is_repeated_only_where_it_has_worked() {
        let said = |requests: &[bool], accepted: bool, wants: bool| {
            let mut attempts = Attempts::default();
            requests.iter().map(|refused| attempts.goes_out(*refused, accepted, || wants)).collect::<Vec<_>>()
        };
        assert_eq!(said(&[false, false, true, true], false, true), [true, true, false, false], "refused at once");
        assert_eq!(said(&[false, false, false, true, true], false, false), [true, true, true, false, false]);
        assert_eq!(said(&[false, false, false, true, true], false, true), [true, true, true, true, false]);
        assert_eq!(said(&[false, true, true, false, true], true, false), [true, true, false, true, true]);
    }
}
