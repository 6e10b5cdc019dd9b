//! What the modes make of small films whose truth is known.

use super::*;

/// Noise that is the same in every run.
struct Dice(u64);

impl Dice {
    fn uniform(&mut self) -> f32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        ((self.0 >> 40) as f32 + 0.5) / 16_777_216.0
    }
    /// Mean 0, deviation 1.
    fn normal(&mut self) -> f32 {
        (-2.0 * self.uniform().ln()).sqrt() * (std::f32::consts::TAU * self.uniform()).cos()
    }
    /// A frame with noise of this deviation in luma, and half of it in colour.
    fn noisy(&mut self, clean: &[u8], layout: Layout, sigma: f32) -> Vec<u8> {
        let of = |i: usize| if i < layout.y().end { sigma } else { sigma / 2.0 };
        clean.iter().enumerate().map(|(i, v)| (f32::from(*v) + of(i) * self.normal()).round().clamp(0.0, 255.0) as u8).collect()
    }
}

/// A still ground with structure of all sizes.
fn ground(layout: Layout) -> Vec<u8> {
    let mut frame = vec![128; layout.bytes()];
    for row in 0..layout.height as usize {
        for column in 0..layout.width as usize {
            let fine = if (row / 3 + column / 5) % 2 == 0 { 20 } else { 0 };
            frame[row * layout.y_stride() + column] = (70 + column * 90 / layout.width as usize + fine) as u8;
        }
    }
    frame
}

/// Paints a square of 24 columns, luma and U, at even places.
fn square(frame: &mut [u8], layout: Layout, (x, y): (usize, usize), luma: Option<u8>, u: u8) {
    for row in y..y + 24 {
        if let Some(luma) = luma {
            frame[row * layout.y_stride() + x..][..24].fill(luma);
        }
        frame[layout.u()][row / 2 * layout.c_stride() + x / 2..][..12].fill(u);
    }
}

/// Mean squared error of bytes `range`, of those that `counts`.
fn error(a: &[u8], truth: &[u8], counts: impl Fn(usize) -> bool) -> f64 {
    let pairs = a.iter().zip(truth).enumerate().filter(|(i, _)| counts(*i));
    let (sum, n) = pairs.fold((0.0, 0.0), |(s, n), (_, (a, b))| (s + (f64::from(*a) - f64::from(*b)).powi(2), n + 1.0));
    sum / n
}

fn merged(mode: Mode, frames: &[Vec<u8>], reference: usize, layout: Layout) -> (Vec<u8>, Stacked) {
    let frames: Vec<&[u8]> = frames.iter().map(Vec::as_slice).collect();
    let mut out = vec![0; layout.bytes()];
    let stacked = Stacker::default().merge(mode, &frames, reference, layout, &mut out);
    (out, stacked)
}

const SIZE: Layout = Layout::new(160, 120);

#[test]
fn what_rests_is_as_clean_as_with_the_mean() {
    for (n, sigma) in [(2, 4.0), (4, 6.0), (8, 3.0), (8, 12.0), (40, 6.0)] {
        let (clean, mut dice) = (ground(SIZE), Dice(7));
        let frames: Vec<Vec<u8>> = (0..n).map(|_| dice.noisy(&clean, SIZE, sigma)).collect();
        let (out, stacked) = merged(Mode::Steady, &frames, n / 2, SIZE);
        let left = error(&out, &clean, |i| i < SIZE.y().end).sqrt();
        // Rounding to whole codes adds 1/12.
        let best = (f64::from(sigma).powi(2) / n as f64 + 1.0 / 12.0).sqrt();
        assert!(left < 1.05 * best, "{n} frames of {sigma}: {left} of {best}");
        assert!(stacked.share > 0.97, "{stacked:?}");
        let chroma = error(&out, &clean, |i| i >= SIZE.y().end).sqrt();
        assert!(chroma < 1.1 * (f64::from(sigma / 2.0).powi(2) / n as f64 + 1.0 / 12.0).sqrt(), "{n} frames: chroma {chroma}");
    }
}

/// Frames in which a square moves 10 columns a frame, and what the frame of the middle is without noise.
fn film(n: usize, sigma: f32, luma: Option<u8>, u: u8) -> (Vec<Vec<u8>>, Vec<u8>) {
    let mut dice = Dice(3);
    let clean: Vec<Vec<u8>> = (0..n)
        .map(|k| {
            let mut frame = ground(SIZE);
            square(&mut frame, SIZE, (20 + 10 * k, 40), luma, u);
            frame
        })
        .collect();
    (clean.iter().map(|f| dice.noisy(f, SIZE, sigma)).collect(), clean[n / 2].clone())
}

