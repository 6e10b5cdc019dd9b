//! Holds the rooms of `src` to their floors: the README lists them from the ground up, and a room uses only those before it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The rooms of a list such as the README's table, from the ground up: `src/gst.rs` and `src/export/` are the rooms `gst` and `export`.
fn rooms(readme: &str) -> Vec<String> {
    let list = readme.split("\n## Finding your way\n").nth(1).expect("README.md has the list of rooms");
    let list = list.split("\n## ").next().unwrap_or(list);
    let mut rooms: Vec<String> = Vec::new();
    for line in list.lines().filter(|l| l.starts_with("| [")) {
        let cell = line.split('|').nth(1).unwrap_or_default();
        for link in cell.split("](src/").skip(1) {
            let room = link.split(['/', '.', ')']).next().unwrap_or_default().to_string();
            if !rooms.contains(&room) {
                rooms.push(room);
            }
        }
    }
    rooms
}

/// A file's code: without comments, and without its tests, which stand at its end and may use any room.
fn code(text: &str) -> String {
    let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or(text);
    text.lines().filter(|l| !l.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

/// The rooms that code names: `crate::clock::…`, `use crate::{clock, ring::Ring}`, and `pastcam::…` in the program's own files.
fn used(code: &str) -> BTreeSet<String> {
    let name = |s: &str| s.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect::<String>();
    let mut out = BTreeSet::new();
    for after in code.split("crate::").skip(1).chain(code.split("pastcam::").skip(1)) {
        let Some(group) = after.strip_prefix('{') else {
            out.insert(name(after));
            continue;
        };
        // The first word behind the brace and behind each comma of the outermost braces.
        let mut depth = 0;
        let mut begins = true;
        for (i, c) in group.char_indices() {
            match c {
                '{' => depth += 1,
                '}' if depth == 0 => break,
                '}' => depth -= 1,
                ',' if depth == 0 => begins = true,
                c if begins && c.is_ascii_alphabetic() => {
                    out.insert(name(&group[i..]));
                    begins = false;
                }
                _ => {}
            }
        }
    }
    out
}

/// Every arrow from a room to another, with one of the files that it starts from.
fn arrows(src: &Path) -> BTreeMap<(String, String), PathBuf> {
    fn walk(dir: &Path, src: &Path, out: &mut BTreeMap<(String, String), PathBuf>) {
        for entry in fs::read_dir(dir).expect("src can be read") {
            let path = entry.expect("src can be read").path();
            if path.is_dir() {
                walk(&path, src, out);
            } else if path.extension().is_some_and(|e| e == "rs") && path.file_name().is_some_and(|n| n != "tests.rs") {
                let inside = path.strip_prefix(src).expect("found below src");
                let room = inside.iter().next().unwrap_or_default().to_string_lossy();
                let room = room.trim_end_matches(".rs").to_string();
                for to in used(&code(&fs::read_to_string(&path).expect("a source file"))) {
                    out.entry((room.clone(), to)).or_insert_with(|| inside.to_owned());
                }
            }
        }
    }
    let mut out = BTreeMap::new();
    walk(src, src, &mut out);
    out
}

/// The arrows that climb, in words.
fn climbing(rooms: &[String], arrows: &BTreeMap<(String, String), PathBuf>) -> Vec<String> {
    let floor = |room: &str| rooms.iter().position(|r| r == room);
    arrows
        .iter()
        .filter(|((from, to), _)| floor(from).zip(floor(to)).is_some_and(|(from, to)| to > from))
        .map(|((from, to), file)| format!("{from} uses {to} ({})", file.display()))
        .collect()
}

#[test]
fn the_list_names_every_room() {
    let rooms = rooms(&fs::read_to_string(root().join("README.md")).unwrap());
    let library = fs::read_to_string(root().join("src/lib.rs")).unwrap();
    let modules = library.lines().filter_map(|l| l.strip_prefix("pub mod ")?.strip_suffix(';'));
    let missing: Vec<&str> = modules.filter(|m| !rooms.iter().any(|r| r == m)).collect();
    assert!(missing.is_empty(), "rooms of src/lib.rs that README.md does not list: {missing:?}");
    let gone: Vec<&String> =
        rooms.iter().filter(|r| !root().join("src").join(r).is_dir() && !root().join(format!("src/{r}.rs")).is_file()).collect();
    assert!(gone.is_empty() && rooms.len() > 20, "rooms of README.md that are not there: {gone:?} of {rooms:?}");
}

#[test]
fn no_arrow_climbs() {
    let rooms = rooms(&fs::read_to_string(root().join("README.md")).unwrap());
    let arrows = arrows(&root().join("src"));
    assert!(arrows.len() > 100, "only {} arrows were found", arrows.len());
    let climbing = climbing(&rooms, &arrows);
    assert!(climbing.is_empty(), "a room uses only those that stand before it in README.md:\n{}", climbing.join("\n"));
}

#[test]
fn an_arrow_that_climbs_is_seen() {
    let list = "x\n## Finding your way\n\n| where | what |\n|---|---|\n| [src/a.rs](src/a.rs), [src/b/](src/b/mod.rs) | a, b |\n| [src/c.rs](src/c.rs) | c |\n\n## Next\n| [src/d.rs](src/d.rs) | no |\n";
    assert_eq!(rooms(list), ["a", "b", "c"]);
    let text =
        "use crate::{b, c::{d, e}, f as g};\n// crate::no\nlet x = crate::h::i();\n#[cfg(test)]\nmod tests {\n use crate::j; }";
    assert_eq!(used(&code(text)).into_iter().collect::<Vec<_>>(), ["b", "c", "f", "h"]);
    let arrow = |from: &str, to: &str| ((from.to_string(), to.to_string()), PathBuf::from("file"));
    let all = BTreeMap::from([arrow("c", "a"), arrow("b", "b"), arrow("a", "c"), arrow("a", "std")]);
    assert_eq!(climbing(&rooms(list), &all), ["a uses c (file)"]);
}
