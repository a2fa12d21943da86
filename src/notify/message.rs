//! What messaging services have in common: a message that still has no service's form, and the channel that a messenger
//! makes. How a service wants it is each messenger's own knowledge.

use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use meerkat_base::{EventKind, Severity};
use uuid::Uuid;

use crate::alert::{Alert, ClipPart, Digest, TestMessage};
use crate::channel::{Channel, Delivery, Earlier, Outcome};
use crate::outlet::{Common, Outlet};
use crate::render;
use crate::words::plain_link;

/// The picture of test messages: a small JPEG.
pub(crate) static TEST_PICTURE: &[u8] = include_bytes!("test.jpg");

/// A message before it takes the form of a service.
pub struct Message<'a> {
    /// Names it for ever.
    pub(crate) id: Uuid,
    /// Plain text of any length.
    pub(crate) text: String,
    /// A picture that may leave.
    pub(crate) picture: Option<&'a [u8]>,
    /// Its address.
    pub(crate) picture_link: Option<&'a str>,
    pub(crate) severity: Severity,
    /// What happened, where something did.
    pub(crate) kind: Option<EventKind>,
    /// Steps that earlier attempts have completed.
    pub(crate) sent: u8,
    /// Whether somebody waits for what comes of it: then half a success is none.
    pub(crate) is_test: bool,
    pub(crate) omitted: &'static str,
}

impl<'a> Message<'a> {
    fn of_alert(alert: &'a Alert, common: &Common) -> Self {
        Self {
            id: alert.id,
            text: render::alert_text(alert, &common.style),
            picture: common.pictures.picture(alert).map(|picture| &picture[..]),
            picture_link: common.pictures.picture_link(alert).and_then(plain_link),
            severity: alert.severity,
            kind: Some(alert.kind),
            sent: alert.already_sent,
            is_test: false,
            omitted: render::picture_omitted(common.style.language),
        }
    }

    fn of_words(id: Uuid, text: String, common: &Common) -> Self {
        Self {
            id,
            text,
            picture: None,
            picture_link: None,
            severity: Severity::Info,
            kind: None,
            sent: 0,
            is_test: false,
            omitted: render::picture_omitted(common.style.language),
        }
    }

    fn of_digest(digest: &Digest, common: &Common) -> Self {
        let words = render::digest_text(digest, &common.style);
        let sent = digest.already_sent;
        Self { severity: Severity::Warning, sent, ..Self::of_words(digest.id, words, common) }
    }

    fn of_test(test: &TestMessage, common: &Common) -> Self {
        let words = render::test_text(&common.name, test.time, &common.style);
        let picture = common.pictures.include_snapshot.then_some(TEST_PICTURE);
        Self { picture, is_test: true, ..Self::of_words(test.id, words, common) }
    }

    /// The message of an alert, for tests that change it.
    #[cfg(test)]
    pub(crate) fn for_tests(alert: &'a Alert) -> Self {
        Self::of_alert(alert, &Common::new("tests"))
    }

    /// Takes the picture away where it is no JPEG or PNG of at most so many bytes; the text says so then.
    pub(crate) fn limit_picture(&mut self, most_bytes: usize) {
        if self.picture.is_some_and(|picture| !is_picture(picture) || picture.len() > most_bytes) {
            self.picture = None;
            self.text.push_str(self.omitted);
        }
    }

    /// The text for the case that the service refuses the picture.
    pub(crate) fn text_without_picture(&self) -> String {
        format!("{}{}", self.text, self.omitted)
    }
}

/// A clip on its way: which alert it belongs to, and in what form it can leave.
pub struct Clip<'a> {
    /// The same as the alert's.
    pub(crate) id: Uuid,
    /// What tells it from the alert's other clips.
    pub(crate) part: String,
    /// Words that refer to the alert.
    pub(crate) text: String,
    /// Name for the file.
    pub(crate) name: &'a str,
    pub(crate) duration: Duration,
    pub(crate) form: ClipForm<'a>,
    pub(crate) severity: Severity,
    pub(crate) kind: EventKind,
    /// Steps of this part that earlier attempts have completed.
    pub(crate) sent: u8,
}

