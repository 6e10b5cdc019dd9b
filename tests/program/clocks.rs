//! A wall clock that is wrong or set while the program runs: nothing is deleted for it, and everybody is told.

use crate::events::{event, subscribed};
use crate::harness::{Running, is};
use crate::said;
use crate::slow_disk::{library, slow, take};

const TEN_YEARS: u32 = 315_360_000;

fn pictures(r: &Running) -> Vec<String> {
    r.names().into_iter().filter(|n| is(n, "jpg") && n != "latest.jpg").collect()
}

#[test]
fn a_clock_ahead_deletes_nothing_whether_it_was_set_or_came_so() {
    let Some((_dir, library)) = library() else { return };
    let setup = slow("clock", &library).set("export.keep.jpg.max_age_s", 3600.0).set("network.persistent_port", 0);
    let (mut r, mut s) = subscribed(setup.clone());
    said::single(&r.ask("save jpg"));
    assert_eq!(r.status()["age_rule"], "on");
    take(&setup, &format!("clock={TEN_YEARS}"));
    let told = event(&mut s, "EVENT clock=");
    assert!(
        told.starts_with("EVENT clock=stepped by=+31536000") || told.starts_with("EVENT clock=stepped by=31535999"),
        "{told}"
    );
    r.until_logged("The wall clock was set, by +31");
    // Two saves: after the first the limits are looked after, which the second finds done.
    (0..2).for_each(|_| drop(said::single(&r.ask("save jpg"))));
    r.until_logged("The age limits (export.keep) rest: the clock was set by +31");
    assert_eq!((r.status()["age_rule"].as_str(), pictures(&r).len()), (Some("resting"), 3));
    assert_eq!(r.terminate().code(), Some(0));
    // A start, and another one, with the clock as it now is: the pictures it dated itself prove nothing.
    for n in 4..6 {
        let mut r = setup.start();
        said::single(&r.ask("save jpg"));
        r.until_logged(" s ahead of the newest picture");
        assert_eq!((r.status()["age_rule"].as_str(), pictures(&r).len()), (Some("resting"), n));
        assert_eq!(r.terminate().code(), Some(0));
    }
}
