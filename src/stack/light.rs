//! Owns what a change of light makes of a whole frame: a lamp, a cloud. Finds the curve from a frame's luma to the reference's, so
//! that a frame in another light still counts where nothing moved. Pure arithmetic; export threads.

use super::noise::{self, LEVELS, Noise};
use crate::frame::Layout;

/// Brightness is told apart in so many classes.
const CLASSES: usize = 16;
/// Fewest tiles that tell something about a class.
const FEW: usize = 5;
/// The mean of a tile of 64 samples differs by so many times the mean difference of a sample in one frame of a thousand or so:
/// 3.3 / 0.80 / √64.
const FAR: f32 = 0.52;
/// And by so much without any noise: rounding, and what no eye sees (code values).
const NEAR: f32 = 0.5;
/// Largest change of light that is believed; beyond, the noise of the frame would be another one too.
const MOST: f32 = 1.5;
/// In what is dark a change is believed up to here (code values), however large it is beside the brightness.
const DARK: f32 = 12.0;

/// From a frame's luma to what the reference would have there.
pub type Curve = [u8; 256];

/// Kept from call to call.
#[derive(Debug, Default)]
pub struct Scratch {
    reference: Vec<f32>,
    frame: Vec<f32>,
    spots: Vec<Spot>,
    values: Vec<f32>,
}

/// A tile of the reference and of another frame: their mean luma.
#[derive(Debug, Clone, Copy)]
struct Spot {
    reference: f32,
    frame: f32,
}

/// The curve of each frame that needs one.
pub fn curves(s: &mut Scratch, frames: &[&[u8]], reference: usize, noise: &Noise, layout: Layout, out: &mut Vec<Option<Curve>>) {
    out.clear();
    noise::means(frames[reference], layout, &mut s.reference);
    for (index, frame) in frames.iter().enumerate() {
        out.push(if index == reference {
            None
        } else {
            noise::means(frame, layout, &mut s.frame);
            s.spots.clear();
            s.spots.extend(s.reference.iter().zip(&s.frame).map(|(r, f)| Spot { reference: *r, frame: *f }));
            curve(&s.spots, &mut s.values, noise)
        });
    }
}

/// The curve of one frame, or `None` where its light is the reference's, or where most of it moved and nothing can be told.
/// `spots`: tiles of the reference with what the frame has there.
fn curve(spots: &[Spot], values: &mut Vec<f32>, noise: &Noise) -> Option<Curve> {
    let near = |spot: &Spot, by: f32| {
        let level = (spot.reference * LEVELS as f32 / 256.0) as usize % LEVELS;
        (spot.frame - spot.reference - by).abs() <= FAR * noise.luma[level] + NEAR
    };
    let (half, same) = (spots.len() / 2, spots.iter().filter(|spot| near(spot, 0.0)).count());
    if same >= half {
        return None;
    }
    // The median of each class of brightness: (brightness, difference).
    let mut steps: [Option<(f32, f32)>; CLASSES] = [None; CLASSES];
    for (class, step) in steps.iter_mut().enumerate() {
        let own = |spot: &&Spot| (spot.reference * CLASSES as f32 / 256.0) as usize == class;
        let mut median = |of: fn(&Spot) -> f32| {
            values.clear();
            values.extend(spots.iter().filter(own).map(of));
            let middle = values.len() / 2;
            (values.len() >= FEW).then(|| *values.select_nth_unstable_by(middle, f32::total_cmp).1)
        };
        *step = median(|spot| spot.reference).zip(median(|spot| spot.frame - spot.reference));
    }
    let known = || steps.iter().flatten().copied();
    let by = |brightness: f32| {
        let below = known().take_while(|(at, _)| *at <= brightness).last();
        let above = known().find(|(at, _)| *at > brightness);
        match (below, above) {
            (Some((a, by_a)), Some((b, by_b))) => by_a + (by_b - by_a) * (brightness - a) / (b - a),
            // Towards black a change of light becomes nothing, towards white it goes on.
            (None, Some((b, by_b))) => by_b * (brightness / b.max(1.0)),
            (Some((_, by)), None) => by,
            (None, None) => 0.0,
        }
    };
    let fits = |spot: &&Spot| near(spot, by(spot.reference));
    let believed = known().all(|(at, by)| by.abs() < DARK || ((at + by) / at < MOST && (at + by) / at > 1.0 / MOST));
    // Twice as many as without: where things move, a curve through their middle fits a few more by chance.
    if !believed || spots.iter().filter(fits).count() < half.max(2 * same) {
        return None;
    }
    // `by` goes from the reference to the frame: the way back is searched upwards, and never falls.
    let (mut reference, mut curve) = (0.0f32, [0; 256]);
    for (value, out) in curve.iter_mut().enumerate() {
        while reference < 255.0 && reference + 0.25 + by(reference + 0.25) <= value as f32 {
            reference += 0.25;
        }
        *out = reference.round() as u8;
    }
    Some(curve)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOISE: Noise = Noise { luma: [3.4; LEVELS], colour: [3.0; LEVELS], coarse: false };

    fn spots(frame: impl Fn(usize, f32) -> f32) -> Vec<Spot> {
        let reference = |k: usize| 20.0 + (k * 37 % 200) as f32;
        (0..600).map(|k| Spot { reference: reference(k), frame: frame(k, reference(k)) }).collect()
    }

    #[test]
    fn a_change_of_light_is_found_and_undone() {
        let curve = curve(&spots(|_, v| v * 1.1), &mut Vec::new(), &NOISE).unwrap();
        for v in [30u8, 80, 150, 200] {
            let lit = (f32::from(v) * 1.1).round() as usize;
            assert!(curve[lit].abs_diff(v) <= 1, "{v} became {lit} and {}", curve[lit]);
        }
        assert!(curve.is_sorted());
        // A third of the picture moves meanwhile.
        let moving = spots(|k, v| if k % 3 == 0 { (k * 91 % 256) as f32 } else { v - 9.0 });
        let curve = super::curve(&moving, &mut Vec::new(), &NOISE).unwrap();
        assert!(curve[91].abs_diff(100) <= 1, "{}", curve[91]);
    }

    #[test]
    fn what_only_moves_has_no_other_light() {
        let curve = |spots: &[Spot]| super::curve(spots, &mut Vec::new(), &NOISE);
        assert!(curve(&spots(|_, v| v + 0.4)).is_none(), "the same light");
        assert!(curve(&spots(|k, _| (k * 91 % 256) as f32)).is_none(), "everything moved");
        assert!(curve(&spots(|k, v| if k % 3 == 0 { v + 60.0 } else { v })).is_none(), "a third moved");
        assert!(curve(&spots(|_, v| v * 2.0)).is_none(), "noise would be another");
    }
}
