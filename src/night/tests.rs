use super::level::tone;
use super::simulate::{self, K, Sensor};
use super::trace::Trace;
use super::*;

/// A camera that obeys at once, before a scene of one reflectance: a wall.
struct Wall {
    night: Night,
    now: BootUs,
    frame_us: u64,
    command: Command,
    switches: Vec<(f64, Mode)>,
}

const FULL: Exposure = Exposure { time_us: 66_666.0, analogue_gain: 8.0, digital_gain: 1.0 };

impl Wall {
    fn new(settings: Settings) -> Self {
        Wall {
            night: Night::new(settings),
            now: BootUs(1_000_000),
            frame_us: 100_000,
            command: Command::Day,
            switches: Vec::new(),
        }
    }

    /// One frame of one luma value, as it is.
    fn frame(&mut self, luma: u8, exposure: Option<Exposure>, ae: Ae) -> Step {
        self.now = self.now + Duration::from_micros(exposure.map_or(0, |x| x.time_us as u64).max(self.frame_us));
        let mut h = Histogram::default();
        h.add(luma, 100);
        let step = self.night.step(&Measurement { now: self.now, histogram: &h, span: Span::Full, exposure, ae });
        self.command = step.command.unwrap_or(self.command);
        self.switches.extend(step.switched.map(|s| (self.now.secs(), s.to)));
        step
    }

    /// What the camera gives for the last command.
    fn exposure(&self) -> Exposure {
        match self.command {
            Command::Day => FULL,
            Command::Night { exposure_us, gain } => {
                Exposure { time_us: exposure_us as f64, analogue_gain: gain, digital_gain: 1.0 }
            }
        }
    }

    /// So many of them.
    fn frames(&mut self, n: usize, luma: u8, exposure: Option<Exposure>, ae: Ae) {
        for _ in 0..n {
            self.frame(luma, exposure, ae);
        }
    }

    /// Frames of a wall in this light (lux) for this long; the last step.
    fn lit(&mut self, lux: f64, seconds: u64) -> Step {
        let end = self.now + Duration::from_secs(seconds);
        loop {
            let mut x = self.exposure();
            let ae = if self.command == Command::Day { Ae::Converged } else { Ae::Off };
            if self.command == Command::Day {
                x.analogue_gain = (0.2 / (K * lux) / (x.time_us / 1e6)).min(8.0);
            }
            let step = self.frame(tone(K * lux * x.e()).round() as u8, Some(x), ae);
            if self.now >= end {
                return step;
            }
        }
    }

    /// The same in the dark, by day exposure, until it is night.
    fn into_night(settings: Settings) -> Self {
        let mut w = Wall::new(settings);
        w.lit(0.02, 30);
        assert_eq!(w.night.mode(), Mode::Night);
        w
    }
}

fn run(rows: &[(f64, f64)]) -> simulate::Report {
    simulate::run(&Trace::from_rows(rows).unwrap(), &Settings::default())
}

#[test]
fn no_constant_light_makes_it_flap() {
    // 0.73 to 8.8 lux is where the raw scores contradict each other; look far around it and at both thresholds.
    for i in 0..40 {
        let lux = 0.05 * 1.2_f64.powi(i);
        let r = run(&[(0.0, 300.0), (100.0, 300.0), (101.0, lux), (2500.0, lux)]);
        assert!(r.count <= 1, "{lux} lux: {}", r.to_text());
        assert_eq!(r.count, usize::from(lux < 10.3), "{lux} lux: {}", r.to_text());
        assert!(r.exposure_commands <= 4, "nor its exposure: {lux} lux: {}", r.to_text());
    }
}

#[test]
fn the_two_thresholds_leave_no_light_in_which_it_is_neither() {
    // From the night, too: below the exit it stays, above it leaves.
    for i in 0..40 {
        let lux = 0.05 * 1.2_f64.powi(i);
        let r = run(&[(0.0, 0.02), (100.0, 0.02), (101.0, lux), (2500.0, lux)]);
        assert_eq!(r.count, 1 + usize::from(lux > 18.4), "{lux} lux: {}", r.to_text());
        assert!(r.exposure_commands <= 6, "{lux} lux: {}", r.to_text());
    }
}

