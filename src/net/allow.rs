//! Owns the lists of networks that may use a port. Never resolves names. Pure; any thread.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde_json::Value;

use crate::settings::{Kind, Leaf, Refusal, Word};

/// One network in CIDR notation, kept as IPv6: IPv4 stands in its v4-mapped place, so one comparison serves both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    bits: u128,
    /// Leading bits that count, 0–128; for IPv4 96 more than written.
    length: u8,
    four: bool,
}

fn mapped(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().to_bits(),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

/// The leading bits of an address; the rest is 0.
fn mask(length: u8) -> u128 {
    u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0)
}

impl Network {
    fn contains(&self, ip: IpAddr) -> bool {
        mapped(ip) & mask(self.length) == self.bits
    }
}

impl Word for Network {
    /// `192.168.1.0/24`, `fd00::/8`, or an address alone. Bits behind the length must be 0: `192.168.1.7/24` is mostly a
    /// slip, so it is refused with the network it would be.
    fn read(text: &str) -> Result<Self, Refusal> {
        let refuse = |rule: String| Refusal::text(rule, text);
        let trimmed = text.trim();
        let (address, length) = match trimmed.split_once('/') {
            Some((a, l)) => (a, Some(l)),
            None => (trimmed, None),
        };
        let ip: IpAddr = address
            .parse()
            .map_err(|_| refuse("an entry is an IPv4 or IPv6 address or network such as 192.168.1.0/24".into()))?;
        // A v4-mapped network is written with IPv6 lengths: ::ffff:10.0.0.0/104.
        let (four, widest, shift) = if ip.is_ipv4() { (true, 32, 96) } else { (false, 128, 0) };
        let length = match length {
            None => widest,
            Some(l) => l
                .parse::<u8>()
                .ok()
                .filter(|&n| n <= widest && l.bytes().all(|b| b.is_ascii_digit()))
                .ok_or_else(|| refuse(format!("the length behind / is a whole number from 0 to {widest} here")))?,
        };
        let network = Network { bits: mapped(ip) & mask(length + shift), length: length + shift, four };
        if network.bits != mapped(ip) {
            return Err(refuse(format!("the bits behind the length must be 0 (that network is {network})")));
        }
        Ok(network)
    }
    fn word(&self) -> String {
        self.to_string()
    }
    fn range() -> String {
        "addresses, CIDR".into()
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.four {
            write!(f, "{}/{}", Ipv4Addr::from_bits(self.bits as u32), self.length - 96)
        } else {
            write!(f, "{}/{}", Ipv6Addr::from_bits(self.bits), self.length)
        }
    }
}

/// The networks that may use the ports. An empty list lets nobody in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AllowList(Vec<Network>);

/// This machine, private networks (RFC 1918, RFC 4193) and link-local addresses (RFC 3927, RFC 4291).
pub const LOCAL_NETWORKS: [&str; 8] =
    ["127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16", "::1/128", "fc00::/7", "fe80::/10"];

impl AllowList {
    /// Reads entries as they stand in the configuration. The error names the rule and the refused entry.
    pub fn parse(entries: &[&str]) -> Result<Self, Refusal> {
        entries.iter().map(|e| Network::read(e)).collect::<Result<_, _>>().map(AllowList)
    }

    /// Whether this address may use the ports. A v4-mapped address counts as the IPv4 address it holds.
    pub fn contains(&self, ip: IpAddr) -> bool {
        self.0.iter().any(|n| n.contains(ip))
    }
}

impl Default for AllowList {
    /// [`LOCAL_NETWORKS`].
    fn default() -> Self {
        AllowList::parse(&LOCAL_NETWORKS).expect("the networks above are constants that a test reads")
    }
}

impl fmt::Display for AllowList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.iter().map(Word::word).collect::<Vec<_>>().join(", "))
    }
}

impl Leaf for AllowList {
    fn kind(&self) -> Kind {
        self.0.kind()
    }
    fn take(&mut self, written: &Value) -> Result<(), Refusal> {
        self.0.take(written)
    }
    fn value(&self) -> Value {
        self.0.value()
    }
    fn range(&self) -> String {
        self.0.range()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allows(list: &AllowList, ip: &str) -> bool {
        list.contains(ip.parse().unwrap())
    }

    #[test]
    fn the_default_lets_in_local_networks_only() {
        let list = AllowList::default();
        for ip in [
            "127.0.0.1",
            "::1",
            "10.1.2.3",
            "172.31.255.1",
            "192.168.0.9",
            "169.254.7.7",
            "fd12::1",
            "fe80::1",
            "::ffff:10.0.0.1",
        ] {
            assert!(allows(&list, ip), "{ip}");
        }
        for ip in ["8.8.8.8", "172.32.0.1", "2001:db8::1", "::ffff:8.8.8.8", "fec0::1", "::", "0.0.0.0"] {
            assert!(!allows(&list, ip), "{ip}");
        }
    }

    #[test]
    fn single_addresses_everything_and_nothing() {
        let list = AllowList::parse(&["10.0.0.7", "2001:db8::5"]).unwrap();
        assert!(allows(&list, "10.0.0.7") && allows(&list, "2001:db8::5"));
        assert!(!allows(&list, "10.0.0.8") && !allows(&list, "2001:db8::4"));
        let v4 = AllowList::parse(&["0.0.0.0/0"]).unwrap();
        assert!(allows(&v4, "8.8.8.8") && allows(&v4, "::ffff:8.8.8.8") && !allows(&v4, "2001:db8::1"));
        assert!(allows(&AllowList::parse(&["::/0"]).unwrap(), "8.8.8.8"));
        assert!(allows(&AllowList::parse(&["::ffff:10.0.0.0/104"]).unwrap(), "10.9.9.9"));
        assert!(!allows(&AllowList::parse(&[]).unwrap(), "127.0.0.1"));
        assert_eq!(list.to_string(), "10.0.0.7/32, 2001:db8::5/128");
    }

    #[test]
    fn a_refused_entry_is_named_with_its_rule() {
        let said = |e: &str| AllowList::parse(&[e]).unwrap_err().of("network.allow").to_string();
        assert_eq!(
            said("camera.local"),
            "network.allow: an entry is an IPv4 or IPv6 address or network such as 192.168.1.0/24, not \"camera.local\""
        );
        assert_eq!(
            said("10.0.0.0/33"),
            "network.allow: the length behind / is a whole number from 0 to 32 here, not \"10.0.0.0/33\""
        );
        assert_eq!(said("::/+1"), "network.allow: the length behind / is a whole number from 0 to 128 here, not \"::/+1\"");
        assert_eq!(
            said("192.168.1.7/24"),
            "network.allow: the bits behind the length must be 0 (that network is 192.168.1.0/24), not \"192.168.1.7/24\""
        );
        assert!(said("").contains("not \"\""));
    }
}
