//! Owns a synthetic sensor: a moving picture whose brightness follows a scene's light and the exposure asked for, with the
//! frame's id and time drawn into it. It stands in for a camera in tests, benchmarks and on machines without one.
//! Never touches the ring. The thread `sensor` draws; `next` runs on the capture thread.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use super::{Camera, Incoming, Light, Polled, Source, barcode};
use crate::clock::{BootUs, Clock, SystemClock};
use crate::error::{Error, Kind, Result};
use crate::frame::{Ae, Colour, Exposure, Layout, Planes};
use crate::night::level::tone;
use crate::night::simulate::{AE_TARGET, CONTRAST, K};
use crate::night::trace::Trace;

/// What may be written after `pattern:`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Options {
    /// `lux=N`: light of the scene, 400 where nothing is written.
    pub lux: Option<f64>,
    /// `trace=FILE`: light over time as CSV (`t_s,lux`), from its first row on, the last row for ever after.
    pub trace: Option<PathBuf>,
    /// `speed=N`: how much faster the trace runs than time does.
    pub speed: Option<f64>,
    /// `noise=N`: strength of the sensor's noise [code values, standard deviation].
    pub noise: f64,
    /// `control=FILE`: a file re-read when it changes, `KEY=VALUE` words: `lux=N`, `hang=1`, `fail=1`, `resize=WxH`.
    pub control: Option<PathBuf>,
}

impl Options {
    pub(super) fn parse(text: &str) -> Result<Options> {
        let mut o = Options::default();
        for word in text.split(',').filter(|w| !w.is_empty()) {
            let rule = "pattern takes lux=N, trace=FILE, speed=N, noise=N, control=FILE";
            let bad = || Error::new(Kind::Config, format!("{rule}, not {word:?}"));
            let (key, value) = word.split_once('=').ok_or_else(bad)?;
            let number = || value.parse::<f64>().ok().filter(|n| n.is_finite() && *n >= 0.0).ok_or_else(bad);
            match key {
                "lux" => o.lux = Some(number()?),
                "speed" => o.speed = Some(number()?),
                "noise" => o.noise = number()?,
                "trace" => o.trace = Some(value.into()),
                "control" => o.control = Some(value.into()),
                _ => return Err(bad()),
            }
        }
        Ok(o)
    }
}

/// Frames from the request of an exposure to its effect, as on a Pi camera with four buffers.
const LATENCY: u64 = 4;
/// Buffers of the sensor: one being filled, one on its way, one in the hands of the capture.
const BUFFERS: usize = 3;
/// Longest exposure [µs], of an OV5647 on current drivers.
const LONGEST_US: f64 = 3_070_000.0;
/// Longest exposure by day [µs]: the tuning file's "normal" mode.
const DAY_LONGEST_US: f64 = 66_666.0;

/// A filled buffer on its way to the capture.
struct Shot {
    pixels: Vec<u8>,
    layout: Layout,
    id: u64,
    boot: BootUs,
    exposure: Exposure,
    ae: Ae,
    lux: f64,
}

/// The source. See the module's first lines.
pub struct Pattern {
    options: Options,
    camera: Camera,
    trace: Option<Trace>,
    light: Arc<Mutex<Light>>,
    running: Option<Running>,
}

struct Running {
    shots: Receiver<std::result::Result<Shot, String>>,
    empty: SyncSender<Vec<u8>>,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Pattern {
    /// A sensor of this size and rate; it does not run yet.
    pub fn new(options: &Options, camera: &Camera) -> Result<Pattern> {
        let trace = options.trace.as_deref().map(Trace::read).transpose()?;
        Ok(Pattern { options: options.clone(), camera: *camera, trace, light: Arc::new(Mutex::new(Light::Auto)), running: None })
    }
}

impl Source for Pattern {
    fn name(&self) -> String {
        let l = self.camera.layout;
        format!("pattern {}x{} at {} fps", l.width, l.height, self.camera.fps)
    }

    fn start(&mut self, first: u64) -> Result<()> {
        self.stop();
        let (to_capture, shots) = sync_channel(BUFFERS);
        let (empty, from_capture) = sync_channel(BUFFERS);
        for _ in 0..BUFFERS {
            // The channel has room for all of them.
            let _ = empty.send(vec![0; self.camera.layout.bytes()]);
        }
        let stop = Arc::new(AtomicBool::new(false));
        let mut sensor = Sensor {
            options: self.options.clone(),
            camera: self.camera,
            trace: self.trace.clone(),
            light: self.light.clone(),
            stop: stop.clone(),
            scene: Scene::new(self.camera.layout, self.options.noise),
            control: Control::default(),
            next: first,
        };
        let thread = std::thread::Builder::new()
            .name("sensor".into())
            .stack_size(256 << 10)
            .spawn(move || sensor.run(&to_capture, &from_capture))
            .map_err(|e| Error::caused(Kind::Io, "start the sensor thread", e))?;
        self.running = Some(Running { shots, empty, stop, thread });
        Ok(())
    }

