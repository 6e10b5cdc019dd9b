//! Owns a camera that libcamera drives: manager, camera, buffers and requests, from opening to the end in the one order
//! that holds. Never keeps a frame: its buffer goes back as soon as the sink returns. Everything runs on the capture
//! thread; libcamera's own thread only calls back, and the callback sends the request through a channel and returns.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use libcamera::camera::{ActiveCamera, Camera as Listed};
use libcamera::camera_manager::CameraManager;
use libcamera::control::ControlList;
use libcamera::framebuffer::{AsFrameBuffer, FrameMetadataStatus};
use libcamera::framebuffer_allocator::{FrameBuffer, FrameBufferAllocator};
use libcamera::request::{Request, RequestStatus, ReuseFlag};

use super::catalogue::Catalogue;
use super::configure::{Output, Settled, configuration, list, map, output};
use super::exposure;
use super::format::{self, Format};
use super::jpeg::Jpeg;
use super::pace::Pace;
use super::pick::{UNKNOWN, pick};
use crate::clock::{Clock, SystemClock, monotonic_us};
use crate::error::{Error, Kind, Result};
use crate::frame::{Colour, Planes};
use crate::source::{Camera, Control, Incoming, Light, Polled, Setting, Source, Value};
use crate::turn::Turn;

/// Requests in flight by night, where each takes seconds: a change has to wait for all that are queued before it.
const NIGHT_FLIGHT: usize = 2;
/// Frames after the one that carried a setting until it is taken to be in force, for settings that metadata never tells.
const UNTOLD: u64 = 2;

/// libcamera aborts the process when a second manager is made.
static TAKEN: AtomicBool = AtomicBool::new(false);

struct Only;

impl Only {
    fn take() -> Result<Only> {
        if TAKEN.swap(true, Ordering::AcqRel) {
            return Err(Error::new(Kind::Busy, "open a camera: this program has one open already"));
        }
        Ok(Only)
    }
}

impl Drop for Only {
    fn drop(&mut self) {
        TAKEN.store(false, Ordering::Release);
    }
}

enum Event {
    Done(Request),
    Unplugged,
}

/// The source. See the module's first lines. Fields are dropped from the first to the last: requests before the buffers
/// they hold, those before the camera, the camera before its manager. Another order crashes in libcamera.
pub(super) struct Library {
    idle: Vec<Request>,
    events: Receiver<Event>,
    main: Output,
    low: Option<Output>,
    _allocator: FrameBufferAllocator,
    active: ActiveCamera<'static>,
    /// Keeps the camera's object alive while requests that an unplugged camera never gave back are dropped with `active`.
    _listed: Listed<'static>,
    _manager: CameraManager,
    _only: Only,
    name: String,
    device: String,
    /// As the camera tells it.
    model: Option<String>,
    catalogue: Catalogue,
    jpeg: Option<Jpeg>,
    turn: Turn,
    fps: f64,
    pace: Pace,
    state: State,
}

/// What changes from frame to frame.
#[derive(Default)]
struct State {
    running: bool,
    unplugged: bool,
    flying: usize,
    by_hand: bool,
    next_id: u64,
    /// The camera's own count of the last frame.
    sequence: Option<u32>,
    delivered: u64,
    /// All that was ever asked for, the last value each: what a start begins with.
    wanted: Vec<Setting>,
    /// Asked for and not sent yet.
    pending: Vec<Setting>,
    /// Sent, by request.
    carried: Vec<Vec<Setting>>,
    /// Carried by a completed request, and the frame from which on that counts as proof.
    granted: Vec<(Setting, u64)>,
    /// Controls that metadata has told at least once.
    told: Vec<bool>,
    shown: Vec<Setting>,
    /// Settings the camera refused while running, now given to it at a start.
    trial: Option<Vec<Setting>>,
}

