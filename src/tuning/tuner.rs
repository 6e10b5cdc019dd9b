//! Owns the controls on the capture's side: turns orders into settings, watches frames for their proof, knows who has the
//! exposure. Never calls the source: the capture does, between `renew` and `settle`. Allocates only while an order is
//! pending or the source starts. Runs on the capture thread.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::Sender;

use super::Presets;
use super::layers::{COLOUR, EXPOSURE_GROUP, FRAME_TIMES, Force, Layers, give_way};
use super::proof::Watch;
use super::value::{exact, find, place, to_json};
use super::{Board, Done, Held, Map, Note, Order, Origin, Outcome, What};
use crate::error::{Error, Result};
use crate::night::Mode;
use crate::source::{Control, Setting, Value};

/// An order whose proof is awaited.
struct Pending {
    watch: Watch,
    implied: Vec<Setting>,
    save: Option<Map>,
    released: bool,
    done: Done,
}

/// Settings to send, and who has the exposure with them.
pub struct Renewal {
    /// All that differs from what the camera was told last.
    pub settings: Vec<Setting>,
    /// Who has the exposure.
    pub held: Held,
}

/// An order between [`Tuner::prepare`] and [`Tuner::sent`].
pub struct Prepared {
    /// What to send.
    pub renewal: Renewal,
    /// The exposure, or the frame times, go back to the night rule: it has to be asked what it wants.
    pub released: bool,
    named: Vec<Setting>,
    save: Option<Map>,
    before: (Layers, Force, Held),
    done: Done,
}

/// The controls of the running source.
pub struct Tuner {
    board: Arc<Board>,
    notes: Sender<Note>,
    layers: Layers,
    /// Frame time by day (µs).
    day_us: i64,
    controls: Arc<[Control]>,
    told: Vec<Option<Value>>,
    force: Force,
    held: Held,
    pending: Vec<Pending>,
    /// What was passed over and said since the source started.
    warned: Vec<String>,
}

impl Tuner {
    /// Without a source yet. `day_us`: frame time by day (µs).
    pub fn new(board: Arc<Board>, notes: Sender<Note>, presets: Presets, persisted: Map, day_us: i64) -> Tuner {
        board.lock().persisted.clone_from(&persisted);
        Tuner {
            board,
            notes,
            layers: Layers { presets, persisted, ..Layers::default() },
            day_us,
            controls: Arc::default(),
            told: Vec::new(),
            force: Force::new(),
            held: Held::No,
            pending: Vec::new(),
            warned: Vec::new(),
        }
    }

    /// Who has the exposure.
    pub fn held(&self) -> Held {
        self.held
    }

    /// A source has started and knows nothing: everything in force is to be sent.
    pub fn started(&mut self, name: &str, controls: &[Control], mode: Mode) -> Renewal {
        if *self.controls != *controls {
            self.controls = controls.into();
        }
        self.told = vec![None; controls.len()];
        self.force = Force::new();
        {
            let mut shown = self.board.lock();
            shown.source = name.into();
            shown.controls = self.controls.clone();
            shown.told.clone_from(&self.told);
        }
        self.warned.clear();
        self.renew(mode)
    }

