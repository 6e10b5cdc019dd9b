//! Owns the program as a whole: builds its parts in order, joins every thread, decides the exit code.
//! Runs on the main thread; the table of all threads stands in `docs/design.md`.

mod reload;
mod settings;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use self::reload::Reload;
use self::settings::{camera, export_settings, origin, persisted_controls};
pub use self::settings::{night_settings, plan, ring_layout};
use crate::budget::Budget;
use crate::capture::{self, Capture};
use crate::claim::{self, Claim};
use crate::clock::{self, Clock, SystemClock};
use crate::commands::{Commands, Line};
use crate::config::Config;
use crate::errands::Errands;
use crate::error::{Error, Kind, Result};
use crate::events::{Event, Events};
use crate::export::Exporter;
use crate::frame::Layout;
use crate::health::Gauges;
use crate::hot;
use crate::jobs::Jobs;
use crate::keeper::{self, Keeper};
use crate::logging::{self, Tally};
use crate::night::Night;
use crate::notes::Notes;
use crate::notify::{Hardware, Systemd};
use crate::ring::persist::Store;
use crate::ring::{Frames, Locking, Ring};
use crate::server::{Channel, Handler, Reply, Request, Server, ServerControl};
use crate::settings::Word;
use crate::shutdown::{self, Shutdown};
use crate::source::Named;
use crate::threads::{self, Thread};
use crate::tuning::{Board, Clerk, Tuner};
use crate::update::Updates;
use crate::verbs;
use crate::video::Video;
use crate::video::record::{Parts, Recorder};
use crate::video::rtsp::Rtsp;

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
    /// A part that cannot be started again by itself panicked: start again.
    Panicked = 44,
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
            let named = Named::read(source).map_err(|e| Error::new(Kind::Usage, format!("--source: {e}")))?;
            config.file.camera.source = named;
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
    Panic,
}

/// Lines from the server to the commands, answers back.
struct Desk(Arc<Commands>);

impl Handler for Desk {
    fn handle(&self, request: Request, reply: Reply) {
        let line = Line {
            text: &request.line,
            peer: request.peer,
            trigger: request.trigger,
            stays_open: request.channel == Channel::Persistent,
            body: request.body,
        };
        log::debug!("{} {}: {}", request.peer, request.channel.word(), verbs::without_token(&request.line, &request.line));
        self.0.run(&line, Box::new(move |answer| reply.send(answer)));
    }
}

/// Runs the program until it is stopped or must stop.
pub fn run(options: &Options) -> Result<Exit> {
    clock::look();
    let config = options.load()?;
    config.camera.tls().check()?;
    claim::on_wait(tell_wait);
    let pictures = Arc::new(Mutex::new(Claim::folder("export.base_dir", &config.export.base_dir)?));
    let _logs = config.logging.dir.as_deref().map(|dir| Claim::folder("logging.dir", dir)).transpose()?;
    threads::log_panics();
    let no_files = logging::start(&config.logging);
    let end = run_with(options, &config, no_files, pictures.clone());
    pictures.lock().unwrap_or_else(PoisonError::into_inner).release();
    if let Err(e) = &end {
        log::error!("{e}");
    }
    logging::flush();
    end
}

/// A start that waits for another program to end. The log begins only behind the claims.
fn tell_wait(said: &str) {
    if logging::is_started() {
        log::warn!("{said}");
    } else {
        // Where nobody reads it, nobody is told.
        let _ = writeln!(std::io::stderr(), "pastcam: {said}");
    }
    Systemd::from_environment().tell(&format!("STATUS={said}"));
}

/// From here on the program ends, whatever still hangs.
fn end_in_time(exit: Exit) -> Result<()> {
    let code = exit as i32;
    Thread::Stop.spawn(move || {
        std::thread::sleep(STOP);
        log::warn!("Not everything ended in time");
        logging::flush();
        std::process::exit(code);
    })?;
    Ok(())
}

