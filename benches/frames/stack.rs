//! Owns the case `stack`: each way of making one picture of eight frames, against the plain mean and against reading the bytes.

use std::hint::black_box;

use nix::time::{ClockId, clock_gettime};
use pastcam::stack::{self, Mode, Stacker};
use serde_json::{Value, json};

use super::{STACK, allocations, layout, read_once, spread};

/// What the frames show.
#[derive(Clone, Copy, PartialEq)]
pub enum Scene {
    /// Nothing moves.
    Still,
    /// A third of the picture moves, 16 pixels from frame to frame.
    Moving,
    /// Everything does.
    AllMoving,
}

impl Scene {
    const ALL: [(&str, Scene); 3] = [("still", Scene::Still), ("moving", Scene::Moving), ("all_moving", Scene::AllMoving)];

    /// As many frames of it, one after the other, with noise of σ 6. Integers only: an emulated processor makes them too.
    pub fn frames(self, count: usize) -> Vec<Vec<u8>> {
        (0..count as u32).map(|k| self.frame(k)).collect()
    }

    fn frame(self, number: u32) -> Vec<u8> {
        let layout = layout();
        let mut pixels = vec![0; layout.bytes()];
        let mut seed = number * 77 + 5;
        // Three bytes evenly distributed have σ 128 in sum.
        let mut noise = || {
            let sum = (0..3).fold(0, |sum, _| {
                seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                sum + (seed >> 24) as i32 - 127
            });
            sum / 21
        };
        for (plane, range) in [layout.y(), layout.u(), layout.v()].into_iter().enumerate() {
            let half = usize::from(plane > 0);
            let (width, height) = (layout.width as usize >> half, layout.height as usize >> half);
            for (i, p) in pixels[range].iter_mut().enumerate() {
                let (x, y) = (i % width, i / width);
                let moves = self == Scene::AllMoving || (self == Scene::Moving && y < height / 3);
                let x = x + if moves { 16 * number as usize } else { 0 };
                // Ramps of about 100 code values with a period of 160 pixels, 8 rows a block: a shift by 16 shows everywhere.
                let level = 70 + (x + y / 8 * 37) % 160 * 3 / 5;
                *p = (level as i32 + noise()).clamp(0, 255) as u8;
            }
        }
        pixels
    }
}

/// Time this thread has had a processor for (µs): others on the machine are not in it.
fn micros(work: impl FnOnce()) -> f64 {
    let now = || {
        let t = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).expect("linux has this clock");
        t.tv_sec() as f64 * 1e6 + t.tv_nsec() as f64 / 1e3
    };
    let begin = now();
    work();
    now() - begin
}

/// Ways in turn, each on frames that the caches do not hold.
pub fn measure(quick: bool) -> Value {
    let sets = 16;
    let mut out = serde_json::Map::new();
    for (name, scene) in Scene::ALL {
        // The scene goes on from set to set: frame 8 shows what frame 7 showed, moved on.
        let frames = scene.frames(sets * STACK);
        let all: Vec<&[u8]> = frames.iter().map(Vec::as_slice).collect();
        let sets: Vec<&[&[u8]]> = all.chunks_exact(STACK).collect();
        out.insert(name.into(), of_scene(&sets, if quick { 12 } else { 60 }));
    }
    out.into()
}

fn of_scene(sets: &[&[&[u8]]], rounds: usize) -> Value {
    let mut picture = vec![0; layout().bytes()];
    let mut stacker = Stacker::default();
    let mut share = 0.0;
    let words = ["read", "mean", "steady", "median"];
    let mut took: Vec<[f64; 4]> = Vec::new();
    for round in 0..rounds + 2 {
        let mut times = [0.0; 4];
        for k in 0..words.len() {
            // Another order and other frames each time.
            let way = (k + round) % words.len();
            let frames = sets[(round * words.len() + k) % sets.len()];
            times[way] = micros(|| match way {
                0 => _ = black_box(read_once(frames)),
                1 => stack::average(frames, &mut picture),
                2 => share = stacker.merge(Mode::Steady, frames, STACK / 2, layout(), &mut picture).share,
                _ => _ = stacker.merge(Mode::Still, frames, STACK / 2, layout(), &mut picture),
            });
            black_box(&picture);
        }
        // The first rounds bring caches, clocks and the working memory into being.
        if round >= 2 {
            took.push(times);
        }
    }
    let ratio = |a: usize, b: usize| spread(took.iter().map(|t| t[a] / t[b]).collect());
    let mut of_mode = |mode| {
        let (calls, mut asked) = (4, 0);
        for _ in 0..calls {
            asked += allocations(|| _ = stacker.merge(mode, sets[0], STACK / 2, layout(), &mut picture));
        }
        asked as f64 / f64::from(calls)
    };
    let allocated = Mode::ALL.map(|mode| (mode.word().to_string(), Value::from(of_mode(mode))));
    let each = (0..words.len()).map(|k| (format!("{}_us", words[k]), spread(took.iter().map(|t| t[k]).collect())));
    let mut result: serde_json::Map<String, Value> = each.collect();
    result.insert("steady_by_mean".into(), ratio(2, 1));
    result.insert("steady_by_read".into(), ratio(2, 0));
    result.insert("still_by_mean".into(), ratio(3, 1));
    result.insert("share".into(), share.into());
    result.insert("allocations_a_call".into(), serde_json::Map::from_iter(allocated).into());
    json!(result)
}

/// `passes` pictures by `mode` and nothing else.
pub fn counted(mode: Mode, scene: Scene, passes: usize) {
    let frames = scene.frames(STACK);
    let all: Vec<&[u8]> = frames.iter().map(Vec::as_slice).collect();
    let (mut stacker, mut picture) = (Stacker::default(), vec![0; layout().bytes()]);
    for _ in 0..passes {
        stacker.merge(mode, black_box(&all), STACK / 2, layout(), &mut picture);
    }
    black_box(&picture);
}
