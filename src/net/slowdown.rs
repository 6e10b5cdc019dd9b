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
/// Addresses that are remembered. With more, the one that has failed least is forgotten, and of several the one that has been quiet
/// longest: whoever tries again and again stays known.
const REMEMBERED: usize = 256;

#[derive(Clone, Copy)]
struct Record {
    failures: u32,
    last: BootUs,
    until: BootUs,
}

/// Failures by address. See the module's first lines.
#[derive(Default)]
pub struct Slowdown(Mutex<HashMap<IpAddr, Record>>);

/// What counts as one address: of IPv6 the first 64 bits, for a host has all that begin with them.
fn key(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6((v6.to_bits() >> 64 << 64).into()),
        v4 @ IpAddr::V4(_) => v4,
    }
}

impl Slowdown {
    /// Notes a failure of this address and returns how long it has to wait from now on: nothing for the first three, then
    /// 0.25 s, 0.5 s and so on up to 8 s.
    pub fn failed(&self, ip: IpAddr, now: BootUs) -> Duration {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let ip = key(ip);
        if known.len() >= REMEMBERED && !known.contains_key(&ip) {
            known.retain(|_, r| now.since(r.last) < FORGOTTEN);
            let least = known.iter().min_by_key(|(_, r)| (r.failures, r.last)).map(|(ip, _)| *ip);
            if let Some(least) = least.filter(|_| known.len() >= REMEMBERED) {
                known.remove(&least);
            }
        }
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
        if let Some(record) = known.get_mut(&key(ip)) {
            record.failures = record.failures.saturating_sub(failures);
            record.until = record.last;
        }
    }

    /// How long this address still has to wait before its next try; zero for who has not failed.
    pub fn wait(&self, ip: IpAddr, now: BootUs) -> Duration {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(&key(ip)).map_or(Duration::ZERO, |r| r.until.since(now))
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
    fn an_ipv6_host_is_one_address_whatever_it_calls_itself() {
        let slow = Slowdown::default();
        let v6 = |net: u64, host: u64| IpAddr::V6((u128::from(net) << 64 | u128::from(host)).into());
        let waits: Vec<u128> = (0..5).map(|n| slow.failed(v6(0x2001_0db8_0000_0001, n), at(0)).as_millis()).collect();
        assert_eq!(waits, [0, 0, 0, 250, 500]);
        assert_eq!(slow.wait(v6(0x2001_0db8_0000_0001, 999), at(0)), Duration::from_millis(500));
        assert_eq!(slow.wait(v6(0x2001_0db8_0000_0002, 0), at(0)), Duration::ZERO, "the network beside it");
    }

    #[test]
    fn whoever_has_many_addresses_fills_no_memory_and_locks_nobody_out() {
        let slow = Slowdown::default();
        for _ in 0..9 {
            slow.failed(ip(1_000_000), at(0));
        }
        for n in 0..10_000 {
            slow.failed(ip(n), at(1 + u64::from(n)));
        }
        assert_eq!(slow.0.lock().unwrap().len(), REMEMBERED);
        assert_eq!(slow.wait(ip(1_000_000), at(0)), LONGEST, "who failed most is remembered");
        let newcomer = ip(500_000);
        slow.forgive(newcomer, 3);
        assert_eq!(slow.wait(newcomer, at(10_001)), Duration::ZERO);
        let waits: Vec<u128> = (0..4).map(|_| slow.failed(newcomer, at(10_001)).as_millis()).collect();
        assert_eq!(waits, [0, 0, 0, 250], "and is counted");
    }
}
