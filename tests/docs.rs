//! Holds the documentation to the program: keys, defaults and ranges, commands and answers, links, and every shell example
//! marked `sh test`, which is run against the real program. Needs `nc`; examples with other tools are skipped without them.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::net::{TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use pastcam::config::{self, Config};
use pastcam::error::Kind;
use pastcam::settings;
use pastcam::threads::Thread;
use pastcam::verbs::{self, Rule};
use serde_json::{Value, json};

const BINARY: &str = env!("CARGO_BIN_EXE_pastcam");

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}

/// All pages, by their path from the project's root.
fn pages() -> Vec<(String, String)> {
    fn walk(dir: &Path, out: &mut Vec<String>) {
        for entry in fs::read_dir(root().join(dir)).unwrap() {
            let path = dir.join(entry.unwrap().file_name());
            if root().join(&path).is_dir() {
                walk(&path, out);
            } else if path.extension().is_some_and(|e| e == "md") {
                out.push(path.to_str().unwrap().to_string());
            }
        }
    }
    let mut names = ["README.md", "CHANGELOG.md", "CONTRIBUTING.md", "RELEASING.md", "SECURITY.md"].map(String::from).to_vec();
    walk(Path::new("docs"), &mut names);
    assert!(names.len() >= 9, "{names:?}");
    names.into_iter().map(|n| (n.clone(), read(&n))).collect()
}

/// A fenced block.
struct Block {
    info: String,
    body: String,
    /// Of its fence.
    line: usize,
}

