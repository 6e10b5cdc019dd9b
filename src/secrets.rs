//! Owns what is secret in an address or a command line, known by what it means: a login in front of a host, and values whose names speak
//! of users, passwords, tokens and keys, in any part of an address. What is left tells which camera it is. Where it cannot be told what
//! is the password and what is the host, both are hidden. Everything that shows such a text asks here. Pure; any thread.

/// Stands where a secret was.
const HIDDEN: &str = "***";
/// A name has a secret value if one of its words has one of these in it. Words end at `_`, `-`, a digit and before a capital.
const PARTS: [&str; 12] = [
    "password",
    "passwd",
    "passphrase",
    "pwd",
    "login",
    "token",
    "secret",
    "credential",
    "session",
    "account",
    "signature",
    "apikey",
];
/// If one of its words begins so: `username`, `loginpas` has a part above, `authkey`.
const BEGINNINGS: [&str; 5] = ["pass", "user", "usr", "auth", "cred"];
/// If one of its words ends so: `adminpass`, `accesskey`.
const ENDINGS: [&str; 2] = ["pass", "key"];
/// If it is one of its words.
const WORDS: [&str; 9] = ["pas", "pw", "psw", "psk", "sig", "sign", "sid", "hash", "cookie"];
/// If it is the whole name.
const LETTERS: [&str; 2] = ["u", "p"];
/// Words that only look like one of these.
const INNOCENT: [&str; 8] = ["author", "authors", "authority", "compass", "bypass", "monkey", "hotkey", "passes"];

fn speaks_of_secrets(name: &str) -> bool {
    let mut words = vec![String::new()];
    let mut small = false;
    for c in name.chars() {
        if !c.is_ascii_alphabetic() || small && c.is_ascii_uppercase() {
            words.push(String::new());
        }
        if let (true, Some(word)) = (c.is_ascii_alphabetic(), words.last_mut()) {
            word.push(c.to_ascii_lowercase());
        }
        small = c.is_ascii_lowercase();
    }
    let is_secret = |word: &String| {
        !INNOCENT.contains(&word.as_str())
            && (WORDS.contains(&word.as_str())
                || PARTS.iter().any(|p| word.contains(p))
                || BEGINNINGS.iter().any(|p| word.starts_with(p))
                || ENDINGS.iter().any(|p| word.ends_with(p)))
    };
    words.iter().any(is_secret) || LETTERS.iter().any(|l| name.eq_ignore_ascii_case(l))
}

/// An address as it may be shown; a word that is none loses values with secret names only.
pub fn hidden(address: &str) -> String {
    let Some((scheme, rest)) = address.split_once("://") else { return pairs(address) };
    let (place, query) = rest.split_at(rest.find(['?', '#']).unwrap_or(rest.len()));
    if query.contains('@') {
        // The end of a password with `?` in it, or of a value: nobody knows.
        return format!("{scheme}://(hidden)");
    }
    let authority = &place[..place.find('/').unwrap_or(place.len())];
    // A password may have `/` and `@` in it. Only where no `:` is in front of the path, an `@` in the path is no login's.
    let shown = match place.rfind('@') {
        Some(at) if authority.contains(['@', ':']) && !authority.starts_with('[') => &place[at + 1..],
        _ => place,
    };
    pairs(&format!("{scheme}://{shown}{}", query.split('#').next().unwrap_or_default()))
}

/// A command line as it may be shown.
pub fn hidden_words<'a>(words: impl IntoIterator<Item = &'a str>) -> String {
    let mut shown: Vec<String> = Vec::new();
    let mut secret_follows = false;
    for word in words {
        let option = word.starts_with('-') && !word.contains('=');
        shown.push(if secret_follows && !option { HIDDEN.into() } else { hidden(word) });
        secret_follows = option && word.len() > 2 && speaks_of_secrets(word);
    }
    shown.join(" ")
}

/// The values that are secret in an address, as they stand there and as plain text.
pub fn values(address: &str) -> Vec<String> {
    let mut all = Vec::new();
    for text in [address.to_string(), plain(address)] {
        all.extend(spans(&text).into_iter().map(|(from, to)| text[from..to].to_string()));
    }
    all
}

/// Hides the values with secret names in `NAME=VALUE`, however these are joined, and the parts `USER:PASSWORD` of an address.
fn pairs(text: &str) -> String {
    let hide = |text: &str| {
        let (mut out, mut at, found) = (String::new(), 0, spans(text));
        for (from, to) in &found {
            out.push_str(&text[at..*from]);
            out.push_str(HIDDEN);
            at = *to;
        }
        (out + &text[at..], found.len())
    };
    // `%70wd%3Dx` means the same.
    let (written, plain) = (hide(text), hide(&plain(text)));
    if plain.1 > written.1 { plain.0 } else { written.0 }
}

/// Where secret values stand.
fn spans(text: &str) -> Vec<(usize, usize)> {
    let mut found: Vec<(usize, usize)> = Vec::new();
    let query = text.find('?').unwrap_or(text.len());
    let mut from = text[..query].find("://").map_or(query, |i| i + 3);
    for part in text[from..query].split('/') {
        let (name, value) = part.split_once(':').unwrap_or_default();
        let host = found.is_empty() && text[..from].ends_with("://") && value.bytes().all(|b| b.is_ascii_digit());
        if !name.is_empty() && !value.is_empty() && !part.contains('=') && !part.starts_with('[') && !host {
            found.push((from, from + part.len()));
        }
        from += part.len() + 1;
    }
    from = 0;
    while let Some(equals) = text[from..].find('=').map(|i| from + i) {
        let name = text[from..equals].rfind(|c: char| "&;/?,# \"'".contains(c)).map_or(from, |i| from + i + 1);
        let name = name.max(from);
        from = equals + 1;
        let end = from + value(&text[from..], equals > query);
        if end > from && speaks_of_secrets(&text[name..equals]) {
            found.push((from, end));
            from = end;
        }
    }
    found.sort_unstable();
    found
}

