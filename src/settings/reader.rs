//! Walks the merged settings key by key and collects everything that is wrong. Knows no key by name.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use config::{Value, ValueKind};
use meerkat_base::Secret;
use meerkat_base::text::shown;

use super::layers::{ENVIRONMENT, Layers};
use super::problem::{Problem, nearest};
use super::rule::{self, Rule};

/// What becomes of files that keys name, such as those of secrets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NamedFiles {
    /// They are read, and what is wrong with them is a problem.
    Read,
    /// They are not looked at and need not be there; what is in them counts as not set.
    LeftAlone,
}

/// Hands out checked values. A wrong one becomes a problem and the built-in default, so that reading goes on.
pub(super) struct Reader<'v> {
    layers: &'v Layers,
    asked: BTreeSet<String>,
    skipped: Vec<String>,
    problems: Vec<Problem>,
    files: NamedFiles,
    left_alone: usize,
}

impl<'v> Reader<'v> {
    /// Reads from these layers and adds to the problems found so far.
    pub fn new(layers: &'v Layers, problems: Vec<Problem>, files: NamedFiles) -> Self {
        Self { layers, asked: BTreeSet::new(), skipped: Vec::new(), problems, files, left_alone: 0 }
    }

    /// Whether a file that a key names is to be left alone. To those who look whether anything was found wrong, it is as
    /// if there was: they must not complain that what is in it is missing.
    pub fn leaves_file(&mut self) -> bool {
        let leaves = self.files == NamedFiles::LeftAlone;
        self.left_alone += usize::from(leaves);
        leaves
    }

    /// Reads a key that has a built-in default.
    pub fn read<T: 'static>(&mut self, key: &str, rule: Rule<T>) -> T {
        if let Some(value) = self.look(key, &rule) {
            return value;
        }
        find(&self.layers.defaults, key).and_then(|value| rule.parse(value)).expect(
            "config/default.toml has a valid value for every key that is read this way: a test reads all",
        )
    }

    /// Reads a key that may be absent.
    pub fn read_if<T: 'static>(&mut self, key: &str, rule: Rule<T>) -> Option<T> {
        self.look(key, &rule)
    }

    /// Reads a secret of at least so many characters from `key`, or from the file that `key_file` names. Empty texts
    /// are nothing.
    pub fn secret(&mut self, key: &str, shortest: usize) -> Option<Secret> {
        self.secret_by(key, rule::secret(shortest))
    }

    /// As [`Reader::secret`], by a rule that says in its own words what is allowed.
    pub fn secret_by(&mut self, key: &str, rule: Rule<Secret>) -> Option<Secret> {
        let allowed = rule.allowed.clone();
        let or_none = rule::optional(rule);
        let given = self.look(key, &or_none).flatten();
        let file_key = format!("{key}_file");
        let file = self.look(&file_key, &rule::optional(rule::path())).flatten();
        match (given, file) {
            (Some(_), Some(_)) => {
                self.complain(&file_key, format!("is set beside {key}: give one of the two"));
                None
            }
            (Some(secret), None) => Some(secret),
            (None, Some(_)) if self.leaves_file() => None,
            (None, Some(path)) => match read_secret(&path, &or_none, &allowed) {
                Ok(secret) => Some(secret),
                Err(complaint) => {
                    self.complain(&file_key, complaint);
                    None
                }
            },
            (None, None) => None,
        }
    }

    /// Names of the subsections of a section, sorted. Anything else in it is a problem.
    pub fn subsections(&mut self, section: &str) -> Vec<String> {
        let Some(ValueKind::Table(table)) = find(&self.layers.merged, section).map(|value| &value.kind)
        else {
            if find(&self.layers.merged, section).is_some() {
                self.not_a_section(section);
            }
            return Vec::new();
        };
        let (sections, others): (Vec<&String>, Vec<&String>) =
            table.keys().partition(|name| matches!(table[*name].kind, ValueKind::Table(_)));
        let mut others: Vec<String> = others.into_iter().map(|name| join(section, name)).collect();
        let mut names: Vec<String> = sections.into_iter().cloned().collect();
        others.sort();
        names.sort();
        for key in others {
            self.not_a_section(&key);
        }
        names
    }

    /// Complains about a key, with the value that it has (unless it could be a secret) and who set it.
    pub fn complain(&mut self, key: &str, complaint: impl Into<String>) {
        let value = find(&self.layers.merged, key);
        let secret = is_secret_name(key);
        self.problems.push(Problem {
            key: key.to_owned(),
            value: value.filter(|value| !secret && !matches!(value.kind, ValueKind::Table(_))).map(show),
            origin: value.and_then(|value| origin(key, value)),
            complaint: complaint.into(),
        });
    }

    /// Whether anybody set a key.
    pub fn is_set(&self, key: &str) -> bool {
        find(&self.layers.merged, key).is_some()
    }

    /// Problems found so far, and files left alone.
    pub fn problem_count(&self) -> usize {
        self.problems.len() + self.left_alone
    }

    /// Reads nothing in this section, and complains about nothing in it.
    pub fn skip(&mut self, section: &str) {
        self.skipped.push(format!("{section}."));
    }

    /// Keys that were asked for.
    #[cfg(test)]
    pub fn asked(&self) -> &BTreeSet<String> {
        &self.asked
    }

    /// Complains about every key that nobody asked for and hands out all problems.
    pub fn finish(mut self) -> Vec<Problem> {
        self.find_unknown("", &self.layers.merged);
        self.problems
    }

    fn look<T: 'static>(&mut self, key: &str, rule: &Rule<T>) -> Option<T> {
        self.asked.insert(key.to_owned());
        let Some(value) = find(&self.layers.merged, key) else {
            // A section that is no table hides its keys: say so once.
            let broken = prefixes(key).find(|prefix| {
                find(&self.layers.merged, prefix).is_some_and(|v| !matches!(v.kind, ValueKind::Table(_)))
            });
            if let Some(section) = broken {
                self.not_a_section(section);
            }
            return None;
        };
        let parsed = rule.parse(value);
        if parsed.is_none() {
            self.problems.push(Problem {
                key: key.to_owned(),
                value: Some(if rule.hidden { Secret::new("").to_string() } else { show(value) }),
                origin: origin(key, value),
                complaint: format!("must be {}", rule.allowed),
            });
        }
        parsed
    }

    fn not_a_section(&mut self, key: &str) {
        if self.asked.insert(format!("{key}.")) {
            let value = find(&self.layers.merged, key);
            self.problems.push(Problem {
                key: key.to_owned(),
                value: None,
                origin: value.and_then(|value| origin(key, value)),
                complaint: "is a section: set the keys in it".into(),
            });
            self.asked.insert(key.to_owned());
        }
    }

    fn find_unknown(&mut self, section: &str, value: &Value) {
        let ValueKind::Table(table) = &value.kind else { return };
        let mut names: Vec<&String> = table.keys().collect();
        names.sort();
        for name in names {
            let key = join(section, name);
            let below = format!("{key}.");
            if self.asked.contains(&key) || self.skipped.contains(&below) {
                continue;
            }
            let is_section = self.asked.range(below.clone()..).next().is_some_and(|k| k.starts_with(&below));
            if is_section || self.skipped.iter().any(|skipped| skipped.starts_with(&below)) {
                self.find_unknown(&key, &table[name]);
                continue;
            }
            let complaint = match self.meant(section, name) {
                Some(meant) => format!("no such key; did you mean {meant}?"),
                None => "no such key".to_owned(),
            };
            // Its value is not shown: a misspelt token is still a token.
            self.problems.push(Problem {
                key: key.escape_default().to_string(),
                value: None,
                origin: origin(&key, &table[name]),
                complaint,
            });
        }
    }

    /// The key that was probably meant: a like name in the same section, else the same name in another one.
    fn meant(&self, section: &str, name: &str) -> Option<String> {
        let prefix = if section.is_empty() { String::new() } else { format!("{section}.") };
        let siblings = self
            .asked
            .iter()
            .filter_map(|key| key.strip_prefix(&prefix)?.split('.').next())
            .filter(|sibling| !sibling.is_empty());
        if let Some(sibling) = nearest(name, siblings) {
            return Some(format!("{prefix}{sibling}"));
        }
        self.asked.iter().find(|key| key.rsplit('.').next() == Some(name)).cloned()
    }
}

