//! Owns `pastcam check`: asks a running program for its status and judges it in the form that Nagios, Icinga, Zabbix, Docker and
//! systemd understand: one line with performance data, and an exit code. Never changes anything there. Main thread.

use std::fmt::{self, Write as _};
use std::net::{SocketAddr, ToSocketAddrs};
use std::time::Duration;

use serde_json::Value;

use crate::error::{Error, Kind, Result};
use crate::send;

/// The four exit codes of the monitoring plugins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Code {
    /// All is well.
    Ok = 0,
    /// It works, but somebody should look.
    Warning = 1,
    /// It does not do what it is for.
    Critical = 2,
    /// The check itself could not be made.
    Unknown = 3,
}

impl Code {
    fn word(self) -> &'static str {
        match self {
            Code::Ok => "OK",
            Code::Warning => "WARNING",
            Code::Critical => "CRITICAL",
            Code::Unknown => "UNKNOWN",
        }
    }
}

/// What a check came to; its text is the line for the monitor.
#[derive(Debug, Clone, PartialEq)]
pub struct Verdict {
    /// The exit code.
    pub code: Code,
    text: String,
    data: String,
}

impl Verdict {
    /// The check could not be made.
    pub fn unknown(why: impl fmt::Display) -> Verdict {
        Verdict::plain(Code::Unknown, why)
    }

    fn plain(code: Code, text: impl fmt::Display) -> Verdict {
        Verdict { code, text: text.to_string(), data: String::new() }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The bar begins the performance data.
        let text = self.text.replace('|', "/").replace(['\n', '\r'], " ");
        write!(f, "PASTCAM {} - {text}", self.code.word())?;
        if self.data.is_empty() { Ok(()) } else { write!(f, " | {}", self.data) }
    }
}

/// Share of frames lost since the start above which the check warns.
const DROPS: f64 = 0.01;
/// Share of the memory limit above which it warns.
const MEMORY: f64 = 0.9;

/// What the command line of a check says.
#[derive(Debug, Clone, PartialEq)]
pub struct Check {
    /// Age of the newest frame (s) above which it warns. `None`: 5, or three frame times where these are longer.
    pub warning_s: Option<f64>,
    /// The same for critical. `None`: 30, or ten frame times.
    pub critical_s: Option<f64>,
    /// Time for all of it but finding the host's addresses, which the system's resolver bounds.
    pub timeout: Duration,
    /// `network.token` of the program that is asked.
    pub token: String,
}

