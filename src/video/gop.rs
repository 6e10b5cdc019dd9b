//! Owns the access units since a camera's last key frame, its GOP (group of pictures) so far. Whoever joins has a picture at once by
//! them, for a camera far away cannot be asked for another key frame. Bounded; plain data.

use super::access_unit::AccessUnit;

/// Units that are kept, all together (bytes): 3 s at 8 Mbit/s. A camera that needs more makes who joins wait for its key frame.
pub const MOST: usize = 3 << 20;
/// Units that are kept: a key frame a minute at 30 a second. Where nothing moves they are of a few bytes, and each costs some
/// hundred more; and whoever joins runs through them one by one.
const MOST_UNITS: usize = 1800;

/// See the module's first lines.
#[derive(Default)]
pub struct GopCache {
    units: Vec<AccessUnit>,
    bytes: usize,
}

impl GopCache {
    /// Adds a unit; a key frame makes the ones before it go.
    pub fn add(&mut self, unit: &AccessUnit) {
        if unit.keyframe {
            self.clear();
        } else if self.units.is_empty() {
            return;
        }
        self.bytes += unit.buffer.size();
        if self.bytes > MOST || self.units.len() >= MOST_UNITS {
            self.clear();
            return;
        }
        self.units.push(unit.clone());
    }

    /// Forgets all of them.
    pub fn clear(&mut self) {
        self.units.clear();
        self.bytes = 0;
    }

    /// The key frame and what followed, in order.
    pub fn units(&self) -> &[AccessUnit] {
        &self.units
    }
}

#[cfg(test)]
mod tests {
    use gstreamer as gst;

    use super::*;
    use crate::clock::WallUs;

    #[test]
    fn what_is_kept_begins_with_a_key_frame_and_is_bounded() {
        crate::gst::init().unwrap();
        let unit = |id: u64, key: bool| AccessUnit {
            buffer: gst::Buffer::with_size(1 << 20).unwrap(),
            caps: gst::Caps::new_empty_simple("video/x-h264"),
            keyframe: key,
            id,
            wall: WallUs(0),
            behind: 0,
        };
        let mut kept = GopCache::default();
        let mut after = |id, key| {
            kept.add(&unit(id, key));
            kept.units().iter().map(|u| u.id).collect::<Vec<_>>()
        };
        let none: [u64; 0] = [];
        assert_eq!(after(1, false), none);
        assert_eq!(after(2, true), [2]);
        assert_eq!(after(3, false), [2, 3]);
        assert_eq!(after(4, true), [4]);
        after(5, false);
        assert_eq!(after(6, false), [4, 5, 6]);
        assert_eq!(after(7, false), none, "too much of it");
        assert_eq!(after(8, false), none, "and no beginning");
        assert_eq!(after(9, true), [9]);
        let empty = |id: u64, key: bool| AccessUnit { buffer: gst::Buffer::new(), ..unit(id, key) };
        kept.add(&empty(10, true));
        (0..MOST_UNITS as u64 - 1).for_each(|n| kept.add(&empty(11 + n, false)));
        assert_eq!(kept.units().len(), MOST_UNITS);
        kept.add(&empty(0, false));
        assert!(kept.units().is_empty(), "too many of them");
    }
}
