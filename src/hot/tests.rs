//! Drawn nights of which everything is known: ground with texture, stars and lamps that lie in the scene, shot and read noise, and
//! hot pixels on top.

use super::ground::{AROUND, Luma};
use super::*;
use crate::clock::{BootUs, WallUs};
use crate::frame::{Ae, Colour};

struct Dice(u32);

impl Dice {
    fn next(&mut self) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 17;
        self.0 ^= self.0 << 5;
        self.0
    }
    fn below(&mut self, n: usize) -> usize {
        ((u64::from(self.next()) * n as u64) >> 32) as usize
    }
    /// Normal distribution of deviation 1, near enough: the sum of four.
    fn normal(&mut self) -> f32 {
        let four = self.next().to_le_bytes().map(f32::from).iter().sum::<f32>();
        (four - 510.0) / 147.8
    }
}

/// A scene larger than the picture, and what the sensor adds.
pub struct Night {
    pub layout: Layout,
    wide: (usize, usize),
    ground: Vec<f32>,
    hot: Vec<Spot>,
    dice: Dice,
    light: f32,
    read: f32,
    /// What an encoder adds: deviation of the level of blocks of eight by eight (code values).
    blocks: f32,
}

const ROOM: usize = 160;

impl Night {
    /// `hot` pixels of 25 to 200, every third of them coloured; `stars` of one pixel and `lamps` of two and four, within the picture while
    /// nothing has moved.
    pub fn new(width: u32, height: u32, (hot, stars, lamps): (usize, usize, usize)) -> Night {
        let layout = Layout::new(width, height);
        let (w, h) = (width as usize, height as usize);
        let wide = (w + ROOM, h + ROOM);
        let mut dice = Dice(0x9e37_79b9);
        let mut ground = vec![22.0; wide.0 * wide.1];
        for (grid, height) in [(37, 24.0), (11, 14.0), (4, 8.0)] {
            let across = wide.0 / grid + 2;
            let knots: Vec<f32> = (0..across * (wide.1 / grid + 2)).map(|_| dice.below(1000) as f32 / 1000.0 - 0.4).collect();
            for (k, g) in ground.iter_mut().enumerate() {
                let (x, y) = (k % wide.0, k / wide.0);
                let (fx, fy) = ((x % grid) as f32 / grid as f32, (y % grid) as f32 / grid as f32);
                let at = |dx, dy| knots[(y / grid + dy) * across + x / grid + dx];
                let (upper, lower) = (at(0, 0) * (1.0 - fx) + at(1, 0) * fx, at(0, 1) * (1.0 - fx) + at(1, 1) * fx);
                *g = (*g + height * (upper * (1.0 - fy) + lower * fy)).max(4.0);
            }
        }
        let mut light = |dice: &mut Dice, shape: &[(usize, usize)]| {
            let (x, y) = (ROOM / 2 + 3 + dice.below(w - 6), ROOM / 2 + 3 + dice.below(h - 6));
            let bright = 90.0 + dice.below(140) as f32;
            for (dx, dy) in shape {
                ground[(y + dy) * wide.0 + x + dx] = bright;
            }
        };
        (0..stars).for_each(|_| light(&mut dice, &[(0, 0)]));
        (0..lamps).for_each(|k| light(&mut dice, if k % 2 == 0 { &[(0, 0), (1, 0)] } else { &[(0, 0), (1, 0), (0, 1), (1, 1)] }));
        let mut places = std::collections::BTreeSet::new();
        // The corners and edges too, and no two that touch.
        for (x, y) in [(0, 0), (w - 1, 0), (0, h / 2), (w / 2, h - 1)] {
            places.extend((hot > 4).then_some((y, x)));
        }
        while places.len() < hot {
            let (y, x) = (dice.below(h), dice.below(w));
            if !places.iter().any(|(b, a)| a.abs_diff(x) < 3 && b.abs_diff(y) < 3) {
                places.insert((y, x));
            }
        }
        let hot = places.into_iter().enumerate().map(|(k, (y, x))| {
            let (u, v) = if k % 3 == 0 { (-20 - dice.below(40) as i8, 30) } else { (0, 0) };
            Spot { y: y as u16, x: x as u16, luma: 25 + dice.below(176) as u8, u, v }
        });
        let hot = hot.collect();
        Night { layout, wide, ground, hot, dice, light: 1.0, read: 2.5, blocks: 0.0 }
    }

