//! Owns the requests to an HTTP camera: one after the other, over one connection that the library keeps with its login. Follows
//! redirects, and shows the login to no other host. Driven by the capture thread; what comes goes to the [`Receiver`] on the library's.

use std::sync::Arc;

use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app::{AppSink, AppSinkCallbacks};

use super::address::{Address, redirected, same_server};
use super::answer::Receiver;
use crate::error::{Error, Kind, Result};
use crate::gst::Pipe;

/// Seconds of silence after which the library gives a connection up. The capture's patience ends before, so this one only must not
/// be the library's default: with that one it would share its connections, and close them after each answer.
const SILENCE_S: u32 = 30;
/// Redirects in a row.
const HOPS: u32 = 5;

/// What the head of an answer says.
#[derive(Default)]
pub(super) struct Head {
    /// 0: no answer yet.
    pub status: u32,
    /// `Content-Type`, without its parameters, as it may be shown.
    pub content: String,
    /// `Content-Length` is there: a file, and no stream.
    pub measured: bool,
    location: Option<String>,
    /// The library's error, where there is one.
    pub failed: Option<gst::glib::Error>,
}

/// See the module's first lines.
pub(super) struct Fetch {
    pipe: Pipe,
    source: gst::Element,
    address: Address,
    /// Where the request under way goes.
    at: String,
    /// Where a redirect led, while pictures come from there.
    moved: Option<String>,
    /// Redirects hold for one request each.
    fickle: bool,
    hops: u32,
    pub head: Head,
}

impl Fetch {
    pub fn new(address: &Address, receiver: &Arc<Receiver>) -> Result<Fetch> {
        let line = "souphttpsrc name=source automatic-redirect=false iradio-mode=false retries=0 blocksize=65536 \
                    ! appsink name=body sync=false";
        let pipe = Pipe::launch(line, "build the receiver of pictures over HTTP")?;
        let source = pipe.named::<gst::Element>("source");
        source.set_property("timeout", SILENCE_S);
        address.trust.tell(&source);
        // A proxy on the way must not answer with the picture before.
        let fresh = gst::Structure::builder("extra-headers").field("Cache-Control", "no-cache").build();
        source.set_property("extra-headers", fresh);
        let (takes, ends) = (receiver.clone(), receiver.clone());
        let callbacks = AppSinkCallbacks::builder()
            .new_sample(move |sink| {
                let sample = sink.pull_sample().map_err(|_| gst::FlowError::Eos)?;
                let map = sample.buffer().and_then(|b| b.map_readable().ok());
                let wanted = takes.take(map.as_deref().unwrap_or_default());
                if wanted { Ok(gst::FlowSuccess::Ok) } else { Err(gst::FlowError::Eos) }
            })
            .eos(move |_| ends.end());
        pipe.named::<AppSink>("body").set_callbacks(callbacks.build());
        Ok(Fetch {
            pipe,
            source,
            address: address.clone(),
            at: address.location.clone(),
            moved: None,
            fickle: false,
            hops: 0,
            head: Head::default(),
        })
    }

    /// Makes a request.
    pub fn ask(&mut self) -> Result<()> {
        self.hops = 0;
        self.go(self.moved.clone().unwrap_or_else(|| self.address.location.clone()))
    }

    fn go(&mut self, location: String) -> Result<()> {
        let silent = || Error::new(Kind::Source, format!("{}: the request does not start", self.address.shown));
        // Only its own host is given the login.
        let login = self.address.login.as_ref().filter(|_| same_server(&self.address.location, &location));
        self.source.set_property("user-id", login.map(|l| &l.0));
        self.source.set_property("user-pw", login.map(|l| &l.1));
        self.source.set_property("location", &location);
        self.at = location;
        self.head = Head::default();
        self.pipe.pipeline.set_state(gst::State::Playing).map(drop).map_err(|_| silent())
    }

    /// Takes in what the library has to say of the answer.
    pub fn listen(&mut self) {
        while let Some(message) = self.pipe.bus.pop_filtered(&[gst::MessageType::Error, gst::MessageType::Element]) {
            match message.view() {
                gst::MessageView::Error(e) => {
                    // The first one is the cause.
                    self.head.failed.get_or_insert(e.error());
                    if let Some(status) = e.details().and_then(|d| d.get::<u32>("http-status-code").ok()) {
                        self.head.status = status;
                    }
                }
                gst::MessageView::Element(e) => {
                    if let Some(s) = e.structure().filter(|s| s.name() == "http-headers") {
                        self.head.status = s.get("http-status-code").unwrap_or(0);
                        self.head.content = header(s, "content-type").map_or_else(String::new, |c| kind(&c));
                        self.head.measured = header(s, "content-length").is_some();
                        self.head.location = header(s, "location");
                    }
                }
                _ => {}
            }
        }
    }

    /// Ends the request; an answer that has ended leaves its connection open.
    pub fn rest(&mut self) -> Result<()> {
        // One that fails in the middle of its start may refuse, and is ended with its connection.
        let rests = [gst::State::Ready, gst::State::Null].iter().any(|state| self.pipe.pipeline.set_state(*state).is_ok());
        if rests { Ok(()) } else { Err(Error::new(Kind::Source, format!("{}: the request does not end", self.address.shown))) }
    }

    /// After an answer that sends elsewhere: asks there. False where it does not, or in a circle.
    pub fn follow(&mut self) -> Result<bool> {
        let (Some(to), 300..=399) = (&self.head.location, self.head.status) else { return Ok(false) };
        let to = redirected(&self.at, to);
        self.hops += 1;
        if self.hops > HOPS || !(to.starts_with("http://") || to.starts_with("https://")) {
            return Ok(false);
        }
        // Also one that holds for now: following it anew costs each picture a request and a connection.
        self.moved = Some(to.clone()).filter(|_| !self.fickle);
        self.go(to).map(|()| true)
    }

    /// After an answer without a picture from where a redirect led before: asks at the first address. False where it came from there.
    pub fn return_home(&mut self) -> Result<bool> {
        if self.hops > 0 || self.moved.take().is_none() {
            return Ok(false);
        }
        self.fickle = true;
        self.ask().map(|()| true)
    }

    /// A redirect has led to another server, which is not given the login.
    pub fn is_elsewhere(&self) -> bool {
        !same_server(&self.address.location, &self.at)
    }

    /// Where the answer came from, with the login only where it belongs.
    pub fn place(&self) -> Address {
        let login = self.address.login.clone().filter(|_| !self.is_elsewhere());
        Address { location: self.at.clone(), login, ..self.address.clone() }
    }
}

/// A header of an answer.
fn header(headers: &gst::StructureRef, name: &str) -> Option<String> {
    let all = headers.get::<gst::Structure>("response-headers").ok()?;
    let field = all.fields().find(|f| f.as_str().eq_ignore_ascii_case(name))?;
    all.get::<String>(field.as_str()).ok()
}

/// A content type without parameters and without what is none.
fn kind(content: &str) -> String {
    let kind = content.split(';').next().unwrap_or_default().trim();
    kind.chars().filter(char::is_ascii_graphic).take(40).collect::<String>().to_ascii_lowercase()
}
