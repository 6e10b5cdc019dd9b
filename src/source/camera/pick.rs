//! Owns the choice of one camera among those found. Pure.

use crate::error::{Error, Kind, Result};

/// A camera as the library lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    /// Its path in the system, the same after every boot.
    pub id: String,
    /// The sensor's or the webcam's name.
    pub model: String,
}

/// Stands for a model that is not told.
pub(super) const UNKNOWN: &str = "unknown model";

impl std::fmt::Display for Found {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({})", self.model, self.id)
    }
}

/// The place in `found` of the camera that is meant: its id, its place in the list, its model or the beginning of it (in
/// letters of any size); the first one when nothing is said.
pub(super) fn pick(found: &[Found], selector: &str) -> Result<usize> {
    let wanted = selector.trim();
    let alike = |f: &Found| f.model.to_lowercase().starts_with(&wanted.to_lowercase());
    let place = if wanted.is_empty() {
        (!found.is_empty()).then_some(0)
    } else {
        let by_id = || found.iter().position(|f| f.id == wanted);
        let by_index = || wanted.parse().ok().filter(|i| *i < found.len());
        let by_model = || found.iter().position(|f| f.model.eq_ignore_ascii_case(wanted));
        by_id().or_else(by_index).or_else(by_model).or_else(|| found.iter().position(alike))
    };
    place.ok_or_else(|| {
        let what = if wanted.is_empty() { "the camera".to_string() } else { format!("the camera {wanted:?}") };
        let list: Vec<String> = found.iter().enumerate().map(|(i, f)| format!("{i}: {f}")).collect();
        let there = if list.is_empty() {
            "libcamera finds none; check its cable and that the kernel knows it (dmesg)".to_string()
        } else {
            format!("found {}; name one of them in camera.device", list.join(", "))
        };
        Error::new(Kind::Source, format!("open {what}: {there}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn two() -> Vec<Found> {
        [("/base/soc/i2c0mux/i2c@1/ov5647@36", "ov5647"), ("/base/usb/1-1:1.0-046d:0825", "Webcam C270")]
            .map(|(id, model)| Found { id: id.into(), model: model.into() })
            .to_vec()
    }

    #[test]
    fn by_place_id_and_model() {
        let found = two();
        for (selector, place) in [("", 0), ("1", 1), ("0", 0), (&found[1].id, 1), ("OV5647", 0), ("webcam", 1), (" 1 ", 1)] {
            assert_eq!(pick(&found, selector).unwrap(), place, "{selector}");
        }
    }

    #[test]
    fn what_was_found_is_listed_when_none_fits() {
        let said = pick(&two(), "imx219").unwrap_err().what;
        for word in ["\"imx219\"", "0: ov5647 (/base/soc/", "1: Webcam C270 (", "camera.device"] {
            assert!(said.contains(word), "{said}");
        }
        assert!(pick(&two(), "2").is_err());
        assert!(pick(&[], "").unwrap_err().what.contains("finds none"));
    }
}