#[test]
fn a_boot_in_the_dark_reaches_the_night_within_fifteen_seconds() {
    for lux in [0.001, 0.5, 8.0] {
        let r = run(&[(0.0, lux), (300.0, lux)]);
        assert!(r.count == 1 && (5.0..12.0).contains(&r.switches[0].t_s), "{lux}: {}", r.to_text());
    }
    let mut ip = Wall::new(Settings::default());
    ip.frames(150, 5, None, Ae::Off);
    assert!(ip.switches.len() == 1 && ip.switches[0].0 < 8.0, "{:?}", ip.switches);
    let mut no_ae = Wall::new(Settings::default());
    no_ae.frames(150, 0, Some(FULL), Ae::Off);
    assert!(no_ae.switches.len() == 1 && no_ae.switches[0].0 < 13.0, "{:?}", no_ae.switches);
}

#[test]
fn the_first_decision_is_quick_only_in_unbroken_darkness() {
    let mut w = Wall::new(Settings::default());
    w.lit(100.0, 2);
    let dusk = w.now.secs();
    w.lit(0.02, 30);
    assert!((10.0..11.0).contains(&(w.switches[0].0 - dusk)), "{:?} after {dusk}", w.switches);
}

#[test]
fn dark_frames_are_counted_too() {
    let mut w = Wall::new(Settings { fps: 1.0, min_dark_frames: 30, ..Settings::default() });
    w.frame_us = 1_000_000;
    w.frames(31, 0, Some(FULL), Ae::Converged);
    assert_eq!(w.night.mode(), Mode::Day, "two frames for the median, then thirty");
    w.frame(0, Some(FULL), Ae::Converged);
    assert_eq!(w.night.mode(), Mode::Night);
}

#[test]
fn frames_of_the_exposure_before_are_not_believed() {
    let mut w = Wall::new(Settings::default());
    while w.frame(3, Some(FULL), Ae::Converged).mode == Mode::Day {}
    let before = w.night.level;
    for _ in 0..7 {
        assert_eq!(Some(w.frame(250, Some(FULL), Ae::Converged).level), before, "still the day exposure");
    }
    let x = w.exposure();
    assert_eq!(Some(w.frame(40, Some(x), Ae::Off).level), before);
    assert_eq!(Some(w.frame(40, Some(x), Ae::Off).level), before);
    let level = w.frame(40, Some(x), Ae::Off).level;
    assert!(level < 3.0, "the third frame counts: {level}");
}

#[test]
fn after_the_night_auto_exposure_is_waited_for() {
    let mut w = Wall::into_night(Settings::default());
    let night = w.exposure();
    while w.lit(200.0, 1).mode == Mode::Night {}
    let before = w.night.level;
    assert_eq!(Some(w.frame(255, Some(night), Ae::Converged).level), before, "a late night frame that calls itself converged");
    let bright = Exposure { analogue_gain: 4.0, ..FULL };
    assert_eq!(Some(w.frame(240, Some(bright), Ae::Searching).level), before);
    assert!((w.frame(120, Some(bright), Ae::Converged).level - 120.0).abs() < 1e-9);
}

#[test]
fn auto_exposure_that_never_converges_is_waited_for_five_seconds() {
    let mut w = Wall::new(Settings::default());
    w.frame(77, Some(FULL), Ae::Searching);
    for _ in 0..49 {
        assert!((w.frame(99, Some(FULL), Ae::Searching).level - 77.0).abs() < 1e-9);
    }
    assert!((w.frame(99, Some(FULL), Ae::Searching).level - 99.0).abs() < 1e-9);
}

#[test]
fn by_day_the_level_is_the_plain_mean() {
    let mut w = Wall::new(Settings::default());
    let short = Exposure { time_us: 500.0, analogue_gain: 1.0, digital_gain: 1.0 };
    let step = w.frame(111, Some(short), Ae::Converged);
    assert_eq!((step.level.to_bits(), step.threshold.to_bits()), (111_f64.to_bits(), 35_f64.to_bits()));
    assert_eq!(step.applies, Threshold::Dark);
    // A dark picture while auto-exposure has 1000 times more to give is no dark scene, and still answers its mean.
    for _ in 0..300 {
        assert!((w.frame(20, Some(short), Ae::Converged).level - 20.0).abs() < 1e-9);
    }
    assert_eq!(w.night.mode(), Mode::Day);
}

