//! Owns the configuration as believed: read, checked, and handed out in the words of the modules that use it.
//! Never changes after it was made; SIGHUP makes a new one. Main thread; shared read-only.

mod check;
pub mod file;
pub mod schedule;

use std::path::{Path, PathBuf};

use serde_json::{Number, Value};

use crate::error::{Error, Kind, Result};
pub use check::nearest;
pub use file::{File, Presets};

/// A configuration in which every value is known to be good.
#[derive(Debug, Clone, Default)]
pub struct Config {
    /// The file's keys and values.
    pub file: File,
}

/// The files of a certificate (PEM).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    /// The certificate, and behind it those that lead to a known authority.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

impl std::ops::Deref for Config {
    type Target = File;
    fn deref(&self) -> &File {
        &self.file
    }
}

/// A configuration number as a float: JSON numbers of this program are all within its range.
pub fn real(n: &Number) -> f64 {
    n.as_f64().unwrap_or(f64::NAN)
}

fn allow_list(blocks: &[String]) -> Result<crate::server::AllowList> {
    crate::server::AllowList::parse(blocks)
}

/// A file's keys, each of which is known and has a value of its kind.
fn written(bytes: &[u8]) -> Result<Value> {
    // Windows editors put a byte-order mark in front.
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let written: Value = serde_json::from_slice(bytes).map_err(|e| Error::caused(Kind::Config, "it is not JSON", e))?;
    if !written.is_object() {
        return Err(Error::new(Kind::Config, "the outermost value must be a group of keys in braces"));
    }
    check::shape(&written, &defaults(), "")?;
    Ok(written)
}

/// Keys with their defaults, all in range.
fn believe(written: &Value) -> Result<Config> {
    let file: File = serde_json::from_value(written.clone())
        .map_err(|e| check::misfit(written).unwrap_or_else(|| Error::caused(Kind::Config, "a value is out of range", e)))?;
    check::values(&file)?;
    Ok(Config { file })
}

/// The whole file with the program's own defaults.
fn defaults() -> Value {
    serde_json::to_value(File::default()).expect("plain data has a JSON form")
}

/// Puts what `over` says in place of what `base` says, key by key. What says no more than the program's `default` yields
/// to `base`: a copy of the whole shipped file with one key changed must not undo the machine's settings.
fn lay_over(base: &mut Value, over: Value, default: &Value) {
    match (base, over) {
        (Value::Object(base), Value::Object(over)) => {
            for (key, value) in over {
                match base.get_mut(&key) {
                    Some(below) => lay_over(below, value, &default[&key]),
                    None => _ = base.insert(key, value),
                }
            }
        }
        (base, over) if over != *default => *base = over,
        _ => {}
    }
}

impl Config {
    /// Reads a file. `None` means `config.json` in the working folder, or the defaults where there is none. `base` is a file of
    /// the same kind whose values take the place of the defaults, also where `path` only repeats the program's own.
    pub fn load(path: Option<&Path>, base: Option<&Path>) -> Result<Config> {
        let (path, must) = path.map_or((Path::new("config.json"), false), |p| (p, true));
        let what = |p: &Path| format!("read the configuration {}", p.display());
        let base = match base {
            None => None,
            Some(p) => Some(
                std::fs::read(p)
                    .map_err(|e| Error::caused(Kind::Config, what(p), e))
                    .and_then(|bytes| written(&bytes).map_err(|e| Error::caused(e.kind, what(p), e)))?,
            ),
        };
        let own = match std::fs::read(path) {
            Ok(bytes) => written(&bytes).map_err(|e| Error::caused(e.kind, what(path), e))?,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound && !must => Value::Object(serde_json::Map::new()),
            Err(e) => return Err(Error::caused(Kind::Config, what(path), e)),
        };
        believe(&match base {
            None => own,
            Some(mut base) => {
                lay_over(&mut base, own, &defaults());
                base
            }
        })
        .map_err(|e| Error::caused(e.kind, what(path), e))
    }

    /// Reads the bytes of a file.
    pub fn parse(bytes: &[u8]) -> Result<Config> {
        believe(&written(bytes)?)
    }

    /// The same configuration with some keys changed; values as JSON, or texts without their quotes.
    pub fn with(&self, changes: &[(&str, &str)]) -> Result<Config> {
        let mut all = serde_json::to_value(&self.file).expect("plain data has a JSON form");
        for (key, value) in changes {
            let place = all.pointer_mut(&format!("/{}", key.replace('.', "/")));
            let Some(place) = place.filter(|p| !p.is_object()) else {
                return Err(Error::new(Kind::Usage, format!("{key}: no such key")));
            };
            *place = if place.is_string() {
                Value::from(*value)
            } else {
                serde_json::from_str(value)
                    .map_err(|_| Error::new(Kind::Usage, format!("{key}: a number or true or false, not {value}")))?
            };
        }
        Config::parse(all.to_string().as_bytes()).map_err(|e| Error { kind: Kind::Usage, ..e })
    }

    /// The ring's file.
    pub fn persist_path(&self) -> PathBuf {
        if self.ring.persist_path.is_empty() {
            PathBuf::from(format!("/dev/shm/pastcam-{}.ring", self.network.trigger_port))
        } else {
            PathBuf::from(&self.ring.persist_path)
        }
    }

    /// The log level in the words of `log`.
    pub fn level(&self) -> log::LevelFilter {
        match self.logging.level.to_uppercase().as_str() {
            "TRACE" => log::LevelFilter::Trace,
            "DEBUG" => log::LevelFilter::Debug,
            "WARNING" | "WARN" => log::LevelFilter::Warn,
            "ERROR" | "CRITICAL" | "FATAL" => log::LevelFilter::Error,
            _ => log::LevelFilter::Info,
        }
    }

    /// Who may watch.
    pub fn watchers(&self) -> crate::server::AllowList {
        allow_list(&self.rtsp.allow).expect("`check` has parsed the list before")
    }

    /// The text in pictures, if there is to be any.
    pub fn letters(&self) -> Option<String> {
        (self.export.overlay && !self.video.overlay.is_empty()).then(|| self.video.overlay.clone())
    }

    /// The certificate of the stream.
    pub fn tls(&self) -> Option<Tls> {
        let r = &self.rtsp;
        let file = |name: &str| PathBuf::from(name);
        (!r.tls_certificate.is_empty()).then(|| Tls { certificate: file(&r.tls_certificate), key: file(&r.tls_key) })
    }

    /// Who may send commands.
    pub fn allow(&self) -> crate::server::AllowList {
        allow_list(&self.network.allow).expect("`check` has parsed the list before")
    }
}

/// The dotted names of all keys, in the order of the file.
pub fn keys() -> Vec<String> {
    fn walk(v: &Value, path: &str, out: &mut Vec<String>) {
        for (k, v) in v.as_object().into_iter().flatten() {
            let path = if path.is_empty() { k.clone() } else { format!("{path}.{k}") };
            // A group without keys of its own (`presets`) is free to hold any.
            if v.as_object().is_some_and(|m| !m.is_empty()) { walk(v, &path, out) } else { out.push(path) }
        }
    }
    let mut out = Vec::new();
    walk(&defaults(), "", &mut out);
    out
}
