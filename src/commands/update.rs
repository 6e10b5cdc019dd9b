//! Owns `update BYTES`: what is asked for, the answer.

use std::sync::Arc;

use super::{Commands, Respond, failed};
use crate::error::{Error, Kind};
use crate::server::{Answer, Body};
use crate::verbs::{self, Call};

impl Commands {
    /// Takes the file behind the line; answers when it is installed or refused.
    pub(super) fn update(self: &Arc<Self>, call: &Call, body: Option<Body>, respond: Respond) {
        let (Some(size), Some(body)) = (call.number(verbs::BYTES), body) else {
            return respond(failed(&Error::new(Kind::Usage, "update wants a line end and then the file, over TCP")));
        };
        self.updates.begin(size as u64, body, move |result| {
            respond(match result {
                Ok(text) => Answer::ok(format!("OK update {text}, restarts in 5 s")),
                Err(e) => failed(&e),
            });
        });
    }
}
