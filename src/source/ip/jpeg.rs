//! Owns finding whole JPEG pictures in bytes that arrive in pieces: by their own marks, whatever is written around them. A picture is
//! walked segment by segment up to its end mark, so that the thumbnail inside a segment is not taken for it, and one that is cut off
//! is dropped. Bounds bytes, pixels and scans before anything is decoded. Never decodes. Pure; runs on the receiver's thread.

/// What segments may hold before the size of the picture is known: EXIF, colour profiles, makers' notes (bytes).
const HEADERS: usize = 1 << 20;
/// Bytes a pixel: random noise takes 2.0 at the best quality with halved colour (4:2:0), the film of `testsrc` 0.4 without.
const BYTES_A_PIXEL: usize = 2;
/// Progressive pictures of known encoders have up to 20 scans; each costs a decoder a pass over the picture.
const SCANS: u32 = 100;

/// What is wrong with a picture of this size, where something is.
pub(super) fn too_large(size: (u32, u32), most_pixels: u64) -> Option<String> {
    let large = u64::from(size.0) * u64::from(size.1) > most_pixels;
    large.then(|| format!("pictures of {}x{}, and at most {most_pixels} pixels are taken", size.0, size.1))
}

/// What is found.
pub(crate) enum Found {
    /// A whole picture, from its first mark to its last.
    Whole(Vec<u8>),
    /// One that is cut off or damaged, dropped; what is too much of it, where that is so.
    Broken(Option<String>),
}

/// Finds pictures. See the module's first lines.
pub(crate) struct Splitter {
    most_pixels: u64,
    /// Bytes of the first mark that were seen at the end of what came.
    matched: u8,
    /// The first picture has begun.
    begun: bool,
    /// Something stood ahead of it that is no text.
    pub binary: bool,
    /// The picture under way; empty between two.
    picture: Vec<u8>,
    walker: Walker,
}

impl Splitter {
    /// Pictures of more pixels than this are dropped.
    pub fn new(most_pixels: u64) -> Splitter {
        Splitter { most_pixels, matched: 0, begun: false, binary: false, picture: Vec::new(), walker: Walker::default() }
    }

    /// Takes the next bytes.
    pub fn feed(&mut self, mut bytes: &[u8], found: &mut dyn FnMut(Found)) {
        while !bytes.is_empty() {
            if self.picture.is_empty() {
                let Some(at) = self.first_mark(bytes) else { return };
                self.picture.extend_from_slice(&[0xff, 0xd8]);
                bytes = &bytes[at..];
            }
            let before = self.picture.len();
            self.picture.extend_from_slice(bytes);
            let mut step = self.walker.walk(&self.picture, self.most_pixels);
            let most = HEADERS + BYTES_A_PIXEL * self.walker.size.map_or(0, |(w, h)| w as usize * h as usize);
            if matches!(step, Step::On) {
                if self.picture.len() <= most {
                    return;
                }
                step = Step::Broken(self.picture.len(), Some(format!("a picture that does not end within {most} bytes")));
            }
            let (Step::Whole(end) | Step::Broken(end, _)) = step else { return };
            bytes = &bytes[end.saturating_sub(before)..];
            let room = self.picture.len();
            let mut whole = std::mem::replace(&mut self.picture, Vec::with_capacity(room));
            // The first mark of the next one may have begun in the piece before.
            self.matched = u8::from(end < before && whole[before - 1] == 0xff);
            self.walker = Walker::default();
            if let Step::Broken(_, much) = step {
                found(Found::Broken(much));
            } else {
                whole.truncate(end);
                found(Found::Whole(whole));
            }
        }
    }

    /// Nothing more comes of this answer; whether a picture was cut off.
    pub fn end(&mut self) -> bool {
        (self.matched, self.begun, self.binary, self.walker) = (0, false, false, Walker::default());
        !std::mem::take(&mut self.picture).is_empty()
    }

