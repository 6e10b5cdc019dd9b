//! One connection at a time: framing over real segments, answers, and how connections end.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use nix::sys::socket::{setsockopt, sockopt};
use pastcam::clock::{Clock, SystemClock};
use pastcam::net::AllowList;
use pastcam::server::{Channel, LINE_MAX, Limits, Settings};

use crate::rig::{PATIENCE, client, line, rest, rig, settings, start, until};

#[test]
fn every_line_end_is_answered_with_one_line_and_a_close() {
    let r = rig();
    for end in ["\n", "\r", "\r\n", "\n\r", "\0", ""] {
        assert_eq!(r.ask(format!("save{end}").as_bytes()), "Saved save\n", "{end:?}");
        assert_eq!(r.ask_and_shut(format!("save{end}").as_bytes()), "Saved save\n", "{end:?} and end of input");
    }
}

#[test]
fn both_address_families_are_served() {
    let r = start(Settings { bind: vec![], ..settings() });
    assert_eq!(r.ask(b"health\n"), "OK health\n");
    match TcpStream::connect((Ipv6Addr::LOCALHOST, r.port())) {
        Ok(mut c) => {
            c.write_all(b"health\n").unwrap();
            assert_eq!(rest(&mut c), "OK health\n");
        }
        Err(e) => println!("SKIP: no IPv6 loopback here: {e}"),
    }
    let peers: Vec<IpAddr> = r.fake.requests.lock().unwrap().iter().map(|q| q.peer.ip()).collect();
    assert_eq!(peers[0], IpAddr::V4(Ipv4Addr::LOCALHOST), "IPv4 keeps its own notation");
}

#[test]
fn there_is_no_banner_and_no_echo() {
    let r = rig();
    let mut c = r.client();
    c.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    assert!(c.read(&mut [0]).is_err(), "nothing comes before the first byte");
    c.set_read_timeout(Some(PATIENCE)).unwrap();
    c.write_all(b"save\n").unwrap();
    assert_eq!(rest(&mut c), "Saved save\n");
}

#[test]
fn two_writes_are_one_command() {
    let r = rig();
    let mut c = r.client();
    c.write_all(b"save").unwrap();
    std::thread::sleep(Duration::from_millis(45));
    c.write_all(b"\r\n").unwrap();
    assert_eq!(rest(&mut c), "Saved save\n");
    assert_eq!(r.fake.lines(), ["save"]);
}

#[test]
fn the_trigger_is_the_first_byte_and_not_the_end_of_the_silence() {
    let r = start(Settings { idle: Duration::from_secs(1), ..settings() });
    let before = SystemClock.boot();
    let mut c = r.client();
    c.write_all(b"save").unwrap();
    let written = SystemClock.boot();
    assert_eq!(rest(&mut c), "Saved save\n");
    let trigger = r.fake.requests.lock().unwrap()[0].trigger;
    assert!(trigger >= before);
    // The silence of 1 s lies between the write and the answer; the trigger must stand at its beginning.
    assert!(trigger.since(written) < Duration::from_millis(500), "{:?} late", trigger.since(written));
    assert!(SystemClock.boot().since(written) >= Duration::from_secs(1));
}

#[test]
fn a_word_without_argument_does_not_wait_for_silence() {
    let r = start(Settings { idle: Duration::from_secs(2), ..settings() });
    let began = Instant::now();
    for word in ["health", "night_level", "ping"] {
        assert_eq!(r.ask(word.as_bytes()), format!("OK {word}\n"));
    }
    assert!(began.elapsed() < Duration::from_secs(2), "no silence was waited for: {:?}", began.elapsed());
}

#[test]
fn bytes_from_a_serial_gateway_are_one_command() {
    let r = rig();
    let mut c = r.client();
    for b in b"\x02save jpg\x03\n" {
        c.write_all(&[*b]).unwrap();
        std::thread::sleep(Duration::from_millis(3));
    }
    assert_eq!(rest(&mut c), "Saved save jpg\n");
}

