//! Owns the program as a whole: builds its parts in order, joins every thread, decides the exit code.
//! Runs on the main thread; the table of all threads stands in `docs/design.md`.

use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use serde_json::Value;

use crate::capture::{self, Capture};
use crate::claim::Claim;
use crate::clock::{self, Clock, SystemClock};
use crate::commands::{Commands, Line};
use crate::config::{Config, real};
use crate::error::{Error, Kind, Result};
use crate::export::{self, Exporter, KeepKind};
use crate::frame::Layout;
use crate::health::Gauges;
use crate::jobs::Jobs;
use crate::keeper::{self, Keeper};
use crate::logging;
use crate::night::{self, Night};
use crate::notify::{Hardware, Systemd};
use crate::ring::persist::Store;
use crate::ring::size::{self, Memory, Wish};
use crate::ring::{Frames, Locking, Ring};
use crate::server::{self, Channel, Handler, Reply, Request, Server, ServerControl};
use crate::shutdown::{self, Shutdown};
use crate::source::camera::Mount;
use crate::source::{Camera, Spec};
use crate::tuning::{self, Board, Clerk, Tuner};
use crate::update::Updates;
use crate::video::Video;
use crate::video::record::{Parts, Recorder};
use crate::video::rtsp::{self, Rtsp};

/// How the program ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// All done, or stopped as asked.
    Done = 0,
    /// It could not start.
    Failed = 1,
    /// The command line is wrong (`EX_USAGE`).
    Usage = 64,
    /// Memory beyond the ring passed its limit: start again.
    Memory = 42,
    /// The camera could not be brought back: start again.
    CameraLost = 43,
}

/// What the command line asks for.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// `--config`
    pub config: Option<PathBuf>,
    /// `--defaults`: a file whose values take the place of the program's own defaults
    pub defaults: Option<PathBuf>,
    /// `--source`, instead of `camera.source`
    pub source: Option<String>,
}

impl Options {
    /// The configuration these options lead to.
    pub fn load(&self) -> Result<Config> {
        let mut config = Config::load(self.config.as_deref(), self.defaults.as_deref())?;
        if let Some(source) = &self.source {
            let shown = crate::source::without_secrets_in_spec(source);
            Spec::parse(source).map_err(|e| Error::new(Kind::Usage, format!("--source: {}, not {shown:?}", e.what)))?;
            config.file.camera.source.clone_from(source);
        }
        Ok(config)
    }
}

/// A stop must be over within 5 s; what is not finished by then is left behind. Whole files are whole all the same.
const STOP: Duration = Duration::from_millis(4500);

/// Something that ends the program.
enum Ended {
    Capture(capture::End),
    Keeper(keeper::End),
}

/// The size of the ring's pictures.
pub fn ring_layout(config: &Config) -> Layout {
    let d = &config.ring.downscale;
    if d.enable { Layout::new(d.width, d.height) } else { Layout::new(config.camera.width, config.camera.height) }
}

/// What the sizing rule makes of the configuration on this machine; `own` is memory an old ring file holds already [bytes].
pub fn plan(config: &Config, store: Option<&Store>) -> Result<size::Plan> {
    let camera = Layout::new(config.camera.width, config.camera.height);
    let beside = if ring_layout(config) == camera { 0 } else { crate::ring::FULL_SLOTS * camera.bytes() };
    let wish = Wish {
        frames: config.ring.size,
        layout: ring_layout(config),
        downscaled: config.ring.downscale.enable,
        percent: config.ring.memory_percent,
        reserve: config.ring.reserve_mib << 20,
        beside: beside as u64,
        fps: config.camera.framerate,
    };
    let memory = Memory::read(store.map_or(0, Store::bytes), store.and_then(Store::room))?;
    let mut plan = size::plan(wish, memory)?;
    // Free memory trembles from start to start. A kept ring of nearly this size stays as it is: cutting it would cost frames.
    let old = store.map_or(0, |s| s.frames(wish.layout.bytes()));
    if plan.frames < wish.frames && old <= wish.frames && old.abs_diff(plan.frames) * 10 <= plan.frames {
        plan.frames = old;
    }
    Ok(plan)
}