    /// Works out anew what is in force; what is no longer wanted goes back to its default.
    pub fn renew(&mut self, mode: Mode) -> Renewal {
        let warned = &mut self.warned;
        let mut warn = |w: String| {
            if !warned.contains(&w) {
                log::warn!("{w}");
                warned.push(w);
            }
        };
        let (force, held) = self.layers.resolve(&self.controls, mode, self.day_us, &mut warn);
        // Without a hold the exposure is the night rule's, which sets it itself.
        let by_rule = |i: usize| held == Held::No && EXPOSURE_GROUP.contains(&self.controls[i].name.as_str());
        let changed = |i: &usize, v: &Value| self.force.get(i).is_none_or(|(old, _)| !exact(old, v)) && !by_rule(*i);
        let mut settings: Vec<Setting> = force.iter().filter(|(i, (v, _))| changed(i, v)).map(|(i, (v, _))| (*i, *v)).collect();
        for i in self.force.keys().filter(|i| !force.contains_key(i)) {
            // So are the frame times that came with it; a camera on automatic has no use for the defaults of the others.
            let name = self.controls[*i].name.as_str();
            // Colour gains are not even defaults to a camera: on a Pi any gains end the automatic.
            let awb = place(&self.controls, "AwbEnable").and_then(|i| force.get(&i)).map(|(v, _)| *v);
            let with_it = (held != Held::Manual && (name == FRAME_TIMES || EXPOSURE_GROUP.contains(&name)))
                || (COLOUR.contains(&name) && awb != Some(Value::Bool(false)));
            if !with_it {
                settings.push((*i, self.controls[*i].default));
            }
        }
        (self.force, self.held) = (force, held);
        let mut by_place = vec![None; self.controls.len()];
        self.force.iter().for_each(|(i, v)| by_place[*i] = Some(*v));
        let applied = self.layers.preset_in(mode).map(|(name, _)| name.to_string());
        let mut shown = self.board.lock();
        shown.force = by_place;
        shown.preset.clone_from(&self.layers.preset);
        shown.persisted.clone_from(&self.layers.persisted);
        shown.applied = applied;
        shown.held = held != Held::No;
        drop(shown);
        Renewal { settings, held }
    }

    /// The frame times that are in force while the rule has the exposure: it overwrites them by day and may.
    pub fn frame_times(&self) -> Option<Setting> {
        let i = place(&self.controls, FRAME_TIMES)?;
        self.force.get(&i).map(|(v, _)| (i, *v))
    }

    /// The longest frame that is in force by hand (µs).
    pub fn frame_us(&self) -> Option<f64> {
        let value = |name| place(&self.controls, name).and_then(|i| self.force.get(&i)).map(|(v, _)| *v);
        let time = match value("ExposureTime") {
            Some(Value::Int(us)) => us as f64,
            _ => 0.0,
        };
        let limit = match value(FRAME_TIMES) {
            Some(Value::IntPair([_, longest])) => longest as f64,
            _ => 0.0,
        };
        Some(time.max(limit)).filter(|us| *us > 0.0)
    }

    /// New presets from the configuration; a chosen one that is gone ends.
    pub fn presets(&mut self, presets: Presets) {
        if self.layers.preset.as_ref().is_some_and(|name| !presets.contains_key(name)) {
            self.layers.preset = None;
        }
        self.layers.presets = presets;
    }

    /// Turns an order into settings, to be sent and followed by [`Tuner::sent`]. `None`: it was refused, and answered.
    pub fn prepare(&mut self, order: Order, mode: Mode) -> Option<Prepared> {
        let before = (self.layers.clone(), self.force.clone(), self.held);
        let Order { what, done } = order;
        let save = match self.take_in(&what) {
            Ok(changed) => changed.then(|| self.layers.persisted.clone()),
            Err(e) => {
                self.finish(Err(e), None, done);
                return None;
            }
        };
        let mut renewal = self.renew(mode);
        let named = self.named(&what, &mut renewal);
        // Frame times that were set by hand go back to the rule as an exposure does.
        let times = place(&self.controls, FRAME_TIMES).is_some_and(|i| before.1.contains_key(&i) && !self.force.contains_key(&i));
        let released = renewal.held == Held::No && (before.2 != Held::No || times);
        Some(Prepared { renewal, released, named, save, before, done })
    }

    /// What became of sending. The answer comes with a later frame, or now where nothing changes or the camera refuses; a
    /// refused order leaves no trace.
    pub fn sent(&mut self, prepared: Prepared, sent: Result<()>, mode: Mode) {
        let Prepared { renewal, named, save, before, done, .. } = prepared;
        let released = before.2 != Held::No && renewal.held == Held::No;
        if let Err(e) = sent {
            self.layers = before.0;
            self.renew(mode);
            (self.force, self.held) = (before.1, before.2);
            return self.finish(Err(e), None, done);
        }
        let implied: Vec<Setting> =
            renewal.settings.iter().filter(|(i, _)| !named.iter().any(|(n, _)| n == i)).copied().collect();
        self.pending.iter_mut().for_each(|p| p.watch.overtaken(&renewal.settings));
        let watch = Watch::new(&named, &self.told);
        let pending = Pending { watch, implied, save, released, done };
        if named.is_empty() {
            self.end(pending, None);
        } else {
            self.pending.push(pending);
            self.board.pending.store(self.pending.len(), Relaxed);
        }
    }

