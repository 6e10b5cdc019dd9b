//! Owns films: decoded by `GStreamer`, or made by rules that are hard on an average.

use gstreamer_app::AppSink;
use gstreamer_video::{VideoFrameExt, VideoFrameRef, VideoInfo};
use pastcam::error::{Error, Kind, Result};
use pastcam::frame::Layout;
use pastcam::gst::Pipe;

/// Most bytes of a film that are kept.
const MOST: usize = 700 << 20;

/// A film without noise.
pub struct Film {
    /// The file's name without its folder.
    pub name: String,
    pub layout: Layout,
    /// I420, laid out as `layout` says, without padding.
    pub frames: Vec<Vec<u8>>,
}

impl Film {
    pub fn open(name: &str) -> Result<Film> {
        if let Some(rule) = name.strip_prefix("made:") {
            return Ok(made(rule));
        }
        let what = || format!("decode {name}");
        let line = format!(
            "filesrc location=\"{name}\" ! decodebin ! videoconvert ! video/x-raw,format=I420 ! appsink name=out sync=false max-buffers=4"
        );
        let pipe = Pipe::launch(&line, &what())?;
        let out: AppSink = pipe.named("out");
        pipe.play(Kind::Media, what)?;
        let (mut layout, mut frames) = (Layout::default(), Vec::new());
        while let Ok(sample) = out.pull_sample() {
            let info = sample.caps().and_then(|c| VideoInfo::from_caps(c).ok()).ok_or_else(|| Error::new(Kind::Media, what()))?;
            // Whole words of eight: no row is padded.
            layout = Layout::new(info.width() / 8 * 8, info.height() / 2 * 2);
            let buffer = sample.buffer().ok_or_else(|| Error::new(Kind::Media, what()))?;
            let frame =
                VideoFrameRef::from_buffer_ref_readable(buffer, &info).map_err(|e| Error::caused(Kind::Media, what(), e))?;
            let mut pixels = Vec::with_capacity(layout.bytes());
            for plane in 0..3 {
                let half = usize::from(plane > 0);
                let (w, h) = (layout.width as usize >> half, layout.height as usize >> half);
                let data = frame.plane_data(plane as u32).map_err(|e| Error::caused(Kind::Media, what(), e))?;
                let stride = frame.plane_stride()[plane] as usize;
                pixels.extend(data.chunks(stride).take(h).flat_map(|row| &row[..w]));
            }
            frames.push(pixels);
            if frames.len() * layout.bytes() > MOST {
                break;
            }
        }
        if let Some(error) = pipe.complaint(Kind::Media).filter(|_| frames.is_empty()) {
            return Err(error);
        }
        let name = std::path::Path::new(name).file_stem().unwrap_or_default().to_string_lossy().into();
        Ok(Film { name, layout, frames })
    }
}

/// Smooth clouds with fine grain, from -1 to 1, that stay where they are: the same place has the same value in every frame.
fn texture(x: f64, y: f64) -> f64 {
    let lattice = |column: f64, row: f64| {
        let mut h =
            (column as i64 as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ (row as i64 as u64).wrapping_mul(0xC2B2_AE3D_27D4_EB4F);
        h = (h ^ (h >> 29)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        (h >> 40) as f64 / f64::from(1 << 23) - 1.0
    };
    let smooth = |t: f64| t * t * (3.0 - 2.0 * t);
    [(32.0, 0.5), (8.0, 0.3), (2.5, 0.2)].iter().fold(0.0, |sum, (scale, share)| {
        let (x, y) = (x / scale, y / scale);
        let (column, row) = (x.floor(), y.floor());
        let (across, down) = (smooth(x - column), smooth(y - row));
        let along = |row: f64| lattice(column, row) * (1.0 - across) + lattice(column + 1.0, row) * across;
        sum + share * (along(row) * (1.0 - down) + along(row + 1.0) * down)
    })
}

/// A film by a rule: 60 frames of 320×240.
fn made(rule: &str) -> Film {
    let layout = Layout::new(320, 240);
    let frames = (0..60).map(|t| draw(rule, layout, f64::from(t))).collect();
    Film { name: format!("made:{rule}"), layout, frames }
}

fn draw(rule: &str, layout: Layout, t: f64) -> Vec<u8> {
    let ground = |x: f64, y: f64| 110.0 + 60.0 * texture(x, y);
    // Luma and the two chroma offsets of a place.
    let place = |x: f64, y: f64| -> [f64; 3] {
        match rule {
            // All moves, 0.7 pixels a frame.
            "pan" => [ground(x + 0.7 * t, y + 0.2 * t), 20.0 * texture(x + 0.7 * t + 500.0, y + 0.2 * t), 0.0],
            // Soft discs that differ from their ground by 4 to 16 code values cross it at 3 pixels a frame.
            "dim" => (0..4).fold([ground(x, y), 0.0, 0.0], |[luma, u, v], k| {
                let k = f64::from(k);
                let away = ((x - (3.0 * t + 70.0 * k) % 320.0).powi(2) + (y - 30.0 - 60.0 * k).powi(2)).sqrt();
                let cover = ((24.0 - away) / 4.0).clamp(0.0, 1.0);
                [luma + 4.0 * (k + 1.0) * cover, u + 3.0 * (k + 1.0) * cover, v]
            }),
            // Lines of one pixel that sweep across, 2 pixels a frame: dark, bright, faint.
            "thin" => {
                [(40.0, -60.0), (140.0, 60.0), (240.0, 15.0)].iter().fold([ground(x, y), 0.0, 0.0], |[luma, u, v], (at, by)| {
                    let away = (x - (at + 2.0 * t + y / 8.0) % 320.0).abs();
                    [luma + by * (1.0 - away).max(0.0), u, v]
                })
            }
            // Every place sways by up to a pixel, each patch in its own time.
            "leaf" => {
                let phase = 6.0 * texture(x / 20.0, y / 20.0);
                [ground(x + (t * 0.9 + phase).sin(), y + 0.5 * (t * 0.7 + phase).cos()), 0.0, 0.0]
            }
            // Still ground in light that rises by 1 % a frame.
            "fade" => [ground(x, y) * (1.0 + 0.01 * t), 0.0, 0.0],
            other => panic!("made:{other} is none of pan, dim, thin, leaf, fade"),
        }
    };
    let (w, h) = (layout.width as usize, layout.height as usize);
    let byte = |v: f64| v.round().clamp(0.0, 255.0) as u8;
    let mut out = Vec::with_capacity(layout.bytes());
    out.extend((0..w * h).map(|i| byte(place((i % w) as f64, (i / w) as f64)[0])));
    for plane in 1..3 {
        out.extend((0..w * h / 4).map(|i| byte(128.0 + place((i % (w / 2) * 2) as f64, (i / (w / 2) * 2) as f64)[plane])));
    }
    out
}
