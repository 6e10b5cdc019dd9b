//! Owns `status`: one short line for people and scripts, one JSON object for everything else.

use serde_json::{Value, json};

use super::Commands;
use crate::budget::Budget;
use crate::config::Config;
use crate::events::{self, Disk};
use crate::health;
use crate::ring::Stats;

/// Time over which the frame rate is counted (s).
const RATE_OVER_S: f64 = 10.0;

struct Seen {
    age_s: Option<f64>,
    fps: f64,
    exposure_us: Option<f64>,
    gain: Option<f64>,
    newest: Option<crate::frame::FrameMeta>,
    ring: Stats,
}

fn round(v: f64, digits: i32) -> f64 {
    let k = 10f64.powi(digits);
    (v * k).round() / k
}

impl Commands {
    fn seen(&self) -> Seen {
        let now = self.clock.boot();
        let ring = self.frames.past.stats();
        let (newest, fps) = self.frames.past.look(|m| {
            let Some(last) = m.len().checked_sub(1) else { return (None, 0.0) };
            let newest = *m.get(last);
            let first = (0..=last)
                .rev()
                .take_while(|i| newest.boot.since(m.get(*i).boot).as_secs_f64() <= RATE_OVER_S)
                .last()
                .unwrap_or(last);
            let time = newest.boot.since(m.get(first).boot).as_secs_f64();
            (Some(newest), if time > 0.0 { (last - first) as f64 / time } else { 0.0 })
        });
        Seen {
            age_s: newest.map(|m| now.since(m.boot).as_secs_f64()),
            fps,
            exposure_us: newest.and_then(|m| m.exposure).map(|e| e.time_us),
            gain: newest.and_then(|m| m.exposure).map(crate::frame::Exposure::gain),
            newest,
            ring,
        }
    }

    /// `OK state=… mode=… …`, at most 240 bytes.
    pub(super) fn status_line(&self) -> String {
        let s = self.seen();
        let dash = || "-".to_string();
        let disk = match self.exporter.trouble() {
            Some((Disk::Hung, _)) => events::word(&Disk::Hung),
            _ => self.exporter.free().map_or_else(dash, |b| format!("{}MiB", b >> 20)),
        };
        format!(
            "OK state={} mode={} age={} fps={:.1} exp={} gain={} ring={}/{:.1}s drops={} clients={} disk={disk} temp={} clock={} up={}s source={}",
            self.gauges.state().word(),
            if self.gauges.night() { "NIGHT" } else { "DAY" },
            s.age_s.map_or_else(dash, |a| format!("{a:.2}s")),
            s.fps,
            s.exposure_us.map_or_else(dash, |e| format!("{:.1}ms", e / 1e3)),
            s.gain.map_or_else(dash, |g| format!("{g:.2}")),
            s.ring.frames,
            s.ring.seconds,
            self.lost(),
            (self.clients)(),
            health::temperature().map_or_else(dash, |t| format!("{t:.1}C")),
            self.clock.quality().word(),
            self.clock.boot().since(self.started).as_secs(),
            self.source_word(),
        ) + &self.lost_word()
            + &self.notes_word()
    }

    /// ` why=(SENTENCE)` while there are no frames; the line's end may be cut off.
    fn lost_word(&self) -> String {
        self.gauges.lost_because().map_or_else(String::new, |why| format!(" why=({why})"))
    }

    /// ` notes=N (the first …)`, or nothing where there is nothing to say; the line's end may be cut off.
    fn notes_word(&self) -> String {
        let notes = self.notes.lines();
        notes.first().map_or_else(String::new, |first| format!(" notes={} ({first})", notes.len()))
    }

