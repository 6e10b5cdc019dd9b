//! Owns the removal of telnet negotiation (RFC 854) from a byte stream, also where a sequence is split over segments.
//! Never answers a negotiation: a plain stream is what every client falls back to. Pure; any thread.

/// "Interpret as command": starts every sequence.
const IAC: u8 = 0xFF;
/// Start and end of a sub-negotiation.
const SB: u8 = 0xFA;
const SE: u8 = 0xF0;
/// WILL, WONT, DO, DONT: one option byte follows.
const WITH_OPTION: std::ops::RangeInclusive<u8> = 0xFB..=0xFE;
/// A sub-negotiation longer than this is no telnet; what follows is read as text again.
const SUB_MAX: u16 = 512;

/// Where in a sequence the stream stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Telnet {
    /// Plain bytes.
    #[default]
    Plain,
    /// After IAC.
    Iac,
    /// After IAC WILL/WONT/DO/DONT.
    Option,
    /// Inside IAC SB …, so many bytes long.
    Sub(u16),
    /// Inside IAC SB …, after an IAC.
    SubIac(u16),
}

impl Telnet {
    /// A sequence has begun and not ended.
    pub(super) fn is_open(self) -> bool {
        self != Telnet::Plain
    }

    /// Takes one byte of the stream; gives it back when it is no part of a sequence. An escaped 0xFF (IAC IAC) is dropped
    /// too: no command holds one.
    pub(super) fn pass(&mut self, byte: u8) -> Option<u8> {
        let (next, kept) = match (*self, byte) {
            (Telnet::Plain, IAC) => (Telnet::Iac, None),
            (Telnet::Iac, SB) => (Telnet::Sub(0), None),
            (Telnet::Iac, b) if WITH_OPTION.contains(&b) => (Telnet::Option, None),
            (Telnet::Iac, b) if b >= SE => (Telnet::Plain, None),
            // After a 0xFF that starts no telnet command the byte is one like any other: the 0xFF was a stray.
            (Telnet::Plain | Telnet::Iac, b) => (Telnet::Plain, Some(b)),
            (Telnet::Option, _) | (Telnet::SubIac(_), SE) => (Telnet::Plain, None),
            (Telnet::Sub(n), IAC) => (Telnet::SubIac(n), None),
            (Telnet::Sub(n) | Telnet::SubIac(n), _) if n >= SUB_MAX => (Telnet::Plain, None),
            (Telnet::Sub(n) | Telnet::SubIac(n), _) => (Telnet::Sub(n + 1), None),
        };
        *self = next;
        kept
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(bytes: &[u8]) -> Vec<u8> {
        let mut t = Telnet::default();
        bytes.iter().filter_map(|&b| t.pass(b)).collect()
    }

    #[test]
    fn putty_opening_and_window_size_vanish() {
        let opening = b"\xff\xfb\x1f\xff\xfb\x20\xff\xfb\x18\xff\xfb\x27\xff\xfd\x01\xff\xfb\x03\xff\xfd\x03";
        assert_eq!(plain(opening), b"");
        assert_eq!(plain(b"sa\xff\xfa\x1f\x00\x50\x00\x18\xff\xf0ve\r\x00"), b"save\r\x00");
        assert_eq!(plain(b"\xff\xf1save\xff\xff"), b"save");
    }

    #[test]
    fn a_stray_byte_and_an_endless_negotiation_do_not_swallow_the_stream() {
        assert_eq!(plain(b"\xff\x00\x00\x00save"), b"\0\0\0save");
        let mut endless = vec![IAC, SB];
        endless.extend(std::iter::repeat_n(b'x', usize::from(SUB_MAX) + 1));
        endless.extend(b"save");
        assert_eq!(plain(&endless), b"save");
    }
}