impl Library {
    /// Opens and configures the camera that is meant.
    pub(super) fn open(selector: &str, camera: &Camera) -> Result<Library> {
        let only = Only::take()?;
        let manager = manager()?;
        let found = list(&manager);
        let place = pick(&found, selector)?;
        let chosen = &found[place];
        let failed = |attempt: &str| format!("{attempt} the camera {chosen}");
        let listed: Listed<'static> = manager
            .get(&chosen.id)
            .ok_or_else(|| Error::new(Kind::Source, format!("{}: it was unplugged just now", failed("open"))))?;
        let mut active = listed
            .acquire()
            .map_err(|e| Error::caused(Kind::Source, format!("{}: another program may have it; stop that", failed("open")), e))?;
        let (to_us, events) = channel();
        listen(&mut active, &to_us);
        let Settled { mut config, main: main_format, low: low_format, turn } = configuration(&active, camera)?;
        active.configure(&mut config).map_err(|e| Error::caused(Kind::Source, failed("configure"), e))?;
        let mut allocator = FrameBufferAllocator::new(&active);
        let (mut main, buffers) = output(&config, 0, main_format, &mut allocator, chosen)?;
        let mut low = None;
        let mut low_buffers = Vec::new();
        if let Some(format) = low_format {
            let (second, buffers) = output(&config, 1, format, &mut allocator, chosen)?;
            (low, low_buffers) = (Some(second), buffers);
        }
        let mut idle = Vec::with_capacity(buffers.len());
        let count = if low.is_some() { buffers.len().min(low_buffers.len()) } else { buffers.len() };
        let mut seconds = low_buffers.into_iter();
        for (i, buffer) in buffers.into_iter().enumerate().take(count) {
            let refused = |e: std::io::Error| Error::caused(Kind::Source, failed("give a buffer to"), e);
            let mut request = active
                .create_request(Some(i as u64))
                .ok_or_else(|| Error::new(Kind::Source, format!("{}: it makes no request", failed("prepare"))))?;
            main.maps.push(map(&buffer)?);
            request.add_buffer(&main.stream, buffer).map_err(refused)?;
            if let (Some(low), Some(second)) = (&mut low, seconds.next()) {
                low.maps.push(map(&second)?);
                request.add_buffer(&low.stream, second).map_err(refused)?;
            }
            idle.push(request);
        }
        let names = idle.first().and_then(|r| r.controls().id_map());
        let names = names.ok_or_else(|| Error::new(Kind::Source, format!("{}: it has no buffers", failed("prepare"))))?;
        let catalogue = Catalogue::read(active.controls(), names);
        let jpeg = [Some(main.format), low.as_ref().map(|l| l.format)].contains(&Some(Format::Mjpeg));
        let jpeg = if jpeg { Some(Jpeg::start()?) } else { None };
        let l = main.layout;
        let device = format!("camera {chosen}, {}x{}", l.width, l.height);
        let name = format!("{device} {:?} at {} fps, libcamera {}", main.format, camera.fps, manager.version());
        if turn.of(l) != camera.layout {
            log::warn!(
                "The camera {chosen} makes no pictures of {}x{} (camera.width, camera.height) but of {}x{}",
                camera.layout.width,
                camera.layout.height,
                turn.of(l).width,
                turn.of(l).height
            );
        }
        if let Some(low) = &low {
            log::info!("The camera makes the ring's pictures of {}x{} itself", low.layout.width, low.layout.height);
        }
        let state = State {
            carried: vec![Vec::new(); idle.len()],
            told: vec![false; catalogue.controls.len()],
            wanted: exposure::settings(Light::Auto, camera.fps, &catalogue.controls),
            ..State::default()
        };
        Ok(Library {
            idle,
            events,
            main,
            low,
            _allocator: allocator,
            active,
            _listed: listed,
            _manager: manager,
            _only: only,
            name,
            device,
            model: Some(chosen.model.clone()).filter(|model| model != UNKNOWN),
            catalogue,
            jpeg,
            turn,
            fps: camera.fps,
            pace: Pace::new(camera.fps),
            state,
        })
    }

    fn error(&self, what: &str) -> Error {
        Error::new(Kind::Source, format!("{}: {what}", self.name))
    }

