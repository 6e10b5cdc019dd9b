//! The table holds together, and lines are read by it.

use std::collections::BTreeSet;

use super::*;

fn read(line: &str) -> Call {
    Call::parse(line, Rights::ALL).unwrap_or_else(|r| panic!("{line}: {}", r.why))
}

fn refused(line: &str) -> (String, Option<&'static str>) {
    let r = Call::parse(line, Rights::OPEN).unwrap_err();
    (r.why.to_string(), r.old)
}

#[test]
fn rows_are_whole_and_nothing_stands_twice() {
    let texts: BTreeSet<String> = TABLE.iter().map(|s| s.text.to_lowercase()).collect();
    assert_eq!(texts.len(), TABLE.len());
    // A key has one rule, whoever takes it.
    let keys = || TABLE.iter().flat_map(|s| s.args).filter(|a| a.place == Place::Key);
    assert!(keys().all(|a| keys().all(|b| a.name != b.name || a == b)));
    // Those that share a word stand together, so that each word is told once.
    let words = words();
    assert_eq!(words.iter().collect::<BTreeSet<_>>().len(), words.len());
    for row in TABLE {
        assert_eq!(row.verb.spec().text, row.text);
        assert!(row.help.is_ascii() && !row.help.is_empty() && !row.help.ends_with('.'), "{}", row.text);
        let names: BTreeSet<&str> = row.args.iter().map(|a| a.name).collect();
        assert_eq!(names.len(), row.args.len(), "{}", row.text);
        let plain = |a: &&Arg| a.place != Place::Key;
        assert!(!row.at_once || row.args.is_empty(), "{}: an argument would come too late", row.text);
        assert!(!row.original || row.args.iter().all(|a| plain(&a)), "{}", row.text);
        let keys = row.args.iter().filter(|a| a.place == Place::Key);
        assert!(keys.clone().all(|a| a.name != "id" && a.name != "token"), "{}", row.text);
    }
}

#[test]
fn help_names_every_verb_and_tells_every_rule_within_an_ordinary_answer() {
    let fits = |line: &str| line.is_ascii() && line.starts_with("OK ") && line.len() < crate::server::ANSWER_MAX;
    let all = help(&[""; 0]).unwrap();
    assert!(fits(&all), "{} bytes: {all}", all.len());
    for row in TABLE {
        assert!(all.split([' ', ';']).any(|w| w == row.word()), "{}: {all}", row.text);
        let about: Vec<&str> = row.text.split(' ').collect();
        let line = help(&about).unwrap();
        assert!(fits(&line), "{} bytes: {line}", line.len());
        assert!(line.contains(&row.usage()) && line.contains(row.help), "{line}");
        for arg in row.args {
            let told = match arg.rule {
                Rule::Format(of) | Rule::AnyFormat(of) => of.iter().all(|f| line.contains(&format!("[{f}]"))),
                Rule::Choice(of) => of.iter().all(|word| line.contains(word)),
                Rule::Flag | Rule::Pair => line.contains(arg.name),
                rule => line.contains(&format!("{} ({rule})", arg.shown())),
            };
            assert!(told, "{line} tells no rule of {}", arg.name);
        }
        assert!(fits(&help(&[row.word()]).unwrap()));
    }
    assert_eq!(
        help(&["clip"]).unwrap(),
        "OK clip SECONDS [tag=WORD]: makes a recording of the last seconds in the ring; \
         SECONDS (seconds from 0.1 to 86400), tag= (1 to 32 of A-Z a-z 0-9 _ -)"
    );
    assert!(help(&["record"]).unwrap().contains("; record stop: ends"));
    for bad in [&["nonsense"][..], &["record", "foo"], &["save", "it"]] {
        let e = help(bad).unwrap_err();
        assert_eq!(e.to_string(), format!("help takes a verb, not {}; help alone names them", bad.join(" ")));
    }
}

#[test]
fn verbs_are_matched_exactly_first_then_without_case() {
    for (line, verb) in [
        ("save", Verb::Save),
        ("PASTSTACK jpg", Verb::PastStack),
        ("Night_Level", Verb::NightLevel),
        ("Get A", Verb::Get),
        ("status", Verb::Status),
        ("STATUS id=7 json", Verb::StatusJson),
        ("record before=2 start", Verb::RecordStart),
    ] {
        assert_eq!(read(line).verb, verb, "{line}");
    }
    for line in ["savejpg", "", "GET /", "foo bar=1", "record_start"] {
        assert_eq!(refused(line).1, Some("UNKNOWN_COMMAND"), "{line}");
    }
}

#[test]
fn words_and_values_are_told_apart() {
    let line = "pastStack png tag=Tor_1 before=2.5 count=8 mode=still id=a:7 token=x=y jpg before=3 mode=mean bmp";
    let call = read(line);
    assert_eq!((call.formats.as_slice(), call.words.as_slice()), (&[Format::Png, Format::Jpg][..], &["bmp".to_string()][..]));
    assert_eq!(call.tag.as_ref().unwrap().as_str(), "Tor_1");
    assert_eq!((call.number(BEFORE), call.number(COUNT)), (Some(3.0), Some(8.0)), "of several the last holds");
    assert_eq!((call.choice(MODE), read("pastStack").choice(MODE)), (Some("mean"), None), "of several the last holds");
    assert_eq!((token_of(line), id_of(line)), (Some("x=y"), Some("a:7")));
    let line = "save token=a Token=secret jpg token=ab";
    assert_eq!(without_token(line, line), "save token=… token=… jpg token=…");
    assert_eq!(without_token(line, "takes id= and token=, not Token=secret; see"), "takes id= and token=, not token=…; see");
    assert_eq!((id_of("foo id=7 id=a;b x"), id_of("id=7"), id_of("foo xid=7")), (Some("7"), None, None));
    assert_eq!((read("save count=5 every=2.5").burst_s(), read("save count=5").burst_s(), call.burst_s()), (10.0, 0.0, 0.0));
    let call = read("record start 5 before=1");
    assert_eq!((call.number(LENGTH), call.number(BEFORE), call.tag), (Some(5.0), Some(1.0), None));
    assert_eq!(read("update 5").number(BYTES), Some(5.0));
    assert_eq!(read("files mp4 last=2").formats, [Format::Mp4]);
}