fn blocks(page: &str) -> Vec<Block> {
    let mut out = Vec::new();
    let mut open: Option<Block> = None;
    for (i, line) in page.lines().enumerate() {
        match (line.strip_prefix("```"), open.take()) {
            (Some(info), None) => open = Some(Block { info: info.trim().to_string(), body: String::new(), line: i + 1 }),
            (Some(_), Some(block)) => out.push(block),
            (None, Some(mut block)) => {
                block.body.push_str(line);
                block.body.push('\n');
                open = Some(block);
            }
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "a block is never closed");
    out
}

/// Nested objects from a dotted key.
fn nested(entries: &[(&str, Value)]) -> String {
    let mut all = json!({});
    for (key, value) in entries {
        let mut at = &mut all;
        for part in key.split('.') {
            // `auto[]` is a list of groups: its first one.
            at = match part.strip_suffix("[]") {
                None => &mut at[part],
                Some(list) => {
                    if at[list].is_null() {
                        at[list] = json!([{}]);
                    }
                    &mut at[list][0]
                }
            };
        }
        *at = value.clone();
    }
    all.to_string()
}

#[test]
fn the_shipped_config_is_the_defaults() {
    let shipped: Value = serde_json::from_str(&read("config.json")).unwrap();
    assert_eq!(shipped, serde_json::to_value(config::File::default()).unwrap());
    Config::parse(read("config.json").as_bytes()).unwrap();
}

/// Key, default, range, meaning and last column of every row of the configuration page.
fn config_rows() -> Vec<[String; 5]> {
    let page = read("docs/reference/config.md");
    let rows = page.lines().filter(|l| l.starts_with("| `"));
    rows.filter_map(|row| {
        let cells: Vec<&str> = row.trim_matches('|').split(" | ").map(str::trim).collect();
        let [key, default, range, meaning, reload] = cells[..] else { return None };
        Some([key, default, range, meaning, reload].map(|c| c.trim_matches(['`', ' ', '|']).to_string()))
    })
    .collect()
}

/// What stands in these brackets; links do not count.
fn bracketed(text: &str, [open, close]: [char; 2]) -> Vec<&str> {
    let brackets = text.split(open).skip(1).filter_map(|rest| rest.split_once(close));
    brackets.filter(|(_, behind)| !behind.starts_with('(')).map(|(unit, _)| unit).collect()
}

#[test]
fn every_key_stands_on_its_page_as_its_room_states_it() {
    let rows = config_rows();
    let mut keys = Vec::new();
    settings::each(&mut config::File::default(), "", &mut |name, field, leaf| {
        keys.push((name.to_string(), *field, field.value(leaf), field.range(leaf)));
    });
    let named: Vec<&str> = rows.iter().map(|r| r[0].as_str()).collect();
    assert_eq!(named, keys.iter().map(|k| k.0.as_str()).collect::<Vec<_>>(), "the page has the file's keys in its order");
    let units: BTreeSet<&str> = rows.iter().flat_map(|r| bracketed(&r[3], ['[', ']'])).collect();
    for ([name, default, range, meaning, reload], (_, field, real, bounds)) in rows.iter().zip(&keys) {
        let default: Value = serde_json::from_str(default).unwrap_or_else(|e| panic!("{name}: {default}: {e}"));
        assert_eq!(&default, real, "{name}");
        assert!(!range.is_empty() && (bounds.is_empty() || range == bounds), "{name}: {range} is not {bounds}");
        assert_eq!(reload, if field.rule.waits { "no" } else { "yes" }, "{name}");
        let (page, mut room) = (bracketed(meaning, ['[', ']']), bracketed(field.about, ['(', ')']));
        room.retain(|unit| units.contains(unit));
        assert!(meaning.starts_with("The same for") || page == room, "{name}: {meaning}: {}", field.about);
    }
}

#[test]
fn ranges_on_the_page_are_those_of_the_program() {
    // What must stand beside a bound for the combination to be allowed.
    let beside = |key: &str| match key {
        "night.dark_threshold" => Some(("night.bright_threshold", json!(250))),
        "night.bright_threshold" => Some(("night.dark_threshold", json!(1))),
        "limits.swap_slow_percent" => Some(("limits.swap_pause_percent", json!(100))),
        "limits.swap_pause_percent" => Some(("limits.swap_slow_percent", json!(0))),
        _ => None,
    };
    // An entry of a list is read as a whole.
    let entry = |key: &str| match key.split_once("[].") {
        Some((_, "interval_s")) | None => vec![],
        Some(_) => vec![("auto[].interval_s", json!(60)), ("auto[].tag", json!("a"))],
    };
    let mut checked = 0;
    for [key, default, range, ..] in &config_rows() {
        let Some((low, high)) = range.split_once('–') else { continue };
        let (Ok(low), Ok(high)) = (low.parse::<f64>(), high.parse::<f64>()) else { continue };
        let whole = !default.contains('.');
        let number = |v: f64| if whole { json!(v as i64) } else { json!(v) };
        // Pixels are even, so that a step of one would be refused for another reason.
        let step = if key.ends_with("width") || key.ends_with("height") { 2.0 } else { 1.0 };
        let beyond = if whole { [low - step, high + step] } else { [low - 0.01, high * 1.001] };
        let parse = |v: f64| {
            let mut entries = vec![(key.as_str(), number(v))];
            entries.extend(beside(key));
            entries.extend(entry(key));
            Config::parse(nested(&entries).as_bytes())
        };
        for v in [low, high] {
            parse(v).unwrap_or_else(|e| panic!("{key} = {v}: {e}"));
        }
        for v in beyond {
            let e = parse(v).expect_err(&format!("{key} = {v}")).to_string();
            assert!(e.contains(&key.replace("[]", "[0]")), "{key} = {v}: {e}");
        }
        checked += 1;
    }
    assert!(checked >= 30, "{checked}");
}

#[test]
fn every_command_and_error_stands_on_its_page() {
    let page = read("docs/reference/protocol.md");
    for verb in verbs::TABLE {
        let row = format!("\n| `{}`", verb.usage().replace("...", "…").replace('|', "\\|"));
        assert!(page.contains(&row), "{row} has no row");
        let ruled = |a: &&verbs::Arg| matches!(a.rule, Rule::Tag | Rule::Choice(_) | Rule::Seconds(..) | Rule::Number(..));
        for arg in verb.args.iter().filter(ruled) {
            let row = format!("\n| `{}` | {} |", arg.shown(), arg.rule);
            assert!(page.contains(&row), "{row} has no row");
        }
    }
    let kinds = [Kind::Usage, Kind::Denied, Kind::Busy, Kind::Timeout, Kind::Past, Kind::Disk, Kind::Media, Kind::Io];
    for kind in kinds {
        assert!(page.contains(&format!("\n| `ERR {}`", kind.word())), "{kind:?} has no row");
    }
    assert!(page.contains(concat!("`OK pastcam ", env!("CARGO_PKG_VERSION"), " (")));
    assert!(read("CHANGELOG.md").contains(concat!("\n## ", env!("CARGO_PKG_VERSION"))));
}

#[test]
fn every_dependency_earns_its_line() {
    let manifest = read("Cargo.toml");
    let list = manifest.split("\n[dependencies]\n").nth(1).unwrap().split("\n\n").next().unwrap();
    let used: BTreeSet<&str> = list.lines().filter_map(|l| l.split_once(" = ")).map(|(name, _)| name).collect();
    let readme = read("README.md");
    let section = readme.split("\n## Dependencies\n").nth(1).unwrap().split("\n## ").next().unwrap();
    let rows = section.lines().filter(|l| l.starts_with("| ") && !l.starts_with("| crate"));
    let named: BTreeSet<&str> = rows.flat_map(|l| l.split(" | ").next().unwrap().trim_matches(['|', ' ']).split(", ")).collect();
    assert_eq!(named, used);
}

#[test]
fn json_blocks_parse_and_fragments_are_configurations() {
    let mut fragments = 0;
    for (name, page) in pages() {
        for block in blocks(&page).iter().filter(|b| b.info.starts_with("json")) {
            let at = format!("{name}:{}", block.line);
            serde_json::from_str::<Value>(&block.body).unwrap_or_else(|e| panic!("{at}: {e}"));
            if block.info == "json config" {
                Config::parse(block.body.as_bytes()).unwrap_or_else(|e| panic!("{at}: {e}"));
                fragments += 1;
            }
        }
    }
    assert!(fragments >= 4, "{fragments}");
}

/// The anchors of a page, made from its headings.
fn anchors(page: &str) -> BTreeSet<String> {
    let keep = |c: char| match c {
        ' ' => Some('-'),
        c if c.is_alphanumeric() || c == '-' || c == '_' => Some(c.to_ascii_lowercase()),
        _ => None,
    };
    let mut code = false;
    let heads = page.lines().filter(|l| {
        code ^= l.starts_with("```");
        l.starts_with('#') && !code
    });
    heads.map(|l| l.trim_start_matches('#').trim().chars().filter_map(keep).collect()).collect()
}

#[test]
fn links_lead_somewhere() {
    let mut links = 0;
    for (name, page) in pages() {
        for target in page.split("](").skip(1).filter_map(|rest| rest.split_once(')').map(|(t, _)| t)) {
            if target.starts_with("http") {
                continue;
            }
            let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
            let path = match file {
                "" => root().join(&name),
                file => root().join(&name).parent().unwrap().join(file),
            };
            assert!(path.exists(), "{name}: {target} leads nowhere");
            if !anchor.is_empty() {
                let there = anchors(&fs::read_to_string(&path).unwrap());
                assert!(there.contains(anchor), "{name}: {target} is no heading of {there:?}");
            }
            links += 1;
        }
    }
    assert!(links > 60, "{links}");
}

#[test]
fn paths_are_those_of_a_reader_s_machine() {
    const KNOWN: [&str; 11] = [
        "/data/",
        "/var/log/",
        "/etc/",
        "/var/lib/",
        "/var/cache/",
        "/usr/local/",
        "/bin/kill",
        "/dev/",
        "/run/",
        "/home/pi/",
        "/config/",
    ];
    let mut seen = 0;
    for (name, page) in pages() {
        let mut before = ' ';
        for (i, c) in page.char_indices() {
            let rest = &page[i..];
            let starts = c == '/' && " \n`\"'(=<>".contains(before) && rest[1..].starts_with(|c: char| c.is_ascii_alphanumeric());
            before = c;
            if starts {
                assert!(KNOWN.iter().any(|k| rest.starts_with(k)), "{name} names {rest:.40}");
                seen += 1;
            }
        }
    }
    assert!(seen > 20, "{seen}");
}

/// Every source file of the program without its tests, by its path.
fn sources() -> Vec<(PathBuf, String)> {
    fn walk(dir: &Path, out: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, out);
            } else if path.extension().is_some_and(|e| e == "rs") && path.file_name().is_some_and(|n| n != "tests.rs") {
                out.push(path);
            }
        }
    }
    let mut files = Vec::new();
    walk(&root().join("src"), &mut files);
    let text = |p: &Path| fs::read_to_string(p).unwrap().split("\n#[cfg(test)]\nmod tests").next().unwrap_or_default().to_owned();
    files.into_iter().map(|p| (p.clone(), text(&p))).collect()
}