    /// Starts with these settings and queues what may fly.
    fn begin(&mut self, settings: &[Setting]) -> Result<()> {
        let list = self.idle.first().and_then(|r| r.controls().id_map()).and_then(ControlList::from_id_map);
        let started = match list {
            Some(mut list) if !settings.is_empty() => {
                self.catalogue.write(settings, &mut list);
                self.active.start(Some(&list))
            }
            _ => self.active.start(None),
        };
        started.map_err(|e| Error::caused(Kind::Source, format!("{}: start", self.name), e))?;
        self.state.running = true;
        self.state.sequence = None;
        self.refill()
    }

    /// Ends delivery; every request comes back, cancelled or not, before this returns.
    fn halt(&mut self) -> Result<()> {
        if !self.state.running {
            return Ok(());
        }
        self.state.running = false;
        let stopped = self.active.stop();
        // libcamera has called back for all of them when `stop` returns; an unplugged camera never does.
        while let Ok(event) = self.events.try_recv() {
            match event {
                Event::Done(request) => self.lay_aside(request),
                Event::Unplugged => self.state.unplugged = true,
            }
        }
        stopped.map_err(|e| Error::caused(Kind::Source, format!("{}: stop", self.name), e))?;
        if self.state.flying > 0 {
            return Err(self.error(&format!("{} requests did not come back", self.state.flying)));
        }
        Ok(())
    }

    fn lay_aside(&mut self, mut request: Request) {
        self.state.flying = self.state.flying.saturating_sub(1);
        request.reuse(ReuseFlag::REUSE_BUFFERS);
        self.idle.push(request);
    }

    /// Queues as many requests as may fly; what was asked for goes with the first.
    fn refill(&mut self) -> Result<()> {
        let most = if self.state.by_hand { NIGHT_FLIGHT } else { usize::MAX };
        while self.state.flying < most {
            let Some(mut request) = self.idle.pop() else { break };
            let slot = request.cookie() as usize;
            let carried = std::mem::take(&mut self.state.pending);
            self.catalogue.write(&carried, request.controls_mut());
            // Counted first: the callback may come before `queue_request` returns.
            self.state.flying += 1;
            if let Err((request, e)) = self.active.queue_request(request) {
                self.state.pending = carried;
                self.lay_aside(request);
                return Err(Error::caused(Kind::Source, format!("{}: queue a request", self.name), e));
            }
            self.state.carried[slot] = carried;
        }
        Ok(())
    }

    /// Remembers settings and sends them with the next request.
    fn ask(&mut self, settings: &[Setting]) {
        for (place, value) in settings {
            for list in [&mut self.state.wanted, &mut self.state.pending] {
                list.retain(|(p, _)| p != place);
                list.push((*place, *value));
            }
        }
    }

    /// A request that carried settings came back cancelled: the camera does not take them while it runs. They are given to it
    /// at a start, without configuring anew; where it refuses them there too it goes on without them.
    fn refused(&mut self, settings: Vec<Setting>) -> Result<()> {
        let names: Vec<&str> = settings.iter().map(|(i, _)| self.catalogue.controls[*i].name.as_str()).collect();
        let names = names.join(", ");
        self.halt()?;
        self.state.wanted.retain(|(place, _)| !settings.iter().any(|(p, _)| p == place));
        let standing = self.state.wanted.clone();
        if self.state.trial.take().is_some() {
            log::warn!("The camera takes {names} neither while it runs nor at a start; it goes on without");
            return self.begin(&standing);
        }
        log::info!("The camera does not take {names} while it runs; it is stopped and started with them");
        let with: Vec<Setting> = standing.iter().chain(&settings).copied().collect();
        if let Err(e) = self.begin(&with) {
            log::warn!("The camera does not start with {names}, and goes on without: {e}");
            self.halt()?;
            return self.begin(&standing);
        }
        self.state.trial = Some(settings);
        Ok(())
    }

