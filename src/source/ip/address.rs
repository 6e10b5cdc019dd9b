//! Owns a network camera's address taken apart: what to connect to, the login, and what may be shown of it. Pure; any thread.

use gstreamer as gst;
use gstreamer::prelude::*;

use super::trust::Trust;
use crate::error::Result;
use crate::secrets;
use crate::source::Tls;

/// An address as `camera.source` holds it.
#[derive(Clone)]
pub(crate) struct Address {
    /// Where to connect, without the login.
    pub location: String,
    /// User and password.
    pub login: Option<(String, String)>,
    /// What may stand in logs and answers.
    pub shown: String,
    /// Whom to trust where it is encrypted.
    pub trust: Trust,
}

/// Whether this is a host, with a port perhaps.
fn is_host(text: &str) -> bool {
    text.starts_with('[') || text.split_once(':').is_none_or(|(_, port)| port.bytes().all(|b| b.is_ascii_digit()))
}

impl Address {
    pub fn of(url: &str) -> Address {
        let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
        let authority = &rest[..rest.find(['/', '?', '#']).unwrap_or(rest.len())];
        let at = match authority.rfind('@') {
            Some(at) => Some(at),
            // A password with `/` or `?` in it, not written as `%2F`: what stands before is no host.
            None if !is_host(authority) => rest.rfind('@'),
            None => None,
        };
        let login = at.map(|at| {
            let (user, password) = rest[..at].split_once(':').unwrap_or((&rest[..at], ""));
            (secrets::plain(user), secrets::plain(password))
        });
        let place = &rest[at.map_or(0, |at| at + 1)..];
        Address { location: format!("{scheme}://{place}"), login, shown: secrets::hidden(url), trust: Trust::default() }
    }

    /// The same with the certificates to trust.
    pub fn trusting(self, tls: &Tls) -> Result<Address> {
        Ok(Address { trust: Trust::load(tls)?, ..self })
    }

    /// Whether this is a file of this machine.
    pub fn is_file(&self) -> bool {
        self.location.starts_with("file:")
    }

    /// Host and port to connect to.
    pub fn server(&self) -> Option<(String, u16)> {
        let (scheme, rest) = self.location.split_once("://")?;
        let authority = &rest[..rest.find(['/', '?', '#']).unwrap_or(rest.len())];
        let usual = match scheme {
            "rtsp" => 554,
            "rtsps" => 322,
            "https" => 443,
            _ => 80,
        };
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.contains(']') => (host, port.parse().ok()?),
            _ => (authority, usual),
        };
        Some((host.trim_matches(['[', ']']).to_string(), port))
    }

    /// Gives the login to an element that connects.
    pub fn log_in(&self, element: &gst::Element) {
        if let Some((user, password)) = &self.login {
            element.set_property("user-id", user);
            element.set_property("user-pw", password);
        }
    }

    /// A text of a library's, which may repeat the address, as it may be shown.
    pub fn scrub(&self, text: &str) -> String {
        let mut text = text.replace(&self.location, &self.shown);
        let login = self.login.iter().flat_map(|(user, password)| [password.clone(), user.clone()]);
        // Servers repeat parts of an address on their own.
        for secret in login.chain(secrets::values(&self.location)).filter(|s| s.len() > 2) {
            text = text.replace(&secret, "***");
        }
        text
    }
}

/// A URL in two: up to the end of the host, and the rest.
fn split(url: &str) -> (&str, &str) {
    let host = url.find("://").map_or(0, |i| i + 3);
    url.split_at(url[host..].find(['/', '?', '#']).map_or(url.len(), |i| host + i))
}

/// Where a redirect from `base` leads; as in RFC 3986 but for `..`, which servers resolve themselves.
pub(super) fn redirected(base: &str, to: &str) -> String {
    let to = to.trim().split('#').next().unwrap_or_default();
    let (server, rest) = split(base);
    let path = rest.split(['?', '#']).next().unwrap_or_default();
    if to.contains("://") && !to.starts_with(['/', '?', '.']) {
        to.into()
    } else if to.starts_with("//") {
        format!("{}:{to}", base.split(':').next().unwrap_or_default())
    } else if to.starts_with('/') {
        format!("{server}{to}")
    } else if to.starts_with('?') || to.is_empty() {
        format!("{server}{path}{to}")
    } else {
        format!("{server}{}/{to}", path.rsplit_once('/').map_or("", |(folder, _)| folder))
    }
}

