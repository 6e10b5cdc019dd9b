//! Owns the doors through which a fuzzer's bytes go into the rooms that read what strangers and crashes wrote. Only in tests and in
//! the fuzzer's builds (`cfg(fuzzing)`), never in the program. Each target returns or panics; a panic is a finding. Any thread.

#[cfg(feature = "media")]
use std::io::Write;
use std::time::Duration;

use crate::clock::BootUs;
use crate::codec::h264;
use crate::config::Config;
use crate::error::Kind;
#[cfg(feature = "media")]
use crate::export::mend::mend;
use crate::hours::Span;
use crate::net::AllowList;
use crate::secrets;
use crate::send;
use crate::server::line::{Framer, Item, LINE_MAX, Rules};
use crate::settings::Word;
#[cfg(feature = "media")]
use crate::source::ip::address::Address;
#[cfg(feature = "media")]
use crate::source::ip::jpeg::{Found, Splitter};
use crate::verbs;

#[cfg(test)]
mod mutate;
#[cfg(test)]
mod tests;

/// The trigger port's framing. The first byte says how the rest arrives: whether the connection stays open (1), in pieces of which
/// size (14), with a silence after each (16), and
/// that verbs which run at once do not (32).
pub fn line(bytes: &[u8]) {
    let Some((how, rest)) = bytes.split_first() else { return };
    let rules = Rules {
        idle: Duration::from_millis(200),
        verbs: verbs::TABLE,
        at_once: how & 32 == 0,
        lines: 4,
        stays_open: how & 1 == 1,
    };
    let size = [usize::MAX, 1, 2, 3, 7, 64, 513, 4096][usize::from(how >> 1 & 7)];
    let mut framer = Framer::new(rules);
    let mut now = BootUs(1);
    let mut lines = 0;
    let mut look = |framer: &mut Framer| {
        while let Some(item) = framer.next_item() {
            if let Item::Line { text, .. } = item {
                lines += 1;
                assert!(text.len() <= LINE_MAX && text.trim_matches(' ') == text, "{text:?}");
                assert!(text.bytes().all(|b| (0x20..=0x7E).contains(&b)), "{text:?}");
            }
        }
    };
    for piece in rest.chunks(size.min(rest.len().max(1))) {
        framer.feed(piece, now);
        now = now + Duration::from_millis(if how & 16 == 0 { 1 } else { 300 });
        framer.quiet(now);
        look(&mut framer);
    }
    if let Some((body, _)) = framer.take_body() {
        assert!(body.len() <= rest.len());
    }
    framer.end(now);
    look(&mut framer);
    assert!(rules.stays_open || lines <= rules.lines, "{lines} lines");
}

/// A configuration file: believed, or refused in one line.
pub fn config(bytes: &[u8]) {
    match Config::parse(bytes) {
        Ok(config) => {
            assert!(config.camera.width % 2 == 0 && config.camera.height % 2 == 0);
        }
        Err(e) => {
            let words = e.to_string();
            assert!(e.kind == Kind::Config && !words.is_empty() && !words.contains('\n'), "{words:?}");
        }
    }
}

/// Everything short that a user or a client writes: addresses, allow lists, times of the day.
pub fn address(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    #[cfg(feature = "media")]
    {
        let address = Address::of(&text);
        assert!(address.login.is_none() || !address.location.is_empty());
        let _ = address.scrub(&text);
    }
    assert!(secrets::hidden(&text).len() <= 3 * text.len() + "://(hidden)".len());
    let _ = secrets::values(&text);
    let _ = (send::address(&text), Span::read(&text));
    if let Ok(list) = AllowList::parse(&[&*text]) {
        let _ = list.contains([127, 0, 0, 1].into());
    }
}

/// The NAL units of an encoded picture.
pub fn nal(bytes: &[u8]) {
    let units: usize = h264::leading_nal_units(bytes).map(<[u8]>::len).sum();
    assert!(units <= bytes.len());
    let _ = (h264::is_random_access(bytes), h264::is_b_picture(bytes));
}

/// JPEG pictures in what an HTTP camera sends. The first byte says in pieces of which size it arrives.
#[cfg(feature = "media")]
pub fn jpeg(bytes: &[u8]) {
    let Some((how, rest)) = bytes.split_first() else { return };
    let mut splitter = Splitter::new(1 << 16);
    let mut whole = 0;
    for piece in rest.chunks(usize::from(*how).max(1)) {
        let found = &mut |found| {
            if let Found::Whole(picture) = found {
                whole += picture.len();
                assert!(picture.starts_with(&[0xff, 0xd8, 0xff]) && picture.ends_with(&[0xff, 0xd9]));
            }
        };
        splitter.feed(piece, found);
    }
    assert!(whole <= rest.len());
    splitter.end();
}

/// What a crash left of a recording.
#[cfg(feature = "media")]
pub fn mend_mp4(bytes: &[u8]) {
    let name = format!("pastcam-fuzz-{}-{:?}", std::process::id(), std::thread::current().id());
    let folder = ["/dev/shm", "/tmp"].into_iter().find(|f| std::path::Path::new(f).is_dir()).unwrap_or(".");
    let path = std::path::Path::new(folder).join(name);
    std::fs::File::create(&path).and_then(|mut f| f.write_all(bytes)).expect("the fuzzer's own folder can be written");
    // A damaged file may be refused, after which it is cut.
    if let Ok(whole) = mend(&path) {
        let now = std::fs::metadata(&path).map_or(0, |m| m.len());
        assert!(whole <= bytes.len() as u64 && now <= 64 * bytes.len() as u64 + 4096, "{whole} of {}, now {now}", bytes.len());
    }
    let _ = std::fs::remove_file(&path);
}
