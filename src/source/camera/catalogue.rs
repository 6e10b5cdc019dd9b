//! Owns the translation between libcamera's controls and this program's: ids and names as this very library has them,
//! ranges, choices, values. Holds no camera. Runs on the capture thread.

use libcamera::control::{ControlIdMap, ControlInfoMap, ControlList};
use libcamera::control_value::ControlValue;
use libcamera::controls::ControlId;
use libcamera::geometry::Rectangle;

use super::facts::{Fact, Facts};
use crate::source::{Control, Setting, Value};

/// How the library writes a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Bool,
    Byte,
    Uint16,
    Uint32,
    Int32,
    Int64,
    Float,
    Pair,
    IntPair,
    Rectangle,
}

/// All controls of one camera.
pub(super) struct Catalogue {
    /// As the rest of the program sees them.
    pub controls: Vec<Control>,
    /// Number and kind of each, in the same order.
    numbers: Vec<(u32, Kind)>,
    /// Numbers of the metadata entries that mean something.
    facts: Vec<(u32, Fact)>,
}

impl Catalogue {
    /// Reads what the camera offers. `names` knows every control of this library version by number.
    pub(super) fn read(info: &ControlInfoMap, names: &ControlIdMap) -> Catalogue {
        let mut all = Catalogue { controls: Vec::new(), numbers: Vec::new(), facts: Vec::new() };
        for (number, id) in names.iter().into_iter().flatten() {
            if let Some(fact) = Fact::named(id.name()) {
                all.facts.push((number, fact));
            }
            let Ok(info) = info.find(number) else { continue };
            // These two are lists whose range is told for one element.
            let list = matches!(id.name(), "FrameDurationLimits" | "ColourGains");
            let (min, max) = (info.min(), info.max());
            let Some(kind) = kind(&max, list).filter(|_| list || !id.is_array()) else { continue };
            let of = |v: &ControlValue| value(v).map(|v| if list { doubled(v) } else { v });
            let (Some(min), Some(max)) = (of(&min), of(&max)) else { continue };
            let default = of(&info.def()).unwrap_or(min);
            all.controls.push(Control {
                name: id.name().to_string(),
                min,
                max,
                default,
                choices: choices(number, id.name(), &info.values()),
            });
            all.numbers.push((number, kind));
        }
        // The map has no order of its own.
        let mut order: Vec<usize> = (0..all.controls.len()).collect();
        order.sort_by(|a, b| all.controls[*a].name.cmp(&all.controls[*b].name));
        all.numbers = order.iter().map(|i| all.numbers[*i]).collect();
        all.controls.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }

    pub(super) fn place(&self, name: &str) -> Option<usize> {
        self.controls.iter().position(|c| c.name == name)
    }

    /// Writes settings into a request or a start list.
    pub(super) fn write(&self, settings: &[Setting], into: &mut ControlList) {
        for (place, value) in settings {
            let (number, kind) = self.numbers[*place];
            if let Some(value) = written(*value, kind) {
                // This cannot fail: the library drops what it does not know, and `read` has asked it what it knows.
                let _ = into.set_raw(number, value);
            }
        }
    }

    /// Reads metadata: what it means, and which controls it tells.
    pub(super) fn look(&self, metadata: &ControlList, shown: &mut Vec<Setting>) -> Facts {
        let mut facts = Facts::default();
        for (number, raw) in metadata {
            let Some(value) = value(&raw) else { continue };
            if let Some((_, fact)) = self.facts.iter().find(|(n, _)| *n == number) {
                facts.note(*fact, value);
            }
            if let Some(place) = self.numbers.iter().position(|(n, _)| *n == number) {
                shown.push((place, value));
            }
        }
        facts
    }
}

fn kind(max: &ControlValue, list: bool) -> Option<Kind> {
    Some(match max {
        ControlValue::Bool(_) => Kind::Bool,
        ControlValue::Byte(_) => Kind::Byte,
        ControlValue::Uint16(_) => Kind::Uint16,
        ControlValue::Uint32(_) => Kind::Uint32,
        ControlValue::Int32(_) => Kind::Int32,
        ControlValue::Int64(_) if list => Kind::IntPair,
        ControlValue::Int64(_) => Kind::Int64,
        ControlValue::Float(_) if list => Kind::Pair,
        ControlValue::Float(_) => Kind::Float,
        ControlValue::Rectangle(_) => Kind::Rectangle,
        _ => return None,
    })
}

