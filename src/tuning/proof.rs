//! Owns the proof that a change has arrived: it compares what frames tell with what was asked. A plain value, stepped once
//! per frame on the capture thread; never allocates after it was made.

use super::value::{exact, near};
use crate::source::{Setting, Value};

/// Frames after which a value that rests elsewhere is the driver's own, and a value never told will not be. The longest way
/// of a control that was measured is 11 frames.
const PATIENCE: u32 = 16;
/// Frames of one value that prove rest.
const REST: u32 = 4;
/// Frames after which a value that never rests is taken as it is.
const ENOUGH: u32 = 64;

/// How a change ended.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum End {
    /// Frames show it, rounded as the driver rounds.
    Shown(Value),
    /// Frames show something else, and stay with it.
    Clamped(Value),
    /// A later order asked for something else before this one could be seen.
    Overtaken(Value),
    /// No frame told this control.
    Untold,
}

#[derive(Debug, Clone)]
struct Item {
    index: usize,
    asked: Value,
    before: Option<Value>,
    /// What a later order asks for.
    newer: Option<Value>,
    last: Option<Value>,
    same: u32,
    end: Option<End>,
}

/// The changes of one order, until each has ended.
#[derive(Debug, Clone)]
pub struct Watch {
    items: Vec<Item>,
    frames: u32,
}

impl Watch {
    /// Waits for these; `told` is what the last frame before told of each control.
    pub fn new(settings: &[Setting], told: &[Option<Value>]) -> Watch {
        let item = |&(index, asked): &Setting| Item {
            index,
            asked,
            before: told.get(index).copied().flatten(),
            newer: None,
            last: None,
            same: 0,
            end: None,
        };
        Watch { items: settings.iter().map(item).collect(), frames: 0 }
    }

    /// Another order asks for this now.
    pub fn overtaken(&mut self, settings: &[Setting]) {
        for item in &mut self.items {
            if let Some((_, value)) = settings.iter().find(|(index, _)| *index == item.index) {
                item.newer = Some(*value);
            }
        }
    }

    /// Takes what one frame tells; true once every change has ended.
    pub fn frame(&mut self, shown: &[Setting]) -> bool {
        self.frames += 1;
        let frames = self.frames;
        self.items.iter_mut().filter(|i| i.end.is_none()).for_each(|item| item.frame(frames, shown));
        self.items.iter().all(|i| i.end.is_some())
    }

    /// The changes and how they ended, in the order in which they were asked. Those that have not count as untold.
    pub fn ends(&self) -> impl Iterator<Item = (usize, Value, End)> + '_ {
        self.items.iter().map(|i| (i.index, i.asked, i.end.unwrap_or(End::Untold)))
    }
}

impl Item {
    fn frame(&mut self, frames: u32, shown: &[Setting]) {
        let told = shown.iter().find(|(index, _)| *index == self.index).map(|(_, value)| *value);
        if let Some(value) = told {
            let same = self.last.is_some_and(|last| exact(&last, &value));
            self.same = if same { self.same + 1 } else { 1 };
            self.last = Some(value);
            let moved = self.before.is_none_or(|before| !exact(&before, &value));
            if exact(&self.asked, &value) || (near(&self.asked, &value) && moved && self.same >= 2) {
                self.end = Some(End::Shown(value));
                return;
            }
            if self.newer.is_some_and(|newer| exact(&newer, &value)) {
                self.end = Some(End::Overtaken(value));
                return;
            }
        }
        if frames < PATIENCE {
            return;
        }
        let rests = told.is_none() || self.same >= REST || frames >= ENOUGH;
        self.end = match self.last {
            None => Some(End::Untold),
            Some(value) if rests && near(&self.asked, &value) => Some(End::Shown(value)),
            Some(value) if rests && self.newer.is_some() => Some(End::Overtaken(value)),
            Some(value) if rests => Some(End::Clamped(value)),
            Some(_) => None,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ASKED: [Setting; 1] = [(3, Value::Int(20_000))];

    fn watch() -> Watch {
        let mut told = [None; 5];
        told[3] = Some(Value::Int(10_000));
        Watch::new(&ASKED, &told)
    }
    fn shows(w: &mut Watch, v: i64) -> bool {
        w.frame(&[(1, Value::Bool(true)), (3, Value::Int(v))])
    }
    fn end(w: &Watch) -> End {
        w.ends().next().unwrap().2
    }

    #[test]
    fn the_first_frame_that_shows_it_is_the_proof() {
        let mut w = watch();
        for _ in 0..10 {
            assert!(!shows(&mut w, 10_000));
        }
        assert!(shows(&mut w, 20_000));
        assert_eq!(end(&w), End::Shown(Value::Int(20_000)));
    }

    #[test]
    fn a_value_rounded_by_the_driver_must_have_moved_and_rested() {
        let mut w = watch();
        assert!(!shows(&mut w, 19_983));
        assert!(shows(&mut w, 19_983));
        assert_eq!(end(&w), End::Shown(Value::Int(19_983)));
        // It was near before: that proves nothing until the way of a control is over.
        let mut w = Watch::new(&[(0, Value::Int(20_000))], &[Some(Value::Int(19_983))]);
        for _ in 0..15 {
            assert!(!w.frame(&[(0, Value::Int(19_983))]));
        }
        assert!(w.frame(&[(0, Value::Int(19_983))]));
        assert_eq!(end(&w), End::Shown(Value::Int(19_983)));
    }

    #[test]
    fn a_limit_is_believed_after_sixteen_frames() {
        let mut w = watch();
        for _ in 0..15 {
            assert!(!shows(&mut w, 15_000));
        }
        assert!(shows(&mut w, 15_000));
        assert_eq!(end(&w), End::Clamped(Value::Int(15_000)));
    }

    #[test]
    fn a_value_that_never_rests_ends_too() {
        let mut w = watch();
        assert_eq!((1..1000).find(|n| shows(&mut w, 1000 * n)), Some(20), "twenty thousand passes by");
        let mut w = watch();
        assert_eq!((1..1000).find(|n| shows(&mut w, 30_000 + 1000 * n)), Some(64));
        assert!(matches!(end(&w), End::Clamped(_)));
    }

    #[test]
    fn a_control_no_frame_tells_ends_untold() {
        let mut w = watch();
        assert_eq!((1..100).find(|_| w.frame(&[])), Some(16));
        assert_eq!(end(&w), End::Untold);
    }

    #[test]
    fn a_later_order_is_not_a_limit() {
        let mut w = watch();
        w.overtaken(&[(3, Value::Int(30_000))]);
        assert!(!shows(&mut w, 10_000));
        assert!(shows(&mut w, 30_000));
        assert_eq!(end(&w), End::Overtaken(Value::Int(30_000)));
    }
}
