//! Owns the text of a configuration: JSON in which no key stands twice, and hints for what people write instead of it. Pure.

use std::fmt;

use serde::Deserializer;
use serde::de::{self, DeserializeSeed, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use crate::error::{Error, Kind, Result};

/// The value at a path, with no key twice in any group.
struct Strict(String);

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = Value;
    fn deserialize<D: Deserializer<'de>>(self, from: D) -> std::result::Result<Value, D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = Value;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }
    fn visit_unit<E>(self) -> std::result::Result<Value, E> {
        Ok(Value::Null)
    }
    fn visit_bool<E>(self, v: bool) -> std::result::Result<Value, E> {
        Ok(v.into())
    }
    fn visit_u64<E>(self, v: u64) -> std::result::Result<Value, E> {
        Ok(v.into())
    }
    fn visit_i64<E>(self, v: i64) -> std::result::Result<Value, E> {
        Ok(v.into())
    }
    fn visit_f64<E>(self, v: f64) -> std::result::Result<Value, E> {
        Ok(v.into())
    }
    fn visit_str<E>(self, v: &str) -> std::result::Result<Value, E> {
        Ok(v.into())
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> std::result::Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(value) = seq.next_element_seed(Strict(self.0.clone()))? {
            list.push(value);
        }
        Ok(list.into())
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Value, A::Error> {
        let mut group = Map::new();
        while let Some(key) = map.next_key::<String>()? {
            let at = crate::settings::join(&self.0, &key);
            if group.contains_key(&key) {
                let at: String = at.chars().map(|c| if c.is_control() { '?' } else { c }).collect();
                return Err(de::Error::custom(format!("{at}: it stands twice; keep one of them, the second is")));
            }
            let value = map.next_value_seed(Strict(at))?;
            group.insert(key, value);
        }
        Ok(group.into())
    }
}

/// Reads a file's bytes.
pub(super) fn read(bytes: &[u8]) -> Result<Value> {
    // Windows editors put a byte-order mark in front.
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let mut from = serde_json::Deserializer::from_slice(bytes);
    let read = Strict(String::new()).deserialize(&mut from).and_then(|value| from.end().map(|()| value));
    read.map_err(|e| {
        if e.is_data() {
            return Error::new(Kind::Config, e.to_string());
        }
        match hint(bytes, e.line(), e.column()) {
            Some(hint) => Error::new(Kind::Config, format!("it is not JSON: {hint}")),
            None => Error::caused(Kind::Config, "it is not JSON", e),
        }
    })
}

/// What somebody wrote who ended up at this line and column, and the cure.
fn hint(bytes: &[u8], line: usize, column: usize) -> Option<String> {
    if matches!(bytes, [0xff, 0xfe, ..] | [0xfe, 0xff, ..] | [0, _, ..] | [_, 0, ..]) {
        return Some("line 1 column 1 begins a text in UTF-16; save the file as UTF-8".into());
    }
    let start = bytes.split_inclusive(|b| *b == b'\n').take(line.saturating_sub(1)).map(<[u8]>::len).sum::<usize>();
    let (before, rest) = bytes.split_at_checked((start + column).saturating_sub(1))?;
    match rest {
        [b'#', ..] | [b'/', b'/' | b'*', ..] => {
            Some(format!("line {line} column {column} begins a comment, which JSON does not know; delete it"))
        }
        [b'}' | b']', ..] if before.trim_ascii_end().ends_with(b",") => {
            Some(format!("line {line} column {column} closes a group or list behind a comma; delete that comma"))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(text: &str) -> String {
        read(text.as_bytes()).unwrap_err().to_string()
    }

    #[test]
    fn what_stands_twice_is_named_with_its_path_and_place() {
        let twice = "{\"network\": {\"token\": \"a\"},\n \"network\": {}}";
        assert_eq!(said(twice), "network: it stands twice; keep one of them, the second is at line 2 column 10");
        let keys = said("{\"export\": {\"keep\": {\"jpg\": {\"max_bytes\": 1, \"max_bytes\": 2}}}}");
        assert!(keys.starts_with("export.keep.jpg.max_bytes: it stands twice"), "{keys}");
        assert!(said("{\"a\\n\": 1, \"a\\n\": 1}").starts_with("a?: "), "a control character in one line");
    }

    #[test]
    fn comments_commas_and_utf_16_get_a_hint() {
        for (text, place) in [
            ("{\n  // the camera\n  \"camera\": {}}", "line 2 column 3"),
            ("{\"camera\": {} // here\n}", "line 1 column 15"),
            ("# pastcam\n{}", "line 1 column 1"),
            ("{\"ring\": /* 300 */ 3}", "line 1 column 10"),
            ("{} // end", "line 1 column 4"),
        ] {
            assert_eq!(said(text), format!("it is not JSON: {place} begins a comment, which JSON does not know; delete it"));
        }
        let comma = "closes a group or list behind a comma; delete that comma";
        assert_eq!(said("{\"ring\": {\"size\": 3,\n}}"), format!("it is not JSON: line 2 column 1 {comma}"));
        assert_eq!(said("{\"formats\": [\"jpg\", ]}"), format!("it is not JSON: line 1 column 21 {comma}"));
        let wide = |order: fn(u16) -> [u8; 2], mark: &str| -> String {
            let bytes: Vec<u8> = format!("{mark}{{}}").encode_utf16().flat_map(order).collect();
            read(&bytes).unwrap_err().to_string()
        };
        for mark in ["\u{feff}", ""] {
            for order in [u16::to_le_bytes, u16::to_be_bytes] {
                assert!(wide(order, mark).ends_with("a text in UTF-16; save the file as UTF-8"), "{mark:?}");
            }
        }
        assert!(said("{\"a\": }").contains("expected value at line 1 column 7"));
    }
}
