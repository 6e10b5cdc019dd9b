//! Owns the questions before a camera runs: which cameras there are, which pictures this one makes, where its buffers lie.
//! Never starts it and keeps nothing. Runs on the capture thread.

use libcamera::camera::{ActiveCamera, CameraConfiguration, Orientation};
use libcamera::camera_manager::CameraManager;
use libcamera::color_space::{ColorSpace, Range, YcbcrEncoding};
use libcamera::framebuffer::AsFrameBuffer;
use libcamera::framebuffer_allocator::{FrameBuffer, FrameBufferAllocator};
use libcamera::geometry::Size;
use libcamera::pixel_format::PixelFormat;
use libcamera::properties;
use libcamera::stream::{Stream, StreamRole};

use super::format::{self, Format};
use super::map::Mapped;
use super::pick::{Found, UNKNOWN};
use crate::error::{Error, Kind, Result};
use crate::frame::{Colour, Layout, Matrix, Span};
use crate::source::Camera;
use crate::turn::Turn;

/// Buffers asked for: one being filled, one waiting, one in the pipeline, one in our hands.
const BUFFERS: u32 = 4;

/// One of the camera's pictures: where its buffers are and how they are read.
pub(super) struct Output {
    pub stream: Stream,
    pub format: Format,
    pub layout: Layout,
    pub stride: usize,
    pub colour: Colour,
    /// By request.
    pub maps: Vec<Mapped>,
}

pub(super) fn list(manager: &CameraManager) -> Vec<Found> {
    let cameras = manager.cameras();
    (0..cameras.len())
        .filter_map(|i| cameras.get(i))
        .map(|c| Found {
            id: c.id().to_string(),
            model: c.properties().get::<properties::Model>().map_or_else(|_| UNKNOWN.into(), |m| m.0),
        })
        .collect()
}

/// What was settled with a camera.
pub(super) struct Settled {
    pub config: CameraConfiguration,
    pub main: Format,
    pub low: Option<Format>,
    /// What is left to turn: the camera's own hardware mirrors, and no more than that.
    pub turn: Turn,
}

/// The camera's configuration with one output or, where a smaller picture is wished for and the camera makes one, with two.
pub(super) fn configuration(active: &ActiveCamera<'static>, camera: &Camera) -> Result<Settled> {
    let roles = [StreamRole::VideoRecording, StreamRole::ViewFinder];
    let whole = camera.turn.of(camera.layout);
    if let Some(small) = camera.low.map(|low| camera.turn.of(low)).filter(|low| *low != whole) {
        let two = active.generate_configuration(&roles).filter(|c| c.len() == 2);
        if let Some((config, formats, turn)) = two.and_then(|c| settle(c, &[whole, small], camera.turn).ok()) {
            let exact = [whole, small].iter().enumerate().all(|(i, l)| size(&config, i) == Some(*l));
            if exact && !formats.contains(&Format::Mjpeg) {
                return Ok(Settled { config, main: formats[0], low: Some(formats[1]), turn });
            }
        }
    }
    let one = active
        .generate_configuration(&roles[..1])
        .or_else(|| active.generate_configuration(&roles[1..]))
        .ok_or_else(|| Error::new(Kind::Source, "ask the camera for pictures: it offers no configuration"))?;
    let (config, formats, turn) = settle(one, &[whole], camera.turn)?;
    Ok(Settled { config, main: formats[0], low: None, turn })
}

