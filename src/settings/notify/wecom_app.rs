//! Settings of a WeCom application.

use meerkat_base::Secret;

use super::keys::{per_minute, read_url, required, required_secret};
use crate::reader::Reader;
use crate::rule::{Rule, count, list, small, text};

/// A WeCom application.
#[derive(Debug, Clone, PartialEq)]
pub struct WecomAppTarget {
    /// Where the service lives; `None`: where it does for everybody.
    pub url: Option<Secret>,
    /// The enterprise.
    pub corp_id: String,
    /// The application's number.
    pub agent_id: u32,
    /// The application's secret.
    pub secret: Secret,
    /// Ids of members.
    pub users: Vec<String>,
    /// Numbers of departments. With no users and no tags this is not empty, and so for each of the three.
    pub parties: Vec<u32>,
    /// Numbers of tags.
    pub tags: Vec<u32>,
    /// Messages a minute, 1 to 30.
    pub per_minute: usize,
    /// Messages an hour, 1 to 1,000.
    pub per_hour: usize,
}

impl WecomAppTarget {
    pub(super) fn read(reader: &mut Reader, section: &str) -> Option<Self> {
        let key = |name| format!("{section}.{name}");
        let url = read_url(reader, &key("url"));
        let corp_id = required(reader, &key("corp_id"), word("an enterprise's id", 64));
        let agent_id = required(reader, &key("agent_id"), small(0..=u32::MAX));
        let secret = required_secret(reader, &key("secret"), 8);
        let before = reader.problem_count();
        let users = reader.read_if(&key("users"), list(1_000, word("a member's id, or @all", 64)));
        let parties = reader.read_if(&key("parties"), list(100, small(1..=u32::MAX)));
        let tags = reader.read_if(&key("tags"), list(100, small(1..=u32::MAX)));
        let (users, parties, tags) =
            (users.unwrap_or_default(), parties.unwrap_or_default(), tags.unwrap_or_default());
        if users.is_empty() && parties.is_empty() && tags.is_empty() && reader.problem_count() == before {
            reader.complain(&key("users"), "nobody would get anything: set users, parties or tags");
        }
        let per_minute = per_minute(reader, section, 30, 30);
        let per_hour = reader.read_if(&key("per_hour"), count(1..=1_000)).unwrap_or(1_000);
        Some(Self {
            url,
            corp_id: corp_id?,
            agent_id: agent_id?,
            secret: secret?,
            users,
            parties,
            tags,
            per_minute,
            per_hour,
        })
    }
}

/// A text without blanks and without what sets ids apart.
pub(super) fn word(what: &str, longest: usize) -> Rule<String> {
    let line = text(1..=longest);
    let allowed = format!("{what}: 1 to {longest} characters without blanks and |");
    Rule::new(allowed, move |value| {
        line.parse(value).filter(|text| !text.contains(|c: char| c.is_whitespace() || c == '|'))
    })
}
