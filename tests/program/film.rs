//! Owns the reading of recordings and streams by ffmpeg: what a stranger's player decodes, and the frame numbers in it.

use std::path::Path;
use std::process::{Command, Stdio};

use pastcam::source::read_barcode;

/// The pattern's picture in the tests.
pub const SIZE: (usize, usize) = (320, 240);

/// Whether ffmpeg is installed; says so where it is not.
pub fn has_ffmpeg() -> bool {
    let there = Command::new("ffmpeg").arg("-version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok();
    if !there {
        println!("SKIP: ffmpeg is not installed");
    }
    there
}

/// Frame number and boot-time instant (µs) of each picture in these grey planes; fails on a picture without its code.
pub fn codes(grey: &[u8]) -> Vec<(u64, u64)> {
    let (w, h) = SIZE;
    let read = |p: &[u8]| read_barcode(p, w, w, h, false).expect("a code in the picture");
    grey.chunks_exact(w * h).map(read).collect()
}

/// What ffmpeg decodes of a file, and its complaints.
pub fn decoded(file: &Path) -> (Vec<(u64, u64)>, String) {
    let out = Command::new("ffmpeg")
        .args(["-v", "warning", "-nostdin", "-i"])
        .arg(file)
        // A time base as fine as RTP's: in frame times two pictures may round to the same instant.
        .args([
            "-vf",
            "settb=1/90000",
            "-enc_time_base",
            "1:90000",
            "-fps_mode",
            "passthrough",
            "-f",
            "rawvideo",
            "-pix_fmt",
            "gray",
            "-",
        ])
        .output()
        .unwrap();
    // The full-range formats of JPEG's colour are called deprecated by the scaler; that is not about the file.
    let said = String::from_utf8_lossy(&out.stderr);
    let said: Vec<&str> =
        said.lines().filter(|l| !l.contains("deprecated pixel format") && !l.contains("Last message repeated")).collect();
    (codes(&out.stdout), said.join("\n"))
}

/// One value of ffprobe's about a file.
pub fn probed(file: &Path, what: &str) -> String {
    let out = Command::new("ffprobe")
        .args(["-v", "error", "-show_entries", what, "-of", "default=nw=1:nk=1"])
        .arg(file)
        .output()
        .unwrap();
    String::from_utf8(out.stdout).unwrap().trim().to_string()
}

/// Fails unless the numbers go up one by one; the same frame may come again.
pub fn assert_gapless(codes: &[(u64, u64)]) {
    assert!(!codes.is_empty(), "no picture at all");
    for pair in codes.windows(2) {
        assert!(pair[1].0 == pair[0].0 || pair[1].0 == pair[0].0 + 1, "{} after {}", pair[1].0, pair[0].0);
    }
}
