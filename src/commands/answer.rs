//! Owns what every answer has in common: the line's `id=` in it, and the refused ones in the log.

use std::sync::Arc;

use super::{Commands, Line, Respond};
use crate::server::{ANSWER_MAX, Answer};
use crate::verbs;

impl Commands {
    /// The way back for the answer to this line, whatever it is.
    pub(super) fn answering(self: &Arc<Self>, line: &Line<'_>, respond: Respond) -> Respond {
        let (this, text, peer) = (self.clone(), line.text.to_string(), line.peer);
        Box::new(move |mut answer: Answer| {
            if let Some(why) = answer.refused.take() {
                let verb = text.split_whitespace().next().and_then(|word| verbs::named(verbs::TABLE, word.as_bytes()));
                let subject = format!("{} {}", peer.ip(), verb.map_or("?", |v| v.word()));
                let said = verbs::without_token(&text, &format!("Refused \"{text}\" of {peer}: {why}"));
                this.refused.log_about(log::Level::Info, &subject, &said);
            }
            if let Some(id) = verbs::id_of(&text) {
                echo(&mut answer, id);
            }
            respond(answer);
        })
    }
}

/// Adds the line's `id=` to its answer.
fn echo(answer: &mut Answer, id: &str) {
    if answer.line.starts_with('{') {
        // JSON stays JSON: the id becomes its first member.
        answer.line.insert_str(1, &format!("\"id\":\"{id}\","));
    } else {
        let id = format!(" id={id}");
        if !answer.long {
            // A sentence that quotes a long word would push the id out of the line.
            answer.line = answer.line.chars().take(ANSWER_MAX - 1 - id.len()).collect();
        }
        answer.line.push_str(&id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_comes_back_in_text_and_in_json() {
        let echoed = |answer: &str| {
            let mut answer = Answer::ok(answer);
            echo(&mut answer, "7");
            answer.line
        };
        assert_eq!(echoed("PONG"), "PONG id=7");
        assert_eq!(echoed("{\"ok\":true}"), "{\"id\":\"7\",\"ok\":true}");
        let cut = echoed(&"x".repeat(1000));
        assert!(cut.len() == ANSWER_MAX - 1 && cut.ends_with("x id=7"), "{cut}");
    }
}