    /// What a completed or cancelled request comes to. `true`: the sink was called.
    fn done(&mut self, request: Request, sink: &mut dyn FnMut(&Incoming<'_>)) -> Result<bool> {
        let slot = request.cookie() as usize;
        let carried = std::mem::take(&mut self.state.carried[slot]);
        if request.status() == RequestStatus::Cancelled {
            self.lay_aside(request);
            if carried.is_empty() {
                // The first requests after a start with refused settings: the start was taken, the settings were not.
                if let Some(trial) = self.state.trial.clone() {
                    self.refused(trial)?;
                    return Ok(false);
                }
                return Err(self.error("it cancelled a request while running; the sensor or its link hangs"));
            }
            self.refused(carried)?;
            return Ok(false);
        }
        if let Some(trial) = self.state.trial.take() {
            self.state.wanted.extend(trial);
        }
        let shown = self.show(&request, carried, sink);
        self.lay_aside(request);
        self.refill()?;
        shown
    }

    fn show(&mut self, request: &Request, carried: Vec<Setting>, sink: &mut dyn FnMut(&Incoming<'_>)) -> Result<bool> {
        let Library { main, low, catalogue, jpeg, turn, pace, state, .. } = self;
        let slot = request.cookie() as usize;
        state.shown.clear();
        let facts = catalogue.look(request.metadata(), &mut state.shown);
        for (place, _) in &state.shown {
            state.told[*place] = true;
        }
        state.granted.retain(|((place, _), _)| !carried.iter().any(|(p, _)| p == place));
        let from = state.delivered + UNTOLD;
        state.granted.extend(carried.into_iter().map(|setting| (setting, from)));
        let untold = state.granted.iter().filter(|((place, _), from)| !state.told[*place] && *from <= state.delivered);
        state.shown.extend(untold.map(|(setting, _)| *setting));
        state.delivered += 1;

        let buffer: Option<&FrameBuffer> = request.buffer(&main.stream);
        let told = buffer.and_then(AsFrameBuffer::metadata);
        if told.as_ref().is_some_and(|m| m.status() != FrameMetadataStatus::Success) {
            // A damaged frame, or one that the sensor wants hidden after a start.
            return Ok(false);
        }
        let sequence = told.as_ref().map(|m| m.sequence());
        let filled = told.as_ref().and_then(|m| m.planes().get(0)).map(|p| p.bytes_used as usize);
        let boot = facts.taken(SystemClock.boot(), monotonic_us());
        let step = match (sequence, state.sequence) {
            (Some(now), Some(before)) => u64::from(now.wrapping_sub(before)).max(1),
            _ => 1,
        };
        // A count that jumps back and forth is no count.
        let step = if step > 1 << 20 { 1 } else { step };
        state.sequence = sequence;
        if !pace.keeps(boot) {
            return Ok(false);
        }
        let id = state.next_id + step - 1;
        state.next_id = id + 1;
        let (by_hand, shown) = (state.by_hand, &state.shown);
        let mut give = |planes: Planes<'_>, low: Option<Planes<'_>>, colour: Colour| {
            sink(&Incoming {
                sent: planes.layout.pixels(),
                main: planes,
                low,
                turn: *turn,
                id,
                boot,
                colour,
                exposure: facts.exposure(),
                ae: facts.ae(by_hand),
                lux: facts.lux,
                colour_temperature: facts.colour_temperature,
                focus: facts.focus,
                shown,
            });
        };
        let too_small = || Error::new(Kind::Source, "read a frame of the camera: its buffer is smaller than the picture");
        if let Some(jpeg) = jpeg {
            return main.maps[slot].read(|parts| {
                let picture = parts[0].get(..filled.unwrap_or(parts[0].len())).ok_or_else(too_small)?;
                jpeg.decode(picture, &mut |planes, colour| give(planes, None, colour))
            })?;
        }
        let (format, layout, stride, colour) = (main.format, main.layout, main.stride, main.colour);
        main.maps[slot].read(|parts| {
            let planes = format::planes(format, layout, stride, parts).ok_or_else(too_small)?;
            match low {
                None => give(planes, None, colour),
                Some(low) => {
                    let (format, layout, stride) = (low.format, low.layout, low.stride);
                    low.maps[slot].read(|parts| give(planes, format::planes(format, layout, stride, parts), colour))?;
                }
            }
            Ok(true)
        })?
    }
}

impl Source for Library {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn device(&self) -> String {
        self.device.clone()
    }

    fn model(&self) -> Option<String> {
        self.model.clone()
    }

    fn start(&mut self, first: u64) -> Result<()> {
        self.halt()?;
        if self.state.unplugged || self.state.flying > 0 {
            return Err(self.error("start: it was unplugged; it has to be opened anew"));
        }
        self.state.next_id = first;
        self.state.trial = None;
        self.state.granted.clear();
        self.pace = Pace::new(self.fps);
        let wanted = self.state.wanted.clone();
        // Again with the first request: until 0.5.2 a start does not heed `AeEnable`.
        self.state.pending.clone_from(&wanted);
        self.begin(&wanted)
    }

    fn next(&mut self, wait: Duration, sink: &mut dyn FnMut(&Incoming<'_>)) -> Result<Polled> {
        if !self.state.running {
            return Err(self.error("wait for a frame: it was not started"));
        }
        let until = Instant::now() + wait;
        loop {
            let event = self.events.recv_timeout(until.saturating_duration_since(Instant::now()));
            match event {
                Ok(Event::Done(request)) => {
                    if self.done(request, sink)? {
                        return Ok(Polled::Frame);
                    }
                }
                Ok(Event::Unplugged) => {
                    self.state.unplugged = true;
                    return Err(self.error("it was unplugged"));
                }
                Err(RecvTimeoutError::Timeout) => return Ok(Polled::Nothing),
                Err(RecvTimeoutError::Disconnected) => return Err(self.error("libcamera gave up its callbacks")),
            }
            if Instant::now() >= until {
                return Ok(Polled::Nothing);
            }
        }
    }

    fn expose(&mut self, light: Light) -> Result<()> {
        self.state.by_hand = matches!(light, Light::Manual { .. });
        self.ask(&exposure::settings(light, self.fps, &self.catalogue.controls));
        Ok(())
    }

    fn longest_exposure_us(&self) -> Option<f64> {
        let place = self.catalogue.place("ExposureTime")?;
        match self.catalogue.controls[place].max {
            Value::Int(us) if us > 0 => Some(us as f64),
            _ => None,
        }
    }

    fn controls(&self) -> &[Control] {
        &self.catalogue.controls
    }

    fn set(&mut self, settings: &[Setting]) -> Result<()> {
        let controls = &self.catalogue.controls;
        let exposes = settings.iter().any(|(place, _)| controls[*place].name == "ExposureTime");
        let standing: Vec<Setting> = self.state.wanted.iter().chain(settings).copied().collect();
        if exposes && exposure::overruled(controls, &standing) {
            let modes = if self.catalogue.place("ExposureTimeMode").is_some() { "ExposureTimeMode=1" } else { "AeEnable=false" };
            return Err(Error::new(
                Kind::Usage,
                format!("set ExposureTime: auto-exposure is on and would overrule it; set {modes} with it"),
            ));
        }
        self.ask(settings);
        Ok(())
    }

    fn stop(&mut self) {
        if let Err(e) = self.halt() {
            log::warn!("{e}");
        }
    }
}

impl Drop for Library {
    fn drop(&mut self) {
        // Fields are dropped in their order after this; what failed here is gone with them.
        let _ = self.halt();
    }
}

fn manager() -> Result<CameraManager> {
    CameraManager::new()
        .map_err(|e| Error::caused(Kind::Source, "start libcamera: it cannot look for cameras; check /dev and udev", e))
}

/// The id of the first camera there is.
pub(super) fn first() -> Result<String> {
    let _only = Only::take()?;
    let found = list(&manager()?);
    pick(&found, "").map(|place| found[place].id.clone())
}

fn listen(active: &mut ActiveCamera<'static>, to_us: &Sender<Event>) {
    // Nobody listens any more once the source is being dropped.
    let send = to_us.clone();
    active.on_request_completed(move |request| {
        let _ = send.send(Event::Done(request));
    });
    let send = to_us.clone();
    active.on_disconnected(move || {
        let _ = send.send(Event::Unplugged);
    });
}
