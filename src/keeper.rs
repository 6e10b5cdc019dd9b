//! Owns the round of checks once a second: memory, swap, watchdogs, which are fed while frames come and no watched thread hangs;
//! asks for periodic pictures, tells what is the matter with the pictures' disk and what was counted.
//! Never touches the camera, pixels or a disk, which may hang and would starve the watchdogs. Runs on the thread `keeper`.

mod counters;
mod periodic;

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use self::counters::Counters;
use self::periodic::Periodic;
use crate::budget::Budget;
use crate::clock::{self, BootUs, Clock, Steps};
use crate::commands::Commands;
use crate::events::{self, Counter, Disk, Event};
use crate::health::{self, State};
use crate::logging::Tally;
use crate::notify::{Hardware, Systemd};
use crate::shutdown::Shutdown;
use crate::threads;

/// Why the keeper ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Asked to stop.
    Stopped,
    /// Memory beyond the ring passed `limits.max_rss_mib`.
    Memory,
}

/// Time between rounds.
const ROUND: Duration = Duration::from_secs(1);
/// Between lines about memory, and between looks for old pictures (s).
const MINUTE: u64 = 60;
/// Longest sentence for the supervisor (bytes).
const STATUS_MAX: usize = 240;
/// Between looks at memory and swap (s).
const LOOK: u64 = 3;

/// What keeps the rounds.
pub struct Keeper {
    /// The program's parts.
    pub commands: Arc<Commands>,
    /// The supervisor.
    pub systemd: Systemd,
    /// The hardware watchdog, if configured.
    pub hardware: Option<Hardware>,
}

impl Keeper {
    /// Goes its rounds until asked to stop or until memory runs out.
    pub fn run(&mut self, shutdown: &Shutdown) -> End {
        let mut fed = self.commands.frames.past.published();
        let (mut ready, mut hungry) = (false, false);
        let (mut periodic, mut steps, mut disk) = (Periodic::default(), Steps::default(), None);
        let mut counters = Counters::default();
        let tally = Tally::default();
        // A third of the supervisor's limit or one round, whichever is shorter: a limit of a second is kept as well.
        let round = Systemd::watchdog().map_or(ROUND, |w| ROUND.min(w / 3));
        let rounds_in = |s: u64| (s as f64 / round.as_secs_f64()) as u64;
        let (per_minute, per_look) = (rounds_in(MINUTE), rounds_in(LOOK));
        let (mut rounds, mut status) = (0u64, String::new());
        loop {
            threads::fault("work");
            clock::look();
            if let Some(by_s) = stepped(&mut steps, &*self.commands.clock) {
                log::info!("The wall clock was set, by {by_s:+.3} s");
                self.commands.events.publish(Event::ClockStepped { by_s });
            }
            let published = self.commands.frames.past.published();
            if published > fed {
                fed = published;
                hungry = true;
            }
            // The port serves before the keeper runs. A supervisor that takes nothing now is told again in the next round.
            ready = ready || self.systemd.tell("READY=1");
            if ready {
                self.status(&mut status);
            }
            if let Some(name) = threads::hung() {
                tally.log(log::Level::Error, &format!("The thread {name} hangs: the watchdogs are not fed"));
            } else if std::mem::take(&mut hungry) || self.recovers() {
                // Its watchdog begins with that.
                if ready {
                    self.systemd.tell("WATCHDOG=1");
                }
                if let Some(Err(e)) = self.hardware.as_mut().map(Hardware::feed) {
                    tally.log(log::Level::Warn, &format!("The watchdog cannot be fed: {e}"));
                }
            }
            self.disk(&mut disk);
            self.count(&mut counters);
            // Reading /proc costs more than all the rest of a round.
            if rounds % per_look == 0 {
                if self.memory_is_out() {
                    self.farewell();
                    return End::Memory;
                }
                self.swap(&tally);
            }
            if rounds % per_minute == 0 {
                let (rss, swap) = (health::rss_bytes().unwrap_or(0) as f64 / 1_048_576.0, health::swap_percent());
                log::debug!("RSS={rss:.1} MiB | SWAP={swap:.1}%");
            }
            rounds += 1;
            if self.rest(&mut periodic, shutdown, round) {
                self.farewell();
                return End::Stopped;
            }
        }
    }

    /// Whether the camera is being brought back, which is no reason to restart program or board: the way from the first lost frame to exit
    /// code 43 is longer than watchdogs wait, and a network camera may be away for days: a new start would only lose the past. The
    /// capture says itself until when it is at work; one that hangs says nothing more, and then the watchdogs bite.
    fn recovers(&self) -> bool {
        let gauges = &self.commands.gauges;
        gauges.state() != State::Running && self.commands.clock.boot() < BootUs(gauges.at_work_until_us.load(Relaxed))
    }

