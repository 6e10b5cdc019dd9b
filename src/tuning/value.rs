//! Owns the values of image controls as words and as JSON: reading, ranges, writing, and when two values are the same.
//! Pure; any thread.

use serde_json::{Value as Json, json};

use crate::error::{Error, Kind, Result};
use crate::settings::nearest;
use crate::source::{Control, Value};

/// Drivers round exposures to whole lines and gains to codes: a value this near to what was asked (ratio) is that value.
const NEAR: f64 = 0.02;

/// The place of a control, by its name: exactly, then without case.
pub fn find(controls: &[Control], name: &str) -> Result<usize> {
    controls
        .iter()
        .position(|c| c.name == name)
        .or_else(|| controls.iter().position(|c| c.name.eq_ignore_ascii_case(name)))
        .ok_or_else(|| {
            let cure = match nearest(name, controls.iter().map(|c| c.name.as_str())) {
                Some(near) => format!("did you mean {near}?"),
                None => "controls lists what the camera has".into(),
            };
            Error::new(Kind::Usage, format!("no control {name}; {cure}"))
        })
}

/// The place of a control of exactly this name, where the camera has it.
pub fn place(controls: &[Control], name: &str) -> Option<usize> {
    controls.iter().position(|c| c.name == name)
}

/// The word for its kind in `controls`.
pub fn kind(c: &Control) -> &'static str {
    match c.default {
        _ if !c.choices.is_empty() => "choice",
        Value::Bool(_) => "bool",
        Value::Int(_) => "integer",
        Value::Float(_) => "decimal",
        Value::Pair(_) => "pair",
        Value::IntPair(_) => "integer pair",
        Value::Rectangle(_) => "rectangle",
    }
}

/// What it takes, in words.
pub fn range(c: &Control) -> String {
    let (low, high) = (text(c, &c.min), text(c, &c.max));
    match (c.default, c.min, c.max) {
        _ if !c.choices.is_empty() => {
            let names: Vec<&str> = c.choices.iter().map(|(name, _)| name.as_str()).collect();
            format!("one of {}", names.join(" "))
        }
        (Value::Bool(_), Value::Bool(a), Value::Bool(b)) if a == b => format!("only {a}"),
        (Value::Bool(_), ..) => "true or false".into(),
        (Value::Int(_), ..) => format!("a whole number from {low} to {high}"),
        (Value::Float(_), ..) => format!("a decimal from {low} to {high}"),
        (Value::Pair(_), ..) => format!("two decimals A,B from {low} to {high}"),
        (Value::IntPair(_), ..) => format!("two whole numbers A,B from {low} to {high}"),
        (Value::Rectangle(_), ..) => format!("a rectangle X,Y,WIDTH,HEIGHT from {low} to {high}"),
    }
}

fn refuse(c: &Control, word: &str) -> Error {
    Error::new(Kind::Usage, format!("{} takes {}, not {word}", c.name, range(c)))
}

fn boolean(word: &str) -> Option<bool> {
    match word.to_ascii_lowercase().as_str() {
        "true" | "on" | "1" => Some(true),
        "false" | "off" | "0" => Some(false),
        _ => None,
    }
}

fn decimal(word: &str) -> Option<f64> {
    word.parse().ok().filter(|v: &f64| v.is_finite())
}

fn numbers<T, const N: usize>(word: &str, one: impl Fn(&str) -> Option<T>) -> Option<[T; N]> {
    let list: Vec<T> = word.split(',').map(one).collect::<Option<_>>()?;
    list.try_into().ok()
}

/// Reads a value of this control and checks it against its range.
pub fn read(c: &Control, word: &str) -> Result<Value> {
    let whole = |w: &str| w.parse::<i64>().ok();
    let value = match c.default {
        Value::Int(_) if !c.choices.is_empty() => {
            let named = |same: fn(&str, &str) -> bool| c.choices.iter().find(|(name, _)| same(name, word)).map(|(_, n)| *n);
            let number = || whole(word).filter(|n| c.choices.iter().any(|(_, known)| known == n));
            named(|a, b| a == b).or_else(|| named(str::eq_ignore_ascii_case)).or_else(number).map(Value::Int)
        }
        Value::Bool(_) => boolean(word).map(Value::Bool),
        Value::Int(_) => whole(word).map(Value::Int),
        Value::Float(_) => decimal(word).map(Value::Float),
        Value::Pair(_) => numbers(word, decimal).map(Value::Pair),
        Value::IntPair(_) => numbers(word, whole).map(Value::IntPair),
        Value::Rectangle(_) => numbers(word, whole).map(Value::Rectangle),
    };
    value.filter(|v| within(c, v)).ok_or_else(|| refuse(c, word))
}

