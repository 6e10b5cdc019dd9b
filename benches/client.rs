//! Clients for the benchmark `scripts/bench`, in one process that costs little itself; no benchmark of its own.
//!
//! `client ask --port P[,P…] --rounds N [--pause LO-HI] COMMAND…`: each round sends each command to each port in turn, one
//! connection a command, a random pause (ms) before each; prints all latencies.
//! `client storm --port P --seconds S --hammer N --with COMMAND --silent N --probe-every MS [--probe COMMAND]…`: N clients send
//! one command back to back, N connections say nothing (opened again where the server closes them), and one client measures.
//!
//! A latency runs from before `connect` to the end of the answer. One JSON object on stdout. Errors are counted, not hidden.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrIn, bind, connect, socket};
use nix::sys::time::TimeValLike;
use serde_json::{Value, json};

/// No answer of the service takes this long; a client that waits longer reports an error.
const PATIENCE: Duration = Duration::from_secs(30);
/// Silent connections from one address: below the server's limit for one address, as from that many machines.
const SILENT_PER_ADDRESS: usize = 8;

struct Args(Vec<String>);

impl Args {
    fn after(&self, key: &str) -> Option<&str> {
        self.0.iter().position(|a| a == key).and_then(|i| self.0.get(i + 1)).map(String::as_str)
    }
    fn number<T: std::str::FromStr>(&self, key: &str, default: T) -> T {
        self.after(key).map_or(default, |v| v.parse().unwrap_or_else(|_| panic!("{key} takes a number, not {v:?}")))
    }
    fn all(&self, key: &str) -> Vec<&str> {
        self.0.windows(2).filter(|w| w[0] == key).map(|w| w[1].as_str()).collect()
    }
    /// Words that follow no key.
    fn plain(&self) -> Vec<&str> {
        let mut out = Vec::new();
        let mut i = 1;
        while i < self.0.len() {
            if self.0[i].starts_with("--") {
                i += 1;
            } else {
                out.push(self.0[i].as_str());
            }
            i += 1;
        }
        out
    }
}

