//! Every framing rule of `docs/reference/protocol.md`, each with a fake time in milliseconds.

use super::*;

const ONCE: Rules =
    Rules { idle: Duration::from_millis(200), verbs: crate::verbs::TABLE, at_once: true, lines: 8, stays_open: false };
const OPEN: Rules = Rules { stays_open: true, ..ONCE };

fn ms(t: u64) -> BootUs {
    BootUs(1_000_000 + t * 1000)
}

fn take(f: &mut Framer) -> Vec<String> {
    std::iter::from_fn(|| f.next_item())
        .map(|i| match i {
            Item::Line { text, .. } => text,
            other => format!("!{other:?}"),
        })
        .collect()
}

/// Feeds segments at their times, keeping every deadline between them, and gives what came out and when it was complete.
fn timed(rules: Rules, segments: &[(u64, &[u8])]) -> Vec<(u64, String)> {
    let mut f = Framer::new(rules);
    let mut got = Vec::new();
    let quiet_until = |f: &mut Framer, end: BootUs, got: &mut Vec<(u64, String)>| {
        while let Some(due) = f.deadline().filter(|&due| due <= end) {
            f.quiet(due);
            got.extend(take(f).into_iter().map(|l| ((due.0 - ms(0).0) / 1000, l)));
        }
    };
    for &(t, bytes) in segments {
        quiet_until(&mut f, ms(t), &mut got);
        f.feed(bytes, ms(t));
        got.extend(take(&mut f).into_iter().map(|l| (t, l)));
    }
    quiet_until(&mut f, BootUs(u64::MAX), &mut got);
    got
}

/// The lines of one segment and an end of input.
fn lines(bytes: &[u8]) -> Vec<String> {
    let mut f = Framer::new(ONCE);
    f.feed(bytes, ms(0));
    f.end(ms(1));
    take(&mut f)
}

#[test]
fn every_terminator_ends_a_line_at_once() {
    for end in ["\n", "\r", "\r\n", "\n\r", "\0", "\r\0", "\0\0\0\0"] {
        assert_eq!(timed(ONCE, &[(0, format!("save{end}").as_bytes())]), [(0, "save".into())], "{end:?}");
    }
    let mut f = Framer::new(ONCE);
    f.feed(b"save jpg", ms(0));
    assert!(!f.has_items());
    f.end(ms(5));
    assert_eq!(take(&mut f), ["save jpg"]);
}

#[test]
fn silence_completes_an_unterminated_line() {
    assert_eq!(timed(ONCE, &[(0, b"save")]), [(200, "save".into())]);
    assert_eq!(timed(ONCE, &[(0, b"sa"), (150, b"ve")]), [(350, "save".into())]);
    assert_eq!(timed(Rules { idle: Duration::from_millis(60), ..ONCE }, &[(0, b"save")]), [(60, "save".into())]);
}

#[test]
fn the_terminator_written_later_is_no_second_command() {
    assert_eq!(timed(ONCE, &[(0, b"save"), (49, b"\r\n")]), [(49, "save".into())]);
    assert_eq!(timed(ONCE, &[(0, b"save"), (300, b"\r\n")]), [(200, "save".into())]);
    assert_eq!(timed(ONCE, &[(0, b"health"), (49, b"\r\n")]), [(0, "health".into())]);
}

#[test]
fn a_word_without_argument_runs_at_once_but_not_as_a_prefix() {
    assert_eq!(timed(ONCE, &[(0, b"night_level")]), [(0, "night_level".into())]);
    assert_eq!(timed(ONCE, &[(0, b"PING")]), [(0, "PING".into())]);
    assert_eq!(timed(ONCE, &[(0, b"\x02health\x03")]), [(0, "health".into())]);
    assert_eq!(timed(ONCE, &[(0, b"status"), (20, b" json")]), [(220, "status json".into())]);
    assert_eq!(timed(ONCE, &[(0, b"ping "), (20, b"id=4\n")]), [(20, "ping id=4".into())]);
    assert_eq!(timed(ONCE, &[(0, b"healthy")]), [(200, "healthy".into())]);
}

