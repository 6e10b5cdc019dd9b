//! Owns the look at why a camera gives no stream, where the library only says that it gives none. Connects once, sends no login, reads
//! the head of one answer, and hangs up. Takes a few seconds at most; on the capture thread, after a failure, or on the library's.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use gstreamer_rtsp_server::gio::{self, IOErrorEnum, ResolverError, prelude::*};
use gstreamer_rtsp_server::glib;

use super::address::Address;
use super::trust;

/// Seconds for the connection, and for each answer on it.
const PATIENCE_S: u32 = 3;
/// For the connection and the head of an answer together, however slowly that comes.
const WHOLE: Duration = Duration::from_secs(5);
/// No head of an answer is longer (bytes).
const HEAD: usize = 16 << 10;

fn connect(host: &str, port: u16) -> Result<gio::SocketConnection, glib::Error> {
    let client = gio::SocketClient::new();
    client.set_timeout(PATIENCE_S);
    SocketClientExt::connect(&client, &gio::NetworkAddress::new(host, port), gio::Cancellable::NONE)
}

/// Why no connection comes about; `None` where one does.
pub(super) fn trouble(address: &Address) -> Option<String> {
    let (host, port) = address.server()?;
    let e = match connect(&host, port) {
        Ok(connection) => return shake(&connection, address, &host, port).err(),
        Err(e) => e,
    };
    log::debug!("Connecting to {host} port {port}: {e}");
    Some(if e.kind::<ResolverError>().is_some() {
        format!("there is no machine called {host}; correct camera.source, or write its address in numbers")
    } else if e.matches(IOErrorEnum::ConnectionRefused) {
        format!("nothing listens on port {port} of {host}; correct the port in camera.source, or switch the camera's service on")
    } else if e.matches(IOErrorEnum::TimedOut) || e.matches(IOErrorEnum::HostUnreachable) {
        format!("{host} does not answer; check the camera's power, its cable and its address")
    } else if e.matches(IOErrorEnum::NetworkUnreachable) {
        format!("there is no way to {host}; check this machine's network")
    } else {
        format!("{host} cannot be connected; check the camera and the network")
    })
}

/// Greets over TLS, where the address has it.
fn shake(connection: &gio::SocketConnection, address: &Address, host: &str, port: u16) -> Result<gio::IOStream, String> {
    if !address.location.starts_with("rtsps:") && !address.location.starts_with("https:") {
        return Ok(connection.clone().upcast());
    }
    let no_tls = |e: glib::Error| {
        log::debug!("TLS with {host} port {port}: {e}");
        format!("port {port} of {host} does not speak TLS; correct the port in camera.source, or write it without the s")
    };
    let tls = gio::TlsClientConnection::new(connection, Some(&gio::NetworkAddress::new(host, port))).map_err(no_tls)?;
    tls.set_database(address.trust.database().as_ref());
    // The library for HTTP has no way to take one certificate for its own sake.
    let by_itself = address.location.starts_with("rtsps:");
    let (wrong, trust) = (Arc::new(Mutex::new(None)), address.trust.clone());
    let seen = wrong.clone();
    tls.connect_accept_certificate(move |_, shown, flags| {
        let takes = if by_itself { trust.knows(shown) } else { trust.takes_all() };
        if !takes {
            *seen.lock().unwrap_or_else(PoisonError::into_inner) = Some(flags);
        }
        takes
    });
    match tls.handshake(gio::Cancellable::NONE) {
        Ok(()) => Ok(tls.upcast()),
        Err(e) => Err(match *wrong.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(flags) => trust::distrust(flags, host),
            None => no_tls(e),
        }),
    }
}

/// The head of the camera's answer to a request without a login; `method` where it speaks RTSP. `None` where it has not come `within`.
fn head(address: &Address, method: &str, within: Duration) -> Option<String> {
    let begun = Instant::now();
    let (host, port) = address.server()?;
    let connection = connect(&host, port).ok()?;
    let stream = shake(&connection, address, &host, port).ok()?;
    let request = if address.location.starts_with("rtsp") {
        format!("{method} {} RTSP/1.0\r\nCSeq: 1\r\nAccept: application/sdp\r\n\r\n", address.location)
    } else {
        let path = address.location.splitn(4, '/').nth(3).unwrap_or_default();
        format!("GET /{path} HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: close\r\n\r\n")
    };
    stream.output_stream().write_all(request.as_bytes(), gio::Cancellable::NONE).ok()?;
    let mut head = Vec::new();
    while head.len() < HEAD && !head.windows(4).any(|w| w == b"\r\n\r\n") {
        let left = within.checked_sub(begun.elapsed())?;
        connection.socket().set_timeout(PATIENCE_S.min(left.as_secs() as u32 + 1));
        let more = stream.input_stream().read_bytes(HEAD, gio::Cancellable::NONE).ok()?;
        if more.is_empty() {
            break;
        }
        head.extend_from_slice(&more);
    }
    Some(String::from_utf8_lossy(&head).into_owned())
}

/// Whether an RTSP camera wants a login even to say what it can do.
pub(super) fn wants_login(address: &Address) -> bool {
    head(address, "OPTIONS", WHOLE).is_some_and(|head| head.split(' ').nth(1) == Some("401"))
}

/// Whether the camera takes a login only in a way that the library does not know: a digest made with SHA-256.
pub(super) fn wants_sha256(address: &Address) -> bool {
    head(address, "DESCRIBE", WHOLE).is_some_and(|head| only_sha256(&head))
}

fn only_sha256(head: &str) -> bool {
    let asked: Vec<String> = head
        .lines()
        .filter_map(|line| line.split_once(':').filter(|(name, _)| name.trim().eq_ignore_ascii_case("www-authenticate")))
        .map(|(_, value)| value.to_ascii_uppercase().replace(['"', ' '], ""))
        .collect();
    // Several may stand in one line.
    let digests: Vec<&str> = asked.iter().flat_map(|a| a.split("DIGEST").skip(1)).collect();
    let basic = asked.iter().any(|a| a.contains("BASICREALM"));
    !basic && !digests.is_empty() && digests.iter().all(|d| d.contains("ALGORITHM=SHA"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_that_drips_is_not_waited_for() {
        use std::io::{Read, Write};
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = Address::of(&format!("rtsp://{}/live", listener.local_addr().unwrap()));
        let camera = std::thread::spawn(move || {
            let mut client = listener.accept().unwrap().0;
            let _ = client.read(&mut [0; 1000]);
            // Until the other has hung up.
            while client.write_all(b"x").is_ok() {
                std::thread::sleep(Duration::from_millis(50));
            }
        });
        assert_eq!(head(&address, "DESCRIBE", Duration::from_millis(200)), None);
        camera.join().unwrap();
    }

    #[test]
    fn a_camera_that_only_knows_sha_256_is_recognised() {
        let head = |asked: &[&str]| {
            only_sha256(&format!(
                "RTSP/1.0 401 No\r\nCSeq: 1\r\nWWW-Authenticate: {}\r\n\r\n",
                asked.join("\r\nWWW-Authenticate: ")
            ))
        };
        let (md5, sha) = (r#"Digest realm="cam", nonce="1""#, r#"Digest realm="cam", nonce="1", algorithm=SHA-256, qop="auth""#);
        assert!(head(&[sha]) && head(&[r#"digest algorithm="sha-256", realm="cam""#]));
        assert!(!head(&[]) && !head(&[md5]) && !head(&[sha, md5]) && !head(&[sha, r#"Basic realm="cam""#]));
        assert!(!head(&[&format!("{sha}, {md5}")]));
    }
}
