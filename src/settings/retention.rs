//! Settings of how long and how much of what is kept, per camera and kind. Resolves them; deletes nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use meerkat_base::{CameraId, EventKind, Evidence, KeepLimit};

use super::camera::CameraSettings;
use super::reader::Reader;
use super::rule::{days, whole};

/// Stands for all cameras that are not configured; no camera can have this name.
pub const UNCONFIGURED_CAMERAS: &str = "(unconfigured)";

/// What one place in the settings says. `Some(None)` says that there is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
struct Said {
    age: Option<Option<Duration>>,
    bytes: Option<Option<u64>>,
}

/// A word under `kinds`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Word {
    Sort(Evidence),
    Of(EventKind),
}

impl Word {
    fn parse(text: &str) -> Option<Self> {
        let sort = text.parse().ok().map(Self::Sort);
        sort.or_else(|| text.parse().ok().filter(|kind| EventKind::SEEN.contains(kind)).map(Self::Of))
    }
}

/// A section with `days`, `bytes` and `kinds`.
#[derive(Debug, Clone, PartialEq, Default)]
struct Section {
    own: Said,
    kinds: BTreeMap<Word, Said>,
}

/// How long and how much of what is kept.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct RetentionSettings {
    all: Section,
    cameras: BTreeMap<CameraId, Section>,
}

impl RetentionSettings {
    pub(super) fn read(reader: &mut Reader, cameras: &BTreeMap<CameraId, CameraSettings>) -> Self {
        let mut all = Section {
            own: Said {
                age: Some(some(reader.read("retention.days", days(0.0..=36_500.0)))),
                bytes: Some(some(reader.read("retention.bytes", whole(0..=1 << 50)))),
            },
            kinds: BTreeMap::new(),
        };
        all.kinds = read_kinds(reader, "retention");
        let cameras = cameras
            .keys()
            .map(|id| {
                let section = format!("cameras.{id}.retention");
                let own = read_said(reader, &section);
                (id.clone(), Section { own, kinds: read_kinds(reader, &section) })
            })
            .collect();
        Self { all, cameras }
    }

    /// What holds for one sort of evidence of a camera; `event` is what happened, for clips and snapshots. The camera
    /// may be given by the name of its folder: those of configured cameras are their ids.
    pub fn limit(&self, camera: &str, evidence: Evidence, event: Option<EventKind>) -> KeepLimit {
        self.decide(camera, evidence, event).0
    }

    /// The limit, and the word under `kinds` that its bytes come from.
    fn decide(
        &self,
        camera: &str,
        evidence: Evidence,
        event: Option<EventKind>,
    ) -> (KeepLimit, Option<Word>) {
        let (sort, of) = (Some(Word::Sort(evidence)), event.map(Word::Of));
        let words = match evidence {
            Evidence::Clip => [of, sort, None],
            Evidence::Snapshot => [sort, of, Some(Word::Sort(Evidence::Clip))],
            _ => [sort, None, None],
        };
        let section = CameraId::parse(camera).ok().and_then(|id| self.cameras.get(&id));
        let (mut age, mut bytes) = (None, None);
        for section in section.into_iter().chain([&self.all]) {
            let by_kind =
                words.iter().flatten().filter_map(|word| Some((Some(*word), section.kinds.get(word)?)));
            for (word, said) in by_kind.chain([(None, &section.own)]) {
                age = age.or(said.age);
                bytes = bytes.or(said.bytes.map(|bytes| (bytes, word)));
            }
        }
        let limit = KeepLimit { age: age.flatten(), bytes: bytes.and_then(|(bytes, _)| bytes) };
        (limit, bytes.and_then(|(_, word)| word))
    }

    /// Whether the limit of bytes of such clips is said for what happened itself, and not for clips in general.
    pub fn has_own_bytes(&self, camera: &str, evidence: Evidence, event: EventKind) -> bool {
        self.decide(camera, evidence, Some(event)).1 == Some(Word::Of(event))
    }

