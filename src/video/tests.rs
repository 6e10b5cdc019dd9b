//! The encoder fed from a ring that the test fills, and what the hub hands out.

use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use super::*;
use crate::clock::{BootUs, SystemClock, WallUs};
use crate::config::Config;
use crate::frame::{Ae, Colour, FrameMeta};
use crate::health::State;
use crate::ring::Ring;
use access_unit::AccessUnit;
use encode::Encoder;
use hub::Subscription;

const SIZE: Layout = Layout::new(320, 240);

struct Rig {
    video: Video,
    frames: Arc<Frames>,
    gauges: Arc<Gauges>,
}

impl Rig {
    fn new(change: &[(&str, &str)]) -> Rig {
        Rig::with(change, Encoder::new)
    }

    fn with(change: &[(&str, &str)], make: feed::Make) -> Rig {
        let small = [("camera.width", "320"), ("camera.height", "240"), ("video.bitrate_kbps", "500")];
        let config = Config::default().with(&[&small, change].concat()).unwrap();
        let frames = Arc::new(Frames::new(Ring::anonymous(SIZE.bytes(), 10, false).unwrap(), None));
        frames.populate(false, false).unwrap();
        let gauges = Arc::new(Gauges::default());
        gauges.set_state(State::Running);
        let video =
            Video::start_with(&config.stream(), (frames.clone(), gauges.clone(), Arc::new(SystemClock)), false, make).unwrap();
        Rig { video, frames, gauges }
    }

    fn publish(&self, id: u64) -> BootUs {
        // No camera makes two frames within a millisecond.
        std::thread::sleep(Duration::from_millis(1));
        self.publish_of(id, SystemClock.boot())
    }

    fn publish_of(&self, id: u64, boot: BootUs) -> BootUs {
        let mut slot = self.frames.past.take().unwrap();
        slot.pixels().fill((id * 20 % 200) as u8);
        let meta = FrameMeta {
            id,
            boot,
            wall: WallUs(id as i64),
            layout: SIZE,
            colour: Colour::default(),
            exposure: None,
            ae: Ae::Off,
            lux: None,
            colour_temperature: None,
            focus: None,
            night: false,
            drawn: false,
        };
        slot.publish(meta).unwrap();
        boot
    }

    fn take(&self) -> (Subscription, Receiver<AccessUnit>) {
        let (to, from) = channel();
        // A receiver that has gone takes no more; its subscription is on its way out.
        (self.video.hub().subscribe(Box::new(move |u| to.send(u.clone()).is_ok())), from)
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.video.close();
    }
}

fn next(from: &Receiver<AccessUnit>) -> AccessUnit {
    from.recv_timeout(Duration::from_secs(30)).expect("a unit")
}

#[test]
fn frames_come_out_with_their_own_instants_and_the_first_at_once() {
    let rig = Rig::new(&[]);
    assert_eq!(rig.video.encoder(), None);
    let first = rig.publish(1);
    let (_place, from) = rig.take();
    let unit = next(&from);
    assert!(unit.keyframe && unit.id == 1 && unit.wall == WallUs(1));
    assert_eq!(unit.time().useconds(), first.0);
    assert!(rig.video.encoder().is_some());
    // Parameter sets stand in front of the key frame.
    let bytes = unit.buffer.map_readable().unwrap().to_vec();
    let kinds: Vec<u8> = bytes.windows(4).filter(|w| w[..3] == [0, 0, 1]).map(|w| w[3] & 31).collect();
    assert!(kinds.contains(&7) && kinds.contains(&8) && kinds.contains(&5), "{kinds:?}");
    for id in 2..6 {
        let boot = rig.publish(id);
        let unit = std::iter::from_fn(|| Some(next(&from))).find(|u| u.id == id).unwrap();
        assert_eq!(unit.time().useconds(), boot.0, "frame {id}");
    }
}

