//! The port whose connections stay open, and its subscribers.

use std::io::Write;
use std::net::Shutdown;

use pastcam::server::{Channel, Settings};

use crate::rig::{Rig, line, rest, settings, start, until};

fn open_port() -> Rig {
    start(Settings { persistent_port: Some(0), ..settings() })
}

#[test]
fn a_connection_serves_many_commands() {
    let r = open_port();
    let mut c = r.persistent();
    for i in 0..20 {
        write!(c, "save {i}\r\n").unwrap();
        assert_eq!(line(&mut c), format!("Saved save {i}\n"));
    }
    c.write_all(b"\0\r\n").unwrap();
    c.write_all(b"save").unwrap();
    assert_eq!(line(&mut c), "Saved save\n", "a heartbeat before it is no command, silence completes it");
    assert!(r.fake.requests.lock().unwrap().iter().all(|q| q.channel == Channel::Persistent));
    c.shutdown(Shutdown::Write).unwrap();
    assert_eq!(rest(&mut c), "");
}

#[test]
fn an_idle_plc_delays_nobody() {
    let r = open_port();
    let mut plc = r.persistent();
    assert_eq!(r.ask(b"save\n"), "Saved save\n");
    plc.write_all(b"\xfe\x04save").unwrap();
    assert_eq!(line(&mut plc), "Saved save\n");
    plc.write_all(b"\xfe\x06health").unwrap();
    assert_eq!(line(&mut plc), "OK health\n");
}

#[test]
fn a_failure_after_a_success_keeps_the_connection() {
    let r = open_port();
    let mut c = r.persistent();
    c.write_all(b"save\nfail\nsave\n").unwrap();
    assert_eq!((line(&mut c), line(&mut c), line(&mut c)), ("Saved save\n".into(), "NOT_SAVED\n".into(), "Saved save\n".into()));
    let long = [b"save ".as_slice(), &[b'x'; 1100], b"\nping\n"].concat();
    c.write_all(&long).unwrap();
    assert_eq!((line(&mut c), line(&mut c)), ("ERR usage line longer than 1024 bytes\n".into(), "OK ping\n".into()));
    // A first failure ends it: see `strangers_get_one_line_and_nothing_runs`.
    let mut other = r.persistent();
    other.write_all(b"fail\nsave\n").unwrap();
    assert_eq!(rest(&mut other), "NOT_SAVED\n");
}

#[test]
fn a_wrong_token_after_a_success_is_late_and_keeps_the_connection() {
    let r = open_port();
    let mut c = r.persistent();
    c.write_all(b"save\nguess\nguess\nguess\nguess\nsave\n").unwrap();
    let began = std::time::Instant::now();
    let got: Vec<String> = (0..6).map(|_| line(&mut c)).collect();
    assert_eq!((got[0].as_str(), got[4].as_str(), got[5].as_str()), ("Saved save\n", "ERR denied wrong token\n", "Saved save\n"));
    assert!(began.elapsed() >= std::time::Duration::from_millis(250));
}

#[test]
fn more_than_eight_waiting_lines_are_refused_in_one_line() {
    let r = open_port();
    let mut c = r.persistent();
    c.write_all(b"ping\n").unwrap();
    assert_eq!(line(&mut c), "OK ping\n");
    c.write_all("save\n".repeat(30).as_bytes()).unwrap();
    (0..8).for_each(|_| assert_eq!(line(&mut c), "Saved save\n"));
    assert_eq!(line(&mut c), "ERR busy too many lines wait on this connection\n");
    c.write_all(b"ping\n").unwrap();
    assert_eq!(line(&mut c), "OK ping\n");
}