    /// A frame whose upper left corner lies at (x, y) of the scene, with hot pixels and, second, without.
    pub fn frame(&mut self, (x, y): (usize, usize)) -> [Vec<u8>; 2] {
        let l = self.layout;
        let mut clean = vec![128; l.bytes()];
        let across = l.width as usize / 8 + 1;
        let blocks: Vec<f32> = (0..across * (l.height as usize / 8 + 1)).map(|_| self.blocks * self.dice.normal()).collect();
        for row in 0..l.height as usize {
            let from = (y + row) * self.wide.0 + x;
            let samples = &mut clean[row * l.y_stride()..][..l.width as usize];
            for (column, (to, ground)) in samples.iter_mut().zip(&self.ground[from..]).enumerate() {
                let level = (ground * self.light).max(0.0) + blocks[row / 8 * across + column / 8];
                let deviation = (self.read * self.read + 0.15 * level.max(0.0)).sqrt();
                *to = (level + deviation * self.dice.normal()).clamp(0.0, 255.0) as u8;
            }
        }
        for chroma in &mut clean[l.u().start..] {
            *chroma = (128.0 + 3.0 * self.dice.normal()) as u8;
        }
        let mut hot = clean.clone();
        for s in &self.hot {
            let (x, y) = (usize::from(s.x), usize::from(s.y));
            let own = &mut hot[y * l.y_stride() + x];
            *own = own.saturating_add(s.luma);
            let under = y / 2 * l.c_stride() + x / 2;
            for (plane, off) in [(l.u(), s.u), (l.v(), s.v)] {
                let own = &mut hot[plane.start + under];
                *own = own.saturating_add_signed(off);
            }
        }
        [hot, clean]
    }
}

pub fn meta(layout: Layout, night: bool) -> FrameMeta {
    FrameMeta {
        id: 1,
        boot: BootUs(0),
        wall: WallUs(0),
        layout,
        colour: Colour::default(),
        exposure: None,
        ae: Ae::Off,
        lux: None,
        colour_temperature: None,
        focus: None,
        night,
        drawn: false,
    }
}

/// Looks at `looks` frames, two seconds apart, of which the k-th lies where `path` says.
fn learn(night: &mut Night, learner: &mut Learner, looks: usize, path: impl Fn(usize) -> (usize, usize)) {
    for k in 0..looks {
        let [frame, _] = night.frame(path(k));
        learner.look(&frame, BootUs(k as u64 * 2_000_000));
    }
}

/// A camera that turns without end: 16 to 20 pixels from look to look.
pub fn turning(k: usize) -> (usize, usize) {
    ((ROOM / 2 + k * 17) % ROOM, (ROOM / 2 + k * k * 5) % ROOM)
}

fn hot(list: List) -> Hot {
    let hot = Hot::default();
    hot.enable(true);
    hot.set(list);
    hot
}

/// How many of the planted pixels are repaired, and how many samples of other pixels are touched.
fn judge(night: &Night, hot: &Hot, [frame, clean]: &[Vec<u8>; 2]) -> (usize, usize) {
    let l = night.layout;
    let Some(repaired) = hot.repaired(&meta(l, true), frame) else { return (0, 0) };
    let luma = Luma { data: &clean[l.y()], stride: l.y_stride(), width: l.width as usize, height: l.height as usize };
    let mut planted = std::collections::BTreeSet::new();
    let mut good = 0;
    for s in &night.hot {
        let (x, y) = (usize::from(s.x), usize::from(s.y));
        let at = y * l.y_stride() + x;
        planted.insert(at);
        let ground = luma.ground(x, y);
        // Within what the ground and its noise do by themselves.
        let slack = 4 + (ground.most - ground.least) / 2;
        good += usize::from((i32::from(repaired[at]) - ground.median).abs() <= slack && repaired[at] < frame[at]);
        let under = y / 2 * l.c_stride() + x / 2;
        planted.extend([l.u(), l.v()].map(|plane| plane.start + under).into_iter().filter(|_| s.u != 0));
    }
    let touched = (0..l.bytes()).filter(|at| repaired[*at] != frame[*at] && !planted.contains(at)).count();
    (good, touched)
}

