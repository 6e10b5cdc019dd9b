//! Owns the way of a picture's rows into a file of RGB, in bands of a bounded size. Opens no file, keeps no picture. The caller's
//! thread.

use std::io;

use super::super::colour::{Order, ToRgb};
use crate::frame::{Colour, Planes};

/// Bytes converted at a time when a picture is streamed.
pub(super) const BAND: usize = 64 << 10;

/// Whole rows of about [`BAND`] bytes, at least one.
fn band(planes: &Planes<'_>) -> Vec<u8> {
    let row = planes.layout.width as usize * 3;
    vec![0; row * (BAND / row).max(1)]
}

/// Hands the picture to `take` as rows of three bytes a pixel, in bands.
pub(super) fn each_band(
    planes: &Planes<'_>,
    colour: Colour,
    order: Order,
    mut take: impl FnMut(&[u8]) -> io::Result<()>,
) -> io::Result<()> {
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
