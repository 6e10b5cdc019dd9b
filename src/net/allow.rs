//! Owns the lists of networks that may use a port. Never resolves names. Pure; any thread.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use serde_json::Value;

use crate::settings::{Kind, Leaf, Refusal, Word};

/// One network in CIDR notation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network(IpNet);

impl Network {
    fn contains(&self, ip: IpAddr) -> bool {
        match (self.0, ip.to_canonical()) {
            (IpNet::V6(net), IpAddr::V4(ip)) => net.contains(&ip.to_ipv6_mapped()),
            (net, ip) => net.contains(&ip),
        }
    }
}

impl Word for Network {
    /// `192.168.1.0/24`, `fd00::/8`, or an address alone. Bits behind the length must be 0: `192.168.1.7/24` is mostly a
    /// slip, so it is refused with the network it would be.
    fn read(text: &str) -> Result<Self, Refusal> {
        let refuse = |rule: &str| Refusal::text(rule, text);
        let trimmed = text.trim();
        let (address, length) = trimmed.split_once('/').map_or((trimmed, None), |(a, l)| (a, Some(l)));
        let rule = "an entry is an IPv4 or IPv6 address or network such as 192.168.1.0/24";
        let ip: IpAddr = address.parse().map_err(|_| refuse(rule))?;
        let alone = IpNet::from(ip);
        let net = length.map_or(Some(alone), |l| {
            let digits = l.bytes().all(|b| b.is_ascii_digit());
            IpNet::new(ip, l.parse().ok().filter(|_| digits)?).ok()
        });
        let rule = || format!("the length behind / is a whole number from 0 to {} here", alone.max_prefix_len());
        let net = net.ok_or_else(|| refuse(&rule()))?;
        if net.trunc() != net {
            return Err(refuse(&format!("the bits behind the length must be 0 (that network is {})", net.trunc())));
        }
        Ok(Network(net))
    }
    fn word(&self) -> String {
        self.0.to_string()
    }
    fn range() -> String {
        "addresses, CIDR".into()
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