#[test]
fn in_a_moving_night_planted_pixels_are_repaired_and_nothing_else_is_touched() {
    let mut night = Night::new(480, 360, (200, 40, 20));
    let mut learner = Learner::new(night.layout);
    learn(&mut night, &mut learner, 16, turning);
    let list = learner.list();
    println!("{} known after 16 looks", list.spots.len());
    let hot = hot(list);
    let (mut repaired, mut touched) = (0, 0);
    for k in 16..18 {
        let frames = night.frame(turning(k));
        let (good, other) = judge(&night, &hot, &frames);
        println!("look {k}: {good} of 200 repaired, {other} other samples touched");
        (repaired, touched) = (repaired + good, touched + other);
    }
    assert!(repaired >= 2 * 190, "{repaired} of 400");
    assert_eq!(touched, 0);
}

#[test]
fn what_lies_in_the_scene_is_never_learned() {
    // In the picture the whole time.
    let mut night = Night::new(160, 120, (0, 40, 20));
    let home = (ROOM / 2, ROOM / 2);
    let mut learner = Learner::new(night.layout);
    learn(&mut night, &mut learner, 60, |_| home);
    assert_eq!(learner.list().spots, [], "a scene that rests");
    // It moves now and then, looks round, and comes back to the same place.
    learn(&mut night, &mut learner, 60, |k| if k % 5 < 4 { home } else { turning(k) });
    assert_eq!(learner.list().spots, [], "a camera on patrol");
    // Dusk and dawn, a lamp switched on and off, noise that comes and goes.
    for k in 0..54 {
        night.light = [1.0, 0.7, 0.4, 0.25, 0.5, 1.3][k / 3 % 6];
        night.read = if k % 7 < 3 { 2.0 } else { 6.0 };
        let [frame, _] = night.frame(home);
        learner.look(&frame, BootUs(k as u64 * 60_000_000));
    }
    assert_eq!(learner.list().spots, [], "a change of light");
    (night.light, night.read, night.blocks) = (0.3, 4.0, 1.5);
    learn(&mut night, &mut learner, 60, |_| home);
    assert_eq!(learner.list().spots, [], "the noise of an encoder in the dark");
    (night.light, night.read, night.blocks) = (1.0, 2.5, 0.0);
    // The camera shakes.
    learn(&mut night, &mut learner, 40, |k| (home.0 + k * 7 % 3, home.1 + k * 5 % 2));
    assert_eq!(learner.list().spots, [], "a camera that shakes");
    learn(&mut night, &mut learner, 20, turning);
    assert_eq!(learner.list().spots, [], "a camera that turns");
    // More noise than a third of the picture suggests, which is drawn: bars that change.
    night.read = 5.0;
    for k in 20..80 {
        let [mut frame, _] = night.frame(turning(k));
        for (at, sample) in frame[..40 * 160].iter_mut().enumerate() {
            *sample = if (at % 160 / 16 + k) % 3 == 0 { 222 } else { 40 };
        }
        learner.look(&frame, BootUs(k as u64 * 2_000_000));
    }
    assert_eq!(learner.list().spots, [], "bars in the picture");
}

#[test]
fn lamps_that_stay_in_the_picture_while_it_moves_are_left_alone() {
    let mut night = Night::new(320, 240, (0, 0, 0));
    let at = |x, y, luma| Spot { x, y, luma, u: 0, v: 0 };
    // Two alike, two that are not, four, and the middle of a blurred one; and one hot pixel.
    let lamps = [at(40, 40, 90), at(41, 40, 90), at(90, 60, 120), at(90, 61, 60), at(130, 90, 70), at(131, 90, 70)];
    night.hot = vec![at(131, 91, 70), at(130, 91, 70), at(200, 150, 140), at(260, 200, 60)];
    night.hot.extend(lamps);
    night.hot.extend(AROUND.map(|(dx, dy)| at((200 + dx) as u16, (150 + dy) as u16, 60)));
    let mut learner = Learner::new(night.layout);
    learn(&mut night, &mut learner, 20, turning);
    let known: Vec<_> = learner.list().spots.iter().map(|s| (s.x, s.y)).collect();
    assert_eq!(known, [(260, 200)]);
}

