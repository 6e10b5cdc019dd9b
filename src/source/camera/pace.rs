//! Owns the choice of frames to keep of a camera that cannot be slowed down to `camera.framerate`: many webcams. Pure.

use crate::clock::BootUs;

/// Lets frames pass at no more than the wanted rate on average.
#[derive(Debug)]
pub(super) struct Pace {
    interval_us: i64,
    last: Option<BootUs>,
    due: BootUs,
}

impl Pace {
    pub(super) fn new(fps: f64) -> Pace {
        Pace { interval_us: (1e6 / fps) as i64, last: None, due: BootUs(0) }
    }

    /// Whether the frame of this instant is kept.
    ///
    /// A frame nine tenths of an interval after the last always is, so a camera that keeps the rate by itself, or a little more than it,
    /// loses none (so up to a ninth more than the rate may pass); earlier ones are kept as the average allows.
    pub(super) fn keeps(&mut self, now: BootUs) -> bool {
        let Some(last) = self.last else {
            (self.last, self.due) = (Some(now), BootUs(now.0 + self.interval_us as u64));
            return true;
        };
        let keep = (now - last) * 10 >= self.interval_us * 9 || now - self.due >= -self.interval_us / 4;
        if keep {
            self.last = Some(now);
            // A pause is not made up for with a burst.
            let half_on = now.0 as i64 + self.interval_us / 2;
            self.due = BootUs((self.due.0 as i64 + self.interval_us).max(half_on) as u64);
        }
        keep
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(fps: f64, step_us: impl Fn(u64) -> u64, n: u64) -> f64 {
        let (mut pace, mut t, mut kept) = (Pace::new(fps), 5_000_000, 0);
        let begin = t;
        for i in 0..n {
            kept += u64::from(pace.keeps(BootUs(t)));
            t += step_us(i);
        }
        kept as f64 / ((t - begin) as f64 / 1e6)
    }

    #[test]
    fn faster_cameras_are_thinned_to_the_rate() {
        for camera in [11.5, 12.0, 15.0, 25.0, 30.0, 60.0, 1000.0] {
            let rate = kept(10.0, |_| (1e6 / camera) as u64, 6000);
            assert!((9.3..=11.2).contains(&rate), "{camera} fps became {rate}");
        }
    }

    #[test]
    fn a_camera_that_keeps_the_rate_loses_nothing() {
        for step in [100_000, 99_500, 101_000, 90_500, 2_000_000] {
            let rate = kept(10.0, |i| if i % 2 == 0 { step } else { step + step / 200 }, 1000);
            let own = 1e6 / (step as f64 * 1.0025);
            assert!((rate - own).abs() < 0.02 * own, "{step} us: {rate} of {own}");
        }
    }

    #[test]
    fn no_burst_follows_a_pause() {
        let mut pace = Pace::new(10.0);
        assert!(pace.keeps(BootUs(1_000_000)));
        assert!(pace.keeps(BootUs(9_000_000)));
        assert!(!pace.keeps(BootUs(9_020_000)));
    }
}
