//! Turns one raw value into a checked one, or says what is allowed. Knows no key.

use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use config::{Value, ValueKind};
use ipnet::IpNet;
use meerkat_base::Secret;

use super::layers::ENVIRONMENT;

type Parse<T> = Box<dyn Fn(&Value) -> Option<T>>;

/// What a value may be.
pub(super) struct Rule<T> {
    /// Completes "must be …".
    pub allowed: String,
    /// Whether the value must not be shown.
    pub hidden: bool,
    parse: Parse<T>,
}

impl<T: 'static> Rule<T> {
    /// A rule from words and a function that gives nothing for a wrong value.
    pub fn new(allowed: impl Into<String>, parse: impl Fn(&Value) -> Option<T> + 'static) -> Self {
        Self { allowed: allowed.into(), hidden: false, parse: Box::new(parse) }
    }

    /// Reads a value.
    pub fn parse(&self, value: &Value) -> Option<T> {
        (self.parse)(value)
    }

    /// The same rule in other words.
    pub fn said(self, allowed: impl Into<String>) -> Self {
        Self { allowed: allowed.into(), ..self }
    }

    fn hidden(self) -> Self {
        Self { hidden: true, ..self }
    }

    /// The same rule, and then something made of the result.
    pub fn map<U: 'static>(self, make: impl Fn(T) -> U + 'static) -> Rule<U> {
        Rule {
            allowed: self.allowed,
            hidden: self.hidden,
            parse: Box::new(move |value| (self.parse)(value).map(&make)),
        }
    }
}

/// Environment variables are texts whatever they mean; files have types.
fn from_environment(value: &Value) -> bool {
    value.origin() == Some(ENVIRONMENT)
}

fn as_text(value: &Value) -> Option<&str> {
    match &value.kind {
        ValueKind::String(text) => Some(text),
        _ => None,
    }
}

fn as_number(value: &Value) -> Option<f64> {
    match &value.kind {
        ValueKind::I64(number) => Some(*number as f64),
        ValueKind::Float(number) => Some(*number),
        ValueKind::String(text) if from_environment(value) => text.parse().ok(),
        _ => None,
    }
}

/// `true` or `false`.
pub(super) fn flag() -> Rule<bool> {
    Rule::new("true or false", |value| match &value.kind {
        ValueKind::Boolean(flag) => Some(*flag),
        ValueKind::String(text) if from_environment(value) => text.parse().ok(),
        _ => None,
    })
}

/// A whole number.
pub(super) fn whole(range: RangeInclusive<u64>) -> Rule<u64> {
    let allowed = format!("a whole number from {} to {}", range.start(), range.end());
    Rule::new(allowed, move |value| {
        let number = match &value.kind {
            ValueKind::I64(number) => u64::try_from(*number).ok()?,
            ValueKind::String(text) if from_environment(value) => text.parse().ok()?,
            _ => return None,
        };
        range.contains(&number).then_some(number)
    })
}

/// A whole number that counts things or bytes in memory.
pub(super) fn count(range: RangeInclusive<u64>) -> Rule<usize> {
    let whole = whole(range);
    Rule::new(whole.allowed.clone(), move |value| usize::try_from(whole.parse(value)?).ok())
}

/// A whole number that fits 32 bits.
pub(super) fn small(range: RangeInclusive<u32>) -> Rule<u32> {
    let whole = whole(u64::from(*range.start())..=u64::from(*range.end()));
    Rule::new(whole.allowed.clone(), move |value| u32::try_from(whole.parse(value)?).ok())
}

/// A port to connect to.
pub(super) fn port() -> Rule<u16> {
    let whole = whole(1..=65_535);
    Rule::new(whole.allowed.clone(), move |value| u16::try_from(whole.parse(value)?).ok())
}

/// A number, whole or not.
pub(super) fn number(range: RangeInclusive<f64>) -> Rule<f32> {
    let allowed = format!("a number from {} to {}", range.start(), range.end());
    Rule::new(allowed, move |value| {
        as_number(value).filter(|number| range.contains(number)).map(|number| number as f32)
    })
}

/// A duration in seconds, fractions allowed.
pub(super) fn secs(range: RangeInclusive<f64>) -> Rule<Duration> {
    let allowed = format!("a number of seconds from {} to {}", range.start(), range.end());
    Rule::new(allowed, move |value| {
        let number = as_number(value).filter(|number| range.contains(number))?;
        Duration::try_from_secs_f64(number).ok()
    })
}

/// A duration in days, fractions allowed.
pub(super) fn days(range: RangeInclusive<f64>) -> Rule<Duration> {
    let allowed = format!("a number of days from {} to {}", range.start(), range.end());
    Rule::new(allowed, move |value| {
        let number = as_number(value).filter(|number| range.contains(number))?;
        Duration::try_from_secs_f64(number * 86_400.0).ok()
    })
}

