//! Owns the two lossless files, PNG and NPY, as streams of bytes. Opens no file, keeps no picture. The caller's thread.

use std::io::{self, Write};

use super::colour::{Order, ToRgb};
use crate::frame::{Colour, Planes};

/// Bytes converted at a time when a picture is streamed.
const BAND: usize = 64 << 10;

/// Whole rows of about [`BAND`] bytes, at least one.
fn band(planes: &Planes<'_>) -> Vec<u8> {
    let row = planes.layout.width as usize * 3;
    vec![0; row * (BAND / row).max(1)]
}

/// Hands the picture to `take` as rows of three bytes a pixel, in bands.
fn each_band(planes: &Planes<'_>, colour: Colour, order: Order, mut take: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
    let (convert, row, height) = (ToRgb::new(colour), planes.layout.width as usize * 3, planes.layout.height as usize);
    let mut buffer = band(planes);
    let step = buffer.len() / row;
    for first in (0..height).step_by(step) {
        let rows = &mut buffer[..step.min(height - first) * row];
        convert.rows(planes, first, order, rows);
        take(rows)?;
    }
    Ok(())
}

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
pub fn png(planes: &Planes<'_>, colour: Colour, to: &mut impl Write) -> io::Result<()> {
    let (w, h) = (planes.layout.width, planes.layout.height);
    let mut encoder = png::Encoder::new(to, w, h);
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

/// NPY format 1.0, `uint8`, C order, `(H, W, 3)`, B, G, R: what `numpy.save` makes of an `OpenCV` picture.
pub fn npy(planes: &Planes<'_>, colour: Colour, to: &mut impl Write) -> io::Result<()> {
    to.write_all(&npy_header(planes.layout.width, planes.layout.height))?;
    each_band(planes, colour, Order::Bgr, |band| to.write_all(band))
}

/// Magic, version, length and the dictionary; blanks and a newline fill it up to a multiple of 64 (NEP 1, `numpy.lib.format`).
fn npy_header(width: u32, height: u32) -> Vec<u8> {
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
    use super::*;
    use crate::frame::Layout;

    fn noise(l: Layout) -> Vec<u8> {
        (0..l.bytes() as u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
    }

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
            png(&planes, Colour::default(), &mut file).unwrap();
            ToRgb::new(Colour::default()).rows(&planes, 0, Order::Rgb, &mut rgb);
            assert!(decode(&file) == (w, h, rgb), "{w}x{h}");
        }
    }

    #[test]
    fn the_npy_header_is_numpy_s() {
        // Byte for byte what numpy 2.4.6 writes for np.zeros((768, 1024, 3), 'u1'): 128 bytes in all.
        let mut want = b"\x93NUMPY\x01\x00\x76\x00{'descr': '|u1', 'fortran_order': False, 'shape': (768, 1024, 3), }".to_vec();
        want.resize(127, b' ');
        want.push(b'\n');
        assert_eq!(npy_header(1024, 768), want);
    }

    #[test]
    fn npy_holds_every_row_blue_first() {
        let l = Layout::new(1022, 766);
        let (px, mut file) = (noise(l), Vec::new());
        npy(&Planes::of(l, &px), Colour::default(), &mut file).unwrap();
        let mut bgr = vec![0; 1022 * 766 * 3];
        ToRgb::new(Colour::default()).rows(&Planes::of(l, &px), 0, Order::Bgr, &mut bgr);
        assert!(file[128..] == bgr[..]);
    }
}