#[test]
fn putty_s7_logix_twincat_and_windows_writers_are_understood() {
    let r = rig();
    let cases: [(&[u8], &str); 8] = [
        (b"\xff\xfb\x1f\xff\xfb\x20\xff\xfb\x18\xff\xfd\x01\xff\xfb\x03\xff\xfd\x03save\r\n", "save"),
        (b"\xfe\x04save", "save"),
        (b"\xfe\x0dpastStack png\0\0\0\0", "pastStack png"),
        (b"save\0\0\0\0\0\0\0\0\0\0", "save"),
        (b"\x04\0\0\0save", "save"),
        (b"save jpg\0", "save jpg"),
        (b"\xef\xbb\xbfsave\r\n", "save"),
        (b"\x02save\x03", "save"),
    ];
    for (bytes, wanted) in cases {
        assert_eq!(r.ask(bytes), format!("Saved {wanted}\n"), "{bytes:?}");
    }
}

#[test]
fn pipelined_lines_run_in_order_until_the_first_error() {
    let r = rig();
    assert_eq!(r.ask(b"save a\nhealth\r\nsave b\n"), "Saved save a\nOK health\nSaved save b\n");
    assert_eq!(r.ask(b"save a\nfail\nsave b\n"), "Saved save a\nNOT_SAVED\n");
    assert_eq!(r.ask("save\n".repeat(20).as_bytes()), "Saved save\n".repeat(8));
}

#[test]
fn the_next_line_waits_for_the_previous_answer_and_may_arrive_meanwhile() {
    let r = rig();
    let mut c = r.client();
    c.write_all(b"hold 1\nsave a\n").unwrap();
    r.fake.wait(|q| q.len() == 1);
    // The second message comes without a line end while the first is worked on (Node-RED).
    c.write_all(b"save b").unwrap();
    assert_eq!(r.ask(b"health\n"), "OK health\n", "others are served meanwhile");
    assert_eq!(r.fake.lines(), ["hold 1", "health"], "nothing ran ahead of the held command");
    r.fake.release();
    assert_eq!(rest(&mut c), "released hold 1\nSaved save a\nSaved save b\n");
}

#[test]
fn strangers_get_one_line_and_nothing_runs() {
    let strangers: [&[u8]; 8] = [
        b"GET / HTTP/1.1\r\nHost: camera\r\n\r\nsave\n",
        b"POST / HTTP/1.1\r\nHost: camera\r\nContent-Length: 5\r\n\r\nsave\n",
        b"\x16\x03\x01\x00\xf1\x01\x00\x00\xed\x03\x03\x5a\n\xc3save\n\0save\0",
        b"\x00\x01\x00\x00\x00\x06\x01\x03\x00\x00\x00\x01",
        b"SSH-2.0-OpenSSH_9.6\r\nsave\r\n",
        b"EHLO there\r\nsave\r\n",
        b"*1\r\n$4\r\nsave\r\n",
        b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x3c\x00\x00",
    ];
    for persistent in [false, true] {
        let r = start(Settings { persistent_port: Some(0), ..settings() });
        for bytes in strangers {
            let mut c = if persistent { r.persistent() } else { r.client() };
            c.write_all(bytes).unwrap();
            assert_eq!(rest(&mut c), "UNKNOWN_COMMAND\n", "{bytes:?}, stays open: {persistent}");
        }
        assert!(r.fake.lines().iter().all(|l| !l.starts_with("save")), "{:?}", r.fake.lines());
    }
}

#[test]
fn nothing_but_an_end_of_input_is_answered_and_a_close_is_not() {
    let r = rig();
    assert_eq!(r.ask_and_shut(b""), "UNKNOWN_COMMAND\n");
    assert_eq!(r.ask_and_shut(b" \r\n"), "UNKNOWN_COMMAND\n");
    assert_eq!(r.ask(b"\n"), "UNKNOWN_COMMAND\n", "blank input without an end is answered as the reference does");
    let seen = r.fake.lines().len();
    // A reset without a byte: a port check. It must hand nothing over.
    let c = r.client();
    until("the silent client", || r.control.clients().silent == 1);
    reset(c);
    until("its end", || r.control.clients().open == 0);
    assert_eq!(r.fake.lines().len(), seen);
}

