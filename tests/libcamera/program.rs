//! The program with a real camera: what it saves is what the camera was given.

use std::path::PathBuf;

use crate::harness::{Setup, until};
use crate::pictures::{self, REPEATED, SHOWN};

fn setup(word: &str) -> Setup {
    pictures::write();
    Setup::new(word)
        .set("camera.source", "camera:Pictures")
        .set("camera.width", 640)
        .set("camera.height", 480)
        .set("export.stack_dark_frames", false)
        .env("STANDIN_FPS", "10")
}

fn saved(setup: &Setup) -> Vec<PathBuf> {
    fn walk(dir: PathBuf, out: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                walk(path, out);
            // The newest picture has a second name.
            } else if !path.is_symlink() && path.extension().is_some_and(|e| e == "jpg") {
                out.push(path);
            }
        }
    }
    let mut out = Vec::new();
    walk(setup.captures(), &mut out);
    // `…_f12….jpg` is frame 12.
    out.sort_by_key(|p| {
        let name = p.file_stem().unwrap().to_str().unwrap();
        let number = name.rsplit_once("_f").unwrap().1;
        number.split(|c: char| !c.is_ascii_digit()).next().unwrap().parse::<u64>().unwrap()
    });
    out
}

#[test]
fn save_and_past_stack_write_the_pictures_in_their_order() {
    let setup = setup("libcamera-pictures");
    let mut running = setup.start();
    let first = running.ask("save jpg");
    assert_eq!(saved(&setup).len(), 1, "{first}");
    pictures::which_file(&saved(&setup)[0]);
    let file = std::fs::read(&saved(&setup)[0]).unwrap();
    let exif = exif::Reader::new().read_from_container(&mut std::io::Cursor::new(file)).unwrap();
    let model = exif.get_field(exif::Tag::Model, exif::In::PRIMARY).unwrap().display_value().to_string();
    assert_eq!(model, "\"Camera of pictures\"", "as virtual.yaml has it");
    // Two rounds of all pictures are in the ring.
    let wanted = 2 * SHOWN.len() * REPEATED;
    until("frames in the ring", || {
        running.expect_alive();
        let status: serde_json::Value = serde_json::from_str(&running.ask("status json")).unwrap();
        (status["ring"]["frames"].as_u64().unwrap() as usize > wanted).then_some(())
    });
    let answer = running.ask("pastStack jpg before=4.5");
    let files = saved(&setup);
    assert!(files.len() > SHOWN.len() * REPEATED, "{answer}: {} files", files.len());
    let shown: Vec<usize> = files[1..].iter().map(|f| pictures::which_file(f)).collect();
    let changes = shown.windows(2).filter(|w| w[0] != w[1]).collect::<Vec<_>>();
    assert!(changes.iter().all(|w| (w[0] + 1) % SHOWN.len() == w[1]), "{shown:?}");
    assert!(changes.len() >= SHOWN.len(), "{shown:?}");
}

#[test]
fn a_camera_that_is_not_there_ends_the_program_for_its_supervisor() {
    let (code, log) = setup("libcamera-absent").set("camera.device", "imx219").set("camera.source", "camera").end();
    assert_eq!(code, 43, "{log}");
    assert!(log.contains("Camera of pictures (Pictures)"), "{log}");
}