fn typed(text: &str) -> Vec<(u64, String)> {
    let bytes = text.as_bytes();
    let segments: Vec<(u64, &[u8])> = bytes.chunks(1).enumerate().map(|(i, b)| (i as u64 * 1000, b)).collect();
    timed(ONCE, &segments)
}

#[test]
fn typed_text_waits_two_seconds_as_a_command_and_ten_otherwise() {
    assert_eq!(typed("save"), [(5000, "save".into())]);
    assert_eq!(typed("save jpg"), [(9000, "save jpg".into())]);
    assert_eq!(typed("sav"), [(12_000, "sav".into())]);
    assert_eq!(typed("save\n"), [(4000, "save".into())]);
    assert_eq!(typed("q\n"), [(1200, "q".into())]);
    assert_eq!(timed(ONCE, &[(0, b"s"), (3, b"ave")]), [(2003, "save".into())]);
    assert_eq!(timed(ONCE, &[(0, b"h"), (3, b"ealth")]), [(203, "health".into())]);
    assert_eq!(timed(ONCE, &[(0, b"h"), (9, b"e"), (18, b"alth"), (90, b" id=4\n")]), [(90, "health id=4".into())]);
}

#[test]
fn the_trigger_is_the_arrival_of_the_first_byte_of_its_line() {
    let mut f = Framer::new(ONCE);
    f.feed(b"\r\n", ms(0));
    f.feed(b"sa", ms(10));
    f.feed(b"ve\npast", ms(40));
    f.feed(b"Stack\n", ms(70));
    f.feed(b"\xfe\x04sa", ms(90));
    f.feed(b"ve", ms(95));
    let got: Vec<Item> = std::iter::from_fn(|| f.next_item()).collect();
    let line = |text: &str, first| Item::Line { text: text.into(), first: ms(first) };
    assert_eq!(got, [line("save", 10), line("pastStack", 40), line("save", 90)]);
}

#[test]
fn telnet_negotiation_is_no_input() {
    let mut f = Framer::new(ONCE);
    f.feed(b"\xff\xfb\x1f\xff\xfd", ms(0));
    f.feed(b"\x01\xff\xfa\x1f\x00\x50", ms(10));
    assert!(f.is_silent() && !f.has_items());
    f.feed(b"\x00\x18\xff\xf0", ms(100));
    assert!(f.is_silent() && f.deadline().is_none());
    f.feed(b"save\r\x00", ms(900));
    assert_eq!(take(&mut f), ["save"]);
}

#[test]
fn a_telnet_sequence_that_never_ends_is_answered_and_swallows_nothing_later() {
    for open in [
        &b"\xff"[..],
        b"\xff\xfd",
        b"\xff\xfa",
        b"\xff\xfa\x18\x00xterm",
        b"\xff\xfa\x1fsave\n",
        b"\xff\xfa\x18\xff",
        b"\r\n\xff",
    ] {
        assert_eq!(timed(ONCE, &[(0, open)]), [(200, String::new())], "{open:?}");
        assert_eq!(timed(OPEN, &[(0, open)]), [(200, String::new())], "{open:?}");
        assert_eq!(lines(open), [""], "{open:?}");
        let behind = [b"pastStack jpg", open].concat();
        assert_eq!(timed(ONCE, &[(0, &behind)])[0].1, "pastStack jpg", "{open:?}");
        let expected = [(0, "ping".into()), (900, "save".into())];
        assert_eq!(timed(OPEN, &[(0, b"ping\n"), (100, open), (900, b"save\n")]), expected, "{open:?}");
    }
}