/// Closes with RST instead of FIN.
fn reset(c: TcpStream) {
    setsockopt(&c, sockopt::Linger, &nix::libc::linger { l_onoff: 1, l_linger: 0 }).unwrap();
    drop(c);
}

#[test]
fn a_client_that_vanishes_does_not_stop_its_commands() {
    let r = rig();
    for abort in [false, true] {
        let seen = r.fake.lines().len();
        let mut c = r.client();
        c.write_all(b"hold\nsave a\nsave b").unwrap();
        r.fake.wait(|q| q.len() == seen + 1);
        if abort {
            reset(c);
        } else {
            drop(c);
        }
        r.fake.release();
        r.fake.wait(|q| q.len() == seen + 3);
        assert_eq!(r.fake.lines()[seen..], ["hold", "save a", "save b"], "reset: {abort}");
        until("the connection's end", || r.control.clients().open == 0);
    }
    // Sent and reset in one breath.
    let seen = r.fake.lines().len();
    let mut c = r.client();
    c.write_all(b"save").unwrap();
    reset(c);
    r.fake.wait(|q| q.len() > seen);
}

#[test]
fn too_long_a_line_gets_one_error_and_no_part_of_it_runs() {
    let r = rig();
    assert_eq!(r.ask(format!("save {}\n", "x".repeat(LINE_MAX)).as_bytes()), "ERR usage line longer than 1024 bytes\n");
    // 1 MiB: the client is still writing when the answer is ready, and must be able to read it all the same.
    let mut c = r.client();
    let mut writer = c.try_clone().unwrap();
    let big = std::thread::spawn(move || writer.write_all(&b"save ".repeat(210_000)).map(|()| writer.shutdown(Shutdown::Write)));
    assert_eq!(rest(&mut c), "ERR usage line longer than 1024 bytes\n");
    drop(big.join().unwrap());
    assert_eq!(r.fake.lines(), [] as [String; 0]);
    assert_eq!(r.ask(b"health\n"), "OK health\n");
}

#[test]
fn answers_are_one_ascii_line_of_at_most_240_bytes_unless_long() {
    let r = rig();
    assert_eq!(r.ask(b"odd\n"), "a?b?c?\n");
    assert_eq!(r.ask(b"wide\n").len(), 240);
    let status = r.ask(b"status json\n");
    assert_eq!((status.len(), status.matches('\n').count()), (4009, 1));
}

#[test]
fn an_answer_arrives_in_one_segment() {
    let r = rig();
    let mut c = r.client();
    c.write_all(b"save\n").unwrap();
    let mut buffer = [0; 1024];
    let n = c.read(&mut buffer).unwrap();
    assert_eq!(&buffer[..n], b"Saved save\n");
}

#[test]
fn unread_input_does_not_destroy_the_answer() {
    let r = rig();
    for _ in 0..50 {
        let mut c = r.client();
        c.write_all(b"fail\nsave\nsave\nsave\n").unwrap();
        // More than the server reads at once.
        c.write_all(&b"more\n".repeat(20_000)).unwrap();
        assert_eq!(rest(&mut c), "NOT_SAVED\n");
    }
}

#[test]
fn a_client_that_still_writes_after_its_answer_is_not_reset() {
    let limits = Limits { drain: PATIENCE, ..Limits::default() };
    let r = start(Settings { limits, ..settings() });
    let mut c = r.client();
    c.write_all(b"fail\n").unwrap();
    assert_eq!(rest(&mut c), "NOT_SAVED\n");
    for _ in 0..50 {
        c.write_all(b"save\n").expect("the server still takes what it will throw away");
        std::thread::sleep(Duration::from_millis(2));
    }
    c.shutdown(Shutdown::Write).unwrap();
    until("the server's end", || r.control.clients().open == 0);
    assert_eq!(r.fake.lines(), ["fail"], "what comes after the answer is thrown away");
}

