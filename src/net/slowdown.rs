//! Owns how long an address has to wait after wrong logins and the like. Never refuses, logs or sleeps: the port that asks does
//! that. Bounded, with time as an argument; any thread.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::clock::BootUs;

/// Failures that cost nothing: somebody mistypes a password.
const FREE: u32 = 3;
/// The wait after the first failure that counts. It doubles with each further one.
const FIRST: Duration = Duration::from_millis(250);
/// The longest wait. Others behind the same address wait with it, so it must stay shorter than their patience.
const LONGEST: Duration = Duration::from_secs(8);
/// An address without a failure for so long starts anew.
const FORGOTTEN: Duration = Duration::from_secs(600);
/// Addresses that are remembered. All further ones count as one until one of these is forgotten, so that whoever has many
/// addresses gains little.
const REMEMBERED: usize = 256;

#[derive(Clone, Copy)]
struct Record {
    failures: u32,
    last: BootUs,
    until: BootUs,
}

/// Failures by address. See the module's first lines.
#[derive(Default)]
pub struct Slowdown(Mutex<HashMap<Option<IpAddr>, Record>>);

impl Slowdown {
    /// Notes a failure of this address and returns how long it has to wait from now on: nothing for the first three, then
    /// 0.25 s, 0.5 s and so on up to 8 s.
    pub fn failed(&self, ip: IpAddr, now: BootUs) -> Duration {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= REMEMBERED {
            known.retain(|_, r| now.since(r.last) < FORGOTTEN);
        }
        let ip = Some(ip.to_canonical()).filter(|ip| known.len() < REMEMBERED || known.contains_key(&Some(*ip)));
        let record = known.entry(ip).or_insert(Record { failures: 0, last: now, until: now });
        if now.since(record.last) >= FORGOTTEN {
            record.failures = 0;
        }
        record.failures = record.failures.saturating_add(1);
        record.last = now;
        let wait = match record.failures.checked_sub(FREE + 1) {
            None => Duration::ZERO,
            // The shift is bounded far beyond the longest wait.
            Some(doublings) => (FIRST * (1 << doublings.min(16))).min(LONGEST),
        };
        record.until = now + wait;
        wait
    }

    /// Takes back the last failures of this address: they were none, as what followed shows.
    pub fn forgive(&self, ip: IpAddr, failures: u32) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let ip = Some(ip.to_canonical());
        let key = if known.contains_key(&ip) { ip } else { None };
        if let Some(record) = known.get_mut(&key) {
            record.failures = record.failures.saturating_sub(failures);
            record.until = record.last;
        }
    }

    /// How long this address still has to wait before its next try; zero for who has not failed.
    pub fn wait(&self, ip: IpAddr, now: BootUs) -> Duration {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let record = known.get(&Some(ip.to_canonical())).or_else(|| known.get(&None));
        record.map_or(Duration::ZERO, |r| r.until.since(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> BootUs {
        BootUs(1_000_000) + Duration::from_millis(ms)
    }

    fn ip(n: u32) -> IpAddr {
        IpAddr::V4((0x0a00_0000 + n).into())
    }

    #[test]
    fn the_wait_grows_ends_and_is_forgotten() {
        let slow = Slowdown::default();
        let waits: Vec<u128> = (0..11).map(|_| slow.failed(ip(1), at(0)).as_millis()).collect();
        assert_eq!(waits, [0, 0, 0, 250, 500, 1000, 2000, 4000, 8000, 8000, 8000]);
        assert_eq!(slow.wait(ip(1), at(3000)), Duration::from_secs(5));
        assert_eq!(slow.wait(ip(1), at(8000)), Duration::ZERO);
        assert_eq!(slow.wait(ip(2), at(0)), Duration::ZERO, "another address");
        assert_eq!(slow.failed(ip(1), at(9000)), Duration::from_secs(8));
        assert_eq!(slow.failed(ip(1), at(9000 + 600_000)), Duration::ZERO);
        let mapped = "::ffff:10.0.0.1".parse().unwrap();
        let waits: Vec<_> = (0..3).map(|_| slow.failed(mapped, at(700_000)).as_millis()).collect();
        assert_eq!(
            (waits, slow.wait(ip(1), at(700_000))),
            (vec![0, 0, 250], Duration::from_millis(250)),
            "one address, however written"
        );
    }

    #[test]
    fn a_failure_that_was_none_is_taken_back() {
        let slow = Slowdown::default();
        let waits: Vec<u128> = (0..4).map(|_| slow.failed(ip(1), at(0)).as_millis()).collect();
        assert_eq!(waits[3], 250);
        slow.forgive(ip(1), 1);
        slow.forgive(ip(2), 1);
        assert_eq!((slow.wait(ip(1), at(0)), slow.failed(ip(1), at(1)).as_millis()), (Duration::ZERO, 250));
    }

    #[test]
    fn whoever_has_many_addresses_gains_little_and_fills_no_memory() {
        let slow = Slowdown::default();
        let free = (0..10_000).filter(|n| slow.failed(ip(*n), at(0)).is_zero()).count();
        assert_eq!(free, REMEMBERED + FREE as usize);
        assert_eq!(slow.0.lock().unwrap().len(), REMEMBERED + 1);
        assert_eq!(slow.wait(ip(7), at(0)), Duration::ZERO);
        assert_eq!(slow.wait(ip(500_000), at(0)), LONGEST);
        assert_eq!(slow.failed(ip(500_000), at(600_000)), Duration::ZERO, "the table is empty again");
    }
}