#[test]
fn a_single_byte_that_no_key_types_is_answered_soon() {
    for byte in (0..=255).filter(|b| !(0x21..=0x7e).contains(b)) {
        assert_eq!(timed(ONCE, &[(0, &[byte])]), [(200, String::new())], "{byte:#x}");
    }
    assert_eq!(timed(ONCE, &[(0, b"\xef\xbb\xbf")]), [(200, String::new())]);
    // Byte by byte from a serial gateway, the end ahead of the text.
    assert_eq!(timed(ONCE, &[(0, b"\n"), (5, b"s"), (10, b"a"), (15, b"ve"), (20, b"\n")]), [(20, "save".into())]);
    assert_eq!(timed(ONCE, &[(0, b"\x02"), (5, b"p"), (10, b"ing"), (15, b"\x03")]), [(215, "ping".into())]);
}

#[test]
fn plc_images_are_unwrapped_and_their_stale_bytes_dropped() {
    assert_eq!(timed(ONCE, &[(0, b"\xfe\x04save")]), [(0, "save".into())]);
    assert_eq!(timed(OPEN, &[(0, b"\xfe\x04savetStack png\0\0\0")]), [(0, "save".into())]);
    assert_eq!(timed(OPEN, &[(0, b"\xfe\x04save"), (50, b"tStack"), (900, b"ping")]), [(0, "save".into()), (900, "ping".into())]);
    assert_eq!(timed(OPEN, &[(0, b"\xfe\x04save"), (50, b"\xfe\x06health")]), [(0, "save".into()), (50, "health".into())]);
    assert_eq!(timed(ONCE, &[(0, b"P\x0dpastStack png")]), [(200, "pastStack png".into())]);
    assert_eq!(timed(ONCE, &[(0, b"P\x0dpastStack png\0\0")]), [(0, "pastStack png".into())]);
    assert_eq!(timed(ONCE, &[(0, b"\x0a\x04save")]), [(200, "save".into())]);
    assert_eq!(timed(ONCE, &[(0, b"\x04\0\0\0save")]), [(0, "save".into())]);
    assert_eq!(timed(ONCE, &[(0, b"\x0a\0\0\0save jpg x")]), [(200, "save jpg x".into())]);
    let tagged = format!("save cause={}", "b".repeat(29));
    assert_eq!(timed(ONCE, &[(0, &[b"(\0\0\0", tagged.as_bytes()].concat())]), [(0, tagged)]);
    assert_eq!(lines(b"A\npastStack png\n"), ["A", "pastStack png"]);
    assert_eq!(lines(b"\xfe\0save\0"), [""]);
}

#[test]
fn both_ends_are_trimmed_and_empty_lines_skipped() {
    assert_eq!(lines(b"\xef\xbb\xbfsave\r\n"), ["save"]);
    assert_eq!(lines(b"\x02save\x03\r\n"), ["save"]);
    assert_eq!(lines(b"\r\n\n  \t\n\0 save jpg \t\n\n\n health\n"), ["save jpg", "health"]);
    assert_eq!(lines(b"save\tj\xc3\xbcpg\n"), ["save j??pg"]);
    assert_eq!(lines(b"save; rm \"x\" \\n\n"), ["save; rm \"x\" \\n"]);
    assert_eq!(lines(b"save\r\n\x1a"), ["save"]);
}

#[test]
fn nothing_but_blanks_is_answered_once_and_only_where_it_can_be_meant() {
    assert_eq!(lines(b""), [""]);
    assert_eq!(lines(b" \n"), [""]);
    assert_eq!(timed(ONCE, &[(0, b"\r\n")]), [(200, String::new())]);
    assert_eq!(timed(ONCE, &[(0, b"  ")]), [(200, String::new())]);
    assert_eq!(timed(ONCE, &[(0, b"\r\n"), (100, b"save\n")]), [(100, "save".into())]);
    assert_eq!(timed(OPEN, &[(0, b"\0"), (5000, b"\r\n"), (9000, b" ")]), []);
    assert_eq!(timed(OPEN, &[(0, b"\x06\x15")]), [(200, String::new())]);
}