    /// The kind of source in use: `camera`, `pattern`, `file`, `rtsp` or `http`; `auto` until that has been decided.
    fn source_word(&self) -> &'static str {
        self.gauges.source().unwrap_or_else(|| self.config().camera.spec().word())
    }

    fn lost(&self) -> u64 {
        self.frames.dropped() + self.gauges.source_lost.load(std::sync::atomic::Ordering::Relaxed)
    }

    /// What is known of hot pixels.
    fn hot_json(&self) -> Value {
        let hot = self.exporter.hot();
        json!({"state": hot.state().word(), "known": hot.known(), "repaired_last": hot.repaired_last()})
    }

    /// What the entries of `auto` do, those that the keeper goes by.
    fn auto_json(&self) -> Vec<Value> {
        use std::sync::atomic::Ordering::Relaxed;
        let now = self.clock.boot();
        let json = self.auto.all().into_iter().map(|(tag, told)| {
            let (on, next) = told.state();
            json!({
                "tag": tag.as_ref().map(crate::verbs::Tag::as_str),
                "on": on,
                "next_s": next.map(|next| round(next.since(now).as_secs_f64(), 1)),
                "taken": told.taken.load(Relaxed),
                "left_out": told.left_out.load(Relaxed),
            })
        });
        json.collect()
    }

    /// Everything, as one line of JSON.
    pub(super) fn status_json(&self, config: &Config) -> String {
        use std::sync::atomic::Ordering::Relaxed;
        let s = self.seen();
        let g = &self.gauges;
        let (level, budget) = (g.level(), Budget::of(config, g.sent_pixels.load(Relaxed)));
        let rss = health::rss_bytes().unwrap_or(0);
        let real = |v: Option<f64>, digits| v.map_or(Value::Null, |v| json!(round(v, digits)));
        let newest = s.newest;
        let recording = self.recorder.under_way();
        let stack = self.jobs.last_stack();
        json!({
            "ok": true,
            "version": env!("CARGO_PKG_VERSION"),
            "commit": Some(env!("PASTCAM_BUILT_FROM")).filter(|c| !c.is_empty()),
            "state": g.state().word(),
            "mode": if g.night() { "NIGHT" } else { "DAY" },
            "level": real(level.map(|(l, _)| f64::from(l)), 1),
            "exit_threshold": real(level.map(|(_, t)| t), 1),
            "uptime_s": round(self.clock.boot().since(self.started).as_secs_f64(), 1),
            "frame": {
                "id": newest.map(|m| m.id),
                "age_s": real(s.age_s, 3),
                "fps": round(s.fps, 2),
                "width": newest.map(|m| m.layout.width),
                "height": newest.map(|m| m.layout.height),
                "exposure_us": real(s.exposure_us, 0),
                "gain": real(s.gain, 3),
                "lux": real(newest.and_then(|m| m.lux), 3),
                "colour_temperature": newest.and_then(|m| m.colour_temperature),
                "focus": newest.and_then(|m| m.focus),
            },
            "ring": {
                "frames": s.ring.frames,
                "capacity": s.ring.capacity,
                "seconds": round(s.ring.seconds, 2),
                "bytes": self.frames.resident(),
                "dropped": self.frames.dropped(),
                "locked": self.frames.past.locking() == crate::ring::Locking::Locked,
                "kept": config.ring.persist,
            },
            "source": {
                "kind": self.source_word(),
                "spec": config.camera.source.shown(),
                "why": g.lost_because(),
                "lost": g.source_lost.load(Relaxed),
                "restarts": g.restarts.load(Relaxed),
                "rebuilds": g.rebuilds.load(Relaxed),
            },
            "controls": self.tuning_json(),
            "video": {
                "encoder": self.video.encoder().map(crate::codec::Implementation::word),
                "pass_through": self.video.pass_through_state().map(crate::video::PassThroughState::word),
                "viewers": self.rtsp.as_ref().map(crate::video::rtsp::Rtsp::viewers),
                "repeated": g.repeated.load(Relaxed),
            },
            "recording": recording.map(|u| json!({
                "name": u.name,
                "seconds": round(u.seconds, 1),
                "bytes": u.bytes,
                "lost": u.lost,
                "by_clock": u.by_clock,
            })),
            "recorded": self.recorder.last().map(|r| json!({
                "name": r.file.file_name().map(|n| n.to_string_lossy()),
                "seconds": round(r.seconds, 1),
                "pictures": r.pictures,
                "files": r.files,
                "lost_s": round(r.lost_s, 1),
                "ended": events::word(&r.ended),
                "why": Some(r.why).filter(|why| !why.is_empty()),
            })),
            "stack": {
                "configured": config.export.stack_mode.word(),
                "mode": stack.map(|s| s.stacked.mode.word()),
                "frames": stack.map(|s| s.stacked.frames),
                "averaged_percent": real(stack.and_then(|s| s.stacked.averaged_percent()), 1),
                "reference": stack.map(|s| s.reference),
            },
            "hot_pixels": self.hot_json(),
            "auto": self.auto_json(),
            "switches": g.switches.load(Relaxed),
            "saved": g.saved.load(Relaxed),
            "failed": g.failed.load(Relaxed),
            "jobs": self.jobs.pending(),
            "clients": (self.clients)(),
            "disk": self.exporter.trouble().map_or("ok".to_string(), |(disk, _)| events::word(&disk)),
            "disk_free_bytes": self.exporter.free(),
            "rss_bytes": rss,
            "rss_beyond_ring_bytes": rss.saturating_sub(self.frames.resident() as u64),
            "memory": {"need_bytes": budget.need(), "limit_bytes": budget.limit()},
            "pace_ms": g.pace_ms.load(Relaxed),
            "swap_percent": round(health::swap_percent(), 1),
            "temperature_c": real(health::temperature(), 1),
            "clock": self.clock.quality().word(),
            "age_rule": self.exporter.age_rule(),
            "notes": self.notes.lines(),
        })
        .to_string()
    }
}