    /// Where the mark of the first segment begins: behind `FF D8`, before another `FF`.
    fn first_mark(&mut self, bytes: &[u8]) -> Option<usize> {
        for (i, byte) in bytes.iter().enumerate() {
            self.matched = match (self.matched, byte) {
                (2, 0xff) => {
                    (self.matched, self.begun) = (0, true);
                    return Some(i);
                }
                (1, 0xd8) => 2,
                (_, 0xff) => 1,
                _ => 0,
            };
            self.binary |= !self.begun && *byte < b' ' && !byte.is_ascii_whitespace();
        }
        None
    }
}

enum Step {
    /// To the end of what is there.
    On,
    /// Up to the end of a picture.
    Whole(usize),
    /// It breaks off, is damaged or too much of something; what may be the next one begins here.
    Broken(usize, Option<String>),
}

/// How far into a picture it has got.
#[derive(Default)]
struct Walker {
    at: usize,
    in_scan: bool,
    scans: u32,
    size: Option<(u32, u32)>,
}

impl Walker {
    fn walk(&mut self, b: &[u8], most_pixels: u64) -> Step {
        // The first mark was found already.
        self.at = self.at.max(2);
        loop {
            if self.in_scan {
                self.at += b[self.at..].iter().position(|b| *b == 0xff).unwrap_or(b.len() - self.at);
            }
            let (Some(&mark), Some(&code)) = (b.get(self.at), b.get(self.at + 1)) else { return Step::On };
            match (mark, code) {
                (0xff, 0xff) => self.at += 1,
                // A stuffed byte, a restart, or what decoders pass over.
                (0xff, 0x00..=0xbf) if self.in_scan => self.at += 2,
                (0xff, 0x01 | 0xd0..=0xd7) => self.at += 2,
                (0xff, 0xd9) if self.scans > 0 => return Step::Whole(self.at + 2),
                (0xff, 0xc0..=0xcf | 0xda..=0xfe) => {
                    let Some(length) = b.get(self.at + 2..self.at + 4) else { return Step::On };
                    let length = usize::from(u16::from_be_bytes([length[0], length[1]]));
                    // What is cut off here goes on with a text, which is no length of these.
                    if !(2..=longest(code)).contains(&length) {
                        return Step::Broken(self.at, None);
                    }
                    let Some(segment) = b.get(self.at + 4..self.at + 2 + length) else { return Step::On };
                    match self.segment(code, segment, most_pixels) {
                        Ok(true) => {}
                        Ok(false) => return Step::Broken(self.at, None),
                        Err(much) => return Step::Broken(self.at, Some(much)),
                    }
                    self.at += 2 + length;
                }
                // The next picture's first mark, an end before any picture, or no mark at all.
                _ => return Step::Broken(self.at, None),
            }
        }
    }

    /// A whole segment; whether it may stand where it does.
    fn segment(&mut self, code: u8, segment: &[u8], most_pixels: u64) -> Result<bool, String> {
        self.in_scan = false;
        match code {
            // Tables, and a mark without meaning.
            0xc4 | 0xc8 | 0xcc => {}
            0xc0..=0xcf => {
                let (Some(&[_, h1, h0, w1, w0, _]), None) = (segment.first_chunk(), self.size) else { return Ok(false) };
                let [width, height] = [[w1, w0], [h1, h0]].map(|two| u32::from(u16::from_be_bytes(two)));
                too_large((width, height), most_pixels).map_or(Ok(()), Err)?;
                self.size = Some((width, height)).filter(|_| width > 0 && height > 0);
                return Ok(self.size.is_some());
            }
            0xda => {
                self.scans += 1;
                self.in_scan = true;
                if self.scans > SCANS {
                    return Err(format!("a picture of more than {SCANS} scans"));
                }
                return Ok(self.size.is_some());
            }
            _ => {}
        }
        Ok(true)
    }
}