#[test]
fn a_slow_frame_is_sent_again_and_somebody_who_joins_gets_it_at_once() {
    let rig = Rig::new(&[]);
    rig.gauges.frame_us.store(2_000_000, Relaxed);
    rig.publish(7);
    let (_place, from) = rig.take();
    let stamps: Vec<u64> = (0..3).map(|_| next(&from)).map(|u| u.time().useconds()).collect();
    assert!(stamps.is_sorted_by(|a, b| a < b), "{stamps:?}");
    let (_other, joined) = rig.take();
    let unit = next(&joined);
    assert!(unit.keyframe && unit.id == 7);
}

#[test]
fn a_picture_sent_again_leaves_the_next_one_its_own_instant() {
    let rig = Rig::new(&[]);
    // A camera whose frames arrive late, as long exposures do.
    rig.gauges.frame_us.store(300_000, Relaxed);
    let late = || SystemClock.boot().back(Duration::from_millis(300));
    rig.publish_of(1, late());
    let (_place, from) = rig.take();
    let nth = |id: u64, n: usize| std::iter::from_fn(|| Some(next(&from))).filter(|u| u.id == id).nth(n).unwrap();
    nth(1, 0);
    for id in 2..6 {
        // Units are known by their instants, to half a millisecond.
        std::thread::sleep(Duration::from_millis(5));
        let boot = rig.publish_of(id, late());
        assert_eq!(nth(id, 0).time().useconds(), boot.0, "frame {id}");
        let again = nth(id, 1).time().useconds();
        assert!(again > boot.0 && again <= late().0, "{again} after {}", boot.0);
    }
}

#[test]
fn by_day_no_frame_is_sent_again_because_the_machine_was_late() {
    let rig = Rig::new(&[]);
    rig.gauges.frame_us.store(100_000, Relaxed);
    let begun = SystemClock.boot();
    let at = |id: u64| begun.back(Duration::from_millis(100 * (5 - id)));
    for id in 1..5 {
        rig.publish_of(id, at(id));
    }
    let (_place, from) = rig.take();
    rig.video.hub().viewer_begins();
    assert_eq!(next(&from).id, 4);
    // At night these frame times would be bridged.
    std::thread::sleep(Duration::from_millis(600));
    rig.publish_of(5, SystemClock.boot());
    let ids: Vec<u64> = std::iter::from_fn(|| Some(next(&from).id)).take_while(|id| *id < 5).collect();
    // Whoever joins is given the newest frame as a key frame.
    assert!(ids.len() <= 1, "frame 4 came {} times more", ids.len());
    assert_eq!(rig.gauges.repeated.load(Relaxed), 0);
}

#[test]
fn who_joins_at_night_is_given_pictures_in_short_order_and_then_few() {
    let rig = Rig::new(&[]);
    rig.gauges.frame_us.store(2_000_000, Relaxed);
    rig.publish(1);
    let (_place, from) = rig.take();
    rig.video.hub().viewer_begins();
    // ffmpeg counts 28 pictures before it shows the first.
    let stamps: Vec<u64> = (0..28).map(|_| next(&from).time().mseconds()).collect();
    assert!(stamps[27] - stamps[0] < 3500, "{stamps:?}");
    while from.recv_timeout(Duration::from_millis(500)).is_ok() {}
    rig.publish(2);
    let copies = |wait| std::iter::from_fn(|| from.recv_timeout(wait).ok()).filter(|u| u.id == 2).count();
    assert_eq!(copies(Duration::from_millis(600)), 3, "a night frame for who has joined");
    assert!(rig.gauges.repeated.load(Relaxed) > 27);
}