#[test]
fn the_words_of_set_are_controls() {
    let call = read("set Brightness=0.5 count=x tag=a/b id=7 Persist token=t");
    assert_eq!(call.pairs, [("Brightness", "0.5"), ("count", "x"), ("tag", "a/b")].map(|(k, v)| (k.into(), v.into())));
    assert_eq!(call.words, ["Persist"]);
}

#[test]
fn each_verb_refuses_a_slip_with_its_own_rule() {
    for (line, why) in [
        ("save before=1", "save takes jpg, png, npy, count=, every= and tag=, not before=1"),
        ("save every=-1", "every= takes seconds from 0 to 86400, not every=-1"),
        ("save count=0", "count= takes a number from 1 to 256, not count=0"),
        ("save tga=door", "known arguments are jpg, png, npy, count=, every= and tag=, not tga=door; see help save"),
        ("save tag=a/b", "take the tag \"a/b\": it contains '/'; use letters a to z, digits, _ and -"),
        ("pastStack before=nan", "before= takes seconds from 0 to 86400, not before=nan"),
        ("pastStack count=257", "count= takes a number from 1 to 256, not count=257"),
        ("pastStack mode=median", "mode= takes steady, mean or still, not mode=median"),
        ("save mode=mean", "save takes jpg, png, npy, count=, every= and tag=, not mode=mean"),
        ("ping id=a;b", "id= takes 1 to 32 of A-Z a-z 0-9 _ . : -, not id=a;b"),
        ("files lst=3", "known arguments are jpg, png, npy, mp4 and last=, not lst=3; see help files"),
        ("files bmp", "files takes jpg, png, npy, mp4 and last=, not bmp"),
        ("files last=501", "last= takes a number from 1 to 500, not last=501"),
        ("record", "record takes start, stop or status"),
        ("record foo", "record takes start, stop or status, not foo"),
        ("record start 0", "record start takes seconds from 0.1 to 86400, not 0"),
        ("record start 1 2", "record start takes seconds from 0.1 to 86400, before= and tag=, not 2"),
        ("record stop now", "record stop takes only id= and token=, not now"),
        ("clip", "clip takes seconds from 0.1 to 86400 and tag="),
        ("clip x", "clip takes seconds from 0.1 to 86400, not x"),
        ("status JSON", "status takes json, not JSON"),
        ("status json x", "status json takes only id= and token=, not x"),
        ("controls foo", "controls takes only id= and token=, not foo"),
        ("ping tag=a", "ping takes only id= and token=, not tag=a"),
        ("get", "get takes names of controls; controls lists them"),
        ("set persist", "set takes NAME=VALUE words and persist"),
        ("set a=1 now", "set takes NAME=VALUE words and persist, not now"),
        ("preset a b", "preset takes one name, or auto, not b"),
        ("delete", "delete takes the name of one file, as files lists it"),
    ] {
        assert_eq!(refused(line), (why.to_string(), None), "{line}");
    }
}

#[test]
fn what_old_clients_compare_stays() {
    for line in ["health x", "health tag=a", "NIGHT_LEVEL now", "foo"] {
        assert_eq!(refused(line).1, Some("UNKNOWN_COMMAND"), "{line}");
    }
    assert_eq!(refused("health x").0, "health takes only id= and token=, not x");
    // These run, and find no format they know.
    assert_eq!(read("save json").words, ["json"]);
    assert_eq!(read("pastStack 5").words, ["5"]);
}

#[test]
fn a_right_that_is_missing_is_denied_before_anything_else_is_said() {
    for line in ["update 5", "UPDATE", "update x y"] {
        let r = Call::parse(line, Rights::OPEN).unwrap_err();
        assert_eq!((r.why.kind, r.old), (Kind::Denied, None), "{line}");
        assert_eq!(r.why.to_string(), "update wants a token, and none is set (network.token)");
    }
    assert!(TABLE.iter().all(|row| Rights::ALL.has(row.right)));
    let closed: Vec<&str> = TABLE.iter().filter(|row| !Rights::OPEN.has(row.right)).map(|row| row.text).collect();
    assert_eq!(closed, ["update"], "what a port without a token does not do");
    let size = "update takes the file's size in bytes, and then the file: update BYTES token=WORD";
    for line in ["update x", "update", "update -5"] {
        assert_eq!(Call::parse(line, Rights::ALL).unwrap_err().why.to_string(), size, "{line}");
    }
}

#[test]
fn no_line_makes_the_reading_fail() {
    let pieces = [
        "save",
        "record",
        "start",
        "set",
        "=",
        "=x",
        "tag=",
        "token=",
        "id=",
        "before=1e999",
        "count=99999999999999999999",
        "ü",
        "?",
    ];
    for i in 0..pieces.len().pow(3) {
        let line = [i % 13, i / 13 % 13, i / 169].map(|n| pieces[n]).join(" ");
        // An answer of either kind, and never more than was said.
        match Call::parse(&line, Rights::ALL) {
            Ok(call) => assert!(call.words.len() + call.pairs.len() <= 2, "{line}"),
            Err(r) => assert!(matches!(r.why.kind, Kind::Usage | Kind::Denied), "{line}"),
        }
    }
}