fn run_with(options: &Options, config: &Config, no_files: Option<String>, claim: Arc<Mutex<Claim>>) -> Result<Exit> {
    log::info!("pastcam {} starts", env!("PASTCAM_VERSION"));
    if let Some(why) = no_files {
        log::warn!("{why}");
    }
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let started = clock.boot();
    let shutdown = Shutdown::default();
    let (events, (ended, ends)) = (Events::default(), channel());
    act_on_panics(events.clone(), ended.clone(), shutdown.clone());
    let camera = camera(config);
    let (frames, first_id) = build_ring(config, camera.layout)?;
    let gauges = Arc::new(Gauges::default());
    let exporter = Arc::new(Exporter::new(export_settings(config))?);
    let jobs = Arc::new(Jobs::start(frames.clone(), exporter.clone(), gauges.clone(), clock.clone())?);
    let spec = config.camera.spec();
    let video = Arc::new(Video::start(&config.stream(), frames.clone(), gauges.clone(), clock.clone(), spec.is_remote())?);
    let control = ServerControl::new()?;
    let subscribers = control.notifier();
    events.call(move |event| subscribers.publish(event.line()));
    let clients = control.clone();
    let (recorder, rtsp) = build_outlets(config, &video, &frames, &exporter, &gauges, events.clone())?;
    let (to_capture, orders) = channel();
    let board = Arc::new(Board::default());
    let (notes, to_clerk) = channel();
    let tuning_dir = Arc::new(Mutex::new(config.export.base_dir.to_path_buf()));
    let commands = Arc::new(Commands {
        board: board.clone(),
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
        errands: Errands::start()?,
        notes: Notes::new(&config.status),
        updates: Updates::new(&config.update),
        events: events.clone(),
        clients: Box::new(move || clients.clients().here()),
        auto: crate::auto::Board::default(),
        last_run: Mutex::default(),
        refused: Tally::default(),
    });
    let server = Server::start(config.network.settings(), &control, Arc::new(Desk(commands.clone())))?;
    log::info!("Trigger server started on port {}", server.local_port());
    // Its file lies with the pictures, whose disk may take its time: clients are answered meanwhile.
    let day_us = (1e6 / camera.fps) as i64;
    let tuner = Tuner::new(board, notes, config.presets.clone(), persisted_controls(config), day_us);
    let hardware = watchdog(config.limits.watchdog_device.as_deref())?;

    let capture = Capture {
        spec,
        camera,
        outlet: video.outlet(),
        ring_layout: ring_layout(config),
        frames: frames.clone(),
        gauges: gauges.clone(),
        clock,
        night: Night::new(night_settings(config)),
        tuner,
        orders,
        first_id,
        late: config.camera.capture_timeout_s,
        frozen: config.camera.frozen_s,
        events: events.clone(),
    };
    let clerk = Clerk { notes: to_clerk, dir: tuning_dir.clone() };
    let mut threads = vec![spawn_capture(capture, shutdown.clone(), ended.clone())?, Thread::Tuning.keep(move || clerk.run())?];
    {
        let mut keeper = Keeper { commands: commands.clone(), systemd: Systemd::from_environment(), hardware };
        let shutdown = shutdown.clone();
        threads.push(Thread::Keeper.keep(move || {
            // The receiver waits for as long as the program runs.
            let _ = ended.send(Ended::Keeper(keeper.run(&shutdown)));
            shutdown.request();
        })?);
    }
    threads.extend(spawn_others(&commands, config, events, tuning_dir.clone(), &shutdown)?);
    {
        let (options, shutdown) = (options.clone(), shutdown.clone());
        let reload = Reload { options, commands: commands.clone(), control, to_capture, tuning_dir, claim };
        shutdown::on_signals(shutdown, move || reload.run())?;
    }

    let exit = wait(&ends, &shutdown);
    threads::ending();
    end_in_time(exit)?;
    commands.close_stream();
    // A picture on its way must not wait for a folder that is being read.
    exporter.stop();
    jobs.close();
    server.stop(Duration::from_millis(500));
    exporter.close();
    commands.errands.close();
    for thread in threads {
        // A panic has been told.
        let _ = thread.join();
    }
    log::info!("Stopped; {} pictures were saved", gauges.saved.load(Relaxed));
    Ok(exit)
}

/// A panic is an event, and where the part cannot start again by itself, the end of the program.
fn act_on_panics(events: Events, ended: Sender<Ended>, shutdown: Shutdown) {
    threads::on_panic(move |panic| {
        events.publish(Event::Thread { name: panic.name.to_owned(), why: panic.why.to_owned() });
        if panic.name == "main" {
            // It is about to end the process.
            logging::flush();
        }
        if panic.thread == Some(Thread::Stop) {
            // Nobody else bounds the end.
            logging::flush();
            std::process::exit(Exit::Panicked as i32);
        }
        if panic.fatal {
            // The receiver waits for as long as the program runs.
            let _ = ended.send(Ended::Panic);
            shutdown.request();
        }
    });
}