/// How often pictures are sent again in `pause` after somebody joins, with frames so far apart in the ring (ms) at this rate of the day.
fn repeats(fps: &str, apart: &[u64], pause: Duration) -> u64 {
    let rig = Rig::new(&[("camera.framerate", fps)]);
    let now = SystemClock.boot();
    for (id, n) in (1..).zip((0..=apart.len()).rev()) {
        rig.publish_of(id, now.back(Duration::from_millis(apart.iter().rev().take(n).sum())));
    }
    let (_place, from) = rig.take();
    rig.video.hub().viewer_begins();
    next(&from);
    std::thread::sleep(pause);
    rig.gauges.repeated.load(Relaxed)
}

#[test]
fn who_joins_by_day_makes_no_repeats_however_slow_the_day_is() {
    let pause = Duration::from_millis(350);
    assert_eq!(repeats("5", &[200; 4], pause), 0);
    assert_eq!(repeats("1", &[1000; 4], pause), 0);
    assert_eq!(repeats("10", &[], pause), 0, "one frame tells nothing");
    assert!(repeats("0.5", &[2000; 4], pause) > 0);
    assert!(repeats("10", &[500; 4], pause) > 0);
}

#[test]
fn what_a_busy_processor_had_no_time_for_comes_from_the_ring() {
    let rig = Rig::new(&[]);
    rig.publish(1);
    let (_place, from) = rig.take();
    next(&from);
    // Far more than the encoder holds, all at once.
    for id in 2..10 {
        rig.publish(id);
    }
    let mut ids: Vec<u64> = std::iter::from_fn(|| Some(next(&from).id)).take_while(|id| *id < 9).collect();
    ids.dedup();
    ids.retain(|id| *id > 1);
    assert_eq!(ids, [2, 3, 4, 5, 6, 7, 8]);
}

#[test]
fn after_a_busy_moment_viewers_are_back_in_the_present() {
    let rig = Rig::new(&[]);
    rig.publish(1);
    let (_place, from) = rig.take();
    next(&from);
    // What a processor was too busy for, half a second of it; then a camera's usual ten a second.
    let now = SystemClock.boot();
    for id in 2..7 {
        rig.publish_of(id, now.back(Duration::from_millis(10 * (7 - id))));
    }
    let in_time = |id: u64| {
        rig.publish(id);
        let until = std::time::Instant::now() + Duration::from_millis(100);
        let left = || until.saturating_duration_since(std::time::Instant::now());
        std::iter::from_fn(|| from.recv_timeout(left()).ok()).filter(|u| u.id == id).count() > 0
    };
    assert!((7..60).any(in_time), "each frame is sent only when the next one is there");
}

#[test]
fn nothing_is_encoded_while_nobody_subscribes() {
    let rig = Rig::new(&[]);
    rig.publish(1);
    let (place, from) = rig.take();
    next(&from);
    drop(place);
    while rig.video.encoder().is_some() {
        std::thread::sleep(Duration::from_millis(1));
    }
    // No slot is held by an encoder that has ended: every frame finds room.
    for id in 2..40 {
        rig.publish(id);
    }
    assert_eq!(rig.frames.past.stats().dropped, 0);
}

#[test]
fn a_camera_that_is_away_leaves_a_picture_behind() {
    let rig = Rig::new(&[]);
    rig.publish(1);
    let (_place, from) = rig.take();
    next(&from);
    rig.gauges.set_state(State::Lost);
    let caps = next(&from).caps;
    let stand_in = std::iter::from_fn(|| Some(next(&from))).filter(|u| u.wall.0 > 1_000_000).nth(1).unwrap();
    assert_eq!(stand_in.caps, caps, "the stream goes on as it was");
    rig.gauges.set_state(State::Running);
    rig.publish(2);
    assert!(std::iter::from_fn(|| Some(next(&from))).any(|u| u.id == 2 && u.wall == WallUs(2)));
}