/// In what form a clip leaves.
#[derive(Debug, Clone, Copy)]
pub(crate) enum ClipForm<'a> {
    /// As a file, of a size that the service takes.
    File(&'a Bytes),
    /// By address.
    Link(&'a str),
}

impl<'a> Clip<'a> {
    /// File, else link, else nothing.
    fn of(alert: &'a Alert, clip: &'a ClipPart, limit_bytes: Option<u64>, common: &Common) -> Option<Self> {
        let fits = |file: &&Bytes| {
            // Shorter ones are no clips, and some services refuse them.
            limit_bytes.is_some_and(|limit| file.len() as u64 <= limit) && file.len() >= 5
        };
        let form = match clip.file.as_ref().filter(fits) {
            Some(file) => ClipForm::File(file),
            None => ClipForm::Link(clip.link.as_deref().and_then(plain_link)?),
        };
        Some(Self {
            id: alert.id,
            part: clip.word(),
            text: render::clip_text(alert, clip, &common.style),
            name: &clip.name,
            duration: clip.duration,
            form,
            severity: alert.severity,
            kind: alert.kind,
            sent: alert.already_sent,
        })
    }
}

/// Whether it begins as a JPEG or a PNG does.
fn is_picture(picture: &[u8]) -> bool {
    picture.starts_with(&[0xff, 0xd8, 0xff]) || picture.starts_with(b"\x89PNG\r\n\x1a\n")
}

/// File name and type of a picture.
pub(crate) fn picture_type(picture: &[u8]) -> (&'static str, &'static str) {
    if picture.starts_with(b"\x89PNG") {
        ("snapshot.png", "image/png")
    } else {
        ("snapshot.jpg", "image/jpeg")
    }
}

/// Type of a clip by its name.
pub(crate) fn clip_type(name: &str) -> &'static str {
    if name.ends_with(".mp4") { "video/mp4" } else { "application/octet-stream" }
}

/// A messaging service: how it wants messages and clips. Every messenger is a [`Channel`].
pub trait Messenger: Send + Sync {
    /// The word in `type`.
    const KIND: &'static str;

    /// Whether a picture or a clip is a message of its own beside its words.
    const FILE_APART: bool;

    /// What it stands on.
    fn outlet(&self) -> &Outlet;

    /// Largest clip that it takes as a file.
    fn clip_bytes(&self) -> Option<u64>;

    /// Largest picture that it takes.
    fn picture_bytes(&self) -> Option<u64>;

    /// Sends what of a message has not been sent.
    fn send(&self, message: Message<'_>) -> impl Future<Output = Outcome> + Send;

    /// Sends what of a clip has not been sent.
    fn send_clip(&self, clip: Clip<'_>) -> impl Future<Output = Outcome> + Send;

    /// What to do about a reason that is this service's own.
    fn explain_own(&self, reason: &str) -> Option<&'static str>;
}

impl<M: Messenger> Channel for M {
    fn name(&self) -> &str {
        &self.outlet().common.name
    }

    fn kind(&self) -> &'static str {
        M::KIND
    }

    fn ready_in(&self) -> Duration {
        self.outlet().ready_in()
    }

    fn remember(&self, earlier: &[Earlier]) {
        self.outlet().remember(earlier, M::FILE_APART);
    }

    fn deliver<'a>(&'a self, alert: &'a Alert) -> Delivery<'a> {
        Box::pin(self.send(Message::of_alert(alert, &self.outlet().common)))
    }

    fn picture_limit(&self) -> Option<u64> {
        self.picture_bytes()
    }

    fn clip_limit(&self) -> Option<u64> {
        self.clip_bytes().filter(|limit| *limit > 0 && self.outlet().common.pictures.include_clip)
    }

    fn takes_clips(&self) -> bool {
        // Where it takes no files it takes a link.
        self.outlet().common.pictures.include_clip
    }

    fn takes_clip_of(&self, kind: EventKind) -> bool {
        self.outlet().common.pictures.allows_clip(kind)
    }

    fn deliver_clip<'a>(&'a self, alert: &'a Alert, clip: &'a ClipPart) -> Delivery<'a> {
        let common = &self.outlet().common;
        let allowed = common.pictures.allows_clip(alert.kind);
        match Clip::of(alert, clip, self.clip_limit(), common).filter(|_| allowed) {
            Some(clip) => Box::pin(self.send_clip(clip)),
            None => Box::pin(async { Outcome::Delivered }),
        }
    }

    fn deliver_digest<'a>(&'a self, digest: &'a Digest) -> Delivery<'a> {
        Box::pin(self.send(Message::of_digest(digest, &self.outlet().common)))
    }

    fn deliver_test<'a>(&'a self, test: &'a TestMessage) -> Delivery<'a> {
        Box::pin(self.send(Message::of_test(test, &self.outlet().common)))
    }

    fn explain(&self, reason: &str) -> Option<&'static str> {
        self.explain_own(reason).or_else(|| crate::outlet::explain_transport(reason))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_test_picture_is_one() {
        assert!(is_picture(TEST_PICTURE) && TEST_PICTURE.len() < 10_000, "{}", TEST_PICTURE.len());
    }
}
