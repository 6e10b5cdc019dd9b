//! Owns `tuning.json`: the controls that outlive the program, in the folder of the pictures; and the reading of its
//! predecessor `csi_tuning.json`. Believes no value (that is the camera's matter). Read on the main thread, written on the
//! thread `tuning`; every call may block for as long as the disk does.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::Map;
use crate::disk;
use crate::error::{Error, Kind, Result};

/// The file's name.
pub const NAME: &str = "tuning.json";
/// The name it had in the program before this one.
pub const OLD_NAME: &str = "csi_tuning.json";

/// A flat object of control names and values.
fn parse(bytes: &[u8]) -> Result<Map> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    serde_json::from_slice(bytes)
        .map_err(|e| Error::caused(Kind::Config, "it is not one JSON object of control names and values", e))
}

/// What was persisted, and what to say about it. A file that cannot be read costs its values, never the start.
pub fn load(dir: &Path) -> (Map, Option<Result<String>>) {
    let candidates = [dir.join(NAME), PathBuf::from(OLD_NAME), dir.join(OLD_NAME)];
    for path in candidates {
        let bytes = match disk::read(&path, disk::SMALL) {
            Ok(bytes) => bytes,
            Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => continue,
            Err(e) => {
                let what = format!("read {}; its controls are not applied", path.display());
                return (Map::new(), Some(Err(Error::caused(Kind::Disk, what, e))));
            }
        };
        return match parse(&bytes) {
            Ok(map) => {
                let said = format!("{} controls are set as {} says", map.len(), path.display());
                (map, Some(Ok(said)))
            }
            Err(e) => {
                let what = format!("read {}; its controls are not applied", path.display());
                (Map::new(), Some(Err(Error::caused(Kind::Config, what, e))))
            }
        };
    }
    (Map::new(), None)
}

/// Replaces the file: whole or not at all, and durable when this returns. A file that was not ours to read is kept as
/// `tuning.json.bad`.
pub fn save(dir: &Path, values: &Map) -> Result<()> {
    let path = dir.join(NAME);
    let failed = |attempt: &str, e: io::Error| disk::error(attempt, &path, e);
    let broken = match disk::read(&path, disk::SMALL) {
        Ok(old) => parse(&old).is_err(),
        // A folder of that name is nobody's slip, and stays.
        Err(e) => e.kind() != io::ErrorKind::NotFound && !path.is_dir() && dir.is_dir(),
    };
    if broken {
        fs::rename(&path, dir.join(format!("{NAME}.bad"))).map_err(|e| failed("keep the broken", e))?;
    }
    let mut text = serde_json::to_vec_pretty(values).map_err(|e| failed("write", e.into()))?;
    text.push(b'\n');
    disk::replace(&path, &text).map_err(|e| failed("write", e))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn folder(word: &str) -> PathBuf {
        let dir = std::env::temp_dir().join(format!("pastcam-tuning-{}-{word}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir(&dir).unwrap();
        dir
    }

    #[test]
    fn what_is_saved_is_read_and_nothing_else_stays() {
        let dir = folder("again");
        assert!(matches!(load(&dir), (map, None) if map.is_empty()));
        let values: Map = [("Brightness".to_string(), json!(0.25)), ("ColourGains".to_string(), json!([1.5, 2.0]))].into();
        save(&dir, &values).unwrap();
        save(&dir, &values).unwrap();
        assert!(matches!(load(&dir), (map, Some(Ok(_))) if map == values));
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 1, "no draft stays");
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn the_old_file_is_read_while_there_is_no_new_one() {
        let dir = folder("old");
        fs::write(dir.join(OLD_NAME), r#"{"Contrast": 1.5}"#).unwrap();
        assert_eq!(load(&dir).0["Contrast"], 1.5);
        save(&dir, &Map::new()).unwrap();
        assert!(load(&dir).0.is_empty(), "an empty file is a file");
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn a_broken_file_costs_its_values_and_is_kept() {
        let dir = folder("broken");
        for bad in ["", "{", "[1]", "3"] {
            fs::write(dir.join(NAME), bad).unwrap();
            let (map, said) = load(&dir);
            assert!(map.is_empty() && said.unwrap().unwrap_err().to_string().contains(NAME), "{bad}");
        }
        save(&dir, &Map::new()).unwrap();
        assert_eq!(fs::read_to_string(dir.join("tuning.json.bad")).unwrap(), "3");
        let e = save(&dir.join("no"), &Map::new()).unwrap_err();
        assert!(e.kind == Kind::Disk && e.what.contains("tuning.json"), "{e}");
        fs::remove_dir_all(dir).unwrap();
    }
}