/// How long the value at the beginning of `text` is. Another pair may follow it behind `&`, `;` or `_`; in a path it ends at `/` as well.
fn value(text: &str, in_query: bool) -> usize {
    let pair_follows = |rest: &str| {
        let name = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '-').unwrap_or(rest.len());
        name > 0 && rest[name..].starts_with('=')
    };
    let ends = |(i, c): &(usize, char)| match c {
        '&' | '#' | ' ' | '"' | '\'' => true,
        '/' | '?' => !in_query,
        ';' | '_' | ',' => pair_follows(&text[i + 1..]),
        _ => false,
    };
    text.char_indices().find(ends).map_or(text.len(), |(i, _)| i)
}

/// With `%40` as `@`; what is no such letter stays.
pub fn plain(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let hex = tail.get(..2).filter(|h| first == b'%' && h.iter().all(u8::is_ascii_hexdigit));
        let byte = hex.and_then(|h| u8::from_str_radix(std::str::from_utf8(h).ok()?, 16).ok());
        bytes.push(byte.unwrap_or(first));
        rest = if byte.is_some() { &tail[2..] } else { tail };
    }
    String::from_utf8(bytes).unwrap_or_else(|_| text.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_lose_their_secrets_and_stay_recognisable() {
        for (whole, shown) in [
            ("rtsp://me:p@ss@cam:554/live?channel=1&key=x", "rtsp://cam:554/live?channel=1&key=***"),
            ("rtsp://cam/user=a_password=b_channel=1_stream=0.sdp", "rtsp://cam/user=***_password=***_channel=1_stream=0.sdp"),
            ("rtsp://cam/user=a&password=b_c&channel=1.sdp", "rtsp://cam/user=***&password=***&channel=1.sdp"),
            ("rtsp://cam/live&pwd=b", "rtsp://cam/live&pwd=***"),
            ("rtsp://cam/live;pwd=b;channel=2", "rtsp://cam/live;pwd=***;channel=2"),
            ("http://cam/snap.cgi?loginuse=a&loginpas=b/c?d&res=2#e", "http://cam/snap.cgi?loginuse=***&loginpas=***&res=2"),
            ("http://cam/pw=x/video", "http://cam/pw=***/video"),
            ("http://cam/x?%70wd%3Db%26channel=1", "http://cam/x?pwd=***&channel=1"),
            ("http://cam/x?api_key=a;b&X-Token=c", "http://cam/x?api_key=***&X-Token=***"),
            ("https://cam/a#b", "https://cam/a"),
            ("http://cam/snap?u=a&p=b&up=c", "http://cam/snap?u=***&p=***&up=c"),
            ("rtsp://cam:554/admin:secret/a:b=c/live:", "rtsp://cam:554/***/a:b=c/live:"),
            ("rtsp://cam/admin%3Asecret/x?t=1:2", "rtsp://cam/***/x?t=1:2"),
            ("rtsp://me:secret/x", "rtsp://***/x"),
            ("src/threads.rs:227", "src/threads.rs:227"),
            ("rtsp://cam/live@1", "rtsp://cam/live@1"),
            ("rtsp://[fe80::1]:554/live@1", "rtsp://[fe80::1]:554/live@1"),
            ("rtsp://me:se/cret@cam/x", "rtsp://cam/x"),
            ("rtsp://me:12/34@cam/x", "rtsp://cam/x"),
            ("rtsp://me:p@s/s@cam/x", "rtsp://cam/x"),
            ("rtsp://me:se?cr#t@cam/x", "rtsp://(hidden)"),
            ("rtsp://me:pw@cam/x?key=a@b", "rtsp://(hidden)"),
            ("auto", "auto"),
        ] {
            assert_eq!(hidden(whole), shown, "{whole}");
        }
    }

    #[test]
    fn names_of_secrets_are_known_and_no_others() {
        for name in "user usr userName loginuse loginpas pas pass passwd password Password1 user2 adminpass pwd pw api_key apikey \
                     APIKey AccessKeyId accesskey X-Auth auth authkey Authorization token access_token xToken secret cred session \
                     SessionID sid sig signature account hash u p P"
            .split_whitespace()
        {
            assert!(speaks_of_secrets(name), "{name}");
        }
        for name in "PASTCAM_FAULT pastcam past path compass bypass keyframe monkey author authors passes up 1080p ssid \
                     side inside signal design channel stream size step crash pattern speed usage"
            .split_whitespace()
        {
            assert!(!speaks_of_secrets(name), "{name}");
        }
    }

    #[test]
    fn command_lines_lose_their_secrets() {
        let line =
            ["pastcam", "--source", "rtsp://u:p@cam/1", "--token", "abc", "--json", "token=def", "--password=g", "-p", "9"];
        assert_eq!(hidden_words(line), "pastcam --source rtsp://cam/1 --token *** --json token=*** --password=*** -p 9");
    }

    #[test]
    fn the_secret_values_of_an_address_are_known() {
        assert_eq!(values("rtsp://cam/user=a_password=b%40c_x=1"), ["a", "b%40c", "a", "b@c"]);
        assert_eq!(values("rtsp://cam:1/admin:b/?p=c"), ["admin:b", "c", "admin:b", "c"]);
    }
}
