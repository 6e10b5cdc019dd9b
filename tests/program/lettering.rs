//! Text in pictures: where it stands and where it must not.

use nix::sys::signal::Signal;

use crate::harness::{Running, Setup};
use crate::image::Image;
use crate::said;

/// The three formats of one frame of the past.
fn picture(r: &Running) -> [Image; 3] {
    let path = said::stacked(&r.ask("pastStack jpg png npy before=0.5 count=1")).path;
    ["jpg", "png", "npy"].map(|e| Image::open(&path.with_extension(e)))
}

/// How far two pictures differ in the rows from `top` up to `bottom`, at most.
fn apart(a: &Image, b: &Image, (top, bottom): (usize, usize)) -> u8 {
    let rows = |i: &Image| i.rgb[top * i.width * 3..bottom * i.width * 3].to_vec();
    rows(a).iter().zip(rows(b)).map(|(a, b)| a.abs_diff(b)).max().unwrap()
}

#[test]
fn text_stands_in_jpg_and_png_and_nowhere_else() {
    let size = (640, 480);
    let setup = Setup::new("letters")
        .set("camera.width", size.0)
        .set("camera.height", size.1)
        .set("video.overlay", "%Y-%m-%d %H:%M gate")
        .set("export.overlay", true);
    let r = setup.start();
    r.until_frame(12);
    let [jpg, png, npy] = picture(&r);
    // Letters of 2 dots a pixel: 18 rows and the paper around them.
    assert!(apart(&png, &npy, (0, 20)) > 100 && apart(&jpg, &npy, (0, 20)) > 100);
    assert_eq!(apart(&png, &npy, (24, 480)), 0);
    // Black paper, white ink.
    assert!(png.pixel(0, 0).iter().all(|c| *c < 30), "{:?}", png.pixel(0, 0));
    assert!(png.rgb[..20 * 640 * 3].iter().any(|c| *c > 200));

    // Changed and ended by command; the ring's own frames never had it.
    assert!(r.ask("set video.overlay=").starts_with("OK "));
    let [_, png, npy] = picture(&r);
    assert_eq!(apart(&png, &npy, (0, 480)), 0);
    assert!(r.ask("set video.overlay=X").starts_with("OK "));
    let [_, png, npy] = picture(&r);
    assert!(apart(&png, &npy, (0, 20)) > 100);
    let off = setup.set("export.overlay", false);
    std::fs::write(off.config_file(), off.config.to_string()).unwrap();
    r.signal(Signal::SIGHUP);
    r.until_logged("The configuration was read again");
    let [_, png, npy] = picture(&r);
    assert_eq!(apart(&png, &npy, (0, 480)), 0);
}

#[test]
fn a_text_that_cannot_be_drawn_is_refused_by_name() {
    let setup = Setup::new("undrawn");
    let r = setup.start();
    let ask = |text: &str| r.ask(&format!("set video.overlay={text}"));
    assert_eq!(ask("%H:%M"), "OK video.overlay=%H:%M");
    let formats = "ERR usage video.overlay: % followed by one of ";
    for (text, start, named) in [
        ("%Q", formats, ", not %Q"),
        ("100%", formats, ", not %"),
        ("a~b", "ERR usage video.overlay: letters, digits and signs of ASCII", ", not \"~\""),
    ] {
        let said = ask(text);
        assert!(said.starts_with(start) && said.ends_with(named), "{said}");
    }
    assert!(ask("Open?").starts_with("ERR usage video.overlay: letters"), "{}", ask("Open?"));
    assert!(ask("T\u{fc}r").starts_with("ERR usage "), "{}", ask("T\u{fc}r"));
    drop(r);
    drop(setup.clone().set("video.overlay", "Open?").start());
    let (code, said) = setup.set("video.overlay", "T\u{fc}r %H").end();
    assert!(code != 0 && said.contains("video.overlay") && said.contains(", not \"\u{fc}\""), "{code} {said}");
}
