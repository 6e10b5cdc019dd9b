//! Viewers that come in the very moment in which the last one goes.

use crate::viewers::{Rude, served};

#[test]
fn whoever_comes_while_the_last_one_goes_is_served() {
    let (setup, url) = served("coming");
    let r = setup.start();
    for n in 0..60 {
        let mut rude = Rude::connect(&url);
        let said = rude.play();
        assert!(said.contains(" 200 "), "viewer {n}: {said}");
        if n % 2 == 0 { rude.vanish() } else { drop(rude) }
    }
    assert_eq!(r.status()["ring"]["dropped"], 0);
}
