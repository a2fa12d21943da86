//! What the tests of all channels need: alerts, clips, clients, and eyes that look for secrets in outcomes.

use std::time::Duration;

use bytes::Bytes;
use meerkat_base::{EventKind, ManualClock, WallTime};
use meerkat_outbound::{HttpClient, OutboundSettings};
use uuid::Uuid;

use crate::alert::tests::alert;
use crate::alert::{Alert, ClipPart, Digest, DigestLine, TestMessage};
use crate::channel::{Channel, Outcome};

/// A JPEG as far as services look at it.
pub(crate) const JPEG: &[u8] = b"\xff\xd8\xff\xe0 a picture as far as the service looks at it \xff\xd9";

pub(crate) fn clock() -> ManualClock {
    ManualClock::new(WallTime(1_795_210_274_000_000))
}

pub(crate) fn client() -> HttpClient {
    HttpClient::new(OutboundSettings::default()).unwrap()
}

pub(crate) fn person(snapshot: Option<&[u8]>) -> Alert {
    alert(EventKind::Person, snapshot)
}

/// An alert about a face that calls everybody by every means there is.
pub(crate) fn hostile() -> Alert {
    let mut a = person(None);
    a.camera_name = Some("<@all> @all <at user_id=\"all\"></at>".into());
    a.identities = vec!["[x](http://evil) **b** # <b>\u{202e}\u{7}".into()];
    a
}

pub(crate) fn clip(file: Option<&[u8]>, link: Option<&str>) -> ClipPart {
    later_clip(1, file, link)
}

/// The clip of this number: a long event has several.
pub(crate) fn later_clip(part: u32, file: Option<&[u8]>, link: Option<&str>) -> ClipPart {
    ClipPart {
        part,
        name: "front_2026-11-21_053114.mp4".into(),
        file: file.map(Bytes::copy_from_slice),
        link: link.map(str::to_owned),
        duration: Duration::from_secs(12),
    }
}

pub(crate) const LINK: &str = "https://node.example.org/c/42.mp4?until=1795300000&sig=abc-_123";

pub(crate) fn digest() -> Digest {
    let line = |n: u32| DigestLine {
        camera: person(None).camera,
        camera_name: Some(format!("{n}{}", "门".repeat(60))),
        kind: EventKind::Motion,
        count: 1,
    };
    Digest {
        id: Uuid::from_u128(7),
        oldest: WallTime(0),
        newest: WallTime(1_000_000),
        counts: (0..20).map(line).collect(),
        already_sent: 0,
    }
}

pub(crate) fn test_message() -> TestMessage {
    TestMessage { id: Uuid::from_u128(8), time: WallTime(1_795_210_274_000_000) }
}

/// The wait, the reason and the steps of what is tried again, `held` where our own limit is the reason; anything else fails
/// the test. No secret may be in it.
#[track_caller]
pub(crate) fn retry(outcome: Outcome, secrets: &[&str]) -> (Option<Duration>, String, u8) {
    assert_silent(&outcome, secrets);
    match outcome {
        Outcome::Retry { after, reason, sent } => (after, reason, sent),
        Outcome::Held { wait, sent } => (Some(wait), "held".to_owned(), sent),
        other => panic!("{other:?}"),
    }
}

/// The reason and the steps of a refusal, and that the channel has advice.
#[track_caller]
pub(crate) fn refusal(channel: &dyn Channel, outcome: Outcome, secrets: &[&str]) -> (String, u8) {
    assert_silent(&outcome, secrets);
    match outcome {
        Outcome::Refused { reason, sent } => {
            assert!(channel.explain(&reason).is_some(), "no advice about {reason}");
            (reason, sent)
        }
        other => panic!("{other:?}"),
    }
}

/// That a code which a channel explains is one that it gives up at once, unless it stands among those that pass.
#[track_caller]
pub(crate) fn what_is_explained_is_permanent(
    channel: &dyn Channel,
    word: &str,
    permanent: crate::outlet::Codes,
    passing: &[i64],
) {
    let mut seen = 0;
    for code in (0..500_000).chain(99_990_000..=99_992_000) {
        if channel.explain(&format!("{word} {code}: said")).is_some() {
            let is_permanent = crate::outlet::is_permanent(permanent, code);
            assert!(is_permanent != passing.contains(&code), "{word} {code}");
            seen += 1;
        }
    }
    assert!(seen > passing.len(), "nothing is explained");
}

#[track_caller]
pub(crate) fn assert_silent(shown: &dyn std::fmt::Debug, secrets: &[&str]) {
    let shown = format!("{shown:?} {shown:#?}");
    for secret in secrets {
        assert!(!shown.contains(secret), "{shown}");
    }
}