#[test]
fn lines_have_a_fixed_length_and_a_nul_where_wanted() {
    let r = start(Settings { persistent_port: Some(0), persistent_pad: 24, persistent_nul: true, ..settings() });
    let mut c = r.persistent();
    c.write_all(b"ping\nstatus json\n").unwrap();
    c.shutdown(Shutdown::Write).unwrap();
    let got = rest(&mut c);
    assert_eq!(got.len(), 48);
    assert_eq!(&got[..24], "OK ping               \n\0");
    assert_eq!(&got[24..], "ERR usage the answer h\n\0", "a part of a JSON object is none");
    assert_eq!(r.ask(b"ping\n"), "OK ping\n", "the trigger port is left as it is");
}

#[test]
fn subscribers_get_the_state_and_then_every_event() {
    let r = open_port();
    let notifier = r.control.notifier();
    let (mut a, mut b, mut deaf) = (r.persistent(), r.persistent(), r.persistent());
    a.write_all(b"subscribe\n").unwrap();
    b.write_all(b"SUBSCRIBE\n").unwrap();
    deaf.write_all(b"ping\n").unwrap();
    assert_eq!(line(&mut a), "STATE DAY\n");
    assert_eq!(line(&mut b), "UNKNOWN_COMMAND\n", "the fake knows small letters only, and a refusal subscribes nobody");
    assert_eq!(line(&mut deaf), "OK ping\n");
    for i in 0..100 {
        notifier.publish(format!("EVENT {i}"));
        assert_eq!(line(&mut a), format!("EVENT {i}\n"));
    }
    a.write_all(b"save\n").unwrap();
    assert_eq!(line(&mut a), "Saved save\n", "a subscriber may still command");
    until("the gauge", || r.control.clients().subscribers == 1);
    deaf.shutdown(Shutdown::Write).unwrap();
    assert_eq!(rest(&mut deaf), "", "no events for one that did not ask");
}

#[test]
fn a_subscriber_may_close_its_sending_half() {
    let r = open_port();
    let mut c = r.persistent();
    c.write_all(b"subscribe\n").unwrap();
    c.shutdown(Shutdown::Write).unwrap();
    assert_eq!(line(&mut c), "STATE DAY\n");
    r.control.notifier().publish("EVENT 1");
    assert_eq!(line(&mut c), "EVENT 1\n");
    drop(c);
    until("its going to be noticed", || {
        r.control.notifier().publish("EVENT 2");
        r.control.clients().subscribers == 0
    });
}

#[test]
fn no_event_falls_between_the_state_and_the_subscription() {
    let r = open_port();
    let (mut witness, mut late) = (r.persistent(), r.persistent());
    witness.write_all(b"subscribe\n").unwrap();
    assert_eq!(line(&mut witness), "STATE DAY\n");
    late.write_all(b"subscribe late\n").unwrap();
    r.fake.wait(|q| q.len() == 2);
    r.control.notifier().publish("NIGHT");
    assert_eq!(line(&mut witness), "NIGHT\n", "the event has been sent to those that are subscribed");
    r.fake.release();
    assert_eq!((line(&mut late), line(&mut late)), ("released subscribe late\n".into(), "NIGHT\n".into()));
}

#[test]
fn a_subscriber_that_does_not_read_is_dropped_and_holds_nobody_up() {
    let r = open_port();
    let (mut good, mut slow) = (r.persistent(), r.persistent());
    for c in [&mut good, &mut slow] {
        c.write_all(b"subscribe\n").unwrap();
        assert_eq!(line(c), "STATE DAY\n");
    }
    let event = format!("EVENT {}", "e".repeat(200));
    let mut sent = 0;
    until("both", || r.control.clients().subscribers == 2);
    while r.control.clients().subscribers == 2 {
        // As many as the mailbox surely takes; the good reader has them all before the next ones.
        (0..100).for_each(|_| r.control.notifier().publish(event.as_str()));
        (0..100).for_each(|_| assert_eq!(line(&mut good).len(), event.len() + 1));
        sent += 100;
        assert!(sent < 200_000, "the slow subscriber is still there");
    }
    assert_eq!(r.control.clients().subscribers, 1);
    r.control.notifier().publish("EVENT last");
    assert_eq!(line(&mut good), "EVENT last\n");
}
