//! What the pictures show of it: every look is read back from the pixels of a `save`.

use pastcam::clock::{BootUs, WallUs};
use pastcam::frame::{Exposure, Layout};
use pastcam::source::pattern::{Moment, Options, truth};

use crate::harness::Running;
use crate::image::Image;
use crate::{pattern, proved, said};

/// Rows between the code and the patches of 320×240 pictures.
const ROWS: std::ops::Range<usize> = 82..94;

fn saved(r: &Running) -> (Image, u64) {
    let image = Image::open(&said::single(&r.ask("save png")).path);
    let id = image.code().0;
    (image, id)
}

fn luma_mean(i: &Image) -> f64 {
    let luma = i.luma();
    luma[ROWS.start * i.width..ROWS.end * i.width].iter().map(|p| f64::from(*p)).sum::<f64>() / (ROWS.len() * i.width) as f64
}

/// Mean of red minus blue, and mean distance of the colours from grey.
fn colour(i: &Image) -> (f64, f64) {
    let rgb = &i.rgb[3 * ROWS.start * i.width..3 * ROWS.end * i.width];
    let n = (rgb.len() / 3) as f64;
    let warm = rgb.chunks_exact(3).map(|p| f64::from(p[0]) - f64::from(p[2])).sum::<f64>() / n;
    let vivid = rgb.chunks_exact(3).map(|p| f64::from(p[0].abs_diff(p[1])) + f64::from(p[2].abs_diff(p[1]))).sum::<f64>() / n;
    (warm, vivid)
}

/// How far two pictures differ when the second is moved by `by` columns to the right; the scene pans 4 to the left a frame.
fn moved(a: &Image, b: &Image, by: isize) -> f64 {
    let (la, lb, w) = (a.luma(), b.luma(), a.width as isize);
    let (mut sum, mut n) = (0.0, 0.0);
    for row in ROWS {
        for x in by.abs()..w - by.abs() {
            let at = row as isize * w;
            sum += f64::from(la[(at + x + by) as usize].abs_diff(lb[(at + x) as usize]));
            n += 1.0;
        }
    }
    sum / n
}

/// Two pictures a few frames apart: what moved them, in columns a frame, of these guesses.
fn movement(r: &Running, guesses: [isize; 3]) -> isize {
    let pairs = || {
        let (a, first) = saved(r);
        let (b, second) = saved(r);
        // Beyond 20 frames there is nothing left to compare.
        (second > first && second - first < 20).then_some((a, b, (second - first) as isize))
    };
    let (a, b, frames) = (0..20).find_map(|_| pairs()).expect("two pictures within 20 frames");
    let score = |g: &isize| moved(&a, &b, g * frames);
    *guesses.iter().min_by(|x, y| score(x).total_cmp(&score(y))).unwrap()
}

#[test]
fn the_next_picture_after_the_answer_shows_it() {
    let r = pattern("look", "").start();
    r.until_frame(8);
    let (before, _) = saved(&r);
    let frame = proved(&r.ask("set Brightness=0.25"), "OK Brightness=0.25 frame=");
    let (after, id) = saved(&r);
    assert!(id >= frame);
    let step = luma_mean(&after) - luma_mean(&before);
    // The scene moves meanwhile, and with it the mean.
    assert!((20.0..44.0).contains(&step), "a quarter of half the range is 32, not {step}");

    proved(&r.ask("set Brightness=0 Saturation=0"), "OK Brightness=0 Saturation=0 frame=");
    let (grey, _) = saved(&r);
    assert!((luma_mean(&grey) - luma_mean(&before)).abs() < 12.0);
    assert!(colour(&grey).1 < 3.0 && colour(&before).1 > 15.0, "{:?} {:?}", colour(&grey), colour(&before));

    proved(&r.ask("set Saturation=1 ColourGains=3.2,0.9"), "OK Saturation=1 ColourGains=3.2,0.9 with AwbEnable=false frame=");
    let (red, _) = saved(&r);
    assert!(colour(&red).0 > colour(&before).0 + 60.0, "{:?} {:?}", colour(&red), colour(&before));
}