#[test]
fn binary_protocols_come_to_one_line() {
    let modbus = b"\x00\x01\x00\x00\x00\x06\x01\x03\x00\x00\x00\x01";
    assert_eq!(timed(ONCE, &[(0, modbus)]), [(200, String::new())]);
    assert_eq!(timed(OPEN, &[(0, modbus)]), [(200, String::new())]);
}

#[test]
fn a_line_may_have_1024_bytes_and_no_more() {
    let most = "x".repeat(LINE_MAX);
    assert_eq!(lines(format!("{most}\n").as_bytes()), [most.as_str()]);
    assert_eq!(lines(most.as_bytes()), [most.as_str()]);
    assert_eq!(lines(format!("{most}y\nsave\n").as_bytes()), ["!TooLong"]);
    assert_eq!(timed(ONCE, &[(0, format!("save {most}").as_bytes()), (500, b"\nsave\n")]), [(0, "!TooLong".into())]);
    let long = format!("save {most}");
    let segments: [(u64, &[u8]); 3] = [(0, long.as_bytes()), (900, b"save"), (910, b"tail\nping\n")];
    assert_eq!(timed(OPEN, &segments), [(0, "!TooLong".into()), (910, "ping".into())]);
    assert_eq!(timed(OPEN, &[(0, long.as_bytes()), (2500, b"save\n")]), [(0, "!TooLong".into()), (2500, "save".into())]);
}

#[test]
fn eight_lines_and_no_more() {
    let twenty = "save\n".repeat(20);
    assert_eq!(lines(twenty.as_bytes()).len(), 8);
    let mut f = Framer::new(ONCE);
    f.feed(twenty.as_bytes(), ms(0));
    assert!(f.is_done());
    let mut open = Framer::new(OPEN);
    open.feed(twenty.as_bytes(), ms(0));
    let got = take(&mut open);
    assert_eq!((got.len(), got[8].as_str()), (9, "!TooMany"));
    open.feed(b"ping", ms(1));
    assert_eq!(take(&mut open), ["ping"]);
}

#[test]
fn a_line_that_trickles_is_given_up() {
    let segments: Vec<(u64, &[u8])> = (0..100).map(|i| (i * 1000, b"x" as &[u8])).collect();
    assert_eq!(timed(ONCE, &segments), [(60_000, "!TooSlow".into())]);
}

/// Inputs whose meaning must not depend on how the network cuts them. (A word that runs at once followed by an argument is
/// not among them: cut behind the word it means the word, by rule.)
const CORPUS: [(&[u8], &[&str]); 20] = [
    (b"save\n", &["save"]),
    (b"save", &["save"]),
    (b"save jpg png\r\n", &["save jpg png"]),
    (b"save\n\rhealth\r\nping\0", &["save", "health", "ping"]),
    (b"pastStack npy\rsave\r", &["pastStack npy", "save"]),
    (b"health\r\n", &["health"]),
    (b"night_level", &["night_level"]),
    (b"\xff\xfb\x1f\xff\xfa\x18\x00xterm\xff\xf0save\r\x00", &["save"]),
    (b"sa\xff\xf1ve\n", &["save"]),
    (b"\xef\xbb\xbfsave\r\n", &["save"]),
    (b"\x02save\x03", &["save"]),
    (b"save\0\0\0\0\0\0\0\0", &["save"]),
    (b"\xfe\x04save", &["save"]),
    (b"\xfe\x0dpastStack png", &["pastStack png"]),
    (b"\x14\x09pastStackpng\0\0", &["pastStack"]),
    (b"\x04\0\0\0save", &["save"]),
    (b"\x1a\x00\x00\x00save cause=belt and id=1234", &["save cause=belt and id=123"]),
    (b" \r\n", &[""]),
    (b"A\npastStack png\n", &["A", "pastStack png"]),
    (b"\x00\x01\x00\x00\x00\x06\x01\x03\x00\x00\x00\x01", &[""]),
];

