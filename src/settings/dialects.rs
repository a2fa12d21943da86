//! Settings of the dialects besides `frame`: what each listens on, whom it lets in, and its limits. Each is off until
//! its `listen` is set. Opens no socket.

mod desk;
mod door;
mod recognise;
mod restart;
mod watch;

use std::path::PathBuf;
use std::time::Duration;

pub use desk::{
    DeskChatSettings, DeskCsvSettings, DeskFaceppSettings, DeskRelaySettings, DeskSettings, FaceppTakes,
};
pub use door::DoorSettings;
pub use recognise::{RecogniseChunkedSettings, RecogniseSettings, RecogniseSizedSettings};
pub use watch::WatchDialectSettings;

use super::Settings;
use super::reader::Reader;
use super::rule::{self, count};

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// The dialects besides `frame`; `None` is one that is off.
#[derive(Debug, Clone, PartialEq)]
pub struct DialectsSettings {
    /// Threads that talk with clients of all these dialects; cameras have threads of their own.
    pub io_threads: usize,
    /// Bytes of messages that are being received, over all connections of these dialects.
    pub in_flight_bytes: usize,
    /// Rate that a message has to come at, at least, after its first `stall_timeout`.
    pub min_bytes_per_second: u32,
    /// Pictures that wait to be examined, over all connections.
    pub examine_waiting: usize,
    /// Longest time until a picture has been examined, waiting included.
    pub examine_timeout: Duration,
    /// Font file with which names beyond ASCII are drawn; `None` looks where Debian puts fonts.
    pub font: Option<PathBuf>,
    /// Pictures with their length in front, answered with faces marked.
    pub recognise_sized: Option<RecogniseSizedSettings>,
    /// One picture per connection, ended by `0`, answered with faces marked.
    pub recognise_chunked: Option<RecogniseChunkedSettings>,
    /// Live pictures by UDP.
    pub watch: Option<WatchDialectSettings>,
    /// Chat, files, faces, objects and analysis.
    pub desk: Option<DeskSettings>,
}