#[test]
fn settings_change_while_it_runs() {
    let rig = Rig::new(&[]);
    let (_place, from) = rig.take();
    let mut id = 0;
    let mut until = |what: &str, is: &dyn Fn(&AccessUnit) -> bool| {
        for _ in 0..600 {
            id += 1;
            rig.publish(id);
            if let Ok(unit) = from.recv_timeout(Duration::from_millis(100)) {
                if is(&unit) {
                    return;
                }
            }
        }
        panic!("never {what}");
    };
    let wide = |u: &AccessUnit| u.caps.structure(0).and_then(|s| s.get::<i32>("width").ok());
    until("the first", &|u| u.keyframe && wide(u) == Some(320));
    let config = Config::default().with(&[("camera.width", "320"), ("camera.height", "240")]).unwrap();
    rig.video.set(&config.with(&[("video.bitrate_kbps", "100"), ("video.keyframe_s", "60")]).unwrap().stream());
    until("a key frame of an encoder for longer times", &|u| u.keyframe);
    rig.video.set(&config.with(&[("video.width", "160"), ("video.height", "120")]).unwrap().stream());
    until("a smaller picture", &|u| u.keyframe && wide(u) == Some(160));
    let other = if crate::gst::has("openh264enc") { "openh264" } else { "x264" };
    rig.video.set(&config.with(&[("video.encoder", other)]).unwrap().stream());
    until("a key frame of the other encoder", &|u| u.keyframe && wide(u) == Some(320));
    assert_eq!(rig.video.encoder().map(Implementation::word), Some(other));
}

/// Feeds until the other encoder has taken over from x264, which fails this way.
fn replaced(make: feed::Make) {
    if !crate::gst::has("x264enc") || !crate::gst::has("openh264enc") {
        println!("SKIP: no second encoder is installed");
        return;
    }
    let rig = Rig::with(&[("video.encoder", "x264")], make);
    let (_place, from) = rig.take();
    let end = SystemClock.boot() + Duration::from_secs(60);
    let mut id = 0;
    while !(rig.video.encoder() == Some(Implementation::OpenH264) && from.try_iter().any(|u| u.keyframe)) {
        assert!(SystemClock.boot() < end, "{:?} still works", rig.video.encoder());
        id += 1;
        rig.publish(id);
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn an_encoder_that_dies_is_replaced_while_subscribers_stay() {
    replaced(|coder, picture, settings, out| match coder {
        Implementation::X264 => {
            let line = "x264enc name=encoder tune=zerolatency speed-preset=ultrafast ! identity error-after=5";
            Encoder::with(coder, line, picture, settings, out)
        }
        _ => Encoder::new(coder, picture, settings, out),
    });
}

#[test]
fn an_encoder_that_falls_silent_is_replaced_while_subscribers_stay() {
    replaced(|coder, picture, settings, out| match coder {
        Implementation::X264 => {
            let line = "x264enc name=encoder tune=zerolatency speed-preset=ultrafast ! valve drop=true";
            Encoder::with(coder, line, picture, settings, out)
        }
        _ => Encoder::new(coder, picture, settings, out),
    });
}

#[test]
fn a_codec_is_known_by_its_caps_and_names_elements_of_known_packages() {
    let unit = |name: &str| AccessUnit {
        buffer: gstreamer::Buffer::new(),
        caps: gstreamer::Caps::new_empty_simple(name),
        keyframe: true,
        id: 0,
        wall: WallUs(0),
        behind: 0,
    };
    crate::gst::init().unwrap();
    for codec in Codec::ALL {
        assert_eq!(unit(codec.media_type()).codec().unwrap().name, codec.name);
        let elements = [codec.parser.0, codec.payloader.0, codec.depayloader].into_iter().chain(codec.decoders.iter().copied());
        let makers = Implementation::ALL.into_iter().filter(|i| i.codec().name == codec.name).map(Implementation::element);
        let unknown: Vec<_> = elements.chain(makers).filter(|e| crate::gst::package_of(e).is_none()).collect();
        assert!(unknown.is_empty(), "{unknown:?}");
    }
    assert!(unit("video/x-nothing").codec().unwrap_err().what.contains("video/x-nothing"));
}
