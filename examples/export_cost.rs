//! Measures what saving pictures costs: `cargo run --release --example export_cost [folder]`.
//!
//! Cases, at 1024×768 full-range BT.601 unless said otherwise: start of `GStreamer`; 50 saves of each format; the same from
//! limited BT.709; a save of all three. Each line gives CPU and wall time per picture, and resident memory afterwards.

use std::time::Instant;

use nix::time::{ClockId, clock_gettime};
use pastcam::clock::{BootUs, WallUs};
use pastcam::export::{Encoders, Exporter, Format, Picture, Pixels, Settings};
use pastcam::frame::{Ae, Colour, FrameMeta, Layout, Matrix, Span};

fn cpu_ms() -> f64 {
    let t = clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID).expect("linux has this clock");
    t.tv_sec() as f64 * 1e3 + t.tv_nsec() as f64 / 1e6
}

fn memory() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let field = |name| status.lines().find_map(|l: &str| l.strip_prefix(name)).unwrap_or("?").trim().to_owned();
    format!("rss {}, peak {}, threads {}", field("VmRSS:"), field("VmHWM:"), field("Threads:"))
}

/// Gradients with three bits of noise: compresses about as badly as a camera frame.
fn picture(colour: Colour) -> Picture {
    let layout = Layout::new(1024, 768);
    let mut seed = 1u32;
    let mut noise = || {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (seed >> 29) as u8
    };
    let luma = (0..1024 * 768u32).map(|i| (20 + i % 1024 / 6 + i / 1024 / 32) as u8);
    let chroma = (0..512 * 384 * 2u32).map(|i| 110 + (i / 8192 % 36) as u8);
    let px: Vec<u8> = luma.chain(chroma).map(|p| p.wrapping_add(noise())).collect();
    let meta = FrameMeta {
        id: 0,
        boot: BootUs(0),
        wall: WallUs(1_800_000_000_000_000),
        layout,
        colour,
        exposure: None,
        ae: Ae::Off,
        lux: None,
        colour_temperature: None,
        focus: None,
        night: false,
        drawn: false,
    };
    Picture { meta, pixels: Pixels::new(px), model: None, stacked: None }
}

fn main() -> Result<(), pastcam::error::Error> {
    let above = std::env::args().nth(1).map_or_else(std::env::temp_dir, Into::into);
    let dir = above.join(format!("pastcam-cost-{}", std::process::id()));
    println!("at the start: {}", memory());
    let (wall, cpu) = (Instant::now(), cpu_ms());
    pastcam::gst::init()?;
    println!("gstreamer: {:.1} ms wall, {:.1} ms cpu, {}", wall.elapsed().as_secs_f64() * 1e3, cpu_ms() - cpu, memory());
    let exporter = Exporter::new(Settings::new(&dir))?;
    let mut encoders = Encoders::new();
    let cases: [(&str, &[Format], Colour); 6] = [
        ("jpg", &[Format::Jpg], Colour::default()),
        ("png", &[Format::Png], Colour::default()),
        ("npy", &[Format::Npy], Colour::default()),
        ("all", &Format::ALL, Colour::default()),
        ("jpg, limited 709", &[Format::Jpg], Colour { matrix: Matrix::Bt709, span: Span::Limited }),
        ("png, limited 709", &[Format::Png], Colour { matrix: Matrix::Bt709, span: Span::Limited }),
    ];
    for (name, formats, colour) in cases {
        let mut picture = picture(colour);
        let (wall, cpu) = (Instant::now(), cpu_ms());
        for _ in 0..50 {
            picture.meta.id += 1;
            exporter.save(&mut encoders, &picture, formats, None)?;
        }
        let ms = wall.elapsed().as_secs_f64() * 20.0;
        println!("{name}: {:.2} ms cpu, {ms:.2} ms wall, {}", (cpu_ms() - cpu) / 50.0, memory());
    }
    let _ = std::fs::remove_dir_all(dir);
    Ok(())
}
