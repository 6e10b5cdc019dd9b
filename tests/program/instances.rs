//! Several programs on one machine: each with its own configuration, and what is said to one that takes what another has.

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::client;
use crate::harness::{Running, Setup, free_port, until};
use crate::said;

/// What a program says that is to use this of another's.
fn refused(key: &str, value: impl Into<Value>) -> String {
    let (code, said) = Setup::new("third").set(key, value).end();
    assert_eq!(code, 1, "{key}: {said}");
    said.lines().last().unwrap_or_default().to_string()
}

#[test]
fn each_has_its_own_and_a_third_is_told_whose_it_took() {
    let ports = [free_port(), free_port(), free_port()];
    let own = |word: &str| Setup::new(word).set("logging.dir", "logs");
    let first = own("one")
        .set("network.persistent_port", ports[0])
        .set("network.udp_port", ports[1])
        .set("rtsp.enable", true)
        .set("rtsp.port", ports[2])
        .set("rtsp.bind", vec!["127.0.0.1"])
        .start();
    let second = own("two").start();
    for r in [&first, &second] {
        assert!(said::single(&r.ask("save jpg")).path.starts_with(r.captures()));
    }
    let whose = |r: &Running| format!(" (pid {}: {} --config config.json)", r.pid(), env!("CARGO_BIN_EXE_pastcam"));
    for (key, folder) in [("export.base_dir", "captures"), ("logging.dir", "logs")] {
        for r in [&first, &second] {
            let folder = r.setup.dir.join(folder);
            let said = refused(key, folder.to_str().unwrap());
            let wanted = format!("pastcam: {key}: the folder {} is in use by another pastcam{}", folder.display(), whose(r));
            assert!(said.starts_with(&wanted), "{said}");
        }
    }
    for (key, port) in
        [("network.trigger_port", first.setup.port), ("network.persistent_port", ports[0]), ("network.udp_port", ports[1])]
    {
        let said = refused(key, port);
        assert!(said.contains(&format!("another program owns port {port}")) && said.ends_with(&ending(key)), "{said}");
    }
    let (code, said) =
        Setup::new("third").set("rtsp.enable", true).set("rtsp.port", ports[2]).set("rtsp.bind", vec!["127.0.0.1"]).end();
    assert!(code == 1 && said.contains(&ending("rtsp.port")), "{said}");
    for r in [first, second] {
        assert_eq!(r.ask("ping"), "PONG");
    }
}

fn ending(key: &str) -> String {
    format!("or change {key}: Address already in use (os error 98)")
}

#[test]
fn a_reload_takes_no_folder_of_another() {
    let first = Setup::new("own").start();
    let setup = Setup::new("greedy");
    let second = setup.start();
    let reload = |folder: &std::path::Path| {
        let changed = setup.clone().set("export.base_dir", folder.to_str().unwrap());
        std::fs::write(changed.config_file(), changed.config.to_string()).unwrap();
        second.signal(Signal::SIGHUP);
    };
    reload(&first.captures());
    second.until_logged("The configuration stays as it was: export.base_dir: the folder ");
    assert!(said::single(&second.ask("save jpg")).path.starts_with(second.captures()));
    // Its own by another name is still its own; a new one frees the old.
    reload(&second.captures());
    second.until_logged("The configuration was read again");
    let said = refused("export.base_dir", second.captures().to_str().unwrap());
    assert!(said.contains("is in use by another pastcam"), "{said}");
    reload(&second.setup.dir.join("elsewhere"));
    until("the second reload", || (second.log().matches("was read again").count() == 2).then_some(()));
    let third = Setup::new("heir").set("export.base_dir", second.captures().to_str().unwrap()).start();
    assert_eq!(third.ask("ping"), "PONG");
}

#[test]
fn a_start_right_after_a_crash_or_a_stop_waits_for_the_one_before() {
    let ports = [free_port(), free_port(), free_port()];
    // Half a gigabyte, which takes a while to be freed.
    let setup = |word| {
        Setup::new(word)
            .set("camera.width", 1920)
            .set("camera.height", 1080)
            .set("ring.size", 150)
            .set("logging.dir", "logs")
            .set("network.persistent_port", ports[0])
            .set("network.udp_port", ports[1])
            .set("rtsp.enable", true)
            .set("rtsp.port", ports[2])
            .set("rtsp.bind", vec!["127.0.0.1"])
    };
    let populated = |mut r: Running, starts| {
        until("the ring", || {
            r.expect_alive();
            (r.log().matches("The ring is populated").count() == starts).then_some(())
        });
        r
    };
    let one = setup("crash");
    let first = populated(one.spawn(), 1);
    first.signal(Signal::SIGKILL);
    let second = populated(one.spawn(), 2);
    assert_eq!(second.ask("ping"), "PONG");
    // Another folder, the same ports.
    second.signal(Signal::SIGKILL);
    let other = setup("ports").set("network.trigger_port", one.port);
    let third = populated(other.spawn(), 1);
    third.signal(Signal::SIGTERM);
    let mut fourth = populated(other.spawn(), 2);
    assert_eq!(client::ask(one.port, "ping"), "PONG");
    assert_eq!(fourth.terminate().code(), Some(0));
}
