//! Owns what the configuration says of the trigger ports. Pure; any thread.

use std::net::IpAddr;
use std::time::Duration;

use super::Settings;
use crate::error::Result;
use crate::net::AllowList;
use crate::settings::{Refusal, Secret, any, from, settings};

settings! {
    /// `network` in the configuration.
    pub struct Keys {
        /// TCP port of the commands.
        trigger_port: u16 = 9999, from(1.0, 65_535.0).at_start();
        /// Addresses to listen on; none: all, IPv4 and IPv6.
        bind: Vec<IpAddr> = Vec::new(), any().at_start();
        /// Who may send commands, as addresses or CIDR blocks.
        allow: AllowList = AllowList::default(), any();
        /// Word that every command must carry as `token=WORD`; empty: none.
        token: Secret = Secret::default(), any().secret().at_start();
        /// Silence that ends a command without a line end (ms).
        idle_ms: Duration = Duration::from_millis(200), from(60.0, 2000.0).whole().at_start();
        /// The same picture command again within this time (ms) is refused; 0: never.
        debounce_ms: Duration = Duration::ZERO, from(0.0, 3_600_000.0).whole();
        /// Clients served at once.
        max_clients: usize = 256, from(1.0, 4096.0).at_start();
        /// TCP port that stays open after each answer; 0: none.
        persistent_port: u16 = 0, from(0.0, 65_535.0).at_start();
        // A line has to hold a word and its ending.
        /// Length to which answers on that port are padded with blanks (bytes); 0: not.
        persistent_pad: u16 = 0, from(16.0, 1024.0).or_zero().at_start();
        /// A NUL after each answer on that port.
        persistent_nul: bool = false, any().at_start();
        /// UDP port whose datagrams are commands; 0: none.
        udp_port: u16 = 0, from(0.0, 65_535.0).at_start();
    }
}

impl Keys {
    /// What must be together.
    pub fn check(&self) -> Result<()> {
        if self.persistent_port == self.trigger_port {
            let refusal = Refusal::new("a port other than network.trigger_port", self.persistent_port);
            return Err(refusal.of("network.persistent_port"));
        }
        Ok(())
    }

    /// The server by these keys.
    pub fn settings(&self) -> Settings {
        let mut s = Settings {
            bind: self.bind.clone(),
            port: self.trigger_port,
            persistent_port: (self.persistent_port > 0).then_some(self.persistent_port),
            persistent_pad: self.persistent_pad,
            persistent_nul: self.persistent_nul,
            udp_port: (self.udp_port > 0).then_some(self.udp_port),
            idle: self.idle_ms,
            allow: self.allow.clone(),
            ..Settings::default()
        };
        s.limits.active = self.max_clients;
        // With a token every command has an argument that may still be on its way.
        s.at_once = self.token.is_empty();
        s
    }
}