/// The longest segment of this kind (bytes, its length included), by ITU-T T.81 and at most four components.
fn longest(code: u8) -> usize {
    match code {
        // Eight tables of codes, four of quantisation.
        0xc4 => 2 + 8 * (17 + 256),
        0xdb => 2 + 4 * 129,
        0xc0..=0xc7 | 0xc9..=0xcb | 0xcd..=0xcf => 8 + 3 * 4,
        0xda => 6 + 2 * 4,
        0xdd => 4,
        _ => 65_535,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(code: u8, payload: &[u8]) -> Vec<u8> {
        let length = (payload.len() as u16 + 2).to_be_bytes();
        [&[0xff, code], &length[..], payload].concat()
    }

    fn sof(width: u16, height: u16) -> Vec<u8> {
        let ([h1, h0], [w1, w0]) = (height.to_be_bytes(), width.to_be_bytes());
        segment(0xc0, &[8, h1, h0, w1, w0, 1, 1, 0x11, 0])
    }

    /// A picture with a thumbnail in it, tables between two scans, stuffed bytes, restarts and fill bytes.
    fn picture() -> Vec<u8> {
        let thumbnail = [&[0xff, 0xd8][..], &sof(4, 4), &segment(0xda, &[1]), &[7, 0xff, 0xd9]].concat();
        let exif = segment(0xe1, &thumbnail);
        let scan = segment(0xda, &[1, 2, 3]);
        let entropy: &[u8] = &[1, 0xff, 0, 2, 0xff, 0xd0, 3, 0xff, 0xff];
        [&[0xff, 0xd8][..], &exif, &sof(64, 48), &scan, entropy, &segment(0xc4, &[9])[1..], &scan, entropy, &[0xd9]].concat()
    }

    /// Sizes of the whole pictures (bytes), and how many were broken.
    fn split(bytes: &[u8], piece: usize) -> (Vec<usize>, usize) {
        let mut splitter = Splitter::new(1 << 20);
        let (mut whole, mut broken) = (Vec::new(), 0);
        for piece in bytes.chunks(piece) {
            let found = &mut |f| match f {
                Found::Whole(p) => {
                    assert!(p == picture(), "{} bytes", p.len());
                    whole.push(p.len());
                }
                Found::Broken(_) => broken += 1,
            };
            splitter.feed(piece, found);
        }
        (whole, broken + usize::from(splitter.end()))
    }

    #[test]
    fn pictures_are_found_in_whatever_is_written_around_them() {
        let p = picture();
        let n = p.len();
        for piece in [1, 2, 3, 7, 100, 10_000] {
            assert_eq!(split(&p, piece), (vec![n], 0));
            let parts = [b"hello\r\n--x\r\n\r\n".as_slice(), &p, b"\r\n--x\nContent-Length: 3\n\n", &p, &p, b"--x--"].concat();
            assert_eq!(split(&parts, piece), (vec![n; 3], 0), "in pieces of {piece}");
        }
    }

    #[test]
    fn a_picture_that_is_cut_anywhere_is_dropped_and_the_next_one_found() {
        let p = picture();
        for cut in 3..p.len() {
            assert_eq!(split(&p[..cut], 50), (vec![], 1), "cut at {cut}");
            let (whole, broken) = split(&[&p[..cut], b"\r\n--x\r\nContent-Type: image/jpeg\r\n\r\n", &p.repeat(60)].concat(), 50);
            // A length that was cut off may reach into those that follow.
            assert!(whole.len() >= 10 && broken >= 1, "cut at {cut}: {} whole, {broken} broken", whole.len());
        }
    }

    #[test]
    fn what_does_not_end_or_is_too_large_is_refused_before_it_is_decoded() {
        let fed = |bytes: &[&[u8]]| {
            let mut said = String::new();
            Splitter::new(1 << 20).feed(&bytes.concat(), &mut |f| match f {
                Found::Broken(much) => said += &much.unwrap_or_default(),
                Found::Whole(_) => said += "whole",
            });
            said
        };
        let start: &[u8] = &[0xff, 0xd8];
        let (scan, end) = (segment(0xda, &[1]), &[0xff, 0xd9]);
        assert!(fed(&[start, &sof(40_000, 40_000), &scan, end]).contains("40000x40000"));
        assert!(fed(&[start, &sof(64, 48), &scan.repeat(101), end]).contains("scans"));
        assert_eq!(fed(&[start, &sof(64, 48), &scan.repeat(100), end]), "whole");
        let endless = vec![1; 2 << 20];
        assert_eq!(fed(&[start, &sof(64, 48), &scan, &endless]), "a picture that does not end within 1054720 bytes");
        let headers = segment(0xe5, &endless[..60_000]).repeat(20);
        assert!(fed(&[start, &headers]).contains("does not end"));
    }
}
