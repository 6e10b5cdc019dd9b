//! Owns what caps tell of a picture's colour, part by part, and how what they leave out is completed. `GStreamer` itself drops all
//! parts of a colorimetry whose matrix is unknown, and takes its default. Pure; any thread.

use gstreamer as gst;
use gstreamer_video as video;

use crate::frame::{Colour, Matrix, Span};

/// The parts of a colorimetry; `None` where it is not told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ToldColour {
    /// Weights.
    pub matrix: Option<Matrix>,
    /// Black and white.
    pub span: Option<Span>,
}

impl ToldColour {
    /// What these caps tell.
    pub fn of(caps: &gst::CapsRef) -> ToldColour {
        use video::{VideoColorMatrix as M, VideoColorRange as R};
        let text = caps.structure(0).and_then(|s| s.get::<&str>("colorimetry").ok());
        let Some(told) = text.and_then(|t| t.parse::<video::VideoColorimetry>().ok()) else { return ToldColour::default() };
        ToldColour {
            // The nearest of our two, by the weights of red and blue.
            matrix: match told.matrix() {
                M::Bt601 | M::Fcc => Some(Matrix::Bt601),
                M::Bt709 | M::Smpte240m | M::Bt2020 => Some(Matrix::Bt709),
                _ => None,
            },
            span: match told.range() {
                R::Range0_255 => Some(Span::Full),
                R::Range16_235 => Some(Span::Limited),
                _ => None,
            },
        }
    }

    /// The same with what it leaves out as `other` tells it.
    #[must_use]
    pub fn or(self, other: ToldColour) -> ToldColour {
        ToldColour { matrix: self.matrix.or(other.matrix), span: self.span.or(other.span) }
    }

    /// The colour of such pictures once they are I420. Grey and RGB pictures become JPEG's own colour, whatever they tell: `FFmpeg`,
    /// which makes most grey streams, takes grey for full range and marks it as limited all the same. YUV that tells nothing is
    /// video: limited range, with the weights that players take for the size (mpv's rule).
    pub fn completed(self, info: &video::VideoInfo) -> Colour {
        if !info.is_yuv() {
            return Colour::default();
        }
        let by_size = if info.width() >= 1280 || info.height() > 576 { Matrix::Bt709 } else { Matrix::Bt601 };
        Colour { matrix: self.matrix.unwrap_or(by_size), span: self.span.unwrap_or(Span::Limited) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn colour(format: &str, (width, height): (i32, i32), colorimetry: Option<&str>) -> Colour {
        let caps = gst::Caps::builder("video/x-raw").field("format", format).field("width", width).field("height", height);
        let caps = caps.field_if_some("colorimetry", colorimetry).build();
        ToldColour::of(&caps).completed(&video::VideoInfo::from_caps(&caps).unwrap())
    }

    #[test]
    fn what_is_told_in_part_is_completed_part_by_part() {
        crate::gst::init().unwrap();
        let (sd, hd) = ((640, 480), (1920, 1080));
        let is = |matrix, span| Colour { matrix, span };
        for (told, at_sd, at_hd) in [
            (None, is(Matrix::Bt601, Span::Limited), is(Matrix::Bt709, Span::Limited)),
            (Some("1:0:0:0"), is(Matrix::Bt601, Span::Full), is(Matrix::Bt709, Span::Full)),
            (Some("0:3:0:0"), is(Matrix::Bt709, Span::Limited), is(Matrix::Bt709, Span::Limited)),
            (Some("0:4:5:1"), is(Matrix::Bt601, Span::Limited), is(Matrix::Bt601, Span::Limited)),
            (Some("1:4:0:0"), is(Matrix::Bt601, Span::Full), is(Matrix::Bt601, Span::Full)),
            (Some("1:3:5:1"), is(Matrix::Bt709, Span::Full), is(Matrix::Bt709, Span::Full)),
            (Some("bt2020"), is(Matrix::Bt709, Span::Limited), is(Matrix::Bt709, Span::Limited)),
            (Some("2:2:0:0"), is(Matrix::Bt601, Span::Limited), is(Matrix::Bt601, Span::Limited)),
            (Some("nonsense"), is(Matrix::Bt601, Span::Limited), is(Matrix::Bt709, Span::Limited)),
        ] {
            assert_eq!((colour("I420", sd, told), colour("NV12", hd, told)), (at_sd, at_hd), "{told:?}");
        }
        for (format, told) in [("GRAY8", None), ("RGB", None), ("GRAY8", Some("2:0:0:0"))] {
            assert_eq!(colour(format, hd, told), Colour::default(), "{format} {told:?}");
        }
    }

    #[test]
    fn the_stream_s_own_word_goes_first() {
        let stream = ToldColour { matrix: None, span: Some(Span::Full) };
        let container = ToldColour { matrix: Some(Matrix::Bt709), span: Some(Span::Limited) };
        assert_eq!(stream.or(container), ToldColour { matrix: Some(Matrix::Bt709), span: Some(Span::Full) });
    }
}