/// Whether both are of one server, so that one may have the other's login.
pub(super) fn same_server(a: &str, b: &str) -> bool {
    let server = |url| {
        let server = split(url).0.to_ascii_lowercase();
        let (scheme, host) = server.split_once("://").unwrap_or_default();
        let host = host.rsplit('@').next().unwrap_or_default();
        let usual = if scheme == "https" { ":443" } else { ":80" };
        (scheme.to_string(), host.strip_suffix(usual).unwrap_or(host).to_string())
    };
    server(a) == server(b)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_are_resolved() {
        let to = |to: &str| redirected("http://cam:81/a/b?c=/d", to);
        assert_eq!(to("http://other/x#y"), "http://other/x");
        assert_eq!(to("//other/x"), "http://other/x");
        assert_eq!(to("/x?y=http://z"), "http://cam:81/x?y=http://z");
        assert_eq!(to("x"), "http://cam:81/a/x");
        assert_eq!(to("?x"), "http://cam:81/a/b?x");
        assert_eq!(redirected("http://cam", "x"), "http://cam/x");
    }

    #[test]
    fn a_login_belongs_to_one_server() {
        assert!(same_server("http://cam/a", "http://CAM:80/b?c") && same_server("https://cam:443", "https://cam/"));
        for other in ["http://cam2/a", "http://cam:81/a", "https://cam/a", "http://cam.evil/a", "http://cam@evil/", "nonsense"] {
            assert!(!same_server("http://cam/a", other), "{other}");
        }
    }

    #[test]
    fn the_login_is_taken_out_of_an_address() {
        let parts = |url: &str| {
            let a = Address::of(url);
            (a.location, a.login.map(|(u, p)| format!("{u} {p}")).unwrap_or_default())
        };
        let is = |location: &str, login: &str| (location.to_string(), login.to_string());
        assert_eq!(parts("rtsp://cam:554/live?key=1"), is("rtsp://cam:554/live?key=1", ""));
        assert_eq!(parts("rtsp://me:p@ss@cam:554/live"), is("rtsp://cam:554/live", "me p@ss"));
        assert_eq!(parts("rtsp://me:p%40s%3As@cam/x@1"), is("rtsp://cam/x@1", "me p@s:s"));
        assert_eq!(parts("rtsp://cam/x@1"), is("rtsp://cam/x@1", ""));
        assert_eq!(parts("rtsp://[fe80::1]:554/x@1"), is("rtsp://[fe80::1]:554/x@1", ""));
        assert_eq!(parts("http://me:se/cret?@cam/x"), is("http://cam/x", "me se/cret?"));
        assert_eq!(parts("http://me:100%@cam"), is("http://cam", "me 100%"));
    }

    #[test]
    fn the_server_is_known_with_its_port() {
        let server = |url: &str| Address::of(url).server().map(|(host, port)| format!("{host} {port}"));
        assert_eq!(server("rtsp://me:pw@cam/live").as_deref(), Some("cam 554"));
        assert_eq!(server("rtsps://cam?x").as_deref(), Some("cam 322"));
        assert_eq!(server("https://[fe80::1]/x").as_deref(), Some("fe80::1 443"));
        assert_eq!(server("http://[fe80::1]:81/x").as_deref(), Some("fe80::1 81"));
        assert_eq!(server("http://cam:99999/x"), None);
    }

    #[test]
    fn texts_lose_login_and_query() {
        let a = Address::of("rtsp://operator:hunter2@cam/live?key=hunter3");
        let said = a.scrub("open rtsp://cam/live?key=hunter3 as operator:hunter2");
        assert_eq!(said, "open rtsp://cam/live?key=*** as ***:***");
        assert_eq!(a.scrub("/live?key=hunter3 not found"), "/live?key=*** not found");
    }
}
