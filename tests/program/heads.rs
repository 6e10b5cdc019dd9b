//! Heads of RTSP and HTTP requests as no client should write them, made from the corpora in `fuzz/corpus`. RTSP is read by the RTSP
//! library and HTTP by nobody, so it is the whole program that must stand it: it goes on, serves others, and takes no picture.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use crate::client::{self, exchange};
use crate::harness::{Setup, until};
use crate::said;
use crate::viewers::{Rude, served, viewers};

#[path = "../../src/fuzzing/mutate.rs"]
mod mutate;

/// The corpus, and then so many inputs made from it as fit into the time; the first `keep` bytes of a seed stay.
fn each(name: &str, keep: usize, mut ask: impl FnMut(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(name);
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|f| f.unwrap().path()).collect();
    files.sort();
    let seeds: Vec<Vec<u8>> = files.iter().map(|f| std::fs::read(f).unwrap()).collect();
    for head in &seeds {
        ask(head);
    }
    let (time, seed) = mutate::plan("heads", 2.0);
    let (mut random, until, mut heads) = (mutate::Random::new(seed), Instant::now() + time, 0);
    while Instant::now() < until {
        ask(&random.mutated(&seeds, keep));
        heads += 1;
    }
    println!("{name}: {} seeds, {heads} heads made with PASTCAM_FUZZ_SEED={seed}", seeds.len());
}

#[test]
fn damaged_heads_of_rtsp_leave_the_stream_to_others() {
    let (setup, url) = served("rtsp-heads");
    let address = url.trim_start_matches("rtsp://").split('/').next().unwrap().to_string();
    let mut r = setup.start();
    each("rtsp", 0, |head| {
        // The library closes what it cannot read while it is still being sent.
        let mut socket = TcpStream::connect(&address).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
        if socket.write_all(head).is_ok() && socket.shutdown(Shutdown::Write).is_ok() {
            let _ = socket.read(&mut [0; 4096]);
        }
        r.expect_alive();
    });
    assert!(Rude::connect(&url).play().contains(" 200 "), "{}", r.log());
    until("the one that played to be gone with its connection", || (viewers(&r) == 0).then_some(()));
    assert!(!r.log().contains("CRITICAL"), "{}", r.log());
}

#[test]
fn damaged_heads_of_http_get_one_error_and_take_no_picture() {
    let mut r = Setup::new("http-heads").start();
    // The method stays: what begins with a command is one.
    each("http", 3, |head| {
        let answer = exchange(r.setup.port, head, true);
        // A head cut to its blank line's first half may be answered by nothing but the first error.
        let line = client::one_line(&answer);
        assert!(line == "UNKNOWN_COMMAND" || line.starts_with("ERR usage"), "{line:?} to {:?}", String::from_utf8_lossy(head));
        r.expect_alive();
    });
    assert_eq!(r.names(), [""; 0]);
    said::health(&r.ask("health"));
}
