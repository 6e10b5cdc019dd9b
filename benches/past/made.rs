//! Owns films made by rules that are hard on an average of frames.

use pastcam::frame::Layout;

/// Their size.
pub const LAYOUT: Layout = Layout::new(320, 240);

/// Columns between the heads of the walkers, and how far they go from frame to frame.
const WALK: (f64, f64) = (160.0, 12.0);

/// Smooth clouds with fine grain, from -1 to 1, that stay where they are: the same place has the same value in every frame.
fn texture(x: f64, y: f64) -> f64 {
    let lattice = |column: f64, row: f64| {
        let mut h =
            (column as i64 as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ (row as i64 as u64).wrapping_mul(0xC2B2_AE3D_27D4_EB4F);
        h = (h ^ (h >> 29)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        (h >> 40) as f64 / f64::from(1 << 23) - 1.0
    };
    let smooth = |t: f64| t * t * (3.0 - 2.0 * t);
    [(32.0, 0.5), (8.0, 0.3), (2.5, 0.2)].iter().fold(0.0, |sum, (scale, share)| {
        let (x, y) = (x / scale, y / scale);
        let (column, row) = (x.floor(), y.floor());
        let (across, down) = (smooth(x - column), smooth(y - row));
        let along = |row: f64| lattice(column, row) * (1.0 - across) + lattice(column + 1.0, row) * across;
        sum + share * (along(row) * (1.0 - down) + along(row + 1.0) * down)
    })
}

/// Luma of the ground, chroma of it.
fn ground(x: f64, y: f64) -> [f64; 3] {
    [120.0 + 50.0 * texture(x, y), 128.0 + 12.0 * texture(x / 4.0, y / 4.0), 128.0]
}

/// The first frames of the film by this rule: I420 as [`LAYOUT`] places it, without noise.
///
/// `ground`: nothing moves. `walk`: two dark figures cross at 12 pixels a frame. `dim`: soft discs that differ from their ground by
/// 4 to 16 code values cross at 3 pixels a frame. `tint`: discs that differ by their colour alone cross at 4 pixels a frame. `thin`: lines of one pixel, dark, bright and faint, sweep at 2 pixels a frame.
/// `pan`: all moves by 0.7 pixels a frame. `leaf`: every place sways by up to a pixel in its own time. `fade`: light that rises by
/// 1 % a frame.
pub fn frames(rule: &str, count: usize) -> Vec<Vec<u8>> {
    let (w, h) = (LAYOUT.width as usize, LAYOUT.height as usize);
    let rest: Vec<[f64; 3]> = (0..w * h).map(|i| ground((i % w) as f64, (i / w) as f64)).collect();
    let still = |x: usize, y: usize| rest[y * w + x];
    let frame = |t: f64| {
        let place = |x: usize, y: usize| -> [f64; 3] {
            let (across, down) = (x as f64, y as f64);
            match rule {
                "ground" => still(x, y),
                "walk" => {
                    let away = (across + WALK.1 * t) % WALK.0;
                    let covered = away < 24.0 && (70.0..190.0).contains(&down);
                    if covered { [45.0 + 20.0 * texture(away, down), 150.0, 110.0] } else { still(x, y) }
                }
                "dim" => (0..4).fold(still(x, y), |[luma, blue, red], k| {
                    let k = f64::from(k);
                    let away = ((across - (3.0 * t + 70.0 * k) % 320.0).powi(2) + (down - 30.0 - 60.0 * k).powi(2)).sqrt();
                    let cover = ((24.0 - away) / 4.0).clamp(0.0, 1.0);
                    [luma + 4.0 * (k + 1.0) * cover, blue + 3.0 * (k + 1.0) * cover, red]
                }),
                "tint" => {
                    let [luma, blue, red] = still(x, y);
                    let inside = |at: f64, row: f64| (across - (at + 4.0 * t) % 320.0).hypot(down - row) < 24.0;
                    if inside(40.0, 60.0) || inside(180.0, 160.0) { [luma, blue - 30.0, red + 25.0] } else { [luma, blue, red] }
                }
                "thin" => {
                    [(40.0, -60.0), (140.0, 60.0), (240.0, 15.0)].iter().fold(still(x, y), |[luma, blue, red], (at, by)| {
                        let away = (across - (at + 2.0 * t + down / 8.0) % 320.0).abs();
                        [luma + by * (1.0 - away).max(0.0), blue, red]
                    })
                }
                "pan" => ground(across + 0.7 * t, down + 0.2 * t),
                "leaf" => {
                    let phase = 6.0 * texture(across / 20.0, down / 20.0);
                    ground(across + (t * 0.9 + phase).sin(), down + 0.5 * (t * 0.7 + phase).cos())
                }
                "fade" => {
                    let [luma, blue, red] = still(x, y);
                    [luma * (1.0 + 0.01 * t), blue, red]
                }
                other => panic!("made:{other} is none of ground, walk, dim, tint, thin, pan, leaf, fade"),
            }
        };
        let byte = |v: f64| v.round().clamp(0.0, 255.0) as u8;
        let mut pixels: Vec<u8> = (0..w * h).map(|i| byte(place(i % w, i / w)[0])).collect();
        for plane in 1..3 {
            pixels.extend((0..w * h / 4).map(|i| byte(place(i % (w / 2) * 2, i / (w / 2) * 2)[plane])));
        }
        pixels
    };
    (0..count).map(|t| frame(t as f64)).collect()
}
