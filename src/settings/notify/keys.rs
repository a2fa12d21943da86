//! Keys that channels of several types have, and the rules of their values. Knows no type of channel.

use std::net::IpAddr;

use meerkat_base::{CameraId, EventKind, Secret};

use crate::reader::Reader;
use crate::rule::{self, Rule};

/// Reads a key that must be set, and complains when it is not.
pub(super) fn required<T: 'static>(reader: &mut Reader, key: &str, rule: Rule<T>) -> Option<T> {
    if !reader.is_set(key) {
        let complaint = format!("must be set: {}", rule.allowed);
        reader.complain(key, complaint);
    }
    reader.read_if(key, rule)
}

/// Reads a secret, and complains when there is none.
pub(super) fn required_secret(reader: &mut Reader, key: &str, shortest: usize) -> Option<Secret> {
    let before = reader.problem_count();
    let secret = reader.secret(key, shortest);
    if secret.is_none() && reader.problem_count() == before {
        reader.complain(key, format!("must be set, or {key}_file: {}", rule::secret(shortest).allowed));
    }
    secret
}

/// Reads an address, and complains when there is none.
pub(super) fn required_url(reader: &mut Reader, key: &str) -> Option<Secret> {
    let before = reader.problem_count();
    let url = read_url(reader, key);
    if url.is_none() && reader.problem_count() == before {
        reader.complain(key, format!("must be set, or {key}_file: the channel's address"));
    }
    url
}

/// Reads an address, which may carry credentials and is kept like a secret.
pub(crate) fn read_url(reader: &mut Reader, key: &str) -> Option<Secret> {
    let url = reader.secret(key, 1)?;
    if is_http_url(url.reveal()) {
        return Some(url);
    }
    let key = if reader.is_set(key) { key.to_owned() } else { format!("{key}_file") };
    reader.complain(&key, "must be an address that begins with https:// or http://");
    None
}

/// Reads the channel's own rate limit, at most that of its service.
pub(super) fn per_minute(reader: &mut Reader, section: &str, most: u64, default: usize) -> usize {
    reader.read_if(&format!("{section}.per_minute"), rule::count(1..=most)).unwrap_or(default)
}

fn is_http_url(text: &str) -> bool {
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    rest.is_some_and(|rest| !rest.is_empty() && !rest.starts_with('/'))
}

/// A list of kinds, at least one.
pub(crate) fn event_kinds(allowed: &'static [EventKind]) -> Rule<Vec<EventKind>> {
    let words: Vec<&str> = allowed.iter().map(|kind| kind.as_str()).collect();
    let list = rule::list(16, rule::text(1..=32));
    Rule::new(format!("a list of one or more of {}", words.join(", ")), move |value| {
        let kinds: Vec<EventKind> =
            list.parse(value)?.iter().map(|word| word.parse().ok()).collect::<Option<_>>()?;
        let known = kinds.iter().all(|kind| allowed.contains(kind));
        if known && !kinds.is_empty() { Some(kinds) } else { None }
    })
}

/// The id of a camera.
pub(crate) fn camera_id() -> Rule<CameraId> {
    let text = rule::text(1..=32);
    Rule::new("a camera id", move |value| CameraId::parse(&text.parse(value)?).ok())
}

/// A server: a name or an address.
pub(super) fn host() -> Rule<String> {
    let name = rule::host_name();
    Rule::new("a host, such as \"mail.example.org\" or \"192.168.1.2\"", move |value| {
        let address = rule::text(1..=64).parse(value).filter(|text| text.parse::<IpAddr>().is_ok());
        address.or_else(|| name.parse(value))
    })
}

/// Whether a host is certainly this machine.
pub(super) fn is_this_machine(host: &str) -> bool {
    let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
    bare == "localhost" || bare.parse::<IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback())
}

/// Reads `user` and `password` (or `password_file`), which go together.
pub(super) fn user_and_password(reader: &mut Reader, section: &str) -> Option<(String, Secret)> {
    let (user_key, password_key) = (format!("{section}.user"), format!("{section}.password"));
    let before = reader.problem_count();
    let user = reader.read_if(&user_key, rule::text(1..=256));
    let password = reader.secret(&password_key, 1);
    if reader.problem_count() == before {
        match (&user, &password) {
            (Some(_), None) => {
                reader.complain(&password_key, "must be set where there is a user, or password_file")
            }
            (None, Some(_)) => reader.complain(&user_key, "must be set where there is a password"),
            _ => {}
        }
    }
    user.zip(password)
}

/// Complains about a proxy of a channel that cannot use one.
pub(super) fn no_proxy(reader: &mut Reader, section: &str, why: &str) {
    for key in [format!("{section}.proxy"), format!("{section}.proxy_file")] {
        // Whatever it says: it is known, and wrong here.
        if reader.read_if(&key, Rule::new("nothing", |_| Some(()))).is_some() {
            reader.complain(&key, format!("cannot be set for this type of channel: {why}"));
        }
    }
}

/// A list of at least one.
pub(super) fn list_of<T: PartialEq + 'static>(longest: usize, item: Rule<T>) -> Rule<Vec<T>> {
    let list = rule::list(longest, item);
    let allowed = format!("{}, and not empty", list.allowed);
    Rule::new(allowed, move |value| list.parse(value).filter(|items| !items.is_empty()))
}