fn doubled(one: Value) -> Value {
    match one {
        Value::Int(v) => Value::IntPair([v, v]),
        Value::Float(v) => Value::Pair([v, v]),
        other => other,
    }
}

/// A value of the library in this program's words; `None` for kinds that no image control has.
fn value(raw: &ControlValue) -> Option<Value> {
    Some(match raw {
        ControlValue::Bool(v) => Value::Bool(*v.first()?),
        ControlValue::Byte(v) => Value::Int(i64::from(*v.first()?)),
        ControlValue::Uint16(v) => Value::Int(i64::from(*v.first()?)),
        ControlValue::Uint32(v) => Value::Int(i64::from(*v.first()?)),
        ControlValue::Int32(v) => Value::Int(i64::from(*v.first()?)),
        ControlValue::Int64(v) => match v.as_slice() {
            [one] => Value::Int(*one),
            [a, b] => Value::IntPair([*a, *b]),
            _ => return None,
        },
        ControlValue::Float(v) => match v.as_slice() {
            [one] => Value::Float(exact(*one)),
            [a, b] => Value::Pair([exact(*a), exact(*b)]),
            _ => return None,
        },
        ControlValue::Rectangle(v) => match v.as_slice() {
            [r] => Value::Rectangle([r.x.into(), r.y.into(), r.width.into(), r.height.into()]),
            _ => return None,
        },
        _ => return None,
    })
}

/// The decimal number that was meant: 0.1 as a float of 32 bits is 0.100000001….
fn exact(short: f32) -> f64 {
    short.to_string().parse().unwrap_or(f64::from(short))
}

fn written(value: Value, kind: Kind) -> Option<ControlValue> {
    Some(match (kind, value) {
        (Kind::Bool, Value::Bool(v)) => v.into(),
        (Kind::Byte, Value::Int(v)) => u8::try_from(v).ok()?.into(),
        (Kind::Uint16, Value::Int(v)) => u16::try_from(v).ok()?.into(),
        (Kind::Uint32, Value::Int(v)) => u32::try_from(v).ok()?.into(),
        (Kind::Int32, Value::Int(v)) => i32::try_from(v).ok()?.into(),
        (Kind::Int64, Value::Int(v)) => v.into(),
        (Kind::Float, Value::Float(v)) => (v as f32).into(),
        (Kind::Float, Value::Int(v)) => (v as f32).into(),
        (Kind::Pair, Value::Pair(v)) => v.map(|v| v as f32).into(),
        (Kind::IntPair, Value::IntPair(v)) => v.into(),
        (Kind::Rectangle, Value::Rectangle([x, y, w, h])) => Rectangle {
            x: i32::try_from(x).ok()?,
            y: i32::try_from(y).ok()?,
            width: u32::try_from(w).ok()?,
            height: u32::try_from(h).ok()?,
        }
        .into(),
        _ => return None,
    })
}

/// Names of a control's numbers, only those that this camera takes.
fn choices(number: u32, name: &str, taken: &[ControlValue]) -> Vec<(String, i64)> {
    // The crate knows numbers as they were when it was built; another library may have moved them.
    let Some(id) = ControlId::from_id(number).filter(|id| id.name() == name) else { return Vec::new() };
    let mut all: Vec<(String, i64)> = id.enumerators_map().into_iter().map(|(v, word)| (word, i64::from(v))).collect();
    if !taken.is_empty() {
        all.retain(|(_, v)| taken.iter().filter_map(value).any(|t| t == Value::Int(*v)));
    }
    all.sort_by_key(|(_, v)| *v);
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_survive_the_way_there_and_back() {
        for (kind, v) in [
            (Kind::Bool, Value::Bool(true)),
            (Kind::Byte, Value::Int(200)),
            (Kind::Int32, Value::Int(-7)),
            (Kind::Int64, Value::Int(1 << 40)),
            (Kind::Float, Value::Float(0.1)),
            (Kind::Pair, Value::Pair([1.7, 2.3])),
            (Kind::IntPair, Value::IntPair([100_000, 3_000_000])),
            (Kind::Rectangle, Value::Rectangle([8, 16, 640, 480])),
        ] {
            assert_eq!(value(&written(v, kind).unwrap()), Some(v));
        }
        assert!(written(Value::Int(300), Kind::Byte).is_none() && written(Value::Bool(true), Kind::Int32).is_none());
    }
}