fn within(c: &Control, value: &Value) -> bool {
    let between = |v: &[f64], a: &[f64], b: &[f64]| v.iter().zip(a.iter().zip(b)).all(|(v, (a, b))| a <= v && v <= b);
    match (value, c.min, c.max) {
        (Value::Bool(v), Value::Bool(a), Value::Bool(b)) => *v == a || *v == b,
        (Value::Int(_), ..) if !c.choices.is_empty() => true,
        (Value::Int(v), Value::Int(a), Value::Int(b)) => (a..=b).contains(v),
        (Value::Float(v), Value::Float(a), Value::Float(b)) => between(&[*v], &[a], &[b]),
        (Value::Pair(v), Value::Pair(a), Value::Pair(b)) => between(v, &a, &b),
        (Value::IntPair(v), Value::IntPair(a), Value::IntPair(b)) => {
            v.iter().zip(a.iter().zip(b)).all(|(v, (a, b))| a <= v && *v <= b) && v[0] <= v[1]
        }
        (Value::Rectangle(r), Value::Rectangle(least), Value::Rectangle(whole)) => {
            // Place and size along one axis: `k` is 0 for columns, 1 for rows.
            let inside = |k: usize| {
                let (at, size) = (r[k], r[k + 2]);
                size >= least[k + 2].max(1) && size <= whole[k + 2] && at >= whole[k] && at <= whole[k] + whole[k + 2] - size
            };
            inside(0) && inside(1)
        }
        _ => false,
    }
}

/// Reads a value as it stands in a file: true, a number, a text, a list of numbers.
pub fn from_json(c: &Control, json: &Json) -> Result<Value> {
    let word = match json {
        Json::String(s) => s.clone(),
        Json::Array(list) => list.iter().map(Json::to_string).collect::<Vec<_>>().join(","),
        // Files of other programs write whole numbers as 1.0.
        Json::Number(n) if matches!(c.default, Value::Int(_)) => {
            n.as_f64().filter(|v| v.fract() == 0.0 && n.is_f64()).map_or_else(|| n.to_string(), |v| format!("{v:.0}"))
        }
        other => other.to_string(),
    };
    read(c, &word)
}

/// A number as short as its 32 bits allow: cameras compute in single precision, and 1.7999999523 is nobody's value.
fn short(v: f64) -> Json {
    (v as f32).to_string().parse::<f64>().map_or(Json::Null, |v| json!(v))
}

/// As it stands in files and answers.
pub fn to_json(c: &Control, value: &Value) -> Json {
    match value {
        Value::Int(n) => match c.choices.iter().find(|(_, known)| known == n) {
            Some((name, _)) => json!(name),
            None => json!(n),
        },
        Value::Bool(v) => json!(v),
        Value::Float(v) => short(*v),
        Value::Pair(v) => v.iter().map(|v| short(*v)).collect(),
        Value::IntPair(v) => json!(v),
        Value::Rectangle(v) => json!(v),
    }
}

/// As `set` would take it.
pub fn text(c: &Control, value: &Value) -> String {
    let join = |words: Vec<String>| words.join(",");
    match value {
        Value::Int(n) => c.choices.iter().find(|(_, known)| known == n).map_or_else(|| n.to_string(), |(name, _)| name.clone()),
        Value::Bool(v) => v.to_string(),
        Value::Float(v) => (*v as f32).to_string(),
        Value::Pair(v) => join(v.iter().map(|v| (*v as f32).to_string()).collect()),
        Value::IntPair(v) => join(v.iter().map(i64::to_string).collect()),
        Value::Rectangle(v) => join(v.iter().map(i64::to_string).collect()),
    }
}

/// Whether two values are the same in the camera's own precision.
pub fn exact(a: &Value, b: &Value) -> bool {
    let same = |a: f64, b: f64| (a - b).abs() <= 1e-6 * a.abs().max(b.abs()).max(1e-3);
    match (a, b) {
        (Value::Float(a), Value::Float(b)) => same(*a, *b),
        (Value::Pair(a), Value::Pair(b)) => same(a[0], b[0]) && same(a[1], b[1]),
        _ => a == b,
    }
}

