//! Owns the look at each request's login, on its way to the library's own check: wrong ones slow their address down. Runs on the
//! server library's threads.

use std::sync::{Arc, OnceLock};

use gstreamer_rtsp_server as rtsp;
use gstreamer_rtsp_server::glib;
use gstreamer_rtsp_server::subclass::prelude::*;

use super::connections::Shared;

/// The library's part.
#[derive(Default)]
pub struct Inner(OnceLock<Arc<Shared>>);

#[glib::object_subclass]
impl ObjectSubclass for Inner {
    const NAME: &'static str = "PastcamLogin";
    type Type = Login;
    type ParentType = rtsp::RTSPAuth;
}

impl ObjectImpl for Inner {}

impl RTSPAuthImpl for Inner {
    fn check(&self, request: &rtsp::RTSPContext, check: &glib::GString) -> bool {
        if let (Some(shared), Some(client)) = (self.0.get(), request.client()) {
            shared.with_client(client, |c| c.asked = true);
        }
        self.parent_check(request, check)
    }

    fn authenticate(&self, request: &rtsp::RTSPContext) -> bool {
        let done = self.parent_authenticate(request);
        // Who sends no login asks how to.
        let tried = request.request().is_some_and(|r| !r.parse_auth_credentials().is_empty());
        if let (true, Some(shared), Some(client)) = (tried, self.0.get(), request.client()) {
            let right = request.token().is_some();
            shared.with_client(client, |c| c.tried_to_log_in(right, &shared.slow));
        }
        done
    }
}

glib::wrapper! {
    /// A login check that counts.
    pub struct Login(ObjectSubclass<Inner>) @extends rtsp::RTSPAuth;
}

impl Login {
    /// One that tells `shared`.
    pub(super) fn new(shared: &Arc<Shared>) -> Login {
        let login: Login = glib::Object::new();
        // The only one to set it.
        let _ = login.imp().0.set(shared.clone());
        login
    }
}