/// Asks for these sizes and this turn, and takes what the camera makes of it; what is left to turn.
fn settle(mut config: CameraConfiguration, sizes: &[Layout], turn: Turn) -> Result<(CameraConfiguration, Vec<Format>, Turn)> {
    let refused = |why: &str| Error::new(Kind::Source, format!("ask the camera for pictures: {why}"));
    for (i, layout) in sizes.iter().enumerate() {
        let wanted = Size::new(layout.width, layout.height);
        let mut stream = config.get_mut(i).ok_or_else(|| refused("it offers no output"))?;
        let offered: Vec<(u32, bool)> = {
            let formats = stream.formats();
            let pixels = formats.pixel_formats();
            let listed = |p| formats.sizes(p).iter().any(|s| (s.width, s.height) == (wanted.width, wanted.height));
            // A range made of single sizes has no steps, and not all that lies in it can be had.
            let ranged = |p| Some(formats.range(p)).filter(|r| r.h_step > 0 && r.v_step > 0).is_some_and(|r| r.contains(wanted));
            let fits = |p| listed(p) || ranged(p);
            pixels.into_iter().filter(|p| p.modifier() == 0).map(|p| (p.fourcc(), fits(p))).collect()
        };
        stream.set_pixel_format(PixelFormat::new(format::choose(&offered)?.fourcc(), 0));
        stream.set_size(wanted);
        stream.set_buffer_count(BUFFERS);
        // JPEG's own colour, so that pictures need no conversion. A camera that cannot do it says what it does.
        stream.set_color_space(Some(ColorSpace::sycc()));
    }
    // The library's orientations are EXIF's, in that order. Sensors mirror; rows that become columns are for the copy.
    let wanted = match turn.orientation() {
        2 => Orientation::Rotate0Mirror,
        3 => Orientation::Rotate180,
        4 => Orientation::Rotate180Mirror,
        _ => Orientation::Rotate0,
    };
    config.set_orientation(wanted);
    if config.validate().is_invalid() {
        return Err(refused("it refuses every configuration of this size"));
    }
    let given = config.orientation();
    let left = if given == wanted && !turn.is_quarter() { Turn::default() } else { Turn::exif(given as u8 + 1).then(turn) };
    let formats = (0..sizes.len()).map(|i| {
        let pixel = config.get(i).map(|c| c.get_pixel_format());
        let format = pixel.and_then(|p| Format::of(p.fourcc()));
        format.ok_or_else(|| refused("it insists on a format that this program does not take"))
    });
    let formats = formats.collect::<Result<Vec<_>>>()?;
    Ok((config, formats, left))
}

fn size(config: &CameraConfiguration, i: usize) -> Option<Layout> {
    config.get(i).map(|c| c.get_size()).map(|s| Layout::new(s.width, s.height))
}

/// What was configured, and its buffers.
pub(super) fn output(
    config: &CameraConfiguration,
    i: usize,
    format: Format,
    allocator: &mut FrameBufferAllocator,
    camera: &Found,
) -> Result<(Output, Vec<FrameBuffer>)> {
    let lost = || Error::new(Kind::Source, format!("configure the camera {camera}: it lost an output"));
    let stream = config.get(i).and_then(|c| c.stream()).ok_or_else(lost)?;
    let told = config.get(i).ok_or_else(lost)?;
    let layout = size(config, i).ok_or_else(lost)?;
    if layout.width % 2 != 0 || layout.height % 2 != 0 {
        let odd = format!("configure the camera {camera}: it makes pictures of {}x{}, an odd size", layout.width, layout.height);
        return Err(Error::new(Kind::Source, odd));
    }
    let buffers = allocator
        .alloc(&stream)
        .map_err(|e| Error::caused(Kind::Source, format!("get memory for the buffers of the camera {camera}"), e))?;
    let colour = told.get_color_space().map_or_else(Colour::default, |c| Colour {
        matrix: if c.ycbcr_encoding == YcbcrEncoding::Rec709 { Matrix::Bt709 } else { Matrix::Bt601 },
        span: if c.range == Range::Limited { Span::Limited } else { Span::Full },
    });
    let stride = told.get_stride() as usize;
    Ok((Output { stream, format, layout, stride, colour, maps: Vec::new() }, buffers))
}

pub(super) fn map(buffer: &FrameBuffer) -> Result<Mapped> {
    let planes = buffer.planes();
    let parts: Vec<_> =
        (0..planes.len()).filter_map(|i| planes.get(i)).map(|p| (p.fd(), p.offset().unwrap_or(0), p.len())).collect();
    Mapped::new(&parts)
}
