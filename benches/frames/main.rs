//! Measures the way of a frame inside one process: `cargo bench --bench frames -- [--json] [--quick] [--only CASE]`.
//!
//! Cases, all at 1024×768 I420 (1,179,648 bytes):
//! `put`: a frame into the ring, against a plain copy of the same bytes, in pairs whose order alternates;
//! `capture`: the real capture loop on a thread of its own with the pattern as its source: allocations and page faults of
//! that thread per frame, and what a frame costs it;
//! `turn`: the copy that turns a picture upright, against the plain one, in pairs, for the mirrors and the quarter turn, and for
//! a quarter turn of YUYV;
//! `average`: the mean of 8 frames against reading those bytes once, in pairs;
//! `stack`: `steady` and `still` of 8 frames against the mean and that reading, in turn, and allocations a call (`stack.rs`);
//! `count-average N`, `count-read N`, `count-capture N`, `count-copy N`, `count-steady N`, `count-steady-moving N`,
//! `count-still N`: N passes and nothing else, for a tool that counts instructions; `capture` is what the capture does with a
//! frame (copy, sample of luma, night rule, ring), `copy` the copy alone.
//!
//! Memory: two pools of up to 300 frames, larger than the caches of today's machines; fewer where memory is short.
//! Started by `cargo test`, it does nothing.

#![allow(unsafe_code, reason = "a global allocator cannot be written without it; see `Counting`")]

mod stack;

use std::alloc::{GlobalAlloc, Layout as Memory, System};
use std::cell::Cell;
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use nix::sys::resource::{UsageWho, getrusage};
use pastcam::capture::{Capture, SAMPLE_STEP};
use pastcam::clock::{BootUs, Clock, SystemClock, WallUs};
use pastcam::error::Result;
use pastcam::events::Events;
use pastcam::frame::{Ae, Colour, FrameMeta, Layout, Packing, Planes};
use pastcam::health::Gauges;
use pastcam::night::level::Histogram;
use pastcam::night::{Measurement, Night, Settings};
use pastcam::ring::{Frames, Ring};
use pastcam::shutdown::Shutdown;
use pastcam::source::{Camera, Spec};
use pastcam::tuning::Presets;
use pastcam::turn::Turn;

use pastcam::stack::{Mode, average as mean};
use pastcam::tuning::{Map, Tuner};
use serde_json::{Value, json};

/// Hands everything to the system's allocator and counts what the watched thread asks of it.
struct Counting;

thread_local! {
    static WATCHED: Cell<bool> = const { Cell::new(false) };
}
static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

fn count() {
    // No destructor and a constant start value: the access allocates nothing, and after the thread's end there is nothing to count.
    if WATCHED.try_with(Cell::get).unwrap_or(false) {
        ALLOCATIONS.fetch_add(1, Relaxed);
    }
}