/// What the source is asked for.
fn camera(config: &Config) -> Camera {
    let c = &config.camera;
    Camera {
        layout: Layout::new(c.width, c.height),
        fps: c.framerate,
        day_gain_ceiling: config.night.day_gain_ceiling,
        mount: Mount {
            hflip: c.hflip,
            vflip: c.vflip,
            upside_down: c.rotation == 180,
            low: config.ring.downscale.enable.then(|| ring_layout(config)),
        },
    }
}

/// The settings of the night rule.
pub fn night_settings(config: &Config) -> night::Settings {
    let n = &config.night;
    night::Settings {
        enable: n.enable,
        dark_threshold: real(&n.dark_threshold),
        bright_threshold: real(&n.bright_threshold),
        min_dark_frames: n.min_dark_frames,
        exposure_us: n.exposure_us as u64,
        gain: n.gain,
        fps: config.camera.framerate,
        day_gain_max: n.day_gain_ceiling,
        ..night::Settings::default()
    }
}

fn export_settings(config: &Config) -> export::Settings {
    let e = &config.export;
    let kind = |b: &crate::config::file::Bound| KeepKind {
        max_bytes: (b.max_bytes > 0).then_some(b.max_bytes),
        max_age_s: (b.max_age_s > 0.0).then_some(b.max_age_s.ceil() as u64),
    };
    let mut s = export::Settings::new(&e.base_dir);
    s.quality = e.jpeg_quality;
    s.overlay = config.letters();
    s.keep = export::Keep {
        min_free_mib: e.min_free_mib,
        kinds: [kind(&e.keep.jpg), kind(&e.keep.png), kind(&e.keep.npy), kind(&e.keep.mp4)],
    };
    s
}

fn server_settings(config: &Config) -> Result<server::Settings> {
    let n = &config.network;
    let bad = |e: std::net::AddrParseError| Error::caused(Kind::Config, "network.bind", e);
    let mut s = server::Settings {
        bind: n.bind.iter().map(|a| a.parse().map_err(bad)).collect::<Result<_>>()?,
        port: n.trigger_port,
        persistent_port: (n.persistent_port > 0).then_some(n.persistent_port),
        persistent_pad: n.persistent_pad,
        persistent_nul: n.persistent_nul,
        udp_port: (n.udp_port > 0).then_some(n.udp_port),
        idle: Duration::from_millis(u64::from(n.idle_ms)),
        allow: config.allow(),
        ..server::Settings::default()
    };
    s.limits.active = n.max_clients;
    if !n.token.is_empty() {
        // With a token every command has an argument that may still be on its way.
        s.words.at_once = &[];
    }
    Ok(s)
}

fn rtsp_settings(config: &Config) -> Result<rtsp::Settings> {
    let r = &config.rtsp;
    let bad = |e: std::net::AddrParseError| Error::caused(Kind::Config, "rtsp.bind", e);
    Ok(rtsp::Settings {
        bind: r.bind.iter().map(|a| a.parse().map_err(bad)).collect::<Result<_>>()?,
        port: r.port,
        allow: config.watchers(),
        login: (!r.user.is_empty()).then(|| (r.user.clone(), r.password.clone())),
        tls: config.tls(),
        sound: (!r.audio.device.is_empty())
            .then(|| rtsp::sound::Settings { device: r.audio.device.clone(), bitrate_kbps: r.audio.bitrate_kbps }),
        max_clients: r.max_clients,
    })
}

/// Lines from the server to the commands, answers back.
struct Desk(Arc<Commands>);

impl Handler for Desk {
    fn handle(&self, request: Request, reply: Reply) {
        let line = Line {
            text: &request.line,
            trigger: request.trigger,
            stays_open: request.channel == Channel::Persistent,
            body: request.body,
        };
        log::debug!("{} {}: {}", request.peer, request.channel.word(), self.0.loggable(&request.line));
        self.0.run(&line, Box::new(move |answer| reply.send(answer)));
    }
}

/// Runs the program until it is stopped or must stop.
pub fn run(options: &Options) -> Result<Exit> {
    clock::look();
    let config = options.load()?;
    let claim = |key: &str, dir: &str| Claim::folder(key, Path::new(dir));
    let pictures = Arc::new(Mutex::new(claim("export.base_dir", &config.export.base_dir)?));
    let _logs = (!config.logging.dir.is_empty()).then(|| claim("logging.dir", &config.logging.dir)).transpose()?;
    let no_files = logging::start(config.level(), &config.logging.dir);
    let end = run_with(options, &config, no_files, pictures.clone());
    pictures.lock().unwrap_or_else(PoisonError::into_inner).release();
    if let Err(e) = &end {
        log::error!("{e}");
    }
    logging::flush();
    end
}