/// Whether a byte of luma lies on the way of the square.
fn on_the_way(i: usize) -> bool {
    let (row, column) = (i / SIZE.y_stride(), i % SIZE.y_stride());
    i < SIZE.y().end && (36..68).contains(&row) && (16..130).contains(&column)
}

#[test]
fn what_moves_stays_sharp_and_the_moment_is_kept() {
    let (frames, truth) = film(8, 6.0, Some(200), 90);
    let [steady, mean, still] = [Mode::Steady, Mode::Mean, Mode::Still].map(|mode| merged(mode, &frames, 4, SIZE));
    let single = error(&frames[4], &truth, on_the_way);
    let [s, m] = [&steady, &mean].map(|(out, _)| error(out, &truth, on_the_way));
    assert!(s < 0.7 * single, "steady {s}, one frame {single}");
    assert!(m > 10.0 * single, "the mean smears: {m}");
    assert!(steady.1.share > 0.6 && steady.1.share < 0.97, "{:?}", steady.1);
    // The median has the empty ground.
    let empty = error(&still.0, &ground(SIZE), on_the_way);
    assert!(empty < single, "still {empty}");
    // In the square, which one frame of eight shows there, the reference is not voted away.
    let at = 52 * SIZE.y_stride() + 20 + 40 + 12;
    assert!(steady.0[at] > 180 && still.0[at] < 160, "{} {}", steady.0[at], still.0[at]);
}

#[test]
fn colour_alone_leaves_no_ghosts() {
    let (frames, truth) = film(8, 4.0, None, 170);
    let of_u = |i: usize| SIZE.u().contains(&i);
    let [steady, mean] = [Mode::Steady, Mode::Mean].map(|mode| error(&merged(mode, &frames, 4, SIZE).0, &truth, of_u));
    let single = error(&frames[4], &truth, of_u);
    assert!(steady < 0.5 * single && mean > 5.0 * single, "steady {steady}, mean {mean}, one frame {single}");
}

/// Noise that a camera took out of colour and left in luma, and colour at its ends: the largest deviations there are.
#[test]
fn the_strongest_colour_may_cross_a_colour_without_noise() {
    let mut dice = Dice(13);
    let clean: Vec<Vec<u8>> = (0..8)
        .map(|k| {
            let mut frame = ground(SIZE);
            square(&mut frame, SIZE, (20 + 10 * k, 40), None, 128 - 120);
            for row in 20..32 {
                frame[SIZE.v()][row * SIZE.c_stride() + 10 + 5 * k..][..12].fill(128 + 120);
            }
            frame
        })
        .collect();
    let frames: Vec<Vec<u8>> = clean
        .iter()
        .map(|f| {
            let mut taken = dice.noisy(f, SIZE, 20.0);
            taken[SIZE.y().end..].copy_from_slice(&f[SIZE.y().end..]);
            taken
        })
        .collect();
    let (out, stacked) = merged(Mode::Steady, &frames, 4, SIZE);
    let colour = error(&out, &clean[4], |i| i >= SIZE.y().end);
    let [luma, single] = [&out, &frames[4]].map(|f| error(f, &clean[4], |i| i < SIZE.y().end));
    assert!(colour < 1.0 && luma < 0.5 * single, "colour {colour}, luma {luma}, one frame {single}: {stacked:?}");
}

#[test]
fn a_change_of_light_is_no_motion() {
    let (clean, mut dice) = (ground(SIZE), Dice(11));
    let lit = |v: &u8| (f32::from(*v) * 1.1).round().min(255.0) as u8;
    let brighter: Vec<u8> = clean[SIZE.y()].iter().map(lit).chain(clean[SIZE.y().end..].iter().copied()).collect();
    for step in 1..8 {
        let frames: Vec<Vec<u8>> = (0..8).map(|k| dice.noisy(if k < step { &clean } else { &brighter }, SIZE, 4.0)).collect();
        for (reference, truth) in [(0, &clean), (7, &brighter)] {
            let (out, stacked) = merged(Mode::Steady, &frames, reference, SIZE);
            let left = error(&out, truth, |i| i < SIZE.y().end);
            assert!(left < 16.0 / 4.0, "step before {step}, reference {reference}: {left} of 16");
            assert!(stacked.share > 0.7, "step before {step}, reference {reference}: {stacked:?}");
        }
    }
}

