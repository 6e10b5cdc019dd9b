//! Owns spans of time and sizes as people write them: `36h`, `2 GiB`. Pure; any thread.

use super::Refusal;

/// The unit a key's name ends in: its length in the smallest of its kind (s, bytes), and the words known for that kind.
#[derive(Debug, Clone, Copy)]
pub(super) struct Unit {
    /// In seconds or bytes.
    pub(super) one: f64,
    kind: &'static [(&'static str, f64)],
    rule: &'static str,
}

const TIMES: &[(&str, f64)] =
    &[("us", 1e-6), ("µs", 1e-6), ("ms", 1e-3), ("s", 1.0), ("min", 60.0), ("h", 3600.0), ("d", 86_400.0), ("w", 604_800.0)];
const TIME_RULE: &str = "or a text such as \"36h\" with us, ms, s, min, h, d or w";

const SIZES: &[(&str, f64)] = &[
    ("B", 1.0),
    ("kB", 1e3),
    ("MB", 1e6),
    ("GB", 1e9),
    ("TB", 1e12),
    ("KiB", 1024.0),
    ("MiB", 1_048_576.0),
    ("GiB", 1_073_741_824.0),
    ("TiB", 1_099_511_627_776.0),
];
const SIZE_RULE: &str = "or a text such as \"2 GiB\" with B, kB, MB, GB, TB, KiB, MiB, GiB or TiB";

impl Unit {
    /// The unit of a key.
    pub(super) fn of(key: &str) -> Option<Unit> {
        let time = |one| Some(Unit { one, kind: TIMES, rule: TIME_RULE });
        let size = |one| Some(Unit { one, kind: SIZES, rule: SIZE_RULE });
        match key.rsplit_once('_')?.1 {
            "s" => time(1.0),
            "ms" => time(1e-3),
            "us" => time(1e-6),
            "bytes" => size(1.0),
            "mib" => size(1_048_576.0),
            _ => None,
        }
    }

    /// A text as a number of this unit; a `whole` one is rounded up.
    pub(super) fn read(self, text: &str, whole: bool) -> Result<f64, Refusal> {
        let number = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        let word = text[number..].trim();
        let one = self.kind.iter().find(|(known, _)| *known == word).map(|(_, one)| *one);
        let (Ok(n), Some(one)) = (text[..number].parse::<f64>(), one) else {
            let number = if whole { "a whole number of 0 or more" } else { "a number" };
            return Err(Refusal::text(format!("{number}, {}", self.rule), text));
        };
        let n = n * one / self.one;
        // A millionth of a unit is the arithmetic's own and not worth a whole one.
        Ok(if whole { (n - 1e-6).ceil() } else { n })
    }
}