    /// The camera that counts for a limit of bytes: itself, or all that are not configured as one.
    pub fn account<'c>(&self, camera: &'c str) -> &'c str {
        let configured = CameraId::parse(camera).is_ok_and(|id| self.cameras.contains_key(&id));
        if configured { camera } else { UNCONFIGURED_CAMERAS }
    }

    /// The shortest age at which anything goes; none when nothing goes by age.
    pub fn shortest_age(&self) -> Option<Duration> {
        self.said().filter_map(|said| said.age.flatten()).min()
    }

    /// Whether anything goes by bytes.
    pub fn counts_bytes(&self) -> bool {
        self.said().any(|said| said.bytes.flatten().is_some())
    }

    fn said(&self) -> impl Iterator<Item = &Said> {
        self.cameras
            .values()
            .chain([&self.all])
            .flat_map(|section| section.kinds.values().chain([&section.own]))
    }
}

/// 0 is no limit.
fn some<T: Default + PartialEq>(value: T) -> Option<T> {
    (value != T::default()).then_some(value)
}

fn read_said(reader: &mut Reader, section: &str) -> Said {
    Said {
        age: reader.read_if(&format!("{section}.days"), days(0.0..=36_500.0)).map(some),
        bytes: reader.read_if(&format!("{section}.bytes"), whole(0..=1 << 50)).map(some),
    }
}

fn read_kinds(reader: &mut Reader, section: &str) -> BTreeMap<Word, Said> {
    let mut kinds = BTreeMap::new();
    let section = format!("{section}.kinds");
    for name in reader.subsections(&section) {
        let own = format!("{section}.{name}");
        let Some(word) = Word::parse(&name) else {
            let words: Vec<&str> = Evidence::ALL
                .iter()
                .map(|one| one.as_str())
                .chain(EventKind::SEEN.iter().map(|kind| kind.as_str()))
                .collect();
            reader.complain(&own, format!("no such kind; there are {}", words.join(", ")));
            reader.skip(&own);
            continue;
        };
        kinds.insert(word, read_said(reader, &own));
    }
    kinds
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);

    fn said(days: Option<u32>, bytes: Option<u64>) -> Said {
        Said { age: days.map(|days| some(DAY * days)), bytes: bytes.map(some) }
    }

    fn settings() -> RetentionSettings {
        let kinds = |list: &[(&str, Said)]| {
            list.iter().map(|(word, said)| (Word::parse(word).unwrap(), *said)).collect()
        };
        RetentionSettings {
            all: Section {
                own: said(Some(30), Some(0)),
                kinds: kinds(&[
                    ("motion", said(Some(7), None)),
                    ("clip", said(Some(60), Some(1_000))),
                    ("image", said(Some(0), Some(500))),
                ]),
            },
            cameras: BTreeMap::from([(
                CameraId::parse("door").unwrap(),
                Section {
                    own: said(Some(90), None),
                    kinds: kinds(&[("person", said(Some(365), None)), ("snapshot", said(None, Some(9)))]),
                },
            )]),
        }
    }

    #[test]
    fn the_first_place_that_says_something_decides() {
        let settings = settings();
        let check = |camera, evidence, event, age: Option<u32>, bytes| {
            let expected = KeepLimit { age: age.map(|days| DAY * days), bytes };
            assert_eq!(settings.limit(camera, evidence, event), expected, "{camera} {evidence} {event:?}");
        };
        use EventKind::{Face, Motion, Person};
        check("yard", Evidence::Clip, Some(Motion), Some(7), Some(1_000));
        check("yard", Evidence::Clip, Some(Person), Some(60), Some(1_000));
        check("yard", Evidence::Snapshot, Some(Motion), Some(7), Some(1_000));
        check("yard", Evidence::Video, None, Some(30), None);
        check("yard", Evidence::Image, None, None, Some(500));
        check("10.0.0.1_2", Evidence::Event, None, Some(30), None);
        check("door", Evidence::Clip, Some(Person), Some(365), Some(1_000));
        check("door", Evidence::Clip, Some(Face), Some(90), Some(1_000));
        check("door", Evidence::Clip, Some(Motion), Some(90), Some(1_000));
        check("door", Evidence::Snapshot, Some(Person), Some(365), Some(9));
        check("door", Evidence::Image, None, Some(90), Some(500));
        assert!(!settings.has_own_bytes("yard", Evidence::Clip, Motion), "said for all clips");
        assert_eq!((settings.account("door"), settings.account("yard")), ("door", UNCONFIGURED_CAMERAS));
        assert_eq!(settings.shortest_age(), Some(DAY * 7));
        assert!(settings.counts_bytes() && !RetentionSettings::default().counts_bytes());
    }
}