#[test]
fn a_client_that_never_closes_is_closed_after_the_drain() {
    let r = rig();
    let mut c = r.client();
    c.write_all(b"save\n").unwrap();
    assert_eq!(rest(&mut c), "Saved save\n");
    // Our end stays open; the server's must go.
    until("the server's end", || r.control.clients().open == 0);
}

#[test]
fn a_command_without_an_answer_and_a_panicking_one_are_answered() {
    let r = rig();
    for bad in ["drop\n", "panic\n"] {
        assert_eq!(r.ask(bad.as_bytes()), "ERR io the command ended without an answer, the log says why\n");
    }
    assert_eq!(r.ask(b"health\n"), "OK health\n", "the server lives on");
}

#[test]
fn subscribe_is_refused_on_the_trigger_port() {
    assert!(rig().ask(b"subscribe\n").starts_with("ERR usage "));
}

#[test]
fn addresses_outside_the_list_are_told_so_and_the_list_changes_live() {
    let r = start(Settings { persistent_port: Some(0), ..settings() });
    let mut plc = r.persistent();
    plc.write_all(b"save\n").unwrap();
    assert_eq!(line(&mut plc), "Saved save\n");
    let mut waiting = r.client();
    waiting.write_all(b"hold\nsave\n").unwrap();
    r.fake.wait(|q| q.len() == 2);
    r.control.set_allow(AllowList::parse(&["10.0.0.0/8"]).unwrap());
    assert_eq!(rest(&mut plc), "", "an idle connection from outside the new list ends");
    assert_eq!(r.ask(b"save\n"), "ERR denied this address is not in network.allow\n");
    r.fake.release();
    assert_eq!(rest(&mut waiting), "released hold\n", "what ran still answers, the next line does not run");
    r.control.set_allow(AllowList::default());
    until("the old list", || r.ask(b"health\n") == "OK health\n");
    assert_eq!(r.fake.lines(), ["save", "hold", "health"]);
}

#[test]
fn a_stop_lets_answers_out_and_takes_no_more() {
    let r = rig();
    let (mut busy, mut silent) = (r.client(), r.client());
    busy.write_all(b"hold\nsave\n").unwrap();
    r.fake.wait(|q| q.len() == 1);
    until("both", || r.control.clients().open == 2);
    let port = r.port();
    let stop = std::thread::spawn(move || r.server.stop(PATIENCE));
    assert_eq!(rest(&mut silent), "");
    until("the port's end", || TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err());
    r.fake.release();
    assert_eq!(rest(&mut busy), "released hold\n");
    drop((busy, silent));
    stop.join().unwrap();
    assert_eq!(r.control.clients(), pastcam::server::Clients::default());
}

#[test]
fn a_stop_does_not_wait_for_longer_than_its_grace() {
    let r = rig();
    let mut c = r.client();
    c.write_all(b"hold\n").unwrap();
    r.fake.wait(|q| q.len() == 1);
    r.server.stop(Duration::from_millis(50));
    assert_eq!(rest(&mut c), "");
    // The command ends later, with nobody left to hear it.
    r.fake.release();
}

#[test]
fn a_restart_may_take_the_same_port_at_once() {
    let r = rig();
    let port = r.port();
    assert_eq!(r.ask(b"save\n"), "Saved save\n");
    r.server.stop(PATIENCE);
    let again = start(Settings { port, ..settings() });
    assert_eq!(again.ask(b"save\n"), "Saved save\n");
}

