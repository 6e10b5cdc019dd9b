//! Owns the pictures of a moment side by side, to look at.

use std::fs::File;
use std::path::Path;

use pastcam::stack::{Mode, Stacker};

use super::Plan;
use super::film::Film;
use super::moments::noisy;
use super::score::moving;

/// Luma of the clean frame, the noisy one, the mean, steady, and the moving part, below each other.
pub fn write(dir: &Path, plan: &Plan, film: &Film, (sigma, frames, step, at): (f64, usize, usize, usize)) {
    let (noisy, clean, reference) = noisy(plan, film, sigma, frames, step, at);
    let refs: Vec<&[u8]> = noisy.iter().map(Vec::as_slice).collect();
    let y = film.layout.y();
    let (mut stacker, mut out) = (Stacker::default(), vec![0; film.layout.bytes()]);
    let mut all = clean[reference][y.clone()].to_vec();
    all.extend(&refs[reference][y.clone()]);
    for mode in [Mode::Mean, Mode::Steady] {
        stacker.merge(mode, &refs, reference, film.layout, &mut out);
        all.extend(&out[y.clone()]);
    }
    all.extend(moving(&clean, reference, film.layout).into_iter().map(|m| if m { 255 } else { 0 }));
    let path = dir.join(format!("{}-sigma{sigma}-n{frames}-step{step}-at{at}.png", film.name.replace(':', "-")));
    let mut png = png::Encoder::new(
        File::create(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display())),
        film.layout.width,
        5 * film.layout.height,
    );
    png.set_color(png::ColorType::Grayscale);
    png.write_header().and_then(|mut w| w.write_image_data(&all)).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    println!("the worst moment: {}", path.display());
}
