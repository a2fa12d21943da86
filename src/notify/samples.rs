//! Examples of everything that a template can be asked to write, with much and with little in them: a template of the
//! owner's is tried on all of them before it is used.

use std::time::Duration;

use meerkat_base::{CameraId, Event, EventId, EventKind, EventPhase, WallTime};
use minijinja::Value;
use uuid::Uuid;

use crate::alert::{Alert, ClipPart, Digest, DigestLine};
use crate::render::{DIGEST_LINES, NAMES, Style, digest_values, values};
use crate::templates;

/// What the template of a name can be told; nothing for a name that no template has.
pub(crate) fn samples(name: &str) -> Option<Vec<Value>> {
    let style = Style::default();
    match name {
        templates::DIGEST => {
            let digests = [sample_digest(0), sample_digest(DIGEST_LINES + 1)];
            return Some(digests.iter().map(|digest| digest_values(digest, &style)).collect());
        }
        templates::CLIP => {
            let clips = [None, Some("https://example.org/clip".to_owned())].map(|link| ClipPart {
                part: 1,
                name: "front.mp4".to_owned(),
                file: None,
                link,
                duration: Duration::from_secs(12),
            });
            let alerts =
                EventKind::SEEN.into_iter().flat_map(|kind| sample_alerts(kind, EventPhase::Started));
            let both = alerts.flat_map(|alert| clips.clone().map(|clip| values(&alert, &style, Some(&clip))));
            return Some(both.collect());
        }
        _ => {}
    }
    let mut samples = Vec::new();
    for kind in EventKind::ALL {
        for phase in [EventPhase::Started, EventPhase::Updated, EventPhase::Ended] {
            let general = if kind.is_notice() { templates::NOTICE } else { templates::ALERT };
            let [phased, whole] = templates::names_of(kind, phase);
            if [templates::CHANNEL, general, &phased, &whole].contains(&name) {
                samples.extend(sample_alerts(kind, phase).iter().map(|alert| values(alert, &style, None)));
            }
        }
    }
    Some(samples).filter(|samples| !samples.is_empty())
}

fn sample_alerts(kind: EventKind, phase: EventPhase) -> [Alert; 2] {
    let event = Event {
        id: EventId(Uuid::nil()),
        camera: CameraId::parse("front").expect("five letters make an id"),
        kind,
        phase,
        started: WallTime(1_795_210_274_000_000),
        started_seq: 1,
        ended: None,
        score: 0.0,
        identities: Vec::new(),
        sightings: Vec::new(),
    };
    let little = Alert::about(&event, Uuid::nil(), None, None);
    let mut much = little.clone();
    much.camera_name = Some("Front door".to_owned());
    much.score = 0.87;
    much.identities = vec!["Ann".to_owned(); NAMES + 1];
    much.detail = "something more to say".to_owned();
    [little, much]
}

fn sample_digest(lines: usize) -> Digest {
    let line = DigestLine {
        camera: CameraId::parse("front").expect("five letters make an id"),
        camera_name: None,
        kind: EventKind::Person,
        count: 3,
    };
    Digest {
        id: Uuid::nil(),
        oldest: WallTime(0),
        newest: WallTime(0),
        counts: vec![line; lines],
        already_sent: 0,
    }
}
