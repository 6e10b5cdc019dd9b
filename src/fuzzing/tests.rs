//! Every target with its corpus from `fuzz/corpus` and, for a while, with inputs made from that: a fuzzer for every machine.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::{Duration, Instant};

use super::mutate::{Random, plan};

/// No input of a few kilobytes takes this long, on the busiest machine.
const HANG: Duration = Duration::from_secs(20);

/// The files of a corpus, in the order of their names.
fn corpus(name: &str) -> Vec<Vec<u8>> {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(name);
    let mut files: Vec<_> = std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display())).collect();
    files.sort_by_key(|f| f.as_ref().unwrap().file_name());
    let seeds: Vec<Vec<u8>> = files.into_iter().map(|f| std::fs::read(f.unwrap().path()).unwrap()).collect();
    assert!(seeds.len() > 2, "{} is no corpus", folder.display());
    seeds
}

/// One input; where it fails, it is kept in a file that is named.
fn once(name: &str, target: fn(&[u8]), bytes: &[u8]) {
    let began = Instant::now();
    let done = catch_unwind(AssertUnwindSafe(|| target(bytes)));
    if done.is_err() || began.elapsed() > HANG {
        let kept = std::env::temp_dir().join(format!("pastcam-fuzz-{name}-{}", std::process::id()));
        let _ = std::fs::write(&kept, bytes);
        eprintln!(
            "{name}: this input is kept in {}: {:?}",
            kept.display(),
            String::from_utf8_lossy(&bytes[..bytes.len().min(400)])
        );
    }
    done.unwrap_or_else(|panic| resume_unwind(panic));
    assert!(began.elapsed() <= HANG, "one input took {:?}", began.elapsed());
}

fn fuzz(name: &str, target: fn(&[u8])) {
    let seeds = corpus(name);
    for seed in &seeds {
        once(name, target, seed);
    }
    once(name, target, &[]);
    let (time, seed) = plan("fuzzing", 0.5);
    let (mut random, until, mut inputs) = (Random::new(seed), Instant::now() + time, 0u64);
    while Instant::now() < until {
        once(name, target, &random.mutated(&seeds, 0));
        inputs += 1;
    }
    println!("{name}: {} seeds, {inputs} inputs made with PASTCAM_FUZZ_SEED={seed}", seeds.len());
}

#[test]
fn line() {
    fuzz("line", super::line);
}

#[test]
fn config() {
    fuzz("config", super::config);
}

#[test]
fn address() {
    fuzz("address", super::address);
}

#[test]
fn nal() {
    fuzz("nal", super::nal);
}

#[cfg(feature = "media")]
#[test]
fn jpeg() {
    fuzz("jpeg", super::jpeg);
}

#[cfg(feature = "media")]
#[test]
fn mend() {
    fuzz("mend", super::mend_mp4);
}
