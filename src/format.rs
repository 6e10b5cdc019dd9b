//! Owns the kinds of files this program makes: word, extension, mime type, what belongs into them. A new one is a line here and
//! an encoder in `export`. Never encodes. Any thread.

use std::fmt;
use std::ops::{Index, IndexMut};

use crate::settings::{Field, Group, Member, Part, Refusal, Word, any, one_of};

/// What sort of file a kind is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sort {
    /// A picture for eyes; may bear the text of `video.overlay`.
    Shown,
    /// A picture for measuring: never any text in it.
    Measured,
    /// No picture: made by `record` and `clip`.
    Film,
}

struct Kind {
    word: &'static str,
    mime: &'static str,
    sort: Sort,
}

macro_rules! formats {
    ($($(#[$doc:meta])* $name:ident: $word:literal, $mime:literal, $sort:ident;)*) => {
        /// A kind of file.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Format {
            $($(#[$doc])* $name,)*
        }

        const TABLE: &[Kind] = &[$(Kind { word: $word, mime: $mime, sort: Sort::$sort },)*];

        impl Format {
            /// All files that are kept within bounds.
            pub const KEPT: [Format; TABLE.len()] = [$(Format::$name,)*];
        }
    };
}

// In the order in which they are written and answered; pictures before everything else.
formats! {
    /// JPEG, 4:2:0, with EXIF.
    Jpg: "jpg", "image/jpeg", Shown;
    /// PNG, 8-bit RGB, lossless.
    Png: "png", "image/png", Shown;
    /// `NumPy` array `(H, W, 3)` of `uint8`, B, G, R.
    Npy: "npy", "application/x-npy", Measured;
    /// A recording: H.264 in MP4. Not a picture, so no command saves one by this word.
    Mp4: "mp4", "video/mp4", Film;
}

const fn pictures() -> usize {
    let mut n = 0;
    while n < TABLE.len() && !matches!(TABLE[n].sort, Sort::Film) {
        n += 1;
    }
    n
}

impl Format {
    /// All pictures, in the order they are written and answered.
    pub const ALL: [Format; pictures()] = {
        let mut all = [Format::KEPT[0]; pictures()];
        let mut n = 0;
        while n < all.len() {
            all[n] = Format::KEPT[n];
            n += 1;
        }
        all
    };

    /// The word and the file extension.
    pub const fn word(self) -> &'static str {
        TABLE[self as usize].word
    }

    /// The type of its content, as HTTP and MQTT name it.
    pub const fn mime(self) -> &'static str {
        TABLE[self as usize].mime
    }

    /// Whether the text of `video.overlay` may stand in it.
    pub const fn bears_text(self) -> bool {
        matches!(TABLE[self as usize].sort, Sort::Shown)
    }

    /// The picture format of exactly this word; upper case is another word.
    pub fn of(word: &str) -> Option<Format> {
        Format::ALL.into_iter().find(|f| f.word() == word)
    }

    /// The format of the files with this extension, recordings too.
    pub fn of_file(extension: &str) -> Option<Format> {
        Format::KEPT.into_iter().find(|f| f.word() == extension)
    }

    /// Words for a sentence: `jpg, png, npy`.
    pub fn words(of: &[Format]) -> String {
        of.iter().map(Word::word).collect::<Vec<_>>().join(", ")
    }
}

/// One of `export.formats`.
impl Word for Format {
    fn read(text: &str) -> Result<Self, Refusal> {
        one_of(&Format::ALL.map(Format::word), text).map(|place| Format::ALL[place])
    }
    fn word(&self) -> String {
        (*self).to_string()
    }
    fn range() -> String {
        Format::words(&Format::ALL)
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str((*self).word())
    }
}

/// A value for each kind of file; in the configuration a group with the kinds' words as keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Each<T>([T; Format::KEPT.len()]);

impl<T> Each<T> {
    /// The same for another type of value.
    pub fn map<U>(&self, f: impl FnMut(&T) -> U) -> Each<U> {
        Each(self.0.each_ref().map(f))
    }

    /// Each kind and its value.
    pub fn iter(&self) -> impl Iterator<Item = (Format, &T)> {
        Format::KEPT.into_iter().zip(&self.0)
    }
}

impl<T> Index<Format> for Each<T> {
    type Output = T;
    fn index(&self, format: Format) -> &T {
        &self.0[format as usize]
    }
}

impl<T> IndexMut<Format> for Each<T> {
    fn index_mut(&mut self, format: Format) -> &mut T {
        &mut self.0[format as usize]
    }
}

impl<T: Member> Group for Each<T> {
    fn members(&mut self) -> Vec<(Field, Part<'_>)> {
        let field = |f: Format| Field { name: f.word(), about: "", rule: any() };
        Format::KEPT.into_iter().map(field).zip(self.0.iter_mut().map(T::part)).collect()
    }
}

impl<T: Member + 'static> Member for Each<T> {
    fn part(&mut self) -> Part<'_> {
        Part::Group(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings;

    #[test]
    fn words_are_exact_and_pictures_come_first() {
        assert_eq!(Format::of("npy"), Some(Format::Npy));
        assert_eq!(Format::of("JPG"), None);
        assert_eq!(Format::of("jpeg"), None);
        assert_eq!((Format::of("mp4"), Format::of_file("mp4")), (None, Some(Format::Mp4)));
        assert_eq!(Format::words(&Format::ALL), "jpg, png, npy");
        assert!(Format::KEPT.starts_with(&Format::ALL), "a picture stands behind a film");
        let mut words = Format::KEPT.map(Format::word);
        words.sort_unstable();
        assert!(words.windows(2).all(|w| w[0] != w[1]), "a word stands for two kinds");
    }

    #[test]
    fn a_value_for_each_is_an_object_with_the_words() {
        let mut each = Each::<u64>::default();
        settings::take(&mut each, &serde_json::json!({"png": 7}), "").unwrap();
        each[Format::Mp4] = 9;
        assert_eq!(settings::value(&mut each).to_string(), r#"{"jpg":0,"png":7,"npy":0,"mp4":9}"#);
        assert!(settings::take(&mut each, &serde_json::json!({"png": "x"}), "").is_err());
    }
}