    /// Changes the layers; true when `tuning.json` has to follow. Checked again: the camera may be another one by now.
    fn take_in(&mut self, what: &What) -> Result<bool> {
        let known = self.controls.clone();
        match what {
            What::Set { values, persist } => {
                let found: Vec<usize> = values.iter().map(|(name, _)| find(&known, name)).collect::<Result<_>>()?;
                for (i, (_, value)) in found.into_iter().zip(values) {
                    let (name, json) = (&known[i].name, to_json(&known[i], value));
                    give_way(&mut self.layers.hand, name, value);
                    self.layers.hand.insert(name.clone(), json.clone());
                    if *persist {
                        self.layers.released &= !EXPOSURE_GROUP.contains(&name.as_str());
                        give_way(&mut self.layers.persisted, name, value);
                        self.layers.persisted.insert(name.clone(), json);
                    }
                }
                Ok(*persist)
            }
            What::Reset(names) if names.is_empty() => {
                self.layers.hand.clear();
                self.layers.preset = None;
                self.layers.released = false;
                let held_some = !self.layers.persisted.is_empty();
                self.layers.persisted.clear();
                Ok(held_some)
            }
            What::Reset(names) => {
                let found: Vec<usize> = names.iter().map(|name| find(&known, name)).collect::<Result<_>>()?;
                let before = self.layers.persisted.len();
                for i in found {
                    self.layers.hand.retain(|k, _| !k.eq_ignore_ascii_case(&known[i].name));
                    self.layers.persisted.retain(|k, _| !k.eq_ignore_ascii_case(&known[i].name));
                }
                Ok(self.layers.persisted.len() != before)
            }
            What::Preset(Some(name)) => {
                // What was set by hand gives way to what the preset names; the rest stays.
                let names: Vec<String> = self.layers.presets.get(name).into_iter().flat_map(BTreeMap::keys).cloned().collect();
                let exposes = names.iter().any(|n| EXPOSURE_GROUP.iter().any(|g| g.eq_ignore_ascii_case(n)));
                let gives = |k: &str| names.iter().any(|n| n.eq_ignore_ascii_case(k)) || (exposes && EXPOSURE_GROUP.contains(&k));
                self.layers.hand.retain(|k, _| !gives(k));
                self.layers.preset = Some(name.clone());
                Ok(false)
            }
            What::Preset(None) => {
                self.layers.hand.retain(|k, _| !EXPOSURE_GROUP.contains(&k.as_str()));
                self.layers.preset = None;
                self.layers.released = true;
                Ok(false)
            }
        }
    }

    /// The settings that the answer speaks of. What was asked by name is asked again even if it is in force already: the
    /// camera may have gone another way.
    fn named(&self, what: &What, renewal: &mut Renewal) -> Vec<Setting> {
        let What::Set { values, .. } = what else {
            // What came along may be a control that no frame tells; it is waited for only if there is nothing else.
            let along = |i: usize| self.force.get(&i).is_some_and(|(_, origin)| *origin == Origin::Implied);
            let own: Vec<Setting> = renewal.settings.iter().filter(|(i, _)| !along(*i)).copied().collect();
            return if own.is_empty() { renewal.settings.clone() } else { own };
        };
        let mut named: Vec<Setting> = Vec::with_capacity(values.len());
        for (name, value) in values {
            let Some(i) = place(&self.controls, name) else { continue };
            named.retain(|(known, _)| *known != i);
            named.push((i, *value));
            let by_rule = renewal.held == Held::No && in_group(&self.controls[i]);
            if !by_rule && !renewal.settings.iter().any(|(known, _)| *known == i) {
                renewal.settings.push((i, *value));
            }
        }
        named
    }