#[test]
fn a_saved_picture_is_the_truth_of_its_frame() {
    const SPEC: &str = "lux=400,noise=off,pan=2";
    let setup = pattern("truth", SPEC).set("camera.width", 640).set("camera.height", 480);
    let r = setup.start();
    r.until_frame(8);
    proved(&r.ask("set ExposureTime=50000 AnalogueGain=1"), "OK ExposureTime=50000 AnalogueGain=1 with AeEnable=false");
    let image = Image::open(&said::single(&r.ask("save png")).path);
    let (id, boot) = image.code();
    let exposure = Exposure { time_us: 50_000.0, analogue_gain: 1.0, digital_gain: 1.0 };
    let moment = Moment { id, boot: BootUs(boot), wall: WallUs(0), lux: 400.0, exposure };
    let layout = Layout::new(640, 480);
    let truth = |id: u64| truth(layout, &Options::parse(SPEC).unwrap()).picture(&Moment { id, ..moment });
    let luma = image.luma();
    // Without codes, words and digits: white on a coloured ground leaves RGB, and the wall clock of the digits is not told.
    let places = || (48..188).chain(228..368).flat_map(|y| y * 640..y * 640 + 640);
    let off = |id: u64| {
        let truth = truth(id);
        places().filter(|i| truth[*i].abs_diff(luma[*i]) > 4).count()
    };
    assert_eq!(off(id), 0, "samples that are not the truth, beside what RGB rounds and cuts");
    assert!(off(id + 1) > 1000, "the frame after it is another");
}

#[test]
fn half_the_exposure_is_half_the_light() {
    let r = pattern("light", "lux=400").start();
    r.until_frame(8);
    proved(&r.ask("set ExposureTime=4000 AnalogueGain=1"), "OK ExposureTime=4000 AnalogueGain=1 with AeEnable=false");
    let (bright, _) = saved(&r);
    proved(&r.ask("set ExposureTime=1000"), "OK ExposureTime=1000 ");
    let (dark, _) = saved(&r);
    assert!(luma_mean(&dark) < 0.6 * luma_mean(&bright), "{} {}", luma_mean(&dark), luma_mean(&bright));
    let s = r.status();
    assert_eq!((&s["frame"]["exposure_us"], &s["frame"]["gain"]), (&1000.0.into(), &1.0.into()));
    // As bright with four times the gain.
    proved(&r.ask("set AnalogueGain=4"), "OK AnalogueGain=4 ");
    assert!((luma_mean(&saved(&r).0) - luma_mean(&bright)).abs() < 12.0);
}

#[test]
fn a_flip_and_a_crop_are_seen_in_how_the_scene_moves() {
    let r = pattern("move", "pan=4,motion=off").start();
    r.until_frame(8);
    let guesses = [4, -4, 8];
    assert_eq!(movement(&r, guesses), 4);
    // No frame tells it, so the answer waits for as long as a control may take.
    let answer = r.ask("set HorizontalFlip=on");
    proved(&answer, "OK HorizontalFlip=true (asked; frames do not tell it) frame=");
    assert_eq!(movement(&r, guesses), -4);
    proved(&r.ask("set HorizontalFlip=off ScalerCrop=80,60,160,120"), "OK HorizontalFlip=false (asked");
    assert_eq!(movement(&r, guesses), 8);
}

#[test]
fn padded_rows_and_a_second_stream_reach_the_ring_as_they_are() {
    let setup = pattern("padded", "stride=768,low=320x240").set("camera.width", 640).set("camera.height", 480);
    let mut setup = setup;
    setup.config["ring"]["downscale"] = serde_json::json!({"enable": true, "width": 320, "height": 240});
    let r = setup.start();
    r.until_frame(8);
    let full = Image::open(&said::single(&r.ask("save png")).path);
    assert_eq!((full.width, full.height), (640, 480));
    full.code();
    // Nothing of the padding shows: the last column is a part of the scene, whose neighbours are like it.
    let luma = full.luma();
    assert!((100..300).any(|y| luma[y * 640 + 639] != 0xaa));
    // The small picture carries the code of the small stream; made from the large one its blocks would be half as wide.
    let small = Image::open(&said::stacked(&r.ask("pastStack png count=1 before=0")).path);
    assert_eq!((small.width, small.height), (320, 240));
    small.code();
}
