//! Owns `presets` of the configuration: named sets of image controls. Knows no control. Pure; any thread.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::settings::{Kind, Leaf, Refusal};

/// Name → control name → true, false, a number, a text or a list of numbers.
pub type Presets = BTreeMap<String, BTreeMap<String, Value>>;

impl Leaf for Presets {
    fn kind(&self) -> Kind {
        Kind::Free
    }
    fn take(&mut self, written: &Value) -> Result<(), Refusal> {
        let Value::Object(sets) = written else { return Err(Refusal::new("a group of keys in braces", written)) };
        *self = sets.iter().map(|(name, set)| Ok((name.clone(), preset(name, set)?))).collect::<Result<_, Refusal>>()?;
        Ok(())
    }
    fn value(&self) -> Value {
        let set = |set: &BTreeMap<String, Value>| set.iter().map(|(k, v)| (k.clone(), v.clone())).collect::<Value>();
        self.iter().map(|(name, controls)| (name.clone(), set(controls))).collect()
    }
}

/// One named set of controls. Which controls there are only the camera knows; their kinds are few.
fn preset(name: &str, set: &Value) -> Result<BTreeMap<String, Value>, Refusal> {
    let word = (1..=32).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b));
    if !word {
        return Err(Refusal::text("names of 1 to 32 of A-Z a-z 0-9 _ . -", name));
    }
    if name.eq_ignore_ascii_case("auto") {
        return Err(Refusal::new("names other than auto, which hands back to the night rule", name));
    }
    let Value::Object(set) = set else {
        return Err(Refusal::new("a group of controls in braces", set).under(format!(".{name}")));
    };
    let control = |(control, value): (&String, &Value)| match value {
        Value::Bool(_) | Value::Number(_) | Value::String(_) => Ok((control.clone(), value.clone())),
        Value::Array(list) if list.len() >= 2 && list.iter().all(Value::is_number) => Ok((control.clone(), value.clone())),
        other => {
            let refusal = Refusal::new("true, false, a number, a text or a list of numbers", other);
            Err(refusal.under(format!(".{name}.{control}")))
        }
    };
    set.iter().map(control).collect()
}
