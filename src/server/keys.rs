//! Owns what the configuration says of the trigger ports. Pure; any thread.

use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use super::{HEAD_MAX, Settings};
use crate::error::Result;
use crate::export::keys::NAME_MAX;
use crate::net::AllowList;
use crate::settings::{Refusal, Secret, any, from, settings};
use crate::verbs::ID_MAX;

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

    /// Whether a line of the fixed length holds the name of every file in this folder, and an `id=`.
    pub fn holds_answers(&self, folder: &Path) -> Result<()> {
        if self.persistent_port == 0 || self.persistent_pad == 0 {
            return Ok(());
        }
        let folder = std::path::absolute(folder).unwrap_or_else(|_| folder.to_path_buf());
        let (id, ending) = (" id=".len() + ID_MAX, 1 + usize::from(self.persistent_nul));
        let bytes = folder.as_os_str().len() + 1;
        let least = HEAD_MAX + bytes + NAME_MAX + id + ending;
        if usize::from(self.persistent_pad) >= least {
            return Ok(());
        }
        let rule = format!(
            "0 or at least {least} ({HEAD_MAX} bytes of words, {bytes} of the folder {}, {NAME_MAX} of a name with its tag, {id} of id=, {ending} of the line's end)",
            folder.display()
        );
        Err(Refusal::new(rule, self.persistent_pad).of("network.persistent_pad"))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::export::keys::FOLDER;
    use crate::server::ANSWER_MAX;

    #[test]
    fn the_longest_name_in_the_packages_folder_fits_into_an_answer() {
        let longest = HEAD_MAX + FOLDER.len() + 1 + NAME_MAX + " id=".len() + ID_MAX + 1;
        assert!(longest <= ANSWER_MAX, "{longest}");
        let keys = |pad| Keys { persistent_port: 9998, persistent_pad: pad, ..Keys::default() };
        assert!(keys(ANSWER_MAX as u16).holds_answers(Path::new(FOLDER)).is_ok());
        assert!(
            keys(longest as u16).holds_answers(Path::new(FOLDER)).is_ok() && keys(0).holds_answers(Path::new(FOLDER)).is_ok()
        );
        let said = keys(longest as u16 - 1).holds_answers(Path::new(FOLDER)).unwrap_err().to_string();
        let rule = "network.persistent_pad: 0 or at least 184 (36 bytes of words, 26 of the folder /var/lib/pastcam/captures, \
                    85 of a name with its tag, 36 of id=, 1 of the line's end), not 183";
        assert_eq!(said, rule);
        let off = Keys { persistent_port: 0, ..keys(16) };
        assert!(off.holds_answers(Path::new(FOLDER)).is_ok(), "there is no such port");
    }
}
