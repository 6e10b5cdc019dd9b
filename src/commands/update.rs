//! Owns `update BYTES`: who may, what is asked for, the answer.

use std::sync::Arc;

use super::{Commands, Respond, Words, failed};
use crate::config::Config;
use crate::error::{Error, Kind};
use crate::server::{Answer, Body};

impl Commands {
    /// Takes the file behind the line; answers when it is installed or refused.
    pub(super) fn update(self: &Arc<Self>, config: &Config, words: &Words, body: Option<Body>, respond: Respond) {
        let refuse = |kind, text: &str| failed(&Error::new(kind, text));
        // Whoever may take pictures may not therefore replace the system.
        if config.network.token.is_empty() {
            return respond(refuse(Kind::Denied, "update wants a token, and none is set (network.token)"));
        }
        let size = match words.plain.as_slice() {
            [size] if words.is_bare() => size.parse::<u64>().ok(),
            _ => None,
        };
        let Some(size) = size else {
            return respond(refuse(
                Kind::Usage,
                "update takes the file's size in bytes, and then the file: update BYTES token=WORD",
            ));
        };
        let Some(body) = body else {
            return respond(refuse(Kind::Usage, "update wants a line end and then the file, over TCP"));
        };
        self.updates.begin(size, body, move |result| {
            respond(match result {
                Ok(text) => Answer::ok(format!("OK update {text}, restarts in 5 s")),
                Err(e) => failed(&e),
            });
        });
    }
}
