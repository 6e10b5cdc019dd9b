//! A real film goes the whole way: file, decoder, ring, command, picture. `PASTCAM_FILM` names the file; `scripts/test`
//! fetches it.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The program, killed when the test ends.
struct Program(Child);

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn ask(port: u16, line: &str) -> Option<String> {
    let mut s = TcpStream::connect(("127.0.0.1", port)).ok()?;
    s.write_all(format!("{line}\n").as_bytes()).ok()?;
    let mut answer = String::new();
    s.read_to_string(&mut answer).ok()?;
    Some(answer.trim_end().to_string())
}

/// Mean and spread of the luma of a PNG below and above the black bars, and of the bars.
fn luma(png: &str) -> (f64, f64, f64) {
    let mut reader = png::Decoder::new(std::io::BufReader::new(std::fs::File::open(png).unwrap())).read_info().unwrap();
    let mut rgb = vec![0; reader.output_buffer_size().unwrap()];
    let info = reader.next_frame(&mut rgb).unwrap();
    assert_eq!((info.width, info.height), (640, 360));
    let row = |y: usize| rgb[y * 640 * 3..(y + 1) * 640 * 3].iter().map(|v| f64::from(*v));
    let picture: Vec<f64> = (50..310).flat_map(row).collect();
    let mean = picture.iter().sum::<f64>() / picture.len() as f64;
    let spread = (picture.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / picture.len() as f64).sqrt();
    let bars: f64 = (0..40).chain(320..360).flat_map(row).sum::<f64>() / (80.0 * 640.0 * 3.0);
    (mean, spread, bars)
}

#[test]
fn a_real_film_becomes_pictures_of_now_and_of_the_past() {
    let Some(film) = std::env::var_os("PASTCAM_FILM").map(PathBuf::from).filter(|f| f.exists()) else {
        println!("SKIP: PASTCAM_FILM names no film");
        return;
    };
    let dir = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("film");
    let _ = std::fs::remove_dir_all(&dir);
    std::fs::create_dir_all(&dir).unwrap();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let config = format!(
        r#"{{"camera": {{"width": 640, "height": 360, "framerate": 25}}, "ring": {{"size": 100}},
            "export": {{"auto_save_interval_s": 0}}, "network": {{"trigger_port": {port}, "bind": ["127.0.0.1"]}}}}"#
    );
    std::fs::write(dir.join("config.json"), config).unwrap();
    let child = Command::new(env!("CARGO_BIN_EXE_pastcam"))
        .arg("--source")
        .arg(format!("file:{}", film.display()))
        .current_dir(&dir)
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let _program = Program(child);
    let end = Instant::now() + Duration::from_secs(60);
    loop {
        let frames: Option<usize> = ask(port, "status").and_then(|s| s.split("ring=").nth(1)?.split('/').next()?.parse().ok());
        if frames.is_some_and(|f| f >= 60) {
            break;
        }
        assert!(Instant::now() < end, "the film does not play: {:?}", ask(port, "status"));
        std::thread::sleep(Duration::from_millis(50));
    }
    let named = |answer: &str| answer.split_whitespace().find(|w| w.starts_with('/')).map(String::from).unwrap();
    let now = ask(port, "save png").unwrap();
    assert!(now.starts_with("Saved single full-resolution image: "), "{now}");
    let past = ask(port, "pastStack png before=1 count=4").unwrap();
    assert!(past.contains("| stack of 4 frames |"), "{past}");
    for answer in [&now, &past] {
        let (mean, spread, bars) = luma(&named(answer));
        // The film is 640×272: bars above and below, and a street, not a flat field, between them.
        assert!((20.0..235.0).contains(&mean) && spread > 10.0, "{answer}: mean {mean:.1} spread {spread:.1}");
        assert!(bars < 3.0, "{answer}: bars {bars:.1}");
    }
    // Another moment is another picture.
    assert_ne!(std::fs::read(named(&now)).unwrap(), std::fs::read(named(&past)).unwrap());
}
