//! Esc on a terminal. The terminal is put back as it was when this is dropped; elsewhere it does nothing.

use std::io::{IsTerminal, Read, stdin};

use meerkat_base::Shutdown;
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};

const ESCAPE: u8 = 0x1B;

/// A terminal that gives keys as they are pressed.
pub(super) struct Keys {
    before: Option<Termios>,
}

impl Keys {
    /// Begins to listen, where the standard input is a terminal. Ctrl-C keeps its meaning.
    pub fn listen(stop: &Shutdown) -> Self {
        let input = stdin();
        if !input.is_terminal() {
            return Self { before: None };
        }
        let Ok(before) = tcgetattr(&input) else { return Self { before: None } };
        let mut now = before.clone();
        now.local_modes.remove(LocalModes::ICANON | LocalModes::ECHO);
        if tcsetattr(&input, OptionalActions::Now, &now).is_err() {
            return Self { before: None };
        }
        let stop = stop.clone();
        // It may stay in its read for ever; the process does not wait for it.
        std::thread::spawn(move || {
            let mut keys = [0; 16];
            while let Ok(length @ 1..) = stdin().read(&mut keys) {
                if is_escape(keys.get(..length).unwrap_or_default()) {
                    return stop.trigger();
                }
            }
        });
        Self { before: Some(before) }
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            let _ = tcsetattr(stdin(), OptionalActions::Now, before);
        }
    }
}

/// Other keys (arrows, functions) begin with the same byte, but more follows at once.
fn is_escape(keys: &[u8]) -> bool {
    matches!(keys, [ESCAPE] | [.., ESCAPE, ESCAPE])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_key_itself_is_escape() {
        assert!(is_escape(&[ESCAPE]) && is_escape(&[ESCAPE, ESCAPE]));
        for other in [&b""[..], b"q", b"\x1b[A", b"\x1bOP", b"abc"] {
            assert!(!is_escape(other), "{other:?}");
        }
    }
}