#[test]
fn by_day_and_without_glow_a_picture_stays_as_it_is() {
    let mut night = Night::new(160, 120, (20, 5, 5));
    let mut learner = Learner::new(night.layout);
    learn(&mut night, &mut learner, 14, turning);
    let list = learner.list();
    assert!(list.spots.len() >= 19, "{}", list.spots.len());
    let hot = hot(list.clone());
    // At turning(3) a star lies on one of them.
    let [frame, clean] = night.frame(turning(4));
    // The sensor is cold.
    assert!(hot.repaired(&meta(night.layout, true), &clean).is_none(), "{} repaired", hot.repaired_last());
    // Day, another size, off.
    let bright: Vec<u8> = frame.iter().map(|v| v.saturating_add(90)).collect();
    assert!(hot.repaired(&meta(night.layout, false), &bright).is_none());
    assert!(hot.repaired(&meta(Layout::new(120, 160), true), &frame).is_none());
    assert!(hot.repaired(&meta(night.layout, false), &frame).is_some(), "dark, and nobody says that it is night");
    assert!(hot.repaired_last() >= 19);
    hot.enable(false);
    assert!(hot.repaired(&meta(night.layout, true), &frame).is_none());
    assert_eq!(hot.state(), State::Off);
    // Another run takes the list over and drops what is gone.
    let mut learner = Learner::new(night.layout);
    learner.adopt(&list);
    assert_eq!(learner.list(), list);
    night.hot.truncate(10);
    learn(&mut night, &mut learner, 24, turning);
    assert!((9..=10).contains(&learner.list().spots.len()), "{}", learner.list().spots.len());
}

#[test]
fn where_only_a_part_moves_sharpness_has_to_be_proven_too() {
    let mut night = Night::new(320, 240, (60, 0, 20));
    // Another lamp, as a good lens draws it.
    let (x, y) = (280, 20);
    for (dx, dy) in AROUND {
        let glow = if dx * dy == 0 { 40.0 } else { 12.0 };
        night.ground[(y + dy) as usize * night.wide.0 + (x + dx) as usize] += glow;
    }
    night.ground[y as usize * night.wide.0 + x as usize] += 130.0;
    let (l, cars) = (night.layout, Night::new(320, 240, (0, 0, 0)));
    let mut learner = Learner::new(l);
    let mut known = Vec::new();
    for k in 0..75 {
        let [mut frame, _] = night.frame((0, 0));
        // A car covers the middle of every other picture, each another one.
        let (dx, dy) = turning(k / 2);
        for (y, x) in (64..192).flat_map(|y| (0..256).map(move |x| (y, x))).filter(|_| k % 2 == 0) {
            frame[y * l.y_stride() + x] = cars.ground[(y + dy) * cars.wide.0 + x + dx] as u8;
        }
        for s in night.hot.iter().filter(|s| k % 2 == 0 && (64..192).contains(&s.y) && s.x < 256) {
            let own = &mut frame[usize::from(s.y) * l.y_stride() + usize::from(s.x)];
            *own = own.saturating_add(s.luma);
        }
        learner.look(&frame, BootUs(k as u64 * 2_000_000));
        known.push(learner.list().spots.len());
    }
    println!("{} of 60 known after 8 looks, {} after 20, {} after 75", known[7], known[19], known[74]);
    assert!(known[7] == 0 && known[74] >= 54, "{known:?}");
    let planted = |s: &&Spot| night.hot.iter().any(|h| (h.x, h.y) == (s.x, s.y));
    let list = learner.list();
    let wrong: Vec<_> = list.spots.iter().filter(|s| !planted(s)).collect();
    assert!(wrong.is_empty(), "{wrong:?}");
}

#[test]
fn after_a_black_frame_a_moving_night_is_learned_all_the_same() {
    let mut night = Night::new(160, 120, (20, 0, 0));
    let mut learner = Learner::new(night.layout);
    let black = vec![0; night.layout.bytes()];
    learner.look(&black, BootUs(0));
    learn(&mut night, &mut learner, 16, turning);
    assert!(learner.list().spots.len() >= 19, "{}", learner.list().spots.len());
}

#[test]
fn lights_that_pass_in_a_dark_scene_are_no_views_of_it() {
    // Nothing shows that these 20 are not stars.
    let (mut night, cars) = (Night::new(160, 120, (20, 0, 0)), Night::new(160, 120, (0, 0, 0)));
    night.light = 0.05;
    let (l, mut learner) = (night.layout, Learner::new(night.layout));
    for k in 0..60 {
        let [mut frame, _] = night.frame((0, 0));
        let (dx, dy) = turning(k);
        for (y, x) in (64..120).flat_map(|y| (0..160).map(move |x| (y, x))).filter(|_| k % 2 == 0) {
            frame[y * l.y_stride() + x] = cars.ground[(y + dy) * cars.wide.0 + x + dx] as u8;
        }
        learner.look(&frame, BootUs(k as u64 * 2_000_000));
    }
    assert_eq!(learner.list().spots, []);
}