impl DialectsSettings {
    /// Every dialect, by its name in settings and metrics.
    const NAMES: [&'static str; 4] = ["recognise_sized", "recognise_chunked", "watch", "desk"];

    /// The door of the dialect of this name, if it is on.
    fn door(&self, name: &str) -> Option<&DoorSettings> {
        match name {
            "recognise_sized" => self.recognise_sized.as_ref().map(|dialect| &dialect.door),
            "recognise_chunked" => self.recognise_chunked.as_ref().map(|dialect| &dialect.door),
            "watch" => self.watch.as_ref().map(|dialect| &dialect.door),
            "desk" => self.desk.as_ref().map(|dialect| &dialect.door),
            _ => None,
        }
    }

    /// Every dialect that is on, by its name in settings and metrics, with its door.
    pub fn doors(&self) -> Vec<(&'static str, &DoorSettings)> {
        Self::NAMES.into_iter().filter_map(|name| Some((name, self.door(name)?))).collect()
    }

    pub(super) fn read(reader: &mut Reader) -> Self {
        Self {
            io_threads: reader.read("dialects.io_threads", count(1..=64)),
            in_flight_bytes: reader.read("dialects.in_flight_bytes", count(MIB..=64 * GIB)),
            min_bytes_per_second: reader.read("dialects.min_bytes_per_second", rule::small(1..=1_048_576)),
            examine_waiting: reader.read("dialects.examine_waiting", count(1..=4_096)),
            examine_timeout: reader.read("dialects.examine_timeout_secs", rule::secs(0.1..=3_600.0)),
            font: reader.read("dialects.font", rule::optional(rule::path())),
            recognise_sized: RecogniseSizedSettings::read(reader),
            recognise_chunked: RecogniseChunkedSettings::read(reader),
            watch: WatchDialectSettings::read(reader),
            desk: DeskSettings::read(reader),
        }
    }
}

/// Complains about doors that stand open, and about addresses that are given twice.
pub(super) fn check(settings: &Settings, reader: &mut Reader) {
    let mut taken = vec![("frame.listen".to_owned(), settings.frame.listen)];
    taken.extend(settings.frame.tls.as_ref().map(|tls| ("frame.tls.listen".to_owned(), tls.listen)));
    taken.push(("http.listen".to_owned(), settings.http.listen));
    for (name, door) in settings.dialects.doors() {
        let key = format!("dialects.{name}.listen");
        if door.allow.is_empty() && door.listen.iter().any(|address| !address.ip().is_loopback()) {
            reader.complain(
                &key,
                format!(
                    "listens beyond this machine: set dialects.{name}.allow to the networks of its clients"
                ),
            );
        }
        for &address in &door.listen {
            // Port 0 means any free port, so two of them never meet.
            let twice = taken.iter().find(|(_, other)| *other == address && address.port() != 0);
            if let Some((other, _)) = twice {
                reader.complain(&key, format!("is the same address as {other}"));
                break;
            }
            taken.push((key.clone(), address));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{loaded, wrong_keys};

    #[test]
    fn every_dialect_is_off_until_it_is_told_where_to_listen() {
        assert!(loaded("").dialects.doors().is_empty());
        let all = loaded(
            "[dialects]\nrecognise_sized.listen = \"127.0.0.1:4444\"\nrecognise_chunked.listen = \"127.0.0.1:3333\"\n\
             watch.listen = \"127.0.0.1:9999\"\nwatch.camera = \"yard\"\n\
             desk.listen = [\"127.0.0.1:0\", \"127.0.0.1:0\", \"127.0.0.1:0\", \"127.0.0.1:0\"]",
        );
        let names: Vec<_> = all.dialects.doors().iter().map(|(name, _)| *name).collect();
        assert_eq!(names, ["recognise_sized", "recognise_chunked", "watch", "desk"]);
        assert_eq!(all.dialects.desk.unwrap().door.listen.len(), 4);
    }

    #[test]
    fn doors_stay_shut_and_no_address_is_given_twice() {
        let check = |text: &str, expected: &[&str]| {
            // Viewers want a camera.
            let text = text
                .replace("[dialects.watch]", "[dialects.watch]\ncamera = \"yard\"")
                .replace("dialects.watch.listen", "dialects.watch.camera = \"yard\"\ndialects.watch.listen")
                .replace("\nwatch.listen", "\nwatch.camera = \"yard\"\nwatch.listen");
            assert_eq!(wrong_keys(&text), expected, "{text}");
        };
        for name in ["recognise_sized", "recognise_chunked", "watch"] {
            let key = format!("dialects.{name}.listen");
            check(&format!("{key} = \"0.0.0.0:5000\""), &[&key]);
            check(&format!("{key} = \"[::]:5000\""), &[&key]);
            check(&format!("{key} = \"127.0.0.1:9000\""), &[&key]);
            check(&format!("{key} = \"127.0.0.1:8080\""), &[&key]);
            check(&format!("[dialects.{name}]\nlisten = \"0.0.0.0:5000\"\nallow = [\"10.0.0.0/8\"]"), &[]);
        }
        check(
            "[dialects]\nrecognise_sized.listen = \"127.0.0.1:4444\"\nwatch.listen = \"127.0.0.1:4444\"",
            &["dialects.watch.listen"],
        );
        let desk = |last: &str| {
            format!(
                "dialects.desk.listen = [\"127.0.0.1:11111\", \"127.0.0.1:22222\", \"127.0.0.1:33333\", \"{last}\"]"
            )
        };
        check(&desk("127.0.0.1:44444"), &[]);
        check(&desk("127.0.0.1:22222"), &["dialects.desk.listen"]);
        check(&desk("192.168.1.2:44444"), &["dialects.desk.listen"]);
    }

    #[test]
    fn a_message_has_to_come_at_some_rate() {
        assert_eq!(loaded("").dialects.min_bytes_per_second, 4_096);
        assert_eq!(wrong_keys("dialects.examine_timeout_secs = 0"), ["dialects.examine_timeout_secs"]);
        for wrong in ["0", "-1", "2000000", "\"fast\""] {
            let text = format!("dialects.min_bytes_per_second = {wrong}");
            assert_eq!(wrong_keys(&text), ["dialects.min_bytes_per_second"]);
        }
    }

    #[test]
    fn loopback_may_come_in_and_a_list_decides_alone() {
        let text = "[dialects.watch]\nlisten = \"127.0.0.1:9999\"\ncamera = \"yard\"";
        let default = loaded(text).dialects.watch.unwrap().door;
        let listed = loaded(&format!("{text}\nallow = [\"10.1.0.0/16\"]")).dialects.watch.unwrap().door;
        let admits = |door: &super::DoorSettings, peer: &str| door.admits(peer.parse().unwrap());
        assert!(
            admits(&default, "127.0.0.1") && admits(&default, "::1") && admits(&default, "::ffff:127.0.0.1")
        );
        assert!(!admits(&default, "10.1.2.3"));
        assert!(admits(&listed, "10.1.2.3") && admits(&listed, "::ffff:10.1.2.3"));
        assert!(!admits(&listed, "127.0.0.1") && !admits(&listed, "10.2.0.1"));
    }
}
