//! Makes new inputs from old ones, for machines without a fuzzer: a few random changes at a time, reproducible by their seed.

/// Numbers as xorshift64* gives them.
pub struct Random(u64);

/// What trips parsers: as one byte, and as four.
const BYTES: &[u8] = b"\0\xff\x7f\x80\n\r \t:/\"\\{}[]0-9";
const NUMBERS: [u32; 8] = [0, 1, 7, 8, 0x7fff_ffff, 0x8000_0000, 0xffff_fff8, 0xffff_ffff];

impl Random {
    pub fn new(seed: u64) -> Random {
        Random(seed | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 16
    }

    /// A number below `n`, which must not be 0.
    fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    /// A range of a sequence of this length, short ones more often.
    fn range(&mut self, len: usize) -> std::ops::Range<usize> {
        let start = self.below(len.max(1));
        let most = (len - start.min(len)).min(1 << self.below(10));
        start.min(len)..(start + self.below(most + 1)).min(len)
    }

    /// One of the seeds with one to six changes behind its first `keep` bytes.
    pub fn mutated(&mut self, seeds: &[Vec<u8>], keep: usize) -> Vec<u8> {
        let whole = &seeds[self.below(seeds.len())];
        let (head, rest) = whole.split_at(keep.min(whole.len()));
        let mut bytes = rest.to_vec();
        for _ in 0..=self.below(6) {
            let at = self.below(bytes.len() + 1);
            match self.below(8) {
                0 if at < bytes.len() => bytes[at] ^= 1 << self.below(8),
                1 if at < bytes.len() => bytes[at] = BYTES[self.below(BYTES.len())],
                2 => bytes.insert(at, BYTES[self.below(BYTES.len())]),
                3 => drop(bytes.drain(self.range(rest.len().min(bytes.len())))),
                4 => {
                    let part = bytes[self.range(bytes.len())].to_vec();
                    bytes.splice(at..at, part);
                }
                5 => {
                    let other = &seeds[self.below(seeds.len())];
                    bytes.splice(at..at, other[self.range(other.len())].iter().copied());
                }
                6 if at + 4 <= bytes.len() => {
                    bytes[at..at + 4].copy_from_slice(&NUMBERS[self.below(NUMBERS.len())].to_be_bytes());
                }
                _ => bytes.truncate(at.max(bytes.len() / 2)),
            }
        }
        [head, &bytes].concat()
    }
}

/// How long to make inputs: `PASTCAM_FUZZ_SECONDS`, or a minute where the command line names these tests, or `usual` seconds. And the
/// seed: `PASTCAM_FUZZ_SEED`, or another one each time.
pub fn plan(named: &str, usual: f64) -> (std::time::Duration, u64) {
    let set = |name: &str| std::env::var(name).ok();
    let seconds = match set("PASTCAM_FUZZ_SECONDS").and_then(|s| s.parse().ok()) {
        Some(seconds) => seconds,
        None if std::env::args().skip(1).any(|a| !a.starts_with('-') && a.contains(named)) => 60.0,
        None => usual,
    };
    let clock = std::time::SystemTime::UNIX_EPOCH.elapsed().map_or(1, |d| d.as_nanos() as u64);
    (std::time::Duration::from_secs_f64(seconds), set("PASTCAM_FUZZ_SEED").and_then(|s| s.parse().ok()).unwrap_or(clock))
}