#[test]
fn any_size_and_number_of_frames_is_taken() {
    for (width, height) in [(2, 2), (4, 2), (6, 10), (16, 8), (18, 34), (66, 30)] {
        let layout = Layout::new(width, height);
        let mut dice = Dice(5);
        for n in [1, 2, 3, 7, 64, 256] {
            let frames: Vec<Vec<u8>> = (0..n).map(|_| dice.noisy(&vec![100; layout.bytes()], layout, 5.0)).collect();
            for mode in Mode::ALL {
                let (out, stacked) = merged(mode, &frames, n - 1, layout);
                assert_eq!((stacked.mode, stacked.frames), (mode, n));
                let planes = crate::frame::Planes::of(layout, &out);
                let y = planes.data[0].chunks(planes.stride[0]).flat_map(|row| &row[..width as usize]);
                assert!(y.into_iter().all(|v| v.abs_diff(100) < 25), "{width}x{height}, {n} frames, {mode:?}");
            }
        }
    }
    // White and black stay what they are, and frames that are all the same too.
    for value in [0u8, 1, 254, 255] {
        let frames = vec![vec![value; SIZE.bytes()]; 8];
        for mode in Mode::ALL {
            let (out, stacked) = merged(mode, &frames, 3, SIZE);
            assert!(out.iter().all(|v| *v == value) && stacked.share > 0.999, "{value} {stacked:?}");
        }
    }
}

#[test]
fn a_scene_that_turns_is_not_taken_for_noise() {
    // Blotches of a few samples, the same all over, seen from another direction in each frame.
    let wide = 2 * SIZE.width as usize;
    let mut dice = Dice(21);
    let mut plane: Vec<f32> = (0..wide * wide).map(|_| dice.normal()).collect();
    for _ in 0..4 {
        for step in [1, wide] {
            let before = plane.clone();
            let at = |i: usize| before[i % before.len()];
            for (i, value) in plane.iter_mut().enumerate() {
                *value = (at(i + before.len() - step) + 2.0 * at(i) + at(i + step)) / 4.0;
            }
        }
    }
    let spread = (plane.iter().map(|v| v * v).sum::<f32>() / plane.len() as f32).sqrt();
    let clean: Vec<Vec<u8>> = (0..8)
        .map(|k| {
            let mut frame = vec![128; SIZE.bytes()];
            for (row, line) in frame[SIZE.y()].chunks_exact_mut(SIZE.y_stride()).enumerate() {
                for (column, value) in line.iter_mut().enumerate() {
                    *value = (120.0 + 20.0 * plane[(row + 2 * k) * wide + column + 7 * k] / spread) as u8;
                }
            }
            frame
        })
        .collect();
    let frames: Vec<Vec<u8>> = clean.iter().map(|f| dice.noisy(f, SIZE, 3.0)).collect();
    let (out, stacked) = merged(Mode::Steady, &frames, 4, SIZE);
    let luma = |i: usize| i < SIZE.y().end;
    let [steady, single] = [&out, &frames[4]].map(|picture| error(picture, &clean[4], luma));
    assert!(steady < 1.03 * single, "steady {steady}, one frame {single}, {stacked:?}");
}

#[test]
fn noise_that_neighbours_share_is_noise() {
    let (clean, mut dice) = (ground(SIZE), Dice(5));
    let stride = SIZE.y_stride();
    let frames: Vec<Vec<u8>> = (0..8)
        .map(|_| {
            let fine: Vec<f32> = (0..SIZE.y().end).map(|_| dice.normal()).collect();
            let mut frame = clean.clone();
            for i in stride + 1..SIZE.y().end - stride - 1 {
                let near = [1, stride].map(|step| fine[i - step] + fine[i + step]).iter().sum::<f32>();
                let corners = [stride - 1, stride + 1].map(|step| fine[i - step] + fine[i + step]).iter().sum::<f32>();
                frame[i] = (f32::from(frame[i]) + 2.0 * (fine[i] + near / 1.5 + corners / 2.0)).round() as u8;
            }
            frame
        })
        .collect();
    let (out, stacked) = merged(Mode::Steady, &frames, 4, SIZE);
    let luma = |i: usize| i < SIZE.y().end;
    let [steady, single] = [&out, &frames[4]].map(|picture| error(picture, &clean, luma));
    assert!(steady < 0.3 * single && stacked.share > 0.7, "steady {steady}, one frame {single}, {stacked:?}");
}
