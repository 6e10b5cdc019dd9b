//! Real programs as clients. Each is skipped with a word where it is not installed.

use std::process::{Command, Output};

use pastcam::server::Settings;

use crate::rig::{rig, settings, start, until};

fn installed(program: &str) -> bool {
    let found = Command::new("sh").args(["-c", &format!("command -v {program}")]).output().unwrap().status.success();
    if !found {
        println!("SKIP: {program} is not installed");
    }
    found
}

/// Runs one shell line under a limit that only a hang reaches.
fn shell(script: &str) -> Output {
    let out = Command::new("timeout").args(["30", "bash", "-c", script]).output().expect("timeout and bash are everywhere");
    assert_ne!(out.status.code(), Some(124), "hangs: {script}");
    out
}

/// Each script with `PORT` filled in prints exactly the answer to `save`.
fn prints_the_answer(program: &str, scripts: &[&str]) {
    if !installed(program) {
        return;
    }
    let r = rig();
    for script in scripts {
        let script = script.replace("PORT", &r.port().to_string());
        let out = shell(&script);
        assert_eq!(String::from_utf8_lossy(&out.stdout), "Saved save\n", "{script}: {out:?}");
    }
    assert_eq!(r.fake.lines().len(), scripts.len());
}

#[test]
fn netcat_openbsd() {
    prints_the_answer(
        "nc.openbsd",
        &[
            "printf save | nc.openbsd 127.0.0.1 PORT",
            "echo save | nc.openbsd 127.0.0.1 PORT",
            "echo save | nc.openbsd -N 127.0.0.1 PORT",
            "echo save | nc.openbsd -q1 127.0.0.1 PORT",
            "echo save | nc.openbsd -w1 127.0.0.1 PORT",
            "echo save | nc.openbsd -C 127.0.0.1 PORT",
            "(printf save; sleep 0.1; echo) | nc.openbsd 127.0.0.1 PORT",
        ],
    );
}

#[test]
fn netcat_traditional() {
    prints_the_answer(
        "nc.traditional",
        &[
            "printf save | nc.traditional 127.0.0.1 PORT",
            "echo save | nc.traditional 127.0.0.1 PORT",
            "echo save | nc.traditional -q1 127.0.0.1 PORT",
            "echo save | nc.traditional -w1 127.0.0.1 PORT",
        ],
    );
}

#[test]
fn netcat_busybox() {
    prints_the_answer(
        "busybox",
        &[
            "printf save | busybox nc 127.0.0.1 PORT",
            "echo save | busybox nc 127.0.0.1 PORT",
            "echo save | busybox nc -w 5 127.0.0.1 PORT",
        ],
    );
}

#[test]
fn ncat() {
    prints_the_answer(
        "ncat",
        &[
            "printf save | ncat 127.0.0.1 PORT",
            "echo save | ncat 127.0.0.1 PORT",
            "echo save | ncat -C 127.0.0.1 PORT",
            "echo save | ncat --no-shutdown 127.0.0.1 PORT",
        ],
    );
}

#[test]
fn socat() {
    prints_the_answer(
        "socat",
        &[
            "printf save | socat - TCP:127.0.0.1:PORT",
            "echo save | socat - TCP:127.0.0.1:PORT",
            "echo save | socat - TCP:127.0.0.1:PORT,crnl",
            "echo save | socat -t5 - TCP:127.0.0.1:PORT,shut-none",
        ],
    );
}

#[test]
fn bash_dev_tcp() {
    prints_the_answer(
        "bash",
        &[
            "exec 3<>/dev/tcp/127.0.0.1/PORT; printf save >&3; cat <&3",
            "exec 3<>/dev/tcp/127.0.0.1/PORT; echo save >&3; cat <&3",
            "exec 3<>/dev/tcp/127.0.0.1/PORT; for c in s a v e; do printf $c >&3; sleep 0.02; done; echo >&3; cat <&3",
        ],
    );
}

#[test]
fn telnet() {
    prints_the_answer("curl", &["(echo save; sleep 2) | curl -s telnet://127.0.0.1:PORT"]);
    prints_the_answer("telnet", &["(sleep 0.5; echo save; sleep 1) | telnet 127.0.0.1 PORT | tail -n1"]);
}

#[test]
fn python_perl_and_php() {
    let python =
        "import socket; s=socket.create_connection(('127.0.0.1',PORT)); s.send(b'save'); print(s.recv(1024).decode(), end='')";
    prints_the_answer("python3", &[&format!("python3 -c \"{python}\"")]);
    let perl = "use IO::Socket::INET; \\$s=IO::Socket::INET->new(PeerAddr=>'127.0.0.1:PORT'); print \\$s 'save'; \\$s->flush; print <\\$s>";
    prints_the_answer("perl", &[&format!("perl -e \"{perl}\"")]);
    let php = "\\$s=fsockopen('127.0.0.1',PORT); fwrite(\\$s,'save'); echo fgets(\\$s);";
    prints_the_answer("php", &[&format!("php -r \"{php}\"")]);
}

#[test]
fn browsers_and_tls_clients_run_nothing() {
    let r = rig();
    if installed("curl") {
        for args in ["", "-X POST -d save", "--data-binary $'save\\nsave\\n'", "-X save"] {
            let out = shell(&format!("curl -s --http0.9 {args} http://127.0.0.1:{}/", r.port()));
            // `-X save` puts the verb first: whether `save / HTTP/1.1` runs is the commands' decision, not the framing's.
            if args != "-X save" {
                assert_eq!(String::from_utf8_lossy(&out.stdout), "UNKNOWN_COMMAND\n", "{args}");
            }
        }
    }
    if installed("openssl") {
        let out = shell(&format!("openssl s_client -connect 127.0.0.1:{} </dev/null", r.port()));
        assert!(!out.status.success());
    }
    let ran = r.fake.lines();
    assert!(ran.iter().all(|l| l != "save" && l != "pastStack"), "{ran:?}");
}

#[test]
fn a_port_check_runs_nothing() {
    if !installed("nc.openbsd") {
        return;
    }
    let r = rig();
    assert!(shell(&format!("nc.openbsd -z 127.0.0.1 {}", r.port())).status.success());
    until("its end", || r.control.clients().open == 0);
    assert!(r.fake.lines().iter().all(String::is_empty), "{:?}", r.fake.lines());
}

#[test]
fn a_subscriber_in_a_shell() {
    if !installed("nc.openbsd") {
        return;
    }
    let r = start(Settings { persistent_port: Some(0), ..settings() });
    let port = r.server.persistent_port().unwrap();
    let shell = std::thread::spawn(move || shell(&format!("echo subscribe | nc.openbsd 127.0.0.1 {port} | head -n3")));
    until("the subscriber", || r.control.clients().subscribers == 1);
    r.control.notifier().publish("NIGHT");
    r.control.notifier().publish("SAVED a.jpg");
    until("its going", || {
        r.control.notifier().publish("more");
        r.control.clients().subscribers == 0
    });
    let out = shell.join().unwrap();
    assert_eq!(String::from_utf8_lossy(&out.stdout), "STATE DAY\nNIGHT\nSAVED a.jpg\n");
}
