//! Owns what is told of the counters: frames that were lost, dropped or sent again, and restarts of the source. The first time at
//! once, then at most once in a while with the sum. Never counts. Pure; on the thread `keeper`.

use std::time::Duration;

use log::Level;

use crate::clock::BootUs;
use crate::events::{Counter, Event};

/// Between two words about the same counter, and about pictures sent again, which every night has.
const PERIOD: Duration = Duration::from_secs(60);
const LONG: Duration = Duration::from_secs(600);

/// What was told of each counter, and when.
#[derive(Default)]
pub(super) struct Counters([(u64, Option<BootUs>); 4]);

impl Counters {
    /// What there is to tell now, with its line for the log; `counts` are those since the start.
    pub fn look(&mut self, counts: [(Counter, u64); 4], now: BootUs) -> Vec<(Event, Level, String)> {
        let mut out = Vec::new();
        for ((told, at), (counter, total)) in self.0.iter_mut().zip(counts) {
            let period = if counter == Counter::Repeated { LONG } else { PERIOD };
            if total <= *told || at.is_some_and(|at| now.since(at) < period) {
                continue;
            }
            let more = total - *told;
            (*told, *at) = (total, Some(now));
            let (level, what) = match counter {
                Counter::Lost => (Level::Warn, "Frames lost by the source"),
                Counter::Dropped => (Level::Warn, "Frames dropped because every slot of the ring was in use"),
                Counter::Repeated => (Level::Info, "Pictures sent again because the next frame takes long"),
                Counter::Restarts => (Level::Warn, "Restarts of the source"),
            };
            out.push((Event::Counted { counter, more, total }, level, format!("{what}: {more} ({total} since the start)")));
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_is_told_at_once_and_then_once_a_minute_with_the_sum() {
        let mut counters = Counters::default();
        let mut look = |s: u64, lost: u64, repeated: u64| {
            let counts = [(Counter::Lost, lost), (Counter::Dropped, 0), (Counter::Repeated, repeated), (Counter::Restarts, 0)];
            counters.look(counts, BootUs(s * 1_000_000)).into_iter().map(|(e, ..)| e.line()).collect::<Vec<_>>()
        };
        assert_eq!(look(1, 0, 0), [""; 0]);
        assert_eq!(look(2, 3, 2), ["EVENT counter=lost more=3 total=3", "EVENT counter=repeated more=2 total=2"]);
        assert_eq!(look(3, 9, 4), [""; 0]);
        assert_eq!(look(62, 10, 90), ["EVENT counter=lost more=7 total=10"]);
        assert_eq!(look(602, 10, 900), ["EVENT counter=repeated more=898 total=900"]);
    }
}
