//! Owns the synthetic sensor's own time: when a frame is due, which requests have reached it, what goes wrong on demand.
//! Never waits for the capture: a frame without an empty buffer is lost, as on a real sensor. The thread `sensor`.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::dials::{AE_ENABLE, ANALOGUE_GAIN, Dials, EXPOSURE_TIME, LONGEST_US, Look, TOLD};
use super::options::{Options, Script};
use super::plan::Rows;
use super::scene::{Moment, Scene};
use crate::clock::{BootUs, Clock, SystemClock};
use crate::frame::{Ae, Exposure, Layout};
use crate::night::trace::Trace;
use crate::scale::Shrink;
use crate::source::{Camera, Light, Setting, Value, barcode};

/// Frames from a request to its effect, as on a Pi camera with four buffers.
const LATENCY: u64 = 4;
/// Frames that an OV5647 does not deliver after each start.
const HIDDEN: u64 = 2;
/// Frames until auto-exposure says that it has converged.
const CONVERGES: u64 = 3;
/// What fills the bytes between rows: whoever shows them shows a grey bar.
const PADDING: u8 = 0xaa;

/// What the capture asks of the sensor.
pub enum Ask {
    /// As the night rule wants it.
    Light(Light),
    /// With one and the same frame.
    Set(Vec<Setting>),
}

/// A filled buffer on its way to the capture.
pub struct Shot {
    pub pixels: Vec<u8>,
    pub rows: Rows,
    pub low: Option<(Vec<u8>, Layout)>,
    pub id: u64,
    pub boot: BootUs,
    pub exposure: Exposure,
    pub ae: Ae,
    pub lux: f64,
    pub kelvin: u32,
    pub told: [Setting; TOLD],
}

/// An empty pair of buffers.
pub type Empty = (Vec<u8>, Vec<u8>);

/// The thread `sensor`.
pub struct Sensor {
    options: Options,
    camera: Camera,
    trace: Option<Trace>,
    script: Arc<Mutex<Script>>,
    stop: Arc<AtomicBool>,
    asks: Receiver<Ask>,
    /// Requests on their way, with the frame that shows them first.
    queue: VecDeque<(u64, Ask)>,
    dials: Dials,
    scene: Scene,
    shrink: Option<(Shrink, Layout)>,
    next: u64,
    /// Auto-exposure searches until this frame.
    searches: u64,
    /// Requests that come back cancelled by the sensor's own rule.
    cancelled: u32,
}

impl Sensor {
    pub fn new(
        options: &Options,
        camera: &Camera,
        trace: Option<Trace>,
        script: Arc<Mutex<Script>>,
        stop: Arc<AtomicBool>,
        asks: Receiver<Ask>,
        first: u64,
    ) -> Sensor {
        let latency = options.latency.unwrap_or(LATENCY);
        Sensor {
            options: options.clone(),
            camera: *camera,
            trace,
            script,
            stop,
            asks,
            queue: VecDeque::with_capacity(16),
            dials: Dials::new(camera, options.longest_us.unwrap_or(LONGEST_US)),
            scene: Scene::new(camera.layout, options),
            shrink: options.low.map(|low| (Shrink::new(low), low)),
            next: first,
            searches: first + latency + CONVERGES,
            cancelled: 0,
        }
    }

    /// Exposes until told to stop or until the control file ends it.
    pub fn run(&mut self, out: &SyncSender<std::result::Result<Shot, String>>, empty: &Receiver<Empty>) {
        let clock = SystemClock;
        let begin = clock.boot();
        let mut due = begin;
        let mut hidden = self.options.hide.unwrap_or(HIDDEN);
        while !self.stop.load(Ordering::Relaxed) {
            let script = self.script();
            let lux = self.lux(&script, clock.boot().since(begin).as_secs_f64());
            let before = self.dials.expose(lux, script.clamp_us);
            self.requests(before);
            let exposure = self.dials.expose(lux, script.clamp_us);
            due = due + Duration::from_micros(self.dials.frame_us(&exposure) as u64);
            if !self.sleep_until(due) {
                return;
            }
            let script = self.script();
            if script.hang {
                continue;
            }
            if script.fail || script.unplug {
                let why = if script.unplug { "was unplugged" } else { "failed" };
                let word = if script.unplug { "unplug=1" } else { "fail=1" };
                // The capture reads it or has gone; either way this sensor is done.
                let _ = out.send(Err(format!("the pattern's sensor {why} as its control file asked ({word})")));
                return;
            }
            if hidden > 0 {
                hidden -= 1;
                continue;
            }
            let id = self.next;
            self.next += 1;
            if self.cancels() {
                let _ = out.try_send(Err(format!("request {id} of the pattern came back cancelled")));
                continue;
            }
            // No empty buffer: the capture is late, and a sensor does not wait.
            let Ok(buffers) = empty.try_recv() else { continue };
            let shot = self.shoot(buffers, &script, id, clock.boot(), exposure, lux);
            if out.try_send(Ok(shot)).is_err() && self.stop.load(Ordering::Relaxed) {
                return;
            }
        }
    }