#[test]
fn the_driver_limit_is_learned_once_and_kept() {
    let rows = [(0.0, 0.01), (300.0, 0.01), (301.0, 300.0), (400.0, 300.0), (401.0, 0.01), (900.0, 0.01)];
    let (trace, settings) = (Trace::from_rows(&rows).unwrap(), Settings::default());
    let (mut sensor, mut night) = (Sensor::new(&trace, &settings).limited_to(1_070_000.0), Night::new(settings));
    let (mut h, mut clamped, mut modes, mut asked) = (Histogram::default(), Vec::new(), Vec::new(), Vec::new());
    loop {
        let f = sensor.frame(&mut h);
        if f.now.secs() > trace.end() {
            break;
        }
        let step = night.step(&Measurement { now: f.now, histogram: &h, span: Span::Full, exposure: Some(f.exposure), ae: f.ae });
        clamped.extend(step.clamped);
        modes.extend(step.switched.map(|s| s.to));
        if let Some(c) = step.command {
            asked.push(c);
            sensor.ask(c);
        }
    }
    assert_eq!(modes, [Mode::Night, Mode::Day, Mode::Night]);
    assert!(clamped.len() == 1 && (clamped[0].time_us - 1_070_000.0).abs() < 1.0, "{clamped:?}");
    assert_eq!(asked[0], Command::Night { exposure_us: 2_000_000, gain: 6.0 });
    assert_eq!(asked[asked.len() - 1], Command::Night { exposure_us: 1_070_000, gain: 6.0 });
}

#[test]
fn a_limit_met_on_a_lower_rung_becomes_the_ceiling() {
    let mut w = Wall::new(Settings::default());
    while w.lit(8.0, 0).mode == Mode::Day {} // dusk begins on rung 1
    let Command::Night { exposure_us: asked @ ..1_500_000, .. } = w.command else { panic!("not a lower rung: {:?}", w.command) };
    let short = Exposure { time_us: asked as f64 / 2.0, ..w.exposure() };
    w.frames(15, 40, Some(short), Ae::Off);
    assert_eq!(w.frame(40, Some(short), Ae::Off).clamped, Some(short));
    for _ in 0..30 {
        assert_eq!(w.frame(40, Some(short), Ae::Off).command, None, "there is nothing brighter to ask for");
    }
    w.frame(40, Some(Exposure { time_us: asked as f64, ..short }), Ae::Off);
    assert!((w.night.ladder().e_max() - 12.0).abs() < 1e-9, "it does give more: the limit was none");
}

#[test]
fn brightness_proved_by_white_frames_counts() {
    let mut w = Wall::into_night(Settings::default());
    w.lit(6.0, 120);
    let (lit, rung) = (w.now.secs(), w.exposure().e());
    assert!(rung < 6.1, "white at this exposure is above the exit, at the ceiling it is not: {rung}");
    w.lit(3000.0, 30);
    assert!(w.switches.len() == 2 && w.switches[1].0 - lit < 22.7, "{:?} after {lit}", w.switches);
}

#[test]
fn a_camera_that_keeps_its_night_exposure_by_day_is_judged_by_the_light() {
    let mut w = Wall::new(Settings::default());
    let stuck = Exposure { time_us: 2e6, analogue_gain: 6.0, digital_gain: 1.0 };
    for _ in 0..40 {
        let step = w.frame(90, Some(stuck), Ae::Converged);
        assert!(step.level < 10.0, "90 at 22.5 times the light: {}", step.level);
    }
    assert_eq!(w.night.mode(), Mode::Night);
}

#[test]
fn the_control_maximum_bounds_the_ceiling() {
    let w = Wall::into_night(Settings { max_exposure_us: Some(1_240_000), ..Settings::default() });
    assert_eq!(w.command, Command::Night { exposure_us: 1_240_000, gain: 6.0 });
}

#[test]
fn a_larger_day_gain_is_learned_by_day_only() {
    let mut w = Wall::new(Settings::default());
    w.frame(100, Some(Exposure { analogue_gain: 10.0, ..FULL }), Ae::Converged);
    assert!((w.night.e_day() - 0.666_66).abs() < 1e-9);
    w.frame(100, Some(Exposure { analogue_gain: 999.0, ..FULL }), Ae::Converged);
    assert!((w.night.e_day() - 0.066_666 * 32.0).abs() < 1e-9, "a fault is bounded");
    let mut w = Wall::into_night(Settings::default());
    w.lit(0.02, 60);
    assert!((w.night.e_day() - 0.533_328).abs() < 1e-9);
}

#[test]
fn three_switches_in_twenty_minutes_rest_for_twenty() {
    let mut w = Wall::new(Settings::default());
    for _ in 0..20 {
        w.lit(100.0, 100);
        w.lit(0.02, 100);
    }
    let gaps: Vec<f64> = w.switches.windows(2).map(|s| s[1].0 - s[0].0).collect();
    assert!(gaps.len() >= 3 && gaps[0] < 130.0 && gaps[1] < 130.0, "{gaps:?}");
    assert!((1200.0..1400.0).contains(&gaps[2]), "{gaps:?}");
}