fn pieces(bytes: &[u8], cuts: &[usize], end: bool) -> Vec<String> {
    let mut f = Framer::new(ONCE);
    let mut got = Vec::new();
    let mut from = 0;
    for (i, &to) in cuts.iter().chain([&bytes.len()]).enumerate() {
        f.feed(&bytes[from..to], ms(i as u64 * 40));
        got.extend(take(&mut f));
        from = to;
    }
    while let Some(due) = f.deadline().filter(|_| !end) {
        f.quiet(due);
    }
    if end {
        f.end(ms(500));
    }
    got.extend(take(&mut f));
    got
}

#[test]
fn no_cut_and_no_two_cuts_change_the_commands() {
    for (bytes, wanted) in CORPUS {
        for end in [false, true] {
            for a in 0..=bytes.len() {
                for b in a..=bytes.len() {
                    assert_eq!(pieces(bytes, &[a, b], end), wanted, "{bytes:?} cut at {a} and {b}, end {end}");
                }
            }
            let each: Vec<usize> = (1..bytes.len()).collect();
            assert_eq!(pieces(bytes, &each, end), wanted, "{bytes:?} byte by byte, end {end}");
        }
    }
}

/// xorshift64*, so that a failure repeats.
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) as usize % n
    }
}

#[test]
fn random_bytes_never_panic_and_never_make_a_bad_line() {
    const BITS: [&[u8]; 14] = [
        b"save",
        b"\n",
        b"\r",
        b"\0\0\0",
        b"\xff",
        b"\xff\xfa",
        b"\xff\xf0",
        b"\xfe\x04",
        b"P\x0d",
        b"\x04\0\0\0",
        b" ",
        b"health",
        b"\xef\xbb\xbf",
        b"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
    ];
    let mut random = Random(0x5eed);
    for round in 0..20_000 {
        let rules = if round % 2 == 0 { ONCE } else { OPEN };
        let mut f = Framer::new(rules);
        let (mut now, mut lines) = (ms(0), 0);
        for _ in 0..random.below(40) {
            let mut segment = Vec::new();
            for _ in 0..random.below(30) {
                match random.below(3) {
                    0 => segment.push(random.below(256) as u8),
                    _ => segment.extend(BITS[random.below(BITS.len())]),
                }
            }
            f.feed(&segment, now);
            now = now + Duration::from_millis(random.below(300) as u64);
            f.quiet(now);
            assert!(f.line.len() <= LINE_MAX + 4 && f.out.len() <= 9);
            while let Some(item) = f.next_item() {
                lines += 1;
                if let Item::Line { text, first } = item {
                    assert!(text.len() <= LINE_MAX && text.bytes().all(|b| (0x20..=0x7E).contains(&b)), "{text:?}");
                    assert_eq!(text.trim(), text);
                    assert!(first >= ms(0) && first <= now);
                }
            }
        }
        f.end(now);
        assert_eq!(f.deadline(), None, "round {round}: something is due after the end");
        assert!(rules.stays_open || lines <= 8);
    }
}

#[test]
fn a_line_with_a_body_ends_the_framing_at_its_end() {
    let now = BootUs(1_000_000);
    for (head, behind_cr) in [("update 9\n", false), ("update 9\0", false), ("UPDATE 9\r\n", false), ("update 9\r", true)] {
        let mut f = Framer::new(ONCE);
        f.feed(b"ping\n", now);
        let mut segment = head.as_bytes().to_vec();
        if !behind_cr {
            segment.extend(b"save\n\xff\xf0\0");
        }
        f.feed(&segment, now);
        assert!(f.is_body() && !f.collecting() && f.deadline().is_none());
        f.end(now);
        let texts: Vec<Item> = std::iter::from_fn(|| f.next_item()).collect();
        assert!(matches!(&texts[..], [Item::Line { .. }, Item::Line { text, .. }] if text.ends_with(" 9")), "{texts:?}");
        let expected = if behind_cr { (vec![], true) } else { (b"save\n\xff\xf0\0".to_vec(), false) };
        assert_eq!(f.take_body(), Some(expected), "{head:?}");
        assert!(f.take_body().is_none() && f.is_done());
    }
}
