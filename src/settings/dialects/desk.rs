//! The dialect `desk`: chat, files, faces, objects and data analysis on four ports, one per client number.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use meerkat_base::Secret;

use super::super::reader::Reader;
use super::super::rule::{self, Rule, choice, count, millis, secs, whole};
use super::super::schedule;
use super::DoorSettings;

/// Client numbers there are, and so ports.
const CLIENTS: usize = 4;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const TIB: u64 = 1 << 40;

/// Chat, files, faces, objects and analysis.
#[derive(Debug, Clone, PartialEq)]
pub struct DeskSettings {
    /// Its door; `listen` has one address per client number, in their order.
    pub door: DoorSettings,
    /// Silence that ends a chat text.
    pub chat_silence: Duration,
    /// Silence that ends a size, and a text that is cut inside of a character.
    pub size_silence: Duration,
    /// Silence that ends a file whose length nobody said.
    pub file_silence: Duration,
    /// Clients of which a picture, a file or charts are kept.
    pub max_clients: usize,
    /// How long that is kept after the client's last word.
    pub keep: Duration,
    /// Longest picture.
    pub max_picture_bytes: usize,
    /// All pictures together, in memory.
    pub pictures_bytes: usize,
    /// The chat.
    pub chat: DeskChatSettings,
    /// Files from client to client.
    pub relay: DeskRelaySettings,
    /// CSV files and their analysis.
    pub csv: DeskCsvSettings,
    /// The account at Face++.
    pub facepp: Option<DeskFaceppSettings>,
}

/// The chat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeskChatSettings {
    /// File with the rules; `None` is the built-in ones.
    pub rules: Option<PathBuf>,
    /// Time zone of its times.
    pub time_zone: String,
}

/// Files from client to client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeskRelaySettings {
    /// Longest file.
    pub max_file_bytes: u64,
    /// Files from one address that wait, together.
    pub sender_bytes: u64,
    /// All files that wait, together.
    pub total_bytes: u64,
    /// Files that wait for one client in one queue.
    pub files: usize,
    /// Time after which a file that nobody fetched is removed.
    pub keep: Duration,
}

/// CSV files and their analysis.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeskCsvSettings {
    /// Longest file.
    pub max_bytes: u64,
    /// All files of all clients together, on disk.
    pub total_bytes: usize,
    /// Longest analysis.
    pub analysis_limit: Duration,
}

/// An account at Face++.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeskFaceppSettings {
    /// Its key.
    pub api_key: Secret,
    /// Its secret.
    pub api_secret: Secret,
    /// Where its detection is called.
    pub url: String,
    /// What is taken from there.
    pub takes: FaceppTakes,
}

/// What of an answer about a face comes from Face++.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaceppTakes {
    /// The beauty score alone.
    Beauty,
    /// All of it.
    Everything,
}

impl DeskSettings {
    pub(super) fn read(reader: &mut Reader) -> Option<Self> {
        let listen = reader.read("dialects.desk.listen", four_or_none());
        let door = DoorSettings::read(reader, "dialects.desk", listen);
        let chat_silence = reader.read("dialects.desk.chat_silence_ms", millis(0..=1_000));
        let size_silence = reader.read("dialects.desk.size_silence_ms", millis(1..=10_000));
        let file_silence = reader.read("dialects.desk.file_silence_ms", millis(10..=60_000));
        let max_clients = reader.read("dialects.desk.max_clients", count(1..=4_096));
        let keep = minutes(reader.read("dialects.desk.keep_minutes", rule::small(1..=10_080)));
        let max_picture_bytes = reader.read("dialects.desk.max_picture_bytes", count(KIB..=256 * MIB));
        let pictures_bytes = reader.read("dialects.desk.pictures_bytes", count(KIB..=64 * GIB));
        if max_picture_bytes > pictures_bytes {
            reader
                .complain("dialects.desk.max_picture_bytes", "must be at most dialects.desk.pictures_bytes");
        }
        let chat = DeskChatSettings {
            rules: reader.read("dialects.desk.chat.rules", rule::optional(rule::path())),
            time_zone: reader.read("dialects.desk.chat.time_zone", schedule::time_zone()),
        };
        let relay = DeskRelaySettings::read(reader);
        let csv = DeskCsvSettings::read(reader);
        let facepp = DeskFaceppSettings::read(reader);
        Some(Self {
            door: door?,
            chat_silence,
            size_silence,
            file_silence,
            max_clients,
            keep,
            max_picture_bytes,
            pictures_bytes,
            chat,
            relay,
            csv,
            facepp,
        })
    }
}