/// Whether `got` is `asked` but for the driver's rounding.
pub fn near(asked: &Value, got: &Value) -> bool {
    let close = |a: f64, b: f64| (a - b).abs() <= NEAR * a.abs() + 1e-3;
    match (asked, got) {
        (Value::Int(a), Value::Int(b)) => close(*a as f64, *b as f64),
        (Value::Float(a), Value::Float(b)) => close(*a, *b),
        (Value::Pair(a), Value::Pair(b)) => close(a[0], b[0]) && close(a[1], b[1]),
        (Value::IntPair(a), Value::IntPair(b)) => close(a[0] as f64, b[0] as f64) && close(a[1] as f64, b[1] as f64),
        // A crop is moved to even pixels and to the shape of the output.
        (Value::Rectangle(a), Value::Rectangle(b)) => a.iter().zip(b).all(|(a, b)| (a - b).abs() <= 2),
        _ => asked == got,
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// One control of each kind.
    pub fn controls() -> Vec<Control> {
        let control = |name: &str, min, max, default| Control { name: name.into(), min, max, default, choices: Vec::new() };
        let mut list = vec![
            control("AeEnable", Value::Bool(false), Value::Bool(true), Value::Bool(true)),
            control("ExposureTime", Value::Int(100), Value::Int(3_000_000), Value::Int(20_000)),
            control("Brightness", Value::Float(-1.0), Value::Float(1.0), Value::Float(0.0)),
            control("ColourGains", Value::Pair([0.0; 2]), Value::Pair([32.0; 2]), Value::Pair([1.0; 2])),
            control(
                "FrameDurationLimits",
                Value::IntPair([8_333; 2]),
                Value::IntPair([3_100_000; 2]),
                Value::IntPair([100_000; 2]),
            ),
            control(
                "ScalerCrop",
                Value::Rectangle([0, 0, 16, 16]),
                Value::Rectangle([0, 0, 640, 480]),
                Value::Rectangle([0, 0, 640, 480]),
            ),
            control("AwbMode", Value::Int(0), Value::Int(7), Value::Int(0)),
            control("Locked", Value::Bool(true), Value::Bool(true), Value::Bool(true)),
            control("AwbEnable", Value::Bool(false), Value::Bool(true), Value::Bool(true)),
        ];
        list[6].choices = vec![("Auto".into(), 0), ("Daylight".into(), 5)];
        list
    }

    fn parse(name: &str, word: &str) -> Result<Value> {
        let list = controls();
        read(&list[find(&list, name)?], word)
    }

    #[test]
    fn every_kind_is_read_and_written_the_same_way() {
        for (name, word, value) in [
            ("AeEnable", "off", Value::Bool(false)),
            ("aeenable", "TRUE", Value::Bool(true)),
            ("ExposureTime", "20000", Value::Int(20_000)),
            ("Brightness", "-.5", Value::Float(-0.5)),
            ("ColourGains", "1.5,2", Value::Pair([1.5, 2.0])),
            ("FrameDurationLimits", "10000,20000", Value::IntPair([10_000, 20_000])),
            ("ScalerCrop", "160,120,320,240", Value::Rectangle([160, 120, 320, 240])),
            ("AwbMode", "daylight", Value::Int(5)),
            ("AwbMode", "5", Value::Int(5)),
        ] {
            assert_eq!(parse(name, word).unwrap(), value, "{name}={word}");
            let list = controls();
            let c = &list[find(&list, name).unwrap()];
            assert_eq!(read(c, &text(c, &value)).unwrap(), value);
            assert_eq!(from_json(c, &to_json(c, &value)).unwrap(), value);
        }
        let list = controls();
        assert_eq!(from_json(&list[1], &json!(20000.0)).unwrap(), Value::Int(20_000));
        assert_eq!(text(&list[2], &Value::Float(f64::from(0.7f32))), "0.7");
        assert_eq!(to_json(&list[2], &Value::Float(f64::from(0.7f32))), json!(0.7));
    }

    #[test]
    fn wrong_kinds_and_ranges_are_refused_with_the_range() {
        for (name, word, rule) in [
            ("AeEnable", "2", "takes true or false"),
            ("ExposureTime", "99", "takes a whole number from 100 to 3000000, not 99"),
            ("ExposureTime", "1.5", "takes a whole number"),
            ("Brightness", "nan", "takes a decimal from -1 to 1, not nan"),
            ("Brightness", "1.01", "takes a decimal"),
            ("Brightness", "", "takes a decimal"),
            ("ColourGains", "1.5", "takes two decimals A,B from 0,0 to 32,32"),
            ("ColourGains", "1,33", "takes two decimals"),
            ("FrameDurationLimits", "20000,10000", "takes two whole numbers"),
            ("ScalerCrop", "400,0,320,240", "takes a rectangle X,Y,WIDTH,HEIGHT"),
            ("ScalerCrop", "0,0,8,8", "takes a rectangle"),
            ("ScalerCrop", "9223372036854775807,0,320,240", "takes a rectangle"),
            ("AwbMode", "Moon", "takes one of Auto Daylight, not Moon"),
            ("AwbMode", "3", "takes one of"),
            ("Locked", "false", "takes only true"),
        ] {
            let e = parse(name, word).unwrap_err();
            assert!(e.kind == Kind::Usage && e.what.contains(rule), "{name}={word}: {e}");
        }
        assert_eq!(parse("Brihtness", "0").unwrap_err().what, "no control Brihtness; did you mean Brightness?");
        assert_eq!(parse("Zoom", "0").unwrap_err().what, "no control Zoom; controls lists what the camera has");
    }

    #[test]
    fn rounding_is_near_and_a_limit_is_not() {
        assert!(near(&Value::Int(20_000), &Value::Int(19_983)) && !near(&Value::Int(20_000), &Value::Int(10_000)));
        assert!(!near(&Value::Int(3), &Value::Int(2)));
        assert!(exact(&Value::Float(0.7), &Value::Float(f64::from(0.7f32))));
        assert!(!exact(&Value::Float(0.0), &Value::Float(0.1)));
    }
}
