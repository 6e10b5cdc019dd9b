//! The door: reads the command line, calls the library, returns its exit code.

#![deny(clippy::print_stdout, clippy::print_stderr, reason = "they panic where nobody reads; say and complain do not")]

use std::ffi::OsString;
use std::fmt::Display;
use std::io::{self, ErrorKind, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use pastcam::app::{self, Exit, Options};
use pastcam::budget::Budget;
use pastcam::check::{Check, Verdict};
use pastcam::codec::Implementation;
use pastcam::error::{Error, Kind, Result};
use pastcam::frame::Layout;
use pastcam::night::simulate;
use pastcam::night::trace::Trace;
use pastcam::send;
use pastcam::video::choose;

const HELP: &str = "pastcam: a camera that remembers

  pastcam [--config FILE] [--source SPEC]        run; SPEC: auto, pattern[:KEY=VALUE,...], file:PATH, rtsp://..., http://...
  pastcam check-config [--config FILE]           say whether the configuration is good, and what the ring will hold
  pastcam send HOST[:PORT] COMMAND...            send one command; exit code 0 done, 1 refused, 2 no answer
  pastcam send HOST[:PORT] update FILE token=T   send an update to an image
  pastcam [--config FILE] send here COMMAND...   ask the program on this machine, with port and token of its configuration
  pastcam check HOST[:PORT] [-w S] [-c S] [--timeout S] [token=T]
                                                 one line for a monitor; exit code 0 ok, 1 warning, 2 critical, 3 unknown
  pastcam simulate-night TRACE.csv [--json] [--config FILE]
                                                 run the day and night rule over a scene (t_s,lux)
  pastcam test-encoder [hardware|x264|openh264 [WIDTHxHEIGHT]] [--config FILE]
                                                 encode, decode and compare a picture
  pastcam --version | --help

--defaults FILE names a configuration whose values take the place of the program's own defaults.
Exit codes: 0 stopped as asked, 1 could not start, 42 too much memory, 43 camera lost, 44 a thread panicked, 64 wrong command
line.";

/// Writes an answer to stdout. A reader that has closed its end, as `head -1` does, has what it wanted.
fn say(text: impl Display) -> Result<()> {
    let mut out = io::stdout().lock();
    match writeln!(out, "{text}").and_then(|()| out.flush()) {
        Err(e) if e.kind() != ErrorKind::BrokenPipe => Err(Error::caused(Kind::Io, "write the answer to stdout", e)),
        _ => Ok(()),
    }
}

/// Writes a message to stderr. Where nobody reads it, the exit code still tells.
fn complain(e: &Error) {
    let _ = writeln!(io::stderr(), "pastcam: {e}");
}

fn usage(what: impl Into<String>) -> Error {
    Error::new(Kind::Usage, format!("{}; see pastcam --help", what.into()))
}

/// The words of the command line: plain ones and options.
struct Arguments {
    plain: Vec<String>,
    options: Options,
    json: bool,
}

fn arguments(words: impl Iterator<Item = String>) -> Result<Arguments> {
    let mut a = Arguments { plain: Vec::new(), options: Options::default(), json: false };
    let mut words = words.peekable();
    while let Some(word) = words.next() {
        let (name, glued) = match word.split_once('=') {
            Some((n, v)) if n.starts_with("--") => (n.to_string(), Some(v.to_string())),
            _ => (word.clone(), None),
        };
        let mut value = || glued.clone().or_else(|| words.next()).ok_or_else(|| usage(format!("{name} wants a value")));
        match name.as_str() {
            "--config" => a.options.config = Some(PathBuf::from(value()?)),
            "--defaults" => a.options.defaults = Some(PathBuf::from(value()?)),
            "--source" => a.options.source = Some(value()?),
            "--json" => a.json = true,
            // What follows them is theirs.
            "send" | "check" if a.plain.is_empty() => {
                a.plain.push(word);
                a.plain.extend(words.by_ref());
            }
            _ if word.starts_with('-') => return Err(usage(format!("no such option: {word}"))),
            _ => a.plain.push(word),
        }
    }
    Ok(a)
}

fn check_config(options: &Options) -> Result<Exit> {
    let config = options.load()?;
    config.camera.tls().check()?;
    let (plan, budget) = (app::plan(&config, None)?, Budget::of(&config, 0));
    match budget.complaint() {
        Some((why, true)) => return Err(Error::new(Kind::Config, why)),
        Some((why, false)) => complain(&Error::new(Kind::Config, why)),
        None => {}
    }
    if let Some(why) = budget.shortage(plan.leaves()) {
        complain(&Error::new(Kind::Config, why));
    }
    say(format_args!("The configuration is good.\n{}\n{}", plan.words(), budget.words()))?;
    Ok(Exit::Done)
}

/// Host, port, and the token where it is known; `here` stands for the program on this machine.
fn address(to: &str, options: &Options) -> Result<(String, u16, String)> {
    if to == "here" {
        let config = options.load()?;
        let n = &config.network;
        let host = n.bind.first().map_or_else(|| "127.0.0.1".into(), ToString::to_string);
        return Ok((host, n.trigger_port, n.token.to_string()));
    }
    send::address(to).map(|(host, port)| (host, port, String::new()))
}

/// Judges the program that the command line names. Whatever goes wrong is one line on stdout, where monitors read.
fn check(words: &[String], options: &Options) -> Result<ExitCode> {
    let asked = Check::parse(words).and_then(|(to, check)| address(&to, options).map(|to| (to, check)));
    let verdict = match asked {
        Ok(((host, port, token), mut check)) => {
            if check.token.is_empty() {
                check.token = token;
            }
            check.run(&host, port)
        }
        Err(e) => Verdict::unknown(e),
    };
    say(&verdict).map(|()| ExitCode::from(verdict.code as u8))
}

/// Sends what the command line says.
fn dispatch(to: &str, command: &[String], options: &Options) -> Result<send::Answer> {
    let (host, port, token) = address(to, options)?;
    let mut command = command.to_vec();
    if !token.is_empty() && !command.iter().any(|w| w.starts_with("token=")) {
        command.push(format!("token={token}"));
    }
    match command.as_slice() {
        // A number is the protocol's own word for a file that somebody else sends.
        [verb, file, rest @ ..] if verb == "update" && file.parse::<u64>().is_err() => {
            send::send_update(&host, port, file, &rest.join(" "))
        }
        _ => send::send(&host, port, &command.join(" ")),
    }
}

fn send_command(words: &[String], options: &Options) -> ExitCode {
    let [to, command @ ..] = words else {
        complain(&usage("send wants HOST[:PORT] and a command"));
        return ExitCode::from(Exit::Usage as u8);
    };
    if command.is_empty() {
        complain(&usage("send wants a command"));
        return ExitCode::from(Exit::Usage as u8);
    }
    match dispatch(to, command, options).and_then(|answer| say(&answer.line).map(|()| answer.done)) {
        Ok(done) => ExitCode::from(u8::from(!done)),
        Err(e) => {
            complain(&e);
            ExitCode::from(if e.kind == Kind::Usage { Exit::Usage as u8 } else { 2 })
        }
    }
}

fn simulate_night(path: &str, a: &Arguments) -> Result<Exit> {
    let config = a.options.load()?;
    // A bad row is no fault of the command line.
    let trace = Trace::read(path.as_ref()).map_err(|e| Error { kind: Kind::Source, ..e })?;
    let frames = (trace.end() - trace.start()) * config.camera.framerate;
    if frames > simulate::FRAMES_MAX {
        let rule = format!("a scene has at most {} frames by day", simulate::FRAMES_MAX);
        let cure = "shorten it or lower camera.framerate";
        return Err(Error::new(Kind::Source, format!("simulate {path}: {rule}, not {frames:.0}; {cure}")));
    }
    let report = simulate::run(&trace, &app::night_settings(&config));
    say(if a.json { report.to_json() } else { report.to_text() }.trim_end())?;
    Ok(Exit::Done)
}

/// Every encoder that is there, or the one that is named; fails with the first that fails.
fn test_encoder(words: &[&str], options: &Options) -> Result<Exit> {
    let config = options.load()?;
    let (word, size) = match words {
        [] => ("auto", None),
        [word] => (*word, None),
        [word, size] => (*word, Some(*size)),
        _ => return Err(usage("test-encoder wants at most an encoder and a size")),
    };
    let layout = match size.map(|s| s.split_once('x').and_then(|(w, h)| Some((w.parse().ok()?, h.parse().ok()?)))) {
        None => Layout::new(config.camera.width, config.camera.height),
        Some(Some((w, h))) if (16..=4096).contains(&w) && (16..=4096).contains(&h) && w % 2 == 0 && h % 2 == 0 => {
            Layout::new(w, h)
        }
        Some(_) => return Err(usage("a size is WIDTHxHEIGHT, both even and from 16 to 4096")),
    };
    let coders = match Implementation::of(word) {
        Some(coder) => vec![coder],
        None if word == "auto" => choose::candidates(None, layout),
        None => return Err(usage(format!("encoders are hardware, x264 and openh264, not {word}"))),
    };
    for coder in coders {
        say(choose::test(coder, layout)?)?;
    }
    Ok(Exit::Done)
}

/// What the C library's memory is told, so that a thousand pictures leave nothing behind: the ring is what memory is for.
/// One arena serves all threads (with one each, 11 MiB more stayed in use), and buffers of half a MiB and more go back to
/// the system at once (4 MiB). The library reads this only at start, so the program starts itself once more; where that
/// fails, or the library is another, it runs all the same.
fn with_little_memory() {
    use std::os::unix::process::CommandExt;
    const ARENAS: &str = "MALLOC_ARENA_MAX";
    if std::env::var_os(ARENAS).is_some() {
        return;
    }
    let Ok(program) = std::env::current_exe() else { return };
    let mut words = std::env::args_os();
    let mut again = std::process::Command::new(program);
    if let Some(name) = words.next() {
        again.arg0(name);
    }
    // Returns only when it failed.
    let _ = again.args(words).env(ARENAS, "1").env("MALLOC_MMAP_THRESHOLD_", "524288").exec();
}

/// The command line. `std::env::args` would panic where a word is no text.
fn words() -> Result<Vec<String>> {
    let text = |word: OsString| word.into_string().map_err(|w| usage(format!("not UTF-8: {}", w.to_string_lossy())));
    std::env::args_os().skip(1).map(text).collect()
}

/// What `--version` and `--help` show.
fn told(words: &[String]) -> Option<String> {
    match words {
        [word] if matches!(word.as_str(), "--version" | "-V") => Some(format!("pastcam {}", env!("PASTCAM_VERSION"))),
        [word] if matches!(word.as_str(), "--help" | "-h" | "help") => Some(HELP.into()),
        _ => None,
    }
}

fn carry_out(words: Vec<String>) -> Result<ExitCode> {
    if let Some(text) = told(&words) {
        return say(text).map(|()| ExitCode::SUCCESS);
    }
    let a = arguments(words.into_iter())?;
    let plain: Vec<&str> = a.plain.iter().map(String::as_str).collect();
    match plain.as_slice() {
        [] if !a.json => {
            with_little_memory();
            app::run(&a.options).map(|exit| ExitCode::from(exit as u8))
        }
        ["check-config"] if !a.json => check_config(&a.options).map(|exit| ExitCode::from(exit as u8)),
        ["simulate-night", trace] => simulate_night(trace, &a).map(|exit| ExitCode::from(exit as u8)),
        ["check", ..] => check(&a.plain[1..], &a.options),
        ["send", ..] => Ok(send_command(&a.plain[1..], &a.options)),
        ["test-encoder", words @ ..] if !a.json => test_encoder(words, &a.options).map(|exit| ExitCode::from(exit as u8)),
        ["simulate-night"] => Err(usage("simulate-night wants a file of t_s,lux rows")),
        [] => Err(usage("--json belongs to simulate-night")),
        [word, ..] => Err(usage(format!("no such command or too many words: {word}"))),
    }
}

fn main() -> ExitCode {
    words().and_then(carry_out).unwrap_or_else(|e| {
        complain(&e);
        ExitCode::from(if e.kind == Kind::Usage { Exit::Usage as u8 } else { Exit::Failed as u8 })
    })
}
