//! Owns the decoder for webcams that send JPEG pictures: one picture in, one picture out, on the calling thread. Its
//! elements have no threads of their own, so there is nothing to wait for. Runs on the capture thread.

use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_video as gst_video;
use gstreamer_video::prelude::*;

use crate::error::{Error, Kind, Result};
use crate::frame::{Colour, Packing, Planes};
use crate::gst::{self as door, Direct};

/// The decoder.
pub(super) struct Jpeg {
    decoder: Direct,
}

impl Jpeg {
    pub(super) fn start() -> Result<Jpeg> {
        let what = "build the decoder of the camera's JPEG pictures";
        for element in ["jpegdec", "videoconvert"] {
            door::element(element)?;
        }
        // JPEG's own colour, in the words of this decoder or another: else grey pictures would count as video.
        let line = "jpegdec ! videoconvert ! capsfilter caps=\"video/x-raw,format=I420,colorimetry=(string){1:4:0:0,1:4:7:1}\"";
        let bin = gst::parse::bin_from_description(line, true).map_err(|e| Error::caused(Kind::Media, what, e))?;
        let mut decoder = Direct::start(bin.upcast(), what)?;
        if !decoder.announce(&gst::Caps::new_empty_simple("image/jpeg")) {
            return Err(Error::new(Kind::Media, format!("{what}: it refuses JPEG")));
        }
        Ok(Jpeg { decoder })
    }

    /// Decodes one picture and shows it to `sink`. `false`: it is damaged, as pictures over USB now and then are.
    pub(super) fn decode(&mut self, picture: &[u8], sink: &mut dyn FnMut(Planes<'_>, Colour)) -> Result<bool> {
        // The decoder may keep the bytes beyond this call, and the camera's buffer goes back to it.
        let (got, pushed) = self.decoder.run(gst::Buffer::from_slice(picture.to_vec()));
        let Some(buffer) = got else {
            // A picture that cannot be read is a warning to the decoder until there were too many of them.
            return match (pushed, self.decoder.complaint()) {
                (Err(_), Some(e)) => Err(e),
                _ => Ok(false),
            };
        };
        let broken = || Error::new(Kind::Media, "decode a JPEG picture of the camera: the decoder gave no planes");
        let caps = self.decoder.caps().ok_or_else(broken)?;
        let (layout, colour) = door::read_caps(&caps)?;
        let info = gst_video::VideoInfo::from_caps(&caps).map_err(|_| broken())?;
        let frame = gst_video::VideoFrameRef::from_buffer_ref_readable(&buffer, &info).map_err(|_| broken())?;
        let plane = |i: u32| frame.plane_data(i).map_err(|_| broken());
        let stride = [0, 1, 2].map(|i| frame.plane_stride()[i] as usize);
        sink(Planes { layout, packing: Packing::Planar, data: [plane(0)?, plane(1)?, plane(2)?], stride }, colour);
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use gstreamer_app as gst_app;

    use super::*;
    use crate::frame::Layout;

    fn jpeg(layout: Layout, luma: u8, format: &str) -> Vec<u8> {
        let mut pixels = vec![128; layout.bytes()];
        pixels[layout.y()].fill(luma);
        door::init().unwrap();
        let convert = format!("videoconvert ! video/x-raw,format={format}");
        let line = format!("appsrc name=in ! {convert} ! jpegenc quality=95 ! appsink name=out sync=false");
        let pipeline = gst::parse::launch(&line).unwrap();
        let pipeline = pipeline.downcast::<gst::Pipeline>().unwrap();
        let entry = pipeline.by_name("in").unwrap().downcast::<gst_app::AppSrc>().unwrap();
        let exit = pipeline.by_name("out").unwrap().downcast::<gst_app::AppSink>().unwrap();
        entry.set_caps(Some(&door::caps(layout, Colour::default(), gst::Fraction::new(0, 1)).unwrap()));
        pipeline.set_state(gst::State::Playing).unwrap();
        entry.push_buffer(gst::Buffer::from_slice(pixels)).unwrap();
        let bytes = exit.pull_sample().unwrap().buffer().unwrap().map_readable().unwrap().to_vec();
        pipeline.set_state(gst::State::Null).unwrap();
        bytes
    }

    #[test]
    fn pictures_come_out_as_they_went_in_and_damaged_ones_do_not_stop_it() {
        let mut decoder = Jpeg::start().unwrap();
        let l = Layout::new(64, 48);
        for (luma, format) in [(40u8, "I420"), (200, "I420"), (232, "GRAY8"), (90, "Y444"), (16, "GRAY8")] {
            assert!(!decoder.decode(b"not a picture", &mut |_, _| panic!("there is none")).unwrap());
            let mut seen = None;
            assert!(
                decoder
                    .decode(&jpeg(l, luma, format), &mut |p, c| seen = Some((p.layout, (p.data[0][70], p.data[1][35]), c)))
                    .unwrap()
            );
            let (layout, (y, u), colour) = seen.unwrap();
            assert!(layout == l && y.abs_diff(luma) <= 1 && u.abs_diff(128) <= 1, "{format} {luma}: {y} {u}");
            assert_eq!(colour, Colour::default(), "{format}");
        }
    }
}