#[test]
fn a_datagram_is_one_line() {
    let r = start(Settings { udp_port: Some(0), ..settings() });
    let to = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), r.server.udp_port().unwrap());
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let ask = |bytes: &[u8]| {
        socket.send_to(bytes, to).unwrap();
        let mut buffer = [0; 2048];
        let (n, from) = socket.recv_from(&mut buffer).unwrap();
        assert_eq!(from, to);
        String::from_utf8(buffer[..n].to_vec()).unwrap()
    };
    assert_eq!(ask(b"save"), "Saved save\n");
    assert_eq!(ask(b"\xfe\x04save"), "Saved save\n");
    assert_eq!(ask(b"sleep\r\n"), "slept\n");
    assert_eq!(ask(b"save\nsave\n"), "ERR usage one datagram holds one line\n");
    assert_eq!(ask(&[b"SAVE ", &[b'x'; 1500][..]].concat()), "ERR usage line longer than 1024 bytes\n");
    let requests = r.fake.requests.lock().unwrap();
    assert_eq!(requests.len(), 3);
    assert!(requests.iter().all(|q| q.channel == Channel::Udp && q.peer == socket.local_addr().unwrap()));
}

/// Two cameras, the answer of one taken for a question by the other, would go on for ever.
#[test]
fn a_datagram_that_is_no_command_is_not_answered() {
    let r = start(Settings { udp_port: Some(0), ..settings() });
    let to = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), r.server.udp_port().unwrap());
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let long = [b'x'; 1500];
    let words =
        ["UNKNOWN_COMMAND\n", "PONG\n", "ERR busy x\n", "Saved save\n", "EVENT mode=DAY\n", "", "\n", "x\nsave\n", "saves"];
    for datagram in words.iter().map(|w| w.as_bytes()).chain([&long[..]]) {
        socket.send_to(datagram, to).unwrap();
    }
    socket.send_to(b"ping\n", to).unwrap();
    // One socket, taken in order: the first answer is to the only command.
    let mut buffer = [0; 64];
    let n = socket.recv(&mut buffer).unwrap();
    assert_eq!((&buffer[..n], r.fake.lines()), (b"OK ping\n".as_slice(), vec!["ping".to_owned()]));
}

#[test]
fn a_datagram_from_outside_the_list_is_not_answered() {
    let allow = AllowList::parse(&["127.0.0.5"]).unwrap();
    let r = start(Settings { udp_port: Some(0), allow, ..settings() });
    let to = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), r.server.udp_port().unwrap());
    let stranger = UdpSocket::bind((Ipv4Addr::new(127, 0, 0, 6), 0)).unwrap();
    let known = UdpSocket::bind((Ipv4Addr::new(127, 0, 0, 5), 0)).unwrap();
    known.set_read_timeout(Some(PATIENCE)).unwrap();
    stranger.send_to(b"save", to).unwrap();
    known.send_to(b"ping", to).unwrap();
    let mut buffer = [0; 64];
    let n = known.recv(&mut buffer).unwrap();
    // One socket, taken in order: the stranger's datagram is behind us.
    assert_eq!((&buffer[..n], r.fake.lines()), (b"OK ping\n".as_slice(), vec!["ping".to_owned()]));
    stranger.set_nonblocking(true).unwrap();
    assert!(stranger.recv(&mut buffer).is_err());
}

#[test]
fn settings_out_of_range_are_refused_by_name() {
    let control = pastcam::server::ServerControl::new().unwrap();
    let said = |s: Settings| {
        let fake = std::sync::Arc::new(crate::rig::Fake::default());
        pastcam::server::Server::start(s, &control, fake).unwrap_err().to_string()
    };
    let idle = said(Settings { idle: Duration::from_millis(50), ..settings() });
    assert_eq!(idle, "network.idle_ms is 60 to 2000, not 50");
    let pad = said(Settings { persistent_pad: 3, ..settings() });
    assert_eq!(pad, "network.persistent_pad is 0 or 16 to 1024, not 3");
    let taken = rig();
    let said = said(Settings { port: taken.port(), ..settings() });
    assert!(said.contains("another program owns port"), "{said}");
}

#[test]
fn a_line_of_many_segments_is_read_as_one() {
    let r = rig();
    let mut c = client(r.port());
    let text = format!("save {}", "ab".repeat(400));
    for piece in text.as_bytes().chunks(7) {
        c.write_all(piece).unwrap();
    }
    c.write_all(b"\n").unwrap();
    assert_eq!(rest(&mut c).len(), 240);
    assert_eq!(r.fake.lines(), [text]);
}