    fn next(&mut self, wait: Duration, sink: &mut dyn FnMut(&Incoming<'_>)) -> Result<Polled> {
        let Some(running) = &self.running else {
            return Err(Error::new(Kind::Source, "wait for a frame of the pattern: it was not started"));
        };
        let shot = match running.shots.recv_timeout(wait) {
            Ok(Ok(shot)) => shot,
            Ok(Err(why)) => return Err(Error::new(Kind::Source, why)),
            Err(RecvTimeoutError::Timeout) => return Ok(Polled::Nothing),
            Err(RecvTimeoutError::Disconnected) => {
                return Err(Error::new(Kind::Source, "wait for a frame of the pattern: its sensor ended"));
            }
        };
        sink(&Incoming {
            main: Planes::of(shot.layout, &shot.pixels),
            low: None,
            id: shot.id,
            boot: shot.boot,
            colour: Colour::default(),
            exposure: Some(shot.exposure),
            ae: shot.ae,
            lux: Some(shot.lux),
            colour_temperature: None,
            focus: None,
            shown: &[],
        });
        // A sensor that ended meanwhile needs no buffer back.
        let _ = running.empty.try_send(shot.pixels);
        Ok(Polled::Frame)
    }

    fn expose(&mut self, light: Light) -> Result<()> {
        *self.light.lock().unwrap_or_else(PoisonError::into_inner) = light;
        Ok(())
    }

    fn longest_exposure_us(&self) -> Option<f64> {
        Some(LONGEST_US)
    }

    fn stop(&mut self) {
        if let Some(Running { shots, empty, stop, thread }) = self.running.take() {
            stop.store(true, Ordering::Relaxed);
            drop((shots, empty));
            thread.thread().unpark();
            // The sensor has no panic of its own to report; one in drawing would show as a disconnected channel.
            let _ = thread.join();
        }
    }
}

impl Drop for Pattern {
    fn drop(&mut self) {
        self.stop();
    }
}

/// What the control file says.
#[derive(Debug, Clone, Default, PartialEq)]
struct Control {
    read: Option<SystemTime>,
    lux: Option<f64>,
    hang: bool,
    fail: bool,
    resize: Option<Layout>,
}

impl Control {
    /// Reads the file again where it has changed; a word it does not know is passed over.
    fn refresh(&mut self, file: &std::path::Path) {
        let changed = fs::metadata(file).and_then(|m| m.modified()).ok();
        if changed == self.read {
            return;
        }
        let text = fs::read_to_string(file).unwrap_or_default();
        *self = Control { read: changed, ..Control::default() };
        for (key, value) in text.split_whitespace().filter_map(|w| w.split_once('=')) {
            match key {
                "lux" => self.lux = value.parse().ok(),
                "hang" => self.hang = value == "1",
                "fail" => self.fail = value == "1",
                "resize" => {
                    self.resize = value.split_once('x').and_then(|(w, h)| Some(Layout::new(w.parse().ok()?, h.parse().ok()?)));
                }
                _ => {}
            }
        }
    }
}

/// The thread `sensor`.
struct Sensor {
    options: Options,
    camera: Camera,
    trace: Option<Trace>,
    light: Arc<Mutex<Light>>,
    stop: Arc<AtomicBool>,
    scene: Scene,
    control: Control,
    next: u64,
}

impl Sensor {
    fn run(&mut self, out: &SyncSender<std::result::Result<Shot, String>>, empty: &Receiver<Vec<u8>>) {
        let clock = SystemClock;
        let begin = clock.boot();
        let mut due = begin;
        let mut asked = Light::Auto;
        let mut changed = self.next;
        let mut applied = Light::Auto;
        while !self.stop.load(Ordering::Relaxed) {
            let lux = self.lux(clock.boot().since(begin).as_secs_f64());
            let wish = *self.light.lock().unwrap_or_else(PoisonError::into_inner);
            if wish != asked {
                (asked, changed) = (wish, self.next);
            }
            if self.next - changed >= LATENCY {
                applied = asked;
            }
            let exposure = self.expose(applied, lux);
            due = due + Duration::from_micros((1e6 / self.camera.fps).max(exposure.time_us) as u64);
            if !self.sleep_until(due) {
                return;
            }
            if let Some(file) = &self.options.control {
                self.control.refresh(file);
            }
            if self.control.hang {
                continue;
            }
            if self.control.fail {
                // The capture reads it or has gone; either way this sensor is done.
                let _ = out.send(Err("the pattern's sensor failed as its control file asked (fail=1)".into()));
                return;
            }
            let id = self.next;
            self.next += 1;
            // No empty buffer: the capture is late, and a sensor does not wait.
            let Ok(mut pixels) = empty.try_recv() else { continue };
            let layout = self.control.resize.unwrap_or(self.camera.layout);
            if layout != self.scene.layout {
                self.scene = Scene::new(layout, self.options.noise);
            }
            pixels.resize(layout.bytes(), 0);
            let boot = clock.boot();
            self.scene.draw(&mut pixels, id, boot, K * lux * exposure.e());
            let ae = match applied {
                Light::Manual { .. } => Ae::Off,
                Light::Auto if id < changed + LATENCY + 3 => Ae::Searching,
                Light::Auto => Ae::Converged,
            };
            if out.try_send(Ok(Shot { pixels, layout, id, boot, exposure, ae, lux })).is_err()
                && self.stop.load(Ordering::Relaxed)
            {
                return;
            }
        }
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

    fn lux(&self, seconds: f64) -> f64 {
        let scene = || {
            self.trace.as_ref().map(|t| 10f64.powf(t.reader().log_lux(t.start() + seconds * self.options.speed.unwrap_or(1.0))))
        };
        self.control.lux.or_else(scene).or(self.options.lux).unwrap_or(400.0)
    }

    /// What the sensor really does: by hand within its limits, or as auto-exposure would, time before gain.
    fn expose(&self, light: Light, lux: f64) -> Exposure {
        let (time_us, gain) = match light {
            Light::Manual { time_us, gain } => (time_us.clamp(100.0, LONGEST_US), gain.clamp(1.0, 64.0)),
            Light::Auto => {
                let wanted = AE_TARGET / (K * lux.max(1e-6)) * 1e6;
                let time = wanted.clamp(100.0, (1e6 / self.camera.fps).min(DAY_LONGEST_US));
                (time, (wanted / time).clamp(1.0, self.camera.day_gain_ceiling))
            }
        };
        Exposure { time_us, analogue_gain: gain, digital_gain: 1.0 }
    }
}

/// Columns the picture is wider than the frame: each frame is a window that moves over it.
const MARGIN: usize = 256;
/// Columns the window moves per frame.
const STEP: u64 = 4;

/// The drawn scene.
struct Scene {
    layout: Layout,
    /// How bright each point is against the scene's mean, an index into `relative`.
    map: Vec<u8>,
    relative: [f64; 64],
    /// The picture as exposed: Y `width + MARGIN` wide, U and V half of that.
    wide: [Vec<u8>; 3],
    /// What `wide` was exposed with.
    exposed: f64,
    noise: Vec<i8>,
    random: u32,
}

impl Scene {
    fn new(layout: Layout, noise: f64) -> Scene {
        let (w, h) = (layout.width as usize + MARGIN, layout.height as usize);
        let mut random = 0x2545_f491u32;
        let mut next = move || {
            random ^= random << 13;
            random ^= random >> 17;
            random ^= random << 5;
            f64::from(random) / f64::from(u32::MAX)
        };
        // 64 steps between the darkest and the brightest contrast of the simulated scenes, evenly in logarithm.
        let (low, high) = (CONTRAST[0].ln(), CONTRAST[CONTRAST.len() - 1].ln());
        let relative = std::array::from_fn(|i| (low + (high - low) * i as f64 / 63.0).exp());
        let mut map = Vec::with_capacity(w * h);
        for y in 0..h {
            for x in 0..w {
                let (fx, fy) = (x as f64, y as f64);
                let waves = (fx / 37.0).sin() * (fy / 53.0).cos() + 0.6 * ((fx + 2.0 * fy) / 71.0).sin();
                let boxes = if (x / 64 + y / 64) % 2 == 0 { 0.25 } else { -0.25 };
                map.push((34.0 + 14.0 * waves + 14.0 * boxes + 2.0 * (next() - 0.5)).clamp(0.0, 63.0) as u8);
            }
        }
        // The sum of four even numbers is near enough to a normal one; its standard deviation is 1/√3.
        let noise = if noise > 0.0 {
            (0..65_536)
                .map(|_| ((next() + next() + next() + next() - 2.0) * 3f64.sqrt() * noise).round().clamp(-127.0, 127.0) as i8)
                .collect()
        } else {
            Vec::new()
        };
        let wide = [vec![0; w * h], vec![0; w / 2 * (h / 2)], vec![0; w / 2 * (h / 2)]];
        Scene { layout, map, relative, wide, exposed: f64::NAN, noise, random: 1 }
    }