#[test]
fn threads_are_made_in_one_place_and_stand_in_the_table_with_what_a_panic_means() {
    let sources = sources();
    assert!(sources.len() > 60, "{}", sources.len());
    let maker = root().join("src/threads.rs");
    for (path, text) in sources.iter().filter(|(p, _)| *p != maker) {
        for way in ["thread::Builder", "thread::spawn", "thread::scope", "catch_unwind"] {
            assert!(!text.contains(way), "{} uses {way}; threads are made by src/threads.rs", path.display());
        }
    }
    let design = read("docs/design.md");
    let mut of_table = Vec::new();
    for row in design.split("| thread | does |").nth(1).unwrap().lines().skip(2).take_while(|l| l.starts_with("| ")) {
        let cells: Vec<&str> = row.trim_matches('|').split(" | ").map(str::trim).collect();
        let who = cells[0].split(" ([").next().unwrap();
        if who == "main" || who.contains("own, such as") || who.contains("s own") {
            continue;
        }
        for name in who.split(", ").map(|n| n.trim_matches('`')) {
            let kind = Thread::ALL.iter().find(|t| t.name() == name).unwrap_or_else(|| panic!("no thread {name}"));
            assert_eq!(cells.len(), 5, "{name} has a row of five cells");
            assert!(cells[4].starts_with(kind.on_panic().word()), "{name}: {} instead of {:?}", cells[4], kind.on_panic());
            of_table.push(name.to_owned());
            let used = format!("Thread::{kind:?}");
            assert!(sources.iter().any(|(_, text)| text.contains(&used)), "nobody makes {used}");
        }
    }
    let names: BTreeSet<_> = Thread::ALL.iter().map(|t| t.name().to_owned()).collect();
    assert_eq!(of_table.iter().cloned().collect::<BTreeSet<_>>(), names, "the table has every thread");
    assert_eq!(of_table.len(), names.len(), "and each once");
}