/// Sleeps until a signal, a panic, the capture or the keeper ends the program.
fn wait(ends: &Receiver<Ended>, shutdown: &Shutdown) -> Exit {
    shutdown.wait();
    match ends.try_recv() {
        Ok(Ended::Capture(capture::End::CameraLost)) => Exit::CameraLost,
        Ok(Ended::Keeper(keeper::End::Memory)) => Exit::Memory,
        Ok(Ended::Panic) => Exit::Panicked,
        Ok(Ended::Capture(capture::End::Stopped) | Ended::Keeper(keeper::End::Stopped)) | Err(_) => Exit::Done,
    }
}

fn spawn_capture(mut capture: Capture, shutdown: Shutdown, ended: Sender<Ended>) -> Result<std::thread::JoinHandle<()>> {
    Thread::Capture.spawn(move || {
        let end = capture.run(&shutdown);
        // The receiver waits for as long as the program runs.
        let _ = ended.send(Ended::Capture(end));
        shutdown.request();
    })
}

/// What warms up, and what looks now and then: at the machine's notes, and at dark frames for hot pixels.
fn spawn_others(
    commands: &Arc<Commands>,
    config: &Config,
    events: Events,
    dir: Arc<Mutex<PathBuf>>,
    shutdown: &Shutdown,
) -> Result<[std::thread::JoinHandle<()>; 3]> {
    let (by_notes, over) = (commands.clone(), shutdown.clone());
    let notes = commands.notes.clone();
    let notes = Thread::Notes.keep(move || notes.watch(|| by_notes.config().status.clone(), &events, &over))?;
    let (by_hot, over) = (commands.clone(), shutdown.clone());
    let origin = Box::new(move || origin(&by_hot.config(), by_hot.gauges.device(), &by_hot.board.shown()));
    let watch = hot::Watch { hot: commands.exporter.hot().clone(), frames: commands.frames.clone(), dir, origin };
    Ok([spawn_warm_up(commands.frames.clone(), config)?, notes, Thread::HotPixels.keep(move || watch.run(&over))?])
}

/// The ring as planned, and the first frame id.
fn build_ring(config: &Config, camera: Layout) -> Result<(Arc<Frames>, u64)> {
    let layout = ring_layout(config);
    let store = if config.ring.persist { Some(Store::open(&config.ring.file(config.network.trigger_port))?) } else { None };
    let plan = plan(config, store.as_ref())?;
    if plan.frames != config.ring.size {
        log::warn!("Ring buffer size adjusted: requested={} → effective={}", config.ring.size, plan.frames);
    }
    let budget = Budget::of(config, 0);
    log::info!("{}", plan.words());
    log::info!("Memory beside the ring:\n{}", budget.words());
    for why in budget.complaint().map(|(why, _)| why).into_iter().chain(budget.shortage(plan.leaves())) {
        log::warn!("{why}");
    }
    let mut first_id = 0;
    let past = match store {
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
    Ok((Arc::new(Frames::new(past, full)), first_id))
}

/// The hardware watchdog; on the image `none` says that there is to be none.
fn watchdog(device: Option<&Path>) -> Result<Option<Hardware>> {
    device.filter(|d| *d != Path::new("none")).map(Hardware::open).transpose()
}

/// What takes the encoded stream: the recorder and, where it is enabled, the server for viewers.
fn build_outlets(
    config: &Config,
    video: &Arc<Video>,
    frames: &Arc<Frames>,
    exporter: &Arc<Exporter>,
    gauges: &Arc<Gauges>,
    events: Events,
) -> Result<(Recorder, Option<Rtsp>)> {
    let parts = Parts {
        video: video.clone(),
        frames: frames.clone(),
        exporter: exporter.clone(),
        gauges: gauges.clone(),
        clock: Arc::new(SystemClock),
        events,
    };
    let rtsp = if config.rtsp.enable { Some(Rtsp::start(&config.rtsp, video.hub())?) } else { None };
    if let Some(rtsp) = &rtsp {
        rtsp.share(!video.may_pass());
    }
    Ok((Recorder::start(parts, &config.record)?, rtsp))
}

/// What takes a moment and must not delay the first answer: the rest of the ring, the encoders' library.
fn spawn_warm_up(frames: Arc<Frames>, config: &Config) -> Result<std::thread::JoinHandle<()>> {
    let (lock, persist) = (config.ring.lock, config.ring.persist);
    Thread::WarmUp.keep(move || {
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