#[test]
fn a_minute_passes_between_switches() {
    let mut w = Wall::into_night(Settings::default());
    w.lit(100.0, 90);
    assert_eq!(w.switches.len(), 2);
    let night = w.switches[0].0;
    assert!((60.0..64.0).contains(&(w.switches[1].0 - night)), "{:?}", w.switches);
}

#[test]
fn a_clipped_night_scene_finds_the_day() {
    // 20 lux is just above the exit and its bright patches clip at every exposure but the last ones; 50,000 is all white.
    for lux in [20.0, 120.0, 50_000.0] {
        let r = run(&[(0.0, 0.02), (200.0, 0.02), (200.3, lux), (400.0, lux)]);
        let last = r.switches.last().unwrap();
        assert!(r.count == 2 && last.delay_s.unwrap() < 45.0, "{lux} lux: {}", r.to_text());
    }
}

#[test]
fn a_white_wall_finds_the_day_and_a_lamp_does_not_end_the_night() {
    let mut w = Wall::into_night(Settings::default());
    w.lit(0.02, 60);
    w.lit(3000.0, 60);
    assert_eq!(w.night.mode(), Mode::Day);
    let mut w = Wall::into_night(Settings::default());
    w.lit(0.02, 60);
    w.lit(8.0, 600); // white at 12 s·gain, yet below the exit
    assert_eq!((w.night.mode(), w.switches.len()), (Mode::Night, 1));
}

#[test]
fn a_short_flash_does_not_end_the_night() {
    let mut w = Wall::into_night(Settings::default());
    w.lit(0.02, 120);
    for _ in 0..10 {
        w.lit(500.0, 8);
        w.lit(0.02, 30);
    }
    assert_eq!(w.switches.len(), 1);
}

#[test]
fn a_capped_lens_is_night_at_the_ceiling_and_a_hand_is_nothing() {
    let mut w = Wall::new(Settings::default());
    w.lit(5000.0, 60);
    w.frames(80, 0, Some(FULL), Ae::Converged);
    w.lit(5000.0, 60);
    assert!(w.switches.is_empty(), "eight seconds of a hand");
    w.frames(110, 0, Some(FULL), Ae::Converged);
    assert_eq!((w.switches.len(), w.command), (1, Command::Night { exposure_us: 2_000_000, gain: 6.0 }));
    let x = w.exposure();
    for _ in 0..50 {
        let step = w.frame(19, Some(x), Ae::Off); // dark current and hot pixels lift black this far
        assert_eq!((step.mode, step.command), (Mode::Night, None));
    }
}

#[test]
fn the_exposure_follows_the_light_through_the_night() {
    let mut w = Wall::into_night(Settings::default());
    w.lit(0.02, 30);
    w.lit(6.0, 60);
    let dusk = w.exposure().e();
    let luma = tone(K * 6.0 * dusk);
    assert!(dusk < 6.1 && (60.0..170.0).contains(&luma), "E {dusk}, luma {luma}");
    w.lit(0.02, 120);
    assert_eq!(w.command, Command::Night { exposure_us: 2_000_000, gain: 6.0 });
}

#[test]
fn a_source_without_metadata_switches_by_its_plain_mean() {
    let mut w = Wall::new(Settings::default());
    w.frames(60, 30, None, Ae::Off);
    assert_eq!(w.night.mode(), Mode::Night);
    for _ in 0..200 {
        assert_eq!(w.frame(30, None, Ae::Off).command, None, "its exposure is not ours to step");
    }
    let mut commands = 0;
    for _ in 0..700 {
        let step = w.frame(60, None, Ae::Off); // it brightens its picture as it likes
        commands += usize::from(step.command.is_some());
        assert!((step.level - 60.0).abs() < 1e-9);
    }
    assert_eq!((w.night.mode(), commands), (Mode::Day, 1));
}

#[test]
fn a_frame_that_lost_its_metadata_changes_nothing() {
    let mut w = Wall::into_night(Settings::default());
    let level = w.lit(0.02, 30).level;
    for _ in 0..1000 {
        let step = w.frame(255, None, Ae::Off);
        assert_eq!((step.mode, step.level.to_bits()), (Mode::Night, level.to_bits()));
    }
    let broken = Exposure { time_us: f64::NAN, ..FULL };
    assert_eq!(w.frame(255, Some(broken), Ae::Off).level.to_bits(), level.to_bits());
}