// SAFETY: every call goes to `System` with the arguments it came with, and what `System` answers is handed back unchanged, so
// the contract of `GlobalAlloc` is kept by `System`; counting touches an atomic and a constant-initialised thread local only.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Memory) -> *mut u8 {
        count();
        // SAFETY: the caller keeps `alloc`'s contract, which is `System`'s.
        unsafe { System.alloc(layout) }
    }
    unsafe fn alloc_zeroed(&self, layout: Memory) -> *mut u8 {
        count();
        // SAFETY: as in `alloc`.
        unsafe { System.alloc_zeroed(layout) }
    }
    unsafe fn realloc(&self, old: *mut u8, layout: Memory, size: usize) -> *mut u8 {
        count();
        // SAFETY: `old` came from `System`, since this allocator gives out nothing else.
        unsafe { System.realloc(old, layout, size) }
    }
    unsafe fn dealloc(&self, old: *mut u8, layout: Memory) {
        // SAFETY: `old` came from `System`, since this allocator gives out nothing else.
        unsafe { System.dealloc(old, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const WIDTH: u32 = 1024;
const HEIGHT: u32 = 768;
/// Frames in the average that the target names.
const STACK: usize = 8;

/// Runs one case, shorter where it is asked to be quick.
type Case = fn(bool) -> Result<Value>;

fn layout() -> Layout {
    Layout::new(WIDTH, HEIGHT)
}

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let has = |word: &str| args.iter().any(|a| a == word);
    let after = |word: &str| args.iter().position(|a| a == word).and_then(|i| args.get(i + 1));
    for case in COUNTED {
        if let Some(n) = after(case) {
            return counted(case, n.parse().expect("a number of passes follows the case"));
        }
    }
    if !has("--bench") && !has("--json") {
        return Ok(());
    }
    let quick = has("--quick");
    let only = after("--only").map(String::as_str);
    let mut out = serde_json::Map::new();
    out.insert("frame_bytes".into(), layout().bytes().into());
    let stack: Case = |quick| Ok(stack::measure(quick));
    let cases: [(&str, Case); 5] = [("put", put), ("capture", capture), ("turn", turn), ("average", average), ("stack", stack)];
    for (name, case) in cases {
        if only.is_none_or(|o| o == name) {
            let value = case(quick)?;
            if !has("--json") {
                println!("{name}: {value}");
            }
            out.insert(name.into(), value);
        }
    }
    if has("--json") {
        println!("{}", Value::Object(out));
    }
    Ok(())
}

/// Frames per pool: 300, or what a quarter of the free memory holds.
fn pool_frames() -> usize {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let free = pastcam::ring::size::meminfo(&text, "MemAvailable").unwrap_or(256 << 20);
    (free as usize / 4 / layout().bytes()).clamp(2 * STACK, 300)
}

/// Least, median and largest.
fn spread(mut v: Vec<f64>) -> Value {
    v.sort_by(f64::total_cmp);
    json!({ "min": v[0], "median": v[v.len() / 2], "max": v[v.len() - 1], "n": v.len() })
}

fn micros(work: impl FnOnce()) -> f64 {
    let begin = Instant::now();
    work();
    begin.elapsed().as_secs_f64() * 1e6
}

/// Pairs of (ours, theirs) (µs), the order changing from pair to pair.
fn pairs(n: usize, mut ours: impl FnMut(usize), mut theirs: impl FnMut(usize)) -> (Value, Value, Value) {
    let mut took: Vec<[f64; 2]> = Vec::with_capacity(n);
    for i in 0..n + n / 10 {
        let pair = if i % 2 == 0 {
            let first = micros(|| ours(i));
            [first, micros(|| theirs(i))]
        } else {
            let first = micros(|| theirs(i));
            [micros(|| ours(i)), first]
        };
        // The first tenth brings caches and clocks up to speed.
        if i >= n / 10 {
            took.push(pair);
        }
    }
    let all = |number: fn(&[f64; 2]) -> f64| spread(took.iter().map(number).collect());
    (all(|t| t[0] / t[1]), all(|t| t[0]), all(|t| t[1]))
}

fn meta(id: u64) -> FrameMeta {
    FrameMeta {
        id,
        boot: BootUs(id * 100_000),
        wall: WallUs(1_800_000_000_000_000),
        layout: layout(),
        colour: Colour::default(),
        exposure: None,
        ae: Ae::Converged,
        lux: None,
        colour_temperature: None,
        focus: None,
        night: false,
        drawn: false,
    }
}

/// As bytes of a camera would be for the memory: no page is like another.
fn fill(pixels: &mut [u8], mut seed: u32) {
    for p in pixels {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        *p = (seed >> 24) as u8;
    }
}

fn filled_ring(frames: usize) -> Result<Ring> {
    let ring = Ring::anonymous(layout().bytes(), frames, false)?;
    ring.populate(false)?;
    let mut noise = vec![0; layout().bytes()];
    fill(&mut noise, 1);
    for id in 0..frames as u64 {
        let mut slot = ring.take().expect("nobody reads");
        slot.pixels()[..noise.len()].copy_from_slice(&noise);
        slot.publish(meta(id))?;
    }
    Ok(ring)
}

fn put(quick: bool) -> Result<Value> {
    let frames = pool_frames();
    let ring = filled_ring(frames)?;
    let mut plain: Vec<Vec<u8>> = (0..frames).map(|_| vec![1; layout().bytes()]).collect();
    let mut source = vec![0; layout().bytes()];
    fill(&mut source, 7);
    let mut id = frames as u64;
    let (ratio, ours, copy) = pairs(
        if quick { 600 } else { 3000 },
        |_| {
            let mut slot = ring.take().expect("nobody reads");
            Planes::of(layout(), &source).copy_to(slot.pixels());
            slot.publish(meta(id)).expect("the frame has the slot's size");
            id += 1;
        },
        |i| plain[i % frames].copy_from_slice(black_box(&source)),
    );
    Ok(json!({ "ratio": ratio, "ring_put_us": ours, "plain_copy_us": copy, "pool_frames": frames }))
}

/// The system's clocks; on its way past, it notes what the capture thread has cost so far. The capture reads the wall clock
/// once for each frame it puts into the ring.
#[derive(Default)]
struct Watch {
    faults: AtomicU64,
    cpu_ns: AtomicU64,
    allocations: AtomicU64,
}

impl Clock for Watch {
    fn boot(&self) -> BootUs {
        SystemClock.boot()
    }
    fn wall(&self) -> WallUs {
        if WATCHED.get() {
            let usage = getrusage(UsageWho::RUSAGE_THREAD).expect("linux knows the thread's usage");
            self.faults.store((usage.minor_page_faults() + usage.major_page_faults()) as u64, Relaxed);
            self.allocations.store(ALLOCATIONS.load(Relaxed), Relaxed);
            let cpu = nix::time::clock_gettime(nix::time::ClockId::CLOCK_THREAD_CPUTIME_ID).expect("linux has this clock");
            self.cpu_ns.store(cpu.tv_sec() as u64 * 1_000_000_000 + cpu.tv_nsec() as u64, Relaxed);
        }
        SystemClock.wall()
    }
}

impl Watch {
    fn read(&self) -> [u64; 3] {
        [&self.allocations, &self.faults, &self.cpu_ns].map(|a| a.load(Relaxed))
    }
}

fn capture(quick: bool) -> Result<Value> {
    // Ten times the usual rate, so that a thousand frames do not take two minutes.
    const FPS: f64 = 100.0;
    const WARM_UP: u64 = 20;
    let slots = 64;
    let total = if quick { 300 } else { 2000 };
    let ring = Ring::anonymous(layout().bytes(), slots, false)?;
    ring.populate(false)?;
    let frames = Arc::new(Frames::new(ring, None));
    let watch = Arc::new(Watch::default());
    let (_orders, orders) = channel();
    let mut capture = Capture {
        spec: Spec::parse("pattern")?,
        camera: Camera { layout: layout(), fps: FPS, day_gain_ceiling: 8.0, turn: Turn::default(), low: None },
        outlet: pastcam::source::no_outlet(),
        ring_layout: layout(),
        frames: frames.clone(),
        gauges: Arc::new(Gauges::default()),
        clock: watch.clone(),
        night: Night::new(Settings { fps: FPS, ..Settings::default() }),
        // Nobody gives an order, so the notes about orders go nowhere.
        tuner: Tuner::new(Arc::default(), channel().0, Presets::default(), Map::default(), (1e6 / FPS) as i64),
        orders,
        first_id: 0,
        late: Duration::from_secs(4),
        frozen: Duration::ZERO,
        events: Events::default(),
    };
    let shutdown = Shutdown::default();
    let stop = shutdown.clone();
    let thread = std::thread::Builder::new()
        .name("capture".into())
        .spawn(move || {
            WATCHED.set(true);
            capture.run(&stop)
        })
        .map_err(|e| pastcam::error::Error::caused(pastcam::error::Kind::Io, "start the capture thread", e))?;
    // The window begins before the ring has gone round once: the first write into each populated slot is in it.
    let await_frames = |n: u64| {
        let mut seen = 0;
        while seen < n {
            seen = frames.past.wait_published(seen, Duration::from_secs(10));
        }
        (seen, watch.read())
    };
    let (from, a) = await_frames(WARM_UP);
    let (to, b) = await_frames(WARM_UP + total);
    shutdown.request();
    let _ = thread.join();
    let n = (to - from) as f64;
    let [allocations, faults, cpu] = [0, 1, 2].map(|k| b[k] - a[k]);
    Ok(json!({
        "frames": to - from,
        "ring_slots": slots,
        // Above zero: the counter does count.
        "allocations_before": a[0],
        "allocations": allocations,
        "page_faults": faults,
        "allocations_per_frame": allocations as f64 / n,
        "page_faults_per_frame": faults as f64 / n,
        "capture_thread_cpu_us_per_frame": cpu as f64 / n / 1e3,
        "fps": FPS,
    }))
}

#[allow(clippy::unnecessary_wraps, reason = "every case may fail")]
fn turn(quick: bool) -> Result<Value> {
    let frames = pool_frames();
    let mut source = vec![0; 2 * WIDTH as usize * HEIGHT as usize];
    fill(&mut source, 7);
    let planar = Planes::of(layout(), &source);
    let packed =
        Planes { layout: layout(), packing: Packing::Packed, data: [&source, &[], &[]], stride: [2 * WIDTH as usize, 0, 0] };
    let mut pools = [0, 1].map(|_| vec![vec![1; layout().bytes()]; frames]);
    let [turned, plain] = &mut pools;
    let mut out = serde_json::Map::new();
    for (word, planes, turn) in [
        ("hflip", planar, Turn::new(0, true, false)),
        ("vflip", planar, Turn::new(0, false, true)),
        ("180", planar, Turn::new(180, false, false)),
        ("90", planar, Turn::new(90, false, false)),
        ("90 of YUYV", packed, Turn::new(90, false, false)),
    ] {
        let (ratio, ours, copy) = pairs(
            if quick { 120 } else { 600 },
            |i| turn.copy(black_box(&planes), &mut turned[i % frames]),
            |i| planes.copy_to(&mut plain[i % frames]),
        );
        out.insert(word.into(), json!({ "ratio": ratio, "turned_us": ours, "copy_us": copy }));
    }
    Ok(out.into())
}

/// The sum of all bytes as 64-bit words: one pass over memory with as little arithmetic as a pass can have.
fn read_once(frames: &[&[u8]]) -> u64 {
    let word = |w: &[u8]| u64::from_ne_bytes(w.try_into().expect("chunks of eight bytes"));
    frames.iter().map(|f| f.chunks_exact(8).fold(0u64, |sum, w| sum.wrapping_add(word(w)))).fold(0, u64::wrapping_add)
}

fn average(quick: bool) -> Result<Value> {
    let frames = pool_frames();
    let ring = filled_ring(frames)?;
    let held = ring.hold(|m| 0..m.len()).unwrap_or_default();
    let all: Vec<&[u8]> = held.iter().map(|s| s.pixels()).collect();
    let sets: Vec<&[&[u8]]> = all.chunks_exact(STACK).collect();
    let mut out = vec![0; layout().bytes()];
    let (ratio, ours, read) = pairs(
        if quick { 120 } else { 800 },
        |i| mean(sets[i % sets.len()], &mut out),
        // Half the pool away: neither finds in the cache what the other has just read.
        |i| {
            black_box(read_once(sets[(i + sets.len() / 2) % sets.len()]));
        },
    );
    black_box(&out);
    Ok(json!({ "ratio": ratio, "average_us": ours, "read_us": read, "frames_in_average": STACK, "pool_frames": frames }))
}

/// How often the work asks for memory.
fn allocations(work: impl FnOnce()) -> u64 {
    let before = ALLOCATIONS.load(Relaxed);
    WATCHED.set(true);
    work();
    WATCHED.set(false);
    ALLOCATIONS.load(Relaxed) - before
}

const COUNTED: [&str; 7] =
    ["count-average", "count-read", "count-capture", "count-copy", "count-steady", "count-steady-moving", "count-still"];
/// Frames in a ring that goes round a few times in a short count.
const COUNTED_RING: usize = 8;

fn counted(case: &str, passes: usize) -> Result<()> {
    let stacked = match case {
        "count-steady" => Some((Mode::Steady, stack::Scene::Still)),
        "count-steady-moving" => Some((Mode::Steady, stack::Scene::AllMoving)),
        "count-still" => Some((Mode::Still, stack::Scene::Still)),
        _ => None,
    };
    if let Some((mode, scene)) = stacked {
        stack::counted(mode, scene, passes);
        return Ok(());
    }
    let ring = filled_ring(COUNTED_RING)?;
    let mut out = vec![0; layout().bytes()];
    if case == "count-average" || case == "count-read" {
        let held = ring.hold(|m| 0..m.len()).unwrap_or_default();
        let all: Vec<&[u8]> = held[..STACK].iter().map(|s| s.pixels()).collect();
        for _ in 0..passes {
            if case == "count-average" {
                mean(black_box(&all), &mut out);
            } else {
                black_box(read_once(black_box(&all)));
            }
        }
        black_box(&out);
        return Ok(());
    }
    let mut source = vec![0; layout().bytes()];
    fill(&mut source, 7);
    let mut night = Night::new(Settings::default());
    let mut histogram = Histogram::default();
    for id in (COUNTED_RING as u64..).take(passes) {
        let planes = Planes::of(layout(), black_box(&source));
        if case == "count-copy" {
            planes.copy_to(black_box(&mut out));
            continue;
        }
        let mut slot = ring.take().expect("nobody reads");
        planes.copy_to(slot.pixels());
        histogram.clear();
        histogram.measure(&source[layout().y()], layout().y_stride(), layout(), SAMPLE_STEP);
        let now = BootUs(id * 100_000);
        let colour = Colour::default();
        black_box(night.step(&Measurement { now, histogram: &histogram, span: colour.span, exposure: None, ae: Ae::Converged }));
        slot.publish(meta(id))?;
    }
    Ok(())
}