impl DeskRelaySettings {
    fn read(reader: &mut Reader) -> Self {
        let hours = reader.read("dialects.desk.relay.keep_hours", rule::small(1..=8_760));
        let own = Self {
            max_file_bytes: reader.read("dialects.desk.relay.max_file_bytes", whole(KIB..=TIB)),
            sender_bytes: reader.read("dialects.desk.relay.sender_bytes", whole(KIB..=TIB)),
            total_bytes: reader.read("dialects.desk.relay.total_bytes", whole(KIB..=TIB)),
            files: reader.read("dialects.desk.relay.files", count(1..=65_536)),
            keep: minutes(hours.saturating_mul(60)),
        };
        if own.max_file_bytes > own.sender_bytes {
            let complaint = "must be at most dialects.desk.relay.sender_bytes";
            reader.complain("dialects.desk.relay.max_file_bytes", complaint);
        }
        if own.sender_bytes > own.total_bytes {
            let complaint = "must be at most dialects.desk.relay.total_bytes";
            reader.complain("dialects.desk.relay.sender_bytes", complaint);
        }
        own
    }
}

impl DeskCsvSettings {
    fn read(reader: &mut Reader) -> Self {
        let own = Self {
            max_bytes: reader.read("dialects.desk.csv.max_bytes", whole(KIB..=TIB)),
            total_bytes: reader.read("dialects.desk.csv.total_bytes", count(KIB..=TIB)),
            analysis_limit: reader.read("dialects.desk.csv.analysis_secs", secs(1.0..=3_600.0)),
        };
        if own.max_bytes > own.total_bytes as u64 {
            let complaint = "must be at most dialects.desk.csv.total_bytes";
            reader.complain("dialects.desk.csv.max_bytes", complaint);
        }
        own
    }
}

impl DeskFaceppSettings {
    fn read(reader: &mut Reader) -> Option<Self> {
        let before = reader.problem_count();
        let api_key = reader.secret("dialects.desk.facepp.api_key", 8);
        let api_secret = reader.secret("dialects.desk.facepp.api_secret", 8);
        let are_right = reader.problem_count() == before;
        let url = reader.read("dialects.desk.facepp.url", service());
        let takes = &[("beauty", FaceppTakes::Beauty), ("everything", FaceppTakes::Everything)];
        let takes = reader.read("dialects.desk.facepp.takes", choice(takes));
        let missing = match (&api_key, &api_secret) {
            (Some(_), None) => "dialects.desk.facepp.api_secret",
            (None, Some(_)) => "dialects.desk.facepp.api_key",
            _ => return Some(Self { api_key: api_key?, api_secret: api_secret?, url, takes }),
        };
        // A wrong value has been complained about already.
        if are_right {
            reader.complain(missing, "must be set: an account has a key and a secret");
        }
        None
    }
}

fn minutes(minutes: u32) -> Duration {
    Duration::from_secs(60 * u64::from(minutes))
}

fn four_or_none() -> Rule<Vec<SocketAddr>> {
    let several = rule::several(CLIENTS, rule::listen());
    Rule::new("a list of four addresses and ports, one per client number, or an empty list", move |value| {
        several.parse(value).filter(|addresses| matches!(addresses.len(), 0 | CLIENTS))
    })
}