#[test]
fn switched_off_it_measures_and_stays() {
    let mut w = Wall::new(Settings { enable: false, ..Settings::default() });
    let step = w.lit(0.02, 60);
    assert!(step.mode == Mode::Day && step.level < 1.0 && w.switches.is_empty());
    let mut w = Wall::into_night(Settings::default());
    w.night.reconfigure(Settings { enable: false, ..Settings::default() });
    let step = w.lit(0.02, 0);
    assert_eq!((step.mode, step.command), (Mode::Day, Some(Command::Day)));
    assert_eq!(step.switched.unwrap().to_string(), "DAY: night mode was switched off");
}

#[test]
fn new_settings_hold_from_the_next_frame() {
    let mut w = Wall::new(Settings::default());
    w.lit(20.0, 60); // a wall in 20 lux scores about 61
    assert_eq!(w.night.mode(), Mode::Day);
    w.night.reconfigure(Settings { dark_threshold: 90.0, bright_threshold: 120.0, ..Settings::default() });
    let step = w.lit(20.0, 15);
    assert_eq!((step.mode, step.applies), (Mode::Night, Threshold::Apart));
    w.night.reconfigure(Settings { exposure_us: 50_000, gain: 8.0, ..w.night.settings().clone() });
    let step = w.lit(20.0, 0);
    assert_eq!(step.command, Some(Command::Night { exposure_us: 50_000, gain: 8.0 }), "asked again at once");
}

#[test]
fn a_restarted_camera_is_told_its_mode_again() {
    let mut w = Wall::into_night(Settings::default());
    w.lit(0.02, 30);
    let (before, level) = (w.command, w.night.level);
    assert_eq!(w.night.restarted(), before);
    assert_eq!(Some(w.frame(255, Some(FULL), Ae::Converged).level), level, "frames settle anew");
    let mut w = Wall::new(Settings::default());
    w.lit(100.0, 30);
    assert_eq!(w.night.restarted(), Command::Day);
    assert_ne!(w.frame(255, Some(FULL), Ae::Searching).level.to_bits(), 255_f64.to_bits());
}

#[test]
fn the_exit_is_never_nearer_than_one_and_a_half_times_the_light() {
    let of = |dark_threshold, bright_threshold| Settings { dark_threshold, bright_threshold, ..Settings::default() }.exit();
    assert_eq!(of(35.0, 55.0), (55.0, Threshold::Bright));
    let (near, applies) = of(35.0, 36.0);
    assert!((46.0..47.5).contains(&near) && applies == Threshold::Apart, "{near}");
    let (top, _) = of(240.0, 241.0);
    assert!(top < 255.0, "a threshold that no picture passes: {top}");
}

#[test]
fn a_switch_tells_its_reason() {
    let s = Switch {
        to: Mode::Night,
        level: 33.96,
        threshold: 35.0,
        held: Duration::from_millis(10_040),
        reason: Reason::Dark,
        dwell: Duration::from_secs(60),
    };
    assert_eq!(s.to_string(), "NIGHT: level 34.0, below 35.0 for 10.0 s; stays for at least 60 s");
}

#[test]
fn the_median_ignores_one_outlier() {
    let mut m = Median::default();
    assert_eq!((m.push(9.0), m.push(200.0)), (None, None));
    assert_eq!((m.push(10.0), m.push(11.0), m.push(0.0)), (Some(10.0), Some(11.0), Some(10.0)));
}

#[test]
fn a_held_exposure_is_left_alone_and_the_mode_follows_the_light() {
    let held = Exposure { time_us: 20_000.0, analogue_gain: 1.0, digital_gain: 1.0 };
    let mut w = Wall::new(Settings::default());
    w.night.hold(true);
    let luma = |lux: f64| tone(K * lux * held.e()).round() as u8;
    let steps = |w: &mut Wall, lux: f64, n: usize| {
        (0..n)
            .map(|_| w.frame(luma(lux), Some(held), Ae::Off))
            .fold((None, false), |(_, asked), s| (Some(s.mode), asked | s.command.is_some()))
    };
    assert_eq!(steps(&mut w, 0.02, 300), (Some(Mode::Night), false));
    // Nothing was taken for a limit of the driver: given back, the night asks for its ceiling.
    assert_eq!(steps(&mut w, 0.02, 300), (Some(Mode::Night), false));
    assert_eq!(steps(&mut w, 400.0, 900), (Some(Mode::Day), false));
    assert_eq!(steps(&mut w, 0.02, 900), (Some(Mode::Night), false));
    w.night.hold(false);
    assert_eq!(w.night.restarted(), Command::Night { exposure_us: 2_000_000, gain: 6.0 });
}
