//! The owner's own wording: which templates there are, by language. Whether they are right is seen when they are
//! compiled.

use std::fs::File;
use std::io::Read;

use config::ValueKind;
use meerkat_base::EventKind;

use crate::reader::Reader;
use crate::rule::{self, Rule};

/// Bytes of a template at most.
const MAX_TEMPLATE_BYTES: usize = 16 * 1024;

/// Templates by language.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TemplatesSettings {
    /// Chinese.
    pub zh: Vec<TemplateText>,
    /// English.
    pub en: Vec<TemplateText>,
}

/// One template, not looked at yet.
#[derive(Debug, Clone, PartialEq)]
pub struct TemplateText {
    /// What it is for: `alert`, `notice`, `clip`, `digest`, a kind of event, or a kind and a phase.
    pub name: String,
    /// The key or the file that it comes from.
    pub origin: String,
    /// The template.
    pub text: String,
}

impl TemplatesSettings {
    pub(super) fn read(reader: &mut Reader) -> Self {
        Self { zh: language(reader, "zh"), en: language(reader, "en") }
    }
}

fn language(reader: &mut Reader, language: &str) -> Vec<TemplateText> {
    let section = format!("notify.templates.{language}");
    let texts = names().into_iter().filter_map(|name| {
        let (text, origin) = read(reader, &format!("{section}.{name}"))?;
        Some(TemplateText { name, origin, text })
    });
    texts.collect()
}

/// Everything that a template can be for.
fn names() -> Vec<String> {
    let general = ["alert", "notice", "clip", "digest"].into_iter().map(str::to_owned);
    let kinds = EventKind::ALL.into_iter().flat_map(|kind| {
        let phases = ["started", "updated", "ended"].into_iter().map(move |phase| format!("{kind}_{phase}"));
        std::iter::once(kind.to_string()).chain(phases)
    });
    general.chain(kinds).collect()
}

/// Reads a template from `key`, or from the file that `key_file` names, and says where it came from.
pub(super) fn read(reader: &mut Reader, key: &str) -> Option<(String, String)> {
    let given = reader.read_if(key, template());
    let file_key = format!("{key}_file");
    let Some(path) = reader.read_if(&file_key, rule::path()) else {
        return given.map(|text| (text, key.to_owned()));
    };
    if given.is_some() {
        reader.complain(&file_key, format!("is set beside {key}: give one of the two"));
        return None;
    }
    if reader.leaves_file() {
        return None;
    }
    let mut text = String::new();
    let read =
        File::open(&path).and_then(|file| file.take(MAX_TEMPLATE_BYTES as u64 + 1).read_to_string(&mut text));
    match read {
        Err(error) => reader.complain(&file_key, format!("cannot be read: {error}")),
        Ok(_) if text.len() > MAX_TEMPLATE_BYTES => {
            reader.complain(&file_key, format!("is larger than {MAX_TEMPLATE_BYTES} bytes"));
        }
        Ok(_) => return Some((text, path.display().to_string())),
    }
    None
}

fn template() -> Rule<String> {
    Rule::new(format!("a template of 1 to {MAX_TEMPLATE_BYTES} bytes"), |value| match &value.kind {
        ValueKind::String(text) if (1..=MAX_TEMPLATE_BYTES).contains(&text.len()) => Some(text.clone()),
        _ => None,
    })
}
