//! Owns the words for a camera's image controls: names, kinds, ranges, values. Plain data, any thread.

/// A control's value. The kinds are those that image controls of cameras have; others are not offered.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Value {
    /// On or off.
    Bool(bool),
    /// A whole number, or the number of a named choice.
    Int(i64),
    /// A real number.
    Float(f64),
    /// Two real numbers: colour gains (red, blue).
    Pair([f64; 2]),
    /// Two whole numbers: shortest and longest frame duration (µs).
    IntPair([i64; 2]),
    /// A part of the picture: x, y, width, height (sensor pixels).
    Rectangle([i64; 4]),
}

/// One control as the camera offers it.
#[derive(Debug, Clone, PartialEq)]
pub struct Control {
    /// Its name, as the camera spells it.
    pub name: String,
    /// Smallest value.
    pub min: Value,
    /// Largest value.
    pub max: Value,
    /// The value it has when nobody sets it.
    pub default: Value,
    /// Names of whole numbers, where it is a choice.
    pub choices: Vec<(String, i64)>,
}

/// The value of the control at this place in [`super::Source::controls`].
pub type Setting = (usize, Value);