impl Check {
    /// Reads `HOST[:PORT] [-w S] [-c S] [--timeout S] [token=T]`; returns the address with it.
    pub fn parse(words: &[String]) -> Result<(String, Check)> {
        let usage = |what: String| Error::new(Kind::Usage, format!("{what}; see pastcam --help"));
        let mut check = Check { warning_s: None, critical_s: None, timeout: Duration::from_secs(10), token: String::new() };
        let mut host = None;
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let (name, glued) = match word.split_once('=') {
                Some((name, value)) => (name, Some(value)),
                None => (word.as_str(), None),
            };
            let mut seconds = || {
                let text = glued.or_else(|| words.next().map(String::as_str)).unwrap_or_default();
                let number = text.strip_suffix('s').unwrap_or(text).parse::<f64>().ok();
                number
                    .filter(|n| (0.0..=1e6).contains(n))
                    .ok_or_else(|| usage(format!("{name} wants a number of seconds, 0 to 1000000, not {text:?}")))
            };
            match name {
                "-w" | "--warning" => check.warning_s = Some(seconds()?),
                "-c" | "--critical" => check.critical_s = Some(seconds()?),
                "-t" | "--timeout" => {
                    check.timeout = Duration::from_secs_f64(seconds()?);
                    if check.timeout.is_zero() {
                        return Err(usage(format!("{name} must be above 0")));
                    }
                }
                "token" if glued.is_some() => check.token = glued.unwrap_or_default().into(),
                _ if !word.starts_with('-') && host.is_none() => host = Some(word.clone()),
                _ => return Err(usage(format!("check takes no {word:?}"))),
            }
        }
        if let (Some(warning), Some(critical)) = (check.warning_s, check.critical_s) {
            if warning > critical {
                return Err(usage(format!("-w must not be above -c: {warning} and {critical}")));
            }
        }
        Ok((host.ok_or_else(|| usage("check wants HOST[:PORT]".into()))?, check))
    }

    /// Asks the program there and judges its answer.
    pub fn run(&self, host: &str, port: u16) -> Verdict {
        let addresses: Vec<SocketAddr> = match (host, port).to_socket_addrs() {
            Ok(found) => found.collect(),
            Err(e) => return Verdict::unknown(Error::caused(Kind::Usage, format!("find {host}"), e)),
        };
        let mut command = "status json".to_string();
        if !self.token.is_empty() {
            let _ = write!(command, " token={}", self.token);
        }
        let answer = match send::send_within(host, port, &addresses, &command, self.timeout) {
            Ok(answer) => answer.line,
            Err(e) => return Verdict::plain(Code::Critical, e),
        };
        if answer.starts_with("ERR denied") {
            return Verdict::unknown(format!("{answer} (give its network.token as token=…)"));
        }
        match serde_json::from_str::<Value>(&answer) {
            Ok(status) if status["state"].is_string() => self.judge(&status),
            _ => {
                let begin: String = answer.chars().take(60).collect();
                Verdict::unknown(format!("{host} port {port} does not answer status json as pastcam does, but with {begin:?}"))
            }
        }
    }

    /// Judges the answer of `status json`.
    fn judge(&self, status: &Value) -> Verdict {
        let real = |path: &str| status.pointer(path).and_then(Value::as_f64);
        let text = |path: &str| status.pointer(path).and_then(Value::as_str).unwrap_or_default();
        let (state, age, fps) = (text("/state"), real("/frame/age_s"), real("/frame/fps").unwrap_or(0.0));
        // By night a frame takes as long as its exposure, and with too much swap in use most are left out.
        let exposure = real("/frame/exposure_us").unwrap_or(0.0) / 1e6;
        let period = exposure.max(if fps > 0.0 { 1.0 / fps } else { 0.0 }).max(real("/pace_ms").unwrap_or(0.0) / 1e3);
        let critical = self.critical_s.unwrap_or_else(|| (10.0 * period).max(30.0).max(self.warning_s.unwrap_or(0.0)));
        let warning = self.warning_s.unwrap_or_else(|| (3.0 * period).max(5.0).min(critical));
        let mut found: Vec<(Code, String)> = Vec::new();
        match age {
            None => found.push((Code::Critical, format!("{state}: no frame yet"))),
            Some(age) if age > critical => found.push((Code::Critical, format!("the newest frame is {age:.1} s old"))),
            Some(age) if age > warning => found.push((Code::Warning, format!("the newest frame is {age:.1} s old"))),
            Some(_) => {}
        }
        if state == "LOST" {
            let why = text("/source/why");
            let why = if why.is_empty() { String::new() } else { format!(" ({why})") };
            found.push((Code::Critical, format!("the camera is lost{why}")));
        }
        match text("/disk") {
            "" | "ok" => {}
            "gone" => found.push((Code::Critical, "the disk of the pictures is gone".into())),
            word => found.push((Code::Warning, format!("the disk of the pictures is {word}"))),
        }
        let drops = real("/ring/dropped").unwrap_or(0.0) + real("/source/lost").unwrap_or(0.0);
        let count = real("/frame/id").unwrap_or(0.0) + 1.0;
        if drops > DROPS * count {
            found.push((Code::Warning, format!("{drops} of {count} frames were lost")));
        }
        if let Some(pace) = real("/pace_ms").filter(|pace| *pace > 0.0) {
            let swap = real("/swap_percent").unwrap_or(0.0);
            found.push((Code::Warning, format!("throttled: {swap:.0} % of the swap is in use, one frame in {pace} ms is kept")));
        }
        if text("/source/kind") == "pattern" && !text("/source/spec").starts_with("pattern") {
            found.push((Code::Warning, "no camera: the picture is a drawn test pattern".into()));
        }
        let memory = (real("/rss_beyond_ring_bytes").unwrap_or(0.0), real("/memory/limit_bytes").unwrap_or(0.0));
        if memory.1 > 0.0 && memory.0 > MEMORY * memory.1 {
            let mib = |bytes: f64| (bytes / 1_048_576.0).round();
            found.push((
                Code::Warning,
                format!("{} of {} MiB beyond the ring are in use (limits.max_rss_mib)", mib(memory.0), mib(memory.1)),
            ));
        }
        let code = found.iter().map(|(code, _)| *code).max().unwrap_or(Code::Ok);
        let mut said: Vec<String> = found.into_iter().filter(|(c, _)| *c == code).map(|(_, text)| text).collect();
        if said.is_empty() {
            let drawn = if text("/source/kind") == "pattern" { ", a test pattern" } else { "" };
            said.push(format!("{state}, frame {:.2} s old{drawn}", age.unwrap_or(0.0)));
        }
        let mut data = Vec::new();
        data.extend(age.map(|age| format!("age={age:.2}s;{warning};{critical}")));
        data.push(format!("fps={fps}"));
        data.push(format!("drops={drops}c"));
        data.extend(real("/disk_free_bytes").map(|bytes| format!("disk_free={bytes}B")));
        data.extend(real("/rss_bytes").map(|bytes| format!("rss={bytes}B")));
        data.extend(real("/temperature_c").map(|c| format!("temperature={c}")));
        Verdict { code, text: said.join("; "), data: data.join(" ") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn words(line: &str) -> Vec<String> {
        line.split_whitespace().map(String::from).collect()
    }

    fn check(line: &str) -> Check {
        Check::parse(&words(&format!("cam {line}"))).unwrap().1
    }

    fn status() -> Value {
        json!({"state": "RUNNING", "frame": {"id": 999, "age_s": 0.081, "fps": 10.0, "exposure_us": 66_666},
            "ring": {"dropped": 0}, "source": {"kind": "camera", "spec": "camera", "lost": 0, "why": null}, "disk": "ok",
            "disk_free_bytes": 1_048_576, "rss_bytes": 2_097_152, "rss_beyond_ring_bytes": 1_048_576,
            "memory": {"limit_bytes": 10_485_760}, "swap_percent": 0.0, "pace_ms": 0, "temperature_c": null})
    }

    /// The verdict where some members differ, by their pointers.
    fn judged(options: &str, changes: &[(&str, Value)]) -> (u8, String) {
        let mut s = status();
        for (path, value) in changes {
            *s.pointer_mut(path).unwrap() = value.clone();
        }
        let verdict = check(options).judge(&s);
        (verdict.code as u8, verdict.to_string())
    }

    #[test]
    fn a_line_has_a_word_a_sentence_and_the_figures() {
        let line = "PASTCAM OK - RUNNING, frame 0.08 s old | age=0.08s;5;30 fps=10 drops=0c disk_free=1048576B rss=2097152B";
        assert_eq!(judged("", &[]), (0, line.into()));
        let (code, line) = judged("-w 0.05 -c 1", &[]);
        assert_eq!(code, 1);
        assert!(line.starts_with("PASTCAM WARNING - the newest frame is 0.1 s old | age=0.08s;0.05;1 fps=10 "), "{line}");
    }

    #[test]
    fn each_trouble_has_its_code() {
        for (path, value, code, says) in [
            ("/frame/age_s", json!(5.1), 1, "5.1 s old"),
            ("/frame/age_s", json!(30.1), 2, "30.1 s old"),
            ("/frame/age_s", json!(null), 2, "no frame yet"),
            ("/state", json!("LOST"), 2, "the camera is lost"),
            ("/disk", json!("low"), 1, "disk of the pictures is low"),
            ("/disk", json!("hung"), 1, "disk of the pictures is hung"),
            ("/disk", json!("gone"), 2, "disk of the pictures is gone"),
            ("/ring/dropped", json!(10), 0, "RUNNING"),
            ("/ring/dropped", json!(11), 1, "11 of 1000 frames were lost"),
            ("/source/lost", json!(500), 1, "500 of 1000"),
            ("/pace_ms", json!(1500), 1, "throttled"),
            ("/source/kind", json!("pattern"), 1, "no camera"),
            ("/rss_beyond_ring_bytes", json!(9_500_000), 1, "9 of 10 MiB beyond the ring"),
        ] {
            let (got, line) = judged("", &[(path, value.clone())]);
            assert!(got == code && line.contains(says), "{path}={value}: {got} {line}");
        }
        let both = judged("", &[("/disk", json!("low")), ("/state", json!("LOST")), ("/source/why", json!("it | refuses"))]);
        assert!(both.0 == 2 && both.1.starts_with("PASTCAM CRITICAL - the camera is lost (it / refuses) | age="), "{both:?}");
        let asked_for = [("/source/kind", json!("pattern")), ("/source/spec", json!("pattern:lux=2"))];
        assert_eq!(judged("", &asked_for).0, 0, "a pattern that was asked for is no fault");
    }

    #[test]
    fn a_night_frame_may_take_its_time() {
        let night = [("/frame/exposure_us", json!(6e6)), ("/frame/fps", json!(0.16)), ("/frame/age_s", json!(12.0))];
        assert_eq!(judged("", &night).0, 0);
        assert_eq!(judged("-w 5", &night).0, 1, "what is asked for holds");
    }

    #[test]
    fn the_command_line_is_read_or_refused() {
        let c = check("-w 2.5 --critical=7s -t 3 token=river");
        assert_eq!(
            (c.warning_s, c.critical_s, c.timeout, c.token.as_str()),
            (Some(2.5), Some(7.0), Duration::from_secs(3), "river")
        );
        for bad in
            ["", "cam -w", "cam -w x", "cam -w -1", "cam -w nan", "cam -w 9 -c 3", "cam --timeout 0", "cam dog", "cam -x 3"]
        {
            assert_eq!(Check::parse(&words(bad)).unwrap_err().kind, Kind::Usage, "{bad}");
        }
    }
}