fn run_with(options: &Options, config: &Config, no_files: Option<String>, claim: Arc<Mutex<Claim>>) -> Result<Exit> {
    log::info!("pastcam {} starts", env!("CARGO_PKG_VERSION"));
    if let Some(why) = no_files {
        log::warn!("{why}");
    }
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let started = clock.boot();
    let shutdown = Shutdown::default();
    let camera = camera(config);
    let (frames, _store, first_id) = build_ring(config, camera.layout)?;
    let gauges = Arc::new(Gauges::default());
    let exporter = Arc::new(Exporter::new(export_settings(config))?);
    let jobs = Arc::new(Jobs::start(frames.clone(), exporter.clone(), gauges.clone(), clock.clone())?);
    let video = Arc::new(Video::start(config, frames.clone(), gauges.clone(), clock.clone())?);
    let control = ServerControl::new()?;
    let notifier = control.notifier();
    let clients = control.clone();
    let (recorder, rtsp) = build_outlets(config, &video, &frames, &exporter, &gauges, &control)?;
    let (to_capture, orders) = channel();
    let board = Arc::new(Board::default());
    let persisted = persisted_controls(config);
    let (notes, to_clerk) = channel();
    let tuning_dir = Arc::new(Mutex::new(PathBuf::from(&config.export.base_dir)));
    let day_us = (1e6 / camera.fps) as i64;
    let tuner = Tuner::new(board.clone(), notes, config.presets.clone(), persisted, day_us);
    let commands = Arc::new(Commands {
        board,
        orders: to_capture.clone(),
        config: RwLock::new(Arc::new(config.clone())),
        frames: frames.clone(),
        jobs: jobs.clone(),
        exporter: exporter.clone(),
        gauges: gauges.clone(),
        clock: clock.clone(),
        started,
        video: video.clone(),
        recorder,
        rtsp,
        updates: Updates::new(&config.update.dir),
        events: Box::new(move |line| notifier.publish(line)),
        clients: Box::new(move || {
            let now = clients.clients();
            now.silent + now.active
        }),
        last_run: Mutex::default(),
    });
    let server = Server::start(server_settings(config)?, &control, Arc::new(Desk(commands.clone())))?;
    log::info!("Trigger server started on port {}", server.local_port());
    let hardware = watchdog(&config.limits.watchdog_device)?;

    let (ended, ends) = channel();
    let capture = Capture {
        spec: Spec::parse(&config.camera.source)?.of_device(&config.camera.device),
        camera,
        ring_layout: ring_layout(config),
        frames: frames.clone(),
        gauges: gauges.clone(),
        clock,
        night: Night::new(night_settings(config)),
        tuner,
        orders,
        first_id,
        late: Duration::from_secs_f64(config.camera.capture_timeout_s),
        frozen: Duration::from_secs_f64(config.camera.frozen_s),
        events: {
            let c = commands.clone();
            Box::new(move || (c.events)(c.state_event()))
        },
    };
    let clerk = Clerk { notes: to_clerk, dir: tuning_dir.clone() };
    let mut threads = vec![spawn_capture(capture, shutdown.clone(), ended.clone())?, spawn("tuning", move || clerk.run())?];
    {
        let keeper = Keeper { commands: commands.clone(), systemd: Systemd::from_environment(), hardware };
        let shutdown = shutdown.clone();
        threads.push(spawn("keeper", move || {
            // The receiver waits for as long as the program runs.
            let _ = ended.send(Ended::Keeper(keeper.run(&shutdown)));
            shutdown.request();
        })?);
    }
    threads.push(spawn_warm_up(frames, config)?);
    {
        let (options, shutdown) = (options.clone(), shutdown.clone());
        let reload = Reload { options, commands: commands.clone(), control, to_capture, tuning_dir, claim };
        shutdown::on_signals(shutdown, move || reload.run())?;
    }

    let exit = wait(&ends, &shutdown);
    // From here on the program ends, whatever still hangs.
    let code = exit as i32;
    spawn("stop", move || {
        std::thread::sleep(STOP);
        log::warn!("Not everything ended in time");
        logging::flush();
        std::process::exit(code);
    })?;
    commands.close_stream();
    jobs.close();
    server.stop(Duration::from_millis(500));
    for thread in threads {
        // A thread that panicked has told so on stderr.
        let _ = thread.join();
    }
    log::info!("Stopped; {} pictures were saved", gauges.saved.load(Relaxed));
    Ok(exit)
}

