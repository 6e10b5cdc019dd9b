//! Owns the JPEG encoder: one `jpegenc` element without a pipeline, kept from picture to picture. Never touches a file.
//! Runs wholly on the caller's thread: pushing a buffer into the element returns when the encoded one has come out.

use std::io::Write;

use gstreamer as gst;
use gstreamer::prelude::*;

use super::super::colour::ToJpeg;
use super::super::picture::{Picture, Pixels};
use super::exif;
use super::{Encoders, Shot, Trouble};
use crate::error::{Error, Kind, Result};
use crate::frame::{Colour, Layout};
use crate::gst::{self as door, Direct};

/// A whole file, EXIF included.
pub(super) fn write(encoders: &mut Encoders, shot: &Shot<'_>, to: &mut dyn Write) -> std::result::Result<(), Trouble> {
    let mut encoder = match encoders.jpeg.take() {
        Some(encoder) => encoder,
        None => Jpeg::new()?,
    };
    let jpeg = encoder.encode(shot.picture, shot.quality)?;
    // Back only after success: what failed once is made anew.
    encoders.jpeg = Some(encoder);
    let bytes = jpeg.map_readable().map_err(|e| Error::caused(Kind::Media, "read the encoded jpeg", e))?;
    let (head, rest) = bytes.split_at(exif::place(&bytes));
    for part in [head, &exif::segment(shot)?, rest] {
        to.write_all(part)?;
    }
    Ok(())
}

/// One encoder.
pub struct Jpeg {
    encoder: Direct,
    /// Size it was last told.
    layout: Option<Layout>,
}

impl Jpeg {
    /// Makes and starts the element.
    pub fn new() -> Result<Jpeg> {
        let element = door::element("jpegenc")?;
        // The default, ifast, loses visibly at quality 95 and up (libjpeg-turbo's own advice); islow costs a few percent.
        element.set_property_from_str("idct-method", "islow");
        Ok(Jpeg { encoder: Direct::start(element, "start the jpeg encoder")?, layout: None })
    }

    /// Encodes one picture; `quality` 1 to 100. What comes back is a whole JPEG file without EXIF.
    ///
    /// After an error the encoder is in an unknown state: drop it and make another.
    pub fn encode(&mut self, picture: &Picture, quality: u8) -> Result<gst::Buffer> {
        let (meta, planes) = (&picture.meta, picture.planes()?);
        self.encoder.element().set_property("quality", i32::from(quality));
        if self.layout != Some(meta.layout) {
            self.announce(meta.layout)?;
        }
        let buffer = match ToJpeg::new(meta.colour) {
            None => picture.pixels.to_buffer(),
            Some(convert) => Pixels::new(convert.picture(&planes)).to_buffer(),
        };
        let (got, pushed) = self.encoder.run(buffer);
        let what = || format!("encode frame {} as jpeg", meta.id);
        match (pushed, got) {
            (Ok(()), Some(jpeg)) => Ok(jpeg),
            (Ok(()), None) => Err(Error::new(Kind::Media, format!("{}: the encoder gave nothing back", what()))),
            (Err(flow), _) => Err(match self.encoder.complaint() {
                Some(cause) => Error::caused(Kind::Media, what(), cause),
                None => Error::caused(Kind::Media, what(), flow),
            }),
        }
    }

    /// Tells the element the size of what follows.
    fn announce(&mut self, layout: Layout) -> Result<()> {
        let caps = door::caps(layout, Colour::default(), gst::Fraction::new(0, 1))?;
        if !self.encoder.announce(&caps) {
            let what = format!("prepare the jpeg encoder for {}x{}: it refuses the size", layout.width, layout.height);
            return Err(Error::new(Kind::Media, what));
        }
        self.layout = Some(layout);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::super::tests::picture;
    use super::*;
    use crate::frame::Layout;

    #[test]
    fn sizes_and_qualities_may_change_from_picture_to_picture() {
        let mut jpeg = Jpeg::new().unwrap();
        let mut sizes = Vec::new();
        for (w, h, q) in [(64, 48, 95), (64, 48, 30), (6, 4, 95), (640, 360, 95), (64, 48, 95)] {
            let bytes = jpeg.encode(&picture(Layout::new(w, h)), q).unwrap();
            let map = bytes.map_readable().unwrap();
            assert!(map.starts_with(&[0xff, 0xd8]) && map.ends_with(&[0xff, 0xd9]));
            sizes.push(map.len());
        }
        assert!(sizes[1] < sizes[0] && sizes[4] == sizes[0], "{sizes:?}");
    }

    #[test]
    fn the_pixels_are_let_go_when_the_picture_is_done() {
        let owner = Arc::new(vec![128u8; Layout::new(64, 48).bytes()]);
        let mut p = picture(Layout::new(64, 48));
        p.pixels = Pixels::shared(Arc::clone(&owner) as Arc<dyn AsRef<[u8]> + Send + Sync>);
        let mut jpeg = Jpeg::new().unwrap();
        jpeg.encode(&p, 95).unwrap();
        drop(p);
        assert_eq!(Arc::strong_count(&owner), 1, "a ring slot would stay taken");
    }

    #[test]
    fn a_picture_too_short_for_its_size_is_an_error_not_a_crash() {
        let mut p = picture(Layout::new(64, 48));
        p.pixels = Pixels::new(vec![0u8; 100]);
        assert!(Jpeg::new().unwrap().encode(&p, 95).unwrap_err().what.contains("does not fit"));
    }
}
