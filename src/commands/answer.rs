//! Owns what every answer has in common on its way back: the refused ones are logged.

use std::sync::Arc;

use super::{Commands, Line, Respond};
use crate::server::Answer;
use crate::verbs;

impl Commands {
    /// The way back for the answer to this line, whatever it is.
    pub(super) fn answering(self: &Arc<Self>, line: &Line<'_>, respond: Respond) -> Respond {
        let (this, text, peer) = (self.clone(), line.text.to_string(), line.peer);
        Box::new(move |mut answer: Answer| {
            if let Some(why) = answer.refused.take() {
                let verb = text.split_whitespace().next().and_then(|word| verbs::named(verbs::TABLE, word.as_bytes()));
                // Whoever guesses tokens is told of once a minute, whatever verbs it tries.
                let about = if answer.is_denied() { "denied" } else { verb.map_or("?", |v| v.word()) };
                let subject = format!("{} {about}", peer.ip());
                let said = verbs::without_token(&text, &format!("Refused \"{text}\" of {peer}: {why}"));
                this.refused.log_about(log::Level::Info, &subject, &said);
            }
            respond(answer);
        })
    }
}