fn join(section: &str, name: &str) -> String {
    if section.is_empty() { name.to_owned() } else { format!("{section}.{name}") }
}

/// `a.b.c` has the prefixes `a` and `a.b`.
fn prefixes(key: &str) -> impl Iterator<Item = &str> {
    key.match_indices('.').map(|(at, _)| &key[..at])
}

fn find<'v>(root: &'v Value, key: &str) -> Option<&'v Value> {
    key.split('.').try_fold(root, |value, name| match &value.kind {
        ValueKind::Table(table) => table.get(name),
        _ => None,
    })
}

/// Shows a value as it would be written in a file, escaped and cut.
fn show(value: &Value) -> String {
    match &value.kind {
        ValueKind::String(text) => format!("\"{}\"", shown(text.as_bytes())),
        ValueKind::Array(items) => {
            let items: Vec<String> = items.iter().take(8).map(show).collect();
            format!("[{}]", items.join(", "))
        }
        ValueKind::Table(_) => "a section".to_owned(),
        _ => shown(value.to_string().as_bytes()),
    }
}

/// Says who set a value; nothing for the built-in defaults.
fn origin(key: &str, value: &Value) -> Option<String> {
    match value.origin() {
        Some(ENVIRONMENT) => Some(format!("MEERKAT__{}", key.to_uppercase().replace('.', "__"))),
        Some(file) => Some(file.to_owned()),
        None => None,
    }
}

/// The last word of keys whose values are never shown.
fn is_secret_name(key: &str) -> bool {
    matches!(
        key.rsplit('.').next(),
        Some(
            "token"
                | "secret"
                | "url"
                | "proxy"
                | "password"
                | "app_secret"
                | "topic"
                | "api_key"
                | "api_secret"
        )
    )
}

fn read_secret(path: &Path, rule: &Rule<Option<Secret>>, allowed: &str) -> Result<Secret, String> {
    let meta = std::fs::metadata(path).map_err(|error| format!("cannot be read: {error}"))?;
    if !meta.is_file() {
        return Err("is not a file".into());
    }
    let mut text = String::new();
    File::open(path)
        .and_then(|file| file.take(1024).read_to_string(&mut text))
        .map_err(|error| format!("cannot be read: {error}"))?;
    rule.parse(&Value::from(text.trim_end_matches(['\r', '\n'])))
        .flatten()
        .ok_or_else(|| format!("the file must hold {allowed}"))
}
