//! Owns films as `GStreamer` decodes them.

use gstreamer_app::AppSink;
use gstreamer_video::{VideoFrameExt, VideoFrameRef, VideoInfo};
use pastcam::error::{Error, Kind, Result};
use pastcam::frame::Layout;
use pastcam::gst::Pipe;

use super::made;

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
            return Ok(Film { name: name.into(), layout: made::LAYOUT, frames: made::frames(rule, 60) });
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