    fn shoot(
        &mut self,
        (mut pixels, mut low): Empty,
        script: &Script,
        id: u64,
        boot: BootUs,
        exposure: Exposure,
        lux: f64,
    ) -> Shot {
        let layout = script.resize.unwrap_or(self.camera.layout);
        if layout != self.scene.layout() {
            self.scene = Scene::new(layout, &self.options);
        }
        let rows = Rows::new(layout, self.options.stride);
        pixels.resize(rows.bytes(), PADDING);
        let mut look = self.dials.look();
        if layout != self.camera.layout {
            // The crop counts in pixels of the configured picture.
            look.crop = Look::plain(layout).crop;
        }
        self.scene.draw(&mut pixels, &rows, &Moment { id, boot, wall: SystemClock.wall(), lux, exposure }, &look);
        let low = self.shrink.as_mut().map(|(shrink, to)| {
            low.resize(to.bytes(), PADDING);
            shrink.run(&rows.planes(&pixels), &mut low);
            let (w, h) = (to.width as usize, to.height as usize);
            // A code of its own: whoever reads it knows that this stream was used.
            if barcode::fits(w, h) {
                barcode::write(&mut low[to.y()], to.y_stride(), w, h, id, boot.0);
            }
            (low, *to)
        });
        let ae = match self.dials.ae() {
            false => Ae::Off,
            true if id < self.searches => Ae::Searching,
            true => Ae::Converged,
        };
        let (kelvin, told) = (self.dials.kelvin(), self.dials.told(&exposure));
        Shot { pixels, rows, low, id, boot, exposure, ae, lux, kelvin, told }
    }

    /// Takes new requests, and carries out those whose frame has come.
    fn requests(&mut self, now: Exposure) {
        let latency = self.options.latency.unwrap_or(LATENCY);
        while let Ok(ask) = self.asks.try_recv() {
            self.queue.push_back((self.next + latency, ask));
        }
        while self.queue.front().is_some_and(|(at, _)| *at <= self.next) {
            let Some((_, ask)) = self.queue.pop_front() else { return };
            let automatic = self.dials.ae();
            match ask {
                Ask::Light(light) => self.dials.light(light),
                Ask::Set(settings) => {
                    let fixes = settings.iter().any(|(place, _)| [EXPOSURE_TIME, ANALOGUE_GAIN].contains(place));
                    let off = settings.contains(&(AE_ENABLE, Value::Bool(false)));
                    if self.options.strict && automatic && fixes && !off {
                        self.cancelled += 1;
                        continue;
                    }
                    self.dials.turn(&settings, now);
                }
            }
            if self.dials.ae() && !automatic {
                self.searches = self.next + CONVERGES;
            }
        }
    }

    /// Whether this request comes back cancelled.
    fn cancels(&mut self) -> bool {
        if self.cancelled > 0 {
            self.cancelled -= 1;
            return true;
        }
        let mut script = self.script.lock().unwrap_or_else(PoisonError::into_inner);
        let cancels = script.cancel > 0;
        script.cancel -= u32::from(cancels);
        cancels
    }

    /// The control file as it stands.
    fn script(&self) -> Script {
        let mut script = self.script.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(file) = &self.options.control {
            script.refresh(file);
        }
        script.clone()
    }

    fn sleep_until(&self, due: BootUs) -> bool {
        loop {
            if self.stop.load(Ordering::Relaxed) {
                return false;
            }
            let left = due.since(SystemClock.boot());
            if left.is_zero() {
                return true;
            }
            std::thread::park_timeout(left);
        }
    }

    fn lux(&self, script: &Script, seconds: f64) -> f64 {
        let scene = || {
            self.trace.as_ref().map(|t| 10f64.powf(t.reader().log_lux(t.start() + seconds * self.options.speed.unwrap_or(1.0))))
        };
        script.lux.or_else(scene).or(self.options.lux).unwrap_or(400.0)
    }
}
