//! Owns the way from a picture to a file's bytes, in whatever format and to wherever they go: the one place that knows which
//! encoder makes which format. Opens no file. The caller's thread.

mod exif;
mod jpeg;
mod npy;
mod png;
mod raster;

use std::io::{self, Write};

use super::Tag;
use super::keys::Place;
use super::picture::{Picture, Pixels};
use crate::error::{Error, Kind, Result};
use crate::format::Format;
use crate::overlay;

/// The encoders of one thread, made when first needed and kept.
#[derive(Default)]
pub struct Encoders {
    pub(super) jpeg: Option<jpeg::Jpeg>,
}

impl Encoders {
    /// None made yet.
    pub fn new() -> Self {
        Encoders::default()
    }
}

/// How pictures are to look, whoever asks for them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Look<'a> {
    /// JPEG quality, 1 to 100.
    pub quality: u8,
    /// Text in formats that bear it, with date and time as `strftime` writes them.
    pub overlay: Option<&'a str>,
    /// Told in EXIF.
    pub tag: Option<&'a Tag>,
    /// Told in EXIF.
    pub label: &'a Label,
}

/// What the configuration tells of the camera.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Label {
    /// What it is called; empty: what it calls itself.
    pub name: String,
    /// Where it stands.
    pub place: Place,
}

/// What an encoder is given.
pub(super) struct Shot<'a> {
    pub picture: &'a Picture,
    pub quality: u8,
    pub tag: Option<&'a Tag>,
    pub label: &'a Label,
}

/// Why a picture was not written; `Sink` is the complaint of whatever took the bytes and lacks its name.
#[derive(Debug)]
pub(super) enum Trouble {
    Sink(io::Error),
    Media(Error),
}

impl From<io::Error> for Trouble {
    fn from(e: io::Error) -> Self {
        Trouble::Sink(e)
    }
}

impl From<Error> for Trouble {
    fn from(e: Error) -> Self {
        Trouble::Media(e)
    }
}

/// One picture that is to be written in one or several formats.
pub(super) struct Original<'a> {
    picture: &'a Picture,
    /// The same with the text in it.
    lettered: Option<Picture>,
    look: Look<'a>,
}

impl<'a> Original<'a> {
    /// Errors: `media` where size and bytes do not belong together.
    pub fn new(picture: &'a Picture, look: Look<'a>, formats: &[Format]) -> Result<Self> {
        picture.planes()?;
        let text = look.overlay.filter(|_| formats.iter().any(|f| f.bears_text()));
        Ok(Original { picture, lettered: text.map(|text| lettered(picture, text)), look })
    }

    /// The picture's own facts.
    pub fn picture(&self) -> &Picture {
        self.picture
    }

    /// About how large a file of this format will be (bytes), where the last one had `last`; 0: there was none.
    pub fn expected(&self, format: Format, last: u64) -> u64 {
        let layout = self.picture.meta.layout;
        let pixels = layout.pixels();
        match format {
            Format::Npy => pixels * 3 + 128,
            _ if last > 0 => last,
            Format::Jpg => pixels / 8,
            Format::Png => pixels,
            Format::Mp4 => 0,
        }
    }

    /// Writes a whole file of this format.
    pub fn write(&self, encoders: &mut Encoders, format: Format, to: &mut dyn Write) -> std::result::Result<(), Trouble> {
        let picture = self.lettered.as_ref().filter(|_| format.bears_text()).unwrap_or(self.picture);
        let shot = Shot { picture, quality: self.look.quality, tag: self.look.tag, label: self.look.label };
        match format {
            Format::Jpg => jpeg::write(encoders, &shot, to),
            Format::Png => png::write(encoders, &shot, to),
            Format::Npy => npy::write(encoders, &shot, to),
            Format::Mp4 => Err(Error::new(Kind::Usage, "save a picture as mp4: recordings are made by record and clip").into()),
        }
    }
}

/// A copy of the picture with the text in it: what was handed in may be the ring's own memory. It costs the picture's bytes for
/// as long as it is being written.
fn lettered(picture: &Picture, text: &str) -> Picture {
    let layout = picture.meta.layout;
    let mut pixels = picture.pixels.as_ref()[..layout.bytes()].to_vec();
    overlay::stamp(&mut pixels, layout, text, picture.meta.wall);
    Picture { pixels: Pixels::new(pixels), ..picture.clone() }
}

/// Encodes one picture into anything that takes bytes; the file of [`super::Exporter::save`] holds the same ones.
///
/// Errors: `media` from an encoder, `io` from `to`, `usage` for a format that is no picture.
pub fn encode(encoders: &mut Encoders, picture: &Picture, format: Format, look: Look<'_>, to: &mut dyn Write) -> Result<()> {
    Original::new(picture, look, &[format])?.write(encoders, format, to).map_err(|trouble| match trouble {
        Trouble::Sink(e) => Error::caused(Kind::Io, format!("hand out frame {} as {format}", picture.meta.id), e),
        Trouble::Media(e) => e,
    })
}