/// What `tuning.json` holds.
fn persisted_controls(config: &Config) -> tuning::Map {
    let (persisted, said) = tuning::load(Path::new(&config.export.base_dir));
    match said {
        Some(Ok(said)) => log::info!("{said}"),
        Some(Err(e)) => log::warn!("{e}"),
        None => {}
    }
    persisted
}

/// Sleeps until a signal, the capture or the keeper ends the program.
fn wait(ends: &Receiver<Ended>, shutdown: &Shutdown) -> Exit {
    shutdown.wait();
    match ends.try_recv() {
        Ok(Ended::Capture(capture::End::CameraLost)) => Exit::CameraLost,
        Ok(Ended::Keeper(keeper::End::Memory)) => Exit::Memory,
        Ok(Ended::Capture(capture::End::Stopped) | Ended::Keeper(keeper::End::Stopped)) | Err(_) => Exit::Done,
    }
}

fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> Result<std::thread::JoinHandle<()>> {
    std::thread::Builder::new()
        .name(name.into())
        .stack_size(512 << 10)
        .spawn(body)
        .map_err(|e| Error::caused(Kind::Io, format!("start the thread {name}"), e))
}

fn spawn_capture(mut capture: Capture, shutdown: Shutdown, ended: Sender<Ended>) -> Result<std::thread::JoinHandle<()>> {
    spawn("capture", move || {
        let run = std::panic::AssertUnwindSafe(|| capture.run(&shutdown));
        let end = std::panic::catch_unwind(run).unwrap_or_else(|_| {
            log::error!("The capture thread panicked; this is a bug of the program");
            capture::End::CameraLost
        });
        // The receiver waits for as long as the program runs.
        let _ = ended.send(Ended::Capture(end));
        shutdown.request();
    })
}

/// The ring as planned, the file it may live in, and the first frame id.
fn build_ring(config: &Config, camera: Layout) -> Result<(Arc<Frames>, Option<Store>, u64)> {
    let layout = ring_layout(config);
    let store = if config.ring.persist { Some(Store::open(&config.persist_path())?) } else { None };
    let plan = plan(config, store.as_ref())?;
    if plan.frames != config.ring.size {
        log::warn!("Ring buffer size adjusted: requested={} → effective={}", config.ring.size, plan.frames);
    }
    log::info!("{}", plan.words());
    let mut first_id = 0;
    let past = match &store {
        None => Ring::anonymous(layout.bytes(), plan.frames, config.ring.lock)?,
        Some(store) => {
            let (ring, found) = store.ring(layout.bytes(), plan.frames, config.ring.lock)?;
            if let Some(newest) = ring.newest() {
                first_id = newest.meta().id + 1;
                log::info!("{found} frames from before the restart are still there");
            }
            ring
        }
    };
    let full =
        if layout == camera { None } else { Some(Ring::small(camera.bytes(), crate::ring::FULL_SLOTS, config.ring.lock)?) };
    Ok((Arc::new(Frames::new(past, full)), store, first_id))
}

fn watchdog(device: &str) -> Result<Option<Hardware>> {
    if device.is_empty() { Ok(None) } else { Hardware::open(device).map(Some) }
}

/// What takes the encoded stream: the recorder and, where it is enabled, the server for viewers.
fn build_outlets(
    config: &Config,
    video: &Arc<Video>,
    frames: &Arc<Frames>,
    exporter: &Arc<Exporter>,
    gauges: &Arc<Gauges>,
    control: &ServerControl,
) -> Result<(Recorder, Option<Rtsp>)> {
    let tell = control.notifier();
    let parts = Parts {
        video: video.clone(),
        frames: frames.clone(),
        exporter: exporter.clone(),
        gauges: gauges.clone(),
        clock: Arc::new(SystemClock),
        events: Box::new(move |line| tell.publish(line)),
    };
    let rtsp = if config.rtsp.enable { Some(Rtsp::start(&rtsp_settings(config)?, video.hub())?) } else { None };
    Ok((Recorder::start(parts, &config.record)?, rtsp))
}