    /// What one frame told, as frame `id` of the ring.
    pub fn frame(&mut self, shown: &[Setting], id: u64) {
        for (index, value) in shown {
            if let Some(told) = self.told.get_mut(*index) {
                *told = Some(*value);
            }
        }
        if !shown.is_empty() {
            self.board.tell(&self.told);
        }
        let mut i = 0;
        while i < self.pending.len() {
            if self.pending[i].watch.frame(shown) {
                let pending = self.pending.remove(i);
                self.end(pending, Some(id));
            } else {
                i += 1;
            }
        }
    }

    fn end(&mut self, pending: Pending, frame: Option<u64>) {
        let Pending { watch, implied, save, released, done } = pending;
        let outcome = Outcome {
            controls: self.controls.clone(),
            ends: watch.ends().collect(),
            implied,
            frame,
            held: self.held != Held::No,
            released,
            persisted: false,
        };
        self.finish(Ok(outcome), save, done);
    }

    fn finish(&mut self, outcome: Result<Outcome>, save: Option<Map>, done: Done) {
        self.board.pending.store(self.pending.len(), Relaxed);
        // A clerk that has gone went with the program; the reply's own end answers.
        let _ = self.notes.send(Note { outcome, save, done });
    }

    /// The source failed: whoever waits for a proof is told, and what was asked stays in force for its return.
    pub fn lost(&mut self) {
        self.controls = Arc::default();
        self.told.clear();
        self.force.clear();
        {
            let mut shown = self.board.lock();
            shown.controls = Arc::default();
            shown.told.clear();
            shown.force.clear();
        }
        for Pending { save, done, .. } in std::mem::take(&mut self.pending) {
            let what = "the camera was lost before a frame showed the change; it is asked for again when frames come";
            self.finish(Err(lost(what)), save, done);
        }
        self.board.pending.store(0, Relaxed);
    }

    /// An order that came while there is no source.
    pub fn refuse(&self, order: Order) {
        let outcome = Err(lost("the camera is not there; ask again when status says RUNNING"));
        let _ = self.notes.send(Note { outcome, save: None, done: order.done });
    }
}

fn in_group(c: &Control) -> bool {
    EXPOSURE_GROUP.contains(&c.name.as_str())
}