/// What became of one command: its time (ms) and its answer.
fn ask(port: u16, command: &str) -> std::io::Result<(f64, String)> {
    let begin = Instant::now();
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(format!("{command}\n").as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok((begin.elapsed().as_secs_f64() * 1e3, answer))
}

fn is_refused(answer: &str) -> bool {
    answer.is_empty() || ["ERR", "NOT_SAVED", "NO_", "UNKNOWN"].iter().any(|p| answer.starts_with(p))
}

/// Latencies (ms) and the answers that were none.
#[derive(Default)]
struct Took {
    ms: Vec<f64>,
    refused: usize,
    errors: usize,
    said: Option<String>,
}

impl Took {
    fn add(&mut self, result: std::io::Result<(f64, String)>) {
        match result {
            Ok((_, answer)) if is_refused(&answer) => {
                self.refused += 1;
                self.said = Some(answer.trim().to_string());
            }
            Ok((ms, _)) => self.ms.push(ms),
            Err(e) => {
                self.errors += 1;
                self.said = Some(e.to_string());
            }
        }
    }
    fn json(mut self, whole: bool) -> Value {
        self.ms.sort_by(f64::total_cmp);
        let at = |p: f64| self.ms.get(((self.ms.len() as f64 - 1.0) * p).round() as usize).copied();
        json!({
            "n": self.ms.len(), "refused": self.refused, "errors": self.errors, "said": self.said,
            "min": at(0.0), "p50": at(0.5), "p95": at(0.95), "p99": at(0.99), "max": at(1.0),
            "raw": if whole { json!(self.ms) } else { Value::Null },
        })
    }
}

/// CPU of this process so far (s).
fn own_cpu() -> f64 {
    let u = getrusage(UsageWho::RUSAGE_SELF).expect("linux knows the usage of this process");
    (u.user_time().num_microseconds() + u.system_time().num_microseconds()) as f64 / 1e6
}

fn main() {
    let args = Args(std::env::args().skip(1).collect());
    let out = match args.0.first().map(String::as_str) {
        Some("ask") => ask_in_turn(&args),
        Some("storm") => storm(&args),
        // Started by `cargo bench` or `cargo test`.
        _ => return,
    };
    println!("{out}");
}

fn ask_in_turn(args: &Args) -> Value {
    let ports: Vec<u16> =
        args.after("--port").expect("--port is given").split(',').map(|p| p.parse().expect("ports are numbers")).collect();
    let commands = args.plain();
    let (low, high) = args.after("--pause").map_or((0, 0), |p| {
        let (low, high) = p.split_once('-').expect("--pause takes LO-HI");
        (low.parse::<u64>().expect("a number of ms"), high.parse::<u64>().expect("a number of ms"))
    });
    let mut took: BTreeMap<(u16, &str), Took> = BTreeMap::new();
    let mut random = 12_345u64;
    for _ in 0..args.number("--rounds", 1usize) {
        for command in &commands {
            for port in &ports {
                if high > 0 {
                    random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    std::thread::sleep(Duration::from_micros(low * 1000 + (random >> 33) % ((high - low).max(1) * 1000)));
                }
                took.entry((*port, command)).or_default().add(ask(*port, command));
            }
        }
    }
    let mut by_port = BTreeMap::<String, BTreeMap<String, Value>>::new();
    for ((port, command), t) in took {
        by_port.entry(port.to_string()).or_default().insert(command.to_string(), t.json(true));
    }
    json!({ "ports": by_port, "client_cpu_s": own_cpu() })
}

/// A connection from one of the loopback addresses, which never says anything.
fn silent(port: u16, number: usize) -> nix::Result<std::os::fd::OwnedFd> {
    let fd = socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    let from = Ipv4Addr::new(127, 0, 1, (number / SILENT_PER_ADDRESS + 1) as u8);
    bind(fd.as_raw_fd(), &SockaddrIn::from(SocketAddrV4::new(from, 0)))?;
    connect(fd.as_raw_fd(), &SockaddrIn::from(SocketAddrV4::new(Ipv4Addr::LOCALHOST, port)))?;
    Ok(fd)
}

/// Whether the other side has closed it; does not wait.
fn is_closed(fd: &std::os::fd::OwnedFd) -> bool {
    use nix::sys::socket::{MsgFlags, recv};
    !matches!(recv(fd.as_raw_fd(), &mut [0; 8], MsgFlags::MSG_DONTWAIT), Err(nix::errno::Errno::EAGAIN))
}

fn storm(args: &Args) -> Value {
    let port: u16 = args.number("--port", 0);
    let time = Duration::from_secs_f64(args.number("--seconds", 10.0));
    let (hammers, quiet): (usize, usize) = (args.number("--hammer", 8), args.number("--silent", 100));
    let with = args.after("--with").unwrap_or("pastStack png").to_string();
    let probes = args.all("--probe");
    let every = Duration::from_millis(args.number("--probe-every", 10));
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let hammering: Vec<_> = (0..hammers)
            .map(|_| {
                scope.spawn(|| {
                    let mut took = Took::default();
                    while !stop.load(Relaxed) {
                        took.add(ask(port, &with));
                    }
                    took
                })
            })
            .collect();
        let keeping = scope.spawn(|| keep_silent(port, quiet, &stop));
        // The storm is to blow before anything is measured.
        std::thread::sleep(Duration::from_secs(1));
        let begin = Instant::now();
        let mut took: BTreeMap<&str, Took> = BTreeMap::new();
        let mut late = Took::default();
        let mut due = begin;
        let mut turn = 0;
        while begin.elapsed() < time && !probes.is_empty() {
            due = (due + every).max(Instant::now());
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            // How late this thread itself got a processor: what the machine adds to every number of this client.
            late.ms.push(due.elapsed().as_secs_f64() * 1e3);
            let command = probes[turn % probes.len()];
            turn += 1;
            took.entry(command).or_default().add(ask(port, command));
        }
        stop.store(true, Relaxed);
        let (open, reopened) = keeping.join().expect("it only counts");
        let mut hammered = Took::default();
        for thread in hammering {
            let t = thread.join().expect("it only counts");
            hammered.ms.extend(t.ms);
            hammered.refused += t.refused;
            hammered.errors += t.errors;
            hammered.said = hammered.said.or(t.said);
        }
        let probes: BTreeMap<String, Value> = took.into_iter().map(|(c, t)| (c.to_string(), t.json(true))).collect();
        json!({
            "seconds": begin.elapsed().as_secs_f64(), "hammer": hammered.json(false), "probes": probes,
            "own_wake_up_late_ms": late.json(true), "silent_open_at_end": open, "silent_opened_again": reopened,
            "client_cpu_s": own_cpu(),
        })
    })
}

/// Holds `quiet` silent connections until told to stop; returns how many were open at the end and how many were opened again.
fn keep_silent(port: u16, quiet: usize, stop: &AtomicBool) -> (usize, usize) {
    let mut held: Vec<_> = (0..quiet).map(|n| silent(port, n).ok()).collect();
    let mut again = 0;
    while !stop.load(Relaxed) {
        std::thread::sleep(Duration::from_millis(500));
        for (n, fd) in held.iter_mut().enumerate() {
            if fd.as_ref().is_none_or(is_closed) {
                *fd = silent(port, n).ok();
                again += 1;
            }
        }
    }
    (held.iter().flatten().filter(|fd| !is_closed(fd)).count(), again)
}
