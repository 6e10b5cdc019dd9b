//! Owns the configuration: joins the rooms' parts, reads files, and refuses what is wrong. Knows no key of a room but to join it.
//! Never changes after it was made; SIGHUP makes a new one. Main thread; shared read-only.

mod check;
pub mod file;
mod json;

use std::path::Path;

use serde_json::Value;

use crate::disk;
use crate::error::{Error, Kind, Result};
use crate::frame::Layout;
use crate::settings;
use crate::video::settings::Stream;
pub use file::File;

/// A configuration in which every value is known to be good.
#[derive(Debug, Clone, Default)]
pub struct Config {
    /// The file's keys and values.
    pub file: File,
}

impl std::ops::Deref for Config {
    type Target = File;
    fn deref(&self) -> &File {
        &self.file
    }
}

/// A file's keys over the defaults.
fn written(bytes: &[u8]) -> Result<File> {
    let written = json::read(bytes)?;
    if !written.is_object() {
        return Err(Error::new(Kind::Config, "the outermost value must be a group of keys in braces"));
    }
    believe(&written)
}

fn believe(written: &Value) -> Result<File> {
    let mut file = File::default();
    settings::take(&mut file, written, "")?;
    Ok(file)
}

/// What may stand together.
fn together(file: File) -> Result<Config> {
    check::values(&file)?;
    Ok(Config { file })
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
                disk::read(p, disk::SMALL)
                    .map_err(|e| Error::caused(Kind::Config, what(p), e))
                    .and_then(|bytes| written(&bytes).map_err(|e| Error::caused(e.kind, what(p), e)))?,
            ),
        };
        let own = match disk::read(path, disk::SMALL) {
            Ok(bytes) => written(&bytes).map_err(|e| Error::caused(e.kind, what(path), e))?,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound && !must => File::default(),
            Err(e) => return Err(Error::caused(Kind::Config, what(path), e)),
        };
        let both = match base {
            None => Ok(own),
            Some(base) => {
                let mut both = base.json();
                lay_over(&mut both, own.json(), &File::default().json());
                believe(&both)
            }
        };
        both.and_then(together).map_err(|e| Error::caused(e.kind, what(path), e))
    }

    /// Reads the bytes of a file.
    pub fn parse(bytes: &[u8]) -> Result<Config> {
        together(written(bytes)?)
    }

    /// The same configuration with some keys changed; values as JSON, or texts without their quotes.
    pub fn with(&self, changes: &[(&str, &str)]) -> Result<Config> {
        let mut all = self.file.json();
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
        believe(&all).and_then(together).map_err(|e| Error { kind: Kind::Usage, ..e })
    }

    /// The text in pictures, if there is to be any.
    pub fn letters(&self) -> Option<String> {
        (self.export.overlay && !self.video.overlay.is_empty()).then(|| self.video.overlay.clone())
    }

    /// What the encoded stream follows.
    pub fn stream(&self) -> Stream {
        let c = &self.camera;
        let sound = self.rtsp.enable && self.rtsp.sound().is_some();
        Stream {
            keys: self.video.clone(),
            camera: Layout::new(c.width, c.height),
            fps: c.framerate,
            sound,
            turned: !c.turn().is_none(),
        }
    }
}
