//! Owns `hot_pixels.json`: the known pixels that outlive the program, in the folder of the pictures, and whose they are. A file of
//! another camera, size or turn is left alone until there is something better to write. The thread `hot-pixels`; every call may block
//! for as long as the disk does.

use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{List, MAX, Spot};
use crate::disk;
use crate::error::{Error, Kind, Result};
use crate::frame::Layout;

/// The file's name.
pub const NAME: &str = "hot_pixels.json";
/// What a reader can do about a file that is none.
const CURE: &str = "its pixels are learned anew; delete it if it is not this program's";

/// Whose pixels they are.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Owner {
    /// The device, whatever its rate; without secrets.
    pub source: String,
    /// How they are turned, as EXIF numbers it.
    pub turn: u8,
    /// Size of the ring's frames.
    pub width: u32,
    /// Size of the ring's frames.
    pub height: u32,
}

#[derive(Serialize, Deserialize)]
struct Content {
    #[serde(flatten)]
    owner: Owner,
    /// Column, row, how far luma, U and V stand off.
    pixels: Vec<(u16, u16, u8, i8, i8)>,
}

/// The known pixels of this owner; none where there is no file or it is somebody else's.
///
/// Errors: `disk` and `config` for a file that cannot be read.
pub fn load(dir: &Path, owner: &Owner) -> Result<Option<List>> {
    let path = dir.join(NAME);
    let failed = |kind, e: io::Error| Error::caused(kind, format!("read {}; {CURE}", path.display()), e);
    let bytes = match disk::read(&path, disk::SMALL) {
        Ok(bytes) => bytes,
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => return Ok(None),
        Err(e) => return Err(failed(Kind::Disk, e)),
    };
    let not_ours = |why: &str| failed(Kind::Config, io::Error::new(io::ErrorKind::InvalidData, why));
    let content: Content = serde_json::from_slice(&bytes).map_err(|_| not_ours("it is no list of hot pixels"))?;
    if content.owner != *owner {
        return Ok(None);
    }
    let (width, height) = (owner.width, owner.height);
    if content.pixels.len() > MAX || content.pixels.iter().any(|(x, y, ..)| u32::from(*x) >= width || u32::from(*y) >= height) {
        return Err(not_ours(&format!("it holds more than {MAX} pixels, or some outside of {width}x{height}")));
    }
    let mut spots: Vec<Spot> = content.pixels.into_iter().map(|(x, y, luma, u, v)| Spot { y, x, luma, u, v }).collect();
    spots.sort_unstable();
    spots.dedup_by_key(|s| (s.y, s.x));
    Ok(Some(List { layout: Layout::new(width, height), spots }))
}

/// Replaces the file: whole or not at all, and durable when this returns.
pub fn save(dir: &Path, owner: &Owner, list: &List) -> Result<()> {
    let path = dir.join(NAME);
    let pixels = list.spots.iter().map(|s| (s.x, s.y, s.luma, s.u, s.v)).collect();
    let content = Content { owner: owner.clone(), pixels };
    let failed = |e: io::Error| disk::error("write", &path, e);
    let mut text = serde_json::to_vec(&content).map_err(|e| failed(e.into()))?;
    text.push(b'\n');
    disk::replace(&path, &text).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn the_list_comes_back_to_its_owner_alone() {
        let dir = std::env::temp_dir().join(format!("pastcam-hot-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir(&dir).unwrap();
        let owner = Owner { source: "camera ".into(), turn: 1, width: 64, height: 48 };
        let spot = |x, y| Spot { y, x, luma: 40, u: -9, v: 0 };
        let list = List { layout: Layout::new(64, 48), spots: vec![spot(63, 0), spot(1, 47)] };
        assert_eq!(load(&dir, &owner).unwrap(), None);
        save(&dir, &owner, &list).unwrap();
        assert_eq!(load(&dir, &owner).unwrap(), Some(list.clone()));
        for other in [Owner { width: 48, ..owner.clone() }, Owner { turn: 6, ..owner.clone() }] {
            assert_eq!(load(&dir, &other).unwrap(), None);
        }
        let path = dir.join(NAME);
        let far = fs::read_to_string(&path).unwrap().replace("63,0", "64,0");
        for bad in ["", "{", "[[1,2,3,0,0]]", &far] {
            fs::write(&path, bad).unwrap();
            let e = load(&dir, &owner).unwrap_err();
            assert!(e.kind == Kind::Config && e.to_string().contains("hot_pixels.json; its pixels are learned anew"), "{e}");
        }
        save(&dir, &owner, &list).unwrap();
        assert_eq!(load(&dir, &owner).unwrap(), Some(list));
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 1, "no draft stays");
        fs::remove_dir_all(dir).unwrap();
    }
}
