//! Owns NPY files as a stream of bytes. Opens no file, keeps no picture. The caller's thread.

use std::io::Write;

use super::super::colour::Order;
use super::raster::each_band;
use super::{Encoders, Shot, Trouble};

/// NPY format 1.0, `uint8`, C order, `(H, W, 3)`, B, G, R: what `numpy.save` makes of an `OpenCV` picture.
pub(super) fn write(_: &mut Encoders, shot: &Shot<'_>, to: &mut dyn Write) -> Result<(), Trouble> {
    let planes = shot.picture.planes()?;
    to.write_all(&header(planes.layout.width, planes.layout.height))?;
    Ok(each_band(&planes, shot.picture.meta.colour, Order::Bgr, |band| to.write_all(band))?)
}

/// Magic, version, length and the dictionary; blanks and a newline fill it up to a multiple of 64 (NEP 1, `numpy.lib.format`).
fn header(width: u32, height: u32) -> Vec<u8> {
    const FIXED: usize = 10;
    let mut dict = format!("{{'descr': '|u1', 'fortran_order': False, 'shape': ({height}, {width}, 3), }}");
    let length = (FIXED + dict.len() + 1).next_multiple_of(64) - FIXED;
    while dict.len() < length - 1 {
        dict.push(' ');
    }
    dict.push('\n');
    let mut out = b"\x93NUMPY\x01\x00".to_vec();
    out.extend((length as u16).to_le_bytes());
    out.extend(dict.as_bytes());
    out
}

#[cfg(test)]
mod tests {
    use super::super::super::Label;
    use super::super::super::colour::ToRgb;
    use super::super::super::tests::{noise, picture};
    use super::super::super::{Picture, Pixels};
    use super::*;
    use crate::frame::{Colour, Layout, Planes};

    #[test]
    fn the_npy_header_is_numpy_s() {
        // Byte for byte what numpy 2.4.6 writes for np.zeros((768, 1024, 3), 'u1'): 128 bytes in all.
        let mut want = b"\x93NUMPY\x01\x00\x76\x00{'descr': '|u1', 'fortran_order': False, 'shape': (768, 1024, 3), }".to_vec();
        want.resize(127, b' ');
        want.push(b'\n');
        assert_eq!(header(1024, 768), want);
    }

    #[test]
    fn npy_holds_every_row_blue_first() {
        let l = Layout::new(1022, 766);
        let (px, mut file) = (noise(l), Vec::new());
        let picture = Picture { pixels: Pixels::new(px.clone()), ..picture(l) };
        write(&mut Encoders::new(), &Shot { picture: &picture, quality: 95, tag: None, label: &Label::default() }, &mut file)
            .unwrap();
        let mut bgr = vec![0; 1022 * 766 * 3];
        ToRgb::new(Colour::default()).rows(&Planes::of(l, &px), 0, Order::Bgr, &mut bgr);
        assert!(file[128..] == bgr[..]);
    }
}