/// An address by `https`; by `http` only on this machine, since key and secret travel with each request.
fn service() -> Rule<String> {
    let text = rule::text(1..=256);
    Rule::new("an address that begins with \"https://\" (on this machine also \"http://\")", move |value| {
        let text = text.parse(value)?;
        let here = ["http://127.0.0.1:", "http://localhost:", "http://[::1]:"];
        let fits = text.starts_with("https://") || here.iter().any(|start| text.starts_with(start));
        (fits && text.chars().all(|c| c.is_ascii_graphic())).then_some(text)
    })
}

#[cfg(test)]
mod tests {
    use super::super::super::tests::{loaded, wrong_keys};
    use super::*;

    const ON: &str =
        "[dialects.desk]\nlisten = [\"127.0.0.1:0\", \"127.0.0.1:0\", \"127.0.0.1:0\", \"127.0.0.1:0\"]\n";

    #[test]
    fn defaults_are_those_of_the_file() {
        let desk = loaded(ON).dialects.desk.unwrap();
        assert_eq!((desk.chat_silence, desk.chat.rules), (Duration::from_millis(1), None));
        assert_eq!((desk.csv.max_bytes, desk.facepp), (200_000_000, None));
        assert_eq!(desk.relay.keep, Duration::from_secs(7 * 86_400));
    }

    #[test]
    fn wrong_values_are_found_also_while_it_is_off() {
        let check = |text: &str, key: &str| {
            let key = format!("dialects.desk.{key}");
            assert_eq!(wrong_keys(&format!("[dialects.desk]\n{text}")), [key.as_str()], "{text}");
        };
        check("listen = [\"127.0.0.1:1\"]", "listen");
        check("listen = \"127.0.0.1:1\"", "listen");
        check("chat_silence_ms = 2000", "chat_silence_ms");
        check("size_silence_ms = 0", "size_silence_ms");
        check("file_silence_ms = 1", "file_silence_ms");
        check("max_clients = 0", "max_clients");
        check("keep_minutes = 0", "keep_minutes");
        check("max_picture_bytes = 100", "max_picture_bytes");
        check("pictures_bytes = 1048576", "max_picture_bytes");
        check("chat.rules = 5", "chat.rules");
        check("chat.time_zone = \"Mars/Olympus\"", "chat.time_zone");
        check("relay.max_file_bytes = 1", "relay.max_file_bytes");
        check("relay.sender_bytes = 1048576", "relay.max_file_bytes");
        check("relay.total_bytes = 268435456", "relay.sender_bytes");
        check("relay.files = 0", "relay.files");
        check("relay.keep_hours = 0", "relay.keep_hours");
        check("csv.max_bytes = 1", "csv.max_bytes");
        check("csv.total_bytes = 1048576", "csv.max_bytes");
        check("csv.analysis_secs = 0", "csv.analysis_secs");
        check("facepp.url = \"http://api.example.org/\"", "facepp.url");
        check("facepp.takes = \"nothing\"", "facepp.takes");
        check("facepp.api_key = \"0123456789\"", "facepp.api_secret");
        check("facepp.api_secret = \"0123456789\"", "facepp.api_key");
        check("facepp.api_key = \"short\"", "facepp.api_key");
        check("facepp.key = \"0123456789\"", "facepp.key");
    }

    #[test]
    fn an_account_may_lie_in_files() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        std::fs::write(&path, "0123456789abcdef\n").unwrap();
        let own = format!(
            "{ON}facepp.api_key = \"key-of-the-test\"\nfacepp.api_secret_file = {:?}\nfacepp.takes = \"everything\"\n\
             facepp.url = \"http://127.0.0.1:8000/facepp/v3/detect\"",
            path.to_str().unwrap()
        );
        let account = loaded(&own).dialects.desk.unwrap().facepp.unwrap();
        assert_eq!(account.api_secret.reveal(), "0123456789abcdef");
        assert_eq!(account.takes, FaceppTakes::Everything);
    }
}
