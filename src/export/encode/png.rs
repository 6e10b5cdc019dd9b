//! Owns PNG files as a stream of bytes. Opens no file, keeps no picture. The caller's thread.

use std::io::{self, Write};

use super::super::colour::Order;
use super::exif::{self, Inside};
use super::raster::{BAND, each_band};
use super::{Encoders, Shot, Trouble};
use crate::frame::{Colour, Planes};

/// The I/O error inside, so that a full disk is still known as one.
fn unwrap_io(e: png::EncodingError) -> io::Error {
    match e {
        png::EncodingError::IoError(e) => e,
        other => io::Error::other(other),
    }
}

/// Gathers compressed bytes into image data chunks of [`BAND`] bytes.
struct Chunks<'a, W: Write> {
    writer: &'a mut png::Writer<W>,
    waiting: Vec<u8>,
}

impl<W: Write> Chunks<'_, W> {
    fn send(&mut self) -> io::Result<()> {
        self.writer.write_chunk(png::chunk::IDAT, &self.waiting).map_err(unwrap_io)?;
        self.waiting.clear();
        Ok(())
    }
}

impl<W: Write> Write for Chunks<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.waiting.extend_from_slice(bytes);
        if self.waiting.len() >= BAND {
            self.send()?;
        }
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// PNG's filter type 4.
const PAETH: u8 = 4;
/// Bytes of a pixel.
const RGB: usize = 3;

/// `out` = each byte of `line` less the one of its neighbours (left, above, above left) that is nearest to left + above −
/// above left; PNG specification 9.4. On frames of a real film files come out a fifth to a quarter smaller than with plain differences.
fn paeth(line: &[u8], above: &[u8], out: &mut [u8]) {
    for ((out, p), up) in out.iter_mut().zip(line).zip(above).take(RGB) {
        *out = p.wrapping_sub(*up);
    }
    // Four slices of one length and no branches: the compiler does several bytes at a time.
    let n = line.len() - RGB;
    let (here, left, up, corner) = (&line[RGB..], &line[..n], &above[RGB..], &above[..n]);
    for ((((out, p), a), b), c) in out[RGB..].iter_mut().zip(here).zip(left).zip(up).zip(corner) {
        let [wa, wb, wc] = [*a, *b, *c].map(i16::from);
        let (da, db) = (wb - wc, wa - wc);
        let (pa, pb, pc) = (da.abs(), db.abs(), (da + db).abs());
        let not_left = if pb <= pc { *b } else { *c };
        let nearest = if pa <= pb && pa <= pc { *a } else { not_left };
        *out = p.wrapping_sub(nearest);
    }
}

/// PNG, 8-bit RGB. An encoder's complaint comes back as an I/O error: a correct call meets none but those of `to`.
///
/// The png crate compresses a picture in one piece, with the picture and its file twice over in memory, or by rows at a
/// quarter more time. Filtering here and handing the rows to its own compressor gives the speed of the one and the memory
/// of the other.
pub(super) fn write(_: &mut Encoders, shot: &Shot<'_>, to: &mut dyn Write) -> Result<(), Trouble> {
    Ok(stream(&shot.picture.planes()?, shot.picture.meta.colour, exif::block(shot, Inside::Png)?, to)?)
}

fn stream(planes: &Planes<'_>, colour: Colour, exif: Vec<u8>, to: &mut dyn Write) -> io::Result<()> {
    let (w, h) = (planes.layout.width, planes.layout.height);
    let mut info = png::Info::with_size(w, h);
    info.exif_metadata = Some(exif.into());
    let mut encoder = png::Encoder::with_info(to, info).map_err(unwrap_io)?;
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    let mut writer = encoder.write_header().map_err(unwrap_io)?;
    let row = w as usize * RGB;
    let (mut above, mut filtered) = (vec![0; row], vec![PAETH; 1 + row]);
    let chunks = Chunks { writer: &mut writer, waiting: Vec::with_capacity(2 * BAND) };
    let mut deflate = fdeflate::Compressor::new(chunks)?;
    each_band(planes, colour, Order::Rgb, |band| {
        for line in band.chunks_exact(row) {
            paeth(line, &above, &mut filtered[1..]);
            above.copy_from_slice(line);
            deflate.write_data(&filtered)?;
        }
        Ok(())
    })?;
    deflate.finish()?.send()?;
    writer.finish().map_err(unwrap_io)
}

#[cfg(test)]
mod tests {
    use super::super::super::colour::ToRgb;
    use super::super::super::tests::noise;
    use super::*;
    use crate::frame::Layout;

    fn decode(file: &[u8]) -> (u32, u32, Vec<u8>) {
        let mut reader = png::Decoder::new(io::Cursor::new(file)).read_info().unwrap();
        let mut out = vec![0; reader.output_buffer_size().unwrap()];
        let info = reader.next_frame(&mut out).unwrap();
        assert_eq!((info.color_type, info.bit_depth), (png::ColorType::Rgb, png::BitDepth::Eight));
        (info.width, info.height, out)
    }

    #[test]
    fn png_is_lossless_whatever_the_bands() {
        // The bands of the last do not divide its height.
        for (w, h) in [(6, 4), (640, 360), (1022, 766), (1300, 1082)] {
            let l = Layout::new(w, h);
            let (px, mut rgb, mut file) = (noise(l), vec![0; (w * h * 3) as usize], Vec::new());
            let planes = Planes::of(l, &px);
            stream(&planes, Colour::default(), vec![1, 2, 3], &mut file).unwrap();
            ToRgb::new(Colour::default()).rows(&planes, 0, Order::Rgb, &mut rgb);
            assert!(decode(&file) == (w, h, rgb), "{w}x{h}");
        }
    }
}