    /// Exposes the whole scene: `light` is the linear value of its mean, 1.0 being saturation.
    fn expose(&mut self, light: f64) {
        let luma: [u8; 64] = std::array::from_fn(|i| tone((light * self.relative[i]).min(1.0)).round() as u8);
        for (out, i) in self.wide[0].iter_mut().zip(&self.map) {
            *out = luma[usize::from(*i)];
        }
        // Colour fades with the light, as it does in a dark picture.
        let fade = (tone(light.min(1.0)) / 128.0).min(1.0);
        let wave: [u8; 256] =
            std::array::from_fn(|i| (128.0 + 42.0 * fade * (i as f64 * std::f64::consts::TAU / 256.0).sin()) as u8);
        let columns = usize::midpoint(self.layout.width as usize, MARGIN);
        for (out, start) in self.wide[1..].iter_mut().zip([0, 70]) {
            for (y, row) in out.chunks_exact_mut(columns).enumerate() {
                for (x, out) in row.iter_mut().enumerate() {
                    // A wave every 195 columns and every 295 rows.
                    *out = wave[(start + (x * 21 + y * 14) / 16) % 256];
                }
            }
        }
        self.exposed = light;
    }

    fn draw(&mut self, pixels: &mut [u8], id: u64, boot: BootUs, light: f64) {
        // A change below half a code value is not worth drawing the scene again.
        if self.exposed.is_nan() || (light / self.exposed).ln().abs() > 0.002 {
            self.expose(light);
        }
        let l = self.layout;
        let shift = (id * STEP) as usize % MARGIN;
        let half = (l.width as usize / 2, usize::midpoint(l.width as usize, MARGIN));
        let planes = [
            (l.y(), l.y_stride(), l.width as usize, shift, l.width as usize + MARGIN),
            (l.u(), l.c_stride(), half.0, shift / 2, half.1),
            (l.v(), l.c_stride(), half.0, shift / 2, half.1),
        ];
        for ((range, stride, width, shift, from), wide) in planes.into_iter().zip(&self.wide) {
            for (out, src) in pixels[range].chunks_exact_mut(stride).zip(wide.chunks_exact(from)) {
                out[..width].copy_from_slice(&src[shift..shift + width]);
            }
        }
        let (w, h) = (l.width as usize, l.height as usize);
        if !self.noise.is_empty() {
            for row in pixels[l.y()].chunks_exact_mut(l.y_stride()) {
                self.random = self.random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let at = (self.random >> 16) as usize % (self.noise.len() - w.min(60_000));
                for (p, n) in row.iter_mut().zip(&self.noise[at..]) {
                    *p = p.saturating_add_signed(*n);
                }
            }
        }
        if barcode::fits(w, h) {
            barcode::write(&mut pixels[l.y()], l.y_stride(), w, h, id, boot.0);
            self.patches(pixels, barcode::lower(w, h));
        }
    }

    /// Pure red, green and blue, 64 pixels square, left above `bottom`: a viewer that mixes up colours shows it there.
    fn patches(&self, pixels: &mut [u8], bottom: usize) {
        const SIDE: usize = 64;
        let l = self.layout;
        // The upper code is as high as what lies below `bottom`.
        let upper = l.height as usize / 16 * 16 - bottom;
        if (l.width as usize) < 3 * SIDE || bottom < upper + SIDE {
            return;
        }
        // BT.601 at full range.
        for (k, yuv) in [[76, 85, 255], [150, 44, 21], [29, 255, 107]].into_iter().enumerate() {
            for (range, stride, half, value) in
                [(l.y(), l.y_stride(), 1, yuv[0]), (l.u(), l.c_stride(), 2, yuv[1]), (l.v(), l.c_stride(), 2, yuv[2])]
            {
                let side = SIDE / half;
                for row in pixels[range].chunks_exact_mut(stride).skip((bottom - SIDE) / half).take(side) {
                    row[k * side..(k + 1) * side].fill(value);
                }
            }
        }
    }
}