/// What takes a moment and must not delay the first answer: the rest of the ring, the encoders' library.
fn spawn_warm_up(frames: Arc<Frames>, config: &Config) -> Result<std::thread::JoinHandle<()>> {
    let (lock, persist) = (config.ring.lock, config.ring.persist);
    spawn("warm-up", move || {
        if let Err(e) = crate::gst::init() {
            log::error!("{e}");
        }
        if let Err(e) = frames.populate(lock, persist) {
            log::error!("The ring stays smaller: {e}");
        }
        match frames.past.locking() {
            Locking::Refused => log::warn!(
                "The ring is populated but not locked into memory: the system refused (raise RLIMIT_MEMLOCK, LimitMEMLOCK= of systemd, or set ring.lock to false)"
            ),
            Locking::Locked => log::info!("The ring is populated and locked into memory"),
            Locking::NotAsked => log::info!("The ring is populated"),
        }
    })
}

/// SIGHUP: reads the configuration again and takes over what can change while the program runs.
struct Reload {
    options: Options,
    commands: Arc<Commands>,
    control: ServerControl,
    to_capture: Sender<capture::Order>,
    /// Where `tuning.json` lies: beside the pictures.
    tuning_dir: Arc<Mutex<PathBuf>>,
    /// That folder is nobody else's.
    claim: Arc<Mutex<Claim>>,
}

/// Keys that are used once, at start.
pub const AT_START: [&str; 23] = [
    "camera",
    "ring",
    "rtsp.enable",
    "rtsp.port",
    "rtsp.bind",
    "rtsp.user",
    "rtsp.password",
    "rtsp.tls_certificate",
    "rtsp.tls_key",
    "rtsp.max_clients",
    "rtsp.audio",
    "network.trigger_port",
    "network.bind",
    "network.idle_ms",
    "network.max_clients",
    "network.persistent_port",
    "network.persistent_pad",
    "network.persistent_nul",
    "network.udp_port",
    "network.token",
    "logging.dir",
    "limits.watchdog_device",
    "update",
];

impl Reload {
    fn run(&self) {
        match self.options.load().and_then(|new| self.take(new)) {
            Ok(()) => log::info!("The configuration was read again"),
            Err(e) => log::error!("The configuration stays as it was: {e}"),
        }
    }

    fn take(&self, mut new: Config) -> Result<()> {
        let old = self.commands.config();
        let value =
            |c: &Config| serde_json::to_value(&c.file).map_err(|e| Error::caused(Kind::Config, "compare configurations", e));
        let (mut wanted, in_force) = (value(&new)?, value(&old)?);
        for key in AT_START {
            let path = format!("/{}", key.replace('.', "/"));
            let (Some(w), Some(f)) = (wanted.pointer_mut(&path), in_force.pointer(&path)) else { continue };
            if w != f {
                log::warn!("{key} has changed and takes effect at the next start");
                Value::clone_from(w, f);
            }
        }
        new.file = serde_json::from_value(wanted).map_err(|e| Error::caused(Kind::Config, "take over the configuration", e))?;
        let serving = self.commands.rtsp.as_ref();
        let certificate = new.tls().filter(|_| serving.is_some()).map(|tls| tls.load()).transpose()?;
        let claim = if new.export.base_dir == old.export.base_dir {
            None
        } else {
            Some(Claim::folder("export.base_dir", Path::new(&new.export.base_dir))?)
        };
        self.commands.exporter.reconfigure(export_settings(&new))?;
        if let Some(claim) = claim.filter(Claim::holds) {
            *self.claim.lock().unwrap_or_else(PoisonError::into_inner) = claim;
        }
        log::set_max_level(new.level());
        self.control.set_allow(new.allow());
        self.commands.video.set(&new);
        if let Some(rtsp) = serving {
            rtsp.set_allow(new.watchers());
            if let Some(certificate) = &certificate {
                rtsp.set_certificate(certificate);
            }
        }
        self.commands.recorder.set(&new.record);
        // A capture that has ended is on its way out with the program.
        let _ = self.to_capture.send(capture::Order::Night(night_settings(&new)));
        if new.presets != old.presets {
            let _ = self.to_capture.send(capture::Order::Presets(new.presets.clone()));
        }
        *self.tuning_dir.lock().unwrap_or_else(PoisonError::into_inner) = PathBuf::from(&new.export.base_dir);
        *self.commands.config.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(new);
        Ok(())
    }
}