    /// Tells the supervisor in a sentence what the camera does, whenever that has changed.
    fn status(&self, before: &mut String) {
        let (gauges, config) = (&self.commands.gauges, self.commands.config());
        let source = config.camera.source.shown();
        // `camera` and `auto` name none, and some reasons begin with the name.
        let name = if matches!(source.as_str(), "auto" | "camera") { String::new() } else { format!(" {source}") };
        let mut now = match (gauges.state(), gauges.lost_because()) {
            (State::Running, _) => format!("STATUS=frames come from {source}"),
            (State::Starting, _) => format!("STATUS=waiting for the first frame of {source}"),
            (State::Lost, why) => {
                let why = why.unwrap_or_default();
                format!("STATUS=waiting for the camera{name}: {}", why.strip_prefix(&format!("{source}: ")).unwrap_or(&why))
            }
        };
        now = now.replace('\n', " ");
        while now.len() > STATUS_MAX {
            now.pop();
        }
        if now != *before && self.systemd.tell(&now) {
            *before = now;
        }
    }

    /// Tells when something begins to be the matter with the pictures' disk, and when it is over. Asks others, never the disk.
    fn disk(&self, before: &mut Option<Disk>) {
        let (disk, why) = self.commands.exporter.trouble().map_or((None, String::new()), |(disk, why)| (Some(disk), why));
        if std::mem::replace(before, disk) == disk {
            return;
        }
        match disk {
            Some(disk) => log::warn!("The disk of the pictures is {}: {why}", events::word(&disk)),
            None => log::info!("The disk of the pictures is well again"),
        }
        self.commands.events.publish(Event::Disk { disk: disk.unwrap_or(Disk::Back), why });
    }

    /// Tells of counters that have grown. Restarts are told when the camera is back: until then each attempt is one.
    fn count(&self, counters: &mut Counters) {
        let gauges = &self.commands.gauges;
        let restarts =
            if gauges.state() == State::Running { gauges.restarts.load(Relaxed) + gauges.rebuilds.load(Relaxed) } else { 0 };
        let counts = [
            (Counter::Lost, gauges.source_lost.load(Relaxed)),
            (Counter::Dropped, self.commands.frames.dropped()),
            (Counter::Repeated, gauges.repeated.load(Relaxed)),
            (Counter::Restarts, restarts),
        ];
        for (event, level, line) in counters.look(counts, self.commands.clock.boot()) {
            log::log!(level, "{line}");
            self.commands.events.publish(event);
        }
    }

    /// An end on purpose: nobody's watchdog shall bite.
    fn farewell(&mut self) {
        self.systemd.tell("STOPPING=1");
        if let Some(hardware) = self.hardware.take() {
            hardware.release();
        }
    }

    fn memory_is_out(&self) -> bool {
        let budget = Budget::of(&self.commands.config(), self.commands.gauges.sent_pixels.load(Relaxed));
        let limit = budget.limit();
        let ring = self.commands.frames.resident() as u64;
        let beyond = health::rss_bytes().unwrap_or(0).saturating_sub(ring);
        if beyond > limit {
            log::error!(
                "Memory beyond the ring {:.1} MiB exceeded limits.max_rss_mib {} ({:.1} MiB were expected) → exiting for restart",
                beyond as f64 / 1_048_576.0,
                limit >> 20,
                budget.need() as f64 / 1_048_576.0
            );
        }
        beyond > limit
    }

    fn swap(&self, tally: &Tally) {
        let limits = &self.commands.config().limits;
        let swap = health::swap_percent();
        // The reference's pauses: 3 s and 1.5 s.
        let pace = match swap {
            s if s > limits.swap_pause_percent => 3000,
            s if s > limits.swap_slow_percent => 1500,
            _ => 0,
        };
        if self.commands.gauges.pace_ms.swap(pace, Relaxed) != pace {
            let level = if pace > 0 { log::Level::Warn } else { log::Level::Info };
            tally.log(
                level,
                &format!(
                    "Swap {swap:.0}% → {}",
                    if pace > 0 { format!("one frame in {pace} ms is kept") } else { "all frames are kept".into() }
                ),
            );
        }
    }
}

/// Between the two looks the thread may have to wait for its turn; then they say nothing.
const ADRIFT: Duration = Duration::from_millis(50);

/// By how much the wall clock was set since the last round (s), if it was.
fn stepped(steps: &mut Steps, clock: &dyn Clock) -> Option<f64> {
    let (before, wall, after) = (clock.boot(), clock.wall(), clock.boot());
    if after.since(before) > ADRIFT {
        return None;
    }
    steps.look(before, wall).map(|by| by as f64 / 1e6)
}