/// A duration in whole milliseconds.
pub(super) fn millis(range: RangeInclusive<u64>) -> Rule<Duration> {
    let allowed = format!("a whole number of milliseconds from {} to {}", range.start(), range.end());
    let whole = whole(range);
    Rule::new(allowed, move |value| whole.parse(value).map(Duration::from_millis))
}

/// One of a few words.
pub(super) fn choice<T: Copy + 'static>(words: &'static [(&'static str, T)]) -> Rule<T> {
    let shown: Vec<String> = words.iter().map(|(word, _)| format!("\"{word}\"")).collect();
    Rule::new(shown.join(" or "), move |value| {
        let text = as_text(value)?;
        words.iter().find(|(word, _)| *word == text).map(|&(_, meaning)| meaning)
    })
}

/// A line of text without control characters, of a number of characters.
pub(super) fn text(length: RangeInclusive<usize>) -> Rule<String> {
    let allowed = format!("a text of {} to {} characters on one line", length.start(), length.end());
    Rule::new(allowed, move |value| {
        let text = as_text(value)?;
        let fits = length.contains(&text.chars().count()) && !text.chars().any(char::is_control);
        fits.then(|| text.to_owned())
    })
}

/// A path, relative ones from the folder in which the program was started.
pub(super) fn path() -> Rule<PathBuf> {
    Rule::new("a path", |value| {
        as_text(value).filter(|text| !text.is_empty() && !text.contains('\0')).map(PathBuf::from)
    })
}

/// Characters of a secret at most.
const LONGEST_SECRET: usize = 512;

/// A secret of at least so many characters: printable ASCII without spaces, so that it can travel in a line and in a
/// header.
pub(super) fn secret(shortest: usize) -> Rule<Secret> {
    let allowed = format!("{shortest} to {LONGEST_SECRET} printable ASCII characters without spaces");
    Rule::new(allowed, move |value| {
        let text = as_text(value)?;
        let fits =
            (shortest..=LONGEST_SECRET).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
        fits.then(|| Secret::new(text))
    })
    .hidden()
}

/// An address and port to listen on.
pub(super) fn listen() -> Rule<SocketAddr> {
    Rule::new("an address and port such as \"127.0.0.1:9000\" or \"[::1]:9000\"", |value| {
        as_text(value)?.parse().ok()
    })
}

/// A host name as it stands in a URL, made lower case.
pub(super) fn host_name() -> Rule<String> {
    Rule::new("a host name such as \"meerkat.example.org\"", |value| {
        let text = as_text(value)?.to_ascii_lowercase();
        let fits = (1..=253).contains(&text.len())
            && text.split('.').all(|label| {
                !label.is_empty()
                    && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
            });
        fits.then_some(text)
    })
}

/// A network, or one address as a network of itself.
pub(super) fn network() -> Rule<IpNet> {
    Rule::new("a network such as \"192.168.1.0/24\" or an address", |value| {
        let text = as_text(value)?;
        let network = text.parse::<IpNet>().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))?;
        Some(network.trunc())
    })
}

/// The empty text for nothing, else what the rule says.
pub(super) fn optional<T: 'static>(rule: Rule<T>) -> Rule<Option<T>> {
    Rule {
        allowed: format!("{}, or \"\" for none", rule.allowed),
        hidden: rule.hidden,
        parse: Box::new(move |value| match as_text(value) {
            Some("") => Some(None),
            _ => rule.parse(value).map(Some),
        }),
    }
}

/// A list in which nothing is allowed twice; in an environment variable its items stand between commas.
pub(super) fn list<T: PartialEq + 'static>(longest: usize, item: Rule<T>) -> Rule<Vec<T>> {
    let allowed = format!("a list of at most {longest} items, each different and {}", item.allowed);
    let hidden = item.hidden;
    let several = several(longest, item);
    let different = |items: &Vec<T>| items.iter().enumerate().all(|(n, item)| !items[..n].contains(item));
    Rule { allowed, hidden, parse: Box::new(move |value| several.parse(value).filter(different)) }
}

/// A list in which the same may stand again; in an environment variable its items stand between commas.
pub(super) fn several<T: 'static>(longest: usize, item: Rule<T>) -> Rule<Vec<T>> {
    Rule {
        allowed: format!("a list of at most {longest} items, each {}", item.allowed),
        hidden: item.hidden,
        parse: Box::new(move |value| {
            let split: Vec<Value>;
            let values = match &value.kind {
                ValueKind::Array(values) => values,
                ValueKind::String(text) if from_environment(value) => {
                    let origin = ENVIRONMENT.to_owned();
                    split = text
                        .split(',')
                        .map(str::trim)
                        .filter(|part| !part.is_empty())
                        .map(|part| Value::new(Some(&origin), part))
                        .collect();
                    &split
                }
                _ => return None,
            };
            let mut items = Vec::new();
            for value in values {
                if items.len() == longest {
                    return None;
                }
                items.push(item.parse(value)?);
            }
            Some(items)
        }),
    }
}
