//! Network cameras that speak TLS with certificates of their own: which are trusted, and what is said of those that are not.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::path::Path;

use gstreamer_rtsp_server::gio::{self, TlsCertificate, prelude::*};
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::encrypted::{encrypted, sign};
use crate::harness::{Running, Setup, until};

/// Sets keys and has them taken over.
fn reload(r: &Running, keys: &[(&str, Value)]) {
    let setup = keys.iter().fold(r.setup.clone(), |s, (key, value)| s.set(key, value.clone()));
    drop(setup.command());
    r.signal(Signal::SIGHUP);
}

fn until_said(r: &Running, words: &str) {
    until(words, || r.status()["source"]["why"].as_str().is_some_and(|why| why.contains(words)).then_some(()));
}

fn until_running(r: &Running) {
    until("frames", || (r.status()["state"] == "RUNNING").then_some(()));
}

#[test]
fn a_camera_with_a_certificate_of_its_own_is_seen_once_it_is_trusted() {
    let Some((camera, url)) = encrypted("own") else { return };
    let _camera = camera.start();
    let setup = Setup::new("trust").set("camera.source", url.clone()).frameless();
    assert!(sign(&setup.dir, "other"));
    std::fs::copy(camera.dir.join("gate.pem"), setup.dir.join("gate.pem")).unwrap();
    let r = setup.start();
    until_said(&r, "the certificate is not trusted: nobody known here has signed it; save it as a PEM file");
    reload(&r, &[("camera.tls_ca", "other.pem".into())]);
    until_said(&r, "the certificate is not trusted");
    // The certificate itself: its name is `gate`, the address is in numbers.
    reload(&r, &[("camera.tls_ca", "gate.pem".into())]);
    until_running(&r);
    reload(&r, &[("camera.tls_ca", "other.pem".into()), ("camera.tls_verify", false.into())]);
    r.until_logged("The camera has changed: it is connected anew");
    until_running(&r);
    assert!(!r.log().contains("Could not") && !r.log().contains("Internal data"), "{}", r.log());
}

/// A camera that answers each request with the same picture, over TLS.
fn https(dir: &Path, name: &str, picture: Vec<u8>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let [pem, key] = ["pem", "key"].map(|e| dir.join(format!("{name}.{e}")));
    std::thread::spawn(move || {
        let certificate = TlsCertificate::from_files(pem, key).unwrap();
        for client in listener.incoming() {
            let socket = gio::Socket::from_fd(OwnedFd::from(client.unwrap())).unwrap();
            let stream = socket.connection_factory_create_connection();
            let tls = gio::TlsServerConnection::new(&stream, Some(&certificate)).unwrap();
            // One that does not trust us hangs up.
            if tls.handshake(gio::Cancellable::NONE).is_err() {
                continue;
            }
            let (mut from, mut to) = (tls.input_stream().into_read(), tls.output_stream().into_write());
            let (mut head, mut byte) = (Vec::new(), [0]);
            while !head.ends_with(b"\r\n\r\n") && from.read_exact(&mut byte).is_ok() {
                head.push(byte[0]);
            }
            let head = format!(
                "HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                picture.len()
            );
            let _ = to.write_all(&[head.as_bytes(), &picture].concat());
            let _ = tls.close(gio::Cancellable::NONE);
        }
    });
    port
}

fn picture() -> Vec<u8> {
    pastcam::gst::init().unwrap();
    let line = "videotestsrc num-buffers=1 ! video/x-raw,width=320,height=240 ! jpegenc ! appsink name=out sync=false";
    let pipe = pastcam::gst::Pipe::launch(line, "make a picture").unwrap();
    let out = pipe.named::<gstreamer_app::AppSink>("out");
    pipe.play(pastcam::error::Kind::Media, || "make a picture".into()).unwrap();
    out.pull_sample().unwrap().buffer().unwrap().map_readable().unwrap().to_vec()
}

#[test]
fn pictures_over_https_need_a_trusted_certificate_of_the_right_name() {
    let setup = Setup::new("https").frameless();
    if !["souphttpsrc", "jpegdec", "jpegenc"].iter().all(|e| pastcam::gst::has(e)) || !sign(&setup.dir, "localhost") {
        return;
    }
    let port = https(&setup.dir, "localhost", picture());
    let r = setup.set("camera.source", format!("https://localhost:{port}/still.jpg")).start();
    until_said(&r, "the certificate is not trusted: nobody known here has signed it");
    reload(&r, &[("camera.tls_ca", "localhost.pem".into())]);
    until_running(&r);
    reload(
        &r,
        &[("camera.source", format!("https://127.0.0.1:{port}/still.jpg").into()), ("camera.tls_ca", "localhost.pem".into())],
    );
    until_said(&r, "the certificate is not trusted: it is not for 127.0.0.1");
    reload(&r, &[("camera.source", format!("https://127.0.0.1:{port}/still.jpg").into()), ("camera.tls_verify", false.into())]);
    until_running(&r);
}

#[test]
fn a_file_without_certificates_is_refused() {
    let setup = Setup::new("no-pem").set("camera.tls_ca", "cam.pem");
    let refused = |words: &str| {
        let mut check = setup.command();
        let out = check.arg("check-config").output().unwrap();
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        assert!(!out.status.success() && said.contains(words), "{said}");
        let (code, said) = setup.end();
        assert!(code == 1 && said.contains(words), "{code} {said}");
    };
    refused("camera.tls_ca: read cam.pem: No such file");
    std::fs::write(setup.dir.join("cam.pem"), "no certificate").unwrap();
    refused("the file must hold certificates as PEM");
}
