//! Owns the choice of frames around a moment. Looks at what is known of frames, never at pixels. Any thread.

use std::ops::Range;
use std::time::Duration;

use crate::clock::BootUs;
use crate::frame::{Exposure, FrameMeta};
use crate::ring::Metas;

use super::MAX;

/// Whether two frames may meet in one average: same size, same colour, same light, same mode.
fn alike(a: &FrameMeta, b: &FrameMeta) -> bool {
    a.layout == b.layout && a.colour == b.colour && a.night == b.night && Exposure::same_light(a.exposure, b.exposure)
}

/// The run of at most `count` frames nearest to `target`, never across a change of size, colour or light.
///
/// The frame nearest to `target` is always in; the run then grows towards whichever neighbour is nearer in time.
pub fn centred(frames: &Metas<'_>, target: BootUs, count: usize) -> Range<usize> {
    if frames.is_empty() || count == 0 {
        return 0..0;
    }
    let away = |i: usize| (frames.get(i).boot - target).unsigned_abs();
    let after = first(frames, |m| m.boot >= target);
    let centre = match after {
        n if n == frames.len() => n - 1,
        0 => 0,
        n if away(n - 1) <= away(n) => n - 1,
        n => n,
    };
    let like = frames.get(centre);
    let (mut from, mut to) = (centre, centre + 1);
    while to - from < count.min(MAX) {
        let before = from.checked_sub(1).filter(|i| alike(frames.get(*i), like));
        let behind = Some(to).filter(|i| *i < frames.len() && alike(frames.get(*i), like));
        match (before, behind) {
            (Some(b), Some(a)) if away(b) <= away(a) => from = b,
            (_, Some(a)) => to = a + 1,
            (Some(b), None) => from = b,
            (None, None) => break,
        }
    }
    from..to
}

/// All frames from `before` ahead of `until` up to `until`.
pub fn window(frames: &Metas<'_>, until: BootUs, before: Duration) -> Range<usize> {
    let from = first(frames, |m| m.boot >= until.back(before));
    let to = first(frames, |m| m.boot > until);
    from..to.max(from)
}

/// The first index from which on `is` holds; the number of frames where it never does.
fn first(frames: &Metas<'_>, is: impl Fn(&FrameMeta) -> bool) -> usize {
    let (mut lo, mut hi) = (0, frames.len());
    while lo < hi {
        let mid = lo + (hi - lo) / 2;
        if is(frames.get(mid)) { hi = mid } else { lo = mid + 1 }
    }
    lo
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::WallUs;
    use crate::frame::{Ae, Colour, Layout};
    use crate::ring::Ring;

    /// A ring of frames at these times (ms) with these exposures (ms).
    fn ring(frames: &[(u64, f64)]) -> Ring {
        let layout = Layout::new(16, 16);
        let ring = Ring::anonymous(layout.bytes(), frames.len(), false).unwrap();
        ring.populate(false).unwrap();
        for (id, (t, exposure)) in frames.iter().enumerate() {
            let mut slot = ring.take().unwrap();
            slot.pixels().fill(id as u8);
            let exposure = Some(Exposure { time_us: exposure * 1e3, analogue_gain: 1.0, digital_gain: 1.0 });
            let (boot, wall) = (BootUs(t * 1000), WallUs(0));
            slot.publish(FrameMeta {
                id: id as u64,
                boot,
                wall,
                layout,
                colour: Colour::default(),
                exposure,
                ae: Ae::Off,
                lux: None,
                colour_temperature: None,
                focus: None,
                night: false,
                drawn: false,
            })
            .unwrap();
        }
        ring
    }

    fn chosen(frames: &[(u64, f64)], target_ms: u64, count: usize) -> Range<usize> {
        ring(frames).look(|m| centred(m, BootUs(target_ms * 1000), count))
    }

    #[test]
    fn frames_are_chosen_around_the_moment_by_time() {
        let steady: Vec<_> = (0..50).map(|i| (i * 100, 10.0)).collect();
        assert_eq!(chosen(&steady, 2040, 4), 19..23);
        assert_eq!(chosen(&steady, 2000, 5), 18..23);
        assert_eq!(chosen(&steady, 2051, 1), 21..22);
        // A moment outside the ring: what is nearest.
        assert_eq!(chosen(&steady, 90_000, 3), 47..50);
        assert_eq!(chosen(&steady[7..], 0, 3), 0..3);
        assert_eq!(chosen(&steady[..2], 100, 8), 0..2);
        // Night frames are 2 s apart: five seconds ago is two frames ago, not fifty.
        let night: Vec<_> = (0..20).map(|i| (i * 2000, 10.0)).collect();
        assert_eq!(chosen(&night, 33_000, 4), 15..19);
        assert_eq!(chosen(&[], 5, 4), 0..0);
    }

    #[test]
    fn an_average_never_crosses_a_change_of_light() {
        let mut frames: Vec<_> = (0..10).map(|i| (i * 100, 10.0)).collect();
        frames.extend((10..20).map(|i| (i * 100, 12.0)));
        assert_eq!(chosen(&frames, 940, 6), 4..10);
        assert_eq!(chosen(&frames, 1010, 6), 10..16);
    }

    #[test]
    fn a_window_is_cut_by_time() {
        let frames: Vec<_> = (0..20).map(|i| (i * 100, 10.0)).collect();
        let cut = |until: u64, ms: u64| ring(&frames).look(|m| window(m, BootUs(until * 1000), Duration::from_millis(ms)));
        assert_eq!(cut(1550, 500), 11..16);
        assert_eq!(cut(1500, 0), 15..16);
        assert_eq!(cut(1510, 0), 16..16);
        assert_eq!(cut(9000, 100), 20..20);
    }
}
