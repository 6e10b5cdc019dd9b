//! Owns which letters, and which words for date and time, a text in pictures may have. Pure; any thread; the core, which draws
//! nothing, knows this much of the room.

use crate::settings::Refusal;

/// What may follow `%`: what `GLib` formats into letters of the font, of `strftime`'s.
pub const FORMATS: &str = "aAbBcCdeFgGhHIjklmMpPrRsSTuVwxXyYzZ%";
/// What may stand between them: no, blank or zero padding.
const PADDING: &str = "-_0";

/// Where a letter stands in the font, which has those from blank to `_`; small ones are drawn large.
pub fn place(letter: char) -> Option<usize> {
    (' '..='_').contains(&letter.to_ascii_uppercase()).then(|| letter.to_ascii_uppercase() as usize - ' ' as usize)
}

/// Refuses a text that could not be drawn as it is written.
pub fn check(text: &str) -> Result<(), Refusal> {
    if let Some(letter) = text.chars().find(|c| place(*c).is_none()) {
        return Err(Refusal::new(
            "letters, digits and signs of ASCII but backtick, braces, bar and tilde",
            format!("\"{letter}\""),
        ));
    }
    for part in formats(text) {
        if !part.ends_with(|c| FORMATS.contains(c)) {
            return Err(Refusal::new(format!("% followed by one of {FORMATS}"), format!("%{part}")));
        }
    }
    Ok(())
}

/// What follows each `%`, with its padding; nothing at the end of the text.
fn formats(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let after = &rest[rest.find('%')? + 1..];
        let padded = after.trim_start_matches(|c| PADDING.contains(c));
        let part = &after[..after.len() - padded.len() + padded.chars().next().map_or(0, char::len_utf8)];
        rest = &after[part.len()..];
        Some(part)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_drawn_is_named() {
        for good in ["", "Gate 1: %Y-%m-%d %H:%M:%S", "100%%", "%-d.%-m.", "%e", "[a_b] ^", "50 %% %H"] {
            assert_eq!(check(good).map_err(|e| e.to_string()), Ok(()), "{good}");
        }
        let cases = [
            ("Tür", "\"ü\""),
            ("a~b", "\"~\""),
            ("%H %Q", "%Q"),
            ("100%", "%"),
            ("%-", "%-"),
            ("%n", "%n"),
            ("% d", "% "),
            ("%", "%"),
        ];
        for (text, named) in cases {
            let said = check(text).unwrap_err().to_string();
            assert!(said.ends_with(&format!(", not {named}")), "{text}: {said}");
        }
    }
}
