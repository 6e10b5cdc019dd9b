//! Owns the choice of a pixel format and where its planes lie in a buffer. Pure.

use crate::error::{Error, Kind, Result};
use crate::frame::{Layout, Packing, Planes};

/// A format that this program takes, the best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    /// Three planes, as the ring has them: a plain copy.
    Yuv420,
    /// U and V by turns.
    Nv12,
    /// Y U Y V.
    Yuyv,
    /// JPEG pictures, which cost a decoder.
    Mjpeg,
}

impl Format {
    pub(super) const ALL: [Format; 4] = [Format::Yuv420, Format::Nv12, Format::Yuyv, Format::Mjpeg];

    /// The code that DRM and libcamera have for it.
    pub(super) const fn fourcc(self) -> u32 {
        u32::from_le_bytes(*match self {
            Format::Yuv420 => b"YU12",
            Format::Nv12 => b"NV12",
            Format::Yuyv => b"YUYV",
            Format::Mjpeg => b"MJPG",
        })
    }

    pub(super) fn of(fourcc: u32) -> Option<Format> {
        Format::ALL.into_iter().find(|f| f.fourcc() == fourcc)
    }
}

/// The best of the formats that can be had in the wanted size; where none can, the best of all: the camera then says which
/// size it makes of it.
pub(super) fn choose(offered: &[(u32, bool)]) -> Result<Format> {
    let best = |exact: bool| {
        Format::ALL.into_iter().find(|f| offered.iter().any(|(code, fits)| *code == f.fourcc() && (*fits || !exact)))
    };
    best(true).or_else(|| best(false)).ok_or_else(|| {
        let codes: Vec<String> =
            offered.iter().map(|(code, _)| String::from_utf8_lossy(&code.to_le_bytes()).into_owned()).collect();
        Error::new(
            Kind::Source,
            format!("ask the camera for pictures: it offers {}, and only YU12, NV12, YUYV and MJPG are taken", codes.join(", ")),
        )
    })
}

/// The planes of an uncompressed picture in a buffer whose parts are `parts`: one for each plane, or one with all planes
/// one after the other. `stride` is the first plane's (bytes). `None` when the buffer is too small for such a picture.
pub(super) fn planes<'a>(format: Format, layout: Layout, stride: usize, parts: &[&'a [u8]]) -> Option<Planes<'a>> {
    let (w, h) = (layout.width as usize, layout.height as usize);
    // Bytes across, stride and rows of each plane.
    let (packing, plan): (Packing, Plan) = match format {
        Format::Yuv420 => (Packing::Planar, [(w, stride, h), (w / 2, stride / 2, h / 2), (w / 2, stride / 2, h / 2)]),
        Format::Nv12 => (Packing::SemiPlanar, [(w, stride, h), (w, stride, h / 2), (0, 0, 0)]),
        Format::Yuyv => (Packing::Packed, [(2 * w, stride, h), (0, 0, 0), (0, 0, 0)]),
        Format::Mjpeg => return None,
    };
    let mut data: [&'a [u8]; 3] = [&[], &[], &[]];
    let mut next = 0;
    for (k, (across, pitch, rows)) in plan.into_iter().enumerate().filter(|(_, p)| p.2 > 0) {
        data[k] = if parts.len() == 1 { parts[0].get(next..)? } else { parts.get(k)? };
        next += pitch * rows;
        if pitch < across || data[k].len() < pitch * (rows - 1) + across {
            return None;
        }
    }
    Some(Planes { layout, packing, data, stride: plan.map(|p| p.1) })
}

/// Bytes across, bytes from row to row, and rows of each plane.
type Plan = [(usize, usize, usize); 3];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_format_in_the_right_size_is_taken() {
        let code = |f: Format| f.fourcc();
        let offered = [(code(Format::Yuyv), false), (code(Format::Mjpeg), true)];
        assert_eq!(choose(&offered).unwrap(), Format::Mjpeg);
        assert_eq!(choose(&offered[..1]).unwrap(), Format::Yuyv);
        assert_eq!(choose(&[(code(Format::Nv12), true), (code(Format::Yuv420), true)]).unwrap(), Format::Yuv420);
        let said = choose(&[(u32::from_le_bytes(*b"SRGG"), true)]).unwrap_err().what;
        assert!(said.contains("SRGG") && said.contains("YUYV"), "{said}");
        assert_eq!(Format::of(code(Format::Nv12)), Some(Format::Nv12));
    }

    /// As the Pi's ISP delivers: three planes, rows padded to 32 bytes and more.
    #[test]
    fn three_padded_planes_become_a_picture() {
        let (l, stride) = (Layout::new(10, 4), 64);
        let parts = [vec![1; stride * 4], vec![2; stride / 2 * 2], vec![3; stride / 2 * 2]];
        let [y, u, v] = [&parts[0][..], &parts[1], &parts[2]];
        let picture = planes(Format::Yuv420, l, stride, &[y, u, v]).unwrap();
        assert_eq!((picture.packing, picture.stride), (Packing::Planar, [64, 32, 32]));
        let mut slot = vec![0; l.bytes()];
        picture.copy_to(&mut slot);
        assert_eq!((slot[l.y_stride() + 9], slot[l.u()][4], slot[l.v()][l.c_stride() + 4]), (1, 2, 3));
        assert!(planes(Format::Yuv420, l, stride, &[y, u, &v[..30]]).is_none());
        assert!(planes(Format::Yuv420, l, stride, &[y, u]).is_none());
    }

    #[test]
    fn one_buffer_may_hold_all_planes() {
        let (l, stride) = (Layout::new(8, 4), 16);
        let whole: Vec<u8> = (0..stride * 6).map(|i| i as u8).collect();
        let p = planes(Format::Nv12, l, stride, &[&whole]).unwrap();
        assert_eq!((p.data[1][0], p.stride[1]), (64, 16));
        assert!(planes(Format::Nv12, l, stride, &[&whole[..16 * 5 + 4]]).is_none());
        let yuyv = planes(Format::Yuyv, l, 20, &[&whole]).unwrap();
        assert_eq!((yuyv.packing, yuyv.stride[0]), (Packing::Packed, 20));
        assert!(planes(Format::Yuyv, l, 12, &[&whole]).is_none());
    }
}