/// The real program with the pattern in a folder of its own.
struct Program {
    child: Child,
    dir: PathBuf,
    port: u16,
    persistent: u16,
}

impl Program {
    fn start() -> Program {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        // A free port may be taken by somebody else before the program has it: then another one.
        let mut said = String::new();
        for _ in 0..5 {
            let listeners = [0, 0].map(|port| TcpListener::bind(("127.0.0.1", port)).unwrap());
            let [port, persistent] = [0, 1].map(|i: usize| listeners[i].local_addr().unwrap().port());
            if UdpSocket::bind(("127.0.0.1", port)).is_err() {
                continue;
            }
            drop(listeners);
            let n = COUNT.fetch_add(1, Ordering::Relaxed);
            let dir = std::env::temp_dir().join(format!("pastcam-docs-{}-{n}", std::process::id()));
            fs::create_dir_all(&dir).unwrap();
            std::os::unix::fs::symlink(root().join("tests"), dir.join("tests")).unwrap();
            let config = nested(&[
                ("ring.size", json!(100)),
                ("network.trigger_port", json!(port)),
                ("network.persistent_port", json!(persistent)),
                ("network.udp_port", json!(port)),
                ("export.auto_save_interval_s", json!(0)),
                ("auto", json!([{"interval_s": "10 min", "when": "night", "take": "stack", "tag": "night"}])),
                ("logging.dir", json!("")),
            ]);
            fs::write(dir.join("docs-test.json"), config).unwrap();
            let child = Command::new(BINARY)
                .args(["--config", "docs-test.json", "--source", "pattern"])
                .current_dir(&dir)
                .stdout(Stdio::null())
                .stderr(File::create(dir.join("program.log")).unwrap())
                .spawn()
                .unwrap();
            let mut program = Program { child, dir, port, persistent };
            if program.wait_for("an answer", |p| p.ask(&["ping"]).status.success()) {
                return program;
            }
            said = program.log();
        }
        panic!("the program did not start: {said}");
    }