fn lost(what: &str) -> Error {
    Error::new(crate::error::Kind::Source, what)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, channel};

    use super::super::value::tests::controls;
    use super::super::{End, clerk};
    use super::*;
    use serde_json::json;

    struct Rig {
        tuner: Tuner,
        board: Arc<Board>,
        notes: Receiver<clerk::Note>,
    }

    impl Rig {
        fn new(persisted: serde_json::Value) -> Rig {
            let (board, (to, notes)) = (Arc::new(Board::default()), channel());
            let persisted = serde_json::from_value(persisted).unwrap();
            let presets = serde_json::from_value(json!({"day": {"Brightness": 0.2}, "night": {"Brightness": 0.4}})).unwrap();
            Rig { tuner: Tuner::new(board.clone(), to, presets, persisted, 100_000), board, notes }
        }
        /// An order that the camera takes or refuses; what was sent to it.
        fn order(&mut self, what: What, takes: bool) -> Vec<Setting> {
            let order = Order { what, done: Box::new(|_| {}) };
            let Some(p) = self.tuner.prepare(order, Mode::Day) else { return Vec::new() };
            let settings = p.renewal.settings.clone();
            self.tuner.sent(p, if takes { Ok(()) } else { Err(lost("no")) }, Mode::Day);
            settings
        }
        fn set(&mut self, name: &str, value: Value, persist: bool, takes: bool) -> Vec<Setting> {
            self.order(What::Set { values: vec![(name.into(), value)], persist }, takes)
        }
        fn note(&self) -> clerk::Note {
            self.notes.try_recv().unwrap()
        }
    }

    fn at(name: &str) -> usize {
        place(&controls(), name).unwrap()
    }

    #[test]
    fn a_start_sends_all_that_is_in_force_and_a_switch_what_differs() {
        let mut r = Rig::new(json!({"ExposureTime": 5000, "Zoom": 1}));
        let sent = r.tuner.started("a", &controls(), Mode::Day);
        let (ae, time, b) = (at("AeEnable"), at("ExposureTime"), at("Brightness"));
        assert_eq!(sent.held, Held::Manual);
        assert!(sent.settings.contains(&(ae, Value::Bool(false))) && sent.settings.contains(&(time, Value::Int(5000))));
        assert!(sent.settings.contains(&(b, Value::Float(0.2))));
        assert_eq!(r.tuner.renew(Mode::Night).settings, [(b, Value::Float(0.4))].to_vec());
    }

    #[test]
    fn a_refused_order_leaves_no_trace() {
        let mut r = Rig::new(json!({}));
        r.tuner.started("a", &controls(), Mode::Day);
        let before = (r.tuner.layers.clone(), r.tuner.force.clone());
        assert_eq!(r.set("ExposureTime", Value::Int(5000), true, false).len(), 3);
        assert!(r.note().outcome.is_err());
        assert!((r.tuner.layers.clone(), r.tuner.force.clone()) == before && r.tuner.held() == Held::No);
        assert_eq!((r.board.pending(), r.board.shown().held), (0, false));
    }

    #[test]
    fn an_order_waits_for_its_frame_and_then_has_the_file_written() {
        let mut r = Rig::new(json!({}));
        r.tuner.started("a", &controls(), Mode::Day);
        let b = at("Brightness");
        r.set("Brightness", Value::Float(0.5), true, true);
        r.tuner.frame(&[(b, Value::Float(0.2))], 7);
        assert_eq!((r.board.pending(), r.board.shown().current(b)), (1, Value::Float(0.2)));
        r.tuner.frame(&[(b, Value::Float(0.5))], 8);
        let note = r.note();
        let outcome = note.outcome.unwrap();
        assert_eq!((outcome.frame, &outcome.ends[..]), (Some(8), &[(b, Value::Float(0.5), End::Shown(Value::Float(0.5)))][..]));
        assert_eq!(note.save.unwrap()["Brightness"], 0.5);
        assert_eq!(r.board.pending(), 0);
    }

    #[test]
    fn a_lost_camera_answers_and_the_next_start_asks_again() {
        let mut r = Rig::new(json!({}));
        r.tuner.started("a", &controls(), Mode::Day);
        r.set("Brightness", Value::Float(0.5), true, true);
        r.tuner.lost();
        let note = r.note();
        assert!(note.outcome.is_err() && note.save.is_some());
        assert!(r.board.shown().controls.is_empty());
        let sent = r.tuner.started("b", &controls(), Mode::Day);
        assert_eq!(sent.settings, [(at("Brightness"), Value::Float(0.5))].to_vec());
    }

    #[test]
    fn without_a_hold_the_exposure_is_not_sent_by_hand() {
        let mut r = Rig::new(json!({"AeEnable": true}));
        assert!(r.tuner.started("a", &controls(), Mode::Day).settings.iter().all(|(i, _)| *i != at("AeEnable")));
        assert!(r.set("AeEnable", Value::Bool(true), false, true).is_empty());
        // Colour gains that go leave the automatic, and no gains of their own.
        r.set("ColourGains", Value::Pair([2.0, 2.0]), false, true);
        let (awb, sent) = (at("AwbEnable"), r.order(What::Reset(vec!["ColourGains".into()]), true));
        assert_eq!(sent, [(awb, Value::Bool(true))].to_vec());
    }

    #[test]
    fn the_longest_frame_in_force_is_known() {
        let mut r = Rig::new(json!({}));
        r.tuner.started("a", &controls(), Mode::Day);
        assert_eq!(r.tuner.frame_us(), None);
        r.set("ExposureTime", Value::Int(2_000_000), false, true);
        assert_eq!(r.tuner.frame_us(), Some(2e6));
    }
}
