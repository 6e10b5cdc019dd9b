//! What a frame of a camera costs the processor: the whole path of the real library (with whatever camera there is) against
//! its one copy and against a plain copy of as many bytes.
//! `cargo run --release --features libcamera --example camera_cost [WIDTH HEIGHT FRAMES]`; without the feature the copies only.
//! The virtual camera draws its pictures in libcamera's own thread, which is not counted; ours is.

use std::time::{Duration, Instant};

use nix::time::{ClockId, clock_gettime};
use pastcam::frame::{Layout, Packing, Planes};
use pastcam::source::{Camera, Polled, Spec};
use pastcam::turn::Turn;

/// Processor time of this thread (µs).
fn used_us() -> f64 {
    let t = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).expect("the kernel knows this clock");
    t.tv_sec() as f64 * 1e6 + t.tv_nsec() as f64 / 1e3
}

fn each(n: u32, mut work: impl FnMut()) -> f64 {
    work();
    let begin = used_us();
    for _ in 0..n {
        work();
    }
    (used_us() - begin) / f64::from(n)
}

fn main() {
    let mut words = std::env::args().skip(1).map(|w| w.parse::<u32>().expect("a number"));
    let layout = Layout::new(words.next().unwrap_or(1024), words.next().unwrap_or(768));
    let frames = words.next().unwrap_or(100);
    let width = layout.width as usize;
    let pixels = width * layout.height as usize;
    let (source, mut slot) = (vec![77u8; 2 * pixels], vec![0u8; layout.bytes()]);
    let plain = each(200, || slot.copy_from_slice(std::hint::black_box(&source[..layout.bytes()])));
    println!("{}x{}: plain copy {plain:.0} us", layout.width, layout.height);
    let (luma, chroma) = source.split_at(pixels);
    let (blue, red) = chroma.split_at(pixels / 4);
    for (name, packing, data, stride) in [
        ("YUV420", Packing::Planar, [luma, blue, red], [width, width / 2, width / 2]),
        ("NV12", Packing::SemiPlanar, [luma, chroma, &[][..]], [width, width, 0]),
        ("YUYV", Packing::Packed, [&source[..], &[], &[]], [2 * width, 0, 0]),
    ] {
        let planes = Planes { layout, packing, data, stride };
        let copy = each(200, || std::hint::black_box(&planes).copy_to(&mut slot));
        println!("one copy from {name}: {copy:.0} us, {:.2} x plain", copy / plain);
    }
    let camera = Camera { layout, fps: 10.0, day_gain_ceiling: 8.0, turn: Turn::default(), low: None };
    let mut camera = match Spec::Camera(String::new()).make(&camera, &pastcam::source::no_outlet()) {
        Ok(camera) => camera,
        Err(why) => return println!("SKIP: the path from the camera: {why}"),
    };
    println!("{}", camera.name());
    camera.start(0).expect("the camera starts");
    let (mut seen, mut begin, mut since) = (0, 0.0, Instant::now());
    while seen <= frames {
        let polled = camera.next(Duration::from_millis(250), &mut |f| f.main.copy_to(&mut slot)).expect("frames come");
        if polled == Polled::Frame {
            if seen == 0 {
                (begin, since) = (used_us(), Instant::now());
            }
            seen += 1;
        }
    }
    let (us, fps) = ((used_us() - begin) / f64::from(frames), f64::from(frames) / since.elapsed().as_secs_f64());
    println!(
        "the whole path {us:.0} us a frame at {fps:.1} fps, {:.2} x plain, {:.2} % of this processor",
        us / plain,
        us * fps / 1e4
    );
}