    fn ask(&self, words: &[&str]) -> Output {
        let to = format!("127.0.0.1:{}", self.port);
        Command::new(BINARY).args(["send", &to]).args(words).output().unwrap()
    }

    fn status(&self) -> Value {
        serde_json::from_slice(&self.ask(&["status", "json"]).stdout).unwrap_or(Value::Null)
    }

    /// True once it is so; false when the program has ended before.
    fn wait_for(&mut self, what: &str, is: impl Fn(&Program) -> bool) -> bool {
        let limit = Instant::now() + Duration::from_secs(60);
        while !is(self) {
            if self.child.try_wait().unwrap().is_some() {
                return false;
            }
            assert!(Instant::now() < limit, "no {what} within a minute: {}", self.log());
            std::thread::sleep(Duration::from_millis(50));
        }
        true
    }

    fn log(&self) -> String {
        fs::read_to_string(self.dir.join("program.log")).unwrap_or_default()
    }

    /// Runs one shell example with this program's ports in place of the documented ones.
    fn run(&self, example: &str) -> Output {
        let (port, persistent) = (self.port.to_string(), self.persistent.to_string());
        let example = example.replace("send 127.0.0.1 ", "send 127.0.0.1:9999 ");
        let example = example.replace("9999", &port).replace("9998", &persistent);
        let path = format!("{}:{}", Path::new(BINARY).parent().unwrap().display(), std::env::var("PATH").unwrap());
        let mut shell = Command::new("timeout");
        shell.args(["60", "sh", "-c", &example]).env("PATH", path).current_dir(&self.dir).stdin(Stdio::null());
        shell.output().unwrap()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended already; the folder may be gone.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// A line with what differs from run to run made equal: numbers, the folder, what a machine does not have.
fn general(line: &str) -> String {
    let mut out = String::new();
    let mut rest = line.trim_end();
    if let Some(end) = rest.find("/captures/") {
        let start = rest[..end].rfind([' ', '=']).map_or(0, |i| i + 1);
        out.push_str(&rest[..start]);
        out.push_str("DIR");
        rest = &rest[end..];
    }
    let mut chars = rest.chars().peekable();
    let mut text = std::mem::take(&mut out);
    while let Some(c) = chars.next() {
        if !c.is_ascii_digit() {
            text.push(c);
            continue;
        }
        text.push('#');
        loop {
            let mut ahead = chars.clone();
            match (ahead.next(), ahead.next()) {
                (Some(d), _) if d.is_ascii_digit() => chars.next(),
                (Some('.'), Some(d)) if d.is_ascii_digit() => chars.next(),
                _ => break,
            };
        }
    }
    // A second picture of one frame has a number behind its name.
    let mut text = text.replace("_#.jpg", ".jpg").replace("no limit", "# MiB").replace("temp=#C", "temp=-");
    for clock in ["synced", "unset"] {
        text = text.replace(&format!("clock={clock}"), "clock=free");
    }
    text
}

#[test]
fn lines_are_made_general() {
    let a = general("Saved stacked image: /tmp/x/captures/20261120_111555_f46_gate_2.jpg | stack of 8 (age: 3.51s)");
    assert_eq!(a, "Saved stacked image: DIR/captures/#_#_f#_gate.jpg | stack of # (age: #s)");
    assert_ne!(general("RSS=1.0MiB SWAP=0.0%"), general("RSS=1.0MiB"));
}

fn has(tool: &str) -> bool {
    let found = Command::new("sh").args(["-c", &format!("command -v {tool}")]).stdout(Stdio::null()).status();
    found.is_ok_and(|s| s.success())
}

#[test]
fn shell_examples_give_what_the_pages_say() {
    let mut program = Program::start();
    // Far enough for every `before=` and the default of 5 s.
    assert!(program.wait_for("past", |p| p.status()["ring"]["seconds"].as_f64().is_some_and(|s| s > 6.0)), "{}", program.log());
    let (mut ran, mut wrong, mut skipped) = (0, Vec::new(), Vec::new());
    for (name, page) in pages() {
        let blocks = blocks(&page);
        for (i, block) in blocks.iter().enumerate() {
            let Some(needs) = block.info.strip_prefix("sh test") else { continue };
            let at = format!("{name}:{}", block.line);
            let mut needs: Vec<&str> = needs.split_whitespace().collect();
            if block.body.contains("| nc ") {
                needs.push("nc");
            }
            if let Some(tool) = needs.iter().find(|t| !has(t)) {
                skipped.push(format!("{at} without {tool}"));
                continue;
            }
            let expected = blocks.get(i + 1).filter(|b| b.info.starts_with("text"));
            let expected = expected.unwrap_or_else(|| panic!("{at}: no text block follows"));
            let got = program.run(&block.body);
            let said = String::from_utf8_lossy(&got.stdout).into_owned();
            let (want, have) = if expected.info == "text exact" {
                (expected.body.clone(), said.clone())
            } else {
                let each = |text: &str| text.trim_end().lines().map(general).collect::<Vec<_>>().join("\n");
                (each(&expected.body), each(&said))
            };
            if want != have {
                let error = String::from_utf8_lossy(&got.stderr).into_owned();
                wrong.push(format!("{at}\n--- the page says\n{want}\n--- the program said\n{have}\n{said}{error}"));
            }
            ran += 1;
        }
    }
    assert!(wrong.is_empty(), "{}\n{}", wrong.join("\n\n"), program.log());
    assert!(ran >= 15, "only {ran} examples ran: install nc");
    if !skipped.is_empty() {
        println!("SKIP: examples for want of their tools: {}", skipped.join(", "));
    }
}

/// Dotted names of an object's members.
fn members(value: &Value, path: &str, out: &mut BTreeSet<String>) {
    for (key, v) in value.as_object().into_iter().flatten() {
        let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        if v.is_object() {
            members(v, &path, out);
        } else {
            out.insert(path);
        }
    }
}

#[test]
fn status_fields_and_threads_stand_on_their_pages() {
    let mut program = Program::start();
    assert!(program.wait_for("frame", |p| p.status()["frame"]["id"].is_u64()), "{}", program.log());
    let page = read("docs/reference/protocol.md");
    let section = |title: &str| page.split(title).nth(1).unwrap().split("\n#").next().unwrap();
    let named = |section: &str| -> BTreeSet<String> {
        let rows = section.lines().filter(|l| l.starts_with("| `"));
        let first = rows.filter_map(|l| l.trim_start_matches("| ").split(" |").next());
        first.flat_map(|cell| cell.split(", ")).map(|f| f.trim_matches('`').to_string()).collect()
    };

    let mut real = BTreeSet::new();
    members(&program.status(), "", &mut real);
    assert_eq!(named(section("\n### status json\n")), real);

    let line = String::from_utf8(program.ask(&["status"]).stdout).unwrap();
    let real: BTreeSet<String> =
        line.trim_start_matches("OK ").split_whitespace().map(|w| w.split('=').next().unwrap().to_string()).collect();
    assert_eq!(named(section("\n### status\n")), real);

    program.ask(&["save", "jpg"]);
    let design = read("docs/design.md");
    let tasks = fs::read_dir(format!("/proc/{}/task", program.child.id())).unwrap();
    let threads: BTreeSet<String> =
        tasks.filter_map(|t| fs::read_to_string(t.ok()?.path().join("comm")).ok()).map(|n| n.trim().to_string()).collect();
    assert!(threads.len() >= 7, "{threads:?}");
    for name in threads.iter().filter(|n| *n != "pastcam") {
        assert!(design.contains(&format!("`{name}`")), "the thread {name} is not in the table of docs/design.md");
    }
}
